//! How other processes reach a session's owner: one JSON line each way over a unix socket in the session's folder.
//!
//! The folder is 0700, so only the same user (and root) can connect. Requests are bounded in size, number and time. What is
//! asked of a service's session here is written into the audit log before it is answered, see [`Scribe`].

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_protocol::limits::MAX_INPUT_TEXT_BYTES;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::SessionId;
use crate::store::{Decision, NewAudit, Store, socket_actor};

/// How long the owner may take to answer: the disk may be slow, or an agent may talk faster than can be stored.
const ANSWER: Duration = Duration::from_secs(10);
/// Said of a session whose owner takes no more requests.
pub const HAS_ENDED: &str = "the session has ended";
/// How long a client may take to say what it wants.
const ASK: Duration = Duration::from_secs(5);
/// What the agent may take to finish when whoever started its session has gone.
const HELD_GRACE: Duration = Duration::from_secs(5);
/// Clients at once; further ones wait in the listen queue.
const CLIENTS: usize = 16;
/// How long those who have asked for something may take to be answered when the session has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// JSON makes at most six bytes of one.
const MAX_REQUEST: u64 = 6 * MAX_INPUT_TEXT_BYTES as u64 + 1024;

/// What another process wants of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// A message for the agent.
    Message {
        /// What it says.
        text: String,
    },
    /// A person came or went: while one is there, silence does not end the session.
    Attached {
        /// Whether one is there.
        attached: bool,
    },
    /// Stop the turn.
    Interrupt {},
    /// End gracefully, then by force.
    Close {
        /// Milliseconds between the two.
        grace_ms: u64,
        /// Stop the turn first.
        #[serde(default)]
        interrupt: bool,
        /// Who, in words.
        by: String,
    },
    /// Only [`hold`] sends it: end gracefully when the line breaks off.
    Hold {},
    /// End now.
    Cancel {
        /// Who, in words.
        by: String,
    },
}

impl Request {
    /// What it is called in the audit log; none for what changes nothing of the session.
    fn action(&self) -> Option<&'static str> {
        match self {
            Self::Message { .. } => Some("session.message"),
            Self::Interrupt {} => Some("session.interrupt"),
            Self::Close { .. } => Some("session.close"),
            Self::Cancel { .. } => Some("session.cancel"),
            Self::Attached { .. } | Self::Hold {} => None,
        }
    }

    /// On whose behalf, in words of the caller.
    fn on_behalf(&self) -> Option<&str> {
        match self {
            Self::Close { by, .. } | Self::Cancel { by } => Some(by),
            Self::Message { .. } | Self::Interrupt {} | Self::Attached { .. } | Self::Hold {} => None,
        }
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// It was taken.
    pub ok: bool,
    /// The id of the message that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// It was not refused: the owner had no time for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<Busy>,
}

/// What becomes of a request for which the owner had no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Busy {
    /// The owner has it, and carries it out later.
    Later,
    /// The owner did not get it.
    Never,
}

impl Answer {
    /// It was taken.
    pub fn taken(id: Option<String>) -> Self {
        Self { ok: true, id, error: None, busy: None }
    }

    /// It was refused.
    pub fn refused(why: impl Into<String>) -> Self {
        Self { ok: false, id: None, error: Some(why.into()), busy: None }
    }

    /// For the audit log: what is carried out later was not denied.
    pub fn decision(&self) -> Decision {
        match self.ok || self.busy == Some(Busy::Later) {
            true => Decision::Allowed,
            false => Decision::Denied,
        }
    }

    fn busy(busy: Busy) -> Self {
        let seconds = ANSWER.as_secs();
        let why = match busy {
            Busy::Later => format!(
                "the session's owner is busy and has not answered within {seconds} s; it has the request in its queue, and \
                 carries it out"
            ),
            Busy::Never => {
                format!("the session's owner is busy: nothing was taken from its full queue in {seconds} s; try again")
            }
        };
        Self { busy: Some(busy), ..Self::refused(why) }
    }
}

/// A request on its way to the driver.
#[derive(Debug)]
pub struct Pending {
    /// What is wanted.
    pub request: Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// Why a session cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("the session's owner cannot be reached at {}; it may just have ended", path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No answer, or none that makes sense.
    #[error("the session's owner gave no answer that can be read")]
    NoAnswer,
}

/// Socket addresses are limited to 108 bytes (unix(7)), paths are not: the folder is opened and named by its descriptor.
fn short_address(path: &Path) -> io::Result<(std::fs::File, PathBuf)> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default();
    let folder = std::fs::File::open(folder)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok((folder, short))
}

