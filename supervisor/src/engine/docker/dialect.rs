//! Everything in which Podman's form of Docker's API differs from Docker's, in one place.
//!
//! Seen on Podman 4.3.1 (Debian 12), rootful and rootless; the conformance suite is run on both. Podman ≥ 4.3 answers
//! Docker's API 1.41.
//!
//! | what | Docker | Podman | what is done |
//! |---|---|---|---|
//! | its own name | kept | made up for each answer | none; its address names it |
//! | limits that the kernel cannot enforce | a warning | dropped without a word, or the start fails | left out, with a warning |
//! | the first process's cgroup | its container's | without controllers: that of its user's engine | no pid is told |
//! | open files, processes | the daemon's own | 1,048,576 if rootful, more than some hosts allow | those of the engine's own process |
//! | a bind source that is missing | refused | made as root | looked for before |
//! | a bind source with a comma | a path | the end of a word | given as a bind; refused with a colon besides |
//! | removal by force | kills | asks with SIGTERM first, for 10 s | killed before |
//! | a container removed at once | `die`, `destroy` | `die` may come last or never | callers wait for the end first |
//! | gateway of a network | there with the network | there while a container of it runs | bound ahead ([`super::gateway`]) |
//! | out-of-memory kills | inspection, events | inspection on cgroup v2 only | the cgroup's counters rule |
//! | changed limits | on record | in force, the record stays | said by [`Quirks`] |
//! | changing limits | Docker's API | its own API ([`super::libpod`]) | |
//! | traffic between containers of one network | can be switched off | cannot | a session's network has one container |
//! | traffic between networks | none | unless a network is isolated, which is no word of Docker's API | its own API |
//! | import under a tag | yes | the tag is ignored | tagged afterwards |
//! | a container whose process has ended | `exited` | `stopped` until it has been cleaned up, which is no word of Docker's API | asked again |
//! | images without a registry | as they are | `docker.io/library/` in front | taken away again |
//! | build | BuildKit | its own, like the classic builder | asked as the classic builder |
//! | events | `die`, `destroy` | asked for as `died`, told as `die`; `remove` | all are asked for and read |
//! | refusals | 403, 404, 409 | mostly 500 with a sentence | by the sentence |
//!
//! A rootless Docker is like the other one but for its limits and its network namespace ([`super::wire`], [`super::gateway`]).

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, ResourcesUlimits};
use bollard::query_parameters::BuilderVersion;

use super::error::About;
use super::libpod::{Ceilings, Libpod};
use crate::engine::error::clip;
use crate::engine::info::Quirks;
use crate::engine::{Backend, CgroupVersion, EngineError, LimitSupport, Object};

/// Where names without a registry are looked up, which Podman puts in front of them.
const IMPLIED_REGISTRY: [&str; 2] = ["docker.io/library/", "docker.io/"];

/// Who answers, and with it how.
#[derive(Debug)]
pub(super) enum Dialect {
    Docker,
    Podman(Libpod),
}

impl Dialect {
    pub(super) fn backend(&self) -> Backend {
        match self {
            Dialect::Docker => Backend::Docker,
            Dialect::Podman(_) => Backend::Podman,
        }
    }

    /// See [`EngineIdentity::id`](crate::engine::EngineIdentity::id).
    pub(super) fn engine_id(&self, told: Option<String>) -> String {
        match self {
            Dialect::Docker => told.unwrap_or_default(),
            Dialect::Podman(_) => String::new(),
        }
    }

    /// The answer could not be read because a container in it is on its way to `exited`.
    pub(super) fn is_settling(&self, error: &bollard::errors::Error) -> bool {
        match self {
            Dialect::Docker => false,
            Dialect::Podman(_) => error.to_string().contains("unknown variant `stopped`"),
        }
    }

    pub(super) fn quirks(&self) -> Quirks {
        match self {
            Dialect::Docker => Quirks::default(),
            Dialect::Podman(_) => {
                Quirks { oom_untold: true, updates_unrecorded: true, unnamed: true, streams_joined: false }
            }
        }
    }

