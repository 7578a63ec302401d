//! What agents may use: from the configuration, or set while the service runs; held at launch, changed for what runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Manager, StartError};
use crate::agents::{AgentError, AgentLimits, AgentName, Enforcement, Placement, Runs};
use crate::engine::ContainerId;
use crate::request::Limits;
use crate::session::launch::{HeldBy, Hold};
use crate::store::{SessionFilter, StoreError};

/// Agents whose limits can be set while the service runs: more is a mistake of a script.
const MAX_SET: usize = 10_000;

/// Why an agent's limits were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The kernel, the service manager or the engine refuses.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Each is kept until the service ends.
    #[error("limits were set for {0} agents already; write lasting ones into the configuration")]
    TooMany(usize),
    /// The store does not say what runs.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Manager {
    /// The limits that hold for an agent.
    pub fn limits(&self, agent: &AgentName) -> AgentLimits {
        let (named, others) = self.config().agent_limits();
        let set = self.desk().set.get(agent).copied();
        set.or_else(|| named.get(agent).copied()).unwrap_or(others)
    }

    /// Agents that limits are set for, or that have sessions.
    ///
    /// # Errors
    /// The store's.
    pub async fn agents(&self) -> Result<BTreeSet<AgentName>, StoreError> {
        let rows = self.store.sessions(SessionFilter::Live).await?;
        let mut agents: BTreeSet<AgentName> = self.config().agents.keys().cloned().collect();
        {
            let desk = self.desk();
            agents.extend(desk.set.keys().cloned());
            // Also those whose sessions are in no row yet.
            agents.extend(desk.queue.agents().cloned());
        }
        agents.extend(rows.into_iter().filter_map(|row| row.principal.parse().ok()));
        Ok(agents)
    }

    /// What can be held here; none before an engine has answered.
    pub fn enforcement(&self) -> Option<Enforcement> {
        self.desk().groups.as_ref().map(|groups| groups.enforcement().clone())
    }

    /// What an agent's limits mean for a session that is about to be launched.
    pub(super) async fn hold(&self, agent: &AgentName, asked: Limits) -> Result<Option<Hold>, StartError> {
        let limits = self.limits(agent);
        let Some(groups) = self.desk().groups.clone() else { return Ok(None) };
        let placement = if limits.cpus.is_some() {
            let _held = self.groups.lock().await;
            groups.place(agent, &limits, asked).await?
        } else {
            // Nothing to share: its containers are where the engine puts them.
            let (limits, lowered) = limits.container(asked);
            Placement { cgroup_parent: None, limits, lowered }
        };
        let lowered = placement.lowered.iter().map(|lowered| format!("limits of agent `{agent}`: {lowered}"));
        let missing = groups.enforcement().shortfalls(&limits);
        let missing = missing.into_iter().map(|missing| format!("limits of agent `{agent}`: {missing}"));
        let warnings = lowered.chain(missing).collect();
        Ok(Some(Hold { placement, warnings, by: HeldBy { agent: agent.clone(), limits, groups } }))
    }

    /// Sets an agent's limits until the service ends, for what runs, too. What could not be changed, in sentences.
    ///
    /// # Errors
    /// See [`ChangeError`]; what starts from now on has the new limits even then.
    pub async fn set_limits(
        self: &Arc<Self>,
        agent: &AgentName,
        limits: AgentLimits,
    ) -> Result<Vec<String>, ChangeError> {
        let before = self.limits(agent);
        let config = self.config();
        let moved = {
            let mut desk = self.desk();
            if desk.set.len() >= MAX_SET && !desk.set.contains_key(agent) {
                return Err(ChangeError::TooMany(MAX_SET));
            }
            desk.set.insert(agent.clone(), limits);
            desk.configured(&config)
        };
        self.moved(moved);
        self.change(agent, before, limits).await
    }

    /// Gives what runs of an agent its new limits.
    pub(super) async fn change(
        &self,
        agent: &AgentName,
        before: AgentLimits,
        limits: AgentLimits,
    ) -> Result<Vec<String>, ChangeError> {
        let mut said = Vec::new();
        let groups = self.desk().groups.clone();
        let Some((groups, (engine, _))) = groups.zip(self.engine.get().await.ok()) else {
            said.push("the engine does not answer: what runs keeps the limits that it has".to_owned());
            return Ok(said);
        };
        let rows = self.store.sessions(SessionFilter::Live).await?;
        let of_agent = rows.iter().filter(|row| row.principal == agent.as_str() && self.latest(&row.id).is_some());
        let running: Vec<Runs> = of_agent
            .filter_map(|row| {
                let container = ContainerId(row.container.clone()?);
                Some(Runs { container, asked: self.request_of(row)?.limits })
            })
            .collect();
        if running.is_empty() {
            return Ok(said);
        }
        let changed = groups.change(&*engine, agent, &limits, &running).await?;
        said.extend(changed.kept.into_iter().map(|kept| {
            let short: String = kept.container.0.chars().take(12).collect();
            format!("container {short} keeps its memory bound: {}", kept.why)
        }));
        if before.cpus.is_none() && limits.cpus.is_some() {
            said.push(
                "sessions that run already started without a quota: each is held to it by itself, and only those that start \
                 from now on share it"
                    .to_owned(),
            );
        }
        Ok(said)
    }

    /// Removes the cgroups of agents that have nobody.
    pub(super) async fn sweep_agents(&self) -> Result<(), AgentError> {
        let Some(groups) = self.desk().groups.clone() else { return Ok(()) };
        let _held = self.groups.lock().await;
        // Who cannot be counted is not known to be nobody.
        let Ok(agents) = self.agents().await else { return Ok(()) };
        // Whoever waits or is being launched is counted; who has limits may start at any time.
        groups.sweep(&agents).await.map(drop)
    }
}
