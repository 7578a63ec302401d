//! What several of these tests need.

use std::path::PathBuf;

use serde_json::Value;
use supervisor::session::event::{HostEvent, SessionEvent};
use tests::host::wait_until;
use tests::{Home, Run, look};

/// The ids of all sessions that the store knows, newest first.
pub(crate) fn known(home: &Home) -> Vec<String> {
    let said = home.aigo(["ps", "--all", "--json"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let rows: Value = serde_json::from_str(&said.stdout).expect("ps --json is JSON");
    let rows = rows.as_array().expect("a list");
    rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
}

/// The transcript of the only session, as people see it after its end.
pub(crate) fn transcript(home: &Home) -> String {
    let [id] = &known(home)[..] else { panic!("one session") };
    let said = home.aigo(["logs", id]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    said.stdout
}

/// The session's IPC directory on the host.
pub(crate) fn ipc(home: &Home, run: &Run<'_>) -> PathBuf {
    let path = home.data().join("sessions").join(run.session()).join("ipc");
    wait_until("the IPC directory", || path.is_dir().then_some(()));
    path
}

/// The sentences of all warnings with this code.
pub(crate) fn warnings<'a>(events: &'a [SessionEvent], wanted: &str) -> Vec<&'a str> {
    events.iter().filter_map(look::warning).filter(|(code, _)| *code == wanted).map(|(_, message)| message).collect()
}

/// The texts of messages to people, in order.
pub(crate) fn messages(events: &[SessionEvent]) -> Vec<&str> {
    let message = |event| match look::host(event) {
        Some(HostEvent::Message { body, .. }) => Some(body.text.as_str()),
        _ => None,
    };
    events.iter().filter_map(message).collect()
}

/// A port that nobody uses, different in each call of this process.
pub(crate) fn free_port() -> u16 {
    let probe = std::net::TcpListener::bind(("0.0.0.0", 0)).expect("a free port");
    probe.local_addr().expect("a bound socket has an address").port()
}
