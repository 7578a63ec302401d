//! The rules of the queue, by example; `properties` holds them for any sequence of calls.

mod properties;

use super::*;
use crate::agents::LimitPolicy;

pub(super) fn id(number: usize) -> SessionId {
    format!("{number:012x}").parse().unwrap()
}

pub(super) fn agent(name: &str) -> AgentName {
    name.parse().unwrap()
}

/// A request of one CPU and 1 GiB.
pub(super) fn ticket(number: usize, name: &str) -> Ticket {
    Ticket { id: id(number), agent: agent(name), cpus: MilliCpus(1000), memory: 1 << 30, since: Timestamp::UNIX_EPOCH }
}

fn sessions(count: u32) -> Setup {
    Setup { capacity: Capacity { sessions: Some(count), ..Capacity::default() }, ..Setup::default() }
}

fn limited(name: &str, limits: AgentLimits) -> BTreeMap<AgentName, AgentLimits> {
    BTreeMap::from([(agent(name), limits)])
}

fn containers(count: u32) -> AgentLimits {
    AgentLimits { containers: Some(count), ..AgentLimits::default() }
}

fn ids(admitted: &[Admission]) -> Vec<SessionId> {
    admitted.iter().map(|admission| admission.ticket.id.clone()).collect()
}

/// Offers and expects to be queued there.
fn queued(queue: &mut Queue, ticket: Ticket, at: usize) -> Wait {
    match queue.offer(ticket) {
        Offered::Queued { position, reason } => {
            assert_eq!(position, at);
            reason
        }
        other => panic!("{other:?}"),
    }
}

fn admitted(queue: &mut Queue, ticket: Ticket) {
    assert_eq!(queue.offer(ticket), Offered::Admitted);
}

#[test]
fn who_finds_room_starts_and_who_does_not_waits_with_a_reason() {
    let mut queue = Queue::new(sessions(1));
    admitted(&mut queue, ticket(1, "a"));
    assert_eq!(queued(&mut queue, ticket(2, "a"), 1), Wait::Sessions { running: 1, limit: 1 });
    assert_eq!(queued(&mut queue, ticket(3, "a"), 2), Wait::Turn { ahead: 1 });
    assert_eq!(ids(&queue.ended(&id(1)).admitted), [id(2)]);
    assert_eq!(queue.position(&id(3)).unwrap().position, 1);
    assert_eq!((queue.running(), queue.waiting(), queue.of_agent(&agent("a"))), (1, 1, (1, 1)));
    // Once is enough.
    assert_eq!(queue.ended(&id(1)), Moved::default());
    assert_eq!(queue.offer(ticket(2, "a")), Offered::Rejected { reason: Refusal::Known });
}

#[test]
fn agents_take_turns_whoever_came_first_in_numbers() {
    let mut queue = Queue::new(sessions(1));
    admitted(&mut queue, ticket(0, "a"));
    for number in 1..=4 {
        queued(&mut queue, ticket(number, "a"), number);
    }
    queued(&mut queue, ticket(11, "b"), 2);
    queued(&mut queue, ticket(12, "b"), 4);
    let shown: Vec<SessionId> = queue.positions().iter().map(|waiting| waiting.ticket.id.clone()).collect();
    assert_eq!(shown, [1, 11, 2, 12, 3, 4].map(id));
    let mut started = Vec::new();
    let mut running = id(0);
    while let [next] = &ids(&queue.ended(&running).admitted)[..] {
        started.push(next.clone());
        running = next.clone();
    }
    assert_eq!(started, shown);
}

#[test]
fn an_agents_own_bound_holds_nobody_else_up() {
    let mut queue = Queue::new(Setup { agents: limited("a", containers(1)), ..sessions(3) });
    admitted(&mut queue, ticket(1, "a"));
    let own = Wait::AgentContainers { agent: agent("a"), running: 1, limit: 1 };
    assert_eq!(queued(&mut queue, ticket(2, "a"), 1), own);
    assert_eq!(queue.held_by(), None);
    admitted(&mut queue, ticket(3, "b"));
    admitted(&mut queue, ticket(4, "b"));
    assert_eq!(queued(&mut queue, ticket(5, "b"), 2), Wait::Sessions { running: 3, limit: 3 });
    // Its turn was kept.
    assert_eq!(ids(&queue.ended(&id(1)).admitted), [id(2)]);
    assert_eq!(ids(&queue.set_agent(&agent("a"), Some(containers(5))).admitted), []);
    assert_eq!(ids(&queue.ended(&id(3)).admitted), [id(5)]);
}

