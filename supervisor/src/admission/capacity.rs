//! The host's room, and what is taken of it.

use serde::Serialize;

use super::reason::{Scarce, Wait};
use crate::units::MilliCpus;

/// Longest queue, if none is named: each entry is a person or a program that waits; more is a mistake of a script.
pub const LONGEST_QUEUE: usize = 1000;
/// One in so many places is not one agent's to fill, so that one cannot keep all others out.
const KEPT_FROM_ONE: usize = 10;

/// What the host gives to all sessions together. `None` is unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Sessions at one time. With 0 nobody starts, and everybody waits.
    pub sessions: Option<u32>,
    /// CPUs that all containers together may take; an agent's containers count with at most the agent's quota.
    pub cpus: Option<MilliCpus>,
    /// Bytes that all containers together may take.
    pub memory: Option<u64>,
    /// Bytes that must be free on the host for anybody to start.
    pub headroom: Option<u64>,
}

/// How many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// Of all agents together.
    pub total: usize,
    /// Of one agent.
    pub agent: usize,
}

impl Bounds {
    /// So many in all, nine tenths of them of one agent.
    #[must_use]
    pub fn of(total: usize) -> Self {
        Self { total, agent: total - total / KEPT_FROM_ONE }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::of(LONGEST_QUEUE)
    }
}

/// What is taken. Sums saturate: what people ask for is theirs to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) sessions: u32,
    /// Thousandths of a CPU.
    pub(super) cpus: u64,
    pub(super) memory: u64,
}

/// What one more would add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) cpus: u64,
    pub(super) memory: u64,
}

impl Capacity {
    /// Why one more does not fit, if so. `free` is what is known of the host's free memory.
    pub(super) fn shortage(&self, load: &Load, need: Need, free: Option<u64>) -> Option<Wait> {
        if let Some(limit) = self.sessions.filter(|limit| load.sessions >= *limit) {
            return Some(Wait::Sessions { running: load.sessions, limit });
        }
        let cpus = self.cpus.map(|limit| u64::from(limit.0));
        if let Some(limit) = cpus.filter(|limit| load.cpus.saturating_add(need.cpus) > *limit) {
            return Some(Wait::Cpus { taken: load.cpus, needs: need.cpus, limit });
        }
        if let Some(limit) = self.memory.filter(|limit| load.memory.saturating_add(need.memory) > *limit) {
            return Some(Wait::Memory { taken: load.memory, needs: need.memory, limit });
        }
        let (headroom, free) = self.headroom.zip(free)?;
        (free < headroom).then_some(Wait::HostMemory { free, headroom })
    }

    /// What of one alone is more than all there is.
    pub(super) fn never(&self, need: Need) -> Option<Scarce> {
        let cpus = self.cpus.map(|limit| u64::from(limit.0)).filter(|limit| need.cpus > *limit);
        let memory = self.memory.filter(|limit| need.memory > *limit);
        cpus.map(|limit| Scarce::Cpus { needs: need.cpus, limit })
            .or(memory.map(|limit| Scarce::Memory { needs: need.memory, limit }))
    }
}
