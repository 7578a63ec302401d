//! What the kernel counts for one container, read from its cgroup: memory, processor time, kills for want of memory,
//! processes that were refused.
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

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod parse;
mod place;

use place::{Layout, Places};

/// The longest cgroup file that is read: the keyed ones have a few dozen short lines.
const MAX_FILE: usize = 8 * 1024;

/// A cgroup that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The process or its cgroup is gone: the container has ended.
    #[error("the cgroup of process {pid} is gone")]
    Gone { pid: i32 },
    #[error("cannot read {path}", path = .path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("process {pid} is in no cgroup that counts memory or processes, as far as this machine's mounts show")]
    NotFound { pid: i32 },
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
    /// Time for which the container was held back by its CPU quota.
    pub throttled: Option<Duration>,
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

/// The open files of one container's cgroup.
#[derive(Debug)]
pub struct Probe {
    pid: i32,
    files: Files,
    last: Sample,
}

#[derive(Debug)]
struct Files {
    memory: Option<File>,
    memory_peak: Option<File>,
    oom: Option<File>,
    pids: Option<File>,
    pids_events: Option<File>,
    cpu: Option<CpuFiles>,
}

#[derive(Debug)]
enum CpuFiles {
    /// `cpu.stat` has it all, in microseconds.
    V2(File),
    /// `cpuacct.usage` and the `throttled_time` of `cpu.stat`, in nanoseconds.
    V1 { usage: Option<File>, stat: Option<File> },
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
        let read = |path: PathBuf| match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text),
            Err(error) if is_gone(&error) => Err(CgroupError::Gone { pid }),
            Err(source) => Err(CgroupError::Unreadable { path, source }),
        };
        let memberships = parse::memberships(&read(proc.join(pid.to_string()).join("cgroup"))?);
        let layout = Layout::new(&read(proc.join("self/mountinfo"))?);
        let places = layout.places(&memberships);
        let files = Files::open(&places);
        if files.oom.is_none() && files.pids_events.is_none() {
            return Err(CgroupError::NotFound { pid });
        }
        let mut probe = Self { pid, files, last: Sample::default() };
        probe.sample()?;
        Ok(probe)
    }

    /// Reads every figure anew.
    ///
    /// # Errors
    /// [`CgroupError::Gone`] after the container's end; [`Probe::last`] then has what was read before.
    pub fn sample(&mut self) -> Result<Sample, CgroupError> {
        let files = &self.files;
        let (cpu, throttled) = match &files.cpu {
            None => (None, None),
            Some(CpuFiles::V2(stat)) => {
                let text = self.text(stat)?;
                let micros = |key| parse::keyed(&text, key).map(Duration::from_micros);
                (micros("usage_usec"), micros("throttled_usec"))
            }
            Some(CpuFiles::V1 { usage, stat }) => (
                self.number(usage.as_ref())?.map(Duration::from_nanos),
                self.keyed(stat.as_ref(), "throttled_time")?.map(Duration::from_nanos),
            ),
        };
        self.last = Sample {
            memory: self.number(files.memory.as_ref())?,
            memory_peak: self.number(files.memory_peak.as_ref())?,
            oom_kills: self.keyed(files.oom.as_ref(), "oom_kill")?,
            pids: self.number(files.pids.as_ref())?,
            pids_refused: self.keyed(files.pids_events.as_ref(), "max")?,
            cpu,
            throttled,
        };
        Ok(self.last)
    }

    /// The last sample that could be read.
    #[must_use]
    pub fn last(&self) -> Sample {
        self.last
    }

    fn number(&self, file: Option<&File>) -> Result<Option<u64>, CgroupError> {
        file.map(|file| self.text(file)).transpose().map(|text| text.and_then(|text| parse::number(&text)))
    }

    fn keyed(&self, file: Option<&File>, key: &str) -> Result<Option<u64>, CgroupError> {
        file.map(|file| self.text(file)).transpose().map(|text| text.and_then(|text| parse::keyed(&text, key)))
    }

    /// A cgroup file is generated anew by each read from its beginning.
    fn text(&self, file: &File) -> Result<String, CgroupError> {
        let mut bytes = [0; MAX_FILE];
        match file.read_at(&mut bytes, 0) {
            Ok(count) => Ok(String::from_utf8_lossy(&bytes[..count]).into_owned()),
            Err(error) if is_gone(&error) => Err(CgroupError::Gone { pid: self.pid }),
            Err(source) => Err(CgroupError::Unreadable { path: PathBuf::from("an open cgroup file"), source }),
        }
    }
}

impl Files {
    /// Opens what there is: which files exist depends on the kernel.
    fn open(places: &Places) -> Self {
        let open = |folder: &Option<PathBuf>, name: &str| File::open(folder.as_ref()?.join(name)).ok();
        match places {
            Places::V2(folder) => {
                let folder = Some(folder.clone());
                Self {
                    memory: open(&folder, "memory.current"),
                    memory_peak: open(&folder, "memory.peak"),
                    oom: open(&folder, "memory.events"),
                    pids: open(&folder, "pids.current"),
                    pids_events: open(&folder, "pids.events"),
                    cpu: open(&folder, "cpu.stat").map(CpuFiles::V2),
                }
            }
            Places::V1 { memory, pids, cpu, cpuacct } => Self {
                memory: open(memory, "memory.usage_in_bytes"),
                memory_peak: open(memory, "memory.max_usage_in_bytes"),
                oom: open(memory, "memory.oom_control"),
                pids: open(pids, "pids.current"),
                pids_events: open(pids, "pids.events"),
                cpu: Some(CpuFiles::V1 { usage: open(cpuacct, "cpuacct.usage"), stat: open(cpu, "cpu.stat") }),
            },
        }
    }
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
                (&file("cpu.stat"), "usage_usec 1500\nuser_usec 1000\nnr_throttled 2\nthrottled_usec 250\n"),
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
                throttled: Some(Duration::from_micros(250)),
            }
        );
        assert!(sample.out_of_memory() && sample.pids_exhausted());
        std::fs::write(folder.path().join(file("pids.events")), "max 6\n").unwrap();
        assert_eq!(probe.sample().unwrap().pids_refused, Some(6));
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
        assert_eq!(
            (sample.cpu, sample.throttled),
            (Some(Duration::from_micros(1500)), Some(Duration::from_micros(250)))
        );
        assert!(!sample.out_of_memory() && !sample.pids_exhausted());
    }

    #[test]
    fn what_is_gone_is_said_so() {
        assert!(matches!(Probe::open(i32::MAX), Err(CgroupError::Gone { pid: i32::MAX })));
        let (_folder, probe) = machine(&[], "0::/x\n", "35 24 0:30 / ROOT/cg rw - cgroup2 cgroup2 rw\n");
        assert!(matches!(probe, Err(CgroupError::NotFound { pid: 42 })));
    }
}
