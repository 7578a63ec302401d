//! Brings a session up, has it driven, and lets go of everything it holds, whatever happened in between.

mod adopt;
mod last_words;
mod provision;

pub use adopt::{AdoptError, Adopted};

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use ipc_protocol::dir::Owner;
use ipc_protocol::host::HostIpc;
use nix::unistd::Uid;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::control::{Answer, Control, Pending, Request, Scribe};
use super::driver::Driver;
use super::event::{HostEvent, LaunchStep, Summary};
use super::lock::{self, Lock};
use super::resources::Resources;
use super::status::{EndReason, Ending};
use super::{SessionId, control, recover};
use crate::agents::{AgentGroups, AgentLimits, AgentName, Placement};
use crate::dirs::{DataDir, SessionDir};
use crate::engine::{ContainerId, EngineIdentity, SharedEngine};
use crate::error_chain::chain;
use crate::failpoint::reach;
use crate::plan::LaunchPlan;
use crate::policy::{Permit, env};
use crate::proxy::{NOTICE_QUEUE, Notice, Upstream};
use crate::store::{DEFAULT_AGENT, Outcome, SessionRow, Store, StoreError};
use crate::workspace::changes::{Before, Compared};
use crate::workspace::mountpoints::Held;
use crate::workspace::stray;

/// How long the step of a launch that nobody wants any more may take to end; an engine that hangs is left to itself then,
/// and the session in [`doubt`](super::doubt).
const STEP_END: Duration = Duration::from_secs(5);
/// How often a service tries to store a session's end, and the pause in between: ten minutes for somebody to make room on
/// a full disk.
const END_TRIES: u32 = 120;
const END_AGAIN: Duration = Duration::from_secs(5);
/// How long the comparison of the folder may take. It bounds itself between two files; a file system that does not answer
/// (a network share that is gone) lets no call return.
const COMPARISON: Duration = Duration::from_secs(30);
/// Wishes that may wait for the driver.
pub(super) const COMMANDS: usize = 64;

/// What sessions are launched with.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The engine.
    pub engine: SharedEngine,
    /// The store.
    pub store: Store,
    /// The data directory.
    pub dirs: DataDir,
    /// Marks this data directory's objects on the engine.
    pub instance: Arc<str>,
    /// Which engine it is.
    pub identity: EngineIdentity,
}

/// A session that was launched; it ends by itself even if this is dropped.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The number of its last event: changes wake readers of the store.
    pub latest: watch::Receiver<u64>,
    /// Cancelled when its container runs, or it has ended before: from then on another process can go on with it.
    pub up: CancellationToken,
    /// Its container, once that runs; of a session of another process it is not known here.
    pub container: watch::Receiver<Option<Up>>,
    commands: mpsc::Sender<Pending>,
    task: JoinHandle<Ending>,
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    /// The engine's id.
    pub container: ContainerId,
    /// Its first process as the engine's machine numbers it.
    pub pid: Option<i32>,
}

/// Reaches a session's driver.
#[derive(Clone, Debug)]
pub struct Remote {
    commands: mpsc::Sender<Pending>,
}

impl Session {
    /// A session whose life is `task`, and which takes wishes by `commands`.
    pub(super) fn of(
        id: SessionId,
        latest: watch::Receiver<u64>,
        commands: mpsc::Sender<Pending>,
        task: JoinHandle<Ending>,
    ) -> Self {
        let up = CancellationToken::new();
        // Its owner has brought it up, or does so.
        up.cancel();
        let (_, container) = watch::channel(None);
        Self { id, latest, up, container, commands, task }
    }

    /// A way to ask for things while somebody else waits for the end.
    pub fn remote(&self) -> Remote {
        Remote { commands: self.commands.clone() }
    }

    /// Waits for the end, with everything let go.
    pub async fn ended(&mut self) -> Ending {
        match (&mut self.task).await {
            Ok(ending) => ending,
            // The task catches panics itself; this is the runtime shutting down.
            Err(error) => Ending::because(EndReason::Cancelled, error.to_string()),
        }
    }
}

impl Remote {
    /// Asks for something; the driver's answer, or that it is too busy to give one in time.
    pub async fn ask(&self, request: Request) -> Answer {
        control::pass_on(request, &self.commands).await
    }
}

