//! What the engine has made in a folder that was mounted by mistake.
//!
//! When somebody swaps the workspace in between, the engine mounts another folder, and makes the mount points for the mailbox
//! in it. The runner finds out and tells which folder it is; once the container is gone, its empty mount points are removed.
//! What the runner tells is the container's word, so only empty folders of these names are touched, which are root's or ours
//! and were made since the session began.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::request::{EXTRA, IPC};

/// Clocks of file systems lag behind the system's by a tick.
const TICK: Duration = Duration::from_secs(1);

/// A mounted folder as proc_pid_mountinfo(5) names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedAt {
    /// `major:minor` of its file system.
    pub device: String,
    /// Its path in that file system.
    pub root: String,
}

/// Removes the mount points that the engine has made in this folder since `began`. Returns what could not be done, in words.
pub async fn remove(folder: Option<MountedAt>, began: SystemTime) -> Option<String> {
    let folder = folder?;
    let work = move || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        remove_from(&folder, &table, began).err()
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Some(error.to_string()))
}

fn remove_from(folder: &MountedAt, table: &str, began: SystemTime) -> Result<(), String> {
    let unknown = || {
        "another folder was mounted as the workspace, and an empty folder `ipc` may have been left in it; where that is on \
         this host is not known"
            .to_owned()
    };
    let path = place(folder, table).ok_or_else(unknown)?;
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let root = open(&path, flags, Mode::empty()).map_err(|_| unknown())?;
    for name in [IPC, EXTRA] {
        let Ok(stat) = fstatat(&root, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        if is_ours(&stat, began) {
            remove_empty(&root, name, &path)?;
        }
    }
    Ok(())
}

fn remove_empty(root: &OwnedFd, name: &str, path: &Path) -> Result<(), String> {
    // A session that works on this folder in order holds its mount points; their removal would take its mounts.
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let Ok(folder) = openat(root, name, flags, Mode::empty()) else { return Ok(()) };
    let alone = Flock::lock(folder, FlockArg::LockExclusiveNonblock);
    if matches!(&alone, Err((_, Errno::EWOULDBLOCK))) {
        return Ok(());
    }
    match unlinkat(root, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => Ok(()),
        Err(errno) => Err(format!("the empty folder {} was left: {}", path.join(name).display(), errno.desc())),
    }
}

fn is_ours(stat: &FileStat, began: SystemTime) -> bool {
    let changed = u64::try_from(stat.st_ctime).ok().map(|secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
    let owner = [0, geteuid().as_raw()];
    owner.contains(&stat.st_uid) && changed.is_some_and(|changed| changed + TICK + TICK > began)
}

/// Where the folder is on this host: below the mount of its file system that shows it.
fn place(folder: &MountedAt, table: &str) -> Option<PathBuf> {
    let root = unescape(&folder.root);
    if Path::new(&root).components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let below = |line: &str| {
        let mut fields = line.split(' ').skip(2);
        let (device, shown, point) = (fields.next()?, fields.next()?, fields.next()?);
        if device != folder.device {
            return None;
        }
        let rest = Path::new(&root).strip_prefix(unescape(shown)).ok()?;
        Some(Path::new(&unescape(point)).join(rest))
    };
    table.lines().filter_map(below).find(|path| path.is_dir())
}

/// Paths in the table have blanks, line ends and backslashes as three octal digits (proc_pid_mountinfo(5)).
fn unescape(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_empty_folders_of_ours_that_are_new_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (wrong, table) = (dir.path().join("a b"), format!("1 0 7:7 /top {} rw - x y rw\n", dir.path().display()));
        for name in ["ipc", "extra", "other"] {
            fs::create_dir_all(wrong.join(name)).unwrap();
        }
        fs::write(wrong.join("extra/file"), "").unwrap();
        let folder = MountedAt { device: "7:7".into(), root: "/top/a\\040b".into() };
        remove_from(&folder, &table, SystemTime::now() + Duration::from_secs(60)).unwrap();
        assert!(wrong.join("ipc").is_dir(), "it is older than the session");
        remove_from(&folder, &table, SystemTime::now()).unwrap();
        assert!(!wrong.join("ipc").exists() && wrong.join("extra/file").exists() && wrong.join("other").is_dir());
        let elsewhere = MountedAt { device: "7:8".into(), root: "/".into() };
        assert!(remove_from(&elsewhere, &table, SystemTime::now()).is_err());
    }
}
