//! Where Docker answers, found as its own command line finds it: `DOCKER_HOST`, then the context named by
//! `DOCKER_CONTEXT`, then the current context of `config.json`, then the default socket. (The client library knows
//! only the first and the last; people on macOS mostly have the third.)

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::engine::EngineError;
use crate::engine::apple::place::Place;
use crate::engine::subnets::SUBNETS_VARIABLE;

/// Where a root-owned Docker listens if nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Where a root-owned Podman listens.
pub const PODMAN_SOCKET: &str = "/run/podman/podman.sock";
/// Where one's own does, under `XDG_RUNTIME_DIR`.
const OWN_PODMAN_SOCKET: &str = "podman/podman.sock";

/// A configuration file above this size is not read.
const MAX_CONFIG: u64 = 1 << 20;

/// An address that we can connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    /// `host:port`, without TLS.
    Tcp(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// What of the environment says where the engine is, as values, so that finding it is a pure question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostEnv {
    /// `DOCKER_HOST`
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`
    pub docker_context: Option<String>,
    /// `DOCKER_TLS_VERIFY` is set and not empty.
    pub docker_tls: bool,
    /// `DOCKER_CONFIG`, or `.docker` in the home directory.
    pub docker_config: Option<PathBuf>,
    /// `CONTAINER_HOST`: Podman's `DOCKER_HOST`
    pub container_host: Option<String>,
    /// `XDG_RUNTIME_DIR`
    pub runtime_dir: Option<PathBuf>,
    /// This process is root's, whose own Podman is the system's.
    pub root: bool,
    /// Where Apple Container can be.
    pub apple: Place,
    /// The `aigo` program, which listens inside rootless networks (see [`hand_over`](super::gateway::hand_over)).
    pub program: Option<PathBuf>,
    /// [`SUBNETS_VARIABLE`], or the configuration's key: the ranges that subnets of sessions are chosen from.
    pub subnets: Option<String>,
}

impl HostEnv {
    /// Reads this process's environment.
    #[must_use]
    pub fn from_process() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            docker_tls: text("DOCKER_TLS_VERIFY").is_some(),
            docker_config: text("DOCKER_CONFIG")
                .map(PathBuf::from)
                .or_else(|| text("HOME").map(|home| Path::new(&home).join(".docker"))),
            container_host: text("CONTAINER_HOST"),
            runtime_dir: text("XDG_RUNTIME_DIR").map(PathBuf::from),
            root: nix::unistd::geteuid().is_root(),
            apple: Place::here(),
            program: std::env::current_exe().ok(),
            subnets: text(SUBNETS_VARIABLE),
        }
    }
}

impl Endpoint {
    /// Where Podman may answer, the likeliest first: `CONTAINER_HOST` alone if it is set, else one's own socket, then the
    /// system's.
    pub fn of_podman(env: &HostEnv) -> Vec<Result<Self, EngineError>> {
        if let Some(host) = &env.container_host {
            return vec![Self::parse("CONTAINER_HOST", host)];
        }
        let own = env.runtime_dir.as_ref().filter(|_| !env.root).map(|folder| folder.join(OWN_PODMAN_SOCKET));
        own.into_iter().chain([PathBuf::from(PODMAN_SOCKET)]).map(|path| Ok(Endpoint::Unix(path))).collect()
    }

    /// Whether its name says that Podman answers there.
    pub(super) fn is_podmans(&self) -> bool {
        matches!(self, Endpoint::Unix(path) if path.to_string_lossy().contains("podman"))
    }

    /// Finds Docker's endpoint.
    ///
    /// # Errors
    /// [`EngineError::BadEndpoint`] says which setting names what cannot be used, and why.
    pub fn find(env: &HostEnv) -> Result<Self, EngineError> {
        if let Some(host) = &env.docker_host {
            let endpoint = Self::parse("DOCKER_HOST", host)?;
            if env.docker_tls && matches!(endpoint, Endpoint::Tcp(_)) {
                return Err(bad(
                    "DOCKER_HOST",
                    host,
                    "DOCKER_TLS_VERIFY asks for TLS, which is not supported; forward the engine's socket with ssh -L and \
                     use unix://",
                ));
            }
            return Ok(endpoint);
        }
        let config = env.docker_config.as_deref();
        let (source, context) = match (&env.docker_context, config) {
            (Some(name), _) => ("DOCKER_CONTEXT", Some(name.clone())),
            (None, Some(config)) => ("the current Docker context", current_context(config)?),
            (None, None) => ("the current Docker context", None),
        };
        match context {
            Some(name) if name != "default" => {
                let host = config
                    .and_then(|config| context_host(config, &name))
                    .ok_or_else(|| bad(source, &name, "there is no such context; docker context ls shows them"))?;
                Self::parse(source, &host)
            }
            Some(_) | None => Ok(Endpoint::Unix(PathBuf::from(DEFAULT_SOCKET))),
        }
    }

    /// Parses `unix:///path` or `tcp://host:port`.
    ///
    /// # Errors
    /// [`EngineError::BadEndpoint`], which names `source`.
    pub fn parse(source: &str, value: &str) -> Result<Self, EngineError> {
        let Some((scheme, rest)) = value.split_once("://") else {
            return Err(bad(source, value, "write it like unix:///var/run/docker.sock or tcp://127.0.0.1:2375"));
        };
        match scheme {
            "unix" if Path::new(rest).is_absolute() => Ok(Endpoint::Unix(PathBuf::from(rest))),
            "unix" => Err(bad(source, value, "the socket's path must be absolute")),
            "tcp" | "http" => {
                let address = rest.trim_end_matches('/');
                match address.rsplit_once(':') {
                    Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                        Ok(Endpoint::Tcp(address.to_owned()))
                    }
                    Some(_) | None => Err(bad(source, value, "write host and port, like tcp://127.0.0.1:2375")),
                }
            }
            "ssh" => Err(bad(
                source,
                value,
                "ssh addresses are not supported, and folders of this machine could not be mounted there anyway; run \
                 aigo on the engine's machine",
            )),
            _ => Err(bad(source, value, "only unix:// and tcp:// can be used")),
        }
    }
}

