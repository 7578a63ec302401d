//! All containers at once.
//!
//! Files are opened for each survey and closed again: kept open they would be seven descriptors a container, and 1,024 is
//! all that a process gets by default.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::cgroup::{CgroupError, Layout, Places, Sample, Whose, sample_once};

/// What one container uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    pub sample: Sample,
    /// CPUs in use on average since the survey before; `None` in the first one.
    pub cpus: Option<f64>,
}

/// The containers that are looked at, each under a key of the caller's.
#[derive(Debug)]
pub struct Survey<K> {
    watched: BTreeMap<K, Watched>,
}

#[derive(Debug)]
struct Watched {
    places: Places,
    whose: Whose,
    last: Option<(Instant, Duration)>,
}

impl<K> Default for Survey<K> {
    fn default() -> Self {
        Self { watched: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Survey<K> {
    /// Of nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the container of this first process from now on. Do it soon after the start, as for a
    /// [`Probe`](crate::engine::cgroup::Probe).
    ///
    /// # Errors
    /// [`CgroupError::Gone`] if the process has ended.
    pub fn watch(&mut self, key: K, pid: i32) -> Result<(), CgroupError> {
        let places = Layout::of_this_machine()?.of_process(pid)?;
        self.watched.insert(key, Watched { places, whose: Whose::Process(pid), last: None });
        Ok(())
    }

    /// Does not look at it any more.
    pub fn forget(&mut self, key: &K) {
        self.watched.remove(key);
    }

    /// How many are looked at.
    #[must_use]
    pub fn len(&self) -> usize {
        self.watched.len()
    }

    /// Whether nobody is looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Reads all of them. Those that are gone are left out, and forgotten. Blocking: some tens of microseconds for each.
    pub fn take(&mut self, now: Instant) -> BTreeMap<K, Usage> {
        let mut taken = BTreeMap::new();
        self.watched.retain(|key, watched| match sample_once(&watched.places, &watched.whose) {
            Ok(sample) => {
                taken.insert(key.clone(), watched.usage(sample, now));
                true
            }
            Err(CgroupError::Gone { .. }) => false,
            // It may be readable the next time.
            Err(CgroupError::Unreadable { .. } | CgroupError::NotFound { .. }) => true,
        });
        taken
    }
}

impl Watched {
    fn usage(&mut self, sample: Sample, now: Instant) -> Usage {
        let before = self.last;
        self.last = sample.cpu.map(|cpu| (now, cpu));
        let cpus = before.zip(sample.cpu).and_then(|((then, earlier), cpu)| {
            let elapsed = now.saturating_duration_since(then).as_secs_f64();
            (elapsed > 0.0).then(|| cpu.saturating_sub(earlier).as_secs_f64() / elapsed)
        });
        Usage { sample, cpus }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_what_was_used_between_two_surveys() {
        let mut watched = Watched { places: Places::V2("/x".into()), whose: Whose::Process(1), last: None };
        let start = Instant::now();
        let mut at = |seconds: u64, cpu: u64| {
            let sample = Sample { cpu: Some(Duration::from_millis(cpu)), ..Sample::default() };
            watched.usage(sample, start + Duration::from_secs(seconds)).cpus
        };
        assert_eq!(at(0, 100), None);
        assert_eq!(at(2, 1100), Some(0.5));
        assert_eq!(at(2, 1200), None);
        assert_eq!(at(3, 1200), Some(0.0));
    }

    #[test]
    fn those_that_are_gone_are_forgotten() {
        let mut survey = Survey::new();
        let gone = Watched { places: Places::V2("/nowhere".into()), whose: Whose::Process(1), last: None };
        survey.watched.insert("gone", gone);
        assert!(matches!(survey.watch("never", i32::MAX), Err(CgroupError::Gone { .. })));
        assert_eq!(survey.len(), 1);
        assert!(survey.take(Instant::now()).is_empty());
        assert!(survey.is_empty());
    }
}
