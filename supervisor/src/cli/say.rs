//! Words of short commands. A reader that leaves early (`aigo ps | head -n 1`) is no error: the exit code stays that of what
//! was done. A full disk is one, as somebody relies on what was not written.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::mpsc;
use std::time::Duration;

use super::exit::CliError;

/// How long the error that ends a command may take to be written; nobody may read standard error.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Whether anybody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// As far as we know.
    There,
    /// The pipe is closed.
    Gone,
}

/// What follows from a write to standard output.
pub fn outcome(written: io::Result<()>) -> Result<Reader, CliError> {
    match written {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => {
            Err(CliError::environment(anyhow::Error::new(error).context("standard output cannot be written to")))
        }
    }
}

/// Writes to standard output, as it is.
pub fn text(text: impl Display) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    outcome(write!(out, "{text}").and_then(|()| out.flush())).map(drop)
}

/// A line on standard output.
pub fn line(line: impl Display) -> Result<(), CliError> {
    text(format_args!("{line}\n"))
}

/// A line on standard error. Whoever does not want it has closed it.
pub fn aside(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The error that ends the command, on standard error. A terminal that is stopped (Ctrl-S) holds it up for 2 s at most.
pub fn last(line: String) {
    let (done, written) = mpsc::channel();
    // The thread ends with its one write, or with the process.
    let thread = std::thread::Builder::new().name("last-words".into()).spawn(move || {
        aside(line);
        let _ = done.send(());
    });
    if thread.is_ok() {
        let _ = written.recv_timeout(LAST_WORDS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_quiet_and_a_full_disk_is_not() {
        assert_eq!(outcome(Ok(())).unwrap(), Reader::There);
        assert_eq!(outcome(Err(ErrorKind::BrokenPipe.into())).unwrap(), Reader::Gone);
        let error = outcome(Err(ErrorKind::StorageFull.into())).unwrap_err();
        assert!(error.to_string().contains("standard output"), "{error}");
    }
}
