//! From frames to completions.

use super::*;
use crate::mlx5::eth::headers::tests::{ipv4, ipv6};
use crate::mlx5::eth::headers::{ETHERTYPE_CVLAN, ETHERTYPE_SVLAN, Headers, protocol};
use crate::mlx5::eth::tir::Disposition;
use crate::mlx5::eth::{checksum, checksum::tests::slow_sum};
use rocinante_firmware_cmd::mlx5::eth::ModifyRqtIn;
use rocinante_firmware_cmd::mlx5::resources::AllocQCounterOut;
use rocinante_firmware_cmd::mlx5::wq::{CreateRmpIn, CreateRmpOut, QueryRqOut};
use rocinante_wire::time::Time;

/// The same frame with right checksums.
fn checked(mut frame: Vec<u8>) -> Vec<u8> {
    let headers = Headers::parse(&frame, frame.len()).unwrap();
    checksum::fill_ipv4(&mut frame, &headers);
    checksum::fill_l4(&mut frame, &headers);
    frame
}

#[test]
fn a_tcp_segment_arrives_with_all_that_a_driver_wants_to_know() {
    let mut host = Host::new(1);
    let mut rq = host.receiver(false);
    host.nic.core.now = Time(123_456_789);
    let frame = checked(ipv4(None, protocol::TCP, (80, 4000), &pattern(1000)));
    host.receive(&frame);
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(cqe[63] >> 4, 2);
    assert_eq!(be32(&cqe, 0x2c) as usize, frame.len());
    assert_eq!(host.read(rq.buffers[0], frame.len()), frame);
    assert_eq!(
        be16(&cqe, 0x14),
        slow_sum(&frame[14..]),
        "sum over the datagram"
    );
    assert_eq!(cqe[0x1c], 7, "L2, L3 and L4 are good");
    assert_eq!(
        cqe[0x1d],
        4 << 4 | 2 << 2,
        "TCP with ACK and data over IPv4"
    );
    assert_eq!(cqe[0x10], 0x55);
    assert_ne!(be32(&cqe, 0x0c), 0);
    assert_eq!(be32(&cqe, 0x38), 0x77, "flow tag");
    assert_eq!(be32(&cqe, 0x20), 0);
    assert_eq!(cqe[0x30..0x38], 123_456_789u64.to_be_bytes());
    assert_eq!(be16(&cqe, 0x3c), 0);
    host.receive(&frame);
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(be16(&cqe, 0x3c), 1);
    assert_eq!(host.read(rq.buffers[1], frame.len()), frame);
    assert_eq!(host.nic.core.vport_counters.received_eth_unicast.packets, 2);
}

#[test]
fn wrong_checksums_are_not_called_good_but_summed() {
    let mut host = Host::new(1);
    let mut rq = host.receiver(false);
    let good = checked(ipv4(None, protocol::UDP, (5, 6), &pattern(101)));
    let mut l3 = good.clone();
    l3[24] ^= 1;
    let mut l4 = good.clone();
    l4[50] ^= 1;
    let mut none = good.clone();
    none[40..42].fill(0);
    let mut fragment = good.clone();
    fragment[20] = 0x20;
    let icmp = checked(ipv4(None, 1, (5, 6), &pattern(101)));
    let v6 = checked(ipv6(protocol::TCP, (5, 6), &pattern(33)));
    let mut bare = v6.clone();
    bare[12] = 0x99;
    let expected = [
        (&good, 7, 2 << 4 | 2 << 2),
        (&l3, 5, 2 << 4 | 2 << 2),
        (&l4, 3, 2 << 4 | 2 << 2),
        (&none, 7, 2 << 4 | 2 << 2),
        (&fragment, 1, 2 << 2),
        (&icmp, 3, 2 << 2),
        (&v6, 7, 4 << 4 | 1 << 2),
        (&bare, 1, 0),
    ];
    for (frame, ok, types) in expected {
        host.receive(frame);
        let cqe = host.poll(&mut rq.cq).expect("a completion");
        assert_eq!((cqe[0x1c], cqe[0x1d]), (ok, types), "{frame:02x?}");
        let sum = if types == 0 {
            0
        } else {
            slow_sum(&frame[14..])
        };
        assert_eq!(be16(&cqe, 0x14), sum, "{frame:02x?}");
    }
}

