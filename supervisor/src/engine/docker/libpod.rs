//! What Podman does only in its own API: telling what it is (rootless, which controllers it may use), changing limits of a
//! running container, and keeping networks apart. The client library does not know these calls, so each is one request on a
//! connection of its own.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::dialect::delegated;
use super::endpoint::Endpoint;
use super::error::{self, About};
use crate::engine::error::clip;
use crate::engine::{
    CgroupVersion, EngineError, Ipv4Net, LimitSupport, LimitsUpdate, Network, NetworkId, NetworkSpec, deadline,
};

/// The version of its own API that Podman 4.0 brought; newer ones serve it.
const PREFIX: &str = "/v4.0.0/libpod";
/// What Podman itself takes for no limit: the kernel refuses more open files (`fs.nr_open`, proc(5)).
const UNLIMITED: u64 = 1_048_576;
/// An answer is some kilobytes.
const MAX_ANSWER: usize = 1 << 20;
/// Microseconds over which a CPU quota is counted: the kernel's and Docker's own choice.
const CPU_PERIOD: u64 = 100_000;

/// What Podman says of itself.
#[derive(Debug, Clone)]
pub(super) struct Libpod {
    pub(super) rootless: bool,
    pub(super) cgroups: CgroupVersion,
    pub(super) limits: LimitSupport,
    /// What its process may have, and so the most that it can give; unknown over TCP.
    pub(super) ceilings: Option<Ceilings>,
    /// Where a rootless Podman's user has its socket, for finding out who that user is; none over TCP.
    pub(super) socket: Option<PathBuf>,
}

/// Limits that a process without CAP_SYS_RESOURCE cannot raise (getrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ceilings {
    pub(super) files: u64,
    pub(super) processes: u64,
}

#[derive(Deserialize)]
struct Info {
    host: Host,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    cgroup_version: String,
    #[serde(default)]
    cgroup_controllers: Option<Vec<String>>,
    security: Security,
}

#[derive(Deserialize)]
struct Security {
    rootless: bool,
}

/// A part of the OCI runtime specification's `LinuxResources`.
#[derive(Serialize)]
struct Resources {
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Cpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pids: Option<Pids>,
}

#[derive(Serialize)]
struct Memory {
    limit: u64,
    swap: u64,
}

#[derive(Serialize)]
struct Cpu {
    period: u64,
    quota: u64,
}

#[derive(Serialize)]
struct Pids {
    limit: u32,
}

/// Asks who it is.
pub(super) async fn describe(endpoint: &Endpoint) -> Result<Libpod, EngineError> {
    let about = About::container("describe itself", "");
    let (status, body) = deadline::within(about.what, deadline::DETECT, async {
        send(endpoint, about, Method::GET, "/info", Bytes::new()).await
    })
    .await?;
    if status != StatusCode::OK {
        return Err(EngineError::Refused { what: about.what, message: message(&body) });
    }
    let Info { host } = serde_json::from_slice(&body)
        .map_err(|error| EngineError::Malformed { what: about.what, message: clip(&error.to_string()) })?;
    let version = if host.cgroup_version == "v2" { CgroupVersion::V2 } else { CgroupVersion::V1 };
    let controllers = host.cgroup_controllers.unwrap_or_default();
    let rootless = host.security.rootless;
    let has = |name: &str| controllers.iter().any(|controller| controller == name);
    let limits = if rootless {
        delegated(&controllers, version)
    } else {
        LimitSupport { memory: has("memory"), swap: has("memory"), cpu: has("cpu"), pids: has("pids") }
    };
    let socket = match endpoint {
        Endpoint::Unix(path) => Some(path.clone()),
        Endpoint::Tcp(_) => None,
    };
    let ceilings = match &socket {
        Some(socket) => ceilings_at(socket).await,
        None => None,
    };
    Ok(Libpod { rootless, cgroups: version, limits, ceilings, socket })
}

