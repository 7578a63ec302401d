//! What of an agent's limits holds here, judged from what the engine and this machine say. Never more than is true.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::host::HostSide;
use super::limits::AgentLimits;
use crate::engine::{CgroupDriver, EngineInfo};

/// What holds the limits of agents here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Enforcement {
    /// The CPU quota of all containers of an agent together.
    pub cpu: CpuEnforcement,
    /// Each container's memory is bounded by the kernel.
    pub memory: bool,
    /// Each container's processes are bounded by the kernel.
    pub pids: bool,
}

/// How the CPU quota of an agent is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum CpuEnforcement {
    /// All containers share one quota.
    Together { holder: Holder },
    /// Each container has a part of its own, see [`AgentLimits::part`].
    Apart { why: Hindrance },
    /// The engine cannot bound CPU time at all.
    Not { why: Hindrance },
}

/// What holds the quota of all containers of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// A cgroup that we make.
    Cgroup,
    /// A slice of the system's service manager.
    SystemSlice,
    /// A slice of the user's service manager, in what was delegated to it.
    UserSlice,
}

/// Why an agent's containers cannot be held together here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Hindrance {
    /// The engine uses no cgroups.
    NoDriver,
    /// The engine's kernel has no CPU quotas, or they are not delegated to it.
    NoCpuController,
    /// There are no cgroups on this system.
    NotLinux,
    /// The engine answers on another machine.
    Remote { endpoint: String },
    /// The engine runs on another kernel: in a virtual machine.
    OtherKernel { engine: String, ours: String },
    /// A rootless engine without systemd may not use a cgroup of ours.
    RootlessCgroupfs,
    /// This process may not make cgroups.
    NotWritable { folder: PathBuf },
    /// The cgroups of the CPU controller are not mounted here.
    NotMounted,
    /// The engine uses systemd, which does not answer here.
    NoSystemd,
    /// The engine uses the system's systemd, and only root may set a slice's quota.
    NotRoot,
    /// The engine is rootless, and the user's systemd does not answer here.
    NoUserManager,
    /// The CPU controller is not delegated to the user's systemd.
    NotDelegated { folder: PathBuf },
}

impl Enforcement {
    /// Judges. Pure.
    #[must_use]
    pub fn judge(info: &EngineInfo, host: &HostSide) -> Self {
        let has_driver = info.cgroup_driver != CgroupDriver::None;
        let cpu = if !has_driver {
            CpuEnforcement::Not { why: Hindrance::NoDriver }
        } else if !info.limits.cpu {
            CpuEnforcement::Not { why: no_controller(info, host) }
        } else {
            match holder(info, host) {
                Ok(holder) => CpuEnforcement::Together { holder },
                Err(why) => CpuEnforcement::Apart { why },
            }
        };
        Self { cpu, memory: has_driver && info.limits.memory, pids: has_driver && info.limits.pids }
    }

    /// The limits as the admission queue is to count them: a quota that containers do not share does not make several of
    /// them take less.
    #[must_use]
    pub fn counted(&self, limits: AgentLimits) -> AgentLimits {
        match &self.cpu {
            CpuEnforcement::Together { .. } => limits,
            CpuEnforcement::Apart { .. } | CpuEnforcement::Not { .. } => AgentLimits { cpus: None, ..limits },
        }
    }

    /// What does not hold of these limits, in sentences; nothing if all of them do.
    #[must_use]
    pub fn shortfalls(&self, limits: &AgentLimits) -> Vec<String> {
        let mut said = Vec::new();
        if let Some(cpus) = limits.cpus {
            match (&self.cpu, limits.containers) {
                (CpuEnforcement::Together { .. }, _) => {}
                (CpuEnforcement::Apart { why }, Some(containers)) => said.push(format!(
                    "the quota of {cpus} CPUs is not shared: each of at most {containers} containers has an equal part \
                     of it ({why})"
                )),
                (CpuEnforcement::Apart { why }, None) => said.push(format!(
                    "the quota of {cpus} CPUs holds for each container, not for all together ({why}); set a number of \
                     containers to divide it"
                )),
                (CpuEnforcement::Not { why }, _) => said.push(format!("the quota of {cpus} CPUs is not held ({why})")),
            }
        }
        if limits.memory.is_some() && !self.memory {
            said.push("the memory cap is not held: the engine cannot bound memory".to_owned());
        }
        if limits.pids.is_some() && !self.pids {
            said.push("the bound on processes is not held: the engine cannot bound them".to_owned());
        }
        said
    }
}

