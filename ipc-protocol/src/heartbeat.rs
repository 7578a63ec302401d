//! `status.json`: written by the runner in one step, read by the host with suspicion.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::dir::{DirError, Durability, Refused, SafeDir, printable};
use crate::limits::MAX_STATUS_BYTES;
use crate::paths::STATUS_FILE;
use crate::status::Status;

/// The runner's end. May live in a thread of its own.
#[derive(Clone, Debug)]
pub struct StatusWriter {
    root: Arc<SafeDir>,
}

impl StatusWriter {
    /// Writes to the record `root`.
    pub fn new(root: Arc<SafeDir>) -> Self {
        Self { root }
    }

    /// Replaces `status.json`. No fsync(2): a heartbeat is worth nothing after the machine has died.
    pub fn write(&self, status: &Status) -> Result<(), DirError> {
        // A struct of numbers, strings and an enum always has an encoding; empty bytes would be read as torn.
        let bytes = serde_json::to_vec(status).unwrap_or_default();
        self.root.replace(OsStr::new(STATUS_FILE), &bytes, Durability::Cached, None)
    }
}

/// Reads `status.json`; `None` before the runner has written it. Not removed when refused: the next heartbeat replaces
/// it, and a runner that cannot write one is noticed by its silence.
pub fn read_status(root: &SafeDir) -> Result<Option<Status>, Refused> {
    let Some(contents) = root.read(OsStr::new(STATUS_FILE), MAX_STATUS_BYTES)? else { return Ok(None) };
    parse_status(&contents.bytes).map(Some)
}

/// Reads the bytes of `status.json`.
pub fn parse_status(bytes: &[u8]) -> Result<Status, Refused> {
    serde_json::from_slice(bytes).map_err(|error| Refused::Json(printable(OsStr::new(&error.to_string()))))
}
