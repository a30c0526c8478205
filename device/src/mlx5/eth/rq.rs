//! Receive queues of raw frames. Knows where their WQEs come from, not which frames arrive.

use super::striding::Striding;
use super::{NO_USER_INDEX, QueueState};
use crate::mlx5::mkey::Accessor;
use crate::mlx5::rq::ReceiveQueue;

/// Where a receive queue's WQEs are.
pub enum Wqes {
    /// Its own, one for each packet.
    Own(ReceiveQueue),
    /// Its own, each for many packets.
    Striding(Striding),
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
    /// The frame check sequence is received too.
    pub scatter_fcs: bool,
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

    /// What its completions carry as user index, or else as number of the pool.
    pub fn owner(&self) -> u32 {
        match (&self.wqes, self.user_index) {
            (Wqes::Rmp(rmpn), NO_USER_INDEX) => *rmpn,
            (_, NO_USER_INDEX) => 0,
            (_, user_index) => user_index,
        }
    }

    /// The queue of its own WQEs.
    pub fn own_queue(&mut self) -> Option<&mut ReceiveQueue> {
        match &mut self.wqes {
            Wqes::Own(queue) => Some(queue),
            Wqes::Striding(striding) => Some(&mut striding.queue),
            Wqes::Rmp(_) => None,
        }
    }

    /// Forgets what was posted, as the transition to reset does.
    pub fn reset(&mut self) {
        match &mut self.wqes {
            Wqes::Own(queue) => queue.reset(),
            Wqes::Striding(striding) => striding.reset(),
            Wqes::Rmp(_) => {}
        }
    }
}
