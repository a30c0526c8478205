//! The PCI function: what an access to configuration space, a BAR, memory maps or interrupts means.
//!
//! Knows no socket: a server (see [`crate::server`]) or a driver in the same process calls it.

use std::fs::File;
use std::sync::Arc;

use rocinante_dma::{DmaSpace, MapError, MemoryMap, Prot};

use crate::config::{CONFIG_SPACE_LEN, ConfigSpace};
use crate::interrupts::{Gate, Interrupts};
use crate::layout;
use crate::model::{DeviceModel, ResetKind};
use crate::msix::{self, MsixTable};
use crate::vendor::VendorCapability;

/// Identity and resources of a function.
#[derive(Debug)]
pub struct FunctionConfig {
    /// Vendor ID.
    pub vendor_id: u16,
    /// Device ID.
    pub device_id: u16,
    /// Subsystem vendor ID.
    pub subsystem_vendor_id: u16,
    /// Subsystem ID.
    pub subsystem_id: u16,
    /// Class, subclass and programming interface, 24 bits: `0x02_00_00` is an Ethernet controller.
    pub class_code: u32,
    /// Revision ID.
    pub revision_id: u8,
    /// Size of BAR 0 (64-bit, prefetchable memory) in bytes, a power of two from 4096.
    pub bar0_size: u64,
    /// Offset of the MSI-X table in BAR 0, a multiple of 8.
    pub msix_table_offset: u32,
    /// Offset of the MSI-X pending bits in BAR 0, a multiple of 8.
    pub msix_pba_offset: u32,
    /// Parts of BAR 0 that the monitor may map into the guest.
    pub shared: Option<SharedAreas>,
    /// Registers of the device's own in configuration space.
    pub vendor_capability: Option<VendorCapability>,
}

/// Parts of BAR 0 that are memory shared with the monitor: guest accesses there need no exit and do not reach
/// the device. A monitor need not use them, so the device serves them as BAR accesses too.
#[derive(Clone, Debug)]
pub struct SharedAreas {
    /// The memory; an offset in the file is an offset in the BAR.
    pub file: Arc<File>,
    /// Offset and length of each area in bytes, multiples of 4096, in ascending order.
    pub areas: Vec<(u64, u64)>,
}

/// A configuration that is no PCI function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `bar0_size` is no power of two or below 4096.
    #[error("BAR 0 of {0:#x} bytes: not a power of two of at least 4096")]
    Bar0Size(u64),
    /// `msix_table_offset` or `msix_pba_offset` is not a multiple of 8, or one of them reaches beyond the BAR,
    /// or they overlap.
    #[error("MSI-X table at {table:#x} and pending bits at {pba:#x} do not fit into BAR 0")]
    Msix {
        /// Offset of the table.
        table: u32,
        /// Offset of the pending bits.
        pba: u32,
    },
    /// The length of the vendor-specific capability is below 4, not a multiple of 4, or reaches beyond the 256
    /// bytes in which capabilities are.
    #[error("vendor-specific capability of {0} bytes: not a multiple of 4, or no room for it")]
    Vendor(u8),
    /// A shared area is not made of pages of the BAR, out of order, or contains MSI-X.
    #[error(
        "shared area {offset:#x}+{len:#x}: not pages of BAR 0 in ascending order, or contains MSI-X"
    )]
    Shared {
        /// Offset of the area.
        offset: u64,
        /// Length of the area.
        len: u64,
    },
}

/// An access beyond the end of configuration space or of a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("access to {offset:#x}+{len:#x}: out of range")]
pub struct OutOfRange {
    /// Start of the access.
    pub offset: u64,
    /// Length of the access in bytes.
    pub len: usize,
}

/// A PCI function with a device behind it.
pub struct Function {
    config: FunctionConfig,
    space: ConfigSpace,
    msix: MsixTable,
    interrupts: Arc<Interrupts>,
    memory: DmaSpace,
    model: Box<dyn DeviceModel>,
    /// As the device was last told.
    bus_master: bool,
    /// A monitor that never writes a register handles it by itself; the register then means nothing here.
    command_written: bool,
    msix_control_written: bool,
    msix_enabled: bool,
    /// As the device last said.
    plugs: u32,
}

impl Function {
    /// A function in power-on state. `interrupts` are those that `model` fires; their number is the size of
    /// the MSI-X table.
    pub fn new(
        config: FunctionConfig,
        model: Box<dyn DeviceModel>,
        interrupts: Arc<Interrupts>,
    ) -> Result<Self, ConfigError> {
        let vectors = interrupts.count();
        let msix = MsixTable::new(vectors);
        check(&config, &msix)?;
        Ok(Self {
            space: ConfigSpace::new(&layout::registers(&config, vectors)),
            msix,
            interrupts,
            memory: DmaSpace::new(),
            model,
            bus_master: false,
            command_written: false,
            msix_control_written: false,
            msix_enabled: false,
            plugs: 0,
            config,
        })
    }

    /// Identity and resources.
    pub fn config(&self) -> &FunctionConfig {
        &self.config
    }

