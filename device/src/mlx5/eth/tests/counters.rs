//! Counters of both ends of a link, as commands show them: they add up, and agree with the frames.

use super::*;
use crate::mlx5::eth::headers::ETHERTYPE_CVLAN;
use crate::mlx5::wqe::opcode;
use rocinante_firmware_cmd::mlx5::registers::counters::{
    ExtendedCounters, Ieee8023Counters, PerPrioCounters, Ppcnt, Rfc2819Counters, Rfc2863Counters,
    Rfc3635Counters,
};
use rocinante_firmware_cmd::mlx5::vport::QueryVportCounterOut;

/// A counter group of PPCNT.
fn group(host: &mut Host, group: u8, priority: u8) -> Vec<u8> {
    // ACCESS_REG, read.
    let mut query = input(Opcode::AccessReg, 1, 0x10 + Ppcnt::SIZE);
    query[0x0a..0x0c].copy_from_slice(&[0x50, 0x08]);
    Ppcnt::new(&mut query[0x10..])
        .set_local_port(1)
        .set_grp(group)
        .set_prio_tc(priority);
    host.ok(&query).split_off(0x18)
}

/// Frames of every kind, to the second host unless to a group: a tag's priority, and the bytes.
fn traffic() -> Vec<Vec<u8>> {
    let frame = |to: [u8; 6], tag: Option<u8>, len: usize| {
        let mut frame = to.to_vec();
        frame.extend([2, 0, 0, 0, 0, 1]);
        if let Some(priority) = tag {
            frame.extend(ETHERTYPE_CVLAN.to_be_bytes());
            frame.extend([priority << 5, 7]);
        }
        frame.extend([0x88, 0xb5]);
        frame.resize(len, 0x5a);
        frame
    };
    let second = [2, 0, 0, 0, 0, 2];
    vec![
        frame(second, None, 60),
        frame(second, Some(3), 64),
        frame(second, Some(3), 1000),
        frame(second, Some(7), 1518),
        frame([0x33, 0x33, 0, 0, 0, 1], None, 90),
        frame([0x01, 0, 0x5e, 0, 0, 1], Some(5), 300),
        frame([0xff; 6], None, 60),
        frame(second, None, 1514),
    ]
}

/// Packets and bytes of unicast, multicast and broadcast.
type Sums = [(u64, u64); 3];

fn sums(frames: &[Vec<u8>]) -> Sums {
    let mut sums = Sums::default();
    for frame in frames {
        let kind = match frame[0] {
            0xff => 2,
            first if first & 1 != 0 => 1,
            _ => 0,
        };
        sums[kind].0 += 1;
        sums[kind].1 += frame.len() as u64;
    }
    sums
}

/// What QUERY_VPORT_COUNTER says of Ethernet: transmitted, received.
fn vport(host: &mut Host) -> (Sums, Sums) {
    let output = host.ok(&input(Opcode::QueryVportCounter, 0, 0x20));
    let out = QueryVportCounterOut::new(&output);
    let transmitted = [
        out.transmitted_eth_unicast(),
        out.transmitted_eth_multicast(),
        out.transmitted_eth_broadcast(),
    ];
    let received = [
        out.received_eth_unicast(),
        out.received_eth_multicast(),
        out.received_eth_broadcast(),
    ];
    (
        transmitted.map(|traffic| (traffic.packets(), traffic.octets())),
        received.map(|traffic| (traffic.packets(), traffic.octets())),
    )
}

