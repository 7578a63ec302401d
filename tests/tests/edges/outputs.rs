//! What programs read.

use std::process::Command;

use serde_json::Value;
use supervisor::session::event::HostEvent;
use tests::engine::image;
use tests::{Expect, Home, Look, Script, look};

use crate::support::known;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn json_output_is_one_object_with_the_exit_code() {
    let Some(home) = Home::open() else { return };
    for (script, code, status, reason) in
        [("echo hello; touch made", 0, "completed", "finished"), ("exit 7", 1, "failed", "agent_exit")]
    {
        let run = home.command(script).output("json").finish();
        let object = json(&run.text());
        assert_eq!(run.code(), Some(code), "{run:#?}");
        assert_eq!(object["exitCode"], code, "{object:#}");
        assert_eq!(object["status"], status, "{object:#}");
        assert_eq!(object["reason"], reason, "{object:#}");
        assert_eq!(object["session"], known(&home)[0], "{object:#}");
        assert!(object["summary"]["durationMs"].as_u64().is_some_and(|ms| ms > 0), "{object:#}");
        assert!(object["summary"]["tokens"].is_object(), "{object:#}");
        assert!(object.get("detail").is_some(), "{object:#}");
        let escapes = run.stdout.contains(&0x1b) || run.stderr.contains('\x1b');
        assert!(!escapes, "{run:#?}");
    }
    let with_flag = home.aigo(["ps", "--all", "--json"]);
    let rows = json(&with_flag.stdout);
    assert_eq!(rows.as_array().map(Vec::len), Some(2), "{rows:#}");
}

#[test]
fn json_output_tells_a_timeout_and_a_failed_start_with_their_codes() {
    let Some(home) = Home::open() else { return };
    let graces = ["--timeout", "1s", "--save-grace", "0", "--close-grace", "100ms", "--term-grace", "100ms"];
    let late = home.command("sleep 60").flags(graces).output("json").finish();
    let object = json(&late.text());
    assert_eq!((late.code(), &object["exitCode"]), (Some(124), &124.into()), "{object:#}");
    assert_eq!(object["reason"], "wall_timeout", "{object:#}");
    let missing = home.command("true").flags(["--image", "aigo-no-such-image:latest"]).output("json").finish();
    let object = json(&missing.text());
    assert_eq!((missing.code(), &object["exitCode"]), (Some(3), &3.into()), "{object:#}");
    assert!(object["detail"].as_str().is_some_and(|detail| detail.contains("aigo image build")), "{object:#}");
}

#[test]
fn stream_json_is_gap_free_and_the_same_as_the_logs() {
    let Some(home) = Home::open() else { return };
    let script = Script::new().bash("echo one").say("two");
    let run = home.claude("hello", &script).finish().expect(Expect::FINISHED);
    let [id] = &known(&home)[..] else { panic!("one session") };
    assert_eq!(home.logs(id), run.events, "the store and the stream tell the same");
    let times: Vec<_> = run.events.iter().map(|event| event.at).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(run.tool_results(), [(false, "one")]);
}

#[test]
fn a_transcript_without_a_terminal_is_plain_lines() {
    let Some(home) = Home::open() else { return };
    let script = Script::new().bash("printf 'red\\033[31m\\n'").say("done");
    let run = home.claude("hello", &script).output("text").finish();
    assert_eq!(run.code(), Some(0), "{run:#?}");
    assert!(run.text().contains("done"), "{run:#?}");
    let control = |text: &str| text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert!(!control(&run.text()) && !control(&run.stderr), "{run:#?}");
    let shown = home.aigo(["logs", &known(&home)[0]]);
    assert!(!control(&shown.stdout), "{}", shown.stdout);
}

#[test]
fn a_reader_that_leaves_ends_the_session() {
    let Some(home) = Home::open() else { return };
    let script = "i=0; while [ $i -lt 600 ]; do echo line $i; i=$((i+1)); sleep 0.1; done";
    // The shell ends when both sides of the pipe have.
    let run = home.command(script).through(["sh", "-c", "\"$@\" | head -n 1", "sh"]).finish();
    assert_eq!(run.events.len(), 1, "{run:#?}");
    let [id] = &known(&home)[..] else { panic!("one session") };
    let events = home.logs(id);
    let Some(HostEvent::Ended { ending, .. }) = events.last().and_then(look::host) else {
        panic!("no end: {events:#?}")
    };
    assert!(ending.detail.as_ref().is_some_and(|detail| detail.contains("nobody reads")), "{ending:?}");
    assert_eq!(home.leftovers(), [] as [&str; 0], "also of what the engine was making in that moment");
}

#[test]
fn jq_reads_every_line() {
    let Some(home) = Home::open() else { return };
    home.command("printf 'caf\\303\\251 \\377\\n'").finish().expect(Expect::FINISHED);
    let said = home.aigo(["logs", "--json", &known(&home)[0]]);
    for line in said.stdout.lines() {
        let event = json(line);
        assert!(event["seq"].is_u64() && event["at"].is_string() && event["kind"].is_string(), "{line}");
    }
    // Not only our own reader: Python's is at hand on most hosts, in any case in the image.
    let file = home.write("events.jsonl", &said.stdout);
    let mount = format!("{}:/events.jsonl:ro", file.display());
    let run = ["run", "--rm", "--network", "none", "--entrypoint", "jq", "-v", &mount, &image()];
    let output = Command::new("docker").args(run).args(["-r", ".kind", "/events.jsonl"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), said.stdout.lines().count());
}