    /// The interrupt vectors.
    pub fn interrupts(&self) -> &Arc<Interrupts> {
        &self.interrupts
    }

    /// What is mapped.
    pub fn memory(&self) -> Arc<MemoryMap> {
        self.memory.current()
    }

    /// Reads configuration space.
    pub fn config_read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), OutOfRange> {
        in_range(offset, data.len(), CONFIG_SPACE_LEN)?;
        if !self.is_plugged() {
            data.fill(0xff);
            return Ok(());
        }
        self.space.read(offset, data);
        if let Some(vendor) = &mut self.config.vendor_capability {
            vendor.read(offset, data);
        }
        Ok(())
    }

    /// Writes configuration space and does what the written registers say.
    pub fn config_write(&mut self, offset: u64, data: &[u8]) -> Result<(), OutOfRange> {
        in_range(offset, data.len(), CONFIG_SPACE_LEN)?;
        if !self.is_plugged() {
            return Ok(());
        }
        let written = |at: u8| {
            u64::from(at)
                .checked_sub(offset)
                .and_then(|i| data.get(usize::try_from(i).ok()?))
        };
        let power_before = self.space.u16(layout::POWER_STATUS);
        self.space.write(offset, data);
        if let Some(vendor) = &mut self.config.vendor_capability {
            vendor.write(offset, data);
        }
        self.command_written |= written(layout::COMMAND).is_some();
        self.msix_control_written |= written(layout::MSIX_CONTROL + 1).is_some();
        let power = self.space.u16(layout::POWER_STATUS) & layout::POWER_STATE;
        if power == 1 || power == 2 {
            // An unsupported state: the write is ignored, PM 3.2.4.
            self.space.set_u16(layout::POWER_STATUS, power_before);
        }
        let flr = written(layout::DEVICE_CONTROL + 1)
            .is_some_and(|high| u16::from(*high) << 8 & layout::INITIATE_FLR != 0);
        if flr {
            self.reset(ResetKind::Flr);
        } else {
            self.follow_registers();
        }
        Ok(())
    }

    /// Whether the device is there. If it was pulled out since it was last asked, registers have lost what was written.
    fn is_plugged(&mut self) -> bool {
        let plugs = self.model.plugs();
        if plugs != self.plugs {
            log::debug!(target: "pci::function", "pulled out or plugged in: {plugs}");
            self.plugs = plugs;
            self.lose_registers();
            self.msix.reset(&self.interrupts);
            self.interrupts.clear_pending();
            self.follow_registers();
        }
        plugs.is_multiple_of(2)
    }

    /// Registers of configuration space as after power-on.
    fn lose_registers(&mut self) {
        self.space.reset();
        if let Some(vendor) = &mut self.config.vendor_capability {
            vendor.registers.reset();
        }
    }

    /// Tells device and interrupts what the registers say now.
    fn follow_registers(&mut self) {
        let command = self.space.u16(layout::COMMAND);
        let d0 = self.space.u16(layout::POWER_STATUS) & layout::POWER_STATE == 0;
        let bus_master = command & layout::COMMAND_BUS_MASTER != 0 && d0;
        let cannot_write = !bus_master && (self.command_written || !d0);
        self.interrupts.set_gate(Gate::NoBusMaster, cannot_write);
        if bus_master != self.bus_master {
            self.bus_master = bus_master;
            self.model.bus_master(bus_master);
        }

        let control = self.space.u16(layout::MSIX_CONTROL);
        let enabled = control & layout::MSIX_ENABLE != 0;
        if self.msix_enabled && !enabled {
            self.interrupts.clear_pending();
        }
        self.msix_enabled = enabled;
        self.interrupts.set_gate(
            Gate::FunctionMask,
            enabled && control & layout::MSIX_FUNCTION_MASK != 0,
        );
        self.interrupts
            .set_gate(Gate::Disabled, self.msix_control_written && !enabled);
    }

    /// Resets device and registers to the state after power-on. Memory maps and eventfds are the monitor's:
    /// they stay, except when the monitor is gone or not yet there.
    pub fn reset(&mut self, kind: ResetKind) {
        log::debug!(target: "pci::function", "reset: {kind:?}");
        self.model.reset(kind);
        self.bus_master = false;
        self.msix_enabled = false;
        self.lose_registers();
        match kind {
            ResetKind::Flr | ResetKind::Device => {
                self.msix.reset(&self.interrupts);
                self.interrupts.clear_pending();
            }
            ResetKind::PowerOn | ResetKind::ClientGone => {
                self.command_written = false;
                self.msix_control_written = false;
                self.msix.forget();
                self.interrupts.disconnect();
                if !self.memory.current().is_empty() {
                    let map = self.memory.clear();
                    self.model.memory_changed(map, true);
                }
            }
        }
        self.follow_registers();
    }

    /// Size of a BAR in bytes; 0 if there is none.
    pub fn bar_size(&self, bar: u8) -> u64 {
        if bar == 0 { self.config.bar0_size } else { 0 }
    }

    /// Reads from a BAR. The device sees naturally aligned accesses of 1, 2, 4 or 8 bytes.
    pub fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) -> Result<(), OutOfRange> {
        in_range(offset, data.len(), self.bar_size(bar))?;
        if !self.is_plugged() {
            data.fill(0xff);
            return Ok(());
        }
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at_mut(piece_len(at, rest.len()));
            match self.place(at) {
                Place::Table(offset) => self.msix.read(offset, piece),
                Place::Pending(offset) => msix::read_pending(&self.interrupts, offset, piece),
                Place::Device => self.model.bar_read(bar, at, piece),
            }
            at += piece.len() as u64;
            rest = tail;
        }
        Ok(())
    }

    /// Writes to a BAR. The device sees naturally aligned accesses of 1, 2, 4 or 8 bytes.
    pub fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) -> Result<(), OutOfRange> {
        in_range(offset, data.len(), self.bar_size(bar))?;
        if !self.is_plugged() {
            return Ok(());
        }
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(piece_len(at, rest.len()));
            match self.place(at) {
                Place::Table(offset) => self.msix.write(offset, piece, &self.interrupts),
                Place::Pending(_) => {}
                Place::Device => self.model.bar_write(bar, at, piece),
            }
            at += piece.len() as u64;
            rest = tail;
        }
        Ok(())
    }

    /// What lies at an offset of BAR 0. Tables begin and end at multiples of 8, so that a naturally aligned
    /// access is wholly within or outside.
    #[inline]
    fn place(&self, at: u64) -> Place {
        let table = u64::from(self.config.msix_table_offset);
        let pba = u64::from(self.config.msix_pba_offset);
        if at.wrapping_sub(table) < self.msix.len() {
            Place::Table(at - table)
        } else if at.wrapping_sub(pba) < self.msix.pending_len() {
            Place::Pending(at - pba)
        } else {
            Place::Device
        }
    }

    /// The monitor maps memory. Without `prot` or `file` the device can do nothing there.
    pub fn dma_map(
        &mut self,
        iova: u64,
        len: u64,
        file: Option<File>,
        offset: u64,
        prot: Option<Prot>,
    ) -> Result<(), MapError> {
        let replaces = self.memory.overlaps(iova, len);
        let file = prot.and(file);
        let adds = file.is_some();
        let map = self
            .memory
            .map(iova, len, file, offset, prot.unwrap_or(Prot::Read))?;
        if adds || replaces {
            self.model.memory_changed(map, replaces);
        }
        Ok(())
    }

    /// The monitor takes memory away. Returns when the device no longer uses it.
    pub fn dma_unmap(&mut self, iova: u64, len: u64) {
        if self.memory.overlaps(iova, len) {
            let map = self.memory.unmap(iova, len);
            self.model.memory_changed(map, true);
        }
    }

    /// The monitor takes all memory away.
    pub fn dma_unmap_all(&mut self) {
        if !self.memory.current().is_empty() {
            let map = self.memory.clear();
            self.model.memory_changed(map, true);
        }
    }
}

