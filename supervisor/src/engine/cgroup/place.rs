//! Where in the file system a process's cgroups are: v1 hierarchies by controller, or the one of v2. A machine may mount
//! both; the controllers are then where v1 has them.

use std::path::{Path, PathBuf};

use super::parse::{self, Membership, Mount};

/// The cgroup mounts of this machine.
#[derive(Debug)]
pub(super) struct Layout {
    mounts: Vec<Mount>,
}

/// The folders of one process's cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Places {
    V1 { memory: Option<PathBuf>, pids: Option<PathBuf>, cpu: Option<PathBuf>, cpuacct: Option<PathBuf> },
    V2(PathBuf),
}

impl Layout {
    pub(super) fn new(mountinfo: &str) -> Self {
        Self { mounts: parse::mounts(mountinfo) }
    }

    pub(super) fn places(&self, memberships: &[Membership]) -> Places {
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
}
