//! How long each kind of call may take before the engine counts as hung.
//!
//! The numbers are for a loaded machine: a healthy engine answers reads in milliseconds and starts a container in
//! 0.1–0.2 s, but image and network work waits for disks and for the engine's own locks.

use std::future::Future;
use std::time::Duration;

use super::error::EngineError;

/// Connecting and asking who answers. Podman is started anew for it by its socket, runs the package manager for each of its
/// parts, and a slow machine that boots took more than 10 s for that.
pub const DETECT: Duration = Duration::from_secs(30);
/// Reads: inspect, list, image lookup. Docker takes per-container locks here, which a slow start holds.
pub const READ: Duration = Duration::from_secs(30);
/// Creating a container: the layer is prepared, a volume may be copied into.
pub const CREATE: Duration = Duration::from_secs(60);
/// Starting a container: network, mounts, and the runtime.
pub const START: Duration = Duration::from_secs(60);
/// Sending a signal; Docker itself waits up to 10 s for a killed process to end.
pub const SIGNAL: Duration = Duration::from_secs(20);
/// What a stop may take beyond its grace period.
pub const STOP_MARGIN: Duration = Duration::from_secs(20);
/// Removing a container: its file system is unmounted and deleted.
pub const REMOVE: Duration = Duration::from_secs(60);
/// Making or removing a network: firewall rules are written.
pub const NETWORK: Duration = Duration::from_secs(30);
/// Removing an image.
pub const REMOVE_IMAGE: Duration = Duration::from_secs(120);
/// Importing a root file system: up to some GB to a slow disk.
pub const IMPORT: Duration = Duration::from_secs(900);
/// A build that says nothing for so long counts as hung; it may last longer as long as it speaks.
pub const BUILD_SILENCE: Duration = Duration::from_secs(1800);
/// Reading the (bounded) log of a container.
pub const LOGS: Duration = Duration::from_secs(60);
/// Changing limits.
pub const UPDATE: Duration = Duration::from_secs(30);

/// Runs `call`, or says what did not answer in time.
///
/// # Errors
/// [`EngineError::Timeout`], or the call's own error.
pub async fn within<T>(
    what: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        Err(_elapsed) => Err(EngineError::Timeout { what, after: limit }),
    }
}
