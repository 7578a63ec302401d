//! The kernel's socket tables by netlink, see sock_diag(7): one request, one answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::{Entry, State, canonical};

/// Any socket with these addresses: INET_DIAG_NOCOOKIE in `linux/inet_diag.h`.
const ANY_COOKIE: [u8; 8] = [0xff; 8];
/// An answer about one socket has some hundred bytes.
const ANSWER: usize = 4096;
/// The kernel answers within the call that asks; this bounds the wait if it ever does not.
const DEADLINE: TimeVal = TimeVal::new(1, 0);

/// The socket with exactly these addresses; none if there is no such socket, or no kernel module that knows.
pub(super) fn find(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Entry>> {
    let Some(found) = ask(local, remote)? else { return Ok(None) };
    let id = &found.header.socket_id;
    let address = |ip, port| canonical(SocketAddr::new(ip, port));
    // Where no connection matches, the kernel answers with a socket that listens on the local port.
    let exact = address(id.source_address, id.source_port) == unscoped(local)
        && address(id.destination_address, id.destination_port) == unscoped(remote);
    Ok(exact.then(|| entry(&found)))
}

/// The socket that would take a connection to this address.
pub(super) fn listener(address: SocketAddr) -> io::Result<Option<Entry>> {
    let nobody: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let found = ask(address, SocketAddr::new(nobody, 0))?;
    Ok(found.map(|found| entry(&found)).filter(|entry| entry.state == State::Listening))
}

fn entry(InetResponse { header, .. }: &InetResponse) -> Entry {
    let state = |state: &StateFlags| 1_u32.checked_shl(header.state.into()).is_some_and(|bit| bit & state.bits() != 0);
    let state = if state(&(StateFlags::ESTABLISHED | StateFlags::FIN_WAIT1 | StateFlags::FIN_WAIT2)) {
        State::Connected
    } else if state(&StateFlags::LISTEN) {
        State::Listening
    } else {
        State::Other
    };
    Entry { uid: header.uid, inode: header.inode.into(), state }
}

fn ask(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<InetResponse>> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &DEADLINE)?;
    // To the kernel: port 0, no group.
    sendto(socket.as_raw_fd(), &request(local, remote), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    answer(&socket)
}

fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let request = InetRequest {
        family: if local.is_ipv4() { AF_INET } else { AF_INET6 },
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: SocketId {
            source_port: local.port(),
            destination_port: remote.port(),
            source_address: local.ip(),
            destination_address: remote.ip(),
            interface_id: match local {
                SocketAddr::V4(_) => 0,
                SocketAddr::V6(address) => address.scope_id(),
            },
            cookie: ANY_COOKIE,
        },
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn answer(socket: &OwnedFd) -> io::Result<Option<InetResponse>> {
    let mut bytes = [0; ANSWER];
    let length = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty())?;
    let message = NetlinkMessage::<SockDiagMessage>::deserialize(&bytes[..length])
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    match message.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => Ok(Some(*found)),
        NetlinkPayload::Error(error) => match error.to_io() {
            error if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(None),
            error => Err(error),
        },
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is not about a TCP socket")),
    }
}

/// The kernel's answer has no scope.
fn unscoped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}
