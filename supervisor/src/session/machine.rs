//! A session's life as a pure function: [`Machine::step`] takes an input and the time, and returns effects.
//!
//! Time is the duration since the session was asked for, on the monotonic clock: a host that slept did not let it pass,
//! so nobody is timed out for the laptop's lid. It goes on while nobody owns the session.
//!
//! Every end that we ask for goes down one ladder, from the stage that fits; each stage has its own grace:
//!
//! ```text
//! timeout, idle timeout   save ──► close ──► term ──► kill        (save only where the agent can take a message)
//! close with a grace               close ──► term ──► kill
//! close                            close                          (the wall timeout still bounds it)
//! end of a program's input         close                          (the same: how long it works then is its own affair)
//! end of an answered one-shot      close ──► term ──► kill        (after [`DRAIN_GRACE`] with nothing in flight)
//! silent runner                    close ──► term ──► kill
//! cancel                                              kill
//! ```

mod ending;
mod rules;
mod words;

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use ipc_protocol::clip::ClippedText;
use ipc_protocol::event::{ClosingReason, EventKind, StepState, TurnOutcome};
use ipc_protocol::limits::{MAX_SHORT_BYTES, SILENCE};

pub use self::ending::{ExitFacts, Rise};
pub use self::rules::{Ends, Graces, Rules};
pub use self::words::{Command, Effect, Input};
use super::event::HostEvent;
use super::status::{EndReason, Ending, Status};

/// Tool calls that are watched at once, and bytes of an id of one; others are not counted as activity. Agents have a few
/// calls in flight, with ids of some thirty letters; a hostile journal has what it likes, and each checkpoint holds all of
/// them.
const MAX_TRACKED: usize = 256;
const MAX_TRACKED_ID: usize = 128;

/// How long the engine may take to report the end of a container that was killed: more than the deadline of the kill itself,
/// which begins at the same time. Rootless Podman on an emulated processor took more than 20 s.
const KILL_REPORT: Duration = Duration::from_secs(60);

/// What the runner may take beyond the agent's grace after SIGTERM: it ends the agent by force then, reads what is left in
/// the pipes and ends what the agent has left behind, each with a bound of its own.
const RUNNER_END: Duration = Duration::from_secs(3);

/// How long the runner may take from the container's start to `ready`; its own phases have tighter bounds.
pub const READY_LIMIT: Duration = Duration::from_secs(60);

/// How long an agent whose answer is there may do nothing at the end of its input until it is ended: what it waits for
/// then (a server that it has started for a test) does not end by itself, and nobody is there who could use it.
pub const DRAIN_GRACE: Duration = Duration::from_secs(30);

/// How long a runner may go on being silent after the warning, beyond [`SILENCE`].
pub const SILENCE_END: Duration = Duration::from_secs(60);

/// Messages that were never taken are named up to this number, the rest is counted.
const MAX_NAMED: usize = 20;

/// The id of the message that asks the agent to save its work; there is at most one in a session.
pub const NOTICE_ID: &str = "aigo-save";

/// Duration since the session was asked for.
pub type At = Duration;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Intent {
    Drain,
    Close(String),
    Wall,
    Idle,
    Cancel(String),
    NotReady,
    Silent,
    Broken(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Save { until: At },
    Close { until: Option<At> },
    Term { until: At },
    Kill { until: At },
}

/// The state of one session. What it serializes to lets another process go on with the session.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    rules: Rules,
    status: Status,
    launched_at: Option<At>,
    ready: bool,
    last_activity: At,
    /// When the runner last gave a sign of life.
    last_heard: At,
    silence_told: bool,
    tools: HashSet<String>,
    model_requests: usize,
    attached: bool,
    question_pending: bool,
    unaccepted: HashSet<String>,
    unanswered: HashSet<String>,
    intent: Option<Intent>,
    stage: Option<Stage>,
    failed_step: Option<(String, String)>,
    /// The runner has said its first word.
    #[serde(default)]
    started: bool,
    /// Its agent's process has run.
    #[serde(default)]
    agent_started: bool,
    /// The exit code that the runner named with its last word.
    #[serde(default)]
    exiting: Option<u8>,
    agent_exit: Option<(Option<i32>, Option<i32>)>,
    closing: Option<ClosingReason>,
    last_turn: Option<(TurnOutcome, String)>,
    /// An interrupt was sent, and no turn has ended since.
    interrupting: bool,
    /// A turn was interrupted by a close.
    cut_short: bool,
}

