//! A request as JSON: what the API takes, what the CLI sends to a daemon, and what the store keeps of a session.
//!
//! Every field but the workspace has a default; unknown ones are errors. Numbers carry their unit in their name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipc_protocol::config::CommandOutput;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AgentRequest, ClaudeRequest, DEFAULT_CPUS, DEFAULT_IMAGE, DEFAULT_MEMORY, DEFAULT_PIDS, DEFAULT_PROXY_PORT,
    DEFAULT_TIMEOUT, Limits, ModelSource, MountRequest, RunAs, SessionRequest,
};
use crate::session::machine::Graces;
use crate::units::MilliCpus;

/// Longest time that can be asked for, in seconds: a year.
const MAX_SECS: u64 = 366 * 24 * 3600;

/// A session to be started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSession {
    /// The user's folder, an absolute path on the supervisor's host.
    #[schema(value_type = String, pattern = "^/", example = "/home/me/my-project")]
    pub workspace: PathBuf,
    /// The agent may only read it.
    #[serde(default)]
    pub workspace_read_only: bool,
    /// A folder `ipc` of the user's own may be covered while the session lasts.
    #[serde(default)]
    pub cover_ipc: bool,
    /// More folders, under `/workspace/extra`.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub mounts: Vec<NewMount>,
    /// The image.
    #[serde(default = "default_image")]
    #[schema(default = "aigo-agent-runner:latest")]
    pub image: String,
    /// What runs in the container.
    #[serde(default)]
    pub program: Program,
    /// The first message; needed unless `keepOpen`, or the program takes none.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The session stays open for more messages after the first is answered.
    #[serde(default)]
    pub keep_open: bool,
    /// Bounds of the container.
    #[serde(default)]
    pub limits: NewLimits,
    /// Longest life in seconds; 0 for none.
    #[serde(default = "default_timeout")]
    #[schema(default = 1800, maximum = 31622400)]
    pub timeout_secs: u64,
    /// Longest silence with nothing in flight in seconds; 0 for none.
    #[serde(default)]
    #[schema(default = 0, maximum = 31622400)]
    pub idle_timeout_secs: u64,
    /// Graces at the end.
    #[serde(default)]
    pub graces: NewGraces,
    /// Environment for the agent. Credentials do not belong here: the proxy has them.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Run the agent as root of the container instead of as the folder's owner.
    #[serde(default)]
    pub root: bool,
    /// Port of the credential proxy on the session network's gateway.
    #[serde(default = "default_proxy_port")]
    #[schema(default = 3001, minimum = 1)]
    pub proxy_port: u16,
    /// What answers for the model.
    #[serde(default)]
    pub model: NewModel,
}

/// A folder to mount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMount {
    /// The host's folder.
    #[schema(value_type = String, pattern = "^/")]
    pub host_path: PathBuf,
    /// Its name under `/workspace/extra`.
    pub name: String,
    /// The agent may only read it.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub read_only: bool,
}

/// What runs in the container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Program {
    /// Claude Code.
    Claude {
        /// Model alias or id.
        #[serde(default)]
        model: Option<String>,
        /// The most turns of the model for one message.
        #[serde(default)]
        #[schema(minimum = 1, maximum = 10000)]
        max_turns: Option<u32>,
        /// Text added to the system prompt.
        #[serde(default)]
        append_system_prompt: Option<String>,
        /// Honour the project's own settings and hooks.
        #[serde(default)]
        project_settings: bool,
    },
    /// Any program in the image.
    Command {
        /// Program and arguments.
        #[schema(min_items = 1)]
        argv: Vec<String>,
        /// How its output is read.
        #[serde(default)]
        output: OutputKind,
    },
}

/// How a program's output is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// Each line is text.
    #[default]
    Lines,
    /// Each line is a JSON object.
    Json,
}

/// Bounds of the container; the kernel enforces them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NewLimits {
    /// CPUs, such as 2 or 0.5.
    #[schema(minimum = 0.01, maximum = 1024, default = 2)]
    pub cpus: f64,
    /// Bytes of memory, no swap on top.
    #[schema(minimum = 6291456, default = 4294967296u64)]
    pub memory_bytes: u64,
    /// Processes and threads.
    #[schema(minimum = 16, default = 1024)]
    pub pids: u32,
}

/// Graces at the end, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NewGraces {
    /// At a timeout: time for the agent to save its work.
    #[schema(maximum = 86400000, default = 30000)]
    pub save_ms: u64,
    /// At a timeout: from the close signal to SIGTERM.
    #[schema(maximum = 86400000, default = 10000)]
    pub close_ms: u64,
    /// From SIGTERM to kill.
    #[schema(maximum = 86400000, default = 10000)]
    pub term_ms: u64,
}

