//! The engine, the host, and the service itself.

use std::path::Path;
use std::sync::OnceLock;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::Api;
use super::failures::Unavailable;
use super::problem::Problem;
use crate::doctor::{self, Check, Subject};
use crate::engine;
use crate::request::DEFAULT_IMAGE;

/// The container engine that the service uses.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Runtime {
    /// Whether an engine answers.
    available: bool,
    /// The engine: `docker`, `podman` or `apple_container`; null if none answers.
    backend: Option<Backend>,
    /// The version of the engine; null if none answers.
    version: Option<String>,
    /// How containers reach the host.
    networking: Networking,
    /// What engine answers, or why none does and what to do about it, as one line for people.
    message: String,
}

/// A container engine: `docker`, `podman`, or `apple_container` (Apple Container).
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Backend {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// Apple Container.
    AppleContainer,
}

impl From<engine::Backend> for Backend {
    fn from(backend: engine::Backend) -> Self {
        match backend {
            engine::Backend::Docker => Self::Docker,
            engine::Backend::Podman => Self::Podman,
            engine::Backend::AppleContainer => Self::AppleContainer,
        }
    }
}

/// How containers reach the host.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Networking {
    /// The address of the host on the engine's default network; null if it is not known.
    host_gateway: Option<String>,
    /// The arguments that the engine's `run` command needs for the name `host-gateway`.
    extra_run_args: Vec<String>,
}

/// Show which engine answers
///
/// The answer has the status 200 even if no engine answers; then `message` says what to do.
#[utoipa::path(get, path = "/runtime", tag = "system", operation_id = "getRuntime",
    responses((status = 200, description = "The engine, or why none answers.", body = Runtime)))]
pub(super) async fn runtime(State(api): State<Api>) -> axum::Json<Runtime> {
    axum::Json(match api.manager.engine.get().await {
        Ok((_, info)) => Runtime {
            available: true,
            backend: Some(info.backend.into()),
            version: Some(info.version),
            networking: Networking {
                host_gateway: info.networking.host_gateway.map(|address| address.to_string()),
                extra_run_args: info.networking.extra_run_args,
            },
            message: info.message,
        },
        Err(error) => Runtime {
            available: false,
            backend: None,
            version: None,
            networking: Networking::default(),
            message: error.to_string(),
        },
    })
}

/// Check everything that can break a first run
///
/// The checks start containers and may take a minute. Only one run of them is made at a time.
#[utoipa::path(get, path = "/doctor", tag = "system", operation_id = "runDoctor",
    responses(
        (status = 200, description = "The checks in their order.", body = Vec<Check>),
        Unavailable,
    ))]
pub(super) async fn doctor(State(api): State<Api>) -> Result<axum::Json<Vec<Check>>, Problem> {
    let _turn = api.doctors.try_acquire().map_err(|_| Problem::busy("the checks run already; try again"))?;
    let subject = Subject {
        engine: api.manager.engine.get().await.map(|(engine, _)| engine),
        dirs: Ok(api.manager.dirs.clone()),
        image: DEFAULT_IMAGE,
        listen: api.manager.config().listen,
        kernel_settings: Path::new("/proc/sys"),
    };
    let cancel = CancellationToken::new();
    // A client that leaves stops the checks; what they made is removed by the next ones.
    let _guard = cancel.clone().drop_guard();
    Ok(axum::Json(doctor::run(&subject, &|name| std::env::var_os(name), &cancel).await.checks))
}

/// Show that the service runs
///
/// This call looks at nothing else: see `/readyz`.
#[utoipa::path(get, path = "/healthz", tag = "system", operation_id = "getHealth",
    responses((status = 200, description = "The service runs.", body = String, content_type = "text/plain; charset=utf-8")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Show whether the service can start sessions
///
/// The service is ready if its store and an engine answer.
#[utoipa::path(get, path = "/readyz", tag = "system", operation_id = "getReadiness",
    responses(
        (status = 200, description = "The service is ready.", body = String, content_type = "text/plain; charset=utf-8"),
        Unavailable,
    ))]
pub(super) async fn readyz(State(api): State<Api>) -> Result<&'static str, Problem> {
    api.manager.store.audit_log(None, 1).await?;
    api.manager.engine.get().await?;
    Ok("ok\n")
}

/// Get this document
///
/// The document is generated from the code of the service that answers.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "system", operation_id = "getOpenApi",
    responses((status = 200, description = "This document, as OpenAPI 3.1.", body = Object, content_type = "application/json")))]
pub(super) async fn openapi() -> Result<Response, Problem> {
    static TEXT: OnceLock<Option<String>> = OnceLock::new();
    let text = TEXT.get_or_init(|| super::openapi().and_then(|document| serde_json::to_string_pretty(&document)).ok());
    match text {
        Some(text) => {
            let media = HeaderValue::from_static("application/json");
            Ok((StatusCode::OK, [(header::CONTENT_TYPE, media)], text.as_str()).into_response())
        }
        None => Err(Problem::internal("the document cannot be written")),
    }
}
