//! From the engine's status codes and sentences to our closed set of errors.
//!
//! Docker tells kinds of failure apart by status only in part; the rest is in the text. The phrases are matched in
//! lower case and were seen on Docker 24–26; the conformance suite holds those that our callers act on.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use bollard::errors::Error;

use super::endpoint::Endpoint;
use crate::engine::error::clip;
use crate::engine::{EngineError, Object};
use crate::error_chain::chain;

const REMEDY: &str = "start it (sudo systemctl start docker), or say where it is with DOCKER_HOST";
const PODMAN_REMEDY: &str = "start its socket (systemctl --user start podman.socket, or with sudo and without --user for a \
                             rootful one), or say where it is with CONTAINER_HOST";

/// What a call was about, for its errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    /// The verb, as in "the engine refused to …".
    pub(super) what: &'static str,
    pub(super) object: Object,
    pub(super) name: &'a str,
}

impl<'a> About<'a> {
    pub(super) fn container(what: &'static str, name: &'a str) -> Self {
        Self { what, object: Object::Container, name }
    }

    pub(super) fn image(what: &'static str, name: &'a str) -> Self {
        Self { what, object: Object::Image, name }
    }

    pub(super) fn network(what: &'static str, name: &'a str) -> Self {
        Self { what, object: Object::Network, name }
    }

    pub(super) fn translate(self, endpoint: &Endpoint, error: Error) -> EngineError {
        match error {
            Error::DockerResponseServerError { status_code, message } => self.refusal(status_code, &message),
            Error::DockerStreamError { error } => self.refusal(500, &error),
            Error::RequestTimeoutError => EngineError::Lost { what: self.what, reason: "no answer came".to_owned() },
            Error::JsonDataError { message, .. } => EngineError::Malformed { what: self.what, message: clip(&message) },
            Error::JsonSerdeError { err } => {
                EngineError::Malformed { what: self.what, message: clip(&err.to_string()) }
            }
            // The library's set is open to us and mostly transport; what is no connection failure broke on the way.
            other => match connect_failure(endpoint, &other) {
                Some(error) => error,
                None => EngineError::Lost { what: self.what, reason: clip(&chain(&other)) },
            },
        }
    }

    pub(super) fn refusal(self, status: u16, message: &str) -> EngineError {
        if let Some(error) = super::dialect::refusal(self, message) {
            return error;
        }
        let text = message.to_lowercase();
        let has = |phrase: &str| text.contains(phrase);
        let name = || self.name.to_owned();
        let in_use = || EngineError::InUse { what: self.object, name: name(), message: clip(message) };
        if has("no space left on device") {
            return EngineError::NoSpace { what: self.what, message: clip(message) };
        }
        if has("address pools have been fully subnetted") || has("non-overlapping ipv4 address pool") {
            return EngineError::NoFreeSubnet { pools: "the engine's own address pools".to_owned() };
        }
        if self.object == Object::Network && (has("overlap") || has("already used on the host or by another config")) {
            return EngineError::SubnetTaken { message: clip(message) };
        }
        if let Some(path) = missing_mount(message) {
            return EngineError::MountMissing { path };
        }
        match status {
            404 if has("no such image") => EngineError::ImageMissing { tag: missing_image(message, self.name) },
            404 if has("network") && has("not found") && self.object == Object::Container => {
                EngineError::NotFound { what: Object::Network, name: quoted_network(message) }
            }
            404 => EngineError::NotFound { what: self.object, name: name() },
            409 if has("already in use by container") || has("already exists") => {
                EngineError::Conflict { what: self.object, name: name() }
            }
            409 if has("is not running") => EngineError::NotRunning { name: name() },
            409 if has("running container") || has("container is running") || has("unable to remove") => in_use(),
            409 if has("unable to delete") => in_use(),
            403 if has("active endpoints") => in_use(),
            500 if has("is not running") => EngineError::NotRunning { name: name() },
            _ => EngineError::Refused { what: self.what, message: clip(message) },
        }
    }
}

/// `… bind source path does not exist: /path`
fn missing_mount(message: &str) -> Option<PathBuf> {
    let (_, path) = message.split_once("bind source path does not exist: ")?;
    Some(PathBuf::from(path.trim()))
}

