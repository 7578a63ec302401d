//! A session's launch and end on the fake engine: every engine call goes wrong once, and nothing may be left.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should panic")]

use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::config::Identity;
use ipc_protocol::event::EventKind;
use ipc_protocol::runner::RunnerIpc;
use supervisor::dirs::DataDir;
use supervisor::engine::fake::{Call, FakeEngine, FakeRun, Fault};
use supervisor::engine::{EngineError, SharedEngine};
use supervisor::policy::{self, Facts};
use supervisor::request::{AgentRequest, Limits, RunAs, SessionRequest};
use supervisor::session::control::Request;
use supervisor::session::event::{HostEvent, SessionEvent, What};
use supervisor::session::launch::{Launcher, Session};
use supervisor::session::machine::Graces;
use supervisor::session::recover;
use supervisor::session::status::{EndReason, Ending, Status};
use supervisor::store::{SessionFilter, SessionRow, Store};
use supervisor::workspace::facts::FolderFacts;

const IMAGE: &str = "agent:1";
const DEADLINE: Duration = Duration::from_secs(60);

/// A stand-in for the runner: greets, works until `_close`, and ends.
async fn runner(run: FakeRun) -> i32 {
    let ipc = RunnerIpc::open(&run.host_path("/workspace/ipc").unwrap()).unwrap();
    let (mut journal, _) = ipc.journal().unwrap();
    let mut say = |kind| journal.append(0, kind).unwrap();
    say(EventKind::RunnerStarted { version: 1, runner_version: "test".into() });
    say(EventKind::Ready {});
    let mut input = ipc.input();
    loop {
        let scan = input.scan();
        for item in scan.scan.items {
            say(EventKind::InputAccepted { id: item.id.to_string() });
            assert!(input.remove(&item.name).is_none());
        }
        if scan.close {
            say(EventKind::AgentExited { code: Some(0), signal: None });
            return 0;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct House {
    _folder: tempfile::TempDir,
    fake: FakeEngine,
    launcher: Launcher,
    workspace: std::path::PathBuf,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workspace = folder.path().join("project");
        std::fs::create_dir(&workspace).unwrap();
        let dirs = DataDir::open(Some(&folder.path().join("data")), |_| None).unwrap();
        let fake = FakeEngine::with(IMAGE, runner);
        let engine: SharedEngine = Arc::new(fake.clone());
        let store = Store::open(&dirs.database()).unwrap();
        let launcher = Launcher { engine, store, dirs, instance: "test".into() };
        Self { _folder: folder, fake, launcher, workspace }
    }

    async fn launch(&self, keep_open: bool) -> Session {
        let request = SessionRequest {
            workspace: self.workspace.clone(),
            workspace_read_only: false,
            cover_ipc: false,
            mounts: Vec::new(),
            image: IMAGE.into(),
            agent: AgentRequest::Command { argv: vec!["work".into()], output: Default::default() },
            prompt: Some("do it".into()),
            keep_open,
            limits: Limits::default(),
            timeout: Some(DEADLINE),
            idle_timeout: None,
            graces: Graces::default(),
            env: Default::default(),
            run_as: RunAs::Owner,
            proxy_port: 3001,
        };
        let facts = Facts {
            workspace: FolderFacts::gather(&self.workspace).unwrap(),
            mounts: Vec::new(),
            own_folders: vec![self.launcher.dirs.root().to_owned()],
            us: Identity { uid: 0, gid: 0 },
            model: false,
            secrets: Vec::new(),
        };
        self.launcher.launch(policy::judge(request, facts).unwrap(), None).await.unwrap()
    }

    async fn end(&self, mut session: Session) -> Ending {
        tokio::time::timeout(DEADLINE, session.ended()).await.expect("the session did not end")
    }

    async fn events(&self, session: &Session) -> Vec<SessionEvent> {
        self.launcher.store.events(&session.id, 0, 1000).await.unwrap()
    }

    async fn sweep(&self) -> recover::Swept {
        let Launcher { engine, store, dirs, instance } = &self.launcher;
        recover::sweep(engine, store, dirs, instance).await
    }

    /// Nothing on the engine, no session folder, no mount point, no live row.
    async fn assert_nothing_left(&self, what: &str) {
        assert_eq!(self.fake.leftovers(), Vec::<String>::new(), "{what}: on the engine");
        let count = |path: &std::path::Path| std::fs::read_dir(path).unwrap().count();
        assert_eq!(count(&self.launcher.dirs.sessions()), 0, "{what}: session folders");
        assert_eq!(count(&self.workspace), 0, "{what}: in the workspace");
        assert_eq!(self.launcher.store.sessions(SessionFilter::Live).await.unwrap().len(), 0, "{what}: live rows");
    }
}

async fn until(session: &Session, house: &House, wanted: impl Fn(&What) -> bool) {
    let mut latest = session.latest.clone();
    let seen = async {
        loop {
            latest.mark_unchanged();
            if house.events(session).await.iter().any(|event| wanted(&event.what)) {
                return;
            }
            if latest.changed().await.is_err() {
                panic!("the session ended before: {:?}", house.events(session).await);
            }
        }
    };
    tokio::time::timeout(DEADLINE, seen).await.expect("the event did not come");
}

fn is_running(what: &What) -> bool {
    matches!(what, What::Host(HostEvent::Status { status: Status::Running }))
}

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
            house.sweep().await;
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
        let answer = session.remote().ask(Request::Cancel { by: "test".into() }).await;
        assert!(answer.ok, "{answer:?}");
        assert_eq!(house.end(session).await.reason, EndReason::Cancelled, "{call:?}");
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
    let session = house.launch(true).await;
    until(&session, &house, is_running).await;
    let remote = session.remote();
    let sent = remote.ask(Request::Message { text: "just before".into() }).await;
    let closed = remote.ask(Request::Close { grace_ms: 10_000, by: "test".into() }).await;
    assert!(sent.ok && closed.ok);
    let late = remote.ask(Request::Message { text: "too late".into() }).await;
    assert!(!late.ok && late.error.unwrap().contains("closing"));
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
async fn a_dead_owners_session_is_ended_once() {
    let house = House::new();
    // A row whose owner is gone, with an engine object that was being made.
    let id = supervisor::session::SessionId::random();
    let row = SessionRow::new(id.clone(), "command", IMAGE, &house.workspace);
    house.launcher.store.insert_session(row).await.unwrap();
    let labels = [("aigo.instance", "test"), ("aigo.session", id.as_str())];
    let spec = supervisor::engine::NetworkSpec {
        name: format!("aigo-{id}"),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..Default::default()
    };
    house.launcher.engine.create_network(&spec).await.unwrap();
    house.launcher.store.mount(&id, &house.workspace, vec!["ipc".into()]).await.unwrap();
    std::fs::create_dir(house.workspace.join("ipc")).unwrap();
    assert_eq!(house.sweep().await.sessions, std::slice::from_ref(&id));
    assert_eq!(house.sweep().await, recover::Swept::default(), "the second time there is nothing to do");
    let row = house.launcher.store.session(&id).await.unwrap().unwrap();
    assert_eq!((row.status, row.ending.unwrap().reason), (Status::Cancelled, EndReason::Cancelled));
    house.assert_nothing_left("dead owner").await;
}
