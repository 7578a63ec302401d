//! The queue itself.

use std::collections::{BTreeMap, HashMap};

use super::capacity::{Bounds, Capacity, Load};
use super::line::{Entry, Line};
use super::reason::{Refusal, Wait};
use super::{Admission, Cancelled, Moved, Offered, Setup, Ticket, Waiting};
use crate::agents::{AgentLimits, AgentName, LimitPolicy};
use crate::session::SessionId;

/// Those who wait and those who run. See the module text for its rules.
#[derive(Clone, Debug)]
pub struct Queue {
    capacity: Capacity,
    bounds: Bounds,
    table: BTreeMap<AgentName, AgentLimits>,
    others: AgentLimits,
    lines: BTreeMap<AgentName, Line>,
    /// Agents that wait for the host and not for themselves, by turn.
    ready: BTreeMap<u64, AgentName>,
    places: HashMap<SessionId, Place>,
    waiting: usize,
    load: Load,
    /// The host's free memory when it was last measured, less what was admitted since.
    free: Option<u64>,
    /// The next turn, and the next number of arrival.
    next: u64,
    policy: u64,
    /// How often somebody at the front was looked at, for the test that a call costs what it moves.
    #[cfg(test)]
    pub(super) looks: u64,
}

/// Where a session is.
#[derive(Clone, Debug)]
enum Place {
    Waiting { agent: AgentName, arrival: u64 },
    Running(Ticket),
}

/// A policy under which nobody who is here now was judged.
const BEFORE_RESTART: u64 = 0;

