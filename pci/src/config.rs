//! Configuration space as the guest sees it: registers with reset values and write masks.
//!
//! Knows which bits of which register can be written, and nothing of what a write means: see
//! [`crate::Function`]. Which registers there are is declared in [`crate::layout`].

/// Bytes of PCI-compatible configuration space.
pub(crate) const LEN: usize = 256;

/// Bytes of a PCI Express function's configuration space. What lies beyond the first 256 is empty: no
/// extended capabilities.
pub const CONFIG_SPACE_LEN: u64 = 4096;

/// One register of configuration space, little-endian.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Register {
    /// Byte offset.
    pub(crate) offset: u8,
    /// Length in bytes, at most 4.
    pub(crate) len: u8,
    /// Value after reset.
    pub(crate) reset: u32,
    /// Bits that software can write.
    pub(crate) writable: u32,
    /// Bits that software clears by writing 1 (RW1C).
    pub(crate) clear_by_one: u32,
}

impl Register {
    /// A register that never changes.
    pub(crate) const fn read_only(offset: u8, len: u8, value: u32) -> Self {
        Self {
            offset,
            len,
            reset: value,
            writable: 0,
            clear_by_one: 0,
        }
    }

    /// A register of which software can write the bits in `writable`.
    pub(crate) const fn read_write(offset: u8, len: u8, reset: u32, writable: u32) -> Self {
        Self {
            offset,
            len,
            reset,
            writable,
            clear_by_one: 0,
        }
    }
}

/// Configuration space of one function.
pub(crate) struct ConfigSpace {
    value: [u8; LEN],
    reset: [u8; LEN],
    writable: [u8; LEN],
    clear_by_one: [u8; LEN],
}

impl ConfigSpace {
    /// Configuration space made of `registers`; everything between them reads as zero and ignores writes.
    pub(crate) fn new(registers: &[Register]) -> Self {
        let mut space = Self {
            value: [0; LEN],
            reset: [0; LEN],
            writable: [0; LEN],
            clear_by_one: [0; LEN],
        };
        for r in registers {
            let bytes = r
                .reset
                .to_le_bytes()
                .into_iter()
                .zip(r.writable.to_le_bytes())
                .zip(r.clear_by_one.to_le_bytes())
                .take(usize::from(r.len));
            for (i, ((reset, writable), clear)) in bytes.enumerate() {
                let at = usize::from(r.offset) + i;
                space.reset[at] = reset;
                space.writable[at] = writable;
                space.clear_by_one[at] = clear;
            }
        }
        space.value = space.reset;
        space
    }

    /// All registers back to their values after power-on.
    pub(crate) fn reset(&mut self) {
        self.value = self.reset;
    }

    /// Reads from `offset` on; what lies beyond the registers is zero.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        let start = usize::try_from(offset).unwrap_or(LEN).min(LEN);
        data.fill(0);
        for (to, from) in data.iter_mut().zip(&self.value[start..]) {
            *to = *from;
        }
    }

    /// Writes from `offset` on, as far as the registers allow.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let start = usize::try_from(offset).unwrap_or(LEN).min(LEN);
        for (at, new) in (start..LEN).zip(data) {
            let (rw, w1c) = (self.writable[at], self.clear_by_one[at]);
            self.value[at] = (self.value[at] & !rw | new & rw) & !(new & w1c);
        }
    }

    /// 16-bit register at `offset`.
    pub(crate) fn u16(&self, offset: u8) -> u16 {
        let mut bytes = [0; 2];
        self.read(u64::from(offset), &mut bytes);
        u16::from_le_bytes(bytes)
    }

    /// Sets a 16-bit register, regardless of what software can write.
    pub(crate) fn set_u16(&mut self, offset: u8, value: u16) {
        let start = usize::from(offset);
        for (to, from) in self.value[start..].iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space() -> ConfigSpace {
        ConfigSpace::new(&[
            Register::read_only(0, 4, 0x1017_15b3),
            Register::read_write(4, 2, 0x0002, 0x0546),
            Register {
                offset: 6,
                len: 2,
                reset: 0x0010,
                writable: 0,
                clear_by_one: 0xf900,
            },
        ])
    }

    #[test]
    fn read_only_registers_ignore_writes() {
        let mut s = space();
        s.write(0, &[0xff; 4]);
        let mut id = [0; 4];
        s.read(0, &mut id);
        assert_eq!(id, [0xb3, 0x15, 0x17, 0x10]);
    }

    #[test]
    fn a_write_changes_writable_bits_only_and_reset_undoes_it() {
        let mut s = space();
        s.write(4, &[0xff, 0xff]);
        assert_eq!(s.u16(4), 0x0546);
        s.write(5, &[0x00]);
        assert_eq!(s.u16(4), 0x0046);
        s.reset();
        assert_eq!(s.u16(4), 0x0002);
    }

    #[test]
    fn status_bits_are_cleared_by_writing_one() {
        let mut s = space();
        s.set_u16(6, 0x8110);
        s.write(6, &[0x00, 0x80]);
        assert_eq!(s.u16(6), 0x0110);
        s.write(6, &[0x10, 0x01]);
        assert_eq!(s.u16(6), 0x0010, "the capability list bit is read-only");
    }

    #[test]
    fn beyond_the_registers_is_zero() {
        let mut s = space();
        let mut data = [0xaa; 8];
        s.read(0xfc, &mut data);
        assert_eq!(data, [0; 8]);
        s.write(u64::MAX, &[1; 8]);
        s.read(u64::MAX, &mut data);
        assert_eq!(data, [0; 8]);
    }

    proptest! {
        #[test]
        fn no_write_reaches_a_read_only_bit(writes in prop::collection::vec((0u64..300, prop::collection::vec(any::<u8>(), 0..16)), 0..32)) {
            let mut s = space();
            for (offset, data) in &writes {
                s.write(*offset, data);
            }
            let mut id = [0; 4];
            s.read(0, &mut id);
            prop_assert_eq!(id, [0xb3, 0x15, 0x17, 0x10]);
            prop_assert_eq!(s.u16(4) & !0x0546, 0x0002 & !0x0546);
            prop_assert_eq!(s.u16(6) & !0xf900, 0x0010);
        }
    }
}
