//! Images: what is known of one, how one is built, and what a build says while it works.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::Labels;

/// The engine's own id of an image (`sha256:…`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId(pub String);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A local image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    pub id: ImageId,
    pub tags: Vec<String>,
    /// Bytes on disk, shared layers included.
    pub size: u64,
    /// `None` where the image does not say (a reproducible build has no honest time).
    pub created: Option<Timestamp>,
    pub labels: Labels,
    /// Variables that the image sets (`ENV`); a variable without a value is left out.
    pub env: BTreeMap<String, String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub user: String,
    pub working_dir: String,
    pub architecture: String,
}

/// The runner's file name in an image.
const RUNNER: &str = "aigo-runner";

impl ImageInfo {
    /// Whether a container of the image starts aigo's runner.
    #[must_use]
    pub fn starts_runner(&self) -> bool {
        let program = self.entrypoint.first().map(std::path::Path::new);
        program.and_then(std::path::Path::file_name).is_some_and(|name| name == RUNNER)
    }
}

/// What to build from a context.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    pub tag: String,
    /// Path of the recipe inside the context; `Dockerfile` if empty.
    pub recipe: String,
    /// The stage to stop at; the last one if `None`.
    pub target: Option<String>,
    /// Values for `ARG`. They are kept in the image's history: never a secret.
    pub args: BTreeMap<String, String>,
    pub labels: Labels,
    pub no_cache: bool,
    /// Network mode for build steps (`host`, `none`); the engine's default bridge if `None`.
    pub network: Option<String>,
}

/// A chunked tar archive.
pub type TarStream = BoxStream<'static, io::Result<Bytes>>;

/// Where progress goes. Bounded by its owner, who decides whether a slow reader may hold the build up.
pub type ProgressSink = mpsc::Sender<BuildProgress>;

/// What a build says. Texts come from the commands that it runs: show them only escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildProgress {
    /// A step began. Steps may run beside each other where the builder can.
    Step { id: String, name: String },
    /// A step ended without work, because its result was at hand.
    Cached { id: String, name: String },
    /// A step ended.
    Done { id: String, name: String },
    /// A piece of output of a step, without its line end.
    Log { id: String, line: String },
    /// Something that the author of the recipe should know.
    Warning { message: String },
    /// A step failed; the call then ends with [`EngineError::BuildFailed`](super::EngineError::BuildFailed).
    Failed { id: String, name: String, message: String },
}
