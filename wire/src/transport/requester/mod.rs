//! The RC (and XRC) requester, IBTA 9.7: work requests in, request packets out; responses in,
//! completions out.
//!
//! It knows PSNs, timers and retries. It knows neither where payload is nor what a WQE looks
//! like: a work request is an operation, a length and a cookie.
//!
//! One rule carries most of it: `una`, the oldest PSN without an answer, always lies in the
//! request at the head of the queue, and every kind of recovery resumes there.

mod response;
mod transmit;

pub(super) use transmit::segment;

use std::collections::VecDeque;
use std::ops::Range;

use super::config::{Counter, RcParams, WcError};
use super::host::RequesterHost;
use crate::opcode::{Op, Opcode};
use crate::packet::Packet;
use crate::psn::Psn;
use crate::time::Time;

/// The operation of a send work request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the standard's
pub enum SendOp {
    Send,
    SendImm(u32),
    SendInv(u32),
    Write {
        va: u64,
        rkey: u32,
    },
    WriteImm {
        va: u64,
        rkey: u32,
        imm: u32,
    },
    Read {
        va: u64,
        rkey: u32,
    },
    CompareSwap {
        va: u64,
        rkey: u32,
        compare: u64,
        swap: u64,
    },
    FetchAdd {
        va: u64,
        rkey: u32,
        add: u64,
    },
    /// Sends nothing (NOP, UMR, local invalidate, a WQE the host refuses): the host executes
    /// it when its turn comes, and it completes or fails in order with the others.
    Local,
}

/// What a work request waits for before it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fence {
    /// Its turn in transmission.
    #[default]
    None,
    /// Completion of all earlier READs and ATOMICs.
    ReadAtomic,
    /// Completion of everything earlier.
    All,
}

/// A send work request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendWr {
    /// What to do.
    pub op: SendOp,
    /// Message length in bytes; ATOMICs and local operations ignore it.
    pub len: u32,
    /// The host's name for it, opaque here; unique among those outstanding.
    pub cookie: u32,
    /// Solicited event.
    pub solicited: bool,
    /// Ordering against earlier requests.
    pub fence: Fence,
    /// XRC SRQ number at the peer (XRC only).
    pub xrc_srqn: Option<u32>,
}

/// A packet to send, with the part of its message that is its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxPacket<'a> {
    /// Headers.
    pub packet: &'a Packet,
    /// Work request it belongs to.
    pub cookie: u32,
    /// Bytes of the message that are the payload.
    pub payload: Range<u32>,
    /// Sent before.
    pub retransmission: bool,
}

/// The send queue has no room (or does not run).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("send queue full or not running")]
pub struct Full;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Stopped,
    Running,
    Failed,
}

#[derive(Clone, Debug)]
struct Entry {
    wr: SendWr,
    first: Psn,
    /// PSNs it uses; 0 for local operations and requests refused for their length.
    packets: u32,
    error: Option<WcError>,
    executed: bool,
}

impl Entry {
    fn wants_response(&self) -> bool {
        matches!(
            self.wr.op,
            SendOp::Read { .. } | SendOp::CompareSwap { .. } | SendOp::FetchAdd { .. }
        )
    }
}

/// The requester half of an RC or XRC queue pair.
#[derive(Debug)]
pub struct Requester {
    params: RcParams,
    /// The packet polled last, made in place: packets are large.
    packet: Packet,
    state: State,
    depth: usize,
    queue: VecDeque<Entry>,
    /// Index in `queue` of the request being transmitted.
    cursor: usize,
    /// PSN of the next request to be posted.
    post_psn: Psn,
    /// Oldest PSN not acknowledged.
    una: Psn,
    /// Next PSN to transmit.
    nxt: Psn,
    /// One beyond the newest PSN ever transmitted.
    max: Psn,
    /// READs and ATOMICs in `una..nxt`.
    rd_outstanding: u32,
    /// PSNs in `una..nxt` that belong to READs.
    rd_psns: u32,
    since_ack_req: u32,
    retry_left: u8,
    rnr_left: u8,
    ack_deadline: Option<Time>,
    rnr_until: Option<Time>,
    /// `una` when a NAK last made us go back: a second NAK for it brings nothing new.
    nak_served: Option<Psn>,
    ssn: u32,
}

