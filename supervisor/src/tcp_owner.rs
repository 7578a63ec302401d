//! Whose socket is at the other end of a TCP connection on this host, and who listens on a port: the kernel's answer, without
//! asking the client.
//!
//! sock_diag(7) finds a socket by its exact pair of addresses and tells the user who made it. `/proc/net/tcp` tells the same
//! where a sandbox or a missing kernel module keeps netlink away. What the answer may not be believed for:
//!
//! - Older kernels list a socket that its process has closed already as root's (`sock_i_uid` returned 0 for a socket without
//!   an inode). Its inode is 0 then, and the answer is refused, on every kernel.
//! - After a reset the same pair of addresses is free, and somebody else's connection can take it. The accepted end is
//!   therefore looked up after the client's: while the pair still leads to the very socket that was accepted, it cannot have
//!   belonged to another connection in between.

#[cfg(target_os = "linux")]
mod diag;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod table;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// A connection that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The address of the accepted end.
    pub local: SocketAddr,
    /// The address of the client's end.
    pub peer: SocketAddr,
    /// The inode of the accepted socket.
    inode: u64,
}

/// Who made the socket at the client's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A user of this host.
    User(u32),
    /// The kernel does not tell, for this reason.
    Unknown(&'static str),
}

/// Who listens at an address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The user who made the socket.
    pub uid: u32,
    /// The process that holds the socket, where this user may see it.
    pub process: Option<Process>,
}

/// A process of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// The command line, on one line and free of control characters.
    pub command: String,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = nix::unistd::User::from_uid(self.uid.into()).ok().flatten().map(|user| user.name);
        let user = name.map_or_else(|| format!("uid {}", self.uid), |name| format!("user {name}, uid {}", self.uid));
        match &self.process {
            Some(Process { pid, command }) => write!(f, "process {pid} ({user}): {command}"),
            None => write!(f, "a process of {user}"),
        }
    }
}

impl Accepted {
    /// The connection behind an accepted socket.
    ///
    /// # Errors
    /// When the socket cannot be asked for its addresses, since the client has gone.
    pub fn of(socket: &tokio::net::TcpStream) -> std::io::Result<Self> {
        let inode = nix::sys::stat::fstat(socket.as_fd())?.st_ino;
        #[allow(clippy::useless_conversion, reason = "the type differs between systems")]
        let inode = inode.into();
        Ok(Self { local: canonical(socket.local_addr()?), peer: canonical(socket.peer_addr()?), inode })
    }

    /// Looks up who made the client's socket.
    #[cfg(target_os = "linux")]
    pub async fn owner(self) -> Owner {
        match self.by_netlink() {
            Some(owner) => owner,
            None => table::owner(self).await,
        }
    }

    /// Looks up who made the client's socket.
    #[cfg(not(target_os = "linux"))]
    pub async fn owner(self) -> Owner {
        Owner::Unknown("this system does not tell who owns a socket")
    }

    /// The answer of sock_diag(7); none if netlink cannot be used, or has no record of this very connection.
    #[cfg(target_os = "linux")]
    fn by_netlink(self) -> Option<Owner> {
        let client = diag::find(self.peer, self.local).ok()?;
        let own = diag::find(self.local, self.peer).ok()??;
        self.judge(client, Some(own))
    }

    /// What two entries say, the client's and, looked up after it, the one of the accepted end. None if the latter is not
    /// the socket that was accepted.
    #[cfg(target_os = "linux")]
    fn judge(self, client: Option<Entry>, own: Option<Entry>) -> Option<Owner> {
        // sock_diag has 32 bits for an inode, as sockets have (get_next_ino in the kernel's fs/inode.c).
        own.filter(|own| own.inode & u64::from(u32::MAX) == self.inode & u64::from(u32::MAX))?;
        Some(match client {
            Some(Entry { uid, inode, state: State::Connected }) if inode != 0 => Owner::User(uid),
            Some(_) => Owner::Unknown("the client closed the connection at once"),
            None => Owner::Unknown("the other end of the connection is not on this host"),
        })
    }
}

/// Who listens at an address of this host, as far as this user may know.
#[cfg(target_os = "linux")]
pub fn listener(address: SocketAddr) -> Option<Listener> {
    let address = canonical(address);
    let found = diag::listener(address).ok().flatten().or_else(|| table::listener(address));
    found.map(|Entry { uid, inode, .. }| Listener { uid, process: process::holding(inode) })
}

/// Who listens at an address of this host: not known on this system.
#[cfg(not(target_os = "linux"))]
pub fn listener(_address: SocketAddr) -> Option<Listener> {
    None
}

/// A socket as the kernel lists it.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    uid: u32,
    /// 0 if no process holds the socket any more.
    inode: u64,
    state: State,
}

/// What of a socket's state matters here.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A connection is open, or its writing half was shut down.
    Connected,
    /// The socket waits for connections.
    Listening,
    /// A connection begins, or is over.
    Other,
}

/// An IPv4 address that an IPv6 socket shows as `::ffff:a.b.c.d` is the same connection as the IPv4 one.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
