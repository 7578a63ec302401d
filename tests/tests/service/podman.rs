//! The service on Podman: sessions live through its death there, too.

use tests::engine::Podman;
use tests::service::command;
use tests::{Home, Service};

use crate::support::{texts, whole};

/// Counts until the workspace has a file `go`.
const COUNT: &str = "i=0; while [ ! -e go ]; do i=$((i+1)); echo $i; sleep 0.1; done; echo end";

fn go_on_after_a_kill(podman: Podman) {
    let Some(home) = Home::on_podman(podman) else { return };
    let service = Service::start(&home);
    let id = service.create(&command(&home, COUNT));
    assert!(service.watch(&id, 0).any(|event| event.name == "text"), "the agent says nothing");
    let container = home.containers();
    service.kill();
    let service = Service::start(&home);
    assert_eq!(home.containers(), container, "the same one runs on");
    home.put("go", "");
    let ended = service.wait_for_end(&home, &id);
    assert_eq!((&ended["status"], &ended["reason"]), (&"completed".into(), &"finished".into()));
    let events = whole(&service.events(&id, 0));
    let said = texts(&events);
    let (last, numbers) = said.split_last().unwrap();
    assert_eq!(*last, "end");
    let wanted: Vec<String> = (1..=numbers.len()).map(|number| number.to_string()).collect();
    assert_eq!(numbers, wanted, "nothing is lost or told twice");
    assert!(service.stop().success());
}

#[test]
fn rootful_sessions_go_on_after_a_kill_of_the_service() {
    go_on_after_a_kill(Podman::Rootful);
}

#[test]
fn rootless_sessions_go_on_after_a_kill_of_the_service() {
    go_on_after_a_kill(Podman::Rootless);
}
