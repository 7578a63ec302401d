//! The service dies at any step that is written down: the next one finds everything, ends or goes on with it, and leaves
//! nothing behind.
//!
//! The points are those of `supervisor::failpoint`. A case is a data directory of its own: a service that is to die, a
//! session, the death, and a service that lives.

use std::sync::Mutex;

use serde_json::Value;
use tests::service::{API, claude, command};
use tests::{Home, Request, Script, Service, host};

use crate::support::{nothing_is_left_in_time, texts, whole};

/// Cases at once: each one mostly waits for the engine.
const AT_ONCE: usize = 4;

/// Says two things, with time between them to die in.
const SCRIPT: &str = "echo one; sleep 0.5; echo two";

/// Where a session is brought up, driven and let go, in this order. A number says which passing of the point is meant:
/// the first engine object is the network, the second one the container.
const LIFE: [&str; 37] = [
    "folder.made",
    "ipc.made",
    "row.before",
    "row.after",
    "append.before",
    "append.after",
    "append.before:2",
    "append.after:2",
    "mount.noted",
    "mount.made",
    "doubt.begun",
    "doubt.answered",
    "doubt.ended",
    "network.stored",
    "append.after:3",
    "doubt.begun:2",
    "doubt.answered:2",
    "doubt.ended:2",
    "container.stored",
    "append.after:4",
    "start.before",
    "start.after",
    "provisioned",
    "append.before:6",
    "append.after:6",
    "append.before:8",
    "append.after:8",
    "ending.before",
    "ending.after",
    "container.remove.before",
    "container.remove.after",
    "network.remove.after",
    "unmount.before",
    "unmount.after",
    "end.before",
    "end.stored.before",
    "end.stored.after",
];

/// The last of it: the session has ended for everybody, and its folder is to go.
const AFTERWARDS: [&str; 3] = ["end.after", "folder.cleared", "folder.removed"];

/// Where only agents with a model come to.
const MODEL: [&str; 2] = ["input.sent", "proxy.started"];

/// Where a service comes to that goes on with another one's session.
const ADOPTION: [&str; 3] = ["adopt.locked", "adopt.resumed", "adopt.owned"];

/// Where a service comes to that clears away what `aigo run` has left.
const SWEEP: [&str; 8] = [
    "sweep.locked",
    "container.remove.after",
    "network.remove.after",
    "sweep.drained",
    "unmount.after",
    "sweep.unmounted",
    "end.stored.before",
    "end.stored.after",
];

/// Runs the cases, some at once, and says how many held.
fn all(points: &[&'static str], case: impl Fn(&Home, &'static str) + Sync) {
    let waiting = Mutex::new(points.iter());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(&point) = waiting.lock().unwrap().next() else { return };
                    println!("dying at {point}");
                    let home = Home::without_engine();
                    case(&home, point);
                    nothing_is_left_in_time(&home);
                }
            });
        }
    });
    println!("{} points held", points.len());
}

/// Asks for a session of a service that dies at a point.
fn die(home: &Home, point: &str, request: &Value) {
    let service = Service::failing_at(home, point);
    let create = Request::new("POST", &format!("{API}/sessions")).json(request);
    // It may die before it answers.
    let _ = create.ask(service.address().unwrap());
    assert!(service.died(), "{point}: it did not die by itself");
}

/// The service that comes next: what it finds ends, once, and the store tells all of it.
fn recovers(home: &Home, point: &str) {
    let service = Service::start(home);
    let sessions = service.sessions();
    assert!(sessions.len() <= 1, "{point}: {sessions:#?}");
    let containers = home.containers();
    assert!(containers.len() <= sessions.len(), "{point}: {containers:?} for {sessions:#?}");
    for session in sessions {
        let id = session["id"].as_str().unwrap();
        let events = whole(&service.events(id, 0));
        let session = host::wait_until("the end of the session", || {
            let session = service.get(&format!("/sessions/{id}")).json();
            session["endedAt"].is_string().then_some(session)
        });
        let end = events.last().unwrap();
        assert_eq!(end["status"], session["status"], "{point}");
        if session["reason"] == "finished" {
            assert_eq!(texts(&events), ["one", "two"], "{point}: {events:#?}");
        }
    }
    host::wait_until("the containers to go", || home.containers().is_empty().then_some(()));
    assert!(service.stop().success(), "{point}");
}

#[test]
fn a_death_at_any_step_of_a_session_leaves_nothing() {
    let Some(_home) = Home::open() else { return };
    all(&LIFE, |home, point| {
        die(home, point, &command(home, SCRIPT));
        recovers(home, point);
    });
}

#[test]
fn a_death_after_the_end_leaves_nothing() {
    let Some(_home) = Home::open() else { return };
    all(&AFTERWARDS, |home, point| {
        die(home, point, &command(home, SCRIPT));
        recovers(home, point);
    });
}

#[test]
fn a_death_with_a_model_leaves_nothing() {
    let Some(_home) = Home::open() else { return };
    all(&MODEL, |home, point| {
        let script = Script::new().say("one").say("two");
        die(home, point, &claude(home, "begin", &script));
        recovers(home, point);
    });
}

#[test]
fn a_death_while_going_on_with_a_session_loses_nothing() {
    let Some(_home) = Home::open() else { return };
    all(&ADOPTION, |home, point| {
        let service = Service::start(home);
        let id = service.create(&command(home, "echo one; while [ ! -e go ]; do sleep 0.1; done; echo two"));
        assert!(service.watch(&id, 0).any(|event| event.data.contains("one")), "{point}");
        service.kill();
        assert!(Service::failing_at(home, point).died(), "{point}: it did not die by itself");
        home.put("go", "");
        let service = Service::start(home);
        let events = whole(&service.events(&id, 0));
        assert_eq!(texts(&events), ["one", "two"], "{point}: {events:#?}");
        assert_eq!(service.wait_for_end(home, &id)["reason"], "finished", "{point}");
        assert!(service.stop().success(), "{point}");
    });
}

#[test]
fn a_death_while_clearing_away_is_made_up_for() {
    let Some(_home) = Home::open() else { return };
    all(&SWEEP, |home, point| {
        let run = home.command("echo one; exec sleep 300").start();
        run.wait_for_text("one");
        run.signal(nix::sys::signal::Signal::SIGKILL);
        run.finish();
        assert!(Service::failing_at(home, point).died(), "{point}: it did not die by itself");
        recovers(home, point);
    });
}
