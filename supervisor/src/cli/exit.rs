//! Exit codes: each means one thing. `docs/operations.md` lists them for people.

use crate::session::status::{EndReason, Ending};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done as asked.
    Ok,
    /// The agent failed, the session ended otherwise than asked, or what was asked of it is refused.
    Failed,
    /// The command line is wrong, or policy says no: nothing was started.
    Usage,
    /// Something outside is missing: engine, image, credential, disk.
    Environment,
    /// A limit of the container was hit: memory, processes.
    Limit,
    /// The session's timeout or idle timeout, as timeout(1) says it.
    Timeout,
    /// Cancelled, as a shell says it of SIGINT.
    Cancelled,
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Environment => 3,
            Self::Limit => 4,
            Self::Timeout => 124,
            Self::Cancelled => 130,
        }
    }

    /// The code for a session's end.
    pub const fn of(ending: &Ending) -> Self {
        match ending.reason {
            EndReason::Finished | EndReason::Closed => Self::Ok,
            EndReason::AgentExit { .. } | EndReason::AgentSignal { .. } | EndReason::RunnerLost => Self::Failed,
            EndReason::SetupFailed { .. }
            | EndReason::DiskFull
            | EndReason::ImageMissing
            | EndReason::EngineError
            | EndReason::EngineLost => Self::Environment,
            EndReason::OutOfMemory | EndReason::PidsExhausted => Self::Limit,
            EndReason::WallTimeout | EndReason::IdleTimeout => Self::Timeout,
            EndReason::Cancelled => Self::Cancelled,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// An error that ends a command: what is printed once, and the code that goes with it.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    error: anyhow::Error,
}

impl CliError {
    /// The person can mend it by asking differently.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Usage, error: error.into() }
    }

    /// It was understood, and is refused as things are now: a session that is ending takes no message.
    pub fn refused(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Failed, error: error.into() }
    }

    /// Something outside is missing or broken.
    pub fn environment(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Environment, error: error.into() }
    }

    /// The code that goes with it.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl std::fmt::Display for CliError {
    /// The whole chain; a link that only repeats its source is said once.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut said = self.error.to_string();
        f.write_str(&said)?;
        for link in self.error.chain().skip(1) {
            let text = link.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said.push_str(&text);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct() {
        let all = [Exit::Ok, Exit::Failed, Exit::Usage, Exit::Environment, Exit::Limit, Exit::Timeout, Exit::Cancelled];
        let mut codes: Vec<u8> = all.iter().map(|exit| exit.code()).collect();
        codes.dedup();
        assert_eq!(codes, [0, 1, 2, 3, 4, 124, 130]);
    }
}
