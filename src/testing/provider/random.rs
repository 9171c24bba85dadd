//! Ids and opaque bytes that never repeat, but do so with a seed.

use std::sync::atomic::{AtomicU64, Ordering};

/// A source of bytes.
pub(crate) struct Random {
    seed: [u8; 32],
    drawn: AtomicU64,
}

impl Random {
    /// A source whose bytes follow from `seed`, or differ from those of every other source of this process.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        static SOURCES: AtomicU64 = AtomicU64::new(0);
        let mut material = [0; 9];
        let number = match seed {
            Some(seed) => seed,
            None => {
                material[8] = 1;
                SOURCES.fetch_add(1, Ordering::Relaxed)
            }
        };
        material[..8].copy_from_slice(&number.to_le_bytes());
        Self { seed: *blake3::hash(&material).as_bytes(), drawn: AtomicU64::new(0) }
    }

    /// Bytes without end, other ones at each call.
    pub(crate) fn draw(&self) -> blake3::OutputReader {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        blake3::Hasher::new_keyed(&self.seed).update(&number.to_le_bytes()).finalize_xof()
    }

    /// A random name of `length` characters out of `a-z0-9`.
    pub(crate) fn name(&self, length: usize) -> String {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let mut bytes = vec![0; length];
        self.draw().fill(&mut bytes);
        bytes.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
    }
}
