//! Events by cursor, the journal's position, and what came by `messages/` and `tasks/`.

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};

use super::writer::{JobError, Store, StoreError};
use crate::failpoint::reach;
use crate::session::SessionId;
use crate::session::event::{HostEvent, SessionEvent, What};
use crate::session::status::Status;

/// Bytes of events that are read at once, but for the last one of them: a reader needs little memory, however much an
/// agent says at a time.
const BATCH_BYTES: usize = 1 << 20;

/// An event that is not stored yet.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The journal's number, for an event of the runner's.
    pub runner_seq: Option<u64>,
    /// What happened.
    pub what: What,
}

impl<T: Into<What>> From<T> for NewEvent {
    fn from(what: T) -> Self {
        Self { runner_seq: None, what: what.into() }
    }
}

/// How far a journal was read: opaque to the store.
pub type JournalCursor = String;

/// Where the owner of a session is, in its own words.
#[derive(Clone, Debug, Default)]
pub struct Position {
    /// How far the journal was read, if that has changed.
    pub cursor: Option<JournalCursor>,
    /// What it knew before these events, if another process is to be able to go on from there.
    pub checkpoint: Option<String>,
}

impl From<Option<JournalCursor>> for Position {
    fn from(cursor: Option<JournalCursor>) -> Self {
        Self { cursor, checkpoint: None }
    }
}

/// What was stored.
#[derive(Debug)]
pub struct Appended {
    /// The events that were new, with their numbers.
    pub events: Vec<SessionEvent>,
}

impl Store {
    /// Stores `events` and, in the same transaction, where their owner is. Events of the runner's that are known
    /// already are left out.
    pub async fn append(
        &self,
        session: &SessionId,
        events: Vec<NewEvent>,
        position: impl Into<Position>,
    ) -> Result<Appended, StoreError> {
        let (session, position) = (session.clone(), position.into());
        self.call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let last: u64 = transaction
                .prepare_cached("SELECT coalesce(max(seq), 0) FROM events WHERE session = ?1")?
                .query_row([session.as_str()], |row| row.get(0))?;
            let mut stored = Vec::with_capacity(events.len());
            {
                let mut insert = transaction.prepare_cached(
                    "INSERT INTO events (session, seq, runner_seq, body) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (session, runner_seq) WHERE runner_seq IS NOT NULL DO NOTHING",
                )?;
                let mut seq = last;
                for NewEvent { runner_seq, what } in events {
                    let event = SessionEvent { seq: seq + 1, at: jiff::Timestamp::now(), what };
                    let body = serde_json::to_string(&event)?;
                    if insert.execute(params![session.as_str(), event.seq, runner_seq, body])? == 1 {
                        seq += 1;
                        stored.push(event);
                    }
                }
                if let Some(checkpoint) = position.checkpoint {
                    transaction
                        .prepare_cached("INSERT OR REPLACE INTO checkpoints (session, body) VALUES (?1, ?2)")?
                        .execute(params![session.as_str(), checkpoint])?;
                }
                if let Some(cursor) = position.cursor {
                    transaction
                        .prepare_cached("INSERT OR REPLACE INTO journals (session, cursor) VALUES (?1, ?2)")?
                        .execute(params![session.as_str(), cursor])?;
                }
            }
            reach("append.before");
            transaction.commit()?;
            reach("append.after");
            Ok(Appended { events: stored })
        })
        .await
    }

    /// The events after `after`: at most `limit`, and no more after the one with which [`BATCH_BYTES`] are read. None
    /// means that there are none yet.
    pub async fn events(&self, session: &SessionId, after: u64, limit: usize) -> Result<Vec<SessionEvent>, StoreError> {
        let session = session.clone();
        self.call(move |connection| {
            let mut query = connection
                .prepare_cached("SELECT seq, body FROM events WHERE session = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3")?;
            let mut rows = query.query(params![session.as_str(), after, limit as u64])?;
            let (mut events, mut bytes) = (Vec::new(), 0);
            while bytes < BATCH_BYTES
                && let Some(row) = rows.next()?
            {
                let (seq, body): (u64, String) = (row.get(0)?, row.get(1)?);
                bytes += body.len();
                events.push(serde_json::from_str(&body).unwrap_or_else(|error| unreadable(seq, &error)));
            }
            Ok(events)
        })
        .await
    }

    /// How many events of a session are stored, and the number of the last one.
    pub async fn event_count(&self, session: &SessionId) -> Result<(u64, u64), StoreError> {
        let session = session.clone();
        self.call(move |connection| {
            Ok(connection
                .prepare_cached("SELECT count(*), coalesce(max(seq), 0) FROM events WHERE session = ?1")?
                .query_row([session.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?)
        })
        .await
    }

    /// The number of the session's last event, 0 if there is none.
    pub async fn last_event(&self, session: &SessionId) -> Result<u64, StoreError> {
        let session = session.clone();
        self.call(move |connection| {
            Ok(connection
                .prepare_cached("SELECT coalesce(max(seq), 0) FROM events WHERE session = ?1")?
                .query_row([session.as_str()], |row| row.get(0))?)
        })
        .await
    }

    /// What the session's last owner knew.
    pub async fn checkpoint(&self, session: &SessionId) -> Result<Option<String>, StoreError> {
        let session = session.clone();
        self.call(move |connection| {
            Ok(connection
                .query_row("SELECT body FROM checkpoints WHERE session = ?1", [session.as_str()], |row| row.get(0))
                .optional()?)
        })
        .await
    }

    /// The runner's events after its own number `heard`, at most `limit`, with that number.
    pub async fn runner_events(
        &self,
        session: &SessionId,
        heard: u64,
        limit: usize,
    ) -> Result<Vec<(u64, SessionEvent)>, StoreError> {
        let session = session.clone();
        self.call(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT runner_seq, seq, body FROM events
                 WHERE session = ?1 AND runner_seq > ?2 ORDER BY runner_seq LIMIT ?3",
            )?;
            let rows = query.query_map(params![session.as_str(), heard, limit as u64], |row| {
                Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?, row.get::<_, String>(2)?))
            })?;
            let read = |row: rusqlite::Result<(u64, u64, String)>| {
                let (runner_seq, seq, body) = row?;
                Ok((runner_seq, serde_json::from_str(&body).unwrap_or_else(|error| unreadable(seq, &error))))
            };
            rows.map(read).collect::<Result<_, JobError>>()
        })
        .await
    }

    /// How far the journal was read.
    pub async fn journal_cursor(&self, session: &SessionId) -> Result<Option<JournalCursor>, StoreError> {
        let session = session.clone();
        self.call(move |connection| {
            Ok(connection
                .query_row("SELECT cursor FROM journals WHERE session = ?1", [session.as_str()], |row| row.get(0))
                .optional()?)
        })
        .await
    }

    /// Stores what the agent put into `box_name`, with the event that tells of it, whose number is returned. None if its
    /// id was taken before: then nothing is stored.
    pub async fn take(
        &self,
        session: &SessionId,
        box_name: &'static str,
        id: &str,
        body: String,
        event: NewEvent,
    ) -> Result<Option<u64>, StoreError> {
        let (session, id) = (session.clone(), id.to_owned());
        self.call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let new = transaction
                .prepare_cached("INSERT OR IGNORE INTO inbox (session, box, id, body) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![session.as_str(), box_name, id, body])?
                == 1;
            let mut told = None;
            if new {
                let seq = insert_next(&transaction, &session, event.what)?;
                told = Some(seq);
            }
            transaction.commit()?;
            Ok(told)
        })
        .await
    }
}

