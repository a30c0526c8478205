//! Completion queues, send and receive rings as recorded commands make them, and recorded WQEs in them.

use std::sync::atomic::Ordering;

use rocinante_firmware_cmd::mlx5::cq::CreateCqIn;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::qp::CreateQpIn;
use rocinante_firmware_cmd::mlx5::wq::{CreateRqIn, CreateSqIn, Wq};
use rocinante_harness::driver::Function;

use super::numbers::Object;
use super::{PAGE, Session, opcode};
use crate::vectors::{Kind, Record};

/// Send doorbell in a UAR page.
const SEND: u64 = 0x800;
/// CQ doorbell in a UAR page.
const CQ: u64 = 0x20;

const CQE: u64 = 64;
/// Opcode invalid, owner 1: what the driver fills a new CQ with.
const INVALID: u8 = 0xf1;

/// WQE opcodes whose segments have numbers in them.
mod wqe {
    pub const SEND_INVAL: u8 = 0x01;
    pub const RDMA_WRITE: u8 = 0x08;
    pub const SEND: u8 = 0x0a;
    pub const LSO: u8 = 0x0e;
    pub const RDMA_READ: u8 = 0x10;
    pub const UMR: u8 = 0x25;
}

/// A buffer of pages of 4 KiB.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    pages: Vec<u64>,
    offset: u64,
}

impl Buffer {
    pub(super) fn new(pages: impl Iterator<Item = u64>, offset: u64) -> Buffer {
        Buffer {
            pages: pages.collect(),
            offset,
        }
    }

    /// Bus address of a byte of it; nothing is looked at across a page.
    pub(super) fn at(&self, offset: u64) -> u64 {
        let at = self.offset + offset;
        self.pages.get((at / PAGE) as usize).copied().unwrap_or(0) + at % PAGE
    }
}

/// Whose ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    SendQueue,
    ReceiveQueue,
    QpSend,
    QpReceive,
}

/// A ring of WQEs.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    buffer: Buffer,
    log_size: u8,
    stride: u64,
    /// Word of the doorbell record.
    record: u64,
    /// UAR page, as recorded.
    uar: u32,
    /// WQEs posted to a receive ring; the next slot of a linked list.
    posted: u32,
    next: u32,
}

/// A completion queue.
pub(super) struct Cq {
    buffer: Buffer,
    log_size: u8,
    record: u64,
    uar: u32,
    consumer: u32,
    arm_sn: u32,
}

/// A completion queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion(pub [u8; 64]);

impl Completion {
    fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// CQE opcode: 0 request, 1 write with immediate, 2 send, 3 send with immediate, 4 send with invalidate, 0xd and
    /// 0xe errors.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.0[63] >> 4
    }

    /// QP, SQ or RQ number, and the opcode of a send WQE.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.word(0x38) & 0xff_ffff
    }

    /// Opcode of the send WQE.
    #[must_use]
    pub fn wqe_opcode(&self) -> u8 {
        self.0[0x38]
    }

    /// Bytes.
    #[must_use]
    pub fn byte_count(&self) -> u32 {
        self.word(0x2c)
    }

    /// Index of the WQE.
    #[must_use]
    pub fn wqe_counter(&self) -> u16 {
        self.word(0x3c).to_be_bytes()[..2]
            .iter()
            .fold(0, |word, byte| word << 8 | u16::from(*byte))
    }

    /// L2, L3 and L4 checksums that were found right (`hds_ip_ext`).
    #[must_use]
    pub fn checks(&self) -> u8 {
        self.0[0x1c]
    }

    /// Immediate data, invalidated key or, of Ethernet, VLAN and flow tag follow elsewhere.
    #[must_use]
    pub fn imm(&self) -> u32 {
        self.word(0x24)
    }
}

