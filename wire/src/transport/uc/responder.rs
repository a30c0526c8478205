//! The UC responder: takes what comes in order, and drops a message of which a part is missing.

use crate::opcode::{Op, Opcode};
use crate::packet::Packet;
use crate::psn::Psn;
use crate::transport::config::{Counter, Outcome, QpEvent, RcParams, WcError};
use crate::transport::host::{Access, Begin, RecvDone, ResponderHost};
use crate::transport::message::{End, Message, Target, starts_message};

/// The responder half of a UC queue pair.
#[derive(Debug)]
pub struct UcResponder {
    params: RcParams,
    running: bool,
    epsn: Psn,
    message: Message,
    receiving: bool,
    established: bool,
}

impl Default for UcResponder {
    fn default() -> UcResponder {
        UcResponder::new()
    }
}

impl UcResponder {
    /// A stopped responder.
    #[must_use]
    pub fn new() -> UcResponder {
        UcResponder {
            params: RcParams::default(),
            running: false,
            epsn: Psn::default(),
            message: Message::Idle,
            receiving: false,
            established: false,
        }
    }

    /// INIT to RTR: starts, expecting `psn`.
    pub fn configure_rtr(&mut self, psn: Psn, params: &RcParams) {
        self.reset();
        self.params = params.sanitized();
        self.epsn = psn;
        self.running = true;
    }

    /// To RESET: forgets everything.
    pub fn reset(&mut self) {
        *self = UcResponder::new();
    }

    /// To ERROR: ignores everything from now on.
    pub fn stop(&mut self) {
        self.running = false;
    }

    /// Whether incoming WRITEs are allowed (qpc.rwe).
    pub fn set_access(&mut self, remote_write: bool) {
        self.params.remote_write = remote_write;
    }

    /// Accepts packets.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// A receive WQE was begun and neither completed nor failed.
    #[must_use]
    pub fn holds_receive(&self) -> bool {
        self.receiving
    }

    /// Expected PSN (qpc.next_rcv_psn).
    #[must_use]
    pub fn next_rcv_psn(&self) -> Psn {
        self.epsn
    }

    /// Takes a packet, 9.8.2. Errors the sender made are silent; what the receive WQE makes
    /// impossible ends that WQE and the queue pair.
    pub fn handle_request<H: ResponderHost>(&mut self, packet: &Packet, host: &mut H) -> Outcome {
        let Opcode::Ib(_, op) = packet.opcode else {
            return Outcome::Ok;
        };
        if !self.running || !op.is_request() {
            return Outcome::Ok;
        }
        let gap = packet.psn != self.epsn;
        self.epsn = packet.psn.add(1);
        if gap {
            host.count(Counter::OutOfSequence);
        }
        if gap || starts_message(op) {
            self.drop_message(host);
        }
        match self.execute(op, packet, host) {
            Ok(()) => {
                if !self.established {
                    self.established = true;
                    host.communication_established();
                }
                Outcome::Ok
            }
            Err(None) => {
                self.drop_message(host);
                Outcome::Ok
            }
            Err(Some(err)) => {
                self.running = false;
                if self.receiving {
                    self.receiving = false;
                    host.fail_receive(err);
                }
                Outcome::Fatal {
                    event: QpEvent::None,
                }
            }
        }
    }

    fn drop_message<H: ResponderHost>(&mut self, host: &mut H) {
        if self.message != Message::Idle {
            self.message = Message::Idle;
            if self.receiving {
                host.rewind_receive();
            }
        }
    }

    /// `Err(None)` drops the message.
    fn execute<H: ResponderHost>(
        &mut self,
        op: Op,
        packet: &Packet,
        host: &mut H,
    ) -> Result<(), Option<WcError>> {
        let max_len = self.params.max_message();
        let part = self
            .message
            .part(op, packet, self.params.mtu, max_len)
            .ok_or(None)?;
        if part.first
            && let Target::Remote { rkey, va, total } = part.target
        {
            let denied = !self.params.remote_write
                || total > 0 && host.check_remote(rkey, va, total, Access::Write).is_err();
            if denied {
                host.count(Counter::RespRemoteAccessErrors);
                return Err(None);
            }
        }
        if part.wants_receive() && !self.receiving {
            match host.begin_receive(packet.xrc_srqn) {
                Ok(Begin::Ready) => self.receiving = true,
                Ok(Begin::NotReady | Begin::Invalid) => {
                    host.count(Counter::OutOfBuffer);
                    return Err(None);
                }
                Err(err) => {
                    self.receiving = true;
                    return Err(Some(err));
                }
            }
        }
        let len = packet.payload_len;
        if len > 0 {
            match part.target {
                Target::Receive { offset } => {
                    if let Err(err) = host.place_receive(offset, len) {
                        host.count(match err {
                            WcError::LocalLength => Counter::RespLocalLengthError,
                            _ => Counter::RespLocalProtection,
                        });
                        return Err(Some(err));
                    }
                }
                Target::Remote { rkey, va, .. } => {
                    if host.place_remote(rkey, va, len).is_err() {
                        host.count(Counter::RespRemoteAccessErrors);
                        return Err(None);
                    }
                }
            }
        }
        if part.first && matches!(part.target, Target::Remote { .. }) {
            host.count(Counter::RxWriteRequests);
        }
        self.message = part.after;
        if let Some(End::Receive { kind, byte_len }) = part.end {
            self.receiving = false;
            host.complete_receive(RecvDone {
                byte_len,
                kind,
                solicited: packet.solicited,
            });
        }
        Ok(())
    }
}
