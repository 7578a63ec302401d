//! The real upstream: one client with a pool of connections, and the only place where a credential meets a request.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::access::ModelAccess;
use super::body::RequestBody;
use super::connector::{ConnectError, Connector, LazyTls, TlsRoots};
use super::headers;
use super::limits::{Limits, MAX_UPSTREAM_HEAD_BYTES, MAX_UPSTREAM_HEADERS};
use crate::error_chain::chain;

/// Below the idle limits of the load balancers in front of the API, so that we close first.
const POOL_IDLE: Duration = Duration::from_secs(55);
const POOL_SIZE: usize = 64;
/// HTTP/2 flow control: one stream alone must fill a fast line (RFC 9113's default of 64 KiB would cap it at 1 MB/s over
/// 60 ms).
const H2_STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const H2_CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
const H2_PING_EVERY: Duration = Duration::from_secs(30);
const H2_PING_ANSWER: Duration = Duration::from_secs(20);

/// Why there is no answer. Each variant is one party's fault, and says so.
#[derive(Debug, thiserror::Error)]
pub(super) enum LiveError {
    /// The container's.
    #[error("the path of this request cannot follow the path of the upstream's address")]
    BadPath,
    /// This host's.
    #[error("{0}")]
    NoRoots(String),
    /// The upstream's, or that of whoever inspects TLS on the way to it.
    #[error("{0}")]
    Untrusted(String),
    /// The upstream's, which speaks no TLS or another kind of it.
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
    /// The network's: there was no connection.
    #[error("{0}")]
    Unreachable(String),
    /// The upstream's: it was connected to.
    #[error("it broke off before it answered: {0}")]
    Broken(String),
    /// The upstream's.
    #[error("its answer is not HTTP: {0}")]
    NotHttp(String),
    /// The upstream's.
    #[error("it did not begin to answer within {}s", .0.as_secs())]
    Silent(Duration),
}

/// The upstream with its connections.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) access: ModelAccess,
    client: Client<Connector, RequestBody>,
    tls: Option<Arc<LazyTls>>,
    response_head: Duration,
}

impl Live {
    pub(super) fn new(access: ModelAccess, roots: TlsRoots, limits: &Limits) -> Self {
        let tls = access.url.is_tls().then(|| LazyTls::new(roots));
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_SIZE)
            .http1_max_headers(MAX_UPSTREAM_HEADERS)
            .http2_max_header_list_size(MAX_UPSTREAM_HEAD_BYTES)
            .http2_initial_stream_window_size(H2_STREAM_WINDOW)
            .http2_initial_connection_window_size(H2_CONNECTION_WINDOW)
            .http2_keep_alive_interval(H2_PING_EVERY)
            .http2_keep_alive_timeout(H2_PING_ANSWER)
            .build(Connector::new(tls.clone(), limits));
        Self { access, client, tls, response_head: limits.response_head }
    }

    /// Loads what the first connection will need.
    pub(super) async fn warm(&self) {
        if let Some(tls) = &self.tls {
            // A failure is kept, and told by the request that meets it.
            let _ = tls.get().await;
        }
    }

    /// Sends a request with the credential in place of the client's, and waits for the head of the answer. Dropping the
    /// future aborts the call. Redirects are not followed: hyper's client never does.
    pub(super) async fn send(&self, mut parts: Parts, body: RequestBody) -> Result<Response<Incoming>, LiveError> {
        let path = parts.uri.path_and_query().ok_or(LiveError::BadPath)?;
        parts.uri = self.access.url.join(path).map_err(|_| LiveError::BadPath)?;
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        headers::outbound(&mut parts.headers);
        self.access.credential.inject(&mut parts.headers);
        let call = self.client.request(Request::from_parts(parts, body));
        let mut response = match tokio::time::timeout(self.response_head, call).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(refine(&error)),
            Err(_) => return Err(LiveError::Silent(self.response_head)),
        };
        headers::inbound(response.headers_mut(), &self.access.credential);
        Ok(response)
    }
}

/// Finds out whose fault it is that a call has failed.
fn refine(error: &hyper_util::client::legacy::Error) -> LiveError {
    let mut cause = error.source();
    while let Some(found) = cause {
        if let Some(connect) = found.downcast_ref::<ConnectError>() {
            return match connect {
                ConnectError::Roots(reason) => LiveError::NoRoots(reason.clone()),
                ConnectError::Untrusted(reason) => LiveError::Untrusted(reason.clone()),
                ConnectError::Handshake(reason) => LiveError::Handshake(reason.clone()),
                ConnectError::Failed(_) | ConnectError::Timeout(_) => LiveError::Unreachable(connect.to_string()),
            };
        }
        if found.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return LiveError::NotHttp(chain(found));
        }
        cause = found.source();
    }
    LiveError::Broken(chain(error))
}
