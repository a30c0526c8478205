//! The address space of one device as the monitor builds it: maps come and go, each change makes a snapshot.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{FileOffset, MmapRegion};

use crate::error::MapError;
use crate::map::{MemoryMap, Region};

/// The most regions a space can have: what vfio-user monitors assume for `max_dma_maps`, and what Linux
/// allows a process by default (vm.max_map_count).
pub const MAX_REGIONS: usize = 65_535;

/// What the device may do with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prot {
    /// Read only: ROMs, shadowed PAM areas.
    Read,
    /// Read and write.
    ReadWrite,
}

/// The address space of a device, changed by its monitor. Every change yields a new snapshot and leaves the
/// older ones as they are.
#[derive(Debug)]
pub struct DmaSpace {
    current: Arc<MemoryMap>,
}

impl Default for DmaSpace {
    fn default() -> Self {
        Self::new()
    }
}

impl DmaSpace {
    /// An empty space.
    pub fn new() -> Self {
        Self {
            current: MemoryMap::empty(),
        }
    }

    /// The latest snapshot.
    pub fn current(&self) -> Arc<MemoryMap> {
        Arc::clone(&self.current)
    }

    /// Maps `len` bytes of `file` from `offset` on at `iova`. Whatever was mapped in that range before is
    /// replaced. Without a file (device memory, ROMs: nothing a device can reach) the range is left empty.
    pub fn map(
        &mut self,
        iova: u64,
        len: u64,
        file: Option<File>,
        offset: u64,
        prot: Prot,
    ) -> Result<Arc<MemoryMap>, MapError> {
        let last = len
            .checked_sub(1)
            .and_then(|n| iova.checked_add(n))
            .ok_or(MapError::BadRange { iova, len })?;
        let mut regions = without(self.current.regions(), iova, last);
        if let Some(file) = file {
            if regions.len() >= MAX_REGIONS {
                return Err(MapError::TooManyRegions { iova, len });
            }
            let (mapping, delta) = host_mapping(iova, len, file, offset, prot)?;
            let at = regions.partition_point(|r| r.start < iova);
            regions.insert(
                at,
                Region {
                    start: iova,
                    last,
                    mapping: Arc::new(mapping),
                    delta,
                    writable: prot == Prot::ReadWrite,
                },
            );
        }
        self.current = Arc::new(MemoryMap::from_sorted(regions));
        Ok(self.current())
    }

    /// Removes whatever is mapped in the range, also parts of regions; nothing there is no error. The range
    /// may end at 2^64 and is cut off there.
    pub fn unmap(&mut self, iova: u64, len: u64) -> Arc<MemoryMap> {
        if let Some(n) = len.checked_sub(1) {
            let regions = without(self.current.regions(), iova, iova.saturating_add(n));
            self.current = Arc::new(MemoryMap::from_sorted(regions));
        }
        self.current()
    }

    /// Removes everything.
    pub fn clear(&mut self) -> Arc<MemoryMap> {
        self.current = MemoryMap::empty();
        self.current()
    }

    /// Whether anything is mapped in the range.
    pub fn overlaps(&self, iova: u64, len: u64) -> bool {
        let Some(n) = len.checked_sub(1) else {
            return false;
        };
        let last = iova.saturating_add(n);
        let regions = self.current.regions();
        let first = regions.partition_point(|r| r.last < iova);
        regions.get(first).is_some_and(|r| r.start <= last)
    }
}

/// `regions` without the addresses `start..=last`.
fn without(regions: &[Region], start: u64, last: u64) -> Vec<Region> {
    let mut kept = Vec::with_capacity(regions.len() + 2);
    for r in regions {
        if r.last < start || last < r.start {
            kept.push(r.clone());
            continue;
        }
        if r.start < start {
            kept.push(Region {
                last: start - 1,
                ..r.clone()
            });
        }
        if last < r.last {
            // Both fit: the part cut off lies within the mapping.
            let cut = (last - r.start) as usize + 1;
            kept.push(Region {
                start: last + 1,
                delta: r.delta + cut,
                ..r.clone()
            });
        }
    }
    kept
}

/// Maps the part of `file` into this process. Offset and length need not be multiples of the page size of
/// the file system (huge pages): the result says where `offset` lies in the mapping.
fn host_mapping(
    iova: u64,
    len: u64,
    file: File,
    offset: u64,
    prot: Prot,
) -> Result<(MmapRegion, usize), MapError> {
    let os = |source| MapError::Os { iova, len, source };
    let bad = || MapError::BadRange { iova, len };
    let end = offset.checked_add(len).ok_or_else(bad)?;
    let meta = file.metadata().map_err(os)?;
    if meta.file_type().is_file() && end > meta.len() {
        return Err(MapError::PastEndOfFile {
            iova,
            len,
            offset,
            size: meta.len(),
        });
    }
    let page = page_size(&file).map_err(os)?;
    let start = offset - offset % page;
    let size = (end - start)
        .checked_next_multiple_of(page)
        .ok_or_else(bad)?;
    let size = usize::try_from(size).map_err(|_| bad())?;
    let delta = usize::try_from(offset - start).map_err(|_| bad())?;
    let protection = match prot {
        Prot::Read => libc::PROT_READ,
        Prot::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
    };
    let mapping = MmapRegionBuilder::new(size)
        .with_mmap_prot(protection)
        .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
        .with_file_offset(FileOffset::new(file, start))
        .build()
        .map_err(|error| match error {
            MmapRegionError::Mmap(source) => os(source),
            other => os(io::Error::other(other)),
        })?;
    Ok((mapping, delta))
}

/// Granularity in which `file` can be mapped and unmapped: the size of a huge page on hugetlbfs.
fn page_size(file: &File) -> io::Result<u64> {
    const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;
    // SAFETY: statfs is a plain structure of integers, for which all zeros is a value.
    let mut fs: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open for the duration of the call, and `fs` is large enough by its type.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &mut fs) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The types of these fields differ between C libraries.
    #[allow(clippy::unnecessary_cast)]
    if fs.f_type as i64 == HUGETLBFS_MAGIC {
        return u64::try_from(fs.f_bsize)
            .ok()
            .filter(|n| n.is_power_of_two())
            .ok_or_else(|| io::ErrorKind::InvalidData.into());
    }
    // SAFETY: sysconf has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(page)
        .ok()
        .filter(|n| n.is_power_of_two())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
