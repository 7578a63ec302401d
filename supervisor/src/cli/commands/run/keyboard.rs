//! Lines from standard input, read by a thread: a read from a terminal cannot be cancelled.

use std::io::{BufRead, Read};

use ipc_protocol::limits::MAX_INPUT_TEXT_BYTES;
use tokio::sync::mpsc;

/// Lines that may wait for the session.
const QUEUE: usize = 64;

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
