//! What happens in a session, as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>)
//! and as a transcript.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::Api;
use super::document::{EventStream, GAP};
use super::extract::{Path, Query};
use super::failures::{BadRequest, NotFound, Unavailable};
use super::problem::Problem;
use super::sessions::find;
use crate::cli::show::style::Style;
use crate::cli::show::transcript::Transcript;
use crate::serve::manager::Manager;
use crate::session::SessionId;
use crate::session::event::{HostEvent, SessionEvent, What};
use crate::session::gap::Gap;
use crate::store::Store;

/// Events read at once.
const BATCH: usize = 200;
/// How often a session of another process is looked at: it cannot wake us.
const POLL: Duration = Duration::from_millis(250);
/// A comment this often keeps middle boxes from closing a silent stream, and finds clients that left.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The header by which a client that comes back says what it has seen.
const LAST_EVENT_ID: &str = "last-event-id";

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Only events after this number. The header `Last-Event-ID` has precedence. Default: 0, all events.
    after: Option<u64>,
}

/// Where a reader of a session is.
struct Reader {
    manager: Arc<Manager>,
    store: Store,
    id: SessionId,
    cursor: u64,
    /// The last number of which is known that it was given.
    known: u64,
    latest: Option<watch::Receiver<u64>>,
    waiting: VecDeque<SessionEvent>,
    over: bool,
    stopping: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// The next event; none at the session's end, or when the store fails: then the client comes back. A hole in the
    /// numbers, where events were removed, comes as its bounds, also at the end.
    async fn next(&mut self) -> Option<Next> {
        loop {
            if let Some(event) = self.waiting.front() {
                if let Some(gap) = Gap::between(self.cursor, event.seq) {
                    self.cursor = event.seq - 1;
                    return Some(Next::Gap(gap));
                }
                let event = self.waiting.pop_front()?;
                self.cursor = event.seq;
                self.over = matches!(event.what, What::Host(HostEvent::Ended { .. }));
                return Some(Next::Event(Box::new(event)));
            }
            if self.over {
                return None;
            }
            // Looked at before reading: what was written before its end is then read in this round.
            let row = self.store.session(&self.id).await.ok()?;
            let last = match &mut self.latest {
                Some(latest) => *latest.borrow_and_update(),
                None => self.store.last_event(&self.id).await.ok()?,
            };
            self.known = self.known.max(last);
            self.waiting = self.store.events(&self.id, self.cursor, BATCH).await.ok()?.into();
            if !self.waiting.is_empty() {
                continue;
            }
            match row {
                Some(row) if row.ended_at.is_none() => self.wait().await?,
                Some(_) => return self.last_gap(false),
                None => return self.last_gap(true),
            }
        }
    }

    /// Nothing comes any more: what should have been there. Only sessions that have ended are forgotten, and of the end of
    /// one that is nothing was told yet.
    fn last_gap(&mut self, is_forgotten: bool) -> Option<Next> {
        self.over = true;
        let from = self.cursor + 1;
        let to = (self.known >= from).then_some(self.known);
        self.cursor = self.cursor.max(self.known);
        (to.is_some() || is_forgotten).then_some(Next::Gap(Gap { from, to }))
    }

    async fn wait(&mut self) -> Option<()> {
        let stopping = self.stopping.clone();
        let news = async {
            match &mut self.latest {
                // The owner's task has ended: the store knows the rest.
                Some(latest) => {
                    if tokio::time::timeout(HEARTBEAT, latest.changed()).await.is_ok_and(|changed| changed.is_err()) {
                        self.latest = None;
                    }
                }
                None => {
                    tokio::time::sleep(POLL).await;
                    // It may have waited in the queue, and run now.
                    self.latest = self.manager.latest(&self.id);
                }
            }
        };
        tokio::select! {
            () = stopping.cancelled() => None,
            () = news => Some(()),
        }
    }
}

enum Next {
    Event(Box<SessionEvent>),
    Gap(Gap),
}

