//! What goes into the machine and what comes out of it.

use std::time::Duration;

use ipc_protocol::event::EventKind;

use super::ExitFacts;
use crate::session::event::HostEvent;
use crate::session::status::Ending;

/// What the machine learns.
#[derive(Debug)]
pub enum Input<'a> {
    /// The container runs.
    Launched,
    /// The runner says something.
    Runner(&'a EventKind),
    /// The runner's heartbeat has changed.
    Heartbeat,
    /// The container is paused: its runner cannot give a sign of life.
    Paused,
    /// A message was written to the runner's mailbox.
    Sent(&'a str),
    /// An agent's question for its people was stored; the next message answers it.
    Asked,
    /// Somebody wants something.
    Command(Command),
    /// How many model requests the proxy is carrying for the session.
    ModelRequests(usize),
    /// Whether a person is attached.
    Attached(bool),
    /// The container is gone.
    Exited(&'a ExitFacts),
    /// The engine does not answer any more.
    EngineLost(&'a str),
    /// The container broke the rules of its journal: nothing more can be learned from it.
    Broken(&'a str),
    /// Time has passed.
    Tick,
}

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stop the turn.
    Interrupt,
    /// End gracefully; with a grace, go down the ladder after it.
    Close {
        /// None: as long as it takes.
        grace: Option<Duration>,
        /// Stop the turn first.
        interrupt: bool,
        /// Who, in words.
        by: String,
    },
    /// End now.
    Cancel {
        /// Who, in words.
        by: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Tell the readers.
    Tell(HostEvent),
    /// Put a message that did not come from a person into the mailbox, under the id [`NOTICE_ID`](super::NOTICE_ID).
    SendNotice(&'static str),
    /// Put an interrupt into the mailbox.
    SendInterrupt,
    /// Put `_close` into the mailbox.
    WriteClose,
    /// SIGTERM to the container.
    Term,
    /// SIGKILL to the container.
    Kill,
    /// The session is over.
    Finish(Ending),
}