/// What answers for the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "source", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum NewModel {
    /// The model's API, with the supervisor's credential.
    #[default]
    Live,
    /// The same, and the traffic is kept in a file, credentials scrubbed.
    Record {
        /// A file on the supervisor's host.
        #[schema(value_type = String, pattern = "^/")]
        file: PathBuf,
    },
    /// A recording or a script.
    Replay {
        /// A file on the supervisor's host.
        #[schema(value_type = String, pattern = "^/")]
        file: PathBuf,
    },
}

/// A field that cannot be as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadField {
    /// Which, as a JSON pointer.
    pub pointer: &'static str,
    /// What is wrong, and what is allowed.
    pub detail: String,
}

fn default_image() -> String {
    DEFAULT_IMAGE.to_owned()
}

fn default_timeout() -> u64 {
    DEFAULT_TIMEOUT.as_secs()
}

fn default_proxy_port() -> u16 {
    DEFAULT_PROXY_PORT
}

fn yes() -> bool {
    true
}

impl Default for Program {
    fn default() -> Self {
        Self::Claude { model: None, max_turns: None, append_system_prompt: None, project_settings: false }
    }
}

impl Default for NewLimits {
    fn default() -> Self {
        Self { cpus: f64::from(DEFAULT_CPUS.0) / 1000.0, memory_bytes: DEFAULT_MEMORY, pids: DEFAULT_PIDS }
    }
}

impl Default for NewGraces {
    fn default() -> Self {
        Graces::default().into()
    }
}

impl From<Graces> for NewGraces {
    fn from(graces: Graces) -> Self {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self { save_ms: millis(graces.save), close_ms: millis(graces.close), term_ms: millis(graces.term) }
    }
}

impl NewSession {
    /// The request, with everything that is wrong with it if it is none.
    pub fn into_request(self) -> Result<SessionRequest, Vec<BadField>> {
        let mut bad = Vec::new();
        let mut check = |good: bool, pointer: &'static str, detail: &str| {
            if !good {
                bad.push(BadField { pointer, detail: detail.to_owned() });
            }
        };
        check(self.workspace.is_absolute(), "/workspace", "it must be an absolute path on the supervisor's host");
        check(self.mounts.len() <= 64, "/mounts", "at most 64");
        check(
            self.mounts.iter().all(|mount| mount.host_path.is_absolute()),
            "/mounts",
            "each hostPath must be absolute",
        );
        let cpus = self.limits.cpus;
        check(cpus.is_finite() && (0.01..=1024.0).contains(&cpus), "/limits/cpus", "from 0.01 to 1024");
        check(self.timeout_secs <= MAX_SECS, "/timeoutSecs", "at most a year; 0 for none");
        check(self.idle_timeout_secs <= MAX_SECS, "/idleTimeoutSecs", "at most a year; 0 for none");
        let NewGraces { save_ms, close_ms, term_ms } = self.graces;
        check([save_ms, close_ms, term_ms].iter().all(|ms| *ms <= 86_400_000), "/graces", "at most a day each");
        check(self.proxy_port > 0, "/proxyPort", "from 1 to 65535");
        let (file, pointer) = match &self.model {
            NewModel::Live => (None, ""),
            NewModel::Record { file } | NewModel::Replay { file } => (Some(file), "/model/file"),
        };
        check(
            file.is_none_or(|file| file.is_absolute()),
            pointer,
            "it must be an absolute path on the supervisor's host",
        );
        if let Program::Claude { max_turns: Some(turns), .. } = &self.program {
            check((1..=10_000).contains(turns), "/program/maxTurns", "from 1 to 10000");
        }
        if !bad.is_empty() {
            return Err(bad);
        }
        let limit = |secs: u64| (secs > 0).then(|| Duration::from_secs(secs));
        Ok(SessionRequest {
            workspace: self.workspace,
            workspace_read_only: self.workspace_read_only,
            cover_ipc: self.cover_ipc,
            mounts: self.mounts.into_iter().map(NewMount::into_request).collect(),
            image: self.image,
            agent: self.program.into_request(),
            prompt: self.prompt,
            keep_open: self.keep_open,
            limits: Limits {
                cpus: MilliCpus((cpus * 1000.0).round() as u32),
                memory: self.limits.memory_bytes,
                pids: self.limits.pids,
            },
            timeout: limit(self.timeout_secs),
            idle_timeout: limit(self.idle_timeout_secs),
            graces: Graces {
                save: Duration::from_millis(save_ms),
                close: Duration::from_millis(close_ms),
                term: Duration::from_millis(term_ms),
            },
            env: self.env,
            run_as: if self.root { RunAs::Root } else { RunAs::Owner },
            proxy_port: self.proxy_port,
            model: match self.model {
                NewModel::Live => ModelSource::Live,
                NewModel::Record { file } => ModelSource::Record(file),
                NewModel::Replay { file } => ModelSource::Replay(file),
            },
        })
    }
}

