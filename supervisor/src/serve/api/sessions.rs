//! Sessions: started, listed, steered, ended.

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Json, OptionalJson, Path, Query};
use super::failures::{
    BadRequest, Conflict, Forbidden, NoRoom, NotFound, NotJson, TooLarge, Unavailable, Unprocessable,
};
use super::guard::Peer;
use super::problem::{FieldError, Problem};
use super::wire::{Close, NewMessage, Page, Sent, Session};
use super::{Api, PREFIX};
use crate::admission::{Refusal, Scarce};
use crate::door::Refused;
use crate::policy::Field;
use crate::request::wire::NewSession;
use crate::serve::manager::StartError;
use crate::session::SessionId;
use crate::session::control::{Answer, Request};
use crate::session::status::Status;
use crate::store::{NewAudit, SessionPage, SessionRow};

/// Items of a page unless something else is asked for, and the most that can be.
const PAGE: usize = 50;
const MAX_PAGE: usize = 500;

/// Which sessions, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only sessions with this status. Default: any.
    pub(super) status: Option<Status>,
    /// Only sessions of this agent (principal). Default: any.
    pub(super) agent: Option<String>,
    /// The number of items of a page, from 1 to 500. Default: 50.
    #[param(minimum = 1, maximum = 500, default = 50)]
    pub(super) limit: Option<usize>,
    /// The `nextCursor` of the page before. Default: the first page.
    #[param(pattern = "^[0-9a-f]{12}$")]
    pub(super) cursor: Option<String>,
}

impl ListQuery {
    pub(super) async fn rows(self, api: &Api) -> Result<Page<SessionRow>, Problem> {
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Problem::bad_request(format!("limit: from 1 to {MAX_PAGE}")));
        }
        let after = match self.cursor {
            None => None,
            Some(text) => Some(
                text.parse::<SessionId>()
                    .map_err(|_| Problem::bad_request("cursor: give the nextCursor of the page before"))?,
            ),
        };
        let page = SessionPage { status: self.status, agent: self.agent, after, limit: limit + 1 };
        let mut items = api.manager.store.session_page(page).await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|row| row.id.to_string());
        Ok(Page { items, next_cursor })
    }
}

/// List sessions, newest first
///
/// Running sessions come with what their containers use now.
#[utoipa::path(get, path = "/sessions", tag = "sessions", operation_id = "listSessions", params(ListQuery),
    responses((status = 200, description = "A page of sessions.", body = Page<Session>), BadRequest))]
pub(super) async fn list(
    State(api): State<Api>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<Session>>, Problem> {
    let page = query.rows(&api).await?;
    let reading = api.manager.usage().await;
    let items = page.items.into_iter().map(|row| Session::from(row).with_usage(&reading)).collect();
    Ok(axum::Json(Page { items, next_cursor: page.next_cursor }))
}

/// Start a session
///
/// Only `workspace` and, unless `keepOpen` is true or the program is a command, `prompt` are needed.
#[utoipa::path(post, path = "/sessions", tag = "sessions", operation_id = "createSession",
    request_body(content = NewSession, description = "The session to start."),
    responses(
        (status = 201, description = "The session is being started.", body = Session,
            headers(("location" = String, description = "The path of the session."))),
        (status = 202, description = "There is no room yet: the session waits in the queue.", body = Session,
            headers(("location" = String, description = "The path of the session."))),
        BadRequest,
        Forbidden,
        TooLarge,
        NotJson,
        Unprocessable,
        NoRoom,
        Unavailable,
    ))]
