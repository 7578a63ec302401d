//! The connection, and the API version that every request names.
//!
//! Without a version in the path an engine answers in its newest dialect, so an engine's upgrade would change what we
//! hear. The client library leaves the version out (its URL join drops the prefix); a request modifier puts it back. A
//! test reads the request line from a socket, so that a release of the library that mends this is noticed.

use std::time::Duration;

use bollard::models::{ContainerCreateBody, SystemInfo, SystemInfoCgroupDriverEnum};
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use http::Uri;
use http::uri::PathAndQuery;
use tokio::sync::OnceCell;

use super::dialect::{Dialect, leave_out};
use super::endpoint::Endpoint;
use super::error::{self, About};
use super::libpod;
use crate::engine::subnets::Pools;
use crate::engine::{Backend, EngineError, Ipv4Net, LimitSupport, deadline};

/// The oldest engines that we use: Docker with API 1.43, and Podman as Debian 12 has it.
const NEEDED: &str = "24.0";
const PODMAN_NEEDED: &str = "4.3";
/// The newest API that our tests ran against (Docker 26.1). A newer engine is spoken to in this one; it serves older
/// ones for years.
const NEWEST_API: (u32, u32) = (1, 45);
/// The library's own limit, to response headers, out of the way of our deadlines: waits and builds take as long as they
/// take.
const LIBRARY_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// A client with its agreed API version.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) docker: Docker,
    pub(super) endpoint: Endpoint,
    pub(super) version: String,
    pub(super) api: String,
    pub(super) dialect: Dialect,
    /// See [`HostEnv::program`](super::HostEnv::program).
    pub(super) program: Option<std::path::PathBuf>,
    /// See [`HostEnv::subnets`](super::HostEnv::subnets).
    pub(super) subnets: Option<Pools>,
    /// What the engine says of itself that calls depend on; asked for once.
    pub(super) told: OnceCell<Told>,
}

impl Wire {
    /// Whoever answers, unless one of them is `wanted`.
    pub(super) async fn connect(endpoint: Endpoint, wanted: Option<Backend>) -> Result<Self, EngineError> {
        let docker = client(&endpoint)?;
        let answer = deadline::within("tell its version", deadline::DETECT, async {
            docker.version().await.map_err(|error| error::unreachable(&endpoint, error))
        })
        .await?;
        let is_podman = answer.components.unwrap_or_default().iter().any(|part| part.name.contains("Podman"));
        let found = if is_podman { Backend::Podman } else { Backend::Docker };
        if wanted.is_some_and(|wanted| wanted != found) {
            return Err(EngineError::BadEndpoint {
                source_name: "the engine address".to_owned(),
                value: endpoint.to_string(),
                reason: format!("{found} answers there; to use it, choose it with --engine {found}"),
            });
        }
        let version = answer.version.unwrap_or_default();
        let needed = if is_podman { PODMAN_NEEDED } else { NEEDED };
        if !is_at_least(&version, needed) {
            return Err(EngineError::TooOld { backend: found.name(), found: version, needed });
        }
        let dialect = match is_podman {
            false => Dialect::Docker,
            true => Dialect::Podman(libpod::describe(&endpoint).await?),
        };
        let api = agree(&answer.api_version.unwrap_or_default()).ok_or_else(|| EngineError::Malformed {
            what: "tell its version",
            message: "it names no API version".to_owned(),
        })?;
        let prefix = format!("/v{api}");
        let docker = docker.with_request_modifier(move |request| with_prefix(request, &prefix));
        Ok(Self { docker, endpoint, version, api, dialect, program: None, subnets: None, told: OnceCell::new() })
    }

    /// What subnets are chosen from.
    pub(super) async fn pools(&self) -> Result<&Pools, EngineError> {
        match &self.subnets {
            Some(pools) => Ok(pools),
            None => Ok(&self.told().await?.pools),
        }
    }

    /// What Docker says of itself. Podman has been asked in its own API ([`Dialect`]).
    pub(super) async fn told(&self) -> Result<&Told, EngineError> {
        let ask = async || match self.dialect {
            Dialect::Podman(_) => Ok(Told::default()),
            Dialect::Docker => {
                let about = About::network("describe itself", "");
                let info = self.docker.info().await.map_err(|error| about.translate(&self.endpoint, error))?;
                Ok(Told::of(&info))
            }
        };
        self.told.get_or_try_init(ask).await
    }

