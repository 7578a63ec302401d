//! What dead owners and slow engines leave, and the next start finds.

use std::path::Path;

use ipc_protocol::clip::ClippedText;
use ipc_protocol::event::{EventKind, Tokens, TurnFinished};
use ipc_protocol::host::HostIpc;
use ipc_protocol::journal::{Cursor, Writer};
use supervisor::dirs::SessionDir;
use supervisor::engine::fake::{Call, Fault};
use supervisor::engine::{Engine, EngineError, EngineIdentity};
use supervisor::session::SessionId;
use supervisor::session::control::Request;
use supervisor::session::event::{HostEvent, SessionEvent, What};
use supervisor::session::recover;
use supervisor::session::status::{EndReason, Status};
use supervisor::store::{NewEvent, Outcome, SessionRow};

use super::house::{House, IMAGE};

#[tokio::test]
async fn a_dead_owners_session_is_ended_once() {
    let house = House::new();
    // A row whose owner is gone, with an engine object that was being made.
    let id = supervisor::session::SessionId::random();
    let row = SessionRow::new(id.clone(), "command", IMAGE, &house.workspace);
    house.launcher.store.insert_session(row).await.unwrap();
    let labels = [("aigo.instance", &*house.launcher.instance), ("aigo.session", id.as_str())];
    let spec = supervisor::engine::NetworkSpec {
        name: format!("aigo-{id}"),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..Default::default()
    };
    house.launcher.engine.create_network(&spec).await.unwrap();
    house.launcher.store.mount(&id, &house.workspace, vec!["ipc".into()]).await.unwrap();
    std::fs::create_dir(house.workspace.join("ipc")).unwrap();
    assert_eq!(house.sweep().await.sessions, std::slice::from_ref(&id));
    assert_eq!(house.sweep().await, recover::Swept::default(), "the second time there is nothing to do");
    let row = house.launcher.store.session(&id).await.unwrap().unwrap();
    assert_eq!((row.status, row.ending.unwrap().reason), (Status::Cancelled, EndReason::Cancelled));
    house.assert_nothing_left("dead owner").await;
}

#[tokio::test]
async fn what_carries_the_name_of_another_data_directory_is_never_removed() {
    let house = House::new();
    let id = SessionId::random();
    let row = SessionRow::new(id.clone(), "command", IMAGE, &house.workspace);
    house.launcher.store.insert_session(row).await.unwrap();
    let name = format!("aigo-{id}");
    let labels = [("aigo.instance", "another"), ("aigo.session", id.as_str())];
    let spec = supervisor::engine::NetworkSpec {
        name: name.clone(),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..Default::default()
    };
    house.launcher.engine.create_network(&spec).await.unwrap();
    // As long as the row is unfinished, when it has ended, and when only its folder is left.
    for _ in 0..3 {
        std::fs::create_dir_all(house.launcher.dirs.session(&id).root()).unwrap();
        assert_eq!(house.sweep().await.problems, Vec::<String>::new());
        assert_eq!(house.fake.leftovers().len(), 1);
    }
    house.fake.remove_network(&name).await.unwrap();
    house.assert_nothing_left("another's").await;
}

#[tokio::test]
async fn what_the_engine_makes_after_it_was_given_up_is_found() {
    let timeout = EngineError::Timeout { what: "create it", after: std::time::Duration::from_secs(60) };
    let lost = EngineError::Lost { what: "creating it", reason: "as planned".into() };
    for call in [Call::CreateNetwork, Call::Create] {
        for (answer, swept_before) in [(None, false), (Some(timeout.clone()), true), (Some(lost.clone()), false)] {
            let what = format!("{call:?} {answer:?}");
            let house = House::new();
            let hangs = answer.is_none();
            house.fake.fault(call, 1, Fault::Late(answer));
            let session = house.launch(false).await;
            if hangs {
                house.until_asked(call).await;
                session.remote().ask(Request::Cancel { by: "test".into() }).await;
            }
            house.end(session).await;
            assert!(recover::is_due(&house.launcher).await.unwrap(), "{what}");
            if swept_before {
                house.sweep().await;
            }
            house.fake.catch_up();
            assert_ne!(house.fake.leftovers(), Vec::<String>::new(), "{what}");
            assert!(recover::is_due(&house.launcher).await.unwrap(), "{what}");
            house.sweep().await;
            assert_eq!(house.fake.leftovers(), Vec::<String>::new(), "{what}");
            house.time_passes();
            house.sweep().await;
            house.assert_nothing_left(&what).await;
            assert!(!recover::is_due(&house.launcher).await.unwrap(), "{what}");
        }
    }
}

/// The folder of a session whose owner is gone.
pub(crate) fn estate(house: &House, id: &SessionId) -> (SessionDir, HostIpc) {
    let folder = house.launcher.dirs.session(id);
    std::fs::create_dir(folder.root()).unwrap();
    let ipc = HostIpc::create(&folder.ipc(), None).unwrap();
    (folder, ipc)
}

