//! What can go wrong between us and an engine, as a closed set.
//!
//! Every variant is a sentence that names the thing and, where there is one, the remedy. Engine messages are text of
//! foreign origin: they are clipped before they are kept.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::info::Backend;
use super::subnets::SUBNETS_VARIABLE;

/// What a call was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Object {
    Container,
    Image,
    Network,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Object::Container => "container",
            Object::Image => "image",
            Object::Network => "network",
        })
    }
}

/// The longest message of an engine that we keep, in bytes: a build step or runtime can fail with pages of text.
pub const MAX_MESSAGE: usize = 4096;

/// A failed engine call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error("{what} {name} does not exist")]
    NotFound { what: Object, name: String },
    #[error("a {what} named {name} exists already")]
    Conflict { what: Object, name: String },
    #[error("image {tag} is not present; build it with: aigo image build")]
    ImageMissing { tag: String },
    #[error("the engine cannot mount {path}: it does not exist where the engine runs", path = .path.display())]
    MountMissing { path: PathBuf },
    #[error("container {name} is not running")]
    NotRunning { name: String },
    #[error("{what} {name} is in use: {message}")]
    InUse { what: Object, name: String, message: String },
    #[error("no container engine answers at {endpoint} ({reason}); {remedy}")]
    Unreachable { endpoint: String, reason: String, remedy: &'static str },
    #[error("no permission to use the engine's socket {socket}; {}", permission_remedy(socket))]
    PermissionDenied { socket: String },
    #[error("{source_name} names an engine address that cannot be used, {value:?}: {reason}")]
    BadEndpoint {
        /// Where the address comes from: a variable, a flag, a file.
        source_name: String,
        value: String,
        reason: String,
    },
    #[error(
        "{backend} {found} is too old; version {needed} or newer is needed, install it from your distribution's newer release or from the engine's own packages"
    )]
    TooOld { backend: &'static str, found: String, needed: &'static str },
    #[error("the engine did not answer in {after:?} when asked to {what}; see its log, then restart it")]
    Timeout { what: &'static str, after: Duration },
    #[error("no disk space left for {what}: {message}; free some in the engine's data directory")]
    NoSpace { what: &'static str, message: String },
    #[error(
        "no free IPv4 subnet is left for a network in {pools}: all of it is in use by networks of the engine or covered by \
         routes of this host (ip route show table all); remove networks that nobody uses (docker network prune), or \
         name a range that is free: {SUBNETS_VARIABLE}=10.90.0.0/16, or the key engine.subnets of the service"
    )]
    NoFreeSubnet {
        /// What was looked through.
        pools: String,
    },
    #[error("{SUBNETS_VARIABLE} (engine.subnets) cannot be used: {reason}")]
    BadSubnets { reason: String },
    #[error("the subnet of a network overlaps another one: {message}")]
    SubnetTaken { message: String },
    #[error("the image build failed at step {step:?}: {message}")]
    BuildFailed { step: String, message: String },
    #[error("the connection to the engine broke while {what}: {reason}")]
    Lost { what: &'static str, reason: String },
    #[error("the engine refused to {what}: {message}")]
    Refused { what: &'static str, message: String },
    #[error("the engine's answer to {what} makes no sense: {message}")]
    Malformed { what: &'static str, message: String },
    #[error("{} cannot {what}; {remedy}", backend.title())]
    Unsupported { backend: Backend, what: String, remedy: &'static str },
}

impl EngineError {
    /// Whether the engine itself is away or hung, so that nothing is known about what was asked. The session then ends
    /// as `engine_lost`, not as `engine_error`.
    #[must_use]
    pub fn engine_away(&self) -> bool {
        match self {
            EngineError::Unreachable { .. } | EngineError::Timeout { .. } | EngineError::Lost { .. } => true,
            EngineError::NotFound { .. }
            | EngineError::Conflict { .. }
            | EngineError::ImageMissing { .. }
            | EngineError::MountMissing { .. }
            | EngineError::NotRunning { .. }
            | EngineError::InUse { .. }
            | EngineError::PermissionDenied { .. }
            | EngineError::BadEndpoint { .. }
            | EngineError::TooOld { .. }
            | EngineError::NoSpace { .. }
            | EngineError::NoFreeSubnet { .. }
            | EngineError::BadSubnets { .. }
            | EngineError::SubnetTaken { .. }
            | EngineError::BuildFailed { .. }
            | EngineError::Refused { .. }
            | EngineError::Malformed { .. }
            | EngineError::Unsupported { .. } => false,
        }
    }
}

/// What to do about a socket that is somebody else's. Podman's has no group: everybody starts their own.
#[must_use]
pub fn permission_remedy(socket: &str) -> &'static str {
    if socket.contains("podman") {
        "start one of your own (systemctl --user start podman.socket), or run aigo as root"
    } else {
        "add yourself to its group (sudo usermod -aG docker $USER, then log in again), or use a rootless engine"
    }
}

/// An engine's message, trimmed and clipped to [`MAX_MESSAGE`] bytes at a character boundary.
#[must_use]
pub fn clip(message: &str) -> String {
    let message = message.trim();
    message[..message.floor_char_boundary(MAX_MESSAGE)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_inside_a_character() {
        let long = "é".repeat(MAX_MESSAGE);
        let clipped = clip(&format!("x{long}"));
        assert!(clipped.len() <= MAX_MESSAGE);
        assert!(clipped.ends_with('é'));
    }

    #[test]
    fn says_where_there_is_a_remedy() {
        let text = EngineError::PermissionDenied { socket: "/var/run/docker.sock".into() }.to_string();
        assert!(text.contains("/var/run/docker.sock") && text.contains("usermod"), "{text}");
        let text = EngineError::ImageMissing { tag: "a:b".into() }.to_string();
        assert!(text.contains("a:b") && text.contains("aigo image build"), "{text}");
    }
}
