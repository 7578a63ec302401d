//! The credential proxy: the one way from a container to the model API.
//!
//! An agent holds a placeholder and a base URL. Its requests come here in plain HTTP/1.1 over the engine's network; here
//! the caller is matched to a session, whatever it sent as a credential is taken off, the real one is put on, and the
//! request goes on by TLS (HTTP/1.1 or 2) to the one configured upstream. Bodies stream through in both directions.
//!
//! ```text
//!   agent ──http──► accept ─► caller? ─► route? ─► headers out ─► credential ──TLS──► upstream
//!                     │         │           │                          ▲                 │
//!                     │       403+notice 400/404                the only place       headers in
//!                     │                                         that holds it   (no echo, no hop-by-hop)
//!                     ◄───────────── body, frame by frame ◄──── counters, recording ◄────┘
//! ```
//! Instead of an upstream there can be a script ([`Script`]): then no credential exists at all.
//!
//! What never happens: the target is taken from the request (Host, absolute-form, redirects), a body is held back, or a
//! wait goes without a bound ([`Limits`]).

mod access;
mod body;
mod connector;
mod credential;
mod explain;
mod fault;
mod grants;
mod headers;
mod limits;
mod live;
mod notice;
mod record;
mod replay;
mod reply;
mod route;
mod server;
mod service;
mod tokens;
mod traffic;
mod upstream;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use access::{AccessError, DEFAULT_BASE_URL, ModelAccess, UpstreamUrl};
pub use connector::TlsRoots;
pub use credential::{Credential, CredentialError, CredentialKind, PLACEHOLDER};
pub use grants::{AddressTaken, Grant};
pub use limits::Limits;
pub use notice::{NOTICE_QUEUE, Notice, NoticeKind};
pub use record::{RecordError, Recorder};
pub use replay::{ReplaySpeed, Script, ScriptError};
pub use tokens::TokenCounts;
pub use traffic::{Traffic, Usage};
pub use upstream::{LiveUpstream, Upstream};

use grants::Grants;
use notice::Notices;
use server::Shared;
use upstream::Handler;

/// The port that containers are told.
pub const DEFAULT_PORT: u16 = 3001;
/// Answers `ok` to callers with a grant: the preflight from inside a container.
pub const HEALTH_PATH: &str = "/aigo/health";

/// After the drain deadline connections are cut, which needs no waiting but for the scheduler.
const CUT_TIME: Duration = Duration::from_secs(1);

/// What a proxy is started with.
#[derive(Debug)]
pub struct ProxyConfig {
    /// Listens on one address, usually the gateway of the containers' network.
    pub listener: TcpListener,
    /// Where answers come from.
    pub upstream: Upstream,
    /// Who hears about refusals and failures; make it with [`NOTICE_QUEUE`] places.
    pub notices: mpsc::Sender<Notice>,
    /// Bounds; [`Limits::default`] is right except in tests.
    pub limits: Limits,
}

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "refusing to let the credential proxy listen on all addresses ({0}): name the address of the containers' network"
    )]
    AllAddresses(SocketAddr),
    #[error(
        "cannot start the credential proxy on {0}: the port is taken, by another aigo or another program; \
         choose another one with --proxy-port"
    )]
    Taken(SocketAddr),
    #[error("cannot start the credential proxy on {0}: this host has no such address, is the containers' network up?")]
    NoSuchAddress(SocketAddr),
    #[error("cannot start the credential proxy on {addr}")]
    Bind {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the credential proxy's own address cannot be told")]
    Address(#[source] io::Error),
    #[error("the upstream {0} is the credential proxy itself: set ANTHROPIC_BASE_URL to the real one")]
    Recursion(SocketAddr),
}

impl StartError {
    /// Why `addr` cannot be listened on.
    #[must_use]
    pub fn listening(addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => StartError::Taken(addr),
            io::ErrorKind::AddrNotAvailable => StartError::NoSuchAddress(addr),
            _ => StartError::Bind { addr, source },
        }
    }
}

/// A running proxy. Dropping it cuts all connections; [`Proxy::shutdown`] ends it in order.
#[derive(Debug)]
pub struct Proxy {
    local: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts to answer. Takes well below a millisecond; the host's CA certificates are loaded meanwhile.
    ///
    /// # Errors
    /// When it listens on all addresses, or the upstream is this very proxy.
    pub async fn start(config: ProxyConfig) -> Result<Self, StartError> {
        let ProxyConfig { listener, upstream, notices, limits } = config;
        let local = listener.local_addr().map_err(StartError::Address)?;
        if local.ip().is_unspecified() {
            return Err(StartError::AllAddresses(local));
        }
        let shared = Arc::new(Shared {
            grants: Arc::new(Grants::default()),
            handler: Handler::new(upstream, &limits),
            notices: Notices::new(notices),
            limits,
            drain: CancellationToken::new(),
            kill: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        if let Some(live) = shared.handler.live() {
            let url = &live.access.url;
            let host = url.host().trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            if host.is_ok_and(|ip| ip == local.ip()) && url.port() == local.port() {
                return Err(StartError::Recursion(local));
            }
            let warming = Arc::clone(&shared);
            shared.tasks.spawn(async move {
                if let Some(live) = warming.handler.live() {
                    live.warm().await;
                }
            });
        }
        shared.tasks.spawn(server::accept_loop(listener, Arc::clone(&shared)));
        Ok(Self { local, shared })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Lets a session use the proxy from an address, until the grant is dropped. Grant before the container starts:
    /// connections are matched when they are accepted.
    ///
    /// # Errors
    /// When the address has a session already.
    pub fn grant(&self, ip: IpAddr, session: impl Into<String>) -> Result<Grant, AddressTaken> {
        self.shared.grants.grant(ip, session.into(), &self.shared.kill)
    }

    /// Stops to listen, lets running requests finish within `grace`, then cuts them. Returns how many connections were
    /// cut.
    pub async fn shutdown(self, grace: Duration) -> usize {
        let tasks = &self.shared.tasks;
        self.shared.drain.cancel();
        tasks.close();
        if tokio::time::timeout(grace, tasks.wait()).await.is_ok() {
            return 0;
        }
        let cut = tasks.len();
        self.shared.kill.cancel();
        if tokio::time::timeout(CUT_TIME, tasks.wait()).await.is_err() {
            tracing::warn!("{} connections of the credential proxy did not end", tasks.len());
        }
        cut
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.drain.cancel();
        self.shared.kill.cancel();
    }
}
