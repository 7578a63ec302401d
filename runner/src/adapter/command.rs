//! Any program as an agent.
//!
//! | | stdin, one line for each message | stdout |
//! |---|---|---|
//! | `lines` | the text as it is (line ends in it make several lines), then a line end | each line is a `text` event |
//! | `json` | `{"type":"message","id":…,"text":…}`, with `sender` and `attachments` if there are any | each line is an event of ours without `seq` and `at` |
//!
//! A command may give the kinds `text`, `thought`, `tool_call`, `tool_result`, `usage`, `turn_finished`, `question` and
//! `warning`. Anything else (what only the runner may say, other JSON) is kept as `raw`, what is not JSON as `output`.
//! Turns are known only in `json`: one starts with the first message taken, and `turn_finished` ends it.

use ipc_protocol::clip::{ClippedText, ClippedValue};
use ipc_protocol::config::CommandOutput;
use ipc_protocol::event::{EventKind, OutputStream};
use ipc_protocol::id::MessageId;
use ipc_protocol::input::Message;
use ipc_protocol::limits::{MAX_SHORT_BYTES, MAX_TEXT_BYTES};
use serde::Serialize;
use serde_json::Value;

use super::{Adapter, Heard, Interrupt, Launch, output, text_of};
use crate::lines::Line;

/// Longest JSON line in bytes: a text of the largest size with every character escaped, and its frame.
const MAX_JSON_LINE_BYTES: usize = 6 * MAX_TEXT_BYTES + 64 * 1024;

/// Most options of one question; the rest is left out.
const MAX_OPTIONS: usize = 64;

/// The `command` adapter.
#[derive(Debug)]
pub struct Command {
    argv: Vec<String>,
    output: CommandOutput,
    turn: u64,
    turn_runs: bool,
    /// Taken since the last `turn_finished`.
    inputs: Vec<MessageId>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "message", rename_all = "camelCase")]
struct MessageLine<'a> {
    id: &'a MessageId,
    #[serde(flatten)]
    message: &'a Message,
}

impl Command {
    /// `argv` is the program and its arguments.
    pub fn new(argv: Vec<String>, output: CommandOutput) -> Self {
        Self { argv, output, turn: 0, turn_runs: false, inputs: Vec::new() }
    }

    fn start_turn(&mut self) -> Option<EventKind> {
        if self.turn_runs {
            return None;
        }
        self.turn_runs = true;
        self.turn += 1;
        Some(EventKind::TurnStarted { turn: self.turn, model: None, conversation: None })
    }

    fn json_line(&mut self, line: &Line) -> Vec<EventKind> {
        if line.is_cut() {
            return vec![output(OutputStream::Stdout, line)];
        }
        let Ok(value) = serde_json::from_slice::<Value>(&line.bytes) else {
            return vec![output(OutputStream::Stdout, line)];
        };
        match serde_json::from_value(value.clone()).ok().and_then(harmless) {
            Some(EventKind::TurnFinished(mut finished)) => {
                let mut events: Vec<EventKind> = self.start_turn().into_iter().collect();
                finished.turn = self.turn;
                finished.inputs = self.inputs.drain(..).map(String::from).collect();
                finished.unsolicited = finished.inputs.is_empty();
                self.turn_runs = false;
                events.push(EventKind::TurnFinished(finished));
                events
            }
            Some(event) => vec![event],
            None => {
                vec![EventKind::Raw { source: "command".to_owned(), body: ClippedValue::new(value, MAX_TEXT_BYTES) }]
            }
        }
    }
}

impl Adapter for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn launch(&self) -> Launch {
        Launch { argv: self.argv.clone(), env: Vec::new() }
    }

    fn line_limit(&self) -> usize {
        match self.output {
            CommandOutput::Lines => MAX_TEXT_BYTES,
            CommandOutput::Json => MAX_JSON_LINE_BYTES,
        }
    }

    fn message(&mut self, id: &MessageId, message: &Message) -> Vec<u8> {
        let mut line = match self.output {
            CommandOutput::Lines => message.text.clone().into_bytes(),
            CommandOutput::Json => {
                serde_json::to_value(MessageLine { id, message }).unwrap_or_default().to_string().into_bytes()
            }
        };
        line.push(b'\n');
        line
    }

    fn taken(&mut self, id: &MessageId) -> Vec<EventKind> {
        match self.output {
            CommandOutput::Lines => Vec::new(),
            CommandOutput::Json => {
                self.inputs.push(id.clone());
                self.start_turn().into_iter().collect()
            }
        }
    }

    fn interrupt(&mut self) -> Interrupt {
        Interrupt::Signal
    }

    fn line(&mut self, line: Line) -> Heard {
        let events = match self.output {
            CommandOutput::Lines => vec![EventKind::Text { body: text_of(&line), parent_call: None }],
            CommandOutput::Json => self.json_line(&line),
        };
        Heard { events, ..Heard::default() }
    }

    fn busy(&self) -> bool {
        self.turn_runs
    }

    fn is_good_end(&self, code: i32) -> bool {
        code == 0
    }

    fn unanswered(&mut self) -> Vec<MessageId> {
        // A program that ends after its last line has answered, as far as it can tell us.
        Vec::new()
    }
}

