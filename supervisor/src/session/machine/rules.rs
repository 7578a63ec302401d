//! What bounds a session, and when it closes by itself.

use std::time::Duration;

/// What bounds a session.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// Longest life; none = unbounded.
    pub timeout: Option<Duration>,
    /// Longest silence with nothing in flight; none = unbounded.
    pub idle_timeout: Option<Duration>,
    /// The graces of the ladder.
    pub graces: Graces,
    /// When the session closes by itself.
    pub ends: Ends,
    /// The agent can be asked to save its work.
    pub can_save: bool,
}

/// The graces of the ladder's stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Graces {
    /// From the request to save to `_close`.
    pub save: Duration,
    /// From `_close` to SIGTERM.
    pub close: Duration,
    /// From SIGTERM to kill: the runner kills the agent then; if the runner itself does not listen, the container is killed
    /// [`RUNNER_END`](super::RUNNER_END) later.
    pub term: Duration,
}

impl Default for Graces {
    fn default() -> Self {
        // Save: one model answer and one tool call. Close: the agent's own end. Term: as `docker stop`.
        Self { save: Duration::from_secs(30), close: Duration::from_secs(10), term: Duration::from_secs(10) }
    }
}

/// When a session closes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// When everything that was sent has been answered by a finished turn.
    WhenAnswered,
    /// As soon as everything that was sent has been taken: the program then sees the end of its input.
    WhenTaken,
    /// Only when told.
    WhenTold,
}
