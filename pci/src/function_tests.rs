//! What a driver finds out about the function by reading and writing its registers.

use std::os::fd::AsFd;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::sys;

/// What the device was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Write(u64, Vec<u8>),
    Read(u64, usize),
    Reset(ResetKind),
    BusMaster(bool),
    Memory { regions: usize, quiesce: bool },
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Event>>>);

impl Recorder {
    fn push(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl DeviceModel for Recorder {
    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) {
        assert_eq!(bar, 0);
        self.push(Event::Read(offset, data.len()));
        data.fill(0x5a);
    }
    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        assert_eq!(bar, 0);
        self.push(Event::Write(offset, data.to_vec()));
    }
    fn reset(&mut self, kind: ResetKind) {
        self.push(Event::Reset(kind));
    }
    fn bus_master(&mut self, enabled: bool) {
        self.push(Event::BusMaster(enabled));
    }
    fn memory_changed(&mut self, map: Arc<MemoryMap>, must_quiesce: bool) {
        self.push(Event::Memory {
            regions: map.region_count(),
            quiesce: must_quiesce,
        });
    }
}

fn config() -> FunctionConfig {
    FunctionConfig {
        vendor_id: 0x15b3,
        device_id: 0x1017,
        subsystem_vendor_id: 0x15b3,
        subsystem_id: 0x0020,
        class_code: 0x02_00_00,
        revision_id: 0,
        bar0_size: 32 << 20,
        msix_table_offset: 0x2000,
        msix_pba_offset: 0x3000,
        shared: None,
    }
}

fn function() -> (Function, Recorder, Arc<Interrupts>) {
    let recorder = Recorder::default();
    let interrupts = Interrupts::new(64);
    let f = Function::new(
        config(),
        Box::new(recorder.clone()),
        Arc::clone(&interrupts),
    )
    .unwrap();
    (f, recorder, interrupts)
}

impl Function {
    fn r8(&self, at: u64) -> u8 {
        let mut b = [0; 1];
        self.config_read(at, &mut b).unwrap();
        b[0]
    }
    fn r16(&self, at: u64) -> u16 {
        let mut b = [0; 2];
        self.config_read(at, &mut b).unwrap();
        u16::from_le_bytes(b)
    }
    fn r32(&self, at: u64) -> u32 {
        let mut b = [0; 4];
        self.config_read(at, &mut b).unwrap();
        u32::from_le_bytes(b)
    }
    fn w16(&mut self, at: u64, v: u16) {
        self.config_write(at, &v.to_le_bytes()).unwrap();
    }
    fn w32(&mut self, at: u64, v: u32) {
        self.config_write(at, &v.to_le_bytes()).unwrap();
    }

    /// Offset of a capability, by walking the list as a driver does.
    fn capability(&self, id: u8) -> Option<u64> {
        assert_ne!(self.r16(0x06) & 0x10, 0, "status says there is a list");
        let mut at = self.r8(0x34);
        for _ in 0..48 {
            if at == 0 {
                return None;
            }
            assert_eq!(at % 4, 0);
            if self.r8(u64::from(at)) == id {
                return Some(u64::from(at));
            }
            at = self.r8(u64::from(at) + 1);
        }
        panic!("the capability list has no end");
    }
}

fn table_entry(index: u64, address: u64, data: u32, masked: bool) -> (u64, Vec<u8>) {
    let mut bytes = address.to_le_bytes().to_vec();
    bytes.extend(data.to_le_bytes());
    bytes.extend(u32::from(masked).to_le_bytes());
    (0x2000 + index * 16, bytes)
}

fn eventfd(interrupts: &Interrupts, vector: u16) -> impl Fn() -> Option<u64> {
    use std::io::Read;
    let fd = sys::eventfd().unwrap();
    interrupts
        .connect(vector, Some(fd.try_clone().unwrap()))
        .unwrap();
    let file = File::from(fd);
    move || {
        let mut count = [0; 8];
        match (&file).read_exact(&mut count) {
            Ok(()) => Some(u64::from_ne_bytes(count)),
            Err(e) => {
                assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock);
                None
            }
        }
    }
}

