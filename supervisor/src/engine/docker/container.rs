//! Containers: create, start, look, signal, stop, change, list, remove.

use std::net::Ipv4Addr;
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary as WireSummary, ContainerSummaryStateEnum,
    HostConfig,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
};

use super::dialect::Dialect;
use super::endpoint::Endpoint;
use super::error::About;
use super::network::label_filter;
use super::wire::{Wire, is_path_safe};
use super::{dialect, libpod, spec, time};
use crate::engine::{
    ContainerId, ContainerInfo, ContainerPhase, ContainerSpec, ContainerSummary, Created, EngineError, Labels, Limits,
    LimitsUpdate, MountSource, Object, Signal, deadline,
};

/// How often a removal that somebody else has begun is looked at, until [`deadline::REMOVE`].
const REMOVAL_POLL: Duration = Duration::from_millis(50);
/// How often a container that is settling is looked at.
const SETTLING_POLL: Duration = Duration::from_millis(50);

/// An id that may go into a path, or the error of one that names nothing.
pub(super) fn checked(id: &ContainerId) -> Result<&str, EngineError> {
    if is_path_safe(&id.0) && !id.0.contains('/') {
        Ok(&id.0)
    } else {
        Err(EngineError::NotFound { what: Object::Container, name: id.0.escape_debug().to_string() })
    }
}

pub(super) async fn create(wire: &Wire, wanted: &ContainerSpec) -> Result<Created, EngineError> {
    let about = About::container("create container", &wanted.name);
    let options = CreateContainerOptionsBuilder::new().name(&wanted.name).build();
    sources_can_be_mounted(wire, wanted)?;
    let (body, mut warnings) = wire.container(spec::body(wanted));
    deadline::within(about.what, deadline::CREATE, async {
        let answer = wire
            .docker
            .create_container(Some(options), body)
            .await
            .map_err(|error| about.translate(&wire.endpoint, error))?;
        warnings.extend(answer.warnings);
        Ok(Created { id: ContainerId(answer.id), warnings })
    })
    .await
}

/// Podman makes a bind source that is missing, as root, whatever it is told; a mistyped path would be hidden.
fn sources_can_be_mounted(wire: &Wire, wanted: &ContainerSpec) -> Result<(), EngineError> {
    let (Dialect::Podman(_), Endpoint::Unix(_)) = (&wire.dialect, &wire.endpoint) else { return Ok(()) };
    for mount in &wanted.mounts {
        let MountSource::Bind(path) = &mount.source else { continue };
        if !path.exists() {
            return Err(EngineError::MountMissing { path: path.clone() });
        }
        if !dialect::can_mount(path) {
            let message = format!("Podman cannot mount {}, which has a comma and a colon; rename it", path.display());
            return Err(EngineError::Refused { what: "create container", message });
        }
    }
    Ok(())
}

pub(super) async fn start(wire: &Wire, id: &ContainerId) -> Result<(), EngineError> {
    let name = checked(id)?;
    let about = About::container("start container", name);
    deadline::within(about.what, deadline::START, async {
        wire.docker
            .start_container(name, None::<StartContainerOptions>)
            .await
            .map_err(|error| about.translate(&wire.endpoint, error))
    })
    .await
}

pub(super) async fn inspect(wire: &Wire, id: &ContainerId) -> Result<ContainerInfo, EngineError> {
    let name = checked(id)?;
    let about = About::container("inspect container", name);
    deadline::within(about.what, deadline::READ, async {
        let ask = || wire.docker.inspect_container(name, None::<InspectContainerOptions>);
        let answer = settled(wire, ask).await.map_err(|error| about.translate(&wire.endpoint, error))?;
        let mut info = describe(answer).ok_or_else(|| EngineError::Malformed {
            what: about.what,
            message: "the answer lacks the container's id or state".to_owned(),
        })?;
        if wire.shares_cgroup() {
            info.pid = None;
        }
        Ok(info)
    })
    .await
}

