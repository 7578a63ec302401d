//! One daemon a data directory: the one that holds the lock on `daemon.lock`, which says who that is. It is a lock as of
//! sessions: who only asks about it keeps no daemon out.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use crate::session::lock::{self, Lock};

/// Bytes of the file that are read: it is ours, but a folder can be shared.
const MAX: u64 = 16 << 10;

/// Who runs the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
    /// Its socket for the CLI.
    pub socket: PathBuf,
}

/// The data directory has its daemon as long as this lives.
#[derive(Debug)]
pub struct DaemonLock(#[expect(dead_code, reason = "held for its lock")] Lock);

/// Why the lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error(
        "another aigo serves this data directory: process {}, since {}; stop it, or name another folder with --data-dir",
        .0.pid, .0.since
    )]
    Held(Holder),
    /// Another daemon has it, and has not said who it is yet.
    #[error("another aigo is just starting to serve this data directory; try again")]
    Starting,
    /// The file.
    #[error("cannot lock {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Takes the lock for this process.
///
/// # Errors
/// When another process has it, or the file cannot be made.
pub fn take(path: &Path, holder: &Holder) -> Result<DaemonLock, LockError> {
    let fail = |source| LockError::Io { path: path.to_owned(), source };
    let Some(lock) = lock::take(path).map_err(fail)? else {
        return Err(read(path).map_or(LockError::Starting, LockError::Held));
    };
    // A plain record of three fields: encoding it cannot fail.
    let text = serde_json::to_vec(holder).unwrap_or_default();
    let write = |text: &[u8]| {
        let mut options = OpenOptions::new();
        options.write(true).truncate(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?.write_all(text)
    };
    write(&text).map_err(fail)?;
    Ok(DaemonLock(lock))
}

/// Who serves the data directory, if somebody does.
pub fn holder(path: &Path) -> Option<Holder> {
    // Else what it says is of a daemon that has ended.
    lock::is_held(path).then(|| read(path))?
}

fn read(path: &Path) -> Option<Holder> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path).ok()?;
    let mut text = String::new();
    file.take(MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.lock");
        let me = Holder { pid: 7, since: Timestamp::UNIX_EPOCH, socket: "/run/s".into() };
        assert_eq!(holder(&path), None);
        let lock = take(&path, &me).unwrap();
        assert_eq!(holder(&path), Some(me.clone()));
        let other = Holder { pid: 8, ..me.clone() };
        let error = take(&path, &other).unwrap_err();
        assert!(error.to_string().contains("process 7"), "{error}");
        drop(lock);
        assert_eq!(holder(&path), None);
        let _lock = take(&path, &other).unwrap();
        assert_eq!(holder(&path), Some(other));
    }

    #[test]
    fn who_asks_keeps_no_daemon_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.lock");
        let me = Holder { pid: 7, since: Timestamp::UNIX_EPOCH, socket: "/run/s".into() };
        drop(take(&path, &me).unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    holder(&path);
                }
            });
            let refused = (0..5000).filter(|_| take(&path, &me).is_err()).count();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(refused, 0);
        });
    }
}
