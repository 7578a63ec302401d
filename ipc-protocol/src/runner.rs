//! The runner's face of the mailbox and the record.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use crate::dir::{DirError, Folder, SafeDir};
use crate::heartbeat::StatusWriter;
use crate::host::DIR_MODE;
use crate::input::InputFile;
use crate::journal::{OpenError, Recovered, Writer};
use crate::mailbox::{Inbox, Scan, Unwanted, Warning};
use crate::paths::{CLOSE_FILE, EVENTS_DIR, INPUT_DIR, MAILBOX_DIRS};
use crate::watch::{Watch, WatchError};

/// The mailbox and the record, as the runner sees them.
#[derive(Debug)]
pub struct RunnerIpc {
    mailbox: Arc<SafeDir>,
    record: Arc<SafeDir>,
}

/// The runner's reading end of `input/`.
#[derive(Debug)]
pub struct Input {
    close: Folder,
    inbox: Inbox<InputFile>,
}

/// What a look into `input/` has brought.
#[derive(Debug)]
pub struct InputScan {
    /// Inputs, refused files and warnings.
    pub scan: Scan<InputFile>,
    /// `_close` was there *before* the look: everything that was sent before it is in this scan or an earlier one, unless
    /// [`Scan::again_in`] says that more is waiting.
    pub close: bool,
}

impl RunnerIpc {
    /// Opens both folders, normally [`crate::paths::CONTAINER_IPC_DIR`] and [`crate::paths::CONTAINER_RECORD_DIR`]. Folders
    /// that are missing in them are made.
    pub fn open(mailbox: &Path, record: &Path) -> Result<Self, DirError> {
        let mailbox = SafeDir::open(mailbox)?;
        let record = SafeDir::open(record)?;
        for name in MAILBOX_DIRS {
            make_missing(&mailbox, name)?;
        }
        make_missing(&record, EVENTS_DIR)?;
        Ok(Self { mailbox: Arc::new(mailbox), record: Arc::new(record) })
    }

    /// Continues the journal, or begins it. One writer at a time.
    pub fn journal(&self) -> Result<(Writer, Recovered), OpenError> {
        Writer::open(self.record.subdir(OsStr::new(EVENTS_DIR))?)
    }

    /// What the host sends. One reader at a time.
    pub fn input(&self) -> Input {
        let folder = || Folder::new(Arc::clone(&self.mailbox), INPUT_DIR);
        Input { close: folder(), inbox: Inbox::new(folder(), Unwanted::Keep, None) }
    }

    /// The heartbeat.
    pub fn status(&self) -> StatusWriter {
        StatusWriter::new(Arc::clone(&self.record))
    }

    /// Calls `wake` when the host may have written something.
    pub fn watch(&self, wake: impl Fn() + Send + 'static) -> Result<Watch, WatchError> {
        Watch::start(vec![self.mailbox.path().join(INPUT_DIR)], Vec::new(), wake)
    }
}

fn make_missing(parent: &SafeDir, name: &str) -> Result<(), DirError> {
    let name = OsStr::new(name);
    if parent.exists(name)? { Ok(()) } else { parent.make_subdir(name, DIR_MODE, None).map(drop) }
}

impl Input {
    /// Takes what is there. Each input is handed out once; call [`Input::remove`] when it was taken and
    /// `input_accepted` is in the journal, or refused and `input_dropped` is.
    pub fn scan(&mut self) -> InputScan {
        self.close.refresh();
        // Whatever it is: only its name counts.
        let close = self.close.dir().is_some_and(|dir| dir.exists(OsStr::new(CLOSE_FILE)).unwrap_or(false));
        InputScan { scan: self.inbox.scan(), close }
    }

    /// Removes a file that was handed out or refused.
    #[must_use = "the warning is reported once"]
    pub fn remove(&mut self, name: &OsStr) -> Option<Warning> {
        self.inbox.remove(name)
    }
}
