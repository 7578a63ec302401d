//! File names whose lexical order is the order of writing.
//!
//! `<unix ms, 13 digits>-<sequence, 6 digits>-<4 base-36>.json`. The sequence tells apart files of one millisecond, the
//! random tail files of two writers. A clock that steps back must not reorder one writer's files, so a writer never
//! issues a millisecond below its last one.

use std::fmt;
use std::str::FromStr;

use crate::id::MessageId;

const BASE36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const MAX_MS: u64 = 9_999_999_999_999;
const MAX_SEQUENCE: u32 = 999_999;
const SUFFIX: &str = ".json";

/// A parsed mailbox file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    ms: u64,
    sequence: u32,
    tail: [u8; 4],
}

/// Why a name is not one of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("file name is not <13 digits>-<6 digits>-<4 base-36>.json")]
pub struct InvalidName;

impl FileName {
    /// The name without `.json`: the default id of the message in it.
    pub fn stem(&self) -> String {
        let tail = String::from_utf8_lossy(&self.tail);
        format!("{:013}-{:06}-{tail}", self.ms, self.sequence)
    }

    /// The default id of a message in this file: its stem.
    pub fn id(&self) -> MessageId {
        #[expect(clippy::expect_used, reason = "25 characters, all digits, lower-case letters and hyphens")]
        self.stem().parse().expect("a stem is a valid id")
    }

    /// The time that the writer gave, in milliseconds since 1970-01-01 UTC.
    pub fn unix_ms(&self) -> u64 {
        self.ms
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{SUFFIX}", self.stem())
    }
}

impl FromStr for FileName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let stem = name.strip_suffix(SUFFIX).ok_or(InvalidName)?;
        let mut parts = stem.split('-');
        let (Some(ms), Some(sequence), Some(tail), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidName);
        };
        let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(ms, 13) || !digits(sequence, 6) {
            return Err(InvalidName);
        }
        let tail: [u8; 4] = tail.as_bytes().try_into().map_err(|_| InvalidName)?;
        if !tail.iter().all(|b| BASE36.contains(b)) {
            return Err(InvalidName);
        }
        Ok(Self {
            ms: ms.parse().map_err(|_| InvalidName)?,
            sequence: sequence.parse().map_err(|_| InvalidName)?,
            tail,
        })
    }
}

/// Issues names in order for one writer.
#[derive(Debug)]
pub struct Namer {
    ms: u64,
    sequence: u32,
    tail: [u8; 4],
}

impl Namer {
    /// `seed` tells two writers apart; a random number or a process id will do.
    pub fn new(seed: u64) -> Self {
        let mut rest = seed;
        let tail = std::array::from_fn(|_| {
            let digit = BASE36[(rest % 36) as usize];
            rest /= 36;
            digit
        });
        Self { ms: 0, sequence: 0, tail }
    }

    /// Makes all further names sort after `name`, which another writer has issued.
    pub fn continue_after(&mut self, name: &FileName) {
        if (name.ms, name.sequence) > (self.ms, self.sequence) {
            (self.ms, self.sequence) = (name.ms, name.sequence);
        }
    }

    /// The next name, for a file written at `unix_ms`.
    pub fn next(&mut self, unix_ms: u64) -> FileName {
        if unix_ms > self.ms {
            self.ms = unix_ms.min(MAX_MS);
            self.sequence = 0;
        } else if self.sequence < MAX_SEQUENCE {
            self.sequence += 1;
        } else {
            self.ms = (self.ms + 1).min(MAX_MS);
            self.sequence = 0;
        }
        FileName { ms: self.ms, sequence: self.sequence, tail: self.tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_written_even_when_the_clock_steps_back() {
        let mut namer = Namer::new(123_456);
        let times = [5, 5, 5, 3, 9, 1, 9];
        let names: Vec<String> = times.iter().map(|&t| namer.next(t).to_string()).collect();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(names, sorted);
        sorted.dedup();
        assert_eq!(sorted.len(), times.len());
    }

    #[test]
    fn a_full_millisecond_moves_on() {
        let mut namer = Namer { ms: 7, sequence: MAX_SEQUENCE, tail: *b"abcd" };
        assert_eq!(namer.next(7).to_string(), "0000000000008-000000-abcd.json");
    }

    #[test]
    fn parse_is_the_inverse_of_display() {
        let name = Namer::new(9).next(1_760_000_000_123);
        assert_eq!(name.to_string().parse(), Ok(name));
        for bad in ["", ".json", "1-2-3.json", "0000000000008-000000-ABCD.json", "0000000000008-000000-abcd.tmp"] {
            assert_eq!(bad.parse::<FileName>(), Err(InvalidName), "{bad:?}");
        }
    }
}