#[test]
fn padding_is_no_part_of_the_sum() {
    let mut host = Host::new(1);
    let mut rq = host.receiver(false);
    let mut frame = checked(ipv4(None, protocol::UDP, (5, 6), b"odd"));
    let sum = slow_sum(&frame[14..]);
    frame.resize(60, 0xaa);
    host.receive(&frame);
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(
        (be16(&cqe, 0x14), cqe[0x1c], be32(&cqe, 0x2c)),
        (sum, 7, 60)
    );
}

#[test]
fn customer_tags_are_taken_out_unless_the_queue_wants_them() {
    let mut host = Host::new(1);
    let mut rq = host.receiver(false);
    let frame = checked(ipv4(
        Some((ETHERTYPE_CVLAN, 0x6123)),
        protocol::UDP,
        (5, 6),
        &pattern(300),
    ));
    host.receive(&frame);
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!((cqe[0x1d] & 1, be16(&cqe, 0x1e)), (1, 0x6123));
    assert_eq!(be32(&cqe, 0x2c) as usize, frame.len() - 4);
    let mut untagged = frame.clone();
    untagged.drain(12..16);
    assert_eq!(host.read(rq.buffers[0], untagged.len()), untagged);
    assert_eq!((be16(&cqe, 0x14), cqe[0x1c]), (slow_sum(&frame[18..]), 7));

    let service = checked(ipv4(
        Some((ETHERTYPE_SVLAN, 0x6123)),
        protocol::UDP,
        (5, 6),
        b"data",
    ));
    host.receive(&service);
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(
        (cqe[0x1d] & 1, be32(&cqe, 0x2c) as usize),
        (0, service.len())
    );

    let mut modify = modify_rq(rq.rqn, 1, 1);
    let mut view = ModifyRqIn::new(&mut modify);
    view.set_modify_bitmask(2).rqc_mut().set_vsd(true);
    host.ok(&modify);
    host.receive(&frame);
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!((cqe[0x1d] & 1, be32(&cqe, 0x2c) as usize), (0, frame.len()));
    assert_eq!(host.read(rq.buffers[2], frame.len()), frame);
    assert_eq!(be16(&cqe, 0x14), slow_sum(&frame[18..]));
}

#[test]
fn a_linked_list_is_followed_and_named_by_index() {
    let mut host = Host::new(1);
    let mut rq = host.receiver(true);
    let frame = checked(ipv4(None, protocol::UDP, (5, 6), b"data"));
    let mut indices = Vec::new();
    for _ in 0..16 {
        host.receive(&frame);
        let cqe = host.poll(&mut rq.cq).expect("a completion");
        let index = be16(&cqe, 0x3c);
        assert_eq!(
            host.read(rq.buffers[usize::from(index)], frame.len()),
            frame
        );
        indices.push(index);
    }
    let expected: Vec<u16> = (0..16).map(|i: u16| i.wrapping_neg() % 16).collect();
    assert_eq!(indices, expected);
    // All taken: dropped without a word. Then the driver posts the first ones again.
    host.receive(&frame);
    assert!(host.poll(&mut rq.cq).is_none());
    host.write(rq.record, &17u32.to_be_bytes());
    host.receive(&frame);
    assert_eq!(host.poll(&mut rq.cq).map(|cqe| be16(&cqe, 0x3c)), Some(0));
}

