//! A request as JSON: what the API takes, what the CLI sends to a daemon, and what the store keeps of a session.
//!
//! Every field but the workspace may be left out; what then holds is the service's configuration. Unknown fields are
//! errors. Numbers carry their unit in their name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipc_protocol::config::CommandOutput;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AgentRequest, ClaudeRequest, Limits, ModelSource, MountRequest, RunAs, SessionRequest};
use crate::agents::AgentName;
use crate::config::SessionDefaults;
use crate::session::machine::Graces;
use crate::units::MilliCpus;

/// Longest time that can be asked for, in seconds: a leap year.
const MAX_SECS: u64 = 366 * 24 * 3600;
/// Longest grace, in milliseconds: a day.
const MAX_GRACE_MS: u64 = 24 * 3600 * 1000;
/// Folders that can be mounted.
const MAX_MOUNTS: usize = 64;

/// A session to be started. What is left out is as `[session]` of the service's configuration says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSession {
    /// The agent (principal) that the session is charged to; its limits apply. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9_-]{0,39}$", example = "default")]
    pub agent: Option<AgentName>,
    /// The folder that the agent works on, as an absolute path of the service's host.
    #[schema(value_type = String, pattern = "^/", example = "/home/me/my-project")]
    pub workspace: PathBuf,
    /// Whether the agent may only read the workspace. Default: false.
    #[serde(default)]
    pub workspace_read_only: bool,
    /// More folders to mount, below `/workspace/extra`. Default: none; at most 64.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub mounts: Vec<NewMount>,
    /// The image of the container. Default: `aigo-agent-runner:latest`, unless the configuration names another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "aigo-agent-runner:latest")]
    pub image: Option<String>,
    /// What runs in the container. Default: Claude Code.
    #[serde(default)]
    pub program: Program,
    /// The first message for the agent, at most 8 MiB. It is needed unless `keepOpen` is true or the program is a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Whether the session stays open for more messages after the first one is answered. Default: false.
    #[serde(default)]
    pub keep_open: bool,
    /// Limits of the container; the kernel enforces them.
    #[serde(default)]
    pub limits: NewLimits,
    /// The longest life of the session in seconds, at most 366 days; 0 is no limit. Default: 1800.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 31622400)]
    pub timeout_secs: Option<u64>,
    /// The longest silence of the session in seconds, while no model request is in flight and nobody is asked, at most 366
    /// days; 0 is no limit. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 31622400)]
    pub idle_timeout_secs: Option<u64>,
    /// How long each step of ending the session waits.
    #[serde(default)]
    pub graces: NewGraces,
    /// Environment variables for the agent. Default: none. Do not put credentials for the model here: the proxy has them.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether the agent runs as root of the container instead of as the owner of the workspace. Default: false.
    #[serde(default)]
    pub root: bool,
    /// The port of the credential proxy on the gateway of the session's network. Default: 3001.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub proxy_port: Option<u16>,
    /// What answers for the model. Default: the model's API.
    #[serde(default)]
    pub model: NewModel,
}

/// A folder to mount besides the workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMount {
    /// The folder, as an absolute path of the service's host.
    #[schema(value_type = String, pattern = "^/")]
    pub host_path: PathBuf,
    /// The name of the folder below `/workspace/extra`, such as `docs`.
    pub name: String,
    /// Whether the agent may only read the folder. Default: true.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub read_only: bool,
}

/// What runs in the container, by `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Program {
    /// Claude Code.
    #[schema(rename_all = "camelCase")]
    Claude {
        /// The alias or id of the model, such as `sonnet`. Default: what Claude Code chooses.
        #[serde(default)]
        model: Option<String>,
        /// The most turns of the model for one message, from 1 to 10000. Default: no limit.
        #[serde(default)]
        #[schema(minimum = 1, maximum = 10000)]
        max_turns: Option<u32>,
        /// Text that is added to the system prompt. Default: none.
        #[serde(default)]
        append_system_prompt: Option<String>,
        /// Whether the project's own settings are honoured (`.claude/settings.json`); they can run hooks. Default: false.
        #[serde(default)]
        project_settings: bool,
    },
    /// Any program of the image.
    Command {
        /// The program and its arguments, such as `["sh", "-c", "make"]`.
        #[schema(min_items = 1)]
        argv: Vec<String>,
        /// How the output of the program is read. Default: `lines`.
        #[serde(default)]
        output: OutputKind,
    },
}

/// How the output of a program is read: `lines` (each line is text) or `json` (each line is a JSON object).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// Each line is text.
    #[default]
    Lines,
    /// Each line is a JSON object.
    Json,
}

/// Limits of the container; the kernel enforces them. What is left out is as the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = SessionLimits)]
pub struct NewLimits {
    /// The number of CPUs, from 0.01 to 1024. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.01, maximum = 1024)]
    pub cpus: Option<f64>,
    /// The memory in bytes, without swap. Default: 4294967296 (4 GiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 6291456)]
    pub memory_bytes: Option<u64>,
    /// The number of processes and threads. Default: 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 16)]
    pub pids: Option<u32>,
}

