//! What is known of a container besides what it says itself.

use std::path::Path;
use std::time::Duration;

use ipc_protocol::exit::RunnerExit;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::ExitInfo;
use crate::engine::cgroup::{Probe, Throttling};
use crate::session::event::{HostEvent, Throttled};
use crate::session::machine::{ExitFacts, Rise};

/// Less free space than this is a full disk.
const FULL: u64 = 1 << 20;

/// A counter that rose within this time before the end may have caused it.
const LATELY: Duration = Duration::from_secs(10);

/// The container's memory and process counters, read from its cgroup while it runs. Where that cannot be done (an engine
/// in a VM), only what the engine itself reports is known.
#[derive(Debug)]
pub(super) struct Vitals {
    probe: Option<Probe>,
    oom_kills: Counter,
    pids_refused: Counter,
}

/// A counter of bad things that have happened since the container's start.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    count: u64,
    rose: Option<Instant>,
}

/// The counters' values.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    oom_kills: u64,
    pids_refused: u64,
}

impl Counter {
    /// Whether it has risen for the first time.
    fn update(&mut self, now: Instant, count: Option<u64>) -> bool {
        let count = count.unwrap_or_default();
        if count <= self.count {
            return false;
        }
        self.count = count;
        self.rose.replace(now).is_none()
    }

    fn rise(&self, end: Instant) -> Rise {
        match self.rose {
            None => Rise::Never,
            Some(rose) if end.saturating_duration_since(rose) <= LATELY => Rise::Lately,
            Some(_) => Rise::Earlier,
        }
    }
}

impl Vitals {
    pub(super) fn new(pid: Option<i32>) -> Self {
        let probe = pid.and_then(|pid| Probe::open(pid).ok());
        Self { probe, oom_kills: Counter::default(), pids_refused: Counter::default() }
    }

    /// Goes on with what another process had read: what it has told is not told again.
    pub(super) fn resume(pid: Option<i32>, counts: Counts) -> Self {
        let counter = |count| Counter { count, rose: None };
        Self { oom_kills: counter(counts.oom_kills), pids_refused: counter(counts.pids_refused), ..Self::new(pid) }
    }

    /// What was read last.
    pub(super) fn counts(&self) -> Counts {
        Counts { oom_kills: self.oom_kills.count, pids_refused: self.pids_refused.count }
    }

    /// Reads the counters. What is new and bad comes back as warnings, each once.
    pub(super) fn sample(&mut self) -> Vec<HostEvent> {
        let Some(probe) = &mut self.probe else { return Vec::new() };
        // Gone: the last sample is what is known.
        let _ = probe.sample();
        let (last, now) = (probe.last(), Instant::now());
        let mut warnings = Vec::new();
        let mut warn = |code: &str, message: &str| {
            warnings.push(HostEvent::HostWarning { code: code.into(), message: message.into() });
        };
        if self.oom_kills.update(now, last.oom_kills) {
            warn(
                "out_of_memory",
                "the kernel ended a process of the container: it needed more memory than --memory allows",
            );
        }
        if self.pids_refused.update(now, last.pids_refused) {
            warn("pids_exhausted", "the container was refused a process: it has as many as --pids allows");
        }
        warnings
    }

    pub(super) fn peak_memory(&self) -> Option<u64> {
        self.probe.as_ref().and_then(|probe| probe.last().memory_peak)
    }

    /// How long quotas held the container back; `None` if they did not.
    pub(super) fn throttled(&self) -> Option<Throttled> {
        let probe = self.probe.as_ref()?;
        let millis = |throttling: Option<Throttling>| {
            throttling.map_or(0, |throttling| u64::try_from(throttling.time.as_millis()).unwrap_or(u64::MAX))
        };
        let throttled =
            Throttled { own_ms: millis(probe.last().throttling), shared_ms: millis(probe.shared_throttling()) };
        (throttled != Throttled::default()).then_some(throttled)
    }