impl Store {
    /// Stores an event of a session that waits for room; false, and nothing is stored, if it does not wait any more.
    pub async fn tell_queued(&self, session: &SessionId, event: HostEvent) -> Result<bool, StoreError> {
        let session = session.clone();
        self.call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let waits = transaction
                .prepare_cached("SELECT 1 FROM sessions WHERE id = ?1 AND status = ?2 AND ended_at IS NULL")?
                .exists(params![session.as_str(), Status::Queued.word()])?;
            if waits {
                insert_next(&transaction, &session, event.into())?;
                transaction.commit()?;
            }
            Ok(waits)
        })
        .await
    }

    /// Bytes of all events of a session, as they are stored.
    pub async fn event_bytes(&self, session: &SessionId) -> Result<u64, StoreError> {
        let session = session.clone();
        self.call(move |connection| {
            // Lengths are in the rows' headers: the bodies are not read.
            Ok(connection
                .prepare_cached("SELECT coalesce(sum(octet_length(body)), 0) FROM events WHERE session = ?1")?
                .query_row([session.as_str()], |row| row.get(0))?)
        })
        .await
    }
}

/// Stores one event of ours after the last: its number.
pub(super) fn insert_next(transaction: &Transaction<'_>, session: &SessionId, what: What) -> Result<u64, JobError> {
    let seq: u64 = transaction
        .prepare_cached("SELECT coalesce(max(seq), 0) + 1 FROM events WHERE session = ?1")?
        .query_row([session.as_str()], |row| row.get(0))?;
    let body = serde_json::to_string(&SessionEvent { seq, at: jiff::Timestamp::now(), what })?;
    transaction
        .prepare_cached("INSERT INTO events (session, seq, runner_seq, body) VALUES (?1, ?2, NULL, ?3)")?
        .execute(params![session.as_str(), seq, body])?;
    Ok(seq)
}

/// Stands for an event that cannot be read back, such as one of a newer aigo: one bad event must not hide the others, or
/// end whoever reads them.
fn unreadable(seq: u64, error: &serde_json::Error) -> SessionEvent {
    let message = format!("this event cannot be shown: {error}");
    let what = HostEvent::HostWarning { code: "unreadable_event".into(), message }.into();
    SessionEvent { seq, at: jiff::Timestamp::now(), what }
}

#[cfg(test)]
mod tests {
    use ipc_protocol::event::EventKind;

    use super::*;
    use crate::session::status::Status;
    use crate::store::{Outcome, SessionFilter, SessionRow};

