//! Listening where a network's containers reach the host: on the network's gateway.
//!
//! ```text
//! Docker             the gateway is an address of this host as soon as the network is there: bind
//! rootful Podman     … as soon as a container of the network runs: bind ahead of it (IP_FREEBIND, ip(7))
//! rootless engines   the gateway lies in the network namespace that its user's networks share. A socket belongs to the
//!                    namespace that it was made in, whoever holds it:
//!
//!     aigo ──► podman unshare --rootless-netns ──► aigo (hand-over): socket, bind, listen
//!      ▲       nsenter, of rootless Docker            │ the socket, as SCM_RIGHTS (unix(7))
//!      └──────────────────────────────────────────────┘
//! ```
//!
//! So in all cases containers are seen with their own addresses, and nobody but they can reach the listener.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use tokio::net::TcpListener;

use super::dialect::Dialect;
use super::wire::Wire;
use crate::engine::Network;

/// Connections that may wait to be accepted: the kernel's own bound on most hosts.
const BACKLOG: i32 = 1024;

pub(super) async fn listen(wire: &Wire, network: &Network, port: u16) -> io::Result<TcpListener> {
    match &wire.dialect {
        Dialect::Docker if wire.told().await.map_err(io::Error::other)?.rootless => {
            inside::listen_with_docker(wire, network.gateway, port).await
        }
        Dialect::Docker => TcpListener::bind((network.gateway, port)).await,
        Dialect::Podman(podman) if podman.rootless => inside::listen(wire, podman, network.gateway, port).await,
        Dialect::Podman(_) => from_std(ahead(SocketAddrV4::new(network.gateway, port))?),
    }
}

fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// A listener on an address that may come later.
#[cfg(target_os = "linux")]
fn ahead(address: SocketAddrV4) -> io::Result<std::net::TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_ip_freebind(&socket, true)?;
    bind(&socket, &SocketAddr::V4(address))?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Podman's networks lie in a VM here.
#[cfg(not(target_os = "linux"))]
fn ahead(address: SocketAddrV4) -> io::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(address)
}

#[cfg(target_os = "linux")]
pub use inside::hand_over;

#[cfg(target_os = "linux")]
mod inside {
    use std::io::{IoSlice, IoSliceMut};
    use std::mem::MaybeUninit;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::process::Stdio;
    use std::time::Duration;

