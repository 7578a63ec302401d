//! What somebody asks for: the one form in which CLI, and later API, schedules and channels, enter.

pub mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipc_protocol::config::CommandOutput;

use crate::agents::AgentName;
use crate::session::machine::{Ends, Graces, Rules};
use crate::units::MilliCpus;
use crate::workspace::facts::FolderFacts;

/// The mailbox's mount point in the workspace.
pub const IPC: &str = "ipc";
/// The mount point in the workspace for additional mounts.
pub const EXTRA: &str = "extra";
/// The image that is used if none is named.
pub const DEFAULT_IMAGE: &str = "aigo-agent-runner:latest";
/// Default memory of a container: Claude Code needs about 300 MiB, builds and tests of real projects a few GiB.
pub const DEFAULT_MEMORY: u64 = 4 << 30;
/// Default CPUs of a container; fewer on a host that has fewer.
pub const DEFAULT_CPUS: MilliCpus = MilliCpus(2000);
/// Default bound on processes and threads: parallel builds fit, a fork bomb does not hurt.
pub const DEFAULT_PIDS: u32 = 1024;
/// Default life of a session.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Default port of the credential proxy on the gateway of the session's network.
pub const DEFAULT_PROXY_PORT: u16 = crate::proxy::DEFAULT_PORT;

/// A wish for a session, unjudged.
#[derive(Clone, Debug)]
pub struct SessionRequest {
    /// On whose account it runs: whose limits hold.
    pub principal: AgentName,
    /// The user's folder.
    pub workspace: PathBuf,
    /// The agent may only read it.
    pub workspace_read_only: bool,
    /// More folders, under `/workspace/extra`.
    pub mounts: Vec<MountRequest>,
    /// The image.
    pub image: String,
    /// What to run.
    pub agent: AgentRequest,
    /// The first message.
    pub prompt: Option<String>,
    /// The session stays open for more messages after the first is answered.
    pub keep_open: bool,
    /// Bounds of the container.
    pub limits: Limits,
    /// Longest life; none = unbounded.
    pub timeout: Option<Duration>,
    /// Longest silence; none = unbounded.
    pub idle_timeout: Option<Duration>,
    /// Graces at the end.
    pub graces: Graces,
    /// Environment for the agent.
    pub env: BTreeMap<String, String>,
    /// Whom the agent runs as.
    pub run_as: RunAs,
    /// Where the credential proxy listens.
    pub proxy_port: u16,
    /// What answers for the model.
    pub model: ModelSource,
}

impl SessionRequest {
    /// What bounds the session's life.
    pub fn rules(&self) -> Rules {
        let (ends, can_save) = match self.agent {
            AgentRequest::Claude(_) => (Ends::WhenAnswered, true),
            AgentRequest::Command { .. } => (Ends::WhenTaken, false),
        };
        let ends = if self.keep_open { Ends::WhenTold } else { ends };
        Rules { timeout: self.timeout, idle_timeout: self.idle_timeout, graces: self.graces, ends, can_save }
    }

    /// Mount points that are wanted in the workspace `folder`, relative to it: nothing of the user's own is hidden.
    pub fn mount_points(&self, folder: &FolderFacts) -> Vec<PathBuf> {
        let ipc = (!folder.has_ipc).then_some(IPC);
        let extra = (!self.mounts.is_empty() && !folder.has_extra).then_some(EXTRA);
        ipc.into_iter().chain(extra).map(PathBuf::from).collect()
    }
}

/// What answers for the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ModelSource {
    /// The model's API, with the host's credential.
    #[default]
    Live,
    /// The same, and the traffic is kept in this file, credentials scrubbed.
    Record(PathBuf),
    /// This recording or script.
    Replay(PathBuf),
}

/// A folder to mount under `/workspace/extra`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRequest {
    /// The host's folder.
    pub host: PathBuf,
    /// Its name under `/workspace/extra`.
    pub name: String,
    /// The agent may only read it.
    pub read_only: bool,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentRequest {
    /// Claude Code.
    Claude(ClaudeRequest),
    /// Any program in the container.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// How its output is read.
        output: CommandOutput,
    },
}

/// Options of Claude Code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaudeRequest {
    /// Model alias or id.
    pub model: Option<String>,
    /// The most turns of the model for one message.
    pub max_turns: Option<u32>,
    /// Text added to the system prompt.
    pub append_system_prompt: Option<String>,
    /// Honour the project's own settings and hooks.
    pub project_settings: bool,
}

impl AgentRequest {
    /// The adapter's word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Claude(_) => "claude",
            Self::Command { .. } => "command",
        }
    }

    /// It talks to a model, so it needs the credential proxy.
    pub const fn needs_model(&self) -> bool {
        match self {
            Self::Claude(_) => true,
            Self::Command { .. } => false,
        }
    }
}

/// Bounds of the container; the kernel enforces them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// CPU time per time.
    pub cpus: MilliCpus,
    /// Bytes, no swap on top.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cpus: DEFAULT_CPUS, memory: DEFAULT_MEMORY, pids: DEFAULT_PIDS }
    }
}

/// Whom the agent runs as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunAs {
    /// The owner of the user's folder, with passwordless sudo inside the container.
    #[default]
    Owner,
    /// Root of the container.
    Root,
}
