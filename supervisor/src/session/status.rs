//! The closed sets of statuses and reasons.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a session is in its life: `queued` (waits for room), `provisioning` (network, proxy, container and runner are being
/// started), `running` (the agent takes input), `closing` (somebody or a deadline wants the session to end), and one of the
/// four ends, `completed`, `failed`, `timeout` and `cancelled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for room.
    Queued,
    /// Network, proxy, container and runner come up.
    Provisioning,
    /// The agent takes input.
    Running,
    /// What is pending is being finished.
    Closing,
    /// Ended as wished.
    Completed,
    /// Ended otherwise; the reason says how.
    Failed,
    /// Ended by its timeout or idle timeout.
    Timeout,
    /// Ended because somebody said so.
    Cancelled,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Provisioning,
        Self::Running,
        Self::Closing,
        Self::Completed,
        Self::Failed,
        Self::Timeout,
        Self::Cancelled,
    ];

    /// The word that people, the API and the store use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Provisioning => "provisioning",
            Self::Running => "running",
            Self::Closing => "closing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads [`Status::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }

    /// No other status follows.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Queued | Self::Provisioning | Self::Running | Self::Closing => false,
            Self::Completed | Self::Failed | Self::Timeout | Self::Cancelled => true,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[schema(as = EndReasonDetails)]
pub enum EndReason {
    /// The agent did what it was asked and ended.
    Finished,
    /// Somebody closed the session.
    Closed,
    /// The agent ended by itself with another exit code than 0.
    AgentExit {
        /// The exit code of the agent, with the reason `agent_exit`.
        code: i32,
    },
    /// A signal ended the agent, and aigo did not send the signal.
    AgentSignal {
        /// The number of the signal that ended the agent, with the reason `agent_signal`.
        signal: i32,
    },
    /// The session could not be started; `step` says which step failed.
    SetupFailed {
        /// The step that failed, with the reason `setup_failed`.
        step: String,
    },
    /// The kernel ended the agent because it needed more memory than it may use.
    OutOfMemory,
    /// The agent needed more processes than it may have.
    PidsExhausted,
    /// The disk has no room for the session's files.
    DiskFull,
    /// The session lasted longer than its timeout.
    WallTimeout,
    /// The session was silent for longer than its idle timeout.
    IdleTimeout,
    /// Somebody cancelled the session.
    Cancelled,
    /// The engine does not have the image.
    ImageMissing,
    /// The engine refused a request of aigo.
    EngineError,
    /// The engine went away and did not come back.
    EngineLost,
    /// The runner or its container went away without saying why.
    RunnerLost,
}

impl EndReason {
    /// The word that people, the API and the store use.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Closed => "closed",
            Self::AgentExit { .. } => "agent_exit",
            Self::AgentSignal { .. } => "agent_signal",
            Self::SetupFailed { .. } => "setup_failed",
            Self::OutOfMemory => "out_of_memory",
            Self::PidsExhausted => "pids_exhausted",
            Self::DiskFull => "disk_full",
            Self::WallTimeout => "wall_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::Cancelled => "cancelled",
            Self::ImageMissing => "image_missing",
            Self::EngineError => "engine_error",
            Self::EngineLost => "engine_lost",
            Self::RunnerLost => "runner_lost",
        }
    }

    /// The status that goes with it.
    pub const fn status(&self) -> Status {
        match self {
            Self::Finished | Self::Closed => Status::Completed,
            Self::WallTimeout | Self::IdleTimeout => Status::Timeout,
            Self::Cancelled => Status::Cancelled,
            Self::AgentExit { .. }
            | Self::AgentSignal { .. }
            | Self::SetupFailed { .. }
            | Self::OutOfMemory
            | Self::PidsExhausted
            | Self::DiskFull
            | Self::ImageMissing
            | Self::EngineError
            | Self::EngineLost
            | Self::RunnerLost => Status::Failed,
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentExit { code } => write!(f, "agent_exit (code {code})"),
            Self::AgentSignal { signal } => write!(f, "agent_signal ({signal})"),
            Self::SetupFailed { step } => write!(f, "setup_failed ({step})"),
            other => f.write_str(other.word()),
        }
    }
}

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// Why the session ended.
    #[serde(flatten)]
    pub reason: EndReason,
    /// What happened and what to do about it, as a sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Ending {
    /// An end that needs no explanation.
    pub fn new(reason: EndReason) -> Self {
        Self { reason, detail: None }
    }

    /// An end with a sentence.
    pub fn because(reason: EndReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: Some(detail.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_stable_and_read_back() {
        for status in Status::ALL {
            assert_eq!(Status::from_word(status.word()), Some(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.word());
        }
        let ending = Ending::because(EndReason::AgentExit { code: 3 }, "why");
        let json = serde_json::to_value(&ending).unwrap();
        assert_eq!(json, serde_json::json!({"reason": "agent_exit", "code": 3, "detail": "why"}));
        assert_eq!(serde_json::from_value::<Ending>(json).unwrap(), ending);
    }
}