fn bad(source: &str, value: &str, reason: &str) -> EngineError {
    EngineError::BadEndpoint { source_name: source.to_owned(), value: value.to_owned(), reason: reason.to_owned() }
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

fn current_context(config: &Path) -> Result<Option<String>, EngineError> {
    let path = config.join("config.json");
    let Some(text) = read_bounded(&path) else { return Ok(None) };
    serde_json::from_str::<ConfigFile>(&text)
        .map(|file| file.current_context.filter(|name| !name.is_empty()))
        .map_err(|error| bad("the current Docker context", &path.display().to_string(), &error.to_string()))
}

#[derive(Deserialize)]
struct ContextFile {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Endpoints")]
    endpoints: ContextEndpoints,
}

#[derive(Deserialize)]
struct ContextEndpoints {
    docker: Option<ContextEndpoint>,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(rename = "Host")]
    host: Option<String>,
}

/// Contexts live in `contexts/meta/<digest of the name>/meta.json`; looking into each is as good as digesting.
fn context_host(config: &Path, name: &str) -> Option<String> {
    std::fs::read_dir(config.join("contexts/meta")).ok()?.flatten().find_map(|entry| {
        let text = read_bounded(&entry.path().join("meta.json"))?;
        let file = serde_json::from_str::<ContextFile>(&text).ok()?;
        if file.name == name { file.endpoints.docker?.host } else { None }
    })
}

fn read_bounded(path: &Path) -> Option<String> {
    let size = std::fs::metadata(path).ok()?.len();
    if size > MAX_CONFIG {
        return None;
    }
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> HostEnv {
        HostEnv::default()
    }

    #[test]
    fn the_default_is_the_system_socket() {
        assert_eq!(Endpoint::find(&env()).unwrap().to_string(), "unix:///var/run/docker.sock");
    }

    #[test]
    fn podman_is_looked_for_where_it_listens() {
        let found = |env: &HostEnv| -> Vec<String> {
            Endpoint::of_podman(env).into_iter().map(|found| found.unwrap().to_string()).collect()
        };
        let user = HostEnv { runtime_dir: Some("/run/user/7".into()), ..env() };
        let system = "unix:///run/podman/podman.sock";
        assert_eq!(found(&user), ["unix:///run/user/7/podman/podman.sock", system]);
        assert_eq!(found(&HostEnv { root: true, ..user.clone() }), [system]);
        let named = HostEnv { container_host: Some("unix:///p.sock".into()), ..user };
        assert_eq!(found(&named), ["unix:///p.sock"]);
        let wrong = HostEnv { container_host: Some("ssh://core@localhost/p.sock".into()), ..env() };
        let text = Endpoint::of_podman(&wrong).remove(0).unwrap_err().to_string();
        assert!(text.starts_with("CONTAINER_HOST names"), "{text}");
    }

    #[test]
    fn the_variable_wins() {
        let found = |host: &str| Endpoint::find(&HostEnv { docker_host: Some(host.into()), ..env() });
        assert_eq!(
            found("unix:///run/user/1000/docker.sock").unwrap().to_string(),
            "unix:///run/user/1000/docker.sock"
        );
        assert_eq!(found("tcp://127.0.0.1:2375/").unwrap(), Endpoint::Tcp("127.0.0.1:2375".into()));
        for wrong in ["", "/var/run/docker.sock", "unix://docker.sock", "tcp://host", "ssh://a@b", "npipe:////./x"] {
            let text = found(wrong).unwrap_err().to_string();
            assert!(text.starts_with("DOCKER_HOST names"), "{text}");
        }
        let tls = HostEnv { docker_host: Some("tcp://h:2376".into()), docker_tls: true, ..env() };
        assert!(Endpoint::find(&tls).unwrap_err().to_string().contains("TLS"));
    }

    #[test]
    fn contexts_are_looked_up() {
        let home = tempfile::tempdir().unwrap();
        let meta = home.path().join("contexts/meta/0a1b");
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(
            meta.join("meta.json"),
            r#"{"Name":"colima","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///home/x/.colima/docker.sock"}}}"#,
        )
        .unwrap();
        let with = |context: Option<&str>| HostEnv {
            docker_context: context.map(Into::into),
            docker_config: Some(home.path().into()),
            ..env()
        };
        let colima = Endpoint::Unix("/home/x/.colima/docker.sock".into());
        assert_eq!(Endpoint::find(&with(Some("colima"))).unwrap(), colima);
        assert!(Endpoint::find(&with(Some("nope"))).unwrap_err().to_string().contains("no such context"));
        assert_eq!(Endpoint::find(&with(None)).unwrap(), Endpoint::Unix(DEFAULT_SOCKET.into()));
        std::fs::write(home.path().join("config.json"), r#"{"auths":{},"currentContext":"colima"}"#).unwrap();
        assert_eq!(Endpoint::find(&with(None)).unwrap(), colima);
        assert_eq!(Endpoint::find(&with(Some("default"))).unwrap(), Endpoint::Unix(DEFAULT_SOCKET.into()));
        std::fs::write(home.path().join("config.json"), "{").unwrap();
        assert!(Endpoint::find(&with(None)).is_err());
    }
}
