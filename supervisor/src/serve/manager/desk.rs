//! What the manager knows of the queue and of agents' limits, under one lock that is never held while anything is waited
//! for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::told::{News, Told};
use crate::admission::{Capacity, Moved, Offered, Queue, Ticket};
use crate::agents::{AgentGroups, AgentLimits, AgentName, HostSide, SetLimits, on_this_kernel};
use crate::config::Config;
use crate::engine::EngineInfo;
use crate::session::SessionId;
use crate::usage::host::HostUsage;

/// How long a measurement of the host's free memory is good for; what is admitted meanwhile is taken off it.
pub(crate) const MEASURE: Duration = Duration::from_secs(1);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) queue: Queue,
    /// What those who wait know of their places.
    pub(super) told: Told,
    /// Their turn has come, and the engine does not answer.
    pub(super) parked: BTreeMap<SessionId, Ticket>,
    /// What was set of agents' limits: it goes before the configuration's.
    pub(super) set: BTreeMap<AgentName, SetLimits>,
    /// The cgroups of agents on the engine that answered last.
    pub(super) groups: Option<AgentGroups>,
    /// Why the figures of containers on that engine cannot be read here, if so.
    pub(super) here: Result<(), String>,
    /// The engine that answered last; until one has, nobody starts.
    engine: Option<EngineInfo>,
    measured: Option<Instant>,
}

/// Nobody starts, and everybody waits: see [`Capacity::sessions`].
fn closed(capacity: Capacity) -> Capacity {
    Capacity { sessions: Some(0), ..capacity }
}

impl Desk {
    /// A desk at which nobody is.
    pub(super) fn new(config: &Config) -> Self {
        let mut setup = config.admission();
        setup.capacity = closed(setup.capacity);
        Self {
            queue: Queue::new(setup),
            told: Told::default(),
            parked: BTreeMap::new(),
            set: BTreeMap::new(),
            groups: None,
            here: Err("no engine has answered yet".to_owned()),
            engine: None,
            measured: None,
        }
    }

    /// Somebody who ran, or was about to, is gone; whether it was the last one of its agent.
    pub(super) fn left(&mut self, id: &SessionId) -> (Moved, bool) {
        self.parked.remove(id);
        let agents = self.queue.agents().count();
        let mut moved = self.measure();
        moved.admitted.extend(self.queue.ended(id).admitted);
        (moved, self.queue.agents().count() < agents)
    }

    /// Who of those who wait is to be told of its place.
    pub(super) fn news(&mut self, now: Instant) -> Vec<News> {
        if self.queue.waiting() == 0 {
            self.told.clear();
            return Vec::new();
        }
        self.told.due(now, &self.queue.positions())
    }

    /// Takes back those who ran and those who waited, in order, when a service stopped.
    pub(super) fn restore(&mut self, config: &Config, running: Vec<Ticket>, waiting: Vec<Ticket>) -> Moved {
        let mut setup = config.admission();
        setup.capacity = closed(setup.capacity);
        setup.agents = self.over(setup.agents, setup.others);
        let (queue, moved) = Queue::restore(setup, running, waiting);
        self.queue = queue;
        moved
    }

    /// The engine answers. If it is not the one that answered last, what can be held there is judged.
    pub(super) fn opened(&mut self, instance: &str, info: &EngineInfo, config: &Config) -> Moved {
        if self.engine.as_ref() == Some(info) {
            return Moved::default();
        }
        self.engine = Some(info.clone());
        self.groups = Some(AgentGroups::new(instance, info));
        self.here = on_this_kernel(info, &HostSide::look()).map_err(|hindrance| hindrance.to_string());
        self.configured(config)
    }

    /// The configuration, the engine or what was set is another one now.
    pub(super) fn configured(&mut self, config: &Config) -> Moved {
        let setup = config.admission();
        self.queue.set_bounds(setup.bounds);
        let agents = self.over(setup.agents, setup.others);
        let counted = |limits: AgentLimits| match &self.groups {
            Some(groups) => groups.enforcement().counted(limits),
            None => limits,
        };
        let agents = agents.into_iter().map(|(agent, limits)| (agent, counted(limits))).collect();
        let others = counted(setup.others);
        let mut moved = self.queue.set_agents(agents, others);
        if self.engine.is_some() {
            let more = self.queue.set_capacity(setup.capacity);
            moved.admitted.extend(more.admitted);
            moved.rejected.extend(more.rejected);
        }
        moved
    }

    /// The configuration's limits with what was set before them.
    fn over(
        &self,
        mut agents: BTreeMap<AgentName, AgentLimits>,
        others: AgentLimits,
    ) -> BTreeMap<AgentName, AgentLimits> {
        for (agent, set) in &self.set {
            let base = agents.get(agent).copied().unwrap_or(others);
            agents.insert(agent.clone(), set.over(base));
        }
        agents
    }

    /// Somebody wants to start.
    pub(super) fn offer(&mut self, ticket: Ticket) -> (Offered, Moved) {
        // First: whom a new measurement lets in goes before.
        let moved = self.measure();
        (self.queue.offer(ticket), moved)
    }

    /// Measures the host's free memory, if that was not just done.
    pub(super) fn measure(&mut self) -> Moved {
        if self.queue.capacity().headroom.is_none() || self.measured.is_some_and(|at| at.elapsed() < MEASURE) {
            return Moved::default();
        }
        self.measured = Some(Instant::now());
        // Of an engine elsewhere this host's memory says nothing.
        let is_here = self.engine.as_ref().is_some_and(|info| info.endpoint.starts_with("unix:"));
        let free = is_here.then(HostUsage::read).and_then(Result::ok).map(|usage| usage.memory_available);
        self.queue.set_free_memory(free)
    }
}
