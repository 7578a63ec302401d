//! Who asked for what, what was decided, and why.

use jiff::Timestamp;
use nix::unistd::Uid;
use rusqlite::params;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::writer::{JobError, Store, StoreError};
use crate::error_chain::chain;
use crate::session::SessionId;

/// Rows that are kept; the oldest go first. At a request a second this is more than a day of refusals.
const KEPT: u64 = 100_000;

/// What was decided: `allowed` (the request was carried out) or `denied` (it was not).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It was done.
    Allowed,
    /// It was not.
    Denied,
}

impl Decision {
    const ALL: [Self; 2] = [Self::Allowed, Self::Denied];

    /// The word that people, the API and the store use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

/// Who asks by a unix socket, in words: the kernel says which user.
pub fn socket_actor(uid: u32) -> String {
    format!("socket uid {uid}")
}

/// A line of the audit log that is not written yet.
#[derive(Clone, Debug)]
pub struct NewAudit {
    /// Who, in words: `api 127.0.0.1:40123 uid 1000`, `socket uid 1000`, `cli uid 1000`, `signal SIGHUP`.
    pub actor: String,
    /// What: `session.create`, `session.cancel`.
    pub action: &'static str,
    /// About which session.
    pub session: Option<SessionId>,
    /// What was decided.
    pub decision: Decision,
    /// Why, in sentences.
    pub reasons: Vec<String>,
}

impl NewAudit {
    /// A session of a service was ended by this process itself, in the store: because no service runs, or none owns the
    /// session yet.
    pub fn by_cli(action: &'static str, session: &SessionId, by: &str) -> Self {
        Self {
            actor: format!("cli uid {}", Uid::effective()),
            action,
            session: Some(session.clone()),
            decision: Decision::Allowed,
            reasons: vec![format!("by {by}")],
        }
    }
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number, growing.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// About which session.
    pub session: Option<String>,
    /// What was decided.
    pub decision: Decision,
    /// Why.
    pub reasons: Vec<String>,
}

impl Store {
    /// Writes a line.
    pub async fn audit(&self, line: NewAudit) -> Result<(), StoreError> {
        self.call(move |connection| {
            let reasons = serde_json::to_string(&line.reasons)?;
            connection
                .prepare_cached(
                    "INSERT INTO audit (at, actor, action, session, decision, reasons) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    Timestamp::now().to_string(),
                    line.actor,
                    line.action,
                    line.session.as_ref().map(SessionId::as_str),
                    line.decision.word(),
                    reasons,
                ])?;
            connection
                .prepare_cached("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?1")?
                .execute([KEPT])?;
            Ok(())
        })
        .await
    }

    /// The same for a line that stops nothing, since the log holds no state: that it cannot be written is only said.
    pub async fn note(&self, line: NewAudit) {
        if let Err(error) = self.audit(line).await {
            tracing::error!("the audit log cannot be written: {}", chain(&error));
        }
    }

    /// Lines, newest first, older than the line `before` if one is given.
    pub async fn audit_log(&self, before: Option<u64>, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        self.call(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, at, actor, action, session, decision, reasons FROM audit
                 WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
            )?;
            let before = before.map_or(i64::MAX, |id| i64::try_from(id).unwrap_or(i64::MAX));
            let mut rows = query.query(params![before, limit as u64])?;
            let mut lines = Vec::new();
            while let Some(row) = rows.next()? {
                let at: String = row.get(1)?;
                let word: String = row.get(5)?;
                let reasons: String = row.get(6)?;
                let decision = Decision::ALL.into_iter().find(|decision| decision.word() == word);
                lines.push(AuditRow {
                    id: row.get(0)?,
                    at: at.parse().map_err(|error: jiff::Error| JobError::Corrupt(error.to_string()))?,
                    actor: row.get(2)?,
                    action: row.get(3)?,
                    session: row.get(4)?,
                    decision: decision.ok_or_else(|| JobError::Corrupt(format!("decision `{word}`")))?,
                    reasons: serde_json::from_str(&reasons)?,
                });
            }
            Ok(lines)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_back_newest_first_and_page_by_page() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("aigo.db")).unwrap();
        for number in 0..5 {
            let line = NewAudit {
                actor: "test".into(),
                action: "session.create",
                session: None,
                decision: if number == 3 { Decision::Denied } else { Decision::Allowed },
                reasons: vec![format!("reason {number}")],
            };
            store.audit(line).await.unwrap();
        }
        let first = store.audit_log(None, 2).await.unwrap();
        assert_eq!(first.iter().map(|line| line.id).collect::<Vec<_>>(), [5, 4]);
        assert_eq!((first[1].decision, &first[1].reasons[..]), (Decision::Denied, &["reason 3".to_owned()][..]));
        let rest = store.audit_log(Some(4), 100).await.unwrap();
        assert_eq!(rest.iter().map(|line| line.id).collect::<Vec<_>>(), [3, 2, 1]);
    }
}
