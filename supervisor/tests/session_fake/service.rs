//! A service that stops, comes back, and has clients who leave.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::event::EventKind;
use ipc_protocol::exit::RunnerExit;
use ipc_protocol::journal::{Cursor, Writer};
use serde_json::json;
use supervisor::engine::fake::{Call, FakeRun};
use supervisor::engine::{ContainerSpec, Mount};
use supervisor::request::wire::NewSession;
use supervisor::request::{ModelSource, SessionRequest};
use supervisor::serve::manager::{Manager, StartError};
use supervisor::session::event::{HostEvent, LaunchStep, SessionEvent, What};
use supervisor::session::status::{EndReason, Ending, Status};
use supervisor::session::{SessionId, control, lock};
use supervisor::store::{Decision, NewEvent, Outcome, Position, SessionRow};
use tower::ServiceExt;

use crate::api::{request, router};
use crate::house::{House, IMAGE};
use crate::queue::{DEADLINE, config, end, idle, manager, start, status, until, waiting};
use crate::recover::{estate, turn};

/// Waits until the session has ended, with everything let go.
async fn over(manager: &Manager, id: &SessionId) {
    until(manager, id, Status::is_terminal).await;
    idle(manager).await;
}

/// What a service that was killed leaves of a session whose container somebody else has removed since.
async fn left(house: &House, started: bool, why: Option<Ending>, request: Option<String>) -> SessionId {
    let store = &house.launcher.store;
    let id = SessionId::random();
    let mut row = SessionRow::new(id.clone(), "command", IMAGE, &house.workspace);
    row.status = Status::Running;
    row.request =
        request.or_else(|| serde_json::to_string(&NewSession::from(house.permit(true).request().clone())).ok());
    store.insert_session(row).await.unwrap();
    let (folder, ipc) = estate(house, &id);
    let session = HostEvent::Session {
        session: id.clone(),
        agent: "default".into(),
        program: "command".into(),
        image: IMAGE.into(),
        workspace: house.workspace.display().to_string(),
    };
    store.append(&id, vec![session.into()], None).await.unwrap();
    if started {
        let events = ipc_protocol::dir::SafeDir::open(&folder.ipc().record.join("events")).unwrap();
        let (mut journal, _) = Writer::open(events).unwrap();
        journal.append(1, turn("heard", 0.5)).unwrap();
        let batch = ipc.journal(Cursor::START).read();
        let step = HostEvent::LaunchStep { step: LaunchStep::Start, detail: None };
        let heard =
            batch.events.into_iter().map(|event| NewEvent { runner_seq: Some(1), what: What::Runner(event.kind) });
        let told = [step.into()].into_iter().chain(heard).collect();
        store.append(&id, told, serde_json::to_string(&batch.cursor).ok()).await.unwrap();
        journal.append(2, turn("unheard", 0.75)).unwrap();
    }
    if let Some(why) = why {
        store.set_ending(&id, &why).await.unwrap();
    }
    id
}

