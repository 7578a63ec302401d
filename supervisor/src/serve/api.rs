//! The HTTP API: the routes, their OpenAPI document, and what every request passes.
//!
//! ```text
//! listener ─► guard (Host, Origin, user or token) ─► route ─► extractors (bounds, JSON, unknown fields) ─► handler ─► manager, store
//!                    └── problem ◄──────────────────────┴───────────────────────────────────────────┘
//! ```

pub mod agents;
pub mod document;
mod events;
pub mod extract;
mod failures;
pub mod guard;
mod image;
pub mod problem;
pub mod queue;
mod records;
mod sessions;
mod system;
pub mod wire;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::builds::Builds;
use super::manager::Manager;
use guard::Guard;
use problem::Problem;

/// Under which everything but health, metrics and the panel lies.
pub const PREFIX: &str = "/api/v1/container";
/// Event streams at once: each holds a connection and a task.
const STREAMS: usize = 512;
/// Runs of the doctor at once: each starts containers.
const DOCTORS: usize = 1;

/// What handlers work with.
#[derive(Clone, Debug)]
pub struct Api {
    manager: Arc<Manager>,
    builds: Arc<Builds>,
    streams: Arc<Semaphore>,
    doctors: Arc<Semaphore>,
    started: Instant,
    /// Cancelled when the daemon stops: streams end then.
    stopping: CancellationToken,
    /// Requests that are carried out to their end.
    tasks: TaskTracker,
}

impl Api {
    /// An API over a manager's sessions.
    pub fn new(manager: Arc<Manager>, builds: Arc<Builds>, stopping: CancellationToken, tasks: TaskTracker) -> Self {
        let (streams, doctors) = (Arc::new(Semaphore::new(STREAMS)), Arc::new(Semaphore::new(DOCTORS)));
        Self { manager, builds, streams, doctors, started: Instant::now(), stopping, tasks }
    }

    /// The right to one event stream, for as long as it is held.
    fn stream_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = self.streams.clone().try_acquire_owned();
        place.map_err(|_| Problem::busy("too many event streams are open; close some"))
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "aigo",
        description = "aigo runs coding agents in containers. Times are RFC 3339 in UTC, sizes are bytes, and durations have their \
                       unit in their name. Errors are problem documents (RFC 9457). A field or query parameter that is not \
                       documented here is an error. Lists are paged: give `nextCursor` of a page as `cursor` for the next one.",
        contact(name = "aigo"),
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Problem)),
    servers((url = "/", description = "The service that this document came from.")),
    security(("bearer" = []), ()),
    tags(
        (name = "sessions", description = "Sessions: agents at work, their events, and messages to them."),
        (name = "queue", description = "Requests for sessions that wait for room."),
        (name = "agents", description = "Agents (principals) that sessions are charged to, and their limits."),
        (name = "image", description = "The image that agents run in."),
        (name = "records", description = "The run history, the audit log and the figures."),
        (name = "system", description = "The engine, the host and the service itself."),
    )
)]
struct Document;

/// The routes and the document that describes them.
fn routes() -> (Router<Api>, utoipa::openapi::OpenApi) {
    let below = OpenApiRouter::new()
        .routes(routes!(system::runtime))
        .routes(routes!(system::doctor))
        .routes(routes!(image::status))
        .routes(routes!(image::build))
        .routes(routes!(image::build_state))
        .routes(routes!(image::build_log))
        .routes(routes!(sessions::list, sessions::create))
        .routes(routes!(sessions::show))
        .routes(routes!(sessions::message))
        .routes(routes!(sessions::interrupt))
        .routes(routes!(sessions::close))
        .routes(routes!(sessions::cancel))
        .routes(routes!(events::events))
        .routes(routes!(events::logs))
        .routes(routes!(queue::list))
        .routes(routes!(queue::cancel))
        .routes(routes!(agents::list))
        .routes(routes!(agents::show, agents::set, agents::reset))
        .routes(routes!(records::history))
        .routes(routes!(records::metrics))
        .routes(routes!(records::audit_log));
    OpenApiRouter::with_openapi(Document::openapi())
        .nest(PREFIX, below)
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(records::prometheus))
        .routes(routes!(system::openapi))
        .split_for_parts()
}

/// The OpenAPI document, from the code.
///
/// # Errors
/// What was derived cannot be written as JSON.
pub fn openapi() -> serde_json::Result<serde_json::Value> {
    document::finish(routes().1)
}

/// Everything that is served.
pub fn router(api: Api, guard: Guard) -> Router {
    let (router, _) = routes();
    router
        .fallback(nothing_there)
        .method_not_allowed_fallback(wrong_method)
        .with_state(api.clone())
        .layer(middleware::from_fn_with_state(api, carry_out))
        .layer(middleware::from_fn_with_state(guard, guard::check))
}

/// What changes something is carried out to its end and written into the audit log, also if its client leaves in between:
/// hyper drops a request whose connection has gone.
async fn carry_out(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let done = api.tasks.spawn(next.run(request)).await;
    done.unwrap_or_else(|_| Problem::internal("the request failed; the service's log says why").into_response())
}

async fn nothing_there(uri: Uri) -> impl IntoResponse {
    Problem::not_found(format!("there is nothing at {}; see /api/v1/openapi.json", uri.path()))
}

async fn wrong_method(method: Method) -> impl IntoResponse {
    Problem::wrong_method(format!("{method} does not work here; the header Allow lists what does"))
}
