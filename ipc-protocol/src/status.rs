//! Runner to host: `status.json`, state and heartbeat.

use serde::{Deserialize, Serialize};

/// Rewritten every [`crate::limits::HEARTBEAT`] by a thread of its own, so that a busy runner still beats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Generation of the protocol that the runner speaks.
    pub version: u32,
    /// The runner's own version.
    pub runner_version: String,
    /// Where it is in its life.
    pub state: RunnerState,
    /// When this was written, in milliseconds since 1970-01-01 UTC.
    pub at: u64,
    /// Sequence number of the last event in the journal, 0 before the first.
    pub last_seq: u64,
    /// The segment that the journal is writing.
    pub segment: u32,
}

/// Where the runner is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerState {
    /// Boot phases run.
    Starting,
    /// The agent waits for input.
    Idle,
    /// A turn runs.
    Busy,
    /// `_close` was seen; what is pending is being finished.
    Closing,
    /// The agent has gone.
    Exiting,
    /// A word of a newer runner's: what it means is not known here, but the runner lives.
    #[serde(other)]
    Unknown,
}
