//! A vendor-specific capability: registers in configuration space that the device serves.
//!
//! Knows where they are and how they are accessed; what they mean is the device's.

use std::fmt;
use std::ops::Range;

use crate::{config, layout};

/// Bytes of the header: ID, next, length, and one that is reserved here.
const HEADER_LEN: u8 = 4;

/// Registers of 32 bits, little-endian in configuration space. Called from the thread that serves the
/// function, which a vCPU waits for.
pub trait ConfigRegisters: Send {
    /// Reads the register at `offset` from the start of the capability, a multiple of 4. A read of some of its
    /// bytes is a read of the register.
    fn read(&mut self, offset: u8) -> u32;

    /// Writes the register at `offset` from the start of the capability, a multiple of 4. A write of some of
    /// its bytes only is ignored.
    fn write(&mut self, offset: u8, value: u32);

    /// Back to the state after power-on: at every reset of the function.
    fn reset(&mut self);
}

/// A vendor-specific capability, PCI 6.7 and appendix H.
pub struct VendorCapability {
    /// Length in bytes with the header of 4, a multiple of 4.
    pub len: u8,
    /// What follows the header.
    pub registers: Box<dyn ConfigRegisters>,
}

impl fmt::Debug for VendorCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VendorCapability")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl VendorCapability {
    /// Whether it can be a capability where it is put.
    pub(crate) fn fits(&self) -> bool {
        let end = usize::from(layout::VENDOR) + usize::from(self.len);
        self.len >= HEADER_LEN && self.len.is_multiple_of(4) && end <= config::LEN
    }

    /// Replaces those of the bytes read from `offset` on that belong to registers.
    pub(crate) fn read(&mut self, offset: u64, data: &mut [u8]) {
        for register in self.offsets() {
            let (of_register, of_access) = overlap(register, offset, data.len());
            if let Some(to) = data.get_mut(of_access).filter(|to| !to.is_empty()) {
                let bytes = self.registers.read(register).to_le_bytes();
                to.copy_from_slice(&bytes[of_register]);
            }
        }
    }

    /// Writes the registers that lie wholly within an access.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        for register in self.offsets() {
            let (_, of_access) = overlap(register, offset, data.len());
            let bytes = data.get(of_access).map(<[u8; 4]>::try_from);
            if let Some(Ok(bytes)) = bytes {
                self.registers.write(register, u32::from_le_bytes(bytes));
            }
        }
    }

    fn offsets(&self) -> impl Iterator<Item = u8> + use<> {
        (HEADER_LEN..self.len).step_by(4)
    }
}

/// What a register and an access of `len` bytes at `offset` have in common: bytes of the register, bytes of the
/// access. Empty ranges if nothing.
fn overlap(register: u8, offset: u64, len: usize) -> (Range<usize>, Range<usize>) {
    let start = u64::from(layout::VENDOR) + u64::from(register);
    let from = start.max(offset);
    let to = (start + 4).min(offset.saturating_add(len as u64));
    if from >= to {
        return (0..0, 0..0);
    }
    let relative = |base: u64| (from - base) as usize..(to - base) as usize;
    (relative(start), relative(offset))
}
