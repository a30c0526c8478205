//! Queues in guest memory: how far each end is.

use std::sync::atomic::Ordering;

use rocinante_dma::MemoryMap;
use serde::Serialize;

use crate::mlx5::cq::Cq;
use crate::mlx5::eq::Eq;
use crate::mlx5::eth::QueueState;
use crate::mlx5::eth::rq::{Rq, Wqes};
use crate::mlx5::eth::sq::Sq;
use crate::mlx5::qp::SendRing;
use crate::mlx5::rq::ReceiveQueue;
use crate::mlx5::srq::{Srq, SrqKind};

/// A work queue: running counters of 16 bits, of basic blocks (64 bytes) for a send queue, of
/// WQEs for a receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Work {
    /// What fits.
    pub size: u32,
    /// What the driver posted, by its doorbell record.
    pub posted: u16,
    /// What the device took.
    pub consumed: u16,
}

impl Work {
    pub(super) fn of_send(ring: &SendRing, doorbell_record: u64, mem: &MemoryMap) -> Work {
        Work {
            size: 1 << ring.log_size,
            posted: send_counter(mem, doorbell_record).unwrap_or(ring.producer),
            consumed: ring.consumer,
        }
    }

    pub(super) fn of_receive(queue: &ReceiveQueue, mem: &MemoryMap) -> Work {
        Work {
            size: queue.size(),
            posted: queue.posted(mem),
            consumed: queue.consumed(),
        }
    }
}

/// The second word of a doorbell record.
fn send_counter(mem: &MemoryMap, doorbell_record: u64) -> Option<u16> {
    let at = doorbell_record.wrapping_add(4);
    let word = mem.load_be32(at, Ordering::Acquire).ok()?;
    Some(word as u16)
}

/// A completion queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CqInfo {
    /// Number.
    pub cqn: u32,
    /// EQ of its events.
    pub eqn: u32,
    /// Entries.
    pub size: u32,
    /// Producer index, of 24 bits.
    pub producer: u32,
    /// Consumer index in the doorbell record.
    pub consumer: u32,
    /// `no`, `next` or `solicited`.
    pub armed: &'static str,
    /// It ran over.
    pub overrun: bool,
}

impl CqInfo {
    pub(super) fn of(cqn: u32, cq: &Cq, mem: &MemoryMap) -> CqInfo {
        CqInfo {
            cqn,
            eqn: cq.eqn,
            size: 1 << cq.log_size(),
            producer: cq.producer(),
            consumer: cq.consumer(mem),
            armed: match cq.st() {
                6 => "solicited",
                9 => "next",
                _ => "no",
            },
            overrun: cq.status() != 0,
        }
    }
}

/// An event queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EqInfo {
    /// Number.
    pub eqn: u32,
    /// MSI-X vector.
    pub vector: u16,
    /// Entries.
    pub size: u32,
    /// Producer index, of 24 bits.
    pub producer: u32,
    /// Consumer index as last rung.
    pub consumer: u32,
    /// The next event interrupts.
    pub armed: bool,
    /// Events that find no room.
    pub waiting: usize,
}

impl EqInfo {
    pub(super) fn of(eqn: u32, eq: &Eq) -> EqInfo {
        EqInfo {
            eqn,
            vector: eq.vector,
            size: 1 << eq.log_size,
            producer: eq.producer(),
            consumer: eq.consumer(),
            armed: eq.armed(),
            waiting: eq.waiting(),
        }
    }
}

/// A shared receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SrqInfo {
    /// Number.
    pub srqn: u32,
    /// `basic`, `xrc` or `rmp`.
    pub kind: &'static str,
    /// Protection domain.
    pub pd: u32,
    /// Its WQEs.
    pub work: Work,
    /// The limit that is armed, 0 for none.
    pub limit: u16,
    /// It could not be read and gives nothing any more.
    pub error: bool,
}

impl SrqInfo {
    pub(super) fn of(srqn: u32, srq: &Srq, mem: &MemoryMap) -> SrqInfo {
        SrqInfo {
            srqn,
            kind: match srq.kind {
                SrqKind::Basic => "basic",
                SrqKind::Xrc => "xrc",
                SrqKind::Rmp => "rmp",
            },
            pd: srq.pd,
            work: Work::of_receive(&srq.queue, mem),
            limit: srq.limit,
            error: srq.error,
        }
    }
}

/// A queue of raw frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct QueueInfo {
    /// Number, of one space with those of QPs.
    pub number: u32,
    /// `RST`, `RDY` or `ERR`.
    pub state: &'static str,
    /// Protection domain.
    pub pd: u32,
    /// CQ.
    pub cqn: u32,
    /// Its WQEs; those of an RMP are the RMP's.
    pub work: Option<Work>,
}

fn state(state: QueueState) -> &'static str {
    match state {
        QueueState::Reset => "RST",
        QueueState::Ready => "RDY",
        QueueState::Error => "ERR",
    }
}

impl QueueInfo {
    pub(super) fn of_sq(number: u32, sq: &Sq, mem: &MemoryMap) -> QueueInfo {
        QueueInfo {
            number,
            state: state(sq.state),
            pd: sq.pd,
            cqn: sq.cqn,
            work: Some(Work {
                size: 1 << sq.log_size,
                posted: send_counter(mem, sq.doorbell_record).unwrap_or(sq.consumer),
                consumed: sq.consumer,
            }),
        }
    }

    pub(super) fn of_rq(number: u32, rq: &Rq, mem: &MemoryMap) -> QueueInfo {
        let queue = match &rq.wqes {
            Wqes::Own(queue) => Some(queue),
            Wqes::Striding(striding) => Some(&striding.queue),
            Wqes::Rmp(_) => None,
        };
        QueueInfo {
            number,
            state: state(rq.state),
            pd: rq.pd,
            cqn: rq.cqn,
            work: queue.map(|queue| Work::of_receive(queue, mem)),
        }
    }
}
