//! The sending side of the requester: which packet goes next, and what is in it.

use std::ops::Range;

use super::{Entry, Fence, Requester, SendOp, SendWr, State, TxPacket, header};
use crate::opcode::{Op, Opcode, Service};
use crate::packet::{AtomicEth, Packet, Reth};
use crate::psn::Psn;
use crate::time::Time;

use crate::transport::config::{MAX_PSN_SPAN, RcParams, SEND_WINDOW};
use crate::transport::host::RequesterHost;

impl Requester {
    /// The next packet to send, if the queue, its fences and the window allow one. Also
    /// completes what needs no packet, so poll until `None` after each `post`.
    pub fn poll_transmit<H: RequesterHost>(
        &mut self,
        now: Time,
        host: &mut H,
    ) -> Option<TxPacket<'_>> {
        if let Some(until) = self.rnr_until {
            if now < until {
                return None;
            }
            self.rnr_until = None;
        }
        self.settle(host);
        loop {
            if self.state != State::Running {
                return None;
            }
            let entry = self.queue.get_mut(self.cursor)?;
            let fenced = match entry.wr.fence {
                Fence::None => false,
                Fence::ReadAtomic => self.rd_outstanding > 0,
                Fence::All => self.cursor > 0,
            };
            if fenced || entry.error.is_some() {
                return None;
            }
            if entry.wr.op != SendOp::Local {
                return self.transmit(now);
            }
            if !entry.executed {
                match host.execute_local(entry.wr.cookie) {
                    Ok(()) => entry.executed = true,
                    Err(err) => entry.error = Some(err),
                }
            }
            if entry.executed {
                self.cursor += 1;
            }
            self.settle(host);
        }
    }

    /// SEND, WRITE and ATOMIC packets on their way.
    fn in_flight(&self) -> u32 {
        self.span().saturating_sub(self.rd_psns)
    }

    /// PSNs from the oldest unanswered to the next one.
    fn span(&self) -> u32 {
        u32::try_from(self.nxt.diff(self.una)).unwrap_or(0)
    }

    fn transmit(&mut self, now: Time) -> Option<TxPacket<'_>> {
        let entry = self.queue.get(self.cursor)?;
        let index = u32::try_from(self.nxt.diff(entry.first)).unwrap_or(0);
        let left = entry.packets.saturating_sub(index);
        let is_read = matches!(entry.wr.op, SendOp::Read { .. });
        if is_read {
            let span = self.span();
            if span > 0 && span.saturating_add(left) > MAX_PSN_SPAN {
                return None;
            }
        } else if self.in_flight() >= SEND_WINDOW {
            return None;
        }
        if entry.wants_response() && self.rd_outstanding >= self.params.max_rd_atomic {
            return None;
        }

        let packet = &mut self.packet;
        *packet = header(&self.params, self.nxt);
        let (op, payload) = build(&self.params, entry, index, packet);
        let wants_response = entry.wants_response();
        let cookie = entry.wr.cookie;
        let psns = if is_read { left } else { 1 };
        let done = psns == left;
        // At least twice per window, so that the last half is still under way when the ACK
        // of the first comes.
        let ack_every = (1 << self.params.log_ack_req_freq.min(16)).min(SEND_WINDOW / 2);
        self.since_ack_req += 1;
        packet.ack_req = done || self.since_ack_req >= ack_every;
        if packet.ack_req {
            self.since_ack_req = 0;
        }
        packet.opcode = Opcode::Ib(self.params.service, op);

        if wants_response {
            self.rd_outstanding += 1;
        }
        if is_read {
            self.rd_psns += psns;
        }
        if done {
            self.cursor += 1;
        }
        let retransmission = self.nxt.diff(self.max) < 0;
        if index == 0 && !retransmission {
            self.ssn = (self.ssn + 1) & 0x00ff_ffff;
        }
        self.nxt = self.nxt.add(psns);
        if self.nxt.diff(self.max) > 0 {
            self.max = self.nxt;
        }
        if self.ack_deadline.is_none() {
            self.restart_timer(now);
        }
        Some(TxPacket {
            packet: &self.packet,
            cookie,
            payload,
            retransmission,
        })
    }

    /// The PSN the next packet will carry.
    #[must_use]
    pub fn next_packet_psn(&self) -> Psn {
        self.nxt
    }
}

