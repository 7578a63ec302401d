//! A body that is played step by step.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::Sleep;

use super::super::body::BodyError;

/// How long a script's silence lasts: longer than any client waits (600 s).
pub(super) const HANG_TIME: Duration = Duration::from_secs(900);
/// Lets the server flush what came before a cut, which it would else throw away with the connection.
const FLUSH_TIME: Duration = Duration::from_millis(20);

/// What happens next in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait(Duration),
    Data(Bytes),
    /// Silence, then a cut.
    Hang,
    /// The connection breaks in the middle of the body.
    Cut,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Playback {
    steps: VecDeque<Step>,
    waiting: Option<Pin<Box<Sleep>>>,
    cut: bool,
}

impl Playback {
    pub(super) fn new(steps: Vec<Step>) -> Self {
        Self { steps: steps.into(), waiting: None, cut: false }
    }
}

impl Body for Playback {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(sleep) = &mut self.waiting {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.waiting = None;
            }
            if self.cut {
                return Poll::Ready(Some(Err(BodyError::Cut)));
            }
            let wait = match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Step::Wait(pause)) => pause,
                Some(Step::Hang) => {
                    self.cut = true;
                    HANG_TIME
                }
                Some(Step::Cut) => {
                    self.cut = true;
                    FLUSH_TIME
                }
            };
            self.waiting = Some(Box::pin(tokio::time::sleep(wait)));
        }
    }
}
