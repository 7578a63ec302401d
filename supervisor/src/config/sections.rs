//! The configuration's values, and the one list of its keys: the `visit` functions.
//!
//! A key that is new is added to its struct, to `visit`, to `defaults` and to `default.toml`; nothing else has to know.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::kind::{
    AbsolutePath, Address, Cpus, Engine, EngineHost, Flag, Grace, Group, Image, Level, LogLevel, Number, Permissions,
    Size, Subnets, TimeLimit, Upstream, Words, or_inherit, or_none, word,
};
use super::place::Places;
use super::visit::{Key, Visitor};
use crate::agents::{AgentName, LimitPolicy};
use crate::engine::detect::{Choice, ENGINE_VARIABLE};
use crate::engine::docker::Endpoint;
use crate::engine::subnets::{Pools, SUBNETS_VARIABLE};
use crate::policy::{MIN_MEMORY, MIN_PIDS};
use crate::proxy::UpstreamUrl;
use crate::request::{DEFAULT_IMAGE, DEFAULT_PROXY_PORT, DEFAULT_TIMEOUT, Limits};
use crate::session::machine::Graces;
use crate::units::MilliCpus;

/// The port of the HTTP API.
const DEFAULT_PORT: u16 = 55_765;
/// The kernel's own bound on process ids of 64-bit machines (PID_MAX_LIMIT in include/linux/threads.h).
const PIDS: Number<u32> = Number { min: MIN_PIDS, max: 1 << 22 };
/// What an engine can carry, by far.
const CONTAINERS: Number<u32> = Number { min: 1, max: 10_000 };
/// The engines' own least.
const MEMORY: Size = Size(MIN_MEMORY);

/// All that can be configured. It exists only if every value is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the HTTP API listens.
    pub listen: SocketAddr,
    /// The file with the API's token; needed off loopback.
    pub token_file: Option<PathBuf>,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The socket for `aigo` on this machine.
    pub socket: SocketSettings,
    /// The container engine.
    pub engine: EngineSettings,
    /// What is logged, and how.
    pub log: LogSettings,
    /// What a session gets if its request does not say otherwise.
    pub session: SessionDefaults,
    /// What all sessions may take together.
    pub limits: HostLimits,
    /// Requests that wait.
    pub queue: QueueSettings,
    /// Limits by agent; an agent that is not named here has those of [`AgentSettings::default`].
    pub agents: BTreeMap<AgentName, AgentSettings>,
    /// What is kept.
    pub retention: Retention,
    /// The credential proxy.
    pub proxy: ProxySettings,
}

/// `[socket]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSettings {
    /// Where it is.
    pub path: PathBuf,
    /// Permission bits: 0600 or 0660.
    pub mode: u32,
    /// The group that it is given to.
    pub group: Option<String>,
}

/// `[engine]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// Which one.
    pub backend: Choice,
    /// Where it answers, instead of where its own tools look.
    pub host: Option<Endpoint>,
    /// The ranges that subnets of sessions are chosen from, instead of the engine's own and the usual ones.
    pub subnets: Option<Pools>,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How.
    pub format: LogFormat,
    /// How much.
    pub level: LogLevel,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// The journal where standard error leads there, text on a terminal, else JSON.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// The journal's own protocol, with fields.
    Journald,
}

/// `[session]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDefaults {
    /// The image.
    pub image: String,
    /// Bounds of the container.
    pub limits: Limits,
    /// Longest life.
    pub timeout: Option<Duration>,
    /// Longest silence with nothing in flight.
    pub idle_timeout: Option<Duration>,
    /// Graces at the end.
    pub graces: Graces,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// Sessions at once.
    pub max_sessions: u32,
    /// The sum of their CPUs.
    pub cpus: Option<MilliCpus>,
    /// The sum of their memory limits in bytes.
    pub memory: Option<u64>,
    /// Bytes that have to be free on the host for a session to start.
    pub headroom: Option<u64>,
}

/// `[queue]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Requests that may wait.
    pub length: u32,
    /// What happens to what does not fit.
    pub policy: LimitPolicy,
}

/// `[agents.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentSettings {
    /// For all its containers together.
    pub cpus: Option<MilliCpus>,
    /// Bytes of each container at most.
    pub memory: Option<u64>,
    /// Containers at once.
    pub containers: Option<u32>,
    /// Processes and threads of each container at most.
    pub pids: Option<u32>,
    /// What happens over the limit; none for what [`QueueSettings::policy`] says.
    pub policy: Option<LimitPolicy>,
}

/// `[retention]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Sessions that ended longer ago are forgotten.
    pub max_age: Option<Duration>,
    /// Bytes of the database beyond which the oldest are forgotten.
    pub max_size: Option<u64>,
}

/// `[proxy]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// The port on each session network's gateway.
    pub port: u16,
    /// The model's API.
    pub upstream: UpstreamUrl,
    /// The upstream may be plain http beyond loopback.
    pub allow_plain_http: bool,
}

impl Words for LogFormat {
    const ALL: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("text", Self::Text), ("json", Self::Json), ("journald", Self::Journald)];
}

impl Words for LimitPolicy {
    const ALL: &'static [(&'static str, Self)] =
        &[(Self::Queue.word(), Self::Queue), (Self::Reject.word(), Self::Reject)];
}

impl Default for Config {
    /// The system service's.
    fn default() -> Self {
        Self::defaults(&Places::system())
    }
}

