//! Any sequence of calls, against a simple model that keeps books.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{agent, id};
use crate::admission::*;
use crate::agents::LimitPolicy;

const AGENTS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Call {
    Offer {
        agent: usize,
        cpus: u32,
        memory: u64,
    },
    /// The n-th of those who run.
    End(usize),
    /// The n-th of those who wait.
    Cancel(usize),
    Capacity(Capacity),
    Agent(usize, AgentLimits),
    Free(Option<u64>),
    Policy,
}

fn capacity() -> impl Strategy<Value = Capacity> {
    let sessions = prop::option::of(0..6_u32);
    let cpus = prop::option::of((1..8_u32).prop_map(|halves| MilliCpus(halves * 500)));
    (sessions, cpus, prop::option::of(1..12_u64), prop::option::of(0..6_u64))
        .prop_map(|(sessions, cpus, memory, headroom)| Capacity { sessions, cpus, memory, headroom })
}

fn limits() -> impl Strategy<Value = AgentLimits> {
    let cpus = prop::option::of((1..4_u32).prop_map(|halves| MilliCpus(halves * 500)));
    (cpus, prop::option::of(0..4_u32), any::<bool>()).prop_map(|(cpus, containers, reject)| AgentLimits {
        cpus,
        containers,
        policy: if reject { LimitPolicy::Reject } else { LimitPolicy::Queue },
        ..AgentLimits::default()
    })
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        8 => (0..AGENTS.len(), 1..4_u32, 1..5_u64).prop_map(|(agent, halves, memory)| Call::Offer { agent, cpus: halves * 500, memory }),
        6 => any::<prop::sample::Index>().prop_map(|n| Call::End(n.index(64))),
        2 => any::<prop::sample::Index>().prop_map(|n| Call::Cancel(n.index(64))),
        1 => capacity().prop_map(Call::Capacity),
        1 => (0..AGENTS.len(), limits()).prop_map(|(agent, limits)| Call::Agent(agent, limits)),
        1 => prop::option::of(0..20_u64).prop_map(Call::Free),
        1 => Just(Call::Policy),
    ]
}

/// What the queue should know, kept as simply as can be.
struct Books {
    queue: Queue,
    limits: BTreeMap<AgentName, AgentLimits>,
    capacity: Capacity,
    free: Option<u64>,
    waiting: Vec<Ticket>,
    running: Vec<Ticket>,
    /// How each one left the queue, and how often.
    fates: BTreeMap<SessionId, Vec<&'static str>>,
    /// Those who were judged under the present policy.
    judged: Vec<SessionId>,
    offered: usize,
}

impl Books {
    fn new(capacity: Capacity) -> Self {
        let bounds = Bounds { total: 12, agent: 5 };
        Self {
            queue: Queue::new(Setup { capacity, bounds, ..Setup::default() }),
            limits: BTreeMap::new(),
            capacity,
            free: None,
            waiting: Vec::new(),
            running: Vec::new(),
            fates: BTreeMap::new(),
            judged: Vec::new(),
            offered: 0,
        }
    }

    fn limits(&self, agent: &AgentName) -> AgentLimits {
        self.limits.get(agent).copied().unwrap_or_default()
    }

    fn fate(&mut self, id: &SessionId, fate: &'static str) {
        self.fates.entry(id.clone()).or_default().push(fate);
    }

    fn cpus(&self) -> u64 {
        let mut sums = BTreeMap::<&AgentName, u64>::new();
        for ticket in &self.running {
            *sums.entry(&ticket.agent).or_default() += u64::from(ticket.cpus.0);
        }
        sums.into_iter()
            .map(|(agent, sum)| self.limits(agent).cpus.map_or(sum, |quota| sum.min(u64::from(quota.0))))
            .sum()
    }