#[test]
fn queues_share_a_pool() {
    let mut host = Host::new(1);
    let (ring, record) = (host.alloc(0x1000), host.alloc(64));
    let mut create = input(Opcode::CreateRmp, 0, CreateRmpIn::SIZE + 8);
    let mut view = CreateRmpIn::new(&mut create);
    let mut rmpc = view.rmpc_mut();
    rmpc.set_state(1);
    let mut wq = rmpc.wq_mut();
    wq.set_wq_type(0)
        .set_log_wq_stride(5)
        .set_log_wq_sz(LOG_RQ_SIZE);
    wq.set_pd(host.pd)
        .set_dbr_addr(record)
        .pas_mut()
        .set(0, ring);
    let rmpn = CreateRmpOut::new(&host.ok(&create)).rmpn();
    let mut queues = Vec::new();
    for (own, user_index) in [(true, 0xff_ffff), (false, 0x1234)] {
        let cq = host.cq();
        let mut create = host.create_rq(cq.cqn, true, 5, 0, 0);
        let mut view = CreateRqIn::new(&mut create);
        view.rqc_mut()
            .set_mem_rq_type(1)
            .set_rmpn(rmpn)
            .set_user_index(user_index);
        let rqn = CreateRqOut::new(&host.ok(&create)).rqn();
        host.ok(&modify_rq(rqn, 0, 1));
        queues.push((rqn, cq, if own { rmpn } else { user_index }));
    }
    assert!(
        host.command(&by_number(Opcode::DestroyRmp, rmpn)).is_err(),
        "in use"
    );
    let buffers: Vec<u64> = (0..1 << LOG_RQ_SIZE)
        .map(|_| host.alloc(u64::from(BUFFER)))
        .collect();
    let cq = queues[0].1.clone();
    host.fill(
        &TestRq {
            rqn: 0,
            ring,
            record,
            log_stride: 5,
            linked: true,
            cq,
            buffers,
        },
        BUFFER,
    );
    let mut tirns = Vec::new();
    for (rqn, ..) in &queues {
        tirns.push(host.tir(Disposition::Direct(*rqn)));
    }
    host.all_to(&tirns);
    for round in 0..8u16 {
        host.receive(&checked(ipv4(None, protocol::UDP, (5, 6), b"data")));
        for (n, (_, cq, owner)) in queues.iter_mut().enumerate() {
            let cqe = host.poll(cq).expect("a completion");
            let index = (round * 2 + n as u16).wrapping_neg() % 16;
            assert_eq!((be16(&cqe, 0x3c), be32(&cqe, 0x20)), (index, *owner));
        }
    }
    host.receive(&pattern(60));
    assert!(host.poll(&mut queues[0].1).is_none());
}

#[test]
fn without_a_wqe_the_frame_is_dropped_and_counted() {
    let mut host = Host::new(1);
    let cq = host.cq();
    let set =
        AllocQCounterOut::new(&host.ok(&input(Opcode::AllocQCounter, 0, 16))).counter_set_id();
    let (ring, record) = (host.alloc(0x1000), host.alloc(64));
    let mut create = host.create_rq(cq.cqn, false, 4, ring, record);
    CreateRqIn::new(&mut create)
        .rqc_mut()
        .set_counter_set_id(set);
    let rqn = CreateRqOut::new(&host.ok(&create)).rqn();
    let tirn = host.tir(Disposition::Direct(rqn));
    host.all_to(&[tirn]);
    let frame = pattern(60);
    host.receive(&frame);
    let counted = |host: &Host| {
        host.nic
            .core
            .q_counters
            .get(u32::from(set))
            .unwrap()
            .out_of_buffer
    };
    assert_eq!(counted(&host), 0, "not ready, not out of buffers");
    host.ok(&modify_rq(rqn, 0, 1));
    host.receive(&frame);
    host.receive(&frame);
    assert_eq!(counted(&host), 2);
}

