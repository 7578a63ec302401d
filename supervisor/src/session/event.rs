//! What readers of a session see: the runner's events and our own, in one gap-free order.

use ipc_protocol::clip::ClippedText;
use ipc_protocol::event::EventKind;
use ipc_protocol::limits::MAX_TEXT_BYTES;
use ipc_protocol::outgoing::{Outgoing, OutgoingFile};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::SessionId;
use super::status::{Ending, Status};
use crate::admission::Wait;

/// One event of a session. `kind` says which fields an event has besides `seq` and `at`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct SessionEvent {
    /// The number of the event in its session: 1 for the first event, without gaps.
    pub seq: u64,
    /// When the service learned of the event.
    #[schema(value_type = String, format = DateTime, example = "2026-03-01T12:00:00Z")]
    pub at: jiff::Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// Who says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum What {
    /// The supervisor.
    Host(HostEvent),
    /// The runner, by the journal.
    Runner(EventKind),
}

impl From<HostEvent> for What {
    fn from(event: HostEvent) -> Self {
        Self::Host(event)
    }
}

/// What the supervisor says. The kinds never collide with those of [`EventKind`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum HostEvent {
    /// The session waits for room.
    Queued {
        /// The position in the queue; the session with 1 starts next.
        position: usize,
        /// Why the session waits, for programs.
        reason: Wait,
        /// Why the session waits, as a sentence.
        message: String,
    },
    /// The session is being started. This event says what the session is.
    Session {
        /// The id of the session, for the API and for `aigo send`, `interrupt`, `stop` and `logs`.
        #[schema(value_type = String, pattern = "^[0-9a-f]{12}$", example = "73a5286aa485")]
        session: SessionId,
        /// The agent (principal) that the session is charged to.
        agent: String,
        /// What runs in the container: `claude` or `command`; empty in sessions of versions that did not store the program.
        #[serde(default)]
        program: String,
        /// The image of the container.
        image: String,
        /// The folder that the agent works on, as a path of the service's host.
        workspace: String,
    },
    /// The session has a new status.
    Status {
        /// The new status.
        status: Status,
    },
    /// A part of the session has been started.
    LaunchStep {
        /// The part.
        step: LaunchStep,
        /// What is worth knowing about the part.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A message was sent to the agent.
    InputSent {
        /// The id of the message.
        id: String,
        /// What the message says.
        #[serde(flatten)]
        body: ClippedText,
        /// Who sent the message; absent if the session's owner did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sender: Option<String>,
    },
    /// The agent was asked to stop its turn.
    InterruptSent {},
    /// Somebody or a deadline has asked the session to end.
    EndRequested {
        /// Who asked, in words.
        by: String,
    },
    /// The session did not end yet, and the next means is used.
    Escalation {
        /// The means, in words, such as `_close`, `SIGTERM` or `kill`.
        step: String,
    },
    /// The agent has sent a message to its people (a file in `messages/`).
    #[schema(rename_all = "camelCase")]
    Message {
        /// The id of the message, question, file or request.
        id: String,
        /// What the message says.
        #[serde(flatten)]
        body: ClippedText,
        /// The chat that the message is meant for; absent if no chat was named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chat_jid: Option<String>,
    },
    /// The agent asks its people a question (a file in `messages/`).
    AgentQuestion {
        /// The id of the message, question, file or request.
        id: String,
        /// The question.
        #[serde(flatten)]
        body: ClippedText,
        /// The answers to choose from; absent if any text is an answer.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
    },
    /// The agent hands over a file (a file in `messages/` names its path).
    File {
        /// The id of the message, question, file or request.
        id: String,
        /// The path of the file inside the container.
        path: String,
        /// A line that goes with the file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caption: Option<String>,
    },
    /// The agent has asked the service for something (a file in `tasks/`), and has its answer.
    TaskRequest {
        /// The id of the message, question, file or request.
        id: String,
        /// The type of the request, such as `schedule_task`.
        request: String,
        /// Whether the request was carried out.
        ok: bool,
        /// What the agent was told; absent if the request was carried out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The service warns of something; the session goes on.
    HostWarning {
        /// The kind of warning, as a word for programs.
        code: String,
        /// The warning, as a sentence for people.
        message: String,
    },
    /// The session has ended. This is its last event.
    Ended {
        /// The final status.
        status: Status,
        /// Why the session ended.
        #[serde(flatten)]
        ending: Ending,
        /// The figures of the session.
        summary: Summary,
    },
}

impl HostEvent {
    /// What tells of a file in `messages/`.
    pub fn outgoing(id: String, file: &OutgoingFile) -> Self {
        match &file.outgoing {
            Outgoing::Message { text, chat_jid } => {
                Self::Message { id, body: ClippedText::new(text, MAX_TEXT_BYTES), chat_jid: chat_jid.clone() }
            }
            Outgoing::Question { text, options } => {
                Self::AgentQuestion { id, body: ClippedText::new(text, MAX_TEXT_BYTES), options: options.clone() }
            }
            Outgoing::File { path, caption } => Self::File { id, path: path.clone(), caption: caption.clone() },
        }
    }
}

/// A part of a session that is started before the agent: its `network`, the credential `proxy` on the network's gateway, its
/// `container`, and the `start` of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LaunchStep {
    /// The engine network.
    Network,
    /// The credential proxy on its gateway.
    Proxy,
    /// The container is made.
    Container,
    /// The container starts.
    Start,
}

