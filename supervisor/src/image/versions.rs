//! The versions of the tools in an image: read from the file that the build writes, kept as labels.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::{ContainerId, ContainerSpec, Engine, EngineError, Labels, LogsQuery};

/// Prefix of the labels with a tool's version.
pub const LABEL_VERSION: &str = "aigo.image.version.";
/// Label: where Python comes from, `uv` (3.12) or `distribution`.
pub const LABEL_PYTHON_SOURCE: &str = "aigo.image.python.source";
/// Label: the base image.
pub const LABEL_BASE: &str = "aigo.image.base";
/// Label of the container that reads the versions: the tag that is built.
pub const LABEL_BUILD: &str = "aigo.image.build";

/// Where the build writes them.
const FILE: &str = "/usr/share/aigo/versions.json";
/// A `cat` takes a fraction of a second; the first start of a new image reads its layers.
const READ_DEADLINE: Duration = Duration::from_secs(60);
/// The file has a few hundred bytes.
const MAX_BYTES: usize = 16 * 1024;
/// A version is a short word.
const MAX_WORD: usize = 100;

/// The versions of the tools in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    /// The version of each tool by its name: `python`, `node`, `claude`, `runner`, and others.
    #[serde(rename = "version")]
    pub tools: BTreeMap<String, String>,
    /// Where Python comes from: `uv` or `distribution`.
    pub python_source: String,
}

/// The file is missing or makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum VersionsError {
    #[error("cannot read the versions of the tools in the new image")]
    Engine(#[from] EngineError),
    #[error("the new image's {FILE} cannot be read: {reason}")]
    Unreadable { reason: String },
}

impl Versions {
    /// Reads the text of the file. Names and versions are words, as labels need them.
    ///
    /// # Errors
    /// It is not of that form.
    pub fn parse(text: &[u8]) -> Result<Self, VersionsError> {
        let bad = |reason: String| VersionsError::Unreadable { reason };
        let versions: Self = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        let words = versions.tools.iter().flat_map(|(tool, version)| [tool, version]).chain([&versions.python_source]);
        for word in words {
            let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._+~-".contains(c));
            if word.is_empty() || word.len() > MAX_WORD || !plain {
                return Err(bad(format!("{word:?} is no version")));
            }
        }
        Ok(versions)
    }

    /// As labels.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let mut labels: Labels =
            self.tools.iter().map(|(tool, version)| (format!("{LABEL_VERSION}{tool}"), version.clone())).collect();
        labels.insert(LABEL_PYTHON_SOURCE.to_owned(), self.python_source.clone());
        labels
    }

    /// From labels; what they do not say is left out.
    #[must_use]
    pub fn from_labels(labels: &Labels) -> Self {
        let tools = labels
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(LABEL_VERSION)?.to_owned(), value.clone())))
            .collect();
        Self { tools, python_source: labels.get(LABEL_PYTHON_SOURCE).cloned().unwrap_or_default() }
    }

    /// One tool's.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<&str> {
        self.tools.get(name).map(String::as_str)
    }
}

/// Reads the versions out of `image` with a container of its own, `name`, which the caller removes in every case (also
/// when this future is dropped).
///
/// # Errors
/// The engine's, or what is wrong with the file.
pub async fn read(engine: &dyn Engine, image: &str, name: &str, tag: &str) -> Result<Versions, VersionsError> {
    let mut spec = ContainerSpec::new(name, image);
    spec.entrypoint = Some(vec!["cat".to_owned()]);
    spec.command = Some(vec![FILE.to_owned()]);
    spec.labels = Labels::from([(LABEL_BUILD.to_owned(), tag.to_owned())]);
    let id: ContainerId = engine.create(&spec).await?.id;
    engine.start(&id).await?;
    let exit = tokio::time::timeout(READ_DEADLINE, engine.wait(&id))
        .await
        .map_err(|_| EngineError::Timeout { what: "print a file of the new image", after: READ_DEADLINE })??;
    let output = engine.logs(&id, &LogsQuery { max_bytes: MAX_BYTES, ..LogsQuery::default() }).await?;
    if exit.code != 0 {
        let said = String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect::<String>();
        return Err(VersionsError::Unreadable { reason: format!("exit code {}: {said}", exit.code) });
    }
    Versions::parse(&output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_to_labels_and_back() {
        let text = br#"{"version":{"python":"3.13.5","runner":"0.1.0","docker":"26.1.5+dfsg1"},"pythonSource":"distribution"}"#;
        let versions = Versions::parse(text).unwrap();
        let labels = versions.labels();
        assert_eq!(labels["aigo.image.version.python"], "3.13.5");
        assert_eq!(labels["aigo.image.python.source"], "distribution");
        assert_eq!(Versions::from_labels(&labels), versions);
        assert_eq!(versions.tool("runner"), Some("0.1.0"));
    }

    #[test]
    fn odd_words_are_refused() {
        for text in [
            "",
            "{}",
            r#"{"version":{"a":"b\nc"},"pythonSource":"uv"}"#,
            r#"{"version":{"a b":"c"},"pythonSource":"uv"}"#,
            r#"{"version":{"a":""},"pythonSource":"uv"}"#,
        ] {
            assert!(Versions::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
