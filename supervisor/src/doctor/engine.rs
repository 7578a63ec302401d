//! The engine, what it can enforce, and the image: judged from what the engine says of itself.

use super::check::Check;
use crate::agents::{CpuEnforcement, Enforcement, HostSide};
use crate::engine::error::permission_remedy;
use crate::engine::info::{REMAPPED, REMAPPED_REMEDY};
use crate::engine::{Backend, CgroupDriver, CgroupVersion, EngineError, EngineInfo};
use crate::image::ImageStatus;
use crate::image::status::build_command;

const ENGINE: &str = "engine";
const CGROUPS: &str = "cgroups";
const LIMITS: &str = "limits";
const SWAP: &str = "swap";
const AGENT_LIMITS: &str = "agent limits";
const IMAGE: &str = "image";

/// Five checks about the engine itself.
#[must_use]
pub fn judge(info: &Result<EngineInfo, EngineError>, host: &HostSide) -> Vec<Check> {
    match info {
        Ok(info) => vec![engine(info), cgroups(info), limits(info), swap(info), agent_limits(info, host)],
        Err(error) => {
            let mut checks = vec![Check::failed(ENGINE, error.to_string(), remedy(error))];
            checks.extend([CGROUPS, LIMITS, SWAP, AGENT_LIMITS].map(|name| Check::skipped(name, "no engine answers")));
            checks
        }
    }
}

fn engine(info: &EngineInfo) -> Check {
    let EngineInfo { backend, version, api_version, endpoint, storage_driver, rootless, .. } = info;
    let mode = if *rootless { ", rootless" } else { "" };
    if info.is_remapped() {
        return Check::failed(ENGINE, format!("{backend} {version} at {endpoint}: {REMAPPED}"), REMAPPED_REMEDY);
    }
    match backend {
        Backend::Docker | Backend::Podman => Check::ok(
            ENGINE,
            format!("{backend} {version}, API {api_version}, at {endpoint}, storage {storage_driver}{mode}"),
        ),
        Backend::AppleContainer => machines(info),
    }
}

/// Apple Container: what it warns of is what its version or this system lacks.
fn machines(info: &EngineInfo) -> Check {
    let EngineInfo { version, endpoint, warnings, .. } = info;
    let detail = format!("Apple Container {version} at {endpoint}, a virtual machine for each container");
    if warnings.is_empty() {
        return Check::ok(ENGINE, detail);
    }
    let remedy = "update to macOS 26 and the newest Apple Container, or use another engine: --engine docker";
    Check::warning(ENGINE, format!("{detail}; {}", warnings.join("; ")), remedy)
}

fn cgroups(info: &EngineInfo) -> Check {
    let version = match info.cgroup_version {
        CgroupVersion::V1 => "version 1",
        CgroupVersion::V2 => "version 2",
        CgroupVersion::Unknown => "version unknown",
    };
    match info.cgroup_driver {
        CgroupDriver::Cgroupfs => Check::ok(CGROUPS, format!("{version}, driver cgroupfs")),
        CgroupDriver::Systemd => Check::ok(CGROUPS, format!("{version}, driver systemd")),
        CgroupDriver::Machine => Check::skipped(CGROUPS, "containers are virtual machines: their size is their limit"),
        CgroupDriver::None => Check::warning(
            CGROUPS,
            format!("{version}, no driver: the engine enforces no limit at all"),
            "use a host with cgroup version 2 and delegate the controllers to your user \
             (systemctl edit user@.service: Delegate=cpu memory pids), or a rootful engine",
        ),
    }
}

fn limits(info: &EngineInfo) -> Check {
    let all = [("memory", info.limits.memory), ("cpu", info.limits.cpu), ("pids", info.limits.pids)];
    let names = |wanted: bool| {
        let names: Vec<&str> = all.iter().filter(|(_, can)| *can == wanted).map(|(name, _)| *name).collect();
        names.join(", ")
    };
    let missing = names(false);
    if missing.is_empty() {
        return Check::ok(LIMITS, format!("the kernel enforces {}", names(true)));
    }
    let remedy = if info.cgroup_driver == CgroupDriver::Machine {
        "nothing is needed: what is missing is bounded by the container's own virtual machine, and this host is not touched"
    } else if info.rootless && info.cgroup_version == CgroupVersion::V1 {
        "rootless engines can enforce limits on cgroup version 2 only: boot with systemd.unified_cgroup_hierarchy=1, or use \
         a rootful engine"
    } else if info.rootless {
        "delegate the controllers to your user: systemctl edit user@.service, Delegate=cpu memory pids, then log in again"
    } else {
        "enable the controllers: kernel options CONFIG_MEMCG, CONFIG_CFS_BANDWIDTH and CONFIG_CGROUP_PIDS; on some boards \
         cgroup_enable=memory on the kernel's command line"
    };
    let owner = if info.cgroup_driver == CgroupDriver::Machine { "all of its virtual machine's" } else { "all of it" };
    Check::warning(LIMITS, format!("the engine cannot enforce {missing}: an agent can take {owner}"), remedy)
}