/// Asks again while a container is in a state that lasts for a moment only, and that Docker's API has no word for. Callers
/// bound it by their deadline.
async fn settled<T, F>(wire: &Wire, ask: impl Fn() -> F) -> Result<T, bollard::errors::Error>
where
    F: Future<Output = Result<T, bollard::errors::Error>>,
{
    loop {
        match ask().await {
            Err(error) if wire.dialect.is_settling(&error) => tokio::time::sleep(SETTLING_POLL).await,
            outcome => return outcome,
        }
    }
}

fn describe(answer: ContainerInspectResponse) -> Option<ContainerInfo> {
    let state = answer.state?;
    let phase = match state.status? {
        ContainerStateStatusEnum::CREATED => ContainerPhase::Created,
        ContainerStateStatusEnum::RUNNING
        | ContainerStateStatusEnum::RESTARTING
        | ContainerStateStatusEnum::STOPPING => ContainerPhase::Running,
        ContainerStateStatusEnum::PAUSED => ContainerPhase::Paused,
        ContainerStateStatusEnum::EXITED
        | ContainerStateStatusEnum::DEAD
        | ContainerStateStatusEnum::REMOVING
        | ContainerStateStatusEnum::EMPTY => ContainerPhase::Exited,
    };
    let addresses = answer
        .network_settings
        .and_then(|settings| settings.networks)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(name, endpoint)| Some((name, endpoint.ip_address?.parse::<Ipv4Addr>().ok()?)))
        .collect();
    let exit_code = match phase {
        ContainerPhase::Exited => state.exit_code.map(exit_code),
        ContainerPhase::Created | ContainerPhase::Running | ContainerPhase::Paused => None,
    };
    let started_at = time::from_text(state.started_at.as_deref());
    let finished_at = time::from_text(state.finished_at.as_deref());
    let finished_at = match phase {
        // The start is dated by the daemon after it was told, the end by the runtime: a process that lives for
        // milliseconds ends before it starts.
        ContainerPhase::Exited => finished_at.max(started_at.filter(|_| finished_at.is_some())),
        // An end on record is one of an earlier run.
        ContainerPhase::Created | ContainerPhase::Running | ContainerPhase::Paused => None,
    };
    let host = answer.host_config.unwrap_or_default();
    Some(ContainerInfo {
        id: ContainerId(answer.id?),
        name: plain_name(answer.name.unwrap_or_default()),
        image: answer.image.unwrap_or_default(),
        labels: answer.config.and_then(|config| config.labels).unwrap_or_default().into_iter().collect(),
        phase,
        pid: state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0),
        exit_code,
        oom_killed: state.oom_killed.unwrap_or(false),
        error: state.error.unwrap_or_default(),
        started_at,
        finished_at,
        addresses,
        cgroup_parent: host.cgroup_parent.clone().filter(|parent| !parent.is_empty()),
        limits: limits(host),
    })
}

fn limits(host: HostConfig) -> Limits {
    let positive =
        |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
    Limits {
        nano_cpus: positive(host.nano_cpus),
        memory: positive(host.memory),
        pids: positive(host.pids_limit).and_then(|count| u32::try_from(count).ok()),
        nofile: host
            .ulimits
            .unwrap_or_default()
            .into_iter()
            // Podman uses the names of getrlimit(2).
            .find(|limit| matches!(limit.name.as_deref(), Some("nofile" | "RLIMIT_NOFILE")))
            .and_then(|limit| positive(limit.hard)),
        shm: positive(host.shm_size),
    }
}

/// Exit codes fit into eight bits; an engine that could not start the process reports more than that on no platform.
pub(super) fn exit_code(code: i64) -> i32 {
    i32::try_from(code).unwrap_or(i32::MAX)
}

/// The engine puts a slash before names, from the days of links.
fn plain_name(name: String) -> String {
    name.strip_prefix('/').map(str::to_owned).unwrap_or(name)
}

pub(super) async fn signal(wire: &Wire, id: &ContainerId, signal: Signal) -> Result<(), EngineError> {
    let name = checked(id)?;
    let about = About::container("signal container", name);
    let options = KillContainerOptionsBuilder::new().signal(signal.as_str()).build();
    deadline::within(about.what, deadline::SIGNAL, async {
        wire.docker.kill_container(name, Some(options)).await.map_err(|error| about.translate(&wire.endpoint, error))
    })
    .await
}

