//! Folders that an attacker writes to, used without ever following what he plants there.
//!
//! A [`SafeDir`] is opened once and used by its descriptor; every other name is one path component below it. So there is
//! no path to race against: not a symlink in the middle, not `..`, not a folder that was swapped after a check.
//!
//! ```text
//! SafeDir::open(trusted path)
//!    ├─ subdir("messages")    openat2 RESOLVE_BENEATH | NO_SYMLINKS | NO_MAGICLINKS   (dir/open.rs)
//!    ├─ read("x.json")        O_PATH, look at what it is, only then open it to read    (dir/open.rs)
//!    ├─ replace("y.json")     temporary file, renameat over whatever is there          (dir/write.rs)
//!    ├─ remove, entries       unlinkat, bounded readdir                                (dir/list.rs)
//!    └─ clear()               any tree, however deep, with three descriptors           (dir/clear.rs)
//! ```
//!
//! A child folder can be deleted and made anew by the other side: [`Folder`] notices by comparing inodes.

mod clear;
mod folder;
mod hand_over;
mod list;
mod open;
mod write;

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};

pub use folder::{Folder, FolderState};
pub use list::Removed;
pub use open::{Contents, FileKind, Refused};
pub use write::{Durability, Owner};

pub(crate) use write::{random_hex, random_u64};

/// An open folder. All names given to its methods must be single path components.
#[derive(Debug)]
pub struct SafeDir {
    fd: OwnedFd,
    id: FileId,
    /// For messages to people only, never opened again.
    path: PathBuf,
}

/// Tells files apart: a name may be given to another file, these two numbers may not while the file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    dev: u64,
    ino: u64,
}

impl FileId {
    #[allow(clippy::useless_conversion, reason = "the width of st_dev and st_ino differs between targets")]
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self { dev: u64::from(stat.st_dev), ino: u64::from(stat.st_ino) }
    }
}

/// Why something in a folder could not be done.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The system refused.
    #[error("cannot {doing} {path}")]
    Os {
        /// What was attempted.
        doing: &'static str,
        /// On what, as people know it.
        path: PathBuf,
        /// Why not.
        #[source]
        errno: Errno,
    },
    /// The name is empty, `.`, `..`, or has a slash or a zero byte.
    #[error("{0:?} is not the name of a file in a folder")]
    BadName(String),
    /// There is something else where a folder of ours was.
    #[error("{path} is not a folder any more but a {kind}; remove it, and it is made anew")]
    NotAFolder {
        /// Where.
        path: PathBuf,
        /// What is there.
        kind: FileKind,
    },
}

impl DirError {
    /// The system's reason, if it was the system.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Os { errno, .. } => Some(*errno),
            Self::BadName(_) | Self::NotAFolder { .. } => None,
        }
    }

    /// Whether it is our own lack of something, which says nothing about the file: to be tried again.
    pub(crate) fn is_transient(&self) -> bool {
        self.errno().is_some_and(is_transient)
    }
}

/// Our process or the system has run out of descriptors or memory. What an attacker has planted is never the cause.
fn is_transient(errno: Errno) -> bool {
    matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EINTR)
}

impl SafeDir {
    /// Opens a folder by a path that no attacker can change (made by us, above everything that a container sees).
    /// The last component must not be a symlink.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty()).map_err(|errno| os("open", path, errno))?;
        Self::from_fd(fd, path.to_owned())
    }

    fn from_fd(fd: OwnedFd, path: PathBuf) -> Result<Self, DirError> {
        let stat = fstat(&fd).map_err(|errno| os("look at", &path, errno))?;
        Ok(Self { fd, id: FileId::of(&stat), path })
    }

    /// The path that it was opened by; for messages to people.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is at `name`, not following a symlink; `None` if nothing is.
    pub fn stat(&self, name: &OsStr) -> Result<Option<FileStat>, DirError> {
        match fstatat(&self.fd, component(name)?, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.error("look at", name, errno)),
        }
    }

    /// Whether anything at all is at `name`.
    pub fn exists(&self, name: &OsStr) -> Result<bool, DirError> {
        Ok(self.stat(name)?.is_some())
    }

    /// Which file or folder is at `name`.
    pub fn id_of(&self, name: &OsStr) -> Result<Option<FileId>, DirError> {
        Ok(self.stat(name)?.map(|stat| FileId::of(&stat)))
    }

    /// Who owns it.
    pub fn owner(&self) -> Result<Owner, DirError> {
        let stat = fstat(&self.fd).map_err(|errno| os("look at", &self.path, errno))?;
        Ok(Owner { uid: stat.st_uid, gid: stat.st_gid })
    }

    /// Whether its owner may list, enter and change it, and is this one.
    pub fn is_usable_by(&self, owner: Option<Owner>) -> Result<bool, DirError> {
        let stat = fstat(&self.fd).map_err(|errno| os("look at", &self.path, errno))?;
        let is_owned = owner.is_none_or(|owner| owner == Owner { uid: stat.st_uid, gid: stat.st_gid });
        Ok(is_owned && Mode::from_bits_truncate(stat.st_mode).contains(Mode::S_IRWXU))
    }

    /// Which folder this is.
    pub fn id(&self) -> FileId {
        self.id
    }

    fn error(&self, doing: &'static str, name: &OsStr, errno: Errno) -> DirError {
        os(doing, &self.path.join(printable(name)), errno)
    }
}

impl AsFd for SafeDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn os(doing: &'static str, path: &Path, errno: Errno) -> DirError {
    DirError::Os { doing, path: path.to_owned(), errno }
}

/// Lets only single path components through: with these, `O_NOFOLLOW` leaves no way out of a folder.
fn component(name: &OsStr) -> Result<&OsStr, DirError> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.iter().any(|&b| b == b'/' || b == 0) {
        return Err(DirError::BadName(printable(name)));
    }
    Ok(name)
}

/// Longest name or reason from outside that we show, in characters.
const MAX_SHOWN_CHARS: usize = 200;

/// A name or text from outside, fit for logs and terminals: control characters escaped, cut at a bounded length.
pub(crate) fn printable(text: &OsStr) -> String {
    text.to_string_lossy().chars().take(MAX_SHOWN_CHARS).flat_map(shown).collect()
}

fn shown(c: char) -> impl Iterator<Item = char> {
    // Quotes and other printable characters stay; `escape_debug` handles controls, bidi marks and line separators.
    let keep = matches!(c, '"' | '\'' | '\\');
    let (plain, escaped) = if keep { (Some(c), None) } else { (None, Some(c.escape_debug())) };
    plain.into_iter().chain(escaped.into_iter().flatten())
}
