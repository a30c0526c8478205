//! The receiving side of the requester: acknowledgements, READ and ATOMIC responses, NAKs and
//! the two timers. IBTA 9.7.5.2 and 9.7.7 to 9.7.9.

use super::{Requester, SendOp, State};
use crate::opcode::{Op, Opcode};
use crate::packet::Packet;
use crate::psn::Psn;
use crate::time::Time;
use crate::transport::aeth::{self, Syndrome};
use crate::transport::config::{Counter, WcError, rnr_timer};
use crate::transport::host::RequesterHost;

impl Requester {
    /// Takes a response packet (one whose opcode is not a request).
    pub fn handle_response<H: RequesterHost>(&mut self, now: Time, packet: &Packet, host: &mut H) {
        let Opcode::Ib(_, op) = packet.opcode else {
            return;
        };
        if self.state != State::Running || op.is_request() {
            return;
        }
        // Answers to what was answered before, or was never asked, are ghosts.
        let psn = packet.psn;
        if psn.diff(self.una) < 0 || psn.diff(self.max) >= 0 {
            return;
        }
        let syndrome = packet.aeth.map(|header| aeth::decode(header.syndrome));
        let acknowledged = match (op, syndrome) {
            (Op::Acknowledge, Some(Syndrome::Ack)) => psn.add(1),
            _ => psn,
        };
        let before = self.una;
        let complete = self.acknowledge_below(acknowledged, host);
        if self.una != before {
            self.progressed(now);
        }
        if self.state != State::Running {
            return;
        }
        if !complete {
            // Something later was answered: the READ or ATOMIC response was lost, 9.7.5.2.1.
            self.go_back(now, Counter::ImpliedNakSeqErr, host);
            return;
        }
        match (op, syndrome) {
            (Op::Acknowledge, Some(Syndrome::Ack)) => {}
            (Op::Acknowledge, Some(Syndrome::Rnr(code))) => {
                self.receiver_not_ready(now, code, host)
            }
            (Op::Acknowledge, Some(Syndrome::Sequence)) => {
                self.go_back(now, Counter::PacketSeqErr, host);
            }
            (Op::Acknowledge, Some(Syndrome::Fatal(err))) => self.fail(err, host),
            (Op::AtomicAcknowledge, Some(Syndrome::Ack)) => self.atomic_response(now, packet, host),
            (Op::ReadResponseMiddle, _)
            | (
                Op::ReadResponseFirst | Op::ReadResponseLast | Op::ReadResponseOnly,
                Some(Syndrome::Ack),
            ) => self.read_response(now, op, packet, host),
            _ => self.fail(WcError::BadResponse, host),
        }
    }

    /// Runs timers due at `now`.
    pub fn handle_timeout<H: RequesterHost>(&mut self, now: Time, host: &mut H) {
        if self.state != State::Running {
            return;
        }
        if self.rnr_until.is_some_and(|until| until <= now) {
            self.rnr_until = None;
            self.restart_timer(now);
        }
        if self.ack_deadline.is_some_and(|deadline| deadline <= now) {
            host.count(Counter::LocalAckTimeoutErr);
            self.retry(now, host);
            // The repetition may itself run into a gap, and its NAK then counts.
            self.nak_served = None;
        }
    }

    /// Everything before `end` arrived. False if a READ or ATOMIC among it has no response.
    fn acknowledge_below<H: RequesterHost>(&mut self, end: Psn, host: &mut H) -> bool {
        self.settle(host);
        while self.una != end && self.state == State::Running {
            let Some(head) = self.queue.front() else {
                break;
            };
            if head.wants_response() {
                return false;
            }
            let head_end = head.first.add(head.packets);
            if head_end.diff(end) > 0 {
                self.una = end;
            } else {
                self.una = head_end;
                self.pop_completed(host);
                self.settle(host);
            }
        }
        true
    }

