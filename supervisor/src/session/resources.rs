//! What a session holds on the host and the engine, and how all of it is let go.
//!
//! ```text
//! made in this order:      folder, lock ─► row ─► ipc ─► mount points ─► network ─► proxy ─► container ─► grant
//! let go in the other one, each step by itself idempotent and tried whatever became of the others
//! ```
//!
//! Engine objects have names that follow from the session's id, so that what was being made when everything stopped is
//! found, too.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipc_protocol::dir::SafeDir;
use ipc_protocol::host::HostDirs;
use nix::errno::Errno;

use super::lock::Lock;
use super::{SessionId, doubt};
use crate::dirs::SessionDir;
use crate::engine::{ContainerId, EngineError, SharedEngine};
use crate::error_chain::chain;
use crate::failpoint::reach;
use crate::proxy::{Grant, Proxy, Traffic};
use crate::store::Store;
use crate::workspace::mountpoints::Held;

/// How long requests that run may take to end when the container is gone.
const PROXY_DRAIN: Duration = Duration::from_millis(200);
/// Entries of the IPC directory, and of the dead letters, that are removed at the end; more is an attack that is left to a
/// person.
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
    /// Its mount points there are in use.
    pub points: Held,
    /// When this process began to bring it up.
    pub launched: SystemTime,
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
        if let Some(folder) = &folder {
            let root = self.points.let_go();
            problems.extend(remove_mount_points(store, &self.id, &self.workspace, root).await);
            if doubt::is_open(folder) {
                let name = object_name(&self.id);
                problems.push(format!(
                    "the engine did not say whether it made the container or network {name}; the next start looks again"
                ));
            }
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
    pub async fn forget(self) -> Vec<String> {
        match self.folder {
            Some(folder) => remove_folder(&folder).await,
            None => Vec::new(),
        }
    }
}

/// Removes the session's container and network.
pub async fn remove_engine_objects(engine: &SharedEngine, id: &SessionId) -> Vec<String> {
    let name = object_name(id);
    let container = ContainerId(name.clone());
    let mut problems = Vec::new();
    reach("container.remove.before");
    if let Err(error) = repeated(|| engine.remove(&container, true)).await {
        problems.push(format!("the container {name} could not be removed: {error}"));
    }
    reach("container.remove.after");
    if let Err(error) = repeated(|| engine.remove_network(&name)).await {
        problems.push(format!("the network {name} could not be removed: {error}"));
    }
    reach("network.remove.after");
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
/// With the folder itself, its path does not matter.
pub async fn remove_mount_points(
    store: &Store,
    id: &SessionId,
    workspace: &Path,
    root: Option<OwnedFd>,
) -> Vec<String> {
    match store.unmount(id, workspace, root).await {
        Ok(left) if left.is_empty() => Vec::new(),
        Ok(left) => {
            let left: Vec<_> = left.iter().map(|path| path.display().to_string()).collect();
            let (left, place) = (left.join(", "), workspace.display());
            vec![format!(
                "{left} in {place} is still a mount point of a session with another data directory; a start after its \
                 end removes it"
            )]
        }
        Err(error) => vec![error.to_string()],
    }
}

/// Removes the session's folder with whatever the container has put into it. While the session is in [`doubt`], only the
/// latter. Returns what could not be removed.
pub async fn remove_folder(folder: &SessionDir) -> Vec<String> {
    let own = folder.clone();
    // Hundreds of thousands of files may be in it.
    let removed = tokio::task::spawn_blocking(move || remove_folder_now(&own)).await;
    let why = match removed {
        Ok(Ok(())) => return Vec::new(),
        Ok(Err(why)) => why,
        // It panicked, or the runtime is shutting down.
        Err(error) => error.to_string(),
    };
    let path = folder.root().display();
    vec![format!("the session's folder {path} could not be removed ({why}); remove it with: sudo rm -rf {path}")]
}

fn remove_folder_now(folder: &SessionDir) -> Result<(), String> {
    let HostDirs { mailbox, record, sent, dead_letters } = folder.ipc();
    for path in [mailbox, record, sent, dead_letters, folder.extra()] {
        match SafeDir::open(&path).and_then(|dir| dir.clear(CLEAR_ENTRIES)) {
            Ok(true) => {}
            Ok(false) => return Err(format!("{} holds more than {CLEAR_ENTRIES} files", path.display())),
            Err(error) if error.errno() == Some(Errno::ENOENT) => {}
            Err(error) => return Err(refusal(&chain(&error), error.errno())),
        }
    }
    if doubt::is_open(folder) {
        return Ok(());
    }
    reach("folder.cleared");
    match std::fs::remove_dir_all(folder.root()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refusal(&error.to_string(), error.raw_os_error().map(Errno::from_raw))),
    }
}

/// Without root we can empty our own folders only, and the agent may have become root in its container.
fn refusal(why: &str, errno: Option<Errno>) -> String {
    match errno {
        Some(Errno::EACCES | Errno::EPERM) => format!("{why}: root of the container made what is in it"),
        Some(_) | None => why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dirs::DataDir;

    fn folder() -> (tempfile::TempDir, SessionDir) {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataDir::open(Some(dir.path()), |_| None).unwrap().session(&SessionId::random());
        for path in [folder.ipc().mailbox, folder.ipc().dead_letters, folder.ipc().record] {
            std::fs::create_dir_all(path).unwrap();
        }
        (dir, folder)
    }

    /// Deeper than the usual limit of descriptors, 1024: what takes one for each level fails.
    fn deep(place: &Path) {
        let mut at = SafeDir::open(place).unwrap();
        for _ in 0..1100 {
            at = at.make_subdir("d".as_ref(), 0o700, None).unwrap();
        }
    }

    #[tokio::test]
    async fn no_tree_of_the_containers_is_too_deep() {
        let (_dir, folder) = folder();
        deep(&folder.ipc().mailbox);
        deep(&folder.ipc().dead_letters);
        deep(&folder.ipc().record);
        assert_eq!(remove_folder(&folder).await, Vec::<String>::new());
        assert!(!folder.root().exists());
    }

    #[tokio::test]
    async fn in_doubt_only_what_the_container_wrote_goes() {
        let (_dir, folder) = folder();
        std::fs::write(folder.ipc().mailbox.join("prompt"), "secret").unwrap();
        doubt::begin(&folder).unwrap();
        assert_eq!(remove_folder(&folder).await, Vec::<String>::new());
        assert!(folder.root().exists() && !folder.ipc().mailbox.join("prompt").exists());
        doubt::end(&folder);
        assert_eq!(remove_folder(&folder).await, Vec::<String>::new());
        assert!(!folder.root().exists());
    }
}
