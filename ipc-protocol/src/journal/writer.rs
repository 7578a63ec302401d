//! The runner's end of the journal.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};

use super::recover::{OpenError, Recovered, find_end, segments};
use super::segment::Segment;
use crate::clip::ClippedValue;
use crate::dir::{DirError, SafeDir};
use crate::event::{Event, EventKind};
use crate::limits::{MAX_LINE_BYTES, MAX_TEXT_BYTES, MAX_UNREAD_SEGMENTS, SEGMENT_BYTES};

/// Writes events. There must be one writer for a journal at a time.
#[derive(Debug)]
pub struct Writer {
    dir: SafeDir,
    segment_bytes: u64,
    segment: Segment,
    /// Open from the first event in the segment on, so that no empty segment stands behind a full one for long.
    file: Option<File>,
    /// Bytes of complete lines in the segment.
    len: u64,
    /// A failed write may have left a part of a line behind `len`.
    torn: bool,
    last_seq: u64,
    line: Vec<u8>,
}

/// Why an event was not written. Nothing of it is in the journal; the same event can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The next segment cannot be made.
    #[error("cannot begin the next journal segment")]
    Dir(#[from] DirError),
    /// Writing failed, for example since the disk is full.
    #[error("cannot write to journal segment {segment}")]
    Write {
        /// Which.
        segment: Segment,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The event cannot be encoded.
    #[error("cannot encode an event")]
    Encode(#[from] serde_json::Error),
    /// There are no more numbers.
    #[error("the journal has reached its last number; start the session anew")]
    Full,
}

impl Writer {
    /// Continues the journal in the folder `dir`, or begins it. A torn last line is cut off.
    pub fn open(dir: SafeDir) -> Result<(Self, Recovered), OpenError> {
        Self::open_sized(dir, SEGMENT_BYTES)
    }

    /// The same with another size of segments, in bytes.
    pub fn open_sized(dir: SafeDir, segment_bytes: u64) -> Result<(Self, Recovered), OpenError> {
        let end = find_end(&dir)?;
        let mut file = None;
        if end.recovered.torn_bytes > 0 {
            // At once: if the segment is full, nothing more is written to it, and it must end with a line end.
            let segment = end.segment;
            let opened = open_segment(&dir, segment).and_then(|opened| opened.set_len(end.len).map(|()| opened));
            file = Some(opened.map_err(|error| OpenError::Cut { segment, error })?);
        }
        let writer = Self {
            dir,
            segment_bytes,
            segment: end.segment,
            file,
            len: end.len,
            torn: false,
            last_seq: end.recovered.last_seq,
            line: Vec::new(),
        };
        Ok((writer, end.recovered))
    }

    /// Writes one event at time `at` (milliseconds since 1970-01-01 UTC). Returns its number.
    ///
    /// One write(2) to a file opened with `O_APPEND`. An event beyond [`MAX_LINE_BYTES`] is written as `raw`, cut.
    pub fn append(&mut self, at: u64, kind: EventKind) -> Result<u64, AppendError> {
        let seq = self.last_seq.checked_add(1).ok_or(AppendError::Full)?;
        let event = Event { seq, at, kind };
        self.encode(&event)?;
        if self.line.len() > MAX_LINE_BYTES {
            let value = serde_json::to_value(&event.kind)?;
            let body = ClippedValue::new(value, MAX_TEXT_BYTES);
            self.encode(&Event { seq, at, kind: EventKind::Raw { source: "journal:oversized".into(), body } })?;
        }
        if self.len >= self.segment_bytes {
            self.segment = self.segment.next().ok_or(AppendError::Full)?;
            self.file = None;
            self.len = 0;
        }
        self.write_line().map_err(|error| AppendError::Write { segment: self.segment, error })?;
        self.last_seq = seq;
        Ok(seq)
    }

    fn encode(&mut self, event: &Event) -> Result<(), serde_json::Error> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, event)?;
        self.line.push(b'\n');
        Ok(())
    }

    fn write_line(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open_segment(&self.dir, self.segment)?),
        };
        if self.torn {
            file.set_len(self.len)?;
            self.torn = false;
        }
        match file.write_all(&self.line) {
            Ok(()) => {
                self.len += self.line.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Nobody reads a line without its end, so the rest of it can be taken back.
                self.torn = file.set_len(self.len).is_err();
                Err(error)
            }
        }
    }

    /// Whether so many segments wait for the host that the agent must not be read any further. One readdir(3).
    pub fn is_backed_up(&self) -> Result<bool, DirError> {
        Ok(segments(&self.dir)?.len() >= MAX_UNREAD_SEGMENTS)
    }

    /// The segment in use. When it changes is the moment to ask [`Writer::is_backed_up`].
    pub fn segment(&self) -> Segment {
        self.segment
    }

    /// The number of the last event; 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

fn open_segment(dir: &SafeDir, segment: Segment) -> io::Result<File> {
    let name = segment.file_name();
    let name: &OsStr = &name;
    dir.append_to(name).map_err(|refused| io::Error::other(format!("{segment} {refused}")))
}