async fn reader(api: &Api, id: SessionId, after: u64) -> Result<Reader, Problem> {
    let row = find(api, &id).await?;
    // Of another session, or of moments that a power failure took: who waits behind them would miss what comes.
    let last = api.manager.store.last_event(&id).await?;
    if after > last {
        return Err(Problem::bad_request(format!("there is no event {after} yet, only {last}; begin before it")));
    }
    let place = api.stream_place()?;
    Ok(Reader {
        manager: Arc::clone(&api.manager),
        store: api.manager.store.clone(),
        latest: api.manager.latest(&id),
        id,
        cursor: after,
        known: last,
        waiting: VecDeque::new(),
        over: after > 0 && after == last && row.ended_at.is_some(),
        stopping: api.stopping.clone(),
        _place: place,
    })
}

/// Follow the events of a session
///
/// The events come as server-sent events, from the first one or from a cursor, until the session ends. The id of each event is
/// its number in the session, its name is its `kind`, and its data is the event as JSON. An event named `gap` says that the
/// events `from` to `to` are no longer stored; if these are the last ones, nothing follows. A client
/// that comes back after the last event of a session that has ended gets 204, which tells an `EventSource` not to ask again.
#[utoipa::path(get, path = "/sessions/{id}/events", tag = "sessions", operation_id = "watchSessionEvents",
    params(
        ("id" = String, Path, description = "The id of the session."), EventsQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "The number of the last event that the client has seen."),
    ),
    responses(
        (status = 200, description = "The events of the session.", body = EventStream, content_type = "text/event-stream"),
        (status = 204, description = "The session has ended, and the client has seen its last event."),
        BadRequest,
        NotFound,
        Unavailable,
    ))]
pub(super) async fn events(
    State(api): State<Api>,
    Path(id): Path<SessionId>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = match headers.get(LAST_EVENT_ID) {
        None => query.after.unwrap_or_default(),
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Problem::bad_request("Last-Event-ID: it is the number of an event"))?,
    };
    let reader = reader(&api, id, after).await?;
    if reader.over {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let stream = stream::unfold(reader, |mut reader| async move {
        let next = reader.next().await?;
        Some((Ok::<_, Infallible>(sse(next)), reader))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response())
}

fn sse(next: Next) -> Event {
    match next {
        Next::Gap(gap) => Event::default().event(GAP).data(json!(gap).to_string()),
        Next::Event(event) => {
            let value = serde_json::to_value(&*event).unwrap_or_default();
            let kind = value.get("kind").and_then(|kind| kind.as_str()).unwrap_or("event");
            // A kind comes from a closed set or, kept verbatim, from a container: no line breaks in a field.
            let kind: String = kind.chars().filter(|c| !c.is_control()).take(64).collect();
            Event::default().id(event.seq.to_string()).event(kind).data(value.to_string())
        }
    }
}

/// Whether to wait for more.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsQuery {
    /// Whether to wait for more until the session ends. Default: false.
    #[serde(default)]
    #[param(default = false)]
    follow: bool,
}

/// Read the transcript of a session as text
///
/// The transcript is what `aigo logs` shows: for people, in a form that may change.
#[utoipa::path(get, path = "/sessions/{id}/logs", tag = "sessions", operation_id = "getSessionLogs",
    params(("id" = String, Path, description = "The id of the session."), LogsQuery),
    responses(
        (status = 200, description = "The transcript.", body = String, content_type = "text/plain; charset=utf-8"),
        BadRequest,
        NotFound,
        Unavailable,
    ))]
pub(super) async fn logs(
    State(api): State<Api>,
    Path(id): Path<SessionId>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Problem> {
    let reader = reader(&api, id, 0).await?;
    // Without following, as if it ended where it is now.
    let until = if query.follow { None } else { Some(reader.store.last_event(&reader.id).await?) };
    Ok(text(transcript(reader, until)))
}

fn transcript(reader: Reader, until: Option<u64>) -> impl Stream<Item = Result<String, Infallible>> {
    let transcript = Transcript::new(Style::PLAIN, false);
    stream::unfold((reader, transcript), move |(mut reader, mut transcript)| async move {
        if until.is_some_and(|last| reader.cursor >= last) {
            return None;
        }
        let text = match reader.next().await? {
            Next::Event(event) => transcript.render(&event),
            Next::Gap(gap) => format!("{gap}\n"),
        };
        Some((Ok(text), (reader, transcript)))
    })
}

fn text(stream: impl Stream<Item = Result<String, Infallible>> + Send + 'static) -> Response {
    let mut response = Body::from_stream(stream).into_response();
    let media = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}
