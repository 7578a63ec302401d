//! `aigo serve`: the daemon that owns many sessions at once and tells of all of them.
//!
//! ```text
//!  CLI ──unix socket──┐
//!                     ├─► listen ─► api ─► manager ─► sessions (one driver task each)
//!  clients ──TCP──────┘             │         └─► store ◄── events, rows, audit
//!                                   └─► store, engine, doctor, builds
//! ```

pub mod api;
pub mod builds;
pub mod caller;
pub mod descriptors;
pub mod engine;
pub mod listen;
pub mod lock;
pub mod manager;
pub mod meter;
pub mod metrics;
pub mod refusals;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::unistd::Gid;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use api::Api;
use api::guard::Guard;
use builds::Builds;
use caller::AllowedUsers;
use listen::{Listen, Socket};
use lock::{Holder, LockError};
use manager::{MEASURE, Manager};
use refusals::Refusals;

use crate::error_chain::chain;
use crate::store::StoreError;
use crate::tcp_owner::{self, Listener};

/// How long running requests may take to end when the daemon stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long sessions that are just being brought up may take after that until another daemon can go on with them.
const RISING: Duration = Duration::from_secs(30);

/// How often the store is compared with the engine.
const RECONCILE: Duration = Duration::from_secs(60);

/// The same while the engine does not answer: what waits for it is to go on soon after its return.
const ENGINE_BACK: Duration = Duration::from_secs(5);

/// How the daemon is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// What callers by TCP must send; needed off loopback. Without one the users of this host are told apart.
    pub token: Option<Arc<SecretString>>,
    /// The unix socket for the CLI.
    pub socket: PathBuf,
    /// Its permissions.
    pub socket_mode: u32,
    /// The group that it belongs to, if not the service's.
    pub socket_group: Option<Gid>,
}

/// Why the daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Anybody on the network could use it.
    #[error("{0} can be reached by others: set a token with `token-file`, or listen on 127.0.0.1")]
    NeedsToken(SocketAddr),
    /// Another one does.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The queue of the service before cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The TCP port.
    #[error("cannot listen on {address}; choose another address with --listen")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else has the TCP port, often another person's service.
    #[error(
        "cannot listen on {address}: it is taken by {listener}; choose another port with --listen 127.0.0.1:PORT or by \
         `listen` in the configuration"
    )]
    Taken {
        /// Where.
        address: SocketAddr,
        /// Who has it.
        listener: Listener,
    },
    /// The unix socket.
    #[error("cannot listen at {}; choose another path with --socket", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A daemon that listens.
#[derive(Debug)]
pub struct Daemon {
    /// Where the API listens: the port that was chosen if 0 was asked for.
    pub address: SocketAddr,
    /// Its sessions.
    pub manager: Arc<Manager>,
    stopping: CancellationToken,
    tasks: TaskTracker,
    _socket: Socket,
    _lock: lock::DaemonLock,
}

