//! What the agent changed, told by comparing two looks at the folder.
//!
//! Only metadata is compared, and no `git` is run: the repository's configuration is in the agent's hands, and git
//! would run programs that it names. `.git` and our own mount points are left out. A folder with too many files is not
//! told at all rather than told wrongly.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// More entries than this are not compared: about a second of looking.
const MAX_ENTRIES: usize = 100_000;
/// A look that takes longer is given up: the session must not wait for a slow disk.
const MAX_LOOK: Duration = Duration::from_secs(3);
/// Names that are listed of each kind; the counts are exact.
const MAX_NAMES: usize = 50;

/// Folders of the workspace that are not looked into.
const LEFT_OUT: [&str; 3] = [".git", "ipc", "extra"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    inode: u64,
    size: u64,
    mtime: (i64, i64),
}

/// One look at a folder.
#[derive(Debug, Serialize, Deserialize)]
pub struct Look {
    files: BTreeMap<PathBuf, Stamp>,
}

/// The files of the workspace that differ from before the session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// The files that were not there before.
    pub added: Names,
    /// The files that differ.
    pub modified: Names,
    /// The files that are gone.
    pub removed: Names,
}

/// Names of files: how many there are, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Names {
    /// How many files there are.
    pub count: usize,
    /// The names of the first 50 files, relative to the workspace.
    pub names: Vec<String>,
}

impl Names {
    fn add(&mut self, path: &Path) {
        self.count += 1;
        if self.names.len() < MAX_NAMES {
            self.names.push(path.to_string_lossy().into_owned());
        }
    }
}

impl Look {
    /// Keeps it in a file, for another process to compare with. A name that is not UTF-8 cannot be kept, and then nothing is.
    pub fn save(&self, file: &Path) -> std::io::Result<()> {
        fs::write(file, serde_json::to_vec(self).map_err(std::io::Error::other)?)
    }

    /// What was kept, if it was.
    pub fn load(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    /// Looks at all files under `root`, links not followed. None if there are too many, or it takes too long.
    pub fn at(root: &Path) -> Option<Self> {
        let started = Instant::now();
        let mut files = BTreeMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            // A folder that vanished or may not be read simply has no files to compare.
            let Ok(entries) = fs::read_dir(root.join(&folder)) else { continue };
            for entry in entries.flatten() {
                if folder.as_os_str().is_empty() && LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
                    continue;
                }
                let path = folder.join(entry.file_name());
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_dir() {
                    folders.push(path);
                } else {
                    let stamp = Stamp { inode: meta.ino(), size: meta.len(), mtime: (meta.mtime(), meta.mtime_nsec()) };
                    files.insert(path, stamp);
                }
                if files.len() + folders.len() > MAX_ENTRIES || started.elapsed() > MAX_LOOK {
                    return None;
                }
            }
        }
        Some(Self { files })
    }

    /// What differs in `later`.
    pub fn changes(&self, later: &Self) -> Changes {
        let mut changes = Changes::default();
        for (path, stamp) in &later.files {
            match self.files.get(path) {
                None => changes.added.add(path),
                Some(before) if before != stamp => changes.modified.add(path),
                Some(_) => {}
            }
        }
        for path in self.files.keys().filter(|path| !later.files.contains_key(*path)) {
            changes.removed.add(path);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_differs_and_leaves_git_out() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("src/same", "1");
        write("src/edited", "1");
        write("gone", "1");
        write(".git/index", "1");
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        let before = Look::at(dir.path()).unwrap();
        write("src/edited", "22");
        write("src/new", "1");
        write(".git/index", "22");
        write("ipc/input/x", "");
        fs::remove_file(dir.path().join("gone")).unwrap();
        let changes = before.changes(&Look::at(dir.path()).unwrap());
        let names = |list: &Names| (list.count, list.names.join(" "));
        assert_eq!(names(&changes.added), (1, "src/new".into()));
        assert_eq!(names(&changes.modified), (1, "src/edited".into()));
        assert_eq!(names(&changes.removed), (1, "gone".into()));
    }
}
