//! The seam between the PCI function and the device behind it.

use std::sync::Arc;

use rocinante_dma::MemoryMap;

/// Why a device is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetKind {
    /// A server starts; there is no client yet.
    PowerOn,
    /// The guest asked for a function level reset, PCIe 6.6.2.
    Flr,
    /// The monitor reset the machine (vfio-user DEVICE_RESET). QEMU sends it also before the first boot, and
    /// twice on `system_reset`.
    Device,
    /// The monitor is gone; its memory and interrupts are no longer available.
    ClientGone,
}

/// The device behind a PCI function. All methods are called from the thread that serves the function, one at
/// a time. A vCPU waits for each of them, and the monitor holds its global lock meanwhile: hand over and return.
pub trait DeviceModel: Send {
    /// The guest reads `data.len()` bytes (1, 2, 4 or 8, naturally aligned) at `offset` of `bar`. The access lies
    /// within the BAR and does not touch the MSI-X table or pending bits, which the function serves itself.
    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]);

    /// The guest writes `data` at `offset` of `bar`, within the same limits.
    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]);

    /// Back to the state after power-on, Bus Master Enable off. Returns when no DMA and no interrupt of the
    /// time before can happen.
    fn reset(&mut self, kind: ResetKind);

    /// The guest changed Bus Master Enable (or the power state, which counts as off in D3hot): while it is off
    /// the device must not access memory; interrupts are held back by the function. Only called on a change.
    fn bus_master(&mut self, enabled: bool);

    /// `map` replaces the memory map used so far. With `must_quiesce` a mapping was taken away: returns when
    /// older maps are no longer used. Maps survive `Flr` and `Device`; after `PowerOn` and `ClientGone` an
    /// empty map follows, if there was anything in the one before.
    fn memory_changed(&mut self, map: Arc<MemoryMap>, must_quiesce: bool);

    /// How often the device was pulled out and plugged in: odd, it is out. Then the whole function reads all ones,
    /// configuration space too, and writes do nothing; when it is back, registers are as after power-on.
    fn plugs(&self) -> u32 {
        0
    }
}