pub(super) async fn stop(wire: &Wire, id: &ContainerId, grace: Duration) -> Result<(), EngineError> {
    let Ok(name) = checked(id) else { return Ok(()) };
    let about = About::container("stop container", name);
    let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    let options = StopContainerOptionsBuilder::new().t(i32::try_from(seconds).unwrap_or(i32::MAX)).build();
    let answer = deadline::within(about.what, grace.saturating_add(deadline::STOP_MARGIN), async {
        wire.docker.stop_container(name, Some(options)).await.map_err(|error| about.translate(&wire.endpoint, error))
    })
    .await;
    match answer {
        Ok(()) | Err(EngineError::NotRunning { .. } | EngineError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) async fn remove(wire: &Wire, id: &ContainerId, force: bool) -> Result<(), EngineError> {
    let Ok(name) = checked(id) else { return Ok(()) };
    let about = About::container("remove container", name);
    deadline::within(about.what, deadline::REMOVE, async {
        if force && let Dialect::Podman(_) = wire.dialect {
            // By force it would first wait for SIGTERM to do.
            match signal(wire, id, Signal::SIGKILL).await {
                Ok(()) | Err(EngineError::NotRunning { .. } | EngineError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            let options = RemoveContainerOptionsBuilder::new().force(force).v(true).build();
            let answer = wire.docker.remove_container(name, Some(options)).await;
            match answer.map_err(|error| about.translate(&wire.endpoint, error)) {
                Ok(()) | Err(EngineError::NotFound { .. }) => return Ok(()),
                // Somebody else's removal: ours is done when theirs is.
                Err(EngineError::Refused { message, .. }) if message.contains("already in progress") => {
                    tokio::time::sleep(REMOVAL_POLL).await;
                }
                Err(error) => return Err(error),
            }
        }
    })
    .await
}

pub(super) async fn update(wire: &Wire, id: &ContainerId, limits: &LimitsUpdate) -> Result<(), EngineError> {
    let name = checked(id)?;
    let about = About::container("change the limits of container", name);
    deadline::within(about.what, deadline::UPDATE, async {
        match &wire.dialect {
            Dialect::Docker => wire
                .docker
                .update_container(name, spec::update(limits))
                .await
                .map_err(|error| about.translate(&wire.endpoint, error)),
            Dialect::Podman(_) => libpod::update(&wire.endpoint, name, limits).await,
        }
    })
    .await
}

pub(super) async fn list(wire: &Wire, labels: &Labels) -> Result<Vec<ContainerSummary>, EngineError> {
    let about = About::container("list containers", "");
    let options = ListContainersOptionsBuilder::new().all(true).filters(&label_filter(labels)).build();
    let answer = deadline::within(about.what, deadline::READ, async {
        let ask = || wire.docker.list_containers(Some(options.clone()));
        settled(wire, ask).await.map_err(|error| about.translate(&wire.endpoint, error))
    })
    .await?;
    let plain =
        |container: ContainerSummary| ContainerSummary { image: wire.dialect.plain_tag(container.image), ..container };
    Ok(answer.into_iter().filter_map(summary).map(plain).collect())
}

fn summary(container: WireSummary) -> Option<ContainerSummary> {
    let phase = match container.state? {
        ContainerSummaryStateEnum::CREATED => ContainerPhase::Created,
        ContainerSummaryStateEnum::RUNNING
        | ContainerSummaryStateEnum::RESTARTING
        | ContainerSummaryStateEnum::STOPPING => ContainerPhase::Running,
        ContainerSummaryStateEnum::PAUSED => ContainerPhase::Paused,
        ContainerSummaryStateEnum::EXITED
        | ContainerSummaryStateEnum::DEAD
        | ContainerSummaryStateEnum::REMOVING
        | ContainerSummaryStateEnum::EMPTY => ContainerPhase::Exited,
    };
    Some(ContainerSummary {
        id: ContainerId(container.id?),
        name: plain_name(container.names.unwrap_or_default().into_iter().next().unwrap_or_default()),
        image: container.image.unwrap_or_default(),
        labels: container.labels.unwrap_or_default().into_iter().collect(),
        phase,
        created_at: container.created.and_then(time::from_seconds),
    })
}