impl Queue {
    /// An empty one.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup { capacity, bounds, agents, others } = setup;
        Self {
            capacity,
            bounds,
            table: agents,
            others,
            lines: BTreeMap::new(),
            ready: BTreeMap::new(),
            places: HashMap::new(),
            waiting: 0,
            load: Load::default(),
            free: None,
            next: 0,
            policy: BEFORE_RESTART + 1,
            #[cfg(test)]
            looks: 0,
        }
    }

    /// A queue as it was before a restart: those who run, and those who wait in the order of their arrival. Those who
    /// wait are kept even if they are more than the bounds allow, and are to be judged again. Of an id that is given
    /// twice, the first counts.
    pub fn restore(
        setup: Setup,
        running: impl IntoIterator<Item = Ticket>,
        waiting: impl IntoIterator<Item = Ticket>,
    ) -> (Self, Moved) {
        let mut queue = Self::new(setup);
        for ticket in running {
            if !queue.places.contains_key(&ticket.id) {
                queue.begin(ticket);
            }
        }
        for ticket in waiting {
            if !queue.places.contains_key(&ticket.id) {
                queue.join(ticket, BEFORE_RESTART);
            }
        }
        let rejected = queue.reject_impossible();
        let admitted = queue.settle();
        (queue, Moved { admitted, rejected })
    }

    /// Somebody wants to start. A new offer moves nobody else.
    pub fn offer(&mut self, ticket: Ticket) -> Offered {
        let (id, agent) = (ticket.id.clone(), ticket.agent.clone());
        if self.places.contains_key(&id) {
            return Offered::Rejected { reason: Refusal::Known };
        }
        let line = self.line(&agent);
        let limits = line.limits;
        if let Some(reason) = self.impossible(&ticket) {
            self.tidy(&agent);
            return Offered::Rejected { reason };
        }
        self.join(ticket, self.policy);
        if !self.settle().is_empty() {
            return Offered::Admitted;
        }
        // It was just added, so it is there.
        let Some(Waiting { position, reason, .. }) = self.position(&id) else {
            return Offered::Rejected { reason: Refusal::Known };
        };
        let in_line = self.lines.get(&agent).map_or(0, |line| line.waiting.len());
        let refusal = match limits.policy {
            LimitPolicy::Reject => Some(Refusal::WouldWait { wait: reason.clone() }),
            LimitPolicy::Queue if self.waiting > self.bounds.total => {
                Some(Refusal::QueueFull { limit: self.bounds.total })
            }
            LimitPolicy::Queue if in_line > self.bounds.agent => {
                Some(Refusal::LineFull { agent, limit: self.bounds.agent })
            }
            LimitPolicy::Queue => None,
        };
        match refusal {
            Some(reason) => {
                self.leave(&id);
                Offered::Rejected { reason }
            }
            None => Offered::Queued { position, reason },
        }
    }

    /// A session that was admitted has ended, or could not be launched. Anything else changes nothing.
    pub fn ended(&mut self, id: &SessionId) -> Moved {
        if !matches!(self.places.get(id), Some(Place::Running(_))) {
            return Moved::default();
        }
        if let Some(Place::Running(ticket)) = self.places.remove(id) {
            let line = self.line(&ticket.agent);
            let before = line.taken();
            line.ended(&ticket);
            let after = line.taken();
            self.load.sessions = self.load.sessions.saturating_sub(1);
            self.load.cpus = self.load.cpus.saturating_sub(before).saturating_add(after);
            self.load.memory = self.load.memory.saturating_sub(ticket.memory);
            self.refresh(&ticket.agent);
            self.tidy(&ticket.agent);
        }
        Moved { admitted: self.settle(), rejected: Vec::new() }
    }

    /// Somebody who waits does not want to any more.
    pub fn cancel(&mut self, id: &SessionId) -> Cancelled {
        match self.leave(id) {
            None => Cancelled::NotWaiting,
            Some(ticket) => Cancelled::Left { ticket, moved: Moved { admitted: self.settle(), rejected: Vec::new() } },
        }
    }

    /// The host gives more or less than before.
    pub fn set_capacity(&mut self, capacity: Capacity) -> Moved {
        self.capacity = capacity;
        let rejected = self.reject_impossible();
        Moved { admitted: self.settle(), rejected }
    }

    /// How many may wait; those who do are kept.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// An agent has other limits; `None`: those of all that are not named.
    pub fn set_agent(&mut self, agent: &AgentName, limits: Option<AgentLimits>) -> Moved {
        match limits {
            Some(limits) => self.table.insert(agent.clone(), limits),
            None => self.table.remove(agent),
        };
        self.relimit()
    }

    /// All limits of agents at once, as after reading the configuration again.
    pub fn set_agents(&mut self, agents: BTreeMap<AgentName, AgentLimits>, others: AgentLimits) -> Moved {
        self.table = agents;
        self.others = others;
        self.relimit()
    }

    /// The host's free memory, measured now; `None` if it cannot be. Without a measurement there is no brake.
    pub fn set_free_memory(&mut self, free: Option<u64>) -> Moved {
        self.free = free;
        Moved { admitted: self.settle(), rejected: Vec::new() }
    }

    /// Policy is another one now: all who wait are to be judged again when their turn comes.
    pub fn policy_changed(&mut self) {
        self.policy += 1;
    }

    /// All who wait, the next one first. O(n log n).
    #[must_use]
    pub fn positions(&self) -> Vec<Waiting<'_>> {
        let mut order: Vec<(usize, u64, &Line, &Entry)> = self
            .lines
            .values()
            .flat_map(|line| line.waiting.values().enumerate().map(move |(nth, entry)| (nth, line.turn, line, entry)))
            .collect();
        order.sort_unstable_by_key(|(nth, turn, ..)| (*nth, *turn));
        let waiting = |(ahead, (nth, _, line, entry)): (usize, (usize, u64, &'_ Line, &'_ Entry))| {
            (ahead + 1, self.reason(line, nth, ahead, &entry.ticket))
        };
        let told: Vec<(usize, Wait)> = order.iter().copied().enumerate().map(waiting).collect();
        let tickets = order.into_iter().map(|(.., entry)| &entry.ticket);
        tickets.zip(told).map(|(ticket, (position, reason))| Waiting { ticket, position, reason }).collect()
    }

    /// One who waits; `None` if it does not. Costs its place in its own line and the number of agents.
    #[must_use]
    pub fn position(&self, id: &SessionId) -> Option<Waiting<'_>> {
        let Some(Place::Waiting { agent, arrival }) = self.places.get(id) else { return None };
        let line = self.lines.get(agent)?;
        let entry = line.waiting.get(arrival)?;
        // The last one, as after an offer, is found without counting.
        let is_last = line.waiting.last_key_value().is_some_and(|(last, _)| last == arrival);
        let nth = if is_last { line.waiting.len() - 1 } else { line.waiting.range(..arrival).count() };
        let others = self.lines.values().filter(|other| other.agent != line.agent);
        let ahead =
            nth + others.map(|other| other.waiting.len().min(nth + usize::from(other.turn < line.turn))).sum::<usize>();
        Some(Waiting {
            ticket: &entry.ticket,
            position: ahead + 1,
            reason: self.reason(line, nth, ahead, &entry.ticket),
        })
    }

    /// Why nobody moves: what holds back the one whose turn it is; `None` if nobody waits for the host.
    #[must_use]
    pub fn held_by(&self) -> Option<Wait> {
        let line = self.lines.get(self.ready.first_key_value()?.1)?;
        let (_, entry) = line.waiting.first_key_value()?;
        self.capacity.shortage(&self.load, line.need(&entry.ticket), self.free)
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many run, all agents together.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.load.sessions
    }

    /// How many of an agent run and wait.
    #[must_use]
    pub fn of_agent(&self, agent: &AgentName) -> (u32, usize) {
        self.lines.get(agent).map_or((0, 0), |line| (line.running, line.waiting.len()))
    }

    /// Those who count as running.
    pub fn running_ids(&self) -> impl Iterator<Item = &SessionId> {
        self.places.iter().filter_map(|(id, place)| matches!(place, Place::Running(_)).then_some(id))
    }

    /// The agents of which somebody runs or waits.
    pub fn agents(&self) -> impl Iterator<Item = &AgentName> {
        self.lines.keys()
    }

    /// The limits that hold for an agent.
    #[must_use]
    pub fn limits(&self, agent: &AgentName) -> AgentLimits {
        self.table.get(agent).copied().unwrap_or(self.others)
    }

    /// What the host gives.
    #[must_use]
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn reason(&self, line: &Line, nth: usize, ahead: usize, ticket: &Ticket) -> Wait {
        if line.is_full(nth) {
            return line.own_bound();
        }
        let is_front = nth == 0 && self.ready.first_key_value().is_some_and(|(_, agent)| *agent == line.agent);
        let shortage = || self.capacity.shortage(&self.load, line.need(ticket), self.free);
        is_front.then(shortage).flatten().unwrap_or(Wait::Turn { ahead })
    }

    /// Admits all for whom there is room, in turn.
    fn settle(&mut self) -> Vec<Admission> {
        let mut admitted = Vec::new();
        while let Some((_, agent)) = self.ready.first_key_value() {
            #[cfg(test)]
            {
                self.looks += 1;
            }
            let agent = agent.clone();
            let Some(line) = self.lines.get_mut(&agent) else { break };
            let Some((arrival, entry)) = line.waiting.first_key_value() else { break };
            if self.capacity.shortage(&self.load, line.need(&entry.ticket), self.free).is_some() {
                // Nobody overtakes: what becomes free is kept for the one whose turn it is.
                break;
            }
            let arrival = *arrival;
            let Some(Entry { ticket, judged }) = line.waiting.remove(&arrival) else { break };
            self.waiting -= 1;
            self.ready.remove(&line.turn);
            line.turn = self.next;
            self.next += 1;
            self.free = self.free.map(|free| free.saturating_sub(ticket.memory));
            self.begin(ticket.clone());
            self.refresh(&agent);
            admitted.push(Admission { ticket, judge_again: judged != self.policy });
        }
        admitted
    }

    /// Counts one as running.
    fn begin(&mut self, ticket: Ticket) {
        let line = self.line(&ticket.agent);
        let need = line.need(&ticket);
        line.began(&ticket);
        self.load.sessions += 1;
        self.load.cpus = self.load.cpus.saturating_add(need.cpus);
        self.load.memory = self.load.memory.saturating_add(need.memory);
        self.places.insert(ticket.id.clone(), Place::Running(ticket));
    }

    /// Puts one at the end of its agent's line.
    fn join(&mut self, ticket: Ticket, judged: u64) {
        let agent = ticket.agent.clone();
        let arrival = self.next;
        self.next += 2;
        let line = self.line(&agent);
        if line.waiting.is_empty() {
            // An agent that begins to wait has the last turn.
            line.turn = arrival + 1;
        }
        self.places.insert(ticket.id.clone(), Place::Waiting { agent: agent.clone(), arrival });
        self.line(&agent).waiting.insert(arrival, Entry { ticket, judged });
        self.waiting += 1;
        self.refresh(&agent);
    }

    /// Takes one who waits out of its line.
    fn leave(&mut self, id: &SessionId) -> Option<Ticket> {
        let Some(Place::Waiting { agent, arrival }) = self.places.get(id) else { return None };
        let (agent, arrival) = (agent.clone(), *arrival);
        let Entry { ticket, .. } = self.lines.get_mut(&agent)?.waiting.remove(&arrival)?;
        self.places.remove(id);
        self.waiting -= 1;
        self.refresh(&agent);
        self.tidy(&agent);
        Some(ticket)
    }

    fn line(&mut self, agent: &AgentName) -> &mut Line {
        let limits = self.limits(agent);
        let turn = self.next;
        self.lines.entry(agent.clone()).or_insert_with(|| {
            self.next += 1;
            Line::new(agent.clone(), limits, turn)
        })
    }

    /// Whether an agent is among those who wait for the host.
    fn refresh(&mut self, agent: &AgentName) {
        let Some(line) = self.lines.get(agent) else { return };
        if line.is_ready() {
            self.ready.insert(line.turn, agent.clone());
        } else {
            self.ready.remove(&line.turn);
        }
    }

    /// Forgets an agent of which nothing is here: names are made by people, and there may be many.
    fn tidy(&mut self, agent: &AgentName) {
        if self.lines.get(agent).is_some_and(Line::is_idle) {
            self.lines.remove(agent);
        }
    }

    /// Takes the table over into the lines.
    fn relimit(&mut self) -> Moved {
        let agents: Vec<AgentName> = self.lines.keys().cloned().collect();
        for agent in &agents {
            let limits = self.limits(agent);
            let Some(line) = self.lines.get_mut(agent) else { continue };
            let before = line.taken();
            line.limits = limits;
            let after = line.taken();
            self.load.cpus = self.load.cpus.saturating_sub(before).saturating_add(after);
            self.refresh(agent);
        }
        let rejected = self.reject_impossible();
        Moved { admitted: self.settle(), rejected }
    }

    fn reject_impossible(&mut self) -> Vec<(Ticket, Refusal)> {
        let waiting = self.lines.values().flat_map(|line| line.waiting.iter());
        let mut doomed: Vec<(u64, SessionId, Refusal)> = waiting
            .filter_map(|(arrival, entry)| Some((*arrival, entry.ticket.id.clone(), self.impossible(&entry.ticket)?)))
            .collect();
        doomed.sort_unstable_by_key(|(arrival, ..)| *arrival);
        doomed.into_iter().filter_map(|(_, id, refusal)| Some((self.leave(&id)?, refusal))).collect()
    }

    /// Why a ticket could not even start if nothing else ran.
    fn impossible(&self, ticket: &Ticket) -> Option<Refusal> {
        let limits = self.limits(&ticket.agent);
        if limits.containers == Some(0) {
            return Some(Refusal::NoContainers { agent: ticket.agent.clone() });
        }
        let alone = Line::new(ticket.agent.clone(), limits, 0).alone(ticket);
        self.capacity.never(alone).map(|scarce| Refusal::TooLarge { scarce })
    }
}
