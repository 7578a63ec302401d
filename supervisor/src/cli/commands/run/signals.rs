//! The signals that mean something to `aigo run`.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// They are kept for us from now on, for the rest of the process: whoever has them must listen.
#[derive(Debug)]
pub(super) struct Signals {
    int: Signal,
    term: Signal,
    hup: Signal,
}

/// Which signal came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Int,
    Term,
    Hup,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one; can be dropped without losing any.
    pub(super) async fn next(&mut self) -> Which {
        tokio::select! {
            Some(()) = self.int.recv() => Which::Int,
            Some(()) = self.term.recv() => Which::Term,
            Some(()) = self.hup.recv() => Which::Hup,
            else => std::future::pending().await,
        }
    }
}
