//! The InfiniBand part of a RoCE packet in its parsed form: BTH and extension headers.
//!
//! This is what the transport state machines consume and produce. It says nothing of the
//! encapsulation (RoCE v1, v2 over IPv4 or IPv6) and holds no payload.

use crate::opcode::Opcode;
use crate::psn::Psn;

/// RDMA extended transport header, IBTA 9.3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reth {
    /// Virtual address at the responder.
    pub va: u64,
    /// Remote key.
    pub rkey: u32,
    /// DMA length in bytes.
    pub dma_len: u32,
}

/// Atomic extended transport header, IBTA 9.3.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtomicEth {
    /// Virtual address at the responder, 8-byte aligned.
    pub va: u64,
    /// Remote key.
    pub rkey: u32,
    /// Swap value, or the number to add.
    pub swap_add: u64,
    /// Compare value (CompareSwap only).
    pub compare: u64,
}

/// ACK extended transport header, IBTA 9.3.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aeth {
    /// Syndrome: ACK with credits, RNR NAK with timer, or NAK with code.
    pub syndrome: u8,
    /// Message sequence number, 24 bits.
    pub msn: u32,
}

/// Datagram extended transport header, IBTA 9.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deth {
    /// Q_Key.
    pub qkey: u32,
    /// Source QP, 24 bits.
    pub src_qp: u32,
}

/// BTH and extension headers of one packet. Fields that the opcode does not carry are `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it is.
    pub opcode: Opcode,
    /// Solicited event.
    pub solicited: bool,
    /// MigReq, path migration state.
    pub mig_req: bool,
    /// Partition key.
    pub pkey: u16,
    /// Destination QP, 24 bits.
    pub dest_qp: u32,
    /// The requester wants an acknowledgement.
    pub ack_req: bool,
    /// Packet sequence number.
    pub psn: Psn,
    /// XRC SRQ number (XRCETH), requests of XRC only.
    pub xrc_srqn: Option<u32>,
    /// Datagram header.
    pub deth: Option<Deth>,
    /// RDMA header.
    pub reth: Option<Reth>,
    /// Atomic header.
    pub atomic: Option<AtomicEth>,
    /// Acknowledge header.
    pub aeth: Option<Aeth>,
    /// Original remote data (AtomicAckETH).
    pub atomic_ack: Option<u64>,
    /// Immediate data, as on the wire (big-endian value).
    pub imm: Option<u32>,
    /// R_Key to invalidate (IETH).
    pub inv_rkey: Option<u32>,
    /// Payload bytes, without pad and ICRC.
    pub payload_len: u32,
}

impl Packet {
    /// An opcode, with all fields zero, no extension headers and no payload.
    #[inline]
    #[must_use]
    pub const fn new(opcode: Opcode) -> Packet {
        Packet {
            opcode,
            solicited: false,
            mig_req: false,
            pkey: 0,
            dest_qp: 0,
            ack_req: false,
            psn: Psn::new(0),
            xrc_srqn: None,
            deth: None,
            reth: None,
            atomic: None,
            aeth: None,
            atomic_ack: None,
            imm: None,
            inv_rkey: None,
            payload_len: 0,
        }
    }
}
