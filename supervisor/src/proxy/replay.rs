//! Replay: answers from a script in place of an upstream, in the order in which requests arrive.
//!
//! A request takes the next answer once it has been read whole; one whose `expect` is not met takes none. Everything
//! about an answer is decided by its script line ([`script`]), rendered to steps ([`message`]) and played ([`playback`]).

mod cursor;
mod message;
mod playback;
mod script;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;

use super::body::{Leftover, OutBody, RequestBody};
use super::fault::RequestFault;
use super::grants::Session;
use super::limits::MAX_KEPT_BODY;
use super::notice::NoticeKind;
use super::record::{End, Exchange};
use super::reply::{Retry, refusal};
use super::server::Shared;

use cursor::Cursor;
use message::{Asked, Numbers};
use playback::{HANG_TIME, Playback, Step};
use script::{Answer, Entry, Hang, StatusAnswer};
pub use script::{Script, ScriptError};

/// How the pauses of recorded answers are replayed. Pauses that a script states itself are always kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ReplaySpeed {
    /// Without pauses.
    #[default]
    Fast,
    /// As recorded.
    Recorded,
    /// So many times faster than recorded; above zero.
    Times(f64),
}

impl ReplaySpeed {
    fn pause(self, recorded: Duration) -> Duration {
        match self {
            Self::Fast => Duration::ZERO,
            Self::Recorded => recorded,
            Self::Times(factor) => {
                Duration::try_from_secs_f64(recorded.as_secs_f64() / factor).unwrap_or(Duration::ZERO)
            }
        }
    }
}

/// A script with the place that was reached in it.
#[derive(Debug)]
pub(super) struct Replay {
    name: String,
    entries: Vec<Entry>,
    answers: u64,
    speed: ReplaySpeed,
    cursor: Mutex<Cursor>,
}

/// What a request gets.
enum Next<'a> {
    Answer(&'a Entry, u64),
    Mismatch(&'a Entry, &'a str),
    Exhausted,
}

impl Replay {
    pub(super) fn new(script: Script, speed: ReplaySpeed) -> Self {
        let Script { name, entries, kept_in } = script;
        let answers = entries.iter().map(|entry| u64::from(entry.repeat)).sum();
        Self { name, entries, answers, speed, cursor: Mutex::new(Cursor::open(kept_in)) }
    }

    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        shared: &Shared,
        session: &Session,
    ) -> Response<OutBody> {
        let traffic = Some(Arc::clone(&session.traffic));
        let idle = shared.limits.body_idle;
        let leftover = Leftover::default();
        let body = RequestBody::new(request.into_body(), idle, traffic, None, leftover.clone());
        let session = session.id.as_str();
        let body = match Limited::new(body, MAX_KEPT_BODY).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(_) => {
                // A body that is read without a fault fails only at the bound.
                let fault = leftover.fault().unwrap_or(RequestFault::TooLarge(MAX_KEPT_BODY));
                return fault.refuse(&shared.notices, session);
            }
        };
        match self.next(&body) {
            Next::Answer(entry, number) => match self.play(entry, number, &body).await {
                Ok(response) => response,
                Err(reason) => {
                    self.refuse(NoticeKind::ReplayUnfit { place: entry.place.clone(), reason }, shared, session)
                }
            },
            Next::Mismatch(entry, expected) => {
                let kind = NoticeKind::ReplayMismatch { place: entry.place.clone(), expected: expected.to_owned() };
                self.refuse(kind, shared, session)
            }
            Next::Exhausted => {
                let kind = NoticeKind::ReplayExhausted { script: self.name.clone(), answers: self.answers };
                self.refuse(kind, shared, session)
            }
        }
    }

    /// 410 is shown as it is and sent once. The CLI tries 400, 404 and 422 again with changed requests, takes 403 for a failed
    /// login, and 500 for a passing trouble (each seen with version 2.1.329).
    fn refuse(&self, kind: NoticeKind, shared: &Shared, session: &str) -> Response<OutBody> {
        let message = kind.to_string();
        shared.notices.tell(Some(session), kind);
        refusal(StatusCode::GONE, "invalid_request_error", &message, Retry::Never)
    }

    fn next(&self, body: &[u8]) -> Next<'_> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        cursor.arrive(body);
        let was = cursor.at;
        let Some(entry) = self.entries.get(was.entry) else { return Next::Exhausted };
        if let Some(expected) = &entry.expect
            && !mentions(body, expected)
        {
            return Next::Mismatch(entry, expected);
        }
        let at = &mut cursor.at;
        at.repeated += 1;
        at.served += 1;
        if at.repeated >= entry.repeat {
            at.entry += 1;
            at.repeated = 0;
        }
        let served = at.served;
        // Before the answer: whoever goes on from here must not take it for one that was never begun.
        cursor.keep(body, was);
        Next::Answer(entry, served)
    }

    async fn play(&self, entry: &Entry, number: u64, body: &[u8]) -> Result<Response<OutBody>, String> {
        let asked = Asked::read(body);
        match &entry.answer {
            Answer::Message(answer) => {
                tokio::time::sleep(answer.delay).await;
                if answer.hang == Some(Hang::Headers) {
                    return Ok(silence().await);
                }
                let numbers = Numbers { answer: number, request_bytes: body.len() };
                let (status, kind, steps) = message::render(answer, &asked, numbers);
                Ok(response(status, kind, number, steps))
            }
            Answer::Status(answer) => {
                tokio::time::sleep(answer.delay).await;
                Ok(status_response(answer, number))
            }
            Answer::Recorded(exchange) => self.play_recorded(exchange, &asked).await,
        }
    }

    async fn play_recorded(&self, exchange: &Exchange, asked: &Asked) -> Result<Response<OutBody>, String> {
        let Some(recorded) = &exchange.response else { return Ok(silence().await) };
        let streamed = recorded.headers.iter().any(|(n, v)| n == "content-type" && v.starts_with("text/event-stream"));
        if streamed && !asked.stream {
            return Err("it was recorded as a stream, and this request asks for none".to_owned());
        }
        tokio::time::sleep(self.speed.pause(Duration::from_millis(recorded.ms))).await;
        let mut steps = Vec::with_capacity(recorded.chunks.len() * 2 + 1);
        let mut last = recorded.ms;
        for chunk in &recorded.chunks {
            let pause = self.speed.pause(Duration::from_millis(chunk.ms.saturating_sub(last)));
            last = chunk.ms;
            if !pause.is_zero() {
                steps.push(Step::Wait(pause));
            }
            let bytes = chunk.bytes.decode().map_err(|error| format!("a chunk is not base64: {error}"))?;
            steps.push(Step::Data(Bytes::from(bytes)));
        }
        match exchange.end {
            End::Complete => {}
            End::UpstreamCut => steps.push(Step::Cut),
            // The agent had broken off by itself, and will do so again; a cut would make it ask anew.
            End::ClientLeft => steps.push(Step::Hang),
        }
        let mut response = Response::new(Playback::new(steps).boxed_unsync());
        *response.status_mut() = StatusCode::from_u16(recorded.status).map_err(|error| error.to_string())?;
        for (name, value) in &recorded.headers {
            let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
            response.headers_mut().append(name, HeaderValue::try_from(value).map_err(|error| error.to_string())?);
        }
        Ok(response)
    }
}

