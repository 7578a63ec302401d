//! The fake's state, and the rules by which verbs change it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::container::{FakeContainer, Live};
use super::event::{Subscriber, carries, emit, subscribe};
use super::fault::Faults;
use super::run::FakeRun;
use super::{Act, ExecScript, Script, StateLock, no_container};
use crate::engine::subnets::Pools;
use crate::engine::{
    Backend, CgroupDriver, CgroupVersion, ContainerId, ContainerPhase, ContainerSpec, ContainerSummary, Created,
    EngineError, EngineInfo, EventKind, EventStream, ExecOutput, ExitInfo, ImageId, ImageInfo, Labels, LimitSupport,
    MountSource, Network, NetworkAttachment, NetworkId, NetworkSpec, Networking, Object, Output, Quirks, Signal,
};

/// How long a wait outlives an engine that went; a real one retries about as long.
const WAIT_PATIENCE: Duration = Duration::from_secs(30);
/// Signals that wait for a script to take them.
const SIGNALS: usize = 64;

pub(super) struct Shared {
    pub(super) state: StateLock,
    /// Counts changes that a wait may be waiting for.
    pub(super) changed: watch::Sender<u64>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

pub(super) struct State {
    pub(super) faults: Faults,
    pub(super) script: Script,
    pub(super) exec_script: ExecScript,
    pub(super) down: bool,
    /// What was asked for and is yet to be done.
    pub(super) late: Vec<Act>,
    images: BTreeMap<String, ImageInfo>,
    networks: Vec<Network>,
    containers: Vec<FakeContainer>,
    subscribers: Vec<Subscriber>,
    /// Scripts in flight; they end with the engine's last clone.
    tasks: JoinSet<()>,
    serial: u64,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            state: StateLock::new(State {
                faults: Faults::default(),
                script: Arc::new(|_run| Box::pin(async { 0 })),
                exec_script: Arc::new(|_, _| ExecOutput { code: 0, output: Output::default() }),
                down: false,
                late: Vec::new(),
                images: BTreeMap::new(),
                networks: Vec::new(),
                containers: Vec::new(),
                subscribers: Vec::new(),
                tasks: JoinSet::new(),
                serial: 0,
            }),
            changed: watch::Sender::new(0),
        }
    }

    pub(super) async fn wait(&self, id: &ContainerId) -> Result<ExitInfo, EngineError> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let down = {
                let state = self.lock();
                if !state.down {
                    let container = state.find(&id.0)?;
                    if !container.phase.is_live() {
                        // As Docker: what was never started is not running, and its code reads 0.
                        let never = ExitInfo {
                            code: 0,
                            oom_killed: false,
                            error: String::new(),
                            finished_at: None,
                            engine_was_away: false,
                        };
                        return Ok(container.exit().unwrap_or(never));
                    }
                }
                state.down
            };
            if !down {
                // The sender is ours, so the only outcome is a change.
                let _change = changed.changed().await;
            } else if tokio::time::timeout(WAIT_PATIENCE, changed.changed()).await.is_err() {
                self.lock().answers()?;
            }
        }
    }

    /// The script of run `run` gave its exit code.
    fn finished(&self, id: &ContainerId, run: u64, code: i32) {
        let mut state = self.lock();
        let is_current = state.find(&id.0).ok().and_then(|container| container.live.as_ref()).map(|live| live.run);
        if is_current == Some(run) {
            state.end(id, code, self);
        }
    }
}

impl State {
    pub(super) fn answers(&self) -> Result<(), EngineError> {
        if self.down {
            return Err(EngineError::Unreachable {
                endpoint: "fake".to_owned(),
                reason: "it was switched off".to_owned(),
                remedy: "switch it on again",
            });
        }
        Ok(())
    }

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn leftovers(&self) -> Vec<String> {
        let containers = self.containers.iter().map(|container| container.spec.name.clone());
        containers.chain(self.networks.iter().map(|network| network.name.clone())).collect()
    }

    // --- images