/// Asks the kernel who listens there, and what they may have.
async fn ceilings_at(socket: &Path) -> Option<Ceilings> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let pid = stream.peer_cred().ok()?.pid()?;
    ceilings(&tokio::fs::read_to_string(format!("/proc/{pid}/limits")).await.ok()?)
}

/// The hard limits in the text of `/proc/<pid>/limits` (proc(5)).
fn ceilings(text: &str) -> Option<Ceilings> {
    let hard = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        match line.split_whitespace().nth(1)? {
            "unlimited" => Some(UNLIMITED),
            number => number.parse().ok(),
        }
    };
    Some(Ceilings { files: hard("Max open files")?.min(UNLIMITED), processes: hard("Max processes")?.min(UNLIMITED) })
}

/// Changes limits of a container; they hold from now on, though an inspection goes on to tell the old ones.
pub(super) async fn update(endpoint: &Endpoint, name: &str, limits: &LimitsUpdate) -> Result<(), EngineError> {
    let about = About::container("change the limits of container", name);
    let LimitsUpdate { nano_cpus, memory, pids } = limits;
    let resources = Resources {
        memory: memory.map(|limit| Memory { limit, swap: limit }),
        cpu: nano_cpus.map(|nanos| Cpu { period: CPU_PERIOD, quota: nanos / (1_000_000_000 / CPU_PERIOD) }),
        pids: pids.map(|limit| Pids { limit }),
    };
    // Plain numbers: encoding them cannot fail.
    let body = serde_json::to_vec(&resources).unwrap_or_default();
    let path = format!("/containers/{name}/update");
    let (status, body) = send(endpoint, about, Method::POST, &path, body.into()).await?;
    if status.is_success() { Ok(()) } else { Err(about.refusal(status.as_u16(), &message(&body))) }
}

/// A network in Podman's words, asked for and told.
#[derive(Serialize, Deserialize)]
struct WireNetwork {
    name: String,
    #[serde(default, skip_serializing)]
    id: String,
    driver: String,
    internal: bool,
    ipv6_enabled: bool,
    /// Its own name server on the gateway, where the host's do not serve.
    dns_enabled: bool,
    #[serde(default)]
    options: BTreeMap<String, String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    subnets: Vec<WireSubnet>,
}

#[derive(Serialize, Deserialize)]
struct WireSubnet {
    subnet: String,
    /// Not told of an internal network, although the host has the usual one.
    gateway: Option<Ipv4Addr>,
}

/// Creates a network that is kept apart from others, which Docker's API has no word for.
pub(super) async fn create_network(
    endpoint: &Endpoint,
    spec: &NetworkSpec,
    subnet: Option<Ipv4Net>,
) -> Result<Network, EngineError> {
    let about = About::network("create a network", &spec.name);
    let wanted = WireNetwork {
        name: spec.name.clone(),
        id: String::new(),
        driver: "bridge".to_owned(),
        internal: spec.internal,
        ipv6_enabled: false,
        // Without it an internal network's gateway has no address on this host.
        dns_enabled: spec.internal,
        options: BTreeMap::from([("isolate".to_owned(), "true".to_owned())]),
        labels: spec.labels.clone(),
        subnets: subnet
            .map(|subnet| WireSubnet { subnet: subnet.to_string(), gateway: Some(subnet.usual_gateway()) })
            .into_iter()
            .collect(),
    };
    // Texts and numbers: encoding them cannot fail.
    let body = serde_json::to_vec(&wanted).unwrap_or_default();
    let (status, body) = send(endpoint, about, Method::POST, "/networks/create", body.into()).await?;
    if !status.is_success() {
        return Err(about.refusal(status.as_u16(), &message(&body)));
    }
    let malformed = |message: String| EngineError::Malformed { what: about.what, message: clip(&message) };
    let made: WireNetwork = serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))?;
    let found = made.subnets.iter().find_map(|wire| Some((wire.subnet.parse::<Ipv4Net>().ok()?, wire.gateway)));
    let (subnet, gateway) = found.ok_or_else(|| malformed(format!("network {} has no IPv4 subnet", spec.name)))?;
    Ok(Network {
        id: NetworkId(made.id),
        name: spec.name.clone(),
        labels: spec.labels.clone(),
        internal: spec.internal,
        subnet,
        gateway: gateway.unwrap_or_else(|| subnet.usual_gateway()),
    })
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

