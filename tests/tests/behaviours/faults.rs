//! The model service fails: what the agent survives, and what the person is told.

use std::time::Duration;

use ipc_protocol::event::TurnOutcome;
use serde_json::json;
use tests::{Answer, Expect, Home, Look, Script, Upstream, host};

/// By itself the agent would try again for about three minutes.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_wrong_key_is_one_clear_error_and_is_never_shown() {
    let Some(home) = Home::open() else { return };
    let upstream = Upstream::script([Answer::error(401, "authentication_error", "invalid x-api-key")]);
    let key = host::unique("sk-ant-wrong-key");
    let run = home.live("work", &upstream).env("ANTHROPIC_API_KEY", &key);
    let run = run.finish().expect(Expect::AGENT_EXIT);
    let (_, _, summary) = run.ended();
    assert!(Duration::from_millis(summary.duration_ms) < SOON, "{run:?}");
    assert!(run.warnings().contains(&"credential_refused"), "{run:?}");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 1, "one request, no retries");
    assert!(requests[0].all("x-api-key") == [&key], "it is put in on the way");
    let told = format!("{run:?}{}", serde_json::to_string(&run.events).unwrap());
    assert!(!told.contains(&key), "the key is told: {told}");
}

#[test]
fn a_service_that_is_overloaded_for_a_moment_is_tried_again() {
    let Some(home) = Home::open() else { return };
    let busy = |status: u16| json!({"status": status, "headers": {"retry-after": "1"}});
    let script = Script::new().line(busy(529)).line(busy(429)).line(busy(500)).say("got through");
    let run = home.claude("work", &script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["got through"]);
    assert!(run.warnings().contains(&"api_retry"), "the person is told why it takes so long: {run:?}");
}

#[test]
fn an_answer_that_breaks_off_is_asked_for_again() {
    let Some(home) = Home::open() else { return };
    let cut = json!({"say": "this one breaks off in the mid", "cutAfter": 4});
    let script = Script::new().line(cut).say("whole");
    let run = home.claude("work", &script).finish().expect(Expect::FINISHED);
    assert_eq!(run.turns()[0].outcome, TurnOutcome::Success);
    assert_eq!(run.texts().last(), Some(&"whole"));
}

#[test]
fn a_slow_answer_is_waited_for() {
    let Some(home) = Home::open() else { return };
    let script = Script::new().say("every word of this comes by itself").with("chunkDelayMs", 400);
    let run = home.claude("work", &script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["every word of this comes by itself"]);
}

#[test]
fn a_script_that_is_used_up_ends_the_session_at_once() {
    let Some(home) = Home::open() else { return };
    let run = home.claude("work", &Script::new().bash("true")).finish().expect(Expect::AGENT_EXIT);
    assert!(run.warnings().contains(&"replay_exhausted"), "{run:?}");
    assert!(Duration::from_millis(run.ended().2.duration_ms) < SOON, "{run:?}");
}
