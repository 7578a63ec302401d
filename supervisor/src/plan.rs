//! How it is done: a pure translation of a permit into what the engine is asked and the runner told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipc_protocol::PROTOCOL_VERSION;
use ipc_protocol::config::{AgentSpec, CONFIG_ENV, Identity, Layout, MountedFolder, RunnerConfig};
use ipc_protocol::paths::{
    CONTAINER_EXTRA_DIR, CONTAINER_IPC_DIR, CONTAINER_RECORD_DIR, CONTAINER_WORKSPACE, EXTRA_DIR_ENV, IPC_DIR_ENV,
    MAILBOX_DIRS, OUTER_EXTRA_DIR, WORKSPACE_IPC_DIR,
};

use crate::agents::Placement;
use crate::dirs::SessionDir;
use crate::engine;
use crate::engine::{ContainerSpec, Labels, Mount, Network, NetworkAttachment, NetworkSpec};
use crate::policy::{Facts, Permit};
use crate::proxy::{HEALTH_PATH, PLACEHOLDER};
use crate::request::{AgentRequest, EXTRA, IPC, RunAs};
use crate::session::SessionId;
use crate::session::machine::Rules;
use crate::workspace::facts::FolderId;

/// Marks everything of ours on the engine.
pub const LABEL_INSTANCE: &str = "aigo.instance";
/// Names the session that an engine object belongs to.
pub const LABEL_SESSION: &str = "aigo.session";

/// The name under which containers reach the host's proxies.
pub const GATEWAY_NAME: &str = "host-gateway";

/// What the agent may do as root of its container: install packages, change owners, run as others. Left out of the
/// engines' default are NET_RAW (spoofing on the session's network), MKNOD, SETFCAP and NET_BIND_SERVICE.
const CAPABILITIES: [&str; 9] =
    ["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SYS_CHROOT"];
/// The agent is killed before the supervisor when the host runs out of memory, see proc(5).
const OOM_SCORE_ADJ: i16 = 500;

/// A launch that policy has permitted.
#[derive(Clone, Debug)]
pub struct LaunchPlan {
    permit: Permit,
    id: SessionId,
    labels: Labels,
    folder: SessionDir,
    placement: Option<Placement>,
}

/// What is known about the mounts when the container is about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFacts {
    /// The mount points that exist in the workspace, relative to it; see [`LaunchPlan::mount_points`].
    pub in_workspace: Vec<PathBuf>,
    /// The record, whose numbers nobody but aigo can change: they show if the container sees the host's numbers.
    pub record: FolderId,
    /// The mailbox.
    pub mailbox: FolderId,
    /// The holder of mount points for additional mounts.
    pub extra: FolderId,
    /// The engine lets a folder be mounted in a mounted folder: the mailbox's folders are then mount points themselves, which
    /// the container cannot remove.
    pub nested: bool,
}

/// One mount, and which folder it has to be.
#[derive(Clone, Debug)]
struct Binding {
    mount: Mount,
    id: Option<FolderId>,
}

impl LaunchPlan {
    /// Plans what was permitted.
    pub fn new(permit: Permit, id: SessionId, instance: &str, folder: &SessionDir) -> Self {
        let labels = Labels::from([
            (LABEL_INSTANCE.to_owned(), instance.to_owned()),
            (LABEL_SESSION.to_owned(), id.to_string()),
        ]);
        Self { permit, id, labels, folder: folder.clone(), placement: None }
    }

    /// The same where its agent's limits put it.
    #[must_use]
    pub fn placed(self, placement: Option<Placement>) -> Self {
        Self { placement, ..self }
    }

    /// The session.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// What was permitted.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// What bounds its life.
    pub fn rules(&self) -> Rules {
        self.permit.request().rules()
    }

    /// Whom the agent runs as, and to whom the folders made for it belong.
    pub fn identity(&self) -> Identity {
        match self.permit.request().run_as {
            RunAs::Root => Identity { uid: 0, gid: 0 },
            RunAs::Owner => {
                let Facts { workspace, us, rootless, .. } = self.permit.facts();
                if *rootless {
                    // Root of the container is this user on the host; any other uid would be one that nobody has.
                    return Identity { uid: 0, gid: 0 };
                }
                // Only root may give the session's files to somebody else: anybody else works as themselves.
                if us.uid == 0 { Identity { uid: workspace.uid, gid: workspace.gid } } else { *us }
            }
        }
    }

