//! Networks of our own, and the host's address on them.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::AsyncWriteExt;

use super::{Bench, Program};
use crate::engine::{EngineError, Ipv4Net, NetworkAttachment, NetworkSpec, Object};

/// What a container may take to call.
const CALL_DEADLINE: Duration = Duration::from_secs(20);

/// Where the host listens: each network has a gateway of its own, so nobody else has this port there.
const PORT: u16 = 3901;

fn spec(bench: &Bench, suffix: &str, internal: bool) -> NetworkSpec {
    NetworkSpec { name: bench.name(suffix), labels: bench.labels(), internal, subnet: None }
}

pub(super) async fn made_listed_removed(bench: &Bench) -> anyhow::Result<()> {
    let wanted = spec(bench, "net", false);
    let network = bench.engine.create_network(&wanted).await?;
    ensure!(network.subnet.contains(network.gateway) && network.name == wanted.name, "{network:?}");
    match bench.engine.create_network(&wanted).await {
        Err(EngineError::Conflict { what: Object::Network, .. }) => {}
        other => bail!("creating a network of the same name: {other:?}"),
    }
    let listed = bench.engine.networks(&bench.labels()).await?;
    ensure!(listed == [network.clone()], "{listed:?} is not {network:?}");
    let mut container = bench.spec("user", &Program::Deaf);
    container.network = NetworkAttachment::Network { network: network.name.clone(), address: None };
    let id = bench.launch(&container).await?;
    match bench.engine.remove_network(&network.name).await {
        Err(EngineError::InUse { what: Object::Network, .. }) => {}
        other => bail!("removing a network in use: {other:?}"),
    }
    bench.engine.remove(&id, true).await?;
    bench.engine.remove_network(&network.id.0).await?;
    bench.engine.remove_network(&network.id.0).await?;
    bench.engine.remove_network(&network.name).await?;
    ensure!(bench.engine.networks(&bench.labels()).await?.is_empty());
    Ok(())
}

/// With a route out and without one, the host answers on the gateway and sees the container's own address.
pub(super) async fn the_gateway_answers(bench: &Bench) -> anyhow::Result<()> {
    for internal in [false, true] {
        let network = bench.engine.create_network(&spec(bench, &format!("gw-{internal}"), internal)).await?;
        let mut container = bench.spec(&format!("ask-{internal}"), &Program::Ask(network.gateway, PORT));
        container.network = NetworkAttachment::Network { network: network.name.clone(), address: None };
        let created = bench.engine.create(&container).await?;
        let listen = || async { bench.engine.listen(&network, PORT).await.context("listening on the gateway") };
        let early = if bench.engine.listens_late() { None } else { Some(listen().await?) };
        bench.engine.start(&created.id).await?;
        let listener = match early {
            Some(listener) => listener,
            None => listen().await?,
        };
        let (mut stream, peer) =
            tokio::time::timeout(CALL_DEADLINE, listener.accept()).await.context("the container did not call")??;
        let info = bench.engine.inspect(&created.id).await?;
        stream.write_all(b"hello from the host\n").await?;
        drop(stream);
        ensure!(bench.end(&created.id).await?.code == 0);
        let output = bench.engine.logs(&created.id, &crate::engine::LogsQuery::default()).await?;
        ensure!(output.stdout == b"hello from the host\n", "{output:?}");
        let address = info.addresses.get(&network.name).with_context(|| format!("no address: {info:?}"))?;
        ensure!(network.subnet.contains(*address) && *address != network.gateway, "{address}");
        // The fake's networks exist nowhere.
        if listener.local_addr()?.ip() == network.gateway {
            ensure!(peer.ip() == *address, "the host saw {peer}, the engine says {address}");
        }
    }
    Ok(())
}

pub(super) async fn chosen_subnet(bench: &Bench) -> anyhow::Result<()> {
    // Several engines of one host may be held to this at once.
    let third = uuid::Uuid::new_v4().as_bytes()[0];
    let subnet: Ipv4Net = format!("10.203.{third}.0/24").parse()?;
    let wanted = NetworkSpec { subnet: Some(subnet), ..spec(bench, "chosen", true) };
    let network = bench.engine.create_network(&wanted).await?;
    ensure!(network.subnet == subnet && network.gateway == Ipv4Addr::new(10, 203, third, 1), "{network:?}");
    let mut container = bench.spec("fixed", &Program::Deaf);
    let address = Ipv4Addr::new(10, 203, third, 77);
    container.network = NetworkAttachment::Network { network: network.name.clone(), address: Some(address) };
    let id = bench.launch(&container).await?;
    ensure!(bench.engine.inspect(&id).await?.addresses.get(&network.name) == Some(&address));
    let overlapping = NetworkSpec { name: bench.name("overlap"), ..wanted };
    match bench.engine.create_network(&overlapping).await {
        Err(EngineError::SubnetTaken { .. }) => Ok(()),
        other => bail!("creating a network on a taken subnet: {other:?}"),
    }
}
