//! The kernel's socket tables as text, `/proc/net/tcp` and `/proc/net/tcp6` (proc(5)): slower than netlink, and everywhere.

use std::fs::File;
use std::io::{BufReader, Read};
use std::net::SocketAddr;

use procfs::FromBufReadSI;
use procfs::net::{TcpNetEntries, TcpNetEntry, TcpState};
use tokio::sync::Semaphore;

use super::{Accepted, Entry, Owner, State, canonical};

const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// Bytes of a table that are read: some 100,000 sockets. A longer table is cut, and then tells nothing.
const MAX_TABLE: u64 = 16 << 20;
/// Tables that are read at once: reading takes time in proportion to all sockets of the host, and any client causes it.
static READERS: Semaphore = Semaphore::const_new(2);

/// The owner of the client's socket.
pub(super) async fn owner(connection: Accepted) -> Owner {
    const CANNOT: Owner = Owner::Unknown("the kernel's tables of sockets cannot be read here");
    let Ok(_turn) = READERS.acquire().await else { return CANNOT };
    let look = move || {
        let client = read(|entry| is_between(entry, connection.peer, connection.local))?;
        // After the client's, in a second reading: see the parent module.
        let own = read(|entry| is_between(entry, connection.local, connection.peer))?;
        Some(connection.judge(client, own).unwrap_or(Owner::Unknown("the client closed the connection at once")))
    };
    tokio::task::spawn_blocking(look).await.ok().flatten().unwrap_or(CANNOT)
}

/// The socket that takes connections to this address.
pub(super) fn listener(address: SocketAddr) -> Option<Entry> {
    read(|entry| {
        let local = canonical(entry.local_address);
        entry.state == TcpState::Listen
            && local.port() == address.port()
            && (local.ip() == address.ip() || local.ip().is_unspecified() || address.ip().is_unspecified())
    })?
}

/// The first entry that is wanted; the outer none if the tables cannot be read.
fn read(wanted: impl Fn(&TcpNetEntry) -> bool) -> Option<Option<Entry>> {
    let mut any = false;
    for table in TABLES {
        // A kernel without IPv6 has no second table.
        let Ok(file) = File::open(table) else { continue };
        let reader = BufReader::new(file.take(MAX_TABLE));
        let TcpNetEntries(entries) = TcpNetEntries::from_buf_read(reader, procfs::current_system_info()).ok()?;
        any = true;
        if let Some(found) = entries.iter().find(|entry| wanted(entry)) {
            return Some(Some(entry(found)));
        }
    }
    any.then_some(None)
}

fn is_between(entry: &TcpNetEntry, local: SocketAddr, remote: SocketAddr) -> bool {
    let same = |one: SocketAddr, other: SocketAddr| {
        let one = canonical(one);
        (one.ip(), one.port()) == (other.ip(), other.port())
    };
    same(entry.local_address, local) && same(entry.remote_address, remote)
}

fn entry(found: &TcpNetEntry) -> Entry {
    let state = match found.state {
        TcpState::Established | TcpState::FinWait1 | TcpState::FinWait2 => State::Connected,
        TcpState::Listen => State::Listening,
        TcpState::SynSent
        | TcpState::SynRecv
        | TcpState::TimeWait
        | TcpState::Close
        | TcpState::CloseWait
        | TcpState::LastAck
        | TcpState::Closing
        | TcpState::NewSynRecv => State::Other,
    };
    Entry { uid: found.uid, inode: found.inode, state }
}
