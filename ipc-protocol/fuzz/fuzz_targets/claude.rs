//! Claude Code's stdout, which an agent can write to as it likes: whatever comes, each event fits into the journal and is read
//! back as it was.
#![no_main]

use ipc_protocol::event::Event;
use libfuzzer_sys::fuzz_target;
use runner::adapter::{MAX_CLAUDE_LINE_BYTES, Translator};
use runner::lines::split_all;

fuzz_target!(|bytes: &[u8]| {
    let mut translator = Translator::default();
    for line in split_all(MAX_CLAUDE_LINE_BYTES, [bytes]) {
        let heard = translator.line(&line);
        for kind in heard.events {
            let written = serde_json::to_vec(&Event { seq: 1, at: 1, kind }).expect("an event can be written");
            let read = Event::parse(&written).expect("what a runner writes can be read");
            let again = serde_json::to_vec(&read).expect("encodes");
            // A NaN-free f64 may lose its last digit once, not twice.
            let twice = Event::parse(&again).expect("reads again");
            assert_eq!(serde_json::to_vec(&twice).expect("encodes"), again);
        }
        for reply in heard.replies {
            let (end, body) = reply.split_last().expect("a reply is a line");
            assert!(*end == b'\n' && !body.contains(&b'\n'), "a reply is one line");
        }
    }
});
