//! The changes that a session's summary must name, computed from the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::tree::walk;

/// Most names that a list of the summary has; its count is exact.
const MAX_NAMES: usize = 50;
/// Names that are shown where a test fails.
const MAX_SHOWN: usize = 20;

/// What one look at an entry tells without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    is_folder: bool,
    /// A change of these is a change of the content. For a folder they follow from what is in it, and are left out.
    content: (u32, u64, (i64, i64), Option<OsString>),
    rights: (u32, u32, u32),
    /// The time of the last change of the attributes; for a folder it follows from what is in it, and is left out.
    attributes: (i64, i64),
}

impl Stamp {
    fn of(path: &Path, meta: &Metadata) -> Self {
        let is_folder = meta.is_dir();
        let target = meta.is_symlink().then(|| fs::read_link(path).unwrap().into_os_string());
        let kind = meta.mode() & 0o170_000;
        let (content, attributes) = match is_folder {
            true => ((kind, 0, (0, 0), None), (0, 0)),
            false => ((kind, meta.len(), (meta.mtime(), meta.mtime_nsec()), target), (meta.ctime(), meta.ctime_nsec())),
        };
        Self { is_folder, content, rights: (meta.mode(), meta.uid(), meta.gid()), attributes }
    }
}

/// The stamps of everything in a folder at one time.
#[derive(Clone, Debug)]
pub(crate) struct Stamps(BTreeMap<PathBuf, Stamp>);

/// The lists of a summary by their names in JSON.
type Lists = BTreeMap<&'static str, BTreeSet<String>>;

impl Stamps {
    /// The stamps of the folder as it is now.
    pub(crate) fn of(root: &Path) -> Self {
        let mut stamps = BTreeMap::new();
        walk(root, &mut |path, meta| drop(stamps.insert(path.to_owned(), Stamp::of(&root.join(path), meta))));
        Self(stamps)
    }

    /// Checks the summary against what differs between this look and a later one.
    ///
    /// Only this function and [`Self::lists`] know which changes a summary names, and how. A list that is absent is empty.
    pub(crate) fn expect(&self, later: &Self, summary: &Value) {
        let changes = &summary["changes"];
        assert!(changes.is_object(), "the summary says nothing about changes: {summary}");
        for (name, wanted) in self.lists(later) {
            let list = &changes[name];
            let count = list["count"].as_u64().unwrap_or_default();
            let named = list["names"].as_array().or_else(|| list["folders"].as_array()).cloned().unwrap_or_default();
            let named: BTreeSet<&str> = named
                .iter()
                .map(|entry| entry.as_str().or_else(|| entry["path"].as_str()).unwrap_or_default())
                .collect();
            let first: Vec<&String> = wanted.iter().take(MAX_SHOWN).collect();
            assert_eq!(
                count,
                wanted.len() as u64,
                "{name}: named are {named:?}, the first of those wanted are {first:?}"
            );
            let wrong: Vec<&&str> = named.iter().filter(|name| !wanted.contains(**name)).collect();
            assert!(wrong.is_empty(), "{name}: {wrong:?} are named, the first of those wanted are {first:?}");
            assert_eq!(named.len(), wanted.len().min(MAX_NAMES), "{name}: {list}");
        }
        let known = ["added", "modified", "removed", "modeChanged", "touched", "git"];
        let more: Vec<_> =
            changes.as_object().into_iter().flatten().filter(|(name, _)| !known.contains(&name.as_str())).collect();
        assert!(more.is_empty(), "the summary says more than differs: {more:?}");
    }

    /// What differs: files, folders with nothing in them, and each folder of git's own as one.
    fn lists(&self, later: &Self) -> Lists {
        let mut lists = Lists::from(
            ["added", "modified", "removed", "modeChanged", "touched", "git"].map(|name| (name, BTreeSet::new())),
        );
        for path in self.0.keys().chain(later.0.keys()).collect::<BTreeSet<_>>() {
            let (before, after) = (self.0.get(path), later.0.get(path));
            let mut add = |name: &'static str, stamp: &Stamp| {
                let (name, path) = match git_folder(path) {
                    // In a submodule and in a worktree `.git` is a file like others.
                    Some(git) if git != path.as_path() || stamp.is_folder => ("git", printed(git)),
                    _ if stamp.is_folder => (name, printed(path) + "/"),
                    _ => (name, printed(path)),
                };
                lists.entry(name).or_default().insert(path);
            };
            match (before, after) {
                (Some(before), Some(after)) if before.is_folder == after.is_folder => {
                    if before.content != after.content {
                        add("modified", after);
                    } else if before.rights != after.rights {
                        add("modeChanged", after);
                    } else if before.attributes != after.attributes {
                        add("touched", after);
                    }
                }
                _ => {
                    if let Some(before) = before.filter(|stamp| !stamp.is_folder || self.is_empty(path)) {
                        add("removed", before);
                    }
                    if let Some(after) = after.filter(|stamp| !stamp.is_folder || later.is_empty(path)) {
                        add("added", after);
                    }
                }
            }
        }
        lists
    }

    /// Whether nothing is in the folder. Paths are ordered by their parts, so that the first entry follows its folder.
    fn is_empty(&self, folder: &Path) -> bool {
        let after = (std::ops::Bound::Excluded(folder.to_owned()), std::ops::Bound::Unbounded);
        self.0.range(after).next().is_none_or(|(path, _)| !path.starts_with(folder))
    }
}

/// The uppermost `.git` that the path is or lies in.
fn git_folder(path: &Path) -> Option<&Path> {
    path.ancestors().filter(|part| part.file_name().is_some_and(|name| name == ".git")).last()
}

/// A path as a summary writes it: each byte that is not UTF-8 as `\xNN`.
fn printed(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}
