//! One agent's line: those of its own that wait, in order, and what it has running.

use std::collections::BTreeMap;

use super::Ticket;
use super::capacity::Need;
use super::reason::Wait;
use crate::agents::{AgentLimits, AgentName};

/// A ticket in line, and the policy under which it was judged.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) ticket: Ticket,
    pub(super) judged: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) agent: AgentName,
    pub(super) limits: AgentLimits,
    /// By order of arrival.
    pub(super) waiting: BTreeMap<u64, Entry>,
    /// Its place among the agents: the lowest is next.
    pub(super) turn: u64,
    pub(super) running: u32,
    /// Thousandths of a CPU that its containers may take, each by itself.
    cpus: u64,
}

impl Line {
    pub(super) fn new(agent: AgentName, limits: AgentLimits, turn: u64) -> Self {
        Self { agent, limits, waiting: BTreeMap::new(), turn, running: 0, cpus: 0 }
    }

    /// It waits, and not for itself.
    pub(super) fn is_ready(&self) -> bool {
        !self.waiting.is_empty() && !self.is_full(0)
    }

    /// Nothing of it is here.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running == 0
    }

    /// Its own bound on containers is reached when `more` of it have started.
    pub(super) fn is_full(&self, more: usize) -> bool {
        self.limits.containers.is_some_and(|limit| self.running as usize + more >= limit as usize)
    }

    pub(super) fn own_bound(&self) -> Wait {
        let limit = self.limits.containers.unwrap_or(u32::MAX);
        Wait::AgentContainers { agent: self.agent.clone(), running: self.running, limit }
    }

    /// What its containers may take of the host's CPUs together.
    pub(super) fn taken(&self) -> u64 {
        self.within_quota(self.cpus)
    }

    /// What one more adds to the host's load.
    pub(super) fn need(&self, ticket: &Ticket) -> Need {
        let more = self.within_quota(self.cpus.saturating_add(u64::from(ticket.cpus.0)));
        Need { cpus: more - self.taken(), memory: ticket.memory }
    }

    /// What one alone takes.
    pub(super) fn alone(&self, ticket: &Ticket) -> Need {
        Need { cpus: self.within_quota(u64::from(ticket.cpus.0)), memory: ticket.memory }
    }

    pub(super) fn began(&mut self, ticket: &Ticket) {
        self.running += 1;
        self.cpus = self.cpus.saturating_add(u64::from(ticket.cpus.0));
    }

    pub(super) fn ended(&mut self, ticket: &Ticket) {
        self.running = self.running.saturating_sub(1);
        self.cpus = self.cpus.saturating_sub(u64::from(ticket.cpus.0));
    }

    fn within_quota(&self, cpus: u64) -> u64 {
        self.limits.cpus.map_or(cpus, |quota| cpus.min(u64::from(quota.0)))
    }
}
