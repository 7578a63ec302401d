//! The runner with the `command` adapter, from its start to its end.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, Place, is_alive, until_gone};
use ipc_protocol::config::CommandOutput;
use ipc_protocol::event::{ClosingReason, EventKind, OutputStream, SetupStep, StepState};
use ipc_protocol::exit::RunnerExit;
use ipc_protocol::limits::MAX_UNREAD_SEGMENTS;
use ipc_protocol::status::RunnerState;
use nix::sys::signal::Signal;

#[test]
fn a_session_from_start_to_end() {
    let place = Place::command(&["cat"], CommandOutput::Lines);
    let mut runner = place.start();
    runner.until_ready();
    runner.send("m1", "hello");
    runner.until_text("hello");
    runner.outbox.close().unwrap();
    assert_eq!(runner.end(), RunnerExit::Done);
    assert!(matches!(runner.events[0].kind, EventKind::RunnerStarted { version: 2, .. }));
    assert!(runner.events.iter().zip(1..).all(|(event, seq)| event.seq == seq));
    let steps: Vec<SetupStep> = runner
        .events
        .iter()
        .filter_map(|event| match event.kind {
            EventKind::SetupStep { step, .. } => Some(step),
            _ => None,
        })
        .collect();
    use SetupStep::{Agent, Config, Home, Identity, Ipc, Preflight, Workspace};
    assert_eq!(steps, [Config, Ipc, Identity, Home, Workspace, Preflight, Agent]);
    let at = |fits: fn(&EventKind) -> bool| runner.events.iter().position(|event| fits(&event.kind)).unwrap();
    let order = [
        at(|kind| matches!(kind, EventKind::AgentStarted { .. })),
        at(|kind| matches!(kind, EventKind::Ready {})),
        at(|kind| matches!(kind, EventKind::InputAccepted { .. })),
        at(|kind| matches!(kind, EventKind::Closing { reason: ClosingReason::Close })),
        at(|kind| matches!(kind, EventKind::AgentExited { code: Some(0), signal: None })),
        at(|kind| matches!(kind, EventKind::RunnerExiting { code: 0 })),
    ];
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(order[5], runner.events.len() - 1);
    let left: Vec<_> = fs::read_dir(place.path("ipc/input")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["_close"]);
    let status = place.host().status().unwrap().unwrap();
    assert_eq!((status.state, status.last_seq), (RunnerState::Exiting, runner.events.len() as u64));
}

#[test]
fn messages_before_close_are_all_taken() {
    let place = Place::sh("sleep 0.3; cat");
    let mut runner = place.start();
    for n in 0..50 {
        runner.send(&format!("m{n}"), &format!("text {n}"));
    }
    runner.outbox.close().unwrap();
    assert_eq!(runner.end(), RunnerExit::Done);
    let expected: Vec<String> = (0..50).map(|n| format!("text {n}")).collect();
    assert_eq!(runner.texts(), expected);
    assert_eq!(runner.accepted().len(), 50);
}

#[test]
fn a_long_message_comes_in_parts_and_whole() {
    let place = Place::sh("head -c 3000001 | wc -c");
    let mut runner = place.start();
    runner.send("long", &"x".repeat(3_000_000));
    runner.until_accepted("long");
    runner.until_text("3000001");
    assert_eq!(runner.end(), RunnerExit::Done);
    assert_eq!(runner.accepted(), ["long"]);
}

#[test]
fn how_the_agent_ends_is_told() {
    for (script, exit, code, signal) in [
        ("exit 0", RunnerExit::Done, Some(0), None),
        ("exit 3", RunnerExit::AgentFailed, Some(3), None),
        ("kill -9 $$", RunnerExit::AgentSignalled, None, Some(9)),
    ] {
        let mut runner = Place::sh(script).start();
        assert_eq!(runner.end(), exit, "{script}");
        assert!(runner.has(|kind| *kind == EventKind::AgentExited { code, signal }), "{:?}", runner.events);
        assert!(runner.has(|kind| *kind == EventKind::Closing { reason: ClosingReason::AgentExit }));
    }
}

