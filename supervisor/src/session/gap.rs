//! Events of a session that are no longer stored. Whoever reads is told which are missing: none is skipped in silence.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

/// The numbers of events that are no longer stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Gap {
    /// The number of the first event that is missing.
    pub from: u64,
    /// The number of the last event that is missing; absent if the session's end is missing, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

impl Gap {
    /// What is missing between the event that was seen last, `cursor`, and the `next` that is there.
    pub fn between(cursor: u64, next: u64) -> Option<Self> {
        (next > cursor + 1).then(|| Self { from: cursor + 1, to: Some(next - 1) })
    }

    /// All after `cursor` of a session that has ended.
    pub fn after(cursor: u64) -> Self {
        Self { from: cursor + 1, to: None }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { from, to: Some(to) } if from == to => write!(f, "[event {from} is no longer stored]"),
            Self { from, to: Some(to) } => write!(f, "[events {from} to {to} are no longer stored]"),
            Self { from, to: None } => write!(f, "[the events from {from} on are no longer stored]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Gap::between(0, 1), None);
        for (gap, said) in [
            (Gap::between(4, 6), "[event 5 is no longer stored]"),
            (Gap::between(4, 31), "[events 5 to 30 are no longer stored]"),
            (Some(Gap::after(4)), "[the events from 5 on are no longer stored]"),
        ] {
            assert_eq!(gap.unwrap().to_string(), said);
        }
    }
}
