//! The folders `ipc` and `extra/<name>` inside the user's folder, over which the container's mounts go.
//!
//! The engine would make them as root and leave them behind. We make them with the owner's uid before, and remove those
//! that we made afterwards, if they are empty. Two sessions may work on one folder: `rmdir` of a folder that is a mount
//! point elsewhere detaches that mount (rmdir(2), since Linux 3.18), so the last session cleans up; the store counts. A
//! session with another data directory has another store: so each also holds a shared flock(2) on the mount points that
//! it uses, which ends with its process, and a folder goes only if an exclusive one can be had. The container cannot
//! interfere: its mounts hide these folders from it.
//!
//! The agent can write into the user's folder while we clean up: every step is relative to a directory descriptor and
//! follows no link, and only empty folders are ever removed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::facts::FolderId;

/// A folder that we made in the user's folder, relative to it.
pub type Made = PathBuf;

/// How often, and after which pause, a folder is made again that somebody else was just removing.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(2);

/// Tells every other aigo that mount points are in use, for as long as it lives.
#[derive(Debug, Default)]
pub struct Held {
    /// The user's folder, whatever its path leads to later.
    root: Option<OwnedFd>,
    locks: Vec<Flock<OwnedFd>>,
    points: Vec<(PathBuf, FolderId)>,
}

/// Mount points that are there.
#[derive(Debug, Default)]
pub struct Points {
    /// Those folders that were not there before, parents first.
    pub made: Vec<Made>,
    /// The mount points that can be used. The others could not be made.
    pub there: Vec<PathBuf>,
    /// Keeps others from removing them.
    pub held: Held,
}

/// No mount points can be made.
#[derive(Debug, thiserror::Error)]
pub enum MountPointError {
    /// The folder cannot be opened.
    #[error("cannot open the workspace {}", root.display())]
    Root {
        /// The folder.
        root: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another folder is at the path of the one that was judged.
    #[error("the workspace {} was replaced by another folder while the session began; start it again", root.display())]
    Replaced {
        /// The path.
        root: PathBuf,
    },
}

impl Held {
    /// The user's folder, without the locks: others may remove the mount points from now on.
    pub fn let_go(self) -> Option<OwnedFd> {
        self.root
    }

    /// Mount points that somebody has removed on this host. What was mounted there is then gone from the container, too
    /// (rmdir(2), since Linux 3.18).
    pub fn lost(&self) -> Vec<PathBuf> {
        let Some(root) = &self.root else { return Vec::new() };
        // Other errors say nothing about the folder.
        let is_lost = |path: &Path, id: &FolderId| match fstatat(root, path, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => id_of(&stat) != *id,
            Err(errno) => errno == Errno::ENOENT,
        };
        self.points.iter().filter(|(path, id)| is_lost(path, id)).map(|(path, _)| path.clone()).collect()
    }
}

#[allow(clippy::useless_conversion, reason = "the width of st_dev and st_ino differs between targets")]
fn id_of(stat: &FileStat) -> FolderId {
    FolderId { device: u64::from(stat.st_dev), inode: u64::from(stat.st_ino) }
}

const DIR: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);

