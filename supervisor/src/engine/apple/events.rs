//! Events, made of what the list shows from one look to the next: they come up to [`POLL`] late, and a container that comes
//! and goes between two looks makes none.

use std::collections::{BTreeMap, VecDeque};

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;

use super::container::{all, carries, phase};
use super::lives::Known;
use super::{AppleEngine, POLL};
use crate::engine::{ContainerId, ContainerPhase, EngineError, EngineEvent, EventKind, EventStream, Labels};

/// Stands for an exit code that nobody was told.
const UNKNOWN_CODE: i32 = i32::MAX;

/// A container at one look.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    phase: ContainerPhase,
    /// After the end, if it is known.
    code: Option<i32>,
    labels: Labels,
}

type Look = BTreeMap<ContainerId, Seen>;

async fn look(engine: &AppleEngine, labels: &Labels) -> Result<Look, EngineError> {
    let mut look = Look::new();
    for container in all(engine).await?.into_iter().filter(|container| carries(container.labels(), labels)) {
        let (id, phase) = (container.id(), phase(engine, &container));
        let code = if phase == ContainerPhase::Exited { code(engine, &id).await } else { None };
        look.insert(id, Seen { phase, code, labels: container.labels().clone() });
    }
    Ok(look)
}

/// The list may show an end before the run that attends the container has ended.
async fn code(engine: &AppleEngine, id: &ContainerId) -> Option<i32> {
    let Known::Started { mut end, .. } = engine.lives.of(id) else { return None };
    let end = tokio::time::timeout(POLL, end.wait_for(Option::is_some)).await.ok()?.ok()?;
    (*end)?.code
}

/// What happened between two looks.
fn between(before: &Look, after: &Look, at: Timestamp) -> Vec<EngineEvent> {
    use ContainerPhase::{Created, Exited, Paused, Running};
    let mut events = Vec::new();
    let mut tell = |container: &ContainerId, seen: &Seen, kind| {
        events.push(EngineEvent { container: container.clone(), kind, at, labels: seen.labels.clone() });
    };
    for (id, now) in after {
        let die = EventKind::Die { exit_code: now.code.unwrap_or(UNKNOWN_CODE) };
        match (before.get(id).map(|seen| seen.phase), now.phase) {
            (None | Some(Created | Exited), Running | Paused) => tell(id, now, EventKind::Start),
            // Without a code it is somebody else's, and one that never ran looks the same.
            (None, Exited) if now.code.is_none() => {}
            (None | Some(Created), Exited) => {
                tell(id, now, EventKind::Start);
                tell(id, now, die);
            }
            (Some(Running | Paused), Exited) => tell(id, now, die),
            (_, Created) | (Some(Running | Paused), Running | Paused) | (Some(Exited), Exited) => {}
        }
    }
    for (id, gone) in before.iter().filter(|(id, _)| !after.contains_key(id)) {
        if gone.phase.is_live() {
            tell(id, gone, EventKind::Die { exit_code: UNKNOWN_CODE });
        }
        tell(id, gone, EventKind::Destroy);
    }
    events
}

struct Watch {
    engine: AppleEngine,
    labels: Labels,
    last: Look,
    waiting: VecDeque<EngineEvent>,
}

impl Watch {
    async fn next(&mut self) -> Result<EngineEvent, EngineError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            tokio::time::sleep(POLL).await;
            let now = look(&self.engine, &self.labels).await?;
            self.waiting.extend(between(&self.last, &now, Timestamp::now()));
            self.last = now;
        }
    }
}

pub(super) async fn events(engine: &AppleEngine, labels: &Labels) -> Result<EventStream, EngineError> {
    let last = look(engine, labels).await?;
    let watch = Watch { engine: engine.clone(), labels: labels.clone(), last, waiting: VecDeque::new() };
    // `None` as the state: the error was told, the end follows.
    let events = stream::unfold(Some(watch), async |watch| {
        let mut watch = watch?;
        match watch.next().await {
            Ok(event) => Some((Ok(event), Some(watch))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(events.boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(phase: ContainerPhase, code: Option<i32>) -> Seen {
        Seen { phase, code, labels: Labels::new() }
    }

    #[test]
    fn a_life_is_told_in_order_however_late_it_is_seen() {
        let id = ContainerId("c".into());
        let at = |seen: Option<Seen>| seen.into_iter().map(|seen| (id.clone(), seen)).collect::<Look>();
        let kinds = |before: Option<Seen>, after: Option<Seen>| -> Vec<EventKind> {
            between(&at(before), &at(after), Timestamp::UNIX_EPOCH).into_iter().map(|event| event.kind).collect()
        };
        let created = || Some(seen(ContainerPhase::Created, None));
        let running = || Some(seen(ContainerPhase::Running, None));
        let exited = || Some(seen(ContainerPhase::Exited, Some(5)));
        let die = EventKind::Die { exit_code: 5 };
        assert_eq!(kinds(None, created()), []);
        assert_eq!(kinds(created(), running()), [EventKind::Start]);
        assert_eq!(kinds(created(), exited()), [EventKind::Start, die]);
        assert_eq!(kinds(None, exited()), [EventKind::Start, die]);
        assert_eq!(kinds(None, Some(seen(ContainerPhase::Exited, None))), []);
        assert_eq!(kinds(running(), running()), []);
        assert_eq!(kinds(running(), exited()), [die]);
        assert_eq!(kinds(exited(), None), [EventKind::Destroy]);
        assert_eq!(kinds(running(), None), [EventKind::Die { exit_code: UNKNOWN_CODE }, EventKind::Destroy]);
    }
}
