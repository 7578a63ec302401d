//! `status.json`.
#![no_main]

use ipc_protocol::heartbeat::parse_status;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(status) = parse_status(bytes) {
        let written = serde_json::to_vec(&status).expect("what was read can be written");
        assert_eq!(parse_status(&written).expect("what was written can be read"), status);
    }
});
