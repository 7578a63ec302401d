//! Images: looked up, removed; and the volumes that containers ask for.

use super::cli::{Answer, Cli};
use super::error;
use super::wire::{self, Image, ListedImage};
use crate::engine::{EngineError, ImageInfo, Labels, Object, deadline};

/// A reference as the command can be given it: by its first character it is no option.
fn is_reference(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ':' | '@'))
}

/// What images of this machine are built for, in the words of OCI.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    }
}

pub(super) async fn inspect(cli: &Cli, tag: &str) -> Result<Option<ImageInfo>, EngineError> {
    let what = "inspect image";
    if !is_reference(tag) {
        return Ok(None);
    }
    deadline::within(what, deadline::READ, async {
        // It looks images up by reference only.
        let reference = if tag.starts_with("sha256:") {
            match by_digest(cli, tag).await? {
                Some(reference) => reference,
                None => return Ok(None),
            }
        } else {
            tag.to_owned()
        };
        let answer = cli.run(what, deadline::READ, &["image", "inspect", &reference]).await?;
        if !answer.is_good() {
            return if error::is_missing(&answer) { Ok(None) } else { Err(error::refused(what, &answer)) };
        }
        read(what, &answer)
    })
    .await
}

fn read(what: &'static str, answer: &Answer) -> Result<Option<ImageInfo>, EngineError> {
    let images: Vec<Image> = wire::read(what, answer)?;
    let Some(image) = images.into_iter().next() else { return Ok(None) };
    let malformed = || EngineError::Malformed { what, message: "the image has no variant for Linux".to_owned() };
    image.info(architecture()).map(Some).ok_or_else(malformed)
}

async fn by_digest(cli: &Cli, digest: &str) -> Result<Option<String>, EngineError> {
    let what = "list images";
    let answer = cli.ask(what, deadline::READ, &["image", "list", "--format", "json"]).await?;
    let all: Vec<ListedImage> = wire::read(what, &answer)?;
    let found = all.iter().find(|image| image.digest() == Some(digest));
    Ok(found.and_then(ListedImage::reference).map(str::to_owned))
}

pub(super) async fn remove(cli: &Cli, tag: &str) -> Result<(), EngineError> {
    let what = "remove image";
    deadline::within(what, deadline::REMOVE_IMAGE, async {
        let Some(image) = inspect(cli, tag).await? else { return Ok(()) };
        // It lets images go that containers were made of, and those then cannot be started.
        let containers = cli.ask(what, deadline::READ, &["list", "--all", "--format", "json"]).await?;
        let containers: Vec<wire::Container> = wire::read(what, &containers)?;
        if containers.iter().any(|container| container.image() == image.id.0) {
            let message = "a container was made of it".to_owned();
            return Err(EngineError::InUse { what: Object::Image, name: tag.to_owned(), message });
        }
        let answer = cli.run(what, deadline::REMOVE_IMAGE, &["image", "delete", tag]).await?;
        if answer.is_good() || inspect(cli, tag).await?.is_none() {
            return Ok(());
        }
        Err(error::refused(what, &answer))
    })
    .await
}

/// Makes a volume unless it is there.
pub(super) async fn make_volume(cli: &Cli, name: &str, labels: &Labels) -> Result<(), EngineError> {
    let what = "create volume";
    if !super::container::is_name(name) {
        return Err(EngineError::Refused { what, message: format!("{name:?} is no name") });
    }
    let mut args = vec!["volume".to_owned(), "create".to_owned()];
    for (key, value) in labels {
        args.extend(["--label".to_owned(), format!("{key}={value}")]);
    }
    args.push(name.to_owned());
    let answer = cli.run(what, deadline::CREATE, &args).await?;
    if answer.is_good() || error::is_conflict(&answer) { Ok(()) } else { Err(error::refused(what, &answer)) }
}
