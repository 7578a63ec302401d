//! The choice of a subnet for a session's network.
//!
//! Engines choose by themselves, and some do not look at the host's routes: a network of theirs then covers a part of a VPN
//! or of a company's network, for the whole host. So aigo chooses: out of pools of private ranges, what neither a route
//! of the host nor a network of the engine overlaps, and no more than a session needs.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::Ipv4Net;

/// The variable that names pools where no configuration does.
pub const SUBNETS_VARIABLE: &str = "AIGO_ENGINE_SUBNETS";

/// Bits of a session's subnet: 14 addresses, for the gateway and the session's one container.
pub const PREFIX: u8 = 28;

/// Bits of a pool. The largest private range has the first of these (RFC 1918).
const POOL: std::ops::RangeInclusive<u8> = 8..=PREFIX;

/// Routes with fewer bits are default routes in parts, such as the two halves by which a VPN takes all traffic: every
/// private range is in one of them.
const LEAST: u8 = 8;

/// Subnets of one pool that are looked at: a pool of eight bits has a million.
const LOOKS: u32 = 1 << 16;

/// What is chosen from if nobody says otherwise: the private ranges that home and company networks use least, first.
const DEFAULT: [Ipv4Net; 4] = [
    Ipv4Net::of([10, 201, 0, 0], 16),
    Ipv4Net::of([172, 30, 0, 0], 15),
    Ipv4Net::of([10, 202, 0, 0], 15),
    Ipv4Net::of([192, 168, 224, 0], 19),
];

/// The ranges that subnets are chosen from, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    ranges: Vec<Ipv4Net>,
    /// An operator has named them. A route that leads a larger range elsewhere does not count then: the operator knows that
    /// this part of it is free, as on a machine whose VPN has routes for all private ranges.
    named: bool,
}

/// A text that names no pools.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` {why}; write private ranges with commas in between, such as 10.90.0.0/16, 172.24.0.0/14")]
pub struct BadPools {
    value: String,
    why: String,
}

impl Pools {
    /// The engine's own pools (`default-address-pools` of Docker's configuration), and the usual ones after them.
    pub fn after(engines: &[Ipv4Net]) -> Self {
        let fits = |pool: &&Ipv4Net| POOL.contains(&pool.prefix());
        Self { ranges: engines.iter().filter(fits).copied().chain(DEFAULT).collect(), named: false }
    }

    /// Subnets that overlap none of `taken`, pool by pool, each from a place in it that follows from `name`: launches that
    /// look at the same time do not all try the same one first.
    pub fn free<'a>(&'a self, taken: &[Ipv4Net], name: &str) -> impl Iterator<Item = Ipv4Net> + use<'a> {
        let start = place_of(name);
        let taken: Vec<Ipv4Net> = taken.iter().copied().filter(|net| net.prefix() >= LEAST).collect();
        let named = self.named;
        self.ranges.iter().flat_map(move |pool| {
            let counts = |net: &Ipv4Net| net.overlaps(*pool) && (!named || net.prefix() >= pool.prefix());
            let here: Vec<Ipv4Net> = taken.iter().copied().filter(counts).collect();
            let count = 1u32 << (PREFIX - pool.prefix().min(PREFIX));
            let is_covered = here.iter().any(|net| net.prefix() <= pool.prefix());
            let looks = if is_covered { 0 } else { count.min(LOOKS) };
            let first = u32::from(pool.first());
            (0..looks)
                .map(move |index| first + ((start.wrapping_add(index) % count) << (32 - PREFIX)))
                .filter_map(|first| Ipv4Net::around(Ipv4Addr::from(first), PREFIX))
                .filter(move |candidate| !here.iter().any(|other| other.overlaps(*candidate)))
        })
    }
}

impl Default for Pools {
    fn default() -> Self {
        Self { ranges: DEFAULT.to_vec(), named: false }
    }
}

impl fmt::Display for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.ranges.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(", "))
    }
}

impl FromStr for Pools {
    type Err = BadPools;