    /// Docker's request in this engine's form, and what of it cannot be had.
    pub(super) fn create(&self, mut body: ContainerCreateBody) -> (ContainerCreateBody, Vec<String>) {
        let Dialect::Podman(podman) = self else { return (body, Vec::new()) };
        let mut host = body.host_config.unwrap_or_default();
        let mut warnings = leave_out(&mut host, podman.limits);
        if podman.rootless
            && podman.cgroups == CgroupVersion::V1
            && host.ulimits.take().is_some_and(|all| !all.is_empty())
        {
            warnings.push(
                "the open files limit is not enforced: rootless Podman on cgroup version 1 takes none".to_owned(),
            );
        }
        if let Some(log) = &mut host.log_config {
            // It has no `local`; `json-file` is its own format with the same bound.
            log.typ = Some("json-file".to_owned());
            if let Some(config) = &mut log.config {
                config.remove("max-file");
            }
        }
        // Of use only with swap on top of the memory limit, which is never given; refused on cgroup v2.
        host.memory_swappiness = None;
        if let Some(Ceilings { files, processes }) = podman.ceilings.filter(|_| !podman.rootless) {
            // Rootless Podman takes its own user's limits by itself.
            let ulimits = host.ulimits.get_or_insert_default();
            for (name, most) in [("nofile", files), ("nproc", processes)] {
                if !ulimits.iter().any(|limit| limit.name.as_deref() == Some(name)) {
                    ulimits.push(ceiling(name, most));
                }
            }
        }
        separate_commas(&mut host);
        body.host_config = Some(host);
        (body, warnings)
    }

    /// Whether a container has no cgroup of its own: its counters would be those of the whole host.
    pub(super) fn shares_cgroup(&self) -> bool {
        match self {
            Dialect::Docker => false,
            Dialect::Podman(Libpod { rootless, limits, .. }) => {
                *rootless && !(limits.memory || limits.cpu || limits.pids)
            }
        }
    }

    /// How the builder is asked.
    pub(super) fn builder(&self) -> BuilderVersion {
        match self {
            Dialect::Docker => BuilderVersion::BuilderBuildKit,
            Dialect::Podman(_) => BuilderVersion::BuilderV1,
        }
    }

    /// An image's name as people gave it.
    pub(super) fn plain_tag(&self, tag: String) -> String {
        match self {
            Dialect::Docker => tag,
            Dialect::Podman(_) => without_registry(&tag).to_owned(),
        }
    }
}

/// Takes out what the kernel cannot enforce for this engine: rootless ones drop some of it in silence, and Podman fails on
/// the rest.
pub(super) fn leave_out(host: &mut HostConfig, can: LimitSupport) -> Vec<String> {
    let mut lost = Vec::new();
    if !can.memory && host.memory.take().is_some() {
        host.memory_swap = None;
        lost.push("memory");
    }
    if !can.cpu && host.nano_cpus.take().is_some() {
        lost.push("CPU");
    }
    if !can.pids && host.pids_limit.take().is_some() {
        lost.push("process");
    }
    if lost.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "not enforced: {} limit; this engine may not use those cgroup controllers, aigo doctor says what to do",
        lost.join(", ")
    )]
}

fn ceiling(name: &str, most: u64) -> ResourcesUlimits {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(most), hard: Some(most) }
}

/// Podman turns a mount into words between commas, but leaves a bind, whose parts stand between colons, as it is.
fn separate_commas(host: &mut HostConfig) {
    let Some(mounts) = &mut host.mounts else { return };
    let is_bind = |mount: &Mount| mount.typ == Some(MountType::BIND);
    let (binds, rest) = std::mem::take(mounts).into_iter().partition::<Vec<_>, _>(|mount| {
        is_bind(mount) && mount.source.as_deref().is_some_and(|path| path.contains(','))
    });
    *mounts = rest;
    let binds = binds.into_iter().map(|mount| {
        let mode = if mount.read_only == Some(true) { "ro" } else { "rw" };
        format!("{}:{}:{mode},rprivate", mount.source.unwrap_or_default(), mount.target.unwrap_or_default())
    });
    host.binds.get_or_insert_default().extend(binds);
}