    async fn store() -> (tempfile::TempDir, Store, SessionId) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("aigo.db")).unwrap();
        let id = SessionId::random();
        store.insert_session(SessionRow::new(id.clone(), "claude", "image", "/w")).await.unwrap();
        (dir, store, id)
    }

    fn runner(seq: u64) -> NewEvent {
        let what = What::Runner(EventKind::Warning { code: "w".into(), message: seq.to_string() });
        NewEvent { runner_seq: Some(seq), what }
    }

    #[tokio::test]
    async fn events_are_gap_free_and_taken_once() {
        let (_dir, store, id) = store().await;
        store.append(&id, vec![runner(1), runner(2)], Some("a".into())).await.unwrap();
        let again = vec![runner(2), HostEvent::InterruptSent {}.into(), runner(3)];
        let appended = store.append(&id, again, Some("b".into())).await.unwrap();
        assert_eq!(appended.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [3, 4]);
        let all = store.events(&id, 0, 100).await.unwrap();
        assert_eq!(all.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(store.events(&id, 2, 1).await.unwrap()[0], appended.events[0]);
        assert_eq!(store.journal_cursor(&id).await.unwrap().as_deref(), Some("b"));
    }

    #[tokio::test]
    async fn a_batch_is_bounded_in_bytes_and_has_at_least_one_event() {
        let (_dir, store, id) = store().await;
        let large = |bytes| {
            let what = What::Runner(EventKind::Warning { code: "w".into(), message: "x".repeat(bytes) });
            NewEvent { runner_seq: None, what }
        };
        let events = vec![large(2 * BATCH_BYTES), large(BATCH_BYTES / 2), large(BATCH_BYTES / 2), large(1)];
        store.append(&id, events, None).await.unwrap();
        let batch = async |after| {
            let events = store.events(&id, after, 100).await.unwrap();
            events.iter().map(|event| event.seq).collect::<Vec<_>>()
        };
        assert_eq!(batch(0).await, [1]);
        assert_eq!(batch(1).await, [2, 3]);
        assert_eq!(batch(3).await, [4]);
        assert_eq!(batch(4).await, [0; 0]);
    }

    #[tokio::test]
    async fn an_event_nested_deeper_than_json_may_be_is_read_back_as_text() {
        let (_dir, store, id) = store().await;
        let deep = format!(r#"{{"seq":1,"at":1,"kind":"x","a":{}{}}}"#, "[".repeat(126), "]".repeat(126));
        let event = ipc_protocol::event::Event::parse(deep.as_bytes()).unwrap();
        let deep = NewEvent { runner_seq: Some(1), what: What::Runner(event.kind) };
        store.append(&id, vec![deep, HostEvent::InterruptSent {}.into()], Position::default()).await.unwrap();
        let events = store.events(&id, 0, 9).await.unwrap();
        let What::Runner(EventKind::Raw { body, .. }) = &events[0].what else { panic!("{events:?}") };
        assert!(body.value.as_str().is_some_and(|text| text.contains("[[[[")), "{body:?}");
    }

    #[tokio::test]
    async fn an_event_that_cannot_be_read_back_hides_no_other() {
        let (_dir, store, id) = store().await;
        let events = vec![HostEvent::InterruptSent {}.into(), HostEvent::InterruptSent {}.into()];
        store.append(&id, events, Position::default()).await.unwrap();
        store
            .call(|connection| Ok(connection.execute("UPDATE events SET body = '{' WHERE seq = 1", []).map(drop)?))
            .await
            .unwrap();
        let events = store.events(&id, 0, 9).await.unwrap();
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2]);
        assert!(matches!(events[0].what, What::Host(HostEvent::HostWarning { .. })), "{events:?}");
    }

    #[tokio::test]
    async fn a_message_is_taken_once() {
        let (_dir, store, id) = store().await;
        let event = || NewEvent::from(HostEvent::InterruptSent {});
        assert_eq!(store.take(&id, "messages", "m", "{}".into(), event()).await.unwrap(), Some(1));
        assert_eq!(store.take(&id, "messages", "m", "{}".into(), event()).await.unwrap(), None);
        assert_eq!(store.take(&id, "tasks", "m", "{}".into(), event()).await.unwrap(), Some(2));
        assert_eq!(store.events(&id, 0, 9).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn sessions_come_back_newest_first() {
        let (_dir, store, first) = store().await;
        let second = SessionId::random();
        store.insert_session(SessionRow::new(second.clone(), "command", "image", "/w")).await.unwrap();
        let outcome = Outcome { status: Status::Failed, ending: None, summary: None };
        store.end_session(&first, outcome, HostEvent::InterruptSent {}).await.unwrap();
        let all = store.sessions(SessionFilter::All).await.unwrap();
        assert_eq!(all.len(), 2);
        let live = store.sessions(SessionFilter::Live).await.unwrap();
        assert_eq!(live.iter().map(|row| &row.id).collect::<Vec<_>>(), [&second]);
        let row = store.session(&first).await.unwrap().unwrap();
        assert_eq!((row.status, row.ended_at.is_some()), (Status::Failed, true));
    }
}
