//! Where in the file system a process's cgroups are: v1 hierarchies by controller, or the one of v2. A machine may mount
//! both; the controllers are then where v1 has them.

use std::path::{Path, PathBuf};

use super::parse::{self, Membership, Mount};
use super::{CgroupError, Whose, is_gone};

const PROC: &str = "/proc";

/// The cgroup mounts of this machine.
#[derive(Debug)]
pub(crate) struct Layout {
    mounts: Vec<Mount>,
}

/// The folders of one cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Places {
    V1 { memory: Option<PathBuf>, pids: Option<PathBuf>, cpu: Option<PathBuf>, cpuacct: Option<PathBuf> },
    V2(PathBuf),
}

impl Places {
    /// The folder with the CPU controller's files.
    pub(crate) fn cpu(&self) -> Option<PathBuf> {
        match self {
            Self::V1 { cpu, .. } => cpu.clone(),
            Self::V2(folder) => Some(folder.clone()),
        }
    }
}

impl Layout {
    /// Reads the mounts of this machine.
    pub(crate) fn of_this_machine() -> Result<Self, CgroupError> {
        Self::read(Path::new(PROC))
    }

    pub(super) fn read(proc: &Path) -> Result<Self, CgroupError> {
        let path = proc.join("self/mountinfo");
        match std::fs::read_to_string(&path) {
            Ok(mountinfo) => Ok(Self::new(&mountinfo)),
            Err(source) => Err(CgroupError::Unreadable { path, source }),
        }
    }

    fn new(mountinfo: &str) -> Self {
        Self { mounts: parse::mounts(mountinfo) }
    }

    /// Where a process is.
    pub(super) fn places_of(&self, proc: &Path, pid: i32) -> Result<Places, CgroupError> {
        Ok(self.places(&memberships(proc, pid)?))
    }

    /// As [`Layout::places_of`], of a process of this machine.
    pub(crate) fn of_process(&self, pid: i32) -> Result<Places, CgroupError> {
        self.places_of(Path::new(PROC), pid)
    }

    /// The path of a process's cgroup in the hierarchy with the CPU controller.
    pub(crate) fn cpu_path_of(pid: i32) -> Result<String, CgroupError> {
        let memberships = memberships(Path::new(PROC), pid)?;
        let v1 = memberships.iter().find(|membership| membership.controllers.iter().any(|name| name == "cpu"));
        let v2 = memberships.iter().find(|membership| membership.controllers.is_empty());
        let found = v1.or(v2).ok_or(CgroupError::NotFound { whose: Whose::Process(pid) })?;
        Ok(found.path.clone())
    }

    /// The cgroup of the same path in each hierarchy.
    pub(crate) fn at(&self, path: &str) -> Places {
        let all = self.mounts.iter().map(|mount| Membership {
            controllers: mount.controllers.clone().unwrap_or_default(),
            path: path.to_owned(),
        });
        self.places(&all.collect::<Vec<_>>())
    }

    /// The folders of this path in all hierarchies, whatever they control.
    pub(crate) fn everywhere(&self, path: &str) -> Vec<PathBuf> {
        self.mounts.iter().map(|mount| folder(mount, path)).collect()
    }

    /// Whether a cgroup has processes or cgroups below it, in any hierarchy.
    pub(crate) fn is_populated(&self, path: &str) -> bool {
        self.everywhere(path).iter().any(|folder| {
            let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let below = entries.any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            below || std::fs::read_to_string(folder.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty())
        })
    }

    fn places(&self, memberships: &[Membership]) -> Places {
        let v1 = |controller: &str| {
            let has = |names: &[String]| names.iter().any(|name| name == controller);
            let membership = memberships.iter().find(|membership| has(&membership.controllers))?;
            let mount = self.mounts.iter().find(|mount| mount.controllers.as_deref().is_some_and(has))?;
            Some(folder(mount, &membership.path))
        };
        let (memory, pids) = (v1("memory"), v1("pids"));
        let v2 = memberships
            .iter()
            .find(|membership| membership.controllers.is_empty())
            .zip(self.mounts.iter().find(|mount| mount.controllers.is_none()))
            .map(|(membership, mount)| folder(mount, &membership.path));
        match v2 {
            Some(folder) if memory.is_none() && pids.is_none() => Places::V2(folder),
            Some(_) | None => Places::V1 { memory, pids, cpu: v1("cpu"), cpuacct: v1("cpuacct") },
        }
    }
}

fn memberships(proc: &Path, pid: i32) -> Result<Vec<Membership>, CgroupError> {
    let path = proc.join(pid.to_string()).join("cgroup");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(parse::memberships(&text)),
        Err(error) if is_gone(&error) => Err(CgroupError::Gone { whose: Whose::Process(pid) }),
        Err(source) => Err(CgroupError::Unreadable { path, source }),
    }
}

/// A cgroup's path below its mount point, which may show only a part of the hierarchy.
fn folder(mount: &Mount, path: &str) -> PathBuf {
    let below = Path::new(path).strip_prefix(&mount.root).unwrap_or(Path::new(path));
    let below = below.strip_prefix("/").unwrap_or(below);
    Path::new(&mount.point).join(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_mount_is_understood() {
        let layout = Layout::new("35 24 0:30 /user.slice /mnt/cg rw - cgroup2 cgroup2 rw\n");
        let inside = layout.places(&parse::memberships("0::/user.slice/a\n"));
        assert_eq!(inside, Places::V2("/mnt/cg/a".into()));
    }

    #[test]
    fn v1_wins_where_it_has_the_controllers() {
        let layout = Layout::new(
            "35 31 0:32 / /c/memory rw - cgroup cgroup rw,memory\n41 31 0:38 / /c/unified rw - cgroup2 cgroup2 rw\n",
        );
        let places = layout.places(&parse::memberships("4:memory:/docker/0a\n0::/\n"));
        let memory = Some(PathBuf::from("/c/memory/docker/0a"));
        assert_eq!(places, Places::V1 { memory, pids: None, cpu: None, cpuacct: None });
    }

    #[test]
    fn a_path_is_the_same_in_each_hierarchy() {
        let layout = Layout::new(
            "32 31 0:29 / /c/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /c/memory rw - cgroup cgroup rw,memory\n\
             36 31 0:33 / /c/systemd rw - cgroup cgroup rw,name=systemd\n\
             41 31 0:38 / /c/unified rw - cgroup2 cgroup2 rw\n",
        );
        let at = |controller: &str| Some(PathBuf::from(format!("/c/{controller}/aigo/x")));
        let (cpu, memory) = (at("cpu,cpuacct"), at("memory"));
        let places = layout.at("/aigo/x");
        assert_eq!(places, Places::V1 { memory, pids: None, cpu: cpu.clone(), cpuacct: cpu.clone() });
        assert_eq!((places.cpu(), layout.everywhere("/aigo/x").len()), (cpu, 4));
        let v2 = Layout::new("35 24 0:30 / /c rw - cgroup2 cgroup2 rw\n");
        assert_eq!(v2.at("/aigo/x").cpu(), Some("/c/aigo/x".into()));
        assert_eq!(Layout::new("").at("/aigo/x").cpu(), None);
    }
}
