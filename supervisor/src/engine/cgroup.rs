//! What the kernel counts for one container, read from its cgroup: memory, processor time and throttling, kills for want of
//! memory, processes that were refused. The same for a cgroup by its path, which holds several containers.
//!
//! What can be known, and when:
//! - The engine removes a container's cgroup within milliseconds of its end, and an open file of a removed cgroup
//!   answers ENODEV. Counters must therefore be read **while the container lives**: a [`Probe`] keeps the files open, so
//!   that a sample is a handful of `pread` calls, and remembers its last sample for the time after the end. Sample
//!   regularly, on every engine event of the container, and before every signal that may end it.
//! - A first process that is killed for memory takes its cgroup with it before anybody can look; that case the engine
//!   reports itself (`oom_killed`, exit code 137). The counters are for the others: a child that was killed while the
//!   first process went on.
//! - What happens between the last sample and the end is lost from here. A first process that wants to be exact reads
//!   its own `/sys/fs/cgroup` files before it exits and reports them.
//! - cgroup v2's `memory.events` covers cgroups below the container's own (cgroup-v2.rst); v1's `memory.oom_control` is of
//!   the one cgroup only, as is `pids.events` on v1 and on v2 before Linux 6.11.
//!
//! Open a probe soon after the start: a container that manages cgroups of its own (containers inside) moves its first
//! process further down, and the probe would see only that part.
//!
//! Only where the engine runs on this very kernel is a container's pid ours; behind a VM there is nothing to open.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod files;
mod parse;
mod place;

use crate::units::format_duration;
use files::Files;
pub(crate) use place::{Layout, Places};

/// A cgroup that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The process or the cgroup is gone: the container has ended.
    #[error("the cgroup of {whose} is gone")]
    Gone { whose: Whose },
    #[error("cannot read {path}", path = .path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{whose} is in no cgroup that counts memory or processes, as far as this machine's mounts show")]
    NotFound { whose: Whose },
    /// Its figures would be those of others, too: an engine without cgroups leaves containers in its own.
    #[error("{whose} is in the cgroup {path}, which is not its container's own")]
    Shared { whose: Whose, path: String },
}

/// Whose cgroup it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// A process.
    Process(i32),
    /// Nobody's in particular: a path in the hierarchies.
    Path(String),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

/// Figures at one moment, since the container's start. `None`: this kernel or engine does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Bytes in use, page cache included.
    pub memory: Option<u64>,
    /// The most bytes ever in use (v2: since Linux 5.19).
    pub memory_peak: Option<u64>,
    /// Processes killed by the kernel because the container's memory limit was reached.
    pub oom_kills: Option<u64>,
    /// Processes and threads that exist.
    pub pids: Option<u64>,
    /// Forks and new threads refused because the pids limit was reached.
    pub pids_refused: Option<u64>,
    /// Processor time used, over all processors.
    pub cpu: Option<Duration>,
    /// How the CPU quota of this very cgroup held it back. What a quota further up does is counted there.
    pub throttling: Option<Throttling>,
    /// The same of the cgroup above, all that is in it together, since it was made: an agent's containers share its quota.
    pub shared_throttling: Option<Throttling>,
}

/// How a CPU quota held processes back (cgroup-v2.rst, sched-bwc.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Throttling {
    /// How long, summed over processors.
    pub time: Duration,
    /// In how many periods of the quota (100 ms each, unless set otherwise).
    pub periods: u64,
    /// Of how many in which there was something to do.
    pub of: u64,
}

impl Throttling {
    /// What was added since `earlier`, of the same cgroup.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            time: self.time.saturating_sub(earlier.time),
            periods: self.periods.saturating_sub(earlier.periods),
            of: self.of.saturating_sub(earlier.of),
        }
    }

    /// Whether anything was held back.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.periods > 0
    }
}

impl fmt::Display for Throttling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "held back by the CPU quota for {} ({} of {} periods)",
            format_duration(self.time),
            self.periods,
            self.of
        )
    }
}

impl Sample {
    /// Whether a process of the container was killed for want of memory.
    #[must_use]
    pub fn out_of_memory(&self) -> bool {
        self.oom_kills.is_some_and(|count| count > 0)
    }

