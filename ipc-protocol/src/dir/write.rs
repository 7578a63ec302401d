//! Writing a whole file so that a reader sees the old one or the new one, and a planted link is replaced, not followed.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Write as _;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use super::open::io_errno;
use super::{DirError, SafeDir, component};

/// How often a name of a temporary file, or a planted folder in the way, is met before giving up.
const TRIES: usize = 4;

/// Whom a file or folder is to belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Whether a file must outlive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// fsync(2) before the rename: after a power cut there is no empty file under the final name.
    Synced,
    /// The page cache is enough: what dies with the machine is worthless afterwards (a heartbeat).
    Cached,
}

impl SafeDir {
    /// Puts a file with these bytes at `name`, over whatever is there, in one step for readers.
    ///
    /// The mode is 0644 whatever the umask, since the two sides may have different uids; the folders around it keep
    /// others out. A planted folder in the way is moved aside.
    pub fn replace(
        &self,
        name: &OsStr,
        bytes: &[u8],
        durability: Durability,
        owner: Option<Owner>,
    ) -> Result<(), DirError> {
        component(name)?;
        let (temporary, mut file) = self.temporary(name)?;
        let written = (|| {
            file.write_all(bytes).map_err(|error| io_errno(&error))?;
            fchmod(&file, Mode::from_bits_truncate(0o644))?;
            if let Some(owner) = owner {
                fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
            }
            match durability {
                Durability::Synced => file.sync_all().map_err(|error| io_errno(&error)),
                Durability::Cached => Ok(()),
            }
        })();
        let moved = match written {
            Ok(()) => self.rename_over(&temporary, name),
            Err(errno) => Err(self.error("write", name, errno)),
        };
        if moved.is_err() {
            // Best effort: the error that is returned is the one that matters, and readers ignore temporary names.
            let _ = self.remove(&temporary);
        }
        moved
    }

    /// Makes an empty file with mode 0644 at `name`, where nothing is.
    pub(super) fn make_empty(&self, name: &OsStr) -> Result<(), DirError> {
        component(name)?;
        let (temporary, file) = self.temporary(name)?;
        let made = match fchmod(&file, Mode::from_bits_truncate(0o644)) {
            Ok(()) => self.rename(&temporary, self, name),
            Err(errno) => Err(self.error("change the mode of", name, errno)),
        };
        if made.is_err() {
            // Best effort: the first error is the one that matters, and readers ignore temporary names.
            let _ = self.remove(&temporary);
        }
        made
    }

    fn temporary(&self, name: &OsStr) -> Result<(std::ffi::OsString, File), DirError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        for _ in 0..TRIES {
            let temporary = std::ffi::OsString::from(format!(".{}.tmp", random_hex()));
            match self.open_at(&temporary, flags, Mode::from_bits_truncate(0o600))? {
                Ok(fd) => return Ok((temporary, File::from(fd))),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(self.error("create a temporary file for", name, errno)),
            }
        }
        Err(self.error("create a temporary file for", name, Errno::EEXIST))
    }

    fn rename_over(&self, temporary: &OsStr, name: &OsStr) -> Result<(), DirError> {
        for _ in 0..TRIES {
            match self.rename(temporary, self, name) {
                Err(error) if matches!(error.errno(), Some(Errno::EISDIR | Errno::EEXIST | Errno::ENOTEMPTY)) => {
                    self.set_aside(name)?;
                }
                done => return done,
            }
        }
        Err(self.error("replace", name, Errno::EISDIR))
    }

    /// Makes the folder `name` if there is none, and gives it this owner and mode (whatever the umask).
    pub fn make_subdir(&self, name: &OsStr, mode: u32, owner: Option<Owner>) -> Result<Self, DirError> {
        match mkdirat(&self.fd, component(name)?, Mode::from_bits_truncate(mode)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(self.error("make the folder", name, errno)),
        }
        let dir = self.subdir(name)?;
        dir.set_owner_and_mode(mode, owner)?;
        Ok(dir)
    }

    /// The same where something else may be at the name: what is no folder, or cannot be opened, is moved aside.
    pub fn renew_subdir(&self, name: &OsStr, mode: u32, owner: Option<Owner>) -> Result<Self, DirError> {
        match self.make_subdir(name, mode, owner) {
            Err(_) if self.exists(name)? => {
                self.set_aside(name)?;
                self.make_subdir(name, mode, owner)
            }
            made => made,
        }
    }

    /// Gives this folder an owner and mode.
    pub fn set_owner_and_mode(&self, mode: u32, owner: Option<Owner>) -> Result<(), DirError> {
        if let Some(owner) = owner {
            fchown(&self.fd, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid))).map_err(|errno| {
                super::os("change (which takes root, or leave it to your own user) the owner of", &self.path, errno)
            })?;
        }
        fchmod(&self.fd, Mode::from_bits_truncate(mode))
            .map_err(|errno| super::os("change the mode of", &self.path, errno))
    }
}

/// 16 hexadecimal digits that the other side cannot guess. The standard library seeds its hash keys from the system's
/// random source, which spares a crate.
pub(crate) fn random_hex() -> String {
    format!("{:016x}", random_u64())
}

pub(crate) fn random_u64() -> u64 {
    RandomState::new().build_hasher().finish()
}
