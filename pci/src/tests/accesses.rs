//! BARs, memory maps, clients, and what is no function.

use std::sync::Arc;

use proptest::prelude::*;
use rocinante_dma::Prot;

use super::*;
use crate::function::SharedAreas;

#[test]
fn the_next_client_finds_a_fresh_function() {
    let (mut f, device, interrupts) = function();
    let read = eventfd(&interrupts, 0);
    f.dma_map(0, 4096, Some(tempfile_of(4096)), 0, Some(Prot::ReadWrite))
        .unwrap();
    f.w16(0x04, 0x0006);
    device.take();
    f.reset(ResetKind::ClientGone);
    assert_eq!(
        device.take(),
        [
            Event::Reset(ResetKind::ClientGone),
            Event::Memory {
                regions: 0,
                quiesce: true
            }
        ]
    );
    assert!(f.memory().is_empty());
    interrupts.fire(0);
    assert_eq!(read(), None);
    assert!(interrupts.is_pending(0));
}

#[test]
fn accesses_reach_the_device_naturally_aligned() {
    let (mut f, device, _) = function();
    f.bar_write(
        0,
        0x10003,
        &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
    )
    .unwrap();
    assert_eq!(
        device.take(),
        [
            Event::Write(0x10003, vec![0]),
            Event::Write(0x10004, vec![1, 2, 3, 4]),
            Event::Write(0x10008, vec![5, 6, 7, 8, 9, 10, 11, 12]),
            Event::Write(0x10010, vec![13, 14]),
        ]
    );
    let mut data = [0; 12];
    f.bar_read(0, 0x10800, &mut data).unwrap();
    assert_eq!(data, [0x5a; 12]);
    assert_eq!(
        device.take(),
        [Event::Read(0x10800, 8), Event::Read(0x10808, 4)]
    );
}

#[test]
fn accesses_out_of_range_are_refused() {
    let (mut f, device, _) = function();
    let mut data = [0; 8];
    for (bar, offset) in [
        (0, (32 << 20) - 4),
        (0, u64::MAX),
        (1, 0),
        (255, 0),
        (0, u64::MAX - 7),
    ] {
        assert!(f.bar_read(bar, offset, &mut data).is_err());
        assert!(f.bar_write(bar, offset, &data).is_err());
    }
    assert!(f.config_read(4092, &mut data).is_err());
    assert!(f.config_write(u64::MAX, &data).is_err());
    f.config_read(4088, &mut data).unwrap();
    f.bar_read(0, (32 << 20) - 8, &mut data).unwrap();
    assert_eq!(device.take(), [Event::Read((32 << 20) - 8, 8)]);
}

#[test]
fn memory_changes_tell_whether_something_was_taken_away() {
    let (mut f, device, _) = function();
    let map = |f: &mut Function, iova, len| {
        f.dma_map(iova, len, Some(tempfile_of(len)), 0, Some(Prot::ReadWrite))
            .unwrap();
    };
    map(&mut f, 0, 0x4000);
    map(&mut f, 0x10000, 0x1000);
    map(&mut f, 0x1000, 0x1000);
    f.dma_map(0xa0000, 0x20000, None, 0, Some(Prot::ReadWrite))
        .unwrap();
    f.dma_unmap(0xa0000, 0x20000);
    f.dma_unmap(1 << 63, 1 << 63);
    f.dma_unmap(0x10000, 0x1000);
    f.dma_unmap_all();
    f.dma_unmap_all();
    let memory = |regions, quiesce| Event::Memory { regions, quiesce };
    assert_eq!(
        device.take(),
        [
            memory(1, false),
            memory(2, false),
            memory(4, true),
            memory(3, true),
            memory(0, true)
        ]
    );
}

#[test]
fn nonsense_is_not_a_function() {
    let new = |c| {
        Function::new(c, Box::new(Recorder::default()), Interrupts::new(64))
            .map(|_| ())
            .unwrap_err()
    };
    for bar0_size in [0, 2048, 3 << 20, u64::MAX] {
        assert_eq!(
            new(FunctionConfig {
                bar0_size,
                ..config()
            }),
            ConfigError::Bar0Size(bar0_size)
        );
    }
    for (table, pba) in [
        (0x2004, 0x3000),
        (0x2000, 0x23f8),
        (0x2000, 32 << 20),
        (0xffff_fff8, 0x3000),
    ] {
        assert_eq!(
            new(FunctionConfig {
                msix_table_offset: table,
                msix_pba_offset: pba,
                ..config()
            }),
            ConfigError::Msix { table, pba }
        );
    }
    let file = Arc::new(tempfile_of(32 << 20));
    for (offset, len) in [
        (0x2000, 0x1000),
        (0x10800, 0x1000),
        (0x10000, 0),
        (!0xfff, 0x2000),
    ] {
        let shared = Some(SharedAreas {
            file: Arc::clone(&file),
            areas: vec![(offset, len)],
        });
        assert_eq!(
            new(FunctionConfig { shared, ..config() }),
            ConfigError::Shared { offset, len }
        );
    }
}

proptest! {
    /// The pieces of an access are naturally aligned and add up to it.
    #[test]
    fn pieces_cover_an_access(offset in 0x10000u64..0x20000, len in 0usize..300) {
        let (mut f, device, _) = function();
        let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        f.bar_write(0, offset, &data).unwrap();
        let mut at = offset;
        let mut seen = Vec::new();
        for event in device.take() {
            let Event::Write(start, bytes) = event else { panic!("{event:?}") };
            prop_assert_eq!(start, at);
            prop_assert!([1, 2, 4, 8].contains(&bytes.len()) && start % bytes.len() as u64 == 0);
            at += bytes.len() as u64;
            seen.extend(bytes);
        }
        prop_assert_eq!(seen, data);
    }
}
