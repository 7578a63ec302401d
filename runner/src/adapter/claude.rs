//! Claude Code over stream-json: one JSON object a line in both directions.
//!
//! ```text
//!            message (uuid)                  init ───────────► TurnStarted
//! input ──► {"type":"user",…} ──► claude ──► assistant, user ─► Text, Thought, ToolCall, ToolResult
//!            control_request                 result ─────────► Usage, TurnFinished
//! ```
//!
//! Turns and messages are not one to one: messages that arrive in mid-turn join it, queued ones are merged, and a
//! background task's end starts a turn that nobody asked for. So every message carries a uuid, and a result's inputs
//! are those that the CLI names. The uuid is derived from session and id: the CLI drops one that it has seen, so an
//! input that a restarted runner sends again is answered once.
//!
//! An input counts as taken once its line is in the CLI's pipe; should the CLI end before it has answered it, the
//! input is reported as dropped ([`Adapter::unanswered`]).

mod blocks;
mod launch;
mod prompt;
mod result;
mod surrogates;
mod translate;
mod uuid;

pub use translate::Translator;

use ipc_protocol::config::RunnerConfig;
use ipc_protocol::event::EventKind;
use ipc_protocol::id::MessageId;
use ipc_protocol::input::Message;
use serde_json::json;

use super::{Adapter, Heard, Interrupt, Launch};
use crate::lines::Line;

/// Longest line in bytes that is parsed; the longest seen had 40 kB, and large tool outputs are spilled to files.
pub const MAX_CLAUDE_LINE_BYTES: usize = 16 * 1024 * 1024;

/// The `claude` adapter.
#[derive(Debug)]
pub struct Claude {
    launch: Launch,
    session: String,
    translator: Translator,
    interrupts: u64,
}

impl Claude {
    /// Reads `config.agent`; [`super::from_config`] is the way in.
    pub(super) fn new(config: &RunnerConfig) -> Self {
        Self {
            launch: launch::launch(config),
            session: config.session.clone(),
            translator: Translator::default(),
            interrupts: 0,
        }
    }
}

impl Adapter for Claude {
    fn name(&self) -> &'static str {
        "claude"
    }

    fn launch(&self) -> Launch {
        self.launch.clone()
    }

    fn line_limit(&self) -> usize {
        MAX_CLAUDE_LINE_BYTES
    }

    fn message(&mut self, id: &MessageId, message: &Message) -> Vec<u8> {
        let line = json!({
            "type": "user",
            "uuid": uuid::of_input(&self.session, id),
            "message": {"role": "user", "content": prompt::text(message)},
        });
        to_line(&line)
    }

    fn taken(&mut self, id: &MessageId) -> Vec<EventKind> {
        self.translator.sent(uuid::of_input(&self.session, id), id.clone());
        Vec::new()
    }

    fn interrupt(&mut self) -> Interrupt {
        self.interrupts += 1;
        let request = format!("aigo-interrupt-{}", self.interrupts);
        let line = json!({"type": "control_request", "request_id": request, "request": {"subtype": "interrupt"}});
        self.translator.interrupt_sent(request);
        Interrupt::Line(to_line(&line))
    }

    fn line(&mut self, line: Line) -> Heard {
        self.translator.line(&line)
    }

    fn busy(&self) -> bool {
        self.translator.busy()
    }

    fn is_good_end(&self, code: i32) -> bool {
        // The CLI exits with 1 if its last turn was only interrupted, too.
        code == 0 || self.translator.was_interrupted()
    }

    fn unanswered(&mut self) -> Vec<MessageId> {
        self.translator.unanswered()
    }
}

