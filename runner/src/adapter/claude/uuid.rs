//! A stable uuid for each input.

use ipc_protocol::id::MessageId;

/// FNV-1a, 128 bit: enough to keep the few thousand ids of one session apart, and nobody gains from a collision but the
/// host, which chooses the ids.
const FNV_OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const FNV_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

/// The uuid of an input of a session: the same at each call. Shaped as version 4 (RFC 9562), as the CLI's own are.
pub(super) fn of_input(session: &str, id: &MessageId) -> String {
    let bytes = session.bytes().chain([0]).chain(id.as_str().bytes());
    let hash = bytes.fold(FNV_OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(FNV_PRIME));
    let hash = hash & !(0xf << 76) | (4 << 76);
    let hash = hash & !(0b11 << 62) | (0b10 << 62);
    let hex = format!("{hash:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn stable_distinct_and_well_formed() {
        let of = |session: &str, id: &str| of_input(session, &id.parse().unwrap());
        assert_eq!(of("s", "m1"), of("s", "m1"));
        let all: BTreeSet<String> = (0..10_000).map(|n| of("s", &format!("m{n}"))).chain([of("t", "m1")]).collect();
        assert_eq!(all.len(), 10_001);
        for uuid in all {
            assert_eq!(uuid.len(), 36);
            assert_eq!(&uuid[14..15], "4", "{uuid}");
            assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
        }
    }
}
