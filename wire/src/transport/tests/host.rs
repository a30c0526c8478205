//! A host that writes down what it is asked and fails on command, and packets by hand.

use super::super::*;
use crate::opcode::{Op, Opcode, Service};
use crate::packet::{Aeth, AtomicEth, Packet, Reth};
use crate::psn::Psn;
use crate::time::Time;
use std::time::Duration;

pub const MTU: u32 = 256;
pub const PSN: u32 = 0xff_fffe;
pub const RKEY: u32 = 0x1234;
pub const VA: u64 = 0x10_0000;

/// What a host was asked, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    PlaceResponse(u32, u32, u32),
    AtomicResult(u32, u64),
    Local(u32),
    Completed(u32),
    Failed(u32, WcError),
    CheckRemote(u32, u64, u32, Access),
    PlaceRemote(u32, u64, u32),
    Atomic(u32, u64, AtomicOp),
    Begin(Option<u32>),
    PlaceReceive(u32, u32),
    CompleteReceive(RecvDone),
    FailReceive(WcError),
    Rewind,
    Invalidate(u32),
    Established,
}

/// Answers every question with yes unless told otherwise.
#[derive(Debug)]
pub struct Host {
    pub asked: Vec<Asked>,
    pub counted: Vec<Counter>,
    pub begin: Result<Begin, WcError>,
    pub local: Result<(), WcError>,
    pub remote: Result<(), RemoteFault>,
    pub place_remote: Result<(), RemoteFault>,
    pub invalidate: Result<(), RemoteFault>,
    pub execute: Result<(), WcError>,
    pub atomic_value: u64,
}

impl Host {
    pub fn new() -> Host {
        Host {
            asked: Vec::new(),
            counted: Vec::new(),
            begin: Ok(Begin::Ready),
            local: Ok(()),
            remote: Ok(()),
            place_remote: Ok(()),
            invalidate: Ok(()),
            execute: Ok(()),
            atomic_value: 0,
        }
    }

    /// What was asked since the last time, `Established` left out.
    pub fn take(&mut self) -> Vec<Asked> {
        self.asked.retain(|asked| *asked != Asked::Established);
        std::mem::take(&mut self.asked)
    }

    pub fn take_counts(&mut self) -> Vec<Counter> {
        std::mem::take(&mut self.counted)
    }
}

impl RequesterHost for Host {
    fn place_response(&mut self, cookie: u32, offset: u32, len: u32) -> Result<(), WcError> {
        self.asked.push(Asked::PlaceResponse(cookie, offset, len));
        self.local
    }
    fn atomic_result(&mut self, cookie: u32, original: u64) -> Result<(), WcError> {
        self.asked.push(Asked::AtomicResult(cookie, original));
        self.local
    }
    fn execute_local(&mut self, cookie: u32) -> Result<(), WcError> {
        self.asked.push(Asked::Local(cookie));
        self.execute
    }
    fn completed(&mut self, cookie: u32) {
        self.asked.push(Asked::Completed(cookie));
    }
    fn failed(&mut self, cookie: u32, err: WcError, vendor: u8) {
        assert_eq!(vendor, err.vendor_syndrome());
        self.asked.push(Asked::Failed(cookie, err));
    }
    fn count(&mut self, counter: Counter) {
        self.counted.push(counter);
    }
}

impl ResponderHost for Host {
    fn check_remote(
        &mut self,
        rkey: u32,
        va: u64,
        len: u32,
        access: Access,
    ) -> Result<(), RemoteFault> {
        self.asked.push(Asked::CheckRemote(rkey, va, len, access));
        self.remote
    }
    fn place_remote(&mut self, rkey: u32, va: u64, len: u32) -> Result<(), RemoteFault> {
        self.asked.push(Asked::PlaceRemote(rkey, va, len));
        self.place_remote
    }
    fn atomic(&mut self, rkey: u32, va: u64, op: AtomicOp) -> Result<u64, RemoteFault> {
        self.asked.push(Asked::Atomic(rkey, va, op));
        self.remote.map(|()| self.atomic_value)
    }
    fn begin_receive(&mut self, xrc_srqn: Option<u32>) -> Result<Begin, WcError> {
        self.asked.push(Asked::Begin(xrc_srqn));
        self.begin
    }
    fn place_receive(&mut self, offset: u32, len: u32) -> Result<(), WcError> {
        self.asked.push(Asked::PlaceReceive(offset, len));
        self.local
    }
    fn complete_receive(&mut self, done: RecvDone) {
        self.asked.push(Asked::CompleteReceive(done));
    }
    fn fail_receive(&mut self, err: WcError) {
        self.asked.push(Asked::FailReceive(err));
    }
    fn rewind_receive(&mut self) {
        self.asked.push(Asked::Rewind);
    }
    fn invalidate(&mut self, rkey: u32) -> Result<(), RemoteFault> {
        self.asked.push(Asked::Invalidate(rkey));
        self.invalidate
    }
    fn communication_established(&mut self) {
        self.asked.push(Asked::Established);
    }
    fn count(&mut self, counter: Counter) {
        self.counted.push(counter);
    }
}

pub fn params() -> RcParams {
    RcParams {
        mtu: MTU,
        remote_qpn: 0x77,
        ..RcParams::default()
    }
}

