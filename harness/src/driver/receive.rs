//! Receive work requests: rings of queue pairs, linked lists of shared receive queues.

use std::sync::atomic::Ordering;

use rocinante_dma::MemoryMap;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::srq::{ArmXrcSrqIn, CreateXrcSrqIn, CreateXrcSrqOut};
use rocinante_firmware_cmd::mlx5::wq::{CreateRmpIn, CreateRmpOut, ModifyRmpIn};

use super::Driver;
use super::command::input;
use super::cq::NO_USER_INDEX;
use super::error::{Error, Result};
use super::function::Function;
use super::memory::Buffer;

/// A scatter or gather entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sge {
    /// Address within the key.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// Local key.
    pub lkey: u32,
}

impl Sge {
    pub(super) fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.len.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.lkey.to_be_bytes());
        bytes[8..].copy_from_slice(&self.addr.to_be_bytes());
        bytes
    }
}

/// Ends a scatter list that is shorter than its WQE.
const TERMINATOR: Sge = Sge {
    addr: 0,
    len: 0,
    lkey: 0x100,
};

/// Writes a scatter list to a WQE with room for `max` entries.
fn write_sges(map: &MemoryMap, mut at: u64, max: usize, sges: &[Sge]) -> Result<()> {
    if sges.len() > max {
        return Err(Error::TooLarge);
    }
    let terminator = (sges.len() < max).then_some(TERMINATOR);
    for sge in sges.iter().copied().chain(terminator) {
        map.write(at, &sge.bytes())?;
        at += 16;
    }
    Ok(())
}

/// The ring of receive WQEs of a queue pair.
#[derive(Default)]
pub(super) struct ReceiveRing {
    pub base: u64,
    pub log_stride: u8,
    pub head: u16,
    pub tail: u16,
    pub wr_ids: Vec<u64>,
}

impl ReceiveRing {
    pub fn new(log_size: u8, log_stride: u8) -> ReceiveRing {
        ReceiveRing {
            log_stride,
            wr_ids: vec![0; 1 << log_size],
            ..ReceiveRing::default()
        }
    }

    /// Bytes; none if there is no receive queue.
    pub fn size(&self) -> u64 {
        (self.wr_ids.len() as u64) << self.log_stride
    }

    pub fn reset(&mut self) {
        (self.head, self.tail) = (0, 0);
    }

    pub fn completed(&mut self, counter: u16) -> u64 {
        self.tail = self.tail.wrapping_add(1);
        let mask = self.wr_ids.len().wrapping_sub(1);
        let slot = usize::from(counter) & mask;
        self.wr_ids.get(slot).copied().unwrap_or(u64::MAX)
    }
}

/// Which command makes a shared receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrqKind {
    /// CREATE_RMP: the basic SRQ with ISSI 1.
    Basic,
    /// CREATE_XRC_SRQ.
    Xrc {
        /// XRC domain.
        xrcd: u32,
        /// CQ of its completions.
        cqn: u32,
    },
}

/// A shared receive queue.
pub(super) struct Srq {
    kind: SrqKind,
    buffer: Buffer,
    record: u64,
    log_stride: u8,
    /// First free WQE; the free ones are a list that ends at `tail`.
    head: u16,
    tail: u16,
    posted: u16,
    wr_ids: Vec<u64>,
}

impl Srq {
    fn at(&self, index: u16) -> u64 {
        self.buffer.iova + (u64::from(index) << self.log_stride)
    }

    /// A WQE was used: it becomes the last free one.
    pub fn completed(&mut self, map: &MemoryMap, index: u16) -> Result<u64> {
        let wr_id = *self
            .wr_ids
            .get(usize::from(index))
            .ok_or(Error::NoObject(index.into()))?;
        map.store_be16(self.at(self.tail) + 2, index, Ordering::Relaxed)?;
        self.tail = index;
        Ok(wr_id)
    }
}