/// An event that a command may give, with its values cut; `None` for what only the runner may say.
fn harmless(event: EventKind) -> Option<EventKind> {
    let text = |body: ClippedText| cut(body, MAX_TEXT_BYTES);
    let short = |text: String| ClippedText::new(text, MAX_SHORT_BYTES).text;
    match event {
        EventKind::Text { body, parent_call } => {
            Some(EventKind::Text { body: text(body), parent_call: parent_call.map(short) })
        }
        EventKind::Thought { body, parent_call } => {
            Some(EventKind::Thought { body: text(body), parent_call: parent_call.map(short) })
        }
        EventKind::ToolCall { call_id, tool, input, parent_call } => Some(EventKind::ToolCall {
            call_id: short(call_id),
            tool: short(tool),
            input: ClippedValue::new(input.value, MAX_TEXT_BYTES),
            parent_call: parent_call.map(short),
        }),
        EventKind::ToolResult { call_id, is_error, body } => {
            Some(EventKind::ToolResult { call_id: short(call_id), is_error, body: text(body) })
        }
        EventKind::Usage { model, tokens } => Some(EventKind::Usage { model: model.map(short), tokens }),
        EventKind::TurnFinished(mut finished) => {
            finished.body = text(finished.body);
            Some(EventKind::TurnFinished(finished))
        }
        EventKind::Question { id, text, options } => Some(EventKind::Question {
            id: short(id),
            text: short(text),
            options: options.into_iter().take(MAX_OPTIONS).map(short).collect(),
        }),
        EventKind::Warning { code, message } => Some(EventKind::Warning { code: short(code), message: short(message) }),
        EventKind::RunnerStarted { .. }
        | EventKind::SetupStep { .. }
        | EventKind::AgentStarted { .. }
        | EventKind::MountMismatch { .. }
        | EventKind::Ready {}
        | EventKind::TurnStarted { .. }
        | EventKind::InputAccepted { .. }
        | EventKind::InputDropped { .. }
        | EventKind::Output { .. }
        | EventKind::Closing { .. }
        | EventKind::AgentExited { .. }
        | EventKind::RunnerExiting { .. }
        | EventKind::Raw { .. } => None,
    }
}

fn cut(body: ClippedText, limit: usize) -> ClippedText {
    let ClippedText { text, full_bytes } = body;
    let mut body = ClippedText::new(text, limit);
    body.full_bytes = body.full_bytes.or(full_bytes);
    body
}

#[cfg(test)]
mod tests {
    use ipc_protocol::event::TurnOutcome;

    use super::*;

    fn line(text: &str) -> Line {
        Line { bytes: text.into(), full_bytes: text.len() as u64 }
    }

    fn json() -> Command {
        Command::new(vec!["agent".into()], CommandOutput::Json)
    }

    fn id(text: &str) -> MessageId {
        text.parse().unwrap()
    }

    #[test]
    fn a_json_command_gets_one_line_for_each_message() {
        let message = Message { text: "two\nlines".into(), sender: Some("ann".into()), ..Message::default() };
        let line = json().message(&id("m1"), &message);
        assert_eq!(
            serde_json::from_slice::<Value>(&line).unwrap(),
            serde_json::json!({"type": "message", "id": "m1", "text": "two\nlines", "sender": "ann"})
        );
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    }

    #[test]
    fn a_command_cannot_speak_as_the_runner() {
        for forged in [
            r#"{"kind":"runner_exiting","code":0}"#,
            r#"{"kind":"input_accepted","id":"m1"}"#,
            r#"{"kind":"raw","source":"claude","value":1}"#,
            r#"{"kind":"nonsense"}"#,
            "[1]",
        ] {
            let events = json().line(line(forged)).events;
            assert!(
                matches!(&events[..], [EventKind::Raw { source, .. }] if source == "command"),
                "{forged}: {events:?}"
            );
        }
        assert!(matches!(json().line(line("no json")).events[..], [EventKind::Output { .. }]));
    }

    #[test]
    fn turns_count_and_name_their_inputs() {
        let mut agent = json();
        assert!(matches!(agent.taken(&id("a"))[..], [EventKind::TurnStarted { turn: 1, .. }]));
        assert!(agent.taken(&id("b")).is_empty());
        assert!(agent.busy());
        let forged = r#"{"kind":"turn_finished","turn":99,"outcome":"success","text":"ok","inputs":["zzz"]}"#;
        let events = agent.line(line(forged)).events;
        let [EventKind::TurnFinished(finished)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((finished.turn, finished.outcome, finished.unsolicited), (1, TurnOutcome::Success, false));
        assert_eq!(finished.inputs, ["a", "b"]);
        assert!(!agent.busy());
        let events = agent.line(line(forged)).events;
        assert!(
            matches!(&events[..], [EventKind::TurnStarted { turn: 2, .. }, EventKind::TurnFinished(f)] if f.unsolicited)
        );
    }

    #[test]
    fn lines_are_text() {
        let mut agent = Command::new(vec!["sh".into()], CommandOutput::Lines);
        let events = agent.line(line("{\"kind\":\"text\"}")).events;
        assert!(matches!(&events[..], [EventKind::Text { body, .. }] if body.text == "{\"kind\":\"text\"}"));
        assert_eq!(agent.message(&id("m"), &Message { text: "hi".into(), ..Message::default() }), b"hi\n");
    }
}