/// Why a session could not even begin: nothing was made, nothing is left.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Its folder.
    #[error("cannot make the session's folder {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its mailbox.
    #[error("cannot make the session's IPC directory")]
    Ipc(#[from] ipc_protocol::dir::DirError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Launcher {
    /// Launches what was permitted. Intent is in the store before the engine hears of it.
    pub async fn launch(&self, permit: Permit, upstream: Option<Upstream>) -> Result<Session, LaunchError> {
        self.launch_on(Account::default(), permit, upstream).await
    }

    /// The same on somebody's account.
    pub async fn launch_on(
        &self,
        account: Account,
        permit: Permit,
        upstream: Option<Upstream>,
    ) -> Result<Session, LaunchError> {
        let id = account.id.clone();
        let folder = self.dirs.session(&id);
        let placement = account.hold.as_ref().map(|hold| hold.placement.clone());
        let plan = LaunchPlan::new(permit, id, &self.instance, &folder).placed(placement);
        // One that waited may have been begun by a service that was killed before it had written so.
        if folder.root().exists() && !lock::is_held(&folder.lock()) {
            for problem in super::resources::remove_folder(&folder).await {
                tracing::warn!("{problem}");
            }
        }
        let lock = make_folder(&folder)?;
        reach("folder.made");
        match self.begin(account, plan, upstream, &folder, lock).await {
            Ok(session) => Ok(session),
            Err(error) => {
                for problem in super::resources::remove_folder(&folder).await {
                    tracing::warn!("{problem}");
                }
                Err(error)
            }
        }
    }

    async fn begin(
        &self,
        account: Account,
        plan: LaunchPlan,
        upstream: Option<Upstream>,
        folder: &SessionDir,
        lock: Lock,
    ) -> Result<Session, LaunchError> {
        let id = plan.id().clone();
        let request = plan.permit().request();
        let workspace = plan.permit().facts().workspace.canonical.clone();
        let identity = plan.identity();
        // Only root may give files away; anybody else can only work on what is theirs.
        let owner = Uid::effective().is_root().then_some(Owner { uid: identity.uid, gid: identity.gid });
        let ipc = HostIpc::create(&folder.ipc(), owner)?;
        reach("ipc.made");
        let (latest, latest_seen) = watch::channel(0);
        let mut driver = Driver::new(id.clone(), self.store.clone(), self.engine.clone(), ipc, plan.rules(), latest)?;
        if account.request.is_some() {
            driver = driver.surviving();
        }
        let (commands, wishes) = mpsc::channel(COMMANDS);
        // Before the row: a session that is in the store has an owner who ends it.
        let socket = folder.control_socket();
        let scribe = driver.survives().then(|| Scribe { store: self.store.clone(), session: id.clone() });
        let listener = control::listen(&socket, commands.clone(), scribe)
            .map_err(|source| LaunchError::Folder { path: socket.clone(), source })?;
        let mut row = SessionRow::new(id.clone(), request.agent.word(), &request.image, workspace.clone());
        (row.agent, row.request) = (account.agent, account.request);
        reach("row.before");
        self.store.insert_session(row.on(self.identity.clone())).await?;
        reach("row.after");
        let resources = Resources {
            id: id.clone(),
            folder: folder.clone(),
            lock,
            workspace,
            points: Held::default(),
            launched: SystemTime::now(),
            proxy: None,
            grant: None,
            engine_touched: false,
        };
        let upstream = upstream.map(|upstream| match driver.survives() {
            true => upstream.kept_in(folder.replay()),
            false => upstream,
        });
        let up = CancellationToken::new();
        let rising = Some(up.clone().drop_guard());
        let (container, seen) = watch::channel(None);
        let life = Life { launcher: self.clone(), id: id.clone(), driver, resources, wishes, rising, container };
        let beginning = Beginning::Launch(Box::new(plan), upstream, account.hold.map(Box::new));
        Ok(Session { id, latest: latest_seen, up, container: seen, commands, task: life.spawn(beginning, listener) })
    }
}

/// On whose account a session is.
#[derive(Clone, Debug)]
pub struct Account {
    /// The session's id: a new one, or that of one which waited.
    pub id: SessionId,
    /// Whose.
    pub agent: String,
    /// What was asked for, as JSON, if another process is to be able to go on with the session after this one.
    pub request: Option<String>,
    /// What its agent's limits mean for it.
    pub hold: Option<Hold>,
}

