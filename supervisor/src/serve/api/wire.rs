//! What the API says, as JSON: our own types with the names that clients rely on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::serve::meter::{Reading, Usage};
use crate::session::SessionId;
use crate::store::{AuditRow, Decision, SessionRow};

/// A session.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Its id.
    #[schema(value_type = String, pattern = "^[0-9a-f]{12}$")]
    pub id: SessionId,
    /// `queued`, `provisioning`, `running`, `closing`, `completed`, `failed`, `timeout` or `cancelled`.
    pub status: &'static str,
    /// Why it ended: `finished`, `closed`, `agent_exit`, `wall_timeout`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The same as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// On whose account it runs.
    pub agent: String,
    /// What runs in the container: `claude` or `command`.
    pub program: String,
    /// The image.
    pub image: String,
    /// The user's folder.
    pub workspace: String,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// The engine's id of its container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Figures, once it has ended: duration, turns, tokens, cost, changes, result.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub summary: Option<Value>,
    /// What its container uses now, while it runs and where that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

impl Session {
    /// The same with what it uses, as far as that was read.
    #[must_use]
    pub fn with_usage(self, reading: &Reading) -> Self {
        // The reading may be a second old.
        Self { usage: reading.of(&self.id).filter(|_| self.ended_at.is_none()).cloned(), ..self }
    }
}

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Self {
        Self {
            status: row.status.word(),
            reason: row.ending.as_ref().map(|ending| ending.reason.word()),
            detail: row.ending.and_then(|ending| ending.detail),
            agent: row.agent,
            program: row.program,
            image: row.image,
            workspace: row.workspace.to_string_lossy().into_owned(),
            created_at: row.created_at,
            ended_at: row.ended_at,
            container: row.container,
            summary: row.summary.and_then(|summary| serde_json::to_value(summary).ok()),
            usage: None,
            id: row.id,
        }
    }
}

/// A page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// This page.
    pub items: Vec<T>,
    /// Give it as `cursor` for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A message for the agent.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMessage {
    /// What it says, at most 1 MiB.
    #[schema(min_length = 1)]
    pub text: String,
}

/// What became of a message.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// Its id: `input_accepted` in the events names it.
    pub id: String,
}

/// How a session is closed.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Close {
    /// Seconds that the agent may take to finish before it is ended by force; without it, as long as it takes.
    #[serde(default)]
    #[schema(maximum = 86400)]
    pub grace_secs: Option<u32>,
}

/// A line of the audit log.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Its number, growing.
    pub id: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who, in words.
    pub actor: String,
    /// What.
    #[schema(example = "session.create")]
    pub action: String,
    /// About which session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// `allowed` or `denied`.
    pub decision: Decision,
    /// Why.
    pub reasons: Vec<String>,
}

impl From<AuditRow> for AuditEntry {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            actor: row.actor,
            action: row.action,
            session: row.session,
            decision: row.decision,
            reasons: row.reasons,
        }
    }
}

/// A past or present execution, in the form of the run history.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Its id.
    pub id: String,
    /// What it is: `session`.
    pub kind: &'static str,
    /// On whose account it ran.
    pub agent: String,
    /// Whose group it belongs to; sessions started by hand have none.
    pub group: Option<String>,
    /// The image.
    pub image: String,
    /// As of sessions.
    pub status: &'static str,
    /// As of sessions.
    pub reason: Option<&'static str>,
    /// The agent's exit code, if it ended by itself with another one than 0.
    pub exit_code: Option<i32>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Tokens, turns, cost and model requests.
    pub usage: RunUsage,
}

/// What a run used.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunUsage {
    /// Tokens that the model read.
    pub input_tokens: u64,
    /// Tokens that the model wrote.
    pub output_tokens: u64,
    /// Tokens that came from its cache.
    pub cache_read_tokens: u64,
    /// Tokens that went into its cache.
    pub cache_write_tokens: u64,
    /// Turns.
    pub turns: u64,
    /// Requests to the model service.
    pub model_requests: u64,
    /// US dollars as the agent reckons, where it does.
    pub cost_usd: Option<f64>,
}

impl From<SessionRow> for Run {
    fn from(row: SessionRow) -> Self {
        use crate::session::status::EndReason;
        let exit_code = match row.ending.as_ref().map(|ending| &ending.reason) {
            Some(EndReason::AgentExit { code }) => Some(*code),
            Some(EndReason::Finished | EndReason::Closed) => Some(0),
            _ => None,
        };
        let usage = row.summary.map_or_else(RunUsage::default, |summary| RunUsage {
            input_tokens: summary.tokens.input,
            output_tokens: summary.tokens.output,
            cache_read_tokens: summary.tokens.cache_read,
            cache_write_tokens: summary.tokens.cache_write,
            turns: summary.turns,
            model_requests: summary.model_requests,
            cost_usd: summary.cost_usd,
        });
        Self {
            id: row.id.to_string(),
            kind: "session",
            agent: row.agent,
            group: None,
            image: row.image,
            status: row.status.word(),
            reason: row.ending.as_ref().map(|ending| ending.reason.word()),
            exit_code,
            started_at: row.created_at,
            finished_at: row.ended_at,
            usage,
        }
    }
}
