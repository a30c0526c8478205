//! Two queue pairs and a link that loses, duplicates, delays and reorders, in virtual time
//! from one seed: every byte in its place, every completion once and in order.

use super::super::*;
use super::plan::{BASE, Expected, Plan, RKEY, Rng, bytes};
use crate::opcode::{Opcode, Service};
use crate::packet::Packet;
use crate::psn::Psn;
use crate::time::Time;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Memory and queues of one side.
struct Memory {
    payload: Vec<u8>,
    // As requester.
    results: Vec<Expected>,
    completed: Vec<u32>,
    failed: Option<(u32, WcError)>,
    locals: Vec<u32>,
    // As responder.
    memory: Vec<u8>,
    receive_wqes: u32,
    receive: Option<Vec<u8>>,
    received: Vec<(RecvDone, Vec<u8>)>,
    invalidated: Vec<u32>,
    written: u64,
    atomics: u64,
    established: u32,
    counted: Vec<Counter>,
}

impl Memory {
    fn range(&self, va: u64, len: u32) -> Result<std::ops::Range<usize>, RemoteFault> {
        let start = va.checked_sub(BASE).ok_or(RemoteFault::Access)? as usize;
        let end = start + len as usize;
        if end > self.memory.len() {
            Err(RemoteFault::Access)
        } else {
            Ok(start..end)
        }
    }
}

impl RequesterHost for Memory {
    fn place_response(&mut self, cookie: u32, offset: u32, len: u32) -> Result<(), WcError> {
        assert_eq!(self.payload.len(), len as usize);
        let Expected::Data(data) = &mut self.results[cookie as usize] else {
            panic!("no READ: {cookie}")
        };
        assert_eq!(data.len(), offset as usize, "in order");
        data.extend_from_slice(&self.payload);
        Ok(())
    }
    fn atomic_result(&mut self, cookie: u32, original: u64) -> Result<(), WcError> {
        self.results[cookie as usize] = Expected::Original(original);
        Ok(())
    }
    fn execute_local(&mut self, cookie: u32) -> Result<(), WcError> {
        self.locals.push(cookie);
        Ok(())
    }
    fn completed(&mut self, cookie: u32) {
        self.completed.push(cookie);
    }
    fn failed(&mut self, cookie: u32, err: WcError, _vendor: u8) {
        self.failed = Some((cookie, err));
    }
    fn count(&mut self, counter: Counter) {
        self.counted.push(counter);
    }
}

impl ResponderHost for Memory {
    fn check_remote(
        &mut self,
        rkey: u32,
        va: u64,
        len: u32,
        _access: Access,
    ) -> Result<(), RemoteFault> {
        assert_eq!(rkey, RKEY);
        self.range(va, len).map(|_| ())
    }
    fn place_remote(&mut self, _rkey: u32, va: u64, len: u32) -> Result<(), RemoteFault> {
        let range = self.range(va, len)?;
        self.memory[range].copy_from_slice(&self.payload);
        self.written += u64::from(len);
        Ok(())
    }
    fn atomic(&mut self, _rkey: u32, va: u64, op: AtomicOp) -> Result<u64, RemoteFault> {
        let range = self.range(va, 8)?;
        let original = u64::from_le_bytes(self.memory[range.clone()].try_into().expect("8 bytes"));
        let new = match op {
            AtomicOp::FetchAdd { add } => original.wrapping_add(add),
            AtomicOp::CompareSwap { compare, swap } if compare == original => swap,
            AtomicOp::CompareSwap { .. } => original,
        };
        self.memory[range].copy_from_slice(&new.to_le_bytes());
        self.atomics += 1;
        Ok(original)
    }
    fn begin_receive(&mut self, _xrc_srqn: Option<u32>) -> Result<Begin, WcError> {
        assert!(self.receive.is_none(), "one at a time");
        if self.receive_wqes == 0 {
            return Ok(Begin::NotReady);
        }
        self.receive_wqes -= 1;
        self.receive = Some(Vec::new());
        Ok(Begin::Ready)
    }
    fn place_receive(&mut self, offset: u32, _len: u32) -> Result<(), WcError> {
        let buffer = self.receive.as_mut().expect("a receive WQE");
        assert_eq!(buffer.len(), offset as usize);
        buffer.extend_from_slice(&self.payload);
        Ok(())
    }
    fn complete_receive(&mut self, done: RecvDone) {
        let buffer = self.receive.take().expect("a receive WQE");
        self.received.push((done, buffer));
    }
    fn fail_receive(&mut self, err: WcError) {
        panic!("receive failed: {err:?}");
    }
    fn rewind_receive(&mut self) {
        panic!("RC never rewinds");
    }
    fn invalidate(&mut self, rkey: u32) -> Result<(), RemoteFault> {
        self.invalidated.push(rkey);
        Ok(())
    }
    fn communication_established(&mut self) {
        self.established += 1;
    }
    fn count(&mut self, counter: Counter) {
        self.counted.push(counter);
    }
}