/// A line for the CLI's stdin. A malformed one would end the CLI; `serde_json` escapes line ends, so this cannot be one.
fn to_line(value: &serde_json::Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use ipc_protocol::config::{AgentSpec, Identity, Layout};
    use serde_json::Value;

    use super::*;

    fn claude() -> Claude {
        Claude::new(&RunnerConfig {
            version: 1,
            session: "s1".into(),
            agent: AgentSpec::Claude {
                model: None,
                conversation: "12345678-1234-4234-8234-123456789abc".into(),
                resume: false,
                max_turns: None,
                append_system_prompt: None,
                project_settings: false,
                one_shot: false,
            },
            identity: Identity { uid: 0, gid: 0 },
            preflight_url: None,
            mounts: Vec::new(),
            term_grace_ms: 1000,
            layout: Layout::default(),
        })
    }

    fn line(value: &Value) -> Line {
        let bytes = value.to_string().into_bytes();
        Line { full_bytes: bytes.len() as u64, bytes }
    }

    #[test]
    fn a_message_is_one_line_with_the_same_uuid_each_time() {
        let (id, message) = ("m1".parse().unwrap(), Message { text: "a\nb\u{2028}\"".into(), ..Message::default() });
        let bytes = claude().message(&id, &message);
        assert_eq!(bytes, claude().message(&id, &message));
        assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["message"]["content"], "a\nb\u{2028}\"");
        assert_eq!(value["type"], "user");
    }

    #[test]
    fn inputs_are_named_by_the_result_that_answers_them() {
        let mut agent = claude();
        let ids: Vec<MessageId> = ["a", "b", "c"].iter().map(|id| id.parse().unwrap()).collect();
        let uuids: Vec<String> = ids.iter().map(|id| uuid::of_input("s1", id)).collect();
        for id in &ids {
            agent.taken(id);
        }
        let answer = json!({"type": "result", "subtype": "success", "is_error": false, "result": "ok",
                            "user_message_uuids": [uuids[0], uuids[1]]});
        let events = agent.line(line(&answer)).events;
        let Some(EventKind::TurnFinished(finished)) = events.last() else { panic!("{events:?}") };
        assert_eq!(finished.inputs, ["a", "b"]);
        assert!(!finished.unsolicited);
        assert_eq!(agent.unanswered(), [ids[2].clone()]);
        assert!(agent.unanswered().is_empty());
    }

    #[test]
    fn a_result_that_names_nobody_answers_what_was_begun_or_everything_if_beginnings_are_not_told() {
        let result = |origin: &str| {
            line(&json!({"type": "result", "subtype": "success", "is_error": false, "result": "ok",
                         "origin": {"kind": origin}}))
        };
        let finished = |agent: &mut Claude, origin: &str| match agent.line(result(origin)).events.pop() {
            Some(EventKind::TurnFinished(finished)) => finished.inputs,
            other => panic!("{other:?}"),
        };
        let ids: Vec<MessageId> = ["a", "b"].iter().map(|id| id.parse().unwrap()).collect();
        let (mut silent, mut telling) = (claude(), claude());
        for id in &ids {
            silent.taken(id);
            telling.taken(id);
        }
        assert_eq!(finished(&mut silent, "task-notification"), [] as [&str; 0], "nobody asked for that");
        assert_eq!(finished(&mut silent, "human"), ["a", "b"]);
        let uuid = uuid::of_input("s1", &ids[1]);
        telling.line(line(&json!({"type": "command_lifecycle", "command_uuid": uuid, "state": "started"})));
        assert_eq!(finished(&mut telling, "human"), ["b"]);
        assert_eq!(finished(&mut telling, "human"), [] as [&str; 0], "a is yet to be begun");
    }

    #[test]
    fn what_is_nested_too_deeply_to_be_wrapped_goes_as_text() {
        let deep: Value = serde_json::from_str(&("[".repeat(120) + &"]".repeat(120))).unwrap();
        let events = claude().line(line(&json!({"type": "new", "deep": deep}))).events;
        let [EventKind::Raw { body, .. }] = &events[..] else { panic!("{events:?}") };
        assert!(body.value.is_string() && body.full_bytes.is_some());
        let event = ipc_protocol::event::Event { seq: 1, at: 1, kind: events[0].clone() };
        assert_eq!(ipc_protocol::event::Event::parse(&serde_json::to_vec(&event).unwrap()).unwrap(), event);
    }

    #[test]
    fn a_message_that_joined_a_turn_is_named_although_the_cli_is_done_with_it_before_the_result() {
        let mut agent = claude();
        let ids: Vec<MessageId> = ["first", "joined"].iter().map(|id| id.parse().unwrap()).collect();
        let uuids: Vec<String> = ids.iter().map(|id| uuid::of_input("s1", id)).collect();
        let state = |uuid: &String, state: &str| {
            line(&json!({"type": "command_lifecycle", "command_uuid": uuid, "state": state}))
        };
        for (id, uuid) in ids.iter().zip(&uuids) {
            agent.taken(id);
            agent.line(state(uuid, "started"));
        }
        agent.line(state(&uuids[1], "completed"));
        let result = json!({"type": "result", "subtype": "success", "is_error": false, "result": "ok",
                            "user_message_uuids": uuids});
        let events = agent.line(line(&result)).events;
        let Some(EventKind::TurnFinished(finished)) = events.last() else { panic!("{events:?}") };
        assert_eq!(finished.inputs, ["first", "joined"]);
        agent.line(state(&uuids[0], "completed"));
        assert!(!agent.busy() && agent.unanswered().is_empty());
    }

    #[test]
    fn an_answered_interrupt_is_noticed_once() {
        let mut agent = claude();
        let Interrupt::Line(bytes) = agent.interrupt() else { panic!() };
        let request: Value = serde_json::from_slice(&bytes).unwrap();
        let answer = json!({"type": "control_response",
            "response": {"subtype": "success", "request_id": request["request_id"], "response": {"still_queued": []}}});
        let heard = agent.line(line(&answer));
        assert!(heard.interrupt_answered && heard.events.is_empty());
        let again = agent.line(line(&answer));
        assert!(!again.interrupt_answered && matches!(again.events[..], [EventKind::Raw { .. }]));
    }

    #[test]
    fn a_request_of_the_cli_is_never_left_without_an_answer() {
        for (subtype, behaviour) in [("can_use_tool", "success"), ("mcp_message", "error"), ("new", "error")] {
            let ask = json!({"type": "control_request", "request_id": "r1", "request": {"subtype": subtype}});
            let heard = claude().line(line(&ask));
            let answer: Value = serde_json::from_slice(&heard.replies[0]).unwrap();
            assert_eq!(answer["response"]["subtype"], behaviour, "{answer}");
            assert_eq!(answer["response"]["request_id"], "r1");
            assert!(matches!(heard.events[..], [EventKind::Raw { .. }]));
        }
    }
}