/// The figures of a session that has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The time from the request to the end, in milliseconds.
    pub duration_ms: u64,
    /// How many turns the agent has ended.
    pub turns: u64,
    /// The tokens of all turns.
    pub tokens: ipc_protocol::event::Tokens,
    /// The cost in US dollars, as the agent computes it; absent if the agent does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// How many requests went to the model service.
    pub model_requests: u64,
    /// The most memory that the container used, in bytes; absent if the host does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// How long CPU quotas held the container back; absent if no quota did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<Throttled>,
    /// The files of the workspace that differ from before; absent if the workspace could not be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Box<crate::workspace::changes::Changes>>,
    /// Why nothing is known of what changed in the workspace, as a sentence; absent if the workspace was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_unknown: Option<String>,
    /// The agent's closing words of its last turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// How long CPU quotas held a container back, summed over the processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Throttled {
    /// The time by the container's own quota, in milliseconds.
    pub own_ms: u64,
    /// The time by the quota that all containers of the agent (principal) share, of all of them together, in milliseconds.
    pub shared_ms: u64,
}

impl Summary {
    /// Takes what a comparison of the workspace has shown.
    pub fn set_changes(&mut self, compared: crate::workspace::changes::Compared) {
        (self.changes, self.changes_unknown) = match compared {
            Ok(changes) => (Some(Box::new(changes)), None),
            Err(why) => (None, Some(why)),
        };
    }

    /// Counts what the runner says.
    pub fn count(&mut self, kind: &EventKind) {
        if let EventKind::TurnFinished(turn) = kind {
            self.turns += 1;
            let (sum, more) = (&mut self.tokens, turn.tokens);
            sum.input = sum.input.saturating_add(more.input);
            sum.output = sum.output.saturating_add(more.output);
            sum.cache_read = sum.cache_read.saturating_add(more.cache_read);
            sum.cache_write = sum.cache_write.saturating_add(more.cache_write);
            self.cost_usd = turn.total_cost_usd.or(self.cost_usd);
            // The runner has cut it; a journal that somebody forged may hold more.
            self.result = Some(ClippedText::new(turn.body.text.as_str(), MAX_TEXT_BYTES).text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_runner_events_read_back_as_what_they_were() {
        let what: [What; 2] = [
            HostEvent::Status { status: Status::Running }.into(),
            What::Runner(EventKind::Text { body: ClippedText::new("x", 9), parent_call: None }),
        ];
        for what in what {
            let event = SessionEvent { seq: 1, at: jiff::Timestamp::UNIX_EPOCH, what };
            let json = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<SessionEvent>(&json).unwrap(), event, "{json}");
        }
    }
}
