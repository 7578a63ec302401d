//! Who owns a session: the process that holds a lock on its lock file.
//!
//! The kernel drops a flock(2) lock when its process ends, however it ends, and a process id that is used again cannot
//! be taken for the owner.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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
        .custom_flags(libc_nofollow())
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Whether somebody holds the lock. A missing file is held by nobody.
pub fn is_held(path: &Path) -> bool {
    match OpenOptions::new().write(true).custom_flags(libc_nofollow()).open(path) {
        Ok(file) => matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

fn libc_nofollow() -> i32 {
    nix::fcntl::OFlag::O_NOFOLLOW.bits()
}

#[cfg(test)]
mod tests {
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
}
