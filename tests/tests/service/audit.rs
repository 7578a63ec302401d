//! The audit log: what changes something is in it once, with who asked, whichever way it came.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Uid;
use serde_json::{Value, json};
use tests::host::wait_until;
use tests::service::{API, command, text};
use tests::{Home, Request, Service};

/// An agent that answers each line.
const ECHO: &str = "echo up; while read -r line; do echo \"got $line\"; done";

/// The log, the oldest line first.
fn log(service: &Service) -> Vec<Value> {
    let mut lines = service.get("/audit-log?limit=1000").json()["items"].as_array().unwrap().clone();
    lines.reverse();
    lines
}

/// What was done to a session, by whom.
fn of_session(service: &Service, session: &str) -> Vec<(String, String)> {
    let lines = log(service).into_iter().filter(|line| line["session"] == session);
    lines.map(|line| (text(&line["action"]), text(&line["actor"]))).collect()
}

/// The actions, each by the same.
fn by(actor: &str, actions: &[&str]) -> Vec<(String, String)> {
    actions.iter().map(|action| ((*action).to_owned(), actor.to_owned())).collect()
}

fn me() -> String {
    format!("socket uid {}", Uid::current())
}

fn said(service: &Service, session: &str, wanted: &str) {
    assert!(service.watch(session, 0).any(|event| event.data.contains(wanted)), "{wanted} was not said");
}

#[test]
fn what_the_command_line_asks_is_in_it_once_as_what_comes_by_http_is() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let mut request = command(&home, ECHO);
    request["keepOpen"] = true.into();
    let by_cli = service.create(&request);
    said(&service, &by_cli, "up");
    assert_eq!(home.aigo(["send", &by_cli, "two"]).code, Some(0));
    said(&service, &by_cli, "got two");
    home.aigo(["interrupt", &by_cli]);
    assert_eq!(home.aigo(["stop", &by_cli]).code, Some(0));
    let lines = of_session(&service, &by_cli);
    assert!(lines[0].0 == "session.create" && lines[0].1.starts_with("api 127.0.0.1:"), "{lines:?}");
    assert_eq!(lines[1..], by(&me(), &["session.message", "session.interrupt", "session.close"]));
    let closed = log(&service).into_iter().find(|line| line["action"] == "session.close").unwrap();
    assert_eq!((&closed["decision"], &closed["reasons"]), (&json!("allowed"), &json!(["by aigo stop"])));

    let by_http = service.create(&request);
    said(&service, &by_http, "up");
    service.post(&format!("/sessions/{by_http}/messages"), &json!({"text": "two"}));
    service.ask(&Request::new("POST", &format!("{API}/sessions/{by_http}/cancel")));
    service.wait_for_end(&home, &by_http);
    let actions: Vec<String> = of_session(&service, &by_http).into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions, ["session.create", "session.message", "session.cancel"]);
}

#[test]
fn who_attends_is_in_it_too_and_who_is_killed_while_doing_so() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let mut run = home.command(ECHO).steered().start();
    run.wait_for_text("up");
    run.type_line("two");
    run.wait_for_text("got two");
    let session = run.session();
    kill(run.pid(), Signal::SIGKILL).unwrap();
    service.wait_for_end(&home, &session);
    let lines = of_session(&service, &session);
    assert_eq!(lines, by(&me(), &["session.create", "session.message", "session.close"]));
    drop(run);
}

#[test]
fn a_session_that_is_ended_without_a_service_is_in_it() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let session = service.create(&command(&home, "echo up; sleep 300"));
    said(&service, &session, "up");
    assert!(service.stop().success());
    assert_eq!(home.aigo(["stop", "--kill", &session]).code, Some(0));
    let service = Service::start(&home);
    let lines = of_session(&service, &session);
    assert_eq!(lines[1..], by(&format!("cli uid {}", Uid::current()), &["session.close"]));
}

#[test]
fn limits_are_in_it_with_their_values_and_reloads_with_what_has_changed() {
    let home = Home::without_engine();
    let config = home.write("config.toml", "[queue]\nlength = 5\n");
    let service = Service::configured(&home, &config);
    let limits = json!({"cpus": 0.5, "memoryBytes": 1 << 30, "pids": null});
    let put = Request::new("PUT", &format!("{API}/agents/builder")).json(&limits);
    assert_eq!(service.ask(&put).status, 200);
    let line = log(&service).pop().unwrap();
    let said = "cpus 0.5, memory 1g, pids unbounded; the rest as configured";
    assert_eq!((&line["action"], &line["reasons"][1]), (&json!("agent.limits"), &json!(said)), "{line}");

    for (text, decision, says) in [
        ("[queue]\nlength = 7\n", "allowed", "queue.length: 7 instead of 5"),
        ("[queue]\nlenght = 7\n", "denied", "did you mean `length`?"),
    ] {
        home.write("config.toml", text);
        kill(service.pid(), Signal::SIGHUP).unwrap();
        let line = wait_until("the reload", || {
            log(&service).pop().filter(|line| line["action"] == "config.reload" && line["decision"] == decision)
        });
        assert_eq!(line["actor"], "signal SIGHUP");
        assert!(line["reasons"].to_string().contains(says), "{line}");
    }
}

#[test]
fn a_flood_of_the_unauthorised_is_two_lines() {
    let home = Home::without_engine();
    let service = Service::start(&home);
    let foreign = Request::new("GET", &format!("{API}/sessions")).host("evil.example");
    for _ in 0..200 {
        assert_eq!(service.ask(&foreign).status, 403);
    }
    let first = wait_until("the first refusal", || log(&service).pop());
    assert_eq!((&first["action"], &first["decision"]), (&json!("request.refused"), &json!("denied")));
    assert!(first["reasons"][0].as_str().unwrap().contains("evil.example"), "{first}");
    assert_eq!(log(&service).len(), 1);
    // The others are written down together: after a minute, or when the service stops.
    assert!(service.stop().success());
    let service = Service::start(&home);
    let lines = log(&service);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let counted = |line: &Value| -> u64 {
        let more = line["reasons"][1].as_str().unwrap_or("the last of 1 that");
        more.trim_start_matches("the last of ").split(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(lines.iter().map(counted).sum::<u64>(), 200, "{lines:#?}");
}
