//! What those who wait were told of their place, and who is to be told again. Pure: time is an argument.
//!
//! Each admission moves everybody behind it, and an event is a write to the disk. So a session is told anew only when its
//! place has changed worth a line, not more often than [`EACH`], and not more than [`AT_ONCE`] sessions at a time, those in
//! front first. What was left out is told later, as it is then.

use std::collections::{HashMap, HashSet};
use std::mem::discriminant;
use std::time::{Duration, Instant};

use crate::admission::{Wait, Waiting};
use crate::session::SessionId;

/// The shortest time between two events for one session.
const EACH: Duration = Duration::from_secs(5);
/// Sessions that are told at a time.
const AT_ONCE: usize = 50;
/// Up to this position every step is told; behind it, each tenth of the way.
const NEAR: usize = 10;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Told {
    last: HashMap<SessionId, Place>,
}

#[derive(Clone, Debug)]
struct Place {
    at: Instant,
    position: usize,
    reason: Wait,
}

/// What one of them is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) id: SessionId,
    pub(super) position: usize,
    pub(super) reason: Wait,
}

impl Told {
    /// It was told this.
    pub(super) fn note(&mut self, now: Instant, News { id, position, reason }: News) {
        self.last.insert(id, Place { at: now, position, reason });
    }

    /// Nobody waits.
    pub(super) fn clear(&mut self) {
        self.last.clear();
    }

    /// Who of those who wait, the next one first, is to be told what; taken for told. One that is seen for the first time was
    /// told when it came, by this service or the one before.
    pub(super) fn due(&mut self, now: Instant, waiting: &[Waiting<'_>]) -> Vec<News> {
        let here: HashSet<&SessionId> = waiting.iter().map(|waiting| &waiting.ticket.id).collect();
        self.last.retain(|id, _| here.contains(id));
        let mut due = Vec::new();
        for Waiting { ticket, position, reason } in waiting {
            let place = Place { at: now, position: *position, reason: reason.clone() };
            let last = self.last.entry(ticket.id.clone()).or_insert_with(|| place.clone());
            let is_time = now.saturating_duration_since(last.at) >= EACH;
            if due.len() < AT_ONCE && is_time && last.differs(&place) {
                *last = place;
                due.push(News { id: ticket.id.clone(), position: *position, reason: reason.clone() });
            }
        }
        due
    }
}

impl Place {
    /// Whether the other is worth a line. The numbers of a reason, such as free memory, change all the time.
    fn differs(&self, other: &Self) -> bool {
        let moved = self.position.abs_diff(other.position);
        let is_near = self.position.min(other.position) <= NEAR;
        discriminant(&self.reason) != discriminant(&other.reason)
            || (moved > 0 && (is_near || moved * NEAR >= self.position))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::admission::Ticket;
    use crate::agents::AgentName;
    use crate::units::MilliCpus;

    fn tickets(count: usize) -> Vec<Ticket> {
        let ticket = |_| Ticket {
            id: SessionId::random(),
            agent: AgentName::default(),
            cpus: MilliCpus(1000),
            memory: 0,
            since: Timestamp::UNIX_EPOCH,
        };
        (0..count).map(ticket).collect()
    }

    fn line(tickets: &[Ticket]) -> Vec<Waiting<'_>> {
        let place = |(ahead, ticket)| Waiting { ticket, position: ahead + 1, reason: Wait::Turn { ahead } };
        tickets.iter().enumerate().map(place).collect()
    }

    #[test]
    fn a_step_near_the_front_is_told_once_and_not_at_once() {
        let (tickets, start) = (tickets(3), Instant::now());
        let mut told = Told::default();
        assert_eq!(told.due(start, &line(&tickets)), []);
        assert_eq!(told.due(start + EACH / 2, &line(&tickets[1..])), [], "too early");
        let due = told.due(start + EACH, &line(&tickets[1..]));
        assert_eq!(due.iter().map(|news| news.position).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(told.due(start + EACH * 3, &line(&tickets[1..])), [], "nothing has changed");
        let mut waits = line(&tickets[1..2]);
        waits[0].reason = Wait::Sessions { running: 2, limit: 2 };
        assert_eq!(told.due(start + EACH * 3, &waits).len(), 1, "another reason");
        waits[0].reason = Wait::Sessions { running: 3, limit: 3 };
        assert_eq!(told.due(start + EACH * 6, &waits), [], "other numbers");
    }

    #[test]
    fn a_thousand_are_not_told_of_each_admission() {
        let (tickets, start) = (tickets(1000), Instant::now());
        let mut told = Told::default();
        told.due(start, &line(&tickets));
        let (mut events, mut most, seconds) = (0, 0, 900);
        for second in 1..=seconds {
            // One a second leaves the queue.
            let due = told.due(start + Duration::from_secs(second as u64), &line(&tickets[second..]));
            events += due.len();
            most = most.max(due.len());
        }
        assert!(most <= AT_ONCE, "{most}");
        // Of 1,000 moves a second.
        assert!(events < 30 * seconds, "{events} events in {seconds} s");
        assert_eq!(told.last.len(), 100, "those who left are forgotten");
        let off = line(&tickets[seconds..])
            .iter()
            .filter(|now| {
                let last = &told.last[&now.ticket.id];
                last.position.abs_diff(now.position) * 2 > now.position.max(NEAR)
            })
            .count();
        assert_eq!(off, 0, "nobody was told something that is far from the truth");
    }
}
