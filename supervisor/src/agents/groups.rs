//! The cgroups of all agents of this instance: made before containers, changed while they run, removed when empty.

use std::collections::BTreeSet;

use nix::unistd::geteuid;

use super::enforcement::{CpuEnforcement, Enforcement, Holder};
use super::error::AgentError;
use super::host::HostSide;
use super::limits::{AgentLimits, Lowered};
use super::place::Place;
use super::systemd::Manager;
use super::{AgentName, cgroupfs, quota};
use crate::engine::cgroup::{Layout, Probe};
use crate::engine::{ContainerSpec, EngineInfo};
use crate::request::Limits;
use crate::units::MilliCpus;

/// Holds agents to their CPU quota, as far as [`Enforcement`] says that it can be done.
///
/// One owner calls it: an agent's cgroup must not be removed between [`AgentGroups::place`] and the start of the container
/// that was placed, or the engine makes it anew without a quota. [`AgentGroups::confirm`] would say so.
#[derive(Clone, Debug)]
pub struct AgentGroups {
    instance: String,
    enforcement: Enforcement,
}

/// Where a container belongs, and its own bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// For [`ContainerSpec::cgroup_parent`]; `None` where agents have no cgroup.
    pub cgroup_parent: Option<String>,
    pub limits: Limits,
    /// What of the request was lowered to the agent's limits.
    pub lowered: Vec<Lowered>,
}

impl Placement {
    /// Puts a container there.
    pub fn apply(&self, spec: &mut ContainerSpec) {
        let Limits { cpus, memory, pids } = self.limits;
        spec.cgroup_parent.clone_from(&self.cgroup_parent);
        spec.limits.nano_cpus = Some(nano(cpus));
        spec.limits.memory = Some(memory);
        spec.limits.pids = Some(pids);
    }
}

/// In the engine's unit.
pub(super) fn nano(cpus: MilliCpus) -> u64 {
    u64::from(cpus.0) * 1_000_000
}

impl AgentGroups {
    /// For the instance of a data directory (see [`DataDir::instance`](crate::dirs::DataDir::instance)) on this engine.
    #[must_use]
    pub fn new(instance: &str, info: &EngineInfo) -> Self {
        Self { instance: instance.to_owned(), enforcement: Enforcement::judge(info, &HostSide::look()) }
    }

    /// What holds here.
    #[must_use]
    pub fn enforcement(&self) -> &Enforcement {
        &self.enforcement
    }

    /// Makes the agent's cgroup, or gives it its quota if it exists, and says where a container of it belongs. Call it
    /// for each container: it costs microseconds (with systemd some milliseconds).
    ///
    /// # Errors
    /// If the kernel or the service manager refuses. A container must then not be launched: its quota would not hold.
    pub async fn place(&self, agent: &AgentName, limits: &AgentLimits, asked: Limits) -> Result<Placement, AgentError> {
        let (own, lowered) = self.own(limits, asked);
        let cgroup_parent = match self.holder() {
            None => None,
            Some(holder) => {
                self.hold(holder, agent, limits.cpus).await?;
                Some(self.at(holder, agent).parent)
            }
        };
        Ok(Placement { cgroup_parent, limits: own, lowered })
    }

    /// A container's own bounds, whoever holds the agent's.
    pub(super) fn own(&self, limits: &AgentLimits, asked: Limits) -> (Limits, Vec<Lowered>) {
        match self.enforcement.cpu {
            CpuEnforcement::Together { .. } => limits.container(asked),
            CpuEnforcement::Apart { .. } | CpuEnforcement::Not { .. } => {
                AgentLimits { cpus: limits.part(), ..*limits }.container(asked)
            }
        }
    }

    /// Gives the agent's cgroup this quota.
    pub(super) async fn hold_quota(&self, agent: &AgentName, cpus: Option<MilliCpus>) -> Result<(), AgentError> {
        match self.holder() {
            Some(holder) => self.hold(holder, agent, cpus).await,
            None => Ok(()),
        }
    }

    async fn hold(&self, holder: Holder, agent: &AgentName, cpus: Option<MilliCpus>) -> Result<(), AgentError> {
        let place = self.at(holder, agent);
        match manager(holder) {
            None => cgroupfs::hold(agent, &place.path, cpus),
            Some(manager) => manager.hold(&place.parent, cpus).await,
        }
    }