#[test]
fn hashes_spread_flows_over_a_table_and_a_redirection_holds_at_once() {
    let mut host = Host::new(1);
    let mut rqs: Vec<TestRq> = (0..4).map(|_| host.rq(false)).collect();
    for rq in &rqs {
        host.fill(rq, BUFFER);
    }
    let rqns: Vec<u32> = rqs.iter().map(|rq| rq.rqn).collect();
    let rqtn = host.rqt(&rqns);
    let tirn = host.tir(Disposition::Indirect(rqtn));
    host.all_to(&[tirn]);
    let mut total = 0;
    for port in 0..40 {
        host.receive(&checked(ipv4(None, protocol::TCP, (port, 4000), b"data")));
    }
    for (index, rq) in rqs.iter_mut().enumerate() {
        let mut own = 0;
        while let Some(cqe) = host.poll(&mut rq.cq) {
            assert_eq!(be32(&cqe, 0x0c) as usize % 4, index);
            own += 1;
        }
        assert!(own > 0, "no flow in queue {index}");
        total += own;
    }
    assert_eq!(total, 40);
    for rq in &rqs {
        assert!(
            host.command(&by_number(Opcode::DestroyRq, rq.rqn)).is_err(),
            "still in the table"
        );
    }
    let mut modify = input(Opcode::ModifyRqt, 0, ModifyRqtIn::SIZE + 4);
    let mut view = ModifyRqtIn::new(&mut modify);
    view.set_rqtn(rqtn).bitmask_mut().set_rqn_list(true);
    let mut rqtc = view.rqtc_mut();
    rqtc.set_rqt_actual_size(1)
        .rq_num_mut()
        .get_mut(0)
        .set_rq_num(rqns[3]);
    host.ok(&modify);
    for rq in &rqs[..3] {
        host.ok(&by_number(Opcode::DestroyRq, rq.rqn));
    }
    host.receive(&checked(ipv4(None, protocol::TCP, (1, 4000), b"data")));
    assert!(host.poll(&mut rqs[3].cq).is_some());
}

#[test]
fn one_frame_goes_to_every_destination() {
    let mut host = Host::new(1);
    let mut rqs: Vec<TestRq> = (0..3).map(|_| host.receiver(false)).collect();
    // Of the tables made so far the lowest identifier is the root.
    let tirns: Vec<u32> = rqs
        .iter()
        .map(|rq| rq.rqn)
        .map(|rqn| host.tir(Disposition::Direct(rqn)))
        .collect();
    let (low, high) = (host.flow_table(1), host.flow_table(2));
    let group = host.flow_group(high);
    host.ok(&set_entry(high, group, 5, 2, &tirns));
    let group = host.flow_group(low);
    host.ok(&set_entry(low, group, 0, 1, &[high]));
    let frame = checked(ipv4(None, protocol::UDP, (5, 6), b"data"));
    host.receive(&frame);
    for rq in &mut rqs {
        let cqe = host.poll(&mut rq.cq).expect("a completion");
        assert_eq!(cqe[0x1c], 7);
        assert_eq!(host.read(rq.buffers[0], frame.len()), frame);
        assert!(host.poll(&mut rq.cq).is_none());
    }
    for tirn in tirns {
        assert!(
            host.command(&by_number(Opcode::DestroyTir, tirn)).is_err(),
            "still a destination"
        );
    }
}

#[test]
fn a_frame_that_does_not_fit_or_may_not_be_written_fails_the_queue() {
    let frame = pattern(500);
    for (len, lkey, syndrome) in [(499, 0, 1), (500, 1, 4)] {
        let mut host = Host::new(1);
        let mut rq = host.receiver(false);
        host.lkey ^= lkey;
        host.fill(&rq, len);
        host.receive(&frame);
        let cqe = host.poll(&mut rq.cq).expect("an error");
        assert_eq!(
            (cqe[63] >> 4, cqe[0x37], be16(&cqe, 0x3c)),
            (0xe, syndrome, 0)
        );
        for counter in 1..16 {
            let cqe = host.poll(&mut rq.cq).expect("a flushed WQE");
            assert_eq!(
                (cqe[63] >> 4, cqe[0x37], be16(&cqe, 0x3c)),
                (0xe, 5, counter)
            );
        }
        assert!(host.poll(&mut rq.cq).is_none());
        let output = host.ok(&by_number(Opcode::QueryRq, rq.rqn));
        assert_eq!(QueryRqOut::new(&output).rqc().state(), 3);
        host.ok(&modify_rq(rq.rqn, 3, 0));
        host.ok(&modify_rq(rq.rqn, 0, 1));
        host.lkey ^= lkey;
        host.fill(&rq, BUFFER);
        host.receive(&frame);
        assert_eq!(host.poll(&mut rq.cq).map(|cqe| cqe[63] >> 4), Some(2));
    }
}