/// Whether Podman has a way to be told of a bind source at all.
pub(super) fn can_mount(path: &std::path::Path) -> bool {
    let path = path.to_string_lossy();
    !(path.contains(',') && path.contains(':'))
}

fn without_registry(tag: &str) -> &str {
    IMPLIED_REGISTRY.iter().find_map(|registry| tag.strip_prefix(registry)).unwrap_or(tag)
}

/// Podman's refusals, most of which come as status 500; `None` where Docker's reading serves. Docker says none of these
/// sentences.
pub(super) fn refusal(about: About<'_>, message: &str) -> Option<EngineError> {
    let name = || about.name.to_owned();
    let has = |phrase: &str| message.contains(phrase);
    let container = about.object == Object::Container;
    Some(if has("that name is already in use") || has("network already exists") {
        EngineError::Conflict { what: about.object, name: name() }
    } else if has("image not known") && has("o such image: ") && container {
        EngineError::ImageMissing { tag: without_registry(between(message, "o such image: ", ": image")).to_owned() }
    } else if has("unable to find network with name or ID ") && container {
        let network = between(message, "unable to find network with name or ID ", ": network");
        EngineError::NotFound { what: Object::Network, name: network.to_owned() }
    } else if has("running or paused containers cannot be removed")
        || has("network is being used")
        || has("image is in use by a container")
    {
        EngineError::InUse { what: about.object, name: name(), message: clip(message) }
    } else if has("can only kill running containers")
        || has("can only create exec sessions on running containers")
        || has("can only stop created or running containers")
    {
        EngineError::NotRunning { name: name() }
    } else {
        return None;
    })
}

/// What stands between two phrases; everything if they are not there.
fn between<'a>(message: &'a str, before: &str, after: &str) -> &'a str {
    message.split_once(before).and_then(|(_, rest)| rest.split_once(after)).map_or(message, |(found, _)| found)
}

/// What rootless Podman can hold containers to: the controllers that were delegated to its user.
pub(super) fn delegated(controllers: &[String], version: CgroupVersion) -> LimitSupport {
    // On version 1 there is no delegation; Podman names none, and this does not depend on it.
    let has = |name: &str| version == CgroupVersion::V2 && controllers.iter().any(|controller| controller == name);
    LimitSupport { memory: has("memory"), swap: has("memory"), cpu: has("cpu"), pids: has("pids") }
}

#[cfg(test)]
mod tests {
    use bollard::models::HostConfigLogConfig;

    use super::*;

    const ALL: LimitSupport = LimitSupport { memory: true, swap: true, cpu: true, pids: true };

    fn podman(rootless: bool, limits: LimitSupport) -> Dialect {
        Dialect::Podman(Libpod {
            rootless,
            limits,
            cgroups: CgroupVersion::V2,
            socket: None,
            ceilings: Some(Ceilings { files: 1024, processes: 99 }),
        })
    }

