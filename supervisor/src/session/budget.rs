//! How much of what a container says is stored.
//!
//! ```text
//!  everything, up to CAP ──► words and raw values dropped, the rest cut, up to RESERVE ──► nothing of the container's
//! ```
//!
//! What we say ourselves is always stored: its end, its status, who asked for what.

use std::io;

use ipc_protocol::clip::{ClippedText, ClippedValue};
use ipc_protocol::event::EventKind;
use serde::{Deserialize, Serialize};

use crate::session::event::{HostEvent, What};
use crate::store::NewEvent;

/// Bytes of events and messages of one session that are stored as they are.
const CAP: u64 = 512 << 20;
/// Bytes beyond that for the bones of what goes on: turns, tools, warnings.
const RESERVE: u64 = 64 << 20;

/// A text that is cut.
const CUT_TEXT: usize = 1024;
/// An event that is still longer when its texts are cut is not one of the runner's.
const CUT_EVENT: u64 = 8 * 1024;

/// What the store adds to a line of the journal at most: our own number and time, the frame of a `raw`.
const FRAME: u64 = 256;

/// What is left for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Budget {
    left: u64,
    reserve: u64,
    capped: Capped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Capped {
    No,
    Untold,
    Told,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(CAP, RESERVE)
    }
}

impl Budget {
    pub(super) fn new(cap: u64, reserve: u64) -> Self {
        Self { left: cap, reserve, capped: Capped::No }
    }

    /// So many bytes of events are stored already, by another process. A budget that had come to its end there may say so
    /// once more.
    pub(super) fn spend(&mut self, stored: u64) {
        if let Some(over) = stored.checked_sub(self.left).filter(|over| *over > 0) {
            *self = Self { left: 0, reserve: self.reserve.saturating_sub(over), capped: Capped::Told };
        } else {
            self.left -= stored;
        }
    }

    /// Whether a batch of the journal, whose lines had so many bytes, may be stored as it is. Else each event is to be asked
    /// for. Saves encoding each of them once more: the store encodes them as the journal does.
    pub(super) fn admit_all(&mut self, events: usize, bytes: u64) -> bool {
        let bytes = bytes.saturating_add((events as u64).saturating_mul(FRAME));
        let left = self.left.checked_sub(bytes).filter(|_| self.capped == Capped::No);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// The event as it may be stored, if at all; `more` are bytes that are stored beside it.
    pub(super) fn admit(&mut self, event: NewEvent, more: usize) -> Option<NewEvent> {
        if is_ours(&event.what) {
            return Some(event);
        }
        if self.capped == Capped::No {
            let bytes = encoded_bytes(&event.what).saturating_add(more as u64);
            if let Some(left) = self.left.checked_sub(bytes) {
                self.left = left;
                return Some(event);
            }
            self.capped = Capped::Untold;
        }
        let NewEvent { runner_seq, what } = event;
        let what = cut(what)?;
        let bytes = encoded_bytes(&what);
        self.reserve = self.reserve.checked_sub(bytes).filter(|_| bytes <= CUT_EVENT)?;
        Some(NewEvent { runner_seq, what })
    }

    /// Nothing is stored as it is any more.
    pub(super) fn is_capped(&self) -> bool {
        self.capped != Capped::No
    }

    /// The warning, once.
    pub(super) fn news(&mut self) -> Option<HostEvent> {
        if self.capped != Capped::Untold {
            return None;
        }
        self.capped = Capped::Told;
        let message = format!(
            "the agent has said more than the {} MiB that are kept of one session: from here on its words are missing, and \
             what else it does is kept in short",
            CAP >> 20
        );
        Some(HostEvent::HostWarning { code: "events_capped".into(), message })
    }
}

/// Said by us or by people, not by the container.
fn is_ours(what: &What) -> bool {
    match what {
        What::Host(event) => match event {
            HostEvent::Queued { .. }
            | HostEvent::Session { .. }
            | HostEvent::Status { .. }
            | HostEvent::LaunchStep { .. }
            | HostEvent::InputSent { .. }
            | HostEvent::InterruptSent {}
            | HostEvent::EndRequested { .. }
            | HostEvent::Escalation { .. }
            | HostEvent::Ended { .. } => true,
            // Files that are refused make warnings.
            HostEvent::Message { .. }
            | HostEvent::AgentQuestion { .. }
            | HostEvent::File { .. }
            | HostEvent::TaskRequest { .. }
            | HostEvent::HostWarning { .. } => false,
        },
        What::Runner(_) => false,
    }
}

/// The bones of an event; none for what is only words.
fn cut(what: What) -> Option<What> {
    Some(match what {
        What::Host(HostEvent::Message { id, body, chat_jid }) => {
            HostEvent::Message { id, body: cut_text(body), chat_jid }.into()
        }
        What::Host(HostEvent::AgentQuestion { id, body, options }) => {
            HostEvent::AgentQuestion { id, body: cut_text(body), options }.into()
        }
        What::Host(event) => event.into(),
        What::Runner(kind) => What::Runner(match kind {
            EventKind::Text { .. } | EventKind::Thought { .. } | EventKind::Output { .. } | EventKind::Raw { .. } => {
                return None;
            }
            EventKind::ToolCall { call_id, tool, input, parent_call } => {
                let input = match input.full_bytes {
                    None => ClippedValue::new(input.value, CUT_TEXT),
                    // Its first cut knows the full length.
                    full_bytes => ClippedValue { full_bytes, ..ClippedValue::new(input.value, CUT_TEXT) },
                };
                EventKind::ToolCall { call_id, tool, input, parent_call }
            }
            EventKind::ToolResult { call_id, is_error, body } => {
                EventKind::ToolResult { call_id, is_error, body: cut_text(body) }
            }
            EventKind::TurnFinished(mut turn) => {
                turn.body = cut_text(turn.body);
                EventKind::TurnFinished(turn)
            }
            EventKind::RunnerStarted { .. }
            | EventKind::SetupStep { .. }
            | EventKind::AgentStarted { .. }
            | EventKind::MountMismatch { .. }
            | EventKind::Ready {}
            | EventKind::TurnStarted { .. }
            | EventKind::InputAccepted { .. }
            | EventKind::InputDropped { .. }
            | EventKind::Usage { .. }
            | EventKind::Question { .. }
            | EventKind::Warning { .. }
            | EventKind::Closing { .. }
            | EventKind::AgentExited { .. }
            | EventKind::RunnerExiting { .. } => kind,
        }),
    })
}

fn cut_text(body: ClippedText) -> ClippedText {
    let ClippedText { text, full_bytes } = body;
    let cut = ClippedText::new(text, CUT_TEXT);
    ClippedText { full_bytes: full_bytes.or(cut.full_bytes), text: cut.text }
}

/// What an event takes in the store, without the frame that each has.
fn encoded_bytes(what: &What) -> u64 {
    struct Count(u64);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, what) {
        Ok(()) => count.0,
        // The store, which encodes it as well, will say so.
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use ipc_protocol::event::{TurnFinished, TurnOutcome};

