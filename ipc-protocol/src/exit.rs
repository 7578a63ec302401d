//! Exit codes of the runner: each means one thing, on both sides of the container wall.

/// How the runner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunnerExit {
    /// The agent ended with code 0 and everything that it had taken was answered. (Claude Code ends with 1 if its last
    /// turn was only interrupted; that is `Done`, too.)
    Done,
    /// The agent ended by itself with a code other than 0 (`agent_exited` in the journal has it), or left inputs that it
    /// had taken without an answer (`input_dropped`).
    AgentFailed,
    /// The agent was ended by a signal that the runner did not send.
    AgentSignalled,
    /// The configuration in the environment is missing or wrong (`EX_USAGE` of sysexits.h).
    BadConfig,
    /// A bug of the runner's (`EX_SOFTWARE`).
    Internal,
    /// A boot phase failed (`setup_step` in the journal says which and why).
    SetupFailed,
    /// The IPC directory could not be used (`EX_IOERR`), so the journal may say nothing.
    IpcFailed,
    /// SIGTERM or SIGINT from outside ended the session before it was done.
    Terminated,
}

impl RunnerExit {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::AgentFailed,
        Self::AgentSignalled,
        Self::BadConfig,
        Self::Internal,
        Self::SetupFailed,
        Self::IpcFailed,
        Self::Terminated,
    ];

    /// The exit code of the process, and so of the container.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::AgentFailed => 1,
            Self::AgentSignalled => 2,
            Self::BadConfig => 64,
            Self::Internal => 70,
            Self::SetupFailed => 71,
            Self::IpcFailed => 74,
            Self::Terminated => 143,
        }
    }

    /// The meaning of a container's exit code, if a runner can have given it.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| i64::from(exit.code()) == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_one_thing_each() {
        for exit in RunnerExit::ALL {
            assert_eq!(RunnerExit::from_code(exit.code().into()), Some(exit));
        }
        assert_eq!(RunnerExit::from_code(137), None);
    }
}
