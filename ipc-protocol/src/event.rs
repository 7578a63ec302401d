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

/// What happened in the container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum EventKind {
    /// The runner's first words, at each of its starts.
    RunnerStarted {
        /// Generation of the protocol.
        version: u32,
        /// The runner's own version.
        runner_version: String,
    },
    /// A boot phase.
    SetupStep {
        /// Which.
        step: SetupStep,
        /// How far.
        state: StepState,
        /// What to know about it; the error if it failed.
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
    /// The agent's process runs.
    AgentStarted {
        /// `claude` or `command`.
        adapter: String,
        /// Its process id in the container.
        pid: u32,
    },
    /// Input is taken from now on.
    Ready {},
    /// The agent begins to work.
    TurnStarted {
        /// Counts from 1.
        turn: u64,
        /// The model, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// The agent's own id for the conversation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversation: Option<String>,
    },
    /// The adapter has taken an input; its file is about to be removed.
    InputAccepted {
        /// The input's id.
        id: String,
    },
    /// An input could not be taken.
    InputDropped {
        /// The input's id.
        id: String,
        /// Why.
        reason: String,
    },
    /// The agent speaks.
    Text {
        /// What it says.
        #[serde(flatten)]
        body: ClippedText,
        /// The tool call that this belongs to, if a sub-agent speaks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent_call: Option<String>,
    },
    /// The agent thinks aloud.
    Thought {
        /// What it thinks.
        #[serde(flatten)]
        body: ClippedText,
        /// The tool call that this belongs to, if a sub-agent thinks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent_call: Option<String>,
    },
    /// The agent uses a tool.
    ToolCall {
        /// Names the call.
        call_id: String,
        /// The tool.
        tool: String,
        /// Its arguments.
        input: ClippedValue,
        /// The tool call that this belongs to, if a sub-agent calls.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent_call: Option<String>,
    },
    /// A tool has answered.
    ToolResult {
        /// The call.
        call_id: String,
        /// The tool says that it failed.
        is_error: bool,
        /// What it answered, as text.
        #[serde(flatten)]
        body: ClippedText,
    },
    /// Tokens that a model used since its last `usage`; their sum is what the session used.
    Usage {
        /// The model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// The figures.
        #[serde(flatten)]
        tokens: Tokens,
    },
    /// The agent has ended a turn; one for each result that it reports.
    TurnFinished(TurnFinished),
    /// Bytes that the agent printed outside its protocol.
    Output {
        /// Where.
        stream: OutputStream,
        /// What.
        #[serde(flatten)]
        body: ClippedText,
    },
    /// The agent asks its people.
    Question {
        /// Names the question.
        id: String,
        /// What it asks.
        text: String,
        /// Answers to choose from.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
    },
    /// Something that people should know; the session goes on.
    Warning {
        /// A word for programs.
        code: String,
        /// A sentence for people.
        message: String,
    },
    /// The runner begins to end.
    Closing {
        /// Why.
        reason: ClosingReason,
    },
    /// The agent's process is gone.
    AgentExited {
        /// Its exit code, if it exited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// The signal that ended it, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    },
    /// The runner's last words.
    RunnerExiting {
        /// Its exit code, see [`crate::exit::RunnerExit`].
        code: u8,
    },
    /// What nobody here knows, kept verbatim.
    Raw {
        /// Who said it: `claude`, `command` or `journal:<kind>`.
        source: String,
        /// What was said.
        #[serde(flatten)]
        body: ClippedValue,
    },
}

/// The end of a turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnFinished {
    /// The turn.
    pub turn: u64,
    /// How it ended.
    pub outcome: TurnOutcome,
    /// The agent's closing words, or the error's.
    #[serde(flatten)]
    pub body: ClippedText,
    /// The inputs that it answers; several if they were merged, none for a turn that nobody asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Nobody asked for this turn (a background task of the agent's ended).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsolicited: bool,
    /// Tokens of this turn.
    #[serde(default)]
    pub tokens: Tokens,
    /// Cost of the conversation so far in US dollars, as the agent reckons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_cost_usd: Option<f64>,
    /// HTTP status of the model service, if that failed the turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_status: Option<u16>,
    /// Milliseconds that it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Tokens, as the model service counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tokens {
    /// Read, not from the cache.
    pub input: u64,
    /// Written.
    pub output: u64,
    /// Read from the cache.
    pub cache_read: u64,
    /// Put into the cache.
    pub cache_write: u64,
}

/// A boot phase of the runner, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// How far a boot phase is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Done.
    Done,
    /// Not needed.
    Skipped,
    /// Failed: the session ends.
    Failed,
}

/// Where output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why the runner ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
