//! Writing to a mailbox: the host's way into `input/`.
//!
//! ```text
//!  send ──► copy in `sent` ──► input/<name>.json ──► the runner ──► `input_accepted`, `input_dropped` ──► settle
//!                │                    │ removed by somebody else                              copy is removed
//!                └── repair ──────────┘ written again
//! ```
//! The container can remove anything in `input/`, so a copy is kept where it cannot reach until the runner has answered. The
//! runner drops what it has accepted already, so a file that is written once too often does no harm.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::dead_letter::unix_ms;
use super::parts::{TooLong, split};
use crate::dir::{DirError, Durability, Folder, FolderState, Owner, SafeDir, random_u64};
use crate::host::DIR_MODE;
use crate::id::MessageId;
use crate::input::{Input, InputFile};
use crate::limits::{MAX_LISTED_NAMES, MAX_MESSAGE_BYTES, MAX_PENDING_INPUTS};
use crate::name::{FileName, Namer};
use crate::paths::CLOSE_FILE;

/// Why an input was not sent. Nothing of it is in the mailbox then, or will be taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// `_close` is there.
    #[error("the session is closing and takes no more input; start a new one or resume this one")]
    Closed,
    /// The runner does not take what it has.
    #[error("{0} inputs wait already; the agent takes no input at the moment")]
    Backlog(usize),
    /// Too long for this way.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The file system refused.
    #[error("cannot write the session's input")]
    Dir(#[from] DirError),
    /// The message cannot be encoded.
    #[error("cannot encode the session's input")]
    Encode(#[from] serde_json::Error),
}

/// What was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The input's id: `input_accepted` or `input_dropped` with it is the answer.
    pub id: MessageId,
    /// Files written; several for a long text.
    pub files: usize,
}

/// The writing end of `input/`. One per session, so that order is that of the calls.
#[derive(Debug)]
pub struct Outbox {
    folder: Folder,
    sent: Arc<SafeDir>,
    owner: Option<Owner>,
    namer: Namer,
    closed: bool,
    close_heard: bool,
    /// Whether the runner takes a file that is written again only once; one of generation 1 does not.
    repairs: bool,
    /// Files that the runner has not answered yet.
    unsettled: BTreeMap<FileName, MessageId>,
}

/// Files that are missing in `input/`.
#[derive(Debug, Default)]
pub struct Missing {
    files: Vec<FileName>,
    close: bool,
}

impl Outbox {
    /// Writes to `folder`, and keeps copies in `sent`, from which files are written again if `repairs` says so. Goes on after what is there already, so that a restarted host keeps
    /// the order even if the clock stepped back.
    pub fn open(mut folder: Folder, sent: Arc<SafeDir>, owner: Option<Owner>, repairs: bool) -> Result<Self, DirError> {
        let mut namer = Namer::new(random_u64());
        let mut closed = sent.exists(OsStr::new(CLOSE_FILE))?;
        let mut unsettled = BTreeMap::new();
        for name in file_names(&sent)? {
            namer.continue_after(&name);
            // A copy is written whole or not at all, and only we write there.
            let Ok(Some(copy)) = sent.read(OsStr::new(&name.to_string()), MAX_MESSAGE_BYTES) else { continue };
            let file: Result<InputFile, _> = serde_json::from_slice(&copy.bytes);
            if let Some(id) = file.ok().and_then(|file| file.id) {
                unsettled.insert(name, id);
            }
        }
        match folder.refresh() {
            FolderState::Current | FolderState::Replaced => {
                let dir = folder.ensure(DIR_MODE, owner)?;
                closed |= dir.exists(OsStr::new(CLOSE_FILE))?;
                file_names(dir)?.iter().for_each(|name| namer.continue_after(name));
            }
            FolderState::Lost(_) => {}
        }
        Ok(Self { folder, sent, owner, namer, closed, close_heard: false, repairs, unsettled })
    }

