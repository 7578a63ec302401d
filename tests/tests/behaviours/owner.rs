//! The process that owns a session dies, is told to end, or loses its engine: no container outlives its session.

use std::time::SystemTime;

use nix::sys::signal::Signal;
use supervisor::session::doubt;
use supervisor::session::event::{HostEvent, LaunchStep};
use supervisor::session::status::{EndReason, Status};
use tests::wire::Wire;
use tests::{Expect, Home, Look, Run, host, look};

/// A session whose agent goes on in spite of everything, and says `two` and sends `three` when the file `go` is there.
fn long_runner(home: &Home) -> Run<'_> {
    let send = r#"printf '{"type":"message","text":"three"}' > ipc/messages/three.json"#;
    let wait = "while [ ! -e go ]; do sleep 0.1; done";
    let run = home.command(&format!("echo one; {wait}; {send}; echo two; exec sleep 300")).start();
    run.wait_for_text("one");
    run
}

fn kill(run: Run<'_>) {
    run.signal(Signal::SIGKILL);
    assert_eq!(run.finish().signal(), Some(Signal::SIGKILL as i32));
}

/// What the store says of a session whose owner died.
fn was_cleared_away(home: &Home, session: &str) -> Vec<String> {
    let events = home.logs(session);
    let Some(HostEvent::Ended { status, ending, .. }) = events.last().and_then(look::host) else {
        panic!("the last event is no end: {events:#?}")
    };
    assert_eq!((*status, &ending.reason), (Status::Cancelled, &EndReason::Cancelled), "{events:#?}");
    assert!(events.iter().zip(1..).all(|(event, number)| event.seq == number), "{events:#?}");
    events.texts().into_iter().map(str::to_owned).collect()
}

#[test]
fn sigterm_closes_the_session() {
    let Some(home) = Home::open() else { return };
    let run = home.command("echo up; cat; echo closed").steered().start();
    run.wait_for_text("up");
    run.signal(Signal::SIGTERM);
    let run = run.finish().expect(Expect::CLOSED);
    assert_eq!(run.texts(), ["up", "closed"]);
}

#[test]
fn a_second_sigterm_cancels_it() {
    let Some(home) = Home::open() else { return };
    let run = home.command("echo up; trap '' TERM; while :; do sleep 1; done").start();
    run.wait_for_text("up");
    run.signal(Signal::SIGTERM);
    run.wait_for("the close", |event| matches!(look::host(event), Some(HostEvent::EndRequested { .. })));
    run.signal(Signal::SIGTERM);
    run.finish().expect(Expect::CANCELLED);
}

#[test]
fn sighup_closes_the_session() {
    let Some(home) = Home::open() else { return };
    let run = home.command("echo up; cat; echo closed").steered().start();
    run.wait_for_text("up");
    run.signal(Signal::SIGHUP);
    run.finish().expect(Expect::CLOSED);
}

#[test]
fn ctrl_c_without_a_terminal_closes_the_session() {
    let Some(home) = Home::open() else { return };
    let run = home.command("trap 'echo interrupted' INT; echo up; cat; cat; echo closed").steered().start();
    run.wait_for_text("up");
    run.signal(Signal::SIGINT);
    run.finish().expect(Expect::CLOSED);
}

#[test]
fn a_session_that_is_told_to_end_while_it_comes_up_leaves_nothing() {
    let Some(home) = Home::open() else { return };
    let run = home.command("exec sleep 300").start();
    run.wait_for("the network", |event| {
        matches!(look::host(event), Some(HostEvent::LaunchStep { step: LaunchStep::Network, .. }))
    });
    run.signal(Signal::SIGTERM);
    let run = run.finish();
    // It may have come up just before; then it is closed, by SIGTERM in the end.
    assert_eq!(run.ended().1.reason, EndReason::Cancelled, "{run:?}");
    assert_eq!(run.code(), Some(130));
}

