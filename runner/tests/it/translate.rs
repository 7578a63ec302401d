//! Recorded streams of the Claude Code CLI, and one made by hand, parse into our events without loss.

use std::fs;
use std::path::{Path, PathBuf};

use ipc_protocol::event::{Event, EventKind, OutputStream};
use proptest::prelude::*;
use runner::adapter::{MAX_CLAUDE_LINE_BYTES, Translator};
use runner::lines::split_all;
use serde_json::Value;

/// Types of lines that say again what another line says; see `translate.rs`.
const MERGED: [&str; 2] = ["stream_event", "command_lifecycle"];

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/claude");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 19, "fixtures are missing");
    let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

fn translate<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<EventKind> {
    let mut translator = Translator::default();
    split_all(MAX_CLAUDE_LINE_BYTES, chunks).iter().flat_map(|line| translator.line(line).events).collect()
}

fn blocks(line: &Value) -> &[Value] {
    line["message"]["content"].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[test]
fn every_line_of_every_stream_yields_an_event() {
    for (name, bytes) in fixtures() {
        let mut translator = Translator::default();
        for line in split_all(MAX_CLAUDE_LINE_BYTES, [&bytes[..]]) {
            let events = translator.line(&line).events;
            let text = String::from_utf8_lossy(&line.bytes);
            let kind = serde_json::from_str::<Value>(&text).ok().and_then(|v| v["type"].as_str().map(str::to_owned));
            let merged = text.is_empty() || kind.as_deref().is_some_and(|kind| MERGED.contains(&kind));
            assert_eq!(events.is_empty(), merged, "{name}: {text}");
        }
    }
}

#[test]
fn results_tool_uses_and_texts_are_counted_one_to_one() {
    for (name, bytes) in fixtures() {
        let lines: Vec<Value> =
            bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let of_type = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
        let tool = |kind: &str| lines.iter().flat_map(blocks).filter(|block| block["type"] == kind).count();
        let events = translate([&bytes[..]]);
        let count = |is: fn(&EventKind) -> bool| events.iter().filter(|event| is(event)).count();
        assert_eq!(count(|e| matches!(e, EventKind::TurnFinished(_))), of_type("result"), "{name}");
        let calls = tool("tool_use") + tool("server_tool_use");
        assert_eq!(count(|e| matches!(e, EventKind::ToolCall { .. })), calls, "{name}");
        let results = tool("tool_result") + tool("web_search_tool_result");
        assert_eq!(count(|e| matches!(e, EventKind::ToolResult { .. })), results, "{name}");
    }
}

#[test]
fn turns_alternate_and_count() {
    for (name, bytes) in fixtures() {
        let (mut turn, mut open) = (0, false);
        for event in translate([&bytes[..]]) {
            match event {
                EventKind::TurnStarted { turn: number, .. } => {
                    assert!(!open, "{name}");
                    (turn, open) = (turn + 1, true);
                    assert_eq!(number, turn, "{name}");
                }
                EventKind::TurnFinished(finished) => {
                    assert!(open, "{name}");
                    open = false;
                    assert_eq!(finished.turn, turn, "{name}");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn usage_adds_up_to_the_turns() {
    for (name, bytes) in fixtures().into_iter().filter(|(name, _)| !name.starts_with("made-")) {
        let (mut by_model, mut by_turn) = (0, 0);
        for event in translate([&bytes[..]]) {
            match event {
                EventKind::Usage { tokens, .. } => by_model += tokens.input + tokens.output,
                EventKind::TurnFinished(finished) => by_turn += finished.tokens.input + finished.tokens.output,
                _ => {}
            }
        }
        assert_eq!(by_model, by_turn, "{name}");
    }
}

#[test]
fn the_binary_prints_numbered_events() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/claude/steering-midturn.jsonl");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_aigo-runner"))
        .args(["translate", "claude"])
        .stdin(fs::File::open(fixture).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let events: Vec<Event> =
        output.stdout.split_inclusive(|&byte| byte == b'\n').map(|line| Event::parse(line).unwrap()).collect();
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq));
    assert_eq!(events.iter().filter(|event| matches!(event.kind, EventKind::TurnFinished(_))).count(), 1);
}

#[test]
fn invalid_bytes_do_not_lose_a_line() {
    let events = translate([
        &b"{\"type\":\"assistant\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"a\xffb\"}]}}\n\xfe\n"[..],
    ]);
    assert!(matches!(&events[1], EventKind::Text { body, .. } if body.text == "a\u{fffd}b"), "{events:?}");
    assert!(matches!(&events[2], EventKind::Output { stream: OutputStream::Stdout, .. }), "{events:?}");
}

#[test]
fn snapshots() {
    for name in ["interrupt-with-queued", "api-error-then-next-turn", "made-partial-subagent-unknown"] {
        let (_, bytes) = fixtures().into_iter().find(|(fixture, _)| fixture == name).unwrap();
        insta::assert_json_snapshot!(name, translate([&bytes[..]]));
    }
}

proptest! {
    #[test]
    fn cuts_anywhere_change_nothing(which in 0usize..100, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let fixtures = fixtures();
        let (_, bytes) = &fixtures[which % fixtures.len()];
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
        prop_assert_eq!(translate(chunks), translate([&bytes[..]]));
    }

    #[test]
    fn no_bytes_can_make_it_fail(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        translate([&bytes[..]]);
    }
}
