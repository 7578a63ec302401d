//! Timeouts: what counts as silence, and how a session is ended whose time is up.

use ipc_protocol::event::TurnOutcome;
use supervisor::session::event::HostEvent;
use supervisor::session::machine::NOTICE_ID;
use tests::{Expect, Finished, Home, Look, Script, host, look};

/// Graces that a test can wait for.
const GRACES: [&str; 6] = ["--save-grace", "1s", "--close-grace", "1s", "--term-grace", "2s"];

fn was_asked_to_save(run: &Finished) -> bool {
    run.events.iter().any(|event| matches!(look::host(event), Some(HostEvent::InputSent { id, .. }) if id == NOTICE_ID))
}

#[test]
fn the_wall_timeout_in_mid_tool_goes_down_the_whole_ladder() {
    let Some(home) = Home::open() else { return };
    let marker = host::unique("wall-timeout");
    let script = Script::new().bash(&format!("sh -c 'sleep 300' {marker}")).say("never said");
    let run = home.claude("work", &script).flags(GRACES).flags(["--timeout", "12s"]).start();
    run.wait_for_tool();
    let run = run.finish().expect(Expect::WALL_TIMEOUT);
    assert!(was_asked_to_save(&run), "{run:?}");
    assert!(run.warnings().contains(&"wall_timeout"), "{run:?}");
    assert_eq!(run.escalations()[..2], ["_close", "SIGTERM"], "{run:?}");
    assert!(run.turns().iter().all(|turn| turn.outcome != TurnOutcome::Success), "{run:?}");
    assert!(host::processes_with(&marker).is_empty());
}

#[test]
fn a_timeout_gives_the_agent_time_to_save() {
    let Some(home) = Home::open() else { return };
    let script =
        Script::new().bash("sleep 10").bash("echo saved > /workspace/saved.txt").expect("about to end").say("saved");
    let flags = ["--timeout", "8s", "--save-grace", "40s", "--close-grace", "5s"];
    let run = home.claude("work", &script).flags(flags).finish().expect(Expect::WALL_TIMEOUT);
    assert_eq!(run.escalations(), ["_close"], "it ends by itself when it has saved: {run:?}");
    assert!(run.ended().2.duration_ms < 40_000, "and is not kept waiting: {run:?}");
    assert_eq!(std::fs::read_to_string(home.file("saved.txt")).unwrap(), "saved\n");
}

#[test]
fn a_runner_that_is_stopped_is_killed() {
    let Some(home) = Home::open() else { return };
    // The agent is root here: it stops the runner's worker, its parent, which then cannot end anything.
    let script = "echo up; kill -STOP $PPID; sleep 300";
    let run = home.command(script).flags(["--root", "--timeout", "6s"]).flags(GRACES).finish();
    let run = run.expect(Expect::WALL_TIMEOUT);
    assert_eq!(run.escalations(), ["_close", "SIGTERM", "kill"], "{run:?}");
}

#[test]
fn a_runner_that_is_stopped_for_a_while_is_told() {
    let Some(home) = Home::open() else { return };
    let pause = ipc_protocol::limits::SILENCE.as_secs() + 5;
    let script =
        format!("while ! [ -e go ]; do sleep 0.1; done; kill -STOP $PPID; sleep {pause}; kill -CONT $PPID; echo back");
    let run = home.command(&script).flags(["--root"]).start();
    run.wait_for_status(supervisor::session::status::Status::Running);
    home.put("go", "");
    let run = run.finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["back"]);
    assert_eq!(run.warnings(), ["runner_silent", "runner_resumed"], "{run:?}");
}

#[test]
fn silence_ends_a_command() {
    let Some(home) = Home::open() else { return };
    let run = home.command("echo started; exec sleep 300").flags(["--idle-timeout", "2s"]).flags(GRACES).finish();
    let run = run.expect(Expect::IDLE_TIMEOUT);
    assert_eq!(run.texts(), ["started"]);
    assert!(run.warnings().contains(&"idle_timeout"), "{run:?}");
    assert!(!was_asked_to_save(&run), "a command has no ear for that: {run:?}");
}

#[test]
fn an_open_session_that_waits_for_messages_is_idle_too() {
    let Some(home) = Home::open() else { return };
    let mut run = home.command("cat").steered().flags(["--idle-timeout", "3s"]).flags(GRACES).start();
    run.wait_for_status(supervisor::session::status::Status::Running);
    run.type_line("hello");
    run.wait_for_text("hello");
    let run = run.finish().expect(Expect::IDLE_TIMEOUT);
    assert_eq!(run.escalations(), ["_close"], "the end of its input is enough for cat: {run:?}");
}

#[test]
fn output_keeps_a_session_alive() {
    let Some(home) = Home::open() else { return };
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.6; done";
    let run = home.command(script).flags(["--idle-timeout", "4s"]).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts().len(), 10);
}

#[test]
fn a_tool_in_flight_keeps_a_session_alive() {
    let Some(home) = Home::open() else { return };
    let script = Script::new().bash("sleep 9; echo rested").say("done");
    let run = home.claude("work", &script).flags(["--idle-timeout", "5s"]).finish().expect(Expect::FINISHED);
    assert_eq!(run.tool_results(), [(false, "rested")]);
}

#[test]
fn a_model_request_in_flight_keeps_a_session_alive() {
    let Some(home) = Home::open() else { return };
    let script = Script::new().say("thought about it").after_ms(9_000);
    let run = home.claude("work", &script).flags(["--idle-timeout", "5s"]).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["thought about it"]);
}