    pub(super) fn add_image(&mut self, tag: &str, labels: Labels) -> ImageId {
        let tag = full_tag(tag);
        let id = ImageId(format!("sha256:{:064x}", self.next()));
        let image = ImageInfo {
            id: id.clone(),
            tags: vec![tag.clone()],
            size: 1 << 20,
            created: Some(Timestamp::now()),
            labels,
            env: BTreeMap::new(),
            entrypoint: vec!["/usr/local/bin/aigo-runner".to_owned()],
            command: Vec::new(),
            user: String::new(),
            working_dir: String::new(),
            architecture: "amd64".to_owned(),
        };
        self.images.insert(tag, image);
        id
    }

    pub(super) fn image(&self, tag: &str) -> Option<ImageInfo> {
        self.images.get(&full_tag(tag)).or_else(|| self.images.values().find(|image| image.id.0 == tag)).cloned()
    }

    pub(super) fn remove_image(&mut self, tag: &str) -> Result<(), EngineError> {
        let Some(image) = self.image(tag) else { return Ok(()) };
        if let Some(user) = self.containers.iter().find(|container| container.image == image.id.0) {
            return Err(EngineError::InUse {
                what: Object::Image,
                name: tag.to_owned(),
                message: format!("container {} uses it", user.spec.name),
            });
        }
        self.images.retain(|_, other| other.id != image.id);
        Ok(())
    }

    // --- networks

    pub(super) fn create_network(&mut self, spec: &NetworkSpec) -> Result<Network, EngineError> {
        if self.networks.iter().any(|network| network.name == spec.name) {
            return Err(EngineError::Conflict { what: Object::Network, name: spec.name.clone() });
        }
        let taken: Vec<_> = self.networks.iter().map(|network| network.subnet).collect();
        let subnet = match spec.subnet {
            Some(subnet) if taken.iter().any(|other| other.overlaps(subnet)) => {
                return Err(EngineError::SubnetTaken { message: format!("pool {subnet} overlaps with another one") });
            }
            Some(subnet) => subnet,
            None => {
                let pools = Pools::default();
                let free = pools.free(&taken, &spec.name).next();
                free.ok_or_else(|| EngineError::NoFreeSubnet { pools: pools.to_string() })?
            }
        };
        let network = Network {
            id: NetworkId(format!("{:064x}", self.next())),
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            internal: spec.internal,
            subnet,
            gateway: subnet.usual_gateway(),
        };
        self.networks.push(network.clone());
        Ok(network)
    }

    fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name || network.id.0 == name)
    }

    pub(super) fn remove_network(&mut self, name: &str) -> Result<(), EngineError> {
        let Some(network) = self.network(name) else { return Ok(()) };
        let (id, full_name) = (network.id.clone(), network.name.clone());
        let attached =
            |container: &&FakeContainer| container.phase.is_live() && container.addresses.contains_key(&full_name);
        if let Some(container) = self.containers.iter().find(attached) {
            return Err(EngineError::InUse {
                what: Object::Network,
                name: name.to_owned(),
                message: format!("container {} is attached", container.spec.name),
            });
        }
        self.networks.retain(|network| network.id != id);
        Ok(())
    }

    pub(super) fn networks_with(&self, labels: &Labels) -> Vec<Network> {
        self.networks.iter().filter(|network| carries(&network.labels, labels)).cloned().collect()
    }

    // --- containers

    pub(super) fn find(&self, name: &str) -> Result<&FakeContainer, EngineError> {
        self.containers
            .iter()
            .find(|container| container.id.0 == name || container.spec.name == name)
            .ok_or_else(|| no_container(name))
    }

    pub(super) fn find_mut(&mut self, name: &str) -> Result<&mut FakeContainer, EngineError> {
        self.containers
            .iter_mut()
            .find(|container| container.id.0 == name || container.spec.name == name)
            .ok_or_else(|| no_container(name))
    }

    pub(super) fn containers_with(&self, labels: &Labels) -> Vec<ContainerSummary> {
        let wanted = self.containers.iter().filter(|container| carries(&container.spec.labels, labels));
        wanted.map(FakeContainer::summary).collect()
    }

    /// Looks for the folders of the host that are to be mounted, as engines do when they are asked.
    pub(super) fn check_mounts(spec: &ContainerSpec) -> Result<(), EngineError> {
        for mount in &spec.mounts {
            match &mount.source {
                MountSource::Bind(path) if !path.exists() => {
                    return Err(EngineError::MountMissing { path: path.clone() });
                }
                MountSource::Bind(_) | MountSource::Volume { .. } | MountSource::Tmpfs { .. } => {}
            }
        }
        Ok(())
    }

    pub(super) fn create(&mut self, spec: &ContainerSpec) -> Result<Created, EngineError> {
        let image = self.image(&spec.image).ok_or_else(|| EngineError::ImageMissing { tag: spec.image.clone() })?;
        if self.containers.iter().any(|container| container.spec.name == spec.name) {
            return Err(EngineError::Conflict { what: Object::Container, name: spec.name.clone() });
        }
        let id = ContainerId(format!("{:064x}", self.next()));
        self.containers.push(FakeContainer {
            id: id.clone(),
            spec: spec.clone(),
            phase: ContainerPhase::Created,
            exit_code: None,
            oom_killed: false,
            stdout: Vec::new(),
            stderr: Vec::new(),
            created_at: Timestamp::now(),
            started_at: None,
            finished_at: None,
            addresses: BTreeMap::new(),
            image: image.id.0,
            live: None,
        });
        Ok(Created { id, warnings: Vec::new() })
    }

    pub(super) fn start(&mut self, id: &ContainerId, shared: &Arc<Shared>) -> Result<(), EngineError> {
        let container = self.find(&id.0)?;
        if container.phase.is_live() {
            return Ok(());
        }
        let (id, spec) = (container.id.clone(), container.spec.clone());
        let addresses = self.attach(&spec)?;
        let run = self.next();
        let (sender, signals) = mpsc::channel(SIGNALS);
        let weak: Weak<Shared> = Arc::downgrade(shared);
        let script = Arc::clone(&self.script);
        let run_view = FakeRun { id: id.clone(), spec, signals, shared: weak.clone() };
        let own_id = id.clone();
        // Reap scripts that ended, so that the set stays as small as what runs.
        while self.tasks.try_join_next().is_some() {}
        let task = self.tasks.spawn(async move {
            // Called here and not under the state's lock, which the script may want.
            let code = script(run_view).await;
            if let Some(shared) = weak.upgrade() {
                shared.finished(&own_id, run, code);
            }
        });
        let container = self.find_mut(&id.0)?;
        container.phase = ContainerPhase::Running;
        container.exit_code = None;
        container.oom_killed = false;
        container.started_at = Some(Timestamp::now());
        container.finished_at = None;
        container.addresses = addresses;
        container.live = Some(Live { signals: sender, task, run });
        self.emit(&id, EventKind::Start);
        Ok(())
    }

    /// The address on the network of `spec`: the first free one after the gateway.
    fn attach(&self, spec: &ContainerSpec) -> Result<BTreeMap<String, Ipv4Addr>, EngineError> {
        let (name, wanted) = match &spec.network {
            NetworkAttachment::None | NetworkAttachment::Host => return Ok(BTreeMap::new()),
            NetworkAttachment::Network { network, address } => (network, *address),
        };
        let network =
            self.network(name).ok_or_else(|| EngineError::NotFound { what: Object::Network, name: name.clone() })?;
        let taken: BTreeSet<Ipv4Addr> = self
            .containers
            .iter()
            .filter(|container| container.phase.is_live())
            .filter_map(|container| container.addresses.get(&network.name).copied())
            .collect();
        let gateway = u32::from(network.gateway);
        let address = match wanted {
            Some(address) if taken.contains(&address) => None,
            Some(address) => Some(address),
            None => (gateway + 1..)
                .map(Ipv4Addr::from)
                .take_while(|address| network.subnet.contains(*address))
                .find(|address| !taken.contains(address)),
        };
        let address = address.ok_or_else(|| EngineError::Refused {
            what: "start container",
            message: format!("no free address on network {name}"),
        })?;
        Ok(BTreeMap::from([(network.name.clone(), address)]))
    }

    pub(super) fn signal(&mut self, id: &ContainerId, signal: Signal, shared: &Shared) -> Result<(), EngineError> {
        let container = self.find(&id.0)?;
        let Some(live) = &container.live else {
            return Err(EngineError::NotRunning { name: id.0.clone() });
        };
        if signal == Signal::SIGKILL {
            let id = container.id.clone();
            self.end(&id, 128 + Signal::SIGKILL as i32, shared);
        } else {
            // A script that dropped its receiver, or lets signals pile up, ignores them.
            let _ignored = live.signals.try_send(signal);
        }
        Ok(())
    }

    fn end(&mut self, id: &ContainerId, code: i32, shared: &Shared) {
        let Ok(container) = self.find_mut(&id.0) else { return };
        if let Some(live) = container.live.take() {
            live.task.abort();
        }
        container.phase = ContainerPhase::Exited;
        container.exit_code = Some(code);
        container.finished_at = Some(Timestamp::now());
        self.emit(id, EventKind::Die { exit_code: code });
        shared.changed.send_modify(|generation| *generation += 1);
    }

    pub(super) fn remove(&mut self, id: &ContainerId, force: bool, shared: &Shared) -> Result<(), EngineError> {
        let Ok(container) = self.find(&id.0) else { return Ok(()) };
        let id = container.id.clone();
        if container.phase.is_live() {
            if !force {
                return Err(EngineError::InUse {
                    what: Object::Container,
                    name: container.spec.name.clone(),
                    message: "it runs".to_owned(),
                });
            }
            self.end(&id, 128 + Signal::SIGKILL as i32, shared);
        }
        self.emit(&id, EventKind::Destroy);
        self.containers.retain(|container| container.id != id);
        shared.changed.send_modify(|generation| *generation += 1);
        Ok(())
    }

    // --- events

    pub(super) fn subscribe(&mut self, labels: &Labels) -> EventStream {
        subscribe(&mut self.subscribers, labels)
    }

    pub(super) fn emit(&mut self, id: &ContainerId, kind: EventKind) {
        // Who listens when nobody answers gets nothing; the streams were broken when the engine went.
        if !self.down
            && let Ok(labels) = self.find(&id.0).map(|container| container.spec.labels.clone())
        {
            emit(&mut self.subscribers, id, &labels, kind);
        }
    }

    /// Breaks every event stream.
    pub(super) fn break_streams(&mut self) {
        self.subscribers.clear();
    }
}

