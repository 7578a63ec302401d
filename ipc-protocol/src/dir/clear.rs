//! Emptying a folder whatever an attacker has built in it.
//!
//! Recursion would hold one descriptor (and a stack frame) per level, so a tree ten thousand levels deep could not be
//! removed. Instead each folder found is taken apart where it is: its files are removed, its folders are moved up to the
//! top, and then it is empty. Three descriptors, no recursion, and the work grows with the number of entries only.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{DirError, SafeDir, random_hex};

/// Names held in memory at a time.
const BATCH: usize = 512;

impl SafeDir {
    /// Removes everything in this folder, at most `budget` entries. Returns whether it is empty now.
    ///
    /// Errors at the first entry that cannot be removed: another's, or immutable.
    pub fn clear(&self, mut budget: usize) -> Result<bool, DirError> {
        loop {
            let (names, _) = self.names(BATCH)?;
            if names.is_empty() {
                return Ok(true);
            }
            for name in names {
                if budget == 0 {
                    return Ok(false);
                }
                budget -= 1;
                if self.unlink_file(&name)? {
                    continue;
                }
                budget = self.flatten(&name, budget)?;
            }
        }
    }

    /// Takes one folder apart; what is left of `budget`.
    fn flatten(&self, name: &OsStr, mut budget: usize) -> Result<usize, DirError> {
        let inner = match self.subdir(name) {
            Ok(inner) => inner,
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(budget),
            // Its owner (perhaps us) has taken the rights to it away, also from himself.
            Err(error) if error.errno() == Some(Errno::EACCES) => {
                self.make_accessible(name)?;
                self.subdir(name)?
            }
            Err(error) => return Err(error),
        };
        // May fail for another's folder; then what we try next says so.
        let _ = fchmod(&inner, Mode::from_bits_truncate(0o700));
        loop {
            let (children, _) = inner.names(BATCH)?;
            if children.is_empty() {
                break;
            }
            for child in children {
                if budget == 0 {
                    return Ok(0);
                }
                budget -= 1;
                if !inner.unlink_file(&child)? {
                    let up = OsString::from(format!(".clear-{}", random_hex()));
                    inner.rename(&child, self, &up)?;
                }
            }
        }
        match unlinkat(self, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(budget),
            // Somebody has put something in meanwhile: the next round takes it.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(budget),
            Err(errno) => Err(self.error("remove", name, errno)),
        }
    }

    /// Gives a folder that cannot be opened its rights back, through a descriptor that needs none (so that it is this
    /// folder and nothing that a link points to).
    fn make_accessible(&self, name: &OsStr) -> Result<(), DirError> {
        let fd = self
            .open_at(name, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?
            .map_err(|errno| self.error("open the folder", name, errno))?;
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        fchmodat(AT_FDCWD, link.as_str(), Mode::from_bits_truncate(0o700), FchmodatFlags::FollowSymlink)
            .map_err(|errno| self.error("change the mode of", name, errno))
    }

    /// Whether that removed it; `false` for a folder.
    fn unlink_file(&self, name: &OsStr) -> Result<bool, DirError> {
        match unlinkat(self, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(true),
            Err(Errno::EISDIR) => Ok(false),
            Err(errno) => Err(self.error("remove", name, errno)),
        }
    }
}
