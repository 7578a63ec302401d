//! Turns answers of an upstream that hide their cause into something that a person can act on.
//!
//! A 401 or 403 says which variable of the host is wrong. Retrying cannot help, and these are the answers in which servers
//! repeat the key that they refuse, so they are the only ones that are read whole before they are passed on. A redirect
//! says where it points: most often the address in `ANTHROPIC_BASE_URL` is not quite that of the gateway.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use http::response::Parts;
use http::{Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::access::ModelAccess;
use super::body::OutBody;
use super::limits::MAX_ERROR_BODY;
use super::notice::{NoticeKind, quoted};
use super::reply::{full, never_retry};

/// An error body is short and there at once.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The upstream's refusal with `x-should-retry: false`. A 401 gets our sentence around the upstream's message; a 403 may
/// have other reasons than the key (a model or region that is not allowed), so its own words stay.
pub(super) async fn refused_credential(access: &ModelAccess, parts: Parts, body: Incoming) -> Response<OutBody> {
    let read = tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_ERROR_BODY).collect()).await;
    let mut bytes = match read {
        Ok(Ok(collected)) => collected.to_bytes().to_vec(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    access.credential.mask(&mut bytes);
    let encoded = parts.headers.contains_key(CONTENT_ENCODING);
    let mut response = Response::from_parts(parts, ());
    never_retry(&mut response);
    if response.status() == StatusCode::UNAUTHORIZED {
        bytes = explain(access, if encoded { &[] } else { &bytes }).to_string().into_bytes();
        response.headers_mut().remove(CONTENT_ENCODING);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response.map(|()| full(Bytes::from(bytes)))
}

/// Where a redirect points, in words: a host with its port, never the path, which may hold a key.
pub(super) fn target(headers: &HeaderMap) -> String {
    // One that repeats the credential was taken off.
    let Some(location) = headers.get(LOCATION) else { return "an address that cannot be shown".to_owned() };
    match location.to_str().ok().map(str::parse::<Uri>) {
        Some(Ok(uri)) => match uri.authority() {
            // Without the user name and password that an authority may begin with.
            Some(authority) => quoted(authority.as_str().rsplit('@').next().unwrap_or_default()),
            None => "another path of the same host".to_owned(),
        },
        Some(Err(_)) | None => "an address that cannot be read".to_owned(),
    }
}

/// The upstream's redirect with its status and headers, and a body in which clients that do not follow it find the reason.
pub(super) fn redirect(notice: &NoticeKind, mut parts: Parts) -> Response<OutBody> {
    parts.headers.remove(CONTENT_ENCODING);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let error = json!({ "type": "api_error", "message": notice.to_string() });
    let body = json!({ "type": "error", "error": error }).to_string();
    let mut response = Response::from_parts(parts, full(body));
    never_retry(&mut response);
    response
}

fn explain(access: &ModelAccess, body: &[u8]) -> Value {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let said = match parsed.as_ref().and_then(|body| body.pointer("/error/message")).and_then(Value::as_str) {
        Some(message) => quoted(message),
        None => quoted(String::from_utf8_lossy(body).trim()),
    };
    // The CLI answers every 401 that mentions this header with "Fix external API key", which would hide the sentence.
    let said = said.replace("x-api-key", "API key");
    let message = format!(
        "the model API at {} refused the credential that the host has in {}{}{said}; set a valid one on the host and start \
         again",
        access.url.host(),
        access.credential.kind().variable(),
        if said.is_empty() { "" } else { ": " },
    );
    json!({ "type": "error", "error": { "type": "authentication_error", "message": message } })
}