/// Whether the engine's containers run on this very kernel: their processes and cgroups are then ours to look at.
///
/// # Errors
/// Why not.
pub fn on_this_kernel(info: &EngineInfo, host: &HostSide) -> Result<(), Hindrance> {
    if !host.linux || info.cgroup_driver == CgroupDriver::Machine {
        return Err(Hindrance::NotLinux);
    }
    if !info.endpoint.starts_with("unix:") {
        return Err(Hindrance::Remote { endpoint: info.endpoint.clone() });
    }
    if info.kernel != host.kernel {
        return Err(Hindrance::OtherKernel { engine: info.kernel.clone(), ours: host.kernel.clone() });
    }
    Ok(())
}

/// Why the engine cannot bound CPU time: a rootless one has the controllers that its user's systemd was given.
fn no_controller(info: &EngineInfo, host: &HostSide) -> Hindrance {
    match &host.undelegated {
        Some(folder) if info.rootless && on_this_kernel(info, host).is_ok() => {
            Hindrance::NotDelegated { folder: folder.clone() }
        }
        Some(_) | None => Hindrance::NoCpuController,
    }
}

fn holder(info: &EngineInfo, host: &HostSide) -> Result<Holder, Hindrance> {
    on_this_kernel(info, host)?;
    match (info.cgroup_driver, info.rootless) {
        (CgroupDriver::None, _) => Err(Hindrance::NoDriver),
        (CgroupDriver::Machine, _) => Err(Hindrance::NotLinux),
        (CgroupDriver::Cgroupfs, true) => Err(Hindrance::RootlessCgroupfs),
        (CgroupDriver::Cgroupfs, false) => match &host.cpu_folder {
            None => Err(Hindrance::NotMounted),
            Some(folder) if !host.cpu_writable => Err(Hindrance::NotWritable { folder: folder.clone() }),
            Some(_) => Ok(Holder::Cgroup),
        },
        (CgroupDriver::Systemd, false) if !host.system_manager => Err(Hindrance::NoSystemd),
        (CgroupDriver::Systemd, false) if host.uid != 0 => Err(Hindrance::NotRoot),
        (CgroupDriver::Systemd, false) => Ok(Holder::SystemSlice),
        (CgroupDriver::Systemd, true) if !host.user_manager => Err(Hindrance::NoUserManager),
        (CgroupDriver::Systemd, true) => match &host.undelegated {
            Some(folder) => Err(Hindrance::NotDelegated { folder: folder.clone() }),
            None => Ok(Holder::UserSlice),
        },
    }
}

