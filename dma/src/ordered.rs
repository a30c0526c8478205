//! Typed and atomic access to guest memory: doorbell records, owner bits, counters, RDMA atomics.
//!
//! Atomic accesses must be aligned to their size. The ordering is the caller's; as with Rust's atomics, a
//! load takes no `Release` and a store no `Acquire`.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use vm_memory::{AtomicInteger, VolatileMemory, VolatileSlice};

use crate::error::{DmaError, DmaErrorKind};
use crate::map::MemoryMap;

/// The atomic integer in `piece`, which is exactly as long as `T`.
#[inline]
fn atomic<'m, T: AtomicInteger>(
    piece: &'m VolatileSlice<'m>,
    iova: u64,
) -> Result<&'m T, DmaError> {
    piece
        .get_atomic_ref::<T>(0)
        .map_err(|_| DmaError::new(iova, piece.len(), DmaErrorKind::Unaligned))
}

macro_rules! ordered {
    ($int:ty, $atomic:ty, $load:ident, $store:ident) => {
        /// Atomic load in the byte order of the host, which the guest shares.
        #[inline]
        pub fn $load(&self, iova: u64, order: Ordering) -> Result<$int, DmaError> {
            let piece = self.whole(iova, size_of::<$int>(), false)?;
            Ok(atomic::<$atomic>(&piece, iova)?.load(order))
        }

        /// Atomic store in the byte order of the host, which the guest shares.
        #[inline]
        pub fn $store(&self, iova: u64, value: $int, order: Ordering) -> Result<(), DmaError> {
            let piece = self.whole(iova, size_of::<$int>(), true)?;
            atomic::<$atomic>(&piece, iova)?.store(value, order);
            Ok(())
        }
    };
}

macro_rules! ordered_be {
    ($int:ty, $load:ident, $store:ident, $load_be:ident, $store_be:ident) => {
        /// Atomic load of a big-endian number.
        #[inline]
        pub fn $load_be(&self, iova: u64, order: Ordering) -> Result<$int, DmaError> {
            self.$load(iova, order).map(<$int>::from_be)
        }

        /// Atomic store of a big-endian number.
        #[inline]
        pub fn $store_be(&self, iova: u64, value: $int, order: Ordering) -> Result<(), DmaError> {
            self.$store(iova, value.to_be(), order)
        }
    };
}

impl MemoryMap {
    ordered!(u8, AtomicU8, load_u8, store_u8);
    ordered!(u16, AtomicU16, load_u16, store_u16);
    ordered!(u32, AtomicU32, load_u32, store_u32);
    ordered!(u64, AtomicU64, load_u64, store_u64);
    ordered_be!(u16, load_u16, store_u16, load_be16, store_be16);
    ordered_be!(u32, load_u32, store_u32, load_be32, store_be32);
    ordered_be!(u64, load_u64, store_u64, load_be64, store_be64);

    /// Big-endian number at any address, without ordering.
    #[inline]
    pub fn read_u16_be(&self, iova: u64) -> Result<u16, DmaError> {
        let mut bytes = [0; 2];
        self.read(iova, &mut bytes)?;
        Ok(u16::from_be_bytes(bytes))
    }

    /// Big-endian number at any address, without ordering.
    #[inline]
    pub fn read_u32_be(&self, iova: u64) -> Result<u32, DmaError> {
        let mut bytes = [0; 4];
        self.read(iova, &mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    /// Big-endian number at any address, without ordering.
    #[inline]
    pub fn read_u64_be(&self, iova: u64) -> Result<u64, DmaError> {
        let mut bytes = [0; 8];
        self.read(iova, &mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// Compares the 8 bytes at `iova` (host byte order) with `current` and, if equal, replaces them by `new`,
    /// as one atomic step with respect to the guest and to other devices. Sequentially consistent.
    /// The result is the value found: it equals `current` exactly if the swap took place.
    #[inline]
    pub fn compare_exchange_u64(&self, iova: u64, current: u64, new: u64) -> Result<u64, DmaError> {
        let piece = self.whole(iova, 8, true)?;
        let word = atomic::<AtomicU64>(&piece, iova)?;
        Ok(
            match word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(found) | Err(found) => found,
            },
        )
    }

    /// Adds `value` (wrapping) to the 8 bytes at `iova` (host byte order) as one atomic step and returns the
    /// value before. Sequentially consistent.
    #[inline]
    pub fn fetch_add_u64(&self, iova: u64, value: u64) -> Result<u64, DmaError> {
        let piece = self.whole(iova, 8, true)?;
        Ok(atomic::<AtomicU64>(&piece, iova)?.fetch_add(value, Ordering::SeqCst))
    }

    /// Replaces the 8 bytes at `iova` by `f(found)` (both in host byte order) as one atomic step and returns
    /// the value before: for masked atomics. `f` may be called several times.
    #[inline]
    pub fn fetch_update_u64(
        &self,
        iova: u64,
        mut f: impl FnMut(u64) -> u64,
    ) -> Result<u64, DmaError> {
        let piece = self.whole(iova, 8, true)?;
        let word = atomic::<AtomicU64>(&piece, iova)?;
        let mut found = word.load(Ordering::SeqCst);
        // A guest that keeps changing the word delays only its own device; each failed round is a round in
        // which someone else made progress.
        for _ in 0..MAX_ROUNDS {
            match word.compare_exchange_weak(found, f(found), Ordering::SeqCst, Ordering::SeqCst) {
                Ok(before) => return Ok(before),
                Err(other) => found = other,
            }
        }
        Ok(word.swap(f(found), Ordering::SeqCst))
    }
}

/// After this many lost races the update is done as load and swap.
const MAX_ROUNDS: usize = 1000;
