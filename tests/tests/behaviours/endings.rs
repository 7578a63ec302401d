//! How sessions end by themselves.

use std::os::unix::fs::MetadataExt;

use ipc_protocol::event::TurnOutcome;
use serde_json::json;
use supervisor::session::status::EndReason;
use tests::{Expect, Home, Look, Script, host};

/// The example project of `make demo`, with its failing test, and what the model answers.
const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/project");
const ANSWERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/script.jsonl");

#[test]
fn claude_code_mends_the_demo_project() {
    let Some(home) = Home::open() else { return };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(PROJECT).unwrap().flatten() {
        names.push(entry.file_name().to_string_lossy().into_owned());
        home.put(names.last().unwrap(), std::fs::read(entry.path()).unwrap());
    }
    home.give_workspace_to(1000);
    let owner = std::fs::metadata(home.workspace()).unwrap().uid();
    let answers = Script::from_file(ANSWERS);
    let run = home.claude("make the tests pass", &answers).finish().expect(Expect::FINISHED);
    assert_eq!(run.turns().len(), 1);
    assert_eq!(run.turns()[0].outcome, TurnOutcome::Success);
    let results = run.tool_results();
    assert!(results.first().unwrap().1.contains("FAILED"), "the test fails at first: {results:#?}");
    assert!(results.last().unwrap().1.contains("OK"), "and passes in the end: {results:#?}");
    let (_, _, summary) = run.ended();
    let changes = summary.changes.as_ref().unwrap();
    assert_eq!(changes.modified.names, ["temperature.py"]);
    assert_eq!(summary.model_requests, 5);
    assert!(summary.tokens.output > 0 && summary.duration_ms > 0);
    for name in &names {
        assert_eq!(std::fs::metadata(home.file(name)).unwrap().uid(), owner, "{name}");
    }
}

#[test]
fn a_command_that_ends_well_is_completed() {
    let Some(home) = Home::open() else { return };
    let run = home.command("echo hello; echo there; echo aside >&2").finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["hello", "there"]);
}

#[test]
fn a_command_that_exits_with_7_has_failed() {
    let Some(home) = Home::open() else { return };
    let run = home.command("echo before; exit 7").finish().expect(Expect::AGENT_EXIT);
    assert_eq!(run.ended().1.reason, EndReason::AgentExit { code: 7 });
    assert_eq!(run.texts(), ["before"]);
}

#[test]
fn a_command_that_a_signal_ends_has_failed() {
    let Some(home) = Home::open() else { return };
    let run = home.command("kill -SEGV $$").finish().expect(Expect::AGENT_SIGNAL);
    assert_eq!(run.ended().1.reason, EndReason::AgentSignal { signal: 11 });
}

#[test]
fn an_image_that_is_missing_is_said_with_its_remedy() {
    let Some(home) = Home::open() else { return };
    let run = home.command("true").flags(["--image", "aigo-no-such-image:latest"]).finish();
    let run = run.expect(Expect::IMAGE_MISSING);
    assert!(run.detail().contains("aigo-no-such-image") && run.detail().contains("aigo image build"), "{run:?}");
}

#[test]
fn a_server_that_the_agent_left_running_does_not_keep_the_session() {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let marker = host::unique("left-running");
    let serve = format!("sh -c 'while :; do sleep 1; done' {marker}");
    let in_background = json!({"tool": "Bash", "input":
        {"command": serve, "description": "Serve", "run_in_background": true, "timeout": 5_000}});
    let script = Script::new().bash(&format!("{serve} & echo up")).line(in_background).say("it runs");
    let run = home.claude("start the server", &script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["it runs"]);
    assert!(run.escalations().is_empty(), "{run:?}");
    assert!(host::processes_with(&marker).is_empty());
}

#[test]
fn an_agent_that_is_done_but_does_not_end_is_ended_and_has_finished() {
    let Some(home) = Home::open() else { return };
    home.put(
        ".claude/settings.json",
        r#"{"hooks":{"SessionEnd":[{"hooks":[{"type":"command","command":"sleep 500","timeout":600}]}]},
            "env":{"CLAUDE_CODE_SESSIONEND_HOOKS_TIMEOUT_MS":"600000"}}"#,
    );
    home.give_workspace_to(1000);
    let script = Script::new().say("done");
    let run = home.claude("work", &script).flags(["--project-settings"]).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["done"]);
    assert!(run.warnings().contains(&"left_running"), "{run:?}");
    assert_eq!(run.escalations()[0], "SIGTERM", "{run:?}");
    assert!(run.detail().contains("kept it from ending"), "{run:?}");
}