impl Config {
    /// What holds if nobody says otherwise.
    pub fn defaults(places: &Places) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            token_file: None,
            data_dir: places.data.clone(),
            socket: SocketSettings { path: places.socket.clone(), mode: 0o600, group: None },
            engine: EngineSettings { backend: Choice::Auto, host: None, subnets: None },
            log: LogSettings { format: LogFormat::default(), level: LogLevel::info() },
            session: SessionDefaults {
                image: DEFAULT_IMAGE.to_owned(),
                limits: Limits::default(),
                timeout: Some(DEFAULT_TIMEOUT),
                idle_timeout: None,
                graces: Graces::default(),
            },
            // Many more sessions than one person watches; the headroom keeps a smaller host alive.
            limits: HostLimits { max_sessions: 20, cpus: None, memory: None, headroom: Some(1 << 30) },
            queue: QueueSettings { length: 1000, policy: LimitPolicy::default() },
            agents: BTreeMap::from([(AgentName::default(), AgentSettings::default())]),
            retention: Retention { max_age: Some(Duration::from_secs(90 * 24 * 3600)), max_size: Some(2 << 30) },
            proxy: ProxySettings {
                port: DEFAULT_PROXY_PORT,
                upstream: UpstreamUrl::default(),
                allow_plain_http: false,
            },
        }
    }

    /// Every key of it.
    pub(super) fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.key(Key::restart("listen"), &Address, &mut self.listen);
        visitor.key(Key::restart("token-file"), &or_none(AbsolutePath), &mut self.token_file);
        visitor.key(Key::restart("data-dir"), &AbsolutePath, &mut self.data_dir);
        within(visitor, "socket", |visitor| self.socket.visit(visitor));
        within(visitor, "engine", |visitor| self.engine.visit(visitor));
        within(visitor, "log", |visitor| self.log.visit(visitor));
        within(visitor, "session", |visitor| self.session.visit(visitor));
        within(visitor, "limits", |visitor| self.limits.visit(visitor));
        within(visitor, "queue", |visitor| self.queue.visit(visitor));
        within(visitor, "agents", |visitor| {
            for name in visitor.agents().into_iter().flatten() {
                self.agents.entry(name).or_default();
            }
            for (name, limits) in &mut self.agents {
                within(visitor, name.as_str(), |visitor| limits.visit(visitor));
            }
        });
        within(visitor, "retention", |visitor| self.retention.visit(visitor));
        within(visitor, "proxy", |visitor| self.proxy.visit(visitor));
    }
}

fn within<V: Visitor>(visitor: &mut V, table: &str, keys: impl FnOnce(&mut V)) {
    visitor.enter(table);
    keys(visitor);
    visitor.leave();
}

impl SocketSettings {
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.key(Key::restart("path"), &AbsolutePath, &mut self.path);
        visitor.key(Key::restart("mode"), &Permissions, &mut self.mode);
        visitor.key(Key::restart("group"), &or_none(Group), &mut self.group);
    }
}

impl EngineSettings {
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.key(Key::restart("backend").variable(ENGINE_VARIABLE), &Engine, &mut self.backend);
        visitor.key(Key::restart("host").variable("DOCKER_HOST"), &or_none(EngineHost), &mut self.host);
        visitor.key(Key::restart("subnets").variable(SUBNETS_VARIABLE), &or_none(Subnets), &mut self.subnets);
    }
}

impl LogSettings {
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.key(Key::restart("format"), &word(), &mut self.format);
        visitor.key(Key::live("level").variable("AIGO_LOG"), &Level, &mut self.level);
    }
}

impl SessionDefaults {
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.key(Key::live("image"), &Image, &mut self.image);
        visitor.key(Key::live("cpus"), &Cpus, &mut self.limits.cpus);
        visitor.key(Key::live("memory"), &MEMORY, &mut self.limits.memory);
        visitor.key(Key::live("pids"), &PIDS, &mut self.limits.pids);
        visitor.key(Key::live("timeout"), &TimeLimit, &mut self.timeout);
        visitor.key(Key::live("idle-timeout"), &TimeLimit, &mut self.idle_timeout);
        visitor.key(Key::live("save-grace"), &Grace, &mut self.graces.save);
        visitor.key(Key::live("close-grace"), &Grace, &mut self.graces.close);
        visitor.key(Key::live("term-grace"), &Grace, &mut self.graces.term);
    }
}

impl HostLimits {
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.key(Key::live("max-sessions"), &CONTAINERS, &mut self.max_sessions);
        visitor.key(Key::live("cpus"), &or_none(Cpus), &mut self.cpus);
        visitor.key(Key::live("memory"), &or_none(MEMORY), &mut self.memory);
        visitor.key(Key::live("headroom"), &or_none(Size(1)), &mut self.headroom);
    }
}

impl QueueSettings {
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.key(Key::live("length"), &Number { min: 1, max: 100_000 }, &mut self.length);
        visitor.key(Key::live("policy"), &word(), &mut self.policy);
    }
}

impl AgentSettings {
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.key(Key::live("cpus"), &or_none(Cpus), &mut self.cpus);
        visitor.key(Key::live("memory"), &or_none(MEMORY), &mut self.memory);
        visitor.key(Key::live("containers"), &or_none(CONTAINERS), &mut self.containers);
        visitor.key(Key::live("pids"), &or_none(PIDS), &mut self.pids);
        visitor.key(Key::live("policy"), &or_inherit(word()), &mut self.policy);
    }
}

impl Retention {
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.key(Key::live("max-age"), &TimeLimit, &mut self.max_age);
        visitor.key(Key::live("max-size"), &or_none(Size(1 << 20)), &mut self.max_size);
    }
}

impl ProxySettings {
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.key(Key::live("port"), &Number { min: 1, max: u16::MAX }, &mut self.port);
        visitor.key(Key::live("upstream").variable("ANTHROPIC_BASE_URL"), &Upstream, &mut self.upstream);
        visitor.key(Key::live("allow-plain-http"), &Flag, &mut self.allow_plain_http);
    }
}
