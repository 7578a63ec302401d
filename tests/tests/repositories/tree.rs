//! A folder with everything in it, as it can be compared: what each entry is, not when it was written.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Most differences that are named when a test fails.
const MAX_DIFFERENCES: usize = 30;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A regular file with its length and a hash of its bytes.
    File { length: u64, hash: u64 },
    /// A symbolic link with its target.
    Link(OsString),
    /// A folder.
    Folder,
    /// A FIFO, a socket or a device.
    Special(&'static str),
}

/// An entry with its permissions and owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    content: Content,
    mode: u32,
    owner: (u32, u32),
}

/// All entries below a folder by their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<PathBuf, Entry>);

impl Tree {
    /// Reads the folder with the contents of all files. The index of a repository holds inode numbers and times, which no two
    /// folders share: git tells what is in it (`git ls-files -s`), so that its bytes are left out.
    pub(crate) fn of(root: &Path) -> Self {
        let mut tree = BTreeMap::new();
        walk(root, &mut |path, meta| {
            let full = root.join(path);
            let content = if meta.is_dir() {
                Content::Folder
            } else if meta.is_symlink() {
                Content::Link(fs::read_link(&full).unwrap().into_os_string())
            } else if meta.is_file() && is_index(path) {
                Content::File { length: 0, hash: 0 }
            } else if meta.is_file() {
                let bytes = fs::read(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()));
                let mut hasher = DefaultHasher::new();
                bytes.hash(&mut hasher);
                Content::File { length: bytes.len() as u64, hash: hasher.finish() }
            } else {
                Content::Special(if meta.file_type().is_fifo() { "FIFO" } else { "socket or device" })
            };
            let entry = Entry { content, mode: meta.mode(), owner: (meta.uid(), meta.gid()) };
            tree.insert(path.to_owned(), entry);
        });
        Self(tree)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What differs from the tree that it should be, in words; empty if nothing does.
    pub(crate) fn differences(&self, wanted: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (path, entry) in &self.0 {
            match wanted.0.get(path) {
                None => found.push(format!("{} is too much: {entry:?}", path.display())),
                Some(other) if other != entry => {
                    found.push(format!("{} is {entry:?}, wanted is {other:?}", path.display()));
                }
                Some(_) => {}
            }
        }
        let missing = wanted.0.keys().filter(|path| !self.0.contains_key(*path));
        found.extend(missing.map(|path| format!("{} is missing", path.display())));
        let all = found.len();
        found.truncate(MAX_DIFFERENCES);
        if all > found.len() {
            found.push(format!("and {} more", all - found.len()));
        }
        found
    }
}

/// The index of a repository, of a worktree or of a submodule, wherever git keeps it.
fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "index") && path.iter().any(|part| part == ".git")
}

/// Calls `found` for every entry below `root` with its path from there; links are not followed.
pub(crate) fn walk(root: &Path, found: &mut impl FnMut(&Path, &Metadata)) {
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(root.join(&folder)).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let meta = entry.metadata().unwrap();
            found(&path, &meta);
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
}
