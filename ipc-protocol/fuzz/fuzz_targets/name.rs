//! File names that a container chooses.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use ipc_protocol::journal::Segment;
use ipc_protocol::mailbox::derived_id;
use ipc_protocol::name::{FileName, Namer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let name = OsStr::from_bytes(bytes);
    assert_eq!(derived_id(name), derived_id(name));
    if let Some(segment) = Segment::parse(name) {
        assert_eq!(segment.file_name(), name);
    }
    if let Some(parsed) = name.to_str().and_then(|name| name.parse::<FileName>().ok()) {
        assert_eq!(parsed.to_string().as_bytes(), bytes);
        assert_eq!(parsed.id().as_str(), parsed.stem());
        let mut namer = Namer::new(0);
        namer.continue_after(&parsed);
        let _ = namer.next(0);
    }
});
