//! The printing of a session, on a thread of its own: a reader that does not read (`| less`, Ctrl-S) holds up only this
//! thread, and neither the session nor the signals that are to end it.
//!
//! The thread reads the store from a cursor of its own, so nothing queues up for it.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::printer::Printer;
use super::signals::Signals;
use crate::cli::args::OutputFormat;
use crate::cli::exit::Exit;
use crate::cli::show::style::Style;
use crate::session::SessionId;
use crate::session::event::{HostEvent, What};
use crate::session::launch::Session;
use crate::store::{Store, StoreError};

/// Events read at once, at most.
const BATCH: usize = 500;
/// Notes that may wait; more are dropped, as nobody can see them.
const NOTES: usize = 16;
/// After the session's end: how long a reader may read nothing. People who page through a transcript take their time.
const READER_AWAY: Duration = Duration::from_secs(10 * 60);
/// How long printing may take in all then if a signal has asked for the end: somebody wants the process to be gone.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) output: OutputFormat,
    pub(super) style: Style,
    /// The person sees what they type anyway.
    pub(super) typing: bool,
}

/// What the thread has to tell.
#[derive(Debug)]
pub(super) enum Told {
    /// Its output is closed; it has ended.
    NobodyReads,
    /// It cannot read the events; it has ended.
    Failed(StoreError),
}

/// The thread, from outside.
#[derive(Debug)]
pub(super) struct Printing {
    notes: mpsc::Sender<String>,
    told: mpsc::Receiver<Told>,
    exit: oneshot::Sender<Exit>,
    printed: watch::Receiver<u64>,
}

impl Printing {
    /// Starts it. It ends with the session's last event, or with the process.
    pub(super) fn start(session: &Session, store: &Store, form: Form, header: [String; 2]) -> std::io::Result<Self> {
        let (notes, notes_taken) = mpsc::channel(NOTES);
        let (telling, told) = mpsc::channel(1);
        let (exit, exit_known) = oneshot::channel();
        let (progress, printed) = watch::channel(0);
        let work = Work {
            id: session.id.clone(),
            store: store.clone(),
            latest: session.latest.clone(),
            notes: notes_taken,
            progress,
        };
        let runtime = Handle::current();
        std::thread::Builder::new().name("printer".into()).spawn(move || {
            runtime.block_on(async move {
                if let Some(told) = work.print(form, &header, exit_known).await {
                    // Nobody waits for it after the session's end.
                    let _ = telling.send(told).await;
                }
            });
        })?;
        Ok(Self { notes, told, exit, printed })
    }

    /// A line for the person at the terminal that is no event.
    pub(super) fn note(&self, line: &str) {
        let _ = self.notes.try_send(line.to_owned());
    }

    /// Waits for what the thread has to tell; for ever if that is nothing.
    pub(super) async fn told(&mut self) -> Told {
        match self.told.recv().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }

    /// After the session's end: lets it print the rest, as long as somebody reads it and wants it.
    pub(super) async fn finish(mut self, exit: Exit, signals: &mut Signals, hurried: bool) {
        let _ = self.exit.send(exit);
        let patience = if hurried { LAST_WORDS } else { READER_AWAY };
        let mut until = Instant::now() + patience;
        loop {
            tokio::select! {
                told = self.told.recv() => match told {
                    Some(Told::NobodyReads | Told::Failed(_)) => {}
                    None => return,
                },
                progress = self.printed.changed() => match progress {
                    Ok(()) if !hurried => until = Instant::now() + patience,
                    Ok(()) => {}
                    Err(_) => return,
                },
                _ = signals.next() => return,
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }
}

/// What the thread works with.
struct Work {
    id: SessionId,
    store: Store,
    latest: watch::Receiver<u64>,
    notes: mpsc::Receiver<String>,
    progress: watch::Sender<u64>,
}

impl Work {
    async fn print(mut self, form: Form, header: &[String; 2], exit: oneshot::Receiver<Exit>) -> Option<Told> {
        let mut printer = Printer::new(form.output, form.style, form.typing, &self.id, header);
        match self.events(&mut printer).await {
            Ok(None) => {
                if let Ok(exit) = exit.await {
                    printer.finish(&self.id, exit);
                }
                None
            }
            Ok(Some(told)) => Some(told),
            Err(error) => Some(Told::Failed(error)),
        }
    }

    /// Until the last event, or until nobody reads.
    async fn events(&mut self, printer: &mut Printer) -> Result<Option<Told>, StoreError> {
        let mut cursor = 0;
        loop {
            let live = tokio::select! {
                Some(note) = self.notes.recv() => {
                    printer.note(&note);
                    true
                }
                changed = self.latest.changed() => changed.is_ok(),
            };
            loop {
                let events = self.store.events(&self.id, cursor, BATCH).await?;
                if events.is_empty() {
                    break;
                }
                for event in events {
                    cursor = event.seq;
                    let last = matches!(event.what, What::Host(HostEvent::Ended { .. }));
                    let written = printer.event(event);
                    self.progress.send_replace(cursor);
                    match written {
                        Ok(()) if last => return Ok(None),
                        Ok(()) => {}
                        Err(_) if last => return Ok(None),
                        Err(_) => return Ok(Some(Told::NobodyReads)),
                    }
                }
                while let Ok(note) = self.notes.try_recv() {
                    printer.note(&note);
                }
            }
            // The driver is gone without a last event only if the store has failed.
            if !live {
                return Ok(None);
            }
        }
    }
}
