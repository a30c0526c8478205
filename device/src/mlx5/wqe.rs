//! Send WQEs: the segments' layouts and their decoding into what the queues work on.
//! Source: reference of the interface, "SQ and send WQEs"; Linux `include/linux/mlx5/qp.h`,
//! rdma-core `providers/mlx5/wqe.h`.

use rocinante_wire::transport::SendOp;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A send WQE basic block is 64 bytes.
pub const WQEBB: usize = 64;

/// Send WQE opcodes (`MLX5_OPCODE_*`).
pub mod opcode {
    #![allow(missing_docs)] // the names are the interface's
    pub const NOP: u8 = 0x00;
    pub const SEND_INVAL: u8 = 0x01;
    pub const RDMA_WRITE: u8 = 0x08;
    pub const RDMA_WRITE_IMM: u8 = 0x09;
    pub const SEND: u8 = 0x0a;
    pub const SEND_IMM: u8 = 0x0b;
    pub const LSO: u8 = 0x0e;
    pub const RDMA_READ: u8 = 0x10;
    pub const ATOMIC_CS: u8 = 0x11;
    pub const ATOMIC_FA: u8 = 0x12;
    pub const UMR: u8 = 0x25;
    pub const ENHANCED_MPSW: u8 = 0x29;
}

/// Control segment (`mlx5_wqe_ctrl_seg`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CtrlSeg {
    opmod_idx_opcode: U32,
    qpn_ds: U32,
    signature: u8,
    dci_stream: [u8; 2],
    fm_ce_se: u8,
    /// Immediate data, rkey to invalidate, or mkey that a UMR changes.
    pub imm: U32,
}

impl CtrlSeg {
    /// WQE opcode.
    pub fn opcode(&self) -> u8 {
        self.opmod_idx_opcode.get() as u8
    }

    /// Index of the WQE's first basic block, as the driver wrote it.
    pub fn wqe_index(&self) -> u16 {
        (self.opmod_idx_opcode.get() >> 8) as u16
    }

    /// QP or SQ number.
    pub fn qpn(&self) -> u32 {
        self.qpn_ds.get() >> 8
    }

    /// Length in 16-byte units. Bit 6 is set by a WQE of full inline size.
    pub fn ds(&self) -> usize {
        (self.qpn_ds.get() & 0x7f) as usize
    }

    /// Fence mode: 0 none, 1 initiator small, 2 fence, 3 strong, 4 small and fence.
    pub fn fence(&self) -> u8 {
        self.fm_ce_se >> 5
    }

    /// A CQE is wanted on success too.
    pub fn signaled(&self) -> bool {
        self.fm_ce_se >> 2 & 3 >= 2
    }

    /// Solicited event.
    pub fn solicited(&self) -> bool {
        self.fm_ce_se & 2 != 0
    }
}

/// Remote address segment (`mlx5_wqe_raddr_seg`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RaddrSeg {
    va: U64,
    rkey: U32,
    reserved: U32,
}

/// Atomic segment (`mlx5_wqe_atomic_seg`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct AtomicSeg {
    swap_add: U64,
    compare: U64,
}

/// Address vector of a datagram (`mlx5_av`), 48 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AvSeg {
    /// Q_Key; bit 31 asks for the QP's own (IBTA 10.2.5).
    pub qkey: U32,
    reserved0: U32,
    dqp: U32,
    stat_rate_sl: u8,
    fl_mlid: u8,
    /// UDP source port.
    pub udp_sport: U16,
    reserved1: U32,
    /// Destination MAC.
    pub rmac: [u8; 6],
    /// Traffic class.
    pub tclass: u8,
    /// Hop limit.
    pub hop_limit: u8,
    grh_gid_fl: U32,
    /// Destination GID; IPv4 in the last four bytes.
    pub rgid: [u8; 16],
}

impl AvSeg {
    /// Destination QP.
    pub fn dest_qp(&self) -> u32 {
        self.dqp.get() & 0xff_ffff
    }

    /// Service level; the PCP of a tagged frame is half of it.
    pub fn sl(&self) -> u8 {
        self.stat_rate_sl & 0xf
    }

    /// Index of the source in the RoCE address table.
    pub fn sgid_index(&self) -> u8 {
        (self.grh_gid_fl.get() >> 20) as u8
    }

    /// Flow label.
    pub fn flow_label(&self) -> u32 {
        self.grh_gid_fl.get() & 0xf_ffff
    }
}