#[test]
fn the_header_identifies_a_connectx_5() {
    let (f, ..) = function();
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
    let (f, ..) = function();
    let express = f.capability(0x10).unwrap();
    assert_eq!(f.r16(express + 2), 2, "version 2, end point");
    assert_ne!(f.r32(express + 4) & 1 << 28, 0, "FLR");
    assert_eq!(f.r32(express + 0x0c) & 0x3ff, 0x103, "8 GT/s x16");
    assert_eq!(f.r16(express + 0x12) & 0x3ff, 0x103);
    let msix = f.capability(0x11).unwrap();
    assert_eq!(f.r16(msix + 2), 63);
    assert_eq!(f.r32(msix + 4), 0x2000);
    assert_eq!(f.r32(msix + 8), 0x3000);
    assert_eq!(f.r16(f.capability(0x01).unwrap() + 2) & 7, 3);
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
    f.w16(f.capability(0x11).unwrap() + 2, 0x8000);
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
    f.w16(f.capability(0x11).unwrap() + 2, 0x8000);
    assert_eq!(read(), Some(1));
    // A write of the high byte alone is a reset, too; of the low byte it is not.
    device.take();
    f.config_write(express + 9, &[0x80]).unwrap();
    assert_eq!(device.take(), [Event::Reset(ResetKind::Flr)]);
    f.config_write(express + 8, &[0x80]).unwrap();
    assert_eq!(device.take(), []);
}

