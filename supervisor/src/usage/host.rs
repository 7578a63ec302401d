//! The host's own memory and processors, from /proc.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// The host cannot be read: not Linux, or no /proc.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the host's {what} from /proc: {reason}")]
pub struct HostError {
    what: &'static str,
    reason: String,
}

/// The host at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostUsage {
    /// Bytes.
    pub memory_total: u64,
    /// Bytes that could be given to programs without swapping (`MemAvailable`, proc(5)): what the headroom of the
    /// admission queue is measured against.
    pub memory_available: u64,
    /// Processors that work.
    pub cpus: u32,
    /// Time that they were busy since boot, summed; waiting for disks is not busy.
    pub cpu_busy: Duration,
}

impl HostUsage {
    /// Reads it. Blocking, for less than a millisecond.
    ///
    /// # Errors
    /// Where there is no /proc.
    #[cfg(target_os = "linux")]
    pub fn read() -> Result<Self, HostError> {
        use procfs::{Current, CurrentSI};

        let failed = |what| move |error: procfs::ProcError| HostError { what, reason: error.to_string() };
        let memory = procfs::Meminfo::current().map_err(failed("memory"))?;
        let stat = procfs::KernelStats::current().map_err(failed("processors"))?;
        let total = &stat.total;
        // Guests' time is in user and nice already (proc(5)).
        let parts = [Some(total.user), Some(total.nice), Some(total.system), total.irq, total.softirq, total.steal];
        let ticks: u64 = parts.into_iter().flatten().sum();
        Ok(Self {
            memory_total: memory.mem_total,
            memory_available: memory.mem_available.unwrap_or(memory.mem_free),
            cpus: u32::try_from(stat.cpu_time.len()).unwrap_or(u32::MAX),
            cpu_busy: Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64),
        })
    }

    /// Where there is no /proc.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn read() -> Result<Self, HostError> {
        Err(HostError { what: "memory", reason: "this system has none".to_owned() })
    }
}

/// When this machine was booted (`btime` of proc_stat(5), whole seconds); `None` where there is no /proc. Blocking, for
/// less than a millisecond.
#[must_use]
pub fn booted_at() -> Option<Timestamp> {
    #[cfg(target_os = "linux")]
    {
        use procfs::CurrentSI;

        let stat = procfs::KernelStats::current().ok()?;
        Timestamp::from_second(i64::try_from(stat.btime).ok()?).ok()
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_machine_was_booted_before_now() {
        assert!(booted_at().unwrap() < Timestamp::now());
    }

    #[test]
    fn the_host_is_read() {
        let host = HostUsage::read().unwrap();
        assert!(host.memory_available <= host.memory_total && host.memory_total > 64 << 20, "{host:?}");
        assert!(host.cpus > 0 && host.cpu_busy > Duration::ZERO, "{host:?}");
        let later = HostUsage::read().unwrap();
        assert!(later.cpu_busy >= host.cpu_busy);
    }
}
