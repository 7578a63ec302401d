//! The port of the API: whether a service can listen on it, and who else does.

use std::io;
use std::net::{SocketAddr, TcpListener};

use nix::unistd::geteuid;

use super::check::Check;
use crate::tcp_owner::{self, Listener};

const PORT: &str = "API port";
/// How to get a port of one's own.
const REMEDY: &str =
    "give `aigo serve` a port of its own: `listen = \"127.0.0.1:PORT\"` in its configuration, or --listen";

/// Looks who listens there. `service` is the process that serves the data directory, if one does.
#[must_use]
pub fn check(address: SocketAddr, service: Option<u32>) -> Check {
    if address.port() == 0 {
        return Check::ok(PORT, "`aigo serve` takes any free port");
    }
    match tcp_owner::listener(address) {
        Some(listener) => judge(address, &listener, service, geteuid().as_raw()),
        // Systems that do not tell who listens tell at least that somebody does.
        None => match TcpListener::bind(address) {
            Ok(_) => Check::ok(PORT, format!("{address} is free")),
            Err(_) if service.is_some() => Check::ok(PORT, format!("{address} is taken, and a service of yours runs")),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Check::warning(PORT, format!("{address} is taken by another program"), REMEDY)
            }
            Err(error) => Check::warning(PORT, format!("`aigo serve` cannot listen on {address}: {error}"), REMEDY),
        },
    }
}

fn judge(address: SocketAddr, listener: &Listener, service: Option<u32>, us: u32) -> Check {
    let detail = format!("{address} is taken by {listener}");
    let is_service = listener.process.as_ref().is_some_and(|process| {
        service == Some(process.pid) || (listener.uid == us && process.command.contains("aigo"))
    });
    if is_service { Check::ok(PORT, detail) } else { Check::warning(PORT, detail, REMEDY) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use crate::tcp_owner::Process;

    #[test]
    fn somebody_elses_listener_is_named_and_ones_own_service_is_well() {
        let address = SocketAddr::from(([127, 0, 0, 1], 55_765));
        let listener =
            |uid, pid, command: &str| Listener { uid, process: Some(Process { pid, command: command.to_owned() }) };
        assert_eq!(judge(address, &listener(7, 9, "aigo serve"), None, 7).status, Verdict::Ok);
        assert_eq!(judge(address, &listener(7, 9, "x"), Some(9), 7).status, Verdict::Ok);
        for (taken, us) in [(listener(7, 9, "aigo serve"), 8), (listener(7, 9, "node dev.js"), 7)] {
            let check = judge(address, &taken, None, us);
            assert_eq!(check.status, Verdict::Warning);
            assert!(check.detail.contains("process 9") && check.detail.contains("127.0.0.1:55765"), "{check:?}");
        }
        let hidden = Listener { uid: 4_000_000, process: None };
        assert!(judge(address, &hidden, None, 7).detail.contains("uid 4000000"));
    }

    #[test]
    fn a_free_port_is_well_and_one_of_a_program_that_is_no_service_is_not() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        // The test program is called after this package, not after the command.
        let check = super::check(address, None);
        assert!(check.detail.contains(&std::process::id().to_string()), "{check:?}");
        drop(held);
        assert_eq!(super::check(address, None).status, Verdict::Ok);
    }
}
