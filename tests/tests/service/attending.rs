//! `aigo` as a client of the service: it attends as if the session was its own, and may go at any moment.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use supervisor::session::event::SessionEvent;
use tests::host::wait_until;
use tests::service::command;
use tests::{Expect, Home, Look, Script, Service, Terminal, engine};

/// An agent that answers each line.
const ECHO: &str = "echo up; while read -r line; do echo \"got $line\"; done";
/// Who ends a session whose client was killed.
const CLIENT_GONE: &str = "the end of the aigo that it was started by";

/// `aigo logs --follow`, and its events so far.
struct Follow {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    seen: Vec<SessionEvent>,
}

impl Follow {
    fn start(home: &Home, session: &str) -> Self {
        let mut follow = home.aigo_command(["logs", "--follow", "--json", session]);
        let mut child = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, seen: Vec::new() }
    }

    fn until(&mut self, wanted: &str) {
        for line in self.lines.by_ref().map_while(Result::ok) {
            self.seen.push(serde_json::from_str(&line).unwrap());
            if line.contains(wanted) {
                return;
            }
        }
        panic!("{wanted} was not told: {:#?}", self.seen);
    }

    /// Its exit code, all its events, and what it said beside them.
    fn finish(mut self) -> (Option<i32>, Vec<SessionEvent>, String) {
        for line in self.lines.by_ref().map_while(Result::ok) {
            self.seen.push(serde_json::from_str(&line).unwrap());
        }
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), self.seen, String::from_utf8(output.stderr).unwrap())
    }
}

/// Starts a session by `aigo run --detach`: its id.
fn detached(home: &Home, script: &str) -> String {
    let workspace = home.workspace();
    let run = ["run", "--detach", "--keep-open", "--program", "command", "--image", &engine::image(), "--workspace"];
    let said = home.aigo([&run[..], &[workspace.to_str().unwrap(), "--", "sh", "-c", script]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    said.stdout.trim().to_owned()
}

#[test]
fn what_is_printed_and_how_it_ends_is_as_without_a_service() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let run = home.command("echo one; echo two; exit 3").finish().expect(Expect::AGENT_EXIT);
    assert_eq!(run.texts(), ["one", "two"]);
    assert_eq!(home.logs(service.sessions()[0]["id"].as_str().unwrap()), run.events, "it was the service's");
    home.command("sleep 60").flags(["--timeout", "1s", "--close-grace", "1s"]).finish().expect(Expect::WALL_TIMEOUT);
    home.claude("work", &Script::new().say("done")).finish().expect(Expect::FINISHED);
    let text = home.command("echo one; echo two; exit 3").output("text").finish();
    assert_eq!(text.code(), Some(1));
    assert!(text.text().starts_with("one\ntwo\n"), "{text:?}");
    let json: Value = serde_json::from_slice(&home.command("true").output("json").finish().stdout).unwrap();
    assert_eq!((&json["status"], &json["exitCode"]), (&"completed".into(), &0.into()), "{json}");
    home.command("true").flags(["--image", "no/such:image"]).finish().expect(Expect::IMAGE_MISSING);
    home.command("true").workspace("/").finish().expect_refusal(2, "workspace");
}

#[test]
fn a_person_at_a_terminal_types_interrupts_and_kills() {
    let Some(home) = Home::open() else { return };
    let _service = Service::start(&home);
    let mut terminal = Terminal::open(home.command(ECHO).flags(["--keep-open"]));
    terminal.wait_for("up");
    terminal.type_line("hello there");
    terminal.wait_for("got hello there");
    terminal.ctrl_d();
    let (status, shown) = terminal.finish();
    assert_eq!(status.code(), Some(0), "{shown}");

    let deaf = home.command("trap '' INT TERM; echo up; while :; do sleep 1; done").flags(["--keep-open"]);
    let mut terminal = Terminal::open(deaf);
    terminal.wait_for("up");
    terminal.ctrl_c();
    terminal.wait_for("interrupting");
    terminal.ctrl_c();
    terminal.wait_for("ending the session (Ctrl-C)");
    terminal.ctrl_c();
    let (status, shown) = terminal.finish();
    assert_eq!(status.code(), Some(130), "{shown}");
    assert!(shown.contains("cancelled"), "{shown}");
}

#[test]
fn an_interrupt_without_a_terminal_ends_the_session() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let run = home.command(ECHO).steered().start();
    run.wait_for_text("up");
    run.signal(Signal::SIGINT);
    // In mid-work: a program has no turns that could end.
    run.finish().expect(Expect::CANCELLED);
    assert_eq!(service.sessions()[0]["reason"], "cancelled");
}

