//! Containers: create, start, look, wait, signal, stop, list, remove.
//!
//! The list is the one source: `inspect` differs more between versions and says no more. Ids are compared whole.

use std::time::Duration;

use super::lives::{End, Known};
use super::wire::{self, Container};
use super::{AppleEngine, POLL, error, image, network, spec};
use crate::engine::{
    ContainerId, ContainerInfo, ContainerPhase, ContainerSpec, ContainerSummary, Created, EngineError, ExitInfo,
    Labels, MountSource, NetworkAttachment, Object, Signal, deadline,
};

/// How often a container that begins or ends on our word is looked at.
const SETTLING_POLL: Duration = Duration::from_millis(100);
/// Creating a container: the first of an image waits until that is unpacked to a disk, some GB.
const CREATE: Duration = Duration::from_secs(600);
/// How often in a row a service that does not answer is asked again about a container that is waited for: with [`POLL`]
/// some 30 s, the time that its own restart takes.
const RETRIES: u32 = 60;
/// What the command itself ends with when it fails, and when it is misused (sysexits(3)); a container can do so as well.
const OWN_CODES: [i32; 2] = [1, 64];

/// An id that can be no option and no part of another one, or the error of one that names nothing.
pub(super) fn checked(id: &ContainerId) -> Result<&str, EngineError> {
    if is_name(&id.0) {
        Ok(&id.0)
    } else {
        Err(EngineError::NotFound { what: Object::Container, name: id.0.escape_debug().to_string() })
    }
}

