//! The host's end of the journal, where every byte is an attacker's.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, fstat};
use serde::{Deserialize, Serialize};

use super::recover::segments;
use super::segment::Segment;
use crate::dir::{DirError, FileId, Folder, FolderState, Refused};
use crate::event::{Event, InvalidEvent};
use crate::limits::{MAX_LINE_BYTES, MAX_READ_BYTES, RESCAN};

/// How far the journal was read. To be stored in the same transaction as the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The segment that the last event read is in.
    pub segment: Segment,
    /// Bytes of it that were read; always at a line end.
    pub offset: u64,
    /// The last event's number; 0 before the first.
    pub seq: u64,
}

impl Cursor {
    /// Before the first event.
    pub const START: Self = Self { segment: Segment::FIRST, offset: 0, seq: 0 };
}

/// What one read has brought.
#[derive(Debug)]
pub struct Batch {
    /// Complete events in order, without gap or duplicate from the cursor before.
    pub events: Vec<Event>,
    /// The cursor after them.
    pub cursor: Cursor,
    /// Bytes of the lines that they were.
    pub bytes: u64,
    /// More is waiting: read again after this time, also if no file event comes.
    pub again_in: Option<Duration>,
    /// The journal broke its own rules after these events; nothing more is read from it.
    pub fault: Option<Fault>,
}

