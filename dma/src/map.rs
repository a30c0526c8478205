//! The memory map: an immutable snapshot of what the monitor has mapped, and bulk access through it.
//!
//! A snapshot keeps its host mappings alive. It does not learn of later changes: whoever holds one is told
//! by the PCI side when there is a newer one.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vm_memory::{MmapRegion, VolatileMemory, VolatileSlice};

use crate::bulk;
use crate::error::{DmaError, DmaErrorKind};

/// A contiguous range of IOVAs backed by a contiguous part of one host mapping.
#[derive(Clone)]
pub(crate) struct Region {
    /// First IOVA.
    pub(crate) start: u64,
    /// Last IOVA, inclusive, so that a region may end at 2^64.
    pub(crate) last: u64,
    /// Host memory; several regions share one after a partial unmap.
    pub(crate) mapping: Arc<MmapRegion>,
    /// Where `start` lies in `mapping`. `delta + (last - start)` is below the size of `mapping`.
    pub(crate) delta: usize,
    /// Whether the monitor allows writes.
    pub(crate) writable: bool,
}

impl Region {
    #[inline]
    fn contains(&self, iova: u64) -> bool {
        self.start <= iova && iova <= self.last
    }

    /// Bytes from `iova`, which lies in the region, to the region's end.
    #[inline]
    fn remaining(&self, iova: u64) -> usize {
        usize::try_from(self.last - iova).map_or(usize::MAX, |n| n.saturating_add(1))
    }
}

/// An immutable snapshot of the guest's memory as the monitor has mapped it.
///
/// All methods take `&self`; guest memory has interior mutability, shared with the guest.
pub struct MemoryMap {
    /// Sorted by `start`, disjoint.
    regions: Vec<Region>,
    /// Index of the region that was last accessed. Only a hint: nearly all traffic stays in one region.
    hint: AtomicUsize,
}

impl fmt::Debug for MemoryMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for r in &self.regions {
            let access = if r.writable { "rw" } else { "ro" };
            list.entry(&format_args!("{:#x}..={:#x} {access}", r.start, r.last));
        }
        list.finish()
    }
}

impl MemoryMap {
    /// A map with nothing in it: every access fails with `NotMapped`.
    pub fn empty() -> Arc<Self> {
        Arc::new(Self::from_sorted(Vec::new()))
    }

    /// A map of fresh zeroed memory at `iova`, `len` bytes, writable, not shared with any guest: for
    /// drivers, tests and benchmarks within the process.
    pub fn anonymous(iova: u64, len: u64) -> io::Result<Arc<Self>> {
        let size =
            usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let last = len
            .checked_sub(1)
            .and_then(|n| iova.checked_add(n))
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mapping = MmapRegion::new(size).map_err(io::Error::other)?;
        Ok(Arc::new(Self::from_sorted(vec![Region {
            start: iova,
            last,
            mapping: Arc::new(mapping),
            delta: 0,
            writable: true,
        }])))
    }

    pub(crate) fn from_sorted(regions: Vec<Region>) -> Self {
        debug_assert!(regions.windows(2).all(|w| w[0].last < w[1].start));
        Self {
            regions,
            hint: AtomicUsize::new(0),
        }
    }

    pub(crate) fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Number of regions.
    pub fn region_count(&self) -> usize {
        self.regions.len()
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    #[inline]
    fn find(&self, iova: u64) -> Option<&Region> {
        let hint = self.hint.load(Ordering::Relaxed);
        match self.regions.get(hint) {
            Some(r) if r.contains(iova) => Some(r),
            _ => self.search(iova),
        }
    }

    #[inline(never)]
    fn search(&self, iova: u64) -> Option<&Region> {
        let index = self
            .regions
            .partition_point(|r| r.start <= iova)
            .checked_sub(1)?;
        let region = self.regions.get(index).filter(|r| r.contains(iova))?;
        self.hint.store(index, Ordering::Relaxed);
        Some(region)
    }

    /// The longest contiguous piece of host memory at `iova`, at most `len` bytes.
    #[inline]
    fn piece(&self, iova: u64, len: usize, write: bool) -> Result<VolatileSlice<'_>, DmaErrorKind> {
        let region = self.find(iova).ok_or(DmaErrorKind::NotMapped)?;
        if write && !region.writable {
            return Err(DmaErrorKind::ReadOnly);
        }
        let n = len.min(region.remaining(iova));
        usize::try_from(iova - region.start)
            .ok()
            .and_then(|off| region.delta.checked_add(off))
            .and_then(|off| region.mapping.get_slice(off, n).ok())
            .ok_or(DmaErrorKind::NotMapped)
    }

