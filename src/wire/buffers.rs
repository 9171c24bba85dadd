//! Memory of large bodies that are over, for those to come.
//!
//! A page that the process has not touched yet costs more than to copy what it holds, and allocators give large
//! blocks back to the system.

use std::{
    collections::VecDeque,
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

/// Shorter ones are not kept: an allocator has them at hand.
const MIN_KEPT: usize = 32 << 10;

/// A buffer is not used for bodies of less than this part of it.
const MIN_PART: usize = 8;

/// Buffers that are in use by nobody. Clones share them.
#[derive(Clone)]
pub(crate) struct Buffers(Arc<Kept>);

struct Kept {
    /// How many bytes they have in all, at most.
    most: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// The one that was used last stands last.
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Kept { most, held: Mutex::default() }))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty buffer with room for so many bytes.
    pub(crate) fn take(&self, room: usize) -> Buffer {
        if room < MIN_KEPT || room > self.0.most {
            return Buffer { bytes: Vec::with_capacity(room), home: None };
        }
        // The next request of a conversation is a little longer.
        let bytes = self.held().take(room).unwrap_or_else(|| Vec::with_capacity(room + room / 4));
        Buffer { bytes, home: Some(self.clone()) }
    }

    fn put(&self, mut bytes: Vec<u8>) {
        if bytes.capacity() > self.0.most {
            return;
        }
        bytes.clear();
        let mut held = self.held();
        held.bytes += bytes.capacity();
        held.buffers.push_back(bytes);
        drop(held);
        // To give memory back takes time, in which others need not wait.
        while let Some(oldest) = self.over() {
            drop(oldest);
        }
    }

    /// The oldest, if there are too many.
    fn over(&self) -> Option<Vec<u8>> {
        let mut held = self.held();
        let oldest = if held.bytes > self.0.most { held.buffers.pop_front() } else { None }?;
        held.bytes -= oldest.capacity();
        Some(oldest)
    }
}

impl Held {
    /// The smallest that has the room, if that is not far too large.
    fn take(&mut self, room: usize) -> Option<Vec<u8>> {
        let sizes = self.buffers.iter().map(Vec::capacity).enumerate();
        let fitting = sizes.filter(|(_, size)| (room..=room.saturating_mul(MIN_PART)).contains(size));
        let (at, _) = fitting.min_by_key(|(_, size)| *size)?;
        let buffer = self.buffers.remove(at)?;
        self.bytes -= buffer.capacity();
        Some(buffer)
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").field("bytes", &self.held().bytes).finish_non_exhaustive()
    }
}

/// Bytes that are written. Their memory is used again once nobody needs it any more.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Option<Buffers>,
}

impl Buffer {
    /// What was written, to be shared.
    pub(crate) fn freeze(mut self) -> Bytes {
        match self.home {
            Some(_) => Bytes::from_owner(self),
            None => std::mem::take(&mut self.bytes).into(),
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.put(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    fn sizes(buffers: &Buffers) -> Vec<usize> {
        buffers.held().buffers.iter().map(|buffer| buffer.capacity() / KIB).collect()
    }

    #[test]
    fn memory_is_used_again_once_the_last_holder_is_gone() {
        let buffers = Buffers::new(1 << 20);
        let mut buffer = buffers.take(100 * KIB);
        buffer.extend_from_slice(&[b'a'; 100 * KIB]);
        let memory = buffer.as_ptr();
        let body = buffer.freeze();
        assert_eq!(body.as_ptr(), memory, "it is not copied");
        let part = body.slice(50 * KIB..);
        drop(body);
        assert!(sizes(&buffers).is_empty(), "someone holds a part of it");
        drop(part);
        assert_eq!(sizes(&buffers), [125]);

        let again = buffers.take(110 * KIB);
        assert_eq!((again.as_ptr(), again.len()), (memory, 0));
        drop(again);
        assert_eq!(sizes(&buffers), [125], "it comes back, written or not");
    }

    #[test]
    fn the_smallest_that_fits_is_taken_and_none_that_is_far_too_large() {
        let buffers = Buffers::new(8 << 20);
        let all = [400, 160, 4000].map(|size| buffers.take(size * KIB));
        drop(all);
        assert_eq!(sizes(&buffers), [500, 200, 5000]);
        let one = buffers.take(150 * KIB);
        assert_eq!(sizes(&buffers), [500, 5000]);
        let other = buffers.take(450 * KIB);
        assert_eq!(sizes(&buffers), [5000]);
        let new = buffers.take(40 * KIB);
        assert_eq!(sizes(&buffers), [5000]);
        drop((one, other, new));
        assert_eq!(sizes(&buffers), [5000, 200, 500, 50]);
    }

    #[test]
    fn no_more_is_kept_than_the_bound_and_the_oldest_goes_first() {
        let buffers = Buffers::new(1 << 20);
        let three = [400, 320, 240].map(|size| buffers.take(size * KIB));
        drop(three);
        assert_eq!(sizes(&buffers), [400, 300], "500 and the others are more than 1024");
        drop(buffers.take(1025 * KIB));
        let mut grown = buffers.take(390 * KIB);
        grown.resize(2 << 20, 0);
        drop(grown);
        assert_eq!(sizes(&buffers), [300], "what has grown beyond the bound is gone");
        drop(buffers.take(10 * KIB));
        assert_eq!(sizes(&buffers), [300], "what is small is left to the allocator");

        let none = Buffers::new(0);
        drop(none.take(100 * KIB));
        assert!(sizes(&none).is_empty());
    }
}
