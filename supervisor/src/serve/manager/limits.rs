//! What agents may use: from the configuration, or set while the service runs; held at launch, changed for what runs.
//!
//! ```text
//!  PUT, DELETE /agents ─► store ─► desk ──┐
//!  SIGHUP ─► configuration ───────────────┴─► limits ─► launches, the queue, and what runs ([`Manager::change`])
//! ```
//!
//! Each container of the service is in its agent's cgroup, also while the agent has no CPU quota: one that comes later holds
//! for it, too. Launches and changes take turns (`changing`), so that neither writes what the other has just replaced.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Manager, StartError};
use crate::agents::{AgentError, AgentGroups, AgentLimits, AgentName, Enforcement, Placement, Runs, SetLimits};
use crate::config::Config;
use crate::engine::ContainerId;
use crate::error_chain::chain;
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
    /// Each is kept.
    #[error(
        "limits were set for {0} agents already; take some back (DELETE /agents/NAME) or write them into the configuration"
    )]
    TooMany(usize),
    /// The store does not keep them, or does not say what runs.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a limit comes from: `set` (by this API), `configuration` (the configuration names it for this agent), or `default` (it
/// is the limit of every agent that the configuration does not name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LimitSource)]
pub enum Source {
    /// It was set by the API.
    Set,
    /// The configuration names it for this agent.
    Configuration,
    /// It is that of all agents of which nothing is said.
    Default,
}

/// Where each limit of an agent comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LimitSources)]
pub struct Sources {
    /// Where `cpus` comes from.
    pub cpus: Source,
    /// Where `memoryBytes` comes from.
    pub memory_bytes: Source,
    /// Where `containers` comes from.
    pub containers: Source,
    /// Where `pids` comes from.
    pub pids: Source,
    /// Where `policy` comes from.
    pub policy: Source,
}

impl Manager {
    /// The limits that hold for an agent.
    pub fn limits(&self, agent: &AgentName) -> AgentLimits {
        self.limits_under(&self.config(), agent)
    }

    fn limits_under(&self, config: &Config, agent: &AgentName) -> AgentLimits {
        let (named, others) = config.agent_limits();
        let base = named.get(agent).copied().unwrap_or(others);
        self.desk().set.get(agent).copied().unwrap_or_default().over(base)
    }

    /// Where they come from.
    pub fn sources(&self, agent: &AgentName) -> Sources {
        let config = self.config();
        let named = config.agents.get(agent).cloned().unwrap_or_default();
        let set = self.desk().set.get(agent).copied().unwrap_or_default();
        let source = |is_set: bool, is_named: bool| match (is_set, is_named) {
            (true, _) => Source::Set,
            (false, true) => Source::Configuration,
            (false, false) => Source::Default,
        };
        Sources {
            cpus: source(set.cpus.is_some(), named.cpus.is_some()),
            memory_bytes: source(set.memory.is_some(), named.memory.is_some()),
            containers: source(set.containers.is_some(), named.containers.is_some()),
            pids: source(set.pids.is_some(), named.pids.is_some()),
            policy: source(set.policy.is_some(), named.policy.is_some()),
        }
    }

    /// Agents that limits are set for, or that have sessions.
    ///
    /// # Errors
    /// The store's.
    pub async fn agents(&self) -> Result<BTreeSet<AgentName>, StoreError> {
        let mut agents: BTreeSet<AgentName> = self.config().agents.keys().cloned().collect();
        agents.extend(self.desk().set.keys().cloned());
        agents.extend(self.agents_with_sessions().await?);
        Ok(agents)
    }

    /// Agents of which somebody runs, waits, or is being launched.
    async fn agents_with_sessions(&self) -> Result<BTreeSet<AgentName>, StoreError> {
        let mut agents: BTreeSet<AgentName> = self.desk().queue.agents().cloned().collect();
        let rows = self.store.sessions(SessionFilter::Live).await?;
        agents.extend(rows.into_iter().filter_map(|row| row.agent.parse().ok()));
        Ok(agents)
    }

    /// What can be held here; none before an engine has answered.
    pub fn enforcement(&self) -> Option<Enforcement> {
        self.desk().groups.as_ref().map(|groups| groups.enforcement().clone())
    }

    /// What an agent's limits mean for a session that is about to be launched.
    pub(super) async fn hold(&self, agent: &AgentName, asked: Limits) -> Result<Option<Hold>, StartError> {
        let _turn = self.changing.lock().await;
        let limits = self.limits(agent);
        let Some(groups) = self.desk().groups.clone() else { return Ok(None) };
        let (placement, problem) = place(&groups, agent, &limits, asked).await?;
        let lowered = placement.lowered.iter().map(ToString::to_string);
        let said = lowered.chain(groups.enforcement().shortfalls(&limits)).chain(problem);
        let warnings = said.map(|said| format!("limits of agent `{agent}`: {said}")).collect();
        Ok(Some(Hold { placement, warnings, by: HeldBy { agent: agent.clone(), limits, groups } }))
    }

