//! A file that an agent puts in a mailbox: what is accepted is also written back and read the same.
#![no_main]

use ipc_protocol::task::TaskFile as File;
use ipc_protocol::mailbox::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = decode::<File>(bytes) {
        let written = serde_json::to_vec(&file).expect("what was read can be written");
        assert_eq!(decode::<File>(&written).expect("what was written can be read"), file);
    }
});