/// What an agent's limits mean for one session.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Where its container belongs, and that one's own bounds.
    pub placement: Placement,
    /// What was lowered, and what cannot be enforced, in sentences.
    pub warnings: Vec<String>,
    /// Whose limits, and by whom they are held.
    pub by: HeldBy,
}

/// By whom an agent's limits are held.
#[derive(Clone, Debug)]
pub struct HeldBy {
    /// The agent.
    pub agent: AgentName,
    /// Its limits.
    pub limits: AgentLimits,
    /// The cgroups of agents.
    pub groups: AgentGroups,
}

impl Hold {
    /// Looks whether the kernel holds the container of this process to its agent's quota, if that has one; says so if not.
    pub(super) fn confirm(&self, pid: i32) -> Option<String> {
        // Only what was put into a cgroup of the agent's can be missing from it.
        self.placement.cgroup_parent.as_ref()?;
        let HeldBy { agent, limits, groups } = &self.by;
        limits.cpus?;
        groups.confirm(agent, limits, pid).err().map(|error| chain(&error))
    }
}

impl Default for Account {
    fn default() -> Self {
        Self { id: SessionId::random(), agent: DEFAULT_AGENT.to_owned(), request: None, hold: None }
    }
}

fn make_folder(folder: &SessionDir) -> Result<Lock, LaunchError> {
    use std::os::unix::fs::DirBuilderExt;
    let fail = |source| LaunchError::Folder { path: folder.root().to_owned(), source };
    std::fs::DirBuilder::new().mode(0o700).create(folder.root()).map_err(fail)?;
    match lock::take(&folder.lock()).map_err(fail)? {
        Some(lock) => Ok(lock),
        // The name is random and the folder new: only a sweep that saw it half made can hold it.
        None => Err(fail(std::io::Error::other("another process holds its lock; try again"))),
    }
}

/// How a life begins in this process.
enum Beginning {
    /// At its beginning.
    Launch(Box<LaunchPlan>, Option<Upstream>, Option<Box<Hold>>),
    /// With a container that was another process's.
    Adopt(Box<provision::Provisioned>, mpsc::Receiver<Notice>),
}

/// The whole life, in one task.
struct Life {
    launcher: Launcher,
    id: SessionId,
    driver: Driver,
    resources: Resources,
    wishes: mpsc::Receiver<Pending>,
    /// Held until the container runs.
    rising: Option<DropGuard>,
    container: watch::Sender<Option<Up>>,
}

/// What a life comes to before everything is let go.
struct Worked {
    ending: Ending,
    before: Option<Before>,
    requests: Option<u64>,
}

impl Worked {
    fn only(ending: Ending) -> Self {
        Self { ending, before: None, requests: None }
    }
}

impl Life {
    fn spawn(self, beginning: Beginning, listener: Control) -> JoinHandle<Ending> {
        tokio::spawn(async move {
            let ending = self.live(beginning).await;
            listener.end().await;
            ending
        })
    }

