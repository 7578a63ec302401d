//! What running sessions use now: one survey of all their containers, shared by everybody who asks within a second.
//!
//! ```text
//!  API, /metrics, aigo ps ─┐
//!  every five seconds ─────┴─► meter ── older than a second? ─► survey ─► cgroup files of each container
//! ```
//!
//! The figures are the kernel's own. Where its files cannot be read (an engine on another machine, in a virtual machine, or
//! without cgroups), that is said, for all or for the one session.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::cgroup::{Sample, Throttling};
use crate::session::SessionId;
use crate::session::launch::Up;
use crate::usage::{self, Survey};

/// How long a survey is good for.
const FRESH: Duration = Duration::from_secs(1);
/// How often one is made even if nobody asks: rates are averages since the one before.
pub(super) const PACE: Duration = Duration::from_secs(5);

/// What the container of a session uses now, by the kernel's counters. A field is absent if this kernel does not count it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ContainerUsage)]
pub struct Usage {
    /// The use of CPUs in percent, as the average of the last seconds; 100 is one CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    /// The CPU time since the container's start in seconds, summed over all CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_secs: Option<f64>,
    /// The memory in use in bytes, page cache included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The most memory that was ever in use, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// The number of processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// How long the container's own CPU quota held it back, in milliseconds, summed over all CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_own_ms: Option<u64>,
    /// How long the CPU quota that all containers of the agent share held them back, in milliseconds, of all of them together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_shared_ms: Option<u64>,
}

/// A running session with the figures of its container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MeasuredSession)]
pub struct Measured {
    /// The id of the session.
    #[schema(value_type = String, pattern = "^[0-9a-f]{12}$")]
    pub id: SessionId,
    /// The agent (principal) that the session is charged to.
    pub agent: String,
    /// What the session's container uses.
    pub usage: Usage,
}

/// A running session whose container cannot be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UnmeasuredSession)]
pub struct Unmeasured {
    /// The id of the session.
    #[schema(value_type = String, pattern = "^[0-9a-f]{12}$")]
    pub id: SessionId,
    /// The agent (principal) that the session is charged to.
    pub agent: String,
    /// Why the container cannot be measured, as a sentence.
    pub reason: String,
}

/// All running sessions at one moment. Read back by clients from the figures of the service, under the same names.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    /// Those whose figures can be read.
    #[serde(rename = "bySession")]
    pub measured: Vec<Measured>,
    /// Those whose figures cannot.
    pub unmeasured: Vec<Unmeasured>,
}

/// A session that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) id: SessionId,
    pub(super) agent: String,
    pub(super) up: Up,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Held while a survey is made: who comes meanwhile gets the same.
    last: tokio::sync::Mutex<Option<(Instant, Arc<Reading>)>>,
    survey: Arc<Mutex<Survey<SessionId>>>,
}

impl Meter {
    /// What `running` use, read at most a second ago. `here` says why no container's files can be read, if so.
    pub(super) async fn read(
        &self,
        running: impl FnOnce() -> Vec<Running>,
        here: impl FnOnce() -> Result<(), String>,
    ) -> Arc<Reading> {
        let mut last = self.last.lock().await;
        if let Some((_, reading)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Arc::clone(reading);
        }
        let (running, here, survey) = (running(), here(), Arc::clone(&self.survey));
        let work = move || take(&mut survey.lock().unwrap_or_else(PoisonError::into_inner), running, &here);
        let reading = Arc::new(match tokio::task::spawn_blocking(work).await {
            Ok(reading) => reading,
            Err(error) => {
                tracing::error!("what sessions use cannot be read: {error}");
                Reading::default()
            }
        });
        *last = Some((Instant::now(), Arc::clone(&reading)));
        reading
    }
}

