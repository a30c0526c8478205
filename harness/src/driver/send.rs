//! Send work requests: WQEs written into the ring, the doorbell record and the doorbell.

use std::sync::atomic::Ordering;

use rocinante_wire::MacAddr;

use super::error::{Error, Result};
use super::function::Function;
use super::mr::Umr;
use super::qp::Service;
use super::receive::Sge;
use super::{Driver, bar};

/// Bytes of a basic block.
const BLOCK: usize = 64;

/// Longest WQE: 16 basic blocks.
const MAX_WQE: usize = 1024;

/// Offset of the BlueFlame register in a UAR page.
const BLUEFLAME: u64 = 0x800;

/// WQE opcodes.
mod opcode {
    pub const NOP: u8 = 0x00;
    pub const SEND_INVAL: u8 = 0x01;
    pub const RDMA_WRITE: u8 = 0x08;
    pub const RDMA_WRITE_IMM: u8 = 0x09;
    pub const SEND: u8 = 0x0a;
    pub const SEND_IMM: u8 = 0x0b;
    pub const RDMA_READ: u8 = 0x10;
    pub const ATOMIC_CS: u8 = 0x11;
    pub const ATOMIC_FA: u8 = 0x12;
    pub const UMR: u8 = 0x25;
}

/// Where a datagram goes (`mlx5_av`).
#[derive(Clone, Copy, Debug)]
pub struct Av {
    /// Destination QP.
    pub qpn: u32,
    /// Q_Key; with bit 31 the sending QP's own is used.
    pub qkey: u32,
    /// Own entry in the RoCE address table.
    pub sgid_index: u8,
    /// Destination GID.
    pub gid: [u8; 16],
    /// Destination MAC.
    pub mac: MacAddr,
    /// Service level.
    pub sl: u8,
    /// Traffic class.
    pub tclass: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Flow label.
    pub flow_label: u32,
    /// UDP source port.
    pub udp_sport: u16,
}

/// What a work request does.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the names are verbs'
pub enum SendOp<'a> {
    Nop,
    Send,
    SendImm(u32),
    /// The key to invalidate.
    SendInv(u32),
    Write {
        va: u64,
        rkey: u32,
    },
    WriteImm {
        va: u64,
        rkey: u32,
        imm: u32,
    },
    Read {
        va: u64,
        rkey: u32,
    },
    CompareSwap {
        va: u64,
        rkey: u32,
        compare: u64,
        swap: u64,
    },
    FetchAdd {
        va: u64,
        rkey: u32,
        add: u64,
    },
    /// A datagram, with immediate data or without.
    Datagram {
        av: &'a Av,
        imm: Option<u32>,
    },
    Umr(&'a Umr),
    /// An opcode that no driver posts, with this many bytes of zeros behind the control segment.
    Raw {
        opcode: u8,
        len: usize,
    },
}

/// A message's bytes.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// Gathered; or scattered to, by READ and atomics.
    Sges(&'a [Sge]),
    /// In the work request.
    Inline(&'a [u8]),
}

/// A send work request.
#[derive(Clone, Debug)]
pub struct SendWr<'a> {
    /// For the completion.
    pub wr_id: u64,
    /// What.
    pub op: SendOp<'a>,
    /// The bytes.
    pub data: Data<'a>,
    /// A completion is wanted on success too.
    pub signaled: bool,
    /// The receiver's completion is solicited.
    pub solicited: bool,
    /// Wait for READs and atomics before it.
    pub fence: bool,
    /// XRC SRQ of the receiver.
    pub xrc_srqn: u32,
}

impl<'a> SendWr<'a> {
    /// Signaled, nothing else.
    pub fn new(wr_id: u64, op: SendOp<'a>, data: Data<'a>) -> SendWr<'a> {
        SendWr {
            wr_id,
            op,
            data,
            signaled: true,
            solicited: false,
            fence: false,
            xrc_srqn: 0,
        }
    }
}

