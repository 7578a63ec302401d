//! Recording a conversation, and replaying it.

use std::os::unix::fs::PermissionsExt;

use tests::upstream::KEY;
use tests::{Answer, Expect, Home, Look, Script, Upstream};

use crate::support::known;

#[test]
fn a_recorded_conversation_replays_to_the_same_transcript() {
    let Some(home) = Home::open() else { return };
    let upstream = Upstream::script([Answer::bash("echo from the shell"), Answer::say("and from the model")]);
    let file = home.root().join("recording.jsonl");
    let record = home.live("do both", &upstream).flags(["--record"]).flags([&file]).finish().expect(Expect::FINISHED);
    assert_eq!(upstream.requests().len(), 2);

    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "a recording holds the whole conversation");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert_eq!(kept.lines().count(), 2, "one line for each exchange: {kept}");
    assert!(
        !kept.contains(KEY) && !kept.contains(r#"["x-api-key""#) && !kept.contains(r#"["authorization""#),
        "{kept}"
    );

    drop(upstream);
    let replay = tests::Home::open().expect("the engine was there a moment ago");
    let replayed = replay.claude("do both", &Script::from_file(&file)).finish().expect(Expect::FINISHED);
    assert_eq!(replayed.texts(), record.texts());
    assert_eq!(replayed.tool_results(), record.tool_results());
    assert_eq!(replayed.texts(), ["and from the model"]);
}

#[test]
fn a_failure_is_recorded_and_replayed_too() {
    let Some(home) = Home::open() else { return };
    let upstream = Upstream::script([Answer::error(529, "overloaded_error", "Overloaded"), Answer::say("now I can")]);
    let file = home.root().join("recording.jsonl");
    home.live("hello", &upstream).flags(["--record"]).flags([&file]).finish().expect(Expect::FINISHED);
    let replayed = home.claude("hello", &Script::from_file(&file)).finish().expect(Expect::FINISHED);
    assert_eq!(replayed.texts(), ["now I can"]);
    assert!(replayed.warnings().contains(&"api_retry"), "{replayed:#?}");
}

#[test]
fn an_existing_file_is_not_overwritten() {
    let Some(home) = Home::open() else { return };
    let upstream = Upstream::script([Answer::say("hello")]);
    let file = home.write("precious.txt", "do not lose me");
    let link = home.root().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [&file, &link] {
        let run = home.live("hello", &upstream).flags(["--record"]).flags([path]).finish();
        run.expect_refusal(2, &format!("{} exists already", path.display()));
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "do not lose me");
    assert!(upstream.requests().is_empty() && known(&home).is_empty());
}

#[test]
fn a_run_that_was_refused_leaves_no_empty_recording() {
    let Some(home) = Home::open() else { return };
    let upstream = Upstream::script([Answer::say("hello")]);
    let file = home.root().join("recording.jsonl");
    let run = home.live("hello", &upstream).flags(["--cpus", "1000", "--record"]).flags([&file]).finish();
    run.expect_refusal(2, "--cpus 1000");
    assert!(!file.exists(), "it would be in the way of the next attempt");
    let run = home.live("hello", &upstream).flags(["--record"]).flags([&file]).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["hello"]);
}
