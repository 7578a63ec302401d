//! Staying with a session: have printed what happens, pass on what is typed, and turn signals into its end.
//!
//! ```text
//! signals ───────┐                     ┌─► session's driver
//! typed lines ───┼─► this one task ────┤
//! nobody reads ──┘                     └─► notes ─► printing (a thread) ─► standard output
//! ```

use tokio::sync::mpsc;

use super::keyboard;
use super::person::Person;
use super::printing::{Form, Printing, Told};
use super::signals::Signals;
use crate::cli::args::OutputFormat;
use crate::cli::exit::{CliError, Exit};
use crate::cli::show::style::Style;
use crate::session::control::Request;
use crate::session::launch::Session;
use crate::store::Store;

/// How to attend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// A person sits at a terminal.
    pub(super) interactive: bool,
    /// Lines of standard input are messages.
    pub(super) lines: bool,
    /// What is printed.
    pub(super) output: OutputFormat,
    /// With which colours.
    pub(super) style: Style,
}

/// Stays until the end; the session's end decides the exit code.
pub(super) async fn attend(
    mut session: Session,
    signals: &mut Signals,
    store: &Store,
    options: Options,
    header: [String; 2],
) -> Result<Exit, CliError> {
    let remote = session.remote();
    let attended = stay(&mut session, signals, store, options, header).await;
    if attended.is_err() {
        // Nobody leaves a session behind that nobody owns: without this process it has no limits in time.
        remote.ask(Request::Cancel { by: "a failure of aigo itself".into() }).await;
        session.ended().await;
    }
    attended
}

async fn stay(
    session: &mut Session,
    signals: &mut Signals,
    store: &Store,
    options: Options,
    header: [String; 2],
) -> Result<Exit, CliError> {
    let form = Form { output: options.output, style: options.style, typing: options.interactive };
    let mut printing = Printing::start(session, store, form, header).map_err(CliError::environment)?;
    let mut person = Person::new(session.remote(), options.interactive);
    if options.interactive {
        person.attach().await;
    }
    let mut lines = options.lines.then(keyboard::lines);
    let ending = loop {
        tokio::select! {
            biased;
            ending = session.ended() => break ending,
            // Before what is typed: input that never ends must not keep a person from ending the session.
            which = signals.next() => person.on_signal(which, &printing).await,
            told = printing.told() => match told {
                Told::NobodyReads => person.on_nobody_reads().await,
                Told::Failed(error) => return Err(CliError::environment(error)),
            },
            line = next_line(&mut lines) => match line {
                Some(text) => person.say(text, &printing).await,
                None => {
                    lines = None;
                    person.on_end_of_input().await;
                }
            },
        }
    };
    let exit = Exit::of(&ending);
    printing.finish(exit, signals, person.is_hurried()).await;
    Ok(exit)
}

async fn next_line(lines: &mut Option<mpsc::Receiver<String>>) -> Option<String> {
    match lines {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}
