//! A file in `input/`, where the agent can write, too; what is accepted goes through the joiner and the splitter.
#![no_main]

use ipc_protocol::input::{Input, InputFile};
use ipc_protocol::limits::MAX_MESSAGE_BYTES;
use ipc_protocol::mailbox::{Item, Joined, Joiner, decode, derived_id, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut joiner = Joiner::default();
    for (n, bytes) in bytes.split(|&b| b == b'\n').enumerate() {
        let Ok(file) = decode::<InputFile>(bytes) else { continue };
        if let Input::Message(message) = &file.input
            && let Ok(parts) = split(message.clone())
        {
            assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), message.text);
            for part in parts {
                let file = InputFile { id: file.id.clone(), input: Input::Message(part) };
                assert!(serde_json::to_vec(&file).expect("encodes").len() as u64 <= MAX_MESSAGE_BYTES);
            }
        }
        let name = std::ffi::OsString::from(format!("{n}.json"));
        let id = file.id.clone().unwrap_or_else(|| derived_id(&name));
        if let Joined::Ready { files, .. } = joiner.push(Item { name, id, body: file, bytes: bytes.len() }) {
            assert!(!files.is_empty());
        }
    }
    joiner.abandon();
});