    use super::*;
    use crate::session::status::Status;

    fn runner(kind: EventKind) -> NewEvent {
        NewEvent { runner_seq: Some(1), what: What::Runner(kind) }
    }

    fn text(bytes: usize) -> NewEvent {
        runner(EventKind::Text { body: ClippedText::new("x".repeat(bytes), bytes), parent_call: None })
    }

    fn result(bytes: usize) -> NewEvent {
        let body = ClippedText::new("x".repeat(bytes), bytes);
        runner(EventKind::ToolResult { call_id: "c".into(), is_error: false, body })
    }

    #[test]
    fn beyond_the_cap_words_are_dropped_and_the_bones_are_kept() {
        let mut budget = Budget::new(10_000, 10_000);
        assert!(budget.admit(text(9_000), 0).is_some());
        assert!(budget.news().is_none() && !budget.is_capped());
        assert!(budget.admit(text(2_000), 0).is_none());
        assert!(matches!(budget.news(), Some(HostEvent::HostWarning { code, .. }) if code == "events_capped"));
        assert!(budget.news().is_none(), "told once");
        assert!(budget.admit(text(1), 0).is_none(), "it does not come and go");
        let Some(NewEvent { runner_seq: Some(1), what: What::Runner(EventKind::ToolResult { body, .. }) }) =
            budget.admit(result(5_000), 0)
        else {
            panic!()
        };
        assert_eq!((body.text.len(), body.full_bytes), (CUT_TEXT, Some(5_000)));
        let turn = TurnFinished { outcome: TurnOutcome::Error, ..TurnFinished::default() };
        assert!(budget.admit(runner(EventKind::TurnFinished(turn)), 0).is_some());
        let huge = EventKind::Warning { code: "w".into(), message: "x".repeat(9_000) };
        assert!(budget.admit(runner(huge), 0).is_none());
    }

    #[test]
    fn beyond_the_reserve_only_we_are_stored() {
        let mut budget = Budget::new(0, 3_000);
        let kept = (0..100).filter(|_| budget.admit(result(5_000), 0).is_some()).count();
        assert_eq!(kept, 2);
        let status = || HostEvent::Status { status: Status::Closing }.into();
        assert!((0..100).all(|_| budget.admit(status(), 0).is_some()));
    }

    #[test]
    fn a_batch_is_taken_whole_or_looked_at() {
        let mut budget = Budget::new(10_000, 1_000);
        assert!(budget.admit_all(10, 7_000));
        assert!(!budget.admit_all(10, 1_000), "440 are left");
        assert!(budget.admit(text(300), 0).is_some(), "one of them still fits");
        assert!(budget.admit(text(300), 0).is_none());
        assert!(!budget.admit_all(0, 0), "it does not come and go");
    }

    #[test]
    fn whoever_goes_on_has_what_is_left() {
        let after = |stored| {
            let mut budget = Budget::new(10_000, 3_000);
            budget.spend(stored);
            budget
        };
        assert!(after(9_000).admit(text(500), 0).is_some());
        assert!(after(9_900).admit(text(500), 0).is_none());
        let mut capped = after(11_000);
        assert!(capped.admit(text(1), 0).is_none() && capped.news().is_none());
        assert!(capped.admit(result(5_000), 0).is_some(), "of the reserve 2,000 bytes are left");
        assert!(after(20_000).admit(result(5_000), 0).is_none());
    }

    #[test]
    fn what_is_stored_beside_an_event_counts() {
        let mut budget = Budget::new(1_000, 1_000);
        assert!(budget.admit(text(1), 2_000).is_none() && budget.is_capped());
    }
}
