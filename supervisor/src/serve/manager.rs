//! The sessions of this daemon: started here, reached from here, and left running when it stops.

mod desk;
mod limits;
mod told;
mod waiting;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::engine::EngineSlot;
use super::meter::{Meter, Reading, Running};
use crate::admission::Refusal;
use crate::agents::{AgentError, AgentName};
use crate::config::Config;
use crate::dirs::DataDir;
use crate::door::{Asking, Door, Refused};
use crate::engine::{EngineError, EngineInfo};
use crate::error_chain::chain;
use crate::request::wire::NewSession;
use crate::request::{ModelSource, SessionRequest};
use crate::session::SessionId;
use crate::session::control::{Answer, ControlError, Request, ask};
use crate::session::launch::{AdoptError, Adopted, LaunchError, Launcher, Remote, Session, Up};
use crate::session::recover;
use crate::session::status::{EndReason, Ending, Status};
use crate::store::{Decision, NewAudit, SessionFilter, SessionRow, Store, StoreError};

pub(crate) use desk::MEASURE;
pub use limits::{ChangeError, Source, Sources};
pub use waiting::InLine;

use desk::Desk;
use waiting::Offer;

/// How long folders and files of a request may take to be looked at.
const JUDGING: Duration = Duration::from_secs(30);
/// Requests that are looked at at once: one on a file system that hangs keeps a thread, and there is a bound to threads.
const JUDGED_AT_ONCE: usize = 64;

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
    desk: Mutex<Desk>,
    /// Held from an offer until the row of who waits is written: nobody is launched, ended or missed in between.
    gate: tokio::sync::Mutex<()>,
    /// Held while an agent's limits are taken to a launch or to what runs, and while cgroups of nobody are removed.
    changing: tokio::sync::Mutex<()>,
    meter: Meter,
    judging: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Those whose turn has come, until they are brought up.
    turns: TaskTracker,
    /// The daemon ends: nobody is started any more.
    stopping: CancellationToken,
}

#[derive(Clone, Debug)]
struct Live {
    agent: String,
    remote: Remote,
    latest: watch::Receiver<u64>,
    up: CancellationToken,
    container: watch::Receiver<Option<Up>>,
}

/// What became of a session that nobody owned.
enum Found {
    /// It is ours now.
    Ours,
    /// It was ended.
    Ended,
    /// Somebody owns it after all.
    Owned,
}