/// A name as the command takes it for containers, networks and volumes.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// Whether all of `wanted` are there.
pub(super) fn carries(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Every container.
pub(super) async fn all(engine: &AppleEngine) -> Result<Vec<Container>, EngineError> {
    let what = "list containers";
    wire::read(what, &engine.cli.ask(what, deadline::READ, &["list", "--all", "--format", "json"]).await?)
}

async fn find(engine: &AppleEngine, id: &ContainerId) -> Result<Option<Container>, EngineError> {
    Ok(all(engine).await?.into_iter().find(|container| container.id() == *id))
}

async fn look(engine: &AppleEngine, id: &ContainerId) -> Result<Container, EngineError> {
    let name = checked(id)?;
    let found = find(engine, id).await?;
    found.ok_or_else(|| EngineError::NotFound { what: Object::Container, name: name.to_owned() })
}

/// Where a container is in its life, by the list and by what this process has done. The list calls one that never ran and
/// one that ended by one name, `stopped`; where we have not made it ourselves it counts as ended, so that what it left is
/// looked at.
pub(super) fn phase(engine: &AppleEngine, container: &Container) -> ContainerPhase {
    let known = engine.lives.of(&container.id());
    if known.end().is_some_and(|end| end.code.is_some()) {
        // The machine may take a moment longer than its first process.
        return ContainerPhase::Exited;
    }
    if container.is_live() {
        return ContainerPhase::Running;
    }
    match known {
        Known::Created | Known::Started { seen: false, .. } => ContainerPhase::Created,
        Known::Nothing | Known::Started { seen: true, .. } => ContainerPhase::Exited,
    }
}

pub(super) async fn create(engine: &AppleEngine, wanted: &ContainerSpec) -> Result<Created, EngineError> {
    let what = "create container";
    deadline::within(what, CREATE, async {
        if !is_name(&wanted.name) {
            return Err(EngineError::Refused { what, message: format!("{:?} is no name", wanted.name) });
        }
        // The command itself would pull it.
        let Some(image) = image::inspect(&engine.cli, &wanted.image).await? else {
            return Err(EngineError::ImageMissing { tag: wanted.image.clone() });
        };
        for mount in &wanted.mounts {
            match &mount.source {
                MountSource::Bind(path) if !path.exists() => {
                    return Err(EngineError::MountMissing { path: path.clone() });
                }
                MountSource::Volume { name, labels } => image::make_volume(&engine.cli, name, labels).await?,
                MountSource::Bind(_) | MountSource::Tmpfs { .. } => {}
            }
        }
        let conflict = || EngineError::Conflict { what: Object::Container, name: wanted.name.clone() };
        let id = ContainerId(wanted.name.clone());
        if find(engine, &id).await?.is_some() {
            return Err(conflict());
        }
        if let NetworkAttachment::Network { network, .. } = &wanted.network {
            network::look(engine, network).await?;
        }
        let spec::Arguments { words, warnings } = spec::arguments(wanted, &image, &engine.offers)?;
        let answer = engine.cli.run(what, CREATE, &words).await?;
        if answer.is_good() {
            engine.lives.created(&id);
            Ok(Created { id, warnings })
        } else if error::is_conflict(&answer) {
            Err(conflict())
        } else {
            Err(error::refused(what, &answer))
        }
    })
    .await
}

/// Starts it by a run that stays until its end, and so hears of its exit code.
pub(super) async fn start(engine: &AppleEngine, id: &ContainerId) -> Result<(), EngineError> {
    let what = "start container";
    deadline::within(what, deadline::START, async {
        if phase(engine, &look(engine, id).await?).is_live() {
            return Ok(());
        }
        let run = engine.cli.spawn_lasting(&["start", "--attach", checked(id)?])?;
        let mut told = engine.lives.started(id, run);
        loop {
            let end = *told.borrow_and_update();
            match end {
                Some(end) => return ended_at_once(engine, id, end, what).await,
                None if look(engine, id).await?.is_running() => {
                    engine.lives.seen(id);
                    return Ok(());
                }
                None => {
                    // Either is a reason to look again.
                    let _ = tokio::time::timeout(SETTLING_POLL, told.changed()).await;
                }
            }
        }
    })
    .await
}

/// The run ended before the container was seen to run. Short programs do so, and failed starts.
async fn ended_at_once(
    engine: &AppleEngine,
    id: &ContainerId,
    end: End,
    what: &'static str,
) -> Result<(), EngineError> {
    let ran = match end.code {
        None => false,
        Some(code) if !OWN_CODES.contains(&code) => true,
        // Newer versions date a start; else only what was printed shows one.
        Some(_) if look(engine, id).await?.started_at().is_some() => true,
        Some(_) => !super::output::printed(engine, id).await?.is_empty(),
    };
    if ran {
        engine.lives.seen(id);
        return Ok(());
    }
    engine.lives.not_started(id);
    let ended = end.code.map_or_else(|| "was killed".to_owned(), |code| format!("ended with {code}"));
    let message = format!("`container start` {ended} before the container ran; see: container logs --boot {id}");
    Err(EngineError::Refused { what, message })
}

pub(super) async fn inspect(engine: &AppleEngine, id: &ContainerId) -> Result<ContainerInfo, EngineError> {
    let container = look(engine, id).await?;
    let phase = phase(engine, &container);
    let end = match phase {
        ContainerPhase::Exited => engine.lives.of(id).end(),
        ContainerPhase::Created | ContainerPhase::Running | ContainerPhase::Paused => None,
    };
    Ok(ContainerInfo {
        id: id.clone(),
        name: id.0.clone(),
        image: container.image().to_owned(),
        labels: container.labels().clone(),
        phase,
        // It is one of the machine's.
        pid: None,
        exit_code: end.and_then(|end| end.code),
        oom_killed: false,
        error: String::new(),
        started_at: container.started_at(),
        finished_at: end.map(|end| end.at),
        addresses: if phase.is_live() { container.addresses() } else { Default::default() },
        limits: container.limits(),
        cgroup_parent: None,
    })
}

pub(super) async fn wait(engine: &AppleEngine, id: &ContainerId) -> Result<ExitInfo, EngineError> {
    let what = "tell how a container ended";
    look(engine, id).await?;
    if let Known::Started { mut end, .. } = engine.lives.of(id)
        && let Ok(told) = end.wait_for(Option::is_some).await
        && let Some(End { code: Some(code), at }) = *told
    {
        return Ok(ExitInfo {
            code,
            oom_killed: false,
            error: String::new(),
            finished_at: Some(at),
            engine_was_away: false,
        });
    }
    // Started by somebody else, or the run was killed: the end can be seen, but its code cannot.
    let mut failures = 0;
    loop {
        match look(engine, id).await {
            Ok(container) if phase(engine, &container).is_live() => failures = 0,
            Ok(_) => break,
            Err(error) if error.engine_away() && failures < RETRIES => failures += 1,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(POLL).await;
    }
    let message =
        "Apple Container tells an exit code only to the run that started the container, which is gone".to_owned();
    Err(EngineError::Refused { what, message })
}

pub(super) async fn signal(engine: &AppleEngine, id: &ContainerId, signal: Signal) -> Result<(), EngineError> {
    let what = "signal container";
    let running = async || Ok::<bool, EngineError>(phase(engine, &look(engine, id).await?).is_live());
    let not_running = || EngineError::NotRunning { name: id.0.clone() };
    if !running().await? {
        return Err(not_running());
    }
    let args = ["kill", "--signal", signal.as_str(), checked(id)?];
    let answer = engine.cli.run(what, deadline::SIGNAL, &args).await?;
    if answer.is_good() {
        Ok(())
    } else if running().await? {
        Err(error::refused(what, &answer))
    } else {
        // It ended in between.
        Err(not_running())
    }
}

pub(super) async fn stop(engine: &AppleEngine, id: &ContainerId, grace: Duration) -> Result<(), EngineError> {
    let what = "stop container";
    let running = async || match look(engine, id).await {
        Ok(container) => Ok(phase(engine, &container).is_live()),
        Err(EngineError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    };
    if !running().await? {
        return Ok(());
    }
    let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    let args = ["stop", "--time", &seconds.to_string(), checked(id)?];
    let answer = engine.cli.run(what, grace.saturating_add(deadline::STOP_MARGIN), &args).await?;
    if answer.is_good() || !running().await? { Ok(()) } else { Err(error::refused(what, &answer)) }
}

pub(super) async fn remove(engine: &AppleEngine, id: &ContainerId, force: bool) -> Result<(), EngineError> {
    let what = "remove container";
    let Ok(name) = checked(id) else { return Ok(()) };
    let args: &[&str] = if force { &["delete", "--force", name] } else { &["delete", name] };
    deadline::within(what, deadline::REMOVE, async {
        let mut refused = None;
        loop {
            let Some(container) = find(engine, id).await? else { break };
            if !force && phase(engine, &container).is_live() {
                let message = "it runs".to_owned();
                return Err(EngineError::InUse { what: Object::Container, name: name.to_owned(), message });
            }
            // A machine that is on its way down, or somebody else's removal: once more.
            if let Some(error) = refused.take()
                && !container.is_live()
            {
                return Err(error);
            }
            let answer = engine.cli.run(what, deadline::REMOVE, args).await?;
            if !answer.is_good() {
                refused = Some(error::refused(what, &answer));
                tokio::time::sleep(SETTLING_POLL).await;
            }
        }
        engine.lives.removed(id);
        Ok(())
    })
    .await
}

pub(super) async fn list(engine: &AppleEngine, labels: &Labels) -> Result<Vec<ContainerSummary>, EngineError> {
    let all = all(engine).await?.into_iter().filter(|container| carries(container.labels(), labels));
    Ok(all.map(|container| container.summary(phase(engine, &container))).collect())
}
