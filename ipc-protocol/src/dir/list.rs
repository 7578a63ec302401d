//! Bounded listing, and removing one name.

use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{DirError, SafeDir, component, os, random_hex};

/// What became of a name that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Done,
    /// Nothing was there.
    Absent,
}

impl SafeDir {
    /// Shows each entry's name and inode to `see`, in the order of the file system, until `see` breaks or `max` entries
    /// were seen. Returns whether that was all of them. The folder may change meanwhile (readdir(3)).
    pub fn each(&self, max: usize, mut see: impl FnMut(&OsStr, u64) -> ControlFlow<()>) -> Result<bool, DirError> {
        // A fresh descriptor: the offset of a directory stream belongs to the open file, which we share with nobody.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut stream =
            Dir::openat(&self.fd, c".", flags, Mode::empty()).map_err(|errno| os("list", &self.path, errno))?;
        let mut seen = 0;
        for entry in stream.iter() {
            let entry = entry.map_err(|errno| os("list", &self.path, errno))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            if seen == max {
                return Ok(false);
            }
            seen += 1;
            if see(name, entry.ino()).is_break() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// At most `max` names, and whether these are all.
    pub fn names(&self, max: usize) -> Result<(Vec<OsString>, bool), DirError> {
        let mut names = Vec::new();
        let all = self.each(max, |name, _| {
            names.push(name.to_owned());
            ControlFlow::Continue(())
        })?;
        Ok((names, all))
    }

    /// Removes a file or an empty folder; a symlink itself, not what it points to.
    pub fn remove(&self, name: &OsStr) -> Result<Removed, DirError> {
        match unlinkat(&self.fd, component(name)?, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(Removed::Done),
            Err(Errno::ENOENT) => Ok(Removed::Absent),
            // unlink(2): EISDIR on Linux, EPERM by POSIX; EPERM also for an immutable file, where rmdir says ENOTDIR.
            Err(first @ (Errno::EISDIR | Errno::EPERM)) => match unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir) {
                Ok(()) => Ok(Removed::Done),
                Err(Errno::ENOENT) => Ok(Removed::Absent),
                Err(Errno::ENOTDIR) => Err(self.error("remove", name, first)),
                Err(errno) => Err(self.error("remove", name, errno)),
            },
            Err(errno) => Err(self.error("remove", name, errno)),
        }
    }

    /// Moves `name` to `new_name` in the folder `to`, over whatever is there. Works on links themselves.
    pub fn rename(&self, name: &OsStr, to: &Self, new_name: &OsStr) -> Result<(), DirError> {
        renameat(&self.fd, component(name)?, &to.fd, component(new_name)?)
            .map_err(|errno| self.error("move", name, errno))
    }

    /// Gets `name` out of the way under a dot name, which no reader looks at.
    pub fn set_aside(&self, name: &OsStr) -> Result<OsString, DirError> {
        let aside = OsString::from(format!(".aside-{}", random_hex()));
        self.rename(name, self, &aside)?;
        Ok(aside)
    }
}