    /// Keeps what it has just said anyway.
    pub(super) fn hear(&self, info: &SystemInfo) {
        if let Dialect::Docker = self.dialect {
            // It was heard before.
            let _ = self.told.set(Told::of(info));
        }
    }

    /// A container in the engine's form, and what of it cannot be had.
    pub(super) fn container(&self, body: ContainerCreateBody) -> (ContainerCreateBody, Vec<String>) {
        let (mut body, mut warnings) = self.dialect.create(body);
        // A rootful one says itself what it drops.
        if let Some((told, host)) = self.told.get().filter(|told| told.rootless).zip(body.host_config.as_mut()) {
            warnings.extend(leave_out(host, told.limits));
        }
        (body, warnings)
    }

    /// Whether a container has no cgroup of its own: its counters would be those of its user's engine, or of the whole host.
    pub(super) fn shares_cgroup(&self) -> bool {
        self.dialect.shares_cgroup() || self.told.get().is_some_and(|told| told.without_cgroups)
    }
}

/// What Docker says of itself and calls depend on.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The engine's own address pools, and the usual ones.
    pools: Pools,
    /// It runs as an unprivileged user, in namespaces of RootlessKit.
    pub(super) rootless: bool,
    /// It can make no cgroups.
    without_cgroups: bool,
    /// What the kernel enforces for it.
    limits: LimitSupport,
}

impl Told {
    fn of(info: &SystemInfo) -> Self {
        let bases = info.default_address_pools.iter().flatten().filter_map(|pool| pool.base.as_ref()?.parse().ok());
        Self {
            pools: Pools::after(&bases.collect::<Vec<Ipv4Net>>()),
            rootless: is_rootless(info),
            without_cgroups: info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::NONE),
            limits: limits(info),
        }
    }
}

/// What the kernel enforces for Docker.
pub(super) fn limits(info: &SystemInfo) -> LimitSupport {
    LimitSupport {
        memory: info.memory_limit.unwrap_or(false),
        swap: info.swap_limit.unwrap_or(false),
        cpu: info.cpu_cfs_quota.unwrap_or(false),
        pids: info.pids_limit.unwrap_or(false),
    }
}

/// Whether Docker runs as an unprivileged user.
pub(super) fn is_rootless(info: &SystemInfo) -> bool {
    info.security_options.iter().flatten().any(|option| option.starts_with("name=rootless"))
}

fn client(endpoint: &Endpoint) -> Result<Docker, EngineError> {
    let limit = LIBRARY_LIMIT.as_secs();
    let version: &ClientVersion = API_DEFAULT_VERSION;
    match endpoint {
        Endpoint::Unix(path) => Docker::connect_with_unix(&path.to_string_lossy(), limit, version),
        Endpoint::Tcp(address) => Docker::connect_with_http(&format!("tcp://{address}"), limit, version),
    }
    .map_err(|error| error::unreachable(endpoint, error))
}

/// Whether a version is `needed` (`major.minor`) or newer. What is no version is not.
fn is_at_least(version: &str, needed: &str) -> bool {
    let pair = |text: &str| {
        let mut parts = text.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?))
    };
    pair(version) >= pair(needed) && pair(version).is_some()
}

/// The API version to speak with an engine whose newest is `theirs`.
fn agree(theirs: &str) -> Option<String> {
    let (major, minor) = theirs.split_once('.')?;
    let theirs = (major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?);
    let (major, minor) = theirs.min(NEWEST_API);
    Some(format!("{major}.{minor}"))
}

/// Puts the version in front of the request's path. A request that carries one already is left alone.
fn with_prefix(mut request: BollardRequest, prefix: &str) -> BollardRequest {
    let mut parts = request.uri().clone().into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::as_str);
    if path.starts_with(prefix) {
        return request;
    }
    parts.path_and_query = PathAndQuery::try_from(format!("{prefix}{path}")).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// A name or id that goes into a request's path: what the engine could not have named anyway must not reach the path