impl Session {
    /// Before a command: queues as the driver makes them.
    pub(super) fn prepare(&self, opcode: Opcode, recorded: &[u8]) -> Result<(), String> {
        match opcode {
            Opcode::CreateEq => self.prepare_eq(recorded),
            Opcode::CreateCq => {
                let view = CreateCqIn::new(recorded);
                let buffer = Buffer::new(view.pas().iter(), 0);
                for index in 0..1u64 << view.cqc().log_cq_size() {
                    self.write(buffer.at(index * CQE + 63), &[INVALID]);
                }
                self.write(view.cqc().dbr_addr(), &[0; 8]);
            }
            _ => {}
        }
        Ok(())
    }

    /// After a command: takes note of a queue that it made.
    pub(super) fn made(&mut self, opcode: Opcode, record: &Record) -> Result<(), String> {
        let input = &record.input[..];
        let given = || {
            let mut number = [0; 4];
            number[1..].copy_from_slice(&record.output[9..12]);
            u32::from_be_bytes(number)
        };
        match opcode {
            Opcode::CreateEq => self.made_eq(record)?,
            Opcode::CreateCq => {
                let view = CreateCqIn::new(input);
                let cqc = view.cqc();
                let cq = Cq {
                    buffer: Buffer::new(view.pas().iter(), u64::from(cqc.page_offset()) * 64),
                    log_size: cqc.log_cq_size(),
                    record: cqc.dbr_addr(),
                    uar: cqc.uar_page(),
                    consumer: 0,
                    arm_sn: 0,
                };
                self.cqs.insert(given(), cq);
                self.arm(given())?;
            }
            Opcode::CreateSq => {
                let wq = CreateSqIn::new(input).sqc().wq();
                self.rings.insert((Owner::SendQueue, given()), ring(&wq, 4));
            }
            Opcode::CreateRq => {
                let wq = CreateRqIn::new(input).rqc().wq();
                self.rings
                    .insert((Owner::ReceiveQueue, given()), ring(&wq, 0));
            }
            Opcode::CreateQp => self.made_qp(input, given()),
            _ => {}
        }
        Ok(())
    }

    fn made_qp(&mut self, input: &[u8], qpn: u32) {
        /// `rq_type` of a QP without receive queue.
        const NONE: u8 = 3;
        let view = CreateQpIn::new(input);
        let qpc = view.qpc();
        let offset = u64::from(qpc.page_offset()) * 64;
        let mut send = offset;
        if qpc.rq_type() != NONE {
            let stride = 16 << qpc.log_rq_stride();
            let receive = Ring {
                buffer: Buffer::new(view.pas().iter(), offset),
                log_size: qpc.log_rq_size(),
                stride,
                record: qpc.dbr_addr(),
                uar: qpc.uar_page(),
                posted: 0,
                next: 0,
            };
            self.rings.insert((Owner::QpReceive, qpn), receive);
            send += stride << qpc.log_rq_size();
        }
        let ring = Ring {
            buffer: Buffer::new(view.pas().iter(), send),
            log_size: qpc.log_sq_size(),
            stride: 64,
            record: qpc.dbr_addr() + 4,
            uar: qpc.uar_page(),
            posted: 0,
            next: 0,
        };
        self.rings.insert((Owner::QpSend, qpn), ring);
    }

    /// Arms a CQ as `mlx5_cq_arm` does.
    pub fn arm(&mut self, recorded: u32) -> Result<(), String> {
        let cqn = self.numbers.get(Object::Cq, recorded)?;
        let cq = self.cqs.get_mut(&recorded).ok_or("no such CQ")?;
        let word = (cq.arm_sn & 3) << 28 | cq.consumer & 0xff_ffff;
        cq.arm_sn += 1;
        let (record, uar) = (cq.record, cq.uar);
        self.write(record + 4, &word.to_be_bytes());
        let mut doorbell = [0; 8];
        doorbell[..4].copy_from_slice(&word.to_be_bytes());
        doorbell[4..].copy_from_slice(&cqn.to_be_bytes());
        self.ring(uar, CQ, &doorbell)
    }

