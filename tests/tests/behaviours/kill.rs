//! Ending what does not want to end: nothing is left, and the reason is a true one.

use supervisor::session::status::Status;
use tests::{Expect, Home, Look, host};

/// Enough of a bomb to know that it goes off.
const ENOUGH: usize = 50;

#[test]
fn a_cancel_ends_a_fork_bomb_with_its_setsid_children() {
    let Some(home) = Home::open() else { return };
    let marker = host::unique("bomb");
    // Each child leaves the process group, ignores SIGTERM and makes more of its kind; the agent itself only reads.
    let bomb = r#"trap "" TERM; while :; do setsid sh -c "$bomb" MARKER >/dev/null 2>&1 & done"#;
    let script = "export bomb; setsid sh -c \"$bomb\" MARKER & echo armed; read -r line".replace("MARKER", &marker);
    let bomb = format!("bomb={}", bomb.replace("MARKER", &marker));
    let run = home.command(&script).steered().flags(["--env", &bomb, "--pids", "200", "--cpus", "1"]).start();
    run.wait_for_text("armed");
    host::wait_until("the bomb", || (host::processes_with(&marker).len() >= ENOUGH).then_some(()));
    let said = home.aigo(["stop", "--kill", &run.session()]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let run = run.finish().expect(Expect::CANCELLED);
    assert!(run.detail().contains("aigo stop"), "{run:?}");
    assert_eq!(host::processes_with(&marker), []);
}

#[test]
fn what_an_agent_leaves_behind_ends_with_it() {
    let Some(home) = Home::open() else { return };
    let marker = host::unique("orphan");
    let script = format!(
        "setsid sh -c 'trap \"\" TERM; sleep 300; true' {marker} & (setsid sh -c 'sleep 300; true' {marker} &) ; echo done"
    );
    let run = home.command(&script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["done"]);
    assert_eq!(host::processes_with(&marker), []);
}

#[test]
fn an_agent_that_ignores_sigterm_is_killed() {
    let Some(home) = Home::open() else { return };
    let run = home.command("trap '' TERM; echo up; while :; do sleep 1; done").flags(["--term-grace", "1s"]).start();
    run.wait_for_text("up");
    let said = home.aigo(["stop", "--grace", "1s", &run.session()]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let run = run.finish().expect(Expect::CANCELLED);
    assert!(run.detail().contains("aigo stop"), "who ended it is said: {run:?}");
    // Its input had ended before: a command without more messages to come is closed at once.
    assert_eq!(run.escalations(), ["SIGTERM"], "{run:?}");
}

#[test]
fn an_agent_that_is_stopped_is_ended() {
    let Some(home) = Home::open() else { return };
    let marker = host::unique("stopped");
    let script = format!("sh -c 'kill -STOP $$; sleep 300' {marker} & echo up; kill -STOP $$");
    let run = home.command(&script).flags(["--term-grace", "1s"]).start();
    run.wait_for_text("up");
    let said = home.aigo(["stop", "--grace", "1s", &run.session()]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    run.finish().expect(Expect::CANCELLED);
    assert_eq!(host::processes_with(&marker), []);
}

#[test]
fn a_close_lets_an_agent_finish() {
    let Some(home) = Home::open() else { return };
    let run = home.command("echo up; cat > /dev/null; echo finished").steered().start();
    run.wait_for_text("up");
    run.wait_for_status(Status::Running);
    let said = home.aigo(["stop", "--json", &run.session()]);
    let row: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(
        (row["status"].as_str(), row["ending"]["reason"].as_str()),
        (Some("completed"), Some("closed")),
        "{row}"
    );
    let run = run.finish().expect(Expect::CLOSED);
    assert_eq!(run.texts(), ["up", "finished"]);
}
