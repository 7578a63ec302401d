//! Networks of our own, and the choice of a subnet where the engine has run out of them.

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
    /// A subnet to use; the engine's choice if `None`.
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

/// Private ranges searched for a free /24 (RFC 1918), those that home and company networks use least first.
const RANGES: [(Ipv4Addr, u8); 3] =
    [(Ipv4Addr::new(10, 201, 0, 0), 16), (Ipv4Addr::new(172, 30, 0, 0), 15), (Ipv4Addr::new(10, 202, 0, 0), 15)];

/// Private /24 subnets that overlap none of `taken`, range by range, each from a place in it that follows from `name`: those
/// who look at the same time do not all try the same one first.
pub fn free_subnets<'a>(taken: &'a [Ipv4Net], name: &str) -> impl Iterator<Item = Ipv4Net> + 'a {
    let start = place_of(name);
    RANGES
        .into_iter()
        .flat_map(move |(first, prefix)| {
            let count = 1u32 << (24 - prefix);
            let nth = move |index: u32| u32::from(first) + ((start.wrapping_add(index) % count) << 8);
            (0..count).map(move |index| Ipv4Net { first: nth(index), prefix: 24 })
        })
        .filter(|candidate| !taken.iter().any(|other| other.overlaps(*candidate)))
}

/// A number for a name, by FNV-1a: any that spreads would do.
fn place_of(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The destinations in the text of `/proc/net/route` (proc(5): addresses are hexadecimal in the machine's byte order),
/// without the default route. Lines that make no sense are left out.
pub fn parse_routes(text: &str) -> Vec<Ipv4Net> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let destination = u32::from_str_radix(fields.nth(1)?, 16).ok()?.to_ne_bytes();
            let mask = u32::from_str_radix(fields.nth(5)?, 16).ok()?.to_ne_bytes();
            let prefix = u8::try_from(u32::from_be_bytes(mask).count_ones()).ok()?;
            Ipv4Net::around(Ipv4Addr::from(destination), prefix)
        })
        .filter(|route| route.prefix > 0)
        .collect()
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

    #[test]
    fn a_free_subnet_avoids_what_is_taken() {
        let first = |taken: &[Ipv4Net]| free_subnets(taken, "n").next();
        let within = |range: &str, taken: &[Ipv4Net]| first(taken).is_some_and(|found| net(range).overlaps(found));
        assert!(within("10.201.0.0/16", &[]));
        assert!(within("172.30.0.0/15", &[net("10.0.0.0/8")]));
        assert!(within("10.201.128.0/17", &[net("10.201.0.0/17")]));
        assert!(within("10.201.0.0/17", &[net("10.201.128.0/17")]));
        assert_eq!(first(&[net("0.0.0.0/0")]), None);
        let all: std::collections::BTreeSet<u32> = free_subnets(&[], "n").map(|net| net.first).collect();
        assert_eq!(all.len(), 256 + 512 + 512);
    }

    /// Forty launches have seen the same subnets taken; each takes the first of its own that nobody has taken meanwhile.
    #[test]
    fn those_who_look_at_once_find_one_within_a_few_tries() {
        let mut taken = std::collections::BTreeSet::new();
        for session in 0..40 {
            let mut tries = free_subnets(&[], &format!("aigo-{session:012x}"));
            let place = tries.position(|candidate| taken.insert(candidate.first));
            assert!(place.is_some_and(|place| place < 8), "session {session}: {place:?}");
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn routes_are_read() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                    junk\n";
        assert_eq!(parse_routes(text), vec![net("172.17.0.0/16")]);
    }
}