/// How long each step of ending the session waits, in milliseconds. What is left out is as the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Graces)]
pub struct NewGraces {
    /// After a timeout: the time for the agent to save its work, at most a day. Default: 30000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 86400000)]
    pub save_ms: Option<u64>,
    /// After a timeout: the time from the request to close to SIGTERM, at most a day. Default: 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 86400000)]
    pub close_ms: Option<u64>,
    /// The time from SIGTERM to SIGKILL, at most a day. Default: 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 86400000)]
    pub term_ms: Option<u64>,
}

/// What answers for the model, by `source`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "source", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
#[schema(as = Model)]
pub enum NewModel {
    /// The model's API, with the credential of the service.
    // With braces: of a variant without fields serde would not look for unknown ones.
    Live {},
    /// The model's API, and the traffic is kept in a file without credentials.
    Record {
        /// The file to write the traffic to, as an absolute path of the service's host.
        #[schema(value_type = String, pattern = "^/")]
        file: PathBuf,
    },
    /// A recording or a script answers instead of the model's API.
    Replay {
        /// The recording or script, as an absolute path of the service's host.
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

fn yes() -> bool {
    true
}

impl Default for NewModel {
    fn default() -> Self {
        Self::Live {}
    }
}

impl Default for Program {
    fn default() -> Self {
        Self::Claude { model: None, max_turns: None, append_system_prompt: None, project_settings: false }
    }
}

impl NewSession {
    /// The request, with everything that is wrong with it if it is none. What it leaves out is as `defaults` say.
    pub fn into_request(self, defaults: &SessionDefaults, proxy_port: u16) -> Result<SessionRequest, Vec<BadField>> {
        let mut bad = Vec::new();
        let mut check = |good: bool, pointer: &'static str, detail: &str| {
            if !good {
                bad.push(BadField { pointer, detail: detail.to_owned() });
            }
        };
        check(self.workspace.is_absolute(), "/workspace", "it must be an absolute path on the supervisor's host");
        check(self.mounts.len() <= MAX_MOUNTS, "/mounts", "at most 64");
        check(
            self.mounts.iter().all(|mount| mount.host_path.is_absolute()),
            "/mounts",
            "each hostPath must be absolute",
        );
        let cpus = self.limits.cpus;
        let possible = |cpus: f64| cpus.is_finite() && (0.01..=1024.0).contains(&cpus);
        check(cpus.is_none_or(possible), "/limits/cpus", "from 0.01 to 1024");
        let in_a_year = |secs: Option<u64>| secs.is_none_or(|secs| secs <= MAX_SECS);
        check(in_a_year(self.timeout_secs), "/timeoutSecs", "at most 366 days; 0 for none");
        check(in_a_year(self.idle_timeout_secs), "/idleTimeoutSecs", "at most 366 days; 0 for none");
        let NewGraces { save_ms, close_ms, term_ms } = self.graces;
        let in_a_day = |ms: &Option<u64>| ms.is_none_or(|ms| ms <= MAX_GRACE_MS);
        check([save_ms, close_ms, term_ms].iter().all(in_a_day), "/graces", "at most a day each");
        check(self.proxy_port != Some(0), "/proxyPort", "from 1 to 65535");
        let (file, pointer) = match &self.model {
            NewModel::Live {} => (None, ""),
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
            principal: self.agent.unwrap_or_default(),
            workspace: self.workspace,
            workspace_read_only: self.workspace_read_only,
            mounts: self.mounts.into_iter().map(NewMount::into_request).collect(),
            image: self.image.unwrap_or_else(|| defaults.image.clone()),
            agent: self.program.into_request(),
            prompt: self.prompt,
            keep_open: self.keep_open,
            limits: Limits {
                cpus: cpus.map_or(defaults.limits.cpus, |cpus| MilliCpus((cpus * 1000.0).round() as u32)),
                memory: self.limits.memory_bytes.unwrap_or(defaults.limits.memory),
                pids: self.limits.pids.unwrap_or(defaults.limits.pids),
            },
            timeout: self.timeout_secs.map_or(defaults.timeout, limit),
            idle_timeout: self.idle_timeout_secs.map_or(defaults.idle_timeout, limit),
            graces: Graces {
                save: save_ms.map_or(defaults.graces.save, Duration::from_millis),
                close: close_ms.map_or(defaults.graces.close, Duration::from_millis),
                term: term_ms.map_or(defaults.graces.term, Duration::from_millis),
            },
            env: self.env,
            run_as: if self.root { RunAs::Root } else { RunAs::Owner },
            proxy_port: self.proxy_port.unwrap_or(proxy_port),
            model: match self.model {
                NewModel::Live {} => ModelSource::Live,
                NewModel::Record { file } => ModelSource::Record(file),
                NewModel::Replay { file } => ModelSource::Replay(file),
            },
        })
    }
}

/// A field of requests that older versions stored, and whose choice is not needed any more.
const NO_LONGER_ASKED: &str = "coverIpc";

