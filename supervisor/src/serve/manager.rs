//! The sessions of this daemon: started here, reached from here, and left running when it stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use futures_util::stream::{self, StreamExt};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::engine::EngineSlot;
use crate::config::Config;
use crate::dirs::DataDir;
use crate::door::{Admitted, Door, Refused};
use crate::engine::{EngineError, EngineInfo};
use crate::error_chain::chain;
use crate::request::SessionRequest;
use crate::request::wire::NewSession;
use crate::session::SessionId;
use crate::session::control::{Answer, ControlError, Request, ask};
use crate::session::launch::{Account, AdoptError, Adopted, LaunchError, Launcher, Remote, Session};
use crate::session::recover;
use crate::store::{Decision, NewAudit, SessionFilter, SessionRow, Store, StoreError};

/// Sessions at once, whatever else is configured: far above what a host bears, so that a loop of requests ends here.
const MAX_SESSIONS: usize = 1000;

/// Sessions that are taken over at once: each asks the engine a few things.
const ADOPTED_AT_ONCE: usize = 16;

/// See the module's text.
#[derive(Debug)]
pub struct Manager {
    /// The store.
    pub store: Store,
    /// The data directory.
    pub dirs: DataDir,
    /// Marks this data directory's objects on the engine.
    pub instance: Arc<str>,
    /// The engine, whenever it answers.
    pub engine: EngineSlot,
    config: RwLock<Arc<Config>>,
    live: Mutex<HashMap<SessionId, Live>>,
    tasks: TaskTracker,
}

#[derive(Clone, Debug)]
struct Live {
    remote: Remote,
    latest: watch::Receiver<u64>,
}

/// Why a session was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It was judged.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The engine does not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It could not begin.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The daemon ends.
    #[error("the service is stopping: {0}")]
    Stopping(String),
    /// There are too many.
    #[error("{MAX_SESSIONS} sessions run already")]
    TooMany,
}

/// What a comparison of store and engine has led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Sessions that this daemon owns now.
    pub adopted: usize,
    /// Sessions that were ended.
    pub ended: usize,
    /// What could not be done, in words.
    pub problems: Vec<String>,
}

