//! A bound on how many files the host takes from one session in one second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);

/// Shared by all mailboxes of a session: so many files in each second, the rest waits.
#[derive(Debug)]
pub struct RateLimit {
    per_second: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    taken: u32,
}

impl RateLimit {
    /// Lets `per_second` files through in each second.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, window: Mutex::new(Window { began: Instant::now(), taken: 0 }) }
    }

    /// Takes one; the error is how long to wait for the next.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.saturating_duration_since(window.began);
        if age >= WINDOW {
            *window = Window { began: now, taken: 0 };
        } else if window.taken >= self.per_second {
            return Err(WINDOW - age);
        }
        window.taken += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lets_its_number_through() {
        let rate = RateLimit::new(3);
        let start = Instant::now() + Duration::from_secs(5);
        for _ in 0..3 {
            assert_eq!(rate.take(start), Ok(()));
        }
        assert_eq!(rate.take(start + Duration::from_millis(400)), Err(Duration::from_millis(600)));
        assert_eq!(rate.take(start + Duration::from_secs(1)), Ok(()));
    }
}