struct Node {
    requester: Requester,
    responder: Responder,
    host: Memory,
    posted: usize,
}

/// How bad the link is, in percent.
#[derive(Clone, Copy, Debug)]
struct Weather {
    loss: u64,
    duplication: u64,
    reordering: u64,
}

type Frame = (usize, Packet, Vec<u8>);

struct Link {
    rng: Rng,
    weather: Weather,
    flying: BinaryHeap<Reverse<(Time, usize)>>,
    frames: Vec<Option<Frame>>,
}

impl Link {
    fn send(&mut self, now: Time, frame: Frame) {
        if self.rng.percent(self.weather.loss) {
            return;
        }
        if self.rng.percent(self.weather.duplication) {
            let late = Duration::from_micros(self.rng.below(400));
            self.put(now + late, frame.clone());
        }
        let mut delay = Duration::from_micros(2);
        if self.rng.percent(self.weather.reordering) {
            delay += Duration::from_nanos(self.rng.below(30_000));
        }
        self.put(now + delay, frame);
    }

    /// Rising slots keep the order of frames that arrive at the same time.
    fn put(&mut self, at: Time, frame: Frame) {
        self.frames.push(Some(frame));
        self.flying.push(Reverse((at, self.frames.len() - 1)));
    }

    fn arrival(&self) -> Option<Time> {
        self.flying.peek().map(|Reverse((at, _))| *at)
    }

    fn arrived(&mut self, now: Time) -> Option<Frame> {
        if self.arrival()? > now {
            return None;
        }
        let Reverse((_, slot)) = self.flying.pop()?;
        self.frames[slot].take()
    }
}

