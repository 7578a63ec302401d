//! A model API to test against, and clients that do what clients should not.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use supervisor::proxy::{
    Credential, CredentialKind, Grant, Limits, LiveUpstream, ModelAccess, NOTICE_QUEUE, Notice, Proxy, ProxyConfig,
    TlsRoots, Upstream, UpstreamUrl,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The secret of these tests: whatever shows it has leaked it.
pub const MARKED: &str = "sk-ant-MARKED-0123456789";
/// Nothing here takes this long unless it hangs.
pub const SOON: Duration = Duration::from_secs(10);

pub type StubBody = UnsyncBoxBody<Bytes, std::io::Error>;
type Handler = Arc<dyn Fn(Parts, Incoming) -> Pin<Box<dyn Future<Output = Response<StubBody>> + Send>> + Send + Sync>;

pub async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(SOON, what).await.expect("did not happen in time")
}

pub fn body(text: impl Into<Bytes>) -> StubBody {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

pub fn reply(status: u16, headers: &[(&str, &str)], text: impl Into<Bytes>) -> Response<StubBody> {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body(text)).unwrap()
}

/// A body that the test feeds by hand; an error cuts the stream.
pub fn fed() -> (mpsc::Sender<Result<Bytes, std::io::Error>>, StubBody) {
    let (feed, mut fed) = mpsc::channel::<Result<Bytes, std::io::Error>>(16);
    let stream =
        futures_util::stream::poll_fn(move |cx| fed.poll_recv(cx).map(|item| item.map(|r| r.map(Frame::data))));
    (feed, BodyExt::boxed_unsync(StreamBody::new(stream)))
}

/// What the upstream got to see.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A model API on loopback.
pub struct Stub {
    pub addr: SocketAddr,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    pub connections: Arc<AtomicUsize>,
    pub roots: TlsRoots,
    /// The CA's certificate (DER), where there is TLS.
    pub ca: Option<Vec<u8>>,
    task: JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stub {
    /// Answers by a function that reads the body itself.
    pub async fn raw<F, R>(handler: F) -> Self
    where
        F: Fn(Parts, Incoming) -> R + Send + Sync + 'static,
        R: Future<Output = Response<StubBody>> + Send + 'static,
    {
        Self::start(Arc::new(move |parts, body| Box::pin(handler(parts, body))), Arc::default(), None).await
    }

    /// Notes each request whole and answers by a function.
    pub async fn noting(answer: impl Fn(&Seen) -> Response<StubBody> + Send + Sync + 'static) -> Self {
        Self::noting_with(None, answer).await
    }

    /// The same with TLS for `localhost`, offering these protocols.
    pub async fn noting_tls(
        alpn: &[&str],
        answer: impl Fn(&Seen) -> Response<StubBody> + Send + Sync + 'static,
    ) -> Self {
        Self::noting_with(Some(alpn.iter().map(|name| name.as_bytes().to_vec()).collect()), answer).await
    }

    async fn noting_with(
        alpn: Option<Vec<Vec<u8>>>,
        answer: impl Fn(&Seen) -> Response<StubBody> + Send + Sync + 'static,
    ) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let notes = Arc::clone(&seen);
        let answer = Arc::new(answer);
        let handler: Handler = Arc::new(move |parts, body| {
            let (notes, answer) = (Arc::clone(&notes), Arc::clone(&answer));
            Box::pin(async move {
                let body = body.collect().await.map(|all| all.to_bytes()).unwrap_or_default();
                let line = format!("{} {}", parts.method, parts.uri);
                let seen = Seen { line, headers: parts.headers, body };
                let response = answer(&seen);
                notes.lock().unwrap().push(seen);
                response
            })
        });
        Self::start(handler, seen, alpn).await
    }

