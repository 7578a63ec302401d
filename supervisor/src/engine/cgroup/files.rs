//! The open files of a cgroup, and what is read from them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::place::Places;
use super::{CgroupError, Sample, Throttling, Whose, is_gone, parse};

/// The longest cgroup file that is read: the keyed ones have a few dozen short lines.
const MAX_FILE: usize = 8 * 1024;

#[derive(Debug)]
pub(super) struct Files {
    memory: Option<File>,
    memory_peak: Option<File>,
    oom: Option<File>,
    pids: Option<File>,
    pids_events: Option<File>,
    cpu: CpuFiles,
}

/// `above`: the `cpu.stat` of the cgroup above.
#[derive(Debug)]
enum CpuFiles {
    /// `cpu.stat` has it all, in microseconds.
    V2 { stat: Option<File>, above: Option<File> },
    /// `cpuacct.usage` and `cpu.stat`, in nanoseconds.
    V1 { usage: Option<File>, stat: Option<File>, above: Option<File> },
}

impl Files {
    /// Opens what there is: which files exist depends on the kernel.
    pub(super) fn open(places: &Places) -> Self {
        let open = |folder: &Option<PathBuf>, name: &str| File::open(folder.as_ref()?.join(name)).ok();
        let above = |folder: Option<&Path>| File::open(folder?.parent()?.join("cpu.stat")).ok();
        match places {
            Places::V2(folder) => {
                let above = above(Some(folder));
                let folder = Some(folder.clone());
                Self {
                    memory: open(&folder, "memory.current"),
                    memory_peak: open(&folder, "memory.peak"),
                    oom: open(&folder, "memory.events"),
                    pids: open(&folder, "pids.current"),
                    pids_events: open(&folder, "pids.events"),
                    cpu: CpuFiles::V2 { stat: open(&folder, "cpu.stat"), above },
                }
            }
            Places::V1 { memory, pids, cpu, cpuacct } => Self {
                memory: open(memory, "memory.usage_in_bytes"),
                memory_peak: open(memory, "memory.max_usage_in_bytes"),
                oom: open(memory, "memory.oom_control"),
                pids: open(pids, "pids.current"),
                pids_events: open(pids, "pids.events"),
                cpu: CpuFiles::V1 {
                    usage: open(cpuacct, "cpuacct.usage"),
                    stat: open(cpu, "cpu.stat"),
                    above: above(cpu.as_deref()),
                },
            },
        }
    }

    /// Nothing is there that counts memory or processes.
    pub(super) fn are_none(&self) -> bool {
        self.oom.is_none() && self.pids_events.is_none()
    }

    pub(super) fn sample(&self, whose: &Whose) -> Result<Sample, CgroupError> {
        let text = |file: &Option<File>| file.as_ref().map(|file| text(file, whose)).transpose();
        let number = |file: &Option<File>| Ok(text(file)?.and_then(|text| parse::number(&text)));
        let keyed = |file: &Option<File>, key| Ok(text(file)?.and_then(|text| parse::keyed(&text, key)));
        let stat = |file: &Option<File>| Ok(text(file)?.unwrap_or_default());
        let (cpu, throttling, shared_throttling) = match &self.cpu {
            CpuFiles::V2 { stat: own, above } => {
                let own = stat(own)?;
                let throttled = |stat: &str| throttling(stat, "throttled_usec", Duration::from_micros);
                let cpu = parse::keyed(&own, "usage_usec").map(Duration::from_micros);
                (cpu, throttled(&own), throttled(&stat(above)?))
            }
            CpuFiles::V1 { usage, stat: own, above } => {
                let throttled = |stat: &str| throttling(stat, "throttled_time", Duration::from_nanos);
                let cpu = number(usage)?.map(Duration::from_nanos);
                (cpu, throttled(&stat(own)?), throttled(&stat(above)?))
            }
        };
        Ok(Sample {
            memory: number(&self.memory)?,
            memory_peak: number(&self.memory_peak)?,
            oom_kills: keyed(&self.oom, "oom_kill")?,
            pids: number(&self.pids)?,
            pids_refused: keyed(&self.pids_events, "max")?,
            cpu,
            throttling,
            shared_throttling,
        })
    }
}

fn throttling(stat: &str, key: &str, unit: fn(u64) -> Duration) -> Option<Throttling> {
    Some(Throttling {
        time: unit(parse::keyed(stat, key)?),
        periods: parse::keyed(stat, "nr_throttled")?,
        of: parse::keyed(stat, "nr_periods")?,
    })
}

/// A cgroup file is generated anew by each read from its beginning.
fn text(file: &File, whose: &Whose) -> Result<String, CgroupError> {
    let mut bytes = [0; MAX_FILE];
    match file.read_at(&mut bytes, 0) {
        Ok(count) => Ok(String::from_utf8_lossy(&bytes[..count]).into_owned()),
        Err(error) if is_gone(&error) => Err(CgroupError::Gone { whose: whose.clone() }),
        Err(source) => Err(CgroupError::Unreadable { path: PathBuf::from("an open cgroup file"), source }),
    }
}