    fn limited() -> ContainerCreateBody {
        ContainerCreateBody {
            host_config: Some(HostConfig {
                memory: Some(1 << 25),
                memory_swap: Some(1 << 25),
                memory_swappiness: Some(0),
                nano_cpus: Some(1),
                pids_limit: Some(9),
                log_config: Some(HostConfigLogConfig { typ: Some("local".to_owned()), config: None }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    #[test]
    fn docker_is_asked_as_it_is() {
        assert_eq!(Dialect::Docker.create(limited()), (limited(), vec![]));
    }

    #[test]
    fn rootful_podman_gets_every_limit_and_explicit_ones_for_files_and_processes() {
        let (body, warnings) = podman(false, ALL).create(limited());
        let host = body.host_config.unwrap();
        assert_eq!((host.memory, host.nano_cpus, host.pids_limit), (Some(1 << 25), Some(1), Some(9)));
        assert_eq!(host.log_config.unwrap().typ.unwrap(), "json-file");
        let names: Vec<String> = host.ulimits.unwrap().into_iter().filter_map(|limit| limit.name).collect();
        assert_eq!(names, ["nofile", "nproc"]);
        assert!(warnings.is_empty() && host.memory_swappiness.is_none());
    }

    #[test]
    fn a_comma_does_not_end_a_path() {
        let bind = |path: &str| Mount {
            typ: Some(MountType::BIND),
            source: Some(path.to_owned()),
            target: Some("/data".to_owned()),
            read_only: Some(true),
            ..Mount::default()
        };
        let mut body = limited();
        body.host_config.as_mut().unwrap().mounts = Some(vec![bind("/a,b"), bind("/a:b")]);
        let host = podman(false, ALL).create(body).0.host_config.unwrap();
        assert_eq!(host.binds.unwrap(), ["/a,b:/data:ro,rprivate"]);
        assert_eq!(host.mounts.unwrap(), [bind("/a:b")]);
        assert!(can_mount("/a,b".as_ref()) && can_mount("/a:b".as_ref()) && !can_mount("/a,b:c".as_ref()));
    }

    #[test]
    fn a_limit_given_for_files_stays() {
        let mut body = limited();
        let ours = ResourcesUlimits { name: Some("nofile".to_owned()), soft: Some(5), hard: Some(5) };
        body.host_config.as_mut().unwrap().ulimits = Some(vec![ours.clone()]);
        let ulimits = podman(false, ALL).create(body).0.host_config.unwrap().ulimits.unwrap();
        assert!(ulimits.len() == 2 && ulimits[0] == ours, "{ulimits:?}");
    }

    #[test]
    fn what_rootless_podman_cannot_enforce_is_said() {
        let controllers = ["memory".to_owned(), "pids".to_owned()];
        let (body, warnings) = podman(true, delegated(&controllers, CgroupVersion::V2)).create(limited());
        let host = body.host_config.unwrap();
        assert_eq!((host.memory, host.nano_cpus, host.pids_limit), (Some(1 << 25), None, Some(9)));
        assert!(warnings.len() == 1 && warnings[0].starts_with("not enforced: CPU limit"), "{warnings:?}");
        let (body, warnings) = podman(true, delegated(&controllers, CgroupVersion::V1)).create(limited());
        let host = body.host_config.unwrap();
        assert_eq!((host.memory, host.memory_swap, host.pids_limit), (None, None, None));
        assert!(warnings[0].contains("memory, CPU, process") && host.ulimits.is_none(), "{warnings:?}");
    }

    #[test]
    fn sentences_of_podman_become_variants() {
        let said = |about, message| refusal(about, message);
        let create = About::container("create container", "s1");
        assert_eq!(
            said(create, "no such image: docker.io/library/nope:none: image not known"),
            Some(EngineError::ImageMissing { tag: "nope:none".into() })
        );
        assert_eq!(
            said(create, "container create: unable to find network with name or ID nonet: network not found"),
            Some(EngineError::NotFound { what: Object::Network, name: "nonet".into() })
        );
        assert_eq!(
            said(create, "the container name \"s1\" is already in use by e3a5. … : that name is already in use"),
            Some(EngineError::Conflict { what: Object::Container, name: "s1".into() })
        );
        let network = About::network("remove a network", "n");
        let busy = said(network, "\"n\" has associated containers with it. …: network is being used");
        assert!(matches!(busy, Some(EngineError::InUse { what: Object::Network, .. })), "{busy:?}");
        let ended = said(create, "can only kill running containers. e3a5 is in state exited: container state improper");
        assert!(matches!(ended, Some(EngineError::NotRunning { .. })), "{ended:?}");
        assert_eq!(said(create, "something else"), None);
        // Docker's, of a network whose name ends like that.
        assert_eq!(said(create, "network no-network not found"), None);
    }
}
