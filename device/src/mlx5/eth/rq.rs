//! Receive queues of raw frames. Knows where their WQEs come from, not which frames arrive.

use super::QueueState;
use crate::mlx5::mkey::Accessor;
use crate::mlx5::rq::ReceiveQueue;

/// Where a receive queue's WQEs are.
pub enum Wqes {
    /// Its own.
    Own(ReceiveQueue),
    /// Those of a receive memory pool, by number.
    Rmp(u32),
}

/// A receive queue (`rqc` in use).
pub struct Rq {
    /// `rqc` as created, for QUERY_RQ; the state in it is the one at creation.
    pub context: [u8; 0xf0],
    /// State.
    pub state: QueueState,
    /// Completion queue.
    pub cqn: u32,
    /// Protection domain of its own WQEs.
    pub pd: u32,
    /// `rlky`.
    pub reserved_lkey: bool,
    /// `user_index`.
    pub user_index: u32,
    /// Customer VLAN tags are taken out of the frame (`vsd` is 0).
    pub strip_vlan: bool,
    /// Flushed WQEs get completions.
    pub flush_in_error: bool,
    /// Q counter set, 0 for none.
    pub counter_set: u8,
    /// WQEs.
    pub wqes: Wqes,
}

impl Rq {
    /// Whose memory accesses these are, with its own WQEs.
    pub fn accessor(&self, rqn: u32) -> Accessor {
        Accessor {
            pd: Some(self.pd),
            qpn: rqn,
            reserved_lkey: self.reserved_lkey,
        }
    }
}
