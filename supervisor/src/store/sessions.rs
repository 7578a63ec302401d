//! One row a session: its intent before the engine is asked, its resources, its end.

use std::path::PathBuf;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;

use super::events::insert_next;
use super::writer::{JobError, Store, StoreError};
use crate::engine::EngineIdentity;
use crate::failpoint::reach;
use crate::session::SessionId;
use crate::session::event::{HostEvent, Summary};
use crate::session::status::{Ending, Status};

/// A session as the store knows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// Where it is in its life.
    pub status: Status,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// What runs in the container: `claude` or `command`.
    pub program: String,
    /// On whose account it runs.
    pub agent: String,
    /// What was asked for, as JSON: of a session that a service owns, so that the next service can go on with it.
    #[serde(skip)]
    pub request: Option<String>,
    /// The image.
    pub image: String,
    /// The user's folder.
    pub workspace: PathBuf,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The process that owns it.
    pub owner_pid: u32,
    /// The engine's id of its container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The engine's id of its network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Figures, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// The engine that it is on; not known of old sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineIdentity>,
}

impl SessionRow {
    /// A session that this process is about to bring up.
    pub fn new(id: SessionId, program: &str, image: &str, workspace: impl Into<PathBuf>) -> Self {
        Self {
            id,
            status: Status::Provisioning,
            ending: None,
            program: program.to_owned(),
            agent: DEFAULT_AGENT.to_owned(),
            request: None,
            image: image.to_owned(),
            workspace: workspace.into(),
            created_at: Timestamp::now(),
            ended_at: None,
            owner_pid: std::process::id(),
            container: None,
            network: None,
            summary: None,
            engine: None,
        }
    }

    /// The same on this engine.
    #[must_use]
    pub fn on(self, engine: EngineIdentity) -> Self {
        Self { engine: Some(engine), ..self }
    }
}

/// Whose account a session is on if nobody else's.
pub const DEFAULT_AGENT: &str = "default";

/// A page of sessions, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPage {
    /// Only those with this status.
    pub status: Option<Status>,
    /// Only those on this account.
    pub agent: Option<String>,
    /// Only those after (older than) this one.
    pub after: Option<SessionId>,
    /// At most as many.
    pub limit: usize,
}

/// How many sessions the store has, and what all that ever ended add up to, also those that are no longer stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// How many stored sessions have each status.
    pub by_status: Vec<(Status, u64)>,
    /// Tokens that models read for all sessions that ever ended; never falls.
    pub input_tokens: u64,
    /// Tokens that models wrote for all sessions that ever ended; never falls.
    pub output_tokens: u64,
    /// US dollars of all sessions that ever ended; never falls.
    pub cost_usd: f64,
}

/// The end of a session.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The final status.
    pub status: Status,
    /// Why.
    pub ending: Option<Ending>,
    /// Figures.
    pub summary: Option<Summary>,
}

/// Which sessions are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionFilter {
    /// All, newest first.
    All,
    /// Those that have not ended.
    Live,
}

/// The first tables called the program `agent`, and whose account it is on came later, as `principal`.
pub(super) const COLUMNS: &str = "id, status, reason, agent, image, workspace, created_at, ended_at, owner_pid, container, network, \
                       summary, engine_id, engine_endpoint, principal, request";

impl Store {
    /// Writes down what is about to be done. A session that waits in the queue keeps its row, and its time.
    ///
    /// # Errors
    /// The store's; also if there is such a session already that does not wait.
    pub async fn insert_session(&self, row: SessionRow) -> Result<(), StoreError> {
        self.call(move |connection| {
            let rows = connection.execute(
                "INSERT INTO sessions
                     (id, status, agent, image, workspace, created_at, owner_pid, engine_id, engine_endpoint, principal,
                      request)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 ON CONFLICT (id) DO UPDATE SET
                     status = excluded.status, agent = excluded.agent, image = excluded.image,
                     workspace = excluded.workspace, owner_pid = excluded.owner_pid, engine_id = excluded.engine_id,
                     engine_endpoint = excluded.engine_endpoint, principal = excluded.principal,
                     request = excluded.request
                 WHERE sessions.status = 'queued'",
                params![
                    row.id.as_str(),
                    row.status.word(),
                    row.program,
                    row.image,
                    row.workspace.to_string_lossy(),
                    row.created_at.to_string(),
                    row.owner_pid,
                    row.engine.as_ref().map(|engine| &engine.id),
                    row.engine.as_ref().map(|engine| &engine.endpoint),
                    row.agent,
                    row.request,
                ],
            )?;
            if rows == 1 { Ok(()) } else { Err(JobError::Corrupt(format!("session {} is here already", row.id))) }
        })
        .await
    }