/// Why store and engine could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The engine does not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store does not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Manager {
    /// Without any session yet.
    pub fn new(store: Store, dirs: DataDir, instance: Arc<str>, engine: EngineSlot, config: Config) -> Self {
        let config = RwLock::new(Arc::new(config));
        Self { store, dirs, instance, engine, config, live: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// The configuration that holds now.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a new configuration, for what starts from now on.
    pub fn configure(&self, config: Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    fn door(&self) -> Door {
        let config = self.config();
        Door {
            own_folders: vec![self.dirs.root().to_owned()],
            upstream: Some(config.proxy.upstream.clone()),
            allow_plain_http: config.proxy.allow_plain_http,
        }
    }

    /// Starts a session, for `actor`.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        self: &Arc<Self>,
        request: SessionRequest,
        cpus_were_named: bool,
        actor: String,
    ) -> Result<SessionId, StartError> {
        let started = self.try_start(request, cpus_were_named).await;
        let (session, decision, reasons) = match &started {
            Ok(id) => (Some(id.clone()), Decision::Allowed, Vec::new()),
            Err(StartError::Refused(Refused::Denied(denied))) => (None, Decision::Denied, denied.reasons.clone()),
            Err(error) => (None, Decision::Denied, vec![chain(error)]),
        };
        self.audit(NewAudit { actor, action: "session.create", session, decision, reasons }).await;
        started
    }

    async fn try_start(
        self: &Arc<Self>,
        request: SessionRequest,
        cpus_were_named: bool,
    ) -> Result<SessionId, StartError> {
        if self.lock().len() >= MAX_SESSIONS {
            return Err(StartError::TooMany);
        }
        let door = self.door();
        // What can be told without the engine is told first.
        let asking = tokio::task::spawn_blocking(move || door.ask(request)).await;
        let asking = asking.map_err(|error| StartError::Stopping(error.to_string()))??;
        let (launcher, info) = self.launcher().await?;
        let Admitted { permit, upstream } = asking.admit(cpus_were_named, &info)?;
        let request = serde_json::to_string(&NewSession::from(permit.request().clone())).ok();
        let account = Account { request, ..Account::default() };
        let session = launcher.launch_on(account, permit, upstream).await?;
        let id = session.id.clone();
        self.keep(session);
        Ok(id)
    }

    async fn launcher(&self) -> Result<(Launcher, EngineInfo), EngineError> {
        let (engine, info) = self.engine.get().await?;
        let launcher = Launcher {
            engine,
            store: self.store.clone(),
            dirs: self.dirs.clone(),
            instance: Arc::clone(&self.instance),
            identity: info.identity(),
        };
        Ok((launcher, info))
    }

    /// Compares the store with the engine: goes on with the sessions of an ended service, and clears away what others have
    /// left. Idempotent.
    ///
    /// # Errors
    /// When the engine or the store does not answer: then nothing is known.
    pub async fn reconcile(self: &Arc<Self>) -> Result<Reconciled, ReconcileError> {
        let (launcher, _) = self.launcher().await?;
        let rows = self.store.sessions(SessionFilter::Live).await?;
        let ours = rows.into_iter().filter(|row| {
            row.request.is_some()
                && recover::elsewhere(row, &launcher.identity).is_none()
                && self.latest(&row.id).is_none()
        });
        let adopting = ours.map(|row| self.adopt(&launcher, row));
        let adopted: Vec<Result<bool, String>> =
            stream::iter(adopting).buffer_unordered(ADOPTED_AT_ONCE).collect().await;
        let mut reconciled = Reconciled::default();
        for outcome in adopted {
            match outcome {
                Ok(ours) => reconciled.adopted += usize::from(ours),
                Err(problem) => reconciled.problems.push(problem),
            }
        }
        if recover::is_due(&launcher).await? {
            let swept = recover::sweep(&launcher).await;
            reconciled.ended = swept.sessions.len();
            reconciled.problems.extend(swept.problems);
        }
        Ok(reconciled)
    }

    /// Whether the session is ours now.
    async fn adopt(self: &Arc<Self>, launcher: &Launcher, row: SessionRow) -> Result<bool, String> {
        let id = row.id.clone();
        let failed = |why: &dyn std::error::Error| format!("session {id}: {}", chain(why));
        let config = self.config();
        let new = row.request.as_deref().map(serde_json::from_str::<NewSession>);
        let request = match new {
            Some(Ok(new)) => new.into_request(&config.session, config.proxy.port).ok(),
            Some(Err(_)) | None => None,
        };
        let Some(request) = request else {
            // Of a newer aigo, or no longer what we wrote: nobody can go on with it.
            let swept = recover::end(launcher, row).await;
            return if swept.problems.is_empty() { Ok(false) } else { Err(swept.problems.join("; ")) };
        };
        let upstream = self.door().upstream(&request).unwrap_or_else(|error| {
            tracing::error!("session {id}: its agent has no model any more: {}", chain(&error));
            None
        });
        match launcher.adopt(&row, &request, upstream).await {
            Ok(Adopted::Ours(session)) => {
                self.keep(*session);
                Ok(true)
            }
            Ok(Adopted::Owned) => Ok(false),
            // Its folder is gone, and with it all that could be gone on with.
            Err(AdoptError::Lock(_) | AdoptError::Begin(_)) if !self.dirs.session(&id).ipc().is_dir() => {
                let swept = recover::end(launcher, row).await;
                if swept.problems.is_empty() { Ok(false) } else { Err(swept.problems.join("; ")) }
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Owns a session until its end.
    fn keep(self: &Arc<Self>, mut session: Session) {
        let id = session.id.clone();
        let live = Live { remote: session.remote(), latest: session.latest.clone() };
        self.lock().insert(id.clone(), live);
        let manager = Arc::clone(self);
        self.tasks.spawn(async move {
            session.ended().await;
            manager.lock().remove(&id);
        });
    }

    /// Asks the owner of a session for something: here, or in another process.
    ///
    /// # Errors
    /// When nobody owns it any more.
    pub async fn ask(&self, row: &SessionRow, request: Request) -> Result<Answer, ControlError> {
        let here = self.lock().get(&row.id).map(|live| live.remote.clone());
        match here {
            Some(remote) => Ok(remote.ask(request).await),
            None => ask(&self.dirs.session(&row.id).control_socket(), &request).await,
        }
    }

    /// Wakes when the session has new events; none for sessions of other processes.
    pub fn latest(&self, id: &SessionId) -> Option<watch::Receiver<u64>> {
        self.lock().get(id).map(|live| live.latest.clone())
    }

    /// Whether the service can do its work: its store answers.
    pub async fn is_well(&self) -> bool {
        self.store.audit_log(None, 1).await.is_ok()
    }

    /// How many sessions this daemon owns.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Writes a line of the audit log. A log that cannot be written is said, and stops nothing: it holds no state.
    pub async fn audit(&self, line: NewAudit) {
        if let Err(error) = self.store.audit(line).await {
            tracing::error!("the audit log cannot be written: {}", chain(&error));
        }
    }

    /// One session.
    ///
    /// # Errors
    /// The store's.
    pub async fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, StoreError> {
        self.store.session(id).await
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Live>> {
        // Nothing is half done under it: a map's own operations.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
