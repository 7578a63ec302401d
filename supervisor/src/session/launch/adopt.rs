//! Going on with a session whose owner has ended: a service that was stopped, killed or upgraded.
//!
//! ```text
//!  row (intent) ─► lock ─► container? ── runs, or has run ──► proxy ─► what was known ([`Driver::resume`]) ─► driven
//!                            │    └──── never ran ──► let go of, ended
//!                            └── the end was known ──► let go of
//! ```

use std::net::IpAddr;
use std::time::Duration;

use ipc_protocol::host::HostIpc;
use tokio::sync::{mpsc, watch};

use super::{Beginning, COMMANDS, LaunchError, Launcher, Life, Session, provision};
use crate::engine::{ContainerId, ContainerInfo, ContainerPhase, EngineError, Labels, Network};
use crate::failpoint::reach;
use crate::plan::LABEL_SESSION;
use crate::proxy::{NOTICE_QUEUE, Notice, Upstream};
use crate::request::SessionRequest;
use crate::session::driver::Driver;
use crate::session::event::{HostEvent, What};
use crate::session::resources::{Resources, Running, object_name};
use crate::session::status::{EndReason, Ending};
use crate::session::{control, lock};
use crate::store::{SessionRow, StoreError};
use crate::workspace::changes::Look;
use crate::workspace::mountpoints::{self, Held};

/// Among the first so many events is the one that tells what the session is.
const FIRST_EVENTS: usize = 8;

/// What became of a session.
#[derive(Debug)]
pub enum Adopted {
    /// It is ours now.
    Ours(Box<Session>),
    /// Somebody owns it.
    Owned,
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
    /// Goes on with a session that asked for `request`, whose model `upstream` answers for.
    ///
    /// # Errors
    /// See [`AdoptError`]; nothing has changed then.
    pub async fn adopt(
        &self,
        row: &SessionRow,
        request: &SessionRequest,
        upstream: Option<Upstream>,
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
        let ipc = HostIpc::open(&folder.ipc(), &folder.dead_letters(), None).map_err(LaunchError::from)?;
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
            proxy: None,
            grant: None,
            engine_touched: true,
        };
        let beginning = match (&row.ending, info) {
            (Some(ending), _) => Beginning::Over(ending.clone()),
            (None, Some(info)) if info.phase != ContainerPhase::Created => {
                let (notices, notice_queue) = mpsc::channel(NOTICE_QUEUE);
                let model = upstream.map(|upstream| (upstream.kept_in(folder.replay()), request.proxy_port, notices));
                let running = self.take_over(&mut resources, request, info, model).await;
                let began = self.began(&row).await.map_err(LaunchError::from)?;
                let age = jiff::Timestamp::now().duration_since(began);
                // A clock that was set back makes it negative.
                let age = Duration::try_from(age).unwrap_or_default();
                let before = Look::load(&folder.look());
                let resumed = driver.resume(&self.store, &row.id, Some(running.container.clone()), age).await;
                resumed.map_err(LaunchError::from)?;
                reach("adopt.resumed");
                Beginning::Adopt(Box::new(provision::Provisioned { running, before }), notice_queue)
            }
            (None, Some(_) | None) => {
                let detail =
                    "the service ended while it brought the session up, and before its agent ran; start it again";
                Beginning::Over(Ending::because(EndReason::Cancelled, detail))
            }
        };
        let (commands, wishes) = mpsc::channel(COMMANDS);
        let socket = folder.control_socket();
        // The old owner's.
        let _ = std::fs::remove_file(&socket);
        let listener = control::listen(&socket, commands.clone())
            .map_err(|source| LaunchError::Folder { path: socket.clone(), source })?;
        if let Err(error) = self.store.set_owner(&row.id).await {
            listener.abort();
            return Err(LaunchError::from(error).into());
        }
        reach("adopt.owned");
        let id = row.id.clone();
        let life = Life { launcher: self.clone(), id: id.clone(), driver, resources, wishes };
        let task = life.spawn(beginning, listener);
        Ok(Adopted::Ours(Box::new(Session { id, latest: latest_seen, commands, task })))
    }

    /// When it was brought up: its clock does not count the time that it waited in the queue.
    async fn began(&self, row: &SessionRow) -> Result<jiff::Timestamp, StoreError> {
        let first = self.store.events(&row.id, 0, FIRST_EVENTS).await?;
        let began = first.iter().find(|event| matches!(event.what, What::Host(HostEvent::Session { .. })));
        Ok(began.map_or(row.created_at, |event| event.at))
    }

    /// Holds again what the session needs on the host. What cannot be had is said in the log: the agent goes on without.
    async fn take_over(
        &self,
        resources: &mut Resources,
        request: &SessionRequest,
        info: ContainerInfo,
        model: Option<(Upstream, u16, mpsc::Sender<Notice>)>,
    ) -> Running {
        let id = resources.id.clone();
        let (workspace, points) = (resources.workspace.clone(), request.mount_points());
        // They are there: this only holds them.
        match tokio::task::spawn_blocking(move || mountpoints::make(&workspace, &points)).await {
            Ok(Ok(points)) => resources.points = points.held,
            Ok(Err(error)) => tracing::warn!("session {id}: {error}"),
            Err(error) => tracing::warn!("session {id}: {error}"),
        }
        if let Some((upstream, port, notices)) = model
            && let Some(network) = self.network_of(resources).await
        {
            match provision::proxy_on(&self.engine, &network, port, upstream, notices).await {
                Ok(proxy) => {
                    let address = info.addresses.get(&network.name);
                    resources.grant = address.and_then(|ip| proxy.grant(IpAddr::V4(*ip), id.as_str()).ok());
                    resources.proxy = Some(proxy);
                }
                Err(error) => tracing::error!("session {id}: its agent has no model any more: {error}"),
            }
        }
        let traffic = resources.grant.as_ref().map(crate::proxy::Grant::traffic);
        Running { container: info.id, pid: info.pid, traffic }
    }

    async fn network_of(&self, resources: &Resources) -> Option<Network> {
        let labels = Labels::from([(LABEL_SESSION.to_owned(), resources.id.to_string())]);
        match self.engine.networks(&labels).await {
            Ok(networks) => networks.into_iter().next(),
            Err(error) => {
                tracing::error!("session {}: its network cannot be found: {error}", resources.id);
                None
            }
        }
    }
}
