//! Responses owed: acknowledgements, READ responses and ATOMIC results, kept in PSN order, and
//! the memory of the newest READs and ATOMICs from which they can be repeated (9.7.5.1.3).
//!
//! Between two READ or ATOMIC responses at most one acknowledgement waits, so the queue is
//! bounded by twice the number of resources.

use std::cmp::Ordering;

use super::{Responder, Source, State, TxResponse, aeth};
use crate::opcode::{Op, Opcode};
use crate::packet::{Aeth, Packet};
use crate::psn::Psn;
use crate::transport::config::{Outcome, RemoteFault};
use crate::transport::host::{Access, ResponderHost};
use crate::transport::requester::header;

/// What a READ or ATOMIC needs to be answered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read { rkey: u32, va: u64, len: u32 },
    Atomic { op: Op, original: u64 },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Resource {
    kind: Kind,
    psn: Psn,
    msn: u32,
    /// A response waits in the queue.
    queued: bool,
    /// Was answered in full at least once.
    answered: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Response {
    Control {
        psn: Psn,
        syndrome: u8,
        msn: u32,
    },
    /// Packets `start..end` of the response of a resource, `next` being the next to go.
    Data {
        id: u32,
        psn: Psn,
        start: u32,
        next: u32,
        end: u32,
    },
}

impl Response {
    /// PSN of the next packet.
    fn psn(&self) -> Psn {
        match *self {
            Response::Control { psn, .. } => psn,
            Response::Data { psn, next, .. } => psn.add(next),
        }
    }
}

/// The READ response packet handed out last, in case its data cannot be fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastRead {
    id: u32,
    psn: Psn,
    repeated: bool,
}

