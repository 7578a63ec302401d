//! What differs in the user's folder between two moments: before the agent started, and at the session's end.
//!
//! ```text
//! before the agent                                  at the end, also of another process
//! Before::take ──► descriptor of the folder ──────► the same descriptor, or the path opened again: still that folder?
//!            └───► Look (walk.rs) ──► file `look` ─► Look::load ──┐
//!                                                   walk again ───┴──► compare (compare.rs) ──► Changes
//! ```
//!
//! Only metadata is compared (type, mode, owner, size, mtime, ctime, target of a link), and no `git` is run: the repository's
//! configuration is in the agent's hands, and git would run programs that it names. Git's own folders are one line each,
//! see [`git`]. The folder is opened once; everything below it is reached from that descriptor, and no link is followed.
//!
//! A look is bounded in time and in memory. What was not looked at is named in [`Changes::left_out`]: it is never said to be
//! unchanged, and never said to be removed.

mod before;
mod compare;
mod git;
mod look;
mod walk;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use before::{Before, Compared};

/// Names that are listed of each kind; the counts are exact.
const MAX_NAMES: usize = 50;

/// What differs in the user's folder from before the agent started, as far as it was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// Files, and folders with nothing in them, that were not there before. A folder's name ends with a slash.
    pub added: Names,
    /// Files whose type, size, modification time or link target differ.
    pub modified: Names,
    /// Files, and folders with nothing in them, that are gone. A folder's name ends with a slash.
    pub removed: Names,
    /// Files and folders whose permissions or owner differ, and nothing else. `./` is the folder itself.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub mode_changed: Names,
    /// Files of which only the time of the last change of their attributes (ctime) differs: the same mode was set once more, they
    /// were linked, or somebody has edited them and put the modification time back.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub touched: Names,
    /// Folders of Git's own (`.git`, and what belongs to Git in a bare repository), each of them as one.
    #[serde(default, skip_serializing_if = "GitFolders::is_empty")]
    pub git: GitFolders,
    /// Folders that were not compared. Nothing is said about what is in them.
    #[serde(default, skip_serializing_if = "LeftOut::is_empty")]
    pub left_out: LeftOut,
    /// Something was left out: at least these files differ.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

/// A count and the first names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Names {
    /// How many.
    pub count: usize,
    /// The first of them, relative to the folder. Bytes that are not UTF-8 are written as `\xNN`.
    pub names: Vec<String>,
}

/// Folders of Git's own that differ: how many, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitFolders {
    /// How many.
    pub count: usize,
    /// The first of them.
    pub folders: Vec<GitFolder>,
}

/// A folder of Git's own that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitFolder {
    /// Its path, relative to the user's folder; `./` if that is a bare repository itself.
    pub path: String,
    /// What became of it.
    pub change: GitChange,
}

/// What became of a folder of Git's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum GitChange {
    /// It was not there before.
    Added,
    /// Something in it differs.
    Changed,
    /// It is gone.
    Removed,
}

/// Folders that were not compared: how many, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// How many.
    pub count: usize,
    /// The first of them.
    pub folders: Vec<LeftOutFolder>,
}

/// A folder that was not compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeftOutFolder {
    /// Its path, relative to the user's folder; `./` is that folder itself.
    pub path: String,
    /// Why, in words.
    pub reason: String,
}

impl Names {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, path: impl FnOnce() -> String) {
        self.count += 1;
        if self.names.len() < MAX_NAMES {
            self.names.push(path());
        }
    }
}

impl GitFolders {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, change: GitChange, path: impl FnOnce() -> String) {
        self.count += 1;
        if self.folders.len() < MAX_NAMES {
            self.folders.push(GitFolder { path: path(), change });
        }
    }
}

impl LeftOut {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, reason: impl FnOnce() -> String, path: impl FnOnce() -> String) {
        self.count += 1;
        if self.folders.len() < MAX_NAMES {
            self.folders.push(LeftOutFolder { path: path(), reason: reason() });
        }
    }
}

/// A path for people and for JSON. Bytes that are not UTF-8 are shown as `\xNN`, as two names must not look the same.
fn printed(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests;
