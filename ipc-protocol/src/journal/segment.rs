//! Names of segments.

use std::ffi::{OsStr, OsString};
use std::fmt;

use serde::{Deserialize, Serialize};

const SUFFIX: &str = ".jsonl";
const DIGITS: usize = 8;
const MAX: u32 = 99_999_999;

/// A segment's number: 1 for the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Segment(u32);

impl Segment {
    /// The first of a session.
    pub const FIRST: Self = Self(1);

    /// The segment of this number, if there can be one.
    pub fn new(number: u32) -> Option<Self> {
        (1..=MAX).contains(&number).then_some(Self(number))
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The one after it; `None` after 400 TB.
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// Its file's name.
    pub fn file_name(self) -> OsString {
        OsString::from(self.to_string())
    }

    /// The segment that a file is.
    pub fn parse(name: &OsStr) -> Option<Self> {
        let digits = name.to_str()?.strip_suffix(SUFFIX)?;
        if digits.len() != DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Self::new(digits.parse().ok()?)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}{SUFFIX}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_not() {
        assert_eq!(Segment::parse(&Segment::FIRST.file_name()), Some(Segment::FIRST));
        assert_eq!(Segment::new(MAX).unwrap().next(), None);
        for bad in ["1.jsonl", "00000000.jsonl", "+0000001.jsonl", "00000001.json", "000000001.jsonl"] {
            assert_eq!(Segment::parse(OsStr::new(bad)), None, "{bad}");
        }
    }
}
