//! Session ids: 12 hexadecimal digits, as short as the engines' own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const LENGTH: usize = 12;

/// Names one session on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

/// Why a string is no session id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a session id: use {LENGTH} hexadecimal digits, as `aigo ps --all` shows them")]
pub struct InvalidSessionId(String);

impl SessionId {
    /// A new id, from 48 random bits.
    pub fn random() -> Self {
        let random = uuid::Uuid::new_v4();
        // The first 6 bytes of a version 4 UUID are random (RFC 9562, section 5.4).
        Self(random.as_bytes()[..LENGTH / 2].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SessionId {
    type Error = InvalidSessionId;

    fn try_from(text: String) -> Result<Self, InvalidSessionId> {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if text.len() == LENGTH && text.chars().all(hex) { Ok(Self(text)) } else { Err(InvalidSessionId(text)) }
    }
}

impl FromStr for SessionId {
    type Err = InvalidSessionId;

    fn from_str(text: &str) -> Result<Self, InvalidSessionId> {
        Self::try_from(text.to_owned())
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_valid_and_others_are_refused() {
        let id = SessionId::random();
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert_ne!(id, SessionId::random());
        for bad in ["", "ABCDEF012345", "../../../etc", "0123456789a", "0123456789abc"] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }
}
