//! Laws for all inputs: order, exactly-once delivery over crashes, torn writes at any byte, any division of a stream.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::sync::Arc;

use ipc_protocol::clip::ClippedText;
use ipc_protocol::dir::{Folder, SafeDir};
use ipc_protocol::event::{Event, EventKind};
use ipc_protocol::input::{Input, Message};
use ipc_protocol::journal::{Cursor, Writer};
use ipc_protocol::mailbox::{Inbox, Joined, Joiner, Unwanted};
use ipc_protocol::outgoing::OutgoingFile;
use proptest::prelude::*;

use crate::common::{MESSAGE, Session, text};

fn config() -> ProptestConfig {
    // Each case works on real files.
    ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() }
}

fn event(text: &str) -> EventKind {
    EventKind::Text { body: ClippedText::new(text, 1 << 20), parent_call: None }
}

fn writer(session: &Session, segment_bytes: u64) -> (Writer, ipc_protocol::journal::Recovered) {
    Writer::open_sized(SafeDir::open(&session.path("events")).unwrap(), segment_bytes).unwrap()
}

/// What a host does: events and cursor in one transaction, then prune. Stops as if killed after `kill_after` reads.
#[derive(Default)]
struct Database {
    events: Vec<Event>,
    cursor: Option<Cursor>,
}

impl Database {
    fn run(&mut self, session: &Session, kill_after: usize, prune: bool) {
        let mut reader = session.host.journal(self.cursor.unwrap_or(Cursor::START));
        for _ in 0..kill_after {
            let batch = reader.read();
            assert!(batch.fault.is_none(), "{:?}", batch.fault);
            self.events.extend(batch.events);
            self.cursor = Some(batch.cursor);
            if prune {
                reader.prune(batch.cursor).unwrap();
            }
            if batch.again_in.is_none() {
                break;
            }
        }
    }

