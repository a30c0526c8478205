//! Datagrams: what a receiver learns of their sender, QP 1, multicast, addresses on a VLAN.

use crate::{GRH, QKEY, datagram_qp, of_kind, ud};
use rocinante_harness::driver::fabric::{LinkConfig, mac};
use rocinante_harness::driver::{
    Av, Connection, Data, GidEntry, QpConfig, RoceType, SendOp, SendWr, Service, mapped_gid,
};
use rocinante_tests::World;
use rocinante_wire::MacAddr;

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
