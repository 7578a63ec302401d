//! What a driver knows, stored with its events, so that another process can go on with the session.
//!
//! A checkpoint is written with events, and tells what was known *before* them: whoever goes on feeds the machine the
//! runner's events that came after it once more. Effects that were told are in the checkpoint that was stored with them, so
//! none is told twice.

use serde::{Deserialize, Serialize};

use super::facts::Counts;
use crate::session::budget::Budget;
use crate::session::event::Summary;
use crate::session::machine::Machine;

/// To write.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View<'a> {
    /// The runner's number of the last event that the machine has got.
    pub(super) heard: u64,
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
    pub(super) machine: Machine,
    pub(super) summary: Summary,
    pub(super) counts: Counts,
    /// Not in those of the first aigo that wrote any.
    #[serde(default)]
    pub(super) budget: Budget,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
            let Checkpoint { heard, machine, summary, budget, .. } = serde_json::from_str(text).unwrap();
            assert_eq!((heard, machine.lived_until(), summary.turns), (7, Duration::from_secs(12), 1));
            assert!(machine.is_launched() && !machine.takes_input());
            assert_eq!(budget, Budget::default());
            let counts = Counts::default();
            let view = View { heard, machine: &machine, summary: &summary, counts, budget };
            let again: Checkpoint = serde_json::from_str(&serde_json::to_string(&view).unwrap()).unwrap();
            assert_eq!(again.machine.lived_until(), machine.lived_until());
        }
    }
}
