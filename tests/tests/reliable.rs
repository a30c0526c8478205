//! Reliable connections over bad links: every operation, size, MTU and encapsulation arrives whole, and completes
//! exactly once and in order.

use std::collections::VecDeque;
use std::time::Duration;

use rocinante_harness::driver::fabric::LinkConfig;
use rocinante_harness::driver::{
    Access, Connection, Data, Mtu, PAGE, RoceType, SendOp, SendWr, Service, Sge,
};
use rocinante_tests::{Payload, World, pattern, run_id};
use rocinante_wire::sim::{Rng, SimConfig};

const ENCAPSULATIONS: [RoceType; 3] = [RoceType::V1, RoceType::V2Ipv4, RoceType::V2Ipv6];

/// A connection that survives the loss of a few frames in a row quickly.
fn stubborn(mtu: Mtu) -> impl Fn(&mut Connection) {
    move |to| {
        to.mtu = mtu;
        // 4.096 µs · 2^6.
        to.timeout = 6;
        to.min_rnr_timer = 1;
    }
}

fn sizes(mtu: u32) -> [u32; 9] {
    [0, 1, 3, mtu - 1, mtu, mtu + 1, 2 * mtu, 5 * mtu + 7, 20_000]
}

/// The bytes of a target, which must be those of the source.
#[track_caller]
fn assert_same(
    world: &mut World,
    from: (usize, Payload, u64),
    to: (usize, Payload, u64),
    len: u32,
) {
    let sent = world.bytes(from.0, &from.1, from.2, len as usize);
    let came = world.bytes(to.0, &to.1, to.2, len as usize);
    let seed = world.seed;
    assert!(
        sent == came,
        "{}: {len} bytes differ from {:?} on",
        run_id(seed),
        sent.iter().zip(&came).position(|(a, b)| a != b)
    );
}

fn operations(seed: u64, kind: RoceType, mtu: Mtu) {
    const ROOM: u64 = 32 << 10;
    let mut world = World::lossy(seed, kind);
    let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
    let [here, there] = world.pair([0, 1], configs, stubborn(mtu));
    let source = world.pattern(0, ROOM, seed);
    let target = world.payload(1, ROOM);
    let (va, rkey) = (target.mr.va, target.mr.key);
    for (n, len) in sizes(mtu.bytes()).into_iter().enumerate() {
        // Not aligned to anything.
        let offset = 13 * n as u64;
        let gather = [source.mr.sge(offset, len)];
        let scatter = [
            target.mr.sge(0, 16 << 10),
            target.mr.sge(16 << 10, 16 << 10),
        ];
        let imm = seed as u32 ^ len;
        let id = n as u64;

        let op = SendOp::Write { va, rkey };
        world.post(0, here, id, op, &gather);
        assert_eq!(world.success(0).wr_id, id);
        assert_same(&mut world, (0, source, offset), (1, target, 0), len);

        world.receive(1, there, id, &[]);
        let op = SendOp::WriteImm {
            va: va + 1,
            rkey,
            imm,
        };
        world.post(0, here, id, op, &gather);
        let received = world.success(1);
        assert_eq!(
            (received.wr_id, received.byte_len, received.imm),
            (id, len, imm)
        );
        assert_eq!(world.success(0).wr_id, id);
        assert_same(&mut world, (0, source, offset), (1, target, 1), len);

        for (op, imm) in [(SendOp::Send, 0), (SendOp::SendImm(imm), imm)] {
            world.receive(1, there, id, &scatter);
            world.post(0, here, id, op, &gather);
            let received = world.success(1);
            assert_eq!(
                (received.wr_id, received.byte_len, received.imm),
                (id, len, imm)
            );
            assert_eq!(world.success(0).wr_id, id);
            assert_same(&mut world, (0, source, offset), (1, target, 0), len);
        }

        // The other way, so that the bytes read are not those that were written last.
        let back = pattern(seed ^ (0x5a5a + id), len as usize);
        world.node(1).write(target.buffer.iova + 5, &back).unwrap();
        let into = [source.mr.sge(offset, len)];
        let op = SendOp::Read { va: va + 5, rkey };
        world.post(0, here, id, op, &into);
        let read = world.success(0);
        assert_eq!((read.wr_id, read.byte_len), (id, len));
        assert_same(&mut world, (1, target, 5), (0, source, offset), len);
    }
    assert!(
        world.fabric.lost() > 0,
        "{}: nothing was lost",
        run_id(seed)
    );
}

#[test]
fn every_operation_with_roce_v1() {
    for (n, mtu) in Mtu::ALL.into_iter().enumerate() {
        operations(0x100 + n as u64, RoceType::V1, mtu);
    }
}

