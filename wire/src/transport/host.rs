//! What the state machines ask of whoever owns memory and queues. Called synchronously while
//! a packet is handled, so the host knows which frame's payload is meant.

use super::config::{Counter, RemoteFault, WcError};

/// The requester's side: send queue and local buffers.
pub trait RequesterHost {
    /// Puts the current READ response's payload (`len` bytes, never 0) at `offset` of the
    /// local buffers of work request `cookie`.
    fn place_response(&mut self, cookie: u32, offset: u32, len: u32) -> Result<(), WcError>;
    /// Stores the value an ATOMIC found, in the numeric form of the wire header.
    fn atomic_result(&mut self, cookie: u32, original: u64) -> Result<(), WcError>;
    /// Runs a [`SendOp::Local`](super::SendOp::Local) request whose turn and fence have come.
    fn execute_local(&mut self, cookie: u32) -> Result<(), WcError>;
    /// A work request is done. Called in posting order, once each.
    fn completed(&mut self, cookie: u32);
    /// The first work request to fail, after all its predecessors completed. The queue pair
    /// goes to error and flushes what [`flush`](super::Requester::flush) still lists.
    /// `vendor` is the vendor syndrome usual beside `err`.
    fn failed(&mut self, cookie: u32, err: WcError, vendor: u8);
    /// Advances a Q counter.
    fn count(&mut self, counter: Counter);
}

/// A remote access right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// RDMA READ.
    Read,
    /// RDMA WRITE.
    Write,
}

/// An atomic operation on eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtomicOp {
    /// Store `swap` if the value equals `compare`.
    CompareSwap {
        /// Expected value.
        compare: u64,
        /// New value.
        swap: u64,
    },
    /// Add modulo 2^64.
    FetchAdd {
        /// Addend.
        add: u64,
    },
}

/// Whether a receive WQE could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Begin {
    /// One was taken from the receive queue.
    Ready,
    /// The queue is empty: RNR NAK.
    NotReady,
    /// The packet names no usable receive queue (XRC SRQ number unknown or of another
    /// domain): NAK invalid request.
    Invalid,
}

/// What filled a receive WQE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecvKind {
    /// SEND.
    Send,
    /// SEND with immediate data.
    SendImm(u32),
    /// SEND with invalidate of this R_Key.
    SendInv(u32),
    /// WRITE with immediate data.
    WriteImm(u32),
}

/// A finished receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecvDone {
    /// Bytes of the message.
    pub byte_len: u32,
    /// What it was.
    pub kind: RecvKind,
    /// The solicited event bit of the last packet.
    pub solicited: bool,
}

/// The responder's side: remote memory access and receive queue.
pub trait ResponderHost {
    /// May the peer access `len` bytes (never 0) at `va`? Asked once at the start of a WRITE
    /// message and for each READ request.
    fn check_remote(
        &mut self,
        rkey: u32,
        va: u64,
        len: u32,
        access: Access,
    ) -> Result<(), RemoteFault>;
    /// Puts the current packet's payload (`len` bytes, never 0) at `va`.
    fn place_remote(&mut self, rkey: u32, va: u64, len: u32) -> Result<(), RemoteFault>;
    /// Checks and executes an atomic at the 8-byte aligned `va`; returns the value found.
    fn atomic(&mut self, rkey: u32, va: u64, op: AtomicOp) -> Result<u64, RemoteFault>;
    /// Takes a WQE from the receive queue (or the XRC SRQ named) and holds it until
    /// `complete_receive` or `fail_receive`. An error means a WQE was taken but is unusable;
    /// `fail_receive` follows.
    fn begin_receive(&mut self, xrc_srqn: Option<u32>) -> Result<Begin, WcError>;
    /// Puts the current packet's payload (`len` bytes, never 0) at `offset` of the held WQE.
    /// `LocalLength` if it does not fit, `LocalProtection` for a bad lkey.
    fn place_receive(&mut self, offset: u32, len: u32) -> Result<(), WcError>;
    /// The held WQE is done.
    fn complete_receive(&mut self, done: RecvDone);
    /// The held WQE ends with an error completion.
    fn fail_receive(&mut self, err: WcError);
    /// UC only: the message in progress was lost; the held WQE is kept and will be filled
    /// from its start by the next message without another `begin_receive`.
    fn rewind_receive(&mut self);
    /// SEND with invalidate: invalidates `rkey`.
    fn invalidate(&mut self, rkey: u32) -> Result<(), RemoteFault>;
    /// The first request was accepted since the responder was configured. An event only while
    /// the queue pair is still in RTR.
    fn communication_established(&mut self);
    /// Advances a Q counter.
    fn count(&mut self, counter: Counter);
}
