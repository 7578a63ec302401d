//! Who attends a session, and what their signals ask for.
//!
//! ```text
//! at a terminal:   Ctrl-C ─► interrupt the turn ─► Ctrl-C ─► close ─► Ctrl-C ─► kill      (a new message starts over)
//! elsewhere:       SIGINT ─► interrupt and close ─► SIGINT ─► kill
//! SIGTERM          close with a grace; a second one kills
//! SIGHUP           close with a grace, however often: the kernel and the shell both send it when a terminal goes
//! nobody reads     close with a grace, once
//! ```
//!
//! Each counts for itself: a terminal that goes is no impatient person. But Ctrl-C on a session that closes for another
//! reason does not interrupt, which a closing session cannot do: it shortens the end, and a second one kills.

use std::time::Duration;

use super::printing::Printing;
use super::signals::Which;
use crate::session::control::Request;
use crate::session::launch::Remote;

/// How long the agent may take to finish after SIGTERM, SIGHUP or Ctrl-C without a terminal.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Interrupt,
    Close { grace: Option<Duration>, interrupt: bool },
    Kill,
}

/// What was asked for so far.
#[derive(Debug, Default)]
struct Asked {
    interactive: bool,
    interrupts: u32,
    terms: u32,
    /// The session is being closed, for whatever reason.
    closing: bool,
    /// A signal wants the end.
    hurried: bool,
}

impl Asked {
    fn on_signal(&mut self, which: Which) -> Wish {
        let wish = match which {
            Which::Int if self.interactive => self.on_ctrl_c(),
            Which::Int => {
                self.interrupts += 1;
                match self.interrupts {
                    1 => Wish::Close { grace: Some(CLOSE_GRACE), interrupt: true },
                    _ => Wish::Kill,
                }
            }
            Which::Term => {
                self.terms += 1;
                match self.terms {
                    1 => Wish::Close { grace: Some(CLOSE_GRACE), interrupt: false },
                    _ => Wish::Kill,
                }
            }
            Which::Hup => Wish::Close { grace: Some(CLOSE_GRACE), interrupt: false },
        };
        let ends = wish != Wish::Interrupt;
        self.closing |= ends;
        self.hurried |= ends;
        wish
    }

    fn on_ctrl_c(&mut self) -> Wish {
        self.interrupts += 1;
        if self.closing {
            self.interrupts = self.interrupts.max(2);
        }
        match self.interrupts {
            1 => Wish::Interrupt,
            2 => Wish::Close { grace: self.closing.then_some(CLOSE_GRACE), interrupt: false },
            _ => Wish::Kill,
        }
    }
}

/// Passes on what they want.
#[derive(Debug)]
pub(super) struct Person {
    remote: Remote,
    asked: Asked,
}

impl Person {
    pub(super) fn new(remote: Remote, interactive: bool) -> Self {
        Self { remote, asked: Asked { interactive, ..Asked::default() } }
    }

    /// Whether a signal has asked for the end.
    pub(super) fn is_hurried(&self) -> bool {
        self.asked.hurried
    }

    pub(super) async fn attach(&self) {
        self.remote.ask(Request::Attached { attached: true }).await;
    }

    pub(super) async fn on_signal(&mut self, which: Which, printing: &Printing) {
        let by = match which {
            Which::Int => "Ctrl-C",
            Which::Term => "SIGTERM",
            Which::Hup => "SIGHUP, the terminal was closed",
        };
        match self.asked.on_signal(which) {
            Wish::Interrupt => {
                let answer = self.remote.ask(Request::Interrupt {}).await;
                if answer.ok {
                    printing.note("interrupting the turn; Ctrl-C again closes the session, a third time kills it");
                } else {
                    // There is no turn yet that could be interrupted.
                    self.cancel(by).await;
                }
            }
            Wish::Close { grace, interrupt } => self.close(grace, interrupt, by).await,
            Wish::Kill => self.cancel(by).await,
        }
    }

    pub(super) async fn on_nobody_reads(&mut self) {
        self.asked.closing = true;
        self.close(Some(CLOSE_GRACE), false, "nobody reads the output any more").await;
    }

    pub(super) async fn on_end_of_input(&mut self) {
        self.asked.closing = true;
        self.remote.ask(Request::Attached { attached: false }).await;
        self.close(None, false, "the end of the input").await;
    }

    pub(super) async fn say(&mut self, text: String, printing: &Printing) {
        let answer = self.remote.ask(Request::Message { text }).await;
        match answer.error {
            Some(error) => printing.note(&format!("not sent: {error}")),
            None => self.asked.interrupts = 0,
        }
    }

    async fn close(&self, grace: Option<Duration>, interrupt: bool, by: &str) {
        let grace_ms = grace.map_or(u64::MAX, |grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        self.remote.ask(Request::Close { grace_ms, interrupt, by: by.to_owned() }).await;
    }

    async fn cancel(&self, by: &str) {
        self.remote.ask(Request::Cancel { by: by.to_owned() }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACEFUL: Wish = Wish::Close { grace: Some(CLOSE_GRACE), interrupt: false };

    fn wishes(interactive: bool, signals: &[Which]) -> Vec<Wish> {
        let mut asked = Asked { interactive, ..Asked::default() };
        signals.iter().map(|&which| asked.on_signal(which)).collect()
    }

    #[test]
    fn ctrl_c_at_a_terminal_and_elsewhere() {
        let patient = Wish::Close { grace: None, interrupt: false };
        assert_eq!(wishes(true, &[Which::Int; 3]), [Wish::Interrupt, patient, Wish::Kill]);
        let at_once = Wish::Close { grace: Some(CLOSE_GRACE), interrupt: true };
        assert_eq!(wishes(false, &[Which::Int; 2]), [at_once, Wish::Kill]);
    }

    #[test]
    fn signals_of_different_kinds_are_counted_apart() {
        assert_eq!(wishes(true, &[Which::Int, Which::Hup]), [Wish::Interrupt, GRACEFUL]);
        assert_eq!(wishes(true, &[Which::Hup, Which::Hup, Which::Term]), [GRACEFUL; 3]);
        assert_eq!(wishes(false, &[Which::Hup, Which::Term, Which::Term]), [GRACEFUL, GRACEFUL, Wish::Kill]);
    }

    #[test]
    fn ctrl_c_on_a_closing_session_shortens_its_end() {
        assert_eq!(wishes(true, &[Which::Term, Which::Int, Which::Int]), [GRACEFUL, GRACEFUL, Wish::Kill]);
        let mut asked = Asked { interactive: true, closing: true, ..Asked::default() };
        assert_eq!(asked.on_signal(Which::Int), GRACEFUL, "after the end of the input");
    }
}
