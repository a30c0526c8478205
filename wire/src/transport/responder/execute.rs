//! Execution of the request whose turn it is: SEND, WRITE, READ and ATOMIC, and the errors of
//! IBTA 9.7.5.2 table 58 they can meet.

use super::response::Kind;
use super::{Responder, aeth};
use crate::opcode::Op;
use crate::packet::{AtomicEth, Packet};
use crate::psn::Psn;
use crate::transport::config::{Counter, Outcome, QpEvent, RemoteFault, WcError};
use crate::transport::host::{Access, AtomicOp, Begin, RecvDone, RecvKind, ResponderHost};
use crate::transport::message::{End, Message, Part, Target};

/// The atomic operation a packet asks for.
fn atomic_op(op: Op, header: &AtomicEth) -> AtomicOp {
    match op {
        Op::CompareSwap => AtomicOp::CompareSwap {
            compare: header.compare,
            swap: header.swap_add,
        },
        _ => AtomicOp::FetchAdd {
            add: header.swap_add,
        },
    }
}

impl Responder {
    pub(super) fn execute<H: ResponderHost>(
        &mut self,
        op: Op,
        packet: &Packet,
        host: &mut H,
    ) -> Outcome {
        match op {
            Op::ReadRequest => self.read(packet, host),
            Op::CompareSwap | Op::FetchAdd => self.atomic(op, packet, host),
            _ => {
                let max_len = self.params.max_message();
                match self.message.part(op, packet, self.params.mtu, max_len) {
                    Some(part) => self.message_part(&part, packet, host),
                    None => self.invalid_request(host),
                }
            }
        }
    }

    fn message_part<H: ResponderHost>(
        &mut self,
        part: &Part,
        packet: &Packet,
        host: &mut H,
    ) -> Outcome {
        if part.first
            && let Target::Remote { rkey, va, total } = part.target
        {
            if !self.params.remote_write {
                return self.invalid_request(host);
            }
            if total > 0
                && let Err(fault) = host.check_remote(rkey, va, total, Access::Write)
            {
                return self.remote_fault(self.epsn, fault, host);
            }
        }
        if part.wants_receive() {
            match host.begin_receive(packet.xrc_srqn) {
                Ok(Begin::Ready) => self.receiving = true,
                Ok(Begin::NotReady) => {
                    host.count(Counter::OutOfBuffer);
                    // Until the same request comes again, what follows it is not an error.
                    self.nak_sent = true;
                    self.push_control(self.epsn, aeth::RNR_NAK | self.params.min_rnr_timer);
                    return Outcome::Ok;
                }
                Ok(Begin::Invalid) => return self.invalid_request(host),
                Err(err) => {
                    self.receiving = true;
                    return self.receive_fault(err, host);
                }
            }
        }
        let len = packet.payload_len;
        if len > 0 {
            match part.target {
                Target::Receive { offset } => {
                    if let Err(err) = host.place_receive(offset, len) {
                        return self.receive_fault(err, host);
                    }
                }
                Target::Remote { rkey, va, .. } => {
                    if let Err(fault) = host.place_remote(rkey, va, len) {
                        return self.remote_fault(self.epsn, fault, host);
                    }
                }
            }
        }
        if part.first && matches!(part.target, Target::Remote { .. }) {
            host.count(Counter::RxWriteRequests);
        }
        if let Some(End::Receive { kind, byte_len }) = part.end {
            if let RecvKind::SendInv(rkey) = kind
                && host.invalidate(rkey).is_err()
            {
                // Class J: the peer is not told, IBTA 9.9.3.
                return self.fatal(None, WcError::LocalAccess, QpEvent::Access, host);
            }
            self.receiving = false;
            host.complete_receive(RecvDone {
                byte_len,
                kind,
                solicited: packet.solicited,
            });
        }
        if part.end.is_some() {
            self.message_done();
        }
        self.message = part.after;
        self.accepted(1, host);
        if packet.ack_req {
            self.push_control(packet.psn, aeth::ACK);
        }
        Outcome::Ok
    }

    fn read<H: ResponderHost>(&mut self, packet: &Packet, host: &mut H) -> Outcome {
        let Some(reth) = packet.reth else {
            return self.invalid_request(host);
        };
        if !self.params.remote_read
            || self.message != Message::Idle
            || packet.payload_len != 0
            || reth.dma_len > self.params.max_message()
            || !self.make_room()
        {
            return self.invalid_request(host);
        }
        if reth.dma_len > 0
            && let Err(fault) = host.check_remote(reth.rkey, reth.va, reth.dma_len, Access::Read)
        {
            return self.remote_fault(self.epsn, fault, host);
        }
        host.count(Counter::RxReadRequests);
        self.message_done();
        self.push_new(Kind::Read {
            rkey: reth.rkey,
            va: reth.va,
            len: reth.dma_len,
        });
        self.accepted(self.params.packets(reth.dma_len), host);
        Outcome::Ok
    }

    fn atomic<H: ResponderHost>(&mut self, op: Op, packet: &Packet, host: &mut H) -> Outcome {
        let Some(header) = packet.atomic else {
            return self.invalid_request(host);
        };
        if !self.params.remote_atomic
            || self.message != Message::Idle
            || packet.payload_len != 0
            || header.va % 8 != 0
            || !self.make_room()
        {
            return self.invalid_request(host);
        }
        match host.atomic(header.rkey, header.va, atomic_op(op, &header)) {
            Ok(original) => {
                host.count(Counter::RxAtomicRequests);
                self.message_done();
                self.push_new(Kind::Atomic { op, original });
                self.accepted(1, host);
                Outcome::Ok
            }
            Err(fault) => self.remote_fault(self.epsn, fault, host),
        }
    }

    fn invalid_request<H: ResponderHost>(&mut self, host: &mut H) -> Outcome {
        host.count(Counter::RespRemoteInvalidRequest);
        let event = if self.receiving {
            QpEvent::None
        } else {
            QpEvent::InvalidRequest
        };
        self.fatal(
            Some((self.epsn, aeth::NAK_INVALID_REQUEST)),
            WcError::RemoteInvalidRequest,
            event,
            host,
        )
    }

    pub(super) fn remote_fault<H: ResponderHost>(
        &mut self,
        psn: Psn,
        fault: RemoteFault,
        host: &mut H,
    ) -> Outcome {
        let (counter, nak, event) = match fault {
            RemoteFault::Access => (
                Counter::RespRemoteAccessErrors,
                aeth::NAK_REMOTE_ACCESS,
                QpEvent::Access,
            ),
            RemoteFault::Operational => (
                Counter::RespLocalQpError,
                aeth::NAK_REMOTE_OPERATION,
                QpEvent::Catas,
            ),
        };
        host.count(counter);
        self.fatal(Some((psn, nak)), WcError::LocalAccess, event, host)
    }

    fn receive_fault<H: ResponderHost>(&mut self, err: WcError, host: &mut H) -> Outcome {
        let (counter, nak) = match err {
            WcError::LocalLength => (Counter::RespLocalLengthError, aeth::NAK_INVALID_REQUEST),
            WcError::LocalProtection => (Counter::RespLocalProtection, aeth::NAK_REMOTE_OPERATION),
            _ => (Counter::RespLocalQpError, aeth::NAK_REMOTE_OPERATION),
        };
        host.count(counter);
        self.fatal(Some((self.epsn, nak)), err, QpEvent::None, host)
    }
}
