//! Who may start now, who waits, and why: the queue in front of launches. Pure: values in, values out, time is an
//! argument; the caller stores, launches and measures.
//!
//! ```text
//!                      room, and nobody's turn before              session ended
//! offer(ticket) ──┬──────────────────────────────────► running ──────────────────► (gone)
//!                 │ no room               turn comes  ▲
//!                 ├────────────────► waiting ─────────┘
//!                 │                     ├── cancel ──────────────► (gone)
//!                 │                     └── can never fit any more ► rejected
//!                 └── policy `reject`, queue full, can never fit ──► rejected
//! ```
//!
//! The rules, each a property test in `tests`:
//! - **Never over capacity.** Nobody is admitted beyond the host's sessions, CPUs or memory, nor beyond the agent's own
//!   containers. What already runs (taken over after a restart, or when a bound was lowered) is never evicted.
//! - **FIFO within an agent, turns between agents.** Each agent that waits has a turn; the lowest one is next, and who
//!   was admitted goes to the back. An agent whose own bound is reached keeps its turn and is stepped over.
//! - **Nobody starves.** The one whose turn it is and for whom the host has no room yet is not overtaken: room that
//!   becomes free is kept until it suffices. What could never fit was rejected at once.
//! - **The host's free memory is a brake, not a budget.** While less than the headroom is free, nobody starts. Each
//!   measurement counts down by what was admitted since, so that a burst does not overshoot.
//! - **Judged again.** Tickets remember under which policy they were judged; who was judged under another one is marked
//!   when its turn comes.
//!
//! After each call the queue is settled: nobody waits who could run. So a call admits exactly those for whom it made
//! room, and costs O(log n) for each of them.

mod capacity;
mod line;
mod queue;
mod reason;
#[cfg(test)]
mod tests;

pub use capacity::{Bounds, Capacity, LONGEST_QUEUE};
pub use queue::Queue;
pub use reason::{Refusal, Scarce, Wait};

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::agents::{AgentLimits, AgentName};
use crate::session::SessionId;
use crate::units::MilliCpus;

/// A request for a place: what its container may take at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub id: SessionId,
    pub agent: AgentName,
    pub cpus: MilliCpus,
    /// Bytes.
    pub memory: u64,
    /// When it was made, by the caller's clock; only to be shown.
    pub since: Timestamp,
}

/// What became of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Offered {
    /// It may start now.
    Admitted,
    /// It waits: `position` 1 is next, see [`Waiting::position`].
    Queued { position: usize, reason: Wait },
    /// It may not.
    Rejected { reason: Refusal },
}

/// Somebody whose turn has come. It counts as running from now on: tell [`Queue::ended`] when it ends, or if it cannot be
/// launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    pub ticket: Ticket,
    /// Policy changed since it was judged, or it was kept across a restart: judge it again before it is launched.
    pub judge_again: bool,
}

/// Whom a change moved, in order. Nothing else has changed its state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "those who are admitted have to be launched, those who are rejected told"]
pub struct Moved {
    pub admitted: Vec<Admission>,
    /// Waited, and can never fit under the new bounds.
    pub rejected: Vec<(Ticket, Refusal)>,
}

/// What became of a wish to leave the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Cancelled {
    /// It waited and is gone; others may have moved up.
    Left { ticket: Ticket, moved: Moved },
    /// It does not wait: it runs, or was never here.
    NotWaiting,
}

/// One who waits, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting<'a> {
    pub ticket: &'a Ticket,
    /// 1 is next. Whoever stands before it goes first, unless the one before waits for its own agent's bound
    /// ([`Wait::AgentContainers`]): such are stepped over. Who leaves hands its turn to the next of its agent.
    pub position: usize,
    pub reason: Wait,
}

/// What a queue starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub capacity: Capacity,
    pub bounds: Bounds,
    pub agents: BTreeMap<AgentName, AgentLimits>,
    /// For agents that are not in the table.
    pub others: AgentLimits,
}
