//! What a device sees of memory while a monitor maps and unmaps it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use crate::{
    DmaError, DmaErrorKind, DmaSpace, Gather, MAX_SEGMENTS, MapError, MemoryMap, Prot, copy,
};

const PAGE: u64 = 4096;

fn file(pages: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(pages * PAGE).unwrap();
    file
}

/// A file whose 32-bit words are numbered.
fn numbered(pages: u64) -> File {
    let file = file(pages);
    let bytes: Vec<u8> = (0..(pages * PAGE / 4) as u32)
        .flat_map(u32::to_be_bytes)
        .collect();
    file.write_all_at(&bytes, 0).unwrap();
    file
}

fn clone(file: &File) -> Option<File> {
    Some(file.try_clone().unwrap())
}

fn error(iova: u64, len: usize, kind: DmaErrorKind) -> DmaError {
    DmaError { iova, len, kind }
}

#[test]
fn an_empty_map_has_nothing() {
    let map = MemoryMap::empty();
    assert!(map.is_empty());
    assert_eq!(
        map.read(0, &mut [0; 1]),
        Err(error(0, 1, DmaErrorKind::NotMapped))
    );
    assert_eq!(map.read(7, &mut []), Ok(()));
    assert!(map.check(u64::MAX, 2, false).is_err());
}

#[test]
fn what_is_written_is_in_the_file_and_the_other_way_round() {
    let f = numbered(4);
    let map = DmaSpace::new()
        .map(0x10_0000, 2 * PAGE, clone(&f), PAGE, Prot::ReadWrite)
        .unwrap();
    assert_eq!(map.read_u32_be(0x10_0000).unwrap(), 1024);
    assert_eq!(map.read_u64_be(0x10_0ffc).unwrap(), 2047 << 32 | 2048);
    assert_eq!(map.read_u16_be(0x10_0001).unwrap(), 4);
    map.write(0x10_1ff8, b"rocinant").unwrap();
    let mut bytes = [0; 8];
    f.read_exact_at(&mut bytes, 3 * PAGE - 8).unwrap();
    assert_eq!(&bytes, b"rocinant");
    assert_eq!(
        map.write(0x10_1ff9, &bytes),
        Err(error(0x10_1ff9, 8, DmaErrorKind::NotMapped))
    );
    assert!(map.read(0xf_ffff, &mut bytes).is_err());
}

