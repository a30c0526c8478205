//! Receive queues in guest memory: the ring or list of receive WQEs behind a QP, an SRQ, an RMP
//! or an Ethernet RQ, and taking WQEs from it.
//! Source: reference of the interface, "Receive queues".

use std::sync::atomic::Ordering;

use log::trace;
use rocinante_dma::{DmaError, MemoryMap};
use rocinante_firmware_cmd::mlx5::log::Hex;

use super::buffer::QueueBuffer;
use super::wqe::DataSeg;

/// How WQEs follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ring: WQE n is at n modulo size.
    Cyclic,
    /// Each WQE starts with a segment that names the next.
    LinkedList,
}

/// A queue of receive WQEs.
#[derive(Debug)]
pub struct ReceiveQueue {
    buffer: QueueBuffer,
    order: Order,
    log_size: u8,
    log_stride: u8,
    /// A signature segment (16 bytes) comes first in each WQE (`wq_signature`).
    signature: bool,
    /// Doorbell record, receive counter in its first word.
    doorbell_record: u64,
    /// WQEs taken so far, modulo 2^16.
    consumed: u16,
    /// Producer as last read: saves reading the record for each WQE.
    producer_seen: u16,
    /// Linked list: the next WQE.
    head: u16,
}

/// A receive WQE that was taken; `segs` of the caller hold its scatter list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// What the CQE's `wqe_counter` will say: the running counter of a ring, the index in a list.
    pub wqe_counter: u16,
    /// Bytes that the scatter list can take.
    pub capacity: u64,
}

/// log2 of the largest stride that a WQE may have.
const MAX_LOG_STRIDE: u8 = 11;

/// Scatter entries of the largest WQE.
pub const MAX_SGE: usize = 1 << (MAX_LOG_STRIDE - 4);

impl ReceiveQueue {
    /// A queue of `2^log_size` WQEs of `2^log_stride` bytes. `None` if the buffer is smaller or the
    /// stride out of 16 bytes to 2 KiB.
    pub fn new(
        buffer: QueueBuffer,
        order: Order,
        log_size: u8,
        log_stride: u8,
        signature: bool,
        doorbell_record: u64,
    ) -> Option<ReceiveQueue> {
        if !(4..=MAX_LOG_STRIDE).contains(&log_stride) || log_size > 16 {
            return None;
        }
        if buffer.size() < 1 << (log_size + log_stride) {
            return None;
        }
        Some(ReceiveQueue {
            buffer,
            order,
            log_size,
            log_stride,
            signature,
            doorbell_record,
            consumed: 0,
            producer_seen: 0,
            head: 0,
        })
    }

    /// Empties it, as the reset of its owner does.
    pub fn reset(&mut self) {
        self.consumed = 0;
        self.producer_seen = 0;
        self.head = 0;
    }

    /// Another doorbell record (RST2INIT_QP may repeat it).
    pub fn set_doorbell_record(&mut self, address: u64) {
        self.doorbell_record = address;
    }

    /// WQEs taken so far.
    pub fn consumed(&self) -> u16 {
        self.consumed
    }

    /// WQEs that it has room for.
    pub fn size(&self) -> u32 {
        1 << self.log_size
    }

    /// WQEs posted so far, as far as the doorbell record can be read.
    pub fn posted(&self, mem: &MemoryMap) -> u16 {
        mem.load_be32(self.doorbell_record, Ordering::Acquire)
            .map_or(self.producer_seen, |word| word as u16)
    }

    /// Producer counter in the doorbell record.
    pub fn producer(&mut self, mem: &MemoryMap) -> u16 {
        self.producer_seen = mem
            .load_be32(self.doorbell_record, Ordering::Acquire)
            .map_or(self.consumed, |word| word as u16);
        self.producer_seen
    }

    /// WQEs posted and not yet taken.
    pub fn available(&mut self, mem: &MemoryMap) -> u16 {
        let available = self.producer(mem).wrapping_sub(self.consumed);
        // More than the ring holds is a driver's mistake; then only its size can be meant.
        available.min(
            1u16.checked_shl(u32::from(self.log_size))
                .unwrap_or(u16::MAX),
        )
    }

    /// Takes the next WQE and puts its scatter list into `segs` (cleared first).
    /// `Ok(None)`: nothing is posted.
    pub fn take(
        &mut self,
        mem: &MemoryMap,
        segs: &mut Vec<DataSeg>,
    ) -> Result<Option<Taken>, DmaError> {
        segs.clear();
        if self.producer_seen == self.consumed && self.available(mem) == 0 {
            return Ok(None);
        }
        let mask = ((1u32 << self.log_size) - 1) as u16;
        let (slot, wqe_counter) = match self.order {
            Order::Cyclic => (self.consumed & mask, self.consumed),
            Order::LinkedList => (self.head & mask, self.head),
        };
        let mut wqe = [0u8; 1 << MAX_LOG_STRIDE];
        let wqe = &mut wqe[..1 << self.log_stride];
        self.buffer
            .read(mem, u64::from(slot) << self.log_stride, wqe)?;
        self.consumed = self.consumed.wrapping_add(1);
        trace!(target: "mlx5::wqe", "receive, doorbell record {:#x}: {}", self.doorbell_record, Hex(wqe));
        let mut first = 0;
        if self.order == Order::LinkedList {
            self.head = u16::from_be_bytes([wqe[2], wqe[3]]);
            first = 16;
        }
        if self.signature {
            first += 16;
        }
        let mut capacity = 0;
        for bytes in wqe.get(first..).unwrap_or(&[]).chunks_exact(16) {
            let seg = DataSeg::receive(bytes);
            // A zero count ends the list, whatever lkey it has.
            if seg.len == 0 {
                break;
            }
            capacity += u64::from(seg.len);
            segs.push(seg);
        }
        Ok(Some(Taken {
            wqe_counter,
            capacity,
        }))
    }
}
