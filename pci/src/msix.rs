//! The MSI-X table and pending bit array as they stand in the BAR.
//!
//! Messages are delivered by the monitor, so address and data are only stored. QEMU keeps the table to itself
//! (accesses are trapped there and never arrive) and reads the pending bits here; other monitors forward both.
//! A mask bit therefore counts only from the moment a monitor has written to the table.

use crate::interrupts::{Interrupts, Mask};

/// Bytes of a table entry: address low, address high, data, vector control.
pub(crate) const ENTRY_LEN: u64 = 16;
const CONTROL: usize = 12;
const CONTROL_MASK: u8 = 1;

/// The table of one function.
pub(crate) struct MsixTable {
    entries: Vec<[u8; ENTRY_LEN as usize]>,
    /// The monitor forwards writes to the table.
    written: bool,
}

/// After reset all vectors are masked, PCI 6.8.2.9.
const RESET: [u8; ENTRY_LEN as usize] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, CONTROL_MASK, 0, 0, 0];

impl MsixTable {
    pub(crate) fn new(vectors: u16) -> Self {
        Self {
            entries: vec![RESET; usize::from(vectors)],
            written: false,
        }
    }

    /// Bytes of the table.
    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64 * ENTRY_LEN
    }

    /// Bytes of the pending bit array: one bit a vector, in units of 64.
    pub(crate) fn pending_len(&self) -> u64 {
        self.entries.len().div_ceil(64) as u64 * 8
    }

    /// All entries as after power-on.
    pub(crate) fn reset(&mut self, interrupts: &Interrupts) {
        self.entries.fill(RESET);
        if self.written {
            for vector in 0..interrupts.count() {
                interrupts.set_mask(vector, Mask::Table, true);
            }
        }
    }

    /// As before any client.
    pub(crate) fn forget(&mut self) {
        self.entries.fill(RESET);
        self.written = false;
    }

    /// Reads table bytes; `offset` is relative to the table. Bytes beyond it are zero.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = self.byte(at).copied().unwrap_or(0);
        }
    }

    fn byte(&self, at: u64) -> Option<&u8> {
        let entry = self.entries.get(usize::try_from(at / ENTRY_LEN).ok()?)?;
        entry.get((at % ENTRY_LEN) as usize)
    }

    /// Writes table bytes; `offset` is relative to the table.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8], interrupts: &Interrupts) {
        for (at, new) in (offset..).zip(data) {
            let Some(entry) = usize::try_from(at / ENTRY_LEN)
                .ok()
                .and_then(|i| self.entries.get_mut(i))
            else {
                break;
            };
            let field = (at % ENTRY_LEN) as usize;
            match field {
                // The two low bits of the address are always 0.
                0 => entry[0] = new & !3,
                CONTROL => entry[CONTROL] = new & CONTROL_MASK,
                // The rest of vector control is reserved.
                13..=15 => {}
                _ => entry[field] = *new,
            }
        }
        // After the entry is complete: unmasking delivers.
        if !self.written {
            self.written = true;
            for (vector, entry) in (0..).zip(&self.entries) {
                interrupts.set_mask(vector, Mask::Table, masked(entry));
            }
            return;
        }
        let first = offset / ENTRY_LEN;
        let last = offset.saturating_add(data.len() as u64).div_ceil(ENTRY_LEN);
        for index in first..last.min(self.entries.len() as u64) {
            if let Some(entry) = self.entries.get(index as usize) {
                interrupts.set_mask(index as u16, Mask::Table, masked(entry));
            }
        }
    }
}

fn masked(entry: &[u8; ENTRY_LEN as usize]) -> bool {
    entry[CONTROL] & CONTROL_MASK != 0
}

/// Reads bytes of the pending bit array; `offset` is relative to the array. It cannot be written.
pub(crate) fn read_pending(interrupts: &Interrupts, offset: u64, data: &mut [u8]) {
    for (at, byte) in (offset..).zip(data) {
        *byte = (0..8u16).fold(0, |bits, bit| {
            let vector = u16::try_from(at)
                .ok()
                .and_then(|at| at.checked_mul(8)?.checked_add(bit));
            bits | u8::from(vector.is_some_and(|v| interrupts.is_pending(v))) << bit
        });
    }
}
