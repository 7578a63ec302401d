//! What one agent may use, and what that leaves for one of its containers.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::request::Limits;
use crate::units::{MilliCpus, exact_size, format_size};

/// The smallest quota that the kernel takes: 1 ms of each 100 ms (sched-bwc.rst).
pub const SMALLEST_QUOTA: MilliCpus = MilliCpus(10);

/// Bounds of one agent. `None` is unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentLimits {
    /// CPU time per time of all its containers together.
    pub cpus: Option<MilliCpus>,
    /// Bytes of memory of each container.
    pub memory: Option<u64>,
    /// Containers at one time; 0 means that the agent may not run.
    pub containers: Option<u32>,
    /// Processes and threads of each container.
    pub pids: Option<u32>,
    /// What becomes of a request for which there is no room now.
    pub policy: LimitPolicy,
}

/// What was set of an agent's limits while a service ran: it goes before the configuration, field by field. `None`: as the
/// configuration says; `Some(None)`: unbounded, whatever it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetLimits {
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Option<MilliCpus>>,
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    pub memory: Option<Option<u64>>,
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    pub containers: Option<Option<u32>>,
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    pub pids: Option<Option<u32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<LimitPolicy>,
}

/// A field that is there: serde takes null for one that is not.
pub(crate) fn even_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl SetLimits {
    /// What holds where this goes before `base`.
    #[must_use]
    pub fn over(&self, base: AgentLimits) -> AgentLimits {
        AgentLimits {
            cpus: self.cpus.unwrap_or(base.cpus),
            memory: self.memory.unwrap_or(base.memory),
            containers: self.containers.unwrap_or(base.containers),
            pids: self.pids.unwrap_or(base.pids),
            policy: self.policy.unwrap_or(base.policy),
        }
    }
}

impl fmt::Display for SetLimits {
    /// All that was set: `cpus 0.5, memory 1 GiB, containers unbounded; the rest as configured`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn field<T>(name: &str, set: Option<Option<T>>, show: impl Fn(T) -> String) -> Option<String> {
            set.map(|value| format!("{name} {}", value.map_or_else(|| "unbounded".to_owned(), show)))
        }
        let Self { cpus, memory, containers, pids, policy } = *self;
        let set: Vec<String> = [
            field("cpus", cpus, |cpus| cpus.to_string()),
            field("memory", memory, exact_size),
            field("containers", containers, |containers| containers.to_string()),
            field("pids", pids, |pids| pids.to_string()),
            policy.map(|policy| format!("policy {}", policy.word())),
        ]
        .into_iter()
        .flatten()
        .collect();
        let rest = if set.len() < 5 { "the rest as configured" } else { "" };
        let between = if set.is_empty() || rest.is_empty() { "" } else { "; " };
        write!(f, "{}{between}{rest}", set.join(", "))
    }
}

/// What becomes of a request over the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitPolicy {
    /// It waits for its turn.
    #[default]
    Queue,
    /// It is refused.
    Reject,
}

impl LimitPolicy {
    /// Its word, everywhere.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Reject => "reject",
        }
    }
}

/// A bound that was asked for and lowered to the agent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Lowered {
    Cpus { asked: MilliCpus, to: MilliCpus },
    Memory { asked: u64, to: u64 },
    Pids { asked: u32, to: u32 },
}

impl fmt::Display for Lowered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpus { asked, to } => write!(f, "{to} CPUs instead of {asked}"),
            Self::Memory { asked, to } => {
                write!(f, "{} of memory instead of {}", format_size(*to), format_size(*asked))
            }
            Self::Pids { asked, to } => write!(f, "{to} processes instead of {asked}"),
        }
    }
}

