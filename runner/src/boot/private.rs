//! The record is out of the reach of the agent's user.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use ipc_protocol::config::Layout;
use ipc_protocol::paths::{CONTAINER_PRIVATE_DIR, CONTAINER_RECORD_DIR};

/// Lets only root of the container enter the folder around the record. The record itself belongs to a user of the host, whose
/// number the agent's user may have. Returns why that was not possible.
pub(crate) fn close(layout: &Layout) -> Option<String> {
    // A supervisor of generation 1 has the record in the mailbox, and a test has it anywhere.
    if layout.record != CONTAINER_RECORD_DIR {
        return None;
    }
    let folder = Path::new(CONTAINER_PRIVATE_DIR);
    let closed =
        chown(folder, Some(0), Some(0)).and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o700)));
    closed.err().map(|error| format!("the agent's user may enter {CONTAINER_PRIVATE_DIR}: {error}"))
}
