//! Agents' cgroups of our own making, for engines with the cgroupfs driver, by cgroups-rs.
//!
//! Only the CPU controller is set here: the others are the engine's, for each container. cgroups-rs would also remove
//! what is below a cgroup, so removing is a plain rmdir(2): the kernel refuses it atomically while anything is inside.

use std::io;
use std::path::Path;

use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::{Cgroup, hierarchies};
use nix::errno::Errno;

use super::error::AgentError;
use super::{AgentName, place, quota};
use crate::engine::cgroup::Layout;
use crate::units::MilliCpus;

const CONTROLLER: &str = "cpu";

/// Makes the cgroup if it is missing and writes its quota. Blocking, for some microseconds.
pub(super) fn hold(agent: &AgentName, path: &str, cpus: Option<MilliCpus>) -> Result<(), AgentError> {
    let refused = |source| AgentError::Cgroup { agent: agent.clone(), path: path.to_owned(), source };
    let below_root = path.trim_start_matches('/');
    let controllers = Some(vec![CONTROLLER.to_owned()]);
    let group = Cgroup::new_with_specified_controllers(hierarchies::auto(), below_root, controllers)
        .map_err(|error| refused(error.into()))?;
    let cpu: &CpuController = group.controller_of().ok_or_else(|| refused("it has no CPU controller".into()))?;
    let wanted = quota::micros(cpus);
    let write = || {
        // Written only where it differs: a period that shrinks under a quota would be refused.
        if cpu.cfs_period()? != quota::PERIOD {
            cpu.set_cfs_period(quota::PERIOD)?;
        }
        cpu.set_cfs_quota(wanted)?;
        cpu.cfs_quota()
    };
    let found = write().map_err(|error| refused(error.into()))?;
    // cgroups-rs reads v2's `max` as the largest number.
    let same = found == wanted || (wanted < 0 && (found < 0 || found == i64::MAX));
    if same {
        return Ok(());
    }
    let tell = |micros: i64| format!("{micros} of {} µs", quota::PERIOD);
    Err(AgentError::NotTaken { agent: agent.clone(), path: path.to_owned(), wanted: tell(wanted), found: tell(found) })
}

/// The agents of an instance that have a cgroup.
pub(super) fn list(instance: &str) -> Result<Vec<AgentName>, AgentError> {
    let Some(folder) = Layout::of_this_machine()?.at(&place::folder(instance)).cpu() else { return Ok(Vec::new()) };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Removes an agent's cgroup in each hierarchy, unless something is in it: false then.
pub(super) fn remove(instance: &str, path: &str) -> Result<bool, AgentError> {
    let layout = Layout::of_this_machine()?;
    // The CPU controller's first: what holds something in any hierarchy holds it there, too.
    let mut folders: Vec<_> = layout.at(path).cpu().into_iter().collect();
    folders.extend(layout.everywhere(path).into_iter().filter(|folder| Some(folder) != layout.at(path).cpu().as_ref()));
    for folder in folders {
        if !rmdir(&folder)? {
            return Ok(false);
        }
    }
    // Those above, unless others are in them.
    for above in [place::folder(instance), format!("/{}", place::OURS)] {
        for folder in layout.everywhere(&above) {
            rmdir(&folder)?;
        }
    }
    Ok(true)
}

fn rmdir(folder: &Path) -> Result<bool, AgentError> {
    match std::fs::remove_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(source) => Err(AgentError::Remove { path: folder.to_owned(), source }),
    }
}
