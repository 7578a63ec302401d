//! Images: look up, import, remove.

use bollard::body_try_stream;
use bollard::models::ImageInspect;
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder};
use futures_util::StreamExt;

use super::dialect::Dialect;
use super::error::About;
use super::time;
use super::wire::{Wire, is_path_safe};
use crate::engine::{EngineError, ImageId, ImageInfo, TarStream, deadline};

pub(super) async fn inspect(wire: &Wire, tag: &str) -> Result<Option<ImageInfo>, EngineError> {
    if !is_path_safe(tag) {
        return Ok(None);
    }
    let about = About::image("inspect image", tag);
    let answer = deadline::within(about.what, deadline::READ, async {
        wire.docker.inspect_image(tag).await.map_err(|error| about.translate(&wire.endpoint, error))
    })
    .await;
    match answer {
        Ok(image) => {
            let mut image = describe(image);
            image.tags = image.tags.into_iter().map(|tag| wire.dialect.plain_tag(tag)).collect();
            Ok(Some(image))
        }
        Err(EngineError::ImageMissing { .. } | EngineError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn describe(image: ImageInspect) -> ImageInfo {
    let config = image.config.unwrap_or_default();
    ImageInfo {
        id: ImageId(image.id.unwrap_or_default()),
        tags: image.repo_tags.unwrap_or_default(),
        size: image.size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        created: image.created.and_then(|date| time::from_nanos(date.unix_timestamp_nanos())),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        env: config
            .env
            .unwrap_or_default()
            .iter()
            .filter_map(|entry| entry.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        architecture: image.architecture.unwrap_or_default(),
    }
}

pub(super) async fn import(wire: &Wire, root: TarStream, tag: &str) -> Result<ImageId, EngineError> {
    let about = About::image("import an image", tag);
    let (repo, version) = split_tag(tag);
    let options = CreateImageOptionsBuilder::new().from_src("-");
    let options = match wire.dialect {
        Dialect::Docker => options.repo(repo).tag(version),
        Dialect::Podman(_) => options.repo(&format!("{repo}:{version}")),
    }
    .build();
    deadline::within(about.what, deadline::IMPORT, async {
        let mut answers = wire.docker.create_image(Some(options), Some(body_try_stream(root)), None);
        // The id is the status of the last answer.
        let mut id = None;
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|error| about.translate(&wire.endpoint, error))?;
            id = answer.status.filter(|status| status.starts_with("sha256:")).or(id);
        }
        id.map(ImageId)
            .ok_or_else(|| EngineError::Malformed { what: about.what, message: "it named no image id".to_owned() })
    })
    .await
}

/// A tag without a version is `latest`; a colon before a slash belongs to a registry's port.
fn split_tag(tag: &str) -> (&str, &str) {
    match tag.rsplit_once(':') {
        Some((repo, version)) if !version.contains('/') => (repo, version),
        Some(_) | None => (tag, "latest"),
    }
}

pub(super) async fn remove(wire: &Wire, tag: &str) -> Result<(), EngineError> {
    if !is_path_safe(tag) {
        return Ok(());
    }
    let about = About::image("remove image", tag);
    let options = RemoveImageOptionsBuilder::new().build();
    let answer = deadline::within(about.what, deadline::REMOVE_IMAGE, async {
        wire.docker.remove_image(tag, Some(options), None).await.map_err(|error| about.translate(&wire.endpoint, error))
    })
    .await;
    match answer {
        Ok(_deleted) => Ok(()),
        Err(EngineError::ImageMissing { .. } | EngineError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::split_tag;

    #[test]
    fn tags_are_split() {
        assert_eq!(split_tag("a"), ("a", "latest"));
        assert_eq!(split_tag("a:1"), ("a", "1"));
        assert_eq!(split_tag("h:5000/a"), ("h:5000/a", "latest"));
        assert_eq!(split_tag("h:5000/a:1"), ("h:5000/a", "1"));
    }
}