/// One gather or scatter entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataSeg {
    /// Bytes.
    pub len: u32,
    /// Local key.
    pub lkey: u32,
    /// Address within the key.
    pub addr: u64,
}

/// Bit 31 of a send segment's length: data follows inline. In a receive segment it asks for start
/// padding, which is a hint.
const INLINE: u32 = 1 << 31;

impl DataSeg {
    /// The entry, and the inline length if data follow instead.
    fn entry(bytes: &[u8]) -> (DataSeg, Option<usize>) {
        let (word, entry) = Self::parse(bytes);
        (
            entry,
            (word & INLINE != 0).then_some((word & 0x3ff) as usize),
        )
    }

    fn parse(bytes: &[u8]) -> (u32, DataSeg) {
        let word = |at: usize| {
            bytes
                .get(at..at + 4)
                .map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        };
        let addr = u64::from(word(8)) << 32 | u64::from(word(12));
        (
            word(0),
            DataSeg {
                len: word(0) & !INLINE,
                lkey: word(4),
                addr,
            },
        )
    }

    /// A scatter entry of a receive WQE.
    pub fn receive(bytes: &[u8]) -> DataSeg {
        Self::parse(bytes).1
    }
}

/// Where a message's bytes are.
#[derive(Clone, Debug, Default)]
pub struct SendData {
    /// Gather list.
    pub segs: Vec<DataSeg>,
    /// Inline bytes, used instead of `segs` when not empty.
    pub inline: Vec<u8>,
    /// Message length.
    pub len: u64,
}

impl SendData {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.segs.clear();
        self.inline.clear();
        self.len = 0;
    }
}

/// The WQE is malformed: LOCAL_QP_OP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadWqe;

fn seg<T: FromBytes>(wqe: &[u8], at: usize) -> Result<T, BadWqe> {
    let bytes = wqe.get(at..).ok_or(BadWqe)?;
    T::read_from_prefix(bytes)
        .map(|(value, _)| value)
        .map_err(|_| BadWqe)
}

/// Control segment of a WQE.
pub fn control(wqe: &[u8]) -> Result<CtrlSeg, BadWqe> {
    seg(wqe, 0)
}

/// Decodes the work request of an RC, UC or XRC send queue. `xrc` WQEs name the SRQ first.
/// `wqe` is the WQE, cut to `ds` units. `None`: an opcode that such a queue does not have.
pub fn connected(
    ctrl: &CtrlSeg,
    wqe: &[u8],
    xrc: bool,
    data: &mut SendData,
) -> Result<Option<(SendOp, Option<u32>)>, BadWqe> {
    let mut at = 16;
    let mut srqn = None;
    if xrc {
        srqn = Some(seg::<U32>(wqe, at)?.get() & 0xff_ffff);
        at += 16;
    }
    let imm = ctrl.imm.get();
    let mut raddr = |wqe| -> Result<RaddrSeg, BadWqe> {
        let raddr = seg::<RaddrSeg>(wqe, at)?;
        at += 16;
        Ok(raddr)
    };
    let op = match ctrl.opcode() {
        opcode::SEND => SendOp::Send,
        opcode::SEND_IMM => SendOp::SendImm(imm),
        opcode::SEND_INVAL => SendOp::SendInv(imm),
        opcode::RDMA_WRITE => {
            let r = raddr(wqe)?;
            SendOp::Write {
                va: r.va.get(),
                rkey: r.rkey.get(),
            }
        }
        opcode::RDMA_WRITE_IMM => {
            let r = raddr(wqe)?;
            SendOp::WriteImm {
                va: r.va.get(),
                rkey: r.rkey.get(),
                imm,
            }
        }
        opcode::RDMA_READ => {
            let r = raddr(wqe)?;
            SendOp::Read {
                va: r.va.get(),
                rkey: r.rkey.get(),
            }
        }
        code @ (opcode::ATOMIC_CS | opcode::ATOMIC_FA) => {
            let r = raddr(wqe)?;
            let a = seg::<AtomicSeg>(wqe, at)?;
            at += 16;
            let (va, rkey) = (r.va.get(), r.rkey.get());
            if code == opcode::ATOMIC_CS {
                let (compare, swap) = (a.compare.get(), a.swap_add.get());
                SendOp::CompareSwap {
                    va,
                    rkey,
                    compare,
                    swap,
                }
            } else {
                SendOp::FetchAdd {
                    va,
                    rkey,
                    add: a.swap_add.get(),
                }
            }
        }
        _ => return Ok(None),
    };
    data_segs(wqe.get(at..).unwrap_or(&[]), data)?;
    Ok(Some((op, srqn)))
}

