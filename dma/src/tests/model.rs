//! Memory maps against a page table.

use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;
use crate::{DmaSpace, Prot, copy};

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
