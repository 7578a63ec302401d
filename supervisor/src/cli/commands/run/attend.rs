//! Staying with a session: print what happens, pass on what is typed, and turn signals into its end.
//!
//! ```text
//! at a terminal:   Ctrl-C ─► interrupt the turn ─► Ctrl-C ─► close ─► Ctrl-C ─► kill      (a new message starts over)
//! elsewhere:       SIGINT ─► close              ─► SIGINT ─► kill
//! SIGTERM, SIGHUP, nobody reads the output:  close with a grace; a second one kills
//! ```

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::keyboard;
use super::printer::Printer;
use crate::cli::args::OutputFormat;
use crate::cli::exit::{CliError, Exit};
use crate::cli::show::style::Style;
use crate::session::SessionId;
use crate::session::control::Request;
use crate::session::event::{HostEvent, What};
use crate::session::launch::{Remote, Session};
use crate::store::Store;

/// Events read at once.
const BATCH: usize = 500;
/// How long the agent may take to finish after SIGTERM, SIGHUP or Ctrl-C without a terminal.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// How to attend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// A person sits at a terminal.
    pub(super) interactive: bool,
    /// Lines are read from standard input all the same.
    pub(super) steer: bool,
    /// What is printed.
    pub(super) output: OutputFormat,
    /// With which colours.
    pub(super) style: Style,
}

/// Stays until the end; the session's end decides the exit code.
pub(super) async fn attend(
    mut session: Session,
    store: &Store,
    options: Options,
    header: &[String; 2],
) -> Result<Exit, CliError> {
    let remote = session.remote();
    let attended = stay(&mut session, store, options, header).await;
    if attended.is_err() {
        // Nobody leaves a session behind that nobody owns: without this process it has no limits in time.
        remote.ask(Request::Cancel { by: "a failure of aigo itself".into() }).await;
        session.ended().await;
    }
    attended
}

async fn stay(session: &mut Session, store: &Store, options: Options, header: &[String; 2]) -> Result<Exit, CliError> {
    let id = session.id.clone();
    let mut printer = Printer::new(options.output, options.style, options.interactive, &id, header);
    let mut signals = Signals::new().map_err(CliError::environment)?;
    let mut person = Person { remote: session.remote(), presses: 0, interactive: options.interactive };
    if options.interactive {
        person.remote.ask(Request::Attached { attached: true }).await;
    }
    let mut lines = (options.interactive || options.steer).then(keyboard::lines);
    let mut latest = session.latest.clone();
    let mut cursor = 0;
    let ending = loop {
        tokio::select! {
            biased;
            ending = session.ended() => break ending,
            // Before the events: an agent that never stops talking must not keep its person from ending it.
            which = signals.next() => person.on_signal(which, &printer).await,
            changed = latest.changed() => {
                if changed.is_ok() {
                    latest.mark_unchanged();
                    if print_some(&mut printer, store, &id, &mut cursor, &mut person).await? {
                        latest.mark_changed();
                    }
                }
            }
            line = next_line(&mut lines) => match line {
                Some(text) => person.say(text, &printer).await,
                None => {
                    lines = None;
                    person.on_end_of_input().await;
                }
            },
        }
    };
    while print_some(&mut printer, store, &id, &mut cursor, &mut person).await? {}
    let exit = Exit::of(&ending);
    printer.finish(&id, exit);
    Ok(exit)
}

/// Prints what is new, at most one batch; whether there is more.
async fn print_some(
    printer: &mut Printer,
    store: &Store,
    id: &SessionId,
    cursor: &mut u64,
    person: &mut Person,
) -> Result<bool, CliError> {
    let events = store.events(id, *cursor, BATCH).await.map_err(CliError::environment)?;
    let more = events.len() == BATCH;
    for event in events {
        *cursor = event.seq;
        let ended = matches!(event.what, What::Host(HostEvent::Ended { .. }));
        if printer.event(event).is_err() && !ended {
            person.on_nobody_reads().await;
        }
    }
    Ok(more)
}

async fn next_line(lines: &mut Option<mpsc::Receiver<String>>) -> Option<String> {
    match lines {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}

/// The signals that mean something.
struct Signals {
    int: Signal,
    term: Signal,
    hup: Signal,
}

/// Which signal came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Int,
    Term,
    Hup,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Which {
        tokio::select! {
            Some(()) = self.int.recv() => Which::Int,
            Some(()) = self.term.recv() => Which::Term,
            Some(()) = self.hup.recv() => Which::Hup,
            else => std::future::pending().await,
        }
    }
}

/// Who attends, and how often they have asked for the end.
struct Person {
    remote: Remote,
    presses: u32,
    interactive: bool,
}

impl Person {
    async fn on_signal(&mut self, which: Which, printer: &Printer) {
        self.presses += 1;
        let by = match which {
            Which::Int => "Ctrl-C",
            Which::Term => "SIGTERM",
            Which::Hup => "SIGHUP, the terminal was closed",
        };
        match (which, self.interactive, self.presses) {
            (Which::Int, true, 1) => {
                let answer = self.remote.ask(Request::Interrupt {}).await;
                if answer.ok {
                    printer.note("interrupting the turn; Ctrl-C again closes the session, a third time kills it");
                } else {
                    // There is no turn yet that could be interrupted.
                    self.cancel(by).await;
                }
            }
            (Which::Int, true, 2) => self.close(None, by).await,
            (Which::Int, false, 1) => {
                self.remote.ask(Request::Interrupt {}).await;
                self.close(Some(CLOSE_GRACE), by).await;
            }
            (Which::Term | Which::Hup, _, 1) => self.close(Some(CLOSE_GRACE), by).await,
            (Which::Int | Which::Term | Which::Hup, _, _) => self.cancel(by).await,
        }
    }

    async fn on_nobody_reads(&mut self) {
        self.presses += 1;
        if self.presses == 1 {
            self.close(Some(CLOSE_GRACE), "nobody reads the output any more").await;
        }
    }

    async fn on_end_of_input(&mut self) {
        self.remote.ask(Request::Attached { attached: false }).await;
        self.close(None, "the end of the input").await;
    }

    async fn say(&mut self, text: String, printer: &Printer) {
        let answer = self.remote.ask(Request::Message { text }).await;
        match answer.error {
            Some(error) => printer.note(&format!("not sent: {error}")),
            None => self.presses = 0,
        }
    }

    async fn close(&self, grace: Option<Duration>, by: &str) {
        let grace_ms = grace.map_or(u64::MAX, |grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        self.remote.ask(Request::Close { grace_ms, by: by.to_owned() }).await;
    }

    async fn cancel(&self, by: &str) {
        self.remote.ask(Request::Cancel { by: by.to_owned() }).await;
    }
}
