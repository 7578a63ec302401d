//! What readers of a session see: the runner's events and our own, in one gap-free order.

use ipc_protocol::clip::ClippedText;
use ipc_protocol::event::EventKind;
use ipc_protocol::limits::MAX_TEXT_BYTES;
use ipc_protocol::outgoing::{Outgoing, OutgoingFile};
use serde::{Deserialize, Serialize};

use super::SessionId;
use super::status::{Ending, Status};
use crate::admission::Wait;

/// One event of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionEvent {
    /// The cursor: 1 for the first, gap-free.
    pub seq: u64,
    /// When the supervisor learned of it.
    pub at: jiff::Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// Who says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum HostEvent {
    /// There is no room yet: the session waits.
    Queued {
        /// 1 is next.
        position: usize,
        /// Why, for programs.
        reason: Wait,
        /// The same as a sentence.
        message: String,
    },
    /// The first event of a session that is brought up: what it is.
    Session {
        /// Its id, for `aigo send`, `interrupt`, `stop` and `logs`.
        session: SessionId,
        /// On whose account it runs.
        agent: String,
        /// What runs in the container: `claude` or `command`. An aigo that had no name for it but `agent` left it out.
        #[serde(default)]
        program: String,
        /// The image.
        image: String,
        /// The user's folder.
        workspace: String,
    },
    /// A new status.
    Status {
        /// Which.
        status: Status,
    },
    /// Something is being brought up.
    LaunchStep {
        /// What: `network`, `proxy`, `container`, `start`.
        step: LaunchStep,
        /// What to know about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A message goes to the agent.
    InputSent {
        /// The message's id.
        id: String,
        /// What it says.
        #[serde(flatten)]
        body: ClippedText,
        /// Who says it, if not the session's owner.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sender: Option<String>,
    },
    /// The agent was asked to stop its turn.
    InterruptSent {},
    /// The session is asked to end: by whom and with which escalation.
    EndRequested {
        /// In words.
        by: String,
    },
    /// The next step of the escalation.
    Escalation {
        /// In words: `_close`, `SIGTERM`, `kill`.
        step: String,
    },
    /// A message of the agent's for its people, from `messages/`.
    Message {
        /// Its id.
        id: String,
        /// What it says.
        #[serde(flatten)]
        body: ClippedText,
        /// The chat that it is meant for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chat_jid: Option<String>,
    },
    /// A question of the agent's for its people, from `messages/`.
    AgentQuestion {
        /// Its id.
        id: String,
        /// What it asks.
        #[serde(flatten)]
        body: ClippedText,
        /// Answers to choose from.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
    },
    /// A file that the agent hands over, from `messages/`.
    File {
        /// Its id.
        id: String,
        /// Its path as the container sees it.
        path: String,
        /// A line that goes with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caption: Option<String>,
    },
    /// A request of the agent's, from `tasks/`, and what became of it.
    TaskRequest {
        /// Its id.
        id: String,
        /// Its type.
        request: String,
        /// Whether it was done.
        ok: bool,
        /// What the agent was told if not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// Something that people should know; the session goes on.
    HostWarning {
        /// A word for programs.
        code: String,
        /// A sentence for people.
        message: String,
    },
    /// The end; nothing follows.
    Ended {
        /// The final status.
        status: Status,
        /// Why.
        #[serde(flatten)]
        ending: Ending,
        /// What it took and did.
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

/// What is brought up before the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Figures at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// From request to end, in milliseconds.
    pub duration_ms: u64,
    /// Turns that the agent ended.
    pub turns: u64,
    /// Tokens of all turns.
    pub tokens: ipc_protocol::event::Tokens,
    /// Cost in US dollars as the agent reckons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Requests that went to the model service.
    pub model_requests: u64,
    /// Most memory that the container used, in bytes, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// How long CPU quotas held the container back, if they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<Throttled>,
    /// Files in the workspace that differ from before, where that could be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Box<crate::workspace::changes::Changes>>,
    /// Why nothing is known of what changed in the workspace, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_unknown: Option<String>,
    /// The agent's closing words of the last turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// How long CPU quotas held a container back, summed over processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttled {
    /// By its own quota, in milliseconds.
    pub own_ms: u64,
    /// By the quota that it shares with the agent's other containers: all of them together, in milliseconds.
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
