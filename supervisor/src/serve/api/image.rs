//! The image that agents run in: is it there, and build it.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::extract::{OptionalJson, Path, Query};
use super::guard::Peer;
use super::problem::{FieldError, Problem};
use super::{Api, PREFIX};
use crate::image;
use crate::policy::image_name;
use crate::request::DEFAULT_IMAGE;
use crate::serve::builds::{Build, StartError, State as BuildState};
use crate::store::{Decision, NewAudit};

/// A comment this often keeps middle boxes from closing a silent stream.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Which image.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatusQuery {
    /// Its tag.
    #[param(default = "aigo-agent-runner:latest")]
    image_tag: Option<String>,
}

/// Whether an image is there, and what is in it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageState {
    /// Its tag.
    tag: String,
    /// The engine has it.
    present: bool,
    /// The engine's id of it.
    id: Option<String>,
    /// Bytes, shared layers included.
    size: Option<u64>,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    created: Option<Timestamp>,
    /// It is being built.
    building: bool,
    /// Versions by tool: `python`, `node`, `runner`, `claude`, …
    #[schema(value_type = Object)]
    versions: Value,
    /// What a person should know or do.
    notes: Vec<String>,
}

/// Tell whether the image is there
#[utoipa::path(get, path = "/image/status", tag = "image", params(StatusQuery),
    responses(
        (status = 200, body = ImageState),
        BadRequest,
        Unprocessable,
        Unavailable,
    ))]
pub(super) async fn status(
    State(api): State<Api>,
    Query(query): Query<StatusQuery>,
) -> Result<axum::Json<ImageState>, Problem> {
    let tag = query.image_tag.unwrap_or_else(|| DEFAULT_IMAGE.to_owned());
    image_name::check(&tag).map_err(|error| Problem::unprocessable(error.to_string()))?;
    let (engine, _) = api.manager.engine.get().await?;
    let status = image::status(&*engine, &tag).await?;
    let building = api.builds.running().iter().any(|build| build.tag == tag);
    let image = status.image;
    Ok(axum::Json(ImageState {
        tag,
        present: status.present,
        id: image.as_ref().map(|image| image.id.clone()),
        size: image.as_ref().map(|image| image.size),
        created: image.as_ref().and_then(|image| image.created),
        building,
        versions: image.and_then(|image| serde_json::to_value(image.versions).ok()).unwrap_or_default(),
        notes: status.notes,
    }))
}

/// What is to be built.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewBuild {
    /// The tag to give.
    #[serde(default)]
    #[schema(default = "aigo-agent-runner:latest")]
    image_tag: Option<String>,
}

/// A build.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BuildInfo {
    /// Its id.
    build_id: String,
    /// The tag that the image gets.
    image_tag: String,
    /// `building`, `done` or `failed`.
    status: &'static str,
    /// The engine's id of the image, once it is there.
    image_id: Option<String>,
    /// Why it failed, with the last lines of the failing step.
    error: Option<String>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// Until when.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

impl From<Build> for BuildInfo {
    fn from(build: Build) -> Self {
        let (status, image_id, error) = match build.state {
            BuildState::Building => ("building", None, None),
            BuildState::Done(id) => ("done", Some(id), None),
            BuildState::Failed(error) => ("failed", None, Some(error)),
        };
        Self {
            build_id: build.id,
            image_tag: build.tag,
            status,
            image_id,
            error,
            started_at: build.started_at,
            finished_at: build.finished_at,
        }
    }
}

/// Build the image in the background
#[utoipa::path(post, path = "/image/build", tag = "image", request_body(content = Option<NewBuild>),
    responses(
        (status = 202, body = BuildInfo, headers(("location" = String, description = "Where it can be followed"))),
        BadRequest,
        Conflict,
        NotJson,
        Unprocessable,
        Unavailable,
    ))]
pub(super) async fn build(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    OptionalJson(new): OptionalJson<Option<NewBuild>>,
) -> Result<Response, Problem> {
    let tag = new.unwrap_or_default().image_tag.unwrap_or_else(|| DEFAULT_IMAGE.to_owned());
    image_name::check(&tag).map_err(|error| {
        let errors = vec![FieldError { pointer: "/imageTag".into(), detail: error.to_string() }];
        Problem::bad_fields(errors)
    })?;
    let mut reasons = vec![format!("image `{tag}`")];
    let started = api.builds.start(tag);
    reasons.extend(started.as_ref().err().map(ToString::to_string));
    let decision = if started.is_ok() { Decision::Allowed } else { Decision::Denied };
    let line = NewAudit { actor: peer.actor(), action: "image.build", session: None, decision, reasons };
    api.manager.audit(line).await;
    let build = started.map_err(|error| match error {
        StartError::Running { .. } => Problem::conflict(error.to_string()),
        StartError::Busy => Problem::busy(error.to_string()),
    })?;
    let location = [(header::LOCATION, format!("{PREFIX}/image/build/{}", build.id))];
    Ok((StatusCode::ACCEPTED, location, axum::Json(BuildInfo::from(build))).into_response())
}

fn no_build(id: &str) -> Problem {
    Problem::not_found(format!("there is no build {id}; builds are forgotten when the service ends"))
}

/// Tell how a build stands
#[utoipa::path(get, path = "/image/build/{id}", tag = "image", params(("id" = String, Path, description = "The build")),
    responses((status = 200, body = BuildInfo), NotFound))]
pub(super) async fn build_state(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<axum::Json<BuildInfo>, Problem> {
    api.builds.find(&id).map(|build| axum::Json(build.into())).ok_or_else(|| no_build(&id))
}

/// Watch a build's log, from its beginning, until its end
///
/// Events are named `phase`, `step`, `step_done`, `line` and `warning`; the last one is `end` with the build as data.
#[utoipa::path(get, path = "/image/build/{id}/log", tag = "image", params(("id" = String, Path, description = "The build")),
    responses(
        (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
        NotFound,
        Unavailable,
    ))]
pub(super) async fn build_log(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Problem> {
    if api.builds.find(&id).is_none() {
        return Err(no_build(&id));
    }
    let place = api.stream_place()?;
    let reader = LogReader { api, id, from: 0, ready: Vec::new().into_iter(), over: false, _place: place };
    let stream = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response())
}

struct LogReader {
    api: Api,
    id: String,
    from: usize,
    ready: std::vec::IntoIter<image::Progress>,
    over: bool,
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl LogReader {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(progress) = self.ready.next() {
                self.from += 1;
                let value = serde_json::to_value(&progress).unwrap_or_default();
                let name = value.get("event").and_then(|name| name.as_str()).unwrap_or("line").to_owned();
                return Some(Event::default().id(self.from.to_string()).event(name).data(value.to_string()));
            }
            if self.over {
                return None;
            }
            let (lines, build, mut news) = self.api.builds.log(&self.id, self.from)?;
            if !lines.is_empty() {
                self.ready = lines.into_iter();
            } else if build.state == BuildState::Building {
                tokio::select! {
                    () = self.api.stopping.cancelled() => return None,
                    changed = news.changed() => changed.ok()?,
                }
            } else {
                self.over = true;
                let data = serde_json::to_string(&BuildInfo::from(build)).unwrap_or_default();
                return Some(Event::default().event("end").data(data));
            }
        }
    }
}
