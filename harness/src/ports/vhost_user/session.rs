//! What a monitor says by the vhost-user protocol, put into the device: features, memory, rings.
//!
//! The protocol itself is the crate `vhost`'s; the messages are those of QEMU's vhost-user
//! documentation. Belongs to one connection and ends with it.

use std::fs::File;

use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use vm_memory::{GuestAddress, GuestRegionMmap};

use super::net::{Device, FEATURES};
use super::ring::{Memory, Ring};

/// What the monitor needs of the protocol: to be told when a request has taken effect.
const PROTOCOL: VhostUserProtocolFeatures = VhostUserProtocolFeatures::REPLY_ACK;

/// Where the monitor has a region of the guest's memory.
struct Mapping {
    monitor: u64,
    guest: u64,
    len: u64,
}

/// The state of one connection.
pub struct State {
    /// The device.
    pub device: Device,
    /// The guest's memory; none before the monitor has shared it.
    pub memory: Option<Memory>,
    mappings: Vec<Mapping>,
}

impl State {
    /// Nothing negotiated.
    pub fn new() -> std::result::Result<State, virtio_queue::Error> {
        Ok(State {
            device: Device::new()?,
            memory: None,
            mappings: Vec::new(),
        })
    }

    fn ring(&mut self, index: u32) -> Result<&mut Ring> {
        match index {
            0 => Ok(&mut self.device.rx),
            1 => Ok(&mut self.device.tx),
            _ => Err(Error::InvalidParam),
        }
    }

    /// The guest's address of what the monitor has at an address.
    fn translate(&self, monitor: u64) -> Result<u64> {
        self.mappings
            .iter()
            .find_map(|mapping| {
                let offset = monitor.checked_sub(mapping.monitor)?;
                (offset < mapping.len).then(|| mapping.guest.checked_add(offset))?
            })
            .ok_or(Error::InvalidParam)
    }

    /// Lets frames pass through a ring, or not.
    pub fn enable(&mut self, index: u32, enable: u32) -> Result<()> {
        let enable = match enable {
            0 => false,
            1 => true,
            _ => return Err(Error::InvalidParam),
        };
        self.ring(index)?.enabled = enable;
        Ok(())
    }

    fn set_features(&mut self, features: u64) {
        self.device.set_features(features);
        // A monitor without protocol features has no message that enables rings.
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            self.device.rx.enabled = true;
            self.device.tx.enabled = true;
        }
    }

    fn map(&mut self, regions: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<()> {
        let mut mapped = Vec::new();
        let mut mappings = Vec::new();
        for (region, file) in regions.iter().zip(files) {
            let guest = GuestAddress(region.guest_phys_addr);
            let region_map = region.mmap_region(file)?;
            mapped.push(GuestRegionMmap::new(region_map, guest).ok_or(Error::InvalidParam)?);
            mappings.push(Mapping {
                monitor: region.user_addr,
                guest: region.guest_phys_addr,
                len: region.memory_size,
            });
        }
        let memory = Memory::from_regions(mapped).map_err(|_| Error::InvalidParam)?;
        self.device.rx.check(&memory);
        self.device.tx.check(&memory);
        self.memory = Some(memory);
        self.mappings = mappings;
        Ok(())
    }
}

/// The device lies here while the protocol is at work, and only then: the data path needs no lock.
#[derive(Default)]
pub struct Desk(pub Option<Box<State>>);

impl Desk {
    fn state(&mut self) -> Result<&mut State> {
        self.0.as_deref_mut().ok_or(Error::BackendInternalError)
    }
}

/// What was not offered.
fn unsupported<T>() -> Result<T> {
    Err(Error::InvalidOperation("not offered"))
}

impl VhostUserBackendReqHandlerMut for Desk {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.reset_device()
    }

    fn reset_device(&mut self) -> Result<()> {
        let state = self.state()?;
        for ring in [&mut state.device.rx, &mut state.device.tx] {
            ring.stop();
            ring.enabled = false;
        }
        state.device.set_features(0);
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(FEATURES | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.get_features()? != 0 {
            return Err(Error::InvalidParam);
        }
        self.state()?.set_features(features);
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        self.state()?.map(regions, files).map(|()| None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let ring = self.state()?.ring(index)?;
        ring.set_size(num).map_err(|_| Error::InvalidParam)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let state = self.state()?;
        let descriptor = state.translate(descriptor)?;
        let used = state.translate(used)?;
        let available = state.translate(available)?;
        let ring = state.ring(index)?;
        ring.set_addresses(descriptor, available, used)
            .map_err(|_| Error::InvalidParam)
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        // Of a split ring: sixteen bits, which wrap.
        self.state()?.ring(index)?.set_base(base as u16);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let base = self.state()?.ring(index)?.stop();
        Ok(VhostUserVringState::new(index, u32::from(base)))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let state = self.state()?;
        let memory = state.memory.take();
        let ring = state.ring(u32::from(index))?;
        // A ring without kicks would have to be looked at all the time.
        let started = match (&memory, file) {
            (Some(memory), Some(file)) => {
                ring.set_kick(Some(file));
                ring.start(memory);
                Ok(())
            }
            _ => Err(Error::InvalidParam),
        };
        state.memory = memory;
        started
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.state()?.ring(u32::from(index))?.set_call(file);
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.state()?.ring(u32::from(index))?.set_err(file);
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(PROTOCOL)
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        if features & !PROTOCOL.bits() != 0 {
            return Err(Error::InvalidParam);
        }
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        unsupported()
    }

    fn set_vring_enable(&mut self, _: u32, _: bool) -> Result<()> {
        // See `connection`.
        unsupported()
    }

    fn get_config(&mut self, _: u32, _: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        unsupported()
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        unsupported()
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        unsupported()
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        unsupported()
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        unsupported()
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        unsupported()
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        unsupported()
    }

    fn add_mem_region(
        &mut self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        unsupported()
    }

    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        unsupported()
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        unsupported()
    }

    fn check_device_state(&mut self) -> Result<()> {
        unsupported()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        unsupported()
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        unsupported()
    }
}