    /// Looks where a container's first process is and what quota the kernel has for it: the proof that it is held.
    /// Nothing to prove where agents have no cgroup.
    ///
    /// # Errors
    /// [`AgentError::NotHeld`], for instance if aigo sees other cgroups than the engine does.
    pub fn confirm(&self, agent: &AgentName, limits: &AgentLimits, pid: i32) -> Result<(), AgentError> {
        let Some(holder) = self.holder() else { return Ok(()) };
        let path = self.at(holder, agent).path;
        let not_held = |found: String| AgentError::NotHeld { agent: agent.clone(), pid, found };
        let layout = Layout::of_this_machine()?;
        let is = Layout::cpu_path_of(pid)?;
        if !is.starts_with(&format!("{path}/")) {
            return Err(not_held(format!("it is in the cgroup {is}, not below {path}")));
        }
        let folder = layout.at(&path).cpu().ok_or_else(|| not_held("no CPU controller is mounted".to_owned()))?;
        match quota::read(&folder) {
            None => Err(not_held(format!("the quota in {} cannot be read", folder.display()))),
            Some(found) if found == limits.cpus => Ok(()),
            Some(found) => {
                let tell =
                    |quota: Option<MilliCpus>| quota.map_or("no quota".to_owned(), |cpus| format!("{cpus} CPUs"));
                Err(not_held(format!("{path} has {}, not {}", tell(found), tell(limits.cpus))))
            }
        }
    }

    /// The counters of all containers of an agent together, among them the throttling by the shared quota. `None` where
    /// agents have no cgroup, or this one has none yet.
    ///
    /// # Errors
    /// If the cgroup cannot be read.
    pub fn probe(&self, agent: &AgentName) -> Result<Option<Probe>, AgentError> {
        let Some(holder) = self.holder() else { return Ok(None) };
        Ok(Probe::open_at(&self.at(holder, agent).path)?)
    }

    /// Removes an agent's cgroup if no container is in it; says whether it is gone.
    ///
    /// # Errors
    /// If the kernel or the service manager refuses for another reason.
    pub async fn remove(&self, agent: &AgentName) -> Result<bool, AgentError> {
        let Some(holder) = self.holder() else { return Ok(true) };
        let place = self.at(holder, agent);
        match manager(holder) {
            None => cgroupfs::remove(&self.instance, &place.path),
            Some(manager) => {
                if Layout::of_this_machine()?.is_populated(&place.path) {
                    return Ok(false);
                }
                manager.remove(&place.parent).await?;
                Ok(true)
            }
        }
    }

    /// Removes the cgroups of all agents of this instance that are not to be kept and have no container; says which.
    /// `keep`: those that have somebody who runs or is about to start.
    ///
    /// # Errors
    /// If they cannot be listed, or one cannot be removed for another reason than that it is in use.
    pub async fn sweep(&self, keep: &BTreeSet<AgentName>) -> Result<Vec<AgentName>, AgentError> {
        let Some(holder) = self.holder() else { return Ok(Vec::new()) };
        let there = match manager(holder) {
            None => cgroupfs::list(&self.instance)?,
            Some(manager) => manager.list(&self.instance).await?,
        };
        let mut removed = Vec::new();
        for agent in there {
            if !keep.contains(&agent) && self.remove(&agent).await? {
                removed.push(agent);
            }
        }
        Ok(removed)
    }

    fn holder(&self) -> Option<Holder> {
        match self.enforcement.cpu {
            CpuEnforcement::Together { holder } => Some(holder),
            CpuEnforcement::Apart { .. } | CpuEnforcement::Not { .. } => None,
        }
    }

    fn at(&self, holder: Holder, agent: &AgentName) -> Place {
        Place::new(holder, &self.instance, agent, geteuid().as_raw())
    }
}

fn manager(holder: Holder) -> Option<Manager> {
    match holder {
        Holder::Cgroup => None,
        Holder::SystemSlice => Some(Manager::new(false)),
        Holder::UserSlice => Some(Manager::new(true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::engine::fake::FakeEngine;

    #[tokio::test]
    async fn without_a_cgroup_each_container_gets_its_part() {
        // The fake engine answers nowhere near this kernel.
        let info = FakeEngine::new().detect().await.unwrap();
        let groups = AgentGroups::new("0a1b", &info);
        assert!(matches!(groups.enforcement().cpu, CpuEnforcement::Apart { .. }));
        let agent = AgentName::default();
        let limits = AgentLimits { cpus: Some(MilliCpus(900)), containers: Some(3), ..AgentLimits::default() };
        let placement = groups.place(&agent, &limits, Limits::default()).await.unwrap();
        let mut spec = ContainerSpec::new("n", "i");
        placement.apply(&mut spec);
        assert_eq!((spec.cgroup_parent, spec.limits.nano_cpus), (None, Some(300_000_000)));
        assert_eq!(placement.lowered.len(), 1);
        assert!(groups.confirm(&agent, &limits, 1).is_ok());
        assert!(groups.probe(&agent).unwrap().is_none());
        assert!(groups.remove(&agent).await.unwrap());
        assert_eq!(groups.sweep(&BTreeSet::new()).await.unwrap(), vec![]);
    }
}