    /// Sets an agent's limits for good, for what runs, too; `None`: they are the configuration's again. What could not be
    /// changed, in sentences.
    ///
    /// # Errors
    /// See [`ChangeError`]; if it is not the store's, what starts from now on has the new limits all the same.
    pub async fn set_limits(
        self: &Arc<Self>,
        agent: &AgentName,
        limits: Option<SetLimits>,
    ) -> Result<Vec<String>, ChangeError> {
        let _turn = self.changing.lock().await;
        let is_new = limits.is_some() && !self.desk().set.contains_key(agent);
        if is_new && self.desk().set.len() >= MAX_SET {
            return Err(ChangeError::TooMany(MAX_SET));
        }
        self.store.set_agent_limits(agent, limits).await?;
        let config = self.config();
        let moved = {
            let mut desk = self.desk();
            match limits {
                Some(limits) => desk.set.insert(agent.clone(), limits),
                None => desk.set.remove(agent),
            };
            desk.configured(&config)
        };
        self.moved(moved);
        self.change(agent).await
    }

    /// Gives what runs the limits that a new configuration has for its agents.
    pub(super) async fn change_all(&self, old: &Config, new: &Config) {
        let _turn = self.changing.lock().await;
        for agent in self.agents().await.unwrap_or_default() {
            if self.limits_under(old, &agent) != self.limits_under(new, &agent) {
                self.change_and_log(&agent).await;
            }
        }
    }

    /// Gives sessions that were taken over the limits that hold now: the configuration may be another one.
    pub(super) async fn change_adopted(&self, agents: BTreeSet<AgentName>) {
        let _turn = self.changing.lock().await;
        for agent in agents {
            self.change_and_log(&agent).await;
        }
    }

    /// Gives a session that has just come up the limits that hold now, if they are not those that it was launched with.
    pub(super) async fn agree(&self, agent: &AgentName, held: Option<AgentLimits>) {
        let _turn = self.changing.lock().await;
        if held != Some(self.limits(agent)) {
            self.change_and_log(agent).await;
        }
    }

    async fn change_and_log(&self, agent: &AgentName) {
        match self.change(agent).await {
            Ok(said) => said.iter().for_each(|said| tracing::warn!("limits of agent `{agent}`: {said}")),
            Err(error) => tracing::error!("limits of agent `{agent}`: {}", chain(&error)),
        }
    }

    /// Gives what runs of an agent the limits that hold now. To be called in turn.
    async fn change(&self, agent: &AgentName) -> Result<Vec<String>, ChangeError> {
        let mut said = Vec::new();
        let limits = self.limits(agent);
        let groups = self.desk().groups.clone();
        let Some((groups, (engine, _))) = groups.zip(self.engine.get().await.ok()) else {
            said.push("the engine does not answer: what runs keeps the limits that it has".to_owned());
            return Ok(said);
        };
        let rows = self.store.sessions(SessionFilter::Live).await?;
        let of_agent = rows.iter().filter(|row| row.agent == agent.as_str() && self.latest(&row.id).is_some());
        let running: Vec<Runs> = of_agent
            .filter_map(|row| {
                let container = ContainerId(row.container.clone()?);
                Some(Runs { container, asked: self.request_of(row)?.limits })
            })
            .collect();
        // One that is being launched has its place in the agent's cgroup already.
        if running.is_empty() && self.of_agent(agent).0 == 0 {
            return Ok(said);
        }
        let changed = groups.change(&*engine, agent, &limits, &running).await?;
        said.extend(changed.kept.into_iter().map(|kept| {
            let short: String = kept.container.0.chars().take(12).collect();
            format!("container {short} {}", kept.why)
        }));
        Ok(said)
    }

    /// Removes the cgroups of agents that have nobody.
    pub(super) async fn sweep_agents(&self) -> Result<(), AgentError> {
        // Who is admitted from now on makes its cgroup when its turn comes.
        let _turn = self.changing.lock().await;
        let Some(groups) = self.desk().groups.clone() else { return Ok(()) };
        // Who cannot be counted is not known to be nobody.
        let Ok(agents) = self.agents_with_sessions().await else { return Ok(()) };
        groups.sweep(&agents).await.map(drop)
    }
}

/// Where a container belongs. An agent without a quota is not kept from working by a cgroup that cannot be made: then that
/// is said.
async fn place(
    groups: &AgentGroups,
    agent: &AgentName,
    limits: &AgentLimits,
    asked: Limits,
) -> Result<(Placement, Option<String>), AgentError> {
    match groups.place(agent, limits, asked).await {
        Ok(placement) => Ok((placement, None)),
        Err(error) if limits.cpus.is_some() => Err(error),
        Err(error) => {
            let (limits, lowered) = limits.container(asked);
            let problem = format!("a CPU quota that is set later would not be shared: {}", chain(&error));
            Ok((Placement { cgroup_parent: None, limits, lowered }, Some(problem)))
        }
    }
}