    /// Mount points that are wanted in the workspace, relative to it. The session works without them, too.
    pub fn mount_points(&self) -> Vec<PathBuf> {
        self.permit.request().mount_points(&self.permit.facts().workspace)
    }

    /// The session's network: a way out by NAT, nobody else on it.
    pub fn network(&self) -> NetworkSpec {
        NetworkSpec { name: format!("aigo-{}", self.id), labels: self.labels.clone(), internal: false, subnet: None }
    }

    /// The container on that network.
    pub fn container(&self, network: &Network, facts: &MountFacts) -> ContainerSpec {
        let request = self.permit.request();
        let mut spec = ContainerSpec::new(format!("aigo-{}", self.id), &request.image);
        spec.labels = self.labels.clone();
        let bindings = self.bindings(facts);
        spec.env = self.environment(facts, &bindings);
        spec.mounts = bindings.into_iter().map(|binding| binding.mount).collect();
        spec.network = NetworkAttachment::Network { network: network.name.clone(), address: None };
        spec.extra_hosts = BTreeMap::from([(GATEWAY_NAME.to_owned(), IpAddr::V4(network.gateway))]);
        spec.limits = engine::Limits {
            nano_cpus: Some(u64::from(request.limits.cpus.0) * 1_000_000),
            memory: Some(request.limits.memory),
            pids: Some(request.limits.pids),
            // The engine's own: a container may not have more than the engine itself, whose limit we do not know.
            nofile: None,
            shm: None,
        };
        spec.cap_add = CAPABILITIES.iter().map(ToString::to_string).collect();
        // The runner starts as root to prepare the container, then gives the agent to the folder's owner.
        spec.user = Some("0:0".to_owned());
        spec.working_dir = Some(CONTAINER_WORKSPACE.to_owned());
        spec.hostname = Some("aigo".to_owned());
        spec.stop_timeout = request.graces.term;
        spec.oom_score_adj = Some(OOM_SCORE_ADJ);
        if let Some(placement) = &self.placement {
            placement.apply(&mut spec);
        }
        spec
    }

    fn bindings(&self, facts: &MountFacts) -> Vec<Binding> {
        let (request, folders) = (self.permit.request(), self.permit.facts());
        let dirs = self.folder.ipc();
        let bind = |source: &Path, target: &str, read_only: bool, id: Option<FolderId>| Binding {
            mount: Mount::bind(source, target, read_only),
            id,
        };
        let workspace = &folders.workspace;
        let mut bindings = vec![
            bind(&workspace.canonical, CONTAINER_WORKSPACE, request.workspace_read_only, Some(workspace.id)),
            bind(&dirs.record, CONTAINER_RECORD_DIR, false, Some(facts.record)),
            bind(&dirs.mailbox, CONTAINER_IPC_DIR, false, Some(facts.mailbox)),
        ];
        if facts.nested {
            // What is a mount point cannot be removed (rmdir(2)), wherever it is seen.
            let inner =
                |name: &&str| bind(&dirs.mailbox.join(name), &format!("{CONTAINER_IPC_DIR}/{name}"), false, None);
            bindings.extend(MAILBOX_DIRS.iter().map(inner));
        }
        if facts.has(IPC) {
            bindings.push(bind(&dirs.mailbox, WORKSPACE_IPC_DIR, false, Some(facts.mailbox)));
        }
        if facts.has(EXTRA) {
            bindings.push(bind(&self.folder.extra(), CONTAINER_EXTRA_DIR, true, Some(facts.extra)));
        }
        let place = facts.extra_place();
        bindings.extend(request.mounts.iter().zip(&folders.mounts).map(|(mount, folder)| {
            bind(&folder.canonical, &format!("{place}/{}", mount.name), mount.read_only, Some(folder.id))
        }));
        bindings
    }