#[test]
fn an_access_spans_adjacent_regions_or_does_not_take_place() {
    let mut space = DmaSpace::new();
    space
        .map(0, PAGE, Some(file(1)), 0, Prot::ReadWrite)
        .unwrap();
    space
        .map(PAGE, PAGE, Some(file(1)), 0, Prot::ReadWrite)
        .unwrap();
    space
        .map(2 * PAGE, PAGE, Some(file(1)), 0, Prot::Read)
        .unwrap();
    let map = space
        .map(4 * PAGE, PAGE, Some(file(1)), 0, Prot::ReadWrite)
        .unwrap();
    assert_eq!(map.region_count(), 4);
    let bytes: Vec<u8> = (0..PAGE as usize * 2).map(|i| (i % 251) as u8).collect();
    map.write(0, &bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    map.read(0, &mut back).unwrap();
    assert_eq!(back, bytes);
    // The third region is read-only, the fourth missing: no byte changes.
    assert_eq!(
        map.write(PAGE - 1, &[0xff; 4098]),
        Err(error(PAGE - 1, 4098, DmaErrorKind::ReadOnly))
    );
    assert_eq!(
        map.read(PAGE, &mut [0; 8193]),
        Err(error(PAGE, 8193, DmaErrorKind::NotMapped))
    );
    map.read(0, &mut back).unwrap();
    assert_eq!(back, bytes);
    map.zero(0, 2 * PAGE as usize).unwrap();
    map.read(0, &mut back).unwrap();
    assert!(back.iter().all(|b| *b == 0));
    // An atomic access never spans.
    assert!(map.load_u64(PAGE - 4, Ordering::Acquire).is_err());
}

#[test]
fn read_only_memory_is_not_written_by_any_access() {
    let f = numbered(1);
    let map = DmaSpace::new()
        .map(0, PAGE, clone(&f), 0, Prot::Read)
        .unwrap();
    assert_eq!(map.load_be32(8, Ordering::Acquire), Ok(2));
    let refused = |len| Err(error(8, len, DmaErrorKind::ReadOnly));
    assert_eq!(
        map.write(8, &[1, 2, 3]),
        Err(error(8, 3, DmaErrorKind::ReadOnly))
    );
    assert_eq!(map.zero(8, 2), Err(error(8, 2, DmaErrorKind::ReadOnly)));
    assert_eq!(
        map.store_u8(8, 1, Ordering::Release),
        Err(error(8, 1, DmaErrorKind::ReadOnly))
    );
    assert_eq!(map.fetch_add_u64(8, 1), refused(8));
    assert_eq!(map.compare_exchange_u64(8, 0, 1), refused(8));
    assert_eq!(map.fetch_update_u64(8, |v| v + 1), refused(8));
    let other = MemoryMap::anonymous(0, PAGE).unwrap();
    assert_eq!(
        copy(&other, 0, &map, 8, 8),
        Err(error(8, 8, DmaErrorKind::ReadOnly))
    );
    assert_eq!(map.read_u32_be(8), Ok(2));
}

#[test]
fn numbers_are_stored_in_the_stated_byte_order() {
    let map = MemoryMap::anonymous(0x1000, PAGE).unwrap();
    let bytes = |at| {
        let mut b = [0; 8];
        map.read(at, &mut b).unwrap();
        b
    };
    map.store_be32(0x1000, 0x0102_0304, Ordering::Release)
        .unwrap();
    map.store_be16(0x1004, 0x0506, Ordering::Release).unwrap();
    map.store_u8(0x1006, 7, Ordering::Release).unwrap();
    assert_eq!(bytes(0x1000), [1, 2, 3, 4, 5, 6, 7, 0]);
    assert_eq!(
        map.load_be64(0x1000, Ordering::Acquire),
        Ok(0x0102_0304_0506_0700)
    );
    map.store_be64(0x1008, 0x1122_3344_5566_7788, Ordering::Release)
        .unwrap();
    assert_eq!(
        bytes(0x1008),
        [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]
    );
    assert_eq!(map.load_be16(0x1008, Ordering::Relaxed), Ok(0x1122));
    map.store_u64(0x1010, 0x1122_3344_5566_7788, Ordering::SeqCst)
        .unwrap();
    assert_eq!(bytes(0x1010), 0x1122_3344_5566_7788u64.to_ne_bytes());
    map.store_u32(0x1010, 9, Ordering::SeqCst).unwrap();
    map.store_u16(0x1014, 10, Ordering::SeqCst).unwrap();
    assert_eq!(map.load_u32(0x1010, Ordering::SeqCst), Ok(9));
    assert_eq!(map.load_u16(0x1014, Ordering::SeqCst), Ok(10));
    assert_eq!(map.load_u8(0x1000, Ordering::SeqCst), Ok(1));
    assert_eq!(
        map.load_be32(0x1002, Ordering::Acquire),
        Err(error(0x1002, 4, DmaErrorKind::Unaligned))
    );
}

#[test]
fn atomics_return_what_was_there() {
    let map = MemoryMap::anonymous(0, PAGE).unwrap();
    assert_eq!(map.fetch_add_u64(8, 5), Ok(0));
    assert_eq!(map.fetch_add_u64(8, u64::MAX), Ok(5));
    assert_eq!(map.compare_exchange_u64(8, 3, 9), Ok(4));
    assert_eq!(map.compare_exchange_u64(8, 4, 9), Ok(4));
    assert_eq!(map.fetch_update_u64(8, |v| v << 4), Ok(9));
    assert_eq!(map.load_u64(8, Ordering::SeqCst), Ok(9 << 4));
    assert_eq!(
        map.fetch_add_u64(12, 1),
        Err(error(12, 8, DmaErrorKind::Unaligned))
    );
    assert_eq!(
        map.fetch_add_u64(PAGE, 1),
        Err(error(PAGE, 8, DmaErrorKind::NotMapped))
    );
}

#[test]
fn atomics_of_two_devices_do_not_lose_updates() {
    const ROUNDS: u64 = 100_000;
    let map = MemoryMap::anonymous(0, PAGE).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| (0..ROUNDS).for_each(|_| assert!(map.fetch_add_u64(0, 1).is_ok())));
        s.spawn(|| (0..ROUNDS).for_each(|_| assert!(map.fetch_update_u64(0, |v| v + 1).is_ok())));
    });
    assert_eq!(map.load_u64(0, Ordering::SeqCst), Ok(2 * ROUNDS));
}

#[test]
fn what_is_released_after_data_is_seen_after_data() {
    const ROUNDS: u32 = 50_000;
    let map = MemoryMap::anonymous(0, PAGE).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            for round in 1..=ROUNDS {
                map.write(64, &[round as u8; 60]).unwrap();
                map.store_be32(124, round, Ordering::Release).unwrap();
                while map.load_be32(0, Ordering::Acquire).unwrap() != round {
                    std::hint::spin_loop();
                    std::thread::yield_now();
                }
            }
        });
        for round in 1..=ROUNDS {
            while map.load_be32(124, Ordering::Acquire).unwrap() != round {
                std::hint::spin_loop();
                std::thread::yield_now();
            }
            let mut body = [0; 60];
            map.read(64, &mut body).unwrap();
            assert_eq!(body, [round as u8; 60]);
            map.store_be32(0, round, Ordering::Release).unwrap();
        }
    });
}

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

