//! Opening what an attacker may have planted.
//!
//! `openat2` (Linux 5.6) resolves below the folder, without symlinks and magic links. Where it is missing (`ENOSYS`) or
//! forbidden by an old seccomp profile (`EPERM`), `openat` with `O_NOFOLLOW` does: names are single components, so there is
//! no middle that could be a link.
//!
//! A file is first opened with `O_PATH`, which has no effect on it, and looked at; only a regular file is then opened
//! to read. Opening first and looking later is not harmless: a container's root can make device nodes, and opening a
//! watchdog or a tape on the host *does* something.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use super::{DirError, FileId, SafeDir, component, printable};

/// Set once `openat2` has turned out to be missing.
static WITHOUT_OPENAT2: AtomicBool = AtomicBool::new(false);

/// How often a lookup is tried that the kernel could not do because of a rename at the same time (`EAGAIN`).
const LOOKUP_TRIES: usize = 8;

/// What is at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character or block device.
    Device,
    /// Something that this build does not know.
    Other,
}

impl FileKind {
    /// The kind in a file's mode, inode(7).
    pub fn of(stat: &FileStat) -> Self {
        let format = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        if format == SFlag::S_IFREG {
            Self::Regular
        } else if format == SFlag::S_IFDIR {
            Self::Directory
        } else if format == SFlag::S_IFLNK {
            Self::Symlink
        } else if format == SFlag::S_IFIFO {
            Self::Fifo
        } else if format == SFlag::S_IFSOCK {
            Self::Socket
        } else if format == SFlag::S_IFCHR || format == SFlag::S_IFBLK {
            Self::Device
        } else {
            Self::Other
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular => "regular file",
            Self::Directory => "folder",
            Self::Symlink => "symbolic link",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
            Self::Device => "device",
            Self::Other => "file of an unknown kind",
        })
    }
}

/// Why a file is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Only regular files carry messages.
    #[error("is a {0}, not a regular file")]
    Kind(FileKind),
    /// The same file has a name elsewhere: its content can be somebody else's.
    #[error("has {0} hard links; a message file has one name (write to a temporary name, then rename)")]
    HardLink(u64),
    /// Larger than the limit.
    #[error("has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size, or what was seen of it, in bytes.
        size: u64,
        /// The most allowed, in bytes.
        limit: u64,
    },
    /// We have no right to read it.
    #[error("cannot be read by uid {uid} ({errno}); write it as the session's own user with mode 0644")]
    Unreadable {
        /// Who tried.
        uid: u32,
        /// What the system said.
        errno: Errno,
    },
    /// Somebody holds a lease on it (fcntl(2), `F_SETLEASE`), which would make a reader wait.
    #[error("is kept busy by a lease of its writer")]
    Leased,
    /// The name is not UTF-8.
    #[error("has a name that is not UTF-8")]
    Name,
    /// No complete JSON object of the right form.
    #[error("is not a valid message: {0}")]
    Json(String),
    /// The JSON ends too early and has not grown complete in time.
    #[error("is incomplete JSON: {0} (write to a temporary name, then rename)")]
    Torn(String),
}

impl Refused {
    /// Whether it is our own lack of descriptors or memory, and no fault of the file: to be tried again.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreadable { errno, .. } => super::is_transient(*errno),
            Self::Kind(_)
            | Self::HardLink(_)
            | Self::TooLarge { .. }
            | Self::Leased
            | Self::Name
            | Self::Json(_)
            | Self::Torn(_) => false,
        }
    }
}

/// A regular file that was read whole.
#[derive(Debug)]
pub struct Contents {
    /// What is in it, at most the limit asked for.
    pub bytes: Vec<u8>,
    /// Which file it was.
    pub id: FileId,
}

