//! Lines from standard input, read by a thread: a read from a terminal cannot be cancelled.
//!
//! Only the foreground of a terminal may read from it: the kernel stops others with SIGTTIN (termios(3)), and with us a
//! session would lose its limits in time. A job that begins in the background is therefore not typed to.

use std::io::{BufRead, IsTerminal, Read};

use ipc_protocol::limits::MAX_INPUT_TEXT_BYTES;
use nix::unistd::{getpgrp, tcgetpgrp};
use tokio::sync::mpsc;

/// Lines that may wait for the session.
const QUEUE: usize = 64;

/// What standard input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyboard {
    /// A terminal, at which a person sits.
    Terminal,
    /// A terminal that others read from.
    InTheBackground,
    /// A file, a pipe, nothing.
    Other,
}

/// What standard input is at the moment.
pub(super) fn is_ours() -> Keyboard {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Keyboard::Other;
    }
    match tcgetpgrp(&input) {
        Ok(foreground) if foreground != getpgrp() => Keyboard::InTheBackground,
        // A terminal that controls no session has no background (ENOTTY).
        Ok(_) | Err(_) => Keyboard::Terminal,
    }
}

/// Lines until the end of the input. The thread ends with the input, the receiver or the process.
pub(super) fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    // A thread that cannot be started looks like an input that has ended.
    let _ = std::thread::Builder::new().name("keyboard".into()).spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = (&mut input).take(MAX_INPUT_TEXT_BYTES as u64).read_until(b'\n', &mut line);
            if !matches!(read, Ok(count) if count > 0) {
                return;
            }
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
            if !text.trim().is_empty() && sender.blocking_send(text).is_err() {
                return;
            }
        }
    });
    receiver
}