    use rustix::net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    };
    use tokio::process::Command;

    use super::super::endpoint::Endpoint;
    use super::super::libpod::Libpod;
    use super::super::rootlesskit;
    use super::{Ipv4Addr, SocketAddrV4, TcpListener, Wire, ahead, from_std, io};

    /// Entering the namespaces takes 0.1 s; making the network namespace for a first container, half a second. An emulated
    /// processor took 16 s. The runner waits for longer than this.
    const DEADLINE: Duration = Duration::from_secs(30);
    /// Bytes of what went wrong that are told.
    const MAX_WORDS: usize = 500;
    /// Says that a descriptor comes with it: an empty message cannot carry one.
    const MARK: &[u8] = b"s";
    /// `aigo`'s word for the other side, hidden from people.
    const WORD: &str = "hand-over-listener";

    pub(super) async fn listen(wire: &Wire, podman: &Libpod, gateway: Ipv4Addr, port: u16) -> io::Result<TcpListener> {
        same_user("Podman", podman.socket.as_deref())?;
        let mut podman = Command::new("podman");
        podman.args(["unshare", "--rootless-netns"]);
        // With it the command line would ask a service, which cannot do this for us.
        podman.env_remove("CONTAINER_HOST").env_remove("CONTAINER_CONNECTION");
        listen_by(podman, "podman unshare", wire, gateway, port).await
    }

    /// RootlessKit has made a user and a network namespace, in which Docker runs.
    pub(super) async fn listen_with_docker(wire: &Wire, gateway: Ipv4Addr, port: u16) -> io::Result<TcpListener> {
        let socket = match &wire.endpoint {
            Endpoint::Unix(socket) => Some(socket.as_path()),
            Endpoint::Tcp(_) => None,
        };
        same_user("Docker", socket)?;
        let namespaces = rootlesskit::find(socket.unwrap_or_else(|| Path::new(""))).await?;
        let mut nsenter = Command::new("nsenter");
        nsenter.arg("--preserve-credentials").args(namespaces.arguments()).arg("--");
        listen_by(nsenter, "nsenter", wire, gateway, port).await
    }

    /// Has a copy of this program listen inside namespaces that `enter` leads into.
    async fn listen_by(
        mut enter: Command,
        name: &str,
        wire: &Wire,
        gateway: Ipv4Addr,
        port: u16,
    ) -> io::Result<TcpListener> {
        let program = wire.program.as_ref().ok_or_else(|| io::Error::other("aigo's own program cannot be found"))?;
        let (ours, theirs) = UnixStream::pair()?;
        let entering = enter
            .arg(program)
            .arg(WORD)
            .arg(SocketAddrV4::new(gateway, port).to_string())
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(DEADLINE, entering)
            .await
            .map_err(|_elapsed| io::Error::other(format!("{name} did not end within {DEADLINE:?}")))?
            .map_err(|error| io::Error::other(format!("{name} cannot be run: {error}")))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            let words = words.trim();
            let from = words.ceil_char_boundary(words.len().saturating_sub(MAX_WORDS));
            return Err(io::Error::other(format!("{name} failed: {}", &words[from..])));
        }
        from_std(receive(&ours)?.into())
    }

    /// Only its own user can enter a rootless engine's namespaces.
    fn same_user(engine: &str, socket: Option<&Path>) -> io::Result<()> {
        let socket = socket.ok_or_else(|| {
            io::Error::other(format!(
                "rootless {engine} behind tcp:// has its networks where aigo cannot enter; use its unix socket"
            ))
        })?;
        let (owner, us) = (std::fs::metadata(socket)?.uid(), nix::unistd::geteuid().as_raw());
        if owner == us {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "the rootless {engine} at {} is that of user {owner}, and only they can listen on its networks; run aigo as \
             them, or use a rootful engine",
            socket.display()
        )))
    }

    /// The helper has ended: what it sent is there, or never comes.
    fn receive(from: &UnixStream) -> io::Result<OwnedFd> {
        let mut byte = [0; MARK.len()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
        let mut messages = control.drain();
        let found = messages.find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            _ => None,
        });
        found.ok_or_else(|| io::Error::other("the helper ended without handing a socket over"))
    }

    /// The other side: listens where this process is, and gives the socket to whoever holds the other end of standard
    /// input.
    ///
    /// # Errors
    /// When the address cannot be listened on, or standard input is no socket.
    pub fn hand_over(address: SocketAddrV4) -> io::Result<()> {
        let listener = ahead(address)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sockets = [listener.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&sockets));
        sendmsg(io::stdin(), &[IoSlice::new(MARK)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
mod inside {
    use super::super::libpod::Libpod;
    use super::{Ipv4Addr, TcpListener, Wire, io};

    pub(super) async fn listen(_: &Wire, _: &Libpod, _: Ipv4Addr, _: u16) -> io::Result<TcpListener> {
        Err(io::Error::other("Podman's networks lie in a VM here, where aigo cannot listen; use Docker"))
    }

    pub(super) async fn listen_with_docker(_: &Wire, _: Ipv4Addr, _: u16) -> io::Result<TcpListener> {
        Err(io::Error::other("a rootless engine's networks lie in a VM here, where aigo cannot listen"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn an_address_that_comes_later_can_be_listened_on() {
        // Of a range for documentation (RFC 5737): on no host.
        let nowhere = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 0);
        assert!(std::net::TcpListener::bind(nowhere).is_err());
        assert_eq!(*ahead(nowhere).unwrap().local_addr().unwrap().ip().to_string(), *"203.0.113.7");
    }
}
