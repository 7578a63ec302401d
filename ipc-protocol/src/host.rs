//! The supervisor's face of a session's mailbox and record.
//!
//! ```text
//!  mailbox   mounted, the agent's      input/ messages/ tasks/ replies/, snapshots, a mark for git
//!  record    mounted, the runner's     events/ status.json
//!  sent      never mounted             copies of the inputs that the runner has not answered yet
//!  dead      never mounted             refused files
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::unistd::geteuid;

use serde::Serialize;

use crate::dir::{DirError, Durability, Folder, FolderState, Owner, Refused, SafeDir, printable};
use crate::git_mark;
use crate::heartbeat::read_status;
use crate::journal::{Cursor, Reader};
use crate::limits::MAX_FILES_PER_SECOND;
use crate::mailbox::{DeadLetters, Inbox, Outbox, RateLimit, Unwanted};
use crate::outgoing::OutgoingFile;
use crate::paths::{
    AVAILABLE_GROUPS_FILE, CURRENT_TASKS_FILE, EVENTS_DIR, INPUT_DIR, MAILBOX_DIRS, MESSAGES_DIR, REPLIES_DIR,
    STATUS_FILE, TASKS_DIR,
};
use crate::reply::Reply;
use crate::status::Status;
use crate::task::TaskFile;
use crate::watch::{Parent, Watch, WatchError};

/// Mode of all folders: prompts and answers are nobody else's. Root of the container can use them anyway, and the agent owns
/// the mailbox.
pub const DIR_MODE: u32 = 0o700;

/// Where the folders of one session are on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDirs {
    /// Mounted as the mailbox.
    pub mailbox: PathBuf,
    /// Mounted as the record. Sessions of generation 1 have none: their mailbox is their record.
    pub record: PathBuf,
    /// Holds copies of inputs until the runner has accepted or dropped them.
    pub sent: PathBuf,
    /// Holds refused files. On the file system of the mailbox.
    pub dead_letters: PathBuf,
}

impl HostDirs {
    /// The folders of a session that has the folder `root` to itself.
    pub fn below(root: &Path) -> Self {
        let [mailbox, record, sent, dead_letters] =
            ["ipc", "record", "sent", "dead-letters"].map(|name| root.join(name));
        Self { mailbox, record, sent, dead_letters }
    }
}

/// One session's mailbox and record, as the host sees them.
#[derive(Debug)]
pub struct HostIpc {
    mailbox: Arc<SafeDir>,
    record: Arc<SafeDir>,
    sent: Arc<SafeDir>,
    owner: Option<Owner>,
    rate: Arc<RateLimit>,
    dead: Arc<Mutex<DeadLetters>>,
    kept: [Folder; MAILBOX_DIRS.len()],
}

/// What was missing in a mailbox.
#[derive(Debug, Default)]
pub struct Repaired {
    /// Names in the mailbox that were gone or replaced, and are usable again.
    pub names: Vec<&'static str>,
    /// Why something could not be made again.
    pub failed: Option<DirError>,
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
    /// Makes the folders `dirs`; the mailbox is given to the agent's user. All of them may exist.
    ///
    /// Without root, `owner` must be the user that calls, or `None`.
    pub fn create(dirs: &HostDirs, owner: Option<Owner>) -> Result<Self, DirError> {
        let mailbox = make_dir(&dirs.mailbox)?;
        mailbox.set_owner_and_mode(DIR_MODE, owner)?;
        for name in MAILBOX_DIRS {
            mailbox.make_subdir(OsStr::new(name), DIR_MODE, owner)?;
        }
        git_mark::put(&mailbox, owner)?;
        let record = make_dir(&dirs.record)?;
        record.set_owner_and_mode(DIR_MODE, None)?;
        record.make_subdir(OsStr::new(EVENTS_DIR), DIR_MODE, None)?;
        make_dir(&dirs.dead_letters)?.set_owner_and_mode(DIR_MODE, None)?;
        Self::with(dirs, Arc::new(mailbox), Arc::new(record), owner)
    }

    /// Goes on with folders that an earlier supervisor has made.
    pub fn open(dirs: &HostDirs) -> Result<Self, DirError> {
        let mailbox = Arc::new(SafeDir::open(&dirs.mailbox)?);
        let record = match SafeDir::open(&dirs.record) {
            Ok(record) => Arc::new(record),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Arc::clone(&mailbox),
            Err(error) => return Err(error),
        };
        // Only root may give files away; anybody else owns the mailbox already.
        let owner = if geteuid().is_root() { Some(mailbox.owner()?) } else { None };
        Self::with(dirs, mailbox, record, owner)
    }