pub(super) async fn create(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Json(new): Json<NewSession>,
) -> Result<Response, Problem> {
    let config = api.manager.config();
    let cpus_were_named = new.limits.cpus.is_some();
    let request = new.into_request(&config.session, config.proxy.port).map_err(|bad| {
        let fields = bad.into_iter().map(|bad| FieldError { pointer: bad.pointer.to_owned(), detail: bad.detail });
        Problem::bad_fields(fields.collect())
    })?;
    let id = api.manager.start(request, cpus_were_named, peer.actor()).await.map_err(refused)?;
    let row = find(&api, &id).await?;
    let location = [(header::LOCATION, format!("{PREFIX}/sessions/{id}"))];
    let status = if row.status == Status::Queued { StatusCode::ACCEPTED } else { StatusCode::CREATED };
    Ok((status, location, axum::Json(Session::from(row))).into_response())
}

fn refused(error: StartError) -> Problem {
    let detail = crate::error_chain::chain(&error);
    match error {
        StartError::Refused(Refused::Denied(denied)) => {
            let fields = denied.reasons.into_iter().map(FieldError::from);
            Problem::forbidden("policy does not allow it").with(fields.collect())
        }
        StartError::Refused(Refused::Access(_) | Refused::Remapped) => Problem::unavailable(detail),
        StartError::Refused(Refused::Folder { field, .. }) => Problem::bad_field(&field, detail),
        StartError::Refused(Refused::Script(_) | Refused::Record(_)) => Problem::bad_field(&Field::ModelFile, detail),
        StartError::Refused(Refused::Cpus(reason)) => Problem::bad_field(&reason.field, reason.detail),
        StartError::NoPlace(refusal) => match refusal {
            Refusal::WouldWait { .. } | Refusal::QueueFull { .. } | Refusal::LineFull { .. } => {
                Problem::no_room(detail)
            }
            Refusal::TooLarge { scarce } => {
                let field = match scarce {
                    Scarce::Cpus { .. } => Field::Cpus,
                    Scarce::Memory { .. } => Field::Memory,
                };
                Problem::bad_field(&field, detail)
            }
            Refusal::NoContainers { .. } => Problem::forbidden(detail),
            Refusal::Known => Problem::internal(detail),
        },
        StartError::Engine(_) | StartError::Launch(_) | StartError::Limits(_) | StartError::Store(_) => {
            Problem::unavailable(detail)
        }
        StartError::Stopping(_) | StartError::Judging => Problem::busy(detail),
        StartError::Hangs => Problem::unprocessable(detail),
        StartError::Unreadable => Problem::internal(detail),
    }
}

pub(super) async fn find(api: &Api, id: &SessionId) -> Result<SessionRow, Problem> {
    let row = api.manager.store.session(id).await?;
    row.ok_or_else(|| Problem::not_found(format!("there is no session {id}")))
}

/// Show a session
///
/// A running session comes with what its container uses now, a session that has ended with its figures.
#[utoipa::path(get, path = "/sessions/{id}", tag = "sessions", operation_id = "getSession",
    params(("id" = String, Path, description = "The id of the session.")),
    responses((status = 200, description = "The session.", body = Session), NotFound))]
pub(super) async fn show(State(api): State<Api>, Path(id): Path<SessionId>) -> Result<axum::Json<Session>, Problem> {
    let session = Session::from(find(&api, &id).await?);
    Ok(axum::Json(session.with_usage(&*api.manager.usage().await)))
}

/// Send a message to a running session
///
/// The agent gets the message while it works, and answers it in its turn.
#[utoipa::path(post, path = "/sessions/{id}/messages", tag = "sessions", operation_id = "sendMessage",
    request_body(content = NewMessage, description = "The message."),
    params(("id" = String, Path, description = "The id of the session.")),
    responses(
        (status = 202, description = "The message was accepted; the agent gets it while it works.", body = Sent),
        BadRequest,
        NotFound,
        Conflict,
        TooLarge,
        NotJson,
        Unprocessable,
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The owner of the session has no time now; `detail` says whether the request is carried out later."),
    ))]
