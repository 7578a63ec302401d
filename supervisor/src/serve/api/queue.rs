//! Who waits, and why.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::extract::Path;
use super::guard::Peer;
use super::problem::Problem;
use super::sessions::{ask, find};
use crate::serve::manager::InLine;
use crate::session::SessionId;
use crate::session::control::Request;
use crate::session::status::Status;

/// Why the first in line does not start though there is room.
const NO_ENGINE: &str = "its turn has come; it starts when the engine answers";

/// The requests that wait.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// Those who wait, the next one first.
    pub items: Vec<Waiting>,
    /// Sessions that run, or are being brought up.
    pub running: u32,
}

/// One that waits.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Its session.
    #[schema(value_type = String, pattern = "^[0-9a-f]{12}$")]
    pub id: SessionId,
    /// On whose account.
    pub agent: String,
    /// 1 is next; who waits for its own agent's limit is stepped over. 0: only the engine is missing.
    pub position: usize,
    /// Why, for programs: `agent_containers`, `sessions`, `cpus`, `memory`, `host_memory`, `turn` or `engine`, with its
    /// numbers.
    #[schema(value_type = Object, example = json!({"code": "sessions", "running": 20, "limit": 20}))]
    pub reason: serde_json::Value,
    /// The same as a sentence.
    pub message: String,
    /// The CPUs that it needs.
    pub cpus: f64,
    /// Bytes of memory that it needs.
    pub memory_bytes: u64,
    /// Since when it waits.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

impl Waiting {
    /// Why it waits, as a word.
    pub fn code(&self) -> &str {
        self.reason["code"].as_str().unwrap_or_default()
    }
}

impl From<InLine> for Waiting {
    fn from(InLine { ticket, position, reason }: InLine) -> Self {
        let code = reason.as_ref().and_then(|reason| serde_json::to_value(reason).ok());
        Self {
            agent: ticket.agent.to_string(),
            position,
            reason: code.unwrap_or_else(|| serde_json::json!({"code": "engine"})),
            message: reason.map_or_else(|| NO_ENGINE.to_owned(), |reason| reason.to_string()),
            cpus: f64::from(ticket.cpus.0) / 1000.0,
            memory_bytes: ticket.memory,
            since: ticket.since,
            id: ticket.id,
        }
    }
}

/// List the requests that wait, the next one first
#[utoipa::path(get, path = "/queue", tag = "queue", responses((status = 200, body = Queue)))]
pub(super) async fn list(State(api): State<Api>) -> axum::Json<Queue> {
    let items = api.manager.in_line().into_iter().map(Waiting::from).collect();
    axum::Json(Queue { items, running: api.manager.running() })
}

/// Take a request out of the queue: its session ends as `cancelled`
#[utoipa::path(delete, path = "/queue/{id}", tag = "queue", params(("id" = String, Path, description = "The session")),
    responses(
        (status = 204, description = "It does not wait any more"),
        NotFound,
        Conflict,
        Unavailable,
    ))]
pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<SessionId>,
) -> Result<StatusCode, Problem> {
    let row = find(&api, &id).await?;
    if row.status != Status::Queued {
        return Err(Problem::conflict(format!("session {id} does not wait: it is {}", row.status)));
    }
    ask(&api, &peer, &id, "queue.cancel", Request::Cancel { by: peer.actor() }).await?;
    Ok(StatusCode::NO_CONTENT)
}
