//! The journal's events: `{seq, at, kind, …}`, one JSON object a line.
//!
//! Reading is lenient forwards: a kind that this build does not know is kept verbatim as [`EventKind::Raw`], so that a
//! newer runner under an older supervisor loses nothing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clip::{ClippedText, ClippedValue};
use crate::limits::MAX_TEXT_BYTES;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// 1 for the session's first event, then gap-free, across restarts of the runner too.
    pub seq: u64,
    /// Milliseconds since 1970-01-01 UTC by the container's clock.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Why a line is no event.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEvent {
    /// Not JSON.
    #[error("journal line is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// No `seq`, `at` or `kind` of the right type.
    #[error("journal line has no valid {0}")]
    Field(&'static str),
}

impl Event {
    /// Reads one journal line. An unknown `kind`, and a line nested too deeply to be parsed, are kept as `raw`; a missing
    /// `seq`, `at` or `kind` is an error.
    pub fn parse(line: &[u8]) -> Result<Self, InvalidEvent> {
        let mut value: Value = match serde_json::from_slice(line) {
            Ok(value) => value,
            Err(error) => return Self::too_deep(line).ok_or(InvalidEvent::Json(error)),
        };
        let number =
            |value: &Value, key: &'static str| value.get(key).and_then(Value::as_u64).ok_or(InvalidEvent::Field(key));
        let (seq, at) = (number(&value, "seq")?, number(&value, "at")?);
        let kind = value.get("kind").and_then(Value::as_str).ok_or(InvalidEvent::Field("kind"))?.to_owned();
        if let Some(object) = value.as_object_mut() {
            object.remove("seq");
            object.remove("at");
        }
        let kind = match serde_json::from_value::<EventKind>(value.clone()) {
            Ok(kind) => kind,
            Err(_) => {
                let body = ClippedValue::new(value, MAX_TEXT_BYTES);
                EventKind::Raw { source: format!("journal:{kind}"), body }
            }
        };
        Ok(Self { seq, at, kind })
    }

    /// A line that is JSON all the same, as text: values that nobody asks for are skipped by serde without recursion, so
    /// without a limit to their depth.
    fn too_deep(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Frame {
            seq: u64,
            at: u64,
            kind: String,
        }
        let line = std::str::from_utf8(line).ok()?;
        let Frame { seq, at, kind } = serde_json::from_str(line).ok()?;
        let body = ClippedValue::of_encoding(line.trim_end(), MAX_TEXT_BYTES);
        Some(Self { seq, at, kind: EventKind::Raw { source: format!("journal:{kind}"), body } })
    }
}

