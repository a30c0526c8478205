//! The PCI function as a driver sees it, and the NIC in the same process as one.

use std::sync::Arc;

use rocinante_device::mlx5::{Input, Nic};
use rocinante_dma::MemoryMap;
use rocinante_wire::time::Time;

use super::error::Result;

/// What a guest driver has of a PCI function: a BAR, memory, interrupts.
pub trait Function {
    /// A load of 1, 2, 4 or 8 bytes from BAR 0.
    fn load(&mut self, offset: u64, out: &mut [u8]) -> Result<()>;
    /// A posted store of 1, 2, 4 or 8 bytes to BAR 0.
    fn store(&mut self, offset: u64, data: &[u8]) -> Result<()>;
    /// The guest's memory.
    fn memory(&self) -> &Arc<MemoryMap>;
    /// Switches Bus Master Enable.
    fn bus_master(&mut self, enabled: bool) -> Result<()>;
    /// Function level reset; Bus Master Enable is off afterwards.
    fn reset(&mut self) -> Result<()>;
    /// The next MSI-X vector that has fired.
    fn interrupt(&mut self) -> Option<u16>;
    /// Lets time pass until the device may have done something. False if nothing can come of it.
    fn wait(&mut self) -> bool;
}

/// A NIC in this process, in virtual time: what it is told it does at once.
pub struct Local {
    /// The NIC.
    pub nic: Nic,
    /// What time it is.
    pub now: Time,
    memory: Arc<MemoryMap>,
}

impl Local {
    /// `nic` with `memory`; bus mastering is off and the link down, as after power-on.
    pub fn new(mut nic: Nic, memory: Arc<MemoryMap>) -> Local {
        nic.handle(Time::ZERO, Input::Memory(Arc::clone(&memory)));
        Local {
            nic,
            now: Time::ZERO,
            memory,
        }
    }

    /// Tells the NIC what happens to it now.
    #[inline]
    pub fn handle(&mut self, input: Input) {
        self.nic.handle(self.now, input);
    }
}

impl Function for Local {
    fn load(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.nic.bar_read(self.now, offset, out);
        Ok(())
    }

    #[inline]
    fn store(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut data = [0; 8];
        let n = bytes.len().min(8);
        data[..n].copy_from_slice(&bytes[..n]);
        let len = n as u8;
        self.handle(Input::BarWrite { offset, data, len });
        Ok(())
    }

    #[inline]
    fn memory(&self) -> &Arc<MemoryMap> {
        &self.memory
    }

    fn bus_master(&mut self, enabled: bool) -> Result<()> {
        self.handle(Input::BusMaster(enabled));
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        self.handle(Input::Reset);
        Ok(())
    }

    fn interrupt(&mut self) -> Option<u16> {
        self.nic.poll_interrupt()
    }

    /// The NIC has done all it will do at this time.
    fn wait(&mut self) -> bool {
        false
    }
}