    fn drain(&mut self, session: &Session) {
        self.run(session, usize::MAX, true);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(String),
    /// The runner dies after this many bytes of a line, and starts again.
    Crash(usize),
    /// The host reads, and dies after so many reads, with or without having pruned.
    Host(usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => "\\PC{0,60}".prop_map(Step::Append),
        1 => (0..200_usize).prop_map(Step::Crash),
        2 => (1..4_usize, any::<bool>()).prop_map(|(reads, prune)| Step::Host(reads, prune)),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(config())]

    /// Whatever crashes on either side: the host has each event once, in order, and the numbers have no gap.
    #[test]
    fn the_journal_loses_and_doubles_nothing(steps in steps(), segment_bytes in 1..600_u64) {
        let session = Session::new();
        let (mut journal, _) = writer(&session, segment_bytes);
        let mut database = Database::default();
        let mut written = Vec::new();
        for step in steps {
            match step {
                Step::Append(text) => {
                    journal.append(1, event(&text)).unwrap();
                    written.push(text);
                }
                Step::Crash(bytes) => {
                    let segment = journal.segment().file_name();
                    let torn = format!("{{\"seq\":{},\"at\":1,\"kind\":\"text\",\"text\":\"{}", written.len() + 1, "x".repeat(bytes));
                    let path = session.path("events").join(segment);
                    if bytes > 0 && path.exists() {
                        let cut = torn.len().min(bytes);
                        OpenOptions::new().append(true).open(path).unwrap().write_all(&torn.as_bytes()[..cut]).unwrap();
                    }
                    let recovered;
                    (journal, recovered) = writer(&session, segment_bytes);
                    prop_assert_eq!(recovered.last_seq, written.len() as u64);
                }
                Step::Host(reads, prune) => database.run(&session, reads, prune),
            }
        }
        database.drain(&session);
        let texts: Vec<_> = database.events.iter().map(|event| match &event.kind {
            EventKind::Text { body, .. } => body.text.clone(),
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(texts, written);
        let seqs: Vec<_> = database.events.iter().map(|event| event.seq).collect();
        prop_assert_eq!(&seqs, &(1..=seqs.len() as u64).collect::<Vec<_>>());
        prop_assert!(session.names("events").len() <= 1 + usize::from(database.cursor.is_none()), "not pruned");
    }

    /// Bytes that become visible in any pieces are the same events.
    #[test]
    fn a_journal_in_pieces_is_the_same_journal(texts in prop::collection::vec("\\PC{0,40}", 1..20), cuts in prop::collection::vec(1..80_usize, 1..40)) {
        let session = Session::new();
        let mut bytes = Vec::new();
        for (n, text) in texts.iter().enumerate() {
            let event = Event { seq: n as u64 + 1, at: 0, kind: event(text) };
            bytes.extend(serde_json::to_vec(&event).unwrap());
            bytes.push(b'\n');
        }
        let mut reader = session.host.journal(Cursor::START);
        let mut file = OpenOptions::new().create(true).append(true).open(session.path("events/00000001.jsonl")).unwrap();
        let (mut rest, mut events, mut cuts) = (&bytes[..], Vec::new(), cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            file.write_all(piece).unwrap();
            rest = after;
            let batch = reader.read();
            prop_assert!(batch.fault.is_none());
            events.extend(batch.events);
        }
        let read: Vec<_> = events.into_iter().map(|event| event.kind).collect();
        prop_assert_eq!(read, texts.iter().map(|text| event(text)).collect::<Vec<_>>());
    }

    /// Whatever bytes are in a segment: no panic, an end, and never an event twice.
    #[test]
    fn any_bytes_in_a_segment_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..300), more in prop::collection::vec("(\\{\"seq\":[0-3],\"at\":1,\"kind\":\"ready\"\\}|x|)\n?", 0..6)) {
        let session = Session::new();
        let bytes = if more.is_empty() { bytes } else { more.concat().into_bytes() };
        fs::write(session.path("events/00000001.jsonl"), bytes).unwrap();
        let mut reader = session.host.journal(Cursor::START);
        let mut last = 0;
        for _ in 0..10 {
            for event in reader.read().events {
                prop_assert_eq!(event.seq, last + 1);
                last = event.seq;
            }
        }
    }

    /// Host to runner: order is that of sending; each is taken once, although the runner dies between any two steps.
    #[test]
    fn inputs_are_taken_once_and_in_order(count in 1..25_usize, kills in prop::collection::vec(any::<bool>(), 75)) {
        let session = Session::new();
        let mut outbox = session.host.input().unwrap();
        let sent: Vec<_> = (0..count).map(|n| outbox.send(None, text(&n.to_string())).unwrap().id.to_string()).collect();
        let mut kills = kills.into_iter();
        let mut killed = || kills.next().unwrap_or(false);
        'runner: loop {
            let (mut journal, recovered) = session.runner.journal().unwrap();
            let mut input = session.runner.input();
            loop {
                let scan = input.scan().scan;
                if scan.items.is_empty() {
                    break 'runner;
                }
                for item in scan.items {
                    if killed() {
                        continue 'runner;
                    }
                    if !recovered.accepted.contains(&item.id.to_string()) {
                        journal.append(0, EventKind::InputAccepted { id: item.id.to_string() }).unwrap();
                    }
                    if killed() {
                        continue 'runner;
                    }
                    prop_assert_eq!(input.remove(&item.name), None);
                }
            }
        }
        let accepted: Vec<_> = session.host.journal(Cursor::START).read().events.into_iter().map(|event| match event.kind {
            EventKind::InputAccepted { id } => id,
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(accepted, sent);
        prop_assert!(session.names("input").is_empty());
    }

    /// Container to host: stored by id, then unlinked; a host that dies in between neither loses nor doubles.
    #[test]
    fn messages_are_stored_once(count in 1..25_usize, kills in prop::collection::vec(any::<bool>(), 75)) {
        let session = Session::new();
        for n in 0..count {
            fs::write(session.path(&format!("messages/m{n:03}.json")), MESSAGE).unwrap();
        }
        let mut stored: BTreeMap<String, usize> = BTreeMap::new();
        let mut kills = kills.into_iter();
        let mut killed = || kills.next().unwrap_or(false);
        'host: loop {
            // Without the limit on the rate, which would only make this slow.
            let root = Arc::new(SafeDir::open(&session.path("")).unwrap());
            let mut inbox: Inbox<OutgoingFile> = Inbox::new(Folder::new(root, "messages"), Unwanted::Keep, None);
            let scan = inbox.scan();
            if scan.items.is_empty() {
                break;
            }
            for item in scan.items {
                if killed() {
                    continue 'host;
                }
                stored.entry(item.id.to_string()).or_insert(0);
                if killed() {
                    continue 'host;
                }
                prop_assert_eq!(inbox.remove(&item.name), None);
            }
        }
        prop_assert_eq!(stored.into_keys().collect::<Vec<_>>(), (0..count).map(|n| format!("m{n:03}")).collect::<Vec<_>>());
    }

    /// A message file cut at any byte is not delivered; whole it is.
    #[test]
    fn a_message_torn_at_any_byte_is_not_taken(body in "\\PC{0,40}", cut in any::<prop::sample::Index>()) {
        let session = Session::new();
        let whole = serde_json::json!({"type": "message", "text": body}).to_string();
        let mut inbox = session.host.messages();
        fs::write(session.path("messages/x.json"), &whole.as_bytes()[..cut.index(whole.len())]).unwrap();
        let scan = inbox.scan();
        prop_assert!(scan.items.is_empty() && scan.refused.is_empty(), "{:?}", scan);
        fs::write(session.path("messages/x.json"), &whole).unwrap();
        prop_assert_eq!(inbox.scan().items.len(), 1);
    }
}

proptest! {
    // Megabytes each.
    #![proptest_config(ProptestConfig { cases: 8, ..config() })]

    /// A text is the same after it was cut up and joined, with other inputs in between.
    #[test]
    fn split_and_join_is_the_identity(seed in "[\\PC\u{0}-\u{1f}]{1,200}", kib in 1..4000_usize) {
        let text: String = seed.chars().cycle().scan(0, |size, c| { *size += c.len_utf8(); (*size <= kib * 1024).then_some(c) }).collect();
        let message = Message { text, sender: Some("ann".into()), ..Message::default() };
        let session = Session::new();
        let mut outbox = session.host.input().unwrap();
        outbox.send(None, Input::Message(message.clone())).unwrap();
        outbox.send(None, Input::Interrupt {}).unwrap();
        let (mut input, mut joiner, mut ready) = (session.runner.input(), Joiner::default(), Vec::new());
        loop {
            let scan = input.scan().scan;
            prop_assert!(scan.refused.is_empty());
            if scan.items.is_empty() {
                break;
            }
            for item in scan.items {
                match joiner.push(item) {
                    Joined::Ready { input, .. } => ready.push(input),
                    Joined::Waiting => {}
                    Joined::Dropped(dropped) => panic!("{dropped:?}"),
                }
            }
        }
        prop_assert!(ready == [Input::Message(message), Input::Interrupt {}], "differs");
    }
}
