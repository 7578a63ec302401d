//! Going on with a session whose owner has ended: a service that was stopped, killed or upgraded.
//!
//! ```text
//!  row (intent) ─► lock ─► container? ── runs, or has run ──► proxy ─► what was known ([`Driver::resume`]) ─► driven
//!                            │    └──── never ran, or is gone ──► ended
//!                            └── why it ends was known ──► ended
//! ```
//! What is only to be ended is left to [`recover::end`](crate::session::recover::end), which hears its last words first.

use std::net::IpAddr;
use std::time::SystemTime;

use ipc_protocol::host::HostIpc;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Beginning, COMMANDS, LaunchError, Launcher, Life, Session, provision, reopen};
use crate::engine::{ContainerId, ContainerInfo, ContainerPhase, EngineError, Labels, Network};
use crate::error_chain::chain;
use crate::failpoint::reach;
use crate::plan::LABEL_SESSION;
use crate::proxy::{NOTICE_QUEUE, Notice, Upstream};
use crate::request::SessionRequest;
use crate::session::control::{self, Scribe};
use crate::session::driver::Driver;
use crate::session::event::{HostEvent, LaunchStep, What};
use crate::session::lock;
use crate::session::resources::{Resources, Running, object_name};
use crate::session::status::{EndReason, Ending};
use crate::store::{SessionRow, StoreError};
use crate::workspace::changes::Before;
use crate::workspace::facts::FolderFacts;
use crate::workspace::mountpoints::{self, Held};

/// Events that are read at once to find how the session began.
const PAGE: usize = 50;

/// What became of a session.
#[derive(Debug)]
pub enum Adopted {
    /// It is ours now.
    Ours(Box<Session>),
    /// Somebody owns it.
    Owned,
    /// There is nothing to go on with: it has ended for this reason, and is to be cleared away.
    Over(Ending),
}

/// How a session began.
struct Beginnings {
    /// When it was brought up: its clock does not count the time that it waited in the queue.
    at: Timestamp,
    /// Its container was started.
    started: bool,
}

