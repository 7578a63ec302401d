//! The CLI's stdout lines as our events.
//!
//! Every line yields at least one event, except those that say again what another line says:
//! - `stream_event` (pieces of a block that comes whole in an `assistant` line; sent only if asked for),
//! - `command_lifecycle` in a known state (told by `input_accepted`, `input_dropped` and `turn_finished`),
//! - a `control_response` to an interrupt of ours (told by the turn's end),
//! - `user` lines marked `isReplay` that echo an input of ours.
//!
//! What is not known is kept whole as `raw`; what is not JSON is `output`.

use ipc_protocol::clip::ClippedText;
use ipc_protocol::event::{EventKind, OutputStream, TurnOutcome};
use ipc_protocol::id::MessageId;
use ipc_protocol::limits::MAX_SHORT_BYTES;
use serde_json::{Value, json};

use super::super::{Heard, output};
use super::blocks::{of_assistant, of_tool_result, raw, short};
use super::{result, surrogates, to_line};
use crate::lines::Line;

/// Most inputs that wait for their result; older ones are taken as answered.
const MAX_OPEN_INPUTS: usize = 1024;

/// The translator's memory between lines.
#[derive(Debug, Default)]
pub struct Translator {
    turn: u64,
    turn_runs: bool,
    /// Inputs in the CLI's hands, oldest first.
    open: Vec<OpenInput>,
    /// How the last turn ended.
    last: Option<TurnOutcome>,
    /// The CLI has told of an input that it has begun to work on it: one that tells none is not waited for.
    tells_starts: bool,
    /// The request id of an interrupt without an answer.
    interrupt: Option<String>,
}

#[derive(Debug)]
struct OpenInput {
    uuid: String,
    id: MessageId,
    /// The CLI has begun to work on it.
    started: bool,
    /// The CLI is done with it. Of a message that joined a running turn it says so before that turn's result.
    completed: bool,
}

impl Translator {
    /// An input is in the CLI's pipe.
    pub(super) fn sent(&mut self, uuid: String, id: MessageId) {
        if self.open.len() == MAX_OPEN_INPUTS {
            self.open.remove(0);
        }
        self.open.push(OpenInput { uuid, id, started: false, completed: false });
    }

    /// An interrupt is on its way to the CLI.
    pub(super) fn interrupt_sent(&mut self, request: String) {
        self.interrupt = Some(request);
    }

    /// A turn runs, or an input waits for one.
    pub(super) fn busy(&self) -> bool {
        self.turn_runs || self.open.iter().any(|open| !open.completed)
    }

    /// Whether the last turn was interrupted.
    pub(super) fn was_interrupted(&self) -> bool {
        self.last == Some(TurnOutcome::Interrupted)
    }

    /// Inputs without a result; the list is empty afterwards.
    pub(super) fn unanswered(&mut self) -> Vec<MessageId> {
        self.open.drain(..).filter(|open| !open.completed).map(|open| open.id).collect()
    }

    /// One whole line of the CLI's stdout.
    pub fn line(&mut self, line: &Line) -> Heard {
        let mut heard = Heard::default();
        if line.bytes.iter().all(u8::is_ascii_whitespace) {
            return heard;
        }
        let Some(value) = parse(&line.bytes).filter(|_| !line.is_cut()) else {
            heard.events.push(output(OutputStream::Stdout, line));
            return heard;
        };
        match value["type"].as_str().unwrap_or_default() {
            "system" => self.system(value, &mut heard.events),
            "assistant" => self.assistant(value, &mut heard.events),
            "user" => self.user(value, &mut heard.events),
            "result" => self.result(&value, &mut heard.events),
            "command_lifecycle" => self.lifecycle(value, &mut heard.events),
            "control_request" => {
                heard.replies.push(answer(&value));
                heard.events.push(raw(value));
            }
            "control_response" => self.control_response(value, &mut heard),
            "stream_event" => {}
            _ => heard.events.push(raw(value)),
        }
        heard
    }

    fn start_turn(&mut self, init: Option<&Value>) -> Option<EventKind> {
        if self.turn_runs {
            return None;
        }
        self.turn_runs = true;
        self.turn += 1;
        let field = |key: &str| init.and_then(|init| short(&init[key]));
        Some(EventKind::TurnStarted { turn: self.turn, model: field("model"), conversation: field("session_id") })
    }

    fn system(&mut self, value: Value, events: &mut Vec<EventKind>) {
        match value["subtype"].as_str().unwrap_or_default() {
            "init" => match self.start_turn(Some(&value)) {
                Some(started) => events.push(started),
                None => events.push(raw(value)),
            },
            "api_retry" => events.push(api_retry(&value)),
            "permission_denied" => {
                let tool = value["tool_name"].as_str().unwrap_or("a tool");
                let why = value["message"].as_str().unwrap_or("no reason given");
                events.push(warning("permission_denied", &format!("{tool} was refused: {why}")));
            }
            _ => events.push(raw(value)),
        }
    }

