//! `aigo ps`, `logs` and `stop`, from another terminal.

use std::process::Stdio;

use serde_json::Value;
use supervisor::session::event::SessionEvent;
use supervisor::session::status::Status;
use tests::{Expect, Home, Look};

fn list(home: &Home, flags: &[&str]) -> Vec<Value> {
    let said = home.aigo([&["ps", "--json"], flags].concat());
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn ps_lists_what_runs_and_on_demand_what_ended() {
    let Some(home) = Home::open() else { return };
    assert_eq!(list(&home, &[]), [Value::Null; 0]);
    let run = home.command("echo up; cat").steered().start();
    run.wait_for_status(Status::Running);
    let session = run.session();
    let rows = list(&home, &[]);
    let [row] = &rows[..] else { panic!("{rows:#?}") };
    assert_eq!(row["id"], session);
    assert_eq!(row["status"], "running");
    assert_eq!((&row["agent"], &row["program"]), (&"default".into(), &"command".into()));
    assert_eq!(row["workspace"].as_str(), home.workspace().canonicalize().unwrap().to_str());
    let text = home.aigo(["ps"]).stdout;
    assert!(text.contains(&session) && text.contains("running"), "{text}");
    home.aigo(["stop", "--all"]);
    run.finish().expect(Expect::CLOSED);
    assert_eq!(list(&home, &[]), [Value::Null; 0]);
    let rows = list(&home, &["--all"]);
    assert_eq!((rows[0]["status"].as_str(), rows[0]["ending"]["reason"].as_str()), (Some("completed"), Some("closed")));
}

#[test]
fn logs_tell_what_run_told_also_while_it_runs() {
    let Some(home) = Home::open() else { return };
    let run = home.command("echo one; while read -r line; do echo \"got $line\"; done").steered().start();
    run.wait_for_text("one");
    let session = run.session();
    let follow = home.aigo_command(["logs", "--follow", "--json", &session]).stdout(Stdio::piped()).spawn().unwrap();
    let text = home.aigo(["logs", &session]).stdout;
    assert!(text.contains("one"), "{text}");
    let said = home.aigo(["send", "--json", &session, "two"]);
    assert!(said.stdout.contains("\"ok\":true"), "{said:?}");
    run.wait_for_text("got two");
    let said = home.aigo(["stop", &session]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let run = run.finish().expect(Expect::CLOSED);
    let followed = follow.wait_with_output().unwrap();
    let followed: Vec<SessionEvent> =
        followed.stdout.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!(followed, run.events);
    assert_eq!(home.logs(&session[..6]), run.events, "the beginning of an id is enough");
    assert_eq!(run.texts(), ["one", "got two"]);
}

#[test]
fn a_session_that_does_not_run_cannot_be_stopped() {
    let Some(home) = Home::open() else { return };
    let said = home.aigo(["stop", "nosuchsession"]);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("aigo ps --all"), "{}", said.stderr);
}
