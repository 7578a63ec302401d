//! The OpenAPI document: what utoipa derives from the routes and their types, in the form that clients are generated from.
//!
//! ```text
//! derived from routes and types ─► shape: flat objects, named variants ─► streams: the data of events ─► refs: copies, unused
//! ```
//!
//! Nothing here names a field of the API: fields, bounds and texts come from the types that serde reads and writes.

mod refs;
mod shape;
mod streams;

use std::borrow::Cow;

use serde_json::{Map, Value};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr};
use utoipa::{PartialSchema, ToSchema};

pub(super) use streams::{BuildLogStream, END, EventStream, GAP};

use super::failures;
use crate::session::status::EndReason;

/// The schemas of a document by their names.
type Schemas = Map<String, Value>;

/// The name of the scheme by which callers show their token.
const BEARER: &str = "bearer";

/// Adds the security scheme, and to each operation the responses that every request may get.
fn add_common(document: &mut OpenApi) {
    let description = "The token of the service, from the file that `token-file` of its configuration names. A service on another \
                       address than loopback always asks for it; on loopback and on the unix socket no token is needed by default.";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build();
    let components = document.components.get_or_insert_default();
    components.security_schemes.insert(BEARER.to_owned(), SecurityScheme::Http(bearer).into());
    for item in document.paths.paths.values_mut() {
        let methods = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        methods.into_iter().flatten().for_each(failures::add_common);
    }
}

/// Brings what was derived into the form that is served. An error is a fault in the derived document.
pub(super) fn finish(mut derived: OpenApi) -> serde_json::Result<Value> {
    add_common(&mut derived);
    let mut document = serde_json::to_value(derived)?;
    if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
        *schemas = shape::flat(std::mem::take(schemas));
        streams::describe(schemas);
    }
    refs::tidy(&mut document);
    Ok(document)
}

/// The words of [`EndReason`], without what some of them carry. They are read off its own schema, so that the two cannot
/// differ.
#[derive(Debug)]
pub enum EndReasonWord {}

impl PartialSchema for EndReasonWord {
    fn schema() -> RefOr<Schema> {
        let whole = serde_json::to_value(EndReason::schema()).unwrap_or_default();
        let (mut words, mut text) = (Vec::new(), "Why a session ended:\n".to_owned());
        for variant in whole["oneOf"].as_array().into_iter().flatten() {
            let Some(word) = variant.pointer("/properties/reason/enum/0").and_then(Value::as_str) else { continue };
            let meaning = variant["description"].as_str().unwrap_or_default();
            text.push_str(&format!("\n- `{word}`: {meaning}"));
            words.push(word.to_owned());
        }
        let words = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).description(Some(text));
        Schema::Object(words.build()).into()
    }
}

impl ToSchema for EndReasonWord {
    fn name() -> Cow<'static, str> {
        "EndReason".into()
    }
}

#[cfg(test)]
mod tests;
