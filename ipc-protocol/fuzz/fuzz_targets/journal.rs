//! Segments as a container may leave them, through the host's reader: it comes to an end, never repeats an event, never
//! moves back, and a restart from its cursor goes on where it was. The runner must be able to open (or refuse) the same.
#![no_main]

use std::sync::Arc;

use ipc_protocol::dir::{Folder, SafeDir};
use ipc_protocol::journal::{Cursor, Reader, Writer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let temp = tempfile::Builder::new().tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let events = temp.path().join("events");
    std::fs::create_dir(&events).expect("a folder");
    // Segments are separated by a form feed, which no valid line has.
    for (n, segment) in bytes.split(|&b| b == 0x0c).take(4).enumerate() {
        std::fs::write(events.join(format!("{:08}.jsonl", n + 1)), segment).expect("a file");
    }
    let root = Arc::new(SafeDir::open(temp.path()).expect("a folder"));
    let reader = |cursor| Reader::new(Folder::new(Arc::clone(&root), "events"), cursor);
    let mut cursor = Cursor::START;
    let mut first = reader(cursor);
    for _ in 0..16 {
        let batch = first.read();
        for event in &batch.events {
            assert_eq!(event.seq, cursor.seq + 1);
            cursor.seq = event.seq;
        }
        assert_eq!(batch.cursor.seq, cursor.seq);
        assert!((batch.cursor.segment, batch.cursor.offset) >= (cursor.segment, cursor.offset));
        cursor = batch.cursor;
        if batch.fault.is_some() || batch.again_in.is_none() {
            break;
        }
    }
    assert!(reader(cursor).read().events.is_empty());
    if let Ok((mut writer, recovered)) = Writer::open(SafeDir::open(&events).expect("a folder")) {
        let appended = writer.append(0, ipc_protocol::event::EventKind::Ready {});
        if recovered.last_seq < u64::MAX {
            assert_eq!(appended.expect("an event"), recovered.last_seq + 1);
        }
    }
});
