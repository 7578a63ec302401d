//! The way from the CLI to a service on this machine: its API over its unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::agents::{AgentName, SetLimits};
use crate::request::wire::NewSession;
use crate::serve::api::PREFIX;
use crate::serve::api::agents::{Agent, NewLimits};
use crate::serve::api::queue::{Queue, Waiting};
use crate::serve::api::wire::{AuditEntry, Page};
use crate::serve::meter::Reading;
use crate::session::SessionId;

/// How long the service may take to start a session; it asks the engine a few things first.
const ANSWER: Duration = Duration::from_secs(60);
/// How long it may take for what it knows by itself.
const KNOWN: Duration = Duration::from_secs(10);
/// Bytes of an answer: some hundred for each of the most sessions that can run.
const MAX_ANSWER: usize = 8 << 20;

/// Why the service did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be reached.
    #[error("the service at {} cannot be reached", path.display())]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It did not answer, or not in HTTP.
    #[error("the service did not answer: {0}")]
    NoAnswer(String),
    /// It said no: what was asked cannot be done as it is.
    #[error("{0}")]
    Refused(String),
    /// It said no: something outside is missing.
    #[error("{0}")]
    Unavailable(String),
}

#[derive(Deserialize)]
struct Created {
    id: SessionId,
}

#[derive(Deserialize)]
struct Said {
    detail: String,
    #[serde(default)]
    errors: Vec<SaidField>,
}

#[derive(Deserialize)]
struct SaidField {
    pointer: String,
    detail: String,
}

/// Starts a session with the service whose socket is at `socket`.
///
/// # Errors
/// See [`ClientError`].
pub async fn start(socket: &Path, new: &NewSession) -> Result<SessionId, ClientError> {
    let body = serde_json::to_vec(new).map_err(|error| ClientError::NoAnswer(error.to_string()))?;
    let said = exchange(socket, Method::POST, "/sessions", body, ANSWER).await?;
    read(&said).map(|Created { id }| id)
}

/// What running sessions use.
///
/// # Errors
/// See [`ClientError`].
pub async fn usage(socket: &Path) -> Result<Reading, ClientError> {
    read(&exchange(socket, Method::GET, "/metrics", Vec::new(), KNOWN).await?)
}

/// Who waits, the next one first.
///
/// # Errors
/// See [`ClientError`].
pub async fn queue(socket: &Path) -> Result<Vec<Waiting>, ClientError> {
    read(&exchange(socket, Method::GET, "/queue", Vec::new(), KNOWN).await?).map(|Queue { items, .. }| items)
}

/// Takes a request out of the queue.
///
/// # Errors
/// See [`ClientError`]; [`ClientError::Refused`] if it does not wait any more.
pub async fn leave_queue(socket: &Path, id: &SessionId) -> Result<(), ClientError> {
    exchange(socket, Method::DELETE, &format!("/queue/{id}"), Vec::new(), KNOWN).await.map(drop)
}

/// The agents with their limits.
///
/// # Errors
/// See [`ClientError`].
pub async fn agents(socket: &Path) -> Result<Vec<Agent>, ClientError> {
    read(&exchange(socket, Method::GET, "/agents", Vec::new(), KNOWN).await?)
}

/// Sets an agent's limits: what holds now.
///
/// # Errors
/// See [`ClientError`].
pub async fn set_limits(socket: &Path, agent: &AgentName, limits: SetLimits) -> Result<Agent, ClientError> {
    let body = serde_json::to_vec(&NewLimits::from(limits));
    let body = body.map_err(|error| ClientError::NoAnswer(error.to_string()))?;
    read(&exchange(socket, Method::PUT, &format!("/agents/{agent}"), body, ANSWER).await?)
}

/// Takes back what was set of an agent's limits: what holds now.
///
/// # Errors
/// See [`ClientError`].
pub async fn reset_limits(socket: &Path, agent: &AgentName) -> Result<Agent, ClientError> {
    read(&exchange(socket, Method::DELETE, &format!("/agents/{agent}"), Vec::new(), ANSWER).await?)
}

/// The newest lines of the audit log.
///
/// # Errors
/// See [`ClientError`].
pub async fn audit(socket: &Path, lines: u32) -> Result<Vec<AuditEntry>, ClientError> {
    let said = exchange(socket, Method::GET, &format!("/audit-log?limit={lines}"), Vec::new(), KNOWN).await?;
    read(&said).map(|Page { items, .. }| items)
}

fn read<T: DeserializeOwned>(said: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(said).map_err(|error| ClientError::NoAnswer(error.to_string()))
}

impl SaidField {
    fn line(&self) -> String {
        if self.pointer.is_empty() { self.detail.clone() } else { format!("{}: {}", self.pointer, self.detail) }
    }
}

/// What the service says if it does what it is asked.
async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
    patience: Duration,
) -> Result<Bytes, ClientError> {
    let (status, text) = ask(socket, method, path, body, patience).await?;
    if status.is_success() {
        return Ok(text);
    }
    let said = match serde_json::from_slice::<Said>(&text) {
        Ok(said) if said.errors.is_empty() => said.detail,
        Ok(said) => said.errors.iter().map(SaidField::line).collect::<Vec<_>>().join("\n"),
        Err(_) => format!("the service answered {status}"),
    };
    Err(if status.is_server_error() { ClientError::Unavailable(said) } else { ClientError::Refused(said) })
}

async fn ask(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
    patience: Duration,
) -> Result<(StatusCode, Bytes), ClientError> {
    let no_answer = |error: &dyn std::error::Error| ClientError::NoAnswer(crate::error_chain::chain(error));
    let connect = |source| ClientError::Connect { path: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).await.map_err(connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| no_answer(&error))?;
    let mut request =
        Request::builder().method(method).uri(format!("{PREFIX}{path}")).header(header::HOST, "localhost");
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| no_answer(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| no_answer(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| ClientError::NoAnswer(error.to_string()))?;
        Ok((parts.status, body.to_bytes()))
    };
    tokio::select! {
        answer = tokio::time::timeout(patience, exchange) => match answer {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::NoAnswer(format!("nothing within {patience:?}"))),
        },
        // Drives the exchange; it ends first only if the service hangs up.
        ended = connection => Err(match ended {
            Ok(()) => ClientError::NoAnswer("it hung up".to_owned()),
            Err(error) => no_answer(&error),
        }),
    }
}