enum Place {
    Table(u64),
    Pending(u64),
    Device,
}

fn in_range(offset: u64, len: usize, size: u64) -> Result<(), OutOfRange> {
    match offset.checked_add(len as u64) {
        Some(end) if end <= size => Ok(()),
        _ => Err(OutOfRange { offset, len }),
    }
}

/// Length of the longest naturally aligned access of at most 8 bytes at `at`.
#[inline]
fn piece_len(at: u64, len: usize) -> usize {
    let aligned = 1usize << at.trailing_zeros().min(3);
    let fits = 1usize << len.min(8).ilog2();
    aligned.min(fits)
}

fn check(c: &FunctionConfig, msix: &MsixTable) -> Result<(), ConfigError> {
    if !c.bar0_size.is_power_of_two() || c.bar0_size < 4096 {
        return Err(ConfigError::Bar0Size(c.bar0_size));
    }
    let (table, pba) = (u64::from(c.msix_table_offset), u64::from(c.msix_pba_offset));
    let (table_end, pba_end) = (table + msix.len(), pba + msix.pending_len());
    let apart = table_end <= pba || pba_end <= table;
    if table % 8 != 0 || pba % 8 != 0 || table_end.max(pba_end) > c.bar0_size || !apart {
        return Err(ConfigError::Msix {
            table: c.msix_table_offset,
            pba: c.msix_pba_offset,
        });
    }
    if let Some(vendor) = c.vendor_capability.as_ref().filter(|v| !v.fits()) {
        return Err(ConfigError::Vendor(vendor.len));
    }
    let mut from = 0;
    for &(offset, len) in c.shared.iter().flat_map(|s| &s.areas) {
        let end = offset.checked_add(len).filter(|end| *end <= c.bar0_size);
        let pages = offset % 4096 == 0 && len % 4096 == 0 && len > 0 && offset >= from;
        let clear = |a: u64, b: u64| offset.saturating_add(len) <= a || b <= offset;
        match end {
            Some(end) if pages && clear(table, table_end) && clear(pba, pba_end) => from = end,
            _ => return Err(ConfigError::Shared { offset, len }),
        }
    }
    Ok(())
}
