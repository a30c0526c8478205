//! Shared receive queues: SRQ (ISSI 0), XRC SRQ and RMP, which share one number space because
//! QPs name them in one field.

use super::rq::ReceiveQueue;

/// Which command made it; the numbers are of one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrqKind {
    /// CREATE_SRQ.
    Basic,
    /// CREATE_XRC_SRQ.
    Xrc,
    /// CREATE_RMP.
    Rmp,
}

/// A shared receive queue.
pub struct Srq {
    /// What it is.
    pub kind: SrqKind,
    /// WQEs.
    pub queue: ReceiveQueue,
    /// Protection domain of its scatter lists.
    pub pd: u32,
    /// CQ of an XRC SRQ; others complete on the QP's.
    pub cqn: u32,
    /// XRC domain of an XRC SRQ.
    pub xrcd: u32,
    /// Reserved lkey may be used.
    pub reserved_lkey: bool,
    /// `user_index`, 0xffffff for none.
    pub user_index: u32,
    /// Limit: the event fires once when fewer WQEs are available; 0 is unarmed.
    pub limit: u16,
    /// Could not be read: gives no WQE any more.
    pub error: bool,
    /// The context as the driver created it, for the query commands.
    pub context: Vec<u8>,
}
