//! New limits for an agent whose containers run.

use super::AgentName;
use super::error::AgentError;
use super::groups::{AgentGroups, nano};
use super::limits::AgentLimits;
use crate::engine::cgroup::Probe;
use crate::engine::{ContainerId, ContainerInfo, Engine, EngineError, LimitsUpdate};
use crate::error_chain::chain;
use crate::request::Limits;
use crate::units::format_size;

/// A container of the agent's that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    pub container: ContainerId,
    /// What was asked for it at the start: what it gets where the agent's limits allow it.
    pub asked: Limits,
}

/// What changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Containers that keep a bound which they had.
    pub kept: Vec<Kept>,
}

/// A container that the new limits do not hold for as they are, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub container: ContainerId,
    /// What it does, in words.
    pub why: String,
}

/// What of a container's bounds is to change, in its two steps.
#[derive(Debug, Default, PartialEq, Eq)]
struct Steps {
    /// Before the agent's quota: no container may have more than its agent.
    before: LimitsUpdate,
    /// After it.
    after: LimitsUpdate,
    kept: Option<String>,
}

impl AgentGroups {
    /// Gives an agent new limits, and its containers that run their part of it. Memory is not taken from a container that
    /// uses it: it would be killed for it. It keeps its bound, and that is said. Containers that ended meanwhile are
    /// passed over.
    ///
    /// # Errors
    /// If the kernel, the service manager or the engine refuses. Some of the changes may then have been made; call again.
    pub async fn change(
        &self,
        engine: &dyn Engine,
        agent: &AgentName,
        limits: &AgentLimits,
        running: &[Runs],
    ) -> Result<Changed, AgentError> {
        let mut changed = Changed::default();
        let mut after = Vec::new();
        for Runs { container, asked } in running {
            let info = match engine.inspect(container).await {
                Ok(info) if info.phase.is_live() => info,
                Ok(_) | Err(EngineError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let used = info.pid.and_then(|pid| Probe::open(pid).ok()).and_then(|probe| probe.last().memory);
            let steps = steps(&info, self.own(limits, *asked).0, used);
            changed.kept.extend(steps.kept.map(|why| Kept { container: container.clone(), why }));
            changed.kept.extend(update(engine, container, &steps.before).await?);
            after.push((container, info.pid, steps.after));
        }
        self.hold_quota(agent, limits.cpus).await?;
        for (container, pid, step) in after {
            changed.kept.extend(update(engine, container, &step).await?);
            // One that was started where agents had no cgroup has only its own part.
            if let Some(Err(error)) = limits.cpus.and(pid).map(|pid| self.confirm(agent, limits, pid)) {
                let why = format!("has the quota for itself, and does not share it: {}", chain(&error));
                changed.kept.push(Kept { container: container.clone(), why });
            }
        }
        Ok(changed)
    }
}

fn steps(info: &ContainerInfo, target: Limits, used: Option<u64>) -> Steps {
    let Limits { cpus, memory, pids } = target;
    let mut steps = Steps::default();
    let nano = nano(cpus);
    match info.limits.nano_cpus {
        Some(now) if now == nano => {}
        Some(now) if now < nano => steps.after.nano_cpus = Some(nano),
        Some(_) | None => steps.before.nano_cpus = Some(nano),
    }
    if info.limits.pids != Some(pids) {
        steps.before.pids = Some(pids);
    }
    let is_less = info.limits.memory.is_none_or(|now| memory < now);
    match used {
        _ if info.limits.memory == Some(memory) => {}
        _ if !is_less => steps.before.memory = Some(memory),
        Some(used) if used < memory => steps.before.memory = Some(memory),
        Some(used) => {
            let (used, memory) = (format_size(used), format_size(memory));
            let why = format!("it uses {used}, and would be killed with a bound of {memory}");
            steps.kept = Some(format!("keeps its memory bound: {why}"));
        }
        None => steps.kept = Some("keeps its memory bound: what it uses is not known here".to_owned()),
    }
    steps
}

/// Changes limits; what an engine keeps as it is because it can change nothing.
async fn update(
    engine: &dyn Engine,
    container: &ContainerId,
    limits: &LimitsUpdate,
) -> Result<Option<Kept>, AgentError> {
    if *limits == LimitsUpdate::default() {
        return Ok(None);
    }
    match engine.update(container, limits).await {
        Ok(()) | Err(EngineError::NotFound { .. } | EngineError::NotRunning { .. }) => Ok(None),
        Err(error @ EngineError::Unsupported { .. }) => {
            Ok(Some(Kept { container: container.clone(), why: format!("keeps its bounds: {error}") }))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::{Call, FakeEngine, Fault};
    use crate::engine::{Backend, ContainerSpec, Engine};
    use crate::units::MilliCpus;

    const GIB: u64 = 1 << 30;

    async fn running(engine: &FakeEngine, name: &str, limits: &AgentLimits) -> Runs {
        let asked = Limits { cpus: MilliCpus(2000), memory: 4 * GIB, pids: 1024 };
        let groups = AgentGroups::new("0a", &engine.detect().await.unwrap());
        let mut spec = ContainerSpec::new(name, "i");
        groups.place(&AgentName::default(), limits, asked).await.unwrap().apply(&mut spec);
        let container = engine.create(&spec).await.unwrap().id;
        engine.start(&container).await.unwrap();
        Runs { container, asked }
    }

    #[tokio::test]
    async fn containers_that_run_get_the_new_limits() {
        let engine = FakeEngine::with("i", |_| std::future::pending());
        let groups = AgentGroups::new("0a", &engine.detect().await.unwrap());
        let limits = AgentLimits { cpus: Some(MilliCpus(500)), memory: Some(GIB), ..AgentLimits::default() };
        let runs = running(&engine, "one", &limits).await;
        let wider = AgentLimits { cpus: Some(MilliCpus(1500)), memory: Some(2 * GIB), pids: Some(64), ..limits };
        let agent = AgentName::default();
        let changed = groups.change(&engine, &agent, &wider, std::slice::from_ref(&runs)).await.unwrap();
        assert_eq!(changed, Changed::default());
        let now = engine.inspect(&runs.container).await.unwrap().limits;
        assert_eq!((now.nano_cpus, now.memory, now.pids), (Some(1_500_000_000), Some(2 * GIB), Some(64)));
        // The fake's containers have no process of which anything is known.
        let changed = groups.change(&engine, &agent, &limits, std::slice::from_ref(&runs)).await.unwrap();
        assert_eq!(changed.kept[0].container, runs.container);
        let now = engine.inspect(&runs.container).await.unwrap().limits;
        assert_eq!((now.nano_cpus, now.memory, now.pids), (Some(500_000_000), Some(2 * GIB), Some(1024)));
        engine.remove(&runs.container, true).await.unwrap();
        assert_eq!(groups.change(&engine, &agent, &wider, &[runs]).await.unwrap(), Changed::default());
    }

    #[tokio::test]
    async fn an_engine_that_can_change_nothing_keeps_what_runs_as_it_is() {
        let engine = FakeEngine::with("i", |_| std::future::pending());
        let groups = AgentGroups::new("0a", &engine.detect().await.unwrap());
        let limits = AgentLimits { cpus: Some(MilliCpus(500)), memory: Some(GIB), ..AgentLimits::default() };
        let runs = running(&engine, "one", &limits).await;
        let unsupported = EngineError::Unsupported {
            backend: Backend::AppleContainer,
            what: "change the limits of a container that exists".into(),
            remedy: "start the session again",
        };
        engine.fault(Call::Update, 1, Fault::Fail(unsupported));
        let wider = AgentLimits { memory: Some(2 * GIB), ..limits };
        let changed = groups.change(&engine, &AgentName::default(), &wider, std::slice::from_ref(&runs)).await.unwrap();
        assert_eq!((changed.kept.len(), &changed.kept[0].container), (1, &runs.container));
        assert!(changed.kept[0].why.contains("Apple Container cannot change the limits"), "{changed:?}");
    }

    #[tokio::test]
    async fn quotas_shrink_before_the_agents_and_grow_after_it() {
        let engine = FakeEngine::with("i", |_| std::future::pending());
        let limits = AgentLimits { cpus: Some(MilliCpus(500)), memory: Some(GIB), ..AgentLimits::default() };
        let runs = running(&engine, "one", &limits).await;
        let info = engine.inspect(&runs.container).await.unwrap();
        let target = |cpus, memory| Limits { cpus: MilliCpus(cpus), memory, pids: 1024 };
        let smaller = steps(&info, target(250, GIB), None);
        assert_eq!((smaller.before.nano_cpus, smaller.after.nano_cpus), (Some(250_000_000), None));
        let larger = steps(&info, target(1000, GIB), None);
        assert_eq!((larger.before.nano_cpus, larger.after.nano_cpus), (None, Some(1_000_000_000)));
        assert_eq!(steps(&info, target(500, GIB), None), Steps::default());
        assert_eq!(steps(&info, target(500, GIB / 2), Some(GIB / 4)).before.memory, Some(GIB / 2));
        let kept = steps(&info, target(500, GIB / 2), Some(GIB / 2));
        assert_eq!(kept.before.memory, None);
        assert!(kept.kept.unwrap().contains("would be killed"));
    }
}