/// Whether a request contains a text, in one of its strings or across its raw bytes.
fn mentions(body: &[u8], text: &str) -> bool {
    if memchr::memmem::find(body, text.as_bytes()).is_some() {
        return true;
    }
    fn within(value: &Value, text: &str) -> bool {
        match value {
            Value::String(string) => string.contains(text),
            Value::Array(items) => items.iter().any(|item| within(item, text)),
            Value::Object(fields) => fields.values().any(|field| within(field, text)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    serde_json::from_slice::<Value>(body).is_ok_and(|value| within(&value, text))
}

/// No answer, until the client leaves.
async fn silence() -> Response<OutBody> {
    tokio::time::sleep(HANG_TIME).await;
    refusal(StatusCode::GATEWAY_TIMEOUT, "timeout_error", "the replay script gave no answer", Retry::Usual)
}

fn status_response(answer: &StatusAnswer, number: u64) -> Response<OutBody> {
    let kind = if answer.body.is_string() { "text/plain; charset=utf-8" } else { "application/json" };
    let bytes = match &answer.body {
        Value::String(text) => text.clone(),
        json @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            json.to_string()
        }
    };
    let mut response = response(answer.status, kind, number, vec![Step::Data(Bytes::from(bytes))]);
    for (name, value) in &answer.headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}

fn response(status: StatusCode, kind: &'static str, number: u64, steps: Vec<Step>) -> Response<OutBody> {
    let mut response = Response::new(Playback::new(steps).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(id) = HeaderValue::try_from(format!("req_replay_{number:04}")) {
        response.headers_mut().insert(HeaderName::from_static("request-id"), id);
    }
    response
}

impl Asked {
    /// What matters of a request; one that is not JSON asks for a plain answer of no model.
    fn read(body: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        struct Wire {
            #[serde(default)]
            stream: bool,
            model: Option<String>,
        }
        let Wire { stream, model } = serde_json::from_slice(body).unwrap_or_default();
        Self { stream, model: model.unwrap_or_else(|| "replay".to_owned()) }
    }
}
