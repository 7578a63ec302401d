//! The supervisor's face of the IPC directory.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::dir::{DirError, Durability, Folder, Owner, Refused, SafeDir};
use crate::heartbeat::read_status;
use crate::journal::{Cursor, Reader};
use crate::limits::MAX_FILES_PER_SECOND;
use crate::mailbox::{DeadLetters, Inbox, Outbox, RateLimit, Unwanted};
use crate::outgoing::OutgoingFile;
use crate::paths::{
    AVAILABLE_GROUPS_FILE, CURRENT_TASKS_FILE, DIRS, EVENTS_DIR, INPUT_DIR, MESSAGES_DIR, REPLIES_DIR, STATUS_FILE,
    TASKS_DIR,
};
use crate::reply::Reply;
use crate::status::Status;
use crate::task::TaskFile;
use crate::watch::{Parent, Watch, WatchError};

/// Mode of the directory and its folders: prompts and answers are nobody else's. Root in the container can use them
/// anyway, the agent is their owner.
pub const DIR_MODE: u32 = 0o700;

/// One session's IPC directory, as the host sees it.
#[derive(Debug)]
pub struct HostIpc {
    root: Arc<SafeDir>,
    owner: Option<Owner>,
    rate: Arc<RateLimit>,
    dead: Arc<Mutex<DeadLetters>>,
}

/// Files that the host keeps up to date for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// `current_tasks.json`
    CurrentTasks,
    /// `available_groups.json`
    AvailableGroups,
}

impl Snapshot {
    fn file_name(self) -> &'static str {
        match self {
            Self::CurrentTasks => CURRENT_TASKS_FILE,
            Self::AvailableGroups => AVAILABLE_GROUPS_FILE,
        }
    }
}

/// Why a file for the agent was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refused.
    #[error("cannot write for the agent")]
    Dir(#[from] DirError),
    /// It cannot be encoded.
    #[error("cannot encode what the agent is to read")]
    Encode(#[from] serde_json::Error),
}

impl HostIpc {
    /// Makes the directory `path` with all its folders, given to the agent's user; and `dead_letters` (kept by us).
    /// Both may exist. `dead_letters` must not be below `path`, but on the same file system.
    ///
    /// Without root, `owner` must be the user that calls, or `None`.
    pub fn create(path: &Path, dead_letters: &Path, owner: Option<Owner>) -> Result<Self, DirError> {
        let root = make_dir(path)?;
        root.set_owner_and_mode(DIR_MODE, owner)?;
        for name in DIRS {
            root.make_subdir(OsStr::new(name), DIR_MODE, owner)?;
        }
        make_dir(dead_letters)?.set_owner_and_mode(DIR_MODE, None)?;
        Self::with_root(root, dead_letters, owner)
    }

    /// Goes on with a directory that an earlier supervisor has made.
    pub fn open(path: &Path, dead_letters: &Path, owner: Option<Owner>) -> Result<Self, DirError> {
        Self::with_root(SafeDir::open(path)?, dead_letters, owner)
    }

    fn with_root(root: SafeDir, dead_letters: &Path, owner: Option<Owner>) -> Result<Self, DirError> {
        Ok(Self {
            root: Arc::new(root),
            owner,
            rate: Arc::new(RateLimit::new(MAX_FILES_PER_SECOND)),
            dead: Arc::new(Mutex::new(DeadLetters::open(dead_letters)?)),
        })
    }

    /// Where it is on the host.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    fn folder(&self, name: &'static str) -> Folder {
        Folder::new(Arc::clone(&self.root), name)
    }

    fn unwanted(&self) -> Unwanted {
        Unwanted::DeadLetter(Arc::clone(&self.dead))
    }

    /// What agents say. One reader at a time.
    pub fn messages(&self) -> Inbox<OutgoingFile> {
        Inbox::new(self.folder(MESSAGES_DIR), self.unwanted(), Some(Arc::clone(&self.rate)))
    }

    /// What agents ask for. One reader at a time.
    pub fn tasks(&self) -> Inbox<TaskFile> {
        Inbox::new(self.folder(TASKS_DIR), self.unwanted(), Some(Arc::clone(&self.rate)))
    }

    /// The way to the runner. One writer at a time.
    pub fn input(&self) -> Result<Outbox, DirError> {
        Outbox::open(self.folder(INPUT_DIR), self.owner)
    }

    /// The journal from `cursor` on. One reader at a time.
    pub fn journal(&self, cursor: Cursor) -> Reader {
        Reader::new(self.folder(EVENTS_DIR), cursor)
    }

    /// The runner's last heartbeat; `None` before the first.
    pub fn status(&self) -> Result<Option<Status>, Refused> {
        read_status(&self.root)
    }

    /// Answers a request.
    pub fn reply(&self, reply: &Reply) -> Result<(), WriteError> {
        let bytes = serde_json::to_vec(reply)?;
        let name = format!("{}.json", reply.request_id);
        let mut folder = self.folder(REPLIES_DIR);
        let dir = folder.ensure(DIR_MODE, self.owner)?;
        // Whoever waits for it dies with the machine.
        Ok(dir.replace(OsStr::new(&name), &bytes, Durability::Cached, self.owner)?)
    }

    /// Replaces a snapshot for the agent; `value` must hold only what its group may see.
    pub fn snapshot(&self, which: Snapshot, value: &impl Serialize) -> Result<(), WriteError> {
        let bytes = serde_json::to_vec(value)?;
        let name = OsStr::new(which.file_name());
        // As durable as a cache: it is written anew at the next start.
        Ok(self.root.replace(name, &bytes, Durability::Cached, self.owner)?)
    }

    /// Calls `wake` when the container may have written something; not for its heartbeat.
    pub fn watch(&self, wake: impl Fn() + Send + 'static) -> Result<Watch, WatchError> {
        let folders = [MESSAGES_DIR, TASKS_DIR, EVENTS_DIR].map(|name| self.root.path().join(name));
        let parent = Parent { path: self.root.path().to_owned(), sign: STATUS_FILE };
        Watch::start(folders.into(), Some(parent), wake)
    }

    /// Removes everything in the directory, at most `budget` entries; whether it is empty then. Safe against any tree that
    /// a container can build. The directory itself stays, for `rmdir`. Only after the container has ended.
    pub fn clear(&self, budget: usize) -> Result<bool, DirError> {
        self.root.clear(budget)
    }
}

/// Makes a folder by a path of ours; it may exist. Its parent must.
fn make_dir(path: &Path) -> Result<SafeDir, DirError> {
    match nix::unistd::mkdir(path, nix::sys::stat::Mode::from_bits_truncate(DIR_MODE)) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => SafeDir::open(path),
        Err(errno) => Err(DirError::Os { doing: "make the folder", path: path.to_owned(), errno }),
    }
}
