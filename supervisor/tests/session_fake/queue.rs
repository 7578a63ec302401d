//! A service whose agents have limits: who waits, in which order they run, what a restart and a cancel leave.

use std::sync::Arc;
use std::time::Duration;

use supervisor::agents::AgentLimits;
use supervisor::config::Config;
use supervisor::serve::engine::EngineSlot;
use supervisor::serve::manager::{Manager, StartError};
use supervisor::session::SessionId;
use supervisor::session::control::Request;
use supervisor::session::event::{HostEvent, What};
use supervisor::session::status::Status;

use crate::house::House;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn config(max_sessions: u32) -> Config {
    let mut config = Config::default();
    config.limits.max_sessions = max_sessions;
    config.limits.headroom = None;
    config
}

pub(crate) fn manager(house: &House, config: Config) -> Arc<Manager> {
    let launcher = &house.launcher;
    let (store, dirs, instance) = (launcher.store.clone(), launcher.dirs.clone(), launcher.instance.clone());
    Arc::new(Manager::new(store, dirs, instance, EngineSlot::of(Arc::new(house.fake.clone())), config))
}

/// Sessions of one workspace would share its mount points, which is no matter of the queue's.
pub(crate) async fn start(house: &House, manager: &Arc<Manager>) -> Result<SessionId, StartError> {
    manager.start(house.permit(true).request().clone(), false, "a test".into()).await
}

pub(crate) async fn status(manager: &Manager, id: &SessionId) -> Status {
    manager.store.session(id).await.unwrap().unwrap().status
}

pub(crate) async fn until(manager: &Manager, id: &SessionId, wanted: impl Fn(Status) -> bool) {
    let seen = async {
        while !wanted(status(manager, id).await) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, seen).await.expect("the session's status did not come");
}

pub(crate) async fn end(manager: &Arc<Manager>, id: &SessionId) {
    until(manager, id, |status| status == Status::Running).await;
    let row = manager.store.session(id).await.unwrap().unwrap();
    let answer = manager.ask(&row, Request::Cancel { by: "a test".into() }).await.unwrap();
    assert!(answer.ok, "{answer:?}");
    until(manager, id, Status::is_terminal).await;
}

/// Waits until all is let go, which is after the end is told.
pub(crate) async fn idle(manager: &Manager) {
    let seen = async {
        while manager.count() > 0 || manager.running() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, seen).await.expect("something is never let go");
}

pub(crate) fn waiting(manager: &Manager) -> Vec<SessionId> {
    manager.in_line().into_iter().map(|waiting| waiting.ticket.id).collect()
}

#[tokio::test]
async fn who_is_too_many_waits_and_runs_in_order() {
    let house = House::new();
    let manager = manager(&house, config(1));
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(start(&house, &manager).await.unwrap());
    }
    assert_eq!(waiting(&manager), ids[1..]);
    assert_eq!(status(&manager, &ids[1]).await, Status::Queued);
    let events = manager.store.events(&ids[2], 0, 10).await.unwrap();
    assert!(matches!(events[0].what, What::Host(HostEvent::Queued { position: 2, .. })), "{events:?}");
    // One in the middle does not want to any more.
    let row = manager.store.session(&ids[2]).await.unwrap().unwrap();
    assert!(!manager.ask(&row, Request::Interrupt {}).await.unwrap().ok);
    assert!(manager.ask(&row, Request::Cancel { by: "a test".into() }).await.unwrap().ok);
    assert_eq!(status(&manager, &ids[2]).await, Status::Cancelled);
    for (now, next) in [(0, Some(1)), (1, Some(3)), (3, None)] {
        end(&manager, &ids[now]).await;
        if let Some(next) = next {
            until(&manager, &ids[next], |status| status == Status::Running).await;
        }
    }
    idle(&manager).await;
    assert_eq!(waiting(&manager), vec![]);
    house.assert_nothing_left("after the queue").await;
}

#[tokio::test]
async fn a_queue_of_ten_is_there_after_a_restart() {
    let house = House::new();
    let first = manager(&house, config(1));
    let mut ids = Vec::new();
    for _ in 0..11 {
        ids.push(start(&house, &first).await.unwrap());
    }
    // The session that ran ends before the second service begins, as in a service that was stopped long ago.
    let second = manager(&house, config(1));
    second.restore().await.unwrap();
    assert_eq!(waiting(&second), ids[1..]);
    assert_eq!(second.running(), 1);
    drop(first);
}

#[tokio::test]
async fn those_who_waited_run_when_the_engine_answers() {
    let house = House::new();
    let first = manager(&house, config(1));
    let runs = start(&house, &first).await.unwrap();
    let waits = start(&house, &first).await.unwrap();
    let row = first.store.session(&waits).await.unwrap().unwrap();
    // As a service that was killed leaves it: the row, and nobody.
    let last = house.launcher.store.session(&runs).await.unwrap().unwrap();
    first.ask(&row, Request::Cancel { by: "a test".into() }).await.unwrap();
    end(&first, &runs).await;
    idle(&first).await;
    let mut again = row;
    again.id = SessionId::random();
    house.launcher.store.insert_session(again.clone()).await.unwrap();
    let second = manager(&house, config(1));
    second.restore().await.unwrap();
    assert_eq!(waiting(&second), [again.id.clone()]);
    assert!(last.request.is_some());
    second.reconcile().await.unwrap();
    end(&second, &again.id).await;
    idle(&second).await;
    house.assert_nothing_left("after the second service").await;
}

#[tokio::test]
async fn an_agents_limits_hold_for_it() {
    let house = House::new();
    let mut settings = config(20);
    settings.queue.policy = supervisor::agents::LimitPolicy::Reject;
    let manager = manager(&house, settings);
    let agent = supervisor::agents::AgentName::default();
    let memory = 1 << 30;
    let limits = AgentLimits { containers: Some(1), memory: Some(memory), ..manager.limits(&agent) };
    manager.set_limits(&agent, limits).await.unwrap();
    let id = start(&house, &manager).await.unwrap();
    assert!(matches!(start(&house, &manager).await, Err(StartError::NoPlace(_))));
    until(&manager, &id, |status| status == Status::Running).await;
    let events = manager.store.events(&id, 0, 50).await.unwrap();
    let said = events.iter().any(|event| {
        matches!(&event.what, What::Host(HostEvent::HostWarning { code, message })
            if code == "agent_limits" && message.contains("1 GiB of memory instead of 4 GiB"))
    });
    assert!(said, "{events:?}");
    end(&manager, &id).await;
    idle(&manager).await;
    house.assert_nothing_left("after the agent").await;
}
