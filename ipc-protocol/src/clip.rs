//! Cutting long values at a named limit, with the full length given.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A text that may have been cut; flattened into events as `text` and `fullBytes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClippedText {
    /// The text, at most the limit it was cut at.
    pub text: String,
    /// The full length in bytes; present only if something was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_bytes: Option<u64>,
}

impl ClippedText {
    /// Keeps at most `limit` bytes of `text`, ending at a character boundary.
    pub fn new(text: impl Into<String>, limit: usize) -> Self {
        let mut text = text.into();
        if text.len() <= limit {
            return Self { text, full_bytes: None };
        }
        let full = text.len() as u64;
        text.truncate(text.floor_char_boundary(limit));
        Self { text, full_bytes: Some(full) }
    }
}

/// A JSON value that may have been replaced by a cut text of its encoding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClippedValue {
    /// The value, or, if cut, a string with the beginning of its JSON encoding.
    pub value: Value,
    /// The length in bytes of the full encoding; present only if something was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_bytes: Option<u64>,
}

impl ClippedValue {
    /// Keeps `value` if its JSON encoding has at most `limit` bytes.
    pub fn new(value: Value, limit: usize) -> Self {
        let encoded = value.to_string();
        if encoded.len() <= limit {
            return Self { value, full_bytes: None };
        }
        let ClippedText { text, full_bytes } = ClippedText::new(encoded, limit);
        Self { value: Value::String(text), full_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_a_character_and_tells_the_length() {
        assert_eq!(ClippedText::new("abc", 3), ClippedText { text: "abc".into(), full_bytes: None });
        assert_eq!(ClippedText::new("aéb", 2), ClippedText { text: "a".into(), full_bytes: Some(4) });
    }

    #[test]
    fn a_long_value_becomes_the_start_of_its_encoding() {
        let cut = ClippedValue::new(serde_json::json!({"k": "vvvvvv"}), 5);
        assert_eq!(cut, ClippedValue { value: "{\"k\":".into(), full_bytes: Some(14) });
    }
}