fn put(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

pub(crate) fn turn(text: &str, total_cost_usd: f64) -> EventKind {
    let tokens = Tokens { output: 7, ..Tokens::default() };
    let body = ClippedText::new(text, 100);
    EventKind::TurnFinished(TurnFinished { body, tokens, total_cost_usd: Some(total_cost_usd), ..Default::default() })
}

#[tokio::test]
async fn the_last_words_of_a_dead_session_are_kept() {
    let house = House::new();
    let store = &house.launcher.store;
    let id = SessionId::random();
    let row = SessionRow::new(id.clone(), "command", IMAGE, &house.workspace);
    let began = row.created_at;
    store.insert_session(row).await.unwrap();
    let (folder, ipc) = estate(&house, &id);
    let events = ipc_protocol::dir::SafeDir::open(&folder.ipc().record.join("events")).unwrap();
    // Each event fills its segment: the owner had read the first one to its end, and nothing of the next.
    let (mut journal, _) = Writer::open_sized(events, 1).unwrap();
    let at = |seconds: i64| u64::try_from(began.as_millisecond() + 1000 * seconds).unwrap();
    journal.append(at(1), turn("heard", 0.5)).unwrap();
    let mut reader = ipc.journal(Cursor::START);
    let batch = reader.read();
    let heard = batch.events.into_iter().map(|event| NewEvent { runner_seq: Some(1), what: What::Runner(event.kind) });
    store.append(&id, heard.collect(), serde_json::to_string(&batch.cursor).ok()).await.unwrap();
    journal.append(at(0), turn("unheard", 0.75)).unwrap();
    journal.append(at(0), turn("the end", 0.75)).unwrap();
    // More than are taken in a second.
    for number in 0..250 {
        let message = format!(r#"{{"type":"message","text":"{number}"}}"#);
        put(&folder.ipc().mailbox.join("messages"), &format!("{number:03}.json"), &message);
    }
    put(&folder.ipc().mailbox.join("tasks"), "1.json", r#"{"id":"t-1","type":"list_tasks"}"#);
    put(&folder.ipc().mailbox.join("tasks"), "2.json", r#"{"id":"t-2","type":"#);

    assert_eq!(house.sweep().await.sessions, std::slice::from_ref(&id));
    let events = store.events(&id, 0, 1000).await.unwrap();
    let turns = events.iter().filter_map(|event| match &event.what {
        What::Runner(EventKind::TurnFinished(turn)) => Some(turn.body.text.as_str()),
        _ => None,
    });
    let count = |wanted: fn(&HostEvent) -> bool| {
        let host = events.iter().filter_map(|event| match &event.what {
            What::Host(event) => Some(event),
            What::Runner(_) => None,
        });
        host.filter(|event| wanted(event)).count()
    };
    assert_eq!(turns.collect::<Vec<_>>(), ["heard", "unheard", "the end"]);
    assert_eq!(count(|event| matches!(event, HostEvent::Message { .. })), 250);
    assert_eq!(count(|event| matches!(event, HostEvent::TaskRequest { id, ok: false, .. } if id == "t-1")), 1);
    let refused = |event: &HostEvent| matches!(event, HostEvent::HostWarning { code, .. } if code == "ipc_dead_letter");
    assert_eq!(count(refused), 1);
    let last: Option<&SessionEvent> = events.last();
    assert!(matches!(last.unwrap().what, What::Host(HostEvent::Ended { status: Status::Cancelled, .. })));
    let summary = store.session(&id).await.unwrap().unwrap().summary.unwrap();
    assert_eq!((summary.turns, summary.tokens.output, summary.cost_usd), (3, 21, Some(0.75)));
    assert_eq!(summary.result.as_deref(), Some("the end"));
    // It is the owner's last event, not the sweep a week later.
    assert!(summary.duration_ms < 1000, "{summary:?}");
    house.assert_nothing_left("last words").await;
}

#[tokio::test]
async fn sessions_of_another_engine_are_left_alone() {
    let house = House::new();
    let launcher = &house.launcher;
    let there = EngineIdentity { id: "other".into(), endpoint: "unix:///other.sock".into() };
    let (live, ended) = (SessionId::random(), SessionId::random());
    for id in [&live, &ended] {
        let row = SessionRow::new(id.clone(), "command", IMAGE, &house.workspace);
        launcher.store.insert_session(row.on(there.clone())).await.unwrap();
        estate(&house, id);
    }
    let outcome = Outcome { status: Status::Failed, ending: None, summary: None };
    launcher.store.end_session(&ended, outcome, HostEvent::InterruptSent {}).await.unwrap();
    assert!(!recover::is_due(launcher).await.unwrap());
    assert_eq!(house.sweep().await, recover::Swept::default());
    let row = launcher.store.session(&live).await.unwrap().unwrap();
    assert_eq!(row.ended_at, None);
    let said = recover::elsewhere(&row, &launcher.identity).unwrap();
    assert!(said.contains("DOCKER_HOST=unix:///other.sock"), "{said}");

    let mut other = house.beside();
    other.launcher = launcher.clone();
    other.launcher.identity = EngineIdentity { id: "other".into(), endpoint: "unix:///moved.sock".into() };
    assert!(recover::is_due(&other.launcher).await.unwrap());
    assert_eq!(other.sweep().await.sessions, [live]);
    other.assert_nothing_left("its own engine").await;
}
