//! What the host sends, in order, each input once.
//!
//! ```text
//!  input/*.json ─► scan ─► join parts ─► queue ─┬─ accept: `input_accepted` in the journal, then the files go
//!                   │         │                 └─ drop:   `input_dropped` in the journal, then the files go
//!                   └ refused ┴─ never whole ──────► drop
//! ```
//! A file goes only after its fate is in the journal, so a runner that dies in between sees it again; what an earlier
//! runner has accepted is known from the journal and removed without a word. A file that somebody has removed is written again
//! by the supervisor: what is held here already, or has been answered, is not taken a second time.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::time::Duration;

use ipc_protocol::event::EventKind;
use ipc_protocol::id::MessageId;
use ipc_protocol::input::Input as Request;
use ipc_protocol::limits::MAX_INPUT_TEXT_BYTES;
use ipc_protocol::mailbox::{Dropped, Joined, Joiner};
use ipc_protocol::runner::{Input, InputScan};

use crate::record::{Record, RecordError};

/// Answered ids that are remembered; when it is full the oldest are forgotten. The host's own ids hold the time, so
/// that a repetition comes soon or never.
const MAX_ANSWERED: usize = 4096;

/// An input that waits for its fate.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) id: MessageId,
    pub(crate) request: Request,
    files: Vec<OsString>,
}

/// The inputs.
#[derive(Debug)]
pub(crate) struct Inputs {
    folder: Input,
    joiner: Joiner,
    queue: VecDeque<Pending>,
    queued_bytes: usize,
    /// Files of inputs that wait, whole or in parts.
    held: HashSet<OsString>,
    /// Ids of whole inputs that have no answer yet.
    waiting: HashSet<MessageId>,
    answered: HashSet<MessageId>,
    order: VecDeque<MessageId>,
    close_seen: bool,
    /// Everything from before `_close` has been seen.
    drained: bool,
}

impl Inputs {
    /// `accepted` are ids that an earlier runner of the session has accepted.
    pub(crate) fn new(folder: Input, accepted: Vec<String>) -> Self {
        let mut inputs = Self {
            folder,
            joiner: Joiner::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            held: HashSet::new(),
            waiting: HashSet::new(),
            answered: HashSet::new(),
            order: VecDeque::new(),
            close_seen: false,
            drained: false,
        };
        accepted.into_iter().filter_map(|id| id.parse().ok()).for_each(|id| inputs.remember(id));
        inputs
    }

    /// Looks into the folder, unless enough is waiting already. Returns the time after which to look again even if
    /// nothing is announced.
    pub(crate) fn look(&mut self, record: &mut Record) -> Result<Option<Duration>, RecordError> {
        if self.queued_bytes >= MAX_INPUT_TEXT_BYTES || self.drained {
            return Ok(None);
        }
        let InputScan { scan, close } = self.folder.scan();
        for warning in scan.warnings {
            record.warn(warning.code(), warning.to_string())?;
        }
        for refused in scan.refused {
            let reason = refused.reason.to_string();
            record.add(EventKind::InputDropped { id: refused.id.to_string(), reason })?;
            // Its other parts are not an input.
            self.remember(refused.id);
            self.remove(&refused.name, record)?;
        }
        for item in scan.items {
            if self.answered.contains(&item.id) {
                self.remove(&item.name, record)?;
                continue;
            }
            if !self.held.insert(item.name.clone()) {
                continue;
            }
            match self.joiner.push(item) {
                Joined::Waiting => {}
                // A copy under another name, which an agent can make.
                Joined::Ready { id, files, .. } if self.waiting.contains(&id) => self.remove_all(&files, record)?,
                Joined::Ready { id, input, files } => self.enqueue(Pending { id, request: input, files }),
                Joined::Dropped(dropped) => self.never_whole(dropped, record)?,
            }
        }
        self.close_seen |= close;
        if self.close_seen && scan.again_in.is_none() {
            self.drained = true;
            for dropped in self.joiner.abandon() {
                self.never_whole(dropped, record)?;
            }
        }
        Ok(scan.again_in)
    }

    /// `_close` is there.
    pub(crate) fn close_seen(&self) -> bool {
        self.close_seen
    }

    /// `_close` is there, and every input from before it has left the queue.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.drained && self.queue.is_empty()
    }

    /// The next input. It must be given to [`Inputs::accept`] or [`Inputs::drop`].
    pub(crate) fn next(&mut self) -> Option<Pending> {
        let pending = self.queue.pop_front()?;
        self.queued_bytes -= size(&pending);
        Some(pending)
    }

    /// Whether an interrupt waits behind other inputs.
    pub(crate) fn has_interrupt(&self) -> bool {
        self.queue.iter().any(|pending| matches!(pending.request, Request::Interrupt {}))
    }

    /// Takes an interrupt out of its turn.
    pub(crate) fn take_interrupt(&mut self) -> Option<Pending> {
        let at = self.queue.iter().position(|pending| matches!(pending.request, Request::Interrupt {}))?;
        self.queue.remove(at)
    }

    /// The agent has taken it.
    pub(crate) fn accept(&mut self, pending: Pending, record: &mut Record) -> Result<(), RecordError> {
        record.add(EventKind::InputAccepted { id: pending.id.to_string() })?;
        self.remember(pending.id);
        self.remove_all(&pending.files, record)
    }

    /// The agent cannot take it.
    pub(crate) fn drop(&mut self, pending: Pending, reason: &str, record: &mut Record) -> Result<(), RecordError> {
        record.add(EventKind::InputDropped { id: pending.id.to_string(), reason: reason.to_owned() })?;
        self.remember(pending.id);
        self.remove_all(&pending.files, record)
    }

    /// At the end: nothing that is still there will be taken.
    pub(crate) fn drop_rest(&mut self, reason: &str, record: &mut Record) -> Result<(), RecordError> {
        // One look takes a bounded number of files; what is left after these looks came during them.
        const LOOKS: usize = 16;
        for _ in 0..LOOKS {
            self.drained = false;
            let again = self.look(record)?;
            while let Some(pending) = self.next() {
                self.drop(pending, reason, record)?;
            }
            if again.is_none() {
                break;
            }
        }
        for dropped in self.joiner.abandon() {
            self.never_whole(dropped, record)?;
        }
        Ok(())
    }

    fn enqueue(&mut self, pending: Pending) {
        self.queued_bytes += size(&pending);
        self.waiting.insert(pending.id.clone());
        self.queue.push_back(pending);
    }

    fn never_whole(&mut self, dropped: Dropped, record: &mut Record) -> Result<(), RecordError> {
        let Dropped { id, reason, files } = dropped;
        if let Some(reason) = reason {
            record.add(EventKind::InputDropped { id: id.to_string(), reason: reason.to_owned() })?;
            self.remember(id);
        }
        self.remove_all(&files, record)
    }

    fn remove_all(&mut self, files: &[OsString], record: &mut Record) -> Result<(), RecordError> {
        files.iter().try_for_each(|file| self.remove(file, record))
    }

    fn remove(&mut self, file: &OsString, record: &mut Record) -> Result<(), RecordError> {
        self.held.remove(file);
        match self.folder.remove(file) {
            Some(warning) => record.warn(warning.code(), warning.to_string()),
            None => Ok(()),
        }
    }

    fn remember(&mut self, id: MessageId) {
        self.waiting.remove(&id);
        if self.answered.insert(id.clone()) {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_ANSWERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.answered.remove(&oldest);
        }
    }
}

fn size(pending: &Pending) -> usize {
    match &pending.request {
        Request::Message(message) => message.text.len(),
        Request::Interrupt {} => 0,
    }
}
