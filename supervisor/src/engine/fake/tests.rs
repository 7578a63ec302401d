//! The fake's own promises beyond the conformance suite: faults, and its going and coming.

use std::time::Duration;

use futures_util::StreamExt;

use super::*;
use crate::engine::ContainerPhase;

fn sleeper() -> FakeEngine {
    FakeEngine::with("image", |mut run| async move {
        run.signalled(&[Signal::SIGTERM]).await;
        3
    })
}

async fn launched(engine: &FakeEngine) -> ContainerId {
    let id = engine.create(&ContainerSpec::new("one", "image")).await.unwrap().id;
    engine.start(&id).await.unwrap();
    id
}

#[tokio::test(start_paused = true)]
async fn the_nth_call_fails_without_effect() {
    let engine = sleeper();
    let full = EngineError::NoSpace { what: "create container", message: "full".into() };
    engine.fail_at(Call::Create, 2, full.clone());
    engine.create(&ContainerSpec::new("one", "image")).await.unwrap();
    assert_eq!(engine.create(&ContainerSpec::new("two", "image")).await.unwrap_err(), full);
    assert_eq!(engine.leftovers(), ["one"]);
    engine.create(&ContainerSpec::new("two", "image")).await.unwrap();
    let subjects: Vec<_> = engine.calls().into_iter().map(|record| record.subject).collect();
    assert_eq!(subjects, ["one", "two", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_call_ends_by_its_deadline() {
    let engine = sleeper();
    engine.hang_at(Call::Create, 1);
    let began = tokio::time::Instant::now();
    let error = engine.create(&ContainerSpec::new("one", "image")).await.unwrap_err();
    assert_eq!(error, EngineError::Timeout { what: "create container", after: deadline::CREATE });
    assert_eq!(began.elapsed(), deadline::CREATE);
    assert!(error.engine_away() && engine.leftovers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_leaves_its_effect() {
    let engine = sleeper();
    engine.fault(Call::Create, 1, Fault::LoseAnswer);
    let error = engine.create(&ContainerSpec::new("one", "image")).await.unwrap_err();
    assert!(matches!(error, EngineError::Lost { .. }));
    assert_eq!(engine.leftovers(), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn containers_outlive_the_engine() {
    let engine = sleeper();
    let id = launched(&engine).await;
    let mut events = engine.events(&Labels::new()).await.unwrap();
    let waiting = tokio::spawn({
        let (engine, id) = (engine.clone(), id.clone());
        async move { engine.wait(&id).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    engine.engine_down();
    assert!(matches!(engine.inspect(&id).await, Err(EngineError::Unreachable { .. })));
    assert!(matches!(events.next().await, Some(Err(EngineError::Lost { .. }))));
    assert!(events.next().await.is_none());
    tokio::time::sleep(Duration::from_secs(5)).await;
    engine.engine_up();
    assert_eq!(engine.inspect(&id).await.unwrap().phase, ContainerPhase::Running);
    engine.signal(&id, Signal::SIGTERM).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().code, 3);
}

#[tokio::test(start_paused = true)]
async fn a_wait_does_not_outlast_an_engine_that_stays_away() {
    let engine = sleeper();
    let id = launched(&engine).await;
    let waiting = tokio::spawn({
        let (engine, id) = (engine.clone(), id.clone());
        async move { engine.wait(&id).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    engine.engine_down();
    let error = tokio::time::timeout(Duration::from_secs(120), waiting).await.unwrap().unwrap().unwrap_err();
    assert!(error.engine_away(), "{error}");
}
