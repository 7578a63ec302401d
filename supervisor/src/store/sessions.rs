//! One row a session: its intent before the engine is asked, its resources, its end.

use std::path::PathBuf;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

use super::writer::{JobError, Store, StoreError};
use crate::engine::EngineIdentity;
use crate::session::SessionId;
use crate::session::event::Summary;
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
    /// `claude` or `command`.
    pub agent: String,
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
    pub fn new(id: SessionId, agent: &str, image: &str, workspace: impl Into<PathBuf>) -> Self {
        Self {
            id,
            status: Status::Provisioning,
            ending: None,
            agent: agent.to_owned(),
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

const COLUMNS: &str = "id, status, reason, agent, image, workspace, created_at, ended_at, owner_pid, container, network, \
                       summary, engine_id, engine_endpoint";

impl Store {
    /// Writes down what is about to be done.
    pub async fn insert_session(&self, row: SessionRow) -> Result<(), StoreError> {
        self.call(move |connection| {
            connection.execute(
                "INSERT INTO sessions
                     (id, status, agent, image, workspace, created_at, owner_pid, engine_id, engine_endpoint)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    row.id.as_str(),
                    row.status.word(),
                    row.agent,
                    row.image,
                    row.workspace.to_string_lossy(),
                    row.created_at.to_string(),
                    row.owner_pid,
                    row.engine.as_ref().map(|engine| &engine.id),
                    row.engine.as_ref().map(|engine| &engine.endpoint),
                ],
            )?;
            Ok(())
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

    /// The end.
    pub async fn end_session(&self, id: &SessionId, outcome: Outcome) -> Result<(), StoreError> {
        let id = id.clone();
        self.call(move |connection| {
            let ending = outcome.ending.map(|ending| serde_json::to_string(&ending)).transpose()?;
            let summary = outcome.summary.map(|summary| serde_json::to_string(&summary)).transpose()?;
            connection.execute(
                "UPDATE sessions SET status = ?2, reason = ?3, summary = ?4, ended_at = ?5 WHERE id = ?1",
                params![id.as_str(), outcome.status.word(), ending, summary, Timestamp::now().to_string()],
            )?;
            Ok(())
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

fn read(row: &Row<'_>) -> Result<SessionRow, JobError> {
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
        agent: text(3)?,
        image: text(4)?,
        workspace: text(5)?.into(),
        created_at: time(text(6)?)?,
        ended_at: optional(7)?.map(time).transpose()?,
        owner_pid: row.get(8)?,
        container: optional(9)?,
        network: optional(10)?,
        summary: optional(11)?.map(|json| serde_json::from_str(&json)).transpose()?,
        engine: optional(12)?.zip(optional(13)?).map(|(id, endpoint)| EngineIdentity { id, endpoint }),
    })
}