impl Hindrance {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoDriver | Self::RootlessCgroupfs | Self::NoUserManager | Self::NotDelegated { .. } => {
                "use a host with cgroup version 2 and systemd, and delegate the controllers to your user (systemctl edit \
                 user@.service: Delegate=cpu memory pids, then log in again), or use a rootful engine"
            }
            Self::NoCpuController => "enable CPU quotas in the engine's kernel (CONFIG_CFS_BANDWIDTH)",
            Self::NotLinux | Self::OtherKernel { .. } | Self::Remote { .. } => {
                "run aigo on the machine that the engine's containers run on, or set a number of containers for each agent \
                 with a CPU quota: the quota is then divided between them"
            }
            Self::NotMounted => "mount the cgroup file systems where aigo runs (/sys/fs/cgroup)",
            Self::NotWritable { .. } | Self::NotRoot => {
                "run `aigo serve` as root (aigo service install), or use a rootless engine of your own"
            }
            Self::NoSystemd => {
                "run aigo on the host and not in a container, or set the engine's cgroup driver to cgroupfs"
            }
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroup => "a cgroup for each agent",
            Self::SystemSlice => "a systemd slice for each agent",
            Self::UserSlice => "a slice of your systemd for each agent",
        })
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDriver => f.write_str("the engine uses no cgroups"),
            Self::NoCpuController => f.write_str("the engine has no CPU quotas"),
            Self::NotLinux => f.write_str("this system has no cgroups: containers run in a virtual machine"),
            Self::Remote { endpoint } => write!(f, "the engine at {endpoint} is on another machine"),
            Self::OtherKernel { engine, ours } => {
                write!(f, "the engine runs on another kernel ({engine}; here {ours}): in a virtual machine")
            }
            Self::RootlessCgroupfs => f.write_str("the engine is rootless and has no cgroup of its own by systemd"),
            Self::NotWritable { folder } => write!(f, "no right to make cgroups in {}", folder.display()),
            Self::NotMounted => f.write_str("the CPU controller's cgroups are not mounted here"),
            Self::NoSystemd => f.write_str("the engine's cgroups are systemd's, which does not answer here"),
            Self::NotRoot => f.write_str("only root may set the quota of a systemd slice"),
            Self::NoUserManager => f.write_str("the engine is rootless, and your systemd does not answer here"),
            Self::NotDelegated { folder } => {
                write!(f, "the cpu controller is not delegated to your systemd ({})", folder.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LimitSupport;
    use crate::units::MilliCpus;

    fn info() -> EngineInfo {
        EngineInfo { cgroup_driver: CgroupDriver::Cgroupfs, ..EngineInfo::example() }
    }

    fn host() -> HostSide {
        HostSide { user_manager: true, ..HostSide::example() }
    }

    fn cpu(info: &EngineInfo, host: &HostSide) -> CpuEnforcement {
        Enforcement::judge(info, host).cpu
    }

    fn apart(why: Hindrance) -> CpuEnforcement {
        CpuEnforcement::Apart { why }
    }

    fn together(holder: Holder) -> CpuEnforcement {
        CpuEnforcement::Together { holder }
    }

    #[test]
    fn each_driver_has_its_holder() {
        let systemd = EngineInfo { cgroup_driver: CgroupDriver::Systemd, ..info() };
        assert_eq!(cpu(&info(), &host()), together(Holder::Cgroup));
        assert_eq!(cpu(&systemd, &host()), together(Holder::SystemSlice));
        let rootless = EngineInfo { rootless: true, ..systemd };
        assert_eq!(cpu(&rootless, &HostSide { uid: 1000, ..host() }), together(Holder::UserSlice));
    }

    #[test]
    fn what_is_in_the_way_is_named_and_can_be_mended() {
        let systemd = EngineInfo { cgroup_driver: CgroupDriver::Systemd, ..info() };
        let rootless = EngineInfo { rootless: true, ..systemd.clone() };
        let folder = PathBuf::from("/f");
        for (info, host, why) in [
            (info(), HostSide { linux: false, ..host() }, Hindrance::NotLinux),
            (
                EngineInfo { endpoint: "tcp://10.0.0.1:2375".into(), ..info() },
                host(),
                Hindrance::Remote { endpoint: "tcp://10.0.0.1:2375".into() },
            ),
            (
                info(),
                HostSide { kernel: "other".into(), ..host() },
                Hindrance::OtherKernel { engine: info().kernel, ours: "other".into() },
            ),
            (info(), HostSide { cpu_folder: None, ..host() }, Hindrance::NotMounted),
            (
                info(),
                HostSide { cpu_writable: false, cpu_folder: Some(folder.clone()), ..host() },
                Hindrance::NotWritable { folder: folder.clone() },
            ),
            (EngineInfo { rootless: true, ..info() }, host(), Hindrance::RootlessCgroupfs),
            (systemd.clone(), HostSide { system_manager: false, ..host() }, Hindrance::NoSystemd),
            (systemd, HostSide { uid: 1000, ..host() }, Hindrance::NotRoot),
            (rootless.clone(), HostSide { user_manager: false, ..host() }, Hindrance::NoUserManager),
            (
                rootless,
                HostSide { undelegated: Some(folder.clone()), ..host() },
                Hindrance::NotDelegated { folder: folder.clone() },
            ),
        ] {
            assert!(!why.remedy().is_empty() && !why.to_string().is_empty());
            assert_eq!(cpu(&info, &host), apart(why));
        }
        let machines = EngineInfo {
            cgroup_driver: CgroupDriver::Machine,
            endpoint: "/usr/local/bin/container".into(),
            limits: LimitSupport { pids: false, ..info().limits },
            ..info()
        };
        let expected = Enforcement { cpu: apart(Hindrance::NotLinux), memory: true, pids: false };
        assert_eq!(Enforcement::judge(&machines, &host()), expected);
        let none = EngineInfo { cgroup_driver: CgroupDriver::None, ..info() };
        let enforcement = Enforcement::judge(&none, &host());
        let not = CpuEnforcement::Not { why: Hindrance::NoDriver };
        assert_eq!(enforcement, Enforcement { cpu: not, memory: false, pids: false });
    }

    #[test]
    fn a_controller_that_is_not_there_was_not_delegated_or_is_not_in_the_kernel() {
        let none = EngineInfo { limits: LimitSupport { cpu: false, ..info().limits }, ..info() };
        let rootless = EngineInfo { rootless: true, cgroup_driver: CgroupDriver::Systemd, ..none.clone() };
        let folder = PathBuf::from("/f");
        let undelegated = HostSide { undelegated: Some(folder.clone()), ..host() };
        let not = |why| CpuEnforcement::Not { why };
        assert_eq!(cpu(&rootless, &undelegated), not(Hindrance::NotDelegated { folder }));
        assert_eq!(cpu(&rootless, &host()), not(Hindrance::NoCpuController));
        assert_eq!(cpu(&none, &undelegated), not(Hindrance::NoCpuController));
        let remote = EngineInfo { endpoint: "tcp://10.0.0.1:2375".into(), ..rootless };
        assert_eq!(cpu(&remote, &undelegated), not(Hindrance::NoCpuController));
    }

    #[test]
    fn what_does_not_hold_is_said_and_what_holds_is_not() {
        let all = AgentLimits {
            cpus: Some(MilliCpus(500)),
            memory: Some(1),
            pids: Some(1),
            containers: Some(2),
            ..AgentLimits::default()
        };
        let good = Enforcement::judge(&info(), &host());
        assert_eq!((good.shortfalls(&all), good.counted(all)), (vec![], all));
        let limits = LimitSupport { memory: false, ..info().limits };
        let poor = Enforcement::judge(&EngineInfo { limits, ..info() }, &HostSide { cpu_writable: false, ..host() });
        let said = poor.shortfalls(&all);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("0.5 CPUs is not shared") && said[0].contains("no right to make cgroups"), "{said:?}");
        assert_eq!(poor.counted(all).cpus, None);
        let undivided = poor.shortfalls(&AgentLimits { containers: None, ..all });
        assert!(undivided[0].contains("holds for each container, not for all together"), "{undivided:?}");
        assert_eq!(poor.shortfalls(&AgentLimits::default()), Vec::<String>::new());
    }

    #[test]
    fn programs_read_words() {
        let judged = Enforcement::judge(&info(), &HostSide { cpu_folder: None, ..host() });
        let expected = serde_json::json!({
            "cpu": {"how": "apart", "why": {"code": "not_mounted"}}, "memory": true, "pids": true
        });
        assert_eq!(serde_json::to_value(judged).unwrap(), expected);
    }
}
