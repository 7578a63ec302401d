//! The session driver: one task that owns the agent's process, pipes, the inputs and the journal.
//!
//! ```text
//!          `_close`              inputs all taken
//!   Open ───────────► Closing ───────────────────► Eof (stdin closed; the agent finishes what it has)
//!    │                   │                          │
//!    ├───── SIGTERM ─────┴──────────┬───────────────┤
//!    │                              ▼               │
//!    │            Terminating (SIGTERM to the group, term_grace)
//!    │                              │ grace over, or a second signal
//!    │                              ▼
//!    │                            Killed (SIGKILL to the group)
//!    │                              │
//!    └── the agent's process ends ──┴──────► drained, reported: `agent_exited`, `runner_exiting`   (terminal)
//! ```
//!
//! Back-pressure: while the host has too many unread segments, or the agent does not take our replies, its output is
//! not read; inputs, `_close`, signals and deadlines go on.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::config::RunnerConfig;
use ipc_protocol::event::{ClosingReason, EventKind, OutputStream};
use ipc_protocol::exit::RunnerExit;
use ipc_protocol::input::Input as Request;
use ipc_protocol::limits::MAX_TEXT_BYTES;
use ipc_protocol::status::RunnerState;
use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::select;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::adapter::{Adapter, Heard, Interrupt, output};
use crate::agent::{Agent, exited};
use crate::inputs::{Inputs, Pending};
use crate::lines::{Line, LineSplitter};
use crate::outbox::{Outbox, Sent};
use crate::record::{Record, RecordError};
use crate::signals::Signals;

/// Time for the agent to answer an interrupt; then it gets SIGINT.
pub const INTERRUPT_DEADLINE: Duration = Duration::from_secs(5);

/// Time between two looks whether the host has caught up.
const ROOM_LOOK: Duration = Duration::from_millis(20);

/// Without other news the driver looks at everything this often.
const IDLE_LOOK: Duration = Duration::from_secs(60);

/// After the agent's end its pipes are read until they are closed or nothing comes for this long: processes that it has
/// left behind may hold them open.
const DRAIN_IDLE: Duration = Duration::from_millis(200);

/// The most time and bytes for that. A pipe holds 64 KiB (pipe(7)); the rest is for what is left behind.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);
const DRAIN_BYTES: usize = 4 * 1024 * 1024;

/// Bytes read at once from one pipe.
const READ_BYTES: usize = 16 * 1024;

/// Where the session is; see the drawing above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Closing,
    Eof,
    Terminating { kill_at: Instant },
    Killed,
}

/// What the driver woke up for.
enum Happened {
    Signal,
    Exited(io::Result<ExitStatus>),
    Announced,
    Written(io::Result<()>),
    Read(OutputStream, io::Result<usize>),
    Time,
}

/// A running session.
pub(crate) struct Session<'a> {
    adapter: Box<dyn Adapter>,
    agent: Agent,
    record: &'a mut Record,
    inputs: Inputs,
    outbox: Outbox,
    announced: Arc<Notify>,
    stdout: LineSplitter,
    stderr: LineSplitter,
    stage: Stage,
    term_grace: Duration,
    /// When to look into `input/` again unannounced.
    look_at: Option<Instant>,
    /// When an interrupt counts as unanswered.
    interrupt_by: Option<Instant>,
}

impl<'a> Session<'a> {
    /// A session with a started agent; `announced` is notified when the host may have sent something.
    pub(crate) fn new(
        config: &RunnerConfig,
        adapter: Box<dyn Adapter>,
        agent: Agent,
        inputs: Inputs,
        announced: Arc<Notify>,
        record: &'a mut Record,
    ) -> Self {
        let stdout = LineSplitter::new(adapter.line_limit());
        Self {
            adapter,
            agent,
            record,
            inputs,
            outbox: Outbox::default(),
            announced,
            stdout,
            stderr: LineSplitter::new(MAX_TEXT_BYTES),
            stage: Stage::Open,
            term_grace: Duration::from_millis(config.term_grace_ms),
            look_at: Some(Instant::now()),
            interrupt_by: None,
        }
    }