    /// A new status.
    pub async fn set_status(&self, id: &SessionId, status: Status) -> Result<(), StoreError> {
        self.update(id, "UPDATE sessions SET status = ?2 WHERE id = ?1", status.word().to_owned()).await
    }

    /// The engine's id of the session's container.
    pub async fn set_container(&self, id: &SessionId, container: &str) -> Result<(), StoreError> {
        self.update(id, "UPDATE sessions SET container = ?2 WHERE id = ?1", container.to_owned()).await
    }

    /// The engine's id of the session's network.
    pub async fn set_network(&self, id: &SessionId, network: &str) -> Result<(), StoreError> {
        self.update(id, "UPDATE sessions SET network = ?2 WHERE id = ?1", network.to_owned()).await
    }

    async fn update(&self, id: &SessionId, sql: &'static str, value: String) -> Result<(), StoreError> {
        let id = id.clone();
        self.call(move |connection| {
            connection.execute(sql, params![id.as_str(), value])?;
            Ok(())
        })
        .await
    }

    /// Why it ends, before everything is let go: whoever goes on with it then only has to let go.
    pub async fn set_ending(&self, id: &SessionId, ending: &Ending) -> Result<(), StoreError> {
        let id = id.clone();
        let ending = serde_json::to_string(ending);
        self.call(move |connection| {
            connection.execute("UPDATE sessions SET reason = ?2 WHERE id = ?1", params![id.as_str(), ending?])?;
            Ok(())
        })
        .await
    }

    /// Notes that this process owns the session now.
    pub async fn set_owner(&self, id: &SessionId) -> Result<(), StoreError> {
        let id = id.clone();
        self.call(move |connection| {
            connection.execute(
                "UPDATE sessions SET owner_pid = ?2 WHERE id = ?1",
                params![id.as_str(), std::process::id()],
            )?;
            Ok(())
        })
        .await
    }

