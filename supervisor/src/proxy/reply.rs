//! The proxy's own answers, in the API's error shape, so that the agent shows the sentence and retries only where that
//! can help. None of them is made from a secret.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};

use super::body::OutBody;

/// The header by which the API's clients are told not to try again.
pub(super) const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Whether the same request could succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// The client's usual backoff.
    Usual,
    /// Pointless: the CLI would otherwise spend three minutes on it.
    Never,
}

/// An answer in the API's error shape.
pub(super) fn refusal(status: StatusCode, kind: &str, message: &str, retry: Retry) -> Response<OutBody> {
    let body = serde_json::json!({ "type": "error", "error": { "type": kind, "message": message } });
    let mut response = Response::new(full(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match retry {
        Retry::Usual => {}
        Retry::Never => never_retry(&mut response),
    }
    response
}

pub(super) fn never_retry<B>(response: &mut Response<B>) {
    response.headers_mut().insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
}

pub(super) fn plain(text: &'static str) -> Response<OutBody> {
    let mut response = Response::new(full(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

pub(super) fn full(bytes: impl Into<Bytes>) -> OutBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
