//! The IPv4 routes of this host, in all of its tables: a VPN may have one of its own (ip-rule(8)).
//!
//! They are asked for by rtnetlink(7). `/proc/net/route` has the main table only; it serves where a sandbox has no netlink.

#[cfg(any(target_os = "linux", test))]
use std::net::Ipv4Addr;

use super::Ipv4Net;

/// The destinations of all routes, without default routes. Empty where the system tells none (macOS: the engine's networks lie
/// in a virtual machine, whose routes are not this host's).
pub(super) async fn of_this_host() -> Vec<Ipv4Net> {
    tokio::task::spawn_blocking(now).await.unwrap_or_default()
}

#[cfg(target_os = "linux")]
fn now() -> Vec<Ipv4Net> {
    netlink::dump().unwrap_or_else(|error| {
        tracing::debug!("routes are read from {MAIN_TABLE}, without those of other tables: {error}");
        std::fs::read_to_string(MAIN_TABLE).map(|text| parse_main_table(&text)).unwrap_or_default()
    })
}

#[cfg(not(target_os = "linux"))]
fn now() -> Vec<Ipv4Net> {
    Vec::new()
}

/// The main table as text.
#[cfg(target_os = "linux")]
const MAIN_TABLE: &str = "/proc/net/route";

/// The destinations in the text of `/proc/net/route` (proc(5): addresses are hexadecimal in the machine's byte order). Lines
/// that make no sense are left out.
#[cfg(any(target_os = "linux", test))]
fn parse_main_table(text: &str) -> Vec<Ipv4Net> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let destination = u32::from_str_radix(fields.nth(1)?, 16).ok()?.to_ne_bytes();
            let mask = u32::from_str_radix(fields.nth(5)?, 16).ok()?.to_ne_bytes();
            let prefix = u8::try_from(u32::from_be_bytes(mask).count_ones()).ok()?;
            Ipv4Net::around(Ipv4Addr::from(destination), prefix)
        })
        .filter(|route| route.prefix() > 0)
        .collect()
}

#[cfg(target_os = "linux")]
mod netlink {
    use std::io;
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};

    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
    };
    use nix::sys::time::TimeVal;

    use super::{Ipv4Addr, Ipv4Net};

    /// The kernel answers at once; a router with a million routes takes a second.
    const DEADLINE: Duration = Duration::from_secs(3);
    /// The kernel fills at most half of this at a time.
    const BUFFER: usize = 64 << 10;

    // linux/netlink.h
    const HEADER: usize = 16;
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    const REQUEST_AND_DUMP: u16 = 0x1 | 0x300;
    // linux/rtnetlink.h
    const NEW_ROUTE: u16 = 24;
    const GET_ROUTE: u16 = 26;
    const ROUTE: usize = 12;
    const DESTINATION: u16 = 1;
    /// Broadcast, anycast and multicast: none of these is a network that somebody wants to reach.
    const KINDS_LEFT_OUT: [u8; 3] = [3, 4, 5];

    pub(super) fn dump() -> io::Result<Vec<Ipv4Net>> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(DEADLINE.as_secs() as i64, 0))?;
        send(socket.as_raw_fd(), &request(), MsgFlags::empty())?;
        let deadline = Instant::now() + DEADLINE;
        let (mut routes, mut buffer) = (Vec::new(), vec![0; BUFFER]);
        while Instant::now() < deadline {
            let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            if read(&buffer[..length], &mut routes)? {
                return Ok(routes);
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn request() -> Vec<u8> {
        let length = u32::try_from(HEADER + ROUTE).unwrap_or_default();
        let mut request = Vec::with_capacity(HEADER + ROUTE);
        request.extend(length.to_ne_bytes());
        request.extend(GET_ROUTE.to_ne_bytes());
        request.extend(REQUEST_AND_DUMP.to_ne_bytes());
        // Sequence number and port: there is one request on this socket.
        request.extend([0; 8]);
        request.push(AddressFamily::Inet as u8);
        request.resize(HEADER + ROUTE, 0);
        request
    }

    /// Reads the messages of one answer; whether it was the last one.
    pub(super) fn read(mut answer: &[u8], routes: &mut Vec<Ipv4Net>) -> io::Result<bool> {
        while let Some((length, kind)) = u32_at(answer, 0).zip(u16_at(answer, 4)) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some(message) = answer.get(HEADER..length) else { return Err(io::ErrorKind::InvalidData.into()) };
            match kind {
                DONE => return Ok(true),
                ERROR => {
                    let code = u32_at(message, 0).unwrap_or_default().cast_signed();
                    return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                }
                NEW_ROUTE => routes.extend(route(message)),
                _ => {}
            }
            answer = answer.get(aligned(length)..).unwrap_or_default();
        }
        Ok(false)
    }

    /// One route: a fixed part, and attributes of which one is the destination.
    fn route(message: &[u8]) -> Option<Ipv4Net> {
        let (family, prefix, kind) = (*message.first()?, *message.get(1)?, *message.get(7)?);
        if family != AddressFamily::Inet as u8 || prefix == 0 || KINDS_LEFT_OUT.contains(&kind) {
            return None;
        }
        let mut attributes = message.get(ROUTE..)?;
        while let Some((length, kind)) = u16_at(attributes, 0).zip(u16_at(attributes, 2)) {
            let length = usize::from(length);
            let value = attributes.get(4..length)?;
            if kind == DESTINATION {
                let octets: [u8; 4] = value.try_into().ok()?;
                return Ipv4Net::around(Ipv4Addr::from(octets), prefix);
            }
            attributes = attributes.get(aligned(length)..).unwrap_or_default();
        }
        None
    }

    /// Messages and attributes begin at multiples of four bytes.
    fn aligned(length: usize) -> usize {
        length.next_multiple_of(4)
    }

    fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    }

    fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn the_main_table_is_read() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                    junk\n";
        assert_eq!(parse_main_table(text), ["172.17.0.0/16".parse().unwrap()]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_tells_at_least_what_the_main_table_has() {
        let all = netlink::dump().unwrap();
        for route in parse_main_table(&std::fs::read_to_string(MAIN_TABLE).unwrap()) {
            assert!(all.contains(&route), "{route} is not among {all:?}");
        }
        assert!(all.iter().all(|route| route.prefix() > 0), "{all:?}");
    }

    #[cfg(all(target_os = "linux", target_endian = "little"))]
    #[test]
    fn answers_that_make_no_sense_are_no_routes() {
        let read = |bytes: &[u8]| {
            let mut routes = Vec::new();
            netlink::read(bytes, &mut routes).map(|last| (last, routes))
        };
        // A blackhole of 10.9.0.0/16 in table 100, as the kernel tells it.
        let mut route = vec![36, 0, 0, 0, 24, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        route.extend([2, 16, 0, 0, 100, 4, 0, 6, 0, 0, 0, 0, 8, 0, 1, 0, 10, 9, 0, 0]);
        assert_eq!(read(&route).unwrap(), (false, vec!["10.9.0.0/16".parse().unwrap()]));
        let done = [16, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(read(&[&route[..], &done].concat()).unwrap().0);
        let refused = [20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255];
        assert_eq!(read(&refused).unwrap_err().raw_os_error(), Some(1));
        for cut in 1..route.len() {
            // Whatever comes of it, it ends.
            let _ = read(&route[..cut]);
        }
        route[0] = 0;
        assert!(read(&route).is_err());
    }
}
