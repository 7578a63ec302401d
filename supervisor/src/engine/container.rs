//! A container as plain data: what to create, and what is known of one that exists.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Labels;

/// The engine's own id of a container. A name works wherever an id is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ContainerId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What to create. Fixed, and so not here: no terminal, no stdin, no automatic removal (the exit code would be lost), no
/// restart, no engine-made init process, all capabilities dropped before [`ContainerSpec::cap_add`], host paths mounted
/// with private propagation and never made by the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    pub name: String,
    pub image: String,
    /// `None`: the image's. `Some(vec![])`: none at all.
    pub entrypoint: Option<Vec<String>>,
    /// `None`: the image's.
    pub command: Option<Vec<String>>,
    /// Added to the image's own; nothing of the host's environment is passed on.
    pub env: BTreeMap<String, String>,
    pub labels: Labels,
    pub mounts: Vec<Mount>,
    pub network: NetworkAttachment,
    /// Lines for the container's `/etc/hosts`.
    pub extra_hosts: BTreeMap<String, IpAddr>,
    pub limits: Limits,
    /// Capability names without or with `CAP_`, as in capabilities(7).
    pub cap_add: Vec<String>,
    pub security: Security,
    /// `uid`, `uid:gid` or a name of the image's; the image's own if `None`.
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub hostname: Option<String>,
    /// How long an engine that is told to stop by somebody else waits before it kills.
    pub stop_timeout: Duration,
    /// A cgroup (v1/v2 path or systemd slice, as the engine's cgroup driver wants it) to put the container's own under.
    pub cgroup_parent: Option<String>,
    pub log: LogPolicy,
    pub read_only_root: bool,
    /// -1000..=1000, see proc(5): a container should die before its supervisor.
    pub oom_score_adj: Option<i16>,
}

impl ContainerSpec {
    /// The image's own command on no network, unlimited, with nothing mounted.
    #[must_use]
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            image: image.into(),
            entrypoint: None,
            command: None,
            env: BTreeMap::new(),
            labels: Labels::new(),
            mounts: Vec::new(),
            network: NetworkAttachment::None,
            extra_hosts: BTreeMap::new(),
            limits: Limits::default(),
            cap_add: Vec::new(),
            security: Security::default(),
            user: None,
            working_dir: None,
            hostname: None,
            stop_timeout: Duration::from_secs(10),
            cgroup_parent: None,
            log: LogPolicy::default(),
            read_only_root: false,
            oom_score_adj: None,
        }
    }
}

/// Something mounted at an absolute path of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub source: MountSource,
    pub target: String,
    pub read_only: bool,
}

impl Mount {
    /// A folder or file of the host.
    #[must_use]
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<String>, read_only: bool) -> Self {
        Self { source: MountSource::Bind(source.into()), target: target.into(), read_only }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// An absolute path of the engine's host, which must exist.
    Bind(PathBuf),
    /// A named volume, made with these labels if it does not exist. It outlives the container.
    Volume { name: String, labels: Labels },
    /// Memory, counted against the container's limit: at most `size` bytes, with permission bits `mode`.
    Tmpfs { size: u64, mode: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkAttachment {
    /// Loopback only.
    None,
    /// The host's own network: no isolation.
    Host,
    /// A network by name or id, with the engine's choice of address unless one is given.
    Network { network: String, address: Option<Ipv4Addr> },
}

/// What the kernel holds the container to. `None` is unlimited (for `shm`: the engine's default, 64 MiB).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Billionths of a processor: 1_500_000_000 is one and a half.
    pub nano_cpus: Option<u64>,
    /// Bytes, with no swap on top (where the kernel can: [`LimitSupport::swap`](super::LimitSupport)).
    pub memory: Option<u64>,
    /// Processes and threads together.
    pub pids: Option<u32>,
    /// Open files of each process, soft and hard.
    pub nofile: Option<u64>,
    /// Bytes of `/dev/shm`.
    pub shm: Option<u64>,
}

/// Limits that can be changed while a container runs; `None` leaves one as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsUpdate {
    pub nano_cpus: Option<u64>,
    pub memory: Option<u64>,
    pub pids: Option<u32>,
}

