//! The other services: datagrams and what a receiver learns of their sender, QP 1, multicast, unreliable connections,
//! XRC; work requests on memory keys; and one NIC talking to itself.

use std::time::Duration;

use rocinante_harness::driver::fabric::{LinkConfig, mac};
use rocinante_harness::driver::{
    Access, Av, Connection, Data, Event, GidEntry, Mr, Mtu, QpConfig, RoceType, SendOp, SendWr,
    Service, SrqKind, Umr, UmrPages, mapped_gid, syndrome,
};
use rocinante_tests::{World, run_id};
use rocinante_wire::MacAddr;
use rocinante_wire::sim::SimConfig;

const QKEY: u32 = 0x1234_5678;

/// Bytes in front of a datagram's payload.
const GRH: usize = 40;

/// A datagram QP on a node, ready to send.
fn datagram_qp(world: &mut World, node: usize, config: QpConfig) -> u32 {
    let driver = world.node(node);
    let qpn = driver.create_qp(&config).unwrap();
    driver.activate(qpn, Mtu::M4096).unwrap();
    qpn
}

fn ud(world: &mut World, node: usize) -> u32 {
    let config = QpConfig {
        qkey: QKEY,
        ..world.config(node, Service::Ud)
    };
    datagram_qp(world, node, config)
}

fn of_kind(kind: RoceType, as_bytes: bool) -> World {
    let link = LinkConfig {
        as_bytes,
        ..LinkConfig::default()
    };
    World::with(2, 32 << 20, link, kind)
}

#[test]
fn datagrams_tell_who_sent_them() {
    for (kind, l3_type) in [
        (RoceType::V1, 0),
        (RoceType::V2Ipv6, 1),
        (RoceType::V2Ipv4, 2),
    ] {
        for (len, as_bytes) in [
            (0, false),
            (1, true),
            (60, false),
            (1500, true),
            (4096, false),
        ] {
            println!("{kind:?}, {len} bytes");
            let mut world = of_kind(kind, as_bytes);
            let [here, there] = [ud(&mut world, 0), ud(&mut world, 1)];
            let source = world.pattern(0, 8192, 1);
            let target = world.payload(1, 8192);
            // The header area and the payload each across a border of segments.
            let into = [
                target.mr.sge(0, 30),
                target.mr.sge(30, 50),
                target.mr.sge(80, 8000),
            ];
            world.receive(1, there, 7, &into);
            let av = Av {
                tclass: 0xa6,
                hop_limit: 33,
                flow_label: 0x5_4321,
                ..world.av(1, there, QKEY)
            };
            let op = SendOp::Datagram {
                av: &av,
                imm: Some(0x0102_0304),
            };
            let gather = [source.mr.sge(3, len)];
            let wr = SendWr {
                solicited: true,
                ..SendWr::new(1, op, Data::Sges(&gather))
            };
            world.node(0).post_send(here, &wr).unwrap();
            assert_eq!(world.success(0).wr_id, 1);
            let received = world.success(1);
            assert_eq!((received.wr_id, received.src_qp), (7, here));
            assert_eq!(received.byte_len as usize, GRH + len as usize);
            assert_eq!(received.imm, 0x0102_0304);
            let flags = received.cqe.flags_rqpn.get() >> 24;
            assert_eq!(
                (flags >> 4 & 3, flags & 3),
                (1, l3_type),
                "GRH present, L3 type"
            );
            assert!(received.cqe.is_solicited());

            let grh = world.bytes(1, &target, 0, GRH);
            let (from, to) = (world.gid(0), world.gid(1));
            match kind {
                RoceType::V1 | RoceType::V2Ipv6 => {
                    assert_eq!(grh[..4], [0x6a, 0x65, 0x43, 0x21]);
                    assert_eq!(grh[7], 33);
                    assert_eq!((&grh[8..24], &grh[24..]), (&from[..], &to[..]));
                }
                RoceType::V2Ipv4 => {
                    assert_eq!(grh[..20], [0; 20]);
                    assert_eq!(grh[20..22], [0x45, 0xa6]);
                    assert_eq!((grh[28], grh[29]), (33, 17), "TTL, UDP");
                    assert_eq!((&grh[32..36], &grh[36..]), (&from[12..], &to[12..]));
                }
            }
            let came = world.bytes(1, &target, GRH as u64, len as usize);
            assert_eq!(came, world.bytes(0, &source, 3, len as usize));
        }
    }
}