fn swap(info: &EngineInfo) -> Check {
    if info.limits.swap {
        return Check::ok(SWAP, "accounted: memory limits hold with swap");
    }
    if !info.limits.memory {
        return Check::skipped(SWAP, "memory itself is not limited");
    }
    if info.cgroup_driver == CgroupDriver::Machine {
        // Root in a container may make swap of its own disk; the host's memory is bounded by the machine's size.
        return Check::ok(
            SWAP,
            "the memory of a virtual machine is bounded by its size; swap would be on its own disk",
        );
    }
    Check::warning(
        SWAP,
        "not accounted: a container can use swap beyond its memory limit",
        "add swapaccount=1 to the kernel's command line (cgroup version 1), or switch swap off",
    )
}

/// Whether an agent's CPU quota can be held over all its containers together.
fn agent_limits(info: &EngineInfo, host: &HostSide) -> Check {
    match Enforcement::judge(info, host).cpu {
        CpuEnforcement::Together { holder } => {
            Check::ok(AGENT_LIMITS, format!("one CPU quota for all containers of an agent, by {holder}"))
        }
        CpuEnforcement::Apart { why } => Check::warning(
            AGENT_LIMITS,
            format!("the containers of an agent cannot share a CPU quota, each has a part of its own: {why}"),
            why.remedy(),
        ),
        CpuEnforcement::Not { why } => {
            Check::warning(AGENT_LIMITS, format!("CPU quotas are not held at all: {why}"), why.remedy())
        }
    }
}

/// Whether the image is there and fits.
#[must_use]
pub fn image(tag: &str, status: Option<&Result<ImageStatus, EngineError>>) -> Check {
    let status = match status {
        None => return Check::skipped(IMAGE, "no engine answers"),
        Some(Err(error)) => return Check::failed(IMAGE, error.to_string(), remedy(error)),
        Some(Ok(status)) => status,
    };
    let Some(image) = &status.image else {
        return Check::failed(IMAGE, format!("{tag} is not present"), format!("build it with: {}", build_command(tag)));
    };
    let version = image.versions.tool("runner").unwrap_or("unknown");
    match image.runner_matches {
        Some(true) => Check::ok(IMAGE, format!("{tag}, runner {version}")),
        Some(false) => Check::warning(
            IMAGE,
            format!("{tag} has runner {version}, which is not of this aigo's version"),
            format!("build it again with: {}", build_command(tag)),
        ),
        None => Check::warning(
            IMAGE,
            format!("{tag} does not say which runner it has"),
            format!("build it with: {}, unless it is your own", build_command(tag)),
        ),
    }
}

