//! From what a container should be to the words of `container create`. Pure.
//!
//! What would make the container weaker than asked, or another one, is refused; what holds less exactly is done as near as
//! possible and said in a warning; what has no meaning for a virtual machine of its own (the score for the host's
//! out-of-memory killer, AppArmor, seccomp, the bound on logs) is left out.

use std::fmt::Write as _;

use super::container::is_name;
use super::error::unsupported;
use super::offers::Offers;
use crate::engine::{ContainerSpec, EngineError, ImageInfo, Limits, Mount, MountSource, NetworkAttachment, Security};

/// The least memory that it gives a virtual machine: it refuses less.
const LEAST_MEMORY: u64 = 200 << 20;
/// The unit of its memory.
const MIB: u64 = 1 << 20;
const CPU: u64 = 1_000_000_000;
/// The network that stands for none.
const NO_NETWORK: &str = "none";
/// Adds the lines that it is given to the hosts of the container, then becomes the program: the command has no option for
/// hosts, and its own file is written before the first process starts.
const WITH_HOSTS: &str = "printf '%s' \"$1\" >>/etc/hosts && shift && exec \"$@\"";

/// The words, and what holds less exactly than asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) words: Vec<String>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn arguments(spec: &ContainerSpec, image: &ImageInfo, offers: &Offers) -> Result<Arguments, EngineError> {
    let ContainerSpec {
        name,
        image: reference,
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
        // It is the container's name.
        hostname: _,
        // Told at each stop.
        stop_timeout: _,
        cgroup_parent,
        // It keeps all that is printed, on the machine's disk.
        log: _,
        read_only_root,
        oom_score_adj: _,
    } = spec;
    let mut words = Words::default();
    words.add(["create", "--name", name]);
    if cgroup_parent.is_some() {
        return Err(unsupported("put a container below a cgroup: it is a virtual machine", "leave the parent out"));
    }
    secure(security, cap_add, *read_only_root, offers, &mut words)?;
    limit(limits, offers, &mut words);
    match network {
        NetworkAttachment::None => words.add(["--network", NO_NETWORK]),
        NetworkAttachment::Network { network, address: None } if is_name(network) => words.add(["--network", network]),
        NetworkAttachment::Network { network, address: None } => {
            return Err(unsupported(
                format!("join the network {network:?}"),
                "give it a name of letters, digits, - . _",
            ));
        }
        NetworkAttachment::Network { address: Some(_), .. } => {
            return Err(unsupported("give a container an address of your choice", "leave the address to it"));
        }
        NetworkAttachment::Host => {
            return Err(unsupported("give a container the host's network", "use a network of its own"));
        }
    }
    mount(mounts, &mut words)?;
    for (key, value) in labels {
        words.add(["--label", &format!("{key}={value}")]);
    }
    for (key, value) in env {
        words.add(["--env", &format!("{key}={value}")]);
    }
    if let Some(user) = user {
        words.add(["--user", user]);
    }
    if let Some(folder) = working_dir {
        words.add(["--workdir", folder]);
    }
    let entrypoint = entrypoint.as_ref().unwrap_or(&image.entrypoint);
    // As everywhere, an entry point of one's own leaves the image's command out.
    let fallback = if spec.entrypoint.is_some() { &[][..] } else { &image.command };
    let program: Vec<&String> = entrypoint.iter().chain(command.as_deref().unwrap_or(fallback)).collect();
    let Some((first, rest)) = program.split_first() else {
        return Err(EngineError::Refused {
            what: "create container",
            message: "there is no program to run".to_owned(),
        });
    };
    if extra_hosts.is_empty() {
        words.add(["--entrypoint", first, reference]);
    } else {
        let mut lines = String::new();
        for (name, address) in extra_hosts {
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{address}\t{name}");
        }
        words.add(["--entrypoint", "/bin/sh", reference, "-c", WITH_HOSTS, "sh", &lines, first]);
    }
    words.words.extend(rest.iter().map(ToString::to_string));
    let Words { words, warnings } = words;
    Ok(Arguments { words, warnings })
}

#[derive(Debug, Default)]
struct Words {
    words: Vec<String>,
    warnings: Vec<String>,
}

impl Words {
    fn add<const N: usize>(&mut self, words: [&str; N]) {
        self.words.extend(words.map(str::to_owned));
    }

    fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }
}

