//! What can go wrong with an agent's limits.

use std::path::PathBuf;

use super::AgentName;
use crate::engine::EngineError;
use crate::engine::cgroup::CgroupError;

/// An agent's limits could not be set, read or taken away.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The kernel refused.
    #[error("cannot hold agent `{agent}` in the cgroup {path}; `aigo doctor` says what is possible here")]
    Cgroup {
        agent: AgentName,
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took it, and holds something else.
    #[error("the cgroup {path} of agent `{agent}` did not take the quota: it has {found}, not {wanted}")]
    NotTaken { agent: AgentName, path: String, wanted: String, found: String },
    /// A container is not where it was put.
    #[error(
        "the container of process {pid} is not held to the limits of agent `{agent}`: {found}; \
         is aigo in a container of its own?"
    )]
    NotHeld { agent: AgentName, pid: i32, found: String },
    /// A cgroup could not be removed.
    #[error("cannot remove the cgroup {path}", path = .path.display())]
    Remove {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The service manager refused, or did not answer.
    #[error("systemctl {command} failed: {message}")]
    Systemctl { command: String, message: String },
    #[error(transparent)]
    Reading(#[from] CgroupError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}
