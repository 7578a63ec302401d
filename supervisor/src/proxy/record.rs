//! Recording: every exchange with the model API as one line of a JSON Lines file that [`Script`](super::Script) replays.
//!
//! ```text
//!   begin ──► head of the answer ──► chunks… ──► complete
//!     │                                 ├──────► upstream_cut   the upstream broke off
//!     └─────────────────────────────────┴──────► client_left    the agent broke off, e.g. an interrupt
//! ```
//! A line is written in the moment in which its exchange ends, however it ends. The credential is masked wherever it
//! occurs, of the headers only a short list is kept, and the file is readable by its owner only: it still holds the whole
//! conversation.

mod wire;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use nix::libc;
use tokio::time::Instant;

use super::body::{BodyError, Copy, OutBody};
use super::credential::Credential;
use super::notice::{NoticeKind, Notices};

pub(super) use wire::{Chunk, ChunkBytes, End, Exchange, RecordedBody, RecordedRequest, RecordedResponse};

/// Only the owner may read what an agent was told.
const FILE_MODE: u32 = 0o600;
/// Request headers that say how to read the body, and who asked.
const REQUEST_HEADERS: [&str; 5] = ["anthropic-version", "anthropic-beta", "content-type", "user-agent", "x-app"];
/// Response headers that the agent acts on.
const RESPONSE_HEADERS: [&str; 5] = ["content-type", "content-encoding", "request-id", "retry-after", "x-should-retry"];
/// Limits, without organisation or account.
const RESPONSE_PREFIX: &str = "anthropic-ratelimit-";

/// Why a recording cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the recording {} exists already: name another file, or allow overwriting it", .0.display())]
    Exists(PathBuf),
    #[error("cannot create the recording {}", path.display())]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// An open recording.
#[derive(Clone, Debug)]
pub struct Recorder {
    path: Arc<Path>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    path: Arc<Path>,
    /// `None` after a failed write: half a line must not be followed by others.
    file: Option<File>,
    next: u64,
    /// Somebody's older file stays, even emptied.
    is_new: bool,
}