    fn assistant(&mut self, value: Value, events: &mut Vec<EventKind>) {
        let Some(blocks) = value["message"]["content"].as_array() else { return events.push(raw(value)) };
        if blocks.is_empty() {
            return events.push(raw(value));
        }
        events.extend(self.start_turn(None));
        let parent_call = short(&value["parent_tool_use_id"]);
        let is_api_error = value["is_api_error_message"] == true;
        for block in blocks {
            match block["text"].as_str().filter(|_| is_api_error) {
                Some(text) => events.push(warning("api_error", text)),
                None => events.extend(of_assistant(block, parent_call.clone())),
            }
        }
    }

    fn user(&mut self, value: Value, events: &mut Vec<EventKind>) {
        if value["isReplay"] == true && self.is_ours(&value["uuid"]) {
            return;
        }
        let Some(blocks) = value["message"]["content"].as_array().filter(|blocks| !blocks.is_empty()) else {
            return events.push(raw(value));
        };
        // The whole line once for all blocks that are no results: the agent's own notes and sub-agents' prompts.
        if blocks.iter().any(|block| block["type"] != "tool_result") {
            events.push(raw(value.clone()));
        }
        for block in blocks.iter().filter(|block| block["type"] == "tool_result") {
            events.extend(of_tool_result(block));
        }
    }

    fn result(&mut self, value: &Value, events: &mut Vec<EventKind>) {
        events.extend(self.start_turn(None));
        self.turn_runs = false;
        events.extend(result::usage(value));
        let mut finished = result::finished(value);
        finished.turn = self.turn;
        self.last = Some(finished.outcome);
        let named = value["user_message_uuids"].as_array();
        let any = !self.tells_starts && !finished.unsolicited;
        let answered: Vec<OpenInput> = self
            .open
            .extract_if(.., |open| match named {
                Some(uuids) => open.completed || uuids.iter().any(|uuid| *uuid == open.uuid),
                None => open.started || any,
            })
            .collect();
        finished.inputs = answered.into_iter().map(|open| open.id.into()).collect();
        finished.unsolicited &= finished.inputs.is_empty();
        events.push(EventKind::TurnFinished(finished));
    }

    fn lifecycle(&mut self, value: Value, events: &mut Vec<EventKind>) {
        // Not found: the usual order, in which the result has named it already.
        let at = self.open.iter().position(|open| value["command_uuid"] == open.uuid);
        match (value["state"].as_str().unwrap_or_default(), at) {
            ("queued", _) | ("started" | "completed" | "cancelled", None) => {}
            ("started", Some(at)) => {
                self.tells_starts = true;
                self.open[at].started = true;
            }
            ("completed", Some(at)) => self.open[at].completed = true,
            ("cancelled", Some(at)) => {
                let reason = "the agent cancelled it".to_owned();
                events.push(EventKind::InputDropped { id: self.open.remove(at).id.into(), reason });
            }
            _ => events.push(raw(value)),
        }
    }

    fn control_response(&mut self, value: Value, heard: &mut Heard) {
        let request = value["response"]["request_id"].as_str();
        if request.is_none() || request != self.interrupt.as_deref() {
            return heard.events.push(raw(value));
        }
        self.interrupt = None;
        heard.interrupt_answered = true;
        if value["response"]["subtype"] != "success" {
            let why = value["response"]["error"].as_str().unwrap_or("no reason given");
            heard.events.push(warning("interrupt_refused", &format!("the agent refused the interrupt: {why}")));
        }
    }

    fn is_ours(&self, uuid: &Value) -> bool {
        self.open.iter().any(|open| *uuid == open.uuid)
    }
}

/// A JSON object; invalid UTF-8 and lone surrogates are replaced, not a reason to lose the line.
fn parse(bytes: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(bytes);
    let value = serde_json::from_str::<Value>(&text)
        .or_else(|error| match surrogates::mend(text.as_bytes()) {
            Some(mended) => serde_json::from_slice(&mended),
            None => Err(error),
        })
        .ok()?;
    value.is_object().then_some(value)
}

/// The answer to a request of the CLI's, which waits for it. None of them is expected: permissions are skipped, and no
/// tools, hooks or dialogs of ours were announced.
fn answer(value: &Value) -> Vec<u8> {
    let request = value["request_id"].clone();
    let response = if value["request"]["subtype"] == "can_use_tool" {
        let message = "nobody can be asked in this session; decide without asking";
        json!({"subtype": "success", "request_id": request, "response": {"behavior": "deny", "message": message}})
    } else {
        json!({"subtype": "error", "request_id": request, "error": "not supported by aigo-runner"})
    };
    to_line(&json!({"type": "control_response", "response": response}))
}

fn api_retry(value: &Value) -> EventKind {
    let status = match value["error_status"].as_u64() {
        Some(status) => format!("answered {status}"),
        None => "could not be reached".to_owned(),
    };
    let error = value["error"].as_str().unwrap_or("unknown");
    let number = |key: &str| value[key].as_u64().unwrap_or(0);
    let seconds = number("retry_delay_ms") as f64 / 1000.0;
    let (attempt, most) = (number("attempt"), number("max_retries"));
    let message = format!("model service {status} ({error}): retry {attempt} of {most} in {seconds:.1} s");
    warning("api_retry", &message)
}

fn warning(code: &str, message: &str) -> EventKind {
    EventKind::Warning { code: code.to_owned(), message: ClippedText::new(message, MAX_SHORT_BYTES).text }
}
