//! Connections of other kinds than RC: unreliable ones, and XRC.

use std::time::Duration;

use rocinante_harness::driver::fabric::LinkConfig;
use rocinante_harness::driver::{
    Access, Data, Mtu, QpConfig, RoceType, SendOp, SendWr, Service, SrqKind, syndrome,
};
use rocinante_tests::{World, run_id};
use rocinante_wire::sim::SimConfig;

/// Unreliable connections deliver whole messages, in order, or nothing; the sender never hears of it.
#[test]
fn unreliable_connections_lose_whole_messages() {
    const SLOT: u64 = 4096;
    const N: u64 = 200;
    for seed in 0..6 {
        let kind = [RoceType::V1, RoceType::V2Ipv4, RoceType::V2Ipv6][seed as usize % 3];
        // Lost, but neither twice nor in disorder: a first packet is taken with any number, IBTA 9.8.3.
        let sim = SimConfig {
            drop: 0.05,
            seed: 0x2000 + seed,
            ..SimConfig::default()
        };
        let as_bytes = seed % 2 == 0;
        let mut world = World::with(2, 64 << 20, LinkConfig { sim, as_bytes }, kind);
        let configs = [world.config(0, Service::Uc), world.config(1, Service::Uc)];
        let [here, there] = world.pair([0, 1], configs, |to| to.mtu = Mtu::M1024);
        let source = world.pattern(0, N * SLOT, seed);
        let inbox = world.payload(1, N * SLOT);
        let target = world.payload(1, N * SLOT);
        for id in 0..N {
            world.receive(1, there, id, &[inbox.mr.sge(id * SLOT, SLOT as u32)]);
        }
        for id in 0..N {
            let len = (id * 37 % SLOT) as u32;
            let gather = [source.mr.sge(id * SLOT, len)];
            let op = if id % 2 == 0 {
                SendOp::SendImm(id as u32)
            } else {
                SendOp::WriteImm {
                    va: target.mr.va + id * SLOT,
                    rkey: target.mr.key,
                    imm: id as u32,
                }
            };
            world.post(0, here, id, op, &gather);
            assert_eq!(world.success(0).wr_id, id);
        }
        world.fabric.run_for(Duration::from_millis(10));
        let mut expected_after = None;
        let mut received = 0;
        let cqn = world.ends[1].cqn;
        while let Some(completion) = world.node(1).poll_cq(cqn).unwrap() {
            assert!(
                completion.is_ok(),
                "{}: {completion:x?}",
                run_id(world.seed)
            );
            assert_eq!(completion.wr_id, received, "receives are used in order");
            let id = u64::from(completion.imm);
            assert!(
                expected_after.is_none_or(|last| id > last),
                "{}",
                run_id(world.seed)
            );
            expected_after = Some(id);
            let len = (id * 37 % SLOT) as usize;
            assert_eq!(completion.byte_len as usize, len);
            let came = if id % 2 == 0 {
                world.bytes(1, &inbox, received * SLOT, len)
            } else {
                world.bytes(1, &target, id * SLOT, len)
            };
            assert!(
                came == world.bytes(0, &source, id * SLOT, len),
                "{}: message {id}",
                run_id(world.seed)
            );
            received += 1;
        }
        assert!(
            received > N / 2 && received < N,
            "{}: {received} of {N} came",
            run_id(world.seed)
        );
    }
}

#[test]
fn unreliable_connections_do_what_they_can_and_no_more() {
    let mut world = World::new(2);
    let configs = [world.config(0, Service::Uc), world.config(1, Service::Uc)];
    let [here, _] = world.pair([0, 1], configs, |_| {});
    let source = world.pattern(0, 100_000, 3);
    let target = world.payload(1, 100_000);
    let (va, rkey) = (target.mr.va, target.mr.key);
    let op = SendOp::Write { va, rkey };
    world.post(0, here, 1, op, &[source.mr.sge(0, 100_000)]);
    world.success(0);
    world.no_completion(1);
    let sent = world.bytes(0, &source, 0, 100_000);
    assert!(world.bytes(1, &target, 0, 100_000) == sent);
    let op = SendOp::Read { va, rkey };
    world.post(0, here, 2, op, &[source.mr.sge(0, 8)]);
    world.failure(0, 2, syndrome::LOCAL_QP_OP);
}

