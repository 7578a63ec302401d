//! What the host learns: the journal, and beside it the heartbeat in `status.json`.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use ipc_protocol::PROTOCOL_VERSION;
use ipc_protocol::event::EventKind;
use ipc_protocol::heartbeat::StatusWriter;
use ipc_protocol::journal::{AppendError, Segment, Writer};
use ipc_protocol::limits::HEARTBEAT;
use ipc_protocol::status::{RunnerState, Status};

/// The runner's version, as in `runner_started` and `status.json`.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why the host cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the journal")]
pub(crate) struct RecordError(#[from] AppendError);

/// The journal and the heartbeat.
#[derive(Debug)]
pub(crate) struct Record {
    journal: Writer,
    pulse: Arc<Pulse>,
    state: RunnerState,
    /// The segment at the last look whether the host has fallen behind.
    looked_at: Segment,
    backed_up: bool,
}

/// What the heartbeat thread reads.
#[derive(Debug)]
struct Pulse {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug)]
struct Now {
    state: RunnerState,
    last_seq: u64,
    segment: u32,
    /// The state has changed since the last beat.
    dirty: bool,
    stop: bool,
}

/// The heartbeat's thread; ends when dropped.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pulse: Arc<Pulse>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Pulse {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    /// Goes on with `journal`.
    pub(crate) fn new(journal: Writer) -> Self {
        let state = RunnerState::Starting;
        let (last_seq, looked_at) = (journal.last_seq(), journal.segment());
        let now = Now { state, last_seq, segment: looked_at.number(), dirty: true, stop: false };
        let pulse = Arc::new(Pulse { now: Mutex::new(now), changed: Condvar::new() });
        Self { journal, pulse, state, looked_at, backed_up: false }
    }

    /// Writes one event.
    pub(crate) fn add(&mut self, kind: EventKind) -> Result<(), RecordError> {
        let last_seq = self.journal.append(unix_ms(), kind)?;
        let mut now = self.pulse.lock();
        (now.last_seq, now.segment) = (last_seq, self.journal.segment().number());
        Ok(())
    }

    /// Writes events in order.
    pub(crate) fn add_all(&mut self, kinds: impl IntoIterator<Item = EventKind>) -> Result<(), RecordError> {
        kinds.into_iter().try_for_each(|kind| self.add(kind))
    }

    /// A sentence for people.
    pub(crate) fn warn(&mut self, code: &str, message: impl Into<String>) -> Result<(), RecordError> {
        self.add(EventKind::Warning { code: code.to_owned(), message: message.into() })
    }

    /// Sets the state in `status.json`; a change is written at once.
    pub(crate) fn set_state(&mut self, state: RunnerState) {
        if self.state != state {
            self.state = state;
            let mut now = self.pulse.lock();
            (now.state, now.dirty) = (state, true);
            drop(now);
            self.pulse.changed.notify_one();
        }
    }

    /// Whether the host keeps up, so that the agent may be read on. Looks when a segment has begun, and while it does not.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.backed_up || self.looked_at != self.journal.segment() {
            self.looked_at = self.journal.segment();
            // A folder that cannot be listed shows at the next write; it must not stop the session for ever.
            self.backed_up = self.journal.is_backed_up().unwrap_or(false);
        }
        !self.backed_up
    }

    /// Starts the heartbeat's thread.
    pub(crate) fn start_heartbeat(&self, status: StatusWriter) -> std::io::Result<Heartbeat> {
        let pulse = Arc::clone(&self.pulse);
        let thread = thread::Builder::new().name("heartbeat".into()).spawn({
            let pulse = Arc::clone(&pulse);
            move || beat(&pulse, &status)
        })?;
        Ok(Heartbeat { pulse, thread: Some(thread) })
    }
}

fn beat(pulse: &Pulse, status: &StatusWriter) {
    loop {
        let now = {
            let now = pulse.lock();
            let idle = |now: &mut Now| !now.dirty && !now.stop;
            let waited = pulse.changed.wait_timeout_while(now, HEARTBEAT, idle);
            let mut now = waited.unwrap_or_else(PoisonError::into_inner).0;
            now.dirty = false;
            *now
        };
        let Now { state, last_seq, segment, dirty: _, stop } = now;
        let runner_version = VERSION.to_owned();
        let status_now = Status { version: PROTOCOL_VERSION, runner_version, state, at: unix_ms(), last_seq, segment };
        // A heartbeat that cannot be written is noticed by its absence.
        let _ = status.write(&status_now);
        if stop {
            return;
        }
    }
}

impl Drop for Heartbeat {
    /// The last beat tells the final state.
    fn drop(&mut self) {
        self.pulse.lock().stop = true;
        self.pulse.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It ends within one write; a panic of its own has been reported.
            let _ = thread.join();
        }
    }
}

/// Milliseconds since 1970-01-01 UTC; 0 for a clock before that.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
