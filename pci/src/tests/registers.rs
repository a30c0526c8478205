//! Configuration space: identity, BAR sizing, capabilities, function level reset.

use proptest::prelude::*;
use rocinante_dma::Prot;

use super::*;

#[test]
fn the_header_identifies_a_connectx_5() {
    let (mut f, ..) = function();
    assert_eq!(f.r32(0x00), 0x1017_15b3);
    assert_eq!(f.r32(0x08), 0x0200_0000);
    assert_eq!(f.r32(0x0c), 0);
    assert_eq!(f.r32(0x2c), 0x0020_15b3);
    assert_eq!(f.r8(0x3d), 1, "INTA");
    assert_eq!(f.r32(0x30), 0, "no expansion ROM");
    assert_eq!(f.r32(0x100), 0, "no extended capabilities");
}

#[test]
fn bar_0_sizes_as_32_mib_of_64_bit_prefetchable_memory() {
    let (mut f, ..) = function();
    assert_eq!(f.r32(0x10), 0xc);
    f.w32(0x10, 0xffff_ffff);
    f.w32(0x14, 0xffff_ffff);
    let size = !(u64::from(f.r32(0x14)) << 32 | u64::from(f.r32(0x10) & !0xf)) + 1;
    assert_eq!(size, 32 << 20);
    f.w32(0x10, 0xfe00_0000);
    f.w32(0x14, 0x38);
    assert_eq!((f.r32(0x10), f.r32(0x14)), (0xfe00_000c, 0x38));
    for other in [0x18, 0x1c, 0x20, 0x24, 0x30] {
        f.w32(other, 0xffff_ffff);
        assert_eq!(f.r32(other), 0, "{other:#x}");
    }
}

#[test]
fn a_large_bar_and_a_small_one_size_correctly() {
    for size in [4096u64, 1 << 31, 1 << 32, 1 << 40] {
        let c = FunctionConfig {
            bar0_size: size,
            msix_table_offset: 0,
            msix_pba_offset: 0x800,
            ..config()
        };
        let mut f = Function::new(c, Box::new(Recorder::default()), Interrupts::new(64)).unwrap();
        f.config_write(0x10, &[0xff; 8]).unwrap();
        let bar = u64::from(f.r32(0x14)) << 32 | u64::from(f.r32(0x10));
        assert_eq!(bar & 0xf, 0xc);
        assert_eq!(!(bar & !0xf) + 1, size);
    }
}

#[test]
fn writing_header_dword_3_changes_the_cache_line_size_only() {
    let (mut f, ..) = function();
    f.w32(0x0c, 0xffff_ffff);
    assert_eq!(f.r32(0x0c), 0xff);
}

#[test]
fn pci_express_msi_x_and_power_management_are_there_and_nothing_else() {
    let (mut f, ..) = function();
    let express = f.capability(0x10).unwrap();
    assert_eq!(f.r16(express + 2), 2, "version 2, end point");
    assert_ne!(f.r32(express + 4) & 1 << 28, 0, "FLR");
    assert_eq!(f.r32(express + 0x0c) & 0x3ff, 0x103, "8 GT/s x16");
    assert_eq!(f.r16(express + 0x12) & 0x3ff, 0x103);
    let msix = f.capability(0x11).unwrap();
    assert_eq!(f.r16(msix + 2), 63);
    assert_eq!(f.r32(msix + 4), 0x2000);
    assert_eq!(f.r32(msix + 8), 0x3000);
    let power = f.capability(0x01).unwrap();
    assert_eq!(f.r16(power + 2) & 7, 3);
    for absent in [0x03, 0x05, 0x09] {
        assert_eq!(f.capability(absent), None, "{absent:#x}");
    }
}

#[test]
fn the_device_hears_of_bus_master_once() {
    let (mut f, device, _) = function();
    f.w16(0x04, 0x0002);
    f.w16(0x04, 0x0006);
    f.w16(0x04, 0x0406);
    f.w16(0x04, 0x0000);
    assert_eq!(
        device.take(),
        [Event::BusMaster(true), Event::BusMaster(false)]
    );
}

#[test]
fn d3hot_suspends_bus_mastering_and_keeps_everything() {
    let (mut f, device, _) = function();
    let power = f.capability(0x01).unwrap();
    f.w16(0x04, 0x0006);
    f.w32(0x10, 0xfe00_0000);
    f.w16(power + 4, 3);
    assert_eq!(f.r16(power + 4), 0x000b);
    f.w16(power + 4, 1);
    assert_eq!(f.r16(power + 4), 0x000b, "D1 is not implemented");
    f.w16(power + 4, 0);
    assert_eq!(f.r32(0x10), 0xfe00_000c);
    assert_eq!(
        device.take(),
        [
            Event::BusMaster(true),
            Event::BusMaster(false),
            Event::BusMaster(true)
        ]
    );
}

#[test]
fn function_level_reset_returns_everything_to_power_on_and_keeps_maps_and_eventfds() {
    let (mut f, device, interrupts) = function();
    let fresh: Vec<u32> = (0..64).map(|i| f.r32(i * 4)).collect();
    let express = f.capability(0x10).unwrap();
    let read = eventfd(&interrupts, 3);
    f.w16(0x04, 0x0006);
    f.w32(0x10, 0xfe00_0000);
    let control = f.capability(0x11).unwrap() + 2;
    f.w16(control, 0x8000);
    f.dma_map(0, 4096, Some(tempfile_of(4096)), 0, Some(Prot::ReadWrite))
        .unwrap();
    device.take();

    f.w16(express + 8, 0x2810 | 1 << 15);

    assert_eq!(device.take(), [Event::Reset(ResetKind::Flr)]);
    let after: Vec<u32> = (0..64).map(|i| f.r32(i * 4)).collect();
    assert_eq!(after, fresh);
    assert_eq!(f.memory().region_count(), 1);
    // The driver comes back: the eventfd still works, from the moment MSI-X is enabled again.
    interrupts.fire(3);
    assert_eq!(read(), None);
    f.w16(0x04, 0x0006);
    f.w16(control, 0x8000);
    assert_eq!(read(), Some(1));
    // A write of the high byte alone is a reset, too; of the low byte it is not.
    device.take();
    f.config_write(express + 9, &[0x80]).unwrap();
    assert_eq!(device.take(), [Event::Reset(ResetKind::Flr)]);
    f.config_write(express + 8, &[0x80]).unwrap();
    assert_eq!(device.take(), []);
}

proptest! {
    /// Whatever is written wherever: identity and capabilities stay, and every offset can be read.
    #[test]
    fn hostile_writes_change_no_read_only_register(
        writes in prop::collection::vec((0u64..4096, prop::collection::vec(any::<u8>(), 1..9)), 0..64),
    ) {
        let (mut f, ..) = function();
        for (offset, data) in &writes {
            let _ = f.config_write(*offset, data);
        }
        prop_assert_eq!(f.r32(0), 0x1017_15b3);
        prop_assert_eq!(f.r32(0x08), 0x0200_0000);
        prop_assert!(f.capability(0x10).is_some() && f.capability(0x11).is_some() && f.capability(0x01).is_some());
        let (msix, power) = (f.capability(0x11).unwrap(), f.capability(0x01).unwrap());
        prop_assert_eq!(f.r16(msix + 2) & 0x7ff, 63);
        prop_assert!([0, 3].contains(&(f.r16(power + 4) & 3)));
    }
}
