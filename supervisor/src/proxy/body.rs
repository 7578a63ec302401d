//! Bodies on their way through: each frame is handed on as it came (the bytes are shared, never copied), with a bound on
//! silence, while counters look on. Trailers are dropped in both directions: the model API has none, and a chunked body
//! could hide a credential or an echo of one in them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::fault::RequestFault;
use super::limits::MAX_KEPT_BODY;
use super::notice::{NoticeKind, Notices, quoted};
use super::tokens::TokenTap;
use super::traffic::{InFlight, Traffic};
use crate::error_chain::chain;

/// What is sent to the container.
pub(super) type OutBody = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body ends before its end. It closes the connection: the receiver must not take the rest for the whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the connection ended too early")]
    Broken(#[source] hyper::Error),
    #[error("nothing came for {}s", .0.as_secs())]
    Silent(Duration),
    #[error("cut by the replay script")]
    Cut,
}

/// Bounds silence. Costs nothing as long as frames are at hand.
#[derive(Debug)]
struct IdleTimer {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl IdleTimer {
    fn new(limit: Duration) -> Self {
        Self { limit, sleep: None, armed: false }
    }

    fn moved(&mut self) {
        self.armed = false;
    }

    /// To be called when there is nothing to hand on.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let limit = self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.armed {
            sleep.as_mut().reset(Instant::now() + limit);
            self.armed = true;
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(BodyError::Silent(limit))
    }
}

/// A request body that a recording keeps while it passes.
#[derive(Clone, Debug, Default)]
pub(super) struct Copy(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    chunks: Vec<Bytes>,
    len: usize,
    over: bool,
}

impl Copy {
    fn keep(&self, chunk: &Bytes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.len += chunk.len();
        kept.over |= kept.len > MAX_KEPT_BODY;
        if !kept.over {
            kept.chunks.push(chunk.clone());
        }
    }

    /// The bytes, and whether they are all.
    pub(super) fn take(&self) -> (Vec<u8>, bool) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut kept.chunks).concat(), !kept.over)
    }
}

/// What became of a request body that was given up half-way: the rest of it, to be drained before its client is answered,
/// and what was wrong with it. The fault is kept here because an HTTP/2 client resets the stream to the upstream and says
/// nothing of the reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Leftover(Arc<Mutex<Given>>);

#[derive(Debug, Default)]
struct Given {
    rest: Option<Incoming>,
    fault: Option<RequestFault>,
}

impl Leftover {
    fn given(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rest of the body.
    pub(super) fn take(&self) -> Option<Incoming> {
        self.given().rest.take()
    }

    /// What the client did wrong, if it is the client that the body failed for.
    pub(super) fn fault(&self) -> Option<RequestFault> {
        self.given().fault.clone()
    }
}

/// The client's body on its way to the upstream.
#[derive(Debug)]
pub(super) struct RequestBody {
    /// `None` only while it is being dropped.
    inner: Option<Incoming>,
    leftover: Leftover,
    idle: IdleTimer,
    traffic: Option<Arc<Traffic>>,
    copy: Option<Copy>,
}

impl RequestBody {
    pub(super) fn new(
        inner: Incoming,
        idle: Duration,
        traffic: Option<Arc<Traffic>>,
        copy: Option<Copy>,
        leftover: Leftover,
    ) -> Self {
        Self { inner: Some(inner), leftover, idle: IdleTimer::new(idle), traffic, copy }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let rest = self.inner.take().filter(|body| !body.is_end_stream());
        self.leftover.given().rest = rest;
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.idle.moved();
                let Ok(data) = frame.into_data() else { return Poll::Ready(None) };
                if let Some(traffic) = &this.traffic {
                    traffic.up(data.len());
                }
                if let Some(copy) = &this.copy {
                    copy.keep(&data);
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => {
                this.leftover.given().fault = Some(RequestFault::of_body(&error));
                Poll::Ready(Some(Err(BodyError::Broken(error))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let error = ready!(this.idle.poll_expired(cx));
                this.leftover.given().fault = Some(RequestFault::Silent(this.idle.limit));
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// What a model request's answer is counted on.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) traffic: Arc<Traffic>,
    /// Set for successful answers only: errors cost no tokens.
    pub(super) tap: Option<TokenTap>,
    /// Ends with the body.
    pub(super) in_flight: InFlight,
}

/// Who hears about an answer that the upstream began and did not finish: the client sees only a connection that ends.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) notices: Notices,
    pub(super) session: String,
    pub(super) host: String,
    /// What became of the request, which an upstream may answer before it has it whole.
    pub(super) request: Leftover,
}

impl Witness {
    fn tell(self, error: &BodyError) {
        // Our own client cuts an answer whose request has failed: that is not the upstream's fault.
        match self.request.fault() {
            Some(fault) => fault.tell(&self.notices, &self.session),
            None => {
                let kind = NoticeKind::UpstreamCut { host: self.host, reason: quoted(&chain(error)) };
                self.notices.tell(Some(&self.session), kind);
            }
        }
    }
}

/// The upstream's body on its way to the client. Dropping it, which happens when the client leaves, drops the upstream's
/// end with it, and that aborts the call.
#[derive(Debug)]
pub(super) struct Relay<B> {
    inner: B,
    idle: IdleTimer,
    meter: Option<Meter>,
    witness: Option<Witness>,
}

impl<B> Relay<B> {
    /// A body without a witness is cut by a script, as somebody wrote it.
    pub(super) fn new(inner: B, idle: Duration, meter: Option<Meter>, witness: Option<Witness>) -> Self {
        Self { inner, idle: IdleTimer::new(idle), meter, witness }
    }

    fn broken(&mut self, error: BodyError) -> BodyError {
        if let Some(witness) = self.witness.take() {
            witness.tell(&error);
        }
        error
    }

    fn settle(&mut self) {
        if let Some(Meter { traffic, tap, in_flight }) = self.meter.take() {
            if let Some(tap) = tap {
                traffic.spent(tap.finish());
            }
            drop(in_flight);
        }
    }
}

impl<B> Body for Relay<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.idle.moved();
                let Ok(data) = frame.into_data() else {
                    this.settle();
                    return Poll::Ready(None);
                };
                if let Some(meter) = &mut this.meter {
                    meter.traffic.down(data.len());
                    if let Some(tap) = &mut meter.tap {
                        tap.see(&data);
                    }
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(this.broken(error.into())))),
            Poll::Ready(None) => {
                this.settle();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let error = ready!(this.idle.poll_expired(cx));
                Poll::Ready(Some(Err(this.broken(error))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for Relay<B> {
    fn drop(&mut self) {
        self.settle();
    }
}

impl From<hyper::Error> for BodyError {
    fn from(error: hyper::Error) -> Self {
        Self::Broken(error)
    }
}
