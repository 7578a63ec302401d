//! The figures in the OpenMetrics text format (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
//!
//! A series is kept by whoever collects it long after its session has ended, so their number is bounded: the sessions and
//! agents that use most memory have series of their own, and how many have none is a figure, too.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::{Measured, Metrics, StatusCount, Total};

/// Sessions with series of their own, and agents likewise.
const LABELLED: usize = 250;

type Seconds<L> = Family<L, Counter<f64, AtomicU64>>;
type Figure<L> = Family<L, Gauge<f64, AtomicU64>>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfStatus {
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfSession {
    session: String,
    agent: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfAgent {
    agent: String,
}

impl Metrics {
    /// See the module's text.
    pub fn open_metrics(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("aigo");
        let sessions = Family::<OfStatus, Gauge>::default();
        for StatusCount { status, count } in &self.sessions {
            sessions.get_or_create(&OfStatus { status: status.word() }).set(whole(*count));
        }
        registry.register("sessions", "Sessions in the store by status", sessions);
        registry.register(
            "input_tokens",
            "Tokens that models read for all sessions that ever ended",
            ConstCounter::new(self.input_tokens),
        );
        registry.register(
            "output_tokens",
            "Tokens that models wrote for all sessions that ever ended",
            ConstCounter::new(self.output_tokens),
        );
        registry.register(
            "cost_usd",
            "US dollars, as agents reckon, of all sessions that ever ended",
            ConstCounter::new(self.cost_usd),
        );
        registry.register_with_unit(
            "uptime",
            "Time since the service started",
            Unit::Seconds,
            ConstGauge::new(whole(self.uptime_secs)),
        );
        if let Some(bytes) = self.supervisor_memory_bytes {
            let gauge = ConstGauge::new(whole(bytes));
            registry.register_with_unit("resident_memory", "Memory of the service itself", Unit::Bytes, gauge);
        }
        if let Some(host) = self.host {
            let gauge = ConstGauge::new(whole(host.memory_available_bytes));
            registry.register_with_unit("host_memory_available", "Free memory of the host", Unit::Bytes, gauge);
        }
        let unlabelled = self.by_session.len().saturating_sub(LABELLED);
        registry.register(
            "sessions_unlabelled",
            "Running sessions without series of their own: only those that use most memory have some",
            ConstGauge::new(whole(unlabelled as u64)),
        );
        registry.register(
            "sessions_unmeasured",
            "Running sessions whose CPU time and memory cannot be read here",
            ConstGauge::new(whole(self.unmeasured.len() as u64)),
        );
        self.of_sessions(&mut registry);
        self.of_agents(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    fn of_sessions(&self, registry: &mut Registry) {
        let (cpu, throttled) = (Seconds::default(), Seconds::default());
        let (memory, processes) = (Figure::default(), Figure::default());
        let most = most(self.by_session.iter().collect(), |measured| measured.usage.memory_bytes.unwrap_or_default());
        for Measured { id, agent, usage } in most {
            let label = OfSession { session: id.to_string(), agent: agent.clone() };
            if let Some(secs) = usage.cpu_secs {
                cpu.get_or_create(&label).inc_by(secs);
            }
            if let Some(millis) = usage.throttled_own_ms {
                throttled.get_or_create(&label).inc_by(millis as f64 / 1000.0);
            }
            if let Some(bytes) = usage.memory_bytes {
                memory.get_or_create(&label).set(bytes as f64);
            }
            if let Some(count) = usage.processes {
                processes.get_or_create(&label).set(count as f64);
            }
        }
        registry.register_with_unit("session_cpu", "CPU time of a running session", Unit::Seconds, cpu);
        let help = "How long, summed over CPUs, its own CPU quota held a running session back";
        registry.register_with_unit("session_throttled", help, Unit::Seconds, throttled);
        registry.register_with_unit("session_memory", "Memory of a running session", Unit::Bytes, memory);
        registry.register("session_processes", "Processes and threads of a running session", processes);
    }

    fn of_agents(&self, registry: &mut Registry) {
        let mut by_agent: BTreeMap<&str, Vec<&Measured>> = BTreeMap::new();
        for measured in &self.by_session {
            by_agent.entry(&measured.agent).or_default().push(measured);
        }
        let totals: Vec<(&str, Total)> =
            by_agent.into_iter().map(|(agent, sessions)| (agent, Total::of(sessions))).collect();
        let (sessions, cpus) = (Figure::default(), Figure::default());
        let (memory, processes) = (Figure::default(), Figure::default());
        for (agent, total) in most(totals, |(_, total)| total.memory_bytes) {
            let label = OfAgent { agent: agent.to_owned() };
            sessions.get_or_create(&label).set(total.sessions as f64);
            cpus.get_or_create(&label).set(total.cpu_percent / 100.0);
            memory.get_or_create(&label).set(total.memory_bytes as f64);
            processes.get_or_create(&label).set(total.processes as f64);
        }
        registry.register("agent_sessions", "Running sessions of an agent whose figures are known", sessions);
        registry.register("agent_cpus", "CPUs that an agent's sessions use, averaged over seconds", cpus);
        registry.register_with_unit("agent_memory", "Memory of an agent's sessions", Unit::Bytes, memory);
        registry.register("agent_processes", "Processes and threads of an agent's sessions", processes);
    }
}

/// Those with series of their own.
fn most<T>(mut all: Vec<T>, memory: impl Fn(&T) -> u64) -> Vec<T> {
    all.sort_by_key(|one| Reverse(memory(one)));
    all.truncate(LABELLED);
    all
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Unmeasured;
    use super::*;
    use crate::serve::meter::Usage;
    use crate::session::SessionId;
    use crate::session::status::Status;

    fn measured(agent: &str, memory: u64) -> Measured {
        let usage = Usage {
            cpu_percent: Some(50.0),
            cpu_secs: Some(1.5),
            memory_bytes: Some(memory),
            processes: Some(2),
            throttled_own_ms: Some(250),
            ..Usage::default()
        };
        Measured { id: SessionId::random(), agent: agent.into(), usage }
    }

    fn metrics(by_session: Vec<Measured>) -> Metrics {
        let unmeasured =
            vec![Unmeasured { id: SessionId::random(), agent: "default".into(), reason: "a reason".into() }];
        Metrics {
            sessions: vec![StatusCount { status: Status::Running, count: 3 }],
            running: 3,
            queued: 0,
            usage: Total::of(&by_session),
            by_session,
            unmeasured,
            host: None,
            input_tokens: 10,
            output_tokens: 20,
            cost_usd: 0.5,
            supervisor_memory_bytes: Some(4096),
            uptime_secs: 7,
        }
    }

    #[test]
    fn the_text_names_each_figure_with_its_unit() {
        let metrics = metrics(vec![measured("one", 100), measured("one", 50), measured("two", 7)]);
        let text = metrics.open_metrics().unwrap();
        let first = &metrics.by_session[0].id;
        for line in [
            "aigo_sessions{status=\"running\"} 3",
            "aigo_input_tokens_total 10",
            "aigo_cost_usd_total 0.5",
            "aigo_uptime_seconds 7",
            "# TYPE aigo_resident_memory_bytes gauge",
            &format!("aigo_session_cpu_seconds_total{{session=\"{first}\",agent=\"one\"}} 1.5"),
            &format!("aigo_session_throttled_seconds_total{{session=\"{first}\",agent=\"one\"}} 0.25"),
            &format!("aigo_session_memory_bytes{{session=\"{first}\",agent=\"one\"}} 100"),
            "aigo_agent_memory_bytes{agent=\"one\"} 150",
            "aigo_agent_cpus{agent=\"one\"} 1.0",
            "aigo_agent_sessions{agent=\"two\"} 1",
            "aigo_sessions_unmeasured 1",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let total = Total { sessions: 3, cpu_percent: 150.0, memory_bytes: 157, processes: 6 };
        assert_eq!(metrics.usage, total);
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let many: Vec<Measured> = (0..1000).map(|number| measured(&format!("agent-{number}"), number)).collect();
        let last = many[999].id.clone();
        let text = metrics(many).open_metrics().unwrap();
        let series = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!(series("aigo_session_memory_bytes{"), LABELLED);
        assert_eq!(series("aigo_agent_cpus{"), LABELLED);
        assert!(text.contains("aigo_sessions_unlabelled 750") && text.contains(last.as_str()), "{text}");
    }
}
