//! What this machine lets us do with cgroups, as plain facts.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, geteuid};

use crate::engine::cgroup::Layout;

/// Exists while systemd is the first process: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// Facts about this side; the engine's side is in [`EngineInfo`](crate::engine::EngineInfo).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSide {
    pub linux: bool,
    /// As uname(2) says it.
    pub kernel: String,
    /// Effective.
    pub uid: u32,
    /// The root of the hierarchy that has the CPU controller.
    pub cpu_folder: Option<PathBuf>,
    /// We may make cgroups there.
    pub cpu_writable: bool,
    /// The system's systemd runs here.
    pub system_manager: bool,
    /// The user's systemd can be asked.
    pub user_manager: bool,
    /// The cgroup of the user's systemd, if it has no CPU controller.
    pub undelegated: Option<PathBuf>,
}

impl HostSide {
    /// Looks. Blocking, for less than a millisecond.
    #[must_use]
    pub fn look() -> Self {
        let linux = cfg!(target_os = "linux");
        let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
        let uid = geteuid().as_raw();
        let layout = Layout::of_this_machine().ok();
        let cpu_folder = layout.as_ref().and_then(|layout| layout.at("/").cpu());
        let cpu_writable = cpu_folder.as_deref().is_some_and(|folder| access(folder, AccessFlags::W_OK).is_ok());
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let user_manager = runtime.is_some_and(|folder| folder.join("systemd/private").exists());
        let users = layout.and_then(|layout| layout.at(&super::place::user_manager(uid)).cpu());
        Self {
            linux,
            kernel: kernel.unwrap_or_default(),
            uid,
            cpu_folder,
            cpu_writable,
            system_manager: Path::new(BOOTED).is_dir(),
            user_manager,
            undelegated: users.filter(|folder| !delegates_cpu(folder)),
        }
    }

    /// The side of root with systemd, for tests to change.
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self {
            linux: true,
            kernel: "6.18".into(),
            uid: 0,
            cpu_folder: Some("/sys/fs/cgroup".into()),
            cpu_writable: true,
            system_manager: true,
            user_manager: false,
            undelegated: None,
        }
    }
}

/// Whether a cgroup may give CPU time to those below it. Version 1 does not delegate to users.
fn delegates_cpu(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join("cgroup.controllers"))
        .is_ok_and(|text| text.split_whitespace().any(|name| name == "cpu"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delegation_is_what_the_kernel_says() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!delegates_cpu(folder.path()));
        std::fs::write(folder.path().join("cgroup.controllers"), "cpuset memory pids\n").unwrap();
        assert!(!delegates_cpu(folder.path()));
        std::fs::write(folder.path().join("cgroup.controllers"), "cpuset cpu memory pids\n").unwrap();
        assert!(delegates_cpu(folder.path()));
    }

    #[test]
    fn this_machine_has_a_kernel() {
        let host = HostSide::look();
        assert!(!host.kernel.is_empty());
        assert_eq!(host.linux, cfg!(target_os = "linux"));
    }
}
