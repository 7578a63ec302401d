//! Who owns a session: the process that holds a lock on its lock file.
//!
//! The kernel drops the lock when its process ends, however it ends, and a process id that is used again cannot be taken
//! for the owner. It is an open file description lock (`F_OFD_SETLK`, fcntl(2)): unlike flock(2) it can be asked about
//! without being taken, so that nobody who asks is mistaken for an owner, or keeps one out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

/// The session is ours as long as this lives.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

/// Takes the lock, or tells that somebody else has it (`None`).
pub fn take(path: &Path) -> io::Result<Option<Lock>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)?;
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&exclusive())) {
        Ok(_) => Ok(Some(Lock(file))),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether somebody holds the lock. A missing file is held by nobody.
pub fn is_held(path: &Path) -> bool {
    let Ok(file) = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path) else {
        return false;
    };
    let mut lock = exclusive();
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short
}

/// A write lock on the whole file, as the kernel wants to have it described.
fn exclusive() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!is_held(&path));
        let lock = take(&path).unwrap().unwrap();
        assert!(is_held(&path) && take(&path).unwrap().is_none());
        drop(lock);
        assert!(!is_held(&path) && take(&path).unwrap().is_some());
    }

    #[test]
    fn who_asks_keeps_no_owner_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        drop(take(&path).unwrap());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    is_held(&path);
                }
            });
            let refused = (0..20_000).filter(|_| take(&path).unwrap().is_none()).count();
            done.store(true, Ordering::Relaxed);
            assert_eq!(refused, 0);
        });
    }
}