impl SafeDir {
    /// Opens the folder `name` in this one. A symlink is an error, not a way.
    pub fn subdir(&self, name: &OsStr) -> Result<Self, DirError> {
        let fd = self
            .open_at(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?
            .map_err(|errno| self.error("open the folder", name, errno))?;
        Self::from_fd(fd, self.path.join(name))
    }

    /// Opens the folder at `path`, which is relative and may have several names. A symlink at any of them is an error, not a
    /// way, also if somebody puts it there at this moment.
    pub fn descend(&self, path: &Path) -> Result<Self, DirError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let names = path.components().map(|name| match name {
            Component::Normal(name) => component(name),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
                Err(DirError::BadName(printable(path.as_os_str())))
            }
        });
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let [first, rest @ ..] = names.as_slice() else {
            return Err(DirError::BadName(printable(path.as_os_str())));
        };
        let fail = |errno| self.error("open the folder", path.as_os_str(), errno);
        if let Some(opened) = self.openat2(path.as_os_str(), flags, Mode::empty()) {
            return Self::from_fd(opened.map_err(fail)?, self.path.join(path));
        }
        // Without openat2 each step is one name, which leaves no middle that could be a link.
        let step = |at: BorrowedFd<'_>, name: &OsStr| openat(at, name, flags, Mode::empty()).map_err(fail);
        let mut at = step(self.fd.as_fd(), first)?;
        for name in rest {
            at = step(at.as_fd(), name)?;
        }
        Self::from_fd(at, self.path.join(path))
    }

    /// Reads the whole regular file `name` of at most `limit` bytes. `None`: it is gone.
    ///
    /// Never blocks, never follows, has no effect on anything but regular files.
    pub fn read(&self, name: &OsStr, limit: u64) -> Result<Option<Contents>, Refused> {
        let Some((file, stat)) = self.open_regular(name)? else { return Ok(None) };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size > limit {
            return Err(Refused::TooLarge { size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        // One byte more than allowed, so that a file that grows meanwhile is noticed.
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(io_errno(&error)))?;
        let size = bytes.len() as u64;
        if size > limit {
            return Err(Refused::TooLarge { size, limit });
        }
        Ok(Some(Contents { bytes, id: FileId::of(&stat) }))
    }

    /// Opens the regular file `name` to read, if it is one and has no second name.
    pub(crate) fn open_regular(&self, name: &OsStr) -> Result<Option<(File, FileStat)>, Refused> {
        let looked = match self.open_at(name, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(Ok(fd)) => fd,
            Ok(Err(Errno::ENOENT)) => return Ok(None),
            // With `RESOLVE_NO_SYMLINKS` some kernels refuse already here.
            Ok(Err(Errno::ELOOP)) => return Err(Refused::Kind(FileKind::Symlink)),
            Ok(Err(errno)) => return Err(unreadable(errno)),
            Err(_) => return Err(Refused::Name),
        };
        let seen = check_regular(&looked)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let link = format!("/proc/self/fd/{}", looked.as_raw_fd());
        let fd = match nix::fcntl::open(link.as_str(), flags, Mode::empty()) {
            Ok(fd) => fd,
            // No /proc (a bare container): by name again, and it must still be the same file.
            Err(Errno::ENOENT | Errno::ENOTDIR) => match self.open_at(name, flags | OFlag::O_NOFOLLOW, Mode::empty()) {
                Ok(Ok(fd)) => fd,
                Ok(Err(Errno::ENOENT)) => return Ok(None),
                Ok(Err(errno)) => return Err(open_refusal(errno)),
                Err(_) => return Err(Refused::Name),
            },
            Err(errno) => return Err(open_refusal(errno)),
        };
        let stat = check_regular(&fd)?;
        if FileId::of(&stat) != FileId::of(&seen) {
            return Ok(None);
        }
        Ok(Some((File::from(fd), stat)))
    }

    /// Opens the regular file `name` to append to it. A file that is not there is made with mode 0644 whatever the umask,
    /// since the two sides may have different uids, and gets its name when it has its mode: a reader that is told of the name
    /// at once can open it.
    pub(crate) fn append_to(&self, name: &OsStr) -> Result<File, Refused> {
        if let Some(file) = self.open_to_append(name)? {
            return Ok(file);
        }
        self.make_empty(name).map_err(|error| match error.errno() {
            Some(errno) => unreadable(errno),
            None => Refused::Name,
        })?;
        self.open_to_append(name)?.ok_or_else(|| unreadable(Errno::ENOENT))
    }

    fn open_to_append(&self, name: &OsStr) -> Result<Option<File>, Refused> {
        // O_NONBLOCK: a planted FIFO without a reader answers ENXIO instead of hanging us.
        let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let fd = match self.open_at(name, flags, Mode::empty()) {
            Ok(Ok(fd)) => fd,
            Ok(Err(Errno::ENOENT)) => return Ok(None),
            Ok(Err(Errno::ENXIO)) => return Err(Refused::Kind(FileKind::Fifo)),
            Ok(Err(Errno::EISDIR)) => return Err(Refused::Kind(FileKind::Directory)),
            Ok(Err(errno)) => return Err(open_refusal(errno)),
            Err(_) => return Err(Refused::Name),
        };
        check_regular(&fd)?;
        Ok(Some(File::from(fd)))
    }

    /// The outer error is a bad name, the inner one the system's.
    pub(super) fn open_at(&self, name: &OsStr, flags: OFlag, mode: Mode) -> Result<Result<OwnedFd, Errno>, DirError> {
        let name = component(name)?;
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        match self.openat2(name, flags, mode) {
            Some(done) => Ok(done),
            None => Ok(openat(&self.fd, name, flags, mode)),
        }
    }

    /// Opens `path` below this folder by openat2(2). `None`: the system has no such call, or does not let us use it.
    fn openat2(&self, path: &OsStr, flags: OFlag, mode: Mode) -> Option<Result<OwnedFd, Errno>> {
        let resolve =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let mut tries = 0;
        while !WITHOUT_OPENAT2.load(Ordering::Relaxed) {
            let how = OpenHow::new().flags(flags).mode(mode).resolve(resolve);
            match openat2(&self.fd, path, how) {
                Err(Errno::ENOSYS) => WITHOUT_OPENAT2.store(true, Ordering::Relaxed),
                // The call, or this file (immutable)? The other way of opening tells.
                Err(Errno::EPERM) => break,
                Err(Errno::EAGAIN | Errno::EINTR) if tries < LOOKUP_TRIES => tries += 1,
                done => return Some(done),
            }
        }
        None
    }
}

fn check_regular(fd: &OwnedFd) -> Result<FileStat, Refused> {
    let stat = fstat(fd).map_err(unreadable)?;
    let kind = FileKind::of(&stat);
    if kind != FileKind::Regular {
        return Err(Refused::Kind(kind));
    }
    // 0 is a file that was just removed or replaced: what we hold is complete, and nobody else's.
    #[allow(clippy::useless_conversion, reason = "the width of st_nlink differs between targets")]
    let links = u64::from(stat.st_nlink);
    if links > 1 {
        return Err(Refused::HardLink(links));
    }
    Ok(stat)
}

fn open_refusal(errno: Errno) -> Refused {
    match errno {
        Errno::EWOULDBLOCK => Refused::Leased,
        Errno::ELOOP => Refused::Kind(FileKind::Symlink),
        errno => unreadable(errno),
    }
}

fn unreadable(errno: Errno) -> Refused {
    Refused::Unreadable { uid: nix::unistd::geteuid().as_raw(), errno }
}

pub(super) fn io_errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways of opening are tried: the flag is process-wide, and each test is a process of its own under nextest;
    /// under plain `cargo test` the others then run without openat2, which must make no difference.
    #[test]
    fn without_openat2_links_are_refused_just_the_same() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("real/deep")).unwrap();
        std::os::unix::fs::symlink("deep", temp.path().join("real/link")).unwrap();
        std::fs::write(temp.path().join("secret"), "{}").unwrap();
        std::os::unix::fs::symlink("real", temp.path().join("link")).unwrap();
        std::os::unix::fs::symlink("secret", temp.path().join("file")).unwrap();
        let dir = SafeDir::open(temp.path()).unwrap();
        for without in [false, true] {
            WITHOUT_OPENAT2.store(without, Ordering::Relaxed);
            assert!(dir.subdir(OsStr::new("real")).is_ok());
            assert!(dir.subdir(OsStr::new("link")).is_err());
            assert!(dir.descend(Path::new("real/deep")).is_ok());
            for bad in ["link/deep", "real/link", "real/deep/../..", "/etc", "", "real/none"] {
                assert!(dir.descend(Path::new(bad)).is_err(), "{bad}");
            }
            assert_eq!(dir.read(OsStr::new("file"), 9).unwrap_err(), Refused::Kind(FileKind::Symlink));
            assert_eq!(dir.read(OsStr::new("secret"), 9).unwrap().unwrap().bytes, b"{}");
            for bad in ["", ".", "..", "a/b", "../x", "/etc"] {
                assert!(matches!(dir.subdir(OsStr::new(bad)), Err(DirError::BadName(_))), "{bad}");
            }
        }
    }
}