    async fn start(handler: Handler, seen: Arc<Mutex<Vec<Seen>>>, alpn: Option<Vec<Vec<u8>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let tls = alpn.map(certificate);
        let roots = tls.as_ref().map_or(TlsRoots::Native, |(_, roots, _)| roots.clone());
        let ca = tls.as_ref().map(|(_, _, ca)| ca.clone());
        let acceptor = tls.map(|(acceptor, _, _)| acceptor);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let handler = Arc::clone(&handler);
                let acceptor = acceptor.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let (parts, body) = request.into_parts();
                    let answer = handler(parts, body);
                    async move { Ok::<_, std::convert::Infallible>(answer.await) }
                });
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = match acceptor {
                        None => server.serve_connection(TokioIo::new(stream), service).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
                            Err(_) => Ok(()),
                        },
                    };
                });
            }
        });
        Self { addr, seen, connections, roots, ca, task }
    }

    pub fn url(&self) -> String {
        if self.ca.is_some() {
            format!("https://localhost:{}", self.addr.port())
        } else {
            format!("http://{}", self.addr)
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn upstream(&self) -> LiveUpstream {
        self.upstream_as(CredentialKind::ApiKey, "")
    }

    pub fn upstream_as(&self, kind: CredentialKind, prefix: &str) -> LiveUpstream {
        let url = UpstreamUrl::parse(&format!("{}{prefix}", self.url()), false).unwrap();
        let credential = Credential::new(kind, MARKED.to_owned()).unwrap();
        LiveUpstream { access: ModelAccess::new(url, credential), roots: self.roots.clone() }
    }
}

fn certificate(alpn: Vec<Vec<u8>>) -> (tokio_rustls::TlsAcceptor, TlsRoots, Vec<u8>) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let mut store = rustls::RootCertStore::empty();
    store.add(ca_certificate.der().clone()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn;
    let ca = ca_certificate.der().to_vec();
    (tokio_rustls::TlsAcceptor::from(Arc::new(config)), TlsRoots::Given(Arc::new(store)), ca)
}

/// A proxy with one session, `s1`, at 127.0.0.1.
pub struct Rig {
    pub proxy: Proxy,
    pub grant: Grant,
    pub notices: mpsc::Receiver<Notice>,
}

impl Rig {
    pub async fn live(stub: &Stub) -> Self {
        Self::start(Upstream::Live(stub.upstream())).await
    }

    pub async fn start(upstream: Upstream) -> Self {
        Self::start_with(upstream, Limits::default()).await
    }

    pub async fn start_with(upstream: Upstream, limits: Limits) -> Self {
        let (sender, notices) = mpsc::channel(NOTICE_QUEUE);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(ProxyConfig { listener, upstream, notices: sender, limits }).await.unwrap();
        let grant = proxy.grant("127.0.0.1".parse().unwrap(), "s1").unwrap();
        Self { proxy, grant, notices }
    }

    pub fn addr(&self) -> SocketAddr {
        self.proxy.local_addr()
    }

    pub async fn send(&self, request: Request<StubBody>) -> Response<Incoming> {
        send(self.addr(), request).await
    }

    /// One model request, answered whole.
    pub async fn ask(&self, json: &'static str) -> (http::response::Parts, String) {
        whole(self.send(message(json)).await).await
    }

    /// The next notice's sentence.
    pub async fn notice(&mut self) -> String {
        soon(self.notices.recv()).await.expect("proxy is gone").kind.to_string()
    }
}

pub fn message(json: &'static str) -> Request<StubBody> {
    Request::post("/v1/messages?beta=true")
        .header("host", "host-gateway:3001")
        .header("x-api-key", "CREDENTIAL_PROXY_PLACEHOLDER")
        .header("content-type", "application/json")
        .header("accept-encoding", "gzip, br")
        .body(body(json))
        .unwrap()
}

/// Sends on a connection of its own.
pub async fn send(to: SocketAddr, request: Request<StubBody>) -> Response<Incoming> {
    send_over(TcpStream::connect(to).await.unwrap(), request).await.expect("no answer")
}

/// Sends on this connection, with a Host header if the request has none.
pub async fn send_over(stream: TcpStream, mut request: Request<StubBody>) -> hyper::Result<Response<Incoming>> {
    request.headers_mut().entry(http::header::HOST).or_insert(http::HeaderValue::from_static("host-gateway:3001"));
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    soon(sender.send_request(request)).await
}

/// A connection from another loopback address: nobody's session.
pub async fn connect_from(ip: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

pub async fn whole(response: Response<Incoming>) -> (http::response::Parts, String) {
    let (parts, body) = response.into_parts();
    let bytes = soon(body.collect()).await.expect("answer broke off").to_bytes();
    (parts, String::from_utf8(bytes.to_vec()).unwrap())
}

/// Writes bytes as they are, and reads all that comes until the proxy closes or is silent for half a second.
pub async fn raw(to: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let _ = stream.write_all(request.as_bytes()).await;
    read_out(&mut stream).await
}

pub async fn read_out(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    let mut buffer = [0_u8; 16 * 1024];
    while let Ok(Ok(count)) = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut buffer)).await {
        if count == 0 {
            break;
        }
        got.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&got).into_owned()
}