/// Makes `points` (relative, such as `ipc`) under `root` with its owner's uid, and holds them. A point that cannot be made is
/// left out: the folder may be read-only, or another's. With an `id`, `root` has to be that folder. Blocks for at most 0.1 s a
/// point.
pub fn make(root: &Path, id: Option<FolderId>, points: &[PathBuf]) -> Result<Points, MountPointError> {
    let fail = |source: Errno| MountPointError::Root { root: root.to_owned(), source: source.into() };
    let folder = open(root, DIR, Mode::empty()).map_err(fail)?;
    let found = fstat(&folder).map_err(fail)?;
    if id.is_some_and(|id| id != id_of(&found)) {
        return Err(MountPointError::Replaced { root: root.to_owned() });
    }
    let mut all = Points::default();
    for point in points {
        match make_and_hold(&folder, point, &mut all) {
            Ok(()) => {
                all.there.push(point.clone());
                if let Ok(stat) = fstatat(&folder, point.as_path(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                    all.held.points.push((point.clone(), id_of(&stat)));
                }
            }
            Err(error) => tracing::debug!("no mount point {} in {}: {error}", point.display(), root.display()),
        }
    }
    all.held.root = Some(folder);
    Ok(all)
}

fn make_and_hold(root: &OwnedFd, point: &Path, all: &mut Points) -> io::Result<()> {
    let mut tries = 1;
    loop {
        let outcome = make_one(root, point, &mut all.made).and_then(|(parent, name, child)| hold(&parent, name, child));
        match outcome {
            Ok(held) => {
                all.held.locks.extend(held);
                return Ok(());
            }
            // Somebody removes it, or a folder above it, at this moment.
            Err(error) if is_race(&error) && tries < TRIES => std::thread::sleep(PAUSE),
            // Nobody of ours holds it alone for so long: an agent in whose workspace this one lies. It shall not stop us.
            Err(error) if is_held_elsewhere(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        tries += 1;
    }
}

fn is_race(error: &io::Error) -> bool {
    is_held_elsewhere(error) || error.raw_os_error() == Some(Errno::ENOENT as i32)
}

fn is_held_elsewhere(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EWOULDBLOCK as i32)
}

/// Holds a folder, and makes sure that what is held is what has the name. File systems without locks on folders give
/// nothing to hold.
fn hold(parent: &OwnedFd, name: &OsStr, child: OwnedFd) -> io::Result<Option<Flock<OwnedFd>>> {
    match Flock::lock(child, FlockArg::LockSharedNonblock) {
        Ok(held) => {
            let (ours, named) = (fstat(&*held)?, fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?);
            if (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino) {
                Ok(Some(held))
            } else {
                Err(Errno::ENOENT.into())
            }
        }
        Err((_, Errno::EWOULDBLOCK)) => Err(Errno::EWOULDBLOCK.into()),
        Err(_) => Ok(None),
    }
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

/// The last folder of `point`, its name, and the folder that it is in.
fn make_one<'a>(root: &OwnedFd, point: &'a Path, made: &mut Vec<Made>) -> io::Result<(OwnedFd, &'a OsStr, OwnedFd)> {
    let mut parent = root.try_clone()?;
    let owner = fstat(&parent)?;
    let mut path = PathBuf::new();
    let names = names(point)?;
    let last = names.len().saturating_sub(1);
    for (index, name) in names.into_iter().enumerate() {
        path.push(name);
        let new = match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(errno.into()),
        };
        let child = openat(&parent, name, DIR, Mode::empty())?;
        if new {
            if !made.contains(&path) {
                made.push(path.clone());
            }
            // The umask may have narrowed it; the agent has to be able to enter.
            fchmod(&child, Mode::from_bits_truncate(0o755))?;
            if Uid::effective().is_root() {
                fchown(&child, Some(Uid::from_raw(owner.st_uid)), Some(Gid::from_raw(owner.st_gid)))?;
            }
        }
        if index == last {
            return Ok((parent, name, child));
        }
        parent = child;
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "a mount point must have a name"))
}

/// Removes those of `made` that are empty, children first, from the folder at `path`. See [`remove_in`].
pub fn remove(path: &Path, made: &[Made]) -> Vec<Made> {
    match open(path, DIR, Mode::empty()) {
        Ok(root) => remove_in(&root, made),
        // The folder is gone, and what was in it.
        Err(_) => Vec::new(),
    }
}

/// Removes those of `made` that are empty, children first, from the folder `root`. What is not empty, replaced or gone stays as
/// it is. Returns those that somebody holds, and the folders that these are in.
pub fn remove_in(root: &OwnedFd, made: &[Made]) -> Vec<Made> {
    let mut left: Vec<Made> = Vec::new();
    for path in made.iter().rev() {
        let used = || remove_one(root, path).is_err_and(|error| is_held_elsewhere(&error));
        if left.iter().any(|inner| inner.starts_with(path)) || used() {
            left.push(path.clone());
        }
    }
    left.reverse();
    left
}

