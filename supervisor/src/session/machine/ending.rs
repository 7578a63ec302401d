//! Why a session whose container is gone has ended: what we wanted, what the runner said, the exit code and the counters,
//! in this order.

use ipc_protocol::event::TurnOutcome;
use ipc_protocol::exit::RunnerExit;

use super::{Intent, Machine, READY_LIMIT, Stage};
use crate::session::status::{EndReason, Ending};

/// What is known about a container that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitFacts {
    /// Its exit code; none if the engine does not know it.
    pub code: Option<i64>,
    /// The kernel killed PID 1 or a child for memory, as far as the engine or the cgroup know.
    pub out_of_memory: bool,
    /// A process could not be made for the bound on processes.
    pub pids_exhausted: bool,
    /// The disk that holds the IPC directory is full.
    pub disk_full: bool,
}

impl Machine {
    /// Why a session whose container is gone has ended.
    pub(super) fn ending(&self, facts: &ExitFacts) -> Ending {
        match &self.intent {
            Some(Intent::Wall) => {
                return Ending::because(EndReason::WallTimeout, "the timeout passed before the agent was done");
            }
            Some(Intent::Idle) => return Ending::because(EndReason::IdleTimeout, "the session was idle for too long"),
            Some(Intent::Cancel(by)) => return Ending::because(EndReason::Cancelled, format!("cancelled by {by}")),
            Some(Intent::Broken(why)) => return Ending::because(EndReason::RunnerLost, why.clone()),
            Some(Intent::NotReady) => {
                let reason = EndReason::SetupFailed { step: "runner".into() };
                return Ending::because(reason, format!("the runner was not ready within {READY_LIMIT:?}"));
            }
            None | Some(Intent::Drain | Intent::Close(_)) => {}
        }
        if let Some((step, detail)) = &self.failed_step {
            return Ending::because(EndReason::SetupFailed { step: step.clone() }, detail.clone());
        }
        let exit = facts.code.and_then(RunnerExit::from_code);
        if let (Some(Intent::Close(by)), Some(Stage::Term { .. } | Stage::Kill { .. })) = (&self.intent, self.stage)
            && matches!(exit, None | Some(RunnerExit::Terminated))
        {
            let detail = format!("closed by {by}; the agent did not end within the grace and was ended by force");
            return Ending::because(EndReason::Cancelled, detail);
        }
        if exit != Some(RunnerExit::Done) {
            if facts.out_of_memory {
                return Ending::because(EndReason::OutOfMemory, "the container used more than its --memory");
            }
            if facts.pids_exhausted {
                return Ending::because(EndReason::PidsExhausted, "the container used more processes than its --pids");
            }
        }
        self.ending_by_exit(exit, facts)
    }

    fn ending_by_exit(&self, exit: Option<RunnerExit>, facts: &ExitFacts) -> Ending {
        let closed = matches!(self.intent, Some(Intent::Close(_)));
        match exit {
            Some(RunnerExit::Done) if closed => Ending::new(EndReason::Closed),
            Some(RunnerExit::Done) => Ending::new(EndReason::Finished),
            Some(RunnerExit::AgentFailed) => {
                let interrupted = matches!(self.last_turn, Some((TurnOutcome::Interrupted, _)));
                if closed && interrupted {
                    // Claude Code exits with 1 after an interrupted turn; somebody wanted exactly that.
                    return Ending::new(EndReason::Closed);
                }
                let code = self.agent_exit.and_then(|(code, _)| code).unwrap_or(1);
                let detail = match &self.last_turn {
                    Some((TurnOutcome::Error | TurnOutcome::MaxTurns, text)) if !text.is_empty() => Some(text.clone()),
                    _ => None,
                };
                Ending { reason: EndReason::AgentExit { code }, detail }
            }
            Some(RunnerExit::AgentSignalled) => {
                let signal = self.agent_exit.and_then(|(_, signal)| signal).unwrap_or_default();
                Ending::new(EndReason::AgentSignal { signal })
            }
            Some(RunnerExit::BadConfig) => Ending::because(
                EndReason::SetupFailed { step: "config".into() },
                "the runner in the image does not understand this supervisor; rebuild it with `aigo image build`",
            ),
            Some(RunnerExit::SetupFailed) => Ending::new(EndReason::SetupFailed { step: "unknown".into() }),
            Some(RunnerExit::IpcFailed) if facts.disk_full => {
                Ending::because(EndReason::DiskFull, "the disk that holds the data directory is full")
            }
            Some(RunnerExit::Terminated) => {
                Ending::because(EndReason::Cancelled, "the container was stopped from outside aigo")
            }
            Some(RunnerExit::Internal | RunnerExit::IpcFailed) | None => {
                let code = facts.code.map_or_else(|| "an unknown code".to_owned(), |code| format!("code {code}"));
                Ending::because(EndReason::RunnerLost, format!("the container ended with {code} without a word"))
            }
        }
    }
}
