//! The figures of the service, as JSON and in the OpenMetrics text format.

mod series;

use std::time::Instant;

use serde::Serialize;
use utoipa::ToSchema;

use super::manager::Manager;
use super::meter::{Measured, Reading, Unmeasured};
use crate::session::status::Status;
use crate::store::StoreError;
use crate::usage::HostUsage;

/// The figures of the service. Counts of sessions are of those that the store still holds; tokens and cost are of all sessions
/// that ever ended, and never fall.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// How many sessions have each status.
    pub sessions: Vec<StatusCount>,
    /// How many sessions run, are being started, or are being closed.
    pub running: u64,
    /// How many sessions wait for room.
    pub queued: u64,
    /// What running sessions use together, without those in `unmeasured`.
    pub usage: Total,
    /// What each running session uses.
    pub by_session: Vec<Measured>,
    /// Running sessions that cannot be measured, each with the reason.
    pub unmeasured: Vec<Unmeasured>,
    /// The machine that the service runs on; null if its figures cannot be read.
    pub host: Option<Host>,
    /// The tokens that models read for all sessions that ever ended, also for those that retention has removed.
    pub input_tokens: u64,
    /// The tokens that models wrote for all sessions that ever ended, also for those that retention has removed.
    pub output_tokens: u64,
    /// The cost of all sessions that ever ended in US dollars, as the agents compute it, also of those that retention has removed.
    pub cost_usd: f64,
    /// The memory that the service itself uses, in bytes; null if it cannot be read.
    pub supervisor_memory_bytes: Option<u64>,
    /// The time since the service started, in seconds.
    pub uptime_secs: u64,
}

/// How many sessions have a status.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusCount {
    /// The status.
    pub status: Status,
    /// How many sessions have this status.
    pub count: u64,
}

/// What several sessions use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TotalUsage)]
pub struct Total {
    /// How many sessions are counted here.
    pub sessions: u64,
    /// The use of CPUs in percent, as the average of the last seconds; 100 is one CPU.
    pub cpu_percent: f64,
    /// The memory in use, in bytes.
    pub memory_bytes: u64,
    /// The number of processes and threads.
    pub processes: u64,
}

/// The machine that the service runs on.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// The memory of the machine, in bytes.
    pub memory_total_bytes: u64,
    /// The memory that could be given to programs without swapping, in bytes.
    pub memory_available_bytes: u64,
    /// The number of processors.
    pub cpus: u32,
}

/// Reads the figures.
pub async fn gather(manager: &Manager, started: Instant) -> Result<Metrics, StoreError> {
    let totals = manager.store.totals().await?;
    let reading = manager.usage().await;
    let count = |status: Status| totals.by_status.iter().find(|(found, _)| *found == status).map_or(0, |(_, n)| *n);
    let Reading { measured, unmeasured } = (*reading).clone();
    Ok(Metrics {
        sessions: Status::ALL.into_iter().map(|status| StatusCount { status, count: count(status) }).collect(),
        running: [Status::Provisioning, Status::Running, Status::Closing].into_iter().map(count).sum(),
        queued: count(Status::Queued),
        usage: Total::of(&measured),
        by_session: measured,
        unmeasured,
        host: HostUsage::read().ok().map(|host| Host {
            memory_total_bytes: host.memory_total,
            memory_available_bytes: host.memory_available,
            cpus: host.cpus,
        }),
        input_tokens: totals.input_tokens,
        output_tokens: totals.output_tokens,
        cost_usd: totals.cost_usd,
        supervisor_memory_bytes: resident(),
        uptime_secs: started.elapsed().as_secs(),
    })
}

impl Total {
    /// The sum.
    pub fn of<'a>(sessions: impl IntoIterator<Item = &'a Measured>) -> Self {
        let mut total = Self::default();
        for Measured { usage, .. } in sessions {
            total.sessions += 1;
            total.cpu_percent += usage.cpu_percent.unwrap_or_default();
            total.memory_bytes = total.memory_bytes.saturating_add(usage.memory_bytes.unwrap_or_default());
            total.processes = total.processes.saturating_add(usage.processes.unwrap_or_default());
        }
        total
    }
}

/// Our resident memory: the second field of `/proc/self/statm`, in pages (proc(5)).
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages.saturating_mul(u64::try_from(page).ok()?))
}
