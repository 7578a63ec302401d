//! Why there is no new image.

use std::io;
use std::path::PathBuf;

use super::base::BaseError;
use super::certificates::CertificateError;
use super::lock::LockError;
use super::prebuilt::RunnerError;
use super::versions::VersionsError;
use crate::engine::EngineError;
use crate::policy::image_name::BadImage;

/// A build that failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    BadTag(#[from] BadImage),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
    #[error(transparent)]
    Locked(#[from] LockError),
    #[error("cannot write the build log in {path}; name another data directory with --data-dir")]
    Log { path: PathBuf, source: io::Error },
    #[error("cannot put the build context together")]
    Context(#[source] io::Error),
    #[error(transparent)]
    Base(BaseError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the image build failed at step `{step}`: {message}; the whole log is {log}", log = .log.display())]
    Failed {
        step: String,
        message: String,
        /// The last lines of that step. Text of foreign origin.
        tail: Vec<String>,
        log: PathBuf,
    },
    #[error("{source}; the whole log is {log}", log = .log.display())]
    Versions { source: VersionsError, log: PathBuf },
    #[error("the image build was cancelled")]
    Cancelled,
}

impl ImageError {
    /// Whether the person can mend it by asking differently.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            ImageError::BadTag(_) | ImageError::Certificate(_) | ImageError::Runner(_) => true,
            ImageError::Locked(_)
            | ImageError::Log { .. }
            | ImageError::Context(_)
            | ImageError::Base(_)
            | ImageError::Engine(_)
            | ImageError::Failed { .. }
            | ImageError::Versions { .. }
            | ImageError::Cancelled => false,
        }
    }

    /// The last lines of what failed, to be shown escaped.
    #[must_use]
    pub fn tail(&self) -> &[String] {
        match self {
            ImageError::Failed { tail, .. } | ImageError::Base(BaseError::Failed { tail, .. }) => tail,
            ImageError::Base(BaseError::Start(_) | BaseError::TooSlow { .. } | BaseError::Cancelled)
            | ImageError::BadTag(_)
            | ImageError::Certificate(_)
            | ImageError::Runner(_)
            | ImageError::Locked(_)
            | ImageError::Log { .. }
            | ImageError::Context(_)
            | ImageError::Engine(_)
            | ImageError::Versions { .. }
            | ImageError::Cancelled => &[],
        }
    }
}

impl From<BaseError> for ImageError {
    fn from(error: BaseError) -> Self {
        match error {
            BaseError::Cancelled => ImageError::Cancelled,
            other @ (BaseError::Start(_) | BaseError::Failed { .. } | BaseError::TooSlow { .. }) => {
                ImageError::Base(other)
            }
        }
    }
}
