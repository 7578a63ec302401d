//! Who may use the proxy: source addresses of running sessions, on this listener.
//!
//! ```text
//!   grant ──► granted ──► revoked (handle dropped): the address is free again, and every open connection
//!                                                   of the session is cut, so that none outlives its right
//! ```
//! A connection is matched once, when it is accepted: an address that is given to another session later cannot inherit
//! an open connection, nor the other way round.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;

use super::traffic::Traffic;

/// A session as the proxy knows it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) traffic: Arc<Traffic>,
    /// Cancelled when the grant ends, or the proxy is killed.
    pub(super) revoked: CancellationToken,
    connections: AtomicUsize,
}

/// Why an address cannot be granted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("cannot let session {wanted} use the model API from {ip}: the address belongs to session {holder}")]
pub struct AddressTaken {
    pub ip: IpAddr,
    pub wanted: String,
    pub holder: String,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Grants {
    by_address: RwLock<HashMap<IpAddr, Arc<Session>>>,
}

/// A session's right to use the proxy; it ends when this is dropped.
#[derive(Debug)]
pub struct Grant {
    ip: IpAddr,
    session: Arc<Session>,
    table: Arc<Grants>,
}

impl Grants {
    pub(super) fn grant(
        self: &Arc<Self>,
        ip: IpAddr,
        session: String,
        kill: &CancellationToken,
    ) -> Result<Grant, AddressTaken> {
        let ip = ip.to_canonical();
        let mut table = self.by_address.write().unwrap_or_else(PoisonError::into_inner);
        match table.entry(ip) {
            Entry::Occupied(held) => Err(AddressTaken { ip, wanted: session, holder: held.get().id.clone() }),
            Entry::Vacant(free) => {
                let session = Arc::new(Session {
                    id: session,
                    traffic: Traffic::new(),
                    revoked: kill.child_token(),
                    connections: AtomicUsize::new(0),
                });
                free.insert(Arc::clone(&session));
                Ok(Grant { ip, session, table: Arc::clone(self) })
            }
        }
    }

    /// The session of an address, if it has one.
    pub(super) fn find(&self, ip: IpAddr) -> Option<Arc<Session>> {
        self.by_address.read().unwrap_or_else(PoisonError::into_inner).get(&ip.to_canonical()).cloned()
    }
}

impl Grant {
    /// The address that may use the proxy.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The session's counters; they stay readable after the grant has ended.
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.session.traffic)
    }

    /// Ends the grant; the same as dropping it.
    pub fn revoke(self) {}
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.table.by_address.write().unwrap_or_else(PoisonError::into_inner).remove(&self.ip);
        self.session.revoked.cancel();
    }
}

/// One open connection, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<Session>);

impl Session {
    /// Takes a place for a connection, if the session has fewer than `limit`.
    pub(super) fn connect(self: &Arc<Self>, limit: usize) -> Option<Counted> {
        let below = |open: usize| (open < limit).then_some(open + 1);
        self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).ok()?;
        Some(Counted(Arc::clone(self)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_session_at_a_time() {
        let table = Arc::new(Grants::default());
        let kill = CancellationToken::new();
        let ip: IpAddr = "172.20.0.2".parse().unwrap();
        let first = table.grant(ip, "one".into(), &kill).unwrap();
        let mapped: IpAddr = "::ffff:172.20.0.2".parse().unwrap();
        assert_eq!(table.grant(mapped, "two".into(), &kill).unwrap_err().holder, "one");
        let session = table.find(mapped).unwrap();
        let places: Vec<_> = (0..3).map_while(|_| session.connect(2)).collect();
        assert_eq!(places.len(), 2);
        drop(places);
        assert!(session.connect(1).is_some());
        first.revoke();
        assert!(session.revoked.is_cancelled() && table.find(ip).is_none());
        let second = table.grant(ip, "two".into(), &kill).unwrap();
        assert!(!second.session.revoked.is_cancelled());
        kill.cancel();
        assert!(second.session.revoked.is_cancelled());
    }
}