/// Runs the plan of both sides to its end. Returns what the counters saw.
fn run(seed: u64, weather: Weather) -> Vec<Counter> {
    let mut rng = Rng::new(seed);
    let mtu = 256 << rng.below(5);
    let base = RcParams {
        service: [Service::Rc, Service::Xrc][rng.below(2) as usize],
        mtu,
        ack_timeout: 6,
        retry_count: 7,
        rnr_retry: 7,
        min_rnr_timer: 1 + rng.below(3) as u8,
        log_ack_req_freq: rng.below(9) as u8,
        ..RcParams::default()
    };
    let depth = 1 + rng.below(16) as u32;
    let params = RcParams {
        max_rd_atomic: depth,
        max_dest_rd_atomic: depth,
        ..base
    };
    let plans = [
        Plan::random(&mut rng, 150, mtu),
        Plan::random(&mut rng, 150, mtu),
    ];
    let psns = [
        Psn::new(rng.next() as u32),
        Psn::new(0xff_ff00 + rng.below(256) as u32),
    ];
    let mut nodes: Vec<Node> = (0..2)
        .map(|me| {
            let (out, into) = (&plans[me], &plans[1 - me]);
            let mut requester = Requester::new(1 + rng.below(64) as usize);
            requester.configure_rts(psns[me], &params);
            let mut responder = Responder::new();
            responder.configure_rtr(psns[1 - me], &params);
            let results = out
                .expected
                .iter()
                .map(|expected| match expected {
                    Expected::Data(_) => Expected::Data(Vec::new()),
                    _ => Expected::Nothing,
                })
                .collect();
            let host = Memory {
                payload: Vec::new(),
                results,
                completed: Vec::new(),
                failed: None,
                locals: Vec::new(),
                memory: into.initial.clone(),
                receive_wqes: 0,
                receive: None,
                received: Vec::new(),
                invalidated: Vec::new(),
                written: 0,
                atomics: 0,
                established: 0,
                counted: Vec::new(),
            };
            Node {
                requester,
                responder,
                host,
                posted: 0,
            }
        })
        .collect();
    let mut link = Link {
        rng: Rng::new(rng.next()),
        weather,
        flying: BinaryHeap::new(),
        frames: Vec::new(),
    };
    let mut now = Time::ZERO;
    let mut refill = Time::ZERO;
    for step in 0.. {
        assert!(step < 400_000, "seed {seed}: no end at {now:?}");
        if refill <= now {
            refill = now + Duration::from_micros(15);
            for node in &mut nodes {
                node.host.receive_wqes = (node.host.receive_wqes + rng.below(6) as u32).min(16);
            }
        }
        while let Some((to, packet, payload)) = link.arrived(now) {
            let node = &mut nodes[to];
            node.host.payload = payload;
            let Opcode::Ib(_, op) = packet.opcode else {
                panic!("CNP")
            };
            if op.is_request() {
                let outcome = node.responder.handle_request(&packet, &mut node.host);
                assert_eq!(outcome, Outcome::Ok, "seed {seed}: {packet:?}");
            } else {
                node.requester.handle_response(now, &packet, &mut node.host);
            }
        }
        let mut busy = false;
        let mut done = true;
        for (me, node) in nodes.iter_mut().enumerate() {
            let plan = &plans[me];
            while node.posted < plan.work.len() && node.requester.can_post() {
                node.requester.post(plan.work[node.posted]).expect("room");
                node.posted += 1;
            }
            if node.requester.next_timeout().is_some_and(|due| due <= now) {
                node.requester.handle_timeout(now, &mut node.host);
            }
            // A NIC sends a few packets and then looks for what came.
            for turn in 0..8 {
                let Some(tx) = node.requester.poll_transmit(now, &mut node.host) else {
                    break;
                };
                let packet = *tx.packet;
                let payload = bytes(tx.cookie, tx.payload);
                link.send(now, (1 - me, packet, payload));
                busy |= turn == 7;
            }
            for turn in 0..8 {
                let Some(tx) = node.responder.poll_transmit() else {
                    break;
                };
                let (packet, source) = (*tx.packet, tx.source);
                let payload = match source {
                    Source::None => Vec::new(),
                    Source::Remote { va, len, .. } => {
                        node.host.memory[node.host.range(va, len).expect("checked")].to_vec()
                    }
                };
                assert_eq!(payload.len(), packet.payload_len as usize);
                link.send(now, (1 - me, packet, payload));
                busy |= turn == 7;
            }
            assert_eq!(node.host.failed, None, "seed {seed}");
            done &= node.posted == plan.work.len() && node.requester.is_idle();
        }
        if done {
            break;
        }
        let timers = nodes
            .iter()
            .filter_map(|node| node.requester.next_timeout());
        let next = timers
            .chain(link.arrival())
            .chain([refill])
            .min()
            .unwrap_or(refill);
        now = if busy {
            next.min(now + Duration::from_micros(1))
                .max(now + Duration::from_nanos(1))
        } else {
            next.max(now + Duration::from_nanos(1))
        };
    }

    for (me, node) in nodes.iter().enumerate() {
        let (out, into, host) = (&plans[me], &plans[1 - me], &node.host);
        let all: Vec<u32> = (0..out.work.len() as u32).collect();
        assert_eq!(host.completed, all, "seed {seed}: completions");
        assert_eq!(
            host.results, out.expected,
            "seed {seed}: READ and ATOMIC results"
        );
        assert_eq!(host.locals, out.locals, "seed {seed}: local operations");
        assert_eq!(host.received, into.receives, "seed {seed}: receives");
        assert!(host.memory == into.memory, "seed {seed}: memory");
        assert_eq!(
            host.written, into.written,
            "seed {seed}: a WRITE was executed twice"
        );
        assert_eq!(
            host.atomics, into.atomics,
            "seed {seed}: an ATOMIC was executed twice"
        );
        assert_eq!(host.established, 1, "seed {seed}");
    }
    nodes
        .into_iter()
        .flat_map(|node| node.host.counted)
        .collect()
}

#[test]
fn in_good_weather_nothing_is_repeated() {
    for seed in 0..20 {
        let counted = run(
            seed,
            Weather {
                loss: 0,
                duplication: 0,
                reordering: 0,
            },
        );
        // RNR NAKs are part of the plan; what follows one is repeated by intention.
        for counter in [
            Counter::LocalAckTimeoutErr,
            Counter::PacketSeqErr,
            Counter::ImpliedNakSeqErr,
            Counter::DuplicateRequest,
        ] {
            assert!(!counted.contains(&counter), "seed {seed}: {counter:?}");
        }
    }
}

#[test]
fn bad_weather_meets_every_kind_of_recovery() {
    let mut counted = Vec::new();
    for seed in 0..20 {
        counted.extend(run(
            seed,
            Weather {
                loss: 4,
                duplication: 4,
                reordering: 4,
            },
        ));
    }
    for counter in [
        Counter::LocalAckTimeoutErr,
        Counter::PacketSeqErr,
        Counter::ImpliedNakSeqErr,
        Counter::DuplicateRequest,
        Counter::OutOfSequence,
        Counter::RnrNakRetryErr,
        Counter::OutOfBuffer,
    ] {
        assert!(counted.contains(&counter), "{counter:?} never happened");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn every_byte_arrives_and_every_completion_comes_once(
        seed: u64, loss in 0u64..6, duplication in 0u64..6, reordering in 0u64..10,
    ) {
        run(seed, Weather { loss, duplication, reordering });
    }
}