#[test]
fn every_operation_with_roce_v2_over_ipv4() {
    for (n, mtu) in Mtu::ALL.into_iter().enumerate() {
        operations(0x200 + n as u64, RoceType::V2Ipv4, mtu);
    }
}

#[test]
fn every_operation_with_roce_v2_over_ipv6() {
    for (n, mtu) in Mtu::ALL.into_iter().enumerate() {
        operations(0x300 + n as u64, RoceType::V2Ipv6, mtu);
    }
}

/// Atomics are executed exactly once, whatever is lost or comes twice.
#[test]
fn atomics_happen_exactly_once() {
    for kind in ENCAPSULATIONS {
        let seed = 0x400 + kind as u64;
        let mut world = World::lossy(seed, kind);
        let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
        let [here, _] = world.pair([0, 1], configs, stubborn(Mtu::M1024));
        let result = world.payload(0, 8 * 200);
        let target = world.payload(1, 16);
        let (va, rkey) = (target.mr.va, target.mr.key);
        for id in 0..200u64 {
            let into = [result.mr.sge(8 * id, 8)];
            let op = SendOp::FetchAdd { va, rkey, add: 3 };
            world.post(0, here, id, op, &into);
            // Keep up to 16 of them under way.
            if id >= 15 {
                assert_eq!(world.success(0).wr_id, id - 15);
            }
        }
        for id in 185..200 {
            assert_eq!(world.success(0).wr_id, id);
        }
        let word = |bytes: Vec<u8>| u64::from_le_bytes(bytes.try_into().unwrap());
        for id in 0..200 {
            let found = word(world.bytes(0, &result, 8 * id, 8));
            assert_eq!(found, 3 * id, "{}", run_id(seed));
        }
        assert_eq!(word(world.bytes(1, &target, 0, 8)), 600);

        // Compare and swap: the second comparison fails.
        for (id, compare) in [(0, 600), (1, 600)] {
            let into = [result.mr.sge(8 * id, 8)];
            let op = SendOp::CompareSwap {
                va,
                rkey,
                compare,
                swap: 0x1122_3344_5566_7788 + id,
            };
            world.post(0, here, id, op, &into);
            world.success(0);
        }
        assert_eq!(word(world.bytes(0, &result, 0, 8)), 600);
        assert_eq!(word(world.bytes(0, &result, 8, 8)), 0x1122_3344_5566_7788);
        assert_eq!(word(world.bytes(1, &target, 0, 8)), 0x1122_3344_5566_7788);
    }
}

/// What a random work request was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Write,
    WriteImm,
    Send,
    Read,
    Inline,
}

struct Posted {
    id: u64,
    kind: Kind,
    len: u32,
    signaled: bool,
}

/// Slots of a random run, each the place of one message.
const SLOT: u64 = 8192;
const MESSAGES: u64 = 300;

/// One side of a random run.
struct Side {
    node: usize,
    qpn: u32,
    source: Payload,
    target: Payload,
    /// Where messages to this side's receives go.
    inbox: Payload,
    /// What the peer reads, and where this side puts what it has read.
    library: Payload,
    reading: Payload,
    sent: Vec<Posted>,
    open: VecDeque<u64>,
    received: u64,
}

/// Both sides send at once; window, sizes, lists and signaling are random.
fn random_traffic(seed: u64) {
    let mut rng = Rng::new(seed);
    let kind = ENCAPSULATIONS[rng.below(3) as usize];
    let mtu = Mtu::ALL[rng.below(5) as usize];
    let sim = SimConfig {
        latency: Duration::from_nanos(500),
        drop: 0.01,
        duplicate: 0.01,
        reorder: 0.02,
        reorder_delay: Duration::from_micros(10),
        seed,
    };
    let link = LinkConfig {
        sim,
        as_bytes: seed % 2 == 1,
    };
    let mut world = World::with(2, 64 << 20, link, kind);
    let mut configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
    for config in &mut configs {
        config.log_receive = Some(9);
        config.receive_sges = 4;
    }
    let qps = world.pair([0, 1], configs, stubborn(mtu));
    let room = SLOT * MESSAGES;
    let mut sides: Vec<Side> = [0, 1]
        .map(|node| Side {
            node,
            qpn: qps[node],
            source: world.pattern(node, room, seed + node as u64),
            target: world.payload(node, room),
            inbox: world.payload(node, room),
            library: world.pattern(node, room, !seed - node as u64),
            reading: world.payload(node, room),
            sent: Vec::new(),
            open: VecDeque::new(),
            received: 0,
        })
        .into();
    for side in &sides {
        for id in 0..MESSAGES {
            let at = id * SLOT;
            let parts = [
                side.inbox.mr.sge(at, 100),
                side.inbox.mr.sge(at + 100, 28),
                side.inbox.mr.sge(at + 128, SLOT as u32 - 128),
            ];
            world.receive(side.node, side.qpn, id, &parts);
        }
    }
    loop {
        for (mine, peer) in [(0, 1), (1, 0)] {
            let (target, library) = (sides[peer].target, sides[peer].library);
            let side = &mut sides[mine];
            let id = side.sent.len() as u64;
            if id < MESSAGES && side.open.len() < 40 && rng.chance(0.5) {
                let posted = post_random(&mut world, &mut rng, side, [&target, &library], id);
                side.open.push_back(id);
                side.sent.push(posted);
            }
        }
        for mine in 0..2 {
            take_completions(&mut world, &mut sides, mine);
        }
        let done = sides
            .iter()
            .all(|side| side.sent.len() as u64 == MESSAGES && side.open.is_empty());
        if done {
            break;
        }
        // A few steps between posting, so that work overlaps.
        for _ in 0..rng.below(4) {
            let limit = world.fabric.now() + Duration::from_secs(5);
            let moved = world.fabric.step(limit);
            let waiting = sides.iter().any(|side| side.open.len() >= 40);
            assert!(moved || !waiting, "{}: nothing moves", run_id(seed));
        }
    }
    check(&mut world, &sides, seed);
}

