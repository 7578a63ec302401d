//! Message ids: short names that are safe in file names, logs and terminals.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_ID_CHARS;

/// 1 to 64 characters of `A-Z a-z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageId(String);

/// Why a string is no message id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("message id must be 1 to {MAX_ID_CHARS} characters of A-Z a-z 0-9 _ -")]
pub struct InvalidId;

impl MessageId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MessageId {
    type Error = InvalidId;

    fn try_from(value: String) -> Result<Self, InvalidId> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if value.is_empty() || value.len() > MAX_ID_CHARS || !value.chars().all(allowed) {
            return Err(InvalidId);
        }
        Ok(Self(value))
    }
}

impl std::str::FromStr for MessageId {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        Self::try_from(value.to_owned())
    }
}

impl From<MessageId> for String {
    fn from(id: MessageId) -> Self {
        id.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_alphabet() {
        assert!("a".parse::<MessageId>().is_ok());
        assert!("A_z-9".repeat(12).parse::<MessageId>().is_ok());
        for bad in ["", "a b", "../x", "é", "a.json", &"a".repeat(65)] {
            assert_eq!(bad.parse::<MessageId>(), Err(InvalidId), "{bad:?}");
        }
    }
}
