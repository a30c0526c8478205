//! Reading, writing, ordering, atomics.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use super::*;
use crate::{DmaErrorKind, DmaSpace, MemoryMap, Prot, copy};

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
fn errors_say_where() {
    let e = MemoryMap::empty().read_u64_be(0xdead_0000).unwrap_err();
    assert_eq!(e.to_string(), "guest memory 0xdead0000+0x8: NotMapped");
}
