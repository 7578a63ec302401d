//! The engine goes away under a service, and comes back.

use std::time::Duration;

use serde_json::{Value, json};
use tests::dockerd::IMAGE;
use tests::host::wait_until;
use tests::{Dockerd, Home, Service};

use crate::support::{texts, whole};

/// Longer than the service needs to see that the engine is away, shorter than it waits for its return.
const AWAY: Duration = Duration::from_secs(3);

/// Counts for ever, or until the workspace has a file `go`.
const COUNT: &str = "i=0; while [ ! -e go ]; do i=$((i+1)); echo line $i; sleep 0.2; done; echo end";

fn session(home: &Home, script: &str) -> Value {
    let mut session = tests::service::command(home, script);
    session["image"] = json!(IMAGE);
    session
}

/// Starts a session, and waits until its agent speaks.
fn started(service: &Service, home: &Home) -> String {
    let id = service.create(&session(home, COUNT));
    assert!(service.watch(&id, 0).any(|event| event.name == "text"), "the agent says nothing");
    id
}

fn is_ready(service: &Service) -> bool {
    service.get("//readyz").status == 200
}

/// Waits for a session's end, and holds it to its status and reason. What is left of it goes later.
#[track_caller]
fn ends(service: &Service, id: &str, status: &str, reason: &str) {
    let ended = wait_until("the end of the session", || {
        let session = service.get(&format!("/sessions/{id}")).json();
        session["endedAt"].is_string().then_some(session)
    });
    let events = service.events(id, 0);
    assert_eq!((&ended["status"], &ended["reason"]), (&json!(status), &json!(reason)), "{events:#?}");
}

/// Stops the service, and starts the one that finds what is left.
fn swept(service: Service, home: &Home) {
    assert!(service.stop().success());
    let service = Service::start(home);
    assert!(service.stop().success());
    assert_eq!(home.leftovers(), [""; 0]);
}

#[test]
fn what_runs_on_while_its_engine_is_away_is_gone_on_with() {
    let Some(mut engine) = Dockerd::start(true) else { return };
    let home = Home::on(&engine);
    let service = Service::start(&home);
    let id = started(&service, &home);
    engine.kill();
    std::thread::sleep(AWAY);
    assert!(!is_ready(&service), "without an engine nothing can be started");
    let refused = service.post("/sessions", &session(&home, "echo hello"));
    assert_eq!(refused.status, 503, "{refused:?}");
    engine.restart();
    wait_until("the service to see the engine", || is_ready(&service).then_some(()));
    let other = service.create(&session(&home, "echo hello"));
    ends(&service, &other, "completed", "finished");

    // The service is killed while the engine is away, too, and comes back first.
    engine.stop();
    service.kill();
    let service = Service::start(&home);
    assert!(!is_ready(&service));
    engine.restart();
    home.put("go", "");
    ends(&service, &id, "completed", "finished");
    let events = whole(&service.events(&id, 0));
    let said = texts(&events);
    let lines = said.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("line "));
    let numbers: Vec<usize> = lines.map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "nothing is lost or told twice");
    swept(service, &home);
}

#[test]
fn what_ends_with_its_engine_has_lost_it() {
    let Some(mut engine) = Dockerd::start(false) else { return };
    let home = Home::on(&engine);
    let service = Service::start(&home);
    let ids = [started(&service, &home), started(&service, &home)];
    engine.stop();
    engine.restart();
    for id in &ids {
        ends(&service, id, "failed", "engine_lost");
    }
    let id = started(&service, &home);
    // Its containers run on until its next start, which ends them.
    engine.kill();
    std::thread::sleep(AWAY);
    engine.restart();
    ends(&service, &id, "failed", "engine_lost");
    swept(service, &home);
}

#[test]
fn an_engine_that_stays_away_ends_its_sessions_and_is_tidied_when_it_is_back() {
    let Some(mut engine) = Dockerd::start(true) else { return };
    let home = Home::on(&engine);
    let service = Service::start(&home);
    let id = started(&service, &home);
    engine.kill();
    ends(&service, &id, "failed", "engine_lost");
    engine.restart();
    swept(service, &home);
}
