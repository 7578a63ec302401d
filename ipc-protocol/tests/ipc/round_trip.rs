//! The plain way through every part, both faces on one directory.

use std::sync::mpsc;
use std::time::Duration;

use crate::common::{MESSAGE, Session, os, text};
use ipc_protocol::clip::ClippedText;
use ipc_protocol::event::EventKind;
use ipc_protocol::host::Snapshot;
use ipc_protocol::input::{Input, Message};
use ipc_protocol::journal::Cursor;
use ipc_protocol::limits::MAX_INPUT_TEXT_BYTES;
use ipc_protocol::mailbox::{Joined, Joiner, SendError};
use ipc_protocol::outgoing::Outgoing;
use ipc_protocol::reply::Reply;
use ipc_protocol::status::{RunnerState, Status};
use ipc_protocol::task::TaskRequest;
use ipc_protocol::watch::Mode;

#[test]
fn inputs_arrive_once_in_order_and_close_comes_after_them() {
    let session = Session::new();
    let mut outbox = session.host.input().unwrap();
    let mut input = session.runner.input();
    for n in 0..20 {
        outbox.send(None, text(&n.to_string())).unwrap();
    }
    let sent = outbox.send(Some("stop-1".parse().unwrap()), Input::Interrupt {}).unwrap();
    assert_eq!(sent.id.as_str(), "stop-1");
    outbox.close().unwrap();
    assert!(matches!(outbox.send(None, text("late")), Err(SendError::Closed)));

    let found = input.scan();
    assert!(found.close && found.scan.refused.is_empty() && found.scan.warnings.is_empty());
    let texts: Vec<_> = found
        .scan
        .items
        .iter()
        .map(|item| match &item.body.input {
            Input::Message(message) => message.text.clone(),
            Input::Interrupt {} => format!("interrupt {}", item.id),
        })
        .collect();
    let expected: Vec<_> = (0..20).map(|n| n.to_string()).chain(["interrupt stop-1".to_owned()]).collect();
    assert_eq!(texts, expected);
    assert!(input.scan().scan.items.is_empty(), "handed out twice");
    for item in &found.scan.items {
        assert_eq!(input.remove(&item.name), None);
    }
    assert_eq!(session.names("input"), ["_close"]);
    assert!(session.host.input().unwrap().is_closed(), "a restarted host must know");
}

#[test]
fn a_runner_that_restarts_sees_again_what_it_did_not_remove() {
    let session = Session::new();
    session.host.input().unwrap().send(None, text("once")).unwrap();
    let first = session.runner.input().scan().scan.items;
    let again = session.runner.input().scan().scan.items;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].id, again[0].id);
}

#[test]
fn a_long_input_is_whole_again() {
    let session = Session::new();
    let long = "ä\n".repeat(MAX_INPUT_TEXT_BYTES / 3);
    let mut message = Message { text: long.clone(), ..Message::default() };
    message.sender = Some("someone".into());
    let sent = session.host.input().unwrap().send(None, Input::Message(message)).unwrap();
    assert!(sent.files > 8, "{sent:?}");
    let (mut input, mut joiner, mut ready) = (session.runner.input(), Joiner::default(), Vec::new());
    while ready.is_empty() {
        let scan = input.scan().scan;
        assert!(!scan.items.is_empty(), "lost parts");
        for item in scan.items {
            if let Joined::Ready { id, input, files } = joiner.push(item) {
                ready.push((id, input, files));
            }
        }
    }
    let (id, Input::Message(message), files) = ready.remove(0) else { panic!("not a message") };
    assert_eq!((id, files.len()), (sent.id, sent.files));
    assert_eq!(message.sender.as_deref(), Some("someone"));
    assert!(message.text == long, "text differs");
    for file in files {
        assert_eq!(input.remove(&file), None);
    }
    assert!(session.names("input").is_empty());
}