#[test]
fn a_client_that_is_killed_leaves_no_session_and_one_that_was_detached_does() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let run = home.command(ECHO).steered().start();
    run.wait_for_text("up");
    let session = run.session();
    run.signal(Signal::SIGKILL);
    let ended = service.wait_for_end(&home, &session);
    assert_eq!(ended["reason"], "closed", "{ended}");
    let events = service.events(&session, 0);
    assert!(
        events.iter().any(|event| event.name == "end_requested" && event.data.contains(CLIENT_GONE)),
        "{events:#?}"
    );
    drop(run);

    let session = detached(&home, ECHO);
    let mut follow = Follow::start(&home, &session);
    follow.until("\"up\"");
    let sent = home.aigo(["send", &session, "two"]);
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    follow.until("got two");
    assert_eq!(home.aigo(["stop", &session]).code, Some(0));
    let (code, events, said) = follow.finish();
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(events, home.logs(&session), "all of it, once");
}

#[test]
fn logs_follow_a_session_over_the_death_of_its_service() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let session = detached(&home, "echo up; until [ -e go ]; do sleep 0.1; done; echo later");
    let mut follow = Follow::start(&home, &session);
    follow.until("\"up\"");
    service.kill();
    std::thread::sleep(std::time::Duration::from_secs(1));
    home.put("go", "");
    let service = Service::start(&home);
    follow.until("later");
    service.wait_for_end(&home, &session);
    let (code, events, said) = follow.finish();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the service is away"), "{said}");
    assert_eq!(events, home.logs(&session), "all of it, once");
}

#[test]
fn logs_follow_a_session_that_waits_for_room() {
    let Some(home) = Home::open() else { return };
    let config = home.write("config.toml", "[limits]\nmax-sessions = 1\n");
    let service = Service::configured(&home, &config);
    let first = detached(&home, ECHO);
    let waits = detached(&home, "echo at last");
    let mut follow = Follow::start(&home, &waits);
    follow.until("\"queued\"");
    assert_eq!(home.aigo(["stop", &first]).code, Some(0));
    follow.until("at last");
    assert_eq!(home.aigo(["stop", &waits]).code, Some(0));
    assert_eq!(follow.finish().0, Some(0));
    service.wait_for_end(&home, &waits);
}

#[test]
fn a_message_that_is_refused_ends_with_1() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let mut request = command(&home, "trap '' TERM; echo up; while :; do sleep 1; done");
    request["keepOpen"] = true.into();
    let session = service.create(&request);
    assert!(service.watch(&session, 0).any(|event| event.data.contains("up")));
    service.post(&format!("/sessions/{session}/close"), &serde_json::json!({"graceSecs": 600}));
    wait_until("the session to close", || {
        (service.get(&format!("/sessions/{session}")).json()["status"] == "closing").then_some(())
    });
    for json in [false, true] {
        let said = home.aigo(["send", &session, "too late"].into_iter().chain(json.then_some("--json")));
        assert_eq!(said.code, Some(1), "{said:?}");
    }
    assert_eq!(home.aigo(["stop", "--kill", &session]).code, Some(0));
    // The end is stored before the session's folder goes, and the service is not to die in between.
    wait_until("the session's folder to be gone", || home.leftovers().is_empty().then_some(()));
}

#[test]
fn events_that_are_gone_are_named() {
    let Some(home) = Home::open() else { return };
    let run = home.command("echo one; echo two; echo three").finish().expect(Expect::FINISHED);
    let rows: Value = serde_json::from_str(&home.aigo(["ps", "--all", "--json"]).stdout).unwrap();
    let session = rows[0]["id"].as_str().unwrap().to_owned();
    let count = run.events.len() as u64;
    let gone = |range: &str| {
        let store = rusqlite::Connection::open(home.data().join("aigo.db")).unwrap();
        store.execute(&format!("DELETE FROM events WHERE session = ?1 AND {range}"), [&session]).unwrap();
    };
    gone("seq BETWEEN 2 AND 4");
    let text = "[events 2 to 4 are no longer stored]\n";
    let json = r#"{"from":2,"kind":"gap","to":4}"#;
    for (arguments, says) in [
        (&["logs"][..], text),
        (&["export"], text),
        (&["logs", "--json"], json),
        (&["export", "--format", "jsonl"], json),
    ] {
        let said = home.aigo([arguments, &[session.as_str()]].concat());
        assert!(said.code == Some(0) && said.stdout.contains(says), "{arguments:?}: {said:?}");
    }
    let shown = home.aigo(["show", &session]).stdout;
    assert!(shown.contains(&format!("{}, 3 more are no longer stored", count - 3)), "{shown}");
    assert!(!shown.lines().any(|line| line.starts_with("started") && line.contains('.')), "no nanoseconds: {shown}");
    gone("seq >= 5");
    let said = home.aigo(["logs", "--follow", &session]);
    assert!(said.stdout.ends_with("[the events from 2 on are no longer stored]\n"), "{said:?}");
}