/// How a journal broke its rules. A runner of ours does none of this, so somebody has tampered with the files.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The folder `events` is another one, or none.
    #[error("the journal's folder was replaced or removed in the container")]
    FolderReplaced,
    /// The folder cannot be used.
    #[error("cannot use the journal's folder")]
    Dir(#[from] DirError),
    /// A segment is no plain file that we can read.
    #[error("journal segment {segment} {refused}")]
    Refused {
        /// Which.
        segment: Segment,
        /// Why not.
        refused: Refused,
    },
    /// A segment that is not consumed yet is gone.
    #[error("journal segment {0} is gone")]
    Missing(Segment),
    /// Another file has taken its name.
    #[error("journal segment {0} was replaced by another file")]
    Replaced(Segment),
    /// It is shorter than what was read of it.
    #[error("journal segment {segment} was cut to {len} bytes, {offset} were read already")]
    Truncated {
        /// Which.
        segment: Segment,
        /// Its size now.
        len: u64,
        /// What was read.
        offset: u64,
    },
    /// The next segment has begun, but this one does not end with a line end, or is empty.
    #[error("journal segment {0} is not finished, but the next one has begun")]
    Unfinished(Segment),
    /// A line beyond [`MAX_LINE_BYTES`].
    #[error("journal segment {0} has a line of more than {MAX_LINE_BYTES} bytes")]
    LineTooLong(Segment),
    /// A line that is no event.
    #[error("journal segment {segment} at byte {offset}: {error}")]
    Line {
        /// Which.
        segment: Segment,
        /// Where the line begins.
        offset: u64,
        /// What is wrong with it.
        error: InvalidEvent,
    },
    /// An event that is not the next one.
    #[error("journal segment {segment}: event {found} where {expected} was due")]
    Sequence {
        /// Which.
        segment: Segment,
        /// The number due.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// The system failed to read.
    #[error("cannot read journal segment {segment}: {errno}")]
    Read {
        /// Which.
        segment: Segment,
        /// Why not.
        errno: Errno,
    },
    /// Reported before; the journal stays closed.
    #[error("the journal is not read any more after an earlier fault")]
    Closed,
}

impl Fault {
    /// Whether the system, and not the content, is what failed: rights that are just being given, a disk that answers late, an
    /// older runner that widens the mode of a file after it has made that.
    fn may_pass(&self) -> bool {
        match self {
            Self::Dir(error) => error.errno().is_some(),
            Self::Refused { refused: Refused::Unreadable { .. }, .. } | Self::Read { .. } => true,
            Self::FolderReplaced
            | Self::Refused { .. }
            | Self::Missing(_)
            | Self::Replaced(_)
            | Self::Truncated { .. }
            | Self::Unfinished(_)
            | Self::LineTooLong(_)
            | Self::Line { .. }
            | Self::Sequence { .. }
            | Self::Closed => false,
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Dir(error) => error.is_transient(),
            Self::Refused { refused, .. } => refused.is_transient(),
            Self::Read { errno, .. } => *errno == Errno::EINTR || *errno == Errno::ENOMEM,
            Self::FolderReplaced
            | Self::Missing(_)
            | Self::Replaced(_)
            | Self::Truncated { .. }
            | Self::Unfinished(_)
            | Self::LineTooLong(_)
            | Self::Line { .. }
            | Self::Sequence { .. }
            | Self::Closed => false,
        }
    }
}

/// How long a fault that may pass is waited for, and the pause between two looks meanwhile.
const FAULT_GRACE: Duration = Duration::from_secs(2);
const FAULT_PAUSE: Duration = Duration::from_millis(20);

/// An incomplete line longer than this is not read again at once: a writer that lets it grow byte by byte would make us
/// read all of it each time.
const LONG_TAIL_BYTES: usize = 64 * 1024;
/// How long it is left alone.
const TAIL_PAUSE: Duration = Duration::from_millis(20);

/// Reads events. Allocates at most [`MAX_READ_BYTES`] or [`MAX_LINE_BYTES`], and what the events in them take.
#[derive(Debug)]
pub struct Reader {
    folder: Folder,
    /// After the last event.
    cursor: Cursor,
    /// Where the next line begins: at the cursor, or at the start of the segment after it.
    segment: Segment,
    offset: u64,
    open: Option<Open>,
    not_before: Option<Instant>,
    pruned_below: Segment,
    /// Since when every read has failed.
    failing_since: Option<Instant>,
    closed: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: FileId,
}

impl Reader {
    /// Goes on after `cursor` in the folder `events`.
    pub fn new(folder: Folder, cursor: Cursor) -> Self {
        Self {
            folder,
            cursor,
            segment: cursor.segment,
            offset: cursor.offset,
            open: None,
            not_before: None,
            pruned_below: Segment::FIRST,
            failing_since: None,
            closed: false,
        }
    }

    /// Where it is: after the last event that was returned.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Reads what is there: never blocks, at most [`MAX_READ_BYTES`] (or one line).
    ///
    /// The caller stores the events and the cursor in one transaction, then calls [`Reader::prune`].
    pub fn read(&mut self) -> Batch {
        let mut batch = Batch { events: Vec::new(), cursor: self.cursor, bytes: 0, again_in: None, fault: None };
        if self.closed {
            batch.fault = Some(Fault::Closed);
            return batch;
        }
        let now = Instant::now();
        if let Some(wait) = self.not_before.and_then(|at| at.checked_duration_since(now)).filter(|wait| !wait.is_zero())
        {
            batch.again_in = Some(wait);
            return batch;
        }
        match self.fill(now, &mut batch) {
            Ok(again_in) => {
                self.failing_since = None;
                batch.again_in = again_in;
            }
            // Nobody's fault but ours: everything stays as it was.
            Err(fault) if fault.is_transient() => batch.again_in = Some(RESCAN),
            Err(fault) if fault.may_pass() && self.waits_for(now) => batch.again_in = Some(FAULT_PAUSE),
            Err(fault) => {
                self.closed = true;
                self.open = None;
                batch.fault = Some(fault);
            }
        }
        batch.cursor = self.cursor;
        batch
    }

    /// Whether a fault that may pass is young enough to be waited for.
    fn waits_for(&mut self, now: Instant) -> bool {
        now.saturating_duration_since(*self.failing_since.get_or_insert(now)) < FAULT_GRACE
    }

    fn fill(&mut self, now: Instant, batch: &mut Batch) -> Result<Option<Duration>, Fault> {
        self.not_before = None;
        match self.folder.refresh() {
            FolderState::Current => {}
            FolderState::Lost(error) if error.is_transient() => return Err(Fault::Dir(error)),
            FolderState::Replaced | FolderState::Lost(_) => return Err(Fault::FolderReplaced),
        }
        let segment = self.segment;
        // Looked up before reading to the end: once the next segment is there, this one does not grow any more.
        let next = match segment.next() {
            Some(next) if self.id_of(next)?.is_some() => Some(next),
            Some(_) | None => None,
        };
        let Some(bytes) = self.read_bytes(segment, next.is_some())? else { return Ok(None) };
        let mut rest = bytes.as_slice();
        while let Some(end) = rest.iter().position(|&b| b == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            self.take_line(segment, line, batch)?;
            rest = after;
        }
        // At the end of the file this is a torn tail: left for later, unless it can never become a line.
        if rest.len() >= MAX_LINE_BYTES {
            return Err(Fault::LineTooLong(segment));
        }
        let at_end = bytes.len() < window(rest.len() == bytes.len());
        if !at_end {
            return Ok(Some(Duration::ZERO));
        }
        if let Some(next) = next {
            if !rest.is_empty() || self.offset == 0 {
                return Err(Fault::Unfinished(segment));
            }
            (self.segment, self.offset, self.open) = (next, 0, None);
            return Ok(Some(Duration::ZERO));
        }
        if rest.len() > LONG_TAIL_BYTES {
            self.not_before = Some(now + TAIL_PAUSE);
            return Ok(Some(TAIL_PAUSE));
        }
        Ok(None)
    }

    fn take_line(&mut self, segment: Segment, line: &[u8], batch: &mut Batch) -> Result<(), Fault> {
        if line.len() > MAX_LINE_BYTES {
            return Err(Fault::LineTooLong(segment));
        }
        let event = Event::parse(line).map_err(|error| Fault::Line { segment, offset: self.offset, error })?;
        let expected = self.cursor.seq.wrapping_add(1);
        if event.seq != expected {
            return Err(Fault::Sequence { segment, expected, found: event.seq });
        }
        self.offset += line.len() as u64;
        self.cursor = Cursor { segment, offset: self.offset, seq: event.seq };
        batch.bytes += line.len() as u64;
        batch.events.push(event);
        Ok(())
    }

    /// What follows the last line taken: [`MAX_READ_BYTES`], or more if that is not even one line. `None` if the
    /// segment has not begun.
    fn read_bytes(&mut self, segment: Segment, finished: bool) -> Result<Option<Vec<u8>>, Fault> {
        if self.open.is_none() && !self.open_segment(segment)? {
            // Nothing of it was read: it is yet to come, if not the one after it is there already.
            return if self.offset == 0 && !finished { Ok(None) } else { Err(Fault::Missing(segment)) };
        }
        let Some(open) = &self.open else { return Ok(None) };
        match self.id_of(segment)? {
            Some(id) if id == open.id => {}
            Some(_) => return Err(Fault::Replaced(segment)),
            None => return Err(Fault::Missing(segment)),
        }
        let stat = fstat(&open.file).map_err(|errno| Fault::Read { segment, errno })?;
        if let Some(refused) = second_name(&stat) {
            return Err(Fault::Refused { segment, refused });
        }
        let len = u64::try_from(stat.st_size).unwrap_or(0);
        if len < self.offset {
            return Err(Fault::Truncated { segment, len, offset: self.offset });
        }
        // No more than is there: most looks find nothing, and a buffer costs as much as is put into it.
        let there = usize::try_from(len - self.offset).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        read_up_to(&open.file, self.offset, window(false).min(there), &mut bytes)
            .and_then(|()| {
                if bytes.contains(&b'\n') {
                    Ok(())
                } else {
                    read_up_to(&open.file, self.offset, window(true).min(there), &mut bytes)
                }
            })
            .map_err(|errno| Fault::Read { segment, errno })?;
        Ok(Some(bytes))
    }

    fn open_segment(&mut self, segment: Segment) -> Result<bool, Fault> {
        let Some(dir) = self.folder.dir() else { return Err(Fault::FolderReplaced) };
        let opened = dir.open_regular(&segment.file_name()).map_err(|refused| Fault::Refused { segment, refused })?;
        self.open = opened.map(|(file, stat)| Open { file, id: FileId::of(&stat) });
        Ok(self.open.is_some())
    }

    fn id_of(&self, segment: Segment) -> Result<Option<FileId>, Fault> {
        let dir = self.folder.dir().ok_or(Fault::FolderReplaced)?;
        Ok(dir.id_of(&segment.file_name())?)
    }

    /// Removes the segments before the one of `stored`, the cursor that the caller has stored. Cheap if there are none.
    /// A segment that cannot be removed is an error once; it then stays until the session's end.
    pub fn prune(&mut self, stored: Cursor) -> Result<(), DirError> {
        if stored.segment <= self.pruned_below {
            return Ok(());
        }
        self.pruned_below = stored.segment;
        let Some(dir) = self.folder.dir() else { return Ok(()) };
        let mut result = Ok(());
        for segment in segments(dir)? {
            if segment < stored.segment
                && let Err(error) = dir.remove(&segment.file_name())
            {
                result = Err(error);
            }
        }
        result
    }
}

/// How much is read: as a rule, or if that is not even one line.
fn window(one_line: bool) -> usize {
    if one_line { MAX_LINE_BYTES } else { MAX_READ_BYTES }
}

/// Fills `bytes` up to `limit` with what follows `offset`, as far as there is something.
fn read_up_to(file: &File, offset: u64, limit: usize, bytes: &mut Vec<u8>) -> Result<(), Errno> {
    let mut have = bytes.len();
    bytes.resize(limit, 0);
    while have < limit {
        match file.read_at(&mut bytes[have..], offset + have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
        }
    }
    bytes.truncate(have);
    Ok(())
}

fn second_name(stat: &FileStat) -> Option<Refused> {
    #[allow(clippy::useless_conversion, reason = "the width of st_nlink differs between targets")]
    let links = u64::from(stat.st_nlink);
    (links > 1).then_some(Refused::HardLink(links))
}