    fn environment(&self, facts: &MountFacts, bindings: &[Binding]) -> BTreeMap<String, String> {
        let request = self.permit.request();
        let mut env = request.env.clone();
        env.insert(IPC_DIR_ENV.into(), CONTAINER_IPC_DIR.into());
        if !request.mounts.is_empty() {
            env.insert(EXTRA_DIR_ENV.into(), facts.extra_place().into());
        }
        if self.permit.facts().model {
            env.insert("ANTHROPIC_API_KEY".into(), PLACEHOLDER.into());
            env.insert("ANTHROPIC_BASE_URL".into(), self.proxy_url());
        }
        // Plain data without maps with odd keys: encoding it cannot fail.
        let config = serde_json::to_string(&self.runner_config(bindings)).unwrap_or_default();
        env.insert(CONFIG_ENV.into(), config);
        env
    }

    fn proxy_url(&self) -> String {
        format!("http://{GATEWAY_NAME}:{}", self.permit.request().proxy_port)
    }

    fn runner_config(&self, bindings: &[Binding]) -> RunnerConfig {
        let mounted = |Binding { mount, id }: &Binding| {
            id.map(|FolderId { device, inode }| MountedFolder { target: mount.target.clone(), device, inode })
        };
        let request = self.permit.request();
        let agent = match &request.agent {
            AgentRequest::Claude(claude) => AgentSpec::Claude {
                model: claude.model.clone(),
                conversation: conversation(&self.id),
                resume: false,
                max_turns: claude.max_turns,
                append_system_prompt: claude.append_system_prompt.clone(),
                project_settings: claude.project_settings,
                one_shot: !request.keep_open,
            },
            AgentRequest::Command { argv, output } => AgentSpec::Command { argv: argv.clone(), output: *output },
        };
        RunnerConfig {
            version: PROTOCOL_VERSION,
            session: self.id.to_string(),
            identity: self.identity(),
            preflight_url: self.permit.facts().model.then(|| format!("{}{HEALTH_PATH}", self.proxy_url())),
            term_grace_ms: u64::try_from(request.graces.term.as_millis()).unwrap_or(u64::MAX),
            agent,
            mounts: bindings.iter().filter_map(mounted).collect(),
            layout: Layout::default(),
        }
    }
}

impl MountFacts {
    fn has(&self, point: &str) -> bool {
        self.in_workspace.iter().any(|there| there == Path::new(point))
    }

    fn extra_place(&self) -> &'static str {
        if self.has(EXTRA) { CONTAINER_EXTRA_DIR } else { OUTER_EXTRA_DIR }
    }
}

