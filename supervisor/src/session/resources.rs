//! What a session holds on the host and the engine, and how all of it is let go.
//!
//! ```text
//! made in this order:      folder, lock ─► row ─► ipc ─► mount points ─► network ─► proxy ─► container ─► grant
//! let go in the other one, each step by itself idempotent and tried whatever became of the others
//! ```
//!
//! Engine objects have names that follow from the session's id, so that what was being made when everything stopped is
//! found, too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::host::HostIpc;

use super::SessionId;
use super::lock::Lock;
use crate::dirs::SessionDir;
use crate::engine::{ContainerId, EngineError, SharedEngine};
use crate::proxy::{Grant, Proxy, Traffic};
use crate::store::Store;

/// How long requests that run may take to end when the container is gone.
const PROXY_DRAIN: Duration = Duration::from_millis(200);
/// Entries of the IPC directory that are removed at the end; more is an attack that is left to a person.
const CLEAR_ENTRIES: usize = 200_000;
/// An engine may fail once, and a network is in use for a moment after its container is gone.
const REMOVE_TRIES: u32 = 10;
const REMOVE_PAUSE: Duration = Duration::from_millis(100);

/// A session's container, up and running.
#[derive(Debug)]
pub struct Running {
    /// The container.
    pub container: ContainerId,
    /// Its first process, as the host sees it; unknown behind a VM.
    pub pid: Option<i32>,
    /// What the proxy carries for it.
    pub traffic: Option<Arc<Traffic>>,
}

/// The name of a session's container and network.
pub fn object_name(id: &SessionId) -> String {
    format!("aigo-{id}")
}

/// What a session holds.
#[derive(Debug)]
pub struct Resources {
    /// The session.
    pub id: SessionId,
    /// Its folder.
    pub folder: SessionDir,
    /// Says that we own it; goes last.
    pub lock: Lock,
    /// The user's folder.
    pub workspace: PathBuf,
    /// The proxy on the network's gateway.
    pub proxy: Option<Proxy>,
    /// The container's right to use it.
    pub grant: Option<Grant>,
    /// Somebody may have made engine objects.
    pub engine_touched: bool,
}

impl Resources {
    /// Lets everything go. Returns what could not be, in words.
    pub async fn release(mut self, engine: &SharedEngine, store: &Store) -> Released {
        let mut problems = Vec::new();
        drop(self.grant.take());
        if self.engine_touched {
            problems.extend(remove_engine_objects(engine, &self.id).await);
        }
        if let Some(proxy) = self.proxy.take() {
            proxy.shutdown(PROXY_DRAIN).await;
        }
        // If the container may still write, its folders stay, and tell the next start that there is something to do.
        let folder = problems.is_empty().then_some(self.folder);
        if folder.is_some() {
            problems.extend(remove_mount_points(store, &self.id, &self.workspace).await);
        }
        Released { problems, folder, _lock: self.lock }
    }
}

/// What is left of a session that has let everything else go: its folder and its lock, which say that it has an owner
/// until its end is stored.
#[derive(Debug)]
pub struct Released {
    /// What could not be let go, in words.
    pub problems: Vec<String>,
    folder: Option<SessionDir>,
    _lock: Lock,
}

impl Released {
    /// The end is stored: the folder goes, too. Returns what could not be removed.
    pub fn forget(self) -> Vec<String> {
        self.folder.map(|folder| remove_folder(&folder)).unwrap_or_default()
    }
}

/// Removes the session's container and network.
pub async fn remove_engine_objects(engine: &SharedEngine, id: &SessionId) -> Vec<String> {
    let name = object_name(id);
    let container = ContainerId(name.clone());
    let mut problems = Vec::new();
    if let Err(error) = repeated(|| engine.remove(&container, true)).await {
        problems.push(format!("the container {name} could not be removed: {error}"));
    }
    if let Err(error) = repeated(|| engine.remove_network(&name)).await {
        problems.push(format!("the network {name} could not be removed: {error}"));
    }
    problems
}

/// Tries until it works, the tries are used up, or the engine is away.
async fn repeated<F>(mut attempt: impl FnMut() -> F) -> Result<(), EngineError>
where
    F: Future<Output = Result<(), EngineError>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt().await {
            // Nobody is there: more tries only make the person wait.
            outcome @ Err(EngineError::Unreachable { .. } | EngineError::Timeout { .. }) => return outcome,
            Err(_) if tries < REMOVE_TRIES => tokio::time::sleep(REMOVE_PAUSE).await,
            outcome => return outcome,
        }
    }
}

/// Removes the mount points that the session has made, or hands them over to a session that still uses them.
pub async fn remove_mount_points(store: &Store, id: &SessionId, workspace: &std::path::Path) -> Vec<String> {
    store.unmount(id, workspace).await.err().map(|error| error.to_string()).into_iter().collect()
}

/// Removes the session's folder with whatever the container has put into it.
pub fn remove_folder(folder: &SessionDir) -> Vec<String> {
    let cleared = HostIpc::open(&folder.ipc(), &folder.dead_letters(), None).and_then(|ipc| ipc.clear(CLEAR_ENTRIES));
    let gone = match cleared {
        Ok(true) | Err(_) => std::fs::remove_dir_all(folder.root()),
        Ok(false) => Err(std::io::Error::other(format!("it holds more than {CLEAR_ENTRIES} files"))),
    };
    match gone {
        Ok(()) => Vec::new(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => vec![format!(
            "the session's folder {} could not be removed ({error}); remove it by hand, with sudo if it belongs to root",
            folder.root().display()
        )],
    }
}