impl Machine {
    /// A session that is being brought up.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            status: Status::Provisioning,
            launched_at: None,
            ready: false,
            last_activity: At::ZERO,
            last_heard: At::ZERO,
            silence_told: false,
            tools: HashSet::new(),
            model_requests: 0,
            attached: false,
            question_pending: false,
            unaccepted: HashSet::new(),
            unanswered: HashSet::new(),
            intent: None,
            stage: None,
            failed_step: None,
            started: false,
            agent_started: false,
            exiting: None,
            agent_exit: None,
            closing: None,
            last_turn: None,
            interrupting: false,
            cut_short: false,
        }
    }

    /// The container runs, or has run.
    pub fn is_launched(&self) -> bool {
        self.launched_at.is_some()
    }

    /// The runner has said `event` to an owner that is gone, `then`. Whatever follows is done now, with its graces from now;
    /// but the silence has lasted since then.
    pub fn recall(&mut self, now: At, then: At, event: &EventKind) -> Vec<Effect> {
        let then = then.min(now);
        let last_activity = self.last_activity.max(then);
        self.launched_at.get_or_insert(then);
        let effects = self.step(now, Input::Runner(event));
        self.last_activity = last_activity;
        effects
    }

    /// What another process may have left undone when it ended in the middle of a step: to be carried out again, which
    /// does no harm. The attached person and the requests that it carried are gone with it, and they were there until then:
    /// they get the idle timeout anew to come back. The runner gets a new chance to be heard.
    pub fn resume(&mut self, now: At) -> Vec<Effect> {
        if std::mem::take(&mut self.attached) | (std::mem::take(&mut self.model_requests) > 0) {
            self.last_activity = now;
        }
        self.last_heard = self.last_heard.max(now);
        match self.stage {
            None | Some(Stage::Save { .. }) => Vec::new(),
            Some(Stage::Close { .. }) => vec![Effect::WriteClose],
            Some(Stage::Term { .. }) => vec![Effect::Term],
            Some(Stage::Kill { .. }) => vec![Effect::Kill],
        }
    }

    /// The latest time at which it is known to have been.
    pub fn lived_until(&self) -> At {
        self.launched_at.unwrap_or_default().max(self.last_activity).max(self.last_heard)
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Whether this side wants the end, not only waits for it: a person, a deadline, or what broke.
    pub fn was_asked_to_end(&self) -> bool {
        match &self.intent {
            None => false,
            Some(Intent::Drain) => matches!(self.stage, Some(Stage::Term { .. } | Stage::Kill { .. })),
            Some(
                Intent::Close(_)
                | Intent::Wall
                | Intent::Idle
                | Intent::Cancel(_)
                | Intent::NotReady
                | Intent::Silent
                | Intent::Broken(_),
            ) => true,
        }
    }

    /// Something is going on of which the runner's events do not tell: a person is there or is asked, or the model works.
    pub fn is_kept(&self) -> bool {
        self.attached || self.question_pending || self.model_requests > 0
    }

    /// Whether the runner has started its agent.
    pub fn has_agent(&self) -> bool {
        self.agent_started || self.ready
    }

    /// Whether the runner has yet to accept or drop the input `id`.
    pub fn waits_for(&self, id: &str) -> bool {
        self.unaccepted.contains(id)
    }

    /// New messages are taken: not after `_close`.
    pub fn takes_input(&self) -> bool {
        let closing = match self.stage {
            None | Some(Stage::Save { .. }) => false,
            Some(Stage::Close { .. } | Stage::Term { .. } | Stage::Kill { .. }) => true,
        };
        !closing && !self.status.is_terminal() && self.closing.is_none()
    }

    /// When [`Input::Tick`] is due next.
    pub fn next_deadline(&self) -> Option<At> {
        if self.status.is_terminal() {
            return None;
        }
        let stage = match self.stage {
            Some(Stage::Save { until } | Stage::Term { until } | Stage::Kill { until }) => Some(until),
            Some(Stage::Close { until }) => until,
            None => None,
        };
        let others = [
            self.wall_deadline(),
            self.idle_deadline(),
            self.ready_deadline(),
            self.drain_deadline(),
            self.silence_deadline(),
        ];
        others.into_iter().chain([stage]).flatten().min()
    }

    /// The runner has been silent for too long, unless its container is paused: then say so ([`Input::Paused`]) before the
    /// next [`Input::Tick`].
    pub fn finds_runner_silent(&self, now: At) -> bool {
        !self.status.is_terminal() && self.silence_deadline().is_some_and(|at| at <= now)
    }

    /// What follows from `input` at `now`.
    pub fn step(&mut self, now: At, input: Input<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.status.is_terminal() {
            return effects;
        }
        match input {
            Input::Launched => {
                self.launched_at = Some(now);
                self.last_activity = now;
                self.last_heard = now;
            }
            Input::Runner(event) => {
                self.hear(now, &mut effects);
                self.on_runner(now, event, &mut effects);
            }
            Input::Heartbeat => self.hear(now, &mut effects),
            Input::Paused => self.last_heard = self.last_heard.max(now),
            Input::Sent(id) => {
                self.last_activity = now;
                self.interrupting = false;
                self.question_pending = false;
                self.unaccepted.insert(id.to_owned());
                self.unanswered.insert(id.to_owned());
            }
            Input::Asked => {
                self.last_activity = now;
                self.question_pending = true;
            }
            Input::Command(command) => self.on_command(now, command, &mut effects),
            Input::ModelRequests(count) => {
                if count != self.model_requests {
                    self.last_activity = now;
                }
                self.model_requests = count;
            }
            Input::Attached(attached) => {
                self.last_activity = now;
                self.attached = attached;
            }
            Input::Exited(facts) => {
                let ending = self.ending(facts);
                self.finish(ending, &mut effects);
            }
            Input::EngineLost(why) => {
                self.finish(Ending::because(EndReason::EngineLost, why), &mut effects);
            }
            Input::Broken(why) => {
                if !self.timed_out_already() {
                    self.intent = Some(Intent::Broken(why.to_owned()));
                }
                self.enter_kill(now, &mut effects);
            }
            Input::Tick => self.on_tick(now, &mut effects),
        }
        self.maybe_drain(now, &mut effects);
        effects
    }

    fn hear(&mut self, now: At, effects: &mut Vec<Effect>) {
        self.last_heard = self.last_heard.max(now);
        if std::mem::take(&mut self.silence_told) {
            effects.push(warning("runner_resumed", "the runner in the container gives signs of life again"));
        }
    }

    fn on_runner(&mut self, now: At, event: &EventKind, effects: &mut Vec<Effect>) {
        match event {
            EventKind::SetupStep { step, state: StepState::Failed, detail } => {
                let name = serde_json::to_value(step).ok().and_then(|v| v.as_str().map(str::to_owned));
                self.failed_step = Some((name.unwrap_or_default(), short(detail.as_deref().unwrap_or_default())));
            }
            EventKind::RunnerStarted { .. } => self.started = true,
            EventKind::RunnerExiting { code } => self.exiting = Some(*code),
            EventKind::AgentStarted { .. } => self.agent_started = true,
            EventKind::SetupStep { .. } | EventKind::MountMismatch { .. } => {}
            EventKind::Ready {} => {
                self.ready = true;
                if self.status == Status::Provisioning {
                    self.set_status(Status::Running, effects);
                }
            }
            EventKind::InputAccepted { id } => {
                self.unaccepted.remove(id);
            }
            EventKind::InputDropped { id, .. } => {
                self.unaccepted.remove(id);
                self.unanswered.remove(id);
            }
            EventKind::ToolCall { call_id, .. } => {
                if self.tools.len() < MAX_TRACKED && call_id.len() <= MAX_TRACKED_ID {
                    self.tools.insert(call_id.clone());
                }
            }
            EventKind::ToolResult { call_id, .. } => {
                self.tools.remove(call_id);
            }
            EventKind::TurnFinished(turn) => {
                self.tools.clear();
                self.interrupting = false;
                self.cut_short |=
                    turn.outcome == TurnOutcome::Interrupted && matches!(self.intent, Some(Intent::Close(_)));
                self.last_turn = Some((turn.outcome, short(&turn.body.text)));
                if turn.inputs.is_empty() && !turn.unsolicited {
                    // The agent did not say whom it answered: everything that it had taken by then.
                    let unaccepted = &self.unaccepted;
                    self.unanswered.retain(|id| unaccepted.contains(id));
                }
                for id in &turn.inputs {
                    self.unanswered.remove(id);
                }
            }
            EventKind::Closing { reason } => {
                self.closing = Some(*reason);
                // The end of its input is what a program works to.
                let works_on = *reason == ClosingReason::Close && self.works_to_its_end();
                if matches!(self.status, Status::Provisioning | Status::Running) && !works_on {
                    self.set_status(Status::Closing, effects);
                }
            }
            EventKind::AgentExited { code, signal } => self.agent_exit = Some((*code, *signal)),
            EventKind::Question { .. } => self.question_pending = true,
            EventKind::TurnStarted { .. }
            | EventKind::Text { .. }
            | EventKind::Thought { .. }
            | EventKind::Usage { .. }
            | EventKind::Output { .. }
            | EventKind::Warning { .. }
            | EventKind::Raw { .. } => {}
        }
        self.last_activity = now;
    }

    fn on_command(&mut self, now: At, command: Command, effects: &mut Vec<Effect>) {
        match command {
            Command::Interrupt => self.interrupt(now, effects),
            Command::Close { grace, interrupt, by } => {
                // A close without a grace never slows down an end that is already under way.
                if self.intent.is_some() && grace.is_none() {
                    if self.works_to_its_end() {
                        self.set_status(Status::Closing, effects);
                    }
                    return;
                }
                effects.push(Effect::Tell(HostEvent::EndRequested { by: by.clone() }));
                // After `_close` the runner takes no more, interrupts neither.
                if interrupt && self.takes_input() {
                    self.interrupt(now, effects);
                }
                match self.intent {
                    None | Some(Intent::Drain) => self.intent = Some(Intent::Close(by)),
                    Some(
                        Intent::Close(_)
                        | Intent::Wall
                        | Intent::Idle
                        | Intent::Cancel(_)
                        | Intent::NotReady
                        | Intent::Silent
                        | Intent::Broken(_),
                    ) => {}
                }
                match self.stage {
                    None | Some(Stage::Save { .. }) => self.enter_close(now, grace, effects),
                    Some(Stage::Close { until }) => {
                        let new = grace.map(|grace| now + grace);
                        self.stage = Some(Stage::Close { until: [until, new].into_iter().flatten().min() });
                        self.set_status(Status::Closing, effects);
                    }
                    Some(Stage::Term { .. } | Stage::Kill { .. }) => {}
                }
            }
            Command::Cancel { by } => {
                effects.push(Effect::Tell(HostEvent::EndRequested { by: by.clone() }));
                // What has timed out stays a timeout: whoever is impatient only shortens the ladder.
                match self.intent {
                    Some(Intent::Wall | Intent::Idle | Intent::NotReady | Intent::Silent | Intent::Broken(_)) => {}
                    None | Some(Intent::Drain | Intent::Close(_) | Intent::Cancel(_)) => {
                        self.intent = Some(Intent::Cancel(by));
                    }
                }
                self.enter_kill(now, effects);
            }
        }
    }

    fn interrupt(&mut self, now: At, effects: &mut Vec<Effect>) {
        self.last_activity = now;
        self.interrupting = true;
        effects.push(Effect::Tell(HostEvent::InterruptSent {}));
        effects.push(Effect::SendInterrupt);
    }

    fn on_tick(&mut self, now: At, effects: &mut Vec<Effect>) {
        let due = |at: Option<At>| at.is_some_and(|at| at <= now);
        if due(self.ready_deadline()) {
            self.begin(now, Intent::NotReady, effects);
        } else if due(self.wall_deadline()) {
            self.begin(now, Intent::Wall, effects);
        } else if due(self.idle_deadline()) {
            self.begin(now, Intent::Idle, effects);
        }
        if due(self.silence_deadline()) {
            self.on_silence(now, effects);
        }
        if due(self.drain_deadline()) {
            effects.push(warning(
                "left_running",
                "the agent has answered everything but does not end: something that it has started keeps it; it is ended",
            ));
            self.enter_term(now, effects);
        }
        match self.stage {
            Some(Stage::Save { until }) if until <= now => {
                self.enter_close(now, Some(self.rules.graces.close), effects);
            }
            Some(Stage::Close { until: Some(until) }) if until <= now => self.enter_term(now, effects),
            Some(Stage::Term { until }) if until <= now => self.enter_kill(now, effects),
            Some(Stage::Kill { until }) if until <= now => {
                let detail =
                    format!("the engine did not report the container's end within {KILL_REPORT:?} of its kill");
                self.finish(Ending::because(EndReason::EngineLost, detail), effects);
            }
            None | Some(Stage::Save { .. } | Stage::Close { .. } | Stage::Term { .. } | Stage::Kill { .. }) => {}
        }
    }

    /// First a warning; then the end, by the ladder: it cannot be asked to save anything.
    fn on_silence(&mut self, now: At, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.silence_told, true) {
            let message = format!(
                "the runner in the container has given no sign of life for {SILENCE:?}: it hangs or was stopped; \
                 the session is ended in {SILENCE_END:?} if that lasts"
            );
            effects.push(warning("runner_silent", message));
            return;
        }
        self.intent = Some(Intent::Silent);
        self.enter_close(now, Some(self.rules.graces.close), effects);
    }

    /// A time limit has passed: warns, and starts the ladder.
    fn begin(&mut self, now: At, intent: Intent, effects: &mut Vec<Effect>) {
        let (code, message) = match &intent {
            Intent::Wall => ("wall_timeout", "the session's timeout has passed"),
            Intent::Idle => ("idle_timeout", "nothing has happened for the length of the idle timeout"),
            Intent::NotReady => ("not_ready", "the runner did not become ready in time"),
            Intent::Drain | Intent::Close(_) | Intent::Cancel(_) | Intent::Silent | Intent::Broken(_) => {
                ("ending", "the session is being ended")
            }
        };
        effects.push(warning(code, message));
        self.intent = Some(intent);
        if matches!(self.stage, Some(Stage::Term { .. } | Stage::Kill { .. })) {
            // The ladder only goes down.
            return;
        }
        let graces = self.rules.graces;
        if self.rules.can_save && self.ready && self.takes_input() && !graces.save.is_zero() {
            self.unaccepted.insert(NOTICE_ID.to_owned());
            self.unanswered.insert(NOTICE_ID.to_owned());
            effects.push(Effect::SendNotice(
                "This session is about to end because its time is up. Save your work now, in a state that someone can \
                 continue from, and stop.",
            ));
            self.stage = Some(Stage::Save { until: now + graces.save });
        } else {
            self.enter_close(now, Some(graces.close), effects);
        }
    }

    fn enter_close(&mut self, now: At, grace: Option<Duration>, effects: &mut Vec<Effect>) {
        effects.push(Effect::Tell(HostEvent::Escalation { step: "_close".into() }));
        effects.push(Effect::WriteClose);
        self.stage = Some(Stage::Close { until: grace.map(|grace| now + grace) });
        self.set_status(Status::Closing, effects);
    }

    fn enter_term(&mut self, now: At, effects: &mut Vec<Effect>) {
        effects.push(Effect::Tell(HostEvent::Escalation { step: "SIGTERM".into() }));
        effects.push(Effect::Term);
        self.stage = Some(Stage::Term { until: now + self.rules.graces.term + RUNNER_END });
    }

    fn enter_kill(&mut self, now: At, effects: &mut Vec<Effect>) {
        if matches!(self.stage, Some(Stage::Kill { .. })) {
            return;
        }
        effects.push(Effect::Tell(HostEvent::Escalation { step: "kill".into() }));
        effects.push(Effect::Kill);
        self.stage = Some(Stage::Kill { until: now + KILL_REPORT });
        self.set_status(Status::Closing, effects);
    }

    /// Ends a one-shot whose work is done, or a timed-out session that has saved its work.
    fn maybe_drain(&mut self, now: At, effects: &mut Vec<Effect>) {
        if self.status.is_terminal() || !self.ready {
            return;
        }
        if let (Some(Stage::Save { .. }), true) = (self.stage, self.unanswered.is_empty()) {
            self.enter_close(now, Some(self.rules.graces.close), effects);
            return;
        }
        if self.stage.is_some() || self.closing.is_some() {
            return;
        }
        let done = match self.rules.ends {
            Ends::WhenTold => false,
            Ends::WhenTaken => self.unaccepted.is_empty(),
            Ends::WhenAnswered => match self.last_turn {
                // After an interrupt somebody is about to say what to do instead.
                None | Some((TurnOutcome::Interrupted, _)) => false,
                Some((TurnOutcome::Success | TurnOutcome::Error | TurnOutcome::MaxTurns, _)) => {
                    self.unanswered.is_empty()
                }
            },
        };
        if done {
            self.intent = Some(Intent::Drain);
            effects.push(Effect::WriteClose);
            self.stage = Some(Stage::Close { until: None });
            if !self.works_to_its_end() {
                self.set_status(Status::Closing, effects);
            }
        }
    }

    fn set_status(&mut self, status: Status, effects: &mut Vec<Effect>) {
        if self.status != status {
            self.status = status;
            effects.push(Effect::Tell(HostEvent::Status { status }));
        }
    }

    fn finish(&mut self, ending: Ending, effects: &mut Vec<Effect>) {
        if let Some(message) = self.not_taken() {
            effects.push(warning("input_not_taken", message));
        }
        self.status = ending.reason.status();
        effects.push(Effect::Finish(ending));
    }

    /// Accepted means taken, or told: names the messages that the runner has neither taken nor dropped.
    fn not_taken(&self) -> Option<String> {
        let mut ids: Vec<&str> = self.unaccepted.iter().map(String::as_str).filter(|id| *id != NOTICE_ID).collect();
        if ids.is_empty() {
            return None;
        }
        ids.sort_unstable();
        let more = ids.len().saturating_sub(MAX_NAMED);
        ids.truncate(MAX_NAMED);
        let named = ids.join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Some(format!("the session ended before the agent had taken these messages: {named}{more}; send them again"))
    }

    fn timed_out_already(&self) -> bool {
        matches!(
            self.intent,
            Some(
                Intent::Wall | Intent::Idle | Intent::NotReady | Intent::Cancel(_) | Intent::Silent | Intent::Broken(_)
            )
        )
    }

    fn wall_deadline(&self) -> Option<At> {
        if self.timed_out_already() { None } else { self.rules.timeout }
    }

    fn ready_deadline(&self) -> Option<At> {
        if self.ready || self.timed_out_already() { None } else { self.launched_at.map(|at| at + READY_LIMIT) }
    }

    fn idle_deadline(&self) -> Option<At> {
        let busy = self.works() || self.attached || self.question_pending;
        // A close that waits as long as it takes, as at the end of a program's input, is still bounded by silence.
        if busy || !self.ready || self.ladder_runs() || self.drains_answered() || self.timed_out_already() {
            return None;
        }
        self.rules.idle_timeout.map(|idle| self.last_activity + idle)
    }

    fn drain_deadline(&self) -> Option<At> {
        (self.drains_answered() && !self.works()).then(|| self.last_activity + DRAIN_GRACE)
    }

    fn silence_deadline(&self) -> Option<At> {
        // Before it is ready it has a deadline of its own.
        if !self.ready || self.ladder_runs() || self.timed_out_already() {
            return None;
        }
        Some(self.last_heard + if self.silence_told { SILENCE + SILENCE_END } else { SILENCE })
    }

    /// Something is in flight that the agent waits for.
    fn works(&self) -> bool {
        !self.tools.is_empty() || self.model_requests > 0
    }

    /// Everything is answered, and only the agent's own end is waited for.
    fn drains_answered(&self) -> bool {
        self.rules.ends == Ends::WhenAnswered
            && self.intent == Some(Intent::Drain)
            && self.stage == Some(Stage::Close { until: None })
    }

    /// A program has all its input and runs to its own end: nobody and no deadline wants that yet.
    fn works_to_its_end(&self) -> bool {
        self.rules.ends == Ends::WhenTaken && self.intent == Some(Intent::Drain)
    }

    /// Each stage of the end has a deadline from here on.
    fn ladder_runs(&self) -> bool {
        matches!(self.stage, Some(Stage::Close { until: Some(_) } | Stage::Term { .. } | Stage::Kill { .. }))
    }
}

/// What is kept of a text of the container's: enough for the reason of an end.
fn short(text: &str) -> String {
    ClippedText::new(text, MAX_SHORT_BYTES).text
}

fn warning(code: &str, message: impl Into<String>) -> Effect {
    Effect::Tell(HostEvent::HostWarning { code: code.into(), message: message.into() })
}

#[cfg(test)]
mod tests;
