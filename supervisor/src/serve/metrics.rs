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

/// See the module's text. Counts of sessions are of those that the store still holds; tokens and cost are of all sessions that
/// ever ended, and never fall.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Sessions by status.
    pub sessions: Vec<StatusCount>,
    /// Sessions whose agent runs or is being brought up.
    pub running: u64,
    /// Sessions that wait for room.
    pub queued: u64,
    /// What running sessions use together, as far as it is known; see `unmeasured`.
    pub usage: Total,
    /// What each of them uses.
    pub by_session: Vec<Measured>,
    /// Running sessions of which that is not known, with the reason.
    pub unmeasured: Vec<Unmeasured>,
    /// The machine that the service runs on, where it tells.
    pub host: Option<Host>,
    /// Tokens that models read for all sessions that ever ended, also those that retention has removed.
    pub input_tokens: u64,
    /// Tokens that models wrote for all sessions that ever ended, also those that retention has removed.
    pub output_tokens: u64,
    /// US dollars, as the agents reckon, of all sessions that ever ended, also those that retention has removed.
    pub cost_usd: f64,
    /// Bytes of memory that the service itself uses, where known.
    pub supervisor_memory_bytes: Option<u64>,
    /// Seconds since the service started.
    pub uptime_secs: u64,
}

/// How many sessions have a status.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusCount {
    /// The status.
    pub status: &'static str,
    /// How many.
    pub count: u64,
}

/// What several sessions use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Total {
    /// How many are counted here.
    pub sessions: u64,
    /// 100 is one CPU; the average of the last seconds.
    pub cpu_percent: f64,
    /// Bytes of memory in use.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
}

/// The machine.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// Bytes.
    pub memory_total_bytes: u64,
    /// Bytes that could be given to programs without swapping.
    pub memory_available_bytes: u64,
    /// Processors.
    pub cpus: u32,
}

/// Reads the figures.
pub async fn gather(manager: &Manager, started: Instant) -> Result<Metrics, StoreError> {
    let totals = manager.store.totals().await?;
    let reading = manager.usage().await;
    let count = |status: Status| totals.by_status.iter().find(|(found, _)| *found == status).map_or(0, |(_, n)| *n);
    let Reading { measured, unmeasured } = (*reading).clone();
    Ok(Metrics {
        sessions: Status::ALL
            .into_iter()
            .map(|status| StatusCount { status: status.word(), count: count(status) })
            .collect(),
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
