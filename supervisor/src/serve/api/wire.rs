//! What the API says, as JSON: our own types with the names that clients rely on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::document::EndReasonWord;
use crate::serve::meter::{Reading, Usage};
use crate::session::SessionId;
use crate::session::event::Summary;
use crate::session::status::Status;
use crate::store::{AuditRow, Decision, SessionRow};

/// A session: an agent at work, waiting for room, or ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The id of the session.
    #[schema(value_type = String, pattern = "^[0-9a-f]{12}$", example = "73a5286aa485")]
    pub id: SessionId,
    /// Where the session is in its life.
    pub status: Status,
    /// Why the session ended; absent before the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<EndReasonWord>)]
    pub reason: Option<&'static str>,
    /// Why the session ended and what to do about it, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The agent (principal) that the session is charged to.
    #[schema(example = "default")]
    pub agent: String,
    /// What runs in the container: `claude` or `command`.
    pub program: String,
    /// The image of the container.
    #[schema(example = "aigo-agent-runner:latest")]
    pub image: String,
    /// The folder that the agent works on, as a path of the service's host.
    pub workspace: String,
    /// When the session was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When the session ended; absent before the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// The engine's id of the container; absent before the container was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The figures of the session; absent before the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// What the container uses now; absent if the session does not run or the container cannot be measured.
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
            status: row.status,
            reason: row.ending.as_ref().map(|ending| ending.reason.word()),
            detail: row.ending.and_then(|ending| ending.detail),
            agent: row.agent,
            program: row.program,
            image: row.image,
            workspace: row.workspace.to_string_lossy().into_owned(),
            created_at: row.created_at,
            ended_at: row.ended_at,
            container: row.container,
            summary: row.summary,
            usage: None,
            id: row.id,
        }
    }
}

/// A page of a list, the newest item first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// The value of `cursor` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A message for the agent.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMessage {
    /// The text of the message, at most 8 MiB.
    #[schema(min_length = 1)]
    pub text: String,
}

/// A message that was accepted for the agent.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// The id of the message; the event `input_accepted` names it when the agent has taken the message.
    pub id: String,
}

/// How a session is to be closed.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Close {
    /// The time in seconds that the agent may take to finish before it is ended by force, at most a day. Default: no limit.
    #[serde(default)]
    #[schema(maximum = 86400)]
    pub grace_secs: Option<u32>,
}

/// A line of the audit log.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// The number of the line; later lines have larger numbers.
    pub id: u64,
    /// When the request came.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who asked, in words.
    pub actor: String,
    /// What was asked for.
    #[schema(example = "session.create")]
    pub action: String,
    /// The session that the request is about; absent if it is about none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What was decided.
    pub decision: Decision,
    /// Why it was decided so, in sentences, with what was asked for.
    #[schema(example = json!(["image `aigo-agent-runner:latest`"]))]
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
    /// The id of the execution; that of a session is the session's id.
    pub id: String,
    /// What was executed.
    pub kind: RunKind,
    /// The agent (principal) that the execution was charged to.
    pub agent: String,
    /// The group of the execution; null for a session that was started by hand.
    pub group: Option<String>,
    /// The image of the container.
    pub image: String,
    /// Same values as `Session.status`.
    pub status: Status,
    /// Same values as `Session.reason`; null before the end.
    #[schema(value_type = Option<EndReasonWord>)]
    pub reason: Option<&'static str>,
    /// The exit code of the agent; null if the agent did not end by itself.
    pub exit_code: Option<i32>,
    /// When the execution was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When the execution ended; null before the end.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// The tokens, turns, model requests and cost of the execution.
    pub usage: RunUsage,
}

/// What was executed: a `session`.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// A session.
    Session,
}

/// What an execution used.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunUsage {
    /// The tokens that the model read, without those from its cache.
    pub input_tokens: u64,
    /// The tokens that the model wrote.
    pub output_tokens: u64,
    /// The tokens that the model read from its cache.
    pub cache_read_tokens: u64,
    /// The tokens that the model put into its cache.
    pub cache_write_tokens: u64,
    /// The number of turns.
    pub turns: u64,
    /// The number of requests to the model service.
    pub model_requests: u64,
    /// The cost in US dollars, as the agent computes it; null if the agent does not.
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
            kind: RunKind::Session,
            agent: row.agent,
            group: None,
            image: row.image,
            status: row.status,
            reason: row.ending.as_ref().map(|ending| ending.reason.word()),
            exit_code,
            started_at: row.created_at,
            finished_at: row.ended_at,
            usage,
        }
    }
}
