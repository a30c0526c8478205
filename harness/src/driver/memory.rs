//! The driver's memory: pages handed out and taken back, doorbell records.

use std::collections::BTreeMap;
use std::sync::Arc;

use rocinante_dma::MemoryMap;

use super::error::{Error, Result};

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// A doorbell record has a cache line of its own.
const RECORD: u64 = 64;

/// A contiguous piece of memory that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Bus address, at a page boundary.
    pub iova: u64,
    /// Bytes asked for.
    pub len: u64,
}

impl Buffer {
    fn span(self) -> u64 {
        self.len.max(1).next_multiple_of(PAGE)
    }

    /// Addresses of its pages.
    pub fn pages(self) -> impl Iterator<Item = u64> + Clone {
        (0..self.span() / PAGE).map(move |n| self.iova + n * PAGE)
    }
}

/// Which pages of the guest's memory are free.
pub struct Pages {
    map: Arc<MemoryMap>,
    /// Free ranges: length by address.
    free: BTreeMap<u64, u64>,
    total: u64,
    records: Vec<u64>,
    record_pages: Vec<Buffer>,
}

impl Pages {
    /// All of `len` bytes at `iova` of `map` are free. `iova` and `len` are multiples of a page.
    pub fn new(map: Arc<MemoryMap>, iova: u64, len: u64) -> Pages {
        Pages {
            map,
            free: BTreeMap::from([(iova, len)]),
            total: len,
            records: Vec::new(),
            record_pages: Vec::new(),
        }
    }

    /// Bytes in use, in whole pages.
    pub fn in_use(&self) -> u64 {
        self.total - self.free.values().sum::<u64>()
    }

    /// `len` bytes; their content is whatever it was.
    pub fn alloc(&mut self, len: u64) -> Result<Buffer> {
        let buffer = Buffer { iova: 0, len };
        let span = buffer.span();
        let place = self.free.iter().find(|(_, free)| **free >= span);
        let (&iova, &free) = place.ok_or(Error::NoMemory(len))?;
        self.free.remove(&iova);
        if free > span {
            self.free.insert(iova + span, free - span);
        }
        Ok(Buffer { iova, len })
    }

    /// `len` bytes of zeros.
    pub fn zeroed(&mut self, len: u64) -> Result<Buffer> {
        let buffer = self.alloc(len)?;
        self.map.zero(buffer.iova, buffer.span() as usize)?;
        Ok(buffer)
    }

    /// Takes a buffer back.
    pub fn release(&mut self, buffer: Buffer) {
        let (mut start, mut len) = (buffer.iova, buffer.span());
        if let Some((&before, &n)) = self.free.range(..start).next_back()
            && before + n == start
        {
            (start, len) = (before, n + len);
        }
        if let Some(after) = self.free.remove(&(start + len)) {
            len += after;
        }
        self.free.insert(start, len);
    }

    /// A doorbell record of two words, zero.
    pub fn record(&mut self) -> Result<u64> {
        if self.records.is_empty() {
            let page = self.alloc(PAGE)?;
            self.record_pages.push(page);
            self.records
                .extend((0..PAGE / RECORD).rev().map(|n| page.iova + n * RECORD));
        }
        let record = self.records.pop().ok_or(Error::NoMemory(RECORD))?;
        self.map.zero(record, RECORD as usize)?;
        Ok(record)
    }

    /// Takes a doorbell record back.
    pub fn release_record(&mut self, record: u64) {
        self.records.push(record);
    }

    /// Gives the pages of doorbell records back, of which none may be in use.
    pub fn release_records(&mut self) {
        self.records.clear();
        for page in std::mem::take(&mut self.record_pages) {
            self.release(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_had_in_one_piece_again() {
        let map = MemoryMap::anonymous(0x10000, 16 * PAGE).unwrap();
        let mut pages = Pages::new(map, 0x10000, 16 * PAGE);
        let parts: Vec<Buffer> = (0..4)
            .map(|_| pages.zeroed(3 * PAGE + 1).unwrap())
            .collect();
        assert_eq!(pages.in_use(), 16 * PAGE);
        assert!(matches!(pages.alloc(1), Err(Error::NoMemory(1))));
        for index in [1, 3, 0, 2] {
            pages.release(parts[index]);
        }
        assert_eq!(pages.in_use(), 0);
        assert_eq!(pages.alloc(16 * PAGE).unwrap().iova, 0x10000);
    }
}
