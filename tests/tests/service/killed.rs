//! The service is killed again and again while many sessions work: none of them notices.

use std::time::Duration;

use serde_json::{Value, json};
use tests::service::{claude, command};
use tests::{Home, Script, Service};

use crate::support::whole;

/// Sessions at once: so many of a shell script, and so many of Claude Code.
const COMMANDS: usize = 17;
const CLAUDES: usize = 3;

/// How often the service is killed.
const KILLS: usize = 5;

/// How long each service lives, and how long there is none.
const LIVES: Duration = Duration::from_millis(900);
const AWAY: Duration = Duration::from_millis(300);

/// What differs between two runs of the same: numbers, times, ids, figures.
const OF_ONE_RUN: [&str; 14] = [
    "seq",
    "at",
    "session",
    "workspace",
    "detail",
    "summary",
    "pid",
    "id",
    "ids",
    "inputs",
    "conversation",
    "sessionId",
    "durationMs",
    "callId",
];

/// Each waits until all are there, and then works for some seconds.
fn requests(home: &Home) -> Vec<Value> {
    let wait = "while [ ! -e go ]; do sleep 0.1; done";
    let commands = (0..COMMANDS).map(|n| {
        let lines = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i; sleep 0.2; done";
        command(home, &format!("echo up {n}; {wait}; {lines}"))
    });
    let claudes = (0..CLAUDES).map(|n| {
        let script = Script::new().bash(wait).bash("sleep 3; echo first").bash("sleep 3; echo second");
        claude(home, &format!("task {n}"), &script.say("done"))
    });
    commands.chain(claudes).collect()
}

/// Runs all sessions to their end: what was said of each, see [`transcript`]. `kills` are the deaths in between.
fn run(kills: usize) -> Vec<[Vec<Value>; 3]> {
    let home = Home::without_engine();
    let mut service = Service::start(&home);
    let ids: Vec<String> = requests(&home).iter().map(|request| service.create(request)).collect();
    for id in &ids {
        assert!(
            service.watch(id, 0).any(|event| ["text", "tool_call"].contains(&event.name.as_str())),
            "session {id} did not come up"
        );
    }
    home.put("go", "");
    for _ in 0..kills {
        std::thread::sleep(LIVES);
        service.kill();
        std::thread::sleep(AWAY);
        service = Service::start(&home);
        assert!(home.containers().len() <= ids.len());
    }
    let transcripts = ids.iter().map(|id| transcript(&whole(&service.events(id, 0)))).collect();
    for id in &ids {
        assert_eq!(service.wait_for_end(&home, id)["reason"], "finished");
    }
    assert!(service.stop().success());
    transcripts
}

/// What does not differ from run to run: the agent's events, when its input ended, and what the service says. The order of
/// the three among each other is chance. A model request that finds no service is made again, of which Claude Code tells.
fn transcript(events: &[Value]) -> [Vec<Value>; 3] {
    const OURS: [&str; 8] =
        ["session", "status", "launch_step", "input_sent", "interrupt_sent", "escalation", "host_warning", "ended"];
    let of = |wanted: &dyn Fn(&str) -> bool| {
        let events = events.iter().filter(|event| event["code"] != "api_retry");
        let events = events.filter(|event| event["kind"].as_str().is_some_and(wanted));
        events.cloned().map(strip).collect()
    };
    let is_ours = |kind: &str| OURS.contains(&kind);
    [of(&|kind| !is_ours(kind) && kind != "closing"), of(&|kind| kind == "closing"), of(&is_ours)]
}

fn strip(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let lasting = fields.into_iter().filter(|(name, _)| !OF_ONE_RUN.contains(&name.as_str()));
            lasting.map(|(name, value)| (name, strip(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(strip).collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

#[test]
fn twenty_sessions_go_on_as_if_the_service_had_not_been_killed_five_times() {
    let Some(_home) = Home::open() else { return };
    let (undisturbed, killed) = std::thread::scope(|scope| {
        let undisturbed = scope.spawn(|| run(0)).join().unwrap();
        (undisturbed, run(KILLS))
    });
    assert_eq!(undisturbed.len(), killed.len());
    for (number, (one, other)) in undisturbed.iter().zip(&killed).enumerate() {
        assert_eq!(json!(one), json!(other), "session {number}");
    }
}