/// of another call.
pub(super) fn is_path_safe(name: &str) -> bool {
    !name.is_empty()
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:/@".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::super::stand_in::{Answer, stand_in};
    use super::*;

    #[test]
    fn versions_are_agreed() {
        assert_eq!(agree("1.43").as_deref(), Some("1.43"));
        assert_eq!(agree("1.45").as_deref(), Some("1.45"));
        assert_eq!(agree("1.53").as_deref(), Some("1.45"));
        assert_eq!(agree("x"), None);
        assert!(is_at_least("26.1.5+dfsg1", NEEDED) && is_at_least("24.0", NEEDED));
        assert!(!is_at_least("20.10.24", NEEDED) && !is_at_least("dev", NEEDED));
        assert!(is_at_least("4.3.1", PODMAN_NEEDED) && is_at_least("5.0.0-rc1", PODMAN_NEEDED));
        assert!(!is_at_least("4.2.9", PODMAN_NEEDED) && is_at_least("4.10", PODMAN_NEEDED));
    }

    #[test]
    fn paths_stay_in_their_place() {
        for good in ["a", "aigo-agent-runner:latest", "reg.local:5000/a/b@sha256:00", "0a1b"] {
            assert!(is_path_safe(good), "{good}");
        }
        for bad in ["", "../version", "a/../b", "a//b", "a?b", "a b", "a%2fb", "/a", "a\n"] {
            assert!(!is_path_safe(bad), "{bad}");
        }
    }

    async fn refused(body: &'static str) -> String {
        let stand_in = stand_in(vec![Answer::Status(200, body)]);
        Wire::connect(stand_in.endpoint.clone(), None).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn every_request_names_the_agreed_version() {
        let newer = Answer::Status(200, r#"{"Version":"29.0.1","ApiVersion":"1.52"}"#);
        let stand_in = stand_in(vec![newer, Answer::Status(200, "{}")]);
        let wire = Wire::connect(stand_in.endpoint.clone(), None).await.unwrap();
        assert_eq!(wire.api, "1.45");
        wire.docker.info().await.unwrap();
        assert_eq!(stand_in.requests.await.unwrap(), ["GET /version", "GET /v1.45/info"]);
    }

    #[tokio::test]
    async fn an_old_engine_is_refused_with_the_needed_version() {
        let text = refused(r#"{"Version":"20.10.24","ApiVersion":"1.41"}"#).await;
        assert!(text.contains("20.10.24") && text.contains("24.0"), "{text}");
    }

    const PODMAN: &str =
        r#"{"Version":"4.3.1","ApiVersion":"1.41","Components":[{"Name":"Podman Engine","Version":"4.3.1"}]}"#;

    #[tokio::test]
    async fn podman_is_not_taken_for_docker() {
        let stand_in = stand_in(vec![Answer::Status(200, PODMAN)]);
        let error = Wire::connect(stand_in.endpoint.clone(), Some(Backend::Docker)).await.unwrap_err();
        assert!(error.to_string().contains("--engine podman"), "{error}");
    }

    #[tokio::test]
    async fn podman_tells_in_its_own_api_what_it_is() {
        let info = r#"{"host":{"cgroupVersion":"v1","cgroupControllers":[],"security":{"rootless":true}}}"#;
        let stand_in = stand_in(vec![Answer::Status(200, PODMAN), Answer::Status(200, info)]);
        let wire = Wire::connect(stand_in.endpoint.clone(), None).await.unwrap();
        assert!(matches!(&wire.dialect, Dialect::Podman(podman) if podman.rootless), "{:?}", wire.dialect);
        assert_eq!(wire.api, "1.41");
        assert_eq!(stand_in.requests.await.unwrap(), ["GET /version", "GET /v4.0.0/libpod/info"]);
    }

    #[tokio::test]
    async fn an_old_podman_is_refused_with_the_needed_version() {
        let text = refused(
            r#"{"Version":"3.0.1","ApiVersion":"1.40","Components":[{"Name":"Podman Engine","Version":"3.0.1"}]}"#,
        )
        .await;
        assert!(text.contains("podman 3.0.1") && text.contains("4.3"), "{text}");
    }

    #[tokio::test]
    async fn an_absent_socket_names_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Wire::connect(Endpoint::Unix(folder.path().join("none.sock")), None).await.unwrap_err();
        let text = missing.to_string();
        assert!(matches!(missing, EngineError::Unreachable { .. }) && text.contains("none.sock"), "{text}");
        // A socket file that nobody listens on any more, as a stopped engine leaves it.
        let path = folder.path().join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let stale = Wire::connect(Endpoint::Unix(path), None).await.unwrap_err();
        assert!(matches!(stale, EngineError::Unreachable { .. }), "{stale:?}");
    }
}