    /// The end, and in the same transaction `event`, which tells of it: nobody finds one without the other. The event's
    /// number.
    pub async fn end_session(&self, id: &SessionId, outcome: Outcome, event: HostEvent) -> Result<u64, StoreError> {
        let id = id.clone();
        self.call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let seq = end(transaction, &id, outcome, event)?;
            reach("end.stored.after");
            Ok(seq)
        })
        .await
    }

    /// The same for a session that waits in the queue. If it does not any more, nothing is stored, and false is returned: who
    /// launches it may be another process.
    pub async fn end_waiting(&self, id: &SessionId, outcome: Outcome, event: HostEvent) -> Result<bool, StoreError> {
        let id = id.clone();
        self.call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let waits: bool = transaction.query_row(
                "SELECT count(*) FROM sessions WHERE id = ?1 AND status = 'queued' AND ended_at IS NULL",
                [id.as_str()],
                |row| row.get(0),
            )?;
            if waits {
                end(transaction, &id, outcome, event)?;
            }
            Ok(waits)
        })
        .await
    }

    /// One session.
    pub async fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, StoreError> {
        let id = id.clone();
        self.call(move |connection| {
            let sql = format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1");
            let row = connection.query_row(&sql, [id.as_str()], |row| Ok(read(row))).optional()?;
            row.transpose()
        })
        .await
    }

    /// A page of sessions, newest first.
    pub async fn session_page(&self, page: SessionPage) -> Result<Vec<SessionRow>, StoreError> {
        self.call(move |connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM sessions
                 WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR principal = ?2)
                   AND (?3 IS NULL OR (created_at, id) < (SELECT created_at, id FROM sessions WHERE id = ?3))
                 ORDER BY created_at DESC, id DESC LIMIT ?4"
            );
            let mut query = connection.prepare_cached(&sql)?;
            let after = page.after.as_ref().map(SessionId::as_str);
            let values = params![page.status.map(Status::word), page.agent, after, page.limit as u64];
            let rows = query.query_map(values, |row| Ok(read(row)))?;
            rows.map(|row| row?).collect()
        })
        .await
    }

    /// Counts the stored sessions by status, and reads the counters.
    pub async fn totals(&self) -> Result<Totals, StoreError> {
        self.call(|connection| {
            let mut totals = Totals::default();
            let mut query = connection.prepare_cached("SELECT status, count(*) FROM sessions GROUP BY status")?;
            let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))?;
            for row in rows {
                let (word, count) = row?;
                if let Some(status) = Status::from_word(&word) {
                    totals.by_status.push((status, count));
                }
            }
            let mut counter = connection.prepare_cached("SELECT value FROM counters WHERE name = ?1")?;
            totals.input_tokens = counter.query_row(["input_tokens"], |row| row.get(0))?;
            totals.output_tokens = counter.query_row(["output_tokens"], |row| row.get(0))?;
            totals.cost_usd = counter.query_row(["cost_usd"], |row| row.get(0))?;
            Ok(totals)
        })
        .await
    }

    /// Sessions, newest first.
    pub async fn sessions(&self, filter: SessionFilter) -> Result<Vec<SessionRow>, StoreError> {
        self.call(move |connection| {
            let condition = match filter {
                SessionFilter::All => "",
                SessionFilter::Live => "WHERE ended_at IS NULL",
            };
            let sql = format!("SELECT {COLUMNS} FROM sessions {condition} ORDER BY created_at DESC, id");
            let mut query = connection.prepare(&sql)?;
            let rows = query.query_map([], |row| Ok(read(row)))?;
            rows.map(|row| row?).collect()
        })
        .await
    }
}

fn end(transaction: Transaction<'_>, id: &SessionId, outcome: Outcome, event: HostEvent) -> Result<u64, JobError> {
    let seq = end_in(&transaction, id, outcome, event)?;
    reach("end.stored.before");
    transaction.commit()?;
    Ok(seq)
}

/// The end of a session, and the event that tells of it.
pub(super) fn end_in(
    transaction: &Transaction<'_>,
    id: &SessionId,
    outcome: Outcome,
    event: HostEvent,
) -> Result<u64, JobError> {
    let ending = outcome.ending.map(|ending| serde_json::to_string(&ending)).transpose()?;
    let summary = outcome.summary.map(|summary| serde_json::to_string(&summary)).transpose()?;
    transaction.execute(
        "UPDATE sessions SET status = ?2, reason = ?3, summary = ?4, ended_at = ?5, request = NULL WHERE id = ?1",
        params![id.as_str(), outcome.status.word(), ending, summary, Timestamp::now().to_string()],
    )?;
    transaction.execute("DELETE FROM checkpoints WHERE session = ?1", [id.as_str()])?;
    insert_next(transaction, id, event.into())
}

