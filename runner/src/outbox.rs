//! Lines on their way to the agent's stdin: written whole and in order, whenever the pipe takes bytes.
//!
//! At most one input is on its way at a time, and replies to the agent's own requests are bounded, so the agent decides
//! by reading how much memory its input takes.

use std::collections::VecDeque;
use std::io;

use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;

use crate::inputs::Pending;

/// Replies to the agent that may wait; beyond it the agent is not read until it has taken some.
const MAX_REPLIES: usize = 64;

/// What a line is.
#[derive(Debug)]
pub(crate) enum Sent {
    Input(Pending),
    Reply,
}

/// The lines.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    lines: VecDeque<(Vec<u8>, Sent)>,
    /// Bytes of the first line that are written.
    written: usize,
}

impl Outbox {
    pub(crate) fn push(&mut self, line: Vec<u8>, sent: Sent) {
        self.lines.push_back((line, sent));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether an input is on its way.
    pub(crate) fn has_input(&self) -> bool {
        self.lines.iter().any(|(_, sent)| matches!(sent, Sent::Input(_)))
    }

    pub(crate) fn has_room(&self) -> bool {
        self.lines.len() < MAX_REPLIES
    }

    /// Writes a piece. Safe to cancel: what was written is counted in the same step.
    pub(crate) async fn write(&mut self, stdin: &mut ChildStdin) -> io::Result<()> {
        if let Some((line, _)) = self.lines.front() {
            self.written += stdin.write(&line[self.written..]).await?;
        }
        Ok(())
    }

    /// The first line, if it is written whole.
    pub(crate) fn pop_written(&mut self) -> Option<Sent> {
        let (line, _) = self.lines.front()?;
        if self.written < line.len() {
            return None;
        }
        self.written = 0;
        self.lines.pop_front().map(|(_, sent)| sent)
    }

    /// Inputs that will not be written any more.
    pub(crate) fn give_up(&mut self) -> Vec<Pending> {
        self.written = 0;
        let input = |(_, sent)| match sent {
            Sent::Input(pending) => Some(pending),
            Sent::Reply => None,
        };
        self.lines.drain(..).filter_map(input).collect()
    }
}