    fn ring(&mut self, uar: u32, offset: u64, doorbell: &[u8; 8]) -> Result<(), String> {
        let page = u64::from(self.numbers.get(Object::Uar, uar)?) * PAGE;
        let stored = self.function.store(page + offset, doorbell);
        stored.map_err(|error| error.to_string())
    }

    /// The next completion on a CQ.
    pub fn poll(&mut self, recorded: u32) -> Result<Option<Completion>, String> {
        let cq = self.cqs.get(&recorded).ok_or("no such CQ")?;
        let at = cq
            .buffer
            .at(u64::from(cq.consumer & ((1 << cq.log_size) - 1)) * CQE);
        let last = self
            .memory()
            .load_u8(at + 63, Ordering::Acquire)
            .map_err(|error| error.to_string())?;
        if last >> 4 == 0xf || u32::from(last & 1) != cq.consumer >> cq.log_size & 1 {
            return Ok(None);
        }
        let mut entry = [0; 64];
        entry.copy_from_slice(&self.read(at, 64));
        let cq = self.cqs.get_mut(&recorded).ok_or("no such CQ")?;
        cq.consumer += 1;
        let (record, consumer) = (cq.record, cq.consumer & 0xff_ffff);
        self.write(record, &consumer.to_be_bytes());
        Ok(Some(Completion(entry)))
    }

    /// Posts a recorded WQE.
    pub fn post(&mut self, record: &Record) -> Result<(), String> {
        let mut bytes = record.input.clone();
        match record.kind {
            Kind::Command => Err(format!("{:?} is a command", opcode(&bytes)?)),
            Kind::Sq(sqn) => {
                self.ethernet(&mut bytes, self.numbers.get(Object::Sq, sqn)?)?;
                self.post_send((Owner::SendQueue, sqn), bytes)
            }
            Kind::Qp(qpn) => {
                self.rdma(&mut bytes, qpn)?;
                self.post_send((Owner::QpSend, qpn), bytes)
            }
            Kind::Rq(rqn) => {
                self.keys(&mut bytes, 16)?;
                self.post_receive((Owner::ReceiveQueue, rqn), &bytes)
            }
            Kind::Receive(qpn) => {
                self.keys(&mut bytes, 0)?;
                self.post_receive((Owner::QpReceive, qpn), &bytes)
            }
        }
        .map_err(|error| format!("line {}, {}: {error}", record.line, record.name))
    }

    /// Puts a WQE where the last one ended: the recorded queue may have been in use before.
    fn post_send(&mut self, key: (Owner, u32), mut bytes: Vec<u8>) -> Result<(), String> {
        let ring = self.rings.get(&key).ok_or("no such queue")?.clone();
        let index = ring.next as u16;
        bytes[1..3].copy_from_slice(&index.to_be_bytes());
        let mask = (1u64 << ring.log_size) - 1;
        for (block, bytes) in (u64::from(index)..).zip(bytes.chunks(64)) {
            self.write(ring.buffer.at((block & mask) * ring.stride), bytes);
        }
        let producer = index.wrapping_add(bytes.len().div_ceil(64) as u16);
        self.write(ring.record, &u32::from(producer).to_be_bytes());
        if let Some(ring) = self.rings.get_mut(&key) {
            ring.next = producer.into();
        }
        let mut doorbell = [0; 8];
        doorbell.copy_from_slice(&bytes[..8]);
        self.ring(ring.uar, SEND, &doorbell)
    }