/// Address vector and data of a datagram WQE.
pub fn datagram(wqe: &[u8], data: &mut SendData) -> Result<AvSeg, BadWqe> {
    let av = seg::<AvSeg>(wqe, 16)?;
    data_segs(wqe.get(64..).unwrap_or(&[]), data)?;
    Ok(av)
}

/// Gather list or inline data up to the end of the WQE.
pub fn data_segs(mut rest: &[u8], data: &mut SendData) -> Result<(), BadWqe> {
    data.clear();
    while rest.len() >= 16 {
        let (word, entry) = DataSeg::parse(rest);
        if word & INLINE == 0 {
            if entry.len != 0 {
                data.len += u64::from(entry.len);
                data.segs.push(entry);
            }
            rest = &rest[16..];
            continue;
        }
        let len = (word & 0x3ff) as usize;
        data.inline
            .extend_from_slice(rest.get(4..4 + len).ok_or(BadWqe)?);
        data.len += len as u64;
        rest = rest.get((4 + len).next_multiple_of(16)..).unwrap_or(&[]);
    }
    // A message is either gathered or inline; no driver mixes the two.
    if !data.inline.is_empty() && !data.segs.is_empty() {
        return Err(BadWqe);
    }
    Ok(())
}

/// A packet of a WQE that holds many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed<'a> {
    /// In memory.
    Segment(DataSeg),
    /// In the WQE.
    Inline(&'a [u8]),
}

/// Takes the next packet of a WQE that holds many from the front of `rest`. `None`: no more.
pub fn next_packed<'a>(rest: &mut &'a [u8]) -> Result<Option<Packed<'a>>, BadWqe> {
    let bytes: &'a [u8] = rest;
    if bytes.len() < 16 {
        return Ok(None);
    }
    let (segment, inline) = DataSeg::entry(bytes);
    let (used, packet) = match inline {
        Some(len) => (
            4 + len,
            Packed::Inline(bytes.get(4..4 + len).ok_or(BadWqe)?),
        ),
        None => (16, Packed::Segment(segment)),
    };
    *rest = bytes.get(used.next_multiple_of(16)..).unwrap_or(&[]);
    Ok(Some(packet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rdma_write_of_a_user_library_decodes() {
        let mut wqe = vec![0u8; 48];
        wqe[..16].copy_from_slice(&[0, 0, 7, 8, 0, 1, 0x23, 3, 0, 0, 0, 0x0a, 0, 0, 0, 0]);
        wqe[16..28].copy_from_slice(&[0, 0, 0x7f, 0, 0, 0, 0x10, 0, 0, 0, 0x1f, 0x2e]);
        wqe[32..48].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0x22, 0x33, 0, 0, 0, 0, 0, 0, 0x40, 0]);
        let ctrl = control(&wqe).unwrap();
        assert_eq!(
            (ctrl.opcode(), ctrl.wqe_index(), ctrl.qpn(), ctrl.ds()),
            (8, 7, 0x123, 3)
        );
        assert!(ctrl.signaled() && ctrl.solicited());
        let mut data = SendData::default();
        let (op, srqn) = connected(&ctrl, &wqe, false, &mut data).unwrap().unwrap();
        assert_eq!(
            op,
            SendOp::Write {
                va: 0x7f00_0000_1000,
                rkey: 0x1f2e
            }
        );
        assert_eq!(srqn, None);
        assert_eq!(
            data.segs,
            [DataSeg {
                len: 0x10000,
                lkey: 0x2233,
                addr: 0x4000
            }]
        );
        assert_eq!(data.len, 0x10000);
    }

    #[test]
    fn inline_data_and_truncated_wqes() {
        let mut wqe = vec![0u8; 32];
        wqe[3] = opcode::SEND;
        wqe[16..20].copy_from_slice(&(INLINE | 5).to_be_bytes());
        wqe[20..25].copy_from_slice(b"hello");
        let ctrl = control(&wqe).unwrap();
        let mut data = SendData::default();
        connected(&ctrl, &wqe, false, &mut data).unwrap().unwrap();
        assert_eq!(data.inline, b"hello");
        wqe[19] = 13;
        assert_eq!(
            connected(&ctrl, &wqe, false, &mut data).unwrap_err(),
            BadWqe
        );
        assert_eq!(control(&wqe[..15]).unwrap_err(), BadWqe);
        assert_eq!(datagram(&wqe, &mut data).unwrap_err(), BadWqe);
    }
}