#[test]
fn both_ends_count_the_frames_there_were() {
    let (mut left, mut right) = (Host::new(1), Host::new(2));
    let mut sq = left.sq();
    let mut rq = right.receiver(false);
    for frame in traffic() {
        let mut segments = eth_seg(0, 0, &frame[..18]);
        segments.extend(left.data_seg(&frame[18..]));
        left.post(&mut sq, opcode::SEND, false, &segments);
    }
    left.ring_doorbell(&sq);
    let frames = left.frames();
    assert_eq!(frames, traffic());
    for frame in &frames {
        right.receive(frame);
    }
    let mut completions = 0;
    while right.poll(&mut rq.cq).is_some() {
        completions += 1;
    }
    assert_eq!(completions, frames.len());

    let expected = sums(&frames);
    assert_eq!(vport(&mut left), (expected, Sums::default()));
    assert_eq!(vport(&mut right), (Sums::default(), expected));

    let n = frames.len() as u64;
    let on_wire: u64 = frames.iter().map(|frame| frame.len() as u64 + 4).sum();
    let (sent, arrived) = (group(&mut left, 0, 0), group(&mut right, 0, 0));
    let (sent, arrived) = (
        Ieee8023Counters::new(&sent),
        Ieee8023Counters::new(&arrived),
    );
    assert_eq!(
        (
            sent.a_frames_transmitted_ok(),
            sent.a_octets_transmitted_ok()
        ),
        (n, on_wire)
    );
    assert_eq!(
        (
            arrived.a_frames_received_ok(),
            arrived.a_octets_received_ok()
        ),
        (n, on_wire)
    );
    assert_eq!(sent.a_frames_received_ok(), 0);
    assert_eq!(
        (
            arrived.a_multicast_frames_received_ok(),
            arrived.a_broadcast_frames_received_ok()
        ),
        (expected[1].0, expected[2].0)
    );

    let arrived = group(&mut right, 1, 0);
    let arrived = Rfc2863Counters::new(&arrived);
    assert_eq!(
        (
            arrived.if_in_octets(),
            arrived.if_in_ucast_pkts(),
            arrived.if_in_multicast_pkts(),
            arrived.if_in_broadcast_pkts()
        ),
        (on_wire, expected[0].0, expected[1].0, expected[2].0)
    );

    // By length with frame check sequence: 64, 68, 1004, 1522, 94, 304, 64, 1518.
    let sizes = [2, 2, 0, 1, 1, 1, 1, 0, 0, 0];
    let arrived = group(&mut right, 2, 0);
    let arrived = Rfc2819Counters::new(&arrived);
    assert_eq!(
        (arrived.ether_stats_pkts(), arrived.ether_stats_octets()),
        (n, on_wire)
    );
    assert_eq!(
        [
            arrived.ether_stats_pkts64octets(),
            arrived.ether_stats_pkts65to127octets(),
            arrived.ether_stats_pkts128to255octets(),
            arrived.ether_stats_pkts256to511octets(),
            arrived.ether_stats_pkts512to1023octets(),
            arrived.ether_stats_pkts1024to1518octets(),
            arrived.ether_stats_pkts1519to2047octets(),
            arrived.ether_stats_pkts2048to4095octets(),
            arrived.ether_stats_pkts4096to8191octets(),
            arrived.ether_stats_pkts8192to10239octets(),
        ],
        sizes
    );
    let sent = group(&mut left, 5, 0);
    let sent = ExtendedCounters::new(&sent);
    assert_eq!(
        [
            sent.tx_stats_pkts64octets(),
            sent.tx_stats_pkts65to127octets(),
            sent.tx_stats_pkts256to511octets(),
            sent.tx_stats_pkts512to1023octets(),
            sent.tx_stats_pkts1024to1518octets(),
            sent.tx_stats_pkts1519to2047octets(),
        ],
        [2, 2, 1, 1, 1, 1]
    );

    // Received by the priority of the tag, sent by that of the queue, which is 0.
    let mut priorities = [(0, 0); 8];
    for (priority, sums) in priorities.iter_mut().enumerate() {
        let arrived = group(&mut right, 0x10, priority as u8);
        let sent = group(&mut left, 0x10, priority as u8);
        *sums = (
            PerPrioCounters::new(&arrived).rx_frames(),
            PerPrioCounters::new(&sent).tx_frames(),
        );
    }
    assert_eq!(
        priorities,
        [
            (4, n),
            (0, 0),
            (0, 0),
            (2, 0),
            (0, 0),
            (1, 0),
            (0, 0),
            (1, 0)
        ]
    );
    let octets: u64 = (0..8)
        .map(|priority| {
            let arrived = group(&mut right, 0x10, priority);
            PerPrioCounters::new(&arrived).rx_octets()
        })
        .sum();
    assert_eq!(octets, on_wire);
}

#[test]
fn pause_frames_end_at_the_port() {
    let mut host = Host::new(1);
    let mut rq = host.receiver(false);
    let mut pause = vec![0x01, 0x80, 0xc2, 0, 0, 1, 2, 0, 0, 0, 0, 9];
    pause.extend([0x88, 0x08, 0x00, 0x01, 0xff, 0xff]);
    pause.resize(60, 0);
    let mut priority_pause = pause.clone();
    priority_pause[14..18].copy_from_slice(&[0x01, 0x01, 0x00, 0x08]);
    host.receive(&pause);
    host.receive(&priority_pause);
    assert!(host.poll(&mut rq.cq).is_none());
    let counters = group(&mut host, 0, 0);
    let counters = Ieee8023Counters::new(&counters);
    assert_eq!(
        (
            counters.a_frames_received_ok(),
            counters.a_mac_control_frames_received(),
            counters.a_pause_mac_ctrl_frames_received()
        ),
        (2, 2, 1)
    );
    let counters = group(&mut host, 3, 0);
    assert_eq!(Rfc3635Counters::new(&counters).dot3in_pause_frames(), 1);
    let pauses = |host: &mut Host, priority: u8| {
        let counters = group(host, 0x10, priority);
        PerPrioCounters::new(&counters).rx_pause()
    };
    assert_eq!((pauses(&mut host, 0), pauses(&mut host, 3)), (1, 1));
    assert_eq!(vport(&mut host).1, Sums::default());
    // LACP's neighbour in the address range does reach the host.
    pause[5] = 2;
    host.receive(&pause);
    assert!(host.poll(&mut rq.cq).is_some());
}

#[test]
fn what_arrives_is_delivered_or_dropped_for_a_reason() {
    let mut host = Host::new(2);
    let frame = &traffic()[0];
    host.receive(frame);
    let mut rq = host.receiver(false);
    for _ in 0..20 {
        host.receive(frame);
    }
    let mut long = frame.clone();
    long.resize(1519, 0);
    host.receive(&long);
    let mut completions = 0;
    while host.poll(&mut rq.cq).is_some() {
        completions += 1;
    }
    assert_eq!(completions, 1 << LOG_RQ_SIZE);
    let core = &host.nic.core;
    assert_eq!(core.eth.discards.nic_receive_steering_discard, 1);
    assert_eq!(core.port.counters.received.frames, 21);
    assert_eq!(core.port.counters.oversize, 1);
    let (_, received) = vport(&mut host);
    assert_eq!(received[0].0, 20, "those without a buffer, too");
    let counters = group(&mut host, 0, 0);
    assert_eq!(
        Ieee8023Counters::new(&counters).a_frame_too_long_errors(),
        1
    );
}
