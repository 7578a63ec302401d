//! How sessions end by themselves.

use std::os::unix::fs::MetadataExt;

use ipc_protocol::event::TurnOutcome;
use supervisor::session::status::EndReason;
use tests::{Expect, Home, Look, Script};

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
        assert_eq!(std::fs::metadata(home.file(name)).unwrap().uid(), 1000, "{name}");
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