impl NewSession {
    /// Reads a request that was stored, perhaps by an older version.
    ///
    /// # Errors
    /// The text is no request of this version or an older one.
    pub fn from_stored(json: &str) -> serde_json::Result<Self> {
        let mut value: serde_json::Value = serde_json::from_str(json)?;
        if let Some(fields) = value.as_object_mut() {
            fields.remove(NO_LONGER_ASKED);
        }
        serde_json::from_value(value)
    }
}

/// Times are rounded up to whole seconds: a session never gets less than was asked for.
impl From<SessionRequest> for NewSession {
    fn from(request: SessionRequest) -> Self {
        let secs = |limit: Option<Duration>| {
            Some(limit.map_or(0, |limit| limit.as_secs() + u64::from(limit.subsec_nanos() > 0)))
        };
        let millis = |grace: Duration| u64::try_from(grace.as_millis()).ok();
        let Graces { save, close, term } = request.graces;
        Self {
            agent: Some(request.principal),
            workspace: request.workspace,
            workspace_read_only: request.workspace_read_only,
            mounts: request.mounts.into_iter().map(NewMount::from).collect(),
            image: Some(request.image),
            program: request.agent.into(),
            prompt: request.prompt,
            keep_open: request.keep_open,
            limits: NewLimits {
                cpus: Some(f64::from(request.limits.cpus.0) / 1000.0),
                memory_bytes: Some(request.limits.memory),
                pids: Some(request.limits.pids),
            },
            timeout_secs: secs(request.timeout),
            idle_timeout_secs: secs(request.idle_timeout),
            graces: NewGraces { save_ms: millis(save), close_ms: millis(close), term_ms: millis(term) },
            env: request.env,
            root: request.run_as == RunAs::Root,
            proxy_port: Some(request.proxy_port),
            model: match request.model {
                ModelSource::Live => NewModel::Live {},
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
    use crate::config::Config;

    fn read(new: NewSession) -> Result<SessionRequest, Vec<BadField>> {
        new.into_request(&Config::default().session, 3001)
    }

    #[test]
    fn a_workspace_is_all_that_is_needed_and_everything_comes_back() {
        let new: NewSession = serde_json::from_str(r#"{"workspace":"/w"}"#).unwrap();
        let request = read(new).unwrap();
        let defaults = Config::default().session;
        assert_eq!((request.timeout, &request.image), (defaults.timeout, &defaults.image));
        assert_eq!((request.limits, request.graces), (defaults.limits, defaults.graces));
        let full = serde_json::json!({
            "agent": "research", "workspace": "/w", "workspaceReadOnly": true, "image": "i",
            "mounts": [{"hostPath": "/d", "name": "d", "readOnly": false}],
            "program": {"type": "command", "argv": ["x", "y"], "output": "json"},
            "prompt": "p", "keepOpen": true, "limits": {"cpus": 0.5, "memoryBytes": 1 << 30, "pids": 99},
            "timeoutSecs": 0, "idleTimeoutSecs": 7, "graces": {"saveMs": 1, "closeMs": 2, "termMs": 3},
            "env": {"A": "b"}, "root": true, "proxyPort": 4000, "model": {"source": "replay", "file": "/f"},
        });
        let new: NewSession = serde_json::from_value(full.clone()).unwrap();
        let back = NewSession::from(read(new).unwrap());
        assert_eq!(serde_json::to_value(back).unwrap(), full);
    }

    #[test]
    fn a_request_that_an_older_version_stored_is_read() {
        let stored = r#"{"workspace":"/w","coverIpc":false}"#;
        assert!(NewSession::from_stored(stored).is_ok() && serde_json::from_str::<NewSession>(stored).is_err());
        assert!(NewSession::from_stored(r#"{"workspace":"/w","x":1}"#).is_err());
    }

    #[test]
    fn every_bad_field_is_named_and_unknown_ones_are_errors() {
        let bad = serde_json::json!({
            "workspace": "relative", "limits": {"cpus": 0.0}, "timeoutSecs": u64::MAX, "proxyPort": 0,
            "model": {"source": "record", "file": "x"}, "program": {"type": "claude", "maxTurns": 0},
        });
        let new: NewSession = serde_json::from_value(bad).unwrap();
        let pointers: Vec<&str> = read(new).unwrap_err().iter().map(|bad| bad.pointer).collect();
        let expected = ["/workspace", "/limits/cpus", "/timeoutSecs", "/proxyPort", "/model/file", "/program/maxTurns"];
        assert_eq!(pointers, expected);
        for unknown in [
            r#"{"workspace":"/w","x":1}"#,
            r#"{"workspace":"/w","agent":"A/b"}"#,
            r#"{"workspace":"/w","limits":{"cpu":1}}"#,
            r#"{"workspace":"/w","program":{"type":"claude","argv":[]}}"#,
            r#"{"workspace":"/w","model":{"source":"live","file":"/f"}}"#,
        ] {
            assert!(serde_json::from_str::<NewSession>(unknown).is_err(), "{unknown}");
        }
    }
}
