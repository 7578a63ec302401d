//! Event streams of the fake: one bounded queue per reader. A reader that lags so far loses its stream with an error,
//! as it would lose its connection.

use futures_util::StreamExt;
use futures_util::stream;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::engine::{ContainerId, EngineError, EngineEvent, EventKind, EventStream, Labels};

/// Events that a reader may lag behind.
const QUEUE: usize = 1024;

#[derive(Debug)]
pub(super) struct Subscriber {
    labels: Labels,
    queue: mpsc::Sender<EngineEvent>,
}

pub(super) fn subscribe(subscribers: &mut Vec<Subscriber>, labels: &Labels) -> EventStream {
    let (queue, events) = mpsc::channel(QUEUE);
    subscribers.push(Subscriber { labels: labels.clone(), queue });
    stream::unfold(Some(events), |events| async {
        let mut events = events?;
        match events.recv().await {
            Some(event) => Some((Ok(event), Some(events))),
            None => {
                let reason = "the engine closed the connection".to_owned();
                Some((Err(EngineError::Lost { what: "watching its events", reason }), None))
            }
        }
    })
    .boxed()
}

pub(super) fn emit(subscribers: &mut Vec<Subscriber>, container: &ContainerId, labels: &Labels, kind: EventKind) {
    subscribers.retain(|subscriber| {
        if !carries(labels, &subscriber.labels) {
            return !subscriber.queue.is_closed();
        }
        let event = EngineEvent { container: container.clone(), kind, at: Timestamp::now(), labels: labels.clone() };
        subscriber.queue.try_send(event).is_ok()
    });
}

/// Whether `labels` has all of `wanted`.
pub(super) fn carries(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}