    fn with(
        dirs: &HostDirs,
        mailbox: Arc<SafeDir>,
        record: Arc<SafeDir>,
        owner: Option<Owner>,
    ) -> Result<Self, DirError> {
        let sent = make_dir(&dirs.sent)?;
        sent.set_owner_and_mode(DIR_MODE, None)?;
        Ok(Self {
            kept: MAILBOX_DIRS.map(|name| Folder::new(Arc::clone(&mailbox), name)),
            mailbox,
            record,
            sent: Arc::new(sent),
            owner,
            rate: Arc::new(RateLimit::new(MAX_FILES_PER_SECOND)),
            dead: Arc::new(Mutex::new(DeadLetters::open(&dirs.dead_letters)?)),
        })
    }

    /// Where the mailbox is on the host.
    pub fn path(&self) -> &Path {
        self.mailbox.path()
    }

    fn folder(&self, name: &'static str) -> Folder {
        Folder::new(Arc::clone(&self.mailbox), name)
    }

    /// Whether the session was started by a supervisor of generation 1. Its container does not have git ignore the mailbox.
    fn is_first_generation(&self) -> bool {
        Arc::ptr_eq(&self.mailbox, &self.record)
    }

    /// Makes again what the container has removed or replaced in the mailbox: its folders and its mark for git. Inputs are
    /// the concern of [`Outbox::repair`]. Costs a few fstatat(2) if nothing is missing.
    pub fn repair(&mut self) -> Repaired {
        let mut repaired = Repaired::default();
        keep_usable(&self.mailbox, self.owner);
        for folder in &mut self.kept {
            let state = folder.refresh();
            let made = match state {
                FolderState::Current => {
                    if let Some(dir) = folder.dir() {
                        keep_usable(dir, self.owner);
                    }
                    continue;
                }
                FolderState::Replaced => Ok(()),
                FolderState::Lost(_) => folder.renew(DIR_MODE, self.owner),
            };
            match made {
                Ok(()) => repaired.names.push(folder.name()),
                Err(error) => repaired.failed = Some(error),
            }
        }
        if !self.is_first_generation() && !git_mark::is_there(&self.mailbox) {
            match git_mark::put(&self.mailbox, self.owner) {
                Ok(()) => repaired.names.push(git_mark::NAME),
                Err(error) => repaired.failed = Some(error),
            }
        }
        repaired
    }

    /// Names in the mailbox that are nobody's but the agent's, fit to be shown, at most `max`: what it took for a folder of the
    /// project.
    pub fn strangers(&self, max: usize) -> Vec<String> {
        let ours = |name: &OsStr| {
            let known = MAILBOX_DIRS.iter().chain(&[CURRENT_TASKS_FILE, AVAILABLE_GROUPS_FILE]);
            name.as_encoded_bytes().starts_with(b".") || known.into_iter().any(|known| name == *known)
        };
        let (names, _) = self.mailbox.names(max + MAILBOX_DIRS.len() * 2).unwrap_or_default();
        names.iter().filter(|name| !ours(name)).take(max).map(|name| printable(name)).collect()
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
        Outbox::open(self.folder(INPUT_DIR), Arc::clone(&self.sent), self.owner, !self.is_first_generation())
    }

    /// The journal from `cursor` on. One reader at a time.
    pub fn journal(&self, cursor: Cursor) -> Reader {
        Reader::new(Folder::new(Arc::clone(&self.record), EVENTS_DIR), cursor)
    }

    /// The runner's last heartbeat; `None` before the first.
    pub fn status(&self) -> Result<Option<Status>, Refused> {
        read_status(&self.record)
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
        Ok(self.mailbox.replace(name, &bytes, Durability::Cached, self.owner)?)
    }

    /// Calls `wake` when the container may have written something, or removed a folder; not for its heartbeat.
    pub fn watch(&self, wake: impl Fn() + Send + 'static) -> Result<Watch, WatchError> {
        let (mailbox, record) = (self.mailbox.path(), self.record.path());
        let folders = vec![mailbox.join(MESSAGES_DIR), mailbox.join(TASKS_DIR), record.join(EVENTS_DIR)];
        let mut parents = vec![Parent { path: record.to_owned(), sign: Some(STATUS_FILE) }];
        if mailbox != record {
            parents.push(Parent { path: mailbox.to_owned(), sign: None });
        }
        Watch::start(folders, parents, wake)
    }
}

/// Gives back the rights that a recursive chmod(1) or chown(1) of the agent has taken. What cannot be given back shows when
/// the folder is used.
fn keep_usable(dir: &SafeDir, owner: Option<Owner>) {
    let is_usable = dir.is_usable_by(owner).unwrap_or(true);
    if !is_usable {
        let _ = dir.set_owner_and_mode(DIR_MODE, owner);
    }
}

/// Makes a folder by a path of ours; it may exist. Its parent must.
fn make_dir(path: &Path) -> Result<SafeDir, DirError> {
    match nix::unistd::mkdir(path, nix::sys::stat::Mode::from_bits_truncate(DIR_MODE)) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => SafeDir::open(path),
        Err(errno) => Err(DirError::Os { doing: "make the folder", path: path.to_owned(), errno }),
    }
}
