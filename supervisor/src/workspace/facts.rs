//! What is known about a folder before it is mounted. Gathered once; what was looked at is what is mounted.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// Which folder it is: a path can lead to another one later, these two numbers (stat(2)) cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderId {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

impl FolderId {
    /// The folder at `path`.
    pub fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|meta| Self::of(&meta))
    }

    fn of(meta: &fs::Metadata) -> Self {
        Self { device: meta.dev(), inode: meta.ino() }
    }
}

/// A folder as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderFacts {
    /// What was asked for.
    pub asked: PathBuf,
    /// Absolute, without symbolic links.
    pub canonical: PathBuf,
    /// Which folder that was.
    pub id: FolderId,
    /// Who owns it.
    pub uid: u32,
    /// And its group.
    pub gid: u32,
    /// A directory, as opposed to a file or device.
    pub is_dir: bool,
    /// We may read it and enter it.
    pub readable: bool,
    /// We may make folders in it.
    pub writable: bool,
    /// Something of the user's own is at `ipc`: anything but an empty folder.
    pub has_ipc: bool,
    /// Something of the user's own is at `extra`: anything but an empty folder.
    pub has_extra: bool,
}

/// A folder that cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: {}", path.display(), remedy(source, path))]
pub struct FolderError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

fn remedy(error: &io::Error, path: &Path) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("it does not exist; make it with `mkdir -p {}`", path.display()),
        io::ErrorKind::PermissionDenied => {
            "this user may not look into it; run aigo as its owner, or change its mode".to_owned()
        }
        _ => error.to_string(),
    }
}

impl FolderFacts {
    /// Looks at `asked`, following symbolic links to the real folder.
    pub fn gather(asked: &Path) -> Result<Self, FolderError> {
        let fail = |source| FolderError { path: asked.to_owned(), source };
        let canonical = asked.canonicalize().map_err(fail)?;
        let meta = fs::metadata(&canonical).map_err(fail)?;
        let has = |name: &str| is_taken(&canonical.join(name));
        Ok(Self {
            asked: asked.to_owned(),
            id: FolderId::of(&meta),
            uid: meta.uid(),
            gid: meta.gid(),
            is_dir: meta.is_dir(),
            readable: access(&canonical, AccessFlags::R_OK | AccessFlags::X_OK).is_ok(),
            writable: access(&canonical, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
            has_ipc: has("ipc"),
            has_extra: has("extra"),
            canonical,
        })
    }
}

/// Whether something is at `path` that a mount there would hide.
fn is_taken(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        // One that cannot be read may hold anything.
        Ok(meta) if meta.is_dir() => fs::read_dir(path).map_or(true, |mut entries| entries.next().is_some()),
        Ok(_) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_the_real_folder() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir_all(real.join("ipc")).unwrap();
        fs::create_dir_all(real.join("extra/x")).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        let facts = FolderFacts::gather(&dir.path().join("link")).unwrap();
        assert_eq!(facts.canonical, real.canonicalize().unwrap());
        assert!(facts.is_dir && !facts.has_ipc && facts.has_extra);
    }

    #[test]
    fn a_missing_folder_says_how_to_make_it() {
        let error = FolderFacts::gather(Path::new("/nonexistent/x")).unwrap_err().to_string();
        assert!(error.contains("mkdir -p /nonexistent/x"), "{error}");
    }
}