#[test]
fn sigterm_ends_a_stubborn_agent_and_its_hidden_children() {
    let place = Place::sh(
        "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ > hidden; while :; do sleep 1; done' & \
         while :; do sleep 1; done",
    );
    let mut runner = place.start();
    let pid = loop {
        runner.until_ready();
        match fs::read_to_string(place.path("workspace/hidden")).ok().and_then(|text| text.trim().parse().ok()) {
            Some(pid) => break pid,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    assert!(is_alive(pid));
    let begun = Instant::now();
    runner.signal(Signal::SIGTERM);
    assert_eq!(runner.end(), RunnerExit::Terminated);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(runner.has(|kind| *kind == EventKind::Closing { reason: ClosingReason::Signal }));
    assert!(runner.has(|kind| *kind == EventKind::AgentExited { code: None, signal: Some(9) }));
    until_gone(pid);
}

#[test]
fn a_polite_agent_gets_its_grace() {
    let place = Place::sh("trap 'echo saved; exit 5' TERM; echo up; while :; do sleep 0.05; done");
    let mut runner = place.start();
    runner.until_text("up");
    runner.signal(Signal::SIGTERM);
    assert_eq!(runner.end(), RunnerExit::Terminated);
    assert_eq!(runner.texts(), ["up", "saved"]);
}

#[test]
fn an_interrupt_reaches_the_whole_group() {
    let place = Place::sh("trap 'echo stopped' INT; echo up; while read line; do :; done; sleep 30; echo after; cat");
    let mut runner = place.start();
    runner.until_text("up");
    runner.interrupt("i1");
    runner.until_accepted("i1");
    runner.until_text("stopped");
    runner.signal(Signal::SIGTERM);
    assert_eq!(runner.end(), RunnerExit::Terminated);
}

#[test]
fn a_killed_worker_takes_everything_with_it() {
    let mut runner = Place::sh("setsid sleep 1000 & echo $!; exec sleep 1000").start();
    runner.until("text", |kind| matches!(kind, EventKind::Text { .. }));
    let hidden: u32 = runner.texts()[0].parse().unwrap();
    let worker = fs::read_to_string(format!("/proc/{0}/task/{0}/children", runner.child.id())).unwrap();
    let worker: i32 = worker.split_whitespace().next().unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    assert_eq!(runner.end(), RunnerExit::Internal);
    until_gone(hidden);
}

#[test]
fn orphans_are_reaped() {
    let place = Place::sh("for n in 1 2 3 4 5 6 7 8 9; do (sh -c 'exit 0' &) ; done; sleep 0.3; echo done; cat");
    let mut runner = place.start();
    runner.until_text("done");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", runner.child.id())).unwrap();
    assert_eq!(children.split_whitespace().count(), 1, "{children}");
    runner.outbox.close().unwrap();
    assert_eq!(runner.end(), RunnerExit::Done);
}

#[test]
fn what_cannot_be_taken_is_dropped_by_name() {
    let place = Place::sh("sleep 0.5; exit 0");
    let mut runner = place.start();
    runner.until_ready();
    fs::write(place.path("ipc/input/1760000000000-000000-abcd.json"), r#"{"type":"nonsense"}"#).unwrap();
    runner.until("drop", |kind| matches!(kind, EventKind::InputDropped { .. }));
    assert_eq!(runner.dropped()[0].0, "1760000000000-000000-abcd");
    // A message bigger than a pipe, which nobody reads.
    runner.send("big", &"x".repeat(200_000));
    runner.send("next", "x");
    assert_eq!(runner.end(), RunnerExit::Done);
    let dropped: Vec<&str> = runner.dropped().iter().map(|(id, _)| *id).collect();
    assert_eq!(dropped[1..], ["big", "next"]);
    assert!(fs::read_dir(place.path("ipc/input")).unwrap().next().is_none());
}

#[test]
fn a_restarted_runner_goes_on_and_takes_nothing_twice() {
    let place = Place::sh("read line; echo \"got $line\"");
    let mut runner = place.start();
    runner.send("m1", "one");
    assert_eq!(runner.end(), RunnerExit::Done);
    let (cursor, last) = (runner.cursor(), runner.events.len() as u64);
    let mut runner = place.start_at(cursor);
    runner.send("m1", "one again");
    runner.send("m2", "two");
    assert_eq!(runner.end(), RunnerExit::Done);
    assert_eq!(runner.events[0].seq, last + 1);
    assert_eq!(runner.texts(), ["got two"]);
    assert_eq!(runner.accepted(), ["m2"]);
}

#[test]
fn an_input_that_is_written_again_is_taken_once() {
    // It reads nothing for a moment, so that the input waits.
    let mut runner = Place::sh("sleep 0.5; while read line; do echo ${#line}; done").start();
    runner.send("m1", &"x".repeat(200_000));
    runner.send("m2", "second");
    for _ in 0..20 {
        runner.lose_inputs();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let missing = runner.outbox.missing().unwrap();
        runner.outbox.repair(missing).unwrap();
    }
    runner.outbox.close().unwrap();
    assert_eq!(runner.end(), RunnerExit::Done);
    assert_eq!(runner.texts(), ["200000", "6"]);
    assert_eq!(runner.accepted(), ["m1", "m2"]);
}

#[test]
fn output_is_kept_apart_and_characters_whole() {
    let place = Place::sh(r"printf 'a\303'; sleep 0.2; printf '\251b\n'; printf 'err\377\n' >&2; printf last");
    let mut runner = place.start();
    assert_eq!(runner.end(), RunnerExit::Done);
    assert_eq!(runner.texts(), ["aéb", "last"]);
    assert!(runner.has(|kind| matches!(kind,
        EventKind::Output { stream: OutputStream::Stderr, body } if body.text == "err\u{fffd}")));
}

#[test]
fn a_line_without_end_is_cut() {
    let mut runner = Place::sh("head -c 5000000 /dev/zero | tr '\\0' x; echo; echo next").start();
    assert_eq!(runner.end(), RunnerExit::Done);
    let texts = runner.texts();
    assert_eq!((texts[0].len(), texts[1]), (256 * 1024, "next"));
    assert!(runner.has(|kind| matches!(kind, EventKind::Text { body, .. } if body.full_bytes == Some(5_000_000))));
}

#[test]
fn json_output_makes_turns() {
    let script = r#"while read line; do echo '{"kind":"text","text":"hi"}'; echo '{"kind":"turn_finished","turn":0,"outcome":"success","text":"done"}'; done"#;
    let place = Place::command(&["/bin/sh", "-c", script], CommandOutput::Json);
    let mut runner = place.start();
    runner.send("m1", "one");
    runner.until("turn", |kind| matches!(kind, EventKind::TurnFinished(f) if f.turn == 1 && f.inputs == ["m1"]));
    runner.outbox.close().unwrap();
    assert_eq!(runner.end(), RunnerExit::Done);
}

#[test]
fn a_hundred_megabytes_stream_through_a_host_that_reads() {
    let mut runner = Place::sh(&format!("yes {} | head -c 100000000", "x".repeat(999))).start();
    let deadline = Instant::now() + 3 * DEADLINE;
    let (mut bytes, mut most_rss) = (0, 0);
    let worker = format!("/proc/{0}/task/{0}/children", runner.child.id());
    while runner.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline);
        runner.read();
        for event in runner.events.drain(..) {
            if let EventKind::Text { body, .. } = event.kind {
                bytes += body.text.len() + 1;
            }
        }
        let pid = fs::read_to_string(&worker).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(str::trim);
        most_rss = most_rss.max(rss.and_then(|kb| kb.strip_suffix(" kB")?.parse().ok()).unwrap_or(0));
    }
    assert_eq!(runner.end(), RunnerExit::Done);
    for event in &runner.events {
        if let EventKind::Text { body, .. } = &event.kind {
            bytes += body.text.len() + 1;
        }
    }
    assert_eq!(bytes, 100_000_000);
    assert!(most_rss > 0 && most_rss < 64 * 1024, "{most_rss} kB");
}

#[test]
fn a_host_that_does_not_read_stops_the_agent_but_not_the_runner() {
    let place = Place::sh(&format!("yes {}", "x".repeat(9_999)));
    let mut runner = place.start();
    runner.prune = false;
    let segments = || fs::read_dir(place.path("record/events")).unwrap().count();
    let deadline = Instant::now() + 3 * DEADLINE;
    while segments() < MAX_UNREAD_SEGMENTS {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(segments(), MAX_UNREAD_SEGMENTS);
    runner.send("m1", "are you there");
    let begun = Instant::now();
    while fs::read_dir(place.path("ipc/input")).unwrap().next().is_some() {
        assert!(begun.elapsed() < DEADLINE, "the input is not taken");
        std::thread::sleep(Duration::from_millis(5));
    }
    runner.signal(Signal::SIGTERM);
    runner.prune = true;
    assert_eq!(runner.end(), RunnerExit::Terminated);
    assert_eq!(runner.accepted(), ["m1"]);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let mut runner = Place::command(&["no-such-agent"], CommandOutput::Lines).start();
    assert_eq!(runner.end(), RunnerExit::SetupFailed);
    assert!(runner.has(|kind| matches!(kind,
        EventKind::SetupStep { step: SetupStep::Agent, state: StepState::Failed, detail: Some(detail) }
            if detail.contains("no-such-agent") && detail.contains("is it in the image?"))));
    assert!(runner.has(|kind| matches!(kind, EventKind::RunnerExiting { code: 71 })));
}
