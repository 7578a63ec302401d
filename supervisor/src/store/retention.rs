//! Forgetting sessions that have ended: the older goes first.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::writer::{JobError, Store, StoreError};

/// Rows of a session that are removed at once; a session may have hundreds of MiB, and others must get their turn at the
/// database.
const ROWS: usize = 50;
/// How long rows are removed until it is the others' turn.
const SLICE: Duration = Duration::from_millis(50);

/// A session that may be forgotten: it has ended, and owes nothing to the folder that it worked on.
const FORGETTABLE: &str = "ended_at IS NOT NULL AND mounted = 0 AND made = '[]'";

impl Store {
    /// Forgets sessions that ended more than `max_age` ago, and then the oldest ones until what the database holds is within
    /// `max_size` bytes. Returns how many. The file keeps its size: what is free in it is used again.
    pub async fn forget_old(&self, max_age: Option<Duration>, max_size: Option<u64>) -> Result<usize, StoreError> {
        let cutoff = max_age.and_then(|age| Timestamp::now().checked_sub(age).ok()).map(|time| time.to_string());
        let mut forgotten = 0;
        loop {
            let cutoff = cutoff.clone();
            let next = self.call(move |connection| next(connection, cutoff.as_deref(), max_size)).await?;
            let Some(id) = next else { return Ok(forgotten) };
            loop {
                let id = id.clone();
                if self.call(move |connection| forget_some(connection, &id, SLICE)).await? {
                    break;
                }
            }
            forgotten += 1;
        }
    }
}

/// The oldest session, if it is to be forgotten.
fn next(connection: &mut Connection, cutoff: Option<&str>, max_size: Option<u64>) -> Result<Option<String>, JobError> {
    let oldest: Option<(String, String)> = connection
        .prepare_cached(&format!("SELECT id, ended_at FROM sessions WHERE {FORGETTABLE} ORDER BY ended_at LIMIT 1"))?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((id, ended_at)) = oldest else { return Ok(None) };
    // RFC 3339 in UTC sorts as time does.
    let too_old = cutoff.is_some_and(|cutoff| ended_at.as_str() < cutoff);
    let too_much = || max_size.is_some_and(|max| held(connection).is_ok_and(|held| held > max));
    Ok((too_old || too_much()).then_some(id))
}

/// Removes what a session has, for so long; whether it is gone. Readers of one that is half gone see a gap.
fn forget_some(connection: &mut Connection, id: &str, slice: Duration) -> Result<bool, JobError> {
    let until = Instant::now() + slice;
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut rows = 0;
        for sql in [
            "DELETE FROM events WHERE session = ?1 AND seq IN
                 (SELECT seq FROM events WHERE session = ?1 ORDER BY seq LIMIT ?2)",
            "DELETE FROM inbox WHERE session = ?1 AND (box, id) IN
                 (SELECT box, id FROM inbox WHERE session = ?1 LIMIT ?2)",
        ] {
            rows += transaction.prepare_cached(sql)?.execute(params![id, ROWS as u64])?;
        }
        let gone = rows == 0;
        if gone {
            // What else is of it goes with it.
            transaction.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([id])?;
        }
        transaction.commit()?;
        if gone || Instant::now() >= until {
            return Ok(gone);
        }
    }
}

/// Bytes in pages that are in use.
fn held(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    Ok(pages.saturating_mul(pragma("page_size")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionId;
    use crate::session::event::HostEvent;
    use crate::session::status::Status;
    use crate::store::{Outcome, SessionFilter, SessionRow};

    async fn ended(store: &Store, days_ago: i64, bytes: usize) -> SessionId {
        let id = SessionId::random();
        store.insert_session(SessionRow::new(id.clone(), "command", "image", "/w")).await.unwrap();
        let event = HostEvent::HostWarning { code: "x".into(), message: "y".repeat(bytes) };
        let outcome = Outcome { status: Status::Completed, ending: None, summary: None };
        store.end_session(&id, outcome, event).await.unwrap();
        let time = Timestamp::now().checked_sub(Duration::from_secs(86_400 * days_ago.unsigned_abs())).unwrap();
        let (session, time) = (id.clone(), time.to_string());
        store
            .call(move |connection| {
                let sql = "UPDATE sessions SET ended_at = ?2 WHERE id = ?1";
                Ok(connection.execute(sql, params![session.as_str(), time])?)
            })
            .await
            .unwrap();
        id
    }

    #[tokio::test]
    async fn the_oldest_go_first_and_what_runs_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("aigo.db")).unwrap();
        let live = SessionId::random();
        store.insert_session(SessionRow::new(live.clone(), "command", "image", "/w")).await.unwrap();
        let mut ids = Vec::new();
        for days in [30, 20, 10, 5, 1] {
            ids.push(ended(&store, days, 200_000).await);
        }
        assert_eq!(store.forget_old(None, None).await.unwrap(), 0);
        assert_eq!(store.forget_old(Some(Duration::from_secs(86_400 * 15)), None).await.unwrap(), 2);
        assert_eq!(store.last_event(&ids[0]).await.unwrap(), 0, "its events are gone, too");
        // Three times 200 kB are left: room for two.
        assert_eq!(store.forget_old(None, Some(500_000)).await.unwrap(), 1);
        let left = store.sessions(SessionFilter::All).await.unwrap();
        let mut left: Vec<_> = left.into_iter().map(|row| row.id).collect();
        left.sort();
        let mut expected = vec![live, ids[3].clone(), ids[4].clone()];
        expected.sort();
        assert_eq!(left, expected);
    }

    #[tokio::test]
    async fn a_large_session_goes_in_many_turns() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("aigo.db")).unwrap();
        let id = ended(&store, 30, 1).await;
        let warning = |n: usize| HostEvent::HostWarning { code: "x".into(), message: n.to_string() }.into();
        store.append(&id, (0..3 * ROWS).map(warning).collect(), None).await.unwrap();
        let event = || HostEvent::InterruptSent {}.into();
        store.take(&id, "messages", "m", "{}".into(), event()).await.unwrap();
        let mut turns = 0;
        loop {
            turns += 1;
            let session = id.to_string();
            let gone = store.call(move |connection| forget_some(connection, &session, Duration::ZERO)).await.unwrap();
            assert_eq!(store.session(&id).await.unwrap().is_none(), gone);
            if gone {
                break;
            }
        }
        assert_eq!(turns, 5);
        assert_eq!(store.last_event(&id).await.unwrap(), 0);
        let taken: u64 = store
            .call(|connection| Ok(connection.query_row("SELECT count(*) FROM inbox", [], |row| row.get(0))?))
            .await
            .unwrap();
        assert_eq!(taken, 0);
    }
}