/// Times are rounded up to whole seconds: a session never gets less than was asked for.
impl From<SessionRequest> for NewSession {
    fn from(request: SessionRequest) -> Self {
        let secs =
            |limit: Option<Duration>| limit.map_or(0, |limit| limit.as_secs() + u64::from(limit.subsec_nanos() > 0));
        Self {
            workspace: request.workspace,
            workspace_read_only: request.workspace_read_only,
            cover_ipc: request.cover_ipc,
            mounts: request.mounts.into_iter().map(NewMount::from).collect(),
            image: request.image,
            program: request.agent.into(),
            prompt: request.prompt,
            keep_open: request.keep_open,
            limits: NewLimits {
                cpus: f64::from(request.limits.cpus.0) / 1000.0,
                memory_bytes: request.limits.memory,
                pids: request.limits.pids,
            },
            timeout_secs: secs(request.timeout),
            idle_timeout_secs: secs(request.idle_timeout),
            graces: request.graces.into(),
            env: request.env,
            root: request.run_as == RunAs::Root,
            proxy_port: request.proxy_port,
            model: match request.model {
                ModelSource::Live => NewModel::Live,
                ModelSource::Record(file) => NewModel::Record { file },
                ModelSource::Replay(file) => NewModel::Replay { file },
            },
        }
    }
}

impl NewMount {
    fn into_request(self) -> MountRequest {
        MountRequest { host: self.host_path, name: self.name, read_only: self.read_only }
    }
}

impl From<MountRequest> for NewMount {
    fn from(mount: MountRequest) -> Self {
        Self { host_path: mount.host, name: mount.name, read_only: mount.read_only }
    }
}

impl Program {
    fn into_request(self) -> AgentRequest {
        match self {
            Self::Claude { model, max_turns, append_system_prompt, project_settings } => {
                AgentRequest::Claude(ClaudeRequest { model, max_turns, append_system_prompt, project_settings })
            }
            Self::Command { argv, output } => AgentRequest::Command {
                argv,
                output: match output {
                    OutputKind::Lines => CommandOutput::Lines,
                    OutputKind::Json => CommandOutput::Json,
                },
            },
        }
    }
}

impl From<AgentRequest> for Program {
    fn from(agent: AgentRequest) -> Self {
        match agent {
            AgentRequest::Claude(ClaudeRequest { model, max_turns, append_system_prompt, project_settings }) => {
                Self::Claude { model, max_turns, append_system_prompt, project_settings }
            }
            AgentRequest::Command { argv, output } => Self::Command {
                argv,
                output: match output {
                    CommandOutput::Lines => OutputKind::Lines,
                    CommandOutput::Json => OutputKind::Json,
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_is_all_that_is_needed_and_everything_comes_back() {
        let new: NewSession = serde_json::from_str(r#"{"workspace":"/w"}"#).unwrap();
        let request = new.clone().into_request().unwrap();
        assert_eq!(request.timeout, Some(DEFAULT_TIMEOUT));
        assert_eq!(request.limits, Limits::default());
        assert_eq!(request.graces, Graces::default());
        assert_eq!(NewSession::from(request), new);
        let full = serde_json::json!({
            "workspace": "/w", "workspaceReadOnly": true, "coverIpc": true, "image": "i",
            "mounts": [{"hostPath": "/d", "name": "d", "readOnly": false}],
            "program": {"type": "command", "argv": ["x", "y"], "output": "json"},
            "prompt": "p", "keepOpen": true, "limits": {"cpus": 0.5, "memoryBytes": 1 << 30, "pids": 99},
            "timeoutSecs": 0, "idleTimeoutSecs": 7, "graces": {"saveMs": 1, "closeMs": 2, "termMs": 3},
            "env": {"A": "b"}, "root": true, "proxyPort": 4000, "model": {"source": "replay", "file": "/f"},
        });
        let new: NewSession = serde_json::from_value(full.clone()).unwrap();
        let back = NewSession::from(new.into_request().unwrap());
        let mut shown = serde_json::to_value(back).unwrap();
        shown["limits"]["cpus"] = serde_json::json!(0.5);
        assert_eq!(shown, full);
    }

    #[test]
    fn every_bad_field_is_named_and_unknown_ones_are_errors() {
        let bad = serde_json::json!({
            "workspace": "relative", "limits": {"cpus": 0.0}, "timeoutSecs": u64::MAX, "proxyPort": 0,
            "model": {"source": "record", "file": "x"}, "program": {"type": "claude", "maxTurns": 0},
        });
        let new: NewSession = serde_json::from_value(bad).unwrap();
        let pointers: Vec<&str> = new.into_request().unwrap_err().iter().map(|bad| bad.pointer).collect();
        let expected = ["/workspace", "/limits/cpus", "/timeoutSecs", "/proxyPort", "/model/file", "/program/maxTurns"];
        assert_eq!(pointers, expected);
        for unknown in [
            r#"{"workspace":"/w","x":1}"#,
            r#"{"workspace":"/w","limits":{"cpu":1}}"#,
            r#"{"workspace":"/w","program":{"type":"claude","argv":[]}}"#,
        ] {
            assert!(serde_json::from_str::<NewSession>(unknown).is_err(), "{unknown}");
        }
    }
}
