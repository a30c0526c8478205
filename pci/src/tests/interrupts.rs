//! MSI-X: table, pending bits, masks, and delivery through eventfds.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::*;

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
    let control = f.capability(0x11).unwrap() + 2;
    f.w16(control, 0x8000);
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