/// A file without an exchange says nothing, and would be in the way of the next attempt: a session that could not start
/// takes it away again.
impl Drop for State {
    fn drop(&mut self) {
        if self.is_new && self.next == 0 && self.file.is_some() {
            // What cannot be removed is an empty file.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Recorder {
    /// Creates the file with mode 0600. An existing one is kept unless `overwrite`; a symbolic link is never followed.
    ///
    /// # Errors
    /// When the file exists, or cannot be created.
    pub fn create(path: impl Into<PathBuf>, overwrite: bool) -> Result<Self, RecordError> {
        let path = path.into();
        let mut options = OpenOptions::new();
        options.write(true).mode(FILE_MODE).custom_flags(libc::O_NOFOLLOW);
        if overwrite {
            options.create(true);
        } else {
            options.create_new(true);
        }
        let prepared = options.open(&path).and_then(|file| {
            // An older file keeps its mode over the open: first its readers go, then its content, then ours comes.
            file.set_permissions(std::fs::Permissions::from_mode(FILE_MODE))?;
            file.set_len(0)?;
            Ok(file)
        });
        match prepared {
            Ok(file) => {
                let path: Arc<Path> = path.into();
                let state =
                    Mutex::new(State { path: Arc::clone(&path), file: Some(file), next: 0, is_new: !overwrite });
                Ok(Self { path, state: Arc::new(state) })
            }
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Err(RecordError::Exists(path)),
            Err(source) => Err(RecordError::Create { path, source }),
        }
    }

    /// Starts an exchange. `body` fills while the request passes.
    pub(super) fn begin<B>(
        &self,
        request: &Request<B>,
        body: Copy,
        credential: &Credential,
        notices: Notices,
        session: &str,
    ) -> Running {
        let number = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.next += 1;
            state.next - 1
        };
        Running {
            recorder: self.clone(),
            credential: credential.clone(),
            notices,
            session: session.to_owned(),
            began: Instant::now(),
            body,
            chunks: Vec::new(),
            exchange: Exchange {
                recorded: wire::FORMAT,
                n: number,
                at: jiff::Timestamp::now(),
                request: RecordedRequest {
                    method: request.method().to_string(),
                    path: request.uri().to_string(),
                    headers: kept_headers(request.headers(), &REQUEST_HEADERS, None),
                    body: RecordedBody::Absent,
                },
                response: None,
                end: End::ClientLeft,
            },
        }
    }

    fn write(&self, line: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &mut state.file else { return Ok(()) };
        // One write to the page cache, in a mode that is not for speed: simpler than a writer that could fall behind.
        let written = file.write_all(line);
        if written.is_err() {
            state.file = None;
        }
        written
    }
}

fn kept_headers(headers: &HeaderMap, names: &[&str], prefix: Option<&str>) -> Vec<(String, String)> {
    let kept = |name: &str| names.contains(&name) || prefix.is_some_and(|prefix| name.starts_with(prefix));
    headers
        .iter()
        .filter(|(name, _)| kept(name.as_str()))
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// An exchange that is being recorded; its line is written when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    recorder: Recorder,
    credential: Credential,
    notices: Notices,
    session: String,
    began: Instant,
    body: Copy,
    chunks: Vec<(u64, Bytes)>,
    exchange: Exchange,
}

impl Running {
    /// Records an answer while it is sent.
    pub(super) fn answer(mut self, response: Response<OutBody>) -> Response<OutBody> {
        self.exchange.response = Some(RecordedResponse {
            status: response.status().as_u16(),
            headers: kept_headers(response.headers(), &RESPONSE_HEADERS, Some(RESPONSE_PREFIX)),
            ms: self.elapsed(),
            chunks: Vec::new(),
        });
        response.map(|inner| Recording { inner, running: self }.boxed_unsync())
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The bytes of all chunks are masked as one, since a credential could be cut by a chunk's end; the mask is as long
    /// as what it covers, so they come apart again at the same places.
    fn masked_chunks(&mut self) -> Vec<Chunk> {
        let chunks = std::mem::take(&mut self.chunks);
        let mut all: Vec<u8> = Vec::with_capacity(chunks.iter().map(|(_, bytes)| bytes.len()).sum());
        for (_, bytes) in &chunks {
            all.extend_from_slice(bytes);
        }
        self.credential.mask(&mut all);
        let mut rest = all.as_slice();
        let mut masked = Vec::with_capacity(chunks.len());
        for (ms, bytes) in chunks {
            let (this, next) = rest.split_at(bytes.len());
            masked.push(Chunk { ms, bytes: ChunkBytes::of(this) });
            rest = next;
        }
        masked
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (mut body, whole) = self.body.take();
        self.credential.mask(&mut body);
        self.exchange.request.body = if whole { RecordedBody::of(body) } else { RecordedBody::Absent };
        let chunks = self.masked_chunks();
        if let Some(response) = &mut self.exchange.response {
            response.chunks = chunks;
        }
        let written = match serde_json::to_vec(&self.exchange) {
            Ok(mut line) => {
                // Headers and path, too.
                self.credential.mask(&mut line);
                line.push(b'\n');
                self.recorder.write(&line)
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = written {
            let kind =
                NoticeKind::RecordingFailed { path: self.recorder.path.to_path_buf(), reason: error.to_string() };
            self.notices.tell(Some(&self.session), kind);
        }
    }
}

/// A body that is recorded while it passes.
#[derive(Debug)]
struct Recording {
    inner: OutBody,
    running: Running,
}

impl Body for Recording {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    let ms = self.running.elapsed();
                    self.running.chunks.push((ms, data.clone()));
                }
                if self.inner.is_end_stream() {
                    self.running.exchange.end = End::Complete;
                }
            }
            Poll::Ready(Some(Err(_))) => self.running.exchange.end = End::UpstreamCut,
            Poll::Ready(None) => self.running.exchange.end = End::Complete,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
