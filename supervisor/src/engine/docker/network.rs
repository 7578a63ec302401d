//! Networks of our own: create (with our own choice of subnet where the engine has none left), list, remove.

use std::collections::HashMap;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions, ListNetworksOptionsBuilder};

use super::dialect::Dialect;
use super::error::About;
use super::libpod;
use super::wire::{Wire, is_path_safe};
use crate::engine::network::{free_subnets, parse_routes};
use crate::engine::{EngineError, Ipv4Net, Labels, Network, NetworkId, NetworkSpec, deadline};

/// How many subnets of our own choice are tried: another engine or a VPN may take one between our look and our call.
const SUBNET_TRIES: usize = 16;
/// The kernel's IPv4 routes (proc(5)).
const ROUTES: &str = "/proc/net/route";

pub(super) async fn create(wire: &Wire, spec: &NetworkSpec) -> Result<Network, EngineError> {
    deadline::within("create a network", deadline::NETWORK, async {
        match create_in(wire, spec, spec.subnet).await {
            Err(EngineError::NoFreeSubnet) if spec.subnet.is_none() => create_in_free(wire, spec).await,
            other => other,
        }
    })
    .await
}

async fn create_in_free(wire: &Wire, spec: &NetworkSpec) -> Result<Network, EngineError> {
    // Where there is no such file (macOS) the engine's networks alone are avoided; its VM has no other routes of ours.
    let mut taken = tokio::fs::read_to_string(ROUTES).await.map(|text| parse_routes(&text)).unwrap_or_default();
    let about = About::network("list networks", "");
    let all = wire
        .docker
        .list_networks(None::<ListNetworksOptions>)
        .await
        .map_err(|error| about.translate(&wire.endpoint, error))?;
    taken.extend(all.into_iter().filter_map(|network| subnet_of(network.ipam).map(|(subnet, _)| subnet)));
    for subnet in free_subnets(&taken, &spec.name).take(SUBNET_TRIES) {
        match create_in(wire, spec, Some(subnet)).await {
            Err(EngineError::SubnetTaken { .. }) => {}
            other => return other,
        }
    }
    Err(EngineError::NoFreeSubnet)
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