/// `No such image: name:tag`
fn missing_image(message: &str, fallback: &str) -> String {
    message.split_once("No such image: ").map_or(fallback, |(_, tag)| tag.trim()).to_owned()
}

/// `network name not found`
fn quoted_network(message: &str) -> String {
    message
        .split_once("network ")
        .and_then(|(_, rest)| rest.split_once(" not found"))
        .map_or_else(|| clip(message), |(name, _)| name.to_owned())
}

/// A failed first contact.
pub(super) fn unreachable(endpoint: &Endpoint, error: Error) -> EngineError {
    if let Some(error) = connect_failure(endpoint, &error) {
        return error;
    }
    match error {
        Error::SocketNotFoundError(_) => unreachable_because(endpoint, "the socket does not exist"),
        Error::DockerResponseServerError { status_code, message } => {
            EngineError::Refused { what: "tell its version", message: format!("{status_code} {}", clip(&message)) }
        }
        other => unreachable_because(endpoint, &chain(&other)),
    }
}

fn unreachable_because(endpoint: &Endpoint, reason: &str) -> EngineError {
    let remedy = if endpoint.is_podmans() { PODMAN_REMEDY } else { REMEDY };
    EngineError::Unreachable { endpoint: endpoint.to_string(), reason: clip(reason), remedy }
}

/// A connection of our own that did not come about, or broke at once.
pub(super) fn no_connection(endpoint: &Endpoint, about: About<'_>, error: &io::Error) -> EngineError {
    connect_failure_of(endpoint, error)
        .unwrap_or_else(|| EngineError::Lost { what: about.what, reason: clip(&error.to_string()) })
}

/// Looks for the operating system's word on why no connection came about.
fn connect_failure(endpoint: &Endpoint, error: &Error) -> Option<EngineError> {
    if let Error::IOError { err } = error {
        // Transparent: its own source is one further down.
        return connect_failure_of(endpoint, err);
    }
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return connect_failure_of(endpoint, io);
        }
        source = inner.source();
    }
    None
}

/// `None` for a connection that came about and broke later.
fn connect_failure_of(endpoint: &Endpoint, io: &io::Error) -> Option<EngineError> {
    match (io.kind(), endpoint) {
        (io::ErrorKind::PermissionDenied, Endpoint::Unix(path)) => {
            Some(EngineError::PermissionDenied { socket: path.display().to_string() })
        }
        (io::ErrorKind::NotFound, _) => Some(unreachable_because(endpoint, "the socket does not exist")),
        (io::ErrorKind::ConnectionRefused, _) => Some(unreachable_because(endpoint, "nobody listens there")),
        (io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof, _) => None,
        (_, _) => Some(unreachable_because(endpoint, &io.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(about: About<'_>, status: u16, message: &str) -> EngineError {
        about.refusal(status, message)
    }

    #[test]
    fn sentences_become_variants() {
        let create = About::container("create container", "s1");
        let conflict =
            "Conflict. The container name \"/s1\" is already in use by container \"0a\". You have to remove it";
        assert_eq!(refuse(create, 409, conflict), EngineError::Conflict { what: Object::Container, name: "s1".into() });
        assert_eq!(
            refuse(create, 404, "No such image: nope:latest"),
            EngineError::ImageMissing { tag: "nope:latest".into() }
        );
        assert_eq!(
            refuse(create, 404, "network aigo-x not found"),
            EngineError::NotFound { what: Object::Network, name: "aigo-x".into() }
        );
        assert_eq!(
            refuse(create, 400, "invalid mount config for type \"bind\": bind source path does not exist: /no pe"),
            EngineError::MountMissing { path: "/no pe".into() }
        );
        let network = About::network("create network", "n");
        assert!(matches!(
            refuse(network, 500, "all predefined address pools have been fully subnetted"),
            EngineError::NoFreeSubnet { .. }
        ));
        assert!(matches!(
            refuse(network, 403, "error while removing network: network n id 1 has active endpoints"),
            EngineError::InUse { what: Object::Network, .. }
        ));
        assert!(matches!(
            refuse(create, 500, "write /var/lib/docker/x: no space left on device"),
            EngineError::NoSpace { .. }
        ));
        assert!(matches!(refuse(create, 500, "strange"), EngineError::Refused { .. }));
    }
}