impl Daemon {
    /// Takes the data directory, and listens.
    ///
    /// # Errors
    /// See [`ServeError`]; then nothing is left.
    pub async fn start(options: &Options, manager: Manager) -> Result<Self, ServeError> {
        if !options.listen.ip().is_loopback() && options.token.is_none() {
            return Err(ServeError::NeedsToken(options.listen));
        }
        let holder = Holder { pid: std::process::id(), since: Timestamp::now(), socket: options.socket.clone() };
        let lock = lock::take(&manager.dirs.daemon_lock(), &holder)?;
        let tcp = |source: io::Error| {
            let in_use = source.kind() == io::ErrorKind::AddrInUse;
            match in_use.then(|| tcp_owner::listener(options.listen)).flatten() {
                Some(listener) => ServeError::Taken { address: options.listen, listener },
                None => ServeError::Tcp { address: options.listen, source },
            }
        };
        let listener = TcpListener::bind(options.listen).await.map_err(tcp)?;
        let address = listener.local_addr().map_err(tcp)?;
        let (socket, unix) = Socket::bind(&options.socket, options.socket_mode, options.socket_group)
            .map_err(|source| ServeError::Socket { path: options.socket.clone(), source })?;
        let stopping = CancellationToken::new();
        let manager = Arc::new(manager);
        let builds = Builds::new(manager.engine.clone(), manager.dirs.clone(), stopping.clone());
        let tasks = TaskTracker::new();
        let api = Api::new(Arc::clone(&manager), Arc::new(builds), stopping.clone(), tasks.clone());
        let refusals = Arc::new(Refusals::default());
        let router = api::router(api, Guard { token: options.token.clone(), refusals: Arc::clone(&refusals) });
        // Before anybody is let in: who asks for a session finds it owned, and its place in the queue.
        manager.restore().await?;
        let answers = reconcile(&manager, true).await;
        let users = Arc::new(AllowedUsers::of_socket(options.socket_group));
        let listen = Listen { router, stopping: stopping.clone(), tasks: tasks.clone(), users };
        tasks.spawn(listen.clone().tcp(listener));
        tasks.spawn(listen.unix(unix));
        tasks.spawn(look_after(Arc::clone(&manager), answers, stopping.clone()));
        let (scribe, stop) = (Arc::clone(&manager), stopping.clone());
        tasks.spawn(async move { refusals.write_down(&scribe, &stop).await });
        let (watch, stop) = (Arc::clone(&manager), stopping.clone());
        tasks.spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(MEASURE)).await.is_some() {
                watch.tick();
                watch.tell_waiting(Instant::now()).await;
            }
        });
        let (measure, stop) = (Arc::clone(&manager), stopping.clone());
        tasks.spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(meter::PACE)).await.is_some() {
                if measure.count() > 0 {
                    measure.usage().await;
                }
            }
        });
        Ok(Self { address, manager, stopping, tasks, _socket: socket, _lock: lock })
    }

    /// Stops to listen, lets running requests end and sessions come up; those run on and are found by the next daemon.
    /// Returns how many they are.
    pub async fn stop(self) -> usize {
        self.manager.start_nobody();
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("{} connections did not end within {DRAIN:?}", self.tasks.len());
        }
        if tokio::time::timeout(RISING, self.manager.all_up()).await.is_err() {
            tracing::warn!(
                "some sessions were not brought up within {RISING:?}; they end, and are to be started again"
            );
        }
        self.manager.count()
    }
}

async fn forget_old(manager: &Manager) {
    let retention = manager.config().retention.clone();
    match manager.store.forget_old(retention.max_age, retention.max_size).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(
            "ended sessions that are forgotten: {count}; older than `retention.max-age`, or beyond `retention.max-size`"
        ),
        Err(error) => tracing::warn!("old sessions cannot be forgotten: {}", chain(&error)),
    }
}

/// Compares store and engine again and again; `answers` is whether the engine did so last time.
async fn look_after(manager: Arc<Manager>, mut answers: bool, stop: CancellationToken) {
    loop {
        let pause = if answers { RECONCILE } else { ENGINE_BACK };
        forget_old(&manager).await;
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        answers = reconcile(&manager, answers).await;
    }
}

/// Whether it could be done. An engine that stays away is told once.
async fn reconcile(manager: &Arc<Manager>, answered: bool) -> bool {
    match manager.reconcile().await {
        Ok(done) => {
            if !answered {
                tracing::info!("the engine answers again");
            }
            if done.adopted + done.ended > 0 {
                tracing::info!("{} sessions are gone on with, {} were ended", done.adopted, done.ended);
            }
            for problem in done.problems {
                tracing::warn!("{problem}");
            }
            true
        }
        Err(error) => {
            if answered {
                tracing::warn!("what runs cannot be compared with the store: {}", chain(&error));
            }
            false
        }
    }
}