    async fn live(mut self, beginning: Beginning) -> Ending {
        let worked = AssertUnwindSafe(self.work(beginning)).catch_unwind().await;
        let (Worked { ending, before, requests }, in_order) = match worked {
            Ok(Ok(worked)) => (worked, true),
            Ok(Err(error)) => (Worked::only(store_failed(&error)), false),
            Err(_) => {
                let detail = "aigo itself failed while it drove the session; the message is on its standard error";
                (Worked::only(Ending::because(EndReason::RunnerLost, detail)), false)
            }
        };
        let Self { launcher, id, mut driver, resources, .. } = self;
        let launched = resources.launched;
        let ending = match resources.engine_touched {
            true => last_words::explain(ending, &launcher.engine, &id).await,
            false => ending,
        };
        // Whoever goes on from here only has to let go: the container, and what it could tell, may be gone by then.
        reach("ending.before");
        if driver.survives()
            && let Err(error) = launcher.store.set_ending(&id, &ending).await
        {
            tracing::error!("session {id}: why it ends could not be stored: {}", chain(&error));
        }
        reach("ending.after");
        let before = match before {
            // What was in memory is lost: as for another process.
            None if !in_order => reopen(&resources.workspace, &resources.folder).await,
            known => known,
        };
        let requests = resources.grant.as_ref().map(|grant| grant.traffic().usage().requests).or(requests);
        let mut released = resources.release(&launcher.engine, &launcher.store).await;
        if let Some(event) = driver.not_kept() {
            // A store that cannot take it cannot take the end either, which is tried again below.
            let _ = driver.tell(event).await;
        }
        let mut problems = std::mem::take(&mut released.problems);
        problems.extend(stray::remove(driver.take_mismatch(), launched).await);
        let mut summary = driver.summary();
        summary.model_requests = summary.model_requests.saturating_add(requests.unwrap_or_default());
        if let Some(before) = before {
            summary.set_changes(compare(before).await);
        }
        reach("end.before");
        // A person who waits is not kept; a service may well live to see that there is room again.
        let mut tries = if driver.survives() { END_TRIES } else { 1 };
        let stored = loop {
            let finished = async {
                if !in_order {
                    // What the driver had read, and could not store, is still in the session's folder.
                    recover::last_words(&launcher.store, &id, &launcher.dirs.session(&id)).await?;
                }
                finish(&id, &mut driver, &ending, summary.clone(), std::mem::take(&mut problems)).await
            };
            match finished.await {
                Ok(()) => break true,
                Err(error) => tracing::error!("session {id}: its end could not be stored: {}", chain(&error)),
            }
            tries -= 1;
            if tries == 0 {
                // Its folder stays, and with it what nobody has heard yet: whoever looks next ends it.
                break false;
            }
            tokio::time::sleep(END_AGAIN).await;
        };
        if stored {
            reach("end.after");
            for problem in released.forget().await {
                tracing::warn!("session {id}: {problem}");
            }
            reach("folder.removed");
        }
        ending
    }

    async fn work(&mut self, beginning: Beginning) -> Result<Worked, StoreError> {
        match beginning {
            Beginning::Launch(plan, upstream, hold) => self.launch(&plan, upstream, hold.as_deref()).await,
            Beginning::Adopt(provisioned, notices) => self.drive(*provisioned, notices).await,
        }
    }

    async fn drive(
        &mut self,
        provisioned: provision::Provisioned,
        mut notices: mpsc::Receiver<Notice>,
    ) -> Result<Worked, StoreError> {
        drop(self.rising.take());
        let provision::Provisioned { running, before } = provisioned;
        self.container.send_replace(Some(Up { container: running.container.clone(), pid: running.pid }));
        let ending = self.driver.run(&running, &self.resources.points, &mut self.wishes, &mut notices).await?;
        let requests = running.traffic.as_ref().map(|traffic| traffic.usage().requests);
        Ok(Worked { ending, before: Some(before), requests })
    }