#[test]
fn a_large_one_is_not_overtaken_for_ever() {
    let memory = Capacity { memory: Some(4 << 30), ..Capacity::default() };
    let mut queue = Queue::new(Setup { capacity: memory, ..Setup::default() });
    for number in 1..=4 {
        admitted(&mut queue, ticket(number, "small"));
    }
    let large = Ticket { memory: 3 << 30, ..ticket(5, "large") };
    assert_eq!(queued(&mut queue, large, 1), Wait::Memory { taken: 4 << 30, needs: 3 << 30, limit: 4 << 30 });
    queued(&mut queue, ticket(6, "small"), 2);
    for number in 1..=2 {
        assert_eq!(ids(&queue.ended(&id(number)).admitted), []);
    }
    assert_eq!(ids(&queue.ended(&id(3)).admitted), [id(5)]);
    assert_eq!(ids(&queue.ended(&id(4)).admitted), [id(6)]);
    let huge = Ticket { memory: 5 << 30, ..ticket(7, "large") };
    let reason = Refusal::TooLarge { scarce: Scarce::Memory { needs: 5 << 30, limit: 4 << 30 } };
    assert_eq!(queue.offer(huge), Offered::Rejected { reason });
}

#[test]
fn containers_that_share_a_quota_count_with_it() {
    let quota = AgentLimits { cpus: Some(MilliCpus(1500)), ..AgentLimits::default() };
    let capacity = Capacity { cpus: Some(MilliCpus(2000)), ..Capacity::default() };
    let mut queue = Queue::new(Setup { capacity, agents: limited("a", quota), ..Setup::default() });
    for number in 1..=5 {
        admitted(&mut queue, ticket(number, "a"));
    }
    let reason = queued(&mut queue, ticket(6, "b"), 1);
    assert_eq!(reason, Wait::Cpus { taken: 1500, needs: 1000, limit: 2000 });
    // A smaller quota makes room.
    let quota = AgentLimits { cpus: Some(MilliCpus(1000)), ..AgentLimits::default() };
    assert_eq!(ids(&queue.set_agent(&agent("a"), Some(quota)).admitted), [id(6)]);
}

#[test]
fn little_free_memory_is_a_brake_that_a_burst_feels() {
    let capacity = Capacity { headroom: Some(2 << 30), ..Capacity::default() };
    let mut queue = Queue::new(Setup { capacity, ..Setup::default() });
    let _ = queue.set_free_memory(Some(3 << 30));
    admitted(&mut queue, ticket(1, "a"));
    admitted(&mut queue, ticket(2, "a"));
    let reason = queued(&mut queue, ticket(3, "a"), 1);
    assert_eq!(reason, Wait::HostMemory { free: 1 << 30, headroom: 2 << 30 });
    // They took less than they may.
    assert_eq!(ids(&queue.set_free_memory(Some(5 << 29)).admitted), [id(3)]);
    let _ = queue.set_free_memory(None);
    admitted(&mut queue, ticket(4, "a"));
}

#[test]
fn reject_is_told_why_and_bounds_hold() {
    let reject = AgentLimits { policy: LimitPolicy::Reject, ..AgentLimits::default() };
    let agents = BTreeMap::from([(agent("hasty"), reject), (agent("nobody"), containers(0))]);
    let bounds = Bounds { total: 3, agent: 2 };
    let mut queue = Queue::new(Setup { agents, bounds, ..sessions(1) });
    admitted(&mut queue, ticket(1, "hasty"));
    let wait = Wait::Sessions { running: 1, limit: 1 };
    assert_eq!(queue.offer(ticket(2, "hasty")), Offered::Rejected { reason: Refusal::WouldWait { wait } });
    let reason = Refusal::NoContainers { agent: agent("nobody") };
    assert_eq!(queue.offer(ticket(3, "nobody")), Offered::Rejected { reason });
    queued(&mut queue, ticket(4, "a"), 1);
    queued(&mut queue, ticket(5, "a"), 2);
    let reason = Refusal::LineFull { agent: agent("a"), limit: 2 };
    assert_eq!(queue.offer(ticket(6, "a")), Offered::Rejected { reason });
    queued(&mut queue, ticket(7, "b"), 2);
    let reason = Refusal::QueueFull { limit: 3 };
    assert_eq!(queue.offer(ticket(8, "b")), Offered::Rejected { reason });
    assert_eq!(queue.waiting(), 3);
    // Who waits already is kept when the policy of its agent changes, unless it can never run.
    assert_eq!(queue.set_agent(&agent("a"), Some(reject)), Moved::default());
    let moved = queue.set_agent(&agent("a"), Some(containers(0)));
    let rejected: Vec<SessionId> = moved.rejected.iter().map(|(ticket, _)| ticket.id.clone()).collect();
    assert_eq!((rejected, moved.admitted), (vec![id(4), id(5)], vec![]));
}

