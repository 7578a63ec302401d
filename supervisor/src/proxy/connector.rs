//! Connections to the upstream: TCP without delay, TLS by rustls with the host's own roots, each step bounded.
//!
//! Loading the host's roots takes tens of milliseconds, which a session's start must not wait for: it begins with the
//! proxy, on a thread of its own, and the first connection waits for whatever is left of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tower_service::Service;

use super::limits::Limits;
use crate::error_chain::chain;

/// How often an idle connection is probed, so that a dead one is noticed before a request is put on it.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Whom the proxy trusts to be the upstream.
#[derive(Clone, Debug, Default)]
pub enum TlsRoots {
    /// The host's own: its certificate store, or `SSL_CERT_FILE` and `SSL_CERT_DIR` where they are set.
    #[default]
    Native,
    /// These only.
    Given(Arc<RootCertStore>),
}

/// Why there is no connection. The texts name addresses and certificates, never a header.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot load the host's CA certificates: {0}")]
    Roots(String),
    #[error("{0}")]
    Untrusted(String),
    #[error("{0}")]
    Handshake(String),
    #[error("cannot connect: {0}")]
    Failed(String),
    #[error("no connection within {}s", .0.as_secs())]
    Timeout(Duration),
}

/// TLS settings that are made once, in the background.
#[derive(Debug)]
pub(super) struct LazyTls {
    roots: TlsRoots,
    config: OnceCell<Result<Arc<ClientConfig>, ConnectError>>,
}

impl LazyTls {
    pub(super) fn new(roots: TlsRoots) -> Arc<Self> {
        Arc::new(Self { roots, config: OnceCell::new() })
    }

    pub(super) async fn get(&self) -> Result<Arc<ClientConfig>, ConnectError> {
        let load = || async {
            let roots = self.roots.clone();
            match tokio::task::spawn_blocking(move || build_config(roots)).await {
                Ok(config) => config.map(Arc::new),
                Err(error) => Err(ConnectError::Roots(error.to_string())),
            }
        };
        self.config.get_or_init(load).await.clone()
    }
}

fn build_config(roots: TlsRoots) -> Result<ClientConfig, ConnectError> {
    // Named, not the process-wide default: another crate's choice of provider must not matter here.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Roots(error.to_string()))?;
    let builder = match roots {
        TlsRoots::Native => builder.with_native_roots().map_err(|error| ConnectError::Roots(error.to_string()))?,
        TlsRoots::Given(store) => builder.with_root_certificates(store),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Makes connections for hyper's client.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tcp: HttpConnector,
    /// `None` for a plain http upstream.
    tls: Option<Arc<LazyTls>>,
    bound: Duration,
}

impl Connector {
    pub(super) fn new(tls: Option<Arc<LazyTls>>, limits: &Limits) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_connect_timeout(Some(limits.connect));
        Self { tcp, tls, bound: limits.connect + limits.tls_handshake }
    }

    async fn connect(mut self, uri: Uri) -> Result<Stream, ConnectError> {
        match self.tls {
            None => self
                .tcp
                .call(uri)
                .await
                .map(MaybeHttpsStream::Http)
                .map_err(|error| ConnectError::Failed(chain(&error))),
            Some(tls) => {
                let config = tls.get().await?;
                let mut https = HttpsConnector::from((self.tcp, config));
                https.enforce_https();
                https.call(uri).await.map_err(|error| match of_tls(error.as_ref()) {
                    Some(refused @ rustls::Error::InvalidCertificate(_)) => {
                        ConnectError::Untrusted(refused.to_string())
                    }
                    Some(other) => ConnectError::Handshake(other.to_string()),
                    None => ConnectError::Failed(chain(error.as_ref())),
                })
            }
        }
    }
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let attempt = self.clone();
        Box::pin(async move {
            let bound = attempt.bound;
            tokio::time::timeout(bound, attempt.connect(uri)).await.unwrap_or(Err(ConnectError::Timeout(bound)))
        })
    }
}

/// The reason, if it was TLS that failed, and not the connection below. Such errors hide inside nested I/O errors, whose
/// `source` passes over what they wrap.
fn of_tls<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(error);
    }
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match wrapped {
        Some(inner) => of_tls(inner),
        None => of_tls(error.source()?),
    }
}