/// How far the container is kept from the kernel. The default is the engine's own, strict one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// Set-uid programs (sudo) give no rights.
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    /// Name of a loaded AppArmor profile, or `unconfined`; the engine's default if `None`.
    pub apparmor: Option<String>,
    /// Paths in /proc and /sys that engines mask or make read-only are left as they are (needed for containers inside).
    pub system_paths_unconfined: bool,
    pub devices: Vec<Device>,
    /// All capabilities and devices: the container can take over the host.
    pub privileged: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// The engine's own profile.
    #[default]
    Default,
    Unconfined,
    /// A profile as JSON text.
    Profile(String),
}

/// A device node of the host, with read, write and mknod allowed, at the same path inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device(pub PathBuf);

/// How much output the engine keeps on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPolicy {
    pub driver: LogDriver,
    /// Bytes of one file.
    pub max_size: u64,
    pub max_files: u32,
}

impl Default for LogPolicy {
    /// 2 × 4 MiB: what a person reads after a crash. The transcript goes another way.
    fn default() -> Self {
        Self { driver: LogDriver::Local, max_size: 4 << 20, max_files: 2 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogDriver {
    Local,
    JsonFile,
}

/// A container that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub id: ContainerId,
    /// What the engine could not do as asked, for instance a limit that this kernel lacks.
    pub warnings: Vec<String>,
}

/// Where a container is in its life; see the diagram in [`engine`](super).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerPhase {
    Created,
    Running,
    Paused,
    /// Ended, or being removed.
    Exited,
}

impl ContainerPhase {
    /// Whether processes of the container exist.
    #[must_use]
    pub fn is_live(self) -> bool {
        match self {
            ContainerPhase::Running | ContainerPhase::Paused => true,
            ContainerPhase::Created | ContainerPhase::Exited => false,
        }
    }
}

/// What an inspection tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    pub id: ContainerId,
    pub name: String,
    /// The image's id, not the tag that it was created from.
    pub image: String,
    pub labels: Labels,
    pub phase: ContainerPhase,
    /// The first process in the pid namespace of the engine's host, while live. Behind a VM it means nothing here. `None`
    /// where it is in no cgroup of its container's own, so that nobody takes the host's counters for the container's.
    pub pid: Option<i32>,
    /// After the end.
    pub exit_code: Option<i32>,
    /// The engine's own view, which misses kills of other processes than the first on some kernels; see
    /// [`cgroup`](super::cgroup).
    pub oom_killed: bool,
    /// Why it could not be started, in the engine's words; empty if it could.
    pub error: String,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Addresses by network name, while live.
    pub addresses: BTreeMap<String, Ipv4Addr>,
    /// The limits that the engine has on record.
    pub limits: Limits,
    /// As in [`ContainerSpec::cgroup_parent`]; `None` if it is the engine's own.
    pub cgroup_parent: Option<String>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitInfo {
    /// 128 + n after signal n.
    pub code: i32,
    pub oom_killed: bool,
    /// As in [`ContainerInfo::error`].
    pub error: String,
    pub finished_at: Option<Timestamp>,
    /// It ended while the engine was away, or soon after: an engine that stops ends what runs, and one that starts anew
    /// what it finds.
    pub engine_was_away: bool,
}

impl ExitInfo {
    /// The code of a container whose end its engine did not see: Docker's own, when it starts anew and finds one dead that it
    /// left running. The runner never has it.
    pub const NOBODY_SAW: i32 = 255;
}

/// A line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSummary {
    pub id: ContainerId,
    pub name: String,
    pub image: String,
    pub labels: Labels,
    pub phase: ContainerPhase,
    pub created_at: Option<Timestamp>,
}

/// A command to run in a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSpec {
    pub argv: Vec<String>,
    /// The container's own user if `None`.
    pub user: Option<String>,
    pub deadline: Duration,
    /// At most so many bytes of each output stream are kept, the last ones.
    pub max_bytes: usize,
}

impl ExecSpec {
    /// A command as the container's user, with 30 s and 64 KiB of output.
    #[must_use]
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            user: None,
            deadline: Duration::from_secs(30),
            max_bytes: 64 * 1024,
        }
    }
}