fn message(body: &[u8]) -> String {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => clip(&refusal.message),
        Err(_) => clip(&String::from_utf8_lossy(body)),
    }
}

async fn send(
    endpoint: &Endpoint,
    about: About<'_>,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), EngineError> {
    let failed = |error: std::io::Error| error::no_connection(endpoint, about, &error);
    match endpoint {
        Endpoint::Unix(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(failed)?;
            exchange(stream, about, method, path, body).await
        }
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(failed)?;
            exchange(stream, about, method, path, body).await
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    about: About<'_>,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), EngineError> {
    let lost = |reason: String| EngineError::Lost { what: about.what, reason: clip(&reason) };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(error.to_string()))?;
    let request = Request::builder()
        .method(method)
        .uri(format!("{PREFIX}{path}"))
        .header("Host", "podman")
        .header("Content-Type", "application/json")
        .header("Connection", "close")
        .body(Full::new(body))
        .map_err(|error| lost(error.to_string()))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| lost(error.to_string()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        Ok((status, body.map_err(|error| lost(error.to_string()))?.to_bytes()))
    };
    tokio::pin!(answer, connection);
    // The connection is driven while the answer is read, and by nobody after it.
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended.map_err(|error| lost(error.to_string()))?;
            // Everything was received; what is left of the answer lies in memory.
            answer.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stand_in::{Answer, stand_in};
    use super::*;

    #[tokio::test]
    async fn a_rootless_engine_says_which_controllers_it_has() {
        let info =
            r#"{"host":{"cgroupVersion":"v2","cgroupControllers":["memory","pids"],"security":{"rootless":true}}}"#;
        let stand_in = stand_in(vec![Answer::Status(200, info)]);
        let podman = describe(&stand_in.endpoint).await.unwrap();
        assert!(podman.rootless && podman.limits.memory && podman.limits.pids && !podman.limits.cpu, "{podman:?}");
        assert_eq!(stand_in.requests.await.unwrap(), ["GET /v4.0.0/libpod/info"]);
    }

    #[test]
    fn hard_limits_are_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             100                  unlimited            processes \n\
                    Max open files            1024                 20000                files     \n";
        assert_eq!(ceilings(text), Some(Ceilings { files: 20000, processes: UNLIMITED }));
        assert_eq!(ceilings("nonsense"), None);
    }

    #[tokio::test]
    async fn a_network_is_kept_apart_and_tells_its_gateway() {
        let made = r#"{"name":"n","id":"9073","driver":"bridge","internal":true,"ipv6_enabled":false,"dns_enabled":false,
            "subnets":[{"subnet":"10.89.0.0/24"}]}"#;
        let stand_in = stand_in(vec![Answer::Status(200, made)]);
        let spec = NetworkSpec { name: "n".to_owned(), internal: true, ..NetworkSpec::default() };
        let network = create_network(&stand_in.endpoint, &spec, None).await.unwrap();
        assert_eq!((network.id.0.as_str(), network.gateway), ("9073", Ipv4Addr::new(10, 89, 0, 1)));
        assert_eq!(stand_in.requests.await.unwrap(), ["POST /v4.0.0/libpod/networks/create"]);
    }

    #[tokio::test]
    async fn a_refused_change_is_told() {
        let gone = Answer::Status(404, r#"{"cause":"no such container","message":"no such container","response":404}"#);
        let stand_in = stand_in(vec![gone]);
        let limits = LimitsUpdate { pids: Some(3), ..LimitsUpdate::default() };
        let error = update(&stand_in.endpoint, "0a", &limits).await.unwrap_err();
        assert!(matches!(error, EngineError::NotFound { .. }), "{error:?}");
        assert_eq!(stand_in.requests.await.unwrap(), ["POST /v4.0.0/libpod/containers/0a/update"]);
    }
}