/// The extension headers of packet `index` of a request; its operation, and the part of the message that it carries.
fn build(params: &RcParams, entry: &Entry, index: u32, packet: &mut Packet) -> (Op, Range<u32>) {
    let wr = &entry.wr;
    if params.service == Service::Xrc {
        packet.xrc_srqn = Some(wr.xrc_srqn.unwrap_or(0) & 0x00ff_ffff);
    }
    let mtu = params.mtu;
    let start = index.saturating_mul(mtu).min(wr.len);
    match wr.op {
        SendOp::Read { va, rkey } => {
            // A repeated READ asks only for what is missing.
            packet.reth = Some(Reth {
                va: va.wrapping_add(start.into()),
                rkey,
                dma_len: wr.len - start,
            });
            (Op::ReadRequest, 0..0)
        }
        SendOp::CompareSwap {
            va,
            rkey,
            compare,
            swap,
        } => {
            packet.atomic = Some(AtomicEth {
                va,
                rkey,
                swap_add: swap,
                compare,
            });
            (Op::CompareSwap, 0..0)
        }
        SendOp::FetchAdd { va, rkey, add } => {
            packet.atomic = Some(AtomicEth {
                va,
                rkey,
                swap_add: add,
                compare: 0,
            });
            (Op::FetchAdd, 0..0)
        }
        _ => {
            let last = index + 1 >= entry.packets;
            let op = segment(wr, index == 0, last, packet);
            let end = start.saturating_add(mtu).min(wr.len);
            packet.payload_len = end - start;
            (op, start..end)
        }
    }
}

/// Opcode and extension headers of one packet of a SEND or WRITE message.
pub(in crate::transport) fn segment(
    wr: &SendWr,
    first: bool,
    last: bool,
    packet: &mut Packet,
) -> Op {
    packet.solicited = last && wr.solicited && !matches!(wr.op, SendOp::Write { .. });
    if let (true, SendOp::Write { va, rkey } | SendOp::WriteImm { va, rkey, .. }) = (first, wr.op) {
        packet.reth = Some(Reth {
            va,
            rkey,
            dma_len: wr.len,
        });
    }
    if last {
        match wr.op {
            SendOp::SendImm(imm) | SendOp::WriteImm { imm, .. } => packet.imm = Some(imm),
            SendOp::SendInv(rkey) => packet.inv_rkey = Some(rkey),
            _ => {}
        }
    }
    let write = matches!(wr.op, SendOp::Write { .. } | SendOp::WriteImm { .. });
    match (first, last, wr.op) {
        (true, false, _) if write => Op::WriteFirst,
        (false, false, _) if write => Op::WriteMiddle,
        (false, true, SendOp::Write { .. }) => Op::WriteLast,
        (true, true, SendOp::Write { .. }) => Op::WriteOnly,
        (false, true, SendOp::WriteImm { .. }) => Op::WriteLastImm,
        (true, true, SendOp::WriteImm { .. }) => Op::WriteOnlyImm,
        (true, false, _) => Op::SendFirst,
        (false, false, _) => Op::SendMiddle,
        (false, true, SendOp::SendImm(_)) => Op::SendLastImm,
        (true, true, SendOp::SendImm(_)) => Op::SendOnlyImm,
        (false, true, SendOp::SendInv(_)) => Op::SendLastInv,
        (true, true, SendOp::SendInv(_)) => Op::SendOnlyInv,
        (false, true, _) => Op::SendLast,
        (true, true, _) => Op::SendOnly,
    }
}
