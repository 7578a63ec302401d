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
use utoipa::{IntoParams, ToSchema};

use super::document::{BuildLogStream, END};
use super::extract::{OptionalJson, Path, Query};
use super::failures::{BadRequest, Conflict, NotFound, NotJson, Unavailable, Unprocessable};
use super::guard::Peer;
use super::problem::{FieldError, Problem};
use super::{Api, PREFIX};
use crate::image::{self, Versions};
use crate::policy::image_name;
use crate::request::DEFAULT_IMAGE;
use crate::serve::builds::{Build, StartError, State as BuildState};
use crate::store::{Decision, NewAudit};

/// A comment this often keeps middle boxes from closing a silent stream.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Which image to look for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatusQuery {
    /// The tag of the image. Default: `aigo-agent-runner:latest`.
    #[param(default = "aigo-agent-runner:latest")]
    image_tag: Option<String>,
}

/// An image: whether the engine has it, and what is in it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageState {
    /// The tag of the image.
    tag: String,
    /// Whether the engine has the image.
    present: bool,
    /// The engine's id of the image; null if the engine does not have it.
    id: Option<String>,
    /// The size of the image in bytes, shared layers included; null if the engine does not have it.
    size: Option<u64>,
    /// When the image was made; null if that is not known.
    #[schema(value_type = Option<String>, format = DateTime)]
    created: Option<Timestamp>,
    /// Whether the image is being built by this service.
    building: bool,
    /// The versions of the tools in the image; null if the engine does not have it.
    versions: Option<Versions>,
    /// What a person should know or do, in sentences.
    notes: Vec<String>,
}

/// Show whether an image is there, and what is in it
///
/// The versions of the tools are read from the labels that the build gives to the image.
#[utoipa::path(get, path = "/image/status", tag = "image", operation_id = "getImageStatus", params(StatusQuery),
    responses(
        (status = 200, description = "The image.", body = ImageState),
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
        versions: image.map(|image| image.versions),
        notes: status.notes,
    }))
}

/// The image that is to be built.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewBuild {
    /// The tag that the image gets. Default: `aigo-agent-runner:latest`.
    #[serde(default)]
    #[schema(default = "aigo-agent-runner:latest")]
    image_tag: Option<String>,
}

/// A build of an image.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BuildInfo {
    /// The id of the build.
    build_id: String,
    /// The tag that the image gets.
    image_tag: String,
    /// How the build stands.
    status: BuildStatus,
    /// The engine's id of the image; null before the build has ended well.
    image_id: Option<String>,
    /// Why the build failed, with the last lines of the failing step; null if it did not.
    error: Option<String>,
    /// When the build began.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When the build ended; null before the end.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

/// How a build stands: `building`, `done` or `failed`.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum BuildStatus {
    /// The build runs.
    Building,
    /// The build has ended, and the image is there.
    Done,
    /// The build has ended without an image.
    Failed,
}

impl From<Build> for BuildInfo {
    fn from(build: Build) -> Self {
        let (status, image_id, error) = match build.state {
            BuildState::Building => (BuildStatus::Building, None, None),
            BuildState::Done(id) => (BuildStatus::Done, Some(id), None),
            BuildState::Failed(error) => (BuildStatus::Failed, None, Some(error)),
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

/// Build an image in the background
///
/// One build is made at a time for each tag, and four at once.
#[utoipa::path(post, path = "/image/build", tag = "image", operation_id = "buildImage",
    request_body(content = Option<NewBuild>, description = "The image to build; it may be left out."),
    responses(
        (status = 202, description = "The build has begun.", body = BuildInfo,
            headers(("location" = String, description = "The path of the build."))),
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

/// Show how a build stands
///
/// The service remembers its last 32 builds until it ends.
#[utoipa::path(get, path = "/image/build/{id}", tag = "image", operation_id = "getImageBuild",
    params(("id" = String, Path, description = "The id of the build.")),
    responses((status = 200, description = "The build.", body = BuildInfo), NotFound))]
pub(super) async fn build_state(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<axum::Json<BuildInfo>, Problem> {
    api.builds.find(&id).map(|build| axum::Json(build.into())).ok_or_else(|| no_build(&id))
}

/// Follow the log of a build
///
/// The log comes as server-sent events, from the beginning of the build to its end. Events are named `phase`, `step`,
/// `step_done`, `line` and `warning`; the last one is `end` with the build as its data.
#[utoipa::path(get, path = "/image/build/{id}/log", tag = "image", operation_id = "watchImageBuild",
    params(("id" = String, Path, description = "The id of the build.")),
    responses(
        (status = 200, description = "The log of the build.", body = BuildLogStream, content_type = "text/event-stream"),
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
                return Some(Event::default().event(END).data(data));
            }
        }
    }
}
