//! The driver's side of completion queues: creation, polling by owner bits, arming.

use std::sync::atomic::Ordering;

use rocinante_device::mlx5::cqe::Cqe;
use rocinante_firmware_cmd::mlx5::cq::{CreateCqIn, CreateCqOut};
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use zerocopy::FromBytes;

use super::command::input;
use super::error::{Error, Result};
use super::function::Function;
use super::memory::Buffer;
use super::{Driver, bar};

/// Bytes of an entry, of which the last holds opcode and owner bit.
const ENTRY: u64 = 64;

/// Opcode invalid, owner 1: what entries hold before the device writes them.
const INVALID: u8 = 0xf1;

/// CQ doorbell in a UAR page.
const DOORBELL: u64 = 0x20;
/// Doorbell and arm record: only solicited completions.
const SOLICITED: u32 = 1 << 24;

/// CQE opcodes of errors, and of the end of a ring after a resize.
const REQ_ERR: u8 = 0xd;
const RESP_ERR: u8 = 0xe;
const OPCODE_INVALID: u8 = 0xf;

/// No user index: what kernel objects have.
pub(super) const NO_USER_INDEX: u32 = 0xff_ffff;

/// Syndromes of work completions.
pub mod syndrome {
    #![allow(missing_docs)] // the names are the interface's
    pub const SUCCESS: u8 = 0x00;
    pub const LOCAL_LENGTH: u8 = 0x01;
    pub const LOCAL_QP_OP: u8 = 0x02;
    pub const LOCAL_PROT: u8 = 0x04;
    pub const WR_FLUSH: u8 = 0x05;
    pub const MW_BIND: u8 = 0x06;
    pub const BAD_RESP: u8 = 0x10;
    pub const LOCAL_ACCESS: u8 = 0x11;
    pub const REMOTE_INVAL_REQ: u8 = 0x12;
    pub const REMOTE_ACCESS: u8 = 0x13;
    pub const REMOTE_OP: u8 = 0x14;
    pub const RETRY_EXC: u8 = 0x15;
    pub const RNR_RETRY_EXC: u8 = 0x16;
}

/// A completion queue.
pub(super) struct Cq {
    buffer: Buffer,
    record: u64,
    log_size: u8,
    consumer: u32,
    arm_sn: u32,
}

/// A work completion.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// As posted.
    pub wr_id: u64,
    /// QP number.
    pub qpn: u32,
    /// Of the send queue, not of a receive queue.
    pub send: bool,
    /// 0 is success, see [`syndrome`].
    pub syndrome: u8,
    /// Bytes received, read or swapped.
    pub byte_len: u32,
    /// Immediate data, or the key invalidated.
    pub imm: u32,
    /// Sender of a datagram.
    pub src_qp: u32,
    /// The entry.
    pub cqe: Cqe,
}

impl Completion {
    /// Whether the work request was executed.
    pub fn is_ok(&self) -> bool {
        self.syndrome == syndrome::SUCCESS
    }
}

impl<F: Function> Driver<F> {
    /// CREATE_CQ with `2^log_size` entries, reporting to the completion EQ.
    pub fn create_cq(&mut self, log_size: u8) -> Result<u32> {
        let buffer = self.pages.zeroed(ENTRY << log_size)?;
        for index in 0..1u64 << log_size {
            let at = buffer.iova + index * ENTRY + 63;
            self.memory().store_u8(at, INVALID, Ordering::Relaxed)?;
        }
        let record = self.pages.record()?;
        let pas: Vec<u64> = buffer.pages().collect();
        let mut create = input(Opcode::CreateCq, 0, CreateCqIn::SIZE + 8 * pas.len());
        let mut view = CreateCqIn::new(&mut create);
        view.cqc_mut()
            .set_log_cq_size(log_size)
            .set_uar_page(self.uar)
            .set_c_eqn(self.completion_eq.eqn)
            .set_dbr_addr(record);
        for (index, page) in pas.into_iter().enumerate() {
            view.pas_mut().set(index, page);
        }
        let cqn = CreateCqOut::new(&self.execute(&create, 16)?).cqn();
        let cq = Cq {
            buffer,
            record,
            log_size,
            consumer: 0,
            arm_sn: 0,
        };
        self.cqs.insert(cqn, cq);
        Ok(cqn)
    }

    /// DESTROY_CQ.
    pub fn destroy_cq(&mut self, cqn: u32) -> Result<()> {
        self.about(Opcode::DestroyCq, cqn)?;
        let cq = self.cqs.remove(cqn)?;
        self.pages.release(cq.buffer);
        self.pages.release_record(cq.record);
        Ok(())
    }

    /// The next completion.
    pub fn poll_cq(&mut self, cqn: u32) -> Result<Option<Completion>> {
        let map = self.function.memory();
        let cq = self.cqs.get_mut(cqn)?;
        let index = u64::from(cq.consumer & ((1 << cq.log_size) - 1));
        let at = cq.buffer.iova + index * ENTRY;
        let last = map.load_u8(at + 63, Ordering::Acquire)?;
        let opcode = last >> 4;
        if opcode == OPCODE_INVALID || u32::from(last & 1) != (cq.consumer >> cq.log_size) & 1 {
            return Ok(None);
        }
        let mut bytes = [0; ENTRY as usize];
        map.read(at, &mut bytes)?;
        cq.consumer = cq.consumer.wrapping_add(1);
        map.store_be32(cq.record, cq.consumer & 0xff_ffff, Ordering::Release)?;
        let cqe = Cqe::read_from_bytes(&bytes)
            .map_err(|_| Error::Device("a CQE is not 64 bytes long".into()))?;
        let qpn = cqe.sop_drop_qpn.get() & 0xff_ffff;
        let counter = cqe.wqe_counter.get();
        let send = matches!(opcode, 0 | REQ_ERR);
        let qp = self.qps.get_mut(qpn)?;
        let wr_id = if send {
            qp.send.completed(counter)
        } else if let Some(srqn) = qp.receives_from(&cqe) {
            let srq = self.srqs.get_mut(srqn)?;
            srq.completed(map, counter)?
        } else {
            qp.receive.completed(counter)
        };
        let failed = matches!(opcode, REQ_ERR | RESP_ERR);
        Ok(Some(Completion {
            wr_id,
            qpn,
            send,
            syndrome: if failed { bytes[0x37] } else { 0 },
            byte_len: cqe.byte_cnt.get(),
            imm: cqe.imm_inval_pkey.get(),
            src_qp: cqe.flags_rqpn.get() & 0xff_ffff,
            cqe,
        }))
    }

    /// Asks for an event at the next completion, or at the next solicited or failed one.
    pub fn arm_cq(&mut self, cqn: u32, solicited_only: bool) -> Result<()> {
        let cq = self.cqs.get_mut(cqn)?;
        let command = if solicited_only { SOLICITED } else { 0 };
        let word = cq.arm_sn << 28 | command | (cq.consumer & 0xff_ffff);
        cq.arm_sn = (cq.arm_sn + 1) & 3;
        let map = self.function.memory();
        map.store_be32(cq.record + 4, word, Ordering::Release)?;
        let mut doorbell = [0; 8];
        doorbell[..4].copy_from_slice(&word.to_be_bytes());
        doorbell[4..].copy_from_slice(&cqn.to_be_bytes());
        let at = u64::from(self.uar) * bar::UAR_PAGE + DOORBELL;
        self.function.store(at, &doorbell)
    }
}
