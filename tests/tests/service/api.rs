//! What the API says and does.

use serde_json::json;
use tests::http::Reply;
use tests::service::{API, claude, command, text};
use tests::{Home, Request, Script, Service};

use crate::support::{texts, whole};

/// A path of a session that is not there.
const NOBODY: &str = "/sessions/0123456789ab";

/// Waits for a text of the agent's.
fn wait_for_text(service: &Service, session: &str, wanted: &str) {
    assert!(service.watch(session, 0).any(|event| event.data.contains(wanted)), "{wanted} was not said");
}

#[track_caller]
fn is_problem(reply: &Reply, status: u16, kind: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{reply:?}");
    let problem = reply.json();
    assert_eq!(problem["type"], format!("urn:aigo:problem:{kind}"), "{problem}");
    assert_eq!(problem["status"], status, "{problem}");
    assert!(!text(&problem["detail"]).is_empty(), "{problem}");
}

#[test]
fn a_session_is_started_watched_and_remembered() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let reply = service.post("/sessions", &command(&home, "echo one; echo two; exit 3"));
    assert_eq!(reply.status, 201, "{reply:?}");
    let id = text(&reply.json()["id"]);
    assert_eq!(reply.header("location"), Some(format!("{API}/sessions/{id}").as_str()));
    let events = service.events(&id, 0);
    let values = whole(&events);
    assert_eq!(texts(&values), ["one", "two"]);
    assert!(events.iter().zip(&values).all(|(event, value)| value["kind"] == event.name.as_str()), "{events:#?}");
    for seen in [1, 4, events.len() - 1] {
        assert_eq!(service.events(&id, seen as u64), events[seen..], "after {seen}");
    }
    let session = service.wait_for_end(&home, &id);
    assert_eq!((&session["status"], &session["reason"]), (&json!("failed"), &json!("agent_exit")), "{session}");

    let run = &service.get("/run-history").json()["items"][0];
    assert_eq!((&run["id"], &run["exitCode"], &run["kind"]), (&json!(id), &json!(3), &json!("session")), "{run}");
    let line = &service.get("/audit-log").json()["items"][0];
    assert_eq!((&line["action"], &line["decision"]), (&json!("session.create"), &json!("allowed")), "{line}");
    assert_eq!(line["session"], json!(id), "{line}");
    let logs = service.get(&format!("/sessions/{id}/logs"));
    assert_eq!(logs.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(logs.body.contains("one\n") && logs.body.contains("two\n"), "{}", logs.body);
    assert_eq!(service.get("/metrics").status, 200);
    let figures = service.get("//metrics");
    assert!(figures.header("content-type").unwrap().starts_with("application/openmetrics-text"), "{figures:?}");
    assert!(figures.body.ends_with("# EOF\n"), "{}", figures.body);
    assert!(service.stop().success());
}

#[test]
fn the_log_tells_of_each_session_with_fields() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let id = service.create(&command(&home, "exit 3"));
    service.wait_for_end(&home, &id);
    let end = tests::host::wait_until("the line of the end", || {
        let said = service.said();
        let lines = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let lines: Vec<_> = lines.filter(|line| line["session"] == json!(id)).collect();
        assert!(lines.iter().all(|line| line["level"] == "INFO"), "{said}");
        (lines.len() == 2).then_some(lines)
    });
    assert_eq!((&end[0]["agent"], &end[0]["program"]), (&json!("default"), &json!("command")), "{end:?}");
    assert!(text(&end[0]["message"]).ends_with("starts"), "{end:?}");
    assert_eq!((&end[1]["status"], &end[1]["reason"]), (&json!("failed"), &json!("agent_exit (code 3)")), "{end:?}");
}

#[test]
fn a_key_of_another_provider_is_warned_about() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let mut request = command(&home, "true");
    request["env"] = json!({"GROQ_API_KEY": "gsk_0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0u", "LANG": "C.UTF-8"});
    let id = service.create(&request);
    let events = whole(&service.events(&id, 0));
    let warnings: Vec<_> = events.iter().filter(|event| event["code"] == "env_key").collect();
    let [warning] = &warnings[..] else { panic!("one warning: {events:#?}") };
    let message = text(&warning["message"]);
    assert_eq!(warning["kind"], "host_warning");
    assert!(message.contains("GROQ_API_KEY") && message.contains("Groq") && !message.contains("gsk_"), "{message}");
    assert_eq!(service.wait_for_end(&home, &id)["reason"], "finished");
}

