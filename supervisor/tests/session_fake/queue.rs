//! A service whose agents have limits: who waits, in which order they run, what a restart and a cancel leave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use supervisor::agents::{AgentName, SetLimits};
use supervisor::config::Config;
use supervisor::serve::engine::EngineSlot;
use supervisor::serve::manager::{Manager, StartError};
use supervisor::session::SessionId;
use supervisor::session::control::Request;
use supervisor::session::event::{HostEvent, What};
use supervisor::session::status::{EndReason, Status};

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
    let limits = SetLimits { containers: Some(Some(1)), memory: Some(Some(1 << 30)), ..SetLimits::default() };
    manager.set_limits(&agent, Some(limits)).await.unwrap();
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

/// The places that a session was told.
async fn places(manager: &Manager, id: &SessionId) -> Vec<usize> {
    let events = manager.store.events(id, 0, 100).await.unwrap();
    let place = |what: &What| match what {
        What::Host(HostEvent::Queued { position, .. }) => Some(*position),
        What::Host(_) | What::Runner(_) => None,
    };
    events.iter().filter_map(|event| place(&event.what)).collect()
}

#[tokio::test]
async fn who_moves_up_is_told_while_it_waits() {
    let house = House::new();
    let manager = manager(&house, config(1));
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(start(&house, &manager).await.unwrap());
    }
    let later = |seconds| Instant::now() + Duration::from_secs(seconds);
    manager.tell_waiting(later(100)).await;
    assert_eq!(places(&manager, &ids[3]).await, [3], "nothing has changed");
    let row = manager.store.session(&ids[1]).await.unwrap().unwrap();
    assert!(manager.ask(&row, Request::Cancel { by: "a test".into() }).await.unwrap().ok);
    manager.tell_waiting(later(1)).await;
    assert_eq!(places(&manager, &ids[3]).await, [3], "too early");
    manager.tell_waiting(later(100)).await;
    assert_eq!((places(&manager, &ids[2]).await, places(&manager, &ids[3]).await), (vec![2, 1], vec![3, 2]));
    // Whoever does not wait any more is told nothing, whatever was known of it.
    let gone = HostEvent::Queued {
        position: 9,
        reason: supervisor::admission::Wait::Turn { ahead: 8 },
        message: String::new(),
    };
    assert!(!manager.store.tell_queued(&ids[1], gone).await.unwrap());
    for id in [ids[0].clone(), ids[2].clone(), ids[3].clone()] {
        end(&manager, &id).await;
    }
    idle(&manager).await;
    house.assert_nothing_left("after the queue").await;
}

#[tokio::test]
async fn what_was_set_of_an_agent_outlives_service_and_reload() {
    let house = House::new();
    let agent: AgentName = "builder".parse().unwrap();
    let mut settings = config(20);
    settings.agents.entry(agent.clone()).or_default().memory = Some(2 << 30);
    {
        let first = manager(&house, settings.clone());
        let set = SetLimits { containers: Some(Some(3)), memory: Some(None), ..SetLimits::default() };
        first.set_limits(&agent, Some(set)).await.unwrap();
        settings.agents.entry(agent.clone()).or_default().pids = Some(64);
        first.configure(settings.clone());
        let limits = first.limits(&agent);
        assert_eq!((limits.containers, limits.memory, limits.pids), (Some(3), None, Some(64)), "after a reload");
    }
    let second = manager(&house, settings);
    second.restore().await.unwrap();
    let limits = second.limits(&agent);
    assert_eq!((limits.containers, limits.memory, limits.pids), (Some(3), None, Some(64)), "after a restart");
    let sources = serde_json::to_value(second.sources(&agent)).unwrap();
    let expected = serde_json::json!({
        "cpus": "default", "memoryBytes": "set", "containers": "set", "pids": "configuration", "policy": "default",
    });
    assert_eq!(sources, expected);
    second.set_limits(&agent, None).await.unwrap();
    let limits = second.limits(&agent);
    assert_eq!((limits.containers, limits.memory), (None, Some(2 << 30)), "as configured again");
    assert!(house.launcher.store.agent_limits().await.unwrap().is_empty());
}

#[tokio::test]
async fn who_may_not_start_when_its_turn_comes_ends_with_the_reason() {
    let house = House::new();
    let manager = manager(&house, config(1));
    let runs = start(&house, &manager).await.unwrap();
    let beside = house.workspace.parent().unwrap();
    let (gone, moved) = (beside.join("gone"), beside.join("moved"));
    let mut waits = Vec::new();
    for workspace in [&gone, &moved] {
        std::fs::create_dir(workspace).unwrap();
        let mut request = house.permit(true).request().clone();
        request.workspace.clone_from(workspace);
        waits.push(manager.start(request, false, "a test".into()).await.unwrap());
    }
    std::fs::remove_dir(&gone).unwrap();
    // A place where no agent may work.
    std::fs::remove_dir(&moved).unwrap();
    std::os::unix::fs::symlink("/etc", &moved).unwrap();
    end(&manager, &runs).await;
    for (id, step) in waits.iter().zip(["admission", "policy"]) {
        until(&manager, id, Status::is_terminal).await;
        let row = manager.store.session(id).await.unwrap().unwrap();
        let ending = row.ending.unwrap();
        assert_eq!((row.status, ending.reason), (Status::Failed, EndReason::SetupFailed { step: step.into() }));
        assert!(ending.detail.is_some_and(|detail| !detail.is_empty()));
        let events = manager.store.events(id, 0, 10).await.unwrap();
        assert!(matches!(events.last().unwrap().what, What::Host(HostEvent::Ended { .. })), "{events:?}");
    }
    idle(&manager).await;
    house.assert_nothing_left("after those who could not start").await;
}
