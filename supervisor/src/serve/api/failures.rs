//! The error responses of the OpenAPI document: one type for each status, named in `responses(…)` of the handlers that can
//! answer with it. Every one has a problem document as its body.

use std::collections::BTreeMap;

use utoipa::openapi::path::Operation;
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::problem::{MEDIA_TYPE, Problem};

macro_rules! failures {
    ($($name:ident = $status:literal, $description:literal;)*) => {
        $(
            #[doc = $description]
            #[derive(Debug)]
            pub(super) enum $name {}

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    BTreeMap::from([($status.to_owned(), RefOr::T(response($description)))])
                }
            }
        )*
    };
}

failures! {
    BadRequest = "400", "The request cannot be understood: a header, a query parameter or the JSON is malformed.";
    Unauthorized = "401", "The service asks for a token, and the request has none or a wrong one.";
    Forbidden = "403", "The caller is not let in (the wrong `Host` or `Origin`, or another user of this machine), or policy \
        denies what was asked for; then `errors` names each field.";
    NotFound = "404", "There is nothing of this id or name.";
    TooSlow = "408", "The body was not complete within 20 seconds.";
    Conflict = "409", "The session, the build or the agent is in a state that does not allow this. Nothing was done.";
    TooLarge = "413", "The body is larger than the service takes (48.1 MiB).";
    NotJson = "415", "The body must have the header `Content-Type: application/json`.";
    Unprocessable = "422", "The body is JSON, but a field is unknown or cannot have this value; `errors` names each field.";
    NoRoom = "429", "There is no room now, and the request may not wait: the queue is full, or the agent's policy is `reject`.";
    HeadTooLarge = "431", "The request line and the headers together have more than 32 KiB.";
    Unavailable = "503", "The engine, the disk or the session's owner does not answer now, or a bound of the service is \
        reached; `detail` says which, and whether to try again.";
}

fn response(description: &str) -> Response {
    let schema = RefOr::<utoipa::openapi::Schema>::Ref(Ref::from_schema_name(Problem::name()));
    ResponseBuilder::new()
        .description(description)
        .content(MEDIA_TYPE, ContentBuilder::new().schema(Some(schema)).build())
        .build()
}

/// Adds what every request may be refused with before it reaches its handler (see [`super::guard`] and [`super::extract`]).
/// What a handler documents itself stays as it is.
pub(super) fn add_common(operation: &mut Operation) {
    let mut common =
        [BadRequest::responses(), Unauthorized::responses(), Forbidden::responses(), HeadTooLarge::responses()];
    if let Some(RefOr::T(unauthorized)) = common[1].values_mut().next() {
        let challenge = HeaderBuilder::new().description(Some("The scheme that is asked for: `Bearer`.")).build();
        unauthorized.headers.insert("WWW-Authenticate".to_owned(), challenge.into());
    }
    let mut all: Vec<_> = common.into();
    if operation.request_body.is_some() {
        all.extend([TooSlow::responses(), TooLarge::responses(), NotJson::responses(), Unprocessable::responses()]);
    }
    for (status, response) in all.into_iter().flatten() {
        operation.responses.responses.entry(status).or_insert(response);
    }
}