fn post_random(
    world: &mut World,
    rng: &mut Rng,
    side: &Side,
    [target, library]: [&Payload; 2],
    id: u64,
) -> Posted {
    let at = id * SLOT;
    let mut len = match rng.below(4) {
        0 => rng.below(9) as u32,
        1 => rng.below(300) as u32,
        _ => rng.below(SLOT + 1) as u32,
    };
    let kinds = [
        Kind::Write,
        Kind::WriteImm,
        Kind::Send,
        Kind::Read,
        Kind::Inline,
    ];
    let kind = kinds[rng.below(5) as usize];
    if kind == Kind::Inline {
        len = len.min(200);
    }
    let (va, rkey) = (target.mr.va + at, target.mr.key);
    let op = match kind {
        Kind::Write => SendOp::Write { va, rkey },
        Kind::WriteImm => SendOp::WriteImm {
            va,
            rkey,
            imm: id as u32,
        },
        Kind::Send => SendOp::SendImm(id as u32),
        Kind::Read => SendOp::Read {
            va: library.mr.va + at,
            rkey: library.mr.key,
        },
        Kind::Inline => SendOp::Write { va, rkey },
    };
    let base = if kind == Kind::Read {
        side.reading.mr
    } else {
        side.source.mr
    };
    let cut = rng.below(u64::from(len) + 1) as u32;
    let sges: Vec<Sge> = vec![base.sge(at, cut), base.sge(at + u64::from(cut), len - cut)];
    let inline = world.bytes(side.node, &side.source, at, len as usize);
    let data = if kind == Kind::Inline {
        Data::Inline(&inline)
    } else {
        Data::Sges(&sges)
    };
    // The last of all has to be signaled, so that the end is seen.
    let signaled = rng.chance(0.7) || id + 1 == MESSAGES || side.open.len() > 30;
    let wr = SendWr {
        signaled,
        fence: rng.chance(0.1),
        ..SendWr::new(id, op, data)
    };
    world
        .node(side.node)
        .post_send(side.qpn, &wr)
        .expect("posted");
    Posted {
        id,
        kind,
        len,
        signaled,
    }
}

fn take_completions(world: &mut World, sides: &mut [Side], mine: usize) {
    let seed = world.seed;
    let cqn = world.ends[mine].cqn;
    while let Some(completion) = world.node(mine).poll_cq(cqn).unwrap() {
        assert!(completion.is_ok(), "{}: {completion:x?}", run_id(seed));
        let id = completion.wr_id;
        if completion.send {
            let side = &mut sides[mine];
            // Unsignaled ones before it are done too; nothing completes twice or out of order.
            while let Some(done) = side.open.pop_front() {
                if done == id {
                    assert!(side.sent[done as usize].signaled);
                    break;
                }
                assert!(
                    done < id && !side.sent[done as usize].signaled,
                    "{}: {id} completed before {done}",
                    run_id(seed)
                );
            }
        } else {
            let sender = &sides[1 - mine];
            let expected = sender
                .sent
                .iter()
                .filter(|posted| matches!(posted.kind, Kind::Send | Kind::WriteImm))
                .nth(sides[mine].received as usize);
            let expected = expected.expect("something was sent");
            assert_eq!(id, sides[mine].received, "{}", run_id(seed));
            assert_eq!(
                (completion.imm, completion.byte_len),
                (expected.id as u32, expected.len),
                "{}",
                run_id(seed)
            );
            sides[mine].received += 1;
        }
    }
}

