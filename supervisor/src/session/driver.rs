//! The one task that owns a running session: everything that happens comes in here, and goes out from here.
//!
//! ```text
//! journal, messages, tasks ─┐                    ┌─► store ─► readers
//! commands ─────────────────┼─► machine (pure) ──┼─► mailbox (messages, interrupt, _close)
//! engine: end of container ─┤                    └─► engine (SIGTERM, kill)
//! proxy: requests in flight ┘
//! ```

mod checkpoint;
mod facts;
mod heartbeat;
mod intake;
mod losses;
mod notices;
mod pace;

use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::clip::ClippedText;
use ipc_protocol::event::EventKind;
use ipc_protocol::host::HostIpc;
use ipc_protocol::id::MessageId;
use ipc_protocol::input::{Input as Mail, Message};
use ipc_protocol::journal::{Cursor, Reader};
use ipc_protocol::limits::MAX_TEXT_BYTES;
use ipc_protocol::mailbox::{Inbox, Outbox};
use ipc_protocol::outgoing::OutgoingFile;
use ipc_protocol::task::TaskFile;
use jiff::Timestamp;
use nix::sys::signal::Signal;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use self::checkpoint::Moment;
use super::control::{Answer, Pending, Request};
use super::event::{HostEvent, Summary, What};
use super::ledger::Ledger;
use super::machine::{Command, Effect, Input, Machine, NOTICE_ID, Rules};
use super::status::{Ending, Status};
use super::{SessionId, resources::Running};
use crate::engine::{ContainerId, ContainerPhase, EngineError, ExitInfo, SharedEngine};
use crate::error_chain::chain;
use crate::failpoint::reach;
use crate::proxy::Notice;
use crate::store::{Outcome, Store, StoreError};
use crate::usage::booted_at;
use crate::workspace::mountpoints::Held;
use crate::workspace::stray::MountedAt;

/// How long the driver sleeps at most: the safety net under every wake-up, and the pace of the memory samples and of the
/// looks at the heartbeat.
const PULSE: Duration = Duration::from_millis(500);
/// The same while nothing happens: silent sessions are many, and what wakes the driver does so all the same. Less than
/// [`SILENCE`](ipc_protocol::limits::SILENCE) by far, which is judged by the looks at the heartbeat.
const CALM_PULSE: Duration = Duration::from_secs(10);

/// Everything a driver works with from the start.
#[derive(Debug)]
pub struct Driver {
    ledger: Ledger,
    engine: SharedEngine,
    ipc: HostIpc,
    outbox: Outbox,
    journal: Reader,
    messages: Inbox<OutgoingFile>,
    tasks: Inbox<TaskFile>,
    machine: Machine,
    started: Instant,
    news: Arc<Notify>,
    pace: pace::Pace,
    heartbeat: heartbeat::Heartbeat,
    notices: notices::Notices,
    losses: losses::Losses,
    mismatch: Option<MountedAt>,
    summary: Summary,
    ending: Option<Ending>,
    container: Option<ContainerId>,
    faulty: bool,
    vitals: facts::Vitals,
    counts: facts::Counts,
    /// Another process is to be able to go on with the session.
    survives: bool,
    /// The runner's number of the last event that the machine has got.
    heard: u64,
    /// How old the session was when this driver began.
    age: Duration,
}

/// Names in the mailbox that are told at most.
const MAX_STRANGERS: usize = 20;

/// Events that are fed to the machine at once when a session is taken over.
const REPLAY: usize = 500;

/// How long an engine is watched that has stopped a container by itself: one that shuts down has said so by then.
const ENGINE_GOES: Duration = Duration::from_secs(5);
const ENGINE_LOOK: Duration = Duration::from_millis(250);

impl Driver {
    /// A driver for a session that is being brought up.
    pub fn new(
        id: SessionId,
        store: Store,
        engine: SharedEngine,
        ipc: HostIpc,
        rules: Rules,
        latest: watch::Sender<u64>,
    ) -> Result<Self, ipc_protocol::dir::DirError> {
        Ok(Self {
            outbox: ipc.input()?,
            journal: ipc.journal(Cursor::START),
            messages: ipc.messages(),
            tasks: ipc.tasks(),
            machine: Machine::new(rules),
            started: Instant::now(),
            news: Arc::new(Notify::new()),
            pace: pace::Pace::default(),
            heartbeat: heartbeat::Heartbeat::default(),
            notices: notices::Notices::default(),
            losses: losses::Losses::default(),
            mismatch: None,
            summary: Summary::default(),
            ending: None,
            container: None,
            faulty: false,
            vitals: facts::Vitals::new(None),
            counts: facts::Counts::default(),
            survives: false,
            heard: 0,
            age: Duration::ZERO,
            ledger: Ledger::new(id, store, latest),
            engine,
            ipc,
        })
    }

