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
use super::problem::Problem;
use crate::doctor::{self, Check, Subject};
use crate::request::DEFAULT_IMAGE;

/// Which engine answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Runtime {
    /// Whether one does.
    available: bool,
    /// `docker`, `podman` or `apple_container`.
    backend: Option<String>,
    /// Its version.
    version: Option<String>,
    /// How containers reach the host.
    networking: Networking,
    /// One line for people; if none answers, why and what to do.
    message: String,
}

/// How containers reach the host.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Networking {
    /// The host's address on the engine's default network.
    host_gateway: Option<String>,
    /// What a `run` command line needs for the name `host-gateway`.
    extra_run_args: Vec<String>,
}

/// Tell which engine answers
#[utoipa::path(get, path = "/runtime", tag = "system", responses((status = 200, body = Runtime)))]
pub(super) async fn runtime(State(api): State<Api>) -> axum::Json<Runtime> {
    axum::Json(match api.manager.engine.get().await {
        Ok((_, info)) => Runtime {
            available: true,
            backend: Some(info.backend.name().to_owned()),
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
/// One at a time: it starts containers.
#[utoipa::path(get, path = "/doctor", tag = "system",
    responses(
        (status = 200, body = Vec<Check>),
        Unavailable,
    ))]
pub(super) async fn doctor(State(api): State<Api>) -> Result<axum::Json<Vec<Check>>, Problem> {
    let _turn = api.doctors.try_acquire().map_err(|_| Problem::busy("the checks run already; try again"))?;
    let subject = Subject {
        engine: api.manager.engine.get().await.map(|(engine, _)| engine),
        dirs: Ok(api.manager.dirs.clone()),
        image: DEFAULT_IMAGE,
        kernel_settings: Path::new("/proc/sys"),
    };
    let cancel = CancellationToken::new();
    // A client that leaves stops the checks; what they made is removed by the next ones.
    let _guard = cancel.clone().drop_guard();
    Ok(axum::Json(doctor::run(&subject, &|name| std::env::var_os(name), &cancel).await.checks))
}

/// Tell that the service runs
#[utoipa::path(get, path = "/healthz", tag = "system", responses((status = 200, body = String, content_type = "text/plain; charset=utf-8")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Tell whether the service can start sessions: its store and an engine answer
#[utoipa::path(get, path = "/readyz", tag = "system",
    responses(
        (status = 200, body = String, content_type = "text/plain; charset=utf-8"),
        Unavailable,
    ))]
pub(super) async fn readyz(State(api): State<Api>) -> Result<&'static str, Problem> {
    api.manager.store.audit_log(None, 1).await?;
    api.manager.engine.get().await?;
    Ok("ok\n")
}

/// This document
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "system",
    responses((status = 200, body = Object, content_type = "application/json")))]
pub(super) async fn openapi() -> Result<Response, Problem> {
    static TEXT: OnceLock<Option<String>> = OnceLock::new();
    let text = TEXT.get_or_init(|| super::document().to_pretty_json().ok());
    match text {
        Some(text) => {
            let media = HeaderValue::from_static("application/json");
            Ok((StatusCode::OK, [(header::CONTENT_TYPE, media)], text.as_str()).into_response())
        }
        None => Err(Problem::internal("the document cannot be written")),
    }
}
