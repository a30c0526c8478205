//! Payload references and copies from guest to guest.

use std::sync::Arc;

use super::*;
use crate::{DmaErrorKind, DmaSpace, Gather, MAX_SEGMENTS, MemoryMap, Prot, copy};

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
    let end = (MAX_SEGMENTS as u64 - 1) * 16 + 8;
    assert!(g.push(end, 8), "but the last segment can grow");
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
