//! Bytes of a message file to a message.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::dir::{Refused, printable};
use crate::id::MessageId;
use crate::input::InputFile;
use crate::outgoing::OutgoingFile;
use crate::task::TaskFile;

/// What a mailbox carries.
pub trait Body: DeserializeOwned {
    /// The id that the writer gave.
    fn id(&self) -> Option<&MessageId>;
}

impl Body for InputFile {
    fn id(&self) -> Option<&MessageId> {
        self.id.as_ref()
    }
}

impl Body for OutgoingFile {
    fn id(&self) -> Option<&MessageId> {
        self.id.as_ref()
    }
}

impl Body for TaskFile {
    fn id(&self) -> Option<&MessageId> {
        self.id.as_ref()
    }
}

/// Why bytes are no message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Undecodable {
    /// It ends too early: perhaps still being written.
    Torn(String),
    /// It will never be one. With the id that it gives, if it gives one, so that a refusal can be answered.
    Wrong(Refused, Option<MessageId>),
}

/// Reads the body of a message file. An unknown `type`, a missing field and trailing bytes are errors; unknown fields are
/// ignored.
pub fn decode<T: Body>(bytes: &[u8]) -> Result<T, Refused> {
    decode_or_torn(bytes).map_err(|error| match error {
        Undecodable::Torn(why) => Refused::Torn(why),
        Undecodable::Wrong(refused, _) => refused,
    })
}

pub(crate) fn decode_or_torn<T: Body>(bytes: &[u8]) -> Result<T, Undecodable> {
    let error = match serde_json::from_slice::<T>(bytes) {
        Ok(body) => return Ok(body),
        Err(error) => error,
    };
    // The words of serde quote the text, which is the attacker's.
    let why = printable(OsStr::new(&error.to_string()));
    if error.is_eof() {
        return Err(Undecodable::Torn(why));
    }
    let id = serde_json::from_slice::<Value>(bytes)
        .ok()
        .and_then(|value| value.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok()));
    Err(Undecodable::Wrong(Refused::Json(why), id))
}

/// Characters of the file's stem kept in a derived id; with `-` and 16 digits it stays below the limit of 64.
const KEPT_CHARS: usize = 40;

/// The id of a message that gives none: the file's stem, or, if that is no valid id, the same id for the same name
/// every time: what can be kept of the stem, and FNV-1a of the whole name.
pub fn derived_id(name: &OsStr) -> MessageId {
    let bytes = name.as_bytes();
    let stem = bytes.strip_suffix(b".json").unwrap_or(bytes);
    if let Some(id) = std::str::from_utf8(stem).ok().and_then(|stem| stem.parse().ok()) {
        return id;
    }
    let kept: String = stem
        .iter()
        .take(KEPT_CHARS)
        .map(|&b| if b.is_ascii_alphanumeric() || b == b'-' { char::from(b) } else { '_' })
        .collect();
    let id = format!("{kept}-{:016x}", fnv1a(bytes));
    #[expect(clippy::expect_used, reason = "at most 57 characters, all from the alphabet of ids")]
    id.parse().expect("a derived id is a valid id")
}

/// Fowler, Noll, Vo: not a defence against collisions, which would only drop the colliding agent's own message.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stem_is_the_id_where_it_can_be() {
        assert_eq!(derived_id(OsStr::new("hello_1.json")).as_str(), "hello_1");
        assert_eq!(derived_id(OsStr::new("0000000000008-000000-abcd.json")).as_str(), "0000000000008-000000-abcd");
    }

    #[test]
    fn other_names_have_a_stable_id_of_their_own() {
        let long = "x".repeat(250) + ".json";
        let names = ["a b.json", "a.b.json", "é.json", ".json", &long, "a_b.jsonx"];
        let ids: Vec<_> = names.iter().map(|name| derived_id(OsStr::new(name))).collect();
        assert_eq!(ids, names.iter().map(|name| derived_id(OsStr::new(name))).collect::<Vec<_>>());
        let mut unique = ids.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), ids.len());
        assert_eq!(derived_id(OsStr::from_bytes(b"\xff\xfe.json")).as_str().len(), 2 + 17);
    }

    #[test]
    fn a_refusal_knows_the_id_that_the_writer_gave() {
        let error = decode_or_torn::<TaskFile>(br#"{"id":"r-7","type":"fly"}"#).unwrap_err();
        let Undecodable::Wrong(Refused::Json(why), Some(id)) = error else { panic!("{error:?}") };
        assert!(why.contains("fly"), "{why}");
        assert_eq!(id.as_str(), "r-7");
    }

    #[test]
    fn what_ends_early_is_torn_and_what_goes_on_is_wrong() {
        let whole = br#"{"type":"list_tasks"}"#;
        assert!(decode::<TaskFile>(whole).is_ok());
        for cut in 0..whole.len() {
            assert!(matches!(decode::<TaskFile>(&whole[..cut]), Err(Refused::Torn(_))), "{cut}");
        }
        for bad in [&b"{\"type\":\"list_tasks\"}x"[..], b"[]", b"null", b"\0", b"\xff\xfe", b"{\"type\":1}"] {
            assert!(matches!(decode::<TaskFile>(bad), Err(Refused::Json(_))), "{bad:?}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_using_up_the_stack() {
        for open in ["[", "{\"a\":"] {
            let deep = format!("{{\"type\":\"list_tasks\",\"x\":{}", open.repeat(100_000));
            assert!(matches!(decode::<TaskFile>(deep.as_bytes()), Err(Refused::Json(_))), "{open}");
        }
    }
}
