//! Accepting and serving connections, and ending them.
//!
//! ```text
//!   accepted ──► of a session ──► requests… ──► closed by the client, or idle for too long
//!        │             ├── drain: the running request is finished, then closed
//!        │             └── kill, or the session's grant ends: cut at once
//!        └────► of a stranger ──► one 403 ──► closed
//! ```
//! Each connection is a task of the proxy's tracker; each ends by one of these edges.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fault;
use super::grants::Grants;
use super::limits::{Limits, MAX_CLIENT_HEAD_BYTES, MAX_CLIENT_HEADERS};
use super::notice::{NoticeKind, Notices};
use super::service::{self, Caller};
use super::upstream::Handler;
use crate::stall::StallGuard;

/// Pause after an accept that failed for want of descriptors or memory: the cause needs time to go away.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What every connection needs.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) grants: Arc<Grants>,
    pub(super) handler: Handler,
    pub(super) notices: Notices,
    pub(super) limits: Limits,
    pub(super) drain: CancellationToken,
    pub(super) kill: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// Accepts until drained.
pub(super) async fn accept_loop(listener: TcpListener, shared: Arc<Shared>) {
    let in_all = Arc::new(Semaphore::new(shared.limits.connections_in_all));
    let strangers = Arc::new(Semaphore::new(shared.limits.stranger_connections));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        admit(stream, peer, &shared, &in_all, &strangers);
    }
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    in_all: &Arc<Semaphore>,
    strangers: &Arc<Semaphore>,
) {
    let limits = &shared.limits;
    // Small events must leave at once. A socket that cannot be set is dead already, and serving it finds that out.
    let _ = stream.set_nodelay(true);
    match shared.grants.find(peer.ip()) {
        Some(session) => {
            let over = |limit, whose| {
                shared.notices.tell(Some(&session.id), NoticeKind::TooManyConnections { limit, whose });
            };
            let Some(place) = session.connect(limits.connections_per_session) else {
                return over(limits.connections_per_session, "connections of one session");
            };
            let Ok(permit) = Arc::clone(in_all).try_acquire_owned() else {
                return over(limits.connections_in_all, "connections of all sessions");
            };
            let revoked = session.revoked.clone();
            let caller = Caller::Session(session);
            let serving = serve(stream, caller, limits.client_head, revoked, Arc::clone(shared));
            shared.tasks.spawn(async move {
                serving.await;
                drop((place, permit));
            });
        }
        None => {
            let Ok(permit) = Arc::clone(strangers).try_acquire_owned() else {
                let kind = NoticeKind::TooManyConnections {
                    limit: limits.stranger_connections,
                    whose: "callers without a session",
                };
                return shared.notices.tell(None, kind);
            };
            let cut = shared.kill.clone();
            let serving = serve(stream, Caller::Stranger(peer), limits.stranger_head, cut, Arc::clone(shared));
            shared.tasks.spawn(async move {
                serving.await;
                drop(permit);
            });
        }
    }
}

async fn serve(stream: TcpStream, caller: Caller, head: Duration, cut: CancellationToken, shared: Arc<Shared>) {
    let io = TokioIo::new(StallGuard::new(stream, shared.limits.write_stall));
    let keep_alive = matches!(caller, Caller::Session(_));
    let drain = shared.drain.clone();
    let caller = Arc::new(caller);
    let (from, notices) = (Arc::clone(&caller), shared.notices.clone());
    let answer = service_fn(move |request| service::answer(Arc::clone(&shared), Arc::clone(&caller), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_headers(MAX_CLIENT_HEADERS)
        .max_buf_size(MAX_CLIENT_HEAD_BYTES)
        .keep_alive(keep_alive)
        .serve_connection(io, answer);
    tokio::pin!(connection);
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            () = cut.cancelled() => return,
            () = drain.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    // Most often the client left or was idle for too long, which is nobody's fault.
                    tracing::debug!("connection ended: {error}");
                    if let (Caller::Session(session), Some(kind)) = (&*from, fault::head(&error)) {
                        notices.tell(Some(&session.id), kind);
                    }
                }
                return;
            }
        }
    }
}