fn remove_one(root: &OwnedFd, path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let parent = open_parent(root, path)?;
    let folder = openat(&parent, name, DIR, Mode::empty())?;
    // Where there are no such locks, nobody holds one.
    let alone = match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
        Err((_, Errno::EWOULDBLOCK)) => return Err(Errno::EWOULDBLOCK.into()),
        outcome => outcome.ok(),
    };
    // AT_REMOVEDIR removes nothing but an empty directory, and no link to one.
    unlinkat(parent.as_fd(), name, UnlinkatFlags::RemoveDir)?;
    drop(alone);
    Ok(())
}

fn open_parent(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut parent = root.try_clone()?;
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
        let Points { made, held, .. } = make(dir.path(), None, &points()).unwrap();
        assert_eq!(made, ["ipc", "extra", "extra/data"].map(PathBuf::from));
        assert_eq!(made, missing);
        assert!(dir.path().join("extra/data").is_dir());
        drop(held);
        assert_eq!(remove(dir.path(), &made), [""; 0].map(PathBuf::from));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_there_or_is_not_empty_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("extra")).unwrap();
        let Points { made, held, .. } = make(dir.path(), None, &points()).unwrap();
        assert_eq!(made, ["ipc", "extra/data"].map(PathBuf::from));
        drop(held);
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
        assert!(make(&root, None, &points()).unwrap().there == [PathBuf::from("ipc")]);
        remove(&root, &[PathBuf::from("ipc"), PathBuf::from("extra"), PathBuf::from("extra/data")]);
        assert!(victim.join("data").is_dir() && root.join("extra").is_symlink());
    }

    #[test]
    fn what_somebody_else_uses_stays_until_they_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let mine = make(dir.path(), None, &points()).unwrap();
        let theirs = make(dir.path(), None, &["extra/data".into()]).unwrap();
        assert_eq!(theirs.made, [""; 0].map(PathBuf::from));
        drop(mine.held);
        let left = remove(dir.path(), &mine.made);
        assert_eq!(left, ["extra", "extra/data"].map(PathBuf::from));
        assert!(!dir.path().join("ipc").exists() && dir.path().join("extra/data").is_dir());
        drop(theirs.held);
        assert_eq!(remove(dir.path(), &left), [""; 0].map(PathBuf::from));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_may_come_while_another_goes() {
        let dir = tempfile::tempdir().unwrap();
        let come_and_go = || {
            for _ in 0..500 {
                let Points { made, held, .. } = make(dir.path(), None, &points()).unwrap();
                for point in points() {
                    assert!(dir.path().join(point).is_dir());
                }
                drop(held);
                remove(dir.path(), &made);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(come_and_go);
            scope.spawn(come_and_go);
        });
    }

    #[test]
    fn another_folder_than_the_one_judged_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (judged, other) = (dir.path().join("judged"), dir.path().join("other"));
        fs::create_dir(&judged).unwrap();
        fs::create_dir(&other).unwrap();
        let id = FolderId::at(&judged).unwrap();
        let points = make(&judged, Some(id), &points()).unwrap();
        fs::rename(&judged, dir.path().join("moved")).unwrap();
        fs::rename(&other, &judged).unwrap();
        assert!(matches!(make(&judged, Some(id), &super::tests::points()), Err(MountPointError::Replaced { .. })));
        assert_eq!(fs::read_dir(&judged).unwrap().count(), 0);
        // What was made is removed where it was made.
        let root = points.held.let_go().unwrap();
        assert_eq!(remove_in(&root, &points.made), [""; 0].map(PathBuf::from));
        assert_eq!(fs::read_dir(dir.path().join("moved")).unwrap().count(), 0);
    }

    #[test]
    fn a_mount_point_that_somebody_removes_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let points = make(dir.path(), None, &["ipc".into()]).unwrap();
        assert!(points.held.lost().is_empty());
        fs::remove_dir(dir.path().join("ipc")).unwrap();
        assert_eq!(points.held.lost(), [PathBuf::from("ipc")]);
        fs::create_dir(dir.path().join("ipc")).unwrap();
        assert_eq!(points.held.lost(), [PathBuf::from("ipc")], "nothing is mounted on the new one");
    }

    #[test]
    fn only_plain_names() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["../x", "/etc/x", "a/../../b"] {
            let points = make(dir.path(), None, &[bad.into()]).unwrap();
            assert!(points.there.is_empty(), "{bad}");
        }
    }
}
