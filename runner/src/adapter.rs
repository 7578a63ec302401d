//! What differs between agents, behind one trait. Adapters are pure: bytes and inputs in, events and bytes out; the
//! session driver ([`crate::session`]) owns processes, pipes, time and the journal.
//!
//! ```text
//! input file ──► Adapter::message / interrupt ──► bytes for the agent's stdin, or a signal
//! stdout line ─► Adapter::line ─────────────────► events for the journal, replies for the agent's stdin
//! ```

mod claude;
mod command;

pub use claude::{Claude, MAX_CLAUDE_LINE_BYTES, Translator};
pub use command::Command;

use ipc_protocol::clip::ClippedText;
use ipc_protocol::config::{AgentSpec, RunnerConfig};
use ipc_protocol::event::{EventKind, OutputStream};
use ipc_protocol::id::MessageId;
use ipc_protocol::input::Message;
use ipc_protocol::limits::MAX_TEXT_BYTES;

use crate::lines::Line;

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Program and arguments; the program is looked for in the container's `PATH`.
    pub argv: Vec<String>,
    /// Environment that this adapter adds to the container's.
    pub env: Vec<(&'static str, &'static str)>,
}

/// How to stop the current turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Write this to the agent, which answers within [`INTERRUPT_DEADLINE`](crate::session::INTERRUPT_DEADLINE).
    Line(Vec<u8>),
    /// SIGINT to the agent's process group.
    Signal,
}

/// What one line of the agent's stdout amounts to.
#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    /// For the journal.
    pub events: Vec<EventKind>,
    /// For the agent's stdin: whole lines.
    pub replies: Vec<Vec<u8>>,
    /// The agent has answered the last [`Interrupt::Line`].
    pub interrupt_answered: bool,
}

/// An agent's way to speak.
pub trait Adapter {
    /// As in `agent_started`.
    fn name(&self) -> &'static str;

    /// What to start.
    fn launch(&self) -> Launch;

    /// The most bytes of one stdout line that this adapter can use.
    fn line_limit(&self) -> usize;

    /// The whole lines that carry `message` to the agent's stdin.
    fn message(&mut self, id: &MessageId, message: &Message) -> Vec<u8>;

    /// The message is in the agent's pipe, whole; what that begins.
    fn taken(&mut self, id: &MessageId) -> Vec<EventKind>;

    /// How to stop the current turn.
    fn interrupt(&mut self) -> Interrupt;

    /// One line of the agent's stdout.
    fn line(&mut self, line: Line) -> Heard;

    /// Whether a turn runs, as far as the agent lets us know.
    fn busy(&self) -> bool;

    /// Whether an exit with `code`, with all inputs answered, is what the session wanted.
    fn is_good_end(&self, code: i32) -> bool;

    /// Inputs that the agent was given and, having ended, can no longer answer. Empties the list.
    fn unanswered(&mut self) -> Vec<MessageId>;
}

/// The adapter that the configuration names.
pub fn from_config(config: &RunnerConfig) -> Box<dyn Adapter> {
    match &config.agent {
        AgentSpec::Claude { .. } => Box::new(Claude::new(config)),
        AgentSpec::Command { argv, output } => Box::new(Command::new(argv.clone(), *output)),
    }
}

/// A line that is no part of the agent's protocol.
pub(crate) fn output(stream: OutputStream, line: &Line) -> EventKind {
    EventKind::Output { stream, body: text_of(line) }
}

/// A line as text: invalid UTF-8 replaced, a character that the cut split left out, the full length kept.
pub(crate) fn text_of(line: &Line) -> ClippedText {
    let bytes = line.bytes.strip_suffix(b"\r").unwrap_or(&line.bytes);
    let bytes = if line.is_cut() { whole_characters(bytes) } else { bytes };
    let mut text = ClippedText::new(String::from_utf8_lossy(bytes), MAX_TEXT_BYTES);
    if line.is_cut() {
        text.full_bytes = Some(line.full_bytes);
    }
    text
}

/// `bytes` without an incomplete character at the end.
fn whole_characters(bytes: &[u8]) -> &[u8] {
    const LONGEST_CHARACTER: usize = 4;
    let tail = bytes.len().saturating_sub(LONGEST_CHARACTER - 1);
    for start in (tail..bytes.len()).rev() {
        let width = match bytes[start] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => continue,
        };
        return if start + width > bytes.len() { &bytes[..start] } else { bytes };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_ends_at_a_character() {
        let line = Line { bytes: "aé€".as_bytes()[..5].into(), full_bytes: 900 };
        assert_eq!(text_of(&line), ClippedText { text: "aé".into(), full_bytes: Some(900) });
    }

    #[test]
    fn invalid_bytes_are_replaced() {
        let line = Line { bytes: b"a\xffb\r".into(), full_bytes: 4 };
        assert_eq!(text_of(&line).text, "a\u{fffd}b");
    }
}