    /// Whether the container was refused a process.
    #[must_use]
    pub fn pids_exhausted(&self) -> bool {
        self.pids_refused.is_some_and(|count| count > 0)
    }
}

/// The open files of one cgroup: eight descriptors.
#[derive(Debug)]
pub struct Probe {
    whose: Whose,
    files: Files,
    first: Sample,
    last: Sample,
}

impl Probe {
    /// Opens the cgroup of a container's first process and takes a first sample. Blocking, for some microseconds.
    ///
    /// # Errors
    /// [`CgroupError::Gone`] if the process ended meanwhile.
    pub fn open(pid: i32) -> Result<Self, CgroupError> {
        Self::open_under(Path::new("/proc"), pid)
    }

    fn open_under(proc: &Path, pid: i32) -> Result<Self, CgroupError> {
        let places = Layout::read(proc)?.places_of(proc, pid)?;
        let whose = Whose::Process(pid);
        Self::begin(&places, whose.clone())?.ok_or(CgroupError::NotFound { whose })
    }

    /// Opens the cgroup of this path, as it is in each hierarchy; `None` if there is none.
    pub(crate) fn open_at(path: &str) -> Result<Option<Self>, CgroupError> {
        let layout = Layout::of_this_machine()?;
        Self::begin(&layout.at(path), Whose::Path(path.to_owned()))
    }

    fn begin(places: &Places, whose: Whose) -> Result<Option<Self>, CgroupError> {
        let files = Files::open(places);
        if files.are_none() {
            return Ok(None);
        }
        let last = files.sample(&whose)?;
        Ok(Some(Self { whose, files, first: last, last }))
    }

    /// Reads every figure anew.
    ///
    /// # Errors
    /// [`CgroupError::Gone`] after the container's end; [`Probe::last`] then has what was read before.
    pub fn sample(&mut self) -> Result<Sample, CgroupError> {
        self.last = self.files.sample(&self.whose)?;
        Ok(self.last)
    }

    /// The last sample that could be read.
    #[must_use]
    pub fn last(&self) -> Sample {
        self.last
    }

    /// How the quota that is shared with others in the cgroup above held all of them back since this was opened.
    #[must_use]
    pub fn shared_throttling(&self) -> Option<Throttling> {
        Some(self.last.shared_throttling?.since(self.first.shared_throttling.unwrap_or_default()))
    }
}

/// Reads a cgroup's figures without keeping its files open.
///
/// # Errors
/// [`CgroupError::Gone`] if it is gone.
pub(crate) fn sample_once(places: &Places, whose: &Whose) -> Result<Sample, CgroupError> {
    let files = Files::open(places);
    if files.are_none() {
        return Err(CgroupError::Gone { whose: whose.clone() });
    }
    files.sample(whose)
}