    /// Drives it to its end. An error means that the journal cannot be written; the agent is killed then.
    pub(crate) async fn run(mut self, signals: &mut Signals) -> Result<RunnerExit, RecordError> {
        let result = self.drive(signals).await;
        if result.is_err() {
            self.agent.signal(Signal::SIGKILL);
        }
        result
    }

    async fn drive(&mut self, signals: &mut Signals) -> Result<RunnerExit, RecordError> {
        let (mut out, mut err) = (vec![0; READ_BYTES], vec![0; READ_BYTES]);
        let status = loop {
            self.advance()?;
            match self.happen(signals, &mut out, &mut err).await {
                Happened::Signal => self.terminate()?,
                Happened::Exited(status) => break status,
                Happened::Announced => self.look()?,
                Happened::Written(result) => self.written(result)?,
                Happened::Read(stream, result) => {
                    let buffer = match stream {
                        OutputStream::Stdout => &out,
                        OutputStream::Stderr => &err,
                    };
                    self.heard(stream, buffer, result)?;
                }
                Happened::Time => self.deadlines()?,
            }
        };
        self.finish(status, &mut out).await
    }

    async fn happen(&mut self, signals: &mut Signals, out: &mut [u8], err: &mut [u8]) -> Happened {
        let may_read = self.record.has_room() && self.outbox.has_room();
        let wake_at = self.next_deadline(may_read);
        let Self { agent: Agent { child, stdin, stdout, stderr, .. }, outbox, announced, .. } = self;
        let has_output = !outbox.is_empty() && stdin.is_some();
        select! {
            () = signals.next() => Happened::Signal,
            status = child.wait() => Happened::Exited(status),
            () = announced.notified() => Happened::Announced,
            result = write(outbox, stdin), if has_output => Happened::Written(result),
            result = read(stdout, out), if may_read && stdout.is_some() => Happened::Read(OutputStream::Stdout, result),
            result = read(stderr, err), if may_read && stderr.is_some() => Happened::Read(OutputStream::Stderr, result),
            () = sleep_until(wake_at) => Happened::Time,
        }
    }

    fn next_deadline(&self, may_read: bool) -> Instant {
        let now = Instant::now();
        let kill_at = match self.stage {
            Stage::Terminating { kill_at } => Some(kill_at),
            Stage::Open | Stage::Closing | Stage::Eof | Stage::Killed => None,
        };
        let room_at = (!may_read).then(|| now + ROOM_LOOK);
        let deadlines = [self.look_at, self.interrupt_by, kill_at, room_at];
        deadlines.into_iter().flatten().min().unwrap_or(now + IDLE_LOOK)
    }