    /// One starts: it was the first of its agent's, and all bounds hold with it.
    fn starts(&mut self, ticket: &Ticket) {
        let first = self.waiting.iter().position(|waiting| waiting.agent == ticket.agent).expect("it waited");
        assert_eq!(self.waiting.remove(first), *ticket, "first in, first out");
        if let Some((headroom, free)) = self.capacity.headroom.zip(self.free) {
            assert!(free >= headroom);
        }
        self.free = self.free.map(|free| free.saturating_sub(ticket.memory));
        self.running.push(ticket.clone());
        self.fate(&ticket.id, "admitted");
        assert!(self.capacity.sessions.is_none_or(|limit| self.running.len() <= limit as usize), "sessions");
        assert!(self.capacity.cpus.is_none_or(|limit| self.cpus() <= u64::from(limit.0)), "CPUs");
        let memory: u64 = self.running.iter().map(|ticket| ticket.memory).sum();
        assert!(self.capacity.memory.is_none_or(|limit| memory <= limit), "memory");
        let own = self.running.iter().filter(|running| running.agent == ticket.agent).count();
        assert!(self.limits(&ticket.agent).containers.is_none_or(|limit| own <= limit as usize), "containers");
    }

    fn moved(&mut self, moved: Moved, before: &[SessionId]) {
        for (ticket, _) in &moved.rejected {
            self.waiting.retain(|waiting| waiting.id != ticket.id);
            self.fate(&ticket.id, "rejected");
        }
        for admission in &moved.admitted {
            self.starts(&admission.ticket);
            assert_eq!(admission.judge_again, !self.judged.contains(&admission.ticket.id));
        }
        if !moved.rejected.is_empty() {
            // Who leaves hands the turn to the next of its agent, and places change.
            return;
        }
        // Nobody who stood before one that started still waits, but those who wait for their own agent.
        let started: Vec<usize> = moved
            .admitted
            .iter()
            .map(|admission| before.iter().position(|id| *id == admission.ticket.id).expect("it was shown"))
            .collect();
        for stood in &before[..started.iter().max().copied().unwrap_or(0)] {
            if let Some(still) = self.queue.position(stood) {
                assert!(matches!(still.reason, Wait::AgentContainers { .. }), "{still:?}");
            }
        }
    }

    fn act(&mut self, call: Call) {
        let before: Vec<SessionId> = self.queue.positions().iter().map(|waiting| waiting.ticket.id.clone()).collect();
        match call {
            Call::Offer { agent: name, cpus, memory } => {
                let number = self.offered;
                self.offered += 1;
                let ticket = Ticket { cpus: MilliCpus(cpus), memory, ..super::ticket(number, AGENTS[name]) };
                self.judged.push(ticket.id.clone());
                match self.queue.offer(ticket.clone()) {
                    Offered::Admitted => {
                        self.waiting.push(ticket.clone());
                        self.starts(&ticket);
                    }
                    Offered::Queued { position, reason } => {
                        self.waiting.push(ticket.clone());
                        let shown = self.queue.position(&ticket.id).expect("it waits");
                        assert_eq!((shown.position, shown.reason), (position, reason));
                        assert!(self.waiting.len() <= 12);
                    }
                    Offered::Rejected { .. } => self.fate(&ticket.id, "rejected"),
                }
            }
            Call::End(nth) if !self.running.is_empty() => {
                let ticket = self.running.remove(nth % self.running.len());
                let moved = self.queue.ended(&ticket.id);
                self.moved(moved, &before);
            }
            Call::Cancel(nth) if !self.waiting.is_empty() => {
                let ticket = self.waiting.remove(nth % self.waiting.len());
                self.fate(&ticket.id, "cancelled");
                match self.queue.cancel(&ticket.id) {
                    Cancelled::Left { ticket: left, moved } => {
                        assert_eq!((left, &moved.rejected), (ticket, &vec![]));
                        for admission in &moved.admitted {
                            self.starts(&admission.ticket);
                        }
                    }
                    Cancelled::NotWaiting => panic!("it waited"),
                }
            }
            Call::End(_) | Call::Cancel(_) => {}
            Call::Capacity(capacity) => {
                self.capacity = capacity;
                let moved = self.queue.set_capacity(capacity);
                self.moved(moved, &before);
            }
            Call::Agent(name, limits) => {
                let name = agent(AGENTS[name]);
                self.limits.insert(name.clone(), limits);
                let moved = self.queue.set_agent(&name, Some(limits));
                self.moved(moved, &before);
            }
            Call::Free(free) => {
                self.free = free;
                let moved = self.queue.set_free_memory(free);
                self.moved(moved, &before);
            }
            Call::Policy => {
                self.judged.clear();
                self.queue.policy_changed();
            }
        }
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.queue.waiting(), self.waiting.len());
        assert_eq!(self.queue.running() as usize, self.running.len());
        let shown = self.queue.positions();
        assert_eq!(shown.len(), self.waiting.len());
        for (place, waiting) in shown.iter().enumerate() {
            assert_eq!(waiting.position, place + 1);
            assert_eq!(self.queue.position(&waiting.ticket.id).as_ref(), Some(waiting));
        }
        // Settled: whoever waits for the host has a reason of the host's before it.
        let for_host = shown.iter().any(|waiting| !matches!(waiting.reason, Wait::AgentContainers { .. }));
        assert_eq!(for_host, self.queue.held_by().is_some());
        assert!(self.fates.values().all(|fates| fates.len() == 1), "{:?}", self.fates);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_has_one_fate_and_no_bound_is_broken(
        capacity in capacity(),
        calls in prop::collection::vec(call(), 1..120),
    ) {
        let mut books = Books::new(capacity);
        for call in calls {
            books.act(call);
        }
        // With all bounds gone and everything ended, nobody is left.
        books.act(Call::Capacity(Capacity::default()));
        for name in 0..AGENTS.len() {
            books.act(Call::Agent(name, AgentLimits::default()));
        }
        while !books.running.is_empty() {
            books.act(Call::End(0));
        }
        prop_assert_eq!(books.queue.waiting(), 0);
        prop_assert_eq!(books.fates.len(), books.offered);
    }

