//! Why a session whose container is gone has ended: what we wanted, what the runner said, the exit code and the counters,
//! in this order.

use ipc_protocol::event::TurnOutcome;
use ipc_protocol::exit::RunnerExit;
use ipc_protocol::limits::SILENCE;

use super::{Intent, Machine, READY_LIMIT, SILENCE_END, Stage};
use crate::session::status::{EndReason, Ending};

/// What is known about a container that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitFacts {
    /// Its exit code; none if the engine does not know it.
    pub code: Option<i64>,
    /// The kernel killed PID 1 or a child for memory, as far as the engine or the cgroup know.
    pub out_of_memory: Rise,
    /// A process could not be made for the bound on processes.
    pub pids_exhausted: Rise,
    /// The disk that holds the IPC directory is full.
    pub disk_full: bool,
}

/// When a counter of bad things last rose. One that rose long ago is not to blame for what went wrong now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rise {
    /// It is zero.
    #[default]
    Never,
    /// Some time before the end, or nobody knows when.
    Earlier,
    /// Right before the end.
    Lately,
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
            Some(Intent::Silent) => {
                let lasted = SILENCE + SILENCE_END;
                return Ending::because(
                    EndReason::RunnerLost,
                    format!("the runner in the container gave no sign of life for {lasted:?}: it hung or was stopped"),
                );
            }
            None | Some(Intent::Drain | Intent::Close(_)) => {}
        }
        if let Some((step, detail)) = &self.failed_step {
            return Ending::because(EndReason::SetupFailed { step: step.clone() }, detail.clone());
        }
        // Where the engine does not know the code any more, the runner's word is what there is.
        let code = facts.code.or(self.exiting.map(i64::from));
        let exit = code.and_then(RunnerExit::from_code);
        if let (Some(Intent::Close(by)), Some(Stage::Term { .. } | Stage::Kill { .. })) = (&self.intent, self.stage)
            && matches!(exit, None | Some(RunnerExit::Terminated))
        {
            let detail = format!("closed by {by}; the agent did not end within the grace and was ended by force");
            return Ending::because(EndReason::Cancelled, detail);
        }
        // We ended it because it did not do so after its work.
        if matches!((&self.intent, self.stage), (Some(Intent::Drain), Some(Stage::Term { .. } | Stage::Kill { .. })))
            && matches!(exit, None | Some(RunnerExit::Terminated))
        {
            return self.ending_of_drained();
        }
        if exit != Some(RunnerExit::Done) {
            if self.blames_memory(facts) {
                return Ending::because(EndReason::OutOfMemory, "the container used more than its --memory");
            }
            if facts.pids_exhausted == Rise::Lately {
                return Ending::because(EndReason::PidsExhausted, "the container used more processes than its --pids");
            }
        }
        if let Some(Intent::Close(by)) = &self.intent
            && self.was_cut_short(exit)
        {
            return Ending::because(EndReason::Cancelled, format!("closed by {by} in mid-turn"));
        }
        self.ending_by_exit(exit, facts)
    }

    /// Whether a close has interrupted work, which is then no success. A program that has no turns tells it by its exit.
    fn was_cut_short(&self, exit: Option<RunnerExit>) -> bool {
        let ended_by_it = matches!(exit, Some(RunnerExit::AgentFailed | RunnerExit::AgentSignalled));
        self.cut_short || (self.interrupting && ended_by_it)
    }

    /// A kill by SIGKILL is the kernel's mark: if it has killed for memory at all, also this time. A shell gives its
    /// child's on as code 137.
    fn blames_memory(&self, facts: &ExitFacts) -> bool {
        const SIGKILL: i32 = 9;
        const KILLED: i32 = 128 + SIGKILL;
        let killed = facts.code == Some(KILLED.into())
            || matches!(self.agent_exit, Some((_, Some(SIGKILL)) | (Some(KILLED), _)));
        match facts.out_of_memory {
            Rise::Never => false,
            Rise::Earlier => killed,
            Rise::Lately => true,
        }
    }

    fn ending_of_drained(&self) -> Ending {
        match &self.last_turn {
            Some((TurnOutcome::Success, _)) => Ending::because(
                EndReason::Finished,
                "the agent was done, but something that it had started kept it from ending; both were ended",
            ),
            None | Some((TurnOutcome::Error | TurnOutcome::Interrupted | TurnOutcome::MaxTurns, _)) => {
                self.agent_failed()
            }
        }
    }

    fn agent_failed(&self) -> Ending {
        let code = self.agent_exit.and_then(|(code, _)| code).unwrap_or(1);
        let detail = match &self.last_turn {
            Some((TurnOutcome::Error | TurnOutcome::MaxTurns, text)) if !text.is_empty() => Some(text.clone()),
            _ => None,
        };
        Ending { reason: EndReason::AgentExit { code }, detail }
    }

    fn ending_by_exit(&self, exit: Option<RunnerExit>, facts: &ExitFacts) -> Ending {
        let closed = matches!(self.intent, Some(Intent::Close(_)));
        // A version before this one stored no first word; without one nobody was ready.
        let started = self.started || self.ready;
        // The runner names its exit code in the journal before it ends: a container that ends without that was not ended by
        // its runner.
        let said = started && self.exiting.is_some();
        match exit {
            Some(RunnerExit::Done) if closed && said => Ending::new(EndReason::Closed),
            Some(RunnerExit::Done) if said => Ending::new(EndReason::Finished),
            Some(RunnerExit::AgentFailed) if said => {
                let interrupted = matches!(self.last_turn, Some((TurnOutcome::Interrupted, _)));
                if closed && interrupted {
                    // Claude Code exits with 1 after an interrupted turn; somebody wanted exactly that.
                    return Ending::new(EndReason::Closed);
                }
                self.agent_failed()
            }
            Some(RunnerExit::AgentSignalled) if said => {
                let signal = self.agent_exit.and_then(|(_, signal)| signal).unwrap_or_default();
                Ending::new(EndReason::AgentSignal { signal })
            }
            Some(RunnerExit::BadConfig) => bad_config(),
            Some(RunnerExit::SetupFailed) if started => Ending::new(EndReason::SetupFailed { step: "unknown".into() }),
            Some(RunnerExit::IpcFailed) if facts.disk_full => {
                Ending::because(EndReason::DiskFull, "the disk that holds the data directory is full")
            }
            Some(RunnerExit::IpcFailed) if !started => {
                Ending::because(EndReason::RunnerLost, "the runner cannot use the session's folders")
            }
            Some(RunnerExit::Terminated) => {
                Ending::because(EndReason::Cancelled, "the container was stopped from outside aigo")
            }
            Some(
                RunnerExit::Done
                | RunnerExit::AgentFailed
                | RunnerExit::AgentSignalled
                | RunnerExit::Internal
                | RunnerExit::SetupFailed
                | RunnerExit::IpcFailed,
            )
            | None => {
                let why = match self.exiting {
                    // The image has no runner, or one that cannot reach the record.
                    _ if !started => " before the runner in it had said a word".to_owned(),
                    Some(said) => format!(", its runner had said {said}"),
                    None => " without the runner's last word".to_owned(),
                };
                Ending::because(EndReason::RunnerLost, format!("the container ended with {}{why}", code(facts)))
            }
        }
    }
}

fn bad_config() -> Ending {
    let detail = "the runner in the image does not understand this aigo; rebuild the image with `aigo image build`";
    Ending::because(EndReason::SetupFailed { step: "config".into() }, detail)
}

fn code(facts: &ExitFacts) -> String {
    facts.code.map_or_else(|| "an unknown code".to_owned(), |code| format!("code {code}"))
}