#[test]
fn nobody_who_reads_ends_the_session() {
    let Some(home) = Home::open() else { return };
    let script = "for i in $(seq 1000); do echo line $i; sleep 0.1; done";
    let run = home.command(script).through(["sh", "-c", "\"$@\" | head -n 12", "sh"]).finish();
    assert_eq!((run.code(), run.events.len()), (Some(0), 12), "{run:?}");
}

#[test]
fn the_next_run_clears_away_what_a_killed_aigo_left() {
    let Some(home) = Home::open() else { return };
    let run = long_runner(&home);
    let session = run.session();
    kill(run);
    assert_eq!(home.containers().len(), 1, "the container stays for the moment");
    home.put("go", "");
    let journal = home.data().join("sessions").join(&session).join("record/events");
    host::wait_until("words that no aigo heard", || {
        let files = std::fs::read_dir(&journal).ok()?.flatten();
        files.flat_map(|file| std::fs::read_to_string(file.path())).any(|text| text.contains("\"two\"")).then_some(())
    });
    let next = home.command("echo next").finish();
    assert!(next.stderr.contains(&session), "it is said: {}", next.stderr);
    next.expect(Expect::FINISHED);
    assert_eq!(home.leftovers(), [""; 0]);
    assert_eq!(was_cleared_away(&home, &session), ["one", "two"], "nothing that the agent said is lost");
    let events = home.logs(&session);
    let sent = |event| matches!(look::host(event), Some(HostEvent::Message { body, .. }) if body.text == "three");
    assert!(events.iter().any(sent), "nor what it sent: {events:#?}");
    let Some(HostEvent::Ended { summary, .. }) = events.last().and_then(look::host) else { panic!("{events:#?}") };
    assert!(summary.duration_ms > 0, "{summary:?}");
}

#[test]
fn stop_clears_away_what_a_killed_aigo_left() {
    let Some(home) = Home::open() else { return };
    let run = long_runner(&home);
    let session = run.session();
    kill(run);
    let said = home.aigo(["stop", "--json", &session]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("\"cancelled\""), "{}", said.stdout);
    assert_eq!(was_cleared_away(&home, &session), ["one"]);
}

#[test]
fn a_kill_while_the_session_comes_up_leaves_nothing_behind_for_long() {
    let Some(home) = Home::open() else { return };
    for wanted in [LaunchStep::Network, LaunchStep::Container, LaunchStep::Start] {
        let run = home.command("exec sleep 300").start();
        run.wait_for(
            &format!("{wanted:?}"),
            |event| matches!(look::host(event), Some(HostEvent::LaunchStep { step, .. }) if *step == wanted),
        );
        let session = run.session();
        kill(run);
        home.command("true").finish().expect(Expect::FINISHED);
        // The engine may have been asked for something when its client died, and have made it after that start.
        let mark = home.data().join("sessions").join(&session).join("in-doubt");
        if let Ok(mark) = std::fs::File::options().write(true).open(mark) {
            mark.set_modified(SystemTime::now() - doubt::SETTLED).unwrap();
            home.command("true").finish().expect(Expect::FINISHED);
        }
        assert_eq!(home.leftovers(), [""; 0], "after a kill at {wanted:?}");
        was_cleared_away(&home, &session);
    }
}

#[test]
fn an_engine_that_goes_away_ends_the_session_and_the_next_run_clears_up() {
    let Some(home) = Home::open() else { return };
    let wire = Wire::new(home.root());
    let run = home.command("echo up; exec sleep 300").env("DOCKER_HOST", wire.address()).start();
    run.wait_for_text("up");
    wire.cut();
    let run = run.finish().expect(Expect::ENGINE_LOST);
    assert!(run.warnings().contains(&"left_behind"), "what could not be removed is said: {run:?}");
    // The engine is back.
    home.command("true").finish().expect(Expect::FINISHED);
    assert_eq!(home.leftovers(), [""; 0]);
}
