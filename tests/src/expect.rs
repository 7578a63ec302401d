//! How a session is to end.

use supervisor::session::status::{EndReason, Status};

/// Status, reason and exit code together: what people, programs and shells are told must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The final status.
    pub status: Status,
    /// The word of the reason, see [`EndReason::word`].
    pub reason: &'static str,
    /// The exit code of `aigo run`.
    pub code: i32,
}

impl Expect {
    /// The agent did what it was asked.
    pub const FINISHED: Self = Self::new(Status::Completed, "finished", 0);
    /// Somebody closed it.
    pub const CLOSED: Self = Self::new(Status::Completed, "closed", 0);
    /// The agent ended with an exit code.
    pub const AGENT_EXIT: Self = Self::new(Status::Failed, "agent_exit", 1);
    /// The agent was ended by a signal.
    pub const AGENT_SIGNAL: Self = Self::new(Status::Failed, "agent_signal", 1);
    /// Its time was up.
    pub const WALL_TIMEOUT: Self = Self::new(Status::Timeout, "wall_timeout", 124);
    /// It was silent for too long.
    pub const IDLE_TIMEOUT: Self = Self::new(Status::Timeout, "idle_timeout", 124);
    /// Somebody cancelled it.
    pub const CANCELLED: Self = Self::new(Status::Cancelled, "cancelled", 130);
    /// It used more than its memory.
    pub const OUT_OF_MEMORY: Self = Self::new(Status::Failed, "out_of_memory", 4);
    /// It used more than its processes.
    pub const PIDS_EXHAUSTED: Self = Self::new(Status::Failed, "pids_exhausted", 4);
    /// The image is not there.
    pub const IMAGE_MISSING: Self = Self::new(Status::Failed, "image_missing", 3);
    /// The engine went away.
    pub const ENGINE_LOST: Self = Self::new(Status::Failed, "engine_lost", 3);
    /// Something before the first turn failed.
    pub const SETUP_FAILED: Self = Self::new(Status::Failed, "setup_failed", 3);

    const fn new(status: Status, reason: &'static str, code: i32) -> Self {
        Self { status, reason, code }
    }

    /// What differs, in words; `None` if nothing does.
    pub fn differs(&self, status: Status, reason: &EndReason, code: Option<i32>) -> Option<String> {
        let got = (status, reason.word(), code);
        let wanted = (self.status, self.reason, Some(self.code));
        (got != wanted).then(|| format!("the session ended as {got:?}, wanted is {wanted:?}"))
    }
}