fn tempfile_of(len: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    file
}

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
fn msi_x_table_and_pending_bits_are_not_the_devices() {
    let (mut f, device, interrupts) = function();
    let mut entry = [0; 16];
    f.bar_read(0, 0x2000 + 63 * 16, &mut entry).unwrap();
    assert_eq!(entry, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    let (at, bytes) = table_entry(5, 0xfee0_1003, 0x4021, true);
    f.bar_write(0, at, &bytes).unwrap();
    f.bar_read(0, at, &mut entry).unwrap();
    assert_eq!(entry, table_entry(5, 0xfee0_1000, 0x4021, true).1[..]);
    interrupts.fire(5);
    interrupts.fire(63);
    let mut pending = [0; 8];
    f.bar_read(0, 0x3000, &mut pending).unwrap();
    assert_eq!(u64::from_le_bytes(pending), 1 << 5 | 1 << 63);
    f.bar_write(0, 0x3000, &[0xff; 8]).unwrap();
    f.bar_write(0, 0x3000, &[0; 8]).unwrap();
    assert_eq!(device.take(), []);
    // The next bytes are the device's again.
    f.bar_write(0, 0x2400, &[1]).unwrap();
    f.bar_write(0, 0x3008, &[1]).unwrap();
    assert_eq!(
        device.take(),
        [Event::Write(0x2400, vec![1]), Event::Write(0x3008, vec![1])]
    );
}

#[test]
fn a_vector_masked_in_the_table_is_delivered_once_when_unmasked() {
    let (mut f, _, interrupts) = function();
    let read = eventfd(&interrupts, 2);
    let other = eventfd(&interrupts, 1);
    f.w16(f.capability(0x11).unwrap() + 2, 0x8000);
    // A monitor that keeps the table to itself never writes here: nothing is masked.
    interrupts.fire(2);
    assert_eq!(read(), Some(1));
    let (at, bytes) = table_entry(2, 0xfee0_0000, 0x30, true);
    f.bar_write(0, at, &bytes).unwrap();
    interrupts.fire(2);
    interrupts.fire(2);
    interrupts.fire(1);
    assert_eq!(read(), None);
    assert!(interrupts.is_pending(2));
    f.bar_write(0, at + 12, &[0, 0, 0, 0]).unwrap();
    assert_eq!(read(), Some(1));
    assert!(!interrupts.is_pending(2));
    assert_eq!(other(), None, "masked since reset");
}

#[test]
fn reset_masks_the_table_again_and_forgets_what_is_pending() {
    let (mut f, _, interrupts) = function();
    let read = eventfd(&interrupts, 0);
    let control = f.capability(0x11).unwrap() + 2;
    f.w16(control, 0x8000);
    let (at, bytes) = table_entry(0, 0xfee0_1000, 0x31, false);
    f.bar_write(0, at, &bytes).unwrap();
    for kind in [ResetKind::Flr, ResetKind::Device] {
        f.w16(control, 0xc000);
        interrupts.fire(0);
        f.reset(kind);
        assert!(!interrupts.is_pending(0));
        let mut entry = [0xff; 16];
        f.bar_read(0, at, &mut entry).unwrap();
        assert_eq!(entry, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        f.w16(control, 0x8000);
        interrupts.fire(0);
        assert_eq!(read(), None, "masked since the reset");
        f.bar_write(0, at + 12, &[0; 4]).unwrap();
        assert_eq!(read(), Some(1));
    }
    // A client that keeps the table to itself is not bound by what the one before wrote.
    f.bar_write(0, at, &table_entry(0, 1 << 40, 0x31, true).1)
        .unwrap();
    f.reset(ResetKind::ClientGone);
    let mut entry = [0xff; 16];
    f.bar_read(0, at, &mut entry).unwrap();
    assert_eq!(entry, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    let read = eventfd(&interrupts, 0);
    f.reset(ResetKind::Flr);
    interrupts.fire(0);
    assert_eq!(read(), Some(1));
}

#[test]
fn reserved_bits_of_vector_control_stay_zero() {
    let (mut f, ..) = function();
    f.bar_write(0, 0x2000, &[0xff; 16]).unwrap();
    let mut entry = [0; 16];
    f.bar_read(0, 0x2000, &mut entry).unwrap();
    let mut expected = [0xff; 16];
    expected[0] = 0xfc;
    expected[12..].copy_from_slice(&[1, 0, 0, 0]);
    assert_eq!(entry, expected);
}

#[test]
fn the_function_mask_holds_all_vectors_and_disabling_forgets_them() {
    let (mut f, _, interrupts) = function();
    let control = f.capability(0x11).unwrap() + 2;
    let read = [eventfd(&interrupts, 0), eventfd(&interrupts, 9)];
    f.w16(control, 0xc000);
    interrupts.fire(0);
    interrupts.fire(9);
    assert_eq!(read.each_ref().map(|r| r()), [None, None]);
    f.w16(control, 0x8000);
    assert_eq!(read.each_ref().map(|r| r()), [Some(1), Some(1)]);
    f.w16(control, 0xc000);
    interrupts.fire(0);
    f.w16(control, 0x4000);
    f.w16(control, 0x8000);
    assert_eq!(read[0](), None);
}

#[test]
fn without_bus_master_no_message_is_sent() {
    let (mut f, _, interrupts) = function();
    let read = eventfd(&interrupts, 0);
    f.w16(0x04, 0x0006);
    f.w16(0x04, 0x0002);
    interrupts.fire(0);
    assert_eq!(read(), None);
    f.w16(0x04, 0x0006);
    assert_eq!(read(), Some(1));
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

#[test]
fn only_eventfds_are_connected() {
    let interrupts = Interrupts::new(4);
    assert!(interrupts.connect(0, Some(tempfile_of(0).into())).is_err());
    let fd = sys::eventfd().unwrap();
    assert!(
        interrupts
            .connect(4, Some(fd.as_fd().try_clone_to_owned().unwrap()))
            .is_err()
    );
    interrupts.connect(3, Some(fd)).unwrap();
    interrupts.fire(4);
    interrupts.fire(u16::MAX);
}

#[test]
fn a_full_blocking_eventfd_does_not_stop_the_device() {
    use std::io::Write;
    let interrupts = Interrupts::new(1);
    // SAFETY: eventfd has no preconditions; the descriptor is owned by nobody else.
    let fd = unsafe { std::os::fd::FromRawFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
    let fd: std::os::fd::OwnedFd = fd;
    let file = File::from(fd.try_clone().unwrap());
    (&file).write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
    interrupts.connect(0, Some(fd)).unwrap();
    interrupts.fire(0);
    assert!(
        !interrupts.is_pending(0),
        "the count that is there stands for it"
    );
}

#[test]
fn no_interrupt_is_lost_between_masking_and_firing_threads() {
    const ROUNDS: u64 = 20_000;
    let (mut f, _, interrupts) = function();
    let read = eventfd(&interrupts, 0);
    let control = f.capability(0x11).unwrap() + 2;
    f.w16(control, 0x8000);
    let firing = Arc::clone(&interrupts);
    let thread = std::thread::spawn(move || {
        for _ in 0..ROUNDS {
            firing.fire(0);
        }
    });
    let mut seen = 0;
    while !thread.is_finished() {
        f.w16(control, 0xc000);
        f.w16(control, 0x8000);
        seen += read().unwrap_or(0);
    }
    thread.join().unwrap();
    seen += read().unwrap_or(0);
    assert!(!interrupts.is_pending(0), "unmasked, and yet still pending");
    assert!((1..=ROUNDS).contains(&seen), "{seen}");
    interrupts.fire(0);
    assert_eq!(read(), Some(1));
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
        prop_assert_eq!(f.r16(f.capability(0x11).unwrap() + 2) & 0x7ff, 63);
        prop_assert!(f.r16(f.capability(0x01).unwrap() + 4) & 3 != 1 && f.r16(f.capability(0x01).unwrap() + 4) & 3 != 2);
    }

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