impl Responder {
    /// The next response packet to send. Keeps giving after a fatal outcome until the NAK is out.
    pub fn poll_transmit(&mut self) -> Option<TxResponse<'_>> {
        self.last_read = None;
        match self.responses.front_mut()? {
            Response::Control { psn, syndrome, msn } => {
                let packet = &mut self.packet;
                *packet = header(&self.params, *psn);
                packet.opcode = Opcode::Ib(self.params.service, Op::Acknowledge);
                packet.aeth = Some(Aeth {
                    syndrome: *syndrome,
                    msn: *msn,
                });
                self.responses.pop_front();
                Some(TxResponse {
                    packet: &self.packet,
                    source: Source::None,
                })
            }
            Response::Data {
                id,
                psn,
                start,
                next,
                end,
            } => {
                let (id, index, first) = (*id, *next, next == start);
                *next += 1;
                let last = *next >= *end;
                let psn = psn.add(index);
                if last {
                    self.responses.pop_front();
                }
                self.data(id, psn, index, first, last)
            }
        }
    }

    fn data(
        &mut self,
        id: u32,
        psn: Psn,
        index: u32,
        first: bool,
        last: bool,
    ) -> Option<TxResponse<'_>> {
        let slot = id.wrapping_sub(self.first_resource) as usize;
        let resource = self.resources.get_mut(slot)?;
        let repeated = resource.answered;
        if last {
            resource.queued = false;
            resource.answered = true;
        }
        let packet = &mut self.packet;
        *packet = header(&self.params, psn);
        let aeth = Some(Aeth {
            syndrome: aeth::ACK,
            msn: resource.msn,
        });
        let mut source = Source::None;
        let op = match resource.kind {
            Kind::Atomic { original, .. } => {
                packet.aeth = aeth;
                packet.atomic_ack = Some(original);
                Op::AtomicAcknowledge
            }
            Kind::Read { rkey, va, len } => {
                let offset = index.saturating_mul(self.params.mtu).min(len);
                let bytes = (len - offset).min(self.params.mtu);
                packet.payload_len = bytes;
                if bytes > 0 {
                    let va = va.wrapping_add(offset.into());
                    source = Source::Remote {
                        rkey,
                        va,
                        len: bytes,
                    };
                    self.last_read = Some(LastRead { id, psn, repeated });
                }
                if first || last {
                    packet.aeth = aeth;
                }
                match (first, last) {
                    (true, true) => Op::ReadResponseOnly,
                    (true, false) => Op::ReadResponseFirst,
                    (false, false) => Op::ReadResponseMiddle,
                    (false, true) => Op::ReadResponseLast,
                }
            }
        };
        packet.opcode = Opcode::Ib(self.params.service, op);
        Some(TxResponse {
            packet: &self.packet,
            source,
        })
    }

    /// The data of the READ response polled last cannot be fetched; the packet is not sent.
    ///
    /// A NAK takes its place and the queue pair fails, unless the READ had been answered
    /// before: the peer may have taken that answer and given up the memory since.
    pub fn read_failed<H: ResponderHost>(&mut self, fault: RemoteFault, host: &mut H) -> Outcome {
        let Some(LastRead { id, psn, repeated }) = self.last_read.take() else {
            return Outcome::Ok;
        };
        if repeated {
            self.drop_response(id);
            return Outcome::Ok;
        }
        if self.state != State::Running {
            return Outcome::Ok;
        }
        self.responses.clear();
        self.remote_fault(psn, fault, host)
    }

    /// Queues an ACK or NAK behind what is already owed.
    pub(super) fn push_control(&mut self, psn: Psn, syndrome: u8) {
        let control = Response::Control {
            psn,
            syndrome,
            msn: self.msn,
        };
        match self.responses.back_mut() {
            Some(waiting @ Response::Control { .. }) => {
                // A NAK for the expected PSN acknowledges all before it: an ACK adds nothing.
                let covered = syndrome == aeth::ACK && waiting.psn().diff(psn) > 0;
                if !covered {
                    *waiting = control;
                }
            }
            _ => self.responses.push_back(control),
        }
    }

    /// Room for one more READ or ATOMIC? A peer that keeps to the limit has received the
    /// oldest, so an answer to it that is only repeated is no longer needed.
    pub(super) fn make_room(&mut self) -> bool {
        if self.resources.len() < self.params.max_dest_rd_atomic as usize {
            return true;
        }
        let Some(oldest) = self.resources.front() else {
            return true;
        };
        if oldest.queued {
            if !oldest.answered {
                return false;
            }
            self.drop_response(self.first_resource);
        }
        self.resources.pop_front();
        self.first_resource = self.first_resource.wrapping_add(1);
        true
    }

    /// Remembers the READ or ATOMIC at the expected PSN and queues its response.
    pub(super) fn push_new(&mut self, kind: Kind) {
        let id = self
            .first_resource
            .wrapping_add(self.resources.len() as u32);
        let psn = self.epsn;
        let resource = Resource {
            kind,
            psn,
            msn: self.msn,
            queued: true,
            answered: false,
        };
        let end = self.packets(&resource);
        self.resources.push_back(resource);
        let response = Response::Data {
            id,
            psn,
            start: 0,
            next: 0,
            end,
        };
        self.responses.push_back(response);
    }

    /// A READ came again, perhaps only for the end of what it first asked for.
    pub(super) fn repeat_read<H: ResponderHost>(&mut self, packet: &Packet, host: &mut H) {
        let Some(reth) = packet.reth else { return };
        let covers = |resource: &Resource| {
            let Kind::Read { rkey, va, len } = resource.kind else {
                return None;
            };
            let index = u32::try_from(packet.psn.diff(resource.psn)).ok()?;
            let offset = index.checked_mul(self.params.mtu)?;
            let inside = index < self.packets(resource)
                && rkey == reth.rkey
                && va.wrapping_add(offset.into()) == reth.va
                && reth.dma_len <= len - offset.min(len);
            inside.then_some(index)
        };
        let found = self.resources.iter().enumerate().rev();
        let Some((slot, index)) = found.filter_map(|(i, r)| Some((i, covers(r)?))).next() else {
            return;
        };
        // The memory may have been taken back since: then nobody can want it any more.
        if reth.dma_len > 0
            && host
                .check_remote(reth.rkey, reth.va, reth.dma_len, Access::Read)
                .is_err()
        {
            return;
        }
        self.repeat(
            slot,
            index,
            index.saturating_add(self.params.packets(reth.dma_len)),
        );
    }

    /// An ATOMIC came again: never executed twice, 9.7.5.1.3.
    pub(super) fn repeat_atomic(&mut self, op: Op, packet: &Packet) {
        let same = |resource: &Resource| {
            resource.psn == packet.psn
                && matches!(resource.kind, Kind::Atomic { op: executed, .. } if executed == op)
        };
        if let Some(slot) = self.resources.iter().rposition(same) {
            self.repeat(slot, 0, 1);
        }
    }

    /// Owes packets `start..end` of a resource's response again. Whoever asks has not taken
    /// anything behind them, so responses behind start over too.
    fn repeat(&mut self, slot: usize, start: u32, end: u32) {
        let id = self.first_resource.wrapping_add(slot as u32);
        let Some(resource) = self.resources.get_mut(slot) else {
            return;
        };
        let wanted = resource.psn.add(start);
        let psn = resource.psn;
        let at = if std::mem::replace(&mut resource.queued, true) {
            let Some(at) = self.position(id) else {
                return;
            };
            let Some(Response::Data {
                start: s,
                next,
                end: e,
                ..
            }) = self.responses.get_mut(at)
            else {
                return;
            };
            *e = end.max(*e);
            if *next <= start {
                return;
            }
            (*s, *next) = (start, start);
            at
        } else {
            let behind = |r: &Response| r.psn().cmp_window(wanted) == Ordering::Greater;
            let at = self
                .responses
                .iter()
                .position(behind)
                .unwrap_or(self.responses.len());
            self.responses.insert(
                at,
                Response::Data {
                    id,
                    psn,
                    start,
                    next: start,
                    end,
                },
            );
            at
        };
        for response in self.responses.iter_mut().skip(at + 1) {
            if let Response::Data { start, next, .. } = response {
                *next = *start;
            }
        }
    }

    fn packets(&self, resource: &Resource) -> u32 {
        match resource.kind {
            Kind::Read { len, .. } => self.params.packets(len),
            Kind::Atomic { .. } => 1,
        }
    }

    /// Gives up the response of a resource.
    fn drop_response(&mut self, id: u32) {
        let slot = id.wrapping_sub(self.first_resource) as usize;
        if let Some(resource) = self.resources.get_mut(slot) {
            resource.queued = false;
        }
        let Some(at) = self.position(id) else { return };
        self.responses.remove(at);
        // Two acknowledgements are neighbours now: the later one says it all.
        let control = |i: usize| matches!(self.responses.get(i), Some(Response::Control { .. }));
        if at > 0 && control(at - 1) && control(at) {
            self.responses.remove(at - 1);
        }
    }

    fn position(&self, id: u32) -> Option<usize> {
        let owed = |r: &Response| matches!(r, Response::Data { id: owed, .. } if *owed == id);
        self.responses.iter().position(owed)
    }
}
