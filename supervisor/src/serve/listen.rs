//! Where the daemon listens: TCP for the API, a unix socket for the CLI. Every connection is bounded in number, in the
//! size of its head, and in the time that a slow client may take.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Gid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::api::guard::{MAX_HEAD, Peer};
use super::caller::{AllowedUsers, Caller};
use crate::stall::StallGuard;
use crate::tcp_owner::Accepted;

/// Connections at once on each listener. Further ones wait in the listen queue until one ends, which an idle one does
/// after [`HEAD_TIME`].
const CONNECTIONS: usize = 2048;
/// How long a client may take from connecting, or from the answer before, to the end of a request's head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a client may leave bytes unread.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// Bytes that are read ahead; hyper refuses a head that needs more than twice as much. The guard holds it to [`MAX_HEAD`].
const READ_AHEAD: usize = MAX_HEAD;
/// Headers of a request.
const HEADERS: usize = 64;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves connections until told to stop, then lets the running requests end.
#[derive(Clone, Debug)]
pub struct Listen {
    /// What is served.
    pub router: Router,
    /// Cancelled at the end.
    pub stopping: CancellationToken,
    /// Every connection.
    pub tasks: TaskTracker,
    /// Who may use it by TCP on this host.
    pub users: Arc<AllowedUsers>,
}

/// A connection of which it is not known yet who is at its other end.
#[derive(Debug)]
enum Arrival {
    /// By TCP; the error says that the client has gone.
    Tcp(SocketAddr, io::Result<Accepted>),
    /// By the unix socket, from this user.
    Unix(u32),
}

impl Listen {
    /// Accepts by TCP.
    pub async fn tcp(self, listener: TcpListener) {
        let poll = move |cx: &mut Context<'_>| {
            listener.poll_accept(cx).map_ok(|(stream, address)| {
                // Small events must leave at once. A socket that cannot be set is dead already.
                let _ = stream.set_nodelay(true);
                let accepted = Accepted::of(&stream);
                (stream, Arrival::Tcp(address, accepted))
            })
        };
        self.accept(poll).await;
    }

    /// Accepts by the unix socket.
    pub async fn unix(self, listener: UnixListener) {
        let poll = move |cx: &mut Context<'_>| {
            listener.poll_accept(cx).map_ok(|(stream, _)| {
                // Whoever left before we could ask is nobody; the connection ends by itself.
                let uid = stream.peer_cred().map_or(u32::MAX, |cred| cred.uid());
                (stream, Arrival::Unix(uid))
            })
        };
        self.accept(poll).await;
    }

    async fn accept<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(S, Arrival)>>,
    ) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = self.stopping.cancelled() => return,
                accepted = poll_fn(&mut poll) => accepted,
            };
            match accepted {
                Ok((stream, arrival)) => {
                    let listen = self.clone();
                    self.tasks.spawn(async move {
                        // First of all: a client may hang up at any time, and is nobody then.
                        let peer = listen.identify(arrival).await;
                        listen.serve(stream, peer).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn identify(&self, arrival: Arrival) -> Peer {
        match arrival {
            Arrival::Unix(uid) => Peer::Unix(uid),
            Arrival::Tcp(address, Ok(accepted)) => Peer::Tcp(address, self.users.identify(accepted).await),
            Arrival::Tcp(address, Err(error)) => {
                Peer::Tcp(address, Caller::Unknown(format!("the connection from {address} broke off: {error}").into()))
            }
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S, peer: Peer) {
        let Self { router, stopping, tasks: _, users: _ } = self;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            router.clone().oneshot(request.map(Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_headers(HEADERS)
            .max_buf_size(READ_AHEAD)
            .serve_connection(TokioIo::new(StallGuard::new(stream, WRITE_STALL)), service);
        tokio::pin!(connection);
        let mut draining = false;
        loop {
            tokio::select! {
                () = stopping.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!("connection ended: {error}");
                    }
                    return;
                }
            }
        }
    }
}

/// The unix socket, removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`, for the user (and group) that `mode` says. A socket that lies there, and that nobody serves, is
    /// of a daemon that has ended.
    ///
    /// # Errors
    /// When it cannot be made, somebody serves it, or something else lies there.
    pub fn bind(path: &Path, mode: u32, group: Option<Gid>) -> io::Result<(Self, UnixListener)> {
        match path.symlink_metadata() {
            Ok(meta) if meta.file_type().is_socket() => match std::os::unix::net::UnixStream::connect(path) {
                Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another service listens there")),
                Err(_) => std::fs::remove_file(path)?,
            },
            Ok(_) => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket lies there"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if let Some(folder) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        // For nobody else until its group and mode are set.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound?;
        let socket = Self { path: path.to_owned() };
        if group.is_some() {
            nix::unistd::chown(path, None, group)?;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        Ok((socket, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
