//! `aigo-runner translate claude`: a recorded stream of an agent as our events.

use std::io::{self, Read, Write};

use ipc_protocol::event::{Event, EventKind};

use crate::adapter::{MAX_CLAUDE_LINE_BYTES, Translator};
use crate::lines::LineSplitter;

const CHUNK_BYTES: usize = 64 * 1024;

/// Reads a recorded Claude Code stream and writes one journal line for each event: `seq` from 1, and `at` 0, since a
/// recording does not tell when its lines were printed.
pub(crate) fn translate_claude(mut input: impl Read, output: impl Write) -> io::Result<()> {
    let mut events = Printer { output: io::BufWriter::new(output), seq: 0 };
    let (mut splitter, mut translator) = (LineSplitter::new(MAX_CLAUDE_LINE_BYTES), Translator::default());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = input.read(&mut chunk)?;
        splitter.feed(&chunk[..count]);
        while let Some(line) = splitter.next_line() {
            events.print(translator.line(&line).events)?;
        }
        if count == 0 {
            break;
        }
    }
    if let Some(line) = splitter.finish() {
        events.print(translator.line(&line).events)?;
    }
    events.output.flush()
}

struct Printer<W: Write> {
    output: io::BufWriter<W>,
    seq: u64,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, kinds: Vec<EventKind>) -> io::Result<()> {
        for kind in kinds {
            self.seq += 1;
            serde_json::to_writer(&mut self.output, &Event { seq: self.seq, at: 0, kind })?;
            self.output.write_all(b"\n")?;
        }
        Ok(())
    }
}