#[test]
fn who_leaves_makes_room_for_those_behind() {
    let memory = Capacity { memory: Some(2 << 30), ..Capacity::default() };
    let mut queue = Queue::new(Setup { capacity: memory, ..Setup::default() });
    admitted(&mut queue, ticket(1, "a"));
    queued(&mut queue, Ticket { memory: 2 << 30, ..ticket(2, "a") }, 1);
    queued(&mut queue, ticket(3, "b"), 2);
    match queue.cancel(&id(2)) {
        Cancelled::Left { ticket, moved } => assert_eq!((ticket.id, ids(&moved.admitted)), (id(2), vec![id(3)])),
        Cancelled::NotWaiting => panic!("it waited"),
    }
    assert_eq!(queue.cancel(&id(2)), Cancelled::NotWaiting);
    assert_eq!(queue.cancel(&id(1)), Cancelled::NotWaiting);
}

#[test]
fn policy_that_changed_is_asked_again() {
    let mut queue = Queue::new(sessions(1));
    admitted(&mut queue, ticket(1, "a"));
    queued(&mut queue, ticket(2, "a"), 1);
    queue.policy_changed();
    queued(&mut queue, ticket(3, "a"), 2);
    let moved = queue.ended(&id(1));
    assert_eq!((ids(&moved.admitted), moved.admitted[0].judge_again), (vec![id(2)], true));
    // It was refused: its place is free at once.
    let moved = queue.ended(&id(2));
    assert_eq!((ids(&moved.admitted), moved.admitted[0].judge_again), (vec![id(3)], false));
}

#[test]
fn a_restart_keeps_everybody_in_order_and_judges_again() {
    let waiting: Vec<Ticket> = (10..20).map(|number| ticket(number, if number % 2 == 0 { "a" } else { "b" })).collect();
    let setup = Setup { bounds: Bounds { total: 3, agent: 2 }, ..sessions(3) };
    // More run than may: they are taken over, nobody is evicted, nobody is added.
    let running = (1..=4).map(|number| ticket(number, "a"));
    let (mut queue, moved) = Queue::restore(setup.clone(), running, waiting.clone());
    assert_eq!((moved, queue.running(), queue.waiting()), (Moved::default(), 4, 10));
    let shown: Vec<SessionId> = queue.positions().iter().map(|waiting| waiting.ticket.id.clone()).collect();
    assert_eq!(shown, (10..20).map(id).collect::<Vec<_>>());
    assert_eq!(ids(&queue.ended(&id(1)).admitted), []);
    let moved = queue.ended(&id(2));
    assert_eq!((ids(&moved.admitted), moved.admitted[0].judge_again), (vec![id(10)], true));
    // Everything ended while nobody looked: as many start as may. Listed twice, one counts.
    let twice = waiting.iter().chain(&waiting).cloned();
    let (queue, moved) = Queue::restore(setup, [ticket(10, "a")], twice);
    assert_eq!((ids(&moved.admitted), queue.waiting()), (vec![id(11), id(12)], 7));
}

#[test]
fn a_thousand_are_admitted_in_order_each_at_the_same_cost() {
    const WAITING: usize = 1000;
    for agents in [1, 10, WAITING] {
        let bounds = Bounds { total: WAITING, agent: WAITING };
        let mut queue = Queue::new(Setup { bounds, ..sessions(1) });
        admitted(&mut queue, ticket(0, "first"));
        for number in 1..=WAITING {
            let name = format!("agent{}", number % agents);
            queued(&mut queue, ticket(number, &name), number);
        }
        // One look at an offer that starts, one at each that waits.
        assert_eq!(queue.looks, 1 + WAITING as u64);
        for number in 0..WAITING {
            let before = queue.looks;
            assert_eq!(ids(&queue.ended(&id(number)).admitted), [id(number + 1)]);
            assert!(queue.looks - before <= 2, "{agents} agents, {number}: {} looks", queue.looks - before);
        }
    }
}

#[test]
fn agents_at_their_own_bound_cost_nothing() {
    const AGENTS: usize = 1000;
    let bounds = Bounds { total: 2 * AGENTS, agent: AGENTS };
    let mut queue = Queue::new(Setup { bounds, others: containers(1), ..Setup::default() });
    for number in 0..AGENTS {
        let name = format!("agent{number}");
        admitted(&mut queue, ticket(number, &name));
        let reason = queued(&mut queue, ticket(AGENTS + number, &name), number + 1);
        assert!(matches!(reason, Wait::AgentContainers { .. }));
    }
    let before = queue.looks;
    assert_eq!(ids(&queue.ended(&id(700)).admitted), [id(AGENTS + 700)]);
    assert_eq!(queue.looks - before, 1);
}
