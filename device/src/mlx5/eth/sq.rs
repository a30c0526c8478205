//! Send queues of raw frames: the ring of WQEs in guest memory. Knows nothing of what a WQE asks
//! for.

use std::sync::atomic::Ordering;

use rocinante_dma::MemoryMap;

use super::QueueState;
use crate::mlx5::buffer::QueueBuffer;
use crate::mlx5::mkey::Accessor;
use crate::mlx5::wqe::{self, CtrlSeg, WQEBB};

/// Bytes of the longest WQE: `ds` counts at most 127 units of 16.
pub const MAX_WQE: usize = 0x80 * 16;

/// A send queue (`sqc` in use).
pub struct Sq {
    /// `sqc` as created, for QUERY_SQ; the state in it is the one at creation.
    pub context: [u8; 0xf0],
    /// State.
    pub state: QueueState,
    /// Completion queue.
    pub cqn: u32,
    /// TIS; `None` for a queue that cannot send to the wire (Linux' internal operations).
    pub tisn: Option<u32>,
    /// Protection domain.
    pub pd: u32,
    /// `rlky`.
    pub reserved_lkey: bool,
    /// UMR work requests are allowed (`reg_umr`).
    pub reg_umr: bool,
    /// `user_index`.
    pub user_index: u32,
    /// Flushed WQEs get completions.
    pub flush_in_error: bool,
    /// WQEs.
    pub ring: QueueBuffer,
    /// log2 of the WQEBBs in the ring.
    pub log_size: u8,
    /// Doorbell record, send counter in its second word.
    pub doorbell_record: u64,
    /// WQEBBs consumed, modulo 2^16.
    pub consumer: u16,
    /// It stopped for others to have their turn.
    pub waiting: bool,
}

/// A WQE at the head of the queue.
pub struct Fetched {
    /// Control segment.
    pub ctrl: CtrlSeg,
    /// Bytes, of the buffer given.
    pub len: usize,
    /// Index of its first WQEBB.
    pub index: u16,
    /// The producer's index when it was fetched.
    pub producer: u16,
    blocks: u16,
}

/// The queue cannot be followed: its length makes no sense or it is not in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRing;

impl Sq {
    /// Whose memory accesses these are.
    pub fn accessor(&self, sqn: u32) -> Accessor {
        Accessor {
            pd: Some(self.pd),
            qpn: sqn,
            reserved_lkey: self.reserved_lkey,
        }
    }

    /// Producer index in the doorbell record.
    pub fn producer(&self, mem: &MemoryMap) -> u16 {
        let address = self.doorbell_record.wrapping_add(4);
        mem.load_be32(address, Ordering::Acquire)
            .map_or(self.consumer, |word| word as u16)
    }

    /// Reads the next WQE into `wqe`, if one is there, up to `producer`.
    pub fn fetch(
        &self,
        mem: &MemoryMap,
        producer: u16,
        wqe: &mut [u8; MAX_WQE],
    ) -> Result<Option<Fetched>, BadRing> {
        let available = producer.wrapping_sub(self.consumer);
        if available == 0 {
            return Ok(None);
        }
        if u32::from(available) > 1 << self.log_size {
            return Err(BadRing);
        }
        self.read(mem, 0, &mut wqe[..WQEBB])?;
        let ctrl = wqe::control(wqe).map_err(|_| BadRing)?;
        let len = ctrl.ds() * 16;
        let blocks = len.div_ceil(WQEBB) as u16;
        if blocks == 0 || blocks > available {
            return Err(BadRing);
        }
        if let Some(rest) = wqe.get_mut(WQEBB..len) {
            self.read(mem, WQEBB as u64, rest)?;
        }
        Ok(Some(Fetched {
            ctrl,
            len,
            index: self.consumer,
            producer,
            blocks,
        }))
    }

    /// Goes past a WQE.
    pub fn consume(&mut self, wqe: &Fetched) {
        self.consumer = wqe.index.wrapping_add(wqe.blocks);
    }

    /// Reads at `offset` behind the consumer; the ring may wrap there.
    fn read(&self, mem: &MemoryMap, offset: u64, out: &mut [u8]) -> Result<(), BadRing> {
        let size = (WQEBB as u64) << self.log_size;
        let at = (u64::from(self.consumer) * WQEBB as u64 + offset) & (size - 1);
        let first = out.len().min((size - at) as usize);
        let (first, second) = out.split_at_mut(first);
        self.ring.read(mem, at, first).map_err(|_| BadRing)?;
        // No WQE is longer than the producer allows, so it does not wrap twice.
        self.ring.read(mem, 0, second).map_err(|_| BadRing)
    }
}