/// What happened in the container, by `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum EventKind {
    /// The runner has started. This is the first event of each of its starts.
    #[cfg_attr(feature = "openapi", schema(rename_all = "camelCase"))]
    RunnerStarted {
        /// The generation of the file protocol between the runner and aigo.
        version: u32,
        /// The version of the runner, such as `0.1.0`.
        runner_version: String,
    },
    /// A phase of the runner's start has ended.
    SetupStep {
        /// The phase.
        step: SetupStep,
        /// How the phase ended.
        state: StepState,
        /// What is worth knowing about the phase; the error if the phase failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// Another folder is mounted than the one that was judged; the session ends before its agent has started.
    MountMismatch {
        /// Where it is mounted.
        target: String,
        /// The file system that the mounted folder is on, `major:minor` (proc_pid_mountinfo(5)).
        device: String,
        /// The mounted folder's path in its file system (proc_pid_mountinfo(5)).
        root: String,
    },
    /// The agent's process has started.
    AgentStarted {
        /// How the agent's output is read: `claude` or `command`.
        adapter: String,
        /// The process id of the agent inside the container.
        pid: u32,
    },
    /// The session takes input from now on.
    Ready {},
    /// The agent has begun a turn.
    TurnStarted {
        /// The number of the turn; the first turn has 1.
        turn: u64,
        /// The model that the agent uses, where the agent says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// The agent's own id of the conversation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversation: Option<String>,
    },
    /// The agent has taken a message.
    InputAccepted {
        /// The id of the message.
        id: String,
    },
    /// The agent could not take a message.
    InputDropped {
        /// The id of the message.
        id: String,
        /// Why the message was dropped, as a sentence.
        reason: String,
    },
    /// The agent says something.
    #[cfg_attr(feature = "openapi", schema(rename_all = "camelCase"))]
    Text {
        /// What the agent says.
        #[serde(flatten)]
        body: ClippedText,
        /// The call of the sub-agent that speaks; absent if the agent itself speaks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent_call: Option<String>,
    },
    /// The agent reports what it thinks.
    #[cfg_attr(feature = "openapi", schema(rename_all = "camelCase"))]
    Thought {
        /// What the agent thinks.
        #[serde(flatten)]
        body: ClippedText,
        /// The call of the sub-agent that thinks; absent if the agent itself thinks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent_call: Option<String>,
    },
    /// The agent calls a tool.
    #[cfg_attr(feature = "openapi", schema(rename_all = "camelCase"))]
    ToolCall {
        /// The id of the call; `tool_result` has the same.
        call_id: String,
        /// The name of the tool, such as `Bash`.
        tool: String,
        /// The arguments of the call.
        input: ClippedValue,
        /// The call of the sub-agent that uses the tool; absent if the agent itself uses the tool.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent_call: Option<String>,
    },
    /// A tool has returned its result.
    #[cfg_attr(feature = "openapi", schema(rename_all = "camelCase"))]
    ToolResult {
        /// The id of the call, as in `tool_call`.
        call_id: String,
        /// Whether the tool reports a failure.
        is_error: bool,
        /// The result as text.
        #[serde(flatten)]
        body: ClippedText,
    },
    /// The tokens that a model has used since its previous `usage` event. The sum of these events is what the session used.
    Usage {
        /// The name of the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// The counts.
        #[serde(flatten)]
        tokens: Tokens,
    },
    /// The agent has ended a turn. There is one event for each result that the agent reports.
    TurnFinished(TurnFinished),
    /// The agent has printed something outside its protocol.
    Output {
        /// The stream that was written to.
        stream: OutputStream,
        /// What was printed.
        #[serde(flatten)]
        body: ClippedText,
    },
    /// The agent asks a question.
    Question {
        /// The id of the question.
        id: String,
        /// The question.
        text: String,
        /// The answers to choose from; absent if any text is an answer.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
    },
    /// The runner warns of something; the session goes on.
    Warning {
        /// The kind of warning, as a word for programs.
        code: String,
        /// The warning, as a sentence for people.
        message: String,
    },
    /// The runner has begun to end the session.
    Closing {
        /// Why the runner ends the session.
        reason: ClosingReason,
    },
    /// The agent's process has ended.
    AgentExited {
        /// The exit code of the agent; absent if a signal ended the agent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// The number of the signal that ended the agent; absent if the agent exited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    },
    /// The runner ends. This is the last event of a start of the runner.
    RunnerExiting {
        /// The exit code of the runner.
        code: u8,
    },
    /// An event of a kind that this version does not know, kept verbatim.
    Raw {
        /// Where the event came from: `claude`, `command` or `journal:KIND`.
        source: String,
        /// The event as it came.
        #[serde(flatten)]
        body: ClippedValue,
    },
}

/// The end of a turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TurnFinished {
    /// The number of the turn.
    pub turn: u64,
    /// How the turn ended.
    pub outcome: TurnOutcome,
    /// The agent's closing words, or the text of the error.
    #[serde(flatten)]
    pub body: ClippedText,
    /// The ids of the messages that the turn answers: several if the agent took them together, none for an unsolicited turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Whether nobody asked for the turn, for example because a background task of the agent ended. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsolicited: bool,
    /// The tokens of this turn.
    #[serde(default)]
    pub tokens: Tokens,
    /// The cost of the conversation so far in US dollars, as the agent computes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_cost_usd: Option<f64>,
    /// The HTTP status of the model service, if that status failed the turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_status: Option<u16>,
    /// How long the turn took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// How a turn ended: `success`, `error` (the model service or the agent says so), `interrupted`, or `max_turns` (the bound on
/// the model's turns was reached).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TurnOutcome {
    /// Done.
    #[default]
    Success,
    /// Failed: the model service or the agent says so.
    Error,
    /// Stopped by an interrupt.
    Interrupted,
    /// The bound on the model's turns was reached.
    MaxTurns,
}

