//! Phase 3: the user that the agent runs as has a name, and may use sudo.

use std::io;
use std::path::Path;

use ipc_protocol::config::{Identity, Layout};

use super::Phase;
use super::accounts::{self, AGENT};

/// Where sudo is in the image's distribution.
const SUDO: [&str; 2] = ["/usr/bin/sudo", "/bin/sudo"];

/// The file in `sudoers.d`; sudo(8) ignores names with a dot.
const SUDOERS_FILE: &str = "aigo-agent";

/// Gives the uid the name `agent` in `passwd` and `group`, and passwordless sudo where sudo is installed. What cannot be
/// written (a read-only root) is noted: a uid without a name can work.
pub(super) fn make(identity: Identity, layout: &Layout) -> Result<Phase, String> {
    if identity.uid == 0 {
        return Ok(Phase::Skipped("the agent runs as root"));
    }
    let etc = Path::new(&layout.etc);
    if !etc.is_dir() {
        return Ok(Phase::Skipped("the image has no /etc"));
    }
    let Identity { uid, gid } = identity;
    let mut notes = Vec::new();
    let mut note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            notes.push(format!("cannot {what}: {error}"));
        }
    };
    note(&format!("name uid {uid}"), edit(&etc.join("passwd"), |old| accounts::passwd(old, uid, gid, &layout.home)));
    note(&format!("name gid {gid}"), edit(&etc.join("group"), |old| accounts::group(old, gid)));
    if SUDO.iter().any(|path| Path::new(path).exists()) {
        note("allow sudo", allow_sudo(etc, uid));
    }
    Ok(if notes.is_empty() { Phase::Done } else { Phase::Noted(notes.join("; ")) })
}

/// Rewrites a file if `change` has something to change; a missing file counts as empty.
fn edit(path: &Path, change: impl FnOnce(&str) -> Option<String>) -> io::Result<()> {
    let old = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    match change(&old) {
        None => Ok(()),
        Some(new) => accounts::replace(path, new.as_bytes(), 0o644),
    }
}

fn allow_sudo(etc: &Path, uid: u32) -> io::Result<()> {
    let folder = etc.join("sudoers.d");
    if !folder.is_dir() {
        return Ok(());
    }
    // By number: another name of the image may have the same uid.
    let rule = format!("#{uid} ALL=(ALL:ALL) NOPASSWD: ALL\n# {AGENT}, the owner of /workspace\n");
    accounts::replace(&folder.join(SUDOERS_FILE), rule.as_bytes(), 0o440)
}
