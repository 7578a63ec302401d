//! Networks of our own, and their subnets.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::Labels;

/// The engine's own id of a network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct NetworkId(pub String);

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What to create. IPv6 and traffic between containers of the network are always off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    pub name: String,
    pub labels: Labels,
    /// Without a route out: only the gateway answers.
    pub internal: bool,
    /// A subnet to use; if `None`, a free one is chosen (see [`subnets`](super::subnets)), or by the engine where it knows better.
    pub subnet: Option<Ipv4Net>,
}

/// A network that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub id: NetworkId,
    pub name: String,
    pub labels: Labels,
    pub internal: bool,
    pub subnet: Ipv4Net,
    /// The host's own address on it: listeners there are reached by its containers, and by nobody outside the host.
    pub gateway: Ipv4Addr,
}

/// A text that is no subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no IPv4 subnet; write it like 10.90.7.0/24")]
pub struct BadSubnet {
    pub value: String,
}

/// An IPv4 subnet, its host bits zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv4Net {
    first: u32,
    prefix: u8,
}

impl Ipv4Net {
    /// The subnet of `prefix` bits (0..=32) around an address; `None` if `prefix` is above 32.
    #[must_use]
    pub fn around(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        (prefix <= 32).then(|| Self { first: u32::from(address) & mask(prefix), prefix })
    }

    /// A subnet that is known at compile time; its host bits have to be zero.
    pub(super) const fn of(first: [u8; 4], prefix: u8) -> Self {
        Self { first: u32::from_be_bytes(first), prefix }
    }

    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The first address, which names the subnet.
    #[must_use]
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(self.first)
    }

    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.first
    }

    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = mask(self.prefix.min(other.prefix));
        self.first & shorter == other.first & shorter
    }

    /// The address after the first one, which engines give to the gateway.
    #[must_use]
    pub fn usual_gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.first.saturating_add(1))
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix)
    }
}

impl fmt::Debug for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Ipv4Net {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Ipv4Net {
    type Err = BadSubnet;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let bad = || BadSubnet { value: value.to_owned() };
        let (address, prefix) = value.split_once('/').ok_or_else(bad)?;
        let address = address.parse::<Ipv4Addr>().map_err(|_| bad())?;
        let prefix = prefix.parse::<u8>().map_err(|_| bad())?;
        Self::around(address, prefix).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_know_what_they_hold() {
        assert_eq!(net("172.17.3.9/16").to_string(), "172.17.0.0/16");
        assert!(net("10.0.0.0/8").overlaps(net("10.9.0.0/24")));
        assert!(net("10.9.0.0/24").overlaps(net("10.0.0.0/8")));
        assert!(!net("10.9.0.0/24").overlaps(net("10.9.1.0/24")));
        assert!(net("0.0.0.0/0").contains(Ipv4Addr::new(1, 2, 3, 4)));
        assert!(net("1.2.3.4/32").contains(Ipv4Addr::new(1, 2, 3, 4)));
        assert_eq!(net("172.18.0.0/16").usual_gateway(), Ipv4Addr::new(172, 18, 0, 1));
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/8", "10.0.0.0/-1"] {
            assert!(bad.parse::<Ipv4Net>().is_err(), "{bad}");
        }
    }
}
