//! Ethernet: send and receive queues of raw frames, the transport interfaces between them and the
//! wire, offloads and receive steering.
//!
//! [`run_sq`] turns a doorbell into frames, [`receive`] turns a frame into completions. RoCE
//! frames never come here.

pub mod checksum;
pub mod headers;
pub mod loopback;
pub mod lro;
mod packet;
mod place;
pub mod rq;
pub mod rss;
mod rx;
pub mod segment;
pub mod sq;
pub mod steering;
pub mod striding;
pub mod tir;
mod tx;

#[cfg(test)]
mod tests;

pub use place::{fail_rq, flush_rq};
pub use rx::receive;
pub use tx::{flush_sq, resume, run_sq};

use std::collections::VecDeque;

use loopback::Loops;
use rq::Rq;
use sq::Sq;
use steering::Steering;
use tir::{Rqt, Tir, Tis};

use serde::Serialize;

use super::core::NicFrame;
use super::table::{Numbers, Table};
use super::wqe::DataSeg;

/// State of an SQ or RQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueState {
    /// Nothing is consumed.
    Reset = 0,
    /// Works.
    Ready = 1,
    /// WQEs are flushed.
    Error = 3,
}

impl QueueState {
    /// The state in a context; `None` for a number that is no state.
    pub fn from_bits(bits: u8) -> Option<QueueState> {
        match bits {
            0 => Some(QueueState::Reset),
            1 => Some(QueueState::Ready),
            3 => Some(QueueState::Error),
            _ => None,
        }
    }

    /// Whether a modify command may lead from this state to `next`.
    pub fn may_become(self, next: QueueState) -> bool {
        next != QueueState::Ready || self != QueueState::Error
    }
}

/// Completion syndromes of Ethernet queues, with the vendor syndrome usual beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Syndrome of the error CQE.
    pub syndrome: u8,
    /// Vendor syndrome.
    pub vendor: u8,
}

impl Fault {
    /// A frame that does not fit.
    pub const LENGTH: Fault = Fault {
        syndrome: 0x01,
        vendor: 0x68,
    };
    /// A WQE that makes no sense.
    pub const OPERATION: Fault = Fault {
        syndrome: 0x02,
        vendor: 0x69,
    };
    /// Memory that may not be accessed.
    pub const PROTECTION: Fault = Fault {
        syndrome: 0x04,
        vendor: 0x51,
    };
    /// Flushed because of an earlier error.
    pub const FLUSH: Fault = Fault {
        syndrome: 0x05,
        vendor: 0xf9,
    };
}

/// `user_index` of an object that has none.
const NO_USER_INDEX: u32 = 0xff_ffff;

/// Frames that the adapter dropped, by reason (`vnic_diagnostic_statistics`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Discards {
    /// No flow table entry said where to.
    pub nic_receive_steering_discard: u64,
    /// Received while the link was down for the driver.
    pub receive_discard_vport_down: u64,
    /// Sent while the link was down.
    pub transmit_discard_vport_down: u64,
}

/// All Ethernet objects.
pub struct Eth {
    /// Send queues; numbers are the queues' common ones.
    pub sqs: Table<Sq>,
    /// Receive queues, likewise.
    pub rqs: Table<Rq>,
    /// Receive queue tables.
    pub rqts: Table<Rqt>,
    /// Numbers of receive queue tables.
    pub rqt_numbers: Numbers,
    /// Transport interfaces, receive.
    pub tirs: Table<Tir>,
    /// Numbers of TIRs.
    pub tir_numbers: Numbers,
    /// Transport interfaces, send.
    pub tiss: Table<Tis>,
    /// Numbers of TISs.
    pub tis_numbers: Numbers,
    /// Flow tables.
    pub steering: Steering,
    /// Dropped frames.
    pub discards: Discards,
    /// UDP ports of VXLAN.
    pub vxlan_ports: Vec<u16>,
    /// Which of its own frames TIRs want.
    pub loops: Loops,
    /// Frames on their way back.
    looped: VecDeque<NicFrame>,
    /// Send queues that stopped with work left.
    pub waiting: VecDeque<u32>,
    /// Absent while it is used.
    tx: Option<Box<tx::Scratch>>,
    rx: rx::Scratch,
    /// What is being merged.
    lro: lro::Sessions,
    /// Scatter list of what is delivered without a frame arriving.
    lro_segs: Vec<DataSeg>,
}

impl Eth {
    /// None.
    pub fn new() -> Eth {
        Eth {
            sqs: Table::default(),
            rqs: Table::default(),
            rqts: Table::default(),
            // `log_max_rqt`, `log_max_tir` and `log_max_tis` are 12.
            rqt_numbers: Numbers::new(1, 1 << 12),
            tirs: Table::default(),
            tir_numbers: Numbers::new(1, 1 << 12),
            tiss: Table::default(),
            tis_numbers: Numbers::new(1, 1 << 12),
            steering: Steering::default(),
            discards: Discards::default(),
            vxlan_ports: Vec::new(),
            loops: Loops::default(),
            looped: VecDeque::new(),
            waiting: VecDeque::new(),
            tx: None,
            rx: rx::Scratch::default(),
            lro: lro::Sessions::default(),
            lro_segs: Vec::new(),
        }
    }
}

impl Default for Eth {
    fn default() -> Self {
        Self::new()
    }
}
