//! Messages of the vfio-user protocol, version 0.x, in the byte order of the host.
//!
//! Only shapes and numbers; libvfio-user's `docs/vfio-user.rst` is the specification.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Commands (`enum vfio_user_command`) that a client sends and this server knows.
pub(crate) mod command {
    pub(crate) const VERSION: u16 = 1;
    pub(crate) const DMA_MAP: u16 = 2;
    pub(crate) const DMA_UNMAP: u16 = 3;
    pub(crate) const DEVICE_GET_INFO: u16 = 4;
    pub(crate) const DEVICE_GET_REGION_INFO: u16 = 5;
    pub(crate) const DEVICE_GET_IRQ_INFO: u16 = 7;
    pub(crate) const DEVICE_SET_IRQS: u16 = 8;
    pub(crate) const REGION_READ: u16 = 9;
    pub(crate) const REGION_WRITE: u16 = 10;
    pub(crate) const DEVICE_RESET: u16 = 13;
    pub(crate) const REGION_WRITE_MULTI: u16 = 15;
}

/// Bits of [`Header::flags`].
pub(crate) mod flags {
    /// 0 is a command, 1 a reply.
    pub(crate) const TYPE: u32 = 0xf;
    pub(crate) const REPLY: u32 = 1;
    pub(crate) const NO_REPLY: u32 = 1 << 4;
    pub(crate) const ERROR: u32 = 1 << 5;
}

/// Bits of [`DmaMap::flags`].
pub(crate) const DMA_READ: u32 = 1;
/// See [`DMA_READ`].
pub(crate) const DMA_WRITE: u32 = 2;
/// Bit of [`DmaUnmap::flags`]: all maps; address and size are 0.
pub(crate) const UNMAP_ALL: u32 = 4;
/// Bit of [`DmaUnmap::flags`]: return dirty pages.
pub(crate) const UNMAP_GET_DIRTY: u32 = 2;

/// The most data one REGION_READ or REGION_WRITE carries: all of configuration space.
pub(crate) const MAX_TRANSFER: u32 = 4096;
/// Longest message accepted: REGION_WRITE_MULTI of QEMU has 4824 bytes, capabilities some hundred.
pub(crate) const MAX_MESSAGE: u32 = 8192;

macro_rules! message {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub(crate) struct $name { $(pub(crate) $field: $type),* }
    };
}

message! {
    /// Begins every message.
    Header { message_id: u16, command: u16, size: u32, flags: u32, error: u32 }
}
message! {
    /// VERSION; capabilities follow, as JSON with a zero at the end.
    Version { major: u16, minor: u16 }
}
message! {
    /// DMA_MAP, with one descriptor or none.
    DmaMap { argsz: u32, flags: u32, offset: u64, address: u64, size: u64 }
}
message! {
    /// DMA_UNMAP and its reply.
    DmaUnmap { argsz: u32, flags: u32, address: u64, size: u64 }
}
message! {
    /// DEVICE_GET_INFO and its reply.
    DeviceInfo { argsz: u32, flags: u32, num_regions: u32, num_irqs: u32 }
}
message! {
    /// DEVICE_GET_REGION_INFO and its reply; capabilities may follow, `cap_offset` from its start.
    RegionInfo { argsz: u32, flags: u32, index: u32, cap_offset: u32, size: u64, offset: u64 }
}
message! {
    /// Capability of a region: the areas that can be mapped follow, see [`SparseArea`].
    SparseMmap { id: u16, version: u16, next: u32, nr_areas: u32, reserved: u32 }
}
message! {
    /// One area of [`SparseMmap`].
    SparseArea { offset: u64, size: u64 }
}
message! {
    /// DEVICE_GET_IRQ_INFO and its reply.
    IrqInfo { argsz: u32, flags: u32, index: u32, count: u32 }
}
message! {
    /// DEVICE_SET_IRQS; data may follow.
    SetIrqsHeader { argsz: u32, flags: u32, index: u32, start: u32, count: u32 }
}
message! {
    /// REGION_READ, REGION_WRITE and their replies; data follows in a write and in the reply to a read.
    RegionAccess { offset: u64, region: u32, count: u32 }
}
message! {
    /// One write of REGION_WRITE_MULTI; the message begins with their number as u64.
    WriteOne { offset: u64, region: u32, count: u32, data: [u8; 8] }
}

/// Bytes of a header.
pub(crate) const HEADER_LEN: usize = size_of::<Header>();
