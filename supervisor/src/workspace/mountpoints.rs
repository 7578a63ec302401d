//! The folders `ipc` and `extra/<name>` inside the user's folder, over which the container's mounts go.
//!
//! The engine would make them as root and leave them behind. We make them with the owner's uid before, and remove those
//! that we made afterwards, if they are empty. Two sessions may work on one folder: `rmdir` of a folder that is a mount
//! point elsewhere detaches that mount (rmdir(2), since Linux 3.18), so the last session cleans up; the store counts.
//!
//! The agent can write into the user's folder while we clean up: every step is relative to a directory descriptor and
//! follows no link, and only empty folders are ever removed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

/// A folder that we made in the user's folder, relative to it.
pub type Made = PathBuf;

/// A mount point that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the mount point {name} in {}: {source}; the container needs it there, even for a read-only workspace", root.display())]
pub struct MountPointError {
    root: PathBuf,
    name: String,
    source: io::Error,
}

const DIR: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);

/// Makes `points` (relative, such as `ipc` or `extra/data`) under `root` with its owner's uid. Returns those folders
/// that were not there before, parents first. On an error what was made is removed again.
pub fn make(root: &Path, points: &[PathBuf]) -> Result<Vec<Made>, MountPointError> {
    let mut made = Vec::new();
    for point in points {
        if let Err(source) = make_one(root, point, &mut made) {
            remove(root, &made);
            return Err(MountPointError { root: root.to_owned(), name: point.display().to_string(), source });
        }
    }
    Ok(made)
}

/// Those folders that [`make`] would make, parents first: to be written down before it is called.
pub fn missing(root: &Path, points: &[PathBuf]) -> Vec<Made> {
    let mut missing = Vec::new();
    for point in points {
        let mut path = PathBuf::new();
        for name in point.components() {
            path.push(name);
            if !missing.contains(&path) && root.join(&path).symlink_metadata().is_err() {
                missing.push(path.clone());
            }
        }
    }
    missing
}

fn make_one(root: &Path, point: &Path, made: &mut Vec<Made>) -> io::Result<()> {
    let mut parent = open(root, DIR, Mode::empty())?;
    let owner = fstat(&parent)?;
    let mut path = PathBuf::new();
    for name in names(point)? {
        path.push(name);
        let new = match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(errno.into()),
        };
        let child = openat(&parent, name, DIR, Mode::empty())?;
        if new {
            made.push(path.clone());
            // The umask may have narrowed it; the agent has to be able to enter.
            fchmod(&child, Mode::from_bits_truncate(0o755))?;
            if Uid::effective().is_root() {
                fchown(&child, Some(Uid::from_raw(owner.st_uid)), Some(Gid::from_raw(owner.st_gid)))?;
            }
        }
        parent = child;
    }
    Ok(())
}

/// Removes those of `made` that are empty, children first. What is not empty, replaced or gone stays as it is.
pub fn remove(root: &Path, made: &[Made]) {
    for path in made.iter().rev() {
        if let (Ok(parent), Some(name)) = (open_parent(root, path), path.file_name()) {
            // AT_REMOVEDIR removes nothing but an empty directory, and no link to one.
            let _ = unlinkat(parent.as_fd(), name, UnlinkatFlags::RemoveDir);
        }
    }
}

fn open_parent(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    let mut parent = open(root, DIR, Mode::empty())?;
    for name in names(path.parent().unwrap_or(Path::new("")))? {
        parent = openat(&parent, name, DIR, Mode::empty())?;
    }
    Ok(parent)
}

fn names(path: &Path) -> io::Result<Vec<&OsStr>> {
    path.components()
        .map(|component| match component {
            Component::Normal(name) => Ok(name),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "a mount point must be a plain relative path"))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn points() -> Vec<PathBuf> {
        vec!["ipc".into(), "extra/data".into()]
    }

    #[test]
    fn leaves_the_folder_as_found() {
        let dir = tempfile::tempdir().unwrap();
        let missing = missing(dir.path(), &points());
        let made = make(dir.path(), &points()).unwrap();
        assert_eq!(made, ["ipc", "extra", "extra/data"].map(PathBuf::from));
        assert_eq!(made, missing);
        assert!(dir.path().join("extra/data").is_dir());
        remove(dir.path(), &made);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_there_or_is_not_empty_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("extra")).unwrap();
        let made = make(dir.path(), &points()).unwrap();
        assert_eq!(made, ["ipc", "extra/data"].map(PathBuf::from));
        fs::write(dir.path().join("ipc/users-file"), "").unwrap();
        remove(dir.path(), &made);
        assert!(dir.path().join("ipc/users-file").exists() && dir.path().join("extra").is_dir());
        assert!(!dir.path().join("extra/data").exists());
    }

    #[test]
    fn a_planted_link_is_neither_followed_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, victim) = (dir.path().join("root"), dir.path().join("victim"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(victim.join("data")).unwrap();
        std::os::unix::fs::symlink(&victim, root.join("extra")).unwrap();
        assert!(make(&root, &points()).is_err());
        assert!(!root.join("ipc").exists(), "what was made before the error is removed");
        remove(&root, &[PathBuf::from("extra"), PathBuf::from("extra/data")]);
        assert!(victim.join("data").is_dir() && root.join("extra").is_symlink());
    }

    #[test]
    fn only_plain_names() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["../x", "/etc/x", "a/../../b"] {
            assert!(make(dir.path(), &[bad.into()]).is_err(), "{bad}");
        }
    }
}