/// Why it cannot be gone on with now; it stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Its folder is gone, or not as we left it.
    #[error("cannot go on with the session in its folder")]
    Begin(#[from] LaunchError),
    /// The engine does not say what became of its container.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The folder's lock.
    #[error("cannot lock the session's folder")]
    Lock(#[source] std::io::Error),
}

impl Launcher {
    /// Goes on with a session that asked for `request`, whose model `upstream` answers for. What its people should know of
    /// the change is in `notes`, sentences.
    ///
    /// # Errors
    /// See [`AdoptError`]; nothing has changed then.
    pub async fn adopt(
        &self,
        row: &SessionRow,
        request: &SessionRequest,
        upstream: Option<Upstream>,
        mut notes: Vec<String>,
    ) -> Result<Adopted, AdoptError> {
        let folder = self.dirs.session(&row.id);
        let Some(lock) = lock::take(&folder.lock()).map_err(AdoptError::Lock)? else { return Ok(Adopted::Owned) };
        reach("adopt.locked");
        // It may have ended in order since the rows were listed.
        let row = match self.store.session(&row.id).await.map_err(LaunchError::from)? {
            Some(row) if row.ended_at.is_none() => row,
            Some(_) | None => return Ok(Adopted::Owned),
        };
        let container = ContainerId(object_name(&row.id));
        let info = match self.engine.inspect(&container).await {
            Ok(info) => Some(info),
            Err(EngineError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let beginnings = self.beginnings(&row).await.map_err(LaunchError::from)?;
        let info = match (&row.ending, info) {
            (Some(ending), _) => return Ok(Adopted::Over(ending.clone())),
            (None, Some(info)) if info.phase != ContainerPhase::Created => info,
            (None, None) if beginnings.started => {
                let detail = "its container was gone when the service came back: somebody else had removed it";
                return Ok(Adopted::Over(Ending::because(EndReason::RunnerLost, detail)));
            }
            (None, Some(_) | None) => {
                let detail =
                    "the service ended while it brought the session up, and before its agent ran; start it again";
                return Ok(Adopted::Over(Ending::because(EndReason::Cancelled, detail)));
            }
        };
        let ipc = HostIpc::open(&folder.ipc()).map_err(LaunchError::from)?;
        let (latest, latest_seen) = watch::channel(0);
        let mut driver =
            Driver::new(row.id.clone(), self.store.clone(), self.engine.clone(), ipc, request.rules(), latest)
                .map_err(LaunchError::from)?
                .surviving();
        let mut resources = Resources {
            id: row.id.clone(),
            folder: folder.clone(),
            lock,
            workspace: row.workspace.clone(),
            points: Held::default(),
            launched: SystemTime::from(row.created_at),
            proxy: None,
            grant: None,
            engine_touched: true,
        };
        let (notices, notice_queue) = mpsc::channel(NOTICE_QUEUE);
        let model = upstream.map(|upstream| (upstream.kept_in(folder.replay()), request.proxy_port, notices));
        let (running, missing) = self.take_over(&mut resources, request, info, model).await;
        notes.extend(missing);
        let before = reopen(&row.workspace, &folder).await;
        let before =
            before.unwrap_or_else(|| Before::unknown("how the folder was before the agent was not written down"));
        let resumed = driver.resume(&self.store, &row.id, Some(running.container.clone()), beginnings.at).await;
        resumed.map_err(LaunchError::from)?;
        reach("adopt.resumed");
        for message in notes {
            tracing::warn!("session {}: {message}", row.id);
            let told = driver.tell(HostEvent::HostWarning { code: "service_restarted".into(), message }).await;
            told.map_err(LaunchError::from)?;
        }
        let beginning = Beginning::Adopt(Box::new(provision::Provisioned { running, before }), notice_queue);
        let (commands, wishes) = mpsc::channel(COMMANDS);
        let socket = folder.control_socket();
        // The old owner's.
        let _ = std::fs::remove_file(&socket);
        let scribe = Scribe { store: self.store.clone(), session: row.id.clone() };
        let listener = control::listen(&socket, commands.clone(), Some(scribe))
            .map_err(|source| LaunchError::Folder { path: socket.clone(), source })?;
        self.store.set_owner(&row.id).await.map_err(LaunchError::from)?;
        reach("adopt.owned");
        let id = row.id.clone();
        let up = CancellationToken::new();
        let rising = Some(up.clone().drop_guard());
        let (container, seen) = watch::channel(None);
        let life = Life { launcher: self.clone(), id: id.clone(), driver, resources, wishes, rising, container };
        let task = life.spawn(beginning, listener);
        Ok(Adopted::Ours(Box::new(Session { id, latest: latest_seen, up, container: seen, commands, task })))
    }

    /// Looks through the session's events until they tell. There may be many before: of the queue, of people.
    async fn beginnings(&self, row: &SessionRow) -> Result<Beginnings, StoreError> {
        let (mut cursor, mut began) = (0, None);
        loop {
            let events = self.store.events(&row.id, cursor, PAGE).await?;
            let Some(last) = events.last() else {
                return Ok(Beginnings { at: began.unwrap_or(row.created_at), started: false });
            };
            cursor = last.seq;
            for event in &events {
                let is_start = match &event.what {
                    What::Host(HostEvent::Session { .. }) => {
                        began.get_or_insert(event.at);
                        false
                    }
                    What::Host(HostEvent::LaunchStep { step, .. }) => *step == LaunchStep::Start,
                    What::Host(_) => false,
                    What::Runner(_) => true,
                };
                if is_start {
                    return Ok(Beginnings { at: began.unwrap_or(row.created_at), started: true });
                }
            }
        }
    }

    /// Holds again what the session needs on the host. What cannot be had is told in sentences: the agent goes on without.
    async fn take_over(
        &self,
        resources: &mut Resources,
        request: &SessionRequest,
        info: ContainerInfo,
        model: Option<(Upstream, u16, mpsc::Sender<Notice>)>,
    ) -> (Running, Option<String>) {
        let id = resources.id.clone();
        let mut missing = None;
        let (workspace, request) = (resources.workspace.clone(), request.clone());
        let hold = move || -> Result<Held, String> {
            let facts = FolderFacts::gather(&workspace).map_err(|error| error.to_string())?;
            let mut points = request.mount_points(&facts);
            // Nothing is made any more: a mount on a new one would not come back.
            points.retain(|point| workspace.join(point).is_dir());
            mountpoints::make(&workspace, None, &points).map(|points| points.held).map_err(|error| chain(&error))
        };
        match tokio::task::spawn_blocking(hold).await {
            Ok(Ok(held)) => resources.points = held,
            Ok(Err(error)) => tracing::warn!("session {id}: {error}"),
            Err(error) => tracing::warn!("session {id}: {error}"),
        }
        if let Some((upstream, port, notices)) = model {
            let proxy = match self.network_of(resources).await {
                Ok(network) => {
                    let proxy = provision::proxy_on(&self.engine, &network, port, upstream, notices).await;
                    proxy.map(|proxy| (proxy, network)).map_err(|error| chain(&error))
                }
                Err(why) => Err(why),
            };
            match proxy {
                Ok((proxy, network)) => {
                    let address = info.addresses.get(&network.name);
                    resources.grant = address.and_then(|ip| proxy.grant(IpAddr::V4(*ip), id.as_str()).ok());
                    resources.proxy = Some(proxy);
                }
                Err(why) => missing = Some(format!("the agent has no model any more: {why}")),
            }
        }
        let traffic = resources.grant.as_ref().map(crate::proxy::Grant::traffic);
        (Running { container: info.id, pid: info.pid, traffic }, missing)
    }

    async fn network_of(&self, resources: &Resources) -> Result<Network, String> {
        let labels = Labels::from([(LABEL_SESSION.to_owned(), resources.id.to_string())]);
        let networks = self.engine.networks(&labels).await.map_err(|error| chain(&error))?;
        networks.into_iter().next().ok_or_else(|| "its network is gone".to_owned())
    }
}
