//! A function whose device is pulled out, and comes back.

use super::*;

#[test]
fn a_device_that_is_out_reads_all_ones_everywhere_and_comes_back_as_after_power_on() {
    let (mut f, recorder, interrupts) = function();
    let fired = eventfd(&interrupts, 1);
    let at = f.capability(0x11).unwrap();
    f.w32(0x10, 0xfe00_0000);
    f.w16(0x04, 0x0006);
    f.w16(at + 2, 0x8000);
    let (entry, bytes) = table_entry(1, 0xfee0_0000, 0x21, false);
    f.bar_write(0, entry, &bytes).unwrap();
    interrupts.fire(1);
    assert_eq!(fired(), Some(1));
    recorder.take();

    recorder.1.store(1, Ordering::Relaxed);
    for offset in [0x00, 0x04, 0x10, 0x34, at, 0x100] {
        assert_eq!(f.r32(offset), u32::MAX, "{offset:#x}");
    }
    let mut word = [0; 4];
    for offset in [0x0, 0x2000, 0x3000, 0x10_0000] {
        f.bar_read(0, offset, &mut word).unwrap();
        assert_eq!(word, [0xff; 4], "{offset:#x}");
    }
    f.w16(0x04, 0x0006);
    f.bar_write(0, 0x10_0000, &[1; 8]).unwrap();
    f.bar_write(0, entry, &bytes).unwrap();
    interrupts.fire(1);
    assert_eq!(fired(), None);
    // It was told nothing but that it is not bus master any more.
    assert_eq!(recorder.take(), [Event::BusMaster(false)]);
    assert!(f.config_read(4094, &mut word).is_err());

    recorder.1.store(2, Ordering::Relaxed);
    assert_eq!(f.r32(0x00), 0x1017_15b3);
    assert_eq!(f.r16(0x04), 0);
    assert_eq!(f.r32(0x10), 0xc);
    assert_eq!(f.r16(at + 2) & 0x8000, 0);
    f.bar_read(0, entry + 12, &mut word).unwrap();
    assert_eq!(word, [1, 0, 0, 0], "masked");
    assert_eq!(fired(), None, "what it had to say is lost");
    f.w16(0x04, 0x0006);
    assert_eq!(recorder.take(), [Event::BusMaster(true)]);
}

#[test]
fn nobody_looked_while_it_was_out() {
    let (mut f, recorder, _) = function();
    f.w16(0x04, 0x0006);
    recorder.take();
    recorder.1.store(2, Ordering::Relaxed);
    assert_eq!(f.r16(0x04), 0);
    assert_eq!(recorder.take(), [Event::BusMaster(false)]);
}
