//! Writing to a mailbox: the host's way into `input/`.

use std::ffi::OsStr;
use std::ops::ControlFlow;

use super::dead_letter::unix_ms;
use super::parts::{TooLong, split};
use crate::dir::{DirError, Durability, Folder, FolderState, Owner, random_u64};
use crate::host::DIR_MODE;
use crate::id::MessageId;
use crate::input::{Input, InputFile};
use crate::limits::{MAX_LISTED_NAMES, MAX_PENDING_INPUTS};
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
    owner: Option<Owner>,
    namer: Namer,
    closed: bool,
}

impl Outbox {
    /// Writes to `folder`. Goes on after what is there already, so that a restarted host keeps the order even if the
    /// clock stepped back.
    pub fn open(mut folder: Folder, owner: Option<Owner>) -> Result<Self, DirError> {
        let mut namer = Namer::new(random_u64());
        let mut closed = false;
        match folder.refresh() {
            FolderState::Current | FolderState::Replaced => {
                let dir = folder.ensure(DIR_MODE, owner)?;
                closed = dir.exists(OsStr::new(CLOSE_FILE))?;
                dir.each(MAX_LISTED_NAMES, |name, _| {
                    if let Some(name) = name.to_str().and_then(|name| name.parse::<FileName>().ok()) {
                        namer.continue_after(&name);
                    }
                    ControlFlow::Continue(())
                })?;
            }
            FolderState::Lost(_) => {}
        }
        Ok(Self { folder, owner, namer, closed })
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
        if waiting.len() >= MAX_PENDING_INPUTS {
            return Err(SendError::Backlog(waiting.len()));
        }
        let mut id = id;
        let mut files: Vec<String> = Vec::new();
        for input in inputs {
            let name = self.namer.next(unix_ms());
            let file = InputFile { id: id.get_or_insert_with(|| name.id()).clone().into(), input };
            let written = serde_json::to_vec(&file).map_err(SendError::from).and_then(|bytes| {
                let name = name.to_string();
                dir.replace(OsStr::new(&name), &bytes, Durability::Synced, self.owner)?;
                Ok(name)
            });
            match written {
                Ok(name) => files.push(name),
                Err(error) => {
                    for name in files.iter().rev() {
                        // Best effort: what stays has no last part, so the runner reports it as dropped.
                        let _ = dir.remove(OsStr::new(name));
                    }
                    return Err(error);
                }
            }
        }
        // There was at least one part, which gave the id if the caller did not.
        let id = id.unwrap_or_else(|| self.namer.next(unix_ms()).id());
        Ok(Sent { id, files: files.len() })
    }

    /// Tells the runner to finish what is pending and to end. Everything sent before is taken or reported as dropped.
    pub fn close(&mut self) -> Result<(), DirError> {
        self.closed = true;
        let dir = self.folder.ensure(DIR_MODE, self.owner)?;
        dir.replace(OsStr::new(CLOSE_FILE), b"", Durability::Synced, self.owner)
    }

    /// Whether input is refused from now on.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}
