//! Whether an image is there, and what is in it.

use jiff::Timestamp;
use serde::Serialize;

use super::prebuilt::OUR_VERSION;
use super::versions::{LABEL_BASE, Versions};
use crate::engine::{Engine, EngineError, ImageInfo};

/// The answer of `aigo image status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    pub tag: String,
    pub present: bool,
    /// `None`: the engine does not have it.
    #[serde(flatten)]
    pub image: Option<Present>,
    /// What a person should know or do.
    pub notes: Vec<String>,
}

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Present {
    pub id: String,
    /// Bytes, shared layers included.
    pub size: u64,
    pub created: Option<Timestamp>,
    pub architecture: String,
    pub base: Option<String>,
    #[serde(flatten)]
    pub versions: Versions,
    /// The runner in it is of this program's version; `None` if the image does not say.
    pub runner_matches: Option<bool>,
}

/// Looks an image up: one call.
///
/// # Errors
/// The engine's.
pub async fn status(engine: &dyn Engine, tag: &str) -> Result<ImageStatus, EngineError> {
    Ok(describe(tag, engine.image(tag).await?))
}

/// Judges what the engine said.
#[must_use]
pub fn describe(tag: &str, image: Option<ImageInfo>) -> ImageStatus {
    let Some(image) = image else {
        let notes = vec![format!("image {tag} is not present; build it with: {}", build_command(tag))];
        return ImageStatus { tag: tag.to_owned(), present: false, image: None, notes };
    };
    let versions = Versions::from_labels(&image.labels);
    let runner_matches = versions.tool("runner").map(|version| version == OUR_VERSION);
    let mut notes = Vec::new();
    match versions.tool("runner") {
        Some(version) if version != OUR_VERSION => notes.push(format!(
            "the runner in the image is {version}, this aigo is {OUR_VERSION}; build the image again with: {}",
            build_command(tag)
        )),
        Some(_) => {}
        None => notes.push("the image says nothing of its runner; it was not built by aigo".to_owned()),
    }
    if versions.python_source == "distribution" {
        let python = versions.tool("python").unwrap_or("unknown");
        notes.push(format!(
            "Python is the distribution's ({python}), because uv's download site could not be reached in the build"
        ));
    }
    let present = Present {
        id: image.id.0,
        size: image.size,
        created: image.created,
        architecture: image.architecture,
        base: image.labels.get(LABEL_BASE).cloned(),
        versions,
        runner_matches,
    };
    ImageStatus { tag: tag.to_owned(), present: true, image: Some(present), notes }
}

/// The remedy for a missing or old image.
#[must_use]
pub fn build_command(tag: &str) -> String {
    if tag == crate::request::DEFAULT_IMAGE {
        "aigo image build".to_owned()
    } else {
        format!("aigo image build --tag {tag}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{ImageId, Labels};

    fn image(labels: &[(&str, &str)]) -> ImageInfo {
        ImageInfo {
            id: ImageId("sha256:aa".into()),
            tags: vec!["t:1".into()],
            size: 1 << 30,
            created: None,
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Labels>(),
            env: Default::default(),
            entrypoint: vec![],
            command: vec![],
            user: String::new(),
            working_dir: String::new(),
            architecture: "amd64".into(),
        }
    }

    #[test]
    fn an_absent_image_names_the_command() {
        let status = describe("my/image:1", None);
        assert!(status.image.is_none() && status.notes[0].ends_with("aigo image build --tag my/image:1"));
        assert!(describe(crate::request::DEFAULT_IMAGE, None).notes[0].ends_with("aigo image build"));
    }

    #[test]
    fn an_old_runner_is_noted() {
        let old = describe("t:1", Some(image(&[("aigo.image.version.runner", "0.0.1")])));
        assert_eq!(old.image.unwrap().runner_matches, Some(false));
        assert!(old.notes[0].contains("0.0.1") && old.notes[0].contains(OUR_VERSION));
        let ours = describe("t:1", Some(image(&[("aigo.image.version.runner", OUR_VERSION)])));
        assert_eq!(ours.image.unwrap().runner_matches, Some(true));
        assert!(ours.notes.is_empty());
        assert_eq!(describe("t:1", Some(image(&[]))).image.unwrap().runner_matches, None);
    }

    #[test]
    fn the_distributions_python_is_said() {
        let labels = [
            ("aigo.image.version.runner", OUR_VERSION),
            ("aigo.image.version.python", "3.13.5"),
            ("aigo.image.python.source", "distribution"),
        ];
        let status = describe("t:1", Some(image(&labels)));
        assert!(status.notes[0].contains("3.13.5"));
    }
}
