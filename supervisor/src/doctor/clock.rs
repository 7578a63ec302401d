//! Clocks: a wrong one breaks TLS, and one that differs in the engine's machine (a VM that slept) breaks timeouts.

use jiff::{SignedDuration, Timestamp};

use super::check::Check;

const CLOCK: &str = "clock";
/// Certificates and signed requests bear this much; measuring has an error of a second or so.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

/// A foreign clock's reading, taken between two readings of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub before: Timestamp,
    pub theirs: Timestamp,
    pub after: Timestamp,
}

impl Reading {
    /// How far theirs is ahead of ours; zero within the time that the question took.
    #[must_use]
    pub fn ahead(self) -> SignedDuration {
        if self.theirs < self.before {
            self.theirs.duration_since(self.before)
        } else if self.theirs > self.after {
            self.theirs.duration_since(self.after)
        } else {
            SignedDuration::ZERO
        }
    }

    fn is_off(self) -> bool {
        self.ahead().abs() > TOLERANCE
    }
}

/// Compares this host's clock with the engine's and the upstream's.
#[must_use]
pub fn judge(engine: Option<Reading>, upstream: Option<Reading>) -> Check {
    let said = [("the engine's", engine), ("the model API's", upstream)];
    let known: Vec<(&str, Reading)> = said.iter().filter_map(|(name, reading)| Some((*name, (*reading)?))).collect();
    if known.is_empty() {
        return Check::skipped(CLOCK, "neither the engine nor the model API told the time");
    }
    let off: Vec<String> = known
        .iter()
        .filter(|(_, reading)| reading.is_off())
        .map(|(name, reading)| {
            let ahead = reading.ahead();
            let direction = if ahead.is_negative() { "behind" } else { "ahead of" };
            format!("{name} clock is {} s {direction} this host's", ahead.abs().as_secs())
        })
        .collect();
    if off.is_empty() {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        return Check::ok(CLOCK, format!("agrees with {} to {} s", names.join(" and "), TOLERANCE.as_secs()));
    }
    Check::warning(
        CLOCK,
        off.join("; "),
        "synchronise the host's clock (timedatectl set-ntp true); if the engine runs in a VM, restart it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn reading(theirs: i64) -> Reading {
        let at = |second| Timestamp::from_second(1_700_000_000 + second).unwrap();
        Reading { before: at(0), theirs: at(theirs), after: at(2) }
    }

    #[test]
    fn the_time_of_the_question_does_not_count() {
        assert_eq!(reading(1).ahead(), SignedDuration::ZERO);
        assert_eq!(reading(5).ahead(), SignedDuration::from_secs(3));
        assert_eq!(reading(-5).ahead(), SignedDuration::from_secs(-5));
    }

    #[test]
    fn the_one_that_is_off_is_named() {
        assert_eq!(judge(None, None).status, Verdict::Skipped);
        assert_eq!(judge(Some(reading(60)), None).status, Verdict::Ok);
        let check = judge(Some(reading(1)), Some(reading(-3600)));
        assert_eq!(check.status, Verdict::Warning);
        assert!(
            check.detail.contains("model API's clock is 3600 s behind") && !check.detail.contains("engine"),
            "{check:?}"
        );
    }
}
