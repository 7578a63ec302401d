//! Networks of our own: create (with our own choice of subnet, see [`subnets`](crate::engine::subnets)), list, remove.

use std::collections::HashMap;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions, ListNetworksOptionsBuilder};

use super::dialect::Dialect;
use super::error::About;
use super::libpod;
use super::wire::{Wire, is_path_safe};
use crate::engine::{EngineError, Ipv4Net, Labels, Network, NetworkId, NetworkSpec, deadline, routes};

/// How many subnets of our own choice are tried: another launch or engine may take one between our look and our call.
const SUBNET_TRIES: usize = 16;

pub(super) async fn create(wire: &Wire, spec: &NetworkSpec) -> Result<Network, EngineError> {
    deadline::within("create a network", deadline::NETWORK, async {
        match spec.subnet {
            Some(_) => create_in(wire, spec, spec.subnet).await,
            None => create_in_free(wire, spec).await,
        }
    })
    .await
}

/// The host's routes have the networks of an engine on this host among them, so that the first choice is almost always
/// free. They do not tell of a rootless engine's networks, nor of those that are not up: these the engine is asked for
/// when it has refused.
async fn create_in_free(wire: &Wire, spec: &NetworkSpec) -> Result<Network, EngineError> {
    let pools = wire.pools().await?;
    let mut taken = routes::of_this_host().await;
    if let Some(first) = pools.free(&taken, &spec.name).next() {
        match create_in(wire, spec, Some(first)).await {
            Err(EngineError::SubnetTaken { .. }) => {}
            other => return other,
        }
        taken.extend(subnets(wire).await?);
    }
    for subnet in pools.free(&taken, &spec.name).take(SUBNET_TRIES) {
        match create_in(wire, spec, Some(subnet)).await {
            Err(EngineError::SubnetTaken { .. }) => {}
            other => return other,
        }
    }
    Err(EngineError::NoFreeSubnet { pools: pools.to_string() })
}

/// The subnets of all of the engine's networks.
async fn subnets(wire: &Wire) -> Result<Vec<Ipv4Net>, EngineError> {
    let about = About::network("list networks", "");
    let all = wire.docker.list_networks(None::<ListNetworksOptions>).await;
    let all = all.map_err(|error| about.translate(&wire.endpoint, error))?;
    let configs = all.into_iter().filter_map(|network| network.ipam?.config).flatten();
    Ok(configs.filter_map(|config| config.subnet?.parse().ok()).collect())
}

async fn create_in(wire: &Wire, spec: &NetworkSpec, subnet: Option<Ipv4Net>) -> Result<Network, EngineError> {
    if let Dialect::Podman(_) = wire.dialect {
        return libpod::create_network(&wire.endpoint, spec, subnet).await;
    }
    let about = About::network("create a network", &spec.name);
    let request = NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some("bridge".to_owned()),
        internal: Some(spec.internal),
        enable_ipv6: Some(false),
        // Agents of one network have no business with each other.
        options: Some(HashMap::from([("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned())])),
        labels: Some(spec.labels.clone().into_iter().collect()),
        ipam: subnet.map(|subnet| Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(subnet.to_string()),
                gateway: Some(subnet.usual_gateway().to_string()),
                ..IpamConfig::default()
            }]),
            ..Ipam::default()
        }),
        ..NetworkCreateRequest::default()
    };
    let created = wire.docker.create_network(request).await.map_err(|error| about.translate(&wire.endpoint, error))?;
    let seen = wire
        .docker
        .inspect_network(&created.id, None::<InspectNetworkOptions>)
        .await
        .map_err(|error| about.translate(&wire.endpoint, error))?;
    let (subnet, gateway) = subnet_of(seen.ipam).ok_or_else(|| EngineError::Malformed {
        what: about.what,
        message: format!("network {} has no IPv4 subnet", spec.name),
    })?;
    Ok(Network {
        id: NetworkId(created.id),
        name: spec.name.clone(),
        labels: spec.labels.clone(),
        internal: spec.internal,
        subnet,
        gateway,
    })
}

/// The first IPv4 subnet with its gateway, which is the usual one where the engine does not say.
fn subnet_of(ipam: Option<Ipam>) -> Option<(Ipv4Net, std::net::Ipv4Addr)> {
    ipam?.config?.into_iter().find_map(|config| {
        let subnet = config.subnet?.parse::<Ipv4Net>().ok()?;
        let gateway = config.gateway.and_then(|text| text.parse().ok()).unwrap_or_else(|| subnet.usual_gateway());
        Some((subnet, gateway))
    })
}

pub(super) async fn remove(wire: &Wire, network: &str) -> Result<(), EngineError> {
    if !is_path_safe(network) {
        return Ok(());
    }
    let about = About::network("remove a network", network);
    let answer = deadline::within(about.what, deadline::NETWORK, async {
        wire.docker.remove_network(network).await.map_err(|error| about.translate(&wire.endpoint, error))
    })
    .await;
    match answer {
        Ok(()) | Err(EngineError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) async fn list(wire: &Wire, labels: &Labels) -> Result<Vec<Network>, EngineError> {
    let about = About::network("list networks", "");
    let options = ListNetworksOptionsBuilder::new().filters(&label_filter(labels)).build();
    let answer = deadline::within(about.what, deadline::READ, async {
        wire.docker.list_networks(Some(options)).await.map_err(|error| about.translate(&wire.endpoint, error))
    })
    .await?;
    Ok(answer
        .into_iter()
        .filter_map(|network| {
            let (subnet, gateway) = subnet_of(network.ipam)?;
            Some(Network {
                id: NetworkId(network.id?),
                name: network.name?,
                labels: network.labels.unwrap_or_default().into_iter().collect(),
                internal: network.internal.unwrap_or(false),
                subnet,
                gateway,
            })
        })
        .collect())
}

/// The engine's form of "carries all of these labels".
pub(super) fn label_filter(labels: &Labels) -> HashMap<String, Vec<String>> {
    let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if wanted.is_empty() { HashMap::new() } else { HashMap::from([("label".to_owned(), wanted)]) }
}