/// ENODEV: the cgroup was removed under an open file; ESRCH and ENOENT: the process went while /proc was read.
fn is_gone(error: &io::Error) -> bool {
    let gone = [nix::errno::Errno::ENODEV, nix::errno::Errno::ESRCH, nix::errno::Errno::ENOENT];
    error.raw_os_error().is_some_and(|code| gone.contains(&nix::errno::Errno::from_raw(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A /proc of one process, and cgroup files, in a folder.
    fn machine(files: &[(&str, &str)], cgroup: &str, mounts: &str) -> (tempfile::TempDir, Result<Probe, CgroupError>) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/42/cgroup", cgroup);
        write("proc/self/mountinfo", &mounts.replace("ROOT", &root.display().to_string()));
        for (path, text) in files {
            write(path, text);
        }
        let probe = Probe::open_under(&root.join("proc"), 42);
        (folder, probe)
    }

    #[test]
    fn v2_is_read() {
        let group = "cg/system.slice/docker-0a.scope";
        let file = |name: &str| format!("{group}/{name}");
        let (folder, probe) = machine(
            &[
                (&file("memory.current"), "4096\n"),
                (&file("memory.peak"), "8192\n"),
                (&file("memory.events"), "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n"),
                (&file("pids.current"), "3\n"),
                (&file("pids.events"), "max 5\n"),
                ("cg/system.slice/cpu.stat", "usage_usec 9\nnr_periods 5\nnr_throttled 4\nthrottled_usec 900\n"),
                (
                    &file("cpu.stat"),
                    "usage_usec 1500\nuser_usec 1000\nnr_periods 9\nnr_throttled 2\nthrottled_usec 250\n",
                ),
            ],
            "0::/system.slice/docker-0a.scope\n",
            "35 24 0:30 / ROOT/cg rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        let mut probe = probe.unwrap();
        let sample = probe.last();
        assert_eq!(
            sample,
            Sample {
                memory: Some(4096),
                memory_peak: Some(8192),
                oom_kills: Some(1),
                pids: Some(3),
                pids_refused: Some(5),
                cpu: Some(Duration::from_micros(1500)),
                throttling: Some(Throttling { time: Duration::from_micros(250), periods: 2, of: 9 }),
                shared_throttling: Some(Throttling { time: Duration::from_micros(900), periods: 4, of: 5 }),
            }
        );
        assert!(sample.out_of_memory() && sample.pids_exhausted());
        std::fs::write(folder.path().join(file("pids.events")), "max 6\n").unwrap();
        assert_eq!(probe.sample().unwrap().pids_refused, Some(6));
        assert_eq!(probe.shared_throttling(), Some(Throttling::default()));
        let more = "usage_usec 9\nnr_periods 8\nnr_throttled 5\nthrottled_usec 1100\n";
        std::fs::write(folder.path().join("cg/system.slice/cpu.stat"), more).unwrap();
        probe.sample().unwrap();
        let since = Throttling { time: Duration::from_micros(200), periods: 1, of: 3 };
        assert_eq!(probe.shared_throttling(), Some(since));
    }

    #[test]
    fn v1_beside_an_empty_v2_is_read() {
        let (_folder, probe) = machine(
            &[
                ("memory/docker/0a/memory.usage_in_bytes", "4096\n"),
                ("memory/docker/0a/memory.max_usage_in_bytes", "8192\n"),
                ("memory/docker/0a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"),
                ("pids/docker/0a/pids.current", "3\n"),
                ("pids/docker/0a/pids.events", "max 0\n"),
                ("cpu/docker/0a/cpuacct.usage", "1500000\n"),
                ("cpu/docker/0a/cpu.stat", "nr_periods 9\nnr_throttled 2\nthrottled_time 250000\n"),
            ],
            "8:pids:/docker/0a\n4:memory:/docker/0a\n2:cpu,cpuacct:/docker/0a\n1:name=systemd:/docker/0a\n0::/\n",
            "31 23 0:28 / ROOT rw - tmpfs tmpfs rw,mode=755\n\
             32 31 0:29 / ROOT/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / ROOT/memory rw - cgroup cgroup rw,memory\n\
             39 31 0:36 / ROOT/pids rw - cgroup cgroup rw,pids\n\
             41 31 0:38 / ROOT/unified rw - cgroup2 cgroup2 rw\n",
        );
        let sample = probe.unwrap().last();
        assert_eq!((sample.memory, sample.memory_peak), (Some(4096), Some(8192)));
        assert_eq!((sample.oom_kills, sample.pids_refused), (Some(0), Some(0)));
        let throttling = Throttling { time: Duration::from_micros(250), periods: 2, of: 9 };
        assert_eq!((sample.cpu, sample.throttling), (Some(Duration::from_micros(1500)), Some(throttling)));
        assert!(!sample.out_of_memory() && !sample.pids_exhausted());
    }

    #[test]
    fn what_is_gone_is_said_so() {
        assert!(matches!(Probe::open(i32::MAX), Err(CgroupError::Gone { whose: Whose::Process(i32::MAX) })));
        let (_folder, probe) = machine(&[], "0::/x\n", "35 24 0:30 / ROOT/cg rw - cgroup2 cgroup2 rw\n");
        assert!(matches!(probe, Err(CgroupError::NotFound { whose: Whose::Process(42) })));
    }

    #[test]
    fn throttling_is_told_for_a_span() {
        let throttling = |millis, periods, of| Throttling { time: Duration::from_millis(millis), periods, of };
        let span = throttling(3300, 31, 50).since(throttling(100, 1, 10));
        assert_eq!(span, throttling(3200, 30, 40));
        assert!(span.is_any() && !span.since(span).is_any());
        assert_eq!(span.to_string(), "held back by the CPU quota for 3.2s (30 of 40 periods)");
    }
}
