//! A folder inside the IPC directory that the other side may delete, replace or make anew at any time.
//!
//! ```text
//!            same inode                       a real folder, other inode
//!   ┌──────► Current ◄──────────────────────────────────┐ reported once as Replaced, then used
//!   │            │ nothing there / a link / a file       │
//!   └── Folder   └─────► Lost (reported once; looked up again at each refresh) ──┘
//! ```

use std::ffi::OsStr;
use std::sync::Arc;

use super::{DirError, FileKind, SafeDir};

/// A folder by its name in the IPC directory, reopened when it was replaced.
#[derive(Debug)]
pub struct Folder {
    parent: Arc<SafeDir>,
    name: &'static str,
    dir: Option<SafeDir>,
}

/// What a look at the name has shown.
#[derive(Debug)]
pub enum FolderState {
    /// The folder is the one that was used before.
    Current,
    /// Another folder is there now and is used from here on: what was in the old one is gone.
    Replaced,
    /// No folder is there.
    Lost(DirError),
}

impl Folder {
    /// Opens it; a folder that is not there yet is not an error here but at [`Folder::refresh`].
    pub fn new(parent: Arc<SafeDir>, name: &'static str) -> Self {
        let dir = parent.subdir(OsStr::new(name)).ok();
        Self { parent, name, dir }
    }

    /// Its name in the IPC directory.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The open folder, as of the last [`Folder::refresh`].
    pub fn dir(&self) -> Option<&SafeDir> {
        self.dir.as_ref()
    }

    /// Compares the open folder with what is at the name now. One fstatat(2) if nothing changed.
    pub fn refresh(&mut self) -> FolderState {
        let name = OsStr::new(self.name);
        let had = self.dir.is_some();
        let here = match self.parent.stat(name) {
            Ok(here) => here,
            Err(error) => return self.lost(error),
        };
        let Some(stat) = here else {
            return self.lost(self.parent.error("find the folder", name, nix::errno::Errno::ENOENT));
        };
        if self.dir.as_ref().is_some_and(|dir| dir.id() == super::FileId::of(&stat)) {
            return FolderState::Current;
        }
        let kind = FileKind::of(&stat);
        if kind != FileKind::Directory {
            return self.lost(DirError::NotAFolder { path: self.parent.path().join(self.name), kind });
        }
        match self.parent.subdir(name) {
            Ok(dir) => {
                self.dir = Some(dir);
                if had { FolderState::Replaced } else { FolderState::Current }
            }
            Err(error) => self.lost(error),
        }
    }

    fn lost(&mut self, error: DirError) -> FolderState {
        self.dir = None;
        FolderState::Lost(error)
    }

    /// For a writer: the folder, made anew if nothing is there. Anything else at the name is moved aside first.
    pub fn ensure(&mut self, mode: u32, owner: Option<super::Owner>) -> Result<&SafeDir, DirError> {
        match self.refresh() {
            FolderState::Current | FolderState::Replaced => {}
            FolderState::Lost(_) => self.renew(mode, owner)?,
        }
        self.dir
            .as_ref()
            .ok_or_else(|| self.parent.error("find the folder", OsStr::new(self.name), nix::errno::Errno::ENOENT))
    }

    /// Makes a folder that is lost anew. What is at its name, and is no folder or cannot be opened, is moved aside.
    pub fn renew(&mut self, mode: u32, owner: Option<super::Owner>) -> Result<(), DirError> {
        self.dir = Some(self.parent.renew_subdir(OsStr::new(self.name), mode, owner)?);
        Ok(())
    }
}
