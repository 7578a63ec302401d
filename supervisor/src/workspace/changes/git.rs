//! Which folders belong to Git. A commit writes a dozen files with names that say nothing to a person, and would bury the
//! files that were edited: so each folder of Git's own is one line.
//!
//! - `.git`, if it is a folder: all that is in it, submodules' repositories (`.git/modules`) among it.
//! - A bare repository, known by `HEAD`, `objects` and `refs`: only the entries that Git makes in it. A working tree beside
//!   them is compared as any other folder. So an agent that makes those three in a folder of the project hides nothing.

use super::look::{Entry, Look};

/// The name of a repository's folder in its working tree.
pub(super) const DOT_GIT: &[u8] = b".git";

/// What git makes in a bare repository (gitrepository-layout(5)), and git-lfs.
const OWN: [&[u8]; 26] = [
    b"AUTO_MERGE",
    b"BISECT_LOG",
    b"CHERRY_PICK_HEAD",
    b"COMMIT_EDITMSG",
    b"FETCH_HEAD",
    b"HEAD",
    b"MERGE_HEAD",
    b"MERGE_MODE",
    b"MERGE_MSG",
    b"ORIG_HEAD",
    b"REVERT_HEAD",
    b"branches",
    b"config",
    b"config.worktree",
    b"description",
    b"gc.log",
    b"hooks",
    b"index",
    b"info",
    b"lfs",
    b"logs",
    b"modules",
    b"objects",
    b"packed-refs",
    b"refs",
    b"worktrees",
];

/// How much of a bare repository a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bare {
    /// It has none of what makes one, or is not there.
    Not,
    /// It has a part of that.
    Partly,
    /// It is one.
    Whole,
}

/// Judges a folder by its entries.
pub(super) fn bare(look: &Look, folder: Option<u32>) -> Bare {
    let Some(folder) = folder else { return Bare::Not };
    let is_mark = |entry: &Entry<'_>| match entry.name {
        b"HEAD" => entry.stamp.is_file(),
        b"objects" | b"refs" => entry.stamp.is_folder(),
        _ => false,
    };
    match look.entries(folder).filter(is_mark).count() {
        0 => Bare::Not,
        3 => Bare::Whole,
        _ => Bare::Partly,
    }
}

/// Whether Git makes an entry of this name in a bare repository.
pub(super) fn is_own(name: &[u8]) -> bool {
    OWN.binary_search(&name).is_ok()
}
