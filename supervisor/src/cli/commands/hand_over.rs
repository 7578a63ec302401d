//! `aigo hand-over-listener`: the side of [`gateway`](crate::engine::docker::gateway) that runs inside a rootless engine's
//! namespaces. For aigo itself.

use std::net::SocketAddrV4;

use crate::cli::exit::{CliError, Exit};

/// Listens, and hands the socket to the aigo at the other end of standard input.
pub fn run(address: SocketAddrV4) -> Result<Exit, CliError> {
    crate::engine::docker::gateway::hand_over(address).map_err(|error| {
        CliError::environment(anyhow::anyhow!("cannot listen on {address}, or standard input is no socket: {error}"))
    })?;
    Ok(Exit::Ok)
}