/// What to do about an engine's error. The error's own text may say it too; here it stands by itself.
#[must_use]
pub fn remedy(error: &EngineError) -> &'static str {
    match error {
        EngineError::Unreachable { remedy, .. } | EngineError::Unsupported { remedy, .. } => remedy,
        EngineError::PermissionDenied { socket } => permission_remedy(socket),
        EngineError::BadEndpoint { .. } => "mend the address, or unset it to use the default socket",
        EngineError::TooOld { .. } => {
            "install a newer engine, from your distribution's newer release or its own packages"
        }
        EngineError::NoSpace { .. } => {
            "free disk space in the engine's data directory (docker system df shows what is used)"
        }
        EngineError::NoFreeSubnet { .. } | EngineError::SubnetTaken { .. } => {
            "remove networks that nobody uses (docker network prune), or name a range that is free, such as \
             AIGO_ENGINE_SUBNETS=10.90.0.0/16"
        }
        EngineError::BadSubnets { .. } => "write private ranges with commas in between, or unset the variable",
        EngineError::ImageMissing { .. } => "build the image with: aigo image build",
        EngineError::Timeout { .. } | EngineError::Lost { .. } => "look into the engine's log, then restart it",
        EngineError::NotFound { .. }
        | EngineError::Conflict { .. }
        | EngineError::MountMissing { .. }
        | EngineError::NotRunning { .. }
        | EngineError::InUse { .. }
        | EngineError::BuildFailed { .. }
        | EngineError::Refused { .. }
        | EngineError::Malformed { .. } => "look into the engine's log (journalctl -u docker)",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use crate::engine::LimitSupport;

    pub(in crate::doctor) fn info() -> EngineInfo {
        EngineInfo::example()
    }

    fn verdicts(checks: &[Check]) -> Vec<(&str, Verdict)> {
        checks.iter().map(|check| (check.name, check.status)).collect()
    }

    fn host() -> HostSide {
        HostSide::example()
    }

    #[test]
    fn a_good_engine() {
        let checks = judge(&Ok(info()), &host());
        assert!(checks.iter().all(|check| check.status == Verdict::Ok && check.remedy.is_none()), "{checks:?}");
        assert!(checks[0].detail.contains("26.1.5") && checks[0].detail.contains("/run/docker.sock"));
    }

    #[test]
    fn what_cannot_be_enforced_is_named() {
        let limits = LimitSupport { memory: false, swap: false, cpu: true, pids: false };
        let info = EngineInfo { limits, cgroup_driver: CgroupDriver::None, rootless: true, ..info() };
        let checks = judge(&Ok(info), &host());
        assert_eq!(
            verdicts(&checks),
            [
                (ENGINE, Verdict::Ok),
                (CGROUPS, Verdict::Warning),
                (LIMITS, Verdict::Warning),
                (SWAP, Verdict::Skipped),
                (AGENT_LIMITS, Verdict::Warning)
            ]
        );
        assert!(checks[2].detail.contains("memory, pids"), "{checks:?}");
    }

    #[test]
    fn an_engine_that_maps_users_fails_with_the_name_of_the_setting() {
        let info = EngineInfo { security_options: vec!["name=seccomp".into(), "name=userns".into()], ..info() };
        let checks = judge(&Ok(info), &host());
        assert_eq!(checks[0].status, Verdict::Failed);
        assert!(
            checks[0].detail.contains("userns-remap") && checks[0].remedy.as_ref().unwrap().contains("daemon.json")
        );
    }

    #[test]
    fn a_virtual_machine_is_judged_by_what_it_bounds() {
        let info = || EngineInfo {
            backend: Backend::AppleContainer,
            endpoint: "/usr/local/bin/container".into(),
            cgroup_driver: CgroupDriver::Machine,
            cgroup_version: CgroupVersion::Unknown,
            limits: LimitSupport { memory: true, swap: false, cpu: true, pids: false },
            rootless: true,
            ..info()
        };
        let checks = judge(&Ok(info()), &host());
        assert_eq!(
            verdicts(&checks),
            [
                (ENGINE, Verdict::Ok),
                (CGROUPS, Verdict::Skipped),
                (LIMITS, Verdict::Warning),
                (SWAP, Verdict::Ok),
                (AGENT_LIMITS, Verdict::Warning)
            ]
        );
        assert!(checks[2].detail.contains("cannot enforce pids: an agent can take all of its virtual machine's"));
        assert!(checks[4].detail.contains("virtual machine"), "{checks:?}");
        let old = judge(&Ok(EngineInfo { warnings: vec!["it lacks a thing".into()], ..info() }), &host());
        assert_eq!(old[0].status, Verdict::Warning);
        assert!(old[0].detail.contains("it lacks a thing") && old[0].remedy.is_some(), "{old:?}");
    }

    #[test]
    fn what_holds_the_limits_of_agents_is_told() {
        let told = |host: &HostSide| judge(&Ok(info()), host).pop().unwrap();
        assert!(told(&host()).detail.contains("by a systemd slice for each agent"));
        let person = told(&HostSide { uid: 1000, ..host() });
        assert_eq!(person.status, Verdict::Warning);
        assert!(person.detail.contains("only root") && person.remedy.unwrap().contains("aigo serve"));
    }

    #[test]
    fn no_engine_is_one_failure() {
        let checks = judge(&Err(EngineError::PermissionDenied { socket: "/run/docker.sock".into() }), &host());
        assert_eq!(checks[0].status, Verdict::Failed);
        assert!(checks[0].remedy.as_ref().unwrap().contains("usermod"));
        assert!(checks[1..].iter().all(|check| check.status == Verdict::Skipped));
        assert_eq!(image("t", None).status, Verdict::Skipped);
    }

    #[test]
    fn the_image_is_judged() {
        let absent = Ok(crate::image::status::describe("t:1", None));
        let check = image("t:1", Some(&absent));
        assert_eq!(check.status, Verdict::Failed);
        assert!(check.remedy.unwrap().contains("aigo image build --tag t:1"));
        let error = Err(EngineError::Lost { what: "inspect image", reason: "eof".into() });
        assert_eq!(image("t:1", Some(&error)).status, Verdict::Failed);
    }
}
