//! Questions to a list of events.

use ipc_protocol::event::{EventKind, TurnFinished};
use supervisor::session::event::{HostEvent, SessionEvent, What};

/// What the runner says, if it is the runner.
pub fn runner(event: &SessionEvent) -> Option<&EventKind> {
    match &event.what {
        What::Runner(kind) => Some(kind),
        What::Host(_) => None,
    }
}

/// What aigo says, if it is aigo.
pub fn host(event: &SessionEvent) -> Option<&HostEvent> {
    match &event.what {
        What::Host(event) => Some(event),
        What::Runner(_) => None,
    }
}

/// The agent's words, if it speaks.
pub fn text(event: &SessionEvent) -> Option<&str> {
    match runner(event) {
        Some(EventKind::Text { body, .. }) => Some(&body.text),
        _ => None,
    }
}

/// The code of a warning, ours or the runner's.
pub fn warning(event: &SessionEvent) -> Option<(&str, &str)> {
    match &event.what {
        What::Runner(EventKind::Warning { code, message }) => Some((code, message)),
        What::Host(HostEvent::HostWarning { code, message }) => Some((code, message)),
        What::Runner(_) | What::Host(_) => None,
    }
}

/// Longest line of [`tell`], in characters.
const LINE: usize = 400;

/// The events for people: one line of JSON for each, cut where it gets long.
pub fn tell(events: &[SessionEvent]) -> String {
    let line = |event| {
        let json = serde_json::to_string(event).unwrap_or_else(|error| error.to_string());
        json.chars().take(LINE).chain(['\n']).collect::<String>()
    };
    events.iter().map(line).collect()
}

/// Questions to a list of events.
pub trait Look {
    /// The list.
    fn events(&self) -> &[SessionEvent];

    /// The agent's words, in order.
    fn texts(&self) -> Vec<&str> {
        self.events().iter().filter_map(text).collect()
    }

    /// Steps of the escalation, in order.
    fn escalations(&self) -> Vec<&str> {
        let step = |event| match host(event) {
            Some(HostEvent::Escalation { step }) => Some(step.as_str()),
            _ => None,
        };
        self.events().iter().filter_map(step).collect()
    }

    /// What the agent sent to people by `messages/`, in order.
    fn messages(&self) -> Vec<&str> {
        let message = |event| match host(event) {
            Some(HostEvent::Message { body, .. }) => Some(body.text.as_str()),
            _ => None,
        };
        self.events().iter().filter_map(message).collect()
    }

    /// Codes of all warnings, in order.
    fn warnings(&self) -> Vec<&str> {
        self.events().iter().filter_map(warning).map(|(code, _)| code).collect()
    }

    /// The turns that were finished, in order.
    fn turns(&self) -> Vec<&TurnFinished> {
        let turn = |event| match runner(event) {
            Some(EventKind::TurnFinished(turn)) => Some(turn),
            _ => None,
        };
        self.events().iter().filter_map(turn).collect()
    }

    /// What tools answered, in order: whether they failed, and the text.
    fn tool_results(&self) -> Vec<(bool, &str)> {
        let result = |event| match runner(event) {
            Some(EventKind::ToolResult { is_error, body, .. }) => Some((*is_error, body.text.as_str())),
            _ => None,
        };
        self.events().iter().filter_map(result).collect()
    }

    /// What became of the message: true if the agent took it, false if it was dropped, `None` if nothing is known.
    fn was_taken(&self, message: &str) -> Option<bool> {
        self.events().iter().find_map(|event| match runner(event) {
            Some(EventKind::InputAccepted { id }) if id == message => Some(true),
            Some(EventKind::InputDropped { id, .. }) if id == message => Some(false),
            _ => None,
        })
    }

    /// The place of the first event that is as `wanted`.
    fn place(&self, wanted: impl Fn(&SessionEvent) -> bool) -> Option<usize> {
        self.events().iter().position(wanted)
    }
}

impl Look for Vec<SessionEvent> {
    fn events(&self) -> &[SessionEvent] {
        self
    }
}