    async fn launch(
        &mut self,
        plan: &LaunchPlan,
        upstream: Option<Upstream>,
        hold: Option<&Hold>,
    ) -> Result<Worked, StoreError> {
        let driver = &mut self.driver;
        let (request, facts) = (plan.permit().request(), plan.permit().facts());
        driver
            .tell(HostEvent::Session {
                session: plan.id().clone(),
                agent: request.principal.to_string(),
                program: request.agent.word().to_owned(),
                image: request.image.clone(),
                workspace: facts.workspace.canonical.to_string_lossy().into_owned(),
            })
            .await?;
        driver.tell(HostEvent::Status { status: super::driver::FIRST_STATUS }).await?;
        for message in hold.into_iter().flat_map(|hold| hold.warnings.iter().cloned()) {
            driver.tell(HostEvent::HostWarning { code: "agent_limits".into(), message }).await?;
        }
        for message in env::warnings(&request.env) {
            driver.tell(HostEvent::HostWarning { code: env::KEY_WARNING.into(), message }).await?;
        }
        if let Some(prompt) = request.prompt.clone() {
            let answer = driver.send(prompt, None).await?;
            if let Some(error) = answer.error {
                let step = "prompt".to_owned();
                return Ok(Worked::only(Ending::because(EndReason::SetupFailed { step }, error)));
            }
        }
        let (notices, notice_queue) = mpsc::channel(NOTICE_QUEUE);
        let (steps, mut steps_done) = mpsc::channel(16);
        let mut started = false;
        let is_start = |event: &HostEvent| matches!(event, HostEvent::LaunchStep { step: LaunchStep::Start, .. });
        let provisioned = {
            // A request that the engine has is not dropped at once: it would make a container that nobody removes.
            let no_further = AtomicBool::new(false);
            let mut unwanted: Option<(String, Instant)> = None;
            let cancelled = |by: &str| Err(Ending::because(EndReason::Cancelled, format!("cancelled by {by}")));
            let provision = provision::provision(
                &self.launcher,
                plan,
                &mut self.resources,
                provision::Model { upstream, notices },
                hold,
                steps,
                &no_further,
            );
            tokio::pin!(provision);
            loop {
                tokio::select! {
                    Some(event) = steps_done.recv() => {
                        started |= is_start(&event);
                        driver.tell(event).await?;
                    }
                    outcome = &mut provision => break match unwanted {
                        Some((by, _)) => cancelled(&by),
                        None => outcome,
                    },
                    Some(wish) = self.wishes.recv() => {
                        if let Err(by) = driver.handle(wish, false).await? {
                            no_further.store(true, Ordering::Relaxed);
                            unwanted.get_or_insert((by, Instant::now() + STEP_END));
                        }
                    }
                    by = given_up(unwanted.clone()) => break cancelled(&by),
                }
            }
        };
        while let Ok(event) = steps_done.try_recv() {
            started |= is_start(&event);
            driver.tell(event).await?;
        }
        match provisioned {
            Ok(provisioned) => {
                reach("provisioned");
                self.drive(provisioned, notice_queue).await
            }
            // The agent may have worked before the launch failed.
            Err(ending) if started => {
                let before = reopen(&self.resources.workspace, &self.resources.folder).await;
                Ok(Worked { ending, before, requests: None })
            }
            Err(ending) => Ok(Worked::only(ending)),
        }
    }
}

/// Waits until a launch that nobody wants any more has had its time; who does not want it.
async fn given_up(unwanted: Option<(String, Instant)>) -> String {
    match unwanted {
        Some((by, until)) => {
            tokio::time::sleep_until(until).await;
            by
        }
        None => std::future::pending().await,
    }
}

fn store_failed(error: &StoreError) -> Ending {
    let reason = if error.is_disk() { EndReason::DiskFull } else { EndReason::SetupFailed { step: "store".into() } };
    Ending::because(reason, format!("the session could not be recorded: {}", chain(error)))
}

/// How the user's folder was before the agent, as another process has written it down; `None` if it came to nothing.
pub(super) async fn reopen(workspace: &Path, folder: &SessionDir) -> Option<Before> {
    let (workspace, record) = (workspace.to_owned(), folder.look());
    let reopening = tokio::task::spawn_blocking(move || record.exists().then(|| Before::reopen(&workspace, &record)));
    match tokio::time::timeout(COMPARISON, reopening).await {
        Ok(Ok(before)) => before,
        Ok(Err(error)) => Some(Before::unknown(format!("the folder could not be opened again: {error}"))),
        Err(_) => Some(Before::unknown(no_answer())),
    }
}

fn no_answer() -> String {
    format!("the file system of the folder did not answer within {} s", COMPARISON.as_secs())
}

/// What changed in the folder since then.
pub(super) async fn compare(before: Before) -> Compared {
    match tokio::time::timeout(COMPARISON, tokio::task::spawn_blocking(|| before.compare())).await {
        Ok(Ok(compared)) => compared,
        // It panicked, or the runtime is shutting down.
        Ok(Err(error)) => Err(format!("the comparison of the folder did not end: {error}")),
        Err(_) => Err(no_answer()),
    }
}

async fn finish(
    id: &SessionId,
    driver: &mut Driver,
    ending: &Ending,
    summary: Summary,
    problems: Vec<String>,
) -> Result<(), StoreError> {
    let status = ending.reason.status();
    let outcome = Outcome { status, ending: Some(ending.clone()), summary: Some(summary.clone()) };
    for message in problems {
        tracing::warn!("session {id}: {message}");
        let _ = driver.tell(HostEvent::HostWarning { code: "left_behind".into(), message }).await;
    }
    driver.end(outcome, HostEvent::Ended { status, ending: ending.clone(), summary }).await
}

#[cfg(test)]
mod tests;
