//! A mark that makes git leave a mounted folder alone: an empty repository in it.
//!
//! `git clean -fdx` removes ignored files, too, but never what is in another repository (git-clean(1), `-f`). The folder is a
//! mount point in the user's repository, so without the mark that command would empty it, and then fail, since a mount
//! point cannot be removed. The runner has git ignore the folder as such.

use std::ffi::OsStr;

use crate::dir::{DirError, Durability, Owner, SafeDir};

/// The mark's name in the folder.
pub const NAME: &str = ".git";

/// What git looks for in a folder before it takes that for a repository (gitrepository-layout(5)).
const FOLDERS: [&str; 2] = ["objects", "refs"];
const HEAD: &str = "HEAD";
const HEAD_TEXT: &[u8] = b"ref: refs/heads/aigo\n";
/// Readable for every user of the container, as git has to find it.
const MODE: u32 = 0o755;

/// Whether the mark is there, whole: a recursive search and replace may have changed its text.
pub fn is_there(dir: &SafeDir) -> bool {
    dir.subdir(OsStr::new(NAME)).is_ok_and(|mark| {
        let head = mark.read(OsStr::new(HEAD), HEAD_TEXT.len() as u64);
        FOLDERS.iter().all(|name| mark.exists(OsStr::new(name)).unwrap_or(false))
            && head.ok().flatten().is_some_and(|head| head.bytes == HEAD_TEXT)
    })
}

/// Puts the mark into `dir`. What is in its place, and is no folder, is moved aside.
pub fn put(dir: &SafeDir, owner: Option<Owner>) -> Result<(), DirError> {
    let mark = dir.renew_subdir(OsStr::new(NAME), MODE, owner)?;
    for folder in FOLDERS {
        mark.make_subdir(OsStr::new(folder), MODE, owner)?;
    }
    mark.replace(OsStr::new(HEAD), HEAD_TEXT, Durability::Cached, owner)
}
