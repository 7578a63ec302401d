//! What commands share: the data directory, the store, the engine.

use std::path::PathBuf;
use std::sync::Arc;

use super::args::Global;
use super::exit::CliError;
use super::say;
use crate::config::{Places, Scope};
use crate::dirs::DataDir;
use crate::engine::detect::{Choice, connect};
use crate::engine::docker::HostEnv;
use crate::engine::{EngineInfo, SharedEngine};
use crate::serve::lock::{self, Holder};
use crate::session::SessionId;
use crate::session::launch::Launcher;
use crate::store::{Claim, SessionFilter, SessionRow, Store};

/// The data directory with its store.
#[derive(Clone, Debug)]
pub struct Context {
    pub dirs: DataDir,
    pub store: Store,
    /// Marks this data directory's objects on the engine.
    pub instance: Arc<str>,
    /// The engine that was chosen.
    pub choice: Choice,
}

impl Context {
    /// Opens the data directory that the flags and the environment name.
    pub fn open(global: &Global) -> Result<Self, CliError> {
        let env = |name: &str| std::env::var(name).ok();
        let served = served_by_default();
        let folder = global.data_dir.as_deref().or(served.as_deref());
        let dirs = DataDir::open(folder, env).map_err(CliError::environment)?;
        let (store, instance, claim) = open(&dirs)?;
        if let Some(claim) = claim {
            say::aside(format_args!("warning: {}", claim.notice(dirs.root())));
        }
        Ok(Self { dirs, store, instance, choice: global.engine })
    }

    /// The service that owns the sessions of this data directory, if one runs.
    pub fn service(&self) -> Option<Holder> {
        lock::holder(&self.dirs.daemon_lock())
    }

    /// The engine, which answers and is new enough.
    pub async fn engine(&self) -> Result<(SharedEngine, EngineInfo), CliError> {
        let engine = connect(self.choice, &HostEnv::from_process()).await.map_err(CliError::environment)?;
        let info = engine.detect().await.map_err(CliError::environment)?;
        Ok((engine, info))
    }

    /// What launches sessions on that engine, and clears away what dead ones have left on it.
    pub fn launcher(&self, engine: SharedEngine, info: &EngineInfo) -> Launcher {
        Launcher {
            engine,
            store: self.store.clone(),
            dirs: self.dirs.clone(),
            instance: self.instance.clone(),
            identity: info.identity(),
        }
    }

    /// The one session that `text` is the id, or the beginning of the id, of.
    pub async fn find(&self, text: &str, filter: SessionFilter) -> Result<SessionRow, CliError> {
        let rows = self.store.sessions(filter).await.map_err(CliError::environment)?;
        let mut found = rows.into_iter().filter(|row| !text.is_empty() && row.id.as_str().starts_with(text));
        match (found.next(), found.next()) {
            (Some(row), None) => Ok(row),
            (Some(one), Some(other)) => Err(CliError::usage(anyhow::anyhow!(
                "`{text}` begins more than one session's id, such as {} and {}; give more of it",
                one.id,
                other.id
            ))),
            (None, _) => {
                let which = match filter {
                    SessionFilter::All => "no session",
                    SessionFilter::Live => "no session that runs",
                };
                Err(CliError::usage(anyhow::anyhow!("{which} has the id `{text}`; `aigo ps --all` lists them")))
            }
        }
    }

    /// Whether the process that owns the session is alive.
    pub fn is_owned(&self, id: &SessionId) -> bool {
        crate::session::lock::is_held(&self.dirs.session(id).lock())
    }
}

/// The store of a data directory, the name that marks the directory's objects on the engine, and what to say if the
/// directory turned out to be a copy.
pub fn open(dirs: &DataDir) -> Result<(Store, Arc<str>, Option<Claim>), CliError> {
    let identity = dirs.identity().map_err(CliError::environment)?;
    let (store, claim) = Store::open_as(&dirs.database(), &identity).map_err(CliError::environment)?;
    Ok((store, identity.name.into(), claim))
}

/// The data directory of the service that people of this kind have, if it runs and nobody named another one: root's own
/// folder is not the system's.
fn served_by_default() -> Option<PathBuf> {
    let places = Places::of(Scope::of_process(), &|name| std::env::var(name).ok()).ok()?;
    let dirs = DataDir::open_existing(&places.data)?;
    lock::holder(&dirs.daemon_lock()).is_some().then_some(places.data)
}