impl<F: Function> Driver<F> {
    /// A shared receive queue of `2^log_size` WQEs, one of which is never posted, with up to `sges` entries each.
    pub fn create_srq(&mut self, kind: SrqKind, pd: u32, log_size: u8, sges: usize) -> Result<u32> {
        let log_stride = (16 + 16 * sges).next_power_of_two().max(32).ilog2() as u8;
        let n = 1u16 << log_size;
        let buffer = self.pages.zeroed(u64::from(n) << log_stride)?;
        let record = self.pages.record()?;
        let srq = Srq {
            kind,
            buffer,
            record,
            log_stride,
            head: 0,
            tail: n - 1,
            posted: 0,
            wr_ids: vec![0; usize::from(n)],
        };
        for index in 0..n {
            let next = (index + 1) % n;
            self.memory()
                .store_be16(srq.at(index) + 2, next, Ordering::Relaxed)?;
        }
        let pas: Vec<u64> = buffer.pages().collect();
        let srqn = match kind {
            SrqKind::Basic => {
                let mut create = input(Opcode::CreateRmp, 0, CreateRmpIn::SIZE + 8 * pas.len());
                let mut view = CreateRmpIn::new(&mut create);
                let mut rmpc = view.rmpc_mut();
                rmpc.set_state(1);
                let mut wq = rmpc.wq_mut();
                wq.set_pd(pd)
                    .set_dbr_addr(record)
                    .set_log_wq_stride(log_stride)
                    .set_log_wq_sz(log_size);
                for (index, page) in pas.into_iter().enumerate() {
                    wq.pas_mut().set(index, page);
                }
                CreateRmpOut::new(&self.execute(&create, 16)?).rmpn()
            }
            SrqKind::Xrc { xrcd, cqn } => {
                let len = CreateXrcSrqIn::SIZE + 8 * pas.len();
                let mut create = input(Opcode::CreateXrcSrq, 0, len);
                let mut view = CreateXrcSrqIn::new(&mut create);
                view.xrc_srqc_mut()
                    .set_log_xrc_srq_size(log_size)
                    .set_log_rq_stride(log_stride - 4)
                    .set_pd(pd)
                    .set_cqn(cqn)
                    .set_xrcd(xrcd)
                    .set_user_index(NO_USER_INDEX)
                    .set_db_record_addr_h((record >> 32) as u32)
                    .set_db_record_addr_l((record >> 2) as u32 & 0x3fff_ffff);
                for (index, page) in pas.into_iter().enumerate() {
                    view.pas_mut().set(index, page);
                }
                CreateXrcSrqOut::new(&self.execute(&create, 16)?).xrc_srqn()
            }
        };
        self.srqs.insert(srqn, srq);
        Ok(srqn)
    }

    /// DESTROY_RMP or DESTROY_XRC_SRQ.
    pub fn destroy_srq(&mut self, srqn: u32) -> Result<()> {
        let opcode = match self.srqs.get(srqn)?.kind {
            SrqKind::Basic => Opcode::DestroyRmp,
            SrqKind::Xrc { .. } => Opcode::DestroyXrcSrq,
        };
        self.about(opcode, srqn)?;
        let srq = self.srqs.remove(srqn)?;
        self.pages.release(srq.buffer);
        self.pages.release_record(srq.record);
        Ok(())
    }

    /// Asks for an event when fewer than `limit` WQEs are posted.
    pub fn arm_srq(&mut self, srqn: u32, limit: u16) -> Result<()> {
        let arm = match self.srqs.get(srqn)?.kind {
            SrqKind::Basic => {
                let mut modify = input(Opcode::ModifyRmp, 0, ModifyRmpIn::SIZE);
                let mut view = ModifyRmpIn::new(&mut modify);
                view.set_rmp_state(1).set_rmpn(srqn);
                view.bitmask_mut().set_lwm(true);
                view.rmpc_mut().wq_mut().set_lwm(limit);
                modify
            }
            SrqKind::Xrc { .. } => {
                // op_mod 1 is the limit (MLX5_ARM_XRC_SRQ_IN_OP_MOD_XRC_SRQ).
                let mut arm = input(Opcode::ArmXrcSrq, 1, ArmXrcSrqIn::SIZE);
                ArmXrcSrqIn::new(&mut arm).set_xrc_srqn(srqn).set_lwm(limit);
                arm
            }
        };
        self.execute(&arm, 16).map(drop)
    }

    /// Posts a receive to a shared receive queue.
    pub fn post_srq_receive(&mut self, srqn: u32, wr_id: u64, sges: &[Sge]) -> Result<()> {
        let map = self.function.memory();
        let srq = self.srqs.get_mut(srqn)?;
        if srq.head == srq.tail {
            return Err(Error::QueueFull(srqn));
        }
        let at = srq.at(srq.head);
        let max = (1 << srq.log_stride) / 16 - 1;
        write_sges(map, at + 16, max, sges)?;
        srq.wr_ids[usize::from(srq.head)] = wr_id;
        srq.head = map.load_be16(at + 2, Ordering::Relaxed)?;
        srq.posted = srq.posted.wrapping_add(1);
        map.store_be32(srq.record, srq.posted.into(), Ordering::Release)?;
        Ok(())
    }

    /// Posts a receive to a queue pair.
    pub fn post_receive(&mut self, qpn: u32, wr_id: u64, sges: &[Sge]) -> Result<()> {
        let map = self.function.memory();
        let qp = self.qps.get_mut(qpn)?;
        let ring = &mut qp.receive;
        if usize::from(ring.head.wrapping_sub(ring.tail)) >= ring.wr_ids.len() {
            return Err(Error::QueueFull(qpn));
        }
        let slot = usize::from(ring.head) & (ring.wr_ids.len() - 1);
        let at = ring.base + ((slot as u64) << ring.log_stride);
        write_sges(map, at, (1 << ring.log_stride) / 16, sges)?;
        ring.wr_ids[slot] = wr_id;
        ring.head = ring.head.wrapping_add(1);
        map.store_be32(qp.record, ring.head.into(), Ordering::Release)?;
        Ok(())
    }
}
