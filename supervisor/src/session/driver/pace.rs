//! How often the driver looks at what the container wrote.
//!
//! A look costs us more than the file event that causes it costs the container, which can make thousands a second. So the
//! first wakes lead to a look at once, and as long as looks find nothing and wakes go on, the pauses grow. Whatever is found
//! ends that: a message that comes by itself is never kept waiting.

use std::time::Duration;

use tokio::time::Instant;

/// Looks without a find that are free: a heartbeat and a few temporary files.
const FREE: u32 = 4;
/// The first pause; each further one is twice as long.
const FIRST_GAP: Duration = Duration::from_millis(5);
/// The longest pause: ten looks a second.
const LONGEST_GAP: Duration = Duration::from_millis(100);
/// Looks that are further apart than this are no flood.
const QUIET: Duration = Duration::from_millis(200);
/// Nothing was found for so long: nothing happens in the session.
const CALM: Duration = Duration::from_secs(5);

/// When to look next.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Looks in quick succession that found nothing.
    empty: u32,
    last: Option<Instant>,
    /// The last look that brought something, or else the first look.
    found: Option<Instant>,
    due: Option<Instant>,
    announced: bool,
}

/// What a look has brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    /// Anything new.
    pub(super) found: bool,
    /// More is waiting: look again after this time.
    pub(super) again: Option<Duration>,
}

impl Look {
    pub(super) fn and(self, other: Self) -> Self {
        let again = [self.again, other.again].into_iter().flatten().min();
        Self { found: self.found || other.found, again }
    }
}

impl Pace {
    /// When a look is due, if that is known.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// A look is due for a wake that has come; more of them say nothing new.
    pub(super) fn is_announced(&self) -> bool {
        self.announced
    }

    /// Something may have changed.
    pub(super) fn announce(&mut self, now: Instant) {
        self.announced = true;
        let earliest = self.last.map_or(now, |last| now.max(last + self.gap()));
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    /// A look was taken.
    pub(super) fn looked(&mut self, now: Instant, look: Look) {
        let quick = self.last.is_some_and(|last| now.duration_since(last) < QUIET);
        self.empty = if look.found || !quick { 0 } else { self.empty.saturating_add(1) };
        self.last = Some(now);
        if look.found || self.found.is_none() {
            self.found = Some(now);
        }
        self.announced = false;
        self.due = look.again.map(|wait| now + wait);
    }

    /// Whether nothing has happened for some time.
    pub(super) fn is_calm(&self, now: Instant) -> bool {
        self.found.is_some_and(|found| now.duration_since(found) >= CALM)
    }

    fn gap(&self) -> Duration {
        match self.empty.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(doublings) => LONGEST_GAP.min(FIRST_GAP.saturating_mul(2_u32.saturating_pow(doublings))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Wakes come all the time; how many looks they lead to within a second.
    fn flood(pace: &mut Pace, from: Instant, found: bool) -> u32 {
        let mut looks = 0;
        for now in (0..1000).map(|ms| from + MS(ms)) {
            pace.announce(now);
            if pace.due().is_some_and(|due| due <= now) {
                pace.looked(now, Look { found, again: None });
                looks += 1;
            }
        }
        looks
    }

    #[test]
    fn a_flood_that_brings_nothing_costs_ten_looks_a_second() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert!(flood(&mut pace, start, false) < 25);
        assert_eq!(flood(&mut pace, start + MS(1000), false), 10);
        // What brings something is looked at each time.
        assert!(flood(&mut pace, start + MS(2000), true) > 900);
    }

    #[test]
    fn a_single_wake_is_answered_at_once_also_after_a_flood() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.announce(start);
        assert_eq!(pace.due(), Some(start));
        flood(&mut pace, start, false);
        // The driver looks by itself meanwhile, and finds nothing either.
        let mut now = start + MS(1000);
        for _ in 0..3 {
            now += MS(500);
            pace.looked(now, Look::default());
        }
        now += MS(1);
        pace.announce(now);
        assert_eq!(pace.due(), Some(now));
    }

    #[test]
    fn a_session_is_calm_some_seconds_after_its_last_word() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert!(!pace.is_calm(start + CALM), "nobody has looked yet");
        pace.looked(start, Look::default());
        assert!(!pace.is_calm(start) && pace.is_calm(start + CALM));
        pace.looked(start + CALM, Look { found: true, again: None });
        pace.looked(start + CALM + MS(1), Look::default());
        assert!(!pace.is_calm(start + CALM + MS(1)) && pace.is_calm(start + CALM * 2));
    }

    #[test]
    fn a_look_that_was_asked_for_again_is_not_put_off() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        flood(&mut pace, start, false);
        let now = start + MS(1000);
        pace.looked(now, Look { found: false, again: Some(MS(1)) });
        pace.announce(now);
        assert_eq!(pace.due(), Some(now + MS(1)));
    }
}
