//! The engine's event stream, narrowed to what we act on.
//!
//! The library connects when the stream is first polled. So that nothing is missed in between, the engine is asked for
//! everything since the time of the call: it keeps the last 256 events of the whole machine for that.

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;

use super::error::About;
use super::network::label_filter;
use super::time;
use super::wire::Wire;
use crate::engine::{ContainerId, EngineError, EngineEvent, EventKind, EventStream, Labels};

const WHAT: &str = "watching its events";
/// Attributes that the engine mixes into the labels.
const NOT_LABELS: [&str; 7] = ["image", "name", "exitCode", "execDuration", "signal", "containerExitCode", "podId"];

pub(super) fn events(wire: &Wire, labels: &Labels) -> EventStream {
    let mut filters = label_filter(labels);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    filters
        .insert("event".to_owned(), ["start", "die", "died", "oom", "destroy", "remove"].map(str::to_owned).to_vec());
    let now = Timestamp::now();
    let since = format!("{}.{:09}", now.as_second(), now.subsec_nanosecond());
    let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
    let docker = wire.docker.clone();
    let endpoint = wire.endpoint.clone();
    let messages = docker.events(Some(options)).boxed();
    // `None` as the state: the error was told, the end follows.
    stream::unfold(Some(messages), move |messages| {
        let endpoint = endpoint.clone();
        async move {
            let mut messages = messages?;
            loop {
                let ended = match messages.next().await {
                    Some(Ok(message)) => match read(message) {
                        Some(event) => return Some((Ok(event), Some(messages))),
                        None => continue,
                    },
                    Some(Err(error)) => broken(About::container(WHAT, "").translate(&endpoint, error)),
                    None => broken_because("the engine closed the connection"),
                };
                return Some((Err(ended), None));
            }
        }
    })
    .boxed()
}

fn broken_because(reason: &str) -> EngineError {
    EngineError::Lost { what: WHAT, reason: reason.to_owned() }
}

/// A stream that ends for whatever transport reason is one thing to its reader: lost.
fn broken(error: EngineError) -> EngineError {
    match error {
        EngineError::Malformed { message, .. } => broken_because(&message),
        other => other,
    }
}

/// Our event from the engine's; `None` for what we did not ask for.
fn read(message: EventMessage) -> Option<EngineEvent> {
    let actor = message.actor?;
    let mut attributes = actor.attributes.unwrap_or_default();
    let kind = match message.action?.as_str() {
        "start" => EventKind::Start,
        "die" => EventKind::Die { exit_code: attributes.get("exitCode")?.parse().ok()? },
        "oom" => EventKind::Oom,
        // Podman's word; Docker has none of this name for containers.
        "destroy" | "remove" => EventKind::Destroy,
        _ => return None,
    };
    attributes.retain(|key, _| !NOT_LABELS.contains(&key.as_str()));
    Some(EngineEvent {
        container: ContainerId(actor.id?),
        kind,
        at: message.time_nano.and_then(|nanos| time::from_nanos(i128::from(nanos))).unwrap_or_else(Timestamp::now),
        labels: attributes.into_iter().collect(),
    })
}
