//! The model's API on its bad days, through the real Claude Code in its container.

use std::time::Duration;

use tests::{Answer, Expect, Finished, Home, Look, Script, Upstream};

use crate::support::{transcript, warnings};

/// What the model says in the end.
const GOOD: &str = "here I am again";

/// Runs against an API that fails once as `fault` says and then answers; gives the run, which has finished well.
fn survives(fault: Answer) -> Option<Finished> {
    let home = Home::open()?;
    let upstream = Upstream::script([fault, Answer::say(GOOD)]);
    let run = home.live("hello", &upstream).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts().last(), Some(&GOOD), "{run:#?}");
    assert_eq!(upstream.requests().len(), 2, "one failure, one success: {run:#?}");
    Some(run)
}

/// As [`survives`], with the retry shown as a warning that contains `says`.
fn is_retried(fault: Answer, says: &str) {
    let Some(run) = survives(fault) else { return };
    let retries = warnings(run.events(), "api_retry");
    assert_eq!(retries.len(), 1, "{run:#?}");
    assert!(retries[0].contains(says) && retries[0].contains("retry 1 of"), "{retries:?}");
}

#[test]
fn rate_limited_429_then_success() {
    is_retried(Answer::error(429, "rate_limit_error", "slow down").header("retry-after", "1"), "429");
}

#[test]
fn internal_error_500_then_success() {
    is_retried(Answer::error(500, "api_error", "Internal server error"), "500");
}

#[test]
fn overloaded_529_then_success() {
    is_retried(Answer::error(529, "overloaded_error", "Overloaded"), "529");
}

#[test]
fn a_stream_that_is_cut_is_asked_for_again() {
    is_retried(Answer::say("this sentence breaks off").cut_after(3), "");
}

#[test]
fn an_error_in_the_middle_of_a_stream_is_survived() {
    // Claude Code asks again at once, without a stream; it tells of no retry then.
    let fault = Answer::say("this sentence breaks off").error_after(3, "overloaded_error");
    let Some(run) = survives(fault) else { return };
    assert_eq!(run.texts(), [GOOD], "half a sentence is no answer");
}

#[test]
fn a_slow_first_byte_is_waited_for() {
    let Some(home) = Home::open() else { return };
    let upstream = Upstream::script([Answer::say("late, but here").after(Duration::from_secs(3))]);
    let run = home.live("hello", &upstream).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["late, but here"]);
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(run.warnings(), [] as [&str; 0], "{run:#?}");
}

#[test]
fn a_slow_answer_keeps_an_idle_session() {
    let Some(home) = Home::open() else { return };
    let upstream = Upstream::script([Answer::say("late, but here").after(Duration::from_secs(9))]);
    // A model request in flight is activity. The timeout leaves a busy machine the time to start the agent.
    let run = home.live("hello", &upstream).flags(["--idle-timeout", "6s"]).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["late, but here"]);
}

#[test]
fn what_the_api_refuses_for_good_is_said_once() {
    let Some(home) = Home::open() else { return };
    let upstream = Upstream::script([Answer::error(403, "permission_error", "this model is not for you")]);
    let run = home.live("hello", &upstream).finish().expect(Expect::AGENT_EXIT);
    let shown = transcript(&home);
    assert_eq!(shown.matches("this model is not for you").count(), 1, "{shown}");
    assert_eq!(upstream.requests().len(), 1, "{run:#?}");
}

#[test]
fn a_script_without_more_answers_is_one_clear_error() {
    let Some(home) = Home::open() else { return };
    let script = Script::new().bash("echo first step");
    let run = home.claude("hello", &script).finish().expect(Expect::AGENT_EXIT);
    assert_eq!(run.tool_results(), [(false, "first step")]);
    assert_eq!(warnings(run.events(), "replay_exhausted").len(), 1, "{run:#?}");
    assert!(warnings(run.events(), "api_retry").is_empty(), "{run:#?}");
    let shown = transcript(&home);
    assert!(shown.contains("has no answers left: it had 1"), "{shown}");
}

#[test]
fn a_request_that_the_script_does_not_expect_is_one_clear_error() {
    let Some(home) = Home::open() else { return };
    let script = Script::new().say("hello").expect("a word that nobody says");
    let run = home.claude("hello", &script).finish().expect(Expect::AGENT_EXIT);
    let [mismatch] = &warnings(run.events(), "replay_mismatch")[..] else { panic!("one warning: {run:#?}") };
    assert!(mismatch.contains(":1") && mismatch.contains("a word that nobody says"), "{mismatch}");
}
