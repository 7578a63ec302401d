//! The runner with the `claude` adapter and a stand-in for the CLI that keeps to what was observed of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::common::Place;
use ipc_protocol::config::AgentSpec;
use ipc_protocol::event::{EventKind, TurnOutcome};
use ipc_protocol::exit::RunnerExit;

/// Reads user lines, answers each by one turn; a text of "hang" starts a turn that only an interrupt ends.
const CLI: &str = r#"#!/bin/sh
echo "$@" > args
env > environment
while read -r line; do
  uuid=$(printf '%s' "$line" | sed 's/.*"uuid":"\([^"]*\)".*/\1/')
  request=$(printf '%s' "$line" | sed 's/.*"request_id":"\([^"]*\)".*/\1/')
  case $line in
    *control_request*)
      [ "$DEAF" ] && continue
      printf '{"type":"control_response","response":{"subtype":"success","request_id":"%s","response":{}}}\n' "$request"
      printf '{"type":"result","subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_tools","user_message_uuids":["%s"]}\n' "$last"
      rc=1 ;;
    *hang*)
      last=$uuid
      printf '{"type":"command_lifecycle","command_uuid":"%s","state":"started"}\n{"type":"system","subtype":"init","model":"m"}\n' "$uuid" ;;
    *)
      printf '{"type":"system","subtype":"init","model":"m","session_id":"c"}\n'
      printf '{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":587,"error_status":429,"error":"rate_limit"}\n'
      printf '{"type":"assistant","message":{"content":[{"type":"text","text":"hello"}]}}\n'
      printf '{"type":"result","subtype":"success","is_error":false,"result":"hello","user_message_uuids":["%s"]}\n' "$uuid"
      rc=0 ;;
  esac
done
exit $rc
"#;

fn place() -> Place {
    let mut place = Place::new(AgentSpec::Claude {
        model: Some("sonnet".into()),
        conversation: "12345678-1234-4234-8234-123456789abc".into(),
        resume: false,
        max_turns: None,
        append_system_prompt: None,
        project_settings: false,
        one_shot: false,
    });
    let cli = place.path("bin/claude");
    fs::create_dir(place.path("bin")).unwrap();
    fs::write(&cli, CLI).unwrap();
    fs::set_permissions(&cli, fs::Permissions::from_mode(0o755)).unwrap();
    place.env.insert("PATH".into(), format!("{}:/usr/bin:/bin", place.path("bin").display()));
    place
}

fn finished(kind: &EventKind) -> bool {
    matches!(kind, EventKind::TurnFinished(_))
}

#[test]
fn a_message_is_answered_and_the_session_closes() {
    let place = place();
    let mut runner = place.start();
    runner.send("m1", "/clear");
    runner.outbox.close().unwrap();
    assert_eq!(runner.end(), RunnerExit::Done);
    assert_eq!(runner.texts(), ["hello"]);
    assert!(runner.has(|kind| matches!(kind, EventKind::TurnFinished(f) if f.inputs == ["m1"])));
    assert!(runner.has(|kind| matches!(kind,
        EventKind::Warning { code, message } if code == "api_retry" && message.contains("429 (rate_limit): retry 1 of 10 in 0.6 s"))));
    assert!(runner.dropped().is_empty());
    let args = fs::read_to_string(place.path("workspace/args")).unwrap();
    for flag in ["--setting-sources= ", "--strict-mcp-config", "--session-id=12345678", "--model=sonnet", "--add-dir="]
    {
        assert!(args.contains(flag), "{args}");
    }
    let environment = fs::read_to_string(place.path("workspace/environment")).unwrap();
    assert!(environment.contains("IS_SANDBOX=1") && environment.contains("DISABLE_AUTOUPDATER=1"));
}

#[test]
fn an_interrupt_ends_the_turn_and_not_the_session() {
    let mut runner = place().start();
    runner.send("m1", "hang");
    runner.until("turn", |kind| matches!(kind, EventKind::TurnStarted { .. }));
    runner.interrupt("i1");
    runner.until("end of turn", finished);
    assert!(runner.has(|kind| matches!(kind,
        EventKind::TurnFinished(f) if f.outcome == TurnOutcome::Interrupted && f.inputs == ["m1"])));
    runner.send("m2", "go on");
    runner.until_text("hello");
    runner.send("m3", "hang");
    runner.until_accepted("m3");
    runner.interrupt("i2");
    runner.outbox.close().unwrap();
    assert_eq!(runner.end(), RunnerExit::Done, "the CLI's code 1 after an interrupt is no failure");
    assert_eq!(runner.accepted(), ["m1", "i1", "m2", "m3", "i2"]);
}

#[test]
fn a_deaf_cli_gets_sigint_and_its_input_is_not_lost_in_silence() {
    let mut place = place();
    place.env.insert("DEAF".into(), "1".into());
    let mut runner = place.start();
    runner.send("m1", "hang");
    runner.interrupt("i1");
    assert_eq!(runner.end(), RunnerExit::AgentSignalled);
    assert!(runner.has(|kind| matches!(kind, EventKind::Warning { code, .. } if code == "interrupt_unanswered")));
    assert_eq!(runner.dropped(), [("m1", "the agent ended before it had answered it")]);
}