    /// Keeps what another process needs to go on with the session.
    #[must_use]
    pub fn surviving(mut self) -> Self {
        self.survives = true;
        self
    }

    /// Whether another process can go on with it.
    pub fn survives(&self) -> bool {
        self.survives
    }

    /// Goes on with a session that `began` under another process, which has ended: knows what that one knew, and does what
    /// it may have left undone.
    pub async fn resume(
        &mut self,
        store: &Store,
        id: &SessionId,
        container: Option<ContainerId>,
        began: Timestamp,
    ) -> Result<(), StoreError> {
        self.survives = true;
        self.container = container;
        self.started = Instant::now();
        let mut moment = None;
        let cursor = store.journal_cursor(id).await?.and_then(|json| serde_json::from_str(&json).ok());
        self.journal = self.ipc.journal(cursor.unwrap_or(Cursor::START));
        // One of an older aigo that cannot be read: the events tell the same, from the first.
        let checkpoint = store.checkpoint(id).await?.and_then(|json| serde_json::from_str(&json).ok());
        if let Some(found) = checkpoint {
            let checkpoint::Checkpoint { heard, machine, summary, counts, budget, moment: last } = found;
            (self.heard, self.machine, self.summary, self.counts) = (heard, machine, summary, counts);
            moment = last;
            self.ledger.resume(budget);
        } else {
            self.ledger.catch_up().await?;
        }
        // How old it was when something was stored, by a clock that may have been set back since.
        let by_clock = |at: Timestamp| Duration::try_from(at.duration_since(began)).unwrap_or_default();
        let age = moment.map_or_else(|| by_clock(Timestamp::now()), |last| last.age_at(&Moment::now(Duration::ZERO)));
        // It does not live its life again.
        self.age = age.max(self.machine.lived_until());
        loop {
            let events = store.runner_events(id, self.heard, REPLAY).await?;
            let last = events.len() < REPLAY;
            for (runner_seq, event) in events {
                match &event.what {
                    // What came after a checkpoint was stored with it.
                    What::Runner(kind) => {
                        let then = moment.map_or_else(|| by_clock(event.at), |moment| moment.age());
                        self.recall(runner_seq, then, kind).await?;
                    }
                    // Stands for one that cannot be read.
                    What::Host(_) => self.heard = runner_seq,
                }
            }
            if last {
                break;
            }
        }
        // Their answers were heard by the process before.
        let machine = &self.machine;
        self.outbox.keep(|id| machine.waits_for(id.as_str()));
        let now = self.now();
        for effect in self.machine.resume(now) {
            self.carry_out(effect).await?;
        }
        self.keep_checkpoint().await
    }

    /// The machine gets an event of the runner's.
    async fn hear(&mut self, runner_seq: u64, kind: &EventKind) -> Result<(), StoreError> {
        self.heard = runner_seq;
        self.summary.count(kind);
        if let EventKind::InputAccepted { id } | EventKind::InputDropped { id, .. } = kind {
            self.outbox.settle(id);
        }
        if let EventKind::Closing { .. } = kind {
            self.outbox.close_heard();
        }
        self.note_mismatch(kind);
        self.step(Input::Runner(kind)).await
    }

    /// A runner of ours says so once, before it starts an agent. Later it is the agent's word.
    fn note_mismatch(&mut self, kind: &EventKind) {
        if let EventKind::MountMismatch { target: _, device, root } = kind
            && self.mismatch.is_none()
            && !self.machine.has_agent()
        {
            self.mismatch = Some(MountedAt { device: device.clone(), root: root.clone() });
        }
    }

    /// The event for what the agent has put into the mailbox as if it were a folder of the project, if it has. The mailbox goes with
    /// the session.
    pub fn not_kept(&self) -> Option<HostEvent> {
        let names = self.ipc.strangers(MAX_STRANGERS);
        let message = format!(
            "the agent put files into /workspace/ipc, which is the session's and no part of the project; they are gone with the \
             session: {}",
            names.join(", ")
        );
        (!names.is_empty()).then(|| HostEvent::HostWarning { code: "ipc_not_kept".into(), message })
    }

