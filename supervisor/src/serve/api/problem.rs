//! Errors as RFC 9457 problem documents.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error_chain::chain;
use crate::policy::{Field, Reason};

/// The media type of a problem document (RFC 9457 section 3).
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// An error, as a problem document (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The kind of problem: a stable name for programs.
    #[serde(rename = "type")]
    #[schema(example = "urn:aigo:problem:not-found")]
    kind: String,
    /// The kind of problem in words.
    title: &'static str,
    /// The HTTP status of the response.
    #[schema(minimum = 400, maximum = 599, example = 404)]
    status: u16,
    /// What went wrong this time and what to do about it, as a sentence.
    detail: String,
    /// What is wrong with the request, field by field; absent if the problem is not about single fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
}

/// What is wrong with one field of the request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// The field as a JSON pointer (RFC 6901); empty for the whole body.
    #[schema(example = "/limits/cpus")]
    pub pointer: String,
    /// What is wrong with the field and what is allowed, as a sentence.
    pub detail: String,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $slug:literal, $title:literal;)*) => {
        $($(#[$doc])* pub fn $name(detail: impl Into<String>) -> Self {
            Self::new(StatusCode::$status, $slug, $title, detail.into())
        })*
    };
}

impl Problem {
    fn new(status: StatusCode, slug: &str, title: &'static str, detail: String) -> Self {
        Self { kind: format!("urn:aigo:problem:{slug}"), title, status: status.as_u16(), detail, errors: Vec::new() }
    }

    /// This very problem, in words.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    kinds! {
        /// The request cannot be understood.
        bad_request = BAD_REQUEST, "bad-request", "The request cannot be understood";
        /// No token, or a wrong one.
        unauthorized = UNAUTHORIZED, "unauthorized", "A token is needed";
        /// Not from there, or policy says no.
        forbidden = FORBIDDEN, "forbidden", "Not allowed";
        /// There is no such thing.
        not_found = NOT_FOUND, "not-found", "Not found";
        /// It is in another state.
        conflict = CONFLICT, "conflict", "Not in this state";
        /// There is such a thing, but not for this method.
        wrong_method = METHOD_NOT_ALLOWED, "wrong-method", "The method does not work here";
        /// The request line and headers are too large.
        head_too_large = REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "The head is too large";
        /// The body is too large.
        too_large = PAYLOAD_TOO_LARGE, "too-large", "The body is too large";
        /// The body is not JSON.
        not_json = UNSUPPORTED_MEDIA_TYPE, "not-json", "The body must be JSON";
        /// The body took too long.
        too_slow = REQUEST_TIMEOUT, "too-slow", "The body took too long";
        /// It can be read, and asks for what is not possible.
        unprocessable = UNPROCESSABLE_ENTITY, "unprocessable", "This cannot be done as asked";
        /// There is no room, and it may not wait.
        no_room = TOO_MANY_REQUESTS, "no-room", "There is no room now";
        /// There is no room now.
        busy = SERVICE_UNAVAILABLE, "busy", "Not now";
        /// Something outside is missing: the engine, the disk.
        unavailable = SERVICE_UNAVAILABLE, "unavailable", "Something that this needs is not available";
        /// A fault of ours.
        internal = INTERNAL_SERVER_ERROR, "internal", "aigo failed";
    }

    /// The body is larger than any that is asked for.
    pub fn body_too_large() -> Self {
        Self::too_large(format!("a body may have {} bytes", super::extract::MAX_BODY))
    }

    /// Some fields are wrong.
    pub fn bad_fields(errors: Vec<FieldError>) -> Self {
        Self::unprocessable("some fields cannot be as they are").with(errors)
    }

    /// One field is wrong.
    pub fn bad_field(field: &Field, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::unprocessable(detail.clone()).with(vec![FieldError { pointer: field.pointer(), detail }])
    }

    /// With the fields that are wrong.
    pub fn with(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Something outside failed.
    pub fn from_outside(error: &dyn std::error::Error) -> Self {
        Self::unavailable(chain(error))
    }
}

impl From<Reason> for FieldError {
    fn from(Reason { field, detail }: Reason) -> Self {
        Self { pointer: field.pointer(), detail }
    }
}

impl From<crate::store::StoreError> for Problem {
    fn from(error: crate::store::StoreError) -> Self {
        Self::from_outside(&error)
    }
}

impl From<crate::engine::EngineError> for Problem {
    fn from(error: crate::engine::EngineError) -> Self {
        Self::from_outside(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Plain texts and numbers: encoding them cannot fail.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
