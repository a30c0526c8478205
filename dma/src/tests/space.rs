//! Mapping and unmapping.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::{DmaErrorKind, DmaSpace, MapError, Prot};

#[test]
fn a_snapshot_outlives_the_mapping() {
    let mut space = DmaSpace::new();
    let before = space
        .map(0, PAGE, Some(numbered(1)), 0, Prot::ReadWrite)
        .unwrap();
    let after = space.unmap(0, PAGE);
    assert!(after.is_empty());
    assert_eq!(before.read_u32_be(4), Ok(1));
    assert!(Arc::ptr_eq(&after, &space.current()));
}

#[test]
fn unmapping_cuts_regions_where_the_monitor_says() {
    let mut space = DmaSpace::new();
    space
        .map(0x10000, 8 * PAGE, Some(numbered(8)), 0, Prot::ReadWrite)
        .unwrap();
    let map = space.unmap(0x12000, 2 * PAGE);
    assert_eq!(map.region_count(), 2);
    assert_eq!(map.read_u32_be(0x11ffc), Ok(2047));
    assert!(map.read_u32_be(0x12000).is_err());
    assert!(map.read_u32_be(0x13ffc).is_err());
    assert_eq!(map.read_u32_be(0x14000), Ok(4096));
    assert_eq!(map.read_u32_be(0x17ffc), Ok(8191));
    // Huge chunks, up to the end of all addresses, with and without anything in them.
    assert_eq!(space.unmap(1 << 63, 1 << 63).region_count(), 2);
    assert_eq!(space.unmap(0x16000, u64::MAX).region_count(), 2);
    assert_eq!(space.unmap(5, 0).region_count(), 2);
    assert_eq!(space.current().read_u32_be(0x15ffc), Ok(4 * 1024 + 2047));
    assert!(space.current().read_u32_be(0x16000).is_err());
    assert!(space.unmap(0, 1 << 63).is_empty());
}

#[test]
fn a_later_mapping_replaces_an_earlier_one() {
    let mut space = DmaSpace::new();
    space
        .map(0, 4 * PAGE, Some(numbered(4)), 0, Prot::ReadWrite)
        .unwrap();
    let map = space.map(PAGE, PAGE, Some(file(1)), 0, Prot::Read).unwrap();
    assert_eq!(map.region_count(), 3);
    assert_eq!(map.read_u64_be(PAGE - 4), Ok(1023 << 32));
    assert_eq!(map.read_u64_be(2 * PAGE - 4), Ok(2048));
    // Without a file nothing is there.
    let map = space.map(0, 3 * PAGE, None, 0, Prot::ReadWrite).unwrap();
    assert_eq!(map.region_count(), 1);
    assert!(
        space.overlaps(2 * PAGE, PAGE + 1)
            && !space.overlaps(0, 3 * PAGE)
            && !space.overlaps(3 * PAGE, 0)
    );
    assert!(space.overlaps(0, u64::MAX) && !space.overlaps(4 * PAGE, u64::MAX));
}

#[test]
fn a_region_may_end_with_the_last_address() {
    let top = u64::MAX - PAGE + 1;
    let mut space = DmaSpace::new();
    let map = space
        .map(top, PAGE, Some(numbered(1)), 0, Prot::ReadWrite)
        .unwrap();
    assert_eq!(map.read_u32_be(u64::MAX - 3), Ok(1023));
    assert_eq!(
        map.read(u64::MAX - 3, &mut [0; 5]),
        Err(error(u64::MAX - 3, 5, DmaErrorKind::NotMapped))
    );
    assert!(space.unmap(top, PAGE).is_empty());
}

#[test]
fn impossible_mappings_are_refused_and_change_nothing() {
    let mut space = DmaSpace::new();
    space
        .map(0, PAGE, Some(numbered(1)), 0, Prot::ReadWrite)
        .unwrap();
    let bad = |r: Result<_, MapError>| matches!(r, Err(MapError::BadRange { .. }));
    assert!(bad(space.map(0, 0, Some(file(1)), 0, Prot::Read)));
    assert!(bad(space.map(0, 0, None, 0, Prot::Read)));
    assert!(bad(space.map(u64::MAX, 2, Some(file(1)), 0, Prot::Read)));
    assert!(bad(space.map(0, PAGE, Some(file(1)), u64::MAX, Prot::Read)));
    let past = |r: Result<_, MapError>| matches!(r, Err(MapError::PastEndOfFile { .. }));
    assert!(past(space.map(0, 2 * PAGE, Some(file(1)), 0, Prot::Read)));
    assert!(past(space.map(0, PAGE, Some(file(1)), 1, Prot::Read)));
    let refused = space.map(0, PAGE, Some(File::open("/").unwrap()), 0, Prot::Read);
    assert!(matches!(refused, Err(MapError::Os { .. })), "{refused:?}");
    let read_only = File::open("/proc/self/exe").unwrap();
    let refused = space.map(0, 64, Some(read_only), 0, Prot::ReadWrite);
    assert!(matches!(refused, Err(MapError::Os { .. })), "{refused:?}");
    assert_eq!(space.current().read_u32_be(4), Ok(1));
    assert_eq!(space.current().region_count(), 1);
}

#[test]
fn offsets_within_a_page_are_mapped_from_its_beginning() {
    let map = DmaSpace::new()
        .map(0x2004, PAGE, Some(numbered(3)), PAGE + 8, Prot::ReadWrite)
        .unwrap();
    assert_eq!(map.read_u32_be(0x2004), Ok(1026));
    assert_eq!(map.read_u32_be(0x3000), Ok(2049));
    assert!(map.read_u32_be(0x3004).is_err());
    assert!(map.read_u32_be(0x2000).is_err());
    // What counts is the alignment in host memory, without which there is no atomic access.
    assert_eq!(map.load_be32(0x2004, Ordering::Acquire), Ok(1026));
}