/// The conversation's UUID, derived from the session's id: version 8 of RFC 9562, whose bits are the maker's own.
fn conversation(id: &SessionId) -> String {
    let mut bytes = [0; 16];
    for (byte, digits) in bytes.iter_mut().zip(id.as_str().as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).unwrap_or("00");
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy;
    use crate::request::MountRequest;

    fn plan() -> LaunchPlan {
        let mut request = policy::tests::request();
        request.mounts = vec![MountRequest { host: "/data".into(), name: "data".into(), read_only: true }];
        request.env = BTreeMap::from([("LANG".into(), "C.UTF-8".into())]);
        let mut facts = policy::tests::facts();
        facts.mounts = vec![policy::tests::folder("/data")];
        let permit = policy::judge(request, facts).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let dirs = crate::dirs::DataDir::open(Some(dir.path()), |_| None).unwrap();
        let id: SessionId = "0123456789ab".parse().unwrap();
        let folder = dirs.session(&id);
        LaunchPlan::new(permit, id, "instance", &folder)
    }

    fn mount_facts(points: &[&str]) -> MountFacts {
        let id = |inode| FolderId { device: 9, inode };
        let in_workspace = points.iter().map(PathBuf::from).collect();
        MountFacts { in_workspace, record: id(1), mailbox: id(2), extra: id(3), nested: true }
    }

    fn spec(plan: &LaunchPlan) -> ContainerSpec {
        plan.container(&network(), &mount_facts(&["ipc", "extra"]))
    }

    fn network() -> Network {
        Network {
            id: engine::NetworkId("n".into()),
            name: "aigo-0123456789ab".into(),
            labels: Labels::new(),
            internal: false,
            subnet: "10.9.0.0/24".parse().unwrap(),
            gateway: [10, 9, 0, 1].into(),
        }
    }

    #[test]
    fn the_environment_holds_what_the_plan_names_and_no_key() {
        let spec = spec(&plan());
        let names: Vec<&str> = spec.env.keys().map(String::as_str).collect();
        assert_eq!(names, [EXTRA_DIR_ENV, IPC_DIR_ENV, CONFIG_ENV, "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "LANG"]);
        assert_eq!(spec.env["ANTHROPIC_API_KEY"], PLACEHOLDER);
        assert_eq!(spec.env["ANTHROPIC_BASE_URL"], "http://host-gateway:3001");
        let config: RunnerConfig = serde_json::from_str(&spec.env[CONFIG_ENV]).unwrap();
        assert_eq!(config.identity, Identity { uid: 1000, gid: 1000 });
        let AgentSpec::Claude { conversation, .. } = config.agent else { panic!("not claude") };
        assert_eq!(conversation, "01234567-89ab-8000-8000-000000000000");
    }

    #[test]
    fn only_root_works_for_the_owner() {
        let identity = |uid| {
            let mut facts = policy::tests::facts();
            facts.us = Identity { uid, gid: uid };
            facts.workspace.uid = 501;
            let permit = policy::judge(policy::tests::request(), facts).unwrap();
            LaunchPlan { permit, ..plan() }.identity().uid
        };
        assert_eq!((identity(0), identity(1000)), (501, 1000));
    }

    #[test]
    fn in_a_rootless_engine_root_is_the_user() {
        let mut facts = policy::tests::facts();
        (facts.rootless, facts.us) = (true, Identity { uid: 1000, gid: 1000 });
        let permit = policy::judge(policy::tests::request(), facts).unwrap();
        assert_eq!(LaunchPlan { permit, ..plan() }.identity(), Identity { uid: 0, gid: 0 });
    }

    #[test]
    fn every_limit_is_set_and_no_privilege() {
        let spec = spec(&plan());
        assert!(spec.limits.memory.is_some() && spec.limits.pids.is_some() && spec.limits.nano_cpus.is_some());
        assert!(!spec.security.privileged && spec.security.devices.is_empty());
        assert!(!spec.cap_add.iter().any(|cap| ["NET_RAW", "SYS_ADMIN", "NET_ADMIN"].contains(&cap.as_str())));
        assert_eq!(spec.extra_hosts[GATEWAY_NAME], IpAddr::from([10, 9, 0, 1]));
    }

    fn targets(spec: &ContainerSpec) -> Vec<(&str, bool)> {
        spec.mounts.iter().map(|mount| (mount.target.as_str(), mount.read_only)).collect()
    }

    #[test]
    fn what_was_judged_is_what_is_mounted_and_told_to_the_runner() {
        let plan = plan();
        let spec = spec(&plan);
        let expected = [
            ("/workspace", false),
            ("/run/aigo/private/record", false),
            ("/run/aigo/ipc", false),
            ("/run/aigo/ipc/input", false),
            ("/run/aigo/ipc/messages", false),
            ("/run/aigo/ipc/tasks", false),
            ("/run/aigo/ipc/replies", false),
            ("/workspace/ipc", false),
            ("/workspace/extra", true),
            ("/workspace/extra/data", true),
        ];
        assert_eq!(targets(&spec), expected);
        assert_eq!(plan.mount_points(), ["ipc", "extra"].map(PathBuf::from));
        let config: RunnerConfig = serde_json::from_str(&spec.env[CONFIG_ENV]).unwrap();
        let compared: Vec<&str> = config.mounts.iter().map(|mount| mount.target.as_str()).collect();
        let nested = |target: &&str| !target.starts_with("/run/aigo/ipc/");
        assert_eq!(compared, expected.map(|(target, _)| target).into_iter().filter(nested).collect::<Vec<_>>());
    }

    #[test]
    fn what_the_workspace_has_itself_is_not_covered() {
        let mut facts = mount_facts(&[]);
        facts.nested = false;
        let spec = plan().container(&network(), &facts);
        let expected = [
            ("/workspace", false),
            ("/run/aigo/private/record", false),
            ("/run/aigo/ipc", false),
            ("/run/aigo/extra/data", true),
        ];
        assert_eq!(targets(&spec), expected);
        assert_eq!(
            (spec.env[IPC_DIR_ENV].as_str(), spec.env[EXTRA_DIR_ENV].as_str()),
            ("/run/aigo/ipc", "/run/aigo/extra")
        );
    }
}