    /// The folder that was mounted instead of the one that was judged.
    pub fn take_mismatch(&mut self) -> Option<MountedAt> {
        self.mismatch.take()
    }

    /// The machine gets an event that another process has stored, `then`.
    async fn recall(&mut self, runner_seq: u64, then: Duration, kind: &EventKind) -> Result<(), StoreError> {
        self.heard = runner_seq;
        self.summary.count(kind);
        self.note_mismatch(kind);
        let now = self.now();
        self.advance(|machine| machine.recall(now, then, kind)).await
    }

    /// Has what is known now stored at once: no event tells of it.
    async fn keep_checkpoint(&mut self) -> Result<(), StoreError> {
        self.note_checkpoint();
        self.ledger.keep().await
    }

    /// Has what is known now stored with the next events.
    fn note_checkpoint(&mut self) {
        // An end is stored as such; before it, whoever goes on is to find it by itself.
        if !self.survives || self.machine.status().is_terminal() {
            return;
        }
        let view = checkpoint::View {
            heard: self.heard,
            moment: Moment::now(self.now()),
            machine: &self.machine,
            summary: &self.summary,
            counts: self.vitals.counts(),
            budget: self.ledger.budget(),
        };
        self.ledger.note(serde_json::to_string(&view).ok());
    }

    /// How long ago the session was asked for.
    fn now(&self) -> Duration {
        self.age + self.started.elapsed()
    }

    /// Stores an event of ours.
    pub async fn tell(&mut self, event: HostEvent) -> Result<(), StoreError> {
        self.note_checkpoint();
        self.ledger.append(vec![event.into()], None).await
    }

    /// Stores the session's end and the event that tells of it.
    pub async fn end(&mut self, outcome: Outcome, event: HostEvent) -> Result<(), StoreError> {
        self.ledger.end(outcome, event).await
    }

    /// Sends a message to the agent. Also before the container runs: the runner finds it in its mailbox.
    pub async fn send(&mut self, text: String, id: Option<MessageId>) -> Result<Answer, StoreError> {
        if !self.machine.takes_input() {
            let why = match self.machine.status() == Status::Running {
                true => "the program's input has ended, and takes no more messages; keep that of another one open",
                false => "the session is closing and takes no more messages",
            };
            return Ok(Answer::refused(why));
        }
        let shown = ClippedText::new(text.clone(), MAX_TEXT_BYTES);
        let message = Message { text, ..Message::default() };
        match self.outbox.send(id, Mail::Message(message)) {
            Ok(sent) => {
                let id = sent.id.to_string();
                reach("input.sent");
                // Known before it is stored, so that the checkpoint that is stored with it knows it, too.
                self.step(Input::Sent(&id)).await?;
                self.tell(HostEvent::InputSent { id: id.clone(), body: shown, sender: None }).await?;
                Ok(Answer::taken(Some(id)))
            }
            Err(error) => Ok(Answer::refused(chain(&error))),
        }
    }

    /// Handles what somebody wants. Before the container runs, wishes to end come back as `Err(by)`.
    pub async fn handle(&mut self, pending: Pending, launched: bool) -> Result<Result<(), String>, StoreError> {
        let Pending { request, answer } = pending;
        let mut abort = Ok(());
        let said = match request {
            Request::Message { text } => self.send(text, None).await?,
            Request::Attached { attached } => {
                self.step(Input::Attached(attached)).await?;
                Answer::taken(None)
            }
            Request::Hold {} => Answer::taken(None),
            Request::Interrupt {} if !launched => Answer::refused("the agent has not started yet"),
            Request::Interrupt {} => {
                self.step(Input::Command(Command::Interrupt)).await?;
                Answer::taken(None)
            }
            Request::Close { by, .. } | Request::Cancel { by } if !launched => {
                abort = Err(by);
                Answer::taken(None)
            }
            Request::Close { grace_ms, interrupt, by } => {
                // The largest number stands for: as long as it takes.
                let grace = (grace_ms != u64::MAX).then(|| Duration::from_millis(grace_ms));
                self.step(Input::Command(Command::Close { grace, interrupt, by })).await?;
                Answer::taken(None)
            }
            Request::Cancel { by } => {
                self.step(Input::Command(Command::Cancel { by })).await?;
                Answer::taken(None)
            }
        };
        // Whoever asked may have left.
        let _ = answer.send(said);
        Ok(abort)
    }