#[tokio::test]
async fn a_session_whose_container_is_gone_ends_with_its_last_words_and_figures() {
    let finished = Ending::new(EndReason::Finished);
    let unreadable = Some(r#"{"workspace":"/w","of":"the future"}"#.to_owned());
    for (started, why, request, reason, said, turns) in [
        (true, None, None, EndReason::RunnerLost, "somebody else had removed it", 2),
        (true, Some(finished), None, EndReason::Finished, "", 2),
        (false, None, None, EndReason::Cancelled, "start it again", 0),
        (true, None, unreadable, EndReason::Cancelled, "started by a newer one", 2),
    ] {
        let house = House::new();
        let manager = manager(&house, config(5));
        let id = left(&house, started, why, request).await;
        manager.restore().await.unwrap();
        let done = manager.reconcile().await.unwrap();
        assert_eq!((done.adopted, done.ended, done.problems), (0, 1, vec![]), "{reason}");
        let row = manager.store.session(&id).await.unwrap().unwrap();
        let ending = row.ending.unwrap();
        assert_eq!(ending.reason, reason);
        assert!(ending.detail.unwrap_or_default().contains(said), "{reason}");
        assert_eq!(row.summary.unwrap().turns, turns, "{reason}");
        assert_eq!(manager.running(), 0, "{reason}");
        house.assert_nothing_left("a container that is gone").await;
    }
}

#[tokio::test]
async fn a_service_that_stops_starts_nobody_and_loses_nobody_who_waits() {
    let house = House::new();
    let first = manager(&house, config(1));
    let runs = start(&house, &first).await.unwrap();
    let waits = start(&house, &first).await.unwrap();
    until(&first, &runs, |status| status == Status::Running).await;
    first.start_nobody();
    assert!(matches!(start(&house, &first).await, Err(StartError::Stopping(_))));
    end(&first, &runs).await;
    tokio::time::timeout(DEADLINE, first.all_up()).await.unwrap();
    assert_eq!(status(&first, &waits).await, Status::Queued);
    let second = manager(&house, config(1));
    second.restore().await.unwrap();
    assert_eq!(waiting(&second), std::slice::from_ref(&waits));
    second.reconcile().await.unwrap();
    end(&second, &waits).await;
    idle(&second).await;
    house.assert_nothing_left("after the second service").await;
}

#[tokio::test]
async fn a_service_that_stops_waits_for_who_is_being_brought_up() {
    let house = House::new();
    let manager = manager(&house, config(1));
    let id = start(&house, &manager).await.unwrap();
    manager.start_nobody();
    tokio::time::timeout(DEADLINE, manager.all_up()).await.unwrap();
    assert!(
        house.fake.calls().iter().any(|record| record.call == Call::Start),
        "another service could not go on with it"
    );
    end(&manager, &id).await;
    idle(&manager).await;
    house.assert_nothing_left("after the stop").await;
}

#[tokio::test]
async fn a_client_who_leaves_changes_nothing_of_what_it_asked_for() {
    let house = House::new();
    let manager = manager(&house, config(1));
    let router = router(&manager);
    let body = json!({
        "workspace": house.workspace, "image": IMAGE, "prompt": "do it", "keepOpen": true,
        "program": {"type": "command", "argv": ["work"]},
    });
    let request = request("POST", "/sessions", Some(&body));
    // Another process writes: the row has to wait.
    let other = rusqlite::Connection::open(manager.dirs.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let call = tokio::spawn(router.oneshot(request));
    while manager.running() == 0 {
        assert!(!call.is_finished(), "{:?}", call.await.unwrap().unwrap());
        tokio::task::yield_now().await;
    }
    assert_eq!(manager.count(), 0);
    // As hyper does when the connection has gone: right after the place was taken.
    call.abort();
    other.execute_batch("COMMIT").unwrap();
    let written = async {
        loop {
            if let Some(line) = manager.store.audit_log(None, 1).await.unwrap().pop() {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let line = tokio::time::timeout(DEADLINE, written).await.expect("nobody wrote down what was done");
    assert_eq!((line.action.as_str(), line.decision), ("session.create", Decision::Allowed));
    assert_eq!(manager.count(), 1, "somebody owns it");
    let id: SessionId = line.session.unwrap().parse().unwrap();
    end(&manager, &id).await;
    // Its place is given back, too.
    idle(&manager).await;
    house.assert_nothing_left("a client who left").await;
}

/// What a service that was killed leaves of a session whose container runs.
async fn runs_alone(house: &House, checkpoint: Option<&str>) -> SessionId {
    runs_alone_for(house, house.permit(true).request().clone(), checkpoint).await
}

async fn runs_alone_for(house: &House, request: SessionRequest, checkpoint: Option<&str>) -> SessionId {
    let store = &house.launcher.store;
    let id = SessionId::random();
    let mut row = SessionRow::new(id.clone(), "command", IMAGE, &house.workspace);
    row.status = Status::Running;
    row.request = serde_json::to_string(&NewSession::from(request)).ok();
    store.insert_session(row).await.unwrap();
    let (folder, _ipc) = estate(house, &id);
    store.mount(&id, &house.workspace, vec!["ipc".into()]).await.unwrap();
    let step = HostEvent::LaunchStep { step: LaunchStep::Start, detail: None };
    let position = Position { cursor: None, checkpoint: checkpoint.map(str::to_owned) };
    store.append(&id, vec![step.into()], position).await.unwrap();
    let mut spec = ContainerSpec::new(format!("aigo-{id}"), IMAGE);
    spec.mounts.push(Mount::bind(&house.workspace, "/workspace", false));
    spec.mounts.push(Mount::bind(folder.ipc().mailbox, "/run/aigo/ipc", false));
    spec.mounts.push(Mount::bind(folder.ipc().record, "/run/aigo/private/record", false));
    let container = house.launcher.engine.create(&spec).await.unwrap().id;
    house.launcher.engine.start(&container).await.unwrap();
    id
}

#[tokio::test]
async fn a_session_whose_checkpoint_says_nothing_to_this_aigo_is_gone_on_with() {
    for checkpoint in [None, Some("{}"), Some(r#"{"heard":"of something else"}"#)] {
        let house = House::new();
        let manager = manager(&house, config(5));
        let id = runs_alone(&house, checkpoint).await;
        manager.restore().await.unwrap();
        assert_eq!(manager.reconcile().await.unwrap().adopted, 1, "{checkpoint:?}");
        let row = manager.store.session(&id).await.unwrap().unwrap();
        let sent = manager.ask(&row, control::Request::Message { text: "go on".into() }).await.unwrap();
        let accepted = async {
            loop {
                let events = manager.store.events(&id, 0, 99).await.unwrap();
                let taken = |event: &SessionEvent| matches!(&event.what, What::Runner(EventKind::InputAccepted { id }) if Some(id) == sent.id.as_ref());
                if events.iter().any(taken) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, accepted).await.expect("the message was not taken");
        let close = control::Request::Close { grace_ms: 10_000, interrupt: false, by: "a test".into() };
        assert!(manager.ask(&row, close).await.unwrap().ok);
        over(&manager, &id).await;
        let row = manager.store.session(&id).await.unwrap().unwrap();
        assert_eq!(row.ending.unwrap().reason, EndReason::Closed, "{checkpoint:?}");
        house.assert_nothing_left("an older checkpoint").await;
    }
}

/// Says nothing, and ends when it is told to.
async fn silent(run: FakeRun) -> i32 {
    let ipc = run.host_path("/run/aigo/ipc").unwrap();
    while !ipc.join("input/_close").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    0
}

/// Two hours ago a session was ready and said something, one hour ago its owner died.
async fn silent_for_hours(house: &House, said: &[EventKind]) -> SessionId {
    house.fake.script(silent);
    let mut request = house.permit(true).request().clone();
    (request.timeout, request.idle_timeout) = (None, Some(Duration::from_secs(3600)));
    let id = runs_alone_for(house, request, None).await;
    let events = [EventKind::Ready {}].iter().chain(said);
    let events =
        events.zip(1..).map(|(kind, seq)| NewEvent { runner_seq: Some(seq), what: What::Runner(kind.clone()) });
    house.launcher.store.append(&id, events.collect(), None).await.unwrap();
    let database = rusqlite::Connection::open(house.launcher.dirs.database()).unwrap();
    let then = (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(2)).to_string();
    let aged = "UPDATE events SET body = json_set(body, '$.at', ?1); ";
    database.execute(aged, [&then]).unwrap();
    database.execute("UPDATE sessions SET created_at = ?1", [&then]).unwrap();
    id
}

#[tokio::test]
async fn silence_goes_on_while_there_is_no_service() {
    let house = House::new();
    let id = silent_for_hours(&house, &[]).await;
    let manager = manager(&house, config(5));
    manager.restore().await.unwrap();
    assert_eq!(manager.reconcile().await.unwrap().adopted, 1);
    over(&manager, &id).await;
    let row = manager.store.session(&id).await.unwrap().unwrap();
    assert_eq!(row.ending.unwrap().reason, EndReason::IdleTimeout);
    house.assert_nothing_left("silence").await;
}

#[tokio::test]
async fn a_tool_that_runs_while_there_is_no_service_is_not_ended() {
    let house = House::new();
    let call =
        EventKind::ToolCall { call_id: "t".into(), tool: "Bash".into(), input: Default::default(), parent_call: None };
    let id = silent_for_hours(&house, &[call]).await;
    let manager = manager(&house, config(5));
    manager.restore().await.unwrap();
    assert_eq!(manager.reconcile().await.unwrap().adopted, 1);
    // Some looks of its owner.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let events = manager.store.events(&id, 0, 99).await.unwrap();
    let warned = |event: &SessionEvent| matches!(&event.what, What::Host(HostEvent::HostWarning { .. }));
    assert!(!events.iter().any(warned), "{events:?}");
    end(&manager, &id).await;
    over(&manager, &id).await;
    house.assert_nothing_left("a tool").await;
}

/// A runner of another generation: its words are known in part only.
async fn newer_runner(run: FakeRun) -> i32 {
    let ipc = run.host_path("/run/aigo/ipc").unwrap();
    let record = run.host_path("/run/aigo/private/record").unwrap();
    let lines = [
        r#"{"seq":1,"at":1,"kind":"runner_started","version":9,"runnerVersion":"9.0.0","later":{"x":1}}"#,
        r#"{"seq":2,"at":2,"kind":"from_the_future","x":[1,2]}"#,
        r#"{"seq":3,"at":3,"kind":"ready","later":true}"#,
        r#"{"seq":4,"at":4,"kind":"text","text":"hello","tone":"kind"}"#,
    ];
    std::fs::write(record.join("events/00000001.jsonl"), lines.join("\n") + "\n").unwrap();
    let status = r#"{"version":9,"runnerVersion":"9","state":"dreaming","at":9,"lastSeq":4,"segment":1,"later":[]}"#;
    std::fs::write(record.join("status.json"), status).unwrap();
    while !ipc.join("input/_close").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut journal = std::fs::OpenOptions::new().append(true).open(record.join("events/00000001.jsonl")).unwrap();
    journal.write_all(b"{\"seq\":5,\"at\":5,\"kind\":\"runner_exiting\",\"code\":0}\n").unwrap();
    0
}

#[tokio::test]
async fn a_newer_runner_works_and_what_is_not_known_of_it_is_kept() {
    let house = House::new();
    house.fake.script(newer_runner);
    let manager = manager(&house, config(5));
    let id = start(&house, &manager).await.unwrap();
    until(&manager, &id, |status| status == Status::Running).await;
    let row = manager.store.session(&id).await.unwrap().unwrap();
    let close = control::Request::Close { grace_ms: 10_000, interrupt: false, by: "a test".into() };
    assert!(manager.ask(&row, close).await.unwrap().ok);
    over(&manager, &id).await;
    let row = manager.store.session(&id).await.unwrap().unwrap();
    assert_eq!(row.ending.unwrap().reason, EndReason::Closed);
    let events = manager.store.events(&id, 0, 99).await.unwrap();
    let kept = events.iter().filter_map(|event| match &event.what {
        What::Runner(EventKind::Raw { source, body }) => Some((source.as_str(), body.value["x"].clone())),
        What::Runner(EventKind::Text { body, .. }) => Some((body.text.as_str(), json!(null))),
        _ => None,
    });
    assert_eq!(kept.collect::<Vec<_>>(), [("journal:from_the_future", json!([1, 2])), ("hello", json!(null))]);
    house.assert_nothing_left("a newer runner").await;
}

#[tokio::test]
async fn an_older_runner_refuses_in_a_sentence() {
    let house = House::new();
    // It does not understand what it is told, and may say so by its exit code only.
    house.fake.script(|_| std::future::ready(i32::from(RunnerExit::BadConfig.code())));
    let manager = manager(&house, config(5));
    let id = start(&house, &manager).await.unwrap();
    over(&manager, &id).await;
    let ending = manager.store.session(&id).await.unwrap().unwrap().ending.unwrap();
    assert_eq!(ending.reason, EndReason::SetupFailed { step: "config".into() });
    assert!(ending.detail.as_deref().is_some_and(|said| said.contains("aigo image build")), "{ending:?}");
    house.assert_nothing_left("an older runner").await;
}

#[tokio::test]
async fn the_place_of_a_session_that_somebody_else_ends_is_given_back() {
    let house = House::new();
    let manager = manager(&house, config(1));
    let id = left(&house, true, None, None).await;
    // `aigo stop` is at it.
    let lock = lock::take(&house.launcher.dirs.session(&id).lock()).unwrap().unwrap();
    manager.restore().await.unwrap();
    manager.reconcile().await.unwrap();
    assert_eq!(manager.running(), 1);
    let outcome = Outcome { status: Status::Cancelled, ending: None, summary: None };
    manager.store.end_session(&id, outcome, HostEvent::InterruptSent {}).await.unwrap();
    drop(lock);
    manager.reconcile().await.unwrap();
    assert_eq!(manager.running(), 0);
    house.assert_nothing_left("somebody else").await;
}

#[tokio::test]
async fn a_file_system_that_hangs_holds_up_no_request_for_ever() {
    let house = House::new();
    let manager = manager(&house, config(1));
    let pipe = house.launcher.dirs.root().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut request = house.permit(true).request().clone();
    request.model = ModelSource::Replay(pipe.clone());
    tokio::time::pause();
    let asked = tokio::spawn({
        let manager = Arc::clone(&manager);
        async move { manager.start(request, false, "a test".into()).await }
    });
    tokio::task::yield_now().await;
    tokio::time::advance(Duration::from_secs(31)).await;
    let said = asked.await.unwrap().unwrap_err();
    tokio::time::resume();
    assert!(matches!(said, StartError::Hangs), "{said}");
    // For the thread that waits.
    drop(std::fs::OpenOptions::new().write(true).open(&pipe).unwrap());
}
