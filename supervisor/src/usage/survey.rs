//! All containers at once.
//!
//! Files are opened for each survey and closed again: kept open they would be seven descriptors a container, and 1,024 is
//! all that a process gets by default.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::ContainerId;
use crate::engine::cgroup::{CgroupError, Layout, Places, Sample, Throttling, Whose, sample_once};

/// A rate over less than this is noise: the kernel adds processor time up once a tick, which may be 10 ms (time(7)).
const SHORTEST: Duration = Duration::from_millis(200);

/// What one container uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    pub sample: Sample,
    /// CPUs in use on average since the survey before, or since the container is looked at; `None` if that was just now.
    pub cpus: Option<f64>,
    /// How the quota of the cgroup above held back all that is in it since this container is looked at.
    pub shared_throttling: Option<Throttling>,
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
    /// When the rate was last told, and the processor time then.
    last: Option<(Instant, Duration)>,
    cpus: Option<f64>,
    /// As the quota above had held back when we began.
    shared_before: Throttling,
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

    /// Looks at the container of this first process from `now` on. Do it soon after the start, as for a
    /// [`Probe`](crate::engine::cgroup::Probe). Blocking, for less than a millisecond.
    ///
    /// # Errors
    /// [`CgroupError::Gone`] if the process has ended, [`CgroupError::Shared`] if its cgroup is not the container's own: the
    /// engine is another one's, or has no cgroups.
    pub fn watch(&mut self, key: K, pid: i32, container: &ContainerId, now: Instant) -> Result<(), CgroupError> {
        let whose = Whose::Process(pid);
        let path = Layout::cpu_path_of(pid)?;
        // Every engine names a container's cgroup after its id.
        if !path.contains(&container.0) {
            return Err(CgroupError::Shared { whose, path });
        }
        let places = Layout::of_this_machine()?.of_process(pid)?;
        let first = sample_once(&places, &whose)?;
        let last = first.cpu.map(|cpu| (now, cpu));
        let shared_before = first.shared_throttling.unwrap_or_default();
        self.watched.insert(key, Watched { places, whose, last, cpus: None, shared_before });
        Ok(())
    }

    /// Whether it is looked at.
    #[must_use]
    pub fn has(&self, key: &K) -> bool {
        self.watched.contains_key(key)
    }

    /// Looks only at these any more.
    pub fn keep(&mut self, wanted: impl Fn(&K) -> bool) {
        self.watched.retain(|key, _| wanted(key));
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
            Err(CgroupError::Unreadable { .. } | CgroupError::NotFound { .. } | CgroupError::Shared { .. }) => true,
        });
        taken
    }
}

impl Watched {
    fn usage(&mut self, sample: Sample, now: Instant) -> Usage {
        if let (Some(cpu), Some((then, earlier))) = (sample.cpu, self.last) {
            let elapsed = now.saturating_duration_since(then);
            if elapsed >= SHORTEST {
                self.cpus = Some(cpu.saturating_sub(earlier).as_secs_f64() / elapsed.as_secs_f64());
                self.last = Some((now, cpu));
            }
        }
        let shared_throttling = sample.shared_throttling.map(|throttling| throttling.since(self.shared_before));
        Usage { sample, cpus: self.cpus, shared_throttling }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(last: Option<(Instant, Duration)>) -> Watched {
        let shared_before = Throttling { time: Duration::from_secs(9), periods: 90, of: 100 };
        Watched { places: Places::V2("/nowhere".into()), whose: Whose::Process(1), last, cpus: None, shared_before }
    }

    #[test]
    fn the_rate_is_what_was_used_between_two_surveys() {
        let start = Instant::now();
        let mut watched = watched(Some((start, Duration::from_millis(100))));
        let mut at = |millis: u64, cpu: u64| {
            let sample = Sample { cpu: Some(Duration::from_millis(cpu)), ..Sample::default() };
            watched.usage(sample, start + Duration::from_millis(millis)).cpus
        };
        assert_eq!(at(100, 150), None, "too short to tell");
        assert_eq!(at(2000, 1100), Some(0.5));
        assert_eq!(at(2001, 1200), Some(0.5), "the last that was told");
        assert_eq!(at(3000, 1100), Some(0.0));
    }

    #[test]
    fn a_shared_quota_counts_from_when_the_container_is_looked_at() {
        let after = Throttling { time: Duration::from_secs(10), periods: 95, of: 110 };
        let sample = Sample { shared_throttling: Some(after), ..Sample::default() };
        let usage = watched(None).usage(sample, Instant::now());
        let since = Throttling { time: Duration::from_secs(1), periods: 5, of: 10 };
        assert_eq!((usage.shared_throttling, usage.cpus), (Some(since), None));
    }

    #[test]
    fn those_that_are_gone_are_forgotten() {
        let mut survey = Survey::new();
        survey.watched.insert("gone", watched(None));
        let (id, now) = (ContainerId("0a1b".into()), Instant::now());
        assert!(matches!(survey.watch("never", i32::MAX, &id, now), Err(CgroupError::Gone { .. })));
        assert!(survey.has(&"gone") && survey.len() == 1);
        assert!(survey.take(now).is_empty());
        assert!(survey.is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_cgroup_of_somebody_elses_is_not_taken_for_the_containers() {
        let mut survey = Survey::new();
        let own = i32::try_from(std::process::id()).unwrap();
        let watched = survey.watch("me", own, &ContainerId("f00d".repeat(16)), Instant::now());
        assert!(matches!(watched, Err(CgroupError::Shared { .. })), "{watched:?}");
        assert!(survey.is_empty());
    }
}
