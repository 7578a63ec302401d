//! Phase 4: the agent's home folder is there and its own.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use ipc_protocol::config::{Identity, Layout};

use super::accounts::AGENT;
use super::{Phase, User};

const ROOT_HOME: &str = "/root";

/// Where an agent lives whose home cannot be made (a read-only root).
const FALLBACK_HOME: &str = "/tmp";

/// Most entries of a home folder of the image's that change hands; more are left, with a note.
const MAX_ENTRIES: usize = 20_000;

/// Makes the home folder; an agent without one lives in `/tmp`.
pub(super) fn make(identity: Identity, layout: &Layout) -> (User, Result<Phase, String>) {
    let Identity { uid, gid } = identity;
    if uid == 0 {
        let home = if Path::new(ROOT_HOME).is_dir() { ROOT_HOME } else { "/" };
        let user = User { name: "root", uid, gid, home: PathBuf::from(home) };
        return (user, Ok(Phase::Skipped("the agent runs as root")));
    }
    let home = PathBuf::from(&layout.home);
    let user = |home| User { name: AGENT, uid, gid, home };
    match give(&home, uid, gid) {
        Ok(0) => (user(home), Ok(Phase::Done)),
        Ok(left) => {
            let note = format!("more than {MAX_ENTRIES} entries in {}: {left} keep their owner", home.display());
            (user(home), Ok(Phase::Noted(note)))
        }
        Err(error) => {
            let note = format!("cannot make {} for uid {uid}: {error}; HOME is {FALLBACK_HOME}", home.display());
            (user(PathBuf::from(FALLBACK_HOME)), Ok(Phase::Noted(note)))
        }
    }
}

/// Makes the folder and, if somebody else owns it, gives away what is in it; how many entries were left.
fn give(home: &Path, uid: u32, gid: u32) -> io::Result<usize> {
    fs::create_dir_all(home)?;
    let found = fs::symlink_metadata(home)?;
    if !found.is_dir() {
        return Err(io::Error::other("it is no folder"));
    }
    if found.uid() == uid {
        return Ok(0);
    }
    let (mut folders, mut given, mut left) = (vec![home.to_owned()], 0, 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            // Other file systems (mounts) have owners of their own.
            if metadata.dev() != found.dev() {
                continue;
            }
            if given == MAX_ENTRIES {
                left += 1;
                continue;
            }
            given += 1;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            lchown(entry.path(), Some(uid), Some(gid))?;
        }
    }
    // Last, so that a home that changed hands only in part is tried again at the next start.
    lchown(home, Some(uid), Some(gid))?;
    Ok(left)
}