fn take(survey: &mut Survey<SessionId>, running: Vec<Running>, here: &Result<(), String>) -> Reading {
    let mut reading = Reading::default();
    survey.keep(|id| running.iter().any(|session| session.id == *id));
    let mut reasons = Vec::new();
    for session in &running {
        let Up { container, pid } = &session.up;
        let looked = match (here, pid) {
            _ if survey.has(&session.id) => Ok(()),
            (Err(why), _) => Err(why.clone()),
            (Ok(()), None) => Err("the engine does not tell its processes".to_owned()),
            (Ok(()), Some(pid)) => {
                let watched = survey.watch(session.id.clone(), *pid, container, Instant::now());
                watched.map_err(|error| crate::error_chain::chain(&error))
            }
        };
        reasons.push(looked.err());
    }
    let mut taken = survey.take(Instant::now());
    for (Running { id, agent, .. }, reason) in running.into_iter().zip(reasons) {
        match taken.remove(&id) {
            Some(usage) => reading.measured.push(Measured { id, agent, usage: usage.into() }),
            None => {
                let reason = reason.unwrap_or_else(|| "its container has just ended".to_owned());
                reading.unmeasured.push(Unmeasured { id, agent, reason });
            }
        }
    }
    reading
}

impl From<usage::Usage> for Usage {
    fn from(usage: usage::Usage) -> Self {
        let millis = |throttling: Option<Throttling>| {
            throttling.map(|throttling| u64::try_from(throttling.time.as_millis()).unwrap_or(u64::MAX))
        };
        let Sample { memory, memory_peak, pids, cpu, throttling, .. } = usage.sample;
        Self {
            cpu_percent: usage.cpus.map(|cpus| (cpus * 1000.0).round() / 10.0),
            cpu_secs: cpu.map(|cpu| cpu.as_secs_f64()),
            memory_bytes: memory,
            memory_peak_bytes: memory_peak,
            processes: pids,
            throttled_own_ms: millis(throttling),
            throttled_shared_ms: millis(usage.shared_throttling),
        }
    }
}

impl Reading {
    /// One session's.
    pub fn of(&self, id: &SessionId) -> Option<&Usage> {
        self.measured.iter().find(|measured| measured.id == *id).map(|measured| &measured.usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ContainerId;

    fn running(pid: Option<i32>) -> Running {
        let up = Up { container: ContainerId("0a1b".into()), pid };
        Running { id: SessionId::random(), agent: "default".into(), up }
    }

    async fn reason(pid: Option<i32>, here: Result<(), String>) -> String {
        let reading = Meter::default().read(|| vec![running(pid)], || here).await;
        assert_eq!((reading.measured.len(), reading.unmeasured.len()), (0, 1));
        reading.unmeasured[0].reason.clone()
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_said() {
        let remote = "the engine at tcp://h is on another machine";
        assert_eq!(reason(Some(1), Err(remote.to_owned())).await, remote);
        assert!(reason(None, Ok(())).await.contains("does not tell its processes"));
        assert!(reason(Some(i32::MAX), Ok(())).await.contains("is gone"));
    }

    #[tokio::test]
    async fn who_asks_within_a_second_gets_the_same_survey() {
        let meter = Meter::default();
        let first = meter.read(|| vec![running(None)], || Ok(())).await;
        let again = meter.read(|| panic!("surveyed twice"), || Ok(())).await;
        assert!(Arc::ptr_eq(&first, &again));
    }

    #[test]
    fn figures_carry_their_units() {
        let throttling = |millis| Some(Throttling { time: Duration::from_millis(millis), periods: 1, of: 2 });
        let sample = Sample {
            cpu: Some(Duration::from_millis(1500)),
            memory: Some(7),
            pids: Some(3),
            throttling: throttling(20),
            ..Sample::default()
        };
        let usage = Usage::from(usage::Usage { sample, cpus: Some(0.50049), shared_throttling: throttling(30) });
        let expected = serde_json::json!({
            "cpuPercent": 50.0, "cpuSecs": 1.5, "memoryBytes": 7, "processes": 3, "throttledOwnMs": 20,
            "throttledSharedMs": 30,
        });
        assert_eq!(serde_json::to_value(usage).unwrap(), expected);
    }
}