    fn post_receive(&mut self, key: (Owner, u32), bytes: &[u8]) -> Result<(), String> {
        let ring = self.rings.get_mut(&key).ok_or("no such queue")?;
        let slot = u64::from(ring.next) & ((1 << ring.log_size) - 1);
        ring.next = match key.0 {
            // The first segment names the next WQE.
            Owner::ReceiveQueue => u16::from_be_bytes([bytes[2], bytes[3]]).into(),
            _ => ring.next + 1,
        };
        ring.posted += 1;
        let (at, record) = (ring.buffer.at(slot * ring.stride), ring.record);
        let posted = ring.posted & 0xffff;
        self.write(at, bytes);
        self.write(record, &posted.to_be_bytes());
        Ok(())
    }

    /// Numbers in an Ethernet send WQE.
    fn ethernet(&self, bytes: &mut [u8], sqn: u32) -> Result<(), String> {
        number(bytes, sqn);
        // Inline headers, of which two bytes are in the Ethernet segment itself.
        let inline = usize::from(u16::from_be_bytes([bytes[28], bytes[29]]));
        let data = 32 + inline.saturating_sub(2).next_multiple_of(16);
        if !matches!(bytes[3], wqe::SEND | wqe::LSO) {
            return Err(format!("WQE opcode {:#x}", bytes[3]));
        }
        self.keys(bytes, data)?;
        for (from, to) in &self.identity {
            super::replace(&mut bytes[..data], from, to);
        }
        Ok(())
    }

    /// Numbers in a WQE of a QP.
    fn rdma(&self, bytes: &mut [u8], qpn: u32) -> Result<(), String> {
        let number_given = self.numbers.get(Object::Qp, qpn)?;
        number(bytes, number_given);
        let datagram = bytes.len() >= 64 && bytes[3] == wqe::SEND && qpn == GSI;
        match bytes[3] {
            wqe::SEND if datagram => self.keys(bytes, 64),
            wqe::SEND => self.keys(bytes, 16),
            wqe::SEND_INVAL => {
                map_word(bytes, 12, |key| self.peer.mkey(key))?;
                self.keys(bytes, 16)
            }
            wqe::RDMA_READ | wqe::RDMA_WRITE => {
                map_word(bytes, 24, |key| self.peer.mkey(key))?;
                self.keys(bytes, 32)
            }
            wqe::UMR => {
                map_word(bytes, 12, |key| self.numbers.mkey(key))?;
                // PD of the key segment, beside a flag.
                map_word(bytes, 64 + 12, |word| {
                    let pd = self.numbers.get(Object::Pd, word & 0xff_ffff)?;
                    Ok(word & !0xff_ffff | pd)
                })?;
                self.keys(bytes, 128)
            }
            other => Err(format!("WQE opcode {other:#x}")),
        }
    }

    /// Keys in a list of data segments.
    fn keys(&self, bytes: &mut [u8], from: usize) -> Result<(), String> {
        for at in (from..bytes.len()).step_by(16) {
            map_word(bytes, at + 4, |key| self.numbers.mkey(key))?;
        }
        Ok(())
    }
}

/// The QP of the connection manager, as recorded.
const GSI: u32 = 0x40;

/// Puts a queue's number into a control segment.
fn number(bytes: &mut [u8], number: u32) {
    bytes[4..7].copy_from_slice(&number.to_be_bytes()[1..]);
}

fn map_word(
    bytes: &mut [u8],
    at: usize,
    map: impl FnOnce(u32) -> Result<u32, String>,
) -> Result<(), String> {
    let word = bytes.get_mut(at..at + 4).ok_or("cut off")?;
    let old = word.iter().fold(0, |old, byte| old << 8 | u32::from(*byte));
    word.copy_from_slice(&map(old)?.to_be_bytes());
    Ok(())
}

fn ring(wq: &Wq<&[u8]>, word: u64) -> Ring {
    Ring {
        buffer: Buffer::new(wq.pas().iter(), u64::from(wq.page_offset()) * 64),
        log_size: wq.log_wq_sz(),
        stride: 1 << wq.log_wq_stride(),
        record: wq.dbr_addr() + word,
        uar: wq.uar_page(),
        posted: 0,
        next: 0,
    }
}
