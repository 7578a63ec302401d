//! What the engine says of itself.

use std::path::PathBuf;

use bollard::models::{NetworkInspect, SystemInfo, SystemInfoCgroupDriverEnum, SystemInfoCgroupVersionEnum};

use super::dialect::Dialect;
use super::error::About;
use super::wire::{Wire, is_rootless, limits};
use crate::engine::{CgroupDriver, CgroupVersion, EngineError, EngineInfo, Networking, deadline};

/// The engine's own bridge, whose gateway the magic `host-gateway` value names.
const DEFAULT_BRIDGE: &str = "bridge";

pub(super) async fn detect(wire: &Wire) -> Result<EngineInfo, EngineError> {
    deadline::within("describe itself", deadline::DETECT, async {
        let translate = |error| super::error::unreachable(&wire.endpoint, error);
        let info = wire.docker.info().await.map_err(translate)?;
        wire.hear(&info);
        // An engine may run without its default bridge; our networks are our own.
        let about = About::network("describe its bridge", DEFAULT_BRIDGE);
        let bridge = wire
            .docker
            .inspect_network(DEFAULT_BRIDGE, None::<bollard::query_parameters::InspectNetworkOptions>)
            .await
            .map_err(|error| about.translate(&wire.endpoint, error));
        let bridge = match bridge {
            Ok(bridge) => Some(bridge),
            Err(EngineError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(describe(wire, info, bridge))
    })
    .await
}

fn describe(wire: &Wire, info: SystemInfo, bridge: Option<NetworkInspect>) -> EngineInfo {
    let cgroup_version = match info.cgroup_version {
        Some(SystemInfoCgroupVersionEnum::_1) => CgroupVersion::V1,
        Some(SystemInfoCgroupVersionEnum::_2) => CgroupVersion::V2,
        Some(SystemInfoCgroupVersionEnum::EMPTY) | None => CgroupVersion::Unknown,
    };
    let cgroup_driver = match info.cgroup_driver {
        Some(SystemInfoCgroupDriverEnum::CGROUPFS) => CgroupDriver::Cgroupfs,
        Some(SystemInfoCgroupDriverEnum::SYSTEMD) => CgroupDriver::Systemd,
        Some(SystemInfoCgroupDriverEnum::NONE | SystemInfoCgroupDriverEnum::EMPTY) | None => CgroupDriver::None,
    };
    let (rootless, can) = match &wire.dialect {
        Dialect::Docker => (is_rootless(&info), limits(&info)),
        // In Docker's API it says yes to everything.
        Dialect::Podman(podman) => (podman.rootless, podman.limits),
    };
    let name = wire.dialect.backend().title();
    let storage_driver = info.driver.unwrap_or_default();
    let host_gateway =
        bridge.and_then(|bridge| bridge.ipam?.config?.into_iter().find_map(|config| config.gateway?.parse().ok()));
    let version_word = match cgroup_version {
        CgroupVersion::V1 => "cgroup v1",
        CgroupVersion::V2 => "cgroup v2",
        CgroupVersion::Unknown => "cgroup version unknown",
    };
    let rootless_word = if rootless { ", rootless" } else { "" };
    EngineInfo {
        backend: wire.dialect.backend(),
        id: wire.dialect.engine_id(info.id),
        message: format!(
            "{name} {} answers at {} ({version_word}, {storage_driver}{rootless_word})",
            wire.version, wire.endpoint
        ),
        version: wire.version.clone(),
        api_version: wire.api.clone(),
        endpoint: wire.endpoint.to_string(),
        cgroup_version,
        cgroup_driver,
        limits: can,
        quirks: wire.dialect.quirks(),
        os: info.operating_system.unwrap_or_default(),
        architecture: info.architecture.unwrap_or_default(),
        kernel: info.kernel_version.unwrap_or_default(),
        cpus: info.ncpu.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
        memory: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        rootless,
        security_options: info.security_options.unwrap_or_default(),
        storage_driver,
        root_dir: PathBuf::from(info.docker_root_dir.unwrap_or_default()),
        networking: Networking {
            host_gateway,
            extra_run_args: vec!["--add-host=host-gateway:host-gateway".to_owned()],
        },
        warnings: info.warnings.unwrap_or_default(),
    }
}