    /// What is shown is what happens, when nothing but ends happens.
    #[test]
    fn positions_tell_the_order_of_starts(names in prop::collection::vec(0..AGENTS.len(), 1..40), room in 1..4_u32) {
        let capacity = Capacity { sessions: Some(room), ..Capacity::default() };
        let mut queue = Queue::new(Setup { capacity, ..Setup::default() });
        let mut running = VecDeque::new();
        for (number, name) in names.iter().enumerate() {
            if queue.offer(super::ticket(number, AGENTS[*name])) == Offered::Admitted {
                running.push_back(id(number));
            }
        }
        let shown: Vec<SessionId> = queue.positions().iter().map(|waiting| waiting.ticket.id.clone()).collect();
        let mut started = Vec::new();
        while let Some(ended) = running.pop_front() {
            for admission in queue.ended(&ended).admitted {
                started.push(admission.ticket.id.clone());
                running.push_back(admission.ticket.id);
            }
        }
        prop_assert_eq!(started, shown);
    }

    /// However many others come, and whatever they ask for: the place of the first of a line only gets better, and it
    /// starts after at most so many others as stood before it.
    #[test]
    fn nobody_starves(
        others in prop::collection::vec((1..AGENTS.len(), 1..5_u64), 40..80),
        ends in prop::collection::vec(any::<prop::sample::Index>(), 200),
        memory in 1..5_u64,
    ) {
        let capacity = Capacity { sessions: Some(3), memory: Some(5), ..Capacity::default() };
        let mut queue = Queue::new(Setup { capacity, ..Setup::default() });
        let mut running = Vec::new();
        let mut coming = others.into_iter().enumerate().map(|(number, (name, memory))| Ticket { memory, ..super::ticket(number + 1, AGENTS[name]) });
        for ticket in coming.by_ref().take(10) {
            let id = ticket.id.clone();
            if queue.offer(ticket) == Offered::Admitted {
                running.push(id);
            }
        }
        let patient = Ticket { memory, ..super::ticket(0, AGENTS[0]) };
        let Offered::Queued { mut position, .. } = queue.offer(patient) else { return Ok(()) };
        let mut before = position - 1;
        for end in ends {
            let ended = running.swap_remove(end.index(running.len()));
            let moved = queue.ended(&ended);
            for admission in moved.admitted {
                running.push(admission.ticket.id.clone());
                if admission.ticket.id == id(0) {
                    return Ok(());
                }
                prop_assert!(before > 0, "it was overtaken");
                before -= 1;
            }
            for ticket in coming.by_ref().take(2) {
                let id = ticket.id.clone();
                if queue.offer(ticket) == Offered::Admitted {
                    prop_assert!(false, "a new one overtook the queue");
                    running.push(id);
                }
            }
            let now = queue.position(&id(0)).expect("it waits").position;
            prop_assert!(now <= position);
            position = now;
        }
        prop_assert!(false, "it never started");
    }
}
