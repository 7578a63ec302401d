//! What these tests live in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipc_protocol::config::Identity;
use ipc_protocol::event::EventKind;
use ipc_protocol::runner::RunnerIpc;
use supervisor::dirs::DataDir;
use supervisor::engine::EngineIdentity;
use supervisor::engine::fake::{Call, FakeEngine, FakeRun};
use supervisor::policy::{self, Facts, Permit};
use supervisor::request::{AgentRequest, Limits, RunAs, SessionRequest};
use supervisor::session::event::{HostEvent, SessionEvent, What};
use supervisor::session::launch::{Launcher, Session};
use supervisor::session::machine::Graces;
use supervisor::session::status::{Ending, Status};
use supervisor::session::{doubt, recover};
use supervisor::store::{SessionFilter, Store};
use supervisor::workspace::facts::FolderFacts;

pub(crate) const IMAGE: &str = "agent:1";
const DEADLINE: Duration = Duration::from_secs(60);

/// A stand-in for the runner: greets, works until `_close`, and ends as soon as there is no file `stay` in the workspace.
async fn runner(run: FakeRun) -> i32 {
    let place = |path: &str| run.host_path(path).unwrap();
    let ipc = RunnerIpc::open(&place("/run/aigo/ipc"), &place("/run/aigo/private/record")).unwrap();
    let stay = run.host_path("/workspace").unwrap().join("stay");
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
        if scan.close && !stay.exists() {
            say(EventKind::AgentExited { code: Some(0), signal: None });
            say(EventKind::RunnerExiting { code: 0 });
            return 0;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A data directory, an engine and a workspace.
pub(crate) struct House {
    folder: Arc<tempfile::TempDir>,
    pub(crate) fake: FakeEngine,
    pub(crate) launcher: Launcher,
    pub(crate) workspace: PathBuf,
}

fn launcher(data: &Path, fake: &FakeEngine) -> Launcher {
    let dirs = DataDir::open(Some(data), |_| None).unwrap();
    let store = Store::open(&dirs.database()).unwrap();
    let instance = dirs.instance().unwrap().into();
    let identity = EngineIdentity { id: "fake".into(), endpoint: "fake".into() };
    Launcher { engine: Arc::new(fake.clone()), store, dirs, instance, identity }
}

impl House {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workspace = folder.path().join("project");
        std::fs::create_dir(&workspace).unwrap();
        let fake = FakeEngine::with(IMAGE, runner);
        let launcher = launcher(&folder.path().join("data"), &fake);
        Self { folder: Arc::new(folder), fake, launcher, workspace }
    }

    /// Another data directory, for the same engine and workspace.
    pub(crate) fn beside(&self) -> Self {
        let launcher = launcher(&self.folder.path().join("data-beside"), &self.fake);
        Self { folder: Arc::clone(&self.folder), fake: self.fake.clone(), launcher, workspace: self.workspace.clone() }
    }

    pub(crate) async fn launch(&self, keep_open: bool) -> Session {
        self.launcher.launch(self.permit(keep_open), None).await.unwrap()
    }

    pub(crate) fn permit(&self, keep_open: bool) -> Permit {
        let request = SessionRequest {
            principal: supervisor::agents::AgentName::default(),
            workspace: self.workspace.clone(),
            workspace_read_only: false,
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
            model: supervisor::request::ModelSource::Live,
        };
        let facts = Facts {
            workspace: FolderFacts::gather(&self.workspace).unwrap(),
            mounts: Vec::new(),
            own_folders: vec![self.launcher.dirs.root().to_owned()],
            us: Identity { uid: 0, gid: 0 },
            rootless: false,
            model: false,
            secrets: Vec::new(),
        };
        policy::judge(request, facts).unwrap()
    }

    pub(crate) async fn end(&self, mut session: Session) -> Ending {
        tokio::time::timeout(DEADLINE, session.ended()).await.expect("the session did not end")
    }

    pub(crate) async fn events(&self, session: &Session) -> Vec<SessionEvent> {
        self.launcher.store.events(&session.id, 0, 1000).await.unwrap()
    }

    pub(crate) async fn sweep(&self) -> recover::Swept {
        recover::sweep(&self.launcher).await
    }

    /// Sweeps, and once more when the engine must be done with everything that it was asked.
    pub(crate) async fn settle(&self) {
        self.sweep().await;
        self.time_passes();
        self.sweep().await;
    }

    /// As if the time was over that an engine may take for what it was asked.
    pub(crate) fn time_passes(&self) {
        for folder in std::fs::read_dir(self.launcher.dirs.sessions()).unwrap().flatten() {
            if let Ok(mark) = std::fs::File::options().write(true).open(folder.path().join("in-doubt")) {
                mark.set_modified(SystemTime::now() - doubt::SETTLED).unwrap();
            }
        }
    }

    /// Waits until the engine was asked.
    pub(crate) async fn until_asked(&self, call: Call) {
        let asked = async {
            while !self.fake.calls().iter().any(|record| record.call == call) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, asked).await.expect("the engine was not asked");
    }

    /// Nothing on the engine, no session folder, no mount point, no live row.
    pub(crate) async fn assert_nothing_left(&self, what: &str) {
        assert_eq!(self.fake.leftovers(), Vec::<String>::new(), "{what}: on the engine");
        let count = |path: &std::path::Path| std::fs::read_dir(path).unwrap().count();
        assert_eq!(count(&self.launcher.dirs.sessions()), 0, "{what}: session folders");
        assert_eq!(count(&self.workspace), 0, "{what}: in the workspace");
        assert_eq!(self.launcher.store.sessions(SessionFilter::Live).await.unwrap().len(), 0, "{what}: live rows");
    }
}

pub(crate) async fn until(session: &Session, house: &House, wanted: impl Fn(&What) -> bool) {
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

pub(crate) fn is_running(what: &What) -> bool {
    matches!(what, What::Host(HostEvent::Status { status: Status::Running }))
}
