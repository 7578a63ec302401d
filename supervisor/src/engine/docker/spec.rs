//! From our plain container data to the engine's request. Pure, and destructured without a rest pattern, so that a new
//! field cannot be forgotten here.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, DeviceMapping, EndpointIpamConfig, EndpointSettings, HostConfig,
    HostConfigLogConfig, Mount as WireMount, MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions,
    MountType, MountVolumeOptions, NetworkingConfig, ResourcesUlimits,
};

use crate::engine::{
    ContainerSpec, Device, Limits, LimitsUpdate, LogDriver, LogPolicy, Mount, MountSource, NetworkAttachment, Seccomp,
    Security,
};

pub(super) fn body(spec: &ContainerSpec) -> ContainerCreateBody {
    let ContainerSpec {
        name: _,
        image,
        entrypoint,
        command,
        env,
        labels,
        mounts,
        network,
        extra_hosts,
        limits,
        cap_add,
        security,
        user,
        working_dir,
        hostname,
        stop_timeout,
        cgroup_parent,
        log,
        read_only_root,
        oom_score_adj,
    } = spec;
    let Limits { nano_cpus, memory, pids, nofile, shm } = limits;
    let Security { no_new_privileges, seccomp, apparmor, system_paths_unconfined, devices, privileged } = security;
    let (network_mode, endpoints) = attachment(network);
    let unconfined = system_paths_unconfined.then(Vec::new);
    let host = HostConfig {
        nano_cpus: nano_cpus.map(signed),
        memory: memory.map(signed),
        // Equal to the memory limit: no swap on top (Docker counts memory and swap together here).
        memory_swap: memory.map(signed),
        // What a limited container holds should not be swapped out either. v2 has no such knob; Docker then drops it.
        memory_swappiness: memory.map(|_| 0),
        pids_limit: pids.map(i64::from),
        ulimits: nofile.map(|count| {
            vec![ResourcesUlimits {
                name: Some("nofile".to_owned()),
                soft: Some(signed(count)),
                hard: Some(signed(count)),
            }]
        }),
        shm_size: shm.map(signed),
        mounts: Some(mounts.iter().map(mount).collect()),
        network_mode: Some(network_mode),
        extra_hosts: Some(extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect()),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(cap_add.clone()),
        security_opt: Some(security_options(*no_new_privileges, seccomp, apparmor.as_deref())),
        // Empty lists, unlike absent ones, mask nothing.
        masked_paths: unconfined.clone(),
        readonly_paths: unconfined,
        devices: Some(devices.iter().map(device).collect()),
        privileged: Some(*privileged),
        cgroup_parent: cgroup_parent.clone(),
        log_config: Some(log_config(log)),
        readonly_rootfs: Some(*read_only_root),
        oom_score_adj: oom_score_adj.map(i64::from),
        auto_remove: Some(false),
        init: Some(false),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(image.clone()),
        // The engine takes an absent list for "the image's" and one empty string for "none".
        entrypoint: entrypoint.clone().map(|words| if words.is_empty() { vec![String::new()] } else { words }),
        cmd: command.clone(),
        env: Some(env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(labels.clone().into_iter().collect()),
        user: user.clone(),
        working_dir: working_dir.clone(),
        hostname: hostname.clone(),
        stop_timeout: Some(signed(stop_timeout.as_secs())),
        tty: Some(false),
        open_stdin: Some(false),
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        host_config: Some(host),
        networking_config: endpoints.map(|endpoints| NetworkingConfig { endpoints_config: Some(endpoints) }),
        ..ContainerCreateBody::default()
    }
}

pub(super) fn update(limits: &LimitsUpdate) -> ContainerUpdateBody {
    let LimitsUpdate { nano_cpus, memory, pids } = limits;
    ContainerUpdateBody {
        nano_cpus: nano_cpus.map(signed),
        memory: memory.map(signed),
        memory_swap: memory.map(signed),
        pids_limit: pids.map(i64::from),
        ..ContainerUpdateBody::default()
    }
}

/// The wire's numbers are signed; what does not fit is as good as the largest.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn attachment(network: &NetworkAttachment) -> (String, Option<HashMap<String, EndpointSettings>>) {
    match network {
        NetworkAttachment::None => ("none".to_owned(), None),
        NetworkAttachment::Host => ("host".to_owned(), None),
        NetworkAttachment::Network { network, address } => {
            let endpoint = EndpointSettings {
                ipam_config: address.map(|address| EndpointIpamConfig {
                    ipv4_address: Some(address.to_string()),
                    ..EndpointIpamConfig::default()
                }),
                ..EndpointSettings::default()
            };
            (network.clone(), Some(HashMap::from([(network.clone(), endpoint)])))
        }
    }
}