/// One connection, many shared receive queues: the request names the one it is for.
#[test]
fn xrc_reaches_the_receive_queue_that_it_names() {
    let mut world = World::lossy(0x3000, RoceType::V2Ipv4);
    let xrcds = [0, 1].map(|node| world.node(node).alloc_xrcd().unwrap());
    let xrcd = xrcds[1];
    // Each receive queue in a protection domain of its own, with its own CQ.
    let queues: Vec<_> = (0..2)
        .map(|_| {
            let driver = world.node(1);
            let pd = driver.alloc_pd().unwrap();
            let cqn = driver.create_cq(6).unwrap();
            let srqn = driver
                .create_srq(SrqKind::Xrc { xrcd, cqn }, pd, 6, 1)
                .unwrap();
            let buffer = driver.pages.zeroed(1 << 16).unwrap();
            let mr = driver.reg_buffer(pd, buffer, Access::ALL).unwrap();
            (srqn, cqn, buffer, mr)
        })
        .collect();
    // The target QP has a protection domain and a CQ that nobody looks at.
    let target = QpConfig {
        log_send: None,
        log_receive: None,
        srqn: Some(queues[0].0),
        xrcd,
        ..world.config(1, Service::Xrc)
    };
    let initiator = QpConfig {
        log_receive: None,
        xrcd: xrcds[0],
        ..world.config(0, Service::Xrc)
    };
    let [here, there] = world.pair([0, 1], [initiator, target], |to| {
        to.timeout = 6;
        to.min_rnr_timer = 1;
    });
    let source = world.pattern(0, 1 << 16, 9);
    for id in 0..40u64 {
        let (srqn, cqn, buffer, mr) = queues[id as usize % 2];
        let len = 100 + 61 * id as u32;
        world
            .node(1)
            .post_srq_receive(srqn, id, &[mr.sge(0, 8192)])
            .unwrap();
        let send = |op| SendWr {
            xrc_srqn: srqn,
            ..SendWr::new(id, op, Data::Sges(&[]))
        };
        let gather = [source.mr.sge(id * 100, len)];
        let wr = SendWr {
            data: Data::Sges(&gather),
            ..send(SendOp::SendImm(id as u32))
        };
        world.node(0).post_send(here, &wr).unwrap();
        let received = world.completion_on(1, cqn);
        assert!(received.is_ok(), "{}: {received:x?}", run_id(world.seed));
        assert_eq!(
            (
                received.wr_id,
                received.byte_len,
                received.imm,
                received.qpn
            ),
            (id, len, id as u32, there)
        );
        assert_eq!(world.success(0).wr_id, id);
        let sent = world.bytes(0, &source, id * 100, len as usize);
        assert_eq!(world.node(1).read(buffer.iova, len as usize).unwrap(), sent);
        // A key of that receive queue's protection domain.
        let op = SendOp::Write {
            va: mr.va + 20_000,
            rkey: mr.key,
        };
        let wr = SendWr {
            data: Data::Sges(&gather),
            ..send(op)
        };
        world.node(0).post_send(here, &wr).unwrap();
        world.success(0);
        let came = world.node(1).read(buffer.iova + 20_000, len as usize);
        assert_eq!(came.unwrap(), sent);
        // And back.
        let into = [source.mr.sge(50_000, len)];
        let op = SendOp::Read {
            va: mr.va + 20_000,
            rkey: mr.key,
        };
        let wr = SendWr {
            data: Data::Sges(&into),
            ..send(op)
        };
        world.node(0).post_send(here, &wr).unwrap();
        world.success(0);
        assert_eq!(world.bytes(0, &source, 50_000, len as usize), sent);
    }
    // A number that is no receive queue of the domain.
    let wr = SendWr {
        xrc_srqn: 0x7777,
        ..SendWr::new(1, SendOp::Send, Data::Sges(&[]))
    };
    world.node(0).post_send(here, &wr).unwrap();
    world.failure(0, 1, syndrome::REMOTE_INVAL_REQ);
}