impl AgentLimits {
    /// A container's own bounds under the agent's: each at most the agent's, with what had to be lowered. Also needed for
    /// CPUs, although the agent's cgroup holds them all: version 1 of cgroups refuses a quota above the parent's.
    #[must_use]
    pub fn container(&self, asked: Limits) -> (Limits, Vec<Lowered>) {
        let mut limits = asked;
        let mut lowered = Vec::new();
        if let Some(to) = self.cpus.filter(|cpus| *cpus < asked.cpus) {
            limits.cpus = to;
            lowered.push(Lowered::Cpus { asked: asked.cpus, to });
        }
        if let Some(to) = self.memory.filter(|memory| *memory < asked.memory) {
            limits.memory = to;
            lowered.push(Lowered::Memory { asked: asked.memory, to });
        }
        if let Some(to) = self.pids.filter(|pids| *pids < asked.pids) {
            limits.pids = to;
            lowered.push(Lowered::Pids { asked: asked.pids, to });
        }
        (limits, lowered)
    }

    /// One container's part of the CPU quota, where no cgroup can hold all of them together: the quota divided by the
    /// most containers, so that the sum holds. Without a bound on containers each one gets all of it, and the sum is not
    /// held; see [`Enforcement`](super::Enforcement).
    #[must_use]
    pub fn part(&self) -> Option<MilliCpus> {
        let cpus = self.cpus?;
        let containers = self.containers.unwrap_or(1).max(1);
        Some(MilliCpus((cpus.0 / containers).max(SMALLEST_QUOTA.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_gets_at_most_what_its_agent_may() {
        let asked = Limits { cpus: MilliCpus(2000), memory: 4 << 30, pids: 1024 };
        assert_eq!(AgentLimits::default().container(asked), (asked, vec![]));
        let limits = AgentLimits {
            cpus: Some(MilliCpus(500)),
            memory: Some(1 << 30),
            pids: Some(4096),
            ..AgentLimits::default()
        };
        let (given, lowered) = limits.container(asked);
        assert_eq!(given, Limits { cpus: MilliCpus(500), memory: 1 << 30, pids: 1024 });
        let said: Vec<String> = lowered.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["0.5 CPUs instead of 2", "1 GiB of memory instead of 4 GiB"]);
    }

    #[test]
    fn what_was_set_goes_before_the_configuration_field_by_field() {
        let base =
            AgentLimits { cpus: Some(MilliCpus(500)), memory: Some(7), pids: Some(64), ..AgentLimits::default() };
        assert_eq!(SetLimits::default().over(base), base);
        let set = SetLimits { cpus: Some(None), memory: Some(Some(9)), ..SetLimits::default() };
        assert_eq!(set.over(base), AgentLimits { cpus: None, memory: Some(9), ..base });
        let json = serde_json::to_value(set).unwrap();
        assert_eq!(json, serde_json::json!({"cpus": null, "memory": 9}));
        assert_eq!(serde_json::from_value::<SetLimits>(json).unwrap(), set);
        assert_eq!(set.to_string(), "cpus unbounded, memory 9; the rest as configured");
        assert_eq!(SetLimits::default().to_string(), "the rest as configured");
        let all = SetLimits {
            cpus: Some(Some(MilliCpus(500))),
            memory: Some(Some(1 << 30)),
            containers: Some(Some(2)),
            pids: Some(None),
            policy: Some(LimitPolicy::Reject),
        };
        assert_eq!(all.to_string(), "cpus 0.5, memory 1g, containers 2, pids unbounded, policy reject");
    }

    #[test]
    fn parts_add_up_to_the_quota_and_are_what_the_kernel_takes() {
        let limits = |cpus, containers| AgentLimits { cpus, containers, ..AgentLimits::default() };
        assert_eq!(limits(None, Some(3)).part(), None);
        assert_eq!(limits(Some(MilliCpus(500)), None).part(), Some(MilliCpus(500)));
        assert_eq!(limits(Some(MilliCpus(500)), Some(3)).part(), Some(MilliCpus(166)));
        assert_eq!(limits(Some(MilliCpus(500)), Some(100)).part(), Some(SMALLEST_QUOTA));
        assert_eq!(limits(Some(MilliCpus(500)), Some(0)).part(), Some(MilliCpus(500)));
    }
}
