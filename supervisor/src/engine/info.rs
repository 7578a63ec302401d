//! Who answers, and what it can do on this machine.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kinds of engine that aigo can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    Docker,
    Podman,
    AppleContainer,
}

impl Backend {
    /// Every backend, in the order in which they are listed.
    pub const ALL: [Backend; 3] = [Backend::Docker, Backend::Podman, Backend::AppleContainer];

    /// Its name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Backend::Docker => "docker",
            Backend::Podman => "podman",
            Backend::AppleContainer => "apple_container",
        }
    }

    /// The word that chooses it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Backend::Docker => "docker",
            Backend::Podman => "podman",
            Backend::AppleContainer => "apple",
        }
    }

    /// Its name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Backend::Docker => "Docker",
            Backend::Podman => "Podman",
            Backend::AppleContainer => "Apple Container",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A name that is no backend's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no container engine that aigo knows; allowed: auto, docker, podman, apple")]
pub struct UnknownBackend {
    pub value: String,
}

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Backend::ALL
            .into_iter()
            .find(|backend| backend.word() == value || backend.name() == value)
            .ok_or_else(|| UnknownBackend { value: value.to_owned() })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupVersion {
    V1,
    V2,
    /// The engine does not say.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    Cgroupfs,
    Systemd,
    /// No cgroups: no limit of a container is enforced.
    None,
    /// Each container is a virtual machine, whose size bounds it.
    Machine,
}

/// Which limits the engine says that the kernel can enforce here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LimitSupport {
    pub memory: bool,
    /// Without it a container may use swap beyond its memory limit.
    pub swap: bool,
    pub cpu: bool,
    pub pids: bool,
}

/// Where an engine that is good enough tells less than others do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quirks {
    /// Neither inspection nor events can be relied on to tell of out-of-memory kills; the container's cgroup does.
    pub oom_untold: bool,
    /// Limits that were changed hold, but an inspection tells those of the creation.
    pub updates_unrecorded: bool,
    /// It has no name that it keeps: its address has to do.
    pub unnamed: bool,
    /// What a container prints on standard error is told as standard output.
    pub streams_joined: bool,
}

/// How containers reach the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Networking {
    /// The host's address on the engine's default bridge; `None` where the engine hides it behind a VM. A network of
    /// our own has its own: [`Network::gateway`](super::Network::gateway).
    pub host_gateway: Option<IpAddr>,
    /// What a person would have to add to a `run` command line to reach the host by the name `host-gateway`.
    pub extra_run_args: Vec<String>,
}

/// Tells engines apart: a session's objects are on one of them, and only that one can be asked about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineIdentity {
    /// What the engine calls itself: a UUID that Docker makes once and keeps beside its images. Empty if it does not say.
    pub id: String,
    /// Where it answered.
    pub endpoint: String,
}

impl EngineIdentity {
    /// Whether both are one engine, as far as can be told: its address may differ (a context, a forwarded socket), and an
    /// engine that was set up anew has another name at the old address, where nothing of its predecessor's is left.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (!self.id.is_empty() && self.id == other.id) || self.endpoint == other.endpoint
    }
}

/// An engine that answers and is good enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineInfo {
    pub backend: Backend,
    /// As [`EngineIdentity::id`].
    pub id: String,
    pub version: String,
    /// The wire version that we speak with it.
    pub api_version: String,
    /// Where it answers.
    pub endpoint: String,
    pub cgroup_version: CgroupVersion,
    pub cgroup_driver: CgroupDriver,
    pub limits: LimitSupport,
    pub quirks: Quirks,
    pub os: String,
    /// What the engine calls its machine's architecture (`x86_64`, `aarch64`).
    pub architecture: String,
    pub kernel: String,
    /// Processors and bytes of memory that the engine has.
    pub cpus: u32,
    pub memory: u64,
    /// Root of a container is the engine's own user outside.
    pub rootless: bool,
    /// As the engine says them: `name=seccomp,profile=builtin`, …
    pub security_options: Vec<String>,
    pub storage_driver: String,
    /// Where images and containers are kept, on the engine's machine.
    pub root_dir: PathBuf,
    pub networking: Networking,
    /// One line for people.
    pub message: String,
    /// What the engine warns of.
    pub warnings: Vec<String>,
}

/// Why an engine that maps users cannot be used, and what to do.
pub const REMAPPED: &str = "the engine maps the users of its containers to other users of this host (userns-remap), who may \
                            not work in your folder";
/// See [`REMAPPED`].
pub const REMAPPED_REMEDY: &str = "remove userns-remap from the engine's configuration (/etc/docker/daemon.json, or the flag \
                                   --userns-remap) and restart it, or use an engine of your own: rootless Docker or Podman";

impl EngineInfo {
    /// Whether users of containers are other users of this host by the engine's configuration: files of a mounted folder
    /// belong to nobody there, and what is made belongs to a user that nobody is. A rootless engine maps its own user to
    /// root, and that one can work in its folders.
    #[must_use]
    pub fn is_remapped(&self) -> bool {
        self.security_options.iter().any(|option| option == "name=userns" || option.starts_with("name=userns,"))
    }

    /// Which engine this is.
    #[must_use]
    pub fn identity(&self) -> EngineIdentity {
        EngineIdentity { id: self.id.clone(), endpoint: self.endpoint.clone() }
    }

    /// An engine that can do everything, for tests to change.
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self {
            backend: Backend::Docker,
            id: "an-engine".into(),
            version: "26.1.5".into(),
            api_version: "1.45".into(),
            endpoint: "unix:///run/docker.sock".into(),
            cgroup_version: CgroupVersion::V2,
            cgroup_driver: CgroupDriver::Systemd,
            limits: LimitSupport { memory: true, swap: true, cpu: true, pids: true },
            quirks: Quirks::default(),
            os: "Debian".into(),
            architecture: "x86_64".into(),
            kernel: "6.18".into(),
            cpus: 2,
            memory: 8 << 30,
            rootless: false,
            security_options: vec![],
            storage_driver: "overlay2".into(),
            root_dir: "/var/lib/docker".into(),
            networking: Networking { host_gateway: None, extra_run_args: vec![] },
            message: String::new(),
            warnings: vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_engine_has_many_addresses_and_one_address_one_engine() {
        let engine = |id: &str, endpoint: &str| EngineIdentity { id: id.into(), endpoint: endpoint.into() };
        assert!(engine("a", "unix:///x").is_same(&engine("a", "unix:///y")));
        assert!(engine("a", "unix:///x").is_same(&engine("b", "unix:///x")));
        assert!(!engine("a", "unix:///x").is_same(&engine("b", "unix:///y")));
        assert!(!engine("", "unix:///x").is_same(&engine("", "unix:///y")));
    }
}