/// Counts of tokens, as the model service reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Tokens {
    /// Tokens that the model read, without those from its cache.
    pub input: u64,
    /// Tokens that the model wrote.
    pub output: u64,
    /// Tokens that the model read from its cache.
    pub cache_read: u64,
    /// Tokens that the model put into its cache.
    pub cache_write: u64,
}

/// A phase of the runner's start. The order is `config`, `ipc`, `identity`, `home`, `workspace`, `preflight`, `agent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SetupStep {
    /// 1: read the configuration.
    Config,
    /// 2: open the IPC directory.
    Ipc,
    /// 3: make the user that the agent runs as.
    Identity,
    /// 4: its home folder.
    Home,
    /// 5: the workspace can be used.
    Workspace,
    /// 6: the credential proxy answers.
    Preflight,
    /// 7: start the agent.
    Agent,
}

/// How a phase of the start ended: `done`, `skipped` (not needed), or `failed` (the session ends).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Done.
    Done,
    /// Not needed.
    Skipped,
    /// Failed: the session ends.
    Failed,
}

/// The stream that output was written to: standard output or standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why the runner ends: `close` (the session was closed), `signal` (SIGTERM or SIGINT from outside), or `agent_exit` (the agent
/// ended by itself).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ClosingReason {
    /// `_close` was seen.
    Close,
    /// SIGTERM or SIGINT came from outside.
    Signal,
    /// The agent ended by itself.
    AgentExit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_is_kept_verbatim() {
        let event = Event::parse(br#"{"seq":3,"at":5,"kind":"from_the_future","x":[1,2]}"#).unwrap();
        let EventKind::Raw { source, body } = event.kind else { panic!("{event:?}") };
        assert_eq!((event.seq, event.at, source.as_str()), (3, 5, "journal:from_the_future"));
        assert_eq!(body.value, serde_json::json!({"kind": "from_the_future", "x": [1, 2]}));
    }

    #[test]
    fn a_line_of_any_depth_is_read_and_what_it_became_is_read_again() {
        for levels in [1, 100, 126, 127, 128, 129, 100_000] {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            for kind in ["from_the_future", "raw"] {
                let line =
                    format!(r#"{{"seq":3,"at":5,"kind":"{kind}","source":"claude","value":{open}{close}}}"#) + "\n";
                let event = Event::parse(line.as_bytes()).unwrap();
                assert_eq!((event.seq, event.at), (3, 5));
                assert!(matches!(event.kind, EventKind::Raw { .. }), "{kind} {levels}");
                let written = serde_json::to_vec(&event).unwrap();
                assert_eq!(Event::parse(&written).unwrap(), event, "{kind} {levels}");
            }
        }
        let line = format!(r#"{{"seq":1,"at":1,"kind":"x","v":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        let EventKind::Raw { source, body } = Event::parse(line.as_bytes()).unwrap().kind else { panic!() };
        assert_eq!((source.as_str(), body.value.as_str()), ("journal:x", Some(line.as_str())));
        let torn = r#"{"seq":1,"at":1,"kind":"x","v":"#.to_owned() + &"[".repeat(200);
        assert!(Event::parse(torn.as_bytes()).is_err());
    }

    #[test]
    fn numbers_do_not_change_on_the_way() {
        let event = Event::parse(br#"{"seq":1,"at":1,"kind":"new","n":92222222222222222222222222222229}"#).unwrap();
        let written = serde_json::to_vec(&event).unwrap();
        assert_eq!(serde_json::to_vec(&Event::parse(&written).unwrap()).unwrap(), written);
    }

    #[test]
    fn a_line_without_its_frame_is_refused() {
        for bad in ["", "[]", "{}", r#"{"seq":-1,"at":1,"kind":"ready"}"#, r#"{"seq":1,"at":1}"#] {
            assert!(Event::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let event = Event {
            seq: 7,
            at: 1_760_000_000_000,
            kind: EventKind::Text { body: ClippedText::new("hé", 100), parent_call: None },
        };
        let line = serde_json::to_vec(&event).unwrap();
        assert_eq!(String::from_utf8_lossy(&line), r#"{"seq":7,"at":1760000000000,"kind":"text","text":"hé"}"#);
        assert_eq!(Event::parse(&line).unwrap(), event);
    }
}