    /// `una` moved: retry budgets are full again and the timer starts anew.
    fn progressed(&mut self, now: Time) {
        if self.nxt.diff(self.una) < 0 {
            self.nxt = self.una;
        }
        self.retry_left = self.params.retry_count;
        self.rnr_left = self.params.rnr_retry;
        self.nak_served = None;
        self.rnr_until = None;
        if self.state == State::Running {
            self.restart_timer(now);
        }
    }

    /// Go-back-N because of a NAK, said or implied.
    fn go_back<H: RequesterHost>(&mut self, now: Time, reason: Counter, host: &mut H) {
        let already = self.nxt == self.una || self.nak_served == Some(self.una);
        if already || self.rnr_until.is_some() {
            return;
        }
        host.count(reason);
        self.retry(now, host);
        self.nak_served = Some(self.una);
    }

    fn retry<H: RequesterHost>(&mut self, now: Time, host: &mut H) {
        let Some(left) = self.retry_left.checked_sub(1) else {
            self.fail(WcError::RetryExceeded, host);
            return;
        };
        self.retry_left = left;
        self.rewind();
        self.restart_timer(now);
    }

    fn receiver_not_ready<H: RequesterHost>(&mut self, now: Time, code: u8, host: &mut H) {
        const FOREVER: u8 = 7;
        if self.rnr_until.is_some() {
            return;
        }
        host.count(Counter::RnrNakRetryErr);
        if self.params.rnr_retry < FOREVER {
            let Some(left) = self.rnr_left.checked_sub(1) else {
                self.fail(WcError::RnrRetryExceeded, host);
                return;
            };
            self.rnr_left = left;
        }
        // The peer is alive: its silence has to be counted from here.
        self.retry_left = self.params.retry_count;
        self.rewind();
        self.ack_deadline = None;
        self.rnr_until = Some(now + rnr_timer(code));
    }

    fn atomic_response<H: RequesterHost>(&mut self, now: Time, packet: &Packet, host: &mut H) {
        let head = self.queue.front().map(|head| (head.wr.op, head.wr.cookie));
        let (
            Some((SendOp::CompareSwap { .. } | SendOp::FetchAdd { .. }, cookie)),
            Some(original),
            0,
        ) = (head, packet.atomic_ack, packet.payload_len)
        else {
            self.fail(WcError::BadResponse, host);
            return;
        };
        match host.atomic_result(cookie, original) {
            Ok(()) => self.response_done(now, host),
            Err(err) => self.fail(err, host),
        }
    }

    fn read_response<H: RequesterHost>(
        &mut self,
        now: Time,
        op: Op,
        packet: &Packet,
        host: &mut H,
    ) {
        let Some(head) = self.queue.front() else {
            return;
        };
        let SendOp::Read { .. } = head.wr.op else {
            self.fail(WcError::BadResponse, host);
            return;
        };
        let index = u32::try_from(self.una.diff(head.first)).unwrap_or(0);
        let offset = index.saturating_mul(self.params.mtu).min(head.wr.len);
        let left = head.wr.len - offset;
        let last = index + 1 >= head.packets;
        let opcode_fits = match op {
            Op::ReadResponseFirst => !last,
            Op::ReadResponseMiddle => !last && index > 0,
            Op::ReadResponseLast => last && index > 0,
            // Also the end of a longer READ of which only the end was asked for again.
            _ => last,
        };
        let length_fits = packet.payload_len == if last { left } else { self.params.mtu };
        if !opcode_fits || !length_fits {
            self.fail(WcError::BadResponse, host);
            return;
        }
        let cookie = head.wr.cookie;
        if left > 0
            && let Err(err) = host.place_response(cookie, offset, packet.payload_len)
        {
            self.fail(err, host);
            return;
        }
        // Zero already if the READ was rewound and not sent again yet.
        self.rd_psns = self.rd_psns.saturating_sub(1);
        if last {
            self.response_done(now, host);
        } else {
            self.una = self.una.add(1);
            self.progressed(now);
        }
    }

    /// The head's last response arrived.
    fn response_done<H: RequesterHost>(&mut self, now: Time, host: &mut H) {
        self.una = self.una.add(1);
        self.pop_completed(host);
        self.settle(host);
        self.progressed(now);
    }
}
