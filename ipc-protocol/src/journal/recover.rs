//! Finding the end of a journal that an earlier runner of the same session has left.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::ops::ControlFlow;

use super::segment::Segment;
use crate::dir::{DirError, Refused, SafeDir};
use crate::event::{Event, EventKind};
use crate::limits::{MAX_LINE_BYTES, MAX_LISTED_NAMES};

/// Accepted inputs that are remembered; the oldest are forgotten. Only inputs whose files are still there matter, and
/// those were accepted last.
const MAX_ACCEPTED: usize = 4096;

/// What an earlier runner has left.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The last complete event's number; 0 if there is none.
    pub last_seq: u64,
    /// Bytes of a torn last line that were cut off.
    pub torn_bytes: u64,
    /// Inputs that were accepted, latest last, from the last two segments: their files may still be there, and must not
    /// be taken twice.
    pub accepted: Vec<String>,
}

/// Why a journal cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be used.
    #[error("cannot open the journal")]
    Dir(#[from] DirError),
    /// A segment is not a plain file that we can read.
    #[error("journal segment {segment} {refused}; remove it, or start the session anew")]
    Refused {
        /// Which.
        segment: Segment,
        /// Why not.
        refused: Refused,
    },
    /// A segment has something else than events.
    #[error("journal segment {segment} is damaged ({what}); start the session anew")]
    Damaged {
        /// Which.
        segment: Segment,
        /// How.
        what: &'static str,
    },
    /// Its torn last line cannot be cut off.
    #[error("cannot cut the incomplete last line off journal segment {segment}")]
    Cut {
        /// Which.
        segment: Segment,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// Reading failed.
    #[error("cannot read journal segment {segment}")]
    Read {
        /// Which.
        segment: Segment,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

/// Where the writer goes on.
#[derive(Debug)]
pub(super) struct End {
    pub(super) recovered: Recovered,
    pub(super) segment: Segment,
    /// Bytes of its complete lines.
    pub(super) len: u64,
}

/// All segments there are, sorted.
pub(super) fn segments(dir: &SafeDir) -> Result<Vec<Segment>, DirError> {
    let mut found = Vec::new();
    dir.each(MAX_LISTED_NAMES, |name: &OsStr, _| {
        found.extend(Segment::parse(name));
        ControlFlow::Continue(())
    })?;
    found.sort_unstable();
    Ok(found)
}

/// Reads the last two segments: the last may be new and still empty.
pub(super) fn find_end(dir: &SafeDir) -> Result<End, OpenError> {
    let segments = segments(dir)?;
    let mut accepted = VecDeque::new();
    let mut end = End { recovered: Recovered::default(), segment: Segment::FIRST, len: 0 };
    for &segment in segments.iter().rev().take(2).rev() {
        let Some((file, _)) =
            dir.open_regular(&segment.file_name()).map_err(|refused| OpenError::Refused { segment, refused })?
        else {
            continue;
        };
        let read = read_segment(segment, file, &mut end.recovered.last_seq, &mut accepted)?;
        end.segment = segment;
        end.len = read.complete;
        end.recovered.torn_bytes = read.torn;
    }
    end.recovered.accepted = accepted.into();
    Ok(end)
}

struct Read {
    complete: u64,
    torn: u64,
}

fn read_segment(
    segment: Segment,
    file: File,
    last_seq: &mut u64,
    accepted: &mut VecDeque<String>,
) -> Result<Read, OpenError> {
    let damaged = |what| OpenError::Damaged { segment, what };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut complete = 0;
    loop {
        line.clear();
        let limit = MAX_LINE_BYTES as u64 + 1;
        (&mut reader).take(limit).read_until(b'\n', &mut line).map_err(|error| OpenError::Read { segment, error })?;
        if line.last() != Some(&b'\n') {
            if line.len() > MAX_LINE_BYTES {
                return Err(damaged("a line is too long"));
            }
            return Ok(Read { complete, torn: line.len() as u64 });
        }
        complete += line.len() as u64;
        let event = Event::parse(&line).map_err(|_| damaged("a line is no event"))?;
        if *last_seq != 0 && event.seq != last_seq.wrapping_add(1) {
            return Err(damaged("the sequence has a gap"));
        }
        *last_seq = event.seq;
        if let EventKind::InputAccepted { id } = event.kind {
            if accepted.len() == MAX_ACCEPTED {
                accepted.pop_front();
            }
            accepted.push_back(id);
        }
    }
}
