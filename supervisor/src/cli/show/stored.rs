//! Stored events as lines: the transcript or JSON, with what is missing between them.

use serde_json::json;

use super::sanitize;
use super::style::Style;
use super::transcript::Transcript;
use crate::session::event::{HostEvent, SessionEvent, What};
use crate::session::gap::Gap;

/// Lines of one session, from its first event on.
#[derive(Debug)]
pub struct Stored {
    /// None: one JSON object an event.
    transcript: Option<Transcript>,
    cursor: u64,
    ended: bool,
}

impl Stored {
    /// As people read it.
    pub fn text(style: Style) -> Self {
        Self { transcript: Some(Transcript::new(style, false)), cursor: 0, ended: false }
    }

    /// As programs do.
    pub fn json() -> Self {
        Self { transcript: None, cursor: 0, ended: false }
    }

    /// The number of the event that was shown last.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Whether the session's end was shown.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The lines of the next event, each with its line end.
    ///
    /// # Errors
    /// When it has no encoding.
    pub fn next(&mut self, event: &SessionEvent) -> serde_json::Result<String> {
        let gap = Gap::between(self.cursor, event.seq).map(|gap| self.missing(gap)).unwrap_or_default();
        self.cursor = event.seq;
        self.ended = matches!(event.what, What::Host(HostEvent::Ended { .. }));
        let event = match &mut self.transcript {
            Some(transcript) => transcript.render(event),
            None => sanitize::json(event)? + "\n",
        };
        Ok(gap + &event)
    }

    /// What is to be said when nothing comes any more, of a session that has ended: its last event tells of its end.
    pub fn last(&self) -> String {
        if self.ended { String::new() } else { self.missing(Gap::after(self.cursor)) }
    }

    fn missing(&self, gap: Gap) -> String {
        match self.transcript {
            Some(_) => format!("{gap}\n"),
            None => match gap {
                Gap { from, to: Some(to) } => format!("{}\n", json!({"kind": "gap", "from": from, "to": to})),
                Gap { from, to: None } => format!("{}\n", json!({"kind": "gap", "from": from})),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use ipc_protocol::clip::ClippedText;
    use ipc_protocol::event::EventKind;

    use super::*;

    fn text(seq: u64, text: &str) -> SessionEvent {
        let kind = EventKind::Text { body: ClippedText::new(text, 100), parent_call: None };
        SessionEvent { seq, at: jiff::Timestamp::UNIX_EPOCH, what: What::Runner(kind) }
    }

    #[test]
    fn what_is_missing_stands_where_it_was() {
        let mut lines = Stored::text(Style::PLAIN);
        let shown: Vec<String> =
            [text(1, "one"), text(4, "two"), text(5, "three")].iter().map(|event| lines.next(event).unwrap()).collect();
        assert_eq!(shown, ["one\n", "[events 2 to 3 are no longer stored]\ntwo\n", "three\n"]);
        assert_eq!(lines.last(), "[the events from 6 on are no longer stored]\n");
        let mut lines = Stored::json();
        let shown = lines.next(&text(3, "late")).unwrap();
        let (gap, event) = shown.split_once('\n').unwrap();
        assert_eq!(gap, r#"{"from":1,"kind":"gap","to":2}"#);
        assert!(event.starts_with(r#"{"seq":3,"#), "{event}");
        assert_eq!(lines.last(), "{\"from\":4,\"kind\":\"gap\"}\n");
    }
}