#[test]
fn messages_reach_the_agent_and_a_close_lets_it_finish() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let script = Script::new().say("first answer").say("second answer").expect("and now this");
    let mut request = claude(&home, "begin", &script);
    request["keepOpen"] = true.into();
    let id = service.create(&request);
    wait_for_text(&service, &id, "first answer");
    let sent = service.post(&format!("/sessions/{id}/messages"), &json!({"text": "and now this"}));
    assert_eq!(sent.status, 202, "{sent:?}");
    let message = text(&sent.json()["id"]);
    wait_for_text(&service, &id, "second answer");
    assert_eq!(service.ask(&Request::new("POST", &format!("{API}/sessions/{id}/close"))).status, 202);
    let events = whole(&service.events(&id, 0));
    assert!(
        events.iter().any(|event| event["kind"] == "input_accepted" && event["id"] == json!(message)),
        "{events:#?}"
    );
    assert_eq!(service.wait_for_end(&home, &id)["reason"], "closed");
}

#[test]
fn an_interrupt_ends_the_turn_and_a_cancel_the_session() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let mut request = claude(&home, "begin", &Script::new().bash("touch started; sleep 300").say("never"));
    request["keepOpen"] = true.into();
    let id = service.create(&request);
    // The event comes before the tool does, and an interrupt in between is one of nothing.
    tests::host::wait_until("the tool", || home.file("started").exists().then_some(()));
    let interrupt = Request::new("POST", &format!("{API}/sessions/{id}/interrupt"));
    assert_eq!(service.ask(&interrupt).status, 202);
    let turn = service.watch(&id, 0).find(|event| event.name == "turn_finished").unwrap();
    assert!(turn.data.contains("interrupted"), "{turn:?}");
    assert_eq!(service.ask(&Request::new("POST", &format!("{API}/sessions/{id}/cancel"))).status, 202);
    let session = service.wait_for_end(&home, &id);
    assert_eq!((&session["status"], &session["reason"]), (&json!("cancelled"), &json!("cancelled")), "{session}");
    is_problem(&service.ask(&interrupt), 409, "conflict");
    is_problem(&service.post(&format!("/sessions/{id}/messages"), &json!({"text": "late"})), 409, "conflict");
    let actions: Vec<_> = service.get("/audit-log").json()["items"].as_array().unwrap().clone();
    let denied = actions.iter().filter(|line| line["decision"] == "denied").count();
    assert_eq!((actions.len(), denied), (5, 2), "{actions:#?}");
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    is_problem(&service.get(NOBODY), 404, "not-found");
    is_problem(&service.get("/sessions/%2e%2e"), 404, "not-found");
    is_problem(&service.get(&format!("{NOBODY}/events")), 404, "not-found");
    is_problem(&service.get("/nothing"), 404, "not-found");
    is_problem(&service.post(&format!("{NOBODY}/cancel"), &json!({})), 404, "not-found");
    let sessions = Request::new("POST", &format!("{API}/sessions"));
    is_problem(&service.ask(&sessions.clone().body("text/plain", "{}")), 415, "not-json");
    is_problem(&service.ask(&sessions.clone().body("application/json", "{")), 400, "bad-request");
    let unknown = service.post("/sessions", &json!({"workspace": "/w", "nothing": 1}));
    assert_eq!((unknown.status, &unknown.json()["errors"][0]["pointer"]), (422, &json!("/nothing")), "{unknown:?}");
    let wrong = service.post("/sessions", &json!({"workspace": "w", "limits": {"cpus": -1}}));
    let pointers: Vec<String> =
        wrong.json()["errors"].as_array().unwrap().iter().map(|error| text(&error["pointer"])).collect();
    assert_eq!((wrong.status, pointers), (422, vec!["/workspace".to_owned(), "/limits/cpus".to_owned()]));
    let mut request = command(&home, "true");
    request["workspace"] = json!(home.file("gone"));
    assert_eq!(service.post("/sessions", &request).status, 422);
    request["workspace"] = json!("/");
    is_problem(&service.post("/sessions", &request), 403, "forbidden");
    assert_eq!(service.ask(&Request::new("DELETE", &format!("{API}/sessions"))).status, 405);
    assert_eq!(service.sessions(), [json!(null); 0]);
}

#[test]
fn pages_of_the_web_may_not_use_it() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let list = || Request::new("GET", &format!("{API}/sessions"));
    is_problem(&service.ask(&list().host("evil.example")), 403, "forbidden");
    for origin in ["http://evil.example", "null"] {
        is_problem(&service.ask(&list().header("origin", origin)), 403, "forbidden");
    }
    let own = format!("http://{}", service.address().unwrap());
    assert_eq!(service.ask(&list().header("origin", &own)).status, 200);
    assert_eq!(service.ask(&list().host("localhost:1")).status, 200);
}

#[test]
fn a_second_service_on_the_same_data_names_the_first() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let data = home.data();
    let second = home.aigo(["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()]);
    assert_eq!(second.code, Some(3), "{second:?}");
    assert!(second.stderr.contains(&service.pid().to_string()), "{}", second.stderr);
    assert_eq!(service.get("//healthz").status, 200);
}