    fn from_str(text: &str) -> Result<Self, BadPools> {
        let bad = |value: &str, why: String| BadPools { value: value.to_owned(), why };
        let mut pools = Vec::new();
        for value in text.split(',').map(str::trim) {
            let pool: Ipv4Net = value.parse().map_err(|_| bad(value, "is no IPv4 range".to_owned()))?;
            if !POOL.contains(&pool.prefix()) {
                let why = format!("has a prefix that is not from {} to {}", POOL.start(), POOL.end());
                return Err(bad(value, why));
            }
            let first = pool.first();
            if first.is_loopback() || first.is_link_local() || first.is_multicast() || first.octets()[0] == 0 {
                return Err(bad(value, "is a range that the Internet's protocols have another use for".to_owned()));
            }
            pools.push(pool);
        }
        Ok(Self { ranges: pools, named: true })
    }
}

/// A number for a name, by FNV-1a: any that spreads would do.
fn place_of(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_that_an_operator_named_may_be_a_part_of_a_route() {
        let named: Pools = "10.90.0.0/16".parse().unwrap();
        let first = |taken: &[Ipv4Net]| named.free(taken, "n").next();
        assert!(first(&[net("10.0.0.0/8")]).is_some());
        assert!(first(&[net("10.90.0.0/16")]).is_none());
        let found = first(&[net("10.90.0.0/17")]).unwrap();
        assert!(!found.overlaps(net("10.90.0.0/17")));
    }

    #[test]
    fn a_free_subnet_overlaps_no_route() {
        let first = |taken: &[Ipv4Net]| Pools::default().free(taken, "n").next();
        let within = |range: &str, taken: &[Ipv4Net]| first(taken).is_some_and(|found| net(range).overlaps(found));
        assert!(within("10.201.0.0/16", &[]));
        assert!(within("172.30.0.0/15", &[net("10.0.0.0/8")]));
        assert!(within("192.168.224.0/19", &[net("10.0.0.0/8"), net("172.16.0.0/12")]));
        assert!(within("10.201.128.0/17", &[net("10.201.0.0/17")]));
        assert!(within("10.201.0.0/17", &[net("10.201.128.0/17")]));
        assert_eq!(first(&[net("10.0.0.0/8"), net("172.16.0.0/12"), net("192.168.0.0/16")]), None);
        let default_in_two_parts = [net("0.0.0.0/1"), net("128.0.0.0/1"), net("0.0.0.0/0")];
        assert!(within("10.201.0.0/16", &default_in_two_parts));
        let all: BTreeSet<Ipv4Net> = Pools::default().free(&[], "n").collect();
        assert_eq!(all.len(), 4096 + 8192 + 8192 + 512);
        assert!(all.iter().all(|subnet| subnet.prefix() == PREFIX));
        let busy = net("10.201.7.16/28");
        assert!(Pools::default().free(&[busy], "n").all(|free| !free.overlaps(busy)));
    }

    #[test]
    fn the_pools_of_the_engines_configuration_go_first() {
        let pools = Pools::after(&[net("10.214.0.0/16"), net("1.0.0.0/4")]);
        assert_eq!(pools.to_string(), "10.214.0.0/16, 10.201.0.0/16, 172.30.0.0/15, 10.202.0.0/15, 192.168.224.0/19");
        assert!(net("10.214.0.0/16").overlaps(pools.free(&[], "n").next().unwrap()));
    }

    #[test]
    fn pools_are_read() {
        let pools: Pools = "10.90.0.0/16,172.24.0.0/28".parse().unwrap();
        assert_eq!(pools.to_string(), "10.90.0.0/16, 172.24.0.0/28");
        assert_eq!(pools.free(&[net("10.90.0.0/16")], "n").collect::<Vec<_>>(), [net("172.24.0.0/28")]);
        assert!("10.0.0.0/8".parse::<Pools>().unwrap().free(&[], "n").count() <= LOOKS as usize);
        for bad in
            ["", "10.0.0.0", "10.0.0.0/7", "10.0.0.0/29", "127.0.0.0/8", "224.0.0.0/8", "fd00::/8", "10.0.0.0/8,"]
        {
            let said = bad.parse::<Pools>().unwrap_err().to_string();
            assert!(said.contains("such as 10.90.0.0/16"), "{said}");
        }
    }

    /// Forty launches have seen the same subnets taken; each takes the first of its own that nobody has taken meanwhile.
    #[test]
    fn launches_at_once_find_a_subnet_within_a_few_tries() {
        let mut taken = BTreeSet::new();
        for session in 0..40 {
            let pools = Pools::default();
            let mut tries = pools.free(&[], &format!("aigo-{session:012x}"));
            let place = tries.position(|candidate| taken.insert(candidate));
            assert!(place.is_some_and(|place| place < 8), "session {session}: {place:?}");
        }
    }
}