fn mount(mount: &Mount) -> WireMount {
    let Mount { source, target, read_only } = mount;
    let base = WireMount { target: Some(target.clone()), read_only: Some(*read_only), ..WireMount::default() };
    match source {
        MountSource::Bind(path) => WireMount {
            typ: Some(MountType::BIND),
            source: Some(path.to_string_lossy().into_owned()),
            bind_options: Some(MountBindOptions {
                propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
                // The engine would make a missing folder as root, and hide a mistyped path.
                create_mountpoint: Some(false),
                ..MountBindOptions::default()
            }),
            ..base
        },
        MountSource::Volume { name, labels } => WireMount {
            typ: Some(MountType::VOLUME),
            source: Some(name.clone()),
            volume_options: Some(MountVolumeOptions {
                labels: Some(labels.clone().into_iter().collect()),
                ..MountVolumeOptions::default()
            }),
            ..base
        },
        MountSource::Tmpfs { size, mode } => WireMount {
            typ: Some(MountType::TMPFS),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: Some(signed(*size)),
                mode: Some(i64::from(*mode)),
                ..MountTmpfsOptions::default()
            }),
            ..base
        },
    }
}

fn security_options(no_new_privileges: bool, seccomp: &Seccomp, apparmor: Option<&str>) -> Vec<String> {
    let mut options = Vec::new();
    if no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    match seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => options.push("seccomp=unconfined".to_owned()),
        // The API wants the profile's text where the command line wants its path.
        Seccomp::Profile(json) => options.push(format!("seccomp={json}")),
    }
    options.extend(apparmor.map(|profile| format!("apparmor={profile}")));
    options
}

fn device(device: &Device) -> DeviceMapping {
    let path = device.0.to_string_lossy().into_owned();
    DeviceMapping {
        path_on_host: Some(path.clone()),
        path_in_container: Some(path),
        cgroup_permissions: Some("rwm".to_owned()),
    }
}

fn log_config(log: &LogPolicy) -> HostConfigLogConfig {
    let LogPolicy { driver, max_size, max_files } = log;
    let name = match driver {
        LogDriver::Local => "local",
        LogDriver::JsonFile => "json-file",
    };
    HostConfigLogConfig {
        typ: Some(name.to_owned()),
        config: Some(HashMap::from([
            // Bytes: a number without a unit.
            ("max-size".to_owned(), max_size.to_string()),
            ("max-file".to_owned(), max_files.to_string()),
        ])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn a_container_is_confined_unless_said_otherwise() {
        let body = body(&ContainerSpec::new("s", "i"));
        let host = body.host_config.unwrap();
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.privileged, Some(false));
        assert_eq!(host.masked_paths, None);
        assert_eq!(host.auto_remove, Some(false));
        assert_eq!(body.env.unwrap(), Vec::<String>::new());
        assert_eq!(body.open_stdin, Some(false));
    }

    #[test]
    fn limits_leave_no_swap_and_mounts_are_private() {
        let mut spec = ContainerSpec::new("s", "i");
        spec.limits = Limits {
            nano_cpus: Some(1_500_000_000),
            memory: Some(64 << 20),
            pids: Some(7),
            nofile: Some(99),
            shm: None,
        };
        spec.mounts = vec![Mount::bind("/a b", "/workspace", false)];
        spec.security.system_paths_unconfined = true;
        spec.security.seccomp = Seccomp::Profile("{}".into());
        spec.extra_hosts.insert("host-gateway".into(), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
        spec.entrypoint = Some(vec![]);
        let body = body(&spec);
        assert_eq!(body.entrypoint.unwrap(), [""]);
        let host = body.host_config.unwrap();
        assert_eq!((host.memory, host.memory_swap, host.memory_swappiness), (Some(64 << 20), Some(64 << 20), Some(0)));
        assert_eq!(host.masked_paths, Some(vec![]));
        assert_eq!(host.security_opt.unwrap(), ["seccomp={}"]);
        assert_eq!(host.extra_hosts.unwrap(), ["host-gateway:10.0.0.1"]);
        let mount = host.mounts.unwrap().remove(0);
        let options = mount.bind_options.unwrap();
        assert_eq!(options.propagation, Some(MountBindOptionsPropagationEnum::RPRIVATE));
        assert_eq!(options.create_mountpoint, Some(false));
    }
}
