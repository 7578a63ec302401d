//! What the supervisor tells the runner at start, as JSON in one environment variable.

use serde::{Deserialize, Serialize};

use crate::paths::{CONTAINER_IPC_DIR, CONTAINER_RECORD_DIR, CONTAINER_WORKSPACE, WORKSPACE_IPC_DIR};

/// The environment variable that carries a [`RunnerConfig`].
pub const CONFIG_ENV: &str = "AIGO_RUNNER_CONFIG";

/// Everything that the runner must know before the first message. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerConfig {
    /// Generation of the protocol that the supervisor speaks.
    pub version: u32,
    /// The session's id.
    pub session: String,
    /// What to run.
    pub agent: AgentSpec,
    /// Whom to run it as.
    pub identity: Identity,
    /// A URL of the credential proxy that must answer 200 before the agent starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preflight_url: Option<String>,
    /// Time between SIGTERM and SIGKILL for the agent at the end, in milliseconds.
    pub term_grace_ms: u64,
    /// The folders of the host that are mounted, each as it was judged. The runner compares them before it starts the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountedFolder>,
    /// Where things are in the container; only tests outside a container change it.
    #[serde(default, skip_serializing_if = "Layout::is_standard")]
    pub layout: Layout,
}

/// A folder of the host that is mounted, and which folder it has to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountedFolder {
    /// Where the container sees it.
    pub target: String,
    /// Device number of the folder on the host (`st_dev`, stat(2)).
    pub device: u64,
    /// Inode number of the folder on the host.
    pub inode: u64,
}

/// Where the runner finds things: the container's own places unless a test says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Layout {
    /// The user's folder.
    pub workspace: String,
    /// The mailbox.
    pub ipc: String,
    /// The folder of the journal and the heartbeat.
    pub record: String,
    /// The agent's home folder.
    pub home: String,
    /// The folder of `passwd`, `group` and `sudoers.d`.
    pub etc: String,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            workspace: CONTAINER_WORKSPACE.to_owned(),
            ipc: CONTAINER_IPC_DIR.to_owned(),
            record: CONTAINER_RECORD_DIR.to_owned(),
            home: "/home/agent".to_owned(),
            etc: "/etc".to_owned(),
        }
    }
}

impl Layout {
    /// The places of generation 1 of the protocol, in which the journal was in the mailbox.
    pub fn of_generation_1() -> Self {
        Self { ipc: WORKSPACE_IPC_DIR.to_owned(), record: WORKSPACE_IPC_DIR.to_owned(), ..Self::default() }
    }

    fn is_standard(&self) -> bool {
        *self == Self::default()
    }
}

/// Whom the agent runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// User id inside the container: the owner of the user's folder.
    pub uid: u32,
    /// Group id inside the container.
    pub gid: u32,
}

/// The agent and its options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "adapter", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum AgentSpec {
    /// Claude Code over stream-json.
    Claude {
        /// Model alias or id; the CLI's default without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// The conversation's id: a UUID.
        conversation: String,
        /// Whether that conversation exists and goes on.
        #[serde(default)]
        resume: bool,
        /// The most turns of the model for one message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_turns: Option<u32>,
        /// Text added to the system prompt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        append_system_prompt: Option<String>,
        /// Honour the project's own settings file, hooks and environment; off, since they can redirect the API.
        #[serde(default)]
        project_settings: bool,
        /// The session ends when everything is answered: nothing may go on in the background after an answer.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        one_shot: bool,
    },
    /// Any program: messages as lines on its stdin, its output as events.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// How its stdout is read.
        #[serde(default)]
        output: CommandOutput,
    },
}

/// How a command's stdout is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandOutput {
    /// Each line is text.
    #[default]
    Lines,
    /// Each line is a JSON object in the form of our events; others are kept as `raw`.
    Json,
}