    /// Drives the session from the container's start to its end. What went wrong on our side ends the session, too.
    pub async fn run(
        &mut self,
        running: &Running,
        points: &Held,
        commands: &mut mpsc::Receiver<Pending>,
        notices: &mut mpsc::Receiver<Notice>,
    ) -> Result<Ending, StoreError> {
        self.container = Some(running.container.clone());
        let news = Arc::clone(&self.news);
        // Without a watch the pulse still finds everything, only later.
        let _watch = self.ipc.watch(move || news.notify_one()).ok();
        let engine = Arc::clone(&self.engine);
        let container = running.container.clone();
        let wait = async move { engine.wait(&container).await };
        tokio::pin!(wait);
        let mut in_flight = running.traffic.as_ref().map(|traffic| traffic.watch_in_flight());
        self.vitals = facts::Vitals::resume(running.pid, self.counts);
        if !self.machine.is_launched() {
            self.step(Input::Launched).await?;
        }
        let mut commands_open = true;
        loop {
            if let Some(ending) = self.ending.take() {
                return Ok(ending);
            }
            let wake = self.next_wake();
            let news = Arc::clone(&self.news);
            tokio::select! {
                ended = &mut wait => {
                    let end = Instant::now();
                    self.intake_all().await?;
                    self.on_container_end(ended, end).await?;
                }
                command = commands.recv(), if commands_open => match command {
                    Some(pending) => {
                        // Launched: ending goes through the machine.
                        let _ = self.handle(pending, true).await?;
                    }
                    None => commands_open = false,
                },
                () = news.notified(), if !self.pace.is_announced() => {
                    let now = Instant::now();
                    self.pace.announce(now);
                    if self.pace.due().is_some_and(|due| due <= now) {
                        self.look().await?;
                    }
                }
                Some(notice) = notices.recv() => self.on_notice(notice).await?,
                changed = facts::changed(&mut in_flight) => {
                    self.step(Input::ModelRequests(changed)).await?;
                }
                () = tokio::time::sleep_until(wake) => {
                    self.sample().await?;
                    self.look().await?;
                    if let Some(warning) = self.losses.unmounted(&points.lost()) {
                        self.tell(warning).await?;
                    }
                    self.feel_pulse().await?;
                    self.step(Input::Tick).await?;
                }
            }
        }
    }

