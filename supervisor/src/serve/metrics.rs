//! The figures of the service, as JSON and in the OpenMetrics text format.

use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;
use utoipa::ToSchema;

use super::manager::Manager;
use crate::session::status::Status;
use crate::store::StoreError;

/// See the module's text. Counts are of the sessions that the store still holds.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Sessions by status.
    pub sessions: Vec<StatusCount>,
    /// Sessions whose agent runs or is being brought up.
    pub running: u64,
    /// Sessions that wait for room.
    pub queued: u64,
    /// Tokens that models read for ended sessions.
    pub input_tokens: u64,
    /// Tokens that models wrote for ended sessions.
    pub output_tokens: u64,
    /// US dollars, as the agents reckon, of ended sessions.
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

/// Reads the figures.
pub async fn gather(manager: &Manager, started: Instant) -> Result<Metrics, StoreError> {
    let totals = manager.store.totals().await?;
    let count = |status: Status| totals.by_status.iter().find(|(found, _)| *found == status).map_or(0, |(_, n)| *n);
    Ok(Metrics {
        sessions: Status::ALL
            .into_iter()
            .map(|status| StatusCount { status: status.word(), count: count(status) })
            .collect(),
        running: [Status::Provisioning, Status::Running, Status::Closing].into_iter().map(count).sum(),
        queued: count(Status::Queued),
        input_tokens: totals.input_tokens,
        output_tokens: totals.output_tokens,
        cost_usd: totals.cost_usd,
        supervisor_memory_bytes: resident(),
        uptime_secs: started.elapsed().as_secs(),
    })
}

/// Our resident memory: the second field of `/proc/self/statm`, in pages (proc(5)).
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages.saturating_mul(u64::try_from(page).ok()?))
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfStatus {
    status: &'static str,
}

impl Metrics {
    /// The OpenMetrics text format (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
    pub fn open_metrics(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("aigo");
        let sessions = Family::<OfStatus, Gauge>::default();
        for StatusCount { status, count } in &self.sessions {
            sessions.get_or_create(&OfStatus { status }).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        registry.register("sessions", "Sessions in the store by status", sessions);
        registry.register(
            "input_tokens",
            "Tokens that models read for ended sessions",
            ConstCounter::new(self.input_tokens),
        );
        registry.register(
            "output_tokens",
            "Tokens that models wrote for ended sessions",
            ConstCounter::new(self.output_tokens),
        );
        registry.register(
            "cost_usd",
            "US dollars, as agents reckon, of ended sessions",
            ConstCounter::new(self.cost_usd),
        );
        registry.register_with_unit(
            "uptime",
            "Time since the service started",
            Unit::Seconds,
            ConstGauge::new(i64::try_from(self.uptime_secs).unwrap_or(i64::MAX)),
        );
        if let Some(bytes) = self.supervisor_memory_bytes {
            let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
            registry.register_with_unit("resident_memory", "Memory of the service itself", Unit::Bytes, gauge);
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_each_figure_with_its_unit() {
        let metrics = Metrics {
            sessions: vec![StatusCount { status: "running", count: 3 }],
            running: 3,
            queued: 0,
            input_tokens: 10,
            output_tokens: 20,
            cost_usd: 0.5,
            supervisor_memory_bytes: resident(),
            uptime_secs: 7,
        };
        let text = metrics.open_metrics().unwrap();
        for line in [
            "aigo_sessions{status=\"running\"} 3",
            "aigo_input_tokens_total 10",
            "aigo_cost_usd_total 0.5",
            "aigo_uptime_seconds 7",
            "# TYPE aigo_resident_memory_bytes gauge",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
