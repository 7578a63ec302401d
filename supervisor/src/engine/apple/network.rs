//! Networks of our own, and listening on them.
//!
//! ```text
//! container ──eth0── its network ──bridge on the host, with the gateway's address── aigo listens here
//! ```
//!
//! Networks are kept apart from each other, and every container has an address of its own that the host sees, so callers
//! are matched by address as everywhere. Containers of one network reach each other: a session has its network for itself.
//! The bridge comes with the first machine on the network and goes with the last.

use std::io;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::container::{all, carries, is_name};
use super::offers::Offers;
use super::wire::{self, ListedNetwork};
use super::{AppleEngine, error};
use crate::engine::{EngineError, Labels, Network, NetworkSpec, Object, deadline};

/// How often a network that comes up is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How long the bridge may take to come after the first machine was started.
const BRIDGE: Duration = Duration::from_secs(15);

/// Whether networks can be made at all, and found again.
pub(super) fn check(offers: &Offers) -> Result<(), EngineError> {
    if !offers.networks() {
        return Err(error::unsupported(
            "make networks here, and every session needs one of its own",
            "update to macOS 26, or use another engine: --engine docker",
        ));
    }
    if !offers.network("--label") {
        return Err(error::unsupported(
            "label networks in this version, by which aigo finds its own again",
            "update Apple Container, or use another engine: --engine docker",
        ));
    }
    Ok(())
}

async fn all_networks(engine: &AppleEngine) -> Result<Vec<ListedNetwork>, EngineError> {
    let what = "list networks";
    wire::read(what, &engine.cli.ask(what, deadline::READ, &["network", "list", "--format", "json"]).await?)
}

async fn find(engine: &AppleEngine, name: &str) -> Result<Option<ListedNetwork>, EngineError> {
    Ok(all_networks(engine).await?.into_iter().find(|network| network.name() == name))
}

/// Fails unless it exists.
pub(super) async fn look(engine: &AppleEngine, name: &str) -> Result<(), EngineError> {
    let missing = || EngineError::NotFound { what: Object::Network, name: name.to_owned() };
    if !engine.offers.networks() {
        return Err(missing());
    }
    find(engine, name).await?.map(|_| ()).ok_or_else(missing)
}

pub(super) async fn create(engine: &AppleEngine, spec: &NetworkSpec) -> Result<Network, EngineError> {
    let what = "create network";
    let NetworkSpec { name, labels, internal, subnet } = spec;
    check(&engine.offers)?;
    if !is_name(name) {
        return Err(EngineError::Refused { what, message: format!("{name:?} is no name") });
    }
    let mut args = vec!["network".to_owned(), "create".to_owned()];
    for (key, value) in labels {
        args.extend(["--label".to_owned(), format!("{key}={value}")]);
    }
    if *internal {
        if !engine.offers.network("--internal") {
            return Err(error::unsupported("make a network without a way out in this version", "update it"));
        }
        args.push("--internal".to_owned());
    }
    if let Some(subnet) = subnet {
        if !engine.offers.network("--subnet") {
            return Err(error::unsupported("make a network of a chosen subnet in this version", "update it"));
        }
        args.extend(["--subnet".to_owned(), subnet.to_string()]);
    }
    args.push(name.clone());
    deadline::within(what, deadline::NETWORK, async {
        let conflict = || EngineError::Conflict { what: Object::Network, name: name.clone() };
        if find(engine, name).await?.is_some() {
            return Err(conflict());
        }
        let answer = engine.cli.run(what, deadline::NETWORK, &args).await?;
        if !answer.is_good() {
            let words = answer.complaint();
            // Both are `exists` to it.
            return Err(if words.contains("overlap") {
                EngineError::SubnetTaken { message: crate::engine::error::clip(&words) }
            } else if error::is_conflict(&answer) {
                conflict()
            } else {
                error::refused(what, &answer)
            });
        }
        loop {
            if let Some(network) = find(engine, name).await?.and_then(|network| network.network()) {
                return Ok(network);
            }
            tokio::time::sleep(POLL).await;
        }
    })
    .await
}

pub(super) async fn remove(engine: &AppleEngine, name: &str) -> Result<(), EngineError> {
    let what = "remove network";
    if !engine.offers.networks() || !is_name(name) {
        return Ok(());
    }
    deadline::within(what, deadline::NETWORK, async {
        if find(engine, name).await?.is_none() {
            return Ok(());
        }
        // It would take the network from below containers that do not run just now.
        if all(engine).await?.iter().any(|container| container.is_on(name) && container.is_live()) {
            let message = "a container on it runs".to_owned();
            return Err(EngineError::InUse { what: Object::Network, name: name.to_owned(), message });
        }
        let answer = engine.cli.run(what, deadline::NETWORK, &["network", "delete", name]).await?;
        if answer.is_good() || find(engine, name).await?.is_none() {
            return Ok(());
        }
        Err(error::refused(what, &answer))
    })
    .await
}

pub(super) async fn list(engine: &AppleEngine, labels: &Labels) -> Result<Vec<Network>, EngineError> {
    if !engine.offers.networks() {
        return Ok(Vec::new());
    }
    let all = all_networks(engine).await?.into_iter().filter_map(|network| network.network());
    Ok(all.filter(|network| carries(&network.labels, labels)).collect())
}

/// On the gateway, as soon as its bridge is there.
pub(super) async fn listen(network: &Network, port: u16) -> io::Result<TcpListener> {
    let end = Instant::now() + BRIDGE;
    loop {
        match TcpListener::bind((network.gateway, port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && Instant::now() < end => {
                tokio::time::sleep(POLL).await;
            }
            other => return other,
        }
    }
}