pub(super) fn read(row: &Row<'_>) -> Result<SessionRow, JobError> {
    let text = |index: usize| row.get::<_, String>(index);
    let time = |text: String| text.parse::<Timestamp>().map_err(|error| JobError::Corrupt(error.to_string()));
    let status = text(1)?;
    let optional = |index: usize| row.get::<_, Option<String>>(index);
    Ok(SessionRow {
        id: text(0)?
            .parse()
            .map_err(|error: crate::session::id::InvalidSessionId| JobError::Corrupt(error.to_string()))?,
        status: Status::from_word(&status).ok_or_else(|| JobError::Corrupt(format!("status `{status}`")))?,
        ending: optional(2)?.map(|json| serde_json::from_str(&json)).transpose()?,
        program: text(3)?,
        image: text(4)?,
        workspace: text(5)?.into(),
        created_at: time(text(6)?)?,
        ended_at: optional(7)?.map(time).transpose()?,
        owner_pid: row.get(8)?,
        container: optional(9)?,
        network: optional(10)?,
        summary: optional(11)?.map(|json| serde_json::from_str(&json)).transpose()?,
        engine: optional(12)?.zip(optional(13)?).map(|(id, endpoint)| EngineIdentity { id, endpoint }),
        agent: text(14)?,
        request: optional(15)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::status::EndReason;

    #[tokio::test]
    async fn whose_turn_has_come_is_not_ended_as_one_who_waits() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("aigo.db")).unwrap();
        let id = SessionId::random();
        let mut row = SessionRow::new(id.clone(), "command", "image", "/w");
        row.status = Status::Queued;
        store.insert_session(row.clone()).await.unwrap();
        // Seen as waiting by whoever cancels it, and launched by the service before that is written.
        row.status = Status::Provisioning;
        store.insert_session(row).await.unwrap();
        let ending = Ending::because(EndReason::Cancelled, "a test");
        let outcome = || Outcome { status: Status::Cancelled, ending: Some(ending.clone()), summary: None };
        assert!(!store.end_waiting(&id, outcome(), HostEvent::InterruptSent {}).await.unwrap());
        let now = store.session(&id).await.unwrap().unwrap();
        assert_eq!((now.status, now.ended_at, store.last_event(&id).await.unwrap()), (Status::Provisioning, None, 0));
        store.set_status(&id, Status::Queued).await.unwrap();
        assert!(store.end_waiting(&id, outcome(), HostEvent::InterruptSent {}).await.unwrap());
        assert!(!store.end_waiting(&id, outcome(), HostEvent::InterruptSent {}).await.unwrap(), "once");
        let now = store.session(&id).await.unwrap().unwrap();
        assert_eq!((now.status, store.last_event(&id).await.unwrap()), (Status::Cancelled, 1));
    }

    async fn end_with(store: &Store, input: u64, cost: Option<f64>) -> SessionId {
        let id = SessionId::random();
        store.insert_session(SessionRow::new(id.clone(), "claude", "image", "/w")).await.unwrap();
        let tokens = serde_json::json!({"input": input, "output": 1, "cacheRead": 0, "cacheWrite": 0});
        let summary =
            serde_json::json!({"durationMs": 1, "turns": 1, "tokens": tokens, "modelRequests": 1, "costUsd": cost});
        let summary = Some(serde_json::from_value(summary).unwrap());
        let outcome = || Outcome { status: Status::Completed, ending: None, summary: summary.clone() };
        store.end_session(&id, outcome(), HostEvent::InterruptSent {}).await.unwrap();
        // Somebody who ends it once more changes no counter.
        store.end_session(&id, outcome(), HostEvent::InterruptSent {}).await.unwrap();
        id
    }

    #[tokio::test]
    async fn counters_do_not_fall_when_retention_forgets_sessions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aigo.db");
        let store = Store::open(&path).unwrap();
        end_with(&store, 100, Some(0.5)).await;
        end_with(&store, 20, None).await;
        let before = store.totals().await.unwrap();
        assert_eq!((before.input_tokens, before.output_tokens, before.cost_usd), (120, 2, 0.5));
        assert_eq!(store.forget_old(Some(std::time::Duration::ZERO), None).await.unwrap(), 2);
        drop(store);
        let store = Store::open(&path).unwrap();
        let after = store.totals().await.unwrap();
        assert_eq!((after.input_tokens, after.output_tokens, after.cost_usd), (120, 2, 0.5));
        assert_eq!(after.by_status, []);
        end_with(&store, 3, Some(0.25)).await;
        let more = store.totals().await.unwrap();
        assert_eq!((more.input_tokens, more.output_tokens, more.cost_usd), (123, 3, 0.75));
    }

    #[tokio::test]
    async fn figures_that_cannot_be_true_neither_lower_nor_break_a_counter() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("aigo.db")).unwrap();
        end_with(&store, 5, Some(1.0)).await;
        for _ in 0..3 {
            end_with(&store, u64::MAX, Some(-1e308)).await;
            end_with(&store, i64::MAX as u64, Some(1e308)).await;
        }
        let totals = store.totals().await.unwrap();
        assert_eq!((totals.input_tokens, totals.cost_usd), (9_000_000_000_000_000_000, 3.0e12 + 1.0));
    }
}