    /// Puts an input in the mailbox; a long text in several files. Without an id it gets one.
    ///
    /// On an error nothing of it is left there: an unfinished long text is removed.
    pub fn send(&mut self, id: Option<MessageId>, input: Input) -> Result<Sent, SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        let inputs = match input {
            Input::Message(message) => split(message)?.into_iter().map(Input::Message).collect(),
            Input::Interrupt {} => vec![Input::Interrupt {}],
        };
        let dir = self.folder.ensure(DIR_MODE, self.owner)?;
        let (waiting, _) = dir.names(MAX_PENDING_INPUTS)?;
        let waiting = waiting.len().max(self.unsettled.len());
        if waiting >= MAX_PENDING_INPUTS {
            return Err(SendError::Backlog(waiting));
        }
        let mut id = id;
        let mut files: Vec<FileName> = Vec::new();
        for input in inputs {
            let name = self.namer.next(unix_ms());
            let file = InputFile { id: id.get_or_insert_with(|| name.id()).clone().into(), input };
            // The copy outlives us, and need not outlive the machine: neither does the container.
            let written = serde_json::to_vec(&file).map_err(SendError::from).and_then(|bytes| {
                let name = name.to_string();
                self.sent.replace(OsStr::new(&name), &bytes, Durability::Cached, None)?;
                Ok(dir.replace(OsStr::new(&name), &bytes, Durability::Synced, self.owner)?)
            });
            files.push(name);
            if let Err(error) = written {
                for name in files.iter().rev().map(FileName::to_string) {
                    // Best effort: what stays has no last part, so the runner reports it as dropped.
                    let _ = dir.remove(OsStr::new(&name));
                    let _ = self.sent.remove(OsStr::new(&name));
                }
                return Err(error);
            }
        }
        // There was at least one part, which gave the id if the caller did not.
        let id = id.unwrap_or_else(|| self.namer.next(unix_ms()).id());
        let sent = Sent { id: id.clone(), files: files.len() };
        self.unsettled.extend(files.into_iter().map(|name| (name, id.clone())));
        Ok(sent)
    }

    /// The runner has accepted or dropped the input `id`: its files are not written again.
    pub fn settle(&mut self, id: &str) {
        self.keep(|unsettled| unsettled.as_str() != id);
    }

    /// Settles every input for whose id `waits` says no.
    pub fn keep(&mut self, mut waits: impl FnMut(&MessageId) -> bool) {
        let sent = &self.sent;
        self.unsettled.retain(|name, id| {
            let keep = waits(id);
            if !keep {
                // A copy that stays is written again by the next process, and dropped by the runner.
                let _ = sent.remove(OsStr::new(&name.to_string()));
            }
            keep
        });
    }

    /// The runner has found `_close`.
    pub fn close_heard(&mut self) {
        self.close_heard = true;
    }

    /// Whether something is in the mailbox that the runner has to find there.
    pub fn is_owed(&self) -> bool {
        self.repairs && (self.owes_close() || !self.unsettled.is_empty())
    }

    fn owes_close(&self) -> bool {
        self.closed && !self.close_heard
    }

    /// What somebody has removed from `input/`. The runner removes what it has answered, too: what is missing *before* its answers
    /// are heard, and is not answered by them, was removed by somebody else.
    pub fn missing(&mut self) -> Result<Missing, DirError> {
        let mut missing = Missing::default();
        if !self.is_owed() {
            return Ok(missing);
        }
        let owes_close = self.owes_close();
        let dir = self.folder.ensure(DIR_MODE, self.owner)?;
        for name in self.unsettled.keys() {
            if !dir.exists(OsStr::new(&name.to_string()))? {
                missing.files.push(name.clone());
            }
        }
        missing.close = owes_close && !dir.exists(OsStr::new(CLOSE_FILE))?;
        Ok(missing)
    }

    /// Writes again what is missing and still not answered; how many files.
    pub fn repair(&mut self, missing: Missing) -> Result<usize, DirError> {
        let Missing { files, close } = missing;
        let close = close && self.owes_close();
        let files: Vec<FileName> = files.into_iter().filter(|name| self.unsettled.contains_key(name)).collect();
        if files.is_empty() && !close {
            return Ok(0);
        }
        let dir = self.folder.ensure(DIR_MODE, self.owner)?;
        let mut written = 0;
        for name in files.iter().map(FileName::to_string) {
            let name = OsStr::new(&name);
            // What cannot be read cannot be sent again; the session tells at its end that nobody has taken it.
            if let Ok(Some(copy)) = self.sent.read(name, MAX_MESSAGE_BYTES) {
                dir.replace(name, &copy.bytes, Durability::Cached, self.owner)?;
                written += 1;
            }
        }
        if close {
            dir.replace(OsStr::new(CLOSE_FILE), b"", Durability::Cached, self.owner)?;
            written += 1;
        }
        Ok(written)
    }

    /// Tells the runner to finish what is pending and to end. Everything sent before is taken or reported as dropped.
    pub fn close(&mut self) -> Result<(), DirError> {
        // `_close` must not overtake an input that somebody has removed. An error of this shows when `_close` is written.
        if let Ok(missing) = self.missing() {
            let _ = self.repair(missing);
        }
        self.closed = true;
        // Without a copy `_close` is only not written again.
        let _ = self.sent.replace(OsStr::new(CLOSE_FILE), b"", Durability::Cached, None);
        let dir = self.folder.ensure(DIR_MODE, self.owner)?;
        dir.replace(OsStr::new(CLOSE_FILE), b"", Durability::Synced, self.owner)
    }

    /// Whether input is refused from now on.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

/// The names of our form in a folder.
fn file_names(dir: &SafeDir) -> Result<Vec<FileName>, DirError> {
    let mut names = Vec::new();
    dir.each(MAX_LISTED_NAMES, |name, _| {
        names.extend(name.to_str().and_then(|name| name.parse::<FileName>().ok()));
        ControlFlow::Continue(())
    })?;
    Ok(names)
}
