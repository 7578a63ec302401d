//! Streams of server-sent events in the document. OpenAPI 3.1 has no word for the events of a stream, but JSON Schema has for
//! what a string holds (`contentMediaType`, `contentSchema`): the stream holds a list of messages, and the `data` of each
//! message holds JSON.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{RefOr, schema};
use utoipa::{PartialSchema, ToSchema};

use super::Schemas;
use super::refs::reference;
use crate::image::Progress;
use crate::serve::api::image::BuildInfo;
use crate::session::event::SessionEvent;
use crate::session::gap::Gap;

/// The name of the event that tells of events that are no longer stored.
pub(in crate::serve::api) const GAP: &str = "gap";
/// The name of the event that ends the log of a build.
pub(in crate::serve::api) const END: &str = "end";

macro_rules! streams {
    ($($(#[doc = $doc:literal])* $name:ident of $($part:ty),*;)*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug)]
            pub(in crate::serve::api) enum $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let text = concat!($($doc, "\n"),*).replace("\n ", "\n").trim().to_owned();
                    let stream = ObjectBuilder::new().schema_type(Type::String).description(Some(text));
                    Schema::Object(stream.content_media_type("text/event-stream").build()).into()
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn schemas(schemas: &mut Vec<(String, RefOr<schema::Schema>)>) {
                    $(
                        schemas.push((<$part>::name().into_owned(), <$part>::schema()));
                        <$part>::schemas(schemas);
                    )*
                }
            }
        )*
    };
}

streams! {
    /// The events of a session as server-sent events. The name of each event is its `kind`, its id its `seq`, and its data the
    /// `Event` as JSON. An event named `gap` says which events are no longer stored.
    EventStream of SessionEvent, Gap;
    /// The log of an image build as server-sent events. The data of each event is a `BuildProgress` as JSON; the last event is
    /// named `end`, and its data is the build.
    BuildLogStream of Progress, BuildInfo;
}

/// Says what the streams hold.
pub(super) fn describe(schemas: &mut Schemas) {
    let event = message(schemas, "The data of an event of a session.", "Event", None);
    let gap = message(schemas, "The numbers of events that are no longer stored.", "Gap", Some(GAP));
    let progress = message(schemas, "The data of a report of a build.", "BuildProgress", None);
    let end = message(schemas, "The build, which has ended.", "BuildInfo", Some(END));
    for (stream, messages) in [
        (EventStream::name(), [("EventMessage", event), ("GapMessage", gap)]),
        (BuildLogStream::name(), [("BuildProgressMessage", progress), ("BuildEndMessage", end)]),
    ] {
        let choices: Vec<Value> = messages.iter().map(|(name, _)| reference(name)).collect();
        schemas[&*stream]["contentSchema"] = json!({"type": "array", "items": {"oneOf": choices}});
        schemas.extend(messages.map(|(name, message)| (name.to_owned(), message)));
    }
}

/// One server-sent event whose data is of a schema. Its name is `named`, or else one of the words of that schema's tag, and
/// then it has an id.
fn message(schemas: &Schemas, text: &str, data: &str, named: Option<&str>) -> Value {
    let words =
        schemas.get(data).and_then(|schema| schema.pointer("/discriminator/mapping")).and_then(Value::as_object);
    let words: Vec<&String> = words.into_iter().flat_map(|words| words.keys()).collect();
    let name = match named {
        Some(name) => json!({"type": "string", "const": name, "description": "The name of the event."}),
        None => json!({"type": "string", "enum": words, "description": "The name of the event."}),
    };
    let data = json!({
        "type": "string", "contentMediaType": "application/json", "contentSchema": reference(data), "description": text,
    });
    let mut message = json!({
        "type": "object", "description": format!("A server-sent event. {text}"), "required": ["event", "data"],
        "properties": {"event": name, "data": data},
    });
    if named.is_none() {
        let id = "The id of the event: its number, to come back with as `Last-Event-ID`.";
        message["properties"]["id"] = json!({"type": "string", "pattern": "^[1-9][0-9]*$", "description": id});
        message["required"] = json!(["id", "event", "data"]);
    }
    message
}