/// A packet `index` after the first PSN.
pub fn packet(op: Op, index: u32, payload_len: u32) -> Packet {
    Packet {
        mig_req: true,
        pkey: 0xffff,
        dest_qp: 0x77,
        psn: Psn::new(PSN).add(index),
        imm: op.has_imm().then_some(0xabcd),
        inv_rkey: op.has_ieth().then_some(0x5678),
        payload_len,
        ..Packet::new(Opcode::Ib(Service::Rc, op))
    }
}

pub fn with_reth(mut packet: Packet, va: u64, dma_len: u32) -> Packet {
    packet.reth = Some(Reth {
        va,
        rkey: RKEY,
        dma_len,
    });
    packet
}

pub fn read_request(index: u32, va: u64, dma_len: u32) -> Packet {
    with_reth(packet(Op::ReadRequest, index, 0), va, dma_len)
}

pub fn fetch_add(index: u32, va: u64, add: u64) -> Packet {
    let atomic = Some(AtomicEth {
        va,
        rkey: RKEY,
        swap_add: add,
        compare: 0,
    });
    Packet {
        atomic,
        ..packet(Op::FetchAdd, index, 0)
    }
}

pub fn ack_req(packet: Packet) -> Packet {
    Packet {
        ack_req: true,
        ..packet
    }
}

/// A response with an AETH.
pub fn response(op: Op, index: u32, syndrome: u8, payload_len: u32) -> Packet {
    let aeth = op.has_aeth().then_some(Aeth { syndrome, msn: 0 });
    Packet {
        aeth,
        ..packet(op, index, payload_len)
    }
}

pub fn ack(index: u32) -> Packet {
    response(Op::Acknowledge, index, 0x1f, 0)
}

pub fn nak(index: u32, syndrome: u8) -> Packet {
    response(Op::Acknowledge, index, syndrome, 0)
}

pub fn wr(op: SendOp, len: u32, cookie: u32) -> SendWr {
    SendWr {
        op,
        len,
        cookie,
        solicited: false,
        fence: Fence::None,
        xrc_srqn: None,
    }
}

pub fn op_of(packet: &Packet) -> Op {
    match packet.opcode {
        Opcode::Ib(_, op) => op,
        Opcode::Cnp => panic!("CNP from a transport"),
    }
}

pub fn index_of(packet: &Packet) -> i32 {
    packet.psn.diff(Psn::new(PSN))
}

/// A requester with its host and a clock.
pub struct Sender {
    pub requester: Requester,
    pub host: Host,
    pub now: Time,
}

impl Sender {
    pub fn new(params: RcParams) -> Sender {
        let mut requester = Requester::new(256);
        requester.configure_rts(Psn::new(PSN), &params);
        Sender {
            requester,
            host: Host::new(),
            now: Time::ZERO,
        }
    }

    pub fn post(&mut self, op: SendOp, len: u32, cookie: u32) {
        self.requester.post(wr(op, len, cookie)).expect("room");
    }

    /// Everything that may be sent now: (opcode, PSN index, payload bytes).
    pub fn sent(&mut self) -> Vec<(Op, i32, std::ops::Range<u32>)> {
        self.packets()
            .iter()
            .map(|tx| (op_of(&tx.packet), index_of(&tx.packet), tx.payload.clone()))
            .collect()
    }

    pub fn packets(&mut self) -> Vec<Sent> {
        let poll = || {
            let tx = self.requester.poll_transmit(self.now, &mut self.host)?;
            Some(Sent {
                packet: *tx.packet,
                payload: tx.payload,
                retransmission: tx.retransmission,
            })
        };
        std::iter::from_fn(poll).collect()
    }

    pub fn receive(&mut self, packet: Packet) {
        self.requester
            .handle_response(self.now, &packet, &mut self.host);
    }

    /// Lets the next timer run out; how long that took.
    pub fn time_out(&mut self) -> Duration {
        let due = self.requester.next_timeout().expect("a timer");
        let waited = due.since(self.now);
        self.now = due;
        self.requester.handle_timeout(due, &mut self.host);
        waited
    }
}

/// A request packet that was polled.
pub struct Sent {
    pub packet: Packet,
    pub payload: std::ops::Range<u32>,
    pub retransmission: bool,
}

/// A response packet that was polled.
pub struct Answer {
    pub packet: Packet,
    pub source: Source,
}

/// A responder with its host.
pub struct Receiver {
    pub responder: Responder,
    pub host: Host,
}

impl Receiver {
    pub fn new(params: RcParams) -> Receiver {
        let mut responder = Responder::new();
        responder.configure_rtr(Psn::new(PSN), &params);
        Receiver {
            responder,
            host: Host::new(),
        }
    }

    pub fn receive(&mut self, packet: Packet) -> Outcome {
        self.responder.handle_request(&packet, &mut self.host)
    }

    /// All responses owed: (opcode, PSN index, syndrome).
    pub fn answers(&mut self) -> Vec<(Op, i32, Option<u8>)> {
        self.responses()
            .iter()
            .map(|tx| {
                (
                    op_of(&tx.packet),
                    index_of(&tx.packet),
                    tx.packet.aeth.map(|aeth| aeth.syndrome),
                )
            })
            .collect()
    }

    pub fn responses(&mut self) -> Vec<Answer> {
        let poll = || {
            let tx = self.responder.poll_transmit()?;
            Some(Answer {
                packet: *tx.packet,
                source: tx.source,
            })
        };
        std::iter::from_fn(poll).collect()
    }
}
