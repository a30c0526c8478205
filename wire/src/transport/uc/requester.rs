//! The UC requester: a work request is done when its last packet is handed out.

use std::collections::VecDeque;

use crate::opcode::Opcode;
use crate::packet::Packet;
use crate::psn::Psn;
use crate::transport::config::{Counter, RcParams, WcError};
use crate::transport::host::RequesterHost;
use crate::transport::requester::{Full, SendOp, SendWr, TxPacket, header, segment};

/// The requester half of a UC queue pair.
#[derive(Debug)]
pub struct UcRequester {
    params: RcParams,
    /// The packet polled last.
    packet: Packet,
    running: bool,
    failed: bool,
    depth: usize,
    queue: VecDeque<SendWr>,
    /// Packets of the head already handed out.
    sent: u32,
    psn: Psn,
}

impl UcRequester {
    /// A stopped requester that will hold at most `depth` work requests at a time.
    #[must_use]
    pub fn new(depth: usize) -> UcRequester {
        let params = RcParams::default();
        UcRequester {
            params,
            packet: header(&params, Psn::default()),
            running: false,
            failed: false,
            depth,
            queue: VecDeque::new(),
            sent: 0,
            psn: Psn::default(),
        }
    }

    /// RTR to RTS: starts with an empty queue at `psn`.
    pub fn configure_rts(&mut self, psn: Psn, params: &RcParams) {
        self.reset();
        self.params = params.sanitized();
        self.psn = psn;
        self.queue.reserve_exact(self.depth);
        self.running = true;
    }

    /// To RESET: forgets everything.
    pub fn reset(&mut self) {
        self.running = false;
        self.failed = false;
        self.queue.clear();
        self.sent = 0;
        self.psn = Psn::default();
    }

    /// To ERROR: stops and hands over, in posting order, the cookies of all work requests that
    /// neither completed nor failed.
    pub fn flush(&mut self, mut flushed: impl FnMut(u32)) {
        self.running = false;
        self.failed = true;
        while let Some(wr) = self.queue.pop_front() {
            flushed(wr.cookie);
        }
    }

    /// Whether `post` will succeed.
    #[must_use]
    pub fn can_post(&self) -> bool {
        self.running && self.queue.len() < self.depth
    }

    /// Appends a work request. One that UC cannot carry fails in its turn.
    pub fn post(&mut self, wr: SendWr) -> Result<(), Full> {
        if !self.can_post() {
            return Err(Full);
        }
        self.queue.push_back(wr);
        Ok(())
    }

    /// The next packet to send. A work request completes when it is polled again after its
    /// last packet, so poll until `None`.
    pub fn poll_transmit<H: RequesterHost>(&mut self, host: &mut H) -> Option<TxPacket<'_>> {
        while self.running {
            let wr = *self.queue.front()?;
            let refused = match wr.op {
                SendOp::Local => host.execute_local(wr.cookie).err(),
                SendOp::Read { .. }
                | SendOp::CompareSwap { .. }
                | SendOp::FetchAdd { .. }
                | SendOp::SendInv(_) => Some(WcError::LocalQpOp),
                _ if wr.len > self.params.max_message() => Some(WcError::LocalLength),
                _ => None,
            };
            if let Some(err) = refused {
                self.fail(err, host);
                return None;
            }
            let packets = match wr.op {
                SendOp::Local => 0,
                _ => self.params.packets(wr.len),
            };
            if self.sent < packets {
                return Some(self.transmit(&wr, packets));
            }
            self.queue.pop_front();
            self.sent = 0;
            host.completed(wr.cookie);
        }
        None
    }

    fn transmit(&mut self, wr: &SendWr, packets: u32) -> TxPacket<'_> {
        let index = self.sent;
        let packet = &mut self.packet;
        *packet = header(&self.params, self.psn);
        let op = segment(wr, index == 0, index + 1 == packets, packet);
        let start = index.saturating_mul(self.params.mtu).min(wr.len);
        let end = start.saturating_add(self.params.mtu).min(wr.len);
        packet.opcode = Opcode::Ib(self.params.service, op);
        packet.payload_len = end - start;
        self.psn = self.psn.add(1);
        self.sent += 1;
        TxPacket {
            packet: &self.packet,
            cookie: wr.cookie,
            payload: start..end,
            retransmission: false,
        }
    }

    /// The payload of the packet last polled for `cookie` cannot be had.
    pub fn fail_local<H: RequesterHost>(&mut self, cookie: u32, err: WcError, host: &mut H) {
        if self.running && self.queue.front().is_some_and(|wr| wr.cookie == cookie) {
            self.fail(err, host);
        }
    }

    fn fail<H: RequesterHost>(&mut self, err: WcError, host: &mut H) {
        self.running = false;
        self.failed = true;
        host.count(match err {
            WcError::LocalLength => Counter::ReqLocalLengthError,
            WcError::LocalProtection => Counter::ReqLocalProtection,
            WcError::MwBind => Counter::ReqMwBinding,
            _ => Counter::LocalOperationError,
        });
        if let Some(wr) = self.queue.pop_front() {
            host.failed(wr.cookie, err, err.vendor_syndrome());
        }
    }

    /// Accepts and sends work requests.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// A work request failed or the queue was flushed.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.failed
    }

    /// Nothing is posted that did not complete.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// PSN of the next packet (qpc.next_send_psn).
    #[must_use]
    pub fn next_send_psn(&self) -> Psn {
        self.psn
    }

    /// Cookies not completed, oldest first.
    pub fn outstanding(&self) -> impl Iterator<Item = u32> + '_ {
        self.queue.iter().map(|wr| wr.cookie)
    }
}
