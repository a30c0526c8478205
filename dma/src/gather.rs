//! A reference to payload in guest memory, carried by a frame instead of its bytes.
//!
//! Made by the sending NIC; resolved once by whoever needs bytes: a receiver in the same process copies them
//! from guest to guest, a port that leaves the process copies them into its frame.

use std::fmt;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::error::{DmaError, DmaErrorKind};
use crate::map::{MemoryMap, copy};

/// The most segments one [`Gather`] can hold: a packet's payload mostly lies in one page or two, and frames are moved
/// about with their references in them.
pub const MAX_SEGMENTS: usize = 4;

/// A payload as segments of guest memory. Cheap to clone: one reference count and the segments.
#[derive(Clone)]
pub struct Gather {
    map: Arc<MemoryMap>,
    segs: ArrayVec<(u64, u32), MAX_SEGMENTS>,
}

impl fmt::Debug for Gather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(
                self.segs
                    .iter()
                    .map(|(iova, len)| format!("{iova:#x}+{len:#x}")),
            )
            .finish()
    }
}

impl Gather {
    /// No bytes yet, of the memory in `map`.
    pub fn new(map: Arc<MemoryMap>) -> Self {
        Self {
            map,
            segs: ArrayVec::new_const(),
        }
    }

    /// `len` bytes at `iova`, which is what most payloads are.
    #[inline]
    pub fn one(map: Arc<MemoryMap>, iova: u64, len: u32) -> Self {
        let mut segs = ArrayVec::new_const();
        if len > 0 {
            // The first one always finds room.
            let _ = segs.try_push((iova, len));
        }
        Self { map, segs }
    }

    /// Appends `len` bytes at `iova`. A segment that continues the last one is merged with it. `false`, and
    /// nothing changed, if there is no room.
    pub fn push(&mut self, iova: u64, len: u32) -> bool {
        if len == 0 {
            return true;
        }
        if let Some((last, n)) = self.segs.last_mut() {
            let continues = last.checked_add(u64::from(*n)) == Some(iova);
            if let Some(sum) = n.checked_add(len).filter(|_| continues) {
                *n = sum;
                return true;
            }
        }
        self.segs.try_push((iova, len)).is_ok()
    }

    /// The memory the segments are in.
    pub fn map(&self) -> &Arc<MemoryMap> {
        &self.map
    }

    /// The segments: IOVA and length in bytes, none empty.
    pub fn segments(&self) -> &[(u64, u32)] {
        &self.segs
    }

    /// Bytes in all segments.
    pub fn len(&self) -> usize {
        self.segs.iter().map(|&(_, len)| len as usize).sum()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.segs.is_empty()
    }

    /// Calls `f(done, iova, len)` for the parts of the segments that make up `len` bytes from `offset` on.
    #[inline]
    fn for_parts(
        &self,
        offset: usize,
        len: usize,
        mut f: impl FnMut(usize, u64, usize) -> Result<(), DmaError>,
    ) -> Result<(), DmaError> {
        let mut skip = offset;
        let mut done = 0;
        for &(iova, seg_len) in &self.segs {
            if done == len {
                break;
            }
            let seg_len = seg_len as usize;
            if skip >= seg_len {
                skip -= seg_len;
                continue;
            }
            let n = (seg_len - skip).min(len - done);
            let at = iova.checked_add(skip as u64).ok_or(DmaError::new(
                iova,
                seg_len,
                DmaErrorKind::NotMapped,
            ))?;
            f(done, at, n)?;
            done += n;
            skip = 0;
        }
        if done == len {
            Ok(())
        } else {
            Err(DmaError::new(offset as u64, len, DmaErrorKind::NotMapped))
        }
    }

    /// Copies `dst.len()` bytes of the payload from `offset` on. `false`, with `dst` partly written, if the
    /// payload ends before or its memory is not mapped.
    #[inline]
    pub fn copy_to(&self, offset: usize, dst: &mut [u8]) -> bool {
        let len = dst.len();
        self.for_parts(offset, len, |done, iova, n| {
            match dst.get_mut(done..done + n) {
                Some(part) => self.map.read(iova, part),
                None => Err(DmaError::new(iova, n, DmaErrorKind::NotMapped)),
            }
        })
        .is_ok()
    }

    /// Copies `len` bytes of the payload from `offset` on to `dst_iova` in `dst`, from guest memory to guest
    /// memory. The error names the range that is not accessible, of either side; the destination is left as
    /// it was if it is the destination.
    #[inline]
    pub fn copy_to_guest(
        &self,
        offset: usize,
        dst: &MemoryMap,
        dst_iova: u64,
        len: usize,
    ) -> Result<(), DmaError> {
        if let [(iova, n)] = self.segs[..]
            && offset.checked_add(len).is_some_and(|end| end <= n as usize)
            && let Some(from) = iova.checked_add(offset as u64)
        {
            return copy(&self.map, from, dst, dst_iova, len);
        }
        dst.check(dst_iova, len, true)?;
        self.for_parts(offset, len, |done, iova, n| {
            // `check` has seen that dst_iova + len does not wrap.
            copy(&self.map, iova, dst, dst_iova.wrapping_add(done as u64), n)
        })
    }
}