fn check(world: &mut World, sides: &[Side], seed: u64) {
    for (mine, peer) in [(0, 1), (1, 0)] {
        let mut inbox = 0;
        for posted in &sides[mine].sent {
            let at = posted.id * SLOT;
            let len = posted.len as usize;
            let (mine_of, peer_of) = (&sides[mine], &sides[peer]);
            let sent = world.bytes(mine, &mine_of.source, at, len);
            let (sent, came) = match posted.kind {
                Kind::Read => (
                    world.bytes(peer, &peer_of.library, at, len),
                    world.bytes(mine, &mine_of.reading, at, len),
                ),
                Kind::Send => (sent, world.bytes(peer, &peer_of.inbox, inbox * SLOT, len)),
                _ => (sent, world.bytes(peer, &peer_of.target, at, len)),
            };
            if matches!(posted.kind, Kind::Send | Kind::WriteImm) {
                inbox += 1;
            }
            assert!(
                sent == came,
                "{}: message {} of node {mine} ({:?}, {len} bytes)",
                run_id(seed),
                posted.id,
                posted.kind
            );
        }
        assert_eq!(inbox, sides[peer].received, "{}", run_id(seed));
    }
}

#[test]
fn random_traffic_both_ways() {
    for seed in 0..24 {
        random_traffic(0x1000 + seed);
    }
}

/// The same seed gives the same run, to the nanosecond.
#[test]
fn runs_repeat() {
    let run = || {
        let mut world = World::lossy(77, RoceType::V2Ipv4);
        let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
        let [here, _] = world.pair([0, 1], configs, stubborn(Mtu::M256));
        let source = world.pattern(0, 100_000, 1);
        let target = world.payload(1, 100_000);
        let (va, rkey) = (target.mr.va, target.mr.key);
        let gather = [source.mr.sge(0, 100_000)];
        world.post(0, here, 0, SendOp::Write { va, rkey }, &gather);
        world.success(0);
        (world.fabric.now(), world.fabric.frames, world.fabric.lost())
    };
    let first = run();
    assert_eq!(first, run());
    assert!(first.2 > 0);
}

/// A gigabyte is the longest message. It is gathered from the same 16 MiB again and again and scattered into the same
/// 32 MiB, so that the test does not need gigabytes.
#[test]
fn the_longest_message() {
    const GIB: u64 = 1 << 30;
    const FROM: u64 = 16 << 20;
    const INTO: u64 = 32 << 20;
    let link = LinkConfig::default();
    let mut world = World::with(2, 256 << 20, link, RoceType::V2Ipv4);
    let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
    let [here, _] = world.pair([0, 1], configs, |to| {
        to.mtu = Mtu::M4096;
        to.timeout = 20;
    });
    let source = world.pattern(0, FROM, 1);
    let target = world.payload(1, INTO);
    let alias = |world: &mut World, node: usize, payload: &Payload, size: u64| {
        // 2 MiB pages; one more than a GiB, for the message that is too long.
        let pages: Vec<u64> = (0..(GIB >> 21) + 1)
            .map(|n| payload.buffer.iova + (n << 21) % size)
            .collect();
        let pd = world.ends[node].pd;
        let va = 0x40_0000_0000;
        world
            .node(node)
            .reg_mr(pd, va, GIB + PAGE, 21, &pages, Access::ALL)
            .unwrap()
    };
    let long_source = alias(&mut world, 0, &source, FROM);
    let long_target = alias(&mut world, 1, &target, INTO);
    let (va, rkey) = (long_target.va, long_target.key);
    let half = 1 << 29;
    let gather = [long_source.sge(0, half), long_source.sge(half.into(), half)];
    world.post(0, here, 1, SendOp::Write { va, rkey }, &gather);
    assert_eq!(world.success(0).wr_id, 1);
    let sent = world.bytes(0, &source, 0, FROM as usize);
    for part in 0..2 {
        let came = world.bytes(1, &target, part * FROM, FROM as usize);
        assert!(came == sent, "part {part}");
    }
    let into = [long_source.sge(0, half), long_source.sge(half.into(), half)];
    world
        .node(1)
        .write(target.buffer.iova, &[0xee; 4096])
        .unwrap();
    world.post(0, here, 2, SendOp::Read { va, rkey }, &into);
    let read = world.success(0);
    assert_eq!((read.wr_id, read.byte_len), (2, 1 << 30));
    // One byte more is an error of this side, and nothing is sent.
    let frames = world.fabric.frames;
    let gather = [
        long_source.sge(0, half),
        long_source.sge(half.into(), half),
        long_source.sge(GIB, 1),
    ];
    world.post(0, here, 3, SendOp::Write { va, rkey }, &gather);
    world.failure(0, 3, rocinante_harness::driver::syndrome::LOCAL_LENGTH);
    assert_eq!(world.fabric.frames, frames);
}