#[test]
fn datagrams_nobody_can_take_are_dropped() {
    let mut world = World::new(2);
    let counters = world.node(1).alloc_q_counter().unwrap();
    let here = ud(&mut world, 0);
    let config = QpConfig {
        qkey: QKEY,
        counters,
        ..world.config(1, Service::Ud)
    };
    let there = datagram_qp(&mut world, 1, config);
    let target = world.payload(1, 4096);
    let send = |world: &mut World, av: &Av| {
        let op = SendOp::Datagram { av, imm: None };
        let wr = SendWr::new(1, op, Data::Inline(b"datagram"));
        world.node(0).post_send(here, &wr).unwrap();
        world.success(0);
    };
    // Without a receive: counted as out of buffer.
    let right = world.av(1, there, QKEY);
    send(&mut world, &right);
    world.no_completion(1);
    let counted = world.node(1).query_q_counter(counters).unwrap();
    assert_eq!(counted.out_of_buffer(), 1);
    world.receive(1, there, 7, &[target.mr.sge(0, 4096)]);
    for wrong in [
        Av {
            qkey: QKEY + 1,
            ..right
        },
        Av {
            qpn: there + 1,
            ..right
        },
        Av {
            gid: mapped_gid([10, 0, 0, 99]),
            ..right
        },
        Av {
            mac: mac(9),
            ..right
        },
    ] {
        send(&mut world, &wrong);
        world.no_completion(1);
    }
    // The high bit asks for the sender's own Q_Key.
    let own = Av {
        qkey: 1 << 31,
        ..right
    };
    send(&mut world, &own);
    assert_eq!(world.success(1).byte_len as usize, GRH + 8);
    assert_eq!(world.bytes(1, &target, GRH as u64, 8), b"datagram");
}

/// Everyone's GSI is QP 1 to the others, whatever number it has.
#[test]
fn the_general_services_interface_is_qp_1() {
    const GSI_QKEY: u32 = 0x8001_0000;
    let mut world = World::new(2);
    let [here, there] = [0, 1].map(|node| {
        let config = QpConfig {
            qkey: GSI_QKEY,
            ..world.config(node, Service::Gsi)
        };
        datagram_qp(&mut world, node, config)
    });
    assert!(here != 1 && there != 1);
    let target = world.payload(1, 512);
    world.receive(1, there, 7, &[target.mr.sge(0, 512)]);
    let av = world.av(1, 1, GSI_QKEY);
    let op = SendOp::Datagram { av: &av, imm: None };
    let wr = SendWr::new(1, op, Data::Inline(&[0x5a; 200]));
    world.node(0).post_send(here, &wr).unwrap();
    world.success(0);
    let received = world.success(1);
    assert_eq!((received.qpn, received.src_qp), (there, 1));
    assert_eq!(received.byte_len as usize, GRH + 200);
    assert_eq!(received.imm & 0xffff, 0xffff, "the P_Key");
    assert_eq!(world.bytes(1, &target, GRH as u64, 200), [0x5a; 200]);
}