fn secure(
    security: &Security,
    cap_add: &[String],
    read_only_root: bool,
    offers: &Offers,
    words: &mut Words,
) -> Result<(), EngineError> {
    // Without namespaces shared with anybody, the masks, profiles and filters of other engines have nothing to keep apart.
    let Security { no_new_privileges, seccomp: _, apparmor: _, system_paths_unconfined: _, devices, privileged } =
        security;
    if *privileged || !devices.is_empty() {
        return Err(unsupported("give a container devices of the host", "use Docker or Podman for it"));
    }
    if *no_new_privileges {
        words.warn("set-uid programs are not kept from giving rights: Apple Container has no option for it");
    }
    if offers.create("--cap-drop") && offers.create("--cap-add") {
        words.add(["--cap-drop", "ALL"]);
        for capability in cap_add {
            words.add(["--cap-add", capability]);
        }
    } else {
        words.warn("capabilities are not dropped: this version of Apple Container cannot; update it");
    }
    match (read_only_root, offers.create("--read-only")) {
        (false, _) => {}
        (true, true) => words.add(["--read-only"]),
        (true, false) => return Err(unsupported("make a container's root read-only in this version", "update it")),
    }
    Ok(())
}

fn limit(limits: &Limits, offers: &Offers, words: &mut Words) {
    let Limits { nano_cpus, memory, pids, nofile, shm } = limits;
    if let Some(nano_cpus) = nano_cpus {
        let whole = (nano_cpus / CPU).max(1);
        if whole * CPU != *nano_cpus {
            words.warn(format!(
                "a virtual machine has whole processors: {whole} instead of {}.{:03}",
                nano_cpus / CPU,
                nano_cpus % CPU / 1_000_000
            ));
        }
        words.add(["--cpus", &whole.to_string()]);
    }
    if let Some(memory) = memory {
        if *memory < LEAST_MEMORY {
            words.warn(format!("a virtual machine has at least {} MiB of memory, which it gets", LEAST_MEMORY / MIB));
        }
        words.add(["--memory", &format!("{}M", (*memory).max(LEAST_MEMORY) / MIB)]);
    }
    if pids.is_some() {
        words.warn("processes are not bounded: Apple Container has no option for it; its virtual machine is the bound");
    }
    if let Some(files) = nofile {
        if offers.create("--ulimit") {
            words.add(["--ulimit", &format!("nofile={files}:{files}")]);
        } else {
            words.warn("open files are not bounded: this version of Apple Container cannot; update it");
        }
    }
    if let Some(bytes) = shm {
        if offers.create("--shm-size") {
            words.add(["--shm-size", &format!("{}M", bytes.div_ceil(MIB))]);
        } else {
            words.warn("/dev/shm has its usual size: this version of Apple Container cannot change it; update it");
        }
    }
}

/// Mounts in the order of their plan, which matters where one lies in another. The command makes all of `--volume` before
/// any of `--mount`, so that one way is taken for all of a container. `--mount` is split at commas and equals signs,
/// `--volume` at colons.
fn mount(mounts: &[Mount], words: &mut Words) -> Result<(), EngineError> {
    let bad = |characters: &[char]| {
        mounts.iter().find(|mount| match &mount.source {
            MountSource::Bind(path) => {
                path.to_str().is_none_or(|text| text.contains(characters)) || mount.target.contains(characters)
            }
            MountSource::Volume { .. } | MountSource::Tmpfs { .. } => mount.target.contains(characters),
        })
    };
    if bad(&[',', '=']).is_none() {
        for mount in mounts {
            let read_only = if mount.read_only { ",readonly" } else { "" };
            let target = &mount.target;
            let text = match &mount.source {
                MountSource::Bind(path) => format!("type=bind,source={},target={target}{read_only}", path.display()),
                MountSource::Volume { name, .. } => format!("type=volume,source={name},target={target}{read_only}"),
                MountSource::Tmpfs { size, mode } => {
                    format!("type=tmpfs,target={target},size={}M,mode={mode:o}{read_only}", size.div_ceil(MIB))
                }
            };
            words.add(["--mount", &text]);
        }
        return Ok(());
    }
    let colon = bad(&[':']);
    for mount in mounts {
        let read_only = if mount.read_only { ":ro" } else { "" };
        let source = match (&mount.source, colon) {
            (MountSource::Bind(path), None) => path.display().to_string(),
            (MountSource::Volume { name, .. }, None) => name.clone(),
            (MountSource::Bind(_) | MountSource::Volume { .. }, Some(_)) | (MountSource::Tmpfs { .. }, _) => {
                return Err(unsupported(
                    "mount folders some of which have a comma or an equals sign in their path beside others with a colon, or \
                     beside a file system in memory",
                    "rename the folder",
                ));
            }
        };
        words.add(["--volume", &format!("{source}:{}{read_only}", mount.target)]);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