    /// The figures so far.
    pub fn summary(&self) -> Summary {
        let mut summary = self.summary.clone();
        summary.peak_memory_bytes = self.vitals.peak_memory();
        summary.throttled = self.vitals.throttled();
        summary.duration_ms = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX);
        summary
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let deadline = self.machine.next_deadline().map(|at| self.started + at.saturating_sub(self.age));
        let calm = self.pace.is_calm(now) && !self.outbox.is_owed();
        let pulse = if calm { CALM_PULSE } else { PULSE };
        [Some(now + pulse), deadline, self.pace.due()].into_iter().flatten().min().unwrap_or(now)
    }

    /// Whether the runner lives. What it may have written during our own absence was read before.
    async fn feel_pulse(&mut self) -> Result<(), StoreError> {
        if self.heartbeat.has_changed(&self.ipc) {
            self.step(Input::Heartbeat).await?;
        }
        if self.machine.finds_runner_silent(self.now())
            && let Some(container) = &self.container
            && let Ok(info) = self.engine.inspect(container).await
            && info.phase == ContainerPhase::Paused
        {
            self.step(Input::Paused).await?;
        }
        Ok(())
    }

    /// The counters vanish with the container: also read before everything that may end it.
    async fn sample(&mut self) -> Result<(), StoreError> {
        for warning in self.vitals.sample() {
            self.tell(warning).await?;
        }
        Ok(())
    }

    async fn on_container_end(&mut self, ended: Result<ExitInfo, EngineError>, end: Instant) -> Result<(), StoreError> {
        match ended {
            Err(error) if error.engine_away() => {
                self.step(Input::EngineLost(&error.to_string())).await?;
            }
            outcome => {
                let exit = outcome.ok();
                let facts = self.vitals.exit_facts(exit.as_ref(), end, self.ipc.path());
                // An engine that shuts down stops its containers first, one that starts anew ends those of its predecessor:
                // then the engine is what was lost. Whoever asked us for the end is the reason for it, however the engine is.
                let with_engine = exit.is_some_and(|exit| facts::ended_with_engine(&exit, booted_at()));
                let asked = self.machine.was_asked_to_end();
                if !asked && facts::stopped_from_outside(&facts) && (with_engine || self.engine_goes().await) {
                    self.step(Input::EngineLost("the engine was stopped while the session ran")).await?;
                } else {
                    self.step(Input::Exited(&facts)).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether the engine goes away now. One that shuts down still answers while it stops its containers.
    async fn engine_goes(&self) -> bool {
        let until = Instant::now() + ENGINE_GOES;
        loop {
            if self.engine.detect().await.is_err_and(|error| error.engine_away()) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(ENGINE_LOOK).await;
        }
    }

    async fn on_notice(&mut self, notice: Notice) -> Result<(), StoreError> {
        match self.notices.event(&notice.kind) {
            Some(event) => self.tell(event).await,
            None => Ok(()),
        }
    }

    /// Feeds the machine and carries out what follows.
    async fn step(&mut self, input: Input<'_>) -> Result<(), StoreError> {
        let now = self.now();
        self.advance(|machine| machine.step(now, input)).await
    }

    async fn advance(&mut self, step: impl FnOnce(&mut Machine) -> Vec<Effect>) -> Result<(), StoreError> {
        let (before, was_kept) = (self.machine.status(), self.machine.is_kept());
        let effects = step(&mut self.machine);
        for effect in effects {
            self.carry_out(effect).await?;
        }
        let after = self.machine.status();
        if after != before && !after.is_terminal() {
            self.ledger.set_status(after).await?;
        }
        // Whoever goes on must not take it for idle, or for busy.
        if self.survives && !after.is_terminal() && self.machine.is_kept() != was_kept {
            self.keep_checkpoint().await?;
        }
        Ok(())
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<(), StoreError> {
        match effect {
            Effect::Tell(event) => self.tell(event).await,
            Effect::SendNotice(text) => {
                let body = ClippedText::new(text, MAX_TEXT_BYTES);
                let message = Message { text: text.to_owned(), ..Message::default() };
                match self.outbox.send(NOTICE_ID.parse().ok(), Mail::Message(message)) {
                    Ok(_) => {
                        let sender = Some("aigo".to_owned());
                        self.tell(HostEvent::InputSent { id: NOTICE_ID.into(), body, sender }).await
                    }
                    Err(error) => self.warn("notice_failed", chain(&error)).await,
                }
            }
            Effect::SendInterrupt => match self.outbox.send(None, Mail::Interrupt {}) {
                Ok(_) => Ok(()),
                Err(error) => self.warn("interrupt_failed", chain(&error)).await,
            },
            Effect::WriteClose => match self.outbox.close() {
                Ok(()) => Ok(()),
                // The ladder goes on by itself; without one, SIGTERM is what is left.
                Err(error) => {
                    self.warn("close_failed", chain(&error)).await?;
                    self.signal(Signal::SIGTERM).await
                }
            },
            Effect::Term => self.signal(Signal::SIGTERM).await,
            Effect::Kill => self.signal(Signal::SIGKILL).await,
            Effect::Finish(ending) => {
                self.ending = Some(ending);
                Ok(())
            }
        }
    }

    async fn signal(&mut self, signal: Signal) -> Result<(), StoreError> {
        let Some(container) = self.container.clone() else { return Ok(()) };
        self.sample().await?;
        let outcome = match signal {
            Signal::SIGKILL => self.engine.kill(&container).await,
            other => self.engine.signal(&container, other).await,
        };
        match outcome {
            Ok(()) | Err(EngineError::NotRunning { .. } | EngineError::NotFound { .. }) => Ok(()),
            Err(error) => self.warn("signal_failed", error.to_string()).await,
        }
    }

    async fn warn(&mut self, code: &str, message: String) -> Result<(), StoreError> {
        self.tell(HostEvent::HostWarning { code: code.into(), message }).await
    }
}

/// The statuses that a session passes before its end.
pub const FIRST_STATUS: Status = Status::Provisioning;