#[test]
fn a_gather_is_read_across_its_segments() {
    let map = DmaSpace::new()
        .map(0, 4 * PAGE, Some(numbered(4)), 0, Prot::ReadWrite)
        .unwrap();
    let mut g = Gather::new(Arc::clone(&map));
    assert!(g.is_empty() && g.copy_to(0, &mut []));
    assert!(g.push(0x100, 6) && g.push(0x106, 2) && g.push(0x2000, 0));
    assert_eq!(
        g.segments(),
        [(0x100, 8)],
        "contiguous segments are merged, empty ones dropped"
    );
    assert!(g.push(0xffc, 8) && g.push(0x8, 4));
    assert_eq!(g.len(), 20);
    let mut bytes = [0; 20];
    assert!(g.copy_to(0, &mut bytes));
    let words: Vec<u8> = [64u32, 65, 1023, 1024, 2]
        .iter()
        .flat_map(|w| w.to_be_bytes())
        .collect();
    assert_eq!(bytes[..], words);
    for (offset, len) in [(0, 0), (1, 7), (7, 2), (8, 8), (15, 5), (20, 0), (3, 17)] {
        let mut part = vec![0; len];
        assert!(g.copy_to(offset, &mut part), "{offset}+{len}");
        assert_eq!(part, words[offset..offset + len], "{offset}+{len}");
        let other = MemoryMap::anonymous(0x5000, PAGE).unwrap();
        g.copy_to_guest(offset, &other, 0x5003, len).unwrap();
        other.read(0x5003, &mut part).unwrap();
        assert_eq!(part, words[offset..offset + len], "{offset}+{len}");
    }
    assert!(
        !g.copy_to(16, &mut [0; 5])
            && !g.copy_to(21, &mut [0; 1])
            && !g.copy_to(usize::MAX, &mut [0; 1])
    );
    let other = MemoryMap::anonymous(0, PAGE).unwrap();
    assert!(g.copy_to_guest(16, &other, 0, 5).is_err());
    assert_eq!(
        g.copy_to_guest(0, &other, PAGE - 19, 20),
        Err(error(PAGE - 19, 20, DmaErrorKind::NotMapped))
    );
    assert!(other.read_u64_be(PAGE - 16) == Ok(0), "nothing was written");
}

#[test]
fn a_copy_takes_place_as_a_whole_or_not_at_all() {
    let source = DmaSpace::new()
        .map(0, 2 * PAGE, Some(numbered(2)), 0, Prot::Read)
        .unwrap();
    let mut space = DmaSpace::new();
    space
        .map(0, PAGE, Some(file(1)), 0, Prot::ReadWrite)
        .unwrap();
    let target = space.map(PAGE, PAGE, Some(file(1)), 0, Prot::Read).unwrap();
    assert_eq!(
        copy(&source, 4, &target, PAGE - 8, 16),
        Err(error(PAGE - 8, 16, DmaErrorKind::ReadOnly))
    );
    assert_eq!(
        copy(&source, 2 * PAGE - 8, &target, 0, 16),
        Err(error(2 * PAGE - 8, 16, DmaErrorKind::NotMapped))
    );
    let mut page = [0xff; PAGE as usize];
    target.read(0, &mut page).unwrap();
    assert!(page.iter().all(|b| *b == 0));
    assert_eq!(copy(&source, u64::MAX, &target, u64::MAX, 0), Ok(()));
}

#[test]
fn a_gather_has_room_for_its_segments_and_survives_hostile_ones() {
    let map = MemoryMap::anonymous(0, PAGE).unwrap();
    let mut g = Gather::new(map);
    for i in 0..MAX_SEGMENTS as u64 {
        assert!(g.push(i * 16, 8));
    }
    assert!(!g.push(0x800, 8));
    assert!(g.push(0x78, 8), "but the last segment can grow");
    assert_eq!(g.len(), 8 * MAX_SEGMENTS + 8);
    let mut hostile = Gather::new(MemoryMap::anonymous(u64::MAX - PAGE + 1, PAGE).unwrap());
    assert!(
        hostile.push(u64::MAX - 3, 8) && hostile.push(3, u32::MAX) && hostile.push(u64::MAX, 2)
    );
    let mut bytes = [0; 16];
    for offset in 0..20 {
        assert!(!hostile.copy_to(offset, &mut bytes));
    }
    assert!(hostile.copy_to(0, &mut bytes[..4]));
}

#[test]
fn errors_say_where() {
    let e = MemoryMap::empty().read_u64_be(0xdead_0000).unwrap_err();
    assert_eq!(e.to_string(), "guest memory 0xdead0000+0x8: NotMapped");
}