impl Requester {
    /// A stopped requester that will hold at most `depth` work requests at a time.
    #[must_use]
    pub fn new(depth: usize) -> Requester {
        let params = RcParams::default();
        Requester {
            params,
            packet: header(&params, Psn::default()),
            state: State::Stopped,
            depth,
            queue: VecDeque::new(),
            cursor: 0,
            post_psn: Psn::default(),
            una: Psn::default(),
            nxt: Psn::default(),
            max: Psn::default(),
            rd_outstanding: 0,
            rd_psns: 0,
            since_ack_req: 0,
            retry_left: 0,
            rnr_left: 0,
            ack_deadline: None,
            rnr_until: None,
            nak_served: None,
            ssn: 0,
        }
    }

    /// RTR to RTS: starts with an empty queue at `psn`.
    pub fn configure_rts(&mut self, psn: Psn, params: &RcParams) {
        self.reset();
        self.params = params.sanitized();
        self.post_psn = psn;
        self.una = psn;
        self.nxt = psn;
        self.max = psn;
        self.retry_left = self.params.retry_count;
        self.rnr_left = self.params.rnr_retry;
        self.queue.reserve_exact(self.depth);
        self.state = State::Running;
    }

    /// To RESET: forgets everything.
    pub fn reset(&mut self) {
        self.queue.clear();
        self.stop(State::Stopped);
        let psn = Psn::default();
        (self.post_psn, self.una, self.nxt, self.max) = (psn, psn, psn, psn);
        self.rewind();
        self.nak_served = None;
        self.ssn = 0;
    }

    /// To ERROR: stops and hands over, in posting order, the cookies of all work requests that
    /// neither completed nor failed.
    pub fn flush(&mut self, mut flushed: impl FnMut(u32)) {
        self.stop(State::Failed);
        while let Some(entry) = self.queue.pop_front() {
            flushed(entry.wr.cookie);
        }
        self.cursor = 0;
    }

    /// Whether `post` will succeed.
    #[must_use]
    pub fn can_post(&self) -> bool {
        self.state == State::Running && self.queue.len() < self.depth
    }

    /// Appends a work request. A message that is too long fails in its turn.
    pub fn post(&mut self, wr: SendWr) -> Result<(), Full> {
        if !self.can_post() {
            return Err(Full);
        }
        let mut error = None;
        let packets = match wr.op {
            SendOp::Local => 0,
            SendOp::CompareSwap { .. } | SendOp::FetchAdd { .. } => 1,
            _ if wr.len > self.params.max_message() => {
                error = Some(WcError::LocalLength);
                0
            }
            _ => self.params.packets(wr.len),
        };
        self.queue.push_back(Entry {
            wr,
            first: self.post_psn,
            packets,
            error,
            executed: false,
        });
        self.post_psn = self.post_psn.add(packets);
        Ok(())
    }

    /// The payload of the packet last polled for `cookie` cannot be had. The work request
    /// fails with `err` once its predecessors completed, and nothing from it on is sent.
    pub fn fail_local<H: RequesterHost>(&mut self, cookie: u32, err: WcError, host: &mut H) {
        let polled = self.cursor.saturating_add(1).min(self.queue.len());
        let found = self
            .queue
            .iter()
            .take(polled)
            .rposition(|entry| entry.wr.cookie == cookie);
        let Some(index) = found else { return };
        if let Some(entry) = self.queue.get_mut(index) {
            entry.error.get_or_insert(err);
        }
        self.cursor = self.cursor.min(index);
        self.settle(host);
    }

    /// When `handle_timeout` wants to be called.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        match (self.rnr_until, self.ack_deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The parameters in force.
    #[must_use]
    pub fn params(&self) -> &RcParams {
        &self.params
    }