pub(super) async fn message(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<SessionId>,
    Json(message): Json<NewMessage>,
) -> Result<Response, Problem> {
    if message.text.trim().is_empty() {
        let errors = vec![FieldError { pointer: "/text".into(), detail: "it is empty".into() }];
        return Err(Problem::bad_fields(errors));
    }
    let sent = ask(&api, &peer, &id, "session.message", Request::Message { text: message.text }).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Sent { id: sent.unwrap_or_default() })).into_response())
}

/// Stop the current turn of a session
///
/// The session goes on.
#[utoipa::path(post, path = "/sessions/{id}/interrupt", tag = "sessions", operation_id = "interruptSession",
    params(("id" = String, Path, description = "The id of the session.")),
    responses(
        (status = 202, description = "The agent was asked to stop its turn."),
        NotFound,
        Conflict,
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The owner of the session has no time now; `detail` says whether the request is carried out later."),
    ))]
pub(super) async fn interrupt(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<SessionId>,
) -> Result<StatusCode, Problem> {
    ask(&api, &peer, &id, "session.interrupt", Request::Interrupt {}).await?;
    Ok(StatusCode::ACCEPTED)
}

/// End a session gracefully
///
/// The agent finishes what it does. After `graceSecs` it is ended by force.
#[utoipa::path(post, path = "/sessions/{id}/close", tag = "sessions", operation_id = "closeSession",
    params(("id" = String, Path, description = "The id of the session.")),
    request_body(content = Option<Close>, description = "How to close the session; it may be left out."),
    responses(
        (status = 202, description = "The session is being closed."),
        BadRequest,
        NotFound,
        Conflict,
        NotJson,
        Unprocessable,
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The owner of the session has no time now; `detail` says whether the request is carried out later."),
    ))]
pub(super) async fn close(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<SessionId>,
    OptionalJson(close): OptionalJson<Option<Close>>,
) -> Result<StatusCode, Problem> {
    let grace = close.unwrap_or_default().grace_secs;
    if grace.is_some_and(|secs| secs > 86_400) {
        let errors = vec![FieldError { pointer: "/graceSecs".into(), detail: "at most a day".into() }];
        return Err(Problem::bad_fields(errors));
    }
    let grace_ms = grace.map_or(u64::MAX, |secs| u64::from(secs) * 1000);
    ask(&api, &peer, &id, "session.close", Request::Close { grace_ms, interrupt: false, by: peer.actor() }).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Kill a session
///
/// The agent has no time to save its work.
#[utoipa::path(post, path = "/sessions/{id}/cancel", tag = "sessions", operation_id = "cancelSession",
    params(("id" = String, Path, description = "The id of the session.")),
    responses(
        (status = 202, description = "The session is being killed."),
        NotFound,
        Conflict,
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The owner of the session has no time now; `detail` says whether the request is carried out later."),
    ))]
pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<SessionId>,
) -> Result<StatusCode, Problem> {
    ask(&api, &peer, &id, "session.cancel", Request::Cancel { by: peer.actor() }).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Asks the session's owner, and writes it into the audit log.
pub(super) async fn ask(
    api: &Api,
    peer: &Peer,
    id: &SessionId,
    action: &'static str,
    request: Request,
) -> Result<Option<String>, Problem> {
    let row = find(api, id).await?;
    let answer = if row.ended_at.is_some() {
        Answer::refused(format!("session {id} has ended"))
    } else {
        let answer = api.manager.ask(&row, request).await;
        answer.unwrap_or_else(|error| Answer::refused(crate::error_chain::chain(&error)))
    };
    let decision = answer.decision();
    let Answer { error, busy, id: sent, ok: _ } = answer;
    let reasons = error.iter().cloned().collect();
    api.manager.audit(NewAudit { actor: peer.actor(), action, session: Some(id.clone()), decision, reasons }).await;
    match error {
        None => Ok(sent),
        Some(why) if busy.is_some() => Err(Problem::busy(why)),
        Some(why) => Err(Problem::conflict(why)),
    }
}
