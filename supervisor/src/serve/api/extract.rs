//! What handlers take: JSON bodies, queries and paths that were checked, with problem documents where they are wrong.

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::{FieldError, Problem};

/// Bytes of a JSON body: a prompt of 8 MiB, of which JSON may make six times as much, and what goes with it.
pub const MAX_BODY: usize = 6 * ipc_protocol::limits::MAX_INPUT_TEXT_BYTES + SMALL;
/// Bytes of a body that always find room: each connection may have one such.
const SMALL: usize = 64 << 10;
/// Bytes of all bodies at once beyond that.
const ALL_BODIES: usize = 256 << 20;
/// How long a client may take to send one.
const BODY_TIME: Duration = Duration::from_secs(20);

/// A JSON body. Unknown fields are errors where the type says so.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        // A web page can send other content types to us without asking first, but not this one.
        let is_json =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
                value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
            });
        if !is_json {
            return Err(Problem::not_json("send the body with `Content-Type: application/json`"));
        }
        let whole = read(request.into_body()).await?;
        parse(&whole.bytes).map(Json)
    }
}

/// A JSON body that may be left out.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let typed = request.headers().contains_key(header::CONTENT_TYPE);
        let empty = axum::body::HttpBody::is_end_stream(request.body());
        if empty && !typed {
            return Ok(Self(T::default()));
        }
        Json::from_request(request, state).await.map(|Json(value)| Self(value))
    }
}

/// Room for the bodies of this process, in bytes.
static ROOM: Semaphore = Semaphore::const_new(ALL_BODIES);

/// A body, and the room that it takes as long as it is held.
struct Whole {
    bytes: Vec<u8>,
    _room: Option<SemaphorePermit<'static>>,
}

async fn read(body: Body) -> Result<Whole, Problem> {
    let read = collect(Limited::new(body, MAX_BODY), &ROOM);
    let slow = |_| Problem::too_slow(format!("the body was not here within {BODY_TIME:?}"));
    tokio::time::timeout(BODY_TIME, read).await.map_err(slow)?
}

async fn collect(mut body: Limited<Body>, room: &'static Semaphore) -> Result<Whole, Problem> {
    let mut whole = Whole { bytes: Vec::new(), _room: None };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Problem::body_too_large()
            } else {
                Problem::bad_request(format!("the body cannot be read: {error}"))
            }
        })?;
        // Trailers say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        whole.bytes.extend_from_slice(&data);
        let more = data.len().min(whole.bytes.len().saturating_sub(SMALL));
        let more = u32::try_from(more).ok().and_then(|more| room.try_acquire_many(more).ok());
        let more = more.ok_or_else(|| Problem::busy("too many large bodies are on their way; try again"))?;
        match &mut whole._room {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
    }
    Ok(whole)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Serde reads a list as the fields of an object in order, which nobody is promised.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::unprocessable("the body is a list; an object is asked for here"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer(error.path());
        let inner = error.into_inner();
        let detail = inner.to_string();
        if inner.is_data() {
            Problem::unprocessable("the body is JSON, but not what is asked for here")
                .with(vec![FieldError { pointer, detail }])
        } else {
            Problem::bad_request(format!("the body is not JSON: {detail}"))
        }
    })?;
    reader.end().map_err(|error| Problem::bad_request(format!("the body is not JSON: {error}")))?;
    Ok(value)
}

/// A path of serde's as a JSON pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |mut pointer, segment| {
        let part = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.clone(),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => return pointer,
        };
        pointer.push('/');
        pointer.push_str(&part.replace('~', "~0").replace('/', "~1"));
        pointer
    })
}

/// A query string. Unknown names are errors where the type says so.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|error: QueryRejection| Problem::bad_request(error.body_text()))
    }
}

/// A part of the path. One that cannot be right names nothing.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(path)| Self(path))
            .map_err(|error: PathRejection| Problem::not_found(error.body_text()))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        n: u8,
    }

    #[tokio::test]
    async fn large_bodies_share_one_room_and_small_ones_need_none() {
        static ROOM: Semaphore = Semaphore::const_new(100 << 10);
        let body = |bytes: usize| {
            let frames = (0..bytes.div_ceil(1024)).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1024]));
            Limited::new(Body::from_stream(futures_util::stream::iter(frames)), MAX_BODY)
        };
        let large = collect(body(SMALL + (60 << 10)), &ROOM).await.ok().unwrap();
        assert_eq!((large.bytes.len(), ROOM.available_permits()), (SMALL + (60 << 10), 40 << 10));
        let refused = collect(body(SMALL + (60 << 10)), &ROOM).await.err().unwrap();
        assert_eq!(serde_json::to_value(&refused).unwrap()["status"], 503);
        assert!(collect(body(SMALL), &ROOM).await.is_ok());
        drop(large);
        assert_eq!(ROOM.available_permits(), 100 << 10);
        let huge = collect(Limited::new(Body::from(vec![b' '; 2000]), 1000), &ROOM).await.err().unwrap();
        assert_eq!(serde_json::to_value(&huge).unwrap()["status"], 413);
    }

    #[test]
    fn a_list_is_no_object() {
        let problem = parse::<Inner>(b" [1]").unwrap_err();
        assert_eq!(serde_json::to_value(&problem).unwrap()["status"], 422);
    }

    #[test]
    fn a_bad_field_is_named_by_its_pointer() {
        let good: Outer = parse(br#"{"inner":[{"n":1}]}"#).unwrap();
        assert_eq!(good, Outer { inner: vec![Inner { n: 1 }] });
        for (text, status, pointer) in [
            (r#"{"inner":[{"n":1},{"n":300}]}"#, 422, "/inner/1/n"),
            (r#"{"inner":[{"n":1,"m":2}]}"#, 422, "/inner/0/m"),
            (r#"{"inner":[{"n":1}"#, 400, ""),
            (r#"{"inner":[]} x"#, 400, ""),
        ] {
            let problem = parse::<Outer>(text.as_bytes()).unwrap_err();
            let json = serde_json::to_value(&problem).unwrap();
            assert_eq!(json["status"], status, "{json}");
            assert_eq!(json["errors"][0]["pointer"].as_str().unwrap_or_default(), pointer, "{json}");
        }
    }
}
