//! One journal line: what is accepted is kept, also through a second reading.
#![no_main]

use ipc_protocol::event::Event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(event) = Event::parse(bytes) {
        let written = serde_json::to_vec(&event).expect("what was read can be written");
        let again = Event::parse(&written).expect("what was written can be read");
        assert_eq!((again.seq, again.at), (event.seq, event.at));
        // Compared as written: a NaN-free f64 may lose its last digit once, not twice.
        assert_eq!(serde_json::to_vec(&again).expect("encodes"), written);
    }
});
