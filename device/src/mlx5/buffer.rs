//! A queue buffer in guest memory: the pages that a create command named (its PAS list), seen
//! as one run of bytes. Knows nothing of what is in it.

use rocinante_dma::{DmaError, DmaErrorKind, MemoryMap};

/// `size` bytes starting `offset` bytes into the first of equally sized pages.
#[derive(Clone, Debug)]
pub struct QueueBuffer {
    pages: Box<[u64]>,
    page_shift: u32,
    offset: u64,
    size: u64,
}

/// The PAS list of a create command does not cover the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFewPages;

impl QueueBuffer {
    /// A buffer of `size` bytes in pages of `2^page_shift` bytes, the first byte `offset` into
    /// the first page. `pas` are page addresses; bits below 12 are not part of an address.
    pub fn new(
        pas: impl Iterator<Item = u64>,
        page_shift: u32,
        offset: u64,
        size: u64,
    ) -> Result<QueueBuffer, TooFewPages> {
        let needed = Self::pages_for(page_shift, offset, size).ok_or(TooFewPages)?;
        // `take` bounds the allocation by the queue size, which capabilities bound in turn.
        let pages: Box<[u64]> = pas.take(needed).map(|address| address & !0xfff).collect();
        if pages.len() < needed {
            return Err(TooFewPages);
        }
        Ok(QueueBuffer {
            pages,
            page_shift,
            offset,
            size,
        })
    }

    /// How many pages such a buffer has; `None` if that overflows or the shift is absurd.
    pub fn pages_for(page_shift: u32, offset: u64, size: u64) -> Option<usize> {
        if !(12..=48).contains(&page_shift) {
            return None;
        }
        let last = offset.checked_add(size)?;
        usize::try_from(last.div_ceil(1 << page_shift)).ok()
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A part of this buffer, as a QP's send queue is behind its receive queue.
    pub fn sub(&self, start: u64, size: u64) -> Option<QueueBuffer> {
        if start.checked_add(size)? > self.size {
            return None;
        }
        let first = self.offset + start;
        let skip = usize::try_from(first >> self.page_shift).ok()?;
        let pages = self.pages.get(skip..)?.into();
        let offset = first & ((1 << self.page_shift) - 1);
        Some(QueueBuffer {
            pages,
            page_shift: self.page_shift,
            offset,
            size,
        })
    }

    /// Bus address of the byte at `at`, and how many bytes follow it in the same page.
    /// `at` beyond the buffer gives `None`.
    #[inline]
    pub fn address(&self, at: u64) -> Option<(u64, u64)> {
        if at >= self.size {
            return None;
        }
        let position = self.offset + at;
        let page = *self.pages.get((position >> self.page_shift) as usize)?;
        let in_page = position & ((1 << self.page_shift) - 1);
        Some((page + in_page, (1 << self.page_shift) - in_page))
    }

    /// Reads from `at`; an error names the bus address that is not there.
    #[inline]
    pub fn read(&self, mem: &MemoryMap, at: u64, out: &mut [u8]) -> Result<(), DmaError> {
        let mut done = 0;
        while done < out.len() {
            let (address, room) = self.locate(at, done, out.len())?;
            let n = room.min((out.len() - done) as u64) as usize;
            mem.read(address, &mut out[done..done + n])?;
            done += n;
        }
        Ok(())
    }

    /// Writes at `at`.
    #[inline]
    pub fn write(&self, mem: &MemoryMap, at: u64, data: &[u8]) -> Result<(), DmaError> {
        let mut done = 0;
        while done < data.len() {
            let (address, room) = self.locate(at, done, data.len())?;
            let n = room.min((data.len() - done) as u64) as usize;
            mem.write(address, &data[done..done + n])?;
            done += n;
        }
        Ok(())
    }

    fn locate(&self, at: u64, done: usize, len: usize) -> Result<(u64, u64), DmaError> {
        self.address(at.wrapping_add(done as u64)).ok_or(DmaError {
            iova: at,
            len,
            kind: DmaErrorKind::NotMapped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_pages() {
        let buffer = QueueBuffer::new([0x9000, 0x3000].into_iter(), 12, 0x800, 0x1000).unwrap();
        assert_eq!(buffer.address(0), Some((0x9800, 0x800)));
        assert_eq!(buffer.address(0x7ff), Some((0x9fff, 1)));
        assert_eq!(buffer.address(0x800), Some((0x3000, 0x1000)));
        assert_eq!(buffer.address(0x1000), None);
        let half = buffer.sub(0x900, 0x700).unwrap();
        assert_eq!(half.address(0), Some((0x3100, 0xf00)));
        assert!(buffer.sub(0x900, 0x701).is_none());
        assert!(buffer.sub(u64::MAX, 2).is_none());
    }

    #[test]
    fn a_short_page_list_is_refused() {
        assert_eq!(
            QueueBuffer::new([0x1000].into_iter(), 12, 64, 0x1000).unwrap_err(),
            TooFewPages
        );
        assert!(QueueBuffer::pages_for(11, 0, 1).is_none());
        assert!(QueueBuffer::pages_for(12, u64::MAX, 1).is_none());
    }
}
