//! The header layouts: big-endian, no alignment, one struct per header of IBTA volume 1,
//! chapters 8 and 9.

use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const LOW_24: u32 = 0x00ff_ffff;

/// Base transport header, IBTA 9.2.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Bth {
    /// Transport service and operation.
    pub opcode: u8,
    /// `[7]` SE, `[6]` MigReq, `[5:4]` PadCnt, `[3:0]` TVer.
    pub flags: u8,
    /// P_Key.
    pub pkey: U16,
    /// `[31]` FECN, `[30]` BECN, `[29:24]` reserved, `[23:0]` DestQP.
    pub dest_qp: U32,
    /// `[31]` AckReq, `[30:24]` reserved, `[23:0]` PSN.
    pub psn: U32,
}

impl Bth {
    /// SE, the solicited event bit of `flags`.
    pub const SOLICITED: u8 = 0x80;
    /// MigReq of `flags`.
    pub const MIG_REQ: u8 = 0x40;
    /// BECN in the word of DestQP (IBTA annex A17.9.2).
    pub const BECN: u32 = 1 << 30;
    /// AckReq in the word of the PSN.
    pub const ACK_REQ: u32 = 1 << 31;

    /// PadCnt: bytes of padding after the payload.
    #[must_use]
    pub fn pad(&self) -> u8 {
        (self.flags >> 4) & 3
    }

    /// TVer: header version, 0.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.flags & 0xf
    }
}

/// RDMA extended transport header, IBTA 9.3.3.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RdmaEth {
    /// Virtual address.
    pub va: U64,
    /// R_Key.
    pub rkey: U32,
    /// DMA length in bytes.
    pub dma_len: U32,
}

/// ACK extended transport header, IBTA 9.3.5.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AckEth {
    /// `[31:24]` syndrome, `[23:0]` MSN.
    pub syndrome_msn: U32,
}

impl AckEth {
    /// Both fields in one word; bits of `msn` beyond 24 are cut off.
    #[must_use]
    pub fn new(syndrome: u8, msn: u32) -> AckEth {
        AckEth {
            syndrome_msn: U32::new(u32::from(syndrome) << 24 | (msn & LOW_24)),
        }
    }

    /// Syndrome.
    #[must_use]
    pub fn syndrome(&self) -> u8 {
        (self.syndrome_msn.get() >> 24) as u8
    }

    /// Message sequence number, 24 bits.
    #[must_use]
    pub fn msn(&self) -> u32 {
        self.syndrome_msn.get() & LOW_24
    }
}

/// Datagram extended transport header, IBTA 9.3.2.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DatagramEth {
    /// Q_Key.
    pub qkey: U32,
    /// `[31:24]` reserved, `[23:0]` source QP.
    pub src_qp: U32,
}

/// Atomic extended transport header, IBTA 9.3.4.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AtomicExtEth {
    /// Virtual address.
    pub va: U64,
    /// R_Key.
    pub rkey: U32,
    /// Swap value, or the number to add.
    pub swap_add: U64,
    /// Compare value.
    pub compare: U64,
}

/// Atomic ACK extended transport header, IBTA 9.5.2.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AtomicAckEth {
    /// What the memory held before the operation.
    pub original: U64,
}

/// Immediate data, IBTA 9.3.6.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ImmDt {
    /// The four bytes, as a big-endian number.
    pub data: U32,
}

/// Invalidate extended transport header, IBTA 9.3.7.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct InvalidateEth {
    /// R_Key to invalidate at the responder.
    pub rkey: U32,
}

/// XRC extended transport header, IBTA annex A14.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct XrcEth {
    /// `[31:24]` reserved, `[23:0]` XRC SRQ number.
    pub xrc_srqn: U32,
}

/// Global route header, IBTA 8.3: the layer 3 of RoCE v1, laid out like an IPv6 header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Grh {
    /// `[31:28]` IPVer (6), `[27:20]` traffic class, `[19:0]` flow label.
    pub version_tclass_flow: U32,
    /// PayLen: bytes from the BTH to the ICRC, both included.
    pub payload_len: U16,
    /// NxtHdr: [`Grh::NEXT_HEADER_IBA`].
    pub next_header: u8,
    /// HopLmt.
    pub hop_limit: u8,
    /// Source GID.
    pub sgid: [u8; 16],
    /// Destination GID.
    pub dgid: [u8; 16],
}

impl Grh {
    /// NxtHdr of an IBA transport packet.
    pub const NEXT_HEADER_IBA: u8 = 0x1b;

    /// IPVer.
    #[must_use]
    pub fn version(&self) -> u8 {
        (self.version_tclass_flow.get() >> 28) as u8
    }

    /// Traffic class.
    #[must_use]
    pub fn tclass(&self) -> u8 {
        (self.version_tclass_flow.get() >> 20) as u8
    }

    /// Flow label, 20 bits.
    #[must_use]
    pub fn flow_label(&self) -> u32 {
        self.version_tclass_flow.get() & 0xf_ffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::size_of;

    #[test]
    fn sizes_are_the_standards() {
        assert_eq!(size_of::<Bth>(), 12);
        assert_eq!(size_of::<RdmaEth>(), 16);
        assert_eq!(size_of::<AckEth>(), 4);
        assert_eq!(size_of::<DatagramEth>(), 8);
        assert_eq!(size_of::<AtomicExtEth>(), 28);
        assert_eq!(size_of::<AtomicAckEth>(), 8);
        assert_eq!(size_of::<ImmDt>(), 4);
        assert_eq!(size_of::<InvalidateEth>(), 4);
        assert_eq!(size_of::<XrcEth>(), 4);
        assert_eq!(size_of::<Grh>(), 40);
    }
}
