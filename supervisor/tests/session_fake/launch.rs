//! Launch and end.

use ipc_protocol::event::EventKind;
use supervisor::engine::EngineError;
use supervisor::engine::fake::{Call, Fault};
use supervisor::session::control::Request;
use supervisor::session::event::{HostEvent, SessionEvent, What};
use supervisor::session::recover;
use supervisor::session::status::{EndReason, Ending, Status};

use super::house::{House, IMAGE, is_running, until};

#[tokio::test]
async fn a_session_runs_and_leaves_nothing() {
    let house = House::new();
    let session = house.launch(false).await;
    let id = session.id.clone();
    assert_eq!(house.end(session).await, Ending::new(EndReason::Finished));
    let events = house.launcher.store.events(&id, 0, 1000).await.unwrap();
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=events.len() as u64).collect::<Vec<_>>());
    assert!(matches!(events.last().unwrap().what, What::Host(HostEvent::Ended { status: Status::Completed, .. })));
    house.assert_nothing_left("success").await;
}

#[tokio::test]
async fn every_engine_call_may_fail_once_and_nothing_is_left() {
    let calls =
        [Call::CreateNetwork, Call::Create, Call::Start, Call::Inspect, Call::Wait, Call::Remove, Call::RemoveNetwork];
    let refused = EngineError::Refused { what: "do it", message: "as planned".into() };
    let lost = EngineError::Lost { what: "doing it", reason: "as planned".into() };
    for call in calls {
        for fault in [Fault::Fail(refused.clone()), Fault::Fail(lost.clone()), Fault::LoseAnswer] {
            let what = format!("{call:?} {fault:?}");
            let house = House::new();
            house.fake.fault(call, 1, fault);
            let session = house.launch(false).await;
            let ending = house.end(session).await;
            match call {
                // At the end a failure is repeated, and the session's own end stands.
                Call::Remove | Call::RemoveNetwork => assert_eq!(ending.reason, EndReason::Finished, "{what}"),
                _ => assert_eq!(ending.reason.status(), Status::Failed, "{what}: {ending:?}"),
            }
            // A container that would not go is found by its label.
            house.settle().await;
            house.assert_nothing_left(&what).await;
        }
    }
}

#[tokio::test]
async fn a_launch_that_hangs_can_be_cancelled() {
    for call in [Call::CreateNetwork, Call::Create, Call::Start] {
        let house = House::new();
        house.fake.hang_at(call, 1);
        let session = house.launch(false).await;
        house.until_asked(call).await;
        let answer = session.remote().ask(Request::Cancel { by: "test".into() }).await;
        assert!(answer.ok, "{answer:?}");
        assert_eq!(house.end(session).await.reason, EndReason::Cancelled, "{call:?}");
        house.settle().await;
        house.assert_nothing_left(&format!("{call:?} hangs")).await;
    }
}

#[tokio::test]
async fn a_missing_image_is_said() {
    let house = House::new();
    let missing = EngineError::ImageMissing { tag: IMAGE.into() };
    house.fake.fail_at(Call::Create, 1, missing);
    let session = house.launch(false).await;
    let ending = house.end(session).await;
    assert_eq!(ending.reason, EndReason::ImageMissing);
    assert!(ending.detail.unwrap().contains("aigo image build"));
    house.assert_nothing_left("image missing").await;
}

#[tokio::test]
async fn an_engine_that_goes_away_ends_the_session_and_is_cleaned_when_it_is_back() {
    let house = House::new();
    let session = house.launch(true).await;
    until(&session, &house, is_running).await;
    house.fake.engine_down();
    assert_eq!(house.end(session).await.reason, EndReason::EngineLost);
    assert_ne!(house.fake.leftovers(), Vec::<String>::new());
    house.fake.engine_up();
    house.sweep().await;
    house.assert_nothing_left("engine lost").await;
}

#[tokio::test]
async fn accepted_means_taken_and_after_close_is_refused() {
    let house = House::new();
    // Without it the session may have ended by the time of the last word.
    std::fs::write(house.workspace.join("stay"), "").unwrap();
    let session = house.launch(true).await;
    until(&session, &house, is_running).await;
    let remote = session.remote();
    let sent = remote.ask(Request::Message { text: "just before".into() }).await;
    let closed = remote.ask(Request::Close { grace_ms: 10_000, interrupt: false, by: "test".into() }).await;
    assert!(sent.ok && closed.ok);
    let late = remote.ask(Request::Message { text: "too late".into() }).await;
    assert!(!late.ok && late.error.unwrap().contains("closing"));
    std::fs::remove_file(house.workspace.join("stay")).unwrap();
    let id = session.id.clone();
    assert_eq!(house.end(session).await.reason, EndReason::Closed);
    let events = house.launcher.store.events(&id, 0, 1000).await.unwrap();
    let taken = |event: &SessionEvent| match &event.what {
        What::Runner(EventKind::InputAccepted { id }) => Some(id) == sent.id.as_ref(),
        _ => false,
    };
    assert!(events.iter().any(taken), "{events:?}");
}

#[tokio::test]
async fn two_sessions_on_one_folder_share_its_mount_points() {
    let house = House::new();
    let (first, second) = (house.launch(true).await, house.launch(true).await);
    until(&first, &house, is_running).await;
    until(&second, &house, is_running).await;
    first.remote().ask(Request::Cancel { by: "test".into() }).await;
    house.end(first).await;
    assert!(house.workspace.join("ipc").is_dir(), "the second session still needs it");
    second.remote().ask(Request::Cancel { by: "test".into() }).await;
    house.end(second).await;
    house.assert_nothing_left("two sessions").await;
}

#[tokio::test]
async fn two_data_directories_on_one_folder_share_its_mount_points() {
    let house = House::new();
    let beside = house.beside();
    let first = house.launch(true).await;
    until(&first, &house, is_running).await;
    let second = beside.launch(true).await;
    until(&second, &beside, is_running).await;
    first.remote().ask(Request::Cancel { by: "test".into() }).await;
    let id = first.id.clone();
    house.end(first).await;
    assert!(house.workspace.join("ipc").is_dir(), "the other one still needs it");
    let events = house.launcher.store.events(&id, 0, 1000).await.unwrap();
    let said = |event: &SessionEvent| match &event.what {
        What::Host(HostEvent::HostWarning { code, message }) => code == "left_behind" && message.contains("ipc"),
        _ => false,
    };
    assert!(events.iter().any(said), "{events:?}");
    assert_eq!(house.sweep().await, recover::Swept::default());
    assert!(house.workspace.join("ipc").is_dir(), "and after a start of the first one, too");
    second.remote().ask(Request::Cancel { by: "test".into() }).await;
    beside.end(second).await;
    assert!(recover::is_due(&house.launcher).await.unwrap());
    house.sweep().await;
    house.assert_nothing_left("two data directories").await;
    assert!(!recover::is_due(&house.launcher).await.unwrap());
}