/// What a monitor and a device do, on 16 pages of address space and a file of 8 pages.
#[derive(Clone, Debug)]
enum Step {
    Map {
        page: u64,
        pages: u64,
        file_page: Option<u64>,
        writable: bool,
    },
    Unmap {
        page: u64,
        pages: u64,
    },
    Write {
        at: u64,
        bytes: Vec<u8>,
    },
    Read {
        at: u64,
        len: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..16u64, 1..5u64, prop::option::weighted(0.8, 0..8u64), prop::bool::weighted(0.7))
            .prop_map(|(page, pages, file_page, writable)| Step::Map { page, pages, file_page, writable }),
        1 => (0..16u64, 0..8u64).prop_map(|(page, pages)| Step::Unmap { page, pages }),
        3 => (0..16 * PAGE, prop::collection::vec(any::<u8>(), 0..64)).prop_map(|(at, bytes)| Step::Write { at, bytes }),
        1 => (0..16u64, prop::collection::vec(any::<u8>(), PAGE as usize..3 * PAGE as usize))
            .prop_map(|(page, bytes)| Step::Write { at: page * PAGE + 4000, bytes }),
        3 => (0..16 * PAGE, 0..3 * PAGE as usize).prop_map(|(at, len)| Step::Read { at, len }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// The map behaves like a page table with the file's bytes behind it.
    #[test]
    fn a_map_is_a_page_table(steps in prop::collection::vec(step(), 1..40)) {
        let f = file(8);
        let mut space = DmaSpace::new();
        let mut table: [Option<(u64, bool)>; 32] = [None; 32];
        let mut bytes_of_file = vec![0u8; 8 * PAGE as usize];
        for step in steps {
            match step {
                Step::Map { page, pages, file_page, writable } => {
                    let prot = if writable { Prot::ReadWrite } else { Prot::Read };
                    let fits = file_page.is_none_or(|p| p + pages <= 8);
                    let offset = file_page.unwrap_or(0) * PAGE;
                    let result = space.map(page * PAGE, pages * PAGE, file_page.and(clone(&f)), offset, prot);
                    prop_assert_eq!(result.is_ok(), fits);
                    if fits {
                        for i in 0..pages {
                            table[(page + i) as usize] = file_page.map(|p| (p + i, writable));
                        }
                    }
                }
                Step::Unmap { page, pages } => {
                    space.unmap(page * PAGE, pages * PAGE);
                    table[page as usize..(page + pages) as usize].fill(None);
                }
                Step::Write { at, bytes } => {
                    let end = at + bytes.len() as u64;
                    let entries: Vec<_> = (at / PAGE..end.div_ceil(PAGE)).map(|p| table[p as usize]).collect();
                    let expected = bytes.is_empty() || entries.iter().all(|e| matches!(e, Some((_, true))));
                    prop_assert_eq!(space.current().write(at, &bytes).is_ok(), expected);
                    if expected {
                        for (iova, byte) in (at..).zip(&bytes) {
                            let (page, _) = table[(iova / PAGE) as usize].unwrap();
                            bytes_of_file[(page * PAGE + iova % PAGE) as usize] = *byte;
                        }
                    }
                }
                Step::Read { at, len } => {
                    let expected: Option<Vec<u8>> = (at..at + len as u64)
                        .map(|iova| {
                            let (page, _) = table[(iova / PAGE) as usize]?;
                            Some(bytes_of_file[(page * PAGE + iova % PAGE) as usize])
                        })
                        .collect();
                    let mut found = vec![0; len];
                    let result = space.current().read(at, &mut found);
                    prop_assert_eq!(result.is_ok().then_some(found), expected);
                }
            }
        }
        let mut found = vec![0; bytes_of_file.len()];
        f.read_exact_at(&mut found, 0).unwrap();
        prop_assert_eq!(found, bytes_of_file);
    }

    /// A copy between maps is a read and a write.
    #[test]
    fn a_copy_is_a_read_and_a_write(from in 0..8 * PAGE, to in 0..8 * PAGE, len in 0..3 * PAGE as usize) {
        let maps: Vec<_> = (0..2).map(|_| {
            let mut space = DmaSpace::new();
            // Pages in another order than in the file, so that nothing is contiguous.
            let f = numbered(8);
            for page in 0..8 {
                space.map(page * PAGE, PAGE, clone(&f), (7 - page) * PAGE, Prot::ReadWrite).unwrap();
            }
            space.current()
        }).collect();
        let mut expected = vec![0; len];
        let readable = maps[0].read(from, &mut expected).is_ok();
        let fits = len == 0 || (readable && to + len as u64 <= 8 * PAGE);
        prop_assert_eq!(copy(&maps[0], from, &maps[1], to, len).is_ok(), fits);
        if fits {
            let mut found = vec![0; len];
            maps[1].read(to, &mut found).unwrap();
            prop_assert_eq!(found, expected);
        }
    }
}
