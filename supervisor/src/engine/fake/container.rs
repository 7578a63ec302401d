//! One container of the fake.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::engine::output::Tail;
use crate::engine::{
    ContainerId, ContainerInfo, ContainerPhase, ContainerSpec, ContainerSummary, ExitInfo, LimitsUpdate, LogsQuery,
    Output, Signal,
};

#[derive(Debug)]
pub(super) struct FakeContainer {
    pub(super) id: ContainerId,
    pub(super) spec: ContainerSpec,
    pub(super) phase: ContainerPhase,
    pub(super) exit_code: Option<i32>,
    pub(super) oom_killed: bool,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) created_at: Timestamp,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) addresses: BTreeMap<String, Ipv4Addr>,
    /// The image's id at the time of creation.
    pub(super) image: String,
    pub(super) live: Option<Live>,
}

/// What exists only while the script runs.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) signals: mpsc::Sender<Signal>,
    pub(super) task: AbortHandle,
    /// Tells this run from an earlier one of the same container.
    pub(super) run: u64,
}

impl FakeContainer {
    pub(super) fn describe(&self) -> ContainerInfo {
        let live = self.phase.is_live();
        ContainerInfo {
            id: self.id.clone(),
            name: self.spec.name.clone(),
            image: self.image.clone(),
            labels: self.spec.labels.clone(),
            phase: self.phase,
            // A process that is none of the fake's would be worse than none.
            pid: None,
            exit_code: self.exit_code,
            oom_killed: self.oom_killed,
            error: String::new(),
            started_at: self.started_at,
            finished_at: self.finished_at,
            addresses: if live { self.addresses.clone() } else { BTreeMap::new() },
            limits: self.spec.limits.clone(),
            cgroup_parent: self.spec.cgroup_parent.clone(),
        }
    }

    pub(super) fn summary(&self) -> ContainerSummary {
        ContainerSummary {
            id: self.id.clone(),
            name: self.spec.name.clone(),
            image: self.spec.image.clone(),
            labels: self.spec.labels.clone(),
            phase: self.phase,
            created_at: Some(self.created_at),
        }
    }

    /// How it ended, if it did.
    pub(super) fn exit(&self) -> Option<ExitInfo> {
        self.exit_code.map(|code| ExitInfo {
            code,
            oom_killed: self.oom_killed,
            error: String::new(),
            finished_at: self.finished_at,
            engine_was_away: false,
        })
    }

    pub(super) fn logs(&self, query: &LogsQuery) -> Output {
        let read = |wanted: bool, bytes: &[u8]| {
            let mut tail = Tail::new(query.max_bytes);
            if wanted {
                tail.push(last_lines(bytes, query.tail));
            }
            tail.finish()
        };
        let (stdout, cut_out) = read(query.stdout, &self.stdout);
        let (stderr, cut_err) = read(query.stderr, &self.stderr);
        Output { stdout, stderr, truncated: cut_out || cut_err }
    }

    pub(super) fn update(&mut self, update: &LimitsUpdate) {
        let LimitsUpdate { nano_cpus, memory, pids } = update;
        let limits = &mut self.spec.limits;
        limits.nano_cpus = nano_cpus.or(limits.nano_cpus);
        limits.memory = memory.or(limits.memory);
        limits.pids = pids.or(limits.pids);
    }
}

fn last_lines(bytes: &[u8], count: Option<u32>) -> &[u8] {
    let Some(count) = count else { return bytes };
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').rev().take(count as usize);
    let length: usize = lines.map(<[u8]>::len).sum();
    &bytes[bytes.len() - length..]
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn lines_are_counted_from_the_end() {
        assert_eq!(last_lines(b"a\nb\nc", Some(2)), b"b\nc");
        assert_eq!(last_lines(b"a\nb\n", Some(1)), b"b\n");
        assert_eq!(last_lines(b"a\n", Some(9)), b"a\n");
        assert_eq!(last_lines(b"a\n", Some(0)), b"");
    }
}
