use std::hash::{BuildHasher, Hasher};

const SEED: u64 = 0x243f_6a88_85a3_08d3;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Builds [`ScopeHasher`]s.
///
/// A scope is the output of a keyed hash, so nobody can choose scopes that collide. Mixing its words
/// is enough, and several times cheaper than the default hasher of the standard library.
#[derive(Clone, Copy, Default)]
pub(in crate::store) struct ScopeHash;

impl BuildHasher for ScopeHash {
    type Hasher = ScopeHasher;

    fn build_hasher(&self) -> ScopeHasher {
        ScopeHasher(SEED)
    }
}

pub(in crate::store) struct ScopeHasher(u64);

impl ScopeHasher {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(FACTOR);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for ScopeHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.mix(u64::from(*byte));
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::scope::Scope;

    #[test]
    fn scopes_that_differ_in_one_byte_spread_over_all_bits() {
        let hashes: Vec<u64> = (0..=255_u8)
            .flat_map(|byte| (0..32).map(move |at| (at, byte)))
            .filter(|(at, byte)| *byte != 0 || *at == 0)
            .map(|(at, byte)| {
                let mut bytes = [0; 32];
                bytes[at] = byte;
                ScopeHash.hash_one(Scope::from_bytes(bytes))
            })
            .collect();
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
        for shift in [0, 16, 32, 48, 57] {
            let mut buckets = [0_usize; 16];
            for hash in &hashes {
                buckets[(hash >> shift) as usize & 15] += 1;
            }
            let mean = hashes.len() / 16;
            assert!(buckets.iter().all(|count| count.abs_diff(mean) < mean / 4), "{shift}: {buckets:?}");
        }
    }
}
