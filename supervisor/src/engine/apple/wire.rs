//! The command's JSON, in the forms that its versions print, as our own data.
//!
//! ```text
//! containers  0.x  [{status: "running", configuration: {id, image, …}, networks: [{network, address, gateway}], startedDate?}]
//!             1.x  [{id, configuration, status: {state, networks: [{network, ipv4Address, …}], startedDate?}}]
//! networks    0.x  [{id, state, config: {id, labels?}, status: {address, gateway}}]
//!             1.x  [{id, configuration: {name, labels}, status: {ipv4Subnet, ipv4Gateway}}]
//! images      0.x  [{reference, descriptor: {digest}}], inspected [{name, index: {digest}, variants: [{platform, size, config}]}]
//!             1.x  [{id, name, configuration: {reference, descriptor}, variants}]
//! ```
//!
//! Keys that nobody asks for are not read. Dates are RFC 3339 texts, or seconds since 2001 where the encoder was left as it
//! comes (Foundation's reference date).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::cli::Answer;
use super::error;
use crate::engine::{
    ContainerId, ContainerSummary, EngineError, ImageId, ImageInfo, Ipv4Net, Labels, Limits, Network, NetworkId,
};

/// 2001-01-01T00:00:00Z in seconds since 1970.
const REFERENCE_DATE: f64 = 978_307_200.0;
/// Registries that the command puts before short names, and leaves out again when it prints some of them.
const DEFAULT_REGISTRY: [&str; 2] = ["docker.io/library/", "docker.io/"];

