//! The receive side: a frame goes through steering and receive side scaling into the buffers of
//! receive queues. Source: reference of the interface, "RX path".

use rocinante_wire::buf::Buf;
use rocinante_wire::frame::Piece;

use super::QueueState;
use super::headers::{ETHERNET_LEN, Headers, L3};
use super::lro::{self, Rules};
use super::packet::Packet;
use super::place::{Report, place};
use super::rss::Hash;
use super::steering::Delivery;
use crate::mlx5::core::{Core, NicFrame};
use crate::mlx5::pause;
use crate::mlx5::port::control;
use crate::mlx5::wqe::DataSeg;

/// What receiving needs at a time, kept to be used again.
#[derive(Default)]
pub(super) struct Scratch {
    deliveries: Vec<Delivery>,
    segs: Vec<DataSeg>,
}

/// Receives a frame that is no RoCE frame for this NIC.
pub fn receive(core: &mut Core, frame: &NicFrame) {
    accept(core, frame, None);
}

/// Takes a frame that a send queue of the transport domain `domain` sent, if there is anyone here to take it.
pub(super) fn receive_looped(core: &mut Core, frame: &NicFrame, domain: u32) {
    accept(core, frame, Some(domain));
}

fn accept(core: &mut Core, frame: &NicFrame, looped: Option<u32>) {
    if !core.bus_master {
        return;
    }
    let len = frame.len_on_wire();
    if !core.port.link_up() {
        core.eth.discards.receive_discard_vport_down += 1;
        return;
    }
    if len < ETHERNET_LEN {
        return;
    }
    // The MTU counts the frame check sequence.
    if len + 4 > usize::from(core.port.mtu().min(core.vport.mtu)) {
        core.port.counters.oversize += 1;
        core.vport_counters.received_errors.count(len);
        return;
    }
    let held: Buf;
    let pieces = if frame.is_known_good() {
        [None, None]
    } else {
        frame.pieces(0..len)
    };
    let (head, rest): (&[u8], &[u8]) = match pieces {
        [Some(Piece::Slice(head)), None] => (head, &[]),
        [Some(Piece::Slice(head)), Some(Piece::Slice(rest))] => (head, rest),
        _ => {
            let mut buf = core.buffers.get(len);
            if frame.write_to(&mut buf).is_err() {
                return;
            }
            held = buf;
            (&held, &[])
        }
    };
    let Some(headers) = Headers::parse(head, len) else {
        return;
    };
    let mut packet = Packet::new(head, rest, headers);
    if looped.is_none() {
        let Headers { tag, tclass, .. } = packet.headers;
        let pcp = tag.map(|tag| (tag.tci >> 13) as u8);
        let dscp = || (packet.headers.l3 != L3::Other).then_some(tclass >> 2);
        let priority = core.port.qos.priority(pcp, dscp);
        let counters = &mut core.port.counters.received;
        counters.count_of_priority(&packet.headers.dmac, len, priority);
        if control::is_control(head) {
            if let Some(request) = control::take(counters, head) {
                pause::heed(core, &request);
            }
            return;
        }
    }
    let mut scratch = std::mem::take(&mut core.eth.rx);
    scratch.deliveries.clear();
    let matched = core
        .eth
        .steering
        .classify(&packet.headers.key(), len, &mut scratch.deliveries);
    if let Some(domain) = looped {
        let group = packet.headers.dmac[0] & 1 != 0;
        let tirs = &core.eth.tirs;
        scratch.deliveries.retain(|delivery| {
            tirs.get(delivery.tirn)
                .is_some_and(|tir| tir.takes_looped(domain, group))
        });
        if !scratch.deliveries.is_empty() {
            core.vport_counters.local_loopback.count(len);
        }
    } else if !matched {
        core.eth.discards.nic_receive_steering_discard += 1;
    }
    if !scratch.deliveries.is_empty() {
        let counters = &mut core.vport_counters;
        match packet.headers.dmac {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => &mut counters.received_eth_broadcast,
            [first, ..] if first & 1 != 0 => &mut counters.received_eth_multicast,
            _ => &mut counters.received_eth_unicast,
        }
        .count(len);
    }
    for delivery in &scratch.deliveries {
        let Some(tir) = core.eth.tirs.get(delivery.tirn) else {
            continue;
        };
        if let Some((rqn, hash)) = tir.select(&packet.headers, &core.eth.rqts) {
            let merging = tir.merging;
            deliver(
                core,
                rqn,
                &mut packet,
                hash,
                *delivery,
                merging,
                &mut scratch.segs,
            );
        }
    }
    core.eth.rx = scratch;
}

fn deliver(
    core: &mut Core,
    rqn: u32,
    packet: &mut Packet<'_>,
    hash: Hash,
    delivery: Delivery,
    merging: Option<Rules>,
    segs: &mut Vec<DataSeg>,
) {
    let Some(rq) = core.eth.rqs.get(rqn) else {
        return;
    };
    if rq.state != QueueState::Ready {
        return;
    }
    let tag = packet.customer_tag().filter(|_| rq.strip_vlan);
    let mut report = Report {
        hash,
        flow_tag: delivery.flow_tag,
        tag,
        header_types: packet.header_types(),
        // L2 is good: there is no frame check sequence to be wrong.
        good: 1,
        check_sum: 0,
        merged: None,
    };
    if let Some(checks) = packet.checks() {
        report.check_sum = checks.sum;
        report.good |= u8::from(checks.l3_ok) << 1 | u8::from(checks.l4_ok) << 2;
    }
    if rq.scatter_fcs {
        let fcs = packet.check_sequence();
        let bytes = packet.bytes(tag.is_some()).with_tail(&fcs);
        return place(core, rqn, &report, &bytes, segs);
    }
    if let Some(rules) = merging
        && lro::merge(core, rqn, packet, &report, rules, segs)
    {
        return;
    }
    place(core, rqn, &report, &packet.bytes(tag.is_some()), segs);
}
