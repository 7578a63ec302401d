//! What passes, counted per session: for the idle timeout (is a model request in flight? when did bytes last move?) and
//! for the summary (requests, statuses, bytes, tokens). All of it is atomics: counting never makes bytes wait.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::tokens::TokenCounts;

/// The live counters of a session; they outlive its grant.
#[derive(Debug)]
pub struct Traffic {
    epoch: Instant,
    last_activity_ms: AtomicU64,
    in_flight: watch::Sender<usize>,
    requests: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    uncounted: AtomicU64,
    statuses: Mutex<BTreeMap<u16, u64>>,
    tokens: Mutex<TokenCounts>,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Model requests (`POST /v1/messages`), also those that failed.
    pub requests: u64,
    /// Answers to them by HTTP status.
    pub statuses: BTreeMap<u16, u64>,
    /// Bytes of request bodies.
    pub bytes_up: u64,
    /// Bytes of response bodies.
    pub bytes_down: u64,
    /// Tokens as the API stated them, partial ones of cut streams included.
    pub tokens: TokenCounts,
    /// Successful answers whose tokens could not be read (compressed against our wish, or not in the API's format).
    pub uncounted: u64,
}

impl Traffic {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            epoch: Instant::now(),
            last_activity_ms: AtomicU64::new(0),
            in_flight: watch::Sender::new(0),
            requests: AtomicU64::new(0),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
            uncounted: AtomicU64::new(0),
            statuses: Mutex::new(BTreeMap::new()),
            tokens: Mutex::new(TokenCounts::default()),
        })
    }

    /// Model requests that are being carried now. A session with one is not idle.
    pub fn in_flight(&self) -> usize {
        *self.in_flight.borrow()
    }

    /// To be told whenever [`Traffic::in_flight`] leaves or reaches zero, and at once how it is. Changes in between, of which parallel requests
    /// make thousands a second, wake nobody.
    pub fn watch_in_flight(&self) -> watch::Receiver<usize> {
        let mut receiver = self.in_flight.subscribe();
        // A request may have begun before anybody watched.
        receiver.mark_changed();
        receiver
    }

    /// When a model request last began, ended, or moved a byte; the grant's time if there was none. To the millisecond.
    pub fn last_activity(&self) -> Instant {
        self.epoch + std::time::Duration::from_millis(self.last_activity_ms.load(Ordering::Relaxed))
    }

    /// The counters now.
    pub fn usage(&self) -> Usage {
        Usage {
            requests: self.requests.load(Ordering::Relaxed),
            statuses: self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            bytes_up: self.bytes_up.load(Ordering::Relaxed),
            bytes_down: self.bytes_down.load(Ordering::Relaxed),
            tokens: *self.tokens.lock().unwrap_or_else(PoisonError::into_inner),
            uncounted: self.uncounted.load(Ordering::Relaxed),
        }
    }

    /// Counts a model request in, until the value is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.touch();
        self.in_flight.send_if_modified(|count| {
            *count += 1;
            *count == 1
        });
        InFlight(Arc::clone(self))
    }

    pub(super) fn answered(&self, status: http::StatusCode) {
        *self.statuses.lock().unwrap_or_else(PoisonError::into_inner).entry(status.as_u16()).or_default() += 1;
    }

    pub(super) fn up(&self, bytes: usize) {
        self.bytes_up.fetch_add(bytes as u64, Ordering::Relaxed);
        self.touch();
    }

    pub(super) fn down(&self, bytes: usize) {
        self.bytes_down.fetch_add(bytes as u64, Ordering::Relaxed);
        self.touch();
    }

    /// Adds the tokens of one answer; `None` when they could not be read.
    pub(super) fn spent(&self, tokens: Option<TokenCounts>) {
        match tokens {
            Some(counts) => self.tokens.lock().unwrap_or_else(PoisonError::into_inner).add(counts),
            None => {
                self.uncounted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn touch(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_activity_ms.fetch_max(now, Ordering::Relaxed);
    }
}

/// A model request that is being carried.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Traffic>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.touch();
        self.0.in_flight.send_if_modified(|count| {
            *count -= 1;
            *count == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_began_before_anybody_watched_is_told() {
        let traffic = Traffic::new();
        let request = traffic.begin();
        let mut watch = traffic.watch_in_flight();
        tokio::time::timeout(std::time::Duration::from_secs(5), watch.changed()).await.expect("at once").unwrap();
        assert_eq!(*watch.borrow_and_update(), 1);
        drop(request);
        assert!(watch.has_changed().unwrap());
    }
}