/// Reads an answer.
pub(super) fn read<T: DeserializeOwned>(what: &'static str, answer: &Answer) -> Result<T, EngineError> {
    serde_json::from_slice(&answer.stdout).map_err(|error| error::malformed(what, &error))
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Date {
    Text(String),
    Seconds(f64),
}

impl Date {
    fn time(&self) -> Option<Timestamp> {
        match self {
            Date::Text(text) => text.parse().ok(),
            #[expect(clippy::cast_possible_truncation, reason = "saturates, and an absurd time is refused then")]
            Date::Seconds(seconds) => Timestamp::from_millisecond(((seconds + REFERENCE_DATE) * 1000.0) as i64).ok(),
        }
    }
}

fn time(date: Option<&Date>) -> Option<Timestamp> {
    date.and_then(Date::time)
}

/// A container of the list.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Container {
    configuration: Configuration,
    status: Status,
    #[serde(default)]
    networks: Vec<Attachment>,
    #[serde(rename = "startedDate")]
    started: Option<Date>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Status {
    State(String),
    Whole {
        state: String,
        #[serde(default)]
        networks: Vec<Attachment>,
        #[serde(rename = "startedDate")]
        started: Option<Date>,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    id: String,
    image: Description,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    networks: Vec<Joined>,
    resources: Option<Resources>,
    creation_date: Option<Date>,
}

#[derive(Debug, Clone, Deserialize)]
struct Description {
    reference: String,
    descriptor: Descriptor,
}

#[derive(Debug, Clone, Deserialize)]
struct Descriptor {
    digest: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Joined {
    Name(String),
    Whole { network: String },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resources {
    cpus: u64,
    memory_in_bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Attachment {
    network: String,
    /// With the length of the subnet's prefix.
    #[serde(rename = "ipv4Address", alias = "address")]
    address: Option<String>,
}

impl Container {
    pub(super) fn id(&self) -> ContainerId {
        ContainerId(self.configuration.id.clone())
    }

    /// Whether its machine runs, by the list. What is neither running nor stopped is on its way, or unknown: nobody told
    /// of an end.
    pub(super) fn is_live(&self) -> bool {
        let (Status::State(state) | Status::Whole { state, .. }) = &self.status;
        state != "stopped"
    }

    pub(super) fn is_running(&self) -> bool {
        let (Status::State(state) | Status::Whole { state, .. }) = &self.status;
        state == "running"
    }

    /// When it was started, if this version tells it and it was.
    pub(super) fn started_at(&self) -> Option<Timestamp> {
        match &self.status {
            Status::State(_) => time(self.started.as_ref()),
            Status::Whole { started, .. } => time(started.as_ref()),
        }
    }

    pub(super) fn labels(&self) -> &Labels {
        &self.configuration.labels
    }

    /// The digest of its image.
    pub(super) fn image(&self) -> &str {
        &self.configuration.image.descriptor.digest
    }

    /// Addresses by network; none unless it runs.
    pub(super) fn addresses(&self) -> BTreeMap<String, Ipv4Addr> {
        let attachments = match &self.status {
            Status::State(_) => &self.networks,
            Status::Whole { networks, .. } => networks,
        };
        let address = |text: &str| text.split('/').next()?.parse().ok();
        attachments.iter().filter_map(|one| Some((one.network.clone(), address(one.address.as_deref()?)?))).collect()
    }

    /// Whether it was created on this network.
    pub(super) fn is_on(&self, network: &str) -> bool {
        self.configuration.networks.iter().any(|joined| match joined {
            Joined::Name(name) | Joined::Whole { network: name } => name == network,
        })
    }

    pub(super) fn limits(&self) -> Limits {
        let resources = self.configuration.resources.as_ref();
        Limits {
            nano_cpus: resources.map(|resources| resources.cpus.saturating_mul(1_000_000_000)),
            memory: resources.map(|resources| resources.memory_in_bytes),
            ..Limits::default()
        }
    }

    pub(super) fn created_at(&self) -> Option<Timestamp> {
        time(self.configuration.creation_date.as_ref())
    }

    pub(super) fn summary(&self, phase: crate::engine::ContainerPhase) -> ContainerSummary {
        ContainerSummary {
            id: self.id(),
            name: self.configuration.id.clone(),
            image: plain(&self.configuration.image.reference),
            labels: self.configuration.labels.clone(),
            phase,
            created_at: self.created_at(),
        }
    }
}

/// A network of the list.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ListedNetwork {
    id: String,
    #[serde(alias = "config")]
    configuration: NetworkConfiguration,
    /// Absent until it runs.
    status: Option<NetworkStatus>,
}

#[derive(Debug, Clone, Deserialize)]
struct NetworkConfiguration {
    #[serde(default)]
    mode: String,
    #[serde(default)]
    labels: Labels,
}

#[derive(Debug, Clone, Deserialize)]
struct NetworkStatus {
    #[serde(rename = "ipv4Subnet", alias = "address")]
    subnet: String,
    #[serde(rename = "ipv4Gateway", alias = "gateway")]
    gateway: String,
}

impl ListedNetwork {
    pub(super) fn name(&self) -> &str {
        &self.id
    }

    /// As our own; `None` until it runs, and for one without IPv4.
    pub(super) fn network(&self) -> Option<Network> {
        let status = self.status.as_ref()?;
        // With a prefix in some versions.
        let gateway = status.gateway.split('/').next()?.parse().ok()?;
        Some(Network {
            id: NetworkId(self.id.clone()),
            name: self.id.clone(),
            labels: self.configuration.labels.clone(),
            internal: self.configuration.mode == "hostOnly",
            subnet: status.subnet.parse::<Ipv4Net>().ok()?,
            gateway,
        })
    }
}

/// An image of the list.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ListedImage {
    #[serde(alias = "name")]
    reference: Option<String>,
    descriptor: Option<Descriptor>,
    configuration: Option<Description>,
}

impl ListedImage {
    pub(super) fn reference(&self) -> Option<&str> {
        self.reference.as_deref().or_else(|| Some(&self.configuration.as_ref()?.reference))
    }

    pub(super) fn digest(&self) -> Option<&str> {
        let descriptor = self.descriptor.as_ref().or_else(|| Some(&self.configuration.as_ref()?.descriptor));
        descriptor.map(|descriptor| descriptor.digest.as_str())
    }
}

/// An image as it is inspected.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Image {
    name: String,
    index: Option<Descriptor>,
    configuration: Option<Description>,
    variants: Vec<Variant>,
}

#[derive(Debug, Clone, Deserialize)]
struct Variant {
    platform: Platform,
    size: u64,
    config: VariantConfig,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

#[derive(Debug, Clone, Deserialize)]
struct VariantConfig {
    created: Option<String>,
    config: Option<OciConfig>,
}

/// OCI image specification, `config` of an image configuration. Absent and `null` are one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OciConfig {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    labels: Option<Labels>,
}

impl Image {
    /// As our own, in the variant of `architecture` or else the first for Linux; `None` if there is none, or no digest.
    pub(super) fn info(self, architecture: &str) -> Option<ImageInfo> {
        let digest = self.configuration.map(|description| description.descriptor).or(self.index)?.digest;
        let mut variants: Vec<Variant> = self.variants;
        variants.retain(|variant| variant.platform.os == "linux" && variant.platform.architecture != "unknown");
        variants.sort_by_key(|variant| variant.platform.architecture != architecture);
        let variant = variants.into_iter().next()?;
        let config = variant.config.config.unwrap_or_default();
        let pair = |line: String| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(ImageInfo {
            id: ImageId(digest),
            tags: vec![plain(&self.name)],
            size: variant.size,
            created: variant.config.created.and_then(|text| text.parse().ok()),
            labels: config.labels.unwrap_or_default(),
            env: config.env.unwrap_or_default().into_iter().filter_map(pair).collect(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            working_dir: config.working_dir.unwrap_or_default(),
            architecture: variant.platform.architecture,
        })
    }
}

/// A reference as people write it.
fn plain(reference: &str) -> String {
    DEFAULT_REGISTRY.iter().find_map(|registry| reference.strip_prefix(registry)).unwrap_or(reference).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"{"status":"running","networks":[{"address":"192.168.64.3/24","gateway":"192.168.64.1",
        "hostname":"a.test.","network":"default"}],"configuration":{"id":"a","hostname":"a","mounts":[],
        "networks":["default"],"image":{"reference":"docker.io/library/alpine:latest","descriptor":{"digest":"sha256:1",
        "mediaType":"x","size":1}},"resources":{"cpus":4,"memoryInBytes":1073741824}}}"#;
    const NEW: &str = r#"{"id":"a","configuration":{"id":"a","image":{"reference":"r:1","descriptor":{"digest":"sha256:1"}},
        "labels":{"k":"v"},"networks":[{"network":"n","options":{"hostname":"a","mtu":1280}}],
        "creationDate":"2026-08-05T05:41:00Z","resources":{"cpus":2,"memoryInBytes":209715200}},
        "status":{"state":"stopped","networks":[],"startedDate":"2026-08-05T05:42:00Z"}}"#;

    #[test]
    fn both_forms_of_a_container_are_read() {
        let old: Container = serde_json::from_str(OLD).unwrap();
        assert!(old.is_live() && old.is_running() && old.started_at().is_none() && old.is_on("default"));
        assert_eq!(old.addresses()["default"], Ipv4Addr::new(192, 168, 64, 3));
        assert_eq!(old.limits().nano_cpus, Some(4_000_000_000));
        assert_eq!(old.summary(crate::engine::ContainerPhase::Running).image, "alpine:latest");
        let new: Container = serde_json::from_str(NEW).unwrap();
        assert!(!new.is_live() && new.is_on("n") && !new.is_on("default") && new.addresses().is_empty());
        assert_eq!(new.started_at(), "2026-08-05T05:42:00Z".parse().ok());
        assert_eq!((new.labels()["k"].as_str(), new.limits().memory), ("v", Some(209_715_200)));
    }

    #[test]
    fn both_forms_of_a_network_are_read() {
        for text in [
            r#"{"id":"n","state":"running","config":{"id":"n","mode":"nat"},
                "status":{"gateway":"192.168.65.1","address":"192.168.65.0/24"}}"#,
            r#"{"id":"n","configuration":{"name":"n","mode":"nat","labels":{}},
                "status":{"ipv4Gateway":"192.168.65.1","ipv4Subnet":"192.168.65.0/24","ipv6Subnet":"fd00::/64"}}"#,
        ] {
            let network = serde_json::from_str::<ListedNetwork>(text).unwrap().network().unwrap();
            assert_eq!(
                (network.gateway.to_string(), network.subnet.to_string()),
                ("192.168.65.1".into(), "192.168.65.0/24".into())
            );
            assert!(!network.internal);
        }
        let created: ListedNetwork =
            serde_json::from_str(r#"{"id":"n","state":"created","config":{"id":"n"}}"#).unwrap();
        assert_eq!((created.name(), created.network()), ("n", None));
    }

    #[test]
    fn seconds_since_2001_are_a_date() {
        assert_eq!(Date::Seconds(0.0).time(), "2001-01-01T00:00:00Z".parse().ok());
        assert_eq!(Date::Seconds(1e300).time(), None);
    }
}