    /// What is known of a container that ended at `end`.
    pub(super) fn exit_facts(&self, exit: Option<&ExitInfo>, end: Instant, ipc: &Path) -> ExitFacts {
        let told = exit.is_some_and(|exit| exit.oom_killed);
        let out_of_memory = match self.oom_kills.rise(end) {
            // The engine knows more than our last sample: it happened after it. Without samples nobody knows when.
            Rise::Never if told && self.probe.is_some() => Rise::Lately,
            Rise::Never if told => Rise::Earlier,
            rise => rise,
        };
        ExitFacts {
            code: exit.map(|exit| i64::from(exit.code)),
            out_of_memory,
            pids_exhausted: self.pids_refused.rise(end),
            disk_full: is_full(ipc),
        }
    }
}

/// The container ended in a way that only somebody outside can have caused.
pub(super) fn stopped_from_outside(facts: &ExitFacts) -> bool {
    const KILLED: i64 = 128 + 9;
    let terminated = i64::from(RunnerExit::Terminated.code());
    let codes = [KILLED, terminated, i64::from(ExitInfo::NOBODY_SAW)];
    facts.code.is_none_or(|code| codes.contains(&code)) && facts.out_of_memory != Rise::Lately
}

/// The container ended with its engine, or with the whole machine, which was booted after that.
pub(super) fn ended_with_engine(exit: &ExitInfo, booted: Option<Timestamp>) -> bool {
    let before_boot = exit.finished_at.zip(booted).is_some_and(|(end, booted)| end < booted);
    exit.engine_was_away || before_boot || exit.code == ExitInfo::NOBODY_SAW
}

fn is_full(path: &Path) -> bool {
    nix::sys::statvfs::statvfs(path).is_ok_and(|stat| {
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        free < FULL
    })
}

/// The next number of model requests in flight; never, if there is no proxy.
pub(super) async fn changed(in_flight: &mut Option<watch::Receiver<usize>>) -> usize {
    if let Some(receiver) = in_flight {
        if receiver.changed().await.is_ok() {
            return *receiver.borrow_and_update();
        }
        // The proxy is gone, and with it what it carried.
        *in_flight = None;
        return 0;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_knows_when_it_rose() {
        let (mut counter, start) = (Counter::default(), Instant::now());
        assert!(!counter.update(start, None) && !counter.update(start, Some(0)));
        assert_eq!(counter.rise(start), Rise::Never);
        assert!(counter.update(start, Some(1)), "the first is told");
        assert!(!counter.update(start + Duration::from_secs(60), Some(1)));
        assert_eq!(counter.rise(start + LATELY), Rise::Lately);
        assert_eq!(counter.rise(start + LATELY + Duration::from_secs(1)), Rise::Earlier);
        assert!(!counter.update(start + Duration::from_secs(90), Some(2)));
        assert_eq!(counter.rise(start + Duration::from_secs(95)), Rise::Lately, "it rose again");
    }

    #[test]
    fn what_ended_before_the_machine_was_booted_ended_with_it() {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let exit = |code, finished_at| ExitInfo {
            code,
            oom_killed: false,
            error: String::new(),
            finished_at,
            engine_was_away: false,
        };
        assert!(ended_with_engine(&exit(143, at(5)), at(6)));
        assert!(!ended_with_engine(&exit(143, at(6)), at(5)));
        assert!(!ended_with_engine(&exit(143, at(5)), None) && !ended_with_engine(&exit(143, None), at(5)));
        assert!(ended_with_engine(&exit(255, at(6)), at(5)));
        assert!(ended_with_engine(&ExitInfo { engine_was_away: true, ..exit(137, at(6)) }, at(5)));
    }

    #[test]
    fn an_engine_that_knows_of_a_kill_is_believed() {
        let info = |oom_killed| ExitInfo {
            code: 1,
            oom_killed,
            error: String::new(),
            finished_at: None,
            engine_was_away: false,
        };
        let facts =
            |vitals: &Vitals, oom| vitals.exit_facts(Some(&info(oom)), Instant::now(), Path::new("/")).out_of_memory;
        let without = Vitals::new(None);
        assert_eq!((facts(&without, false), facts(&without, true)), (Rise::Never, Rise::Earlier));
    }
}
