//! The RC (and XRC target) responder, IBTA 9.7: request packets in, response packets out.
//!
//! It knows the expected PSN, the message in progress and the responses owed. Memory, keys and
//! receive queues are the host's.

mod execute;
mod response;

use std::collections::VecDeque;

use super::aeth;
use super::config::{Counter, Outcome, QpEvent, RcParams, WcError};
use super::host::ResponderHost;
use super::message::Message;
use super::requester::header;
use crate::opcode::{Op, Opcode};
use crate::packet::Packet;
use crate::psn::Psn;
use response::{LastRead, Resource, Response};

/// Where the payload of a response comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// No payload.
    None,
    /// READ response: `len` bytes (never 0) at `va` under `rkey`. If they cannot be had, call
    /// [`Responder::read_failed`] instead of sending the packet.
    Remote {
        /// Remote key of the request.
        rkey: u32,
        /// Address of this packet's payload.
        va: u64,
        /// Bytes.
        len: u32,
    },
}

/// A response packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxResponse<'a> {
    /// Headers.
    pub packet: &'a Packet,
    /// Payload.
    pub source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Stopped,
    Running,
    Failed,
}

/// The responder half of an RC or XRC queue pair.
#[derive(Debug)]
pub struct Responder {
    params: RcParams,
    /// The packet polled last.
    packet: Packet,
    state: State,
    /// Expected PSN.
    epsn: Psn,
    /// Messages completed, modulo 2^24.
    msn: u32,
    message: Message,
    /// A receive WQE is held.
    receiving: bool,
    /// A NAK for `epsn` is out; what follows is dropped in silence.
    nak_sent: bool,
    established: bool,
    /// The newest READs and ATOMICs, for repetition. `resources[0]` has id `first_resource`.
    resources: VecDeque<Resource>,
    first_resource: u32,
    /// Responses owed, in PSN order.
    responses: VecDeque<Response>,
    last_read: Option<LastRead>,
}

impl Default for Responder {
    fn default() -> Responder {
        Responder::new()
    }
}

impl Responder {
    /// A stopped responder.
    #[must_use]
    pub fn new() -> Responder {
        let params = RcParams::default();
        Responder {
            params,
            packet: header(&params, Psn::default()),
            state: State::Stopped,
            epsn: Psn::default(),
            msn: 0,
            message: Message::Idle,
            receiving: false,
            nak_sent: false,
            established: false,
            resources: VecDeque::new(),
            first_resource: 0,
            responses: VecDeque::new(),
            last_read: None,
        }
    }

    /// INIT to RTR: starts, expecting `psn`.
    pub fn configure_rtr(&mut self, psn: Psn, params: &RcParams) {
        self.reset();
        self.params = params.sanitized();
        self.epsn = psn;
        let depth = self.params.max_dest_rd_atomic as usize;
        self.resources.reserve_exact(depth);
        self.responses.reserve_exact(2 * depth + 2);
        self.state = State::Running;
    }

    /// To RESET: forgets everything.
    pub fn reset(&mut self) {
        self.stop();
        self.state = State::Stopped;
        self.epsn = Psn::default();
        self.msn = 0;
        self.message = Message::Idle;
        self.receiving = false;
        self.nak_sent = false;
        self.established = false;
        self.resources.clear();
    }

    /// To ERROR, by command and not by a [`Outcome::Fatal`] of its own: silent from now on.
    /// After a fatal outcome do not call it; the NAK still has to be polled.
    pub fn stop(&mut self) {
        self.state = State::Failed;
        self.responses.clear();
        self.last_read = None;
    }

    /// RTS to RTS and the like: access rights that may change while running.
    pub fn set_access(&mut self, remote_read: bool, remote_write: bool, remote_atomic: bool) {
        self.params.remote_read = remote_read;
        self.params.remote_write = remote_write;
        self.params.remote_atomic = remote_atomic;
    }

    /// RTS to RTS and the like: the RNR NAK timer code.
    pub fn set_min_rnr_timer(&mut self, code: u8) {
        self.params.min_rnr_timer = code & 0x1f;
    }

    /// The parameters in force.
    #[must_use]
    pub fn params(&self) -> &RcParams {
        &self.params
    }

    /// Accepts requests.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// A receive WQE was begun and neither completed nor failed: to be flushed with the others
    /// when the queue pair goes to error.
    #[must_use]
    pub fn holds_receive(&self) -> bool {
        self.receiving
    }

    /// Responses waiting for `poll_transmit`; a READ counts once.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.responses.len()
    }

    /// Expected PSN (qpc.next_rcv_psn).
    #[must_use]
    pub fn next_rcv_psn(&self) -> Psn {
        self.epsn
    }

    /// Messages completed, 24 bits (qpc.rmsn).
    #[must_use]
    pub fn msn(&self) -> u32 {
        self.msn
    }

    /// Takes a request packet (one whose opcode is a request), 9.7.1 and 9.7.5.1.
    pub fn handle_request<H: ResponderHost>(&mut self, packet: &Packet, host: &mut H) -> Outcome {
        let Opcode::Ib(_, op) = packet.opcode else {
            return Outcome::Ok;
        };
        if self.state != State::Running || !op.is_request() {
            return Outcome::Ok;
        }
        match packet.psn.diff(self.epsn) {
            0 => self.execute(op, packet, host),
            ahead if ahead > 0 => {
                host.count(Counter::OutOfSequence);
                if !self.nak_sent {
                    self.nak_sent = true;
                    self.push_control(self.epsn, aeth::NAK_SEQUENCE);
                }
                Outcome::Ok
            }
            _ => {
                host.count(Counter::DuplicateRequest);
                match op {
                    Op::ReadRequest => self.repeat_read(packet, host),
                    Op::CompareSwap | Op::FetchAdd => self.repeat_atomic(op, packet),
                    _ => self.push_control(self.epsn.prev(), aeth::ACK),
                }
                Outcome::Ok
            }
        }
    }

    /// A request was accepted: expect what comes after it.
    fn accepted<H: ResponderHost>(&mut self, psns: u32, host: &mut H) {
        self.epsn = self.epsn.add(psns);
        self.nak_sent = false;
        if !self.established {
            self.established = true;
            host.communication_established();
        }
    }

    fn message_done(&mut self) {
        self.msn = (self.msn + 1) & 0x00ff_ffff;
    }

    /// The last word: NAK (PSN and syndrome) and silence. A held receive WQE ends with `held`.
    fn fatal<H: ResponderHost>(
        &mut self,
        nak: Option<(Psn, u8)>,
        held: WcError,
        event: QpEvent,
        host: &mut H,
    ) -> Outcome {
        if let Some((psn, syndrome)) = nak {
            self.push_control(psn, syndrome);
        }
        self.state = State::Failed;
        if self.receiving {
            self.receiving = false;
            host.fail_receive(held);
        }
        Outcome::Fatal { event }
    }
}