    /// Accepts and sends work requests.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// A work request failed or the queue was flushed.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.state == State::Failed
    }

    /// Nothing is posted that did not complete.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// PSN of the next packet never sent before (qpc.next_send_psn).
    #[must_use]
    pub fn next_send_psn(&self) -> Psn {
        self.max
    }

    /// The newest acknowledged PSN (qpc.last_acked_psn).
    #[must_use]
    pub fn last_acked_psn(&self) -> Psn {
        self.una.prev()
    }

    /// Messages started, 24 bits (qpc.ssn).
    #[must_use]
    pub fn ssn(&self) -> u32 {
        self.ssn
    }

    /// Retries and RNR retries that are left before the oldest request fails.
    #[must_use]
    pub fn retries_left(&self) -> (u8, u8) {
        (self.retry_left, self.rnr_left)
    }

    /// Cookies not completed, oldest first.
    pub fn outstanding(&self) -> impl Iterator<Item = u32> + '_ {
        self.queue.iter().map(|entry| entry.wr.cookie)
    }

    fn stop(&mut self, state: State) {
        self.state = state;
        self.ack_deadline = None;
        self.rnr_until = None;
    }

    /// Back to the oldest unanswered packet.
    fn rewind(&mut self) {
        self.cursor = 0;
        self.nxt = self.una;
        self.rd_outstanding = 0;
        self.rd_psns = 0;
        self.since_ack_req = 0;
    }

    /// Restarts the transport timer if anything waits for an answer.
    fn restart_timer(&mut self, now: Time) {
        self.ack_deadline = match self.params.ack_timeout() {
            Some(timeout) if self.una != self.max => Some(now + timeout),
            _ => None,
        };
    }

    /// Takes finished local operations and failed requests off the head.
    fn settle<H: RequesterHost>(&mut self, host: &mut H) {
        while let Some(head) = self.queue.front() {
            if let Some(err) = head.error {
                self.fail(err, host);
                return;
            }
            if !head.executed {
                return;
            }
            self.pop_completed(host);
        }
    }

    fn pop_completed<H: RequesterHost>(&mut self, host: &mut H) {
        let Some(head) = self.queue.pop_front() else {
            return;
        };
        // Both are zero already if the request was rewound and not sent again yet.
        self.cursor = self.cursor.saturating_sub(1);
        if head.wants_response() {
            self.rd_outstanding = self.rd_outstanding.saturating_sub(1);
        }
        host.completed(head.wr.cookie);
    }

    /// The head of the queue fails and with it the queue.
    fn fail<H: RequesterHost>(&mut self, err: WcError, host: &mut H) {
        self.stop(State::Failed);
        let counter = match err {
            WcError::LocalLength => Some(Counter::ReqLocalLengthError),
            WcError::LocalQpOp => Some(Counter::LocalOperationError),
            WcError::LocalProtection | WcError::LocalAccess => Some(Counter::ReqLocalProtection),
            WcError::WrFlush => None,
            WcError::MwBind => Some(Counter::ReqMwBinding),
            WcError::BadResponse => Some(Counter::ReqBadResponse),
            WcError::RemoteInvalidRequest => Some(Counter::ReqRemoteInvalidRequest),
            WcError::RemoteAccess => Some(Counter::ReqRemoteAccessErrors),
            WcError::RemoteOperation => Some(Counter::ReqRemoteOperationErrors),
            WcError::RetryExceeded => Some(Counter::ReqTransportRetriesExceeded),
            WcError::RnrRetryExceeded => Some(Counter::ReqRnrRetriesExceeded),
        };
        if let Some(counter) = counter {
            host.count(counter);
        }
        if let Some(head) = self.queue.pop_front() {
            self.cursor = self.cursor.saturating_sub(1);
            host.failed(head.wr.cookie, err, err.vendor_syndrome());
        }
    }
}

/// What all packets of a connection have in common.
#[inline]
pub(super) fn header(params: &RcParams, psn: Psn) -> Packet {
    Packet {
        mig_req: params.mig_req,
        pkey: params.pkey,
        dest_qp: params.remote_qpn,
        psn,
        ..Packet::new(Opcode::Ib(params.service, Op::SendOnly))
    }
}
