//! Cutting long values at a named limit, with the full length given.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::MAX_VALUE_DEPTH;

/// A text that may have been cut; flattened into events as `text` and `fullBytes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ClippedText {
    /// The text, or the beginning of the text if the text is longer than 256 KiB.
    pub text: String,
    /// The full length in bytes; present only if `text` was cut.
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

/// A JSON value that may have been replaced by the text of its encoding: cut if it is long, whole if it is only nested too
/// deeply to be read back with what is wrapped around it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ClippedValue {
    /// The value as JSON. A value that is too long or nested too deeply is replaced by a string with the beginning of its
    /// JSON encoding.
    pub value: Value,
    /// The length in bytes of the full JSON encoding; present only if `value` was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_bytes: Option<u64>,
}

impl ClippedValue {
    /// Keeps `value` if its JSON encoding has at most `limit` bytes and [`MAX_VALUE_DEPTH`] levels.
    pub fn new(value: Value, limit: usize) -> Self {
        let encoded = value.to_string();
        if encoded.len() <= limit && fits(&value, MAX_VALUE_DEPTH) {
            return Self { value, full_bytes: None };
        }
        Self::of_encoding(encoded, limit)
    }

    /// The beginning of an encoding in place of its value.
    pub fn of_encoding(encoded: impl Into<String>, limit: usize) -> Self {
        let encoded = encoded.into();
        let full_bytes = Some(encoded.len() as u64);
        Self { value: Value::String(ClippedText::new(encoded, limit).text), full_bytes }
    }
}

/// Whether `value` has at most `levels` levels. Its own depth is bounded by whoever has parsed it.
fn fits(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| fits(item, levels - 1)),
        Value::Object(fields) => levels > 0 && fields.values().all(|field| fits(field, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
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

    #[test]
    fn a_deep_value_becomes_its_encoding() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let clipped = |levels: usize| ClippedValue::new(serde_json::from_str(&nested(levels)).unwrap(), 999);
        assert!(clipped(MAX_VALUE_DEPTH).value.is_array());
        let deep = nested(MAX_VALUE_DEPTH + 1);
        assert_eq!(
            clipped(MAX_VALUE_DEPTH + 1),
            ClippedValue { full_bytes: Some(deep.len() as u64), value: deep.into() }
        );
    }
}