#[test]
fn agents_of_the_original_write_any_json_name() {
    let session = Session::new();
    std::fs::write(session.path("messages/b.json"), MESSAGE).unwrap();
    std::fs::write(session.path("messages/a b.json"), MESSAGE).unwrap();
    std::fs::write(session.path("messages/.hidden.json"), MESSAGE).unwrap();
    std::fs::write(session.path("messages/half.json.tmp"), MESSAGE).unwrap();
    std::fs::write(session.path("tasks/t.json"), r#"{"type":"list_tasks","futureField":[1]}"#).unwrap();
    let mut inbox = session.host.messages();
    let scan = inbox.scan();
    assert!(scan.refused.is_empty() && scan.warnings.is_empty(), "{scan:?}");
    assert_eq!(scan.items.len(), 2);
    assert_eq!(scan.items[1].id.as_str(), "b");
    assert_eq!(scan.items[1].body.outgoing, Outgoing::Message { text: "hello".into(), chat_jid: None });
    for item in &scan.items {
        assert_eq!(inbox.remove(&item.name), None);
    }
    let tasks = session.host.tasks().scan();
    assert_eq!(tasks.items[0].body.request, TaskRequest::ListTasks {});
    assert_eq!(session.names("messages"), ["half.json.tmp"]);
}

#[test]
fn the_journal_is_read_as_written_and_pruned() {
    let session = Session::new();
    let (mut writer, _) = session.runner.journal().unwrap();
    let mut reader = session.host.journal(Cursor::START);
    assert!(reader.read().events.is_empty());
    let text = |n: u64| EventKind::Text { body: ClippedText::new(format!("{n}"), 100), parent_call: None };
    for n in 1..=100 {
        assert_eq!(writer.append(n, text(n)).unwrap(), n);
    }
    let batch = reader.read();
    assert!(batch.fault.is_none() && batch.again_in.is_none(), "{batch:?}");
    assert_eq!(batch.events.len(), 100);
    assert_eq!(batch.cursor.seq, 100);
    drop(writer);
    let (mut writer, recovered) = session.runner.journal().unwrap();
    assert_eq!(recovered.last_seq, 100);
    assert_eq!(writer.append(7, text(7)).unwrap(), 101);
    // A restarted host goes on at the stored cursor.
    let mut reader = session.host.journal(batch.cursor);
    assert_eq!(reader.read().events[0].seq, 101);
}

#[test]
fn status_replies_and_snapshots_arrive() {
    let session = Session::new();
    assert_eq!(session.host.status().unwrap(), None);
    let status =
        Status { version: 1, runner_version: "0.1.0".into(), state: RunnerState::Idle, at: 5, last_seq: 9, segment: 1 };
    session.runner.status().write(&status).unwrap();
    assert_eq!(session.host.status().unwrap(), Some(status));
    session.host.reply(&Reply::done("r1".parse().unwrap(), serde_json::json!({"n": 1}))).unwrap();
    let reply = std::fs::read_to_string(session.path("replies/r1.json")).unwrap();
    assert_eq!(reply, r#"{"requestId":"r1","ok":true,"result":{"n":1}}"#);
    session.host.snapshot(Snapshot::CurrentTasks, &serde_json::json!([])).unwrap();
    assert_eq!(std::fs::read_to_string(session.path("current_tasks.json")).unwrap(), "[]");
}

#[test]
fn a_message_wakes_the_other_side() {
    let session = Session::new();
    let (wake, woken) = mpsc::channel();
    let watch = session.host.watch(move || wake.send(()).unwrap()).unwrap();
    assert_eq!(watch.mode(), Mode::Events);
    woken.recv_timeout(Duration::from_secs(5)).unwrap();
    let begun = std::time::Instant::now();
    std::fs::write(session.path("messages/.x.tmp"), MESSAGE).unwrap();
    std::fs::rename(session.path("messages/.x.tmp"), session.path("messages/x.json")).unwrap();
    woken.recv_timeout(Duration::from_millis(900)).expect("no wake before the slow re-scan");
    assert!(begun.elapsed() < Duration::from_millis(900));
    assert_eq!(session.host.messages().scan().items.len(), 1);
    assert_eq!(session.host.messages().remove(os("x.json")), None);
}
