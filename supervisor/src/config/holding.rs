//! The limits of the file as those who hold them want them.

use std::collections::BTreeMap;

use super::sections::{AgentSettings, Config, HostLimits};
use crate::admission::{Bounds, Capacity, Setup};
use crate::agents::{AgentLimits, AgentName, LimitPolicy};

impl Config {
    /// The limits of each agent that is named, and of all others.
    pub fn agent_limits(&self) -> (BTreeMap<AgentName, AgentLimits>, AgentLimits) {
        let inherited = self.queue.policy;
        let agents = self.agents.iter().map(|(name, settings)| (name.clone(), settings.limits(inherited)));
        (agents.collect(), AgentSettings::default().limits(inherited))
    }

    /// What the admission queue starts with.
    pub fn admission(&self) -> Setup {
        let HostLimits { max_sessions, cpus, memory, headroom } = self.limits;
        let (agents, others) = self.agent_limits();
        Setup {
            capacity: Capacity { sessions: Some(max_sessions), cpus, memory, headroom },
            bounds: Bounds::of(self.queue.length as usize),
            agents,
            others,
        }
    }
}

impl AgentSettings {
    fn limits(&self, inherited: LimitPolicy) -> AgentLimits {
        let Self { cpus, memory, containers, pids, policy } = *self;
        AgentLimits { cpus, memory, containers, pids, policy: policy.unwrap_or(inherited) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MilliCpus;

    #[test]
    fn agents_inherit_the_queues_policy_and_nothing_else_of_each_other() {
        let mut config = Config::default();
        config.queue.policy = LimitPolicy::Reject;
        let named: AgentName = "named".parse().unwrap();
        let settings =
            AgentSettings { cpus: Some(MilliCpus(500)), policy: Some(LimitPolicy::Queue), ..AgentSettings::default() };
        config.agents.insert(named.clone(), settings);
        let Setup { capacity, bounds, agents, others } = config.admission();
        assert_eq!((capacity.sessions, capacity.headroom), (Some(20), Some(1 << 30)));
        assert_eq!(bounds, Bounds { total: 1000, agent: 900 });
        assert_eq!(others, AgentLimits { policy: LimitPolicy::Reject, ..AgentLimits::default() });
        assert_eq!(agents[&AgentName::default()], others);
        assert_eq!(agents[&named], AgentLimits { cpus: Some(MilliCpus(500)), ..AgentLimits::default() });
    }
}
