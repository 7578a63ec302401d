//! What aigo says about itself: on standard error, warnings only unless asked for more; as a service, as configured.
//!
//! A thread writes it: a terminal that is stopped (Ctrl-S) must not hold up whoever has something to say, such as the driver of
//! a session.

mod service;

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

pub use service::{LogError, ServiceLog};

/// The variable that overrides `--verbose`, in the syntax of `tracing_subscriber::EnvFilter`.
const VARIABLE: &str = "AIGO_LOG";
/// Lines that may wait to be written; more are dropped, as nobody can see them.
const QUEUE: usize = 256;
/// How long the lines that wait at the end of the process may take.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The log of the process; to be finished at its end.
#[derive(Debug)]
pub(super) struct Log {
    queue: Queue,
    written: Receiver<()>,
}

/// Where lines are put.
#[derive(Clone, Debug)]
struct Queue(SyncSender<Option<Vec<u8>>>);

impl Write for Queue {
    /// Takes a line, which the formatter gives in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(Some(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Starts logging for the process.
    pub(super) fn start(verbose: u8) -> Self {
        // HTTP and TLS libraries log headers at their finest levels: they stay at warnings whatever is asked for.
        let level = match verbose {
            0 => "warn",
            1 => "warn,supervisor=info",
            _ => "warn,supervisor=debug",
        };
        let filter = std::env::var(VARIABLE).ok().and_then(|text| EnvFilter::try_new(text).ok());
        let filter = filter.unwrap_or_else(|| EnvFilter::new(level));
        let log = Self::to(io::stderr());
        let queue = log.queue.clone();
        let started = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || queue.clone())
            .with_ansi(io::stderr().is_terminal())
            // It would complain on standard error, with a panic if that is closed.
            .log_internal_errors(false)
            .try_init();
        if let Err(error) = started {
            super::say::aside(format_args!("warning: no logging: {error}"));
        }
        log
    }

    fn to(output: impl Write + Send + 'static) -> Self {
        let (lines, queue) = sync_channel(QUEUE);
        let (done, written) = channel();
        // The thread ends with the log, or with the process. Without it there is no log, and nothing else amiss.
        let _ = std::thread::Builder::new().name("log".into()).spawn(move || write_all(output, &queue, &done));
        Self { queue: Queue(lines), written }
    }

    /// Lets what was said be written, for 2 s at most.
    pub(super) fn finish(self) {
        if self.queue.0.try_send(None).is_ok() {
            let (Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) =
                self.written.recv_timeout(LAST_LINES);
        }
    }
}

/// Until the end of the log.
fn write_all(mut output: impl Write, queue: &Receiver<Option<Vec<u8>>>, done: &Sender<()>) {
    while let Ok(Some(line)) = queue.recv() {
        // Whoever does not want it has closed it.
        let _ = output.write_all(&line);
    }
    let _ = done.send(());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_in_order_and_never_waited_for() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let log = Log::to(writer);
        let mut queue = log.queue.clone();
        // A pipe holds 64 KiB (pipe(7)), and nobody reads.
        for number in 0..2 * QUEUE {
            queue.write_all(format!("{number} {}\n", "x".repeat(1000)).as_bytes()).unwrap();
        }
        let text = std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut reader, &mut text).map(|_| text)
        });
        // The mark of the end finds room once somebody reads.
        while queue.0.try_send(None).is_err() {
            std::thread::yield_now();
        }
        log.written.recv_timeout(LAST_LINES).unwrap();
        let text = text.join().unwrap().unwrap();
        let numbers: Vec<usize> = text.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        assert!(numbers.len() >= QUEUE && numbers.is_sorted());
    }
}