    /// Calls `f(offset, piece)` for each contiguous piece of the range, after having made sure that all of it
    /// is accessible: an access takes place as a whole or not at all.
    #[inline]
    pub(crate) fn for_pieces<'m>(
        &'m self,
        iova: u64,
        len: usize,
        write: bool,
        mut f: impl FnMut(usize, VolatileSlice<'m>),
    ) -> Result<(), DmaError> {
        if len == 0 {
            return Ok(());
        }
        let piece = self
            .piece(iova, len, write)
            .map_err(|kind| DmaError::new(iova, len, kind))?;
        if piece.len() == len {
            f(0, piece);
            return Ok(());
        }
        self.for_many_pieces(iova, len, write, &mut |_, _| ())?;
        self.for_many_pieces(iova, len, write, &mut f)
    }

    #[inline(never)]
    fn for_many_pieces<'m>(
        &'m self,
        iova: u64,
        len: usize,
        write: bool,
        f: &mut dyn FnMut(usize, VolatileSlice<'m>),
    ) -> Result<(), DmaError> {
        let fail = |kind| DmaError::new(iova, len, kind);
        let mut done = 0usize;
        while done < len {
            let at = iova
                .checked_add(done as u64)
                .ok_or(fail(DmaErrorKind::NotMapped))?;
            let piece = self.piece(at, len - done, write).map_err(fail)?;
            let n = piece.len();
            f(done, piece);
            done += n;
        }
        Ok(())
    }

    /// The one piece of host memory that holds the whole of a small access.
    #[inline]
    pub(crate) fn whole(
        &self,
        iova: u64,
        len: usize,
        write: bool,
    ) -> Result<VolatileSlice<'_>, DmaError> {
        match self.piece(iova, len, write) {
            Ok(piece) if piece.len() == len => Ok(piece),
            Ok(_) => Err(DmaError::new(iova, len, DmaErrorKind::NotMapped)),
            Err(kind) => Err(DmaError::new(iova, len, kind)),
        }
    }

    /// Whether the whole range can be read (or, with `write`, written). An empty range can.
    #[inline]
    pub fn check(&self, iova: u64, len: usize, write: bool) -> Result<(), DmaError> {
        match self.find(iova) {
            Some(r) if r.remaining(iova) >= len && (r.writable || !write) => Ok(()),
            _ => self.for_pieces(iova, len, write, |_, _| ()),
        }
    }

    /// Copies guest memory at `iova` to `dst`.
    #[inline]
    pub fn read(&self, iova: u64, dst: &mut [u8]) -> Result<(), DmaError> {
        self.for_pieces(iova, dst.len(), false, |at, piece| {
            if let Some(part) = dst.get_mut(at..) {
                bulk::read(&piece, part);
            }
        })
    }

    /// Copies `src` to guest memory at `iova`. In no particular order: what hands the bytes over to the
    /// guest is a later [`MemoryMap::store_u8`] or the like with `Release`.
    #[inline]
    pub fn write(&self, iova: u64, src: &[u8]) -> Result<(), DmaError> {
        self.for_pieces(iova, src.len(), true, |at, piece| {
            if let Some(part) = src.get(at..) {
                bulk::write(&piece, part);
            }
        })
    }

    /// Sets `len` bytes of guest memory at `iova` to zero.
    pub fn zero(&self, iova: u64, len: usize) -> Result<(), DmaError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        self.for_pieces(iova, len, true, |_, piece| {
            let mut at = 0;
            while let Ok(rest) = piece.offset(at) {
                if rest.is_empty() {
                    break;
                }
                rest.copy_from(&ZEROS[..rest.len().min(ZEROS.len())]);
                at = at.saturating_add(ZEROS.len());
            }
        })
    }
}

/// Copies `len` bytes from one guest's memory to another's (or the same), once. Ranges may overlap within
/// one region; nothing is copied if either range is not wholly accessible.
pub fn copy(
    src: &MemoryMap,
    src_iova: u64,
    dst: &MemoryMap,
    dst_iova: u64,
    len: usize,
) -> Result<(), DmaError> {
    if len == 0 {
        return Ok(());
    }
    // Nearly always both are in one piece.
    if let (Ok(from), Ok(to)) = (
        src.whole(src_iova, len, false),
        dst.whole(dst_iova, len, true),
    ) {
        bulk::copy(&from, &to);
        return Ok(());
    }
    dst.check(dst_iova, len, true)?;
    let mut result = Ok(());
    src.for_pieces(src_iova, len, false, |at, from| {
        // `check` has seen that dst_iova + len does not wrap.
        let to = dst_iova.wrapping_add(at as u64);
        let copied = dst.for_pieces(to, from.len(), true, |at, to| {
            if let Ok(from) = from.offset(at) {
                bulk::copy(&from, &to);
            }
        });
        if result.is_ok() {
            result = copied;
        }
    })?;
    result
}
