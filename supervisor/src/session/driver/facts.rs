//! What is known of a container besides what it says itself.

use std::path::Path;

use ipc_protocol::exit::RunnerExit;
use tokio::sync::watch;

use crate::engine::ExitInfo;
use crate::engine::cgroup::Probe;
use crate::proxy::NoticeKind;
use crate::session::event::HostEvent;
use crate::session::machine::ExitFacts;

/// Less free space than this is a full disk.
const FULL: u64 = 1 << 20;

/// The container's memory and process counters, read from its cgroup while it runs. Where that cannot be done (an engine
/// in a VM), only what the engine itself reports is known.
#[derive(Debug)]
pub(super) struct Vitals {
    probe: Option<Probe>,
    said: Said,
}

/// What was told already: each once.
#[derive(Debug, Default)]
struct Said {
    out_of_memory: bool,
    pids_exhausted: bool,
}

impl Vitals {
    pub(super) fn new(pid: Option<i32>) -> Self {
        Self { probe: pid.and_then(|pid| Probe::open(pid).ok()), said: Said::default() }
    }

    /// Reads the counters. What is new and bad comes back as warnings.
    pub(super) fn sample(&mut self) -> Vec<HostEvent> {
        let Some(probe) = &mut self.probe else { return Vec::new() };
        // Gone: the last sample is what is known.
        let _ = probe.sample();
        let last = probe.last();
        let mut warnings = Vec::new();
        let mut warn = |said: &mut bool, now: bool, code: &str, message: &str| {
            if now && !std::mem::replace(said, true) {
                warnings.push(HostEvent::HostWarning { code: code.into(), message: message.into() });
            }
        };
        let memory = "the kernel ended a process of the container: it needed more memory than --memory allows";
        warn(&mut self.said.out_of_memory, last.out_of_memory(), "out_of_memory", memory);
        let pids = "the container was refused a process: it has as many as --pids allows";
        warn(&mut self.said.pids_exhausted, last.pids_exhausted(), "pids_exhausted", pids);
        warnings
    }

    pub(super) fn peak_memory(&self) -> Option<u64> {
        self.probe.as_ref().and_then(|probe| probe.last().memory_peak)
    }

    pub(super) fn exit_facts(&self, exit: Option<&ExitInfo>, ipc: &Path) -> ExitFacts {
        let last = self.probe.as_ref().map(Probe::last).unwrap_or_default();
        ExitFacts {
            code: exit.map(|exit| i64::from(exit.code)),
            out_of_memory: exit.is_some_and(|exit| exit.oom_killed) || last.out_of_memory(),
            pids_exhausted: last.pids_exhausted(),
            disk_full: is_full(ipc),
        }
    }
}

/// The container ended in a way that only somebody outside can have caused.
pub(super) fn stopped_from_outside(facts: &ExitFacts) -> bool {
    const KILLED: i64 = 128 + 9;
    let terminated = i64::from(RunnerExit::Terminated.code());
    facts.code.is_none_or(|code| code == KILLED || code == terminated) && !facts.out_of_memory
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

/// A word for programs.
pub(super) fn notice_code(kind: &NoticeKind) -> &'static str {
    match kind {
        NoticeKind::Stranger { .. } => "proxy_stranger",
        NoticeKind::NotCarried { .. } => "proxy_not_carried",
        NoticeKind::CredentialRefused { .. } => "credential_refused",
        NoticeKind::UpstreamUntrusted { .. } => "upstream_untrusted",
        NoticeKind::UpstreamFailed { .. } => "upstream_failed",
        NoticeKind::TooManyConnections { .. } => "proxy_too_many_connections",
        NoticeKind::ReplayExhausted { .. } => "replay_exhausted",
        NoticeKind::ReplayMismatch { .. } => "replay_mismatch",
        NoticeKind::ReplayUnfit { .. } => "replay_unfit",
        NoticeKind::RecordingFailed { .. } => "recording_failed",
    }
}