/// Writes what a session is asked for by its control socket into the audit log, if a service owns it. What a person's own
/// `aigo run` owns is that person's alone, and has no audit log.
#[derive(Clone, Debug)]
pub struct Scribe {
    /// Where the log is.
    pub store: Store,
    /// The session.
    pub session: SessionId,
}

impl Scribe {
    async fn note(&self, uid: u32, action: &'static str, by: Option<String>, answer: &Answer) {
        let decision = answer.decision();
        let reasons = by.into_iter().chain(answer.error.clone()).collect();
        let line =
            NewAudit { actor: socket_actor(uid), action, session: Some(self.session.clone()), decision, reasons };
        self.store.note(line).await;
    }
}

/// A control socket that is served, until this is dropped.
#[derive(Debug)]
pub struct Control {
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

impl Control {
    /// Stops to listen, and answers those who have asked for something: what was carried out is in the audit log then.
    pub async fn end(mut self) {
        self.stopping.cancel();
        if tokio::time::timeout(LAST_ANSWERS, &mut self.task).await.is_err() {
            tracing::warn!("requests to a session that has ended were not answered within {LAST_ANSWERS:?}");
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens at `path`; `scribe` writes down what is asked.
pub fn listen(path: &Path, pending: mpsc::Sender<Pending>, scribe: Option<Scribe>) -> io::Result<Control> {
    let (folder, short) = short_address(path)?;
    let listener = UnixListener::bind(short)?;
    let stopping = CancellationToken::new();
    let asked = Asked { pending, scribe, stopping: stopping.clone() };
    let task = tokio::spawn(async move {
        let _folder = folder;
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                () = asked.stopping.cancelled() => break,
                accepted = listener.accept(), if clients.len() < CLIENTS => match accepted {
                    Ok((stream, _)) => {
                        clients.spawn(asked.clone().serve(stream));
                    }
                    // Out of descriptors: wait for clients to go instead of spinning.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                },
                Some(_) = clients.join_next(), if !clients.is_empty() => {}
            }
        }
        while clients.join_next().await.is_some() {}
    });
    Ok(Control { stopping, task })
}

/// What clients ask, and who answers.
#[derive(Clone, Debug)]
struct Asked {
    pending: mpsc::Sender<Pending>,
    scribe: Option<Scribe>,
    /// The session has ended.
    stopping: CancellationToken,
}

impl Asked {
    async fn serve(self, mut stream: UnixStream) {
        let peer = stream.peer_cred().ok();
        let mut held = false;
        let asked = tokio::time::timeout(ASK, read_line::<Request>(&mut stream, MAX_REQUEST));
        let answer = match self.stopping.run_until_cancelled(asked).await {
            Some(Ok(Ok(request))) => {
                held = request == Request::Hold {};
                self.answer(request, peer).await
            }
            Some(Ok(Err(error))) => Answer::refused(format!("the request cannot be read: {error}")),
            Some(Err(_)) => Answer::refused("the request took too long"),
            None => Answer::refused(HAS_ENDED),
        };
        let mut line = serde_json::to_vec(&answer).unwrap_or_default();
        line.push(b'\n');
        // A client that left does not want the answer.
        let _ = tokio::time::timeout(ASK, stream.write_all(&line)).await;
        if held && self.stopping.run_until_cancelled(until_closed(&mut stream)).await.is_some() {
            let by = "the end of the aigo that it was started by".to_owned();
            let grace_ms = u64::try_from(HELD_GRACE.as_millis()).unwrap_or(u64::MAX);
            self.answer(Request::Close { grace_ms, interrupt: false, by }, peer).await;
        }
    }

    /// Passes a request on, and writes down what became of it.
    async fn answer(&self, request: Request, peer: Option<UCred>) -> Answer {
        let action = request.action();
        let by = request.on_behalf().map(|by| format!("by {by}"));
        let answer = pass_on(request, &self.pending).await;
        // What this process itself passes on was asked of its API, which writes it down.
        let ours = i32::try_from(std::process::id()).ok();
        let from_here = peer.is_some_and(|peer| peer.pid().is_some() && peer.pid() == ours);
        if let (Some(scribe), Some(action), false) = (&self.scribe, action, from_here) {
            // Whoever cannot be asked after is nobody.
            scribe.note(peer.map_or(u32::MAX, |peer| peer.uid()), action, by, &answer).await;
        }
        answer
    }
}

/// Holds the line to the owner of the session whose socket is at `path`: when it breaks off, the session is closed.
///
/// # Errors
/// When the owner cannot be reached.
pub async fn hold(path: &Path) -> io::Result<UnixStream> {
    let (_folder, short) = short_address(path)?;
    let mut stream = UnixStream::connect(short).await?;
    let mut line = serde_json::to_vec(&Request::Hold {}).unwrap_or_default();
    line.push(b'\n');
    stream.write_all(&line).await?;
    Ok(stream)
}

/// Until the other side has gone. What it says meanwhile does not matter.
pub async fn until_closed(stream: &mut UnixStream) {
    let mut buffer = [0; 256];
    while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {}
}

/// Asks the driver behind `pending`.
pub(super) async fn pass_on(request: Request, pending: &mpsc::Sender<Pending>) -> Answer {
    let (answer, result) = oneshot::channel();
    match pending.send_timeout(Pending { request, answer }, ANSWER).await {
        Ok(()) => {}
        Err(SendTimeoutError::Closed(_)) => return Answer::refused(HAS_ENDED),
        Err(SendTimeoutError::Timeout(_)) => return Answer::busy(Busy::Never),
    }
    match tokio::time::timeout(ANSWER, result).await {
        Ok(Ok(answer)) => answer,
        // The owner let go of the request unanswered: it had no more use for any.
        Ok(Err(_)) => Answer::refused(HAS_ENDED),
        Err(_) => Answer::busy(Busy::Later),
    }
}

/// Asks the owner of the session whose socket is at `path`.
pub async fn ask(path: &Path, request: &Request) -> Result<Answer, ControlError> {
    let connect = |source| ControlError::Connect { path: path.to_owned(), source };
    let (_folder, short) = short_address(path).map_err(connect)?;
    let mut stream = UnixStream::connect(short).await.map_err(connect)?;
    let mut line = serde_json::to_vec(request).unwrap_or_default();
    line.push(b'\n');
    let exchange = async {
        stream.write_all(&line).await?;
        read_line::<Answer>(&mut stream, MAX_REQUEST).await
    };
    match tokio::time::timeout(ASK + 2 * ANSWER, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(ControlError::NoAnswer),
    }
}

async fn read_line<T: serde::de::DeserializeOwned>(stream: &mut UnixStream, max: u64) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(stream.take(max)).read_until(b'\n', &mut line).await?;
    serde_json::from_slice(&line).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_reaches_the_owner_even_in_a_deep_folder() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("control");
        let (pending, mut requests) = mpsc::channel(1);
        let server = listen(&path, pending, None).unwrap();
        let owner = tokio::spawn(async move {
            let Pending { request, answer } = requests.recv().await.unwrap();
            answer.send(Answer::taken(Some("m".into()))).unwrap();
            request
        });
        let request = Request::Message { text: "hé".into() };
        assert_eq!(ask(&path, &request).await.unwrap(), Answer::taken(Some("m".into())));
        assert_eq!(owner.await.unwrap(), request);
        server.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_owner_is_not_one_that_has_ended() {
        let (pending, mut requests) = mpsc::channel(1);
        let said = pass_on(Request::Interrupt {}, &pending).await;
        assert!(said.busy == Some(Busy::Later) && said.error.unwrap().contains("has the request"));
        let said = pass_on(Request::Interrupt {}, &pending).await;
        assert!(said.busy == Some(Busy::Never) && said.error.unwrap().contains("full"));
        drop(requests.recv().await);
        let owner = tokio::spawn(async move { drop(requests.recv().await) });
        assert_eq!(pass_on(Request::Interrupt {}, &pending).await, Answer::refused(HAS_ENDED));
        owner.await.unwrap();
        assert_eq!(pass_on(Request::Interrupt {}, &pending).await, Answer::refused(HAS_ENDED));
    }

    #[tokio::test]
    async fn nonsense_is_refused_and_an_absent_owner_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        assert!(matches!(ask(&path, &Request::Interrupt {}).await, Err(ControlError::Connect { .. })));
        let (pending, _requests) = mpsc::channel(1);
        let server = listen(&path, pending, None).unwrap();
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"{\"op\":\"explode\"}\n").await.unwrap();
        let answer: Answer = read_line(&mut stream, 1000).await.unwrap();
        assert!(!answer.ok && answer.error.unwrap().contains("explode"));
        server.end().await;
    }
}