/// The ring of send WQEs.
#[derive(Default)]
pub(super) struct SendRing {
    pub base: u64,
    /// Basic blocks posted, and completed.
    head: u16,
    tail: u16,
    /// Basic blocks that the doorbell record tells of.
    rung: u16,
    first_words: [u8; 8],
    /// By basic block: what began there, and how many blocks it has.
    posted: Vec<(u64, u16)>,
}

impl SendRing {
    pub fn new(log_size: Option<u8>) -> SendRing {
        SendRing {
            posted: log_size.map_or_else(Vec::new, |log| vec![(0, 0); 1 << log]),
            ..SendRing::default()
        }
    }

    /// Bytes; none if there is no send queue.
    pub fn size(&self) -> u64 {
        (self.posted.len() * BLOCK) as u64
    }

    pub fn reset(&mut self) {
        (self.head, self.tail, self.rung) = (0, 0, 0);
    }

    /// The WQE at `counter` completed, and with it all before.
    pub fn completed(&mut self, counter: u16) -> u64 {
        let slot = usize::from(counter) & self.posted.len().wrapping_sub(1);
        let (wr_id, blocks) = self.posted.get(slot).copied().unwrap_or((u64::MAX, 0));
        self.tail = counter.wrapping_add(blocks);
        wr_id
    }
}

/// A WQE being written.
struct Wqe {
    bytes: [u8; MAX_WQE],
    len: usize,
}

impl Wqe {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let place = self.bytes.get_mut(self.len..self.len + bytes.len());
        place.ok_or(Error::TooLarge)?.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    fn remote(&mut self, va: u64, rkey: u32) -> Result<()> {
        self.put(&va.to_be_bytes())?;
        self.put(&rkey.to_be_bytes())?;
        self.put(&[0; 4])
    }

    fn data(&mut self, data: Data<'_>) -> Result<()> {
        match data {
            Data::Sges(sges) => {
                for sge in sges.iter().filter(|sge| sge.len != 0) {
                    self.put(&sge.bytes())?;
                }
            }
            Data::Inline([]) => {}
            Data::Inline(bytes) => {
                self.put(&(1 << 31 | bytes.len() as u32).to_be_bytes())?;
                self.put(bytes)?;
                let pad = self.len.next_multiple_of(16) - self.len;
                self.put(&[0; 16][..pad])?;
            }
        }
        Ok(())
    }

    fn address(&mut self, av: &Av) -> Result<()> {
        const EXTENDED: u32 = 1 << 31;
        const GRH: u32 = 1 << 30;
        let mut seg = [0; 48];
        let mut put = |at: usize, bytes: &[u8]| seg[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &av.qkey.to_be_bytes());
        put(0x08, &(EXTENDED | av.qpn).to_be_bytes());
        put(0x0c, &[av.sl << 1]);
        put(0x0e, &av.udp_sport.to_be_bytes());
        put(0x14, &av.mac.octets());
        put(0x1a, &[av.tclass, av.hop_limit]);
        let grh = GRH | u32::from(av.sgid_index) << 20 | av.flow_label;
        put(0x1c, &grh.to_be_bytes());
        put(0x20, &av.gid);
        self.put(&seg)
    }

    /// Everything behind the control segment; returns WQE opcode and the control segment's last word.
    fn body(&mut self, wr: &SendWr<'_>) -> Result<(u8, u32)> {
        let head = match wr.op {
            SendOp::Nop => return Ok((opcode::NOP, 0)),
            SendOp::Raw { opcode, len } => {
                self.put(&[0; MAX_WQE][..len])?;
                return Ok((opcode, 0));
            }
            SendOp::Umr(umr) => {
                self.put(&umr.segments())?;
                return Ok((opcode::UMR, umr.key()));
            }
            SendOp::Send => (opcode::SEND, 0),
            SendOp::SendImm(imm) => (opcode::SEND_IMM, imm),
            SendOp::SendInv(key) => (opcode::SEND_INVAL, key),
            SendOp::Write { va, rkey } => {
                self.remote(va, rkey)?;
                (opcode::RDMA_WRITE, 0)
            }
            SendOp::WriteImm { va, rkey, imm } => {
                self.remote(va, rkey)?;
                (opcode::RDMA_WRITE_IMM, imm)
            }
            SendOp::Read { va, rkey } => {
                self.remote(va, rkey)?;
                (opcode::RDMA_READ, 0)
            }
            SendOp::CompareSwap {
                va,
                rkey,
                compare,
                swap,
            } => {
                self.remote(va, rkey)?;
                self.put(&swap.to_be_bytes())?;
                self.put(&compare.to_be_bytes())?;
                (opcode::ATOMIC_CS, 0)
            }
            SendOp::FetchAdd { va, rkey, add } => {
                self.remote(va, rkey)?;
                self.put(&add.to_be_bytes())?;
                self.put(&[0; 8])?;
                (opcode::ATOMIC_FA, 0)
            }
            SendOp::Datagram { av, imm } => {
                self.address(av)?;
                match imm {
                    Some(imm) => (opcode::SEND_IMM, imm),
                    None => (opcode::SEND, 0),
                }
            }
        };
        self.data(wr.data)?;
        Ok(head)
    }
}

