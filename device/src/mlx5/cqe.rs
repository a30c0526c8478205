//! Completion queue entries: the 64-byte layout and how each kind is made.
//! Source: Linux `include/linux/mlx5/device.h` (`struct mlx5_cqe64`, `struct mlx5_err_cqe`).

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// CQE opcodes, bits 7:4 of the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // the names are the interface's
pub enum CqeOpcode {
    Req = 0x0,
    RespWriteImm = 0x1,
    RespSend = 0x2,
    RespSendImm = 0x3,
    RespSendInv = 0x4,
    Resize = 0x5,
    ReqErr = 0xd,
    RespErr = 0xe,
}

/// Completion queue entry, 64 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cqe {
    /// Bytes 0x00..0x02.
    pub tunneled_tls: U16,
    /// Striding RQ: WQE index.
    pub wqe_id: U16,
    /// LRO fields, 0x04..0x0c.
    pub lro: [u8; 8],
    /// RSS hash.
    pub rss_hash: U32,
    /// RSS hash type.
    pub rss_hash_type: u8,
    /// ml_path; bit 7 congestion experienced.
    pub ml_path: u8,
    /// 0x12..0x14.
    pub reserved0: U16,
    /// One's complement sum over the IP datagram, Ethernet receive.
    pub check_sum: U16,
    /// 0 on Ethernet ports.
    pub slid: U16,
    /// [29:28] GRH present, [25:24] RoCE L3 type (0 GRH, 1 IPv6, 2 IPv4), [23:0] remote QPN.
    pub flags_rqpn: U32,
    /// [0] L2 ok, [1] L3 ok, [2] L4 ok.
    pub hds_ip_ext: u8,
    /// [6:4] L4 type, [3:2] L3 type, [0] VLAN stripped.
    pub l4_l3_hdr_type: u8,
    /// TCI of the stripped tag.
    pub vlan_info: U16,
    /// [31:24] LRO segments, [23:0] SRQ number or user index.
    pub srqn_uidx: U32,
    /// Immediate, invalidated rkey, or P_Key of a datagram.
    pub imm_inval_pkey: U32,
    /// app fields, 0.
    pub app: U32,
    /// Byte count.
    pub byte_cnt: U32,
    /// Free-running device time.
    pub timestamp: U64,
    /// Requester: [31:24] WQE opcode; [23:0] QPN, or flow tag of a raw receive.
    /// In an error CQE bytes 0x36 and 0x37 (end of `timestamp`) are vendor syndrome and syndrome.
    pub sop_drop_qpn: U32,
    /// Index of the WQE.
    pub wqe_counter: U16,
    /// 0.
    pub signature: u8,
    /// [7:4] opcode, [1] solicited event, [0] owner.
    pub op_own: u8,
}

impl Cqe {
    /// A CQE of this kind about queue `qpn` and WQE `wqe_counter`; all else zero.
    pub fn new(opcode: CqeOpcode, qpn: u32, wqe_counter: u16) -> Cqe {
        let mut cqe = Cqe::new_zeroed();
        cqe.sop_drop_qpn = U32::new(qpn & 0xff_ffff);
        cqe.wqe_counter = U16::new(wqe_counter);
        cqe.op_own = (opcode as u8) << 4;
        cqe
    }

    /// A successful requester CQE; `wqe_opcode` is the send WQE's.
    pub fn request(
        qpn: u32,
        user_index: u32,
        wqe_opcode: u8,
        wqe_counter: u16,
        byte_cnt: u32,
    ) -> Cqe {
        let mut cqe = Cqe::new(CqeOpcode::Req, qpn, wqe_counter);
        cqe.sop_drop_qpn = U32::new(u32::from(wqe_opcode) << 24 | (qpn & 0xff_ffff));
        cqe.srqn_uidx = U32::new(user_index & 0xff_ffff);
        cqe.byte_cnt = U32::new(byte_cnt);
        cqe
    }

    /// An error CQE (`mlx5_err_cqe`) of the requester or responder side.
    pub fn error(
        opcode: CqeOpcode,
        qpn: u32,
        user_index: u32,
        wqe_opcode: u8,
        wqe_counter: u16,
        syndrome: u8,
        vendor: u8,
    ) -> Cqe {
        let mut cqe = Cqe::request(qpn, user_index, wqe_opcode, wqe_counter, 0);
        cqe.op_own = (opcode as u8) << 4;
        cqe.timestamp = U64::new(u64::from(vendor) << 8 | u64::from(syndrome));
        cqe
    }

    /// Marks the completion solicited.
    #[must_use]
    pub fn solicited(mut self, solicited: bool) -> Cqe {
        self.op_own |= u8::from(solicited) << 1;
        self
    }

    /// Whether it wakes a CQ armed for solicited completions: errors always do.
    pub fn is_solicited(&self) -> bool {
        self.op_own & 2 != 0 || self.is_error()
    }

    /// Whether it is an error CQE.
    pub fn is_error(&self) -> bool {
        matches!(self.op_own >> 4, 0xd | 0xe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_cqe_has_its_syndrome_at_0x37() {
        let cqe = Cqe::error(CqeOpcode::ReqErr, 0x123456, 0x77, 0x0a, 5, 0x15, 0x81);
        let bytes = cqe.as_bytes();
        assert_eq!(bytes.len(), 64);
        assert_eq!((bytes[0x36], bytes[0x37]), (0x81, 0x15));
        assert_eq!(&bytes[0x38..0x3e], &[0x0a, 0x12, 0x34, 0x56, 0, 5]);
        assert_eq!(bytes[0x3f], 0xd0);
        assert_eq!(&bytes[0x20..0x24], &[0, 0, 0, 0x77]);
    }

    #[test]
    fn fields_are_where_the_driver_reads_them() {
        let mut cqe = Cqe::new(CqeOpcode::RespSendImm, 0x42, 0x8001).solicited(true);
        cqe.byte_cnt = U32::new(4096);
        cqe.imm_inval_pkey = U32::new(0xdead_beef);
        cqe.flags_rqpn = U32::new(0x1200_0011);
        cqe.timestamp = U64::new(0x0102_0304_0506_0708);
        cqe.vlan_info = U16::new(0x1abc);
        cqe.check_sum = U16::new(0x1234);
        let b = cqe.as_bytes();
        assert_eq!(&b[0x14..0x16], &[0x12, 0x34]);
        assert_eq!(&b[0x18..0x1c], &[0x12, 0, 0, 0x11]);
        assert_eq!(&b[0x1e..0x20], &[0x1a, 0xbc]);
        assert_eq!(&b[0x24..0x28], &[0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(&b[0x2c..0x30], &[0, 0, 0x10, 0]);
        assert_eq!(&b[0x30..0x38], &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(&b[0x3c..], &[0x80, 0x01, 0, 0x32]);
    }
}