/// A tag without a version is `latest`.
fn full_tag(tag: &str) -> String {
    let has_version = tag.rsplit_once(':').is_some_and(|(_, version)| !version.contains('/'));
    if has_version { tag.to_owned() } else { format!("{tag}:latest") }
}

pub(super) fn info() -> EngineInfo {
    EngineInfo {
        backend: Backend::Docker,
        id: "fake".to_owned(),
        version: "26.1.5".to_owned(),
        api_version: "1.45".to_owned(),
        endpoint: "fake".to_owned(),
        cgroup_version: CgroupVersion::V2,
        cgroup_driver: CgroupDriver::Cgroupfs,
        limits: LimitSupport { memory: true, swap: true, cpu: true, pids: true },
        quirks: Quirks::default(),
        os: "fake".to_owned(),
        architecture: "x86_64".to_owned(),
        kernel: "6.18".to_owned(),
        cpus: 2,
        memory: 8 << 30,
        rootless: false,
        security_options: vec!["name=seccomp,profile=builtin".to_owned()],
        storage_driver: "memory".to_owned(),
        root_dir: PathBuf::from("/"),
        networking: Networking {
            host_gateway: Some(IpAddr::V4(Ipv4Addr::new(172, 17, 0, 1))),
            extra_run_args: Vec::new(),
        },
        message: "a fake engine answers".to_owned(),
        warnings: Vec::new(),
    }
}
