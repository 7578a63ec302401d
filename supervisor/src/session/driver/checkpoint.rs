//! What a driver knows, stored with its events, so that another process can go on with the session.
//!
//! A checkpoint is written with events, and tells what was known *before* them: whoever goes on feeds the machine the
//! runner's events that came after it once more. Effects that were told are in the checkpoint that was stored with them, so
//! none is told twice.

use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::facts::Counts;
use crate::session::budget::Budget;
use crate::session::event::Summary;
use crate::session::machine::{At, Machine};

/// A moment of a session's life, for a process to which the age of another one means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Moment {
    /// How old the session was.
    age: At,
    /// On the machine's monotonic clock, which begins anew when the machine does (clock_gettime(2)).
    uptime: Option<Duration>,
    /// On its other clock, which people set.
    clock: Timestamp,
}

impl Moment {
    /// Now, for a session of this age.
    pub(super) fn now(age: At) -> Self {
        let uptime = clock_gettime(ClockId::CLOCK_MONOTONIC).ok().map(Duration::from);
        Self { age, uptime, clock: Timestamp::now() }
    }

    /// How old the session was then.
    pub(super) fn age(&self) -> At {
        self.age
    }

    /// How old it is at the moment `now`. After a boot of the machine only the other clock can tell; then nothing of the
    /// session runs any more.
    pub(super) fn age_at(&self, now: &Self) -> At {
        let up = now.uptime.zip(self.uptime).and_then(|(now, then)| now.checked_sub(then));
        // Negative if it was set back.
        let by_clock = || Duration::try_from(now.clock.duration_since(self.clock)).unwrap_or_default();
        self.age + up.unwrap_or_else(by_clock)
    }
}

/// To write.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View<'a> {
    /// The runner's number of the last event that the machine has got.
    pub(super) heard: u64,
    pub(super) moment: Moment,
    pub(super) machine: &'a Machine,
    pub(super) summary: &'a Summary,
    pub(super) counts: Counts,
    pub(super) budget: Budget,
}

/// To read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Checkpoint {
    pub(super) heard: u64,
    /// Not in those of the first two.
    #[serde(default)]
    pub(super) moment: Option<Moment>,
    pub(super) machine: Machine,
    pub(super) summary: Summary,
    pub(super) counts: Counts,
    /// Not in those of the first aigo that wrote any.
    #[serde(default)]
    pub(super) budget: Budget,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the first aigo wrote it that had checkpoints. Added to, never edited: a session that runs may have been started by
    /// any of them.
    const FIRST: &str = r#"{"heard":7,"machine":{
        "rules":{"timeout":{"secs":600,"nanos":0},"idleTimeout":null,"ends":"when_answered","canSave":true,
            "graces":{"save":{"secs":30,"nanos":0},"close":{"secs":10,"nanos":0},"term":{"secs":10,"nanos":0}}},
        "status":"closing","launchedAt":{"secs":1,"nanos":5},"ready":true,"lastActivity":{"secs":9,"nanos":0},
        "lastHeard":{"secs":12,"nanos":0},"silenceTold":false,"tools":["t1"],"modelRequests":1,"attached":true,
        "questionPending":false,"unaccepted":["a"],"unanswered":["a"],"intent":{"close":"a person"},
        "stage":{"close":{"until":{"secs":20,"nanos":0}}},"failedStep":null,"agentExit":[3,null],"closing":"close",
        "lastTurn":["success","done"],"interrupting":false,"cutShort":false},
        "summary":{"durationMs":0,"turns":1,"tokens":{"input":1,"output":2,"cacheRead":3,"cacheWrite":4},"modelRequests":0},
        "counts":{"oomKills":1,"pidsRefused":2}}"#;

    #[test]
    fn one_of_an_older_aigo_is_understood_and_a_newer_one_may_say_more() {
        let newer = FIRST.replacen("{", r#"{"later":1,"#, 1).replace(r#""machine":{"#, r#""machine":{"later":[1],"#);
        for text in [FIRST, &newer] {
            let Checkpoint { heard, machine, summary, budget, moment, .. } = serde_json::from_str(text).unwrap();
            assert_eq!(moment, None);
            assert_eq!((heard, machine.lived_until(), summary.turns), (7, Duration::from_secs(12), 1));
            assert!(machine.is_launched() && !machine.takes_input());
            assert_eq!(budget, Budget::default());
            let counts = Counts::default();
            let moment = Moment::now(Duration::from_secs(13));
            let view = View { heard, moment, machine: &machine, summary: &summary, counts, budget };
            let again: Checkpoint = serde_json::from_str(&serde_json::to_string(&view).unwrap()).unwrap();
            assert_eq!((again.machine.lived_until(), again.moment), (machine.lived_until(), Some(moment)));
        }
    }

    #[test]
    fn a_session_ages_by_the_clock_that_nobody_sets() {
        const S: fn(u64) -> Duration = Duration::from_secs;
        let moment = |uptime: Option<u64>, clock: i64| Moment {
            age: S(100),
            uptime: uptime.map(S),
            clock: Timestamp::from_second(clock).unwrap(),
        };
        for (then, now, age, why) in [
            (moment(Some(50), 1000), moment(Some(60), 1010), 110, "as usual"),
            (moment(Some(50), 1000), moment(Some(60), 400), 110, "set back"),
            (moment(Some(50), 1000), moment(Some(60), 9000), 110, "set forward, or the host slept"),
            (moment(Some(50), 1000), moment(Some(20), 1030), 130, "booted"),
            (moment(Some(50), 1000), moment(Some(20), 400), 100, "booted and set back"),
            (moment(None, 1000), moment(Some(20), 1030), 130, "not known"),
        ] {
            assert_eq!(then.age_at(&now), S(age), "{why}");
        }
        let now = Moment::now(S(100));
        assert!(now.uptime.is_some() && now.age_at(&Moment::now(S(0))) < S(101));
    }
}