    fn deadlines(&mut self) -> Result<(), RecordError> {
        let now = Instant::now();
        if let Stage::Terminating { kill_at } = self.stage
            && kill_at <= now
        {
            self.kill();
        }
        if self.interrupt_by.is_some_and(|by| by <= now) {
            self.interrupt_by = None;
            self.record.warn(
                "interrupt_unanswered",
                format!(
                    "the agent has not answered the interrupt within {} s; it gets SIGINT, which may end it",
                    INTERRUPT_DEADLINE.as_secs()
                ),
            )?;
            self.agent.signal(Signal::SIGINT);
            if let Some(pending) = self.inputs.take_interrupt() {
                self.inputs.accept(pending, self.record)?;
            }
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look()?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), RecordError> {
        self.look_at = match self.stage {
            Stage::Open | Stage::Closing => self.inputs.look(self.record)?.map(|after| Instant::now() + after),
            Stage::Eof | Stage::Terminating { .. } | Stage::Killed => None,
        };
        Ok(())
    }

    /// Gives the agent what it can take, and closes its stdin after the last input.
    fn advance(&mut self) -> Result<(), RecordError> {
        match self.stage {
            Stage::Open | Stage::Closing => {}
            Stage::Eof | Stage::Terminating { .. } | Stage::Killed => return Ok(()),
        }
        if self.stage == Stage::Open && self.inputs.close_seen() {
            self.stage = Stage::Closing;
            self.record.set_state(RunnerState::Closing);
            self.record.add(EventKind::Closing { reason: ClosingReason::Close })?;
        }
        while !self.outbox.has_input() {
            let Some(pending) = self.inputs.next() else { break };
            self.give(pending)?;
            if !self.inputs.close_seen() {
                // Room in the queue may let more in.
                self.announced.notify_one();
            }
        }
        if self.outbox.has_input() && self.inputs.has_interrupt() && self.interrupt_by.is_none() {
            self.interrupt_by = Some(Instant::now() + INTERRUPT_DEADLINE);
        }
        if self.stage == Stage::Closing && self.inputs.is_exhausted() && self.outbox.is_empty() {
            self.stage = Stage::Eof;
            self.agent.stdin = None;
        }
        if self.stage == Stage::Open {
            self.record.set_state(if self.adapter.busy() { RunnerState::Busy } else { RunnerState::Idle });
        }
        Ok(())
    }

    fn give(&mut self, pending: Pending) -> Result<(), RecordError> {
        match &pending.request {
            Request::Message(_) if self.agent.stdin.is_none() => {
                self.inputs.drop(pending, "the agent has closed its input", self.record)
            }
            Request::Message(message) => {
                let line = self.adapter.message(&pending.id, message);
                self.outbox.push(line, Sent::Input(pending));
                Ok(())
            }
            Request::Interrupt {} => match self.adapter.interrupt() {
                Interrupt::Line(line) if self.agent.stdin.is_some() => {
                    self.interrupt_by = Some(Instant::now() + INTERRUPT_DEADLINE);
                    self.outbox.push(line, Sent::Input(pending));
                    Ok(())
                }
                Interrupt::Line(_) | Interrupt::Signal => {
                    self.agent.signal(Signal::SIGINT);
                    self.inputs.accept(pending, self.record)
                }
            },
        }
    }

    fn written(&mut self, result: io::Result<()>) -> Result<(), RecordError> {
        if result.is_err() {
            // EPIPE: the agent has closed its input, or is about to end.
            self.agent.stdin = None;
            for pending in self.outbox.give_up() {
                self.inputs.drop(pending, "the agent has closed its input", self.record)?;
            }
            return Ok(());
        }
        while let Some(sent) = self.outbox.pop_written() {
            let Sent::Input(pending) = sent else { continue };
            let events = match &pending.request {
                Request::Message(_) => self.adapter.taken(&pending.id),
                Request::Interrupt {} => Vec::new(),
            };
            self.inputs.accept(pending, self.record)?;
            self.record.add_all(events)?;
        }
        Ok(())
    }

    fn heard(&mut self, stream: OutputStream, buffer: &[u8], result: io::Result<usize>) -> Result<(), RecordError> {
        let (splitter, pipe_is_open) = match stream {
            OutputStream::Stdout => (&mut self.stdout, self.agent.stdout.is_some()),
            OutputStream::Stderr => (&mut self.stderr, self.agent.stderr.is_some()),
        };
        // A pipe that cannot be read is as good as closed.
        let count = result.unwrap_or(0);
        splitter.feed(&buffer[..count]);
        while let Some(line) = self.splitter(stream).next_line() {
            self.line(stream, line)?;
        }
        if count == 0 && pipe_is_open {
            if let Some(line) = self.splitter(stream).finish() {
                self.line(stream, line)?;
            }
            match stream {
                OutputStream::Stdout => self.agent.stdout = None,
                OutputStream::Stderr => self.agent.stderr = None,
            }
        }
        Ok(())
    }

    fn splitter(&mut self, stream: OutputStream) -> &mut LineSplitter {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    fn line(&mut self, stream: OutputStream, line: Line) -> Result<(), RecordError> {
        match stream {
            OutputStream::Stderr => self.record.add(output(OutputStream::Stderr, &line)),
            OutputStream::Stdout => {
                let Heard { events, replies, interrupt_answered } = self.adapter.line(line);
                if interrupt_answered {
                    self.interrupt_by = None;
                }
                if self.agent.stdin.is_some() {
                    replies.into_iter().for_each(|reply| self.outbox.push(reply, Sent::Reply));
                }
                self.record.add_all(events)
            }
        }
    }

    /// A signal from outside: end now.
    fn terminate(&mut self) -> Result<(), RecordError> {
        match self.stage {
            Stage::Open | Stage::Closing | Stage::Eof => {
                self.record.set_state(RunnerState::Closing);
                self.record.add(EventKind::Closing { reason: ClosingReason::Signal })?;
                self.interrupt_by = None;
                self.stage = Stage::Terminating { kill_at: Instant::now() + self.term_grace };
                self.agent.signal(Signal::SIGTERM);
                // A stopped process (SIGSTOP) would not notice.
                self.agent.signal(Signal::SIGCONT);
            }
            Stage::Terminating { .. } => self.kill(),
            Stage::Killed => {}
        }
        Ok(())
    }

    fn kill(&mut self) {
        self.stage = Stage::Killed;
        self.agent.signal(Signal::SIGKILL);
    }

    /// The agent's process has ended: read what is left, tell what became of everything.
    async fn finish(&mut self, status: io::Result<ExitStatus>, buffer: &mut [u8]) -> Result<RunnerExit, RecordError> {
        self.record.set_state(RunnerState::Exiting);
        self.drain(buffer).await?;
        if self.stage == Stage::Open {
            self.record.add(EventKind::Closing { reason: ClosingReason::AgentExit })?;
        }
        let unanswered = self.adapter.unanswered();
        let all_answered = unanswered.is_empty();
        for id in unanswered {
            let reason = "the agent ended before it had answered it".to_owned();
            self.record.add(EventKind::InputDropped { id: id.into(), reason })?;
        }
        for pending in self.outbox.give_up() {
            self.inputs.drop(pending, "the agent ended before it had read it", self.record)?;
        }
        self.inputs.drop_rest("the agent has ended", self.record)?;
        let exit = match &status {
            Ok(status) => {
                self.record.add(exited(*status))?;
                self.verdict(*status, all_answered)
            }
            Err(error) => {
                self.record.warn("agent_lost", format!("cannot wait for the agent's process: {error}"))?;
                RunnerExit::Internal
            }
        };
        Ok(exit)
    }

    fn verdict(&self, status: ExitStatus, all_answered: bool) -> RunnerExit {
        match self.stage {
            Stage::Terminating { .. } | Stage::Killed => RunnerExit::Terminated,
            Stage::Open | Stage::Closing | Stage::Eof => match status.code() {
                None => RunnerExit::AgentSignalled,
                Some(code) if all_answered && self.adapter.is_good_end(code) => RunnerExit::Done,
                Some(_) => RunnerExit::AgentFailed,
            },
        }
    }

    async fn drain(&mut self, buffer: &mut [u8]) -> Result<(), RecordError> {
        let deadline = Instant::now() + DRAIN_DEADLINE;
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            let mut bytes = 0;
            while bytes < DRAIN_BYTES && Instant::now() < deadline {
                let Agent { stdout, stderr, .. } = &mut self.agent;
                let read = async {
                    match stream {
                        OutputStream::Stdout => read(stdout, buffer).await,
                        OutputStream::Stderr => read(stderr, buffer).await,
                    }
                };
                let Ok(result) = timeout(DRAIN_IDLE, read).await else { break };
                let count = *result.as_ref().unwrap_or(&0);
                bytes += count;
                self.heard(stream, buffer, result)?;
                if count == 0 {
                    break;
                }
            }
            if let Some(line) = self.splitter(stream).finish() {
                self.line(stream, line)?;
            }
        }
        Ok(())
    }
}

/// Reads a piece; a pipe that is closed already has nothing.
async fn read(pipe: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => Ok(0),
    }
}

async fn write(outbox: &mut Outbox, stdin: &mut Option<tokio::process::ChildStdin>) -> io::Result<()> {
    match stdin {
        Some(stdin) => outbox.write(stdin).await,
        None => Ok(()),
    }
}
