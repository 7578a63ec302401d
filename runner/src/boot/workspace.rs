//! Phase 5: the user's folder is there, and the agent can read it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::access::{self, Access};
use super::{Phase, User};

pub(super) fn check(user: &User, path: &str) -> Result<Phase, String> {
    let found = std::fs::metadata(path).map_err(|error| format!("cannot look at {path}: {error}"))?;
    if !found.is_dir() {
        return Err(format!("{path} is no folder; mount the folder to work on there"));
    }
    let User { uid, gid, .. } = user;
    match access::ask(user, Path::new(path)) {
        Ok(Access::Write) => Ok(Phase::Done),
        Ok(Access::ReadOnly) => Ok(Phase::Noted(format!("{path} is read-only for uid {uid}"))),
        Ok(Access::Denied(errno)) => Err(format!(
            "uid {uid} (gid {gid}) cannot enter and read {path}, which belongs to uid {} gid {} with mode {:04o} ({}): \
             run as the folder's owner, or give others access with chmod o+rx",
            found.uid(),
            found.gid(),
            found.mode() & 0o7777,
            errno.desc(),
        )),
        Err(error) => Err(format!("cannot find out if uid {uid} may use {path}: {error}")),
    }
}