/// Why a session was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It was judged.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It cannot be judged.
    #[error(
        "the folders and files of the request could not be looked at within {JUDGING:?}: does their file system hang, or is \
         a file a pipe?"
    )]
    Hangs,
    /// Too many others cannot be.
    #[error("{JUDGED_AT_ONCE} other requests have been looked at for {JUDGING:?}; try again")]
    Judging,
    /// The engine does not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It could not begin.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The daemon ends.
    #[error("the service is stopping: {0}")]
    Stopping(String),
    /// There is no room, and it may not wait.
    #[error(transparent)]
    NoPlace(#[from] Refusal),
    /// Its agent's limits cannot be held.
    #[error(transparent)]
    Limits(#[from] AgentError),
    /// It cannot be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It waited, and is of a newer aigo, or no longer what we wrote.
    #[error("what was asked for cannot be read any more; start the session again")]
    Unreadable,
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
        let desk = Mutex::new(Desk::new(&config));
        let config = RwLock::new(Arc::new(config));
        Self {
            store,
            dirs,
            instance,
            engine,
            config,
            live: Mutex::default(),
            desk,
            gate: tokio::sync::Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            meter: Meter::default(),
            judging: Arc::new(Semaphore::new(JUDGED_AT_ONCE)),
            tasks: TaskTracker::new(),
            turns: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Starts nobody any more. Those who wait stay in the queue: the next daemon starts them.
    pub fn start_nobody(&self) {
        self.stopping.cancel();
        self.turns.close();
    }

    /// Waits until whoever is being brought up has come so far that another daemon can go on with it.
    pub async fn all_up(&self) {
        self.turns.wait().await;
        let rising: Vec<CancellationToken> = self.lock().values().map(|live| live.up.clone()).collect();
        for up in rising {
            up.cancelled().await;
        }
    }

    /// The configuration that holds now.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a new configuration: for what starts from now on, for those who wait, and as agents' limits for what runs.
    pub fn configure(self: &Arc<Self>, config: Config) {
        let old = self.config();
        let new = Arc::new(config);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        let moved = {
            let mut desk = self.desk();
            desk.queue.policy_changed();
            desk.configured(&new)
        };
        self.moved(moved);
        let manager = Arc::clone(self);
        self.tasks.spawn(async move { manager.change_all(&old, &new).await });
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
            Err(StartError::Refused(Refused::Denied(denied))) => (None, Decision::Denied, denied.sentences()),
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
        if self.stopping.is_cancelled() {
            return Err(StartError::Stopping("try again when it is back".to_owned()));
        }
        // What can be told without the engine is told first.
        let asking = self.ask_door(request).await?;
        let (launcher, info) = self.launcher().await?;
        let admitted = asking.admit(cpus_were_named, &info)?;
        self.offer(Offer { admitted, launcher }).await
    }

    async fn ask_door(&self, request: SessionRequest) -> Result<Asking, StartError> {
        let place = tokio::time::timeout(JUDGING, Arc::clone(&self.judging).acquire_owned()).await;
        let place = place.ok().and_then(Result::ok).ok_or(StartError::Judging)?;
        let door = self.door();
        let asking = tokio::task::spawn_blocking(move || {
            let _place = place;
            door.ask(request)
        });
        let asking = tokio::time::timeout(JUDGING, asking).await.map_err(|_| StartError::Hangs)?;
        Ok(asking.map_err(|error| StartError::Stopping(error.to_string()))??)
    }

    async fn launcher(self: &Arc<Self>) -> Result<(Launcher, EngineInfo), EngineError> {
        let (engine, info) = self.engine.get().await?;
        self.engine_answers(&info);
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
        for row in rows.iter().filter(|row| recover::elsewhere(row, &launcher.identity).is_some()) {
            // Nothing of it runs here.
            self.left(&row.id);
        }
        let ours = rows.into_iter().filter(|row| {
            row.request.is_some()
                && row.status != Status::Queued
                && recover::elsewhere(row, &launcher.identity).is_none()
                && self.latest(&row.id).is_none()
        });
        let adopting = ours.map(async |row| {
            let agent = row.agent.parse::<AgentName>().ok();
            (agent, self.adopt(&launcher, row).await)
        });
        let adopted: Vec<(Option<AgentName>, Result<Found, String>)> =
            stream::iter(adopting).buffer_unordered(ADOPTED_AT_ONCE).collect().await;
        let mut agents = BTreeSet::new();
        let mut reconciled = Reconciled::default();
        for (agent, outcome) in adopted {
            match outcome {
                Ok(Found::Ours) => {
                    reconciled.adopted += 1;
                    agents.extend(agent);
                }
                Ok(Found::Ended) => reconciled.ended += 1,
                Ok(Found::Owned) => {}
                Err(problem) => reconciled.problems.push(problem),
            }
        }
        self.change_adopted(agents).await;
        if recover::is_due(&launcher).await? {
            let swept = recover::sweep(&launcher).await;
            reconciled.ended += swept.sessions.len();
            reconciled.problems.extend(swept.problems);
        }
        self.drop_ended().await?;
        if let Err(error) = self.sweep_agents().await {
            reconciled.problems.push(chain(&error));
        }
        Ok(reconciled)
    }

    /// What a session of the store asked for; none if that cannot be read.
    fn request_of(&self, row: &SessionRow) -> Option<SessionRequest> {
        let config = self.config();
        let new = NewSession::from_stored(row.request.as_deref()?).ok()?;
        new.into_request(&config.session, config.proxy.port).ok()
    }

    async fn adopt(self: &Arc<Self>, launcher: &Launcher, row: SessionRow) -> Result<Found, String> {
        let id = row.id.clone();
        let Some(mut request) = self.request_of(&row) else {
            let detail = "what was asked for cannot be read by this aigo, so that it cannot go on with the session; was \
                          it started by a newer one?";
            return self.end(launcher, row, Some(Ending::because(EndReason::Cancelled, detail))).await;
        };
        let mut notes = Vec::new();
        if matches!(request.model, ModelSource::Record(_)) {
            request.model = ModelSource::Live;
            notes.push("the recording has ended with the service that made it; the agent works on without".to_owned());
        }
        let upstream = self.door().upstream(&request).unwrap_or_else(|error| {
            notes.push(format!("the agent has no model any more: {}", chain(&error)));
            None
        });
        match launcher.adopt(&row, &request, upstream, notes).await {
            Ok(Adopted::Ours(session)) => {
                tracing::info!(session = %id, agent = row.agent, "session {id} goes on");
                self.keep(*session, row.agent);
                Ok(Found::Ours)
            }
            Ok(Adopted::Owned) => Ok(Found::Owned),
            Ok(Adopted::Over(ending)) => self.end(launcher, row, Some(ending)).await,
            // Its folder is gone, and with it all that could be gone on with.
            Err(AdoptError::Lock(_) | AdoptError::Begin(_)) if !self.dirs.session(&id).ipc().mailbox.is_dir() => {
                self.end(launcher, row, None).await
            }
            Err(error) => Err(format!("session {id}: {}", chain(&error))),
        }
    }

    /// Ends a session, for `why` if nobody has written down another reason.
    async fn end(
        self: &Arc<Self>,
        launcher: &Launcher,
        mut row: SessionRow,
        why: Option<Ending>,
    ) -> Result<Found, String> {
        let id = row.id.clone();
        row.ending = row.ending.or(why);
        let swept = recover::end(launcher, row).await;
        if !swept.problems.is_empty() {
            return Err(swept.problems.join("; "));
        }
        let found = self.store.session(&id).await.ok().flatten();
        log_end(&id, found.and_then(|row| row.ending).as_ref());
        self.left(&id);
        Ok(Found::Ended)
    }

    /// Owns a session until its end.
    fn keep(self: &Arc<Self>, mut session: Session, agent: String) {
        let id = session.id.clone();
        let (remote, latest) = (session.remote(), session.latest.clone());
        let (up, container) = (session.up.clone(), session.container.clone());
        let live = Live { agent, remote, latest, up, container };
        self.lock().insert(id.clone(), live);
        let manager = Arc::clone(self);
        self.tasks.spawn(async move {
            let ending = session.ended().await;
            log_end(&id, Some(&ending));
            manager.lock().remove(&id);
            manager.left(&id);
        });
    }

    /// Asks the owner of a session for something: here, or in another process.
    ///
    /// # Errors
    /// When nobody owns it any more.
    pub async fn ask(self: &Arc<Self>, row: &SessionRow, request: Request) -> Result<Answer, ControlError> {
        match row.status {
            Status::Queued => self.ask_waiting(row, request).await,
            Status::Provisioning
            | Status::Running
            | Status::Closing
            | Status::Completed
            | Status::Failed
            | Status::Timeout
            | Status::Cancelled => self.ask_running(row, request).await,
        }
    }

    async fn ask_running(&self, row: &SessionRow, request: Request) -> Result<Answer, ControlError> {
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

    /// What the sessions of this daemon that run use: read at most a second ago.
    pub async fn usage(&self) -> Arc<Reading> {
        let running = || {
            let live = self.lock();
            let up = live.iter().filter_map(|(id, live)| Some((id, &live.agent, live.container.borrow().clone()?)));
            up.map(|(id, agent, up)| Running { id: id.clone(), agent: agent.clone(), up }).collect()
        };
        self.meter.read(running, || self.desk().here.clone()).await
    }

    /// Whether the service can do its work: its store answers.
    pub async fn is_well(&self) -> bool {
        self.store.audit_log(None, 1).await.is_ok()
    }

    /// How many sessions this daemon owns.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Writes a line of the audit log.
    pub async fn audit(&self, line: NewAudit) {
        self.store.note(line).await;
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Each call of the queue's leaves it settled.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Live>> {
        // Nothing is half done under it: a map's own operations.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of the log for the end of a session; the fields are for programs.
fn log_end(id: &SessionId, ending: Option<&Ending>) {
    let Some(Ending { reason, detail }) = ending else {
        return tracing::info!(session = %id, "session {id} has ended");
    };
    let (status, detail) = (reason.status(), detail.as_deref());
    tracing::info!(session = %id, %status, %reason, detail, "session {id} has ended: {status} ({reason})");
}