#[test]
fn multicast_reaches_all_members_once() {
    let cases = [
        (
            RoceType::V2Ipv4,
            mapped_gid([239, 1, 2, 3]),
            MacAddr::new(0x01, 0, 0x5e, 1, 2, 3),
        ),
        (
            RoceType::V2Ipv6,
            [0xff, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
            MacAddr::new(0x33, 0x33, 1, 2, 3, 4),
        ),
        (
            RoceType::V1,
            [0xff, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
            MacAddr::new(0x33, 0x33, 1, 2, 3, 4),
        ),
    ];
    for (kind, gid, group_mac) in cases {
        let mut world = World::with(3, 16 << 20, LinkConfig::default(), kind);
        let config = |world: &World, node, block| QpConfig {
            qkey: QKEY,
            block_own_multicast: block,
            ..world.config(node, Service::Ud)
        };
        // Node 0: the sender, a member that does not want its own, and another. Node 1: two members. Node 2: none.
        let mut members = Vec::new();
        for (node, block) in [(0, true), (0, false), (1, false), (1, false)] {
            let config = config(&world, node, block);
            let qpn = datagram_qp(&mut world, node, config);
            world.node(node).multicast(qpn, &gid, true).unwrap();
            members.push((node, qpn));
        }
        let bystander = config(&world, 2, false);
        let bystander = datagram_qp(&mut world, 2, bystander);
        let mut inboxes = Vec::new();
        for (n, (node, qpn)) in members.iter().copied().chain([(2, bystander)]).enumerate() {
            let inbox = world.payload(node, 256);
            world.receive(node, qpn, n as u64, &[inbox.mr.sge(0, 256)]);
            inboxes.push(inbox);
        }
        let send = |world: &mut World| {
            let av = Av {
                qpn: 0xff_ffff,
                gid,
                mac: group_mac,
                ..world.av(1, 0, QKEY)
            };
            let op = SendOp::Datagram { av: &av, imm: None };
            let wr = SendWr::new(99, op, Data::Inline(b"to all"));
            world.node(0).post_send(members[0].1, &wr).unwrap();
        };
        send(&mut world);
        let mut on_node_0 = vec![world.success(0).wr_id, world.success(0).wr_id];
        on_node_0.sort_unstable();
        assert_eq!(on_node_0, [1, 99], "{kind:?}");
        let mut on_node_1 = vec![world.success(1).wr_id, world.success(1).wr_id];
        on_node_1.sort_unstable();
        assert_eq!(on_node_1, [2, 3], "{kind:?}");
        for node in 0..3 {
            world.no_completion(node);
        }
        for n in 1..4 {
            let (node, _) = members[n];
            let came = world.bytes(node, &inboxes[n], GRH as u64, 6);
            assert_eq!(came, b"to all");
        }
        // Whoever has left gets nothing any more.
        for (node, qpn) in members.iter().copied() {
            world.node(node).multicast(qpn, &gid, false).unwrap();
            world.receive(node, qpn, 50, &[]);
        }
        send(&mut world);
        assert_eq!(world.success(0).wr_id, 99);
        for node in 0..3 {
            world.no_completion(node);
        }
    }
}

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

/// Fast registration, use, invalidation from here and from there.
#[test]
fn memory_is_registered_and_invalidated_by_work_requests() {
    let mut world = World::new(2);
    let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
    let [here, there] = world.pair([0, 1], configs, |to| to.timeout = 8);
    let source = world.pattern(0, 200 << 10, 1);
    let pd = world.ends[1].pd;
    let free = world.node(1).alloc_mr(pd, 64).unwrap();
    let list = world.payload(1, 4096);
    for (round, pages) in [1usize, 3, 8, 9, 50].into_iter().enumerate() {
        let target = world.payload(1, (pages as u64) << 12);
        // Pages in another order than they lie, so that the list matters.
        let iovas: Vec<u64> = target.buffer.pages().collect();
        let order: Vec<u64> = iovas.iter().rev().copied().collect();
        let round = round as u32;
        let mr = Mr {
            key: free.key & !0xff | (round + 0x40),
            va: 0x7000_0000_0000 + 0x123,
            len: ((pages as u64) << 12) - 0x123,
        };
        let pages = if pages <= 8 {
            UmrPages::Inline(order.clone())
        } else {
            let bytes: Vec<u8> = order.iter().flat_map(|page| page.to_be_bytes()).collect();
            world.node(1).write(list.buffer.iova, &bytes).unwrap();
            UmrPages::At {
                addr: list.mr.va,
                lkey: list.mr.key,
                len: pages,
            }
        };
        let register = Umr::Register {
            mr,
            access: Access::ALL,
            log_page_size: 12,
            pages,
        };
        world.post(1, there, 1, SendOp::Umr(&register), &[]);
        assert_eq!(world.success(1).wr_id, 1);
        // Written to from the other side, all of it.
        let (va, rkey) = (mr.va, mr.key);
        let gather = [source.mr.sge(0, mr.len as u32)];
        world.post(0, here, 2, SendOp::Write { va, rkey }, &gather);
        world.success(0);
        let sent = world.bytes(0, &source, 0, mr.len as usize);
        let mut came = Vec::new();
        for (n, page) in order.iter().enumerate() {
            let skip = if n == 0 { 0x123 } else { 0 };
            let part = world.node(1).read(page + skip, 4096 - skip as usize);
            came.extend(part.unwrap());
        }
        assert!(came == sent, "{} pages", order.len());
        // Every other time from there, else from here.
        if round.is_multiple_of(2) {
            world.receive(1, there, 3, &[]);
            world.post(0, here, 4, SendOp::SendInv(mr.key), &[]);
            let received = world.success(1);
            assert_eq!((received.wr_id, received.imm), (3, mr.key));
            assert_eq!(received.cqe.op_own >> 4, 4, "RESP_SEND_INV");
            world.success(0);
        } else {
            let invalidate = Umr::Invalidate { key: mr.key };
            world.post(1, there, 5, SendOp::Umr(&invalidate), &[]);
            world.success(1);
        }
        world.release(1, target);
    }
    // Invalid is invalid.
    world.receive(1, there, 9, &[]);
    let op = SendOp::Write {
        va: 0x7000_0000_0123,
        rkey: free.key & !0xff | 0x44,
    };
    world.post(0, here, 6, op, &[source.mr.sge(0, 8)]);
    world.failure(0, 6, syndrome::REMOTE_ACCESS);
    world.failure(1, 9, syndrome::WR_FLUSH);
}

/// A NIC carries what its own QPs send to each other, without the wire.
#[test]
fn one_nic_talks_to_itself() {
    let mut world = World::with(1, 32 << 20, LinkConfig::default(), RoceType::V2Ipv4);
    let config = world.config(0, Service::Rc);
    let [here, there] = world.pair([0, 0], [config, config], |_| {});
    let source = world.pattern(0, 1 << 20, 5);
    let target = world.payload(0, 1 << 20);
    let (va, rkey) = (target.mr.va, target.mr.key);
    let gather = [source.mr.sge(0, 1 << 20)];
    world.post(0, here, 1, SendOp::Write { va, rkey }, &gather);
    assert_eq!(world.success(0).wr_id, 1);
    let sent = world.bytes(0, &source, 0, 1 << 20);
    assert!(world.bytes(0, &target, 0, 1 << 20) == sent);
    world.receive(0, there, 2, &[target.mr.sge(0, 100)]);
    world.post(0, here, 3, SendOp::Send, &[source.mr.sge(9, 100)]);
    let mut ids = [world.success(0).wr_id, world.success(0).wr_id];
    ids.sort_unstable();
    assert_eq!(ids, [2, 3]);
    let sent = world.bytes(0, &source, 9, 100);
    assert_eq!(world.bytes(0, &target, 0, 100), sent);
    assert_eq!(world.fabric.frames, 0, "frames on the wire");

    // A datagram QP to itself.
    let qpn = ud(&mut world, 0);
    world.receive(0, qpn, 4, &[target.mr.sge(0, 100)]);
    let av = world.av(0, qpn, QKEY);
    let op = SendOp::Datagram { av: &av, imm: None };
    let wr = SendWr::new(5, op, Data::Inline(b"me"));
    world.node(0).post_send(qpn, &wr).unwrap();
    let mut ids = [world.success(0).wr_id, world.success(0).wr_id];
    ids.sort_unstable();
    assert_eq!(ids, [4, 5]);
    assert_eq!(world.bytes(0, &target, GRH as u64, 2), b"me");
}

/// Tagged frames: the VLAN of the address, the priority of the path.
#[test]
fn addresses_on_a_vlan() {
    let mut world = World::new(2);
    for node in 0..2 {
        let entry = GidEntry {
            kind: RoceType::V2Ipv4,
            gid: mapped_gid([192, 168, 7, node as u8 + 1]),
            mac: mac(node),
            vlan: Some(77),
        };
        world.node(node).set_gid(5, Some(&entry)).unwrap();
    }
    let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
    let [here, there] = [0, 1].map(|node| world.node(node).create_qp(&configs[node]).unwrap());
    for (node, qpn, peer) in [(0, here, there), (1, there, here)] {
        let gid = mapped_gid([192, 168, 7, 2 - node as u8]);
        let mut to = Connection::new(peer, gid, mac(1 - node));
        (to.sgid_index, to.priority) = (5, 3);
        world.node(node).connect(qpn, &to).unwrap();
    }
    let source = world.pattern(0, 9000, 1);
    let target = world.payload(1, 9000);
    let op = SendOp::Write {
        va: target.mr.va,
        rkey: target.mr.key,
    };
    world.post(0, here, 1, op, &[source.mr.sge(0, 9000)]);
    world.success(0);
    let sent = world.bytes(0, &source, 0, 9000);
    assert!(world.bytes(1, &target, 0, 9000) == sent);

    let config = QpConfig {
        qkey: QKEY,
        ..world.config(1, Service::Ud)
    };
    let there = datagram_qp(&mut world, 1, config);
    let here = ud(&mut world, 0);
    world.receive(1, there, 2, &[target.mr.sge(0, 100)]);
    let av = Av {
        sgid_index: 5,
        gid: mapped_gid([192, 168, 7, 2]),
        sl: 6,
        ..world.av(1, there, QKEY)
    };
    let op = SendOp::Datagram { av: &av, imm: None };
    world.post(0, here, 3, op, &[source.mr.sge(0, 10)]);
    world.success(0);
    let received = world.success(1);
    assert_eq!(received.cqe.l4_l3_hdr_type & 1, 1, "a tag was there");
    assert_eq!(received.cqe.vlan_info.get() & 0xfff, 77);
    assert_eq!(received.cqe.vlan_info.get() >> 13, 6, "PCP");
}

/// Completion events: an armed CQ tells once, a CQ armed for solicited ones waits for one.
#[test]
fn armed_completion_queues_tell_once() {
    let mut world = World::new(2);
    let [here, there] = world.rc();
    let (from, to) = (world.ends[0].cqn, world.ends[1].cqn);
    for id in 0..40 {
        world.receive(1, there, id, &[]);
    }
    let send = |world: &mut World, id, solicited| {
        let wr = SendWr {
            solicited,
            ..SendWr::new(id, SendOp::Send, Data::Sges(&[]))
        };
        world.node(0).post_send(here, &wr).unwrap();
        world.success(0);
    };
    let told = |world: &mut World, node, cqn| {
        let event = Event::Completion(cqn);
        let driver = world.node(node);
        let events: Vec<Event> = std::iter::from_fn(|| driver.interrupt_event().unwrap()).collect();
        events.iter().filter(|e| **e == event).count()
    };
    // Not armed: nothing.
    send(&mut world, 0, true);
    world.success(1);
    assert_eq!(told(&mut world, 1, to), 0);
    // Armed: once, however many follow.
    world.node(1).arm_cq(to, false).unwrap();
    for id in 1..4 {
        send(&mut world, id, false);
    }
    assert_eq!(told(&mut world, 1, to), 1);
    // Armed with completions that were not taken: at once.
    world.node(1).arm_cq(to, false).unwrap();
    assert_eq!(told(&mut world, 1, to), 1);
    for _ in 1..4 {
        world.success(1);
    }
    // Armed for solicited ones only.
    world.node(1).arm_cq(to, true).unwrap();
    send(&mut world, 4, false);
    world.success(1);
    assert_eq!(told(&mut world, 1, to), 0);
    send(&mut world, 5, true);
    world.success(1);
    assert_eq!(told(&mut world, 1, to), 1);
    assert_eq!(told(&mut world, 0, from), 0);
    // Many rounds: neither the event queue nor its owner bits mind wrapping.
    for id in 6..1000 {
        world.receive(1, there, id, &[]);
        world.node(1).arm_cq(to, false).unwrap();
        send(&mut world, id, false);
        world.success(1);
        assert_eq!(told(&mut world, 1, to), 1, "round {id}");
    }
}

/// A link that goes down and up again is an event, and traffic goes on.
#[test]
fn links_go_down_and_up() {
    use rocinante_device::mlx5::Input;
    let mut world = World::new(2);
    let [here, _] = world.rc();
    let source = world.pattern(0, 100_000, 1);
    let target = world.payload(1, 100_000);
    world.node(1).function.handle(Input::Link(false));
    assert!(world.events(1).contains(&Event::Port { up: false }));
    let op = SendOp::Write {
        va: target.mr.va,
        rkey: target.mr.key,
    };
    world.post(0, here, 1, op, &[source.mr.sge(0, 100_000)]);
    world.fabric.run_for(Duration::from_millis(100));
    let cqn = world.ends[0].cqn;
    assert!(world.node(0).poll_cq(cqn).unwrap().is_none());
    world.node(1).function.handle(Input::Link(true));
    assert!(world.events(1).contains(&Event::Port { up: true }));
    assert_eq!(world.success(0).wr_id, 1);
    let sent = world.bytes(0, &source, 0, 100_000);
    assert!(world.bytes(1, &target, 0, 100_000) == sent);
    world.fabric.set_links(SimConfig::default());
}
