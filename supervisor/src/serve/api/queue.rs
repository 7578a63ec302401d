//! Who waits, and why.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::extract::Path;
use super::failures::{Conflict, NotFound, Unavailable};
use super::guard::Peer;
use super::problem::Problem;
use super::sessions::{ask, find};
use crate::admission::Wait;
use crate::serve::manager::InLine;
use crate::session::SessionId;
use crate::session::control::Request;
use crate::session::status::Status;

/// Why the first in line does not start though there is room.
const NO_ENGINE: &str = "its turn has come; it starts when the engine answers";

/// The queue: the requests that wait for room.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// The requests that wait, the next one to start first.
    pub items: Vec<Waiting>,
    /// How many sessions run or are being started.
    pub running: u32,
}

/// A request that waits for room.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// The id of the session that was asked for.
    #[schema(value_type = String, pattern = "^[0-9a-f]{12}$")]
    pub id: SessionId,
    /// The agent (principal) that the session is charged to.
    pub agent: String,
    /// The position in the queue; the request with 1 starts next, unless it waits only for its own agent's limit. 0 means that
    /// only the engine is missing.
    pub position: usize,
    /// Why the request waits, for programs.
    #[schema(value_type = QueueReason)]
    pub reason: serde_json::Value,
    /// Why the request waits, as a sentence.
    pub message: String,
    /// The number of CPUs that the session needs.
    pub cpus: f64,
    /// The memory that the session needs, in bytes.
    pub memory_bytes: u64,
    /// When the request began to wait.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// Why a request waits, by `code`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum QueueReason {
    /// It waits for room.
    Room(Wait),
    /// It waits for the engine.
    Engine(EngineWait),
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "code", rename_all = "snake_case")]
enum EngineWait {
    /// The turn of the request has come. The session starts when the engine answers.
    Engine {},
}

impl Waiting {
    /// Why it waits, as a word.
    pub fn code(&self) -> &str {
        self.reason["code"].as_str().unwrap_or_default()
    }
}

impl From<InLine> for Waiting {
    fn from(InLine { ticket, position, reason }: InLine) -> Self {
        let message = reason.as_ref().map_or_else(|| NO_ENGINE.to_owned(), ToString::to_string);
        let reason = reason.map_or(QueueReason::Engine(EngineWait::Engine {}), QueueReason::Room);
        Self {
            agent: ticket.agent.to_string(),
            position,
            // Plain words and numbers: encoding them cannot fail.
            reason: serde_json::to_value(reason).unwrap_or_default(),
            message,
            cpus: f64::from(ticket.cpus.0) / 1000.0,
            memory_bytes: ticket.memory,
            since: ticket.since,
            id: ticket.id,
        }
    }
}

/// List the requests that wait, the next one first
///
/// Each request comes with its position and the reason why it waits.
#[utoipa::path(get, path = "/queue", tag = "queue", operation_id = "listQueue",
    responses((status = 200, description = "The requests that wait.", body = Queue)))]
pub(super) async fn list(State(api): State<Api>) -> axum::Json<Queue> {
    let items = api.manager.in_line().into_iter().map(Waiting::from).collect();
    axum::Json(Queue { items, running: api.manager.running() })
}

/// Take a request out of the queue
///
/// The session that was asked for ends as `cancelled`.
#[utoipa::path(delete, path = "/queue/{id}", tag = "queue", operation_id = "cancelQueued", params(("id" = String, Path, description = "The id of the session that was asked for.")),
    responses(
        (status = 204, description = "The request does not wait any more."),
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