#[test]
fn frames_beyond_the_mtu_are_dropped_and_counted() {
    let mut host = Host::new(1);
    let mut rq = host.receiver(false);
    host.receive(&pattern(1519));
    assert!(host.poll(&mut rq.cq).is_none());
    assert_eq!(host.nic.core.port.counters.oversize, 1);
    host.receive(&pattern(1518));
    assert!(host.poll(&mut rq.cq).is_some());
    host.receive(&pattern(13));
    assert!(host.poll(&mut rq.cq).is_none());
    port::set_physical(&mut host.nic.core, false);
    host.receive(&pattern(60));
    assert!(host.poll(&mut rq.cq).is_none());
    assert_eq!(host.nic.core.eth.discards.receive_discard_vport_down, 1);
}

#[test]
fn a_frame_that_nobody_wants_is_counted() {
    let mut host = Host::new(1);
    host.receive(&pattern(60));
    assert_eq!(host.nic.core.eth.discards.nic_receive_steering_discard, 1);
}

/// Bit by bit, as IEEE 802.3 describes it.
fn slow_fcs(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    (!crc).to_le_bytes()
}

#[test]
fn the_frame_check_sequence_is_received_where_the_driver_wants_it() {
    let mut host = Host::new(1);
    let mut rq = host.receiver(false);
    let frame = checked(ipv4(
        Some((ETHERTYPE_CVLAN, 5)),
        protocol::TCP,
        (5, 6),
        &pattern(100),
    ));
    let mut modify = modify_rq(rq.rqn, 1, 1);
    let mut view = ModifyRqIn::new(&mut modify);
    view.set_modify_bitmask(4).rqc_mut().set_scatter_fcs(true);
    host.ok(&modify);
    host.receive(&frame);
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(be32(&cqe, 0x2c) as usize, frame.len());
    let untagged = [&frame[..12], &frame[16..]].concat();
    let with_fcs = [&untagged[..], &slow_fcs(&frame)].concat();
    assert_eq!(host.read(rq.buffers[0], with_fcs.len()), with_fcs);
    assert_eq!((be16(&cqe, 0x14), cqe[0x1c]), (slow_sum(&frame[18..]), 7));
    let query = QueryRqOut::new(&host.ok(&by_number(Opcode::QueryRq, rq.rqn))[..])
        .rqc()
        .scatter_fcs();
    assert!(query);
    ModifyRqIn::new(&mut modify)
        .rqc_mut()
        .set_scatter_fcs(false);
    host.ok(&modify);
    host.receive(&frame);
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(be32(&cqe, 0x2c) as usize, frame.len() - 4);
}

#[test]
fn extension_headers_and_fragments_are_summed_and_judged() {
    let mut host = Host::new(1);
    let mut rq = host.receiver(false);
    // Hop-by-hop and destination options in front of UDP.
    let inner = ipv6(protocol::UDP, (5, 6), &pattern(77));
    let mut extended = inner[..54].to_vec();
    extended[20] = protocol::HOP_BY_HOP;
    extended.extend([protocol::DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0]);
    extended.extend([protocol::UDP, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    extended.extend(&inner[54..]);
    let payload = (extended.len() - 54) as u16;
    extended[18..20].copy_from_slice(&payload.to_be_bytes());
    let extended = checked(extended);
    let mut damaged = extended.clone();
    damaged[100] ^= 1;
    // A fragment header: no ports, no checksum to judge.
    let mut fragment = inner[..54].to_vec();
    fragment[20] = protocol::FRAGMENT;
    fragment.extend([protocol::UDP, 0, 0, 1, 0, 0, 0, 9]);
    fragment.extend(&inner[54..]);
    let payload = (fragment.len() - 54) as u16;
    fragment[18..20].copy_from_slice(&payload.to_be_bytes());
    for (what, frame, good, l4) in [
        ("extended", &extended, 7, 2),
        ("damaged", &damaged, 3, 2),
        ("fragment", &fragment, 3, 0),
    ] {
        host.receive(frame);
        let cqe = host.poll(&mut rq.cq).expect("a completion");
        assert_eq!((cqe[0x1c], cqe[0x1d] >> 4), (good, l4), "{what}");
        assert_eq!(be16(&cqe, 0x14), slow_sum(&frame[14..]), "{what}");
    }
}