impl<F: Function> Driver<F> {
    /// Writes a work request into the ring; [`ring`](Self::ring) tells the device.
    pub fn stage_send(&mut self, qpn: u32, wr: &SendWr<'_>) -> Result<()> {
        let map = self.function.memory();
        let qp = self.qps.get_mut(qpn)?;
        let mut wqe = Wqe {
            bytes: [0; MAX_WQE],
            len: 16,
        };
        if qp.config.service == Service::Xrc && !matches!(wr.op, SendOp::Umr(_) | SendOp::Nop) {
            wqe.put(&wr.xrc_srqn.to_be_bytes())?;
            wqe.put(&[0; 12])?;
        }
        let (opcode, word) = wqe.body(wr)?;
        let ring = &mut qp.send;
        let blocks = wqe.len.div_ceil(BLOCK) as u16;
        let used = ring.head.wrapping_sub(ring.tail);
        if usize::from(used) + usize::from(blocks) > ring.posted.len() {
            return Err(Error::QueueFull(qpn));
        }
        let index = u32::from(ring.head);
        let flags = u8::from(wr.signaled) << 3 | u8::from(wr.solicited) << 1;
        let fence = if wr.fence { 2 << 5 } else { 0 };
        let control = &mut wqe.bytes[..16];
        control[..4].copy_from_slice(&(index << 8 | u32::from(opcode)).to_be_bytes());
        let ds = wqe.len.div_ceil(16) as u32;
        control[4..8].copy_from_slice(&(qpn << 8 | ds).to_be_bytes());
        control[11] = flags | fence;
        control[12..].copy_from_slice(&word.to_be_bytes());
        ring.first_words.copy_from_slice(&control[..8]);

        let mask = ring.posted.len() - 1;
        let slot = usize::from(ring.head) & mask;
        let bytes = &wqe.bytes[..usize::from(blocks) * BLOCK];
        let (first, rest) = bytes.split_at(bytes.len().min((mask + 1 - slot) * BLOCK));
        map.write(ring.base + (slot * BLOCK) as u64, first)?;
        map.write(ring.base, rest)?;
        ring.posted[slot] = (wr.wr_id, blocks);
        ring.head = ring.head.wrapping_add(blocks);
        Ok(())
    }

    /// Tells the device of everything staged: doorbell record, then doorbell.
    pub fn ring(&mut self, qpn: u32) -> Result<()> {
        let qp = self.qps.get_mut(qpn)?;
        let ring = &mut qp.send;
        if ring.rung == ring.head {
            return Ok(());
        }
        ring.rung = ring.head;
        let (head, first_words) = (ring.head, ring.first_words);
        self.function
            .memory()
            .store_be32(qp.record + 4, head.into(), Ordering::Release)?;
        let at = u64::from(self.uar) * bar::UAR_PAGE + BLUEFLAME;
        self.function.store(at, &first_words)
    }

    /// Posts one work request.
    pub fn post_send(&mut self, qpn: u32, wr: &SendWr<'_>) -> Result<()> {
        self.stage_send(qpn, wr)?;
        self.ring(qpn)
    }
}
