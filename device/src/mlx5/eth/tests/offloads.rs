//! Checksums, VLAN insertion and segmentation, from a send queue of one NIC to a receive queue of
//! another, against slow computations of their own.

use super::*;
use crate::mlx5::eth::checksum::tests::slow_sum;
use crate::mlx5::eth::headers::protocol;
use crate::mlx5::eth::headers::tests::{ipv4, ipv6};
use crate::mlx5::wqe::opcode;

/// The TCP or UDP checksum that `frame` should have, from RFC 9293 3.1 and RFC 768.
fn slow_l4_checksum(frame: &[u8], l3: usize) -> u16 {
    let v4 = frame[l3] >> 4 == 4;
    let (addresses, l4, number) = if v4 {
        (l3 + 12..l3 + 20, l3 + 20, frame[l3 + 9])
    } else {
        (l3 + 8..l3 + 40, l3 + 40, frame[l3 + 6])
    };
    let end = if v4 {
        l3 + usize::from(be16(frame, l3 + 2))
    } else {
        l3 + 40 + usize::from(be16(frame, l3 + 4))
    };
    let mut bytes = frame[addresses].to_vec();
    bytes.extend((u32::from(number)).to_be_bytes());
    bytes.extend(((end - l4) as u32).to_be_bytes());
    let field = l4 + if number == protocol::TCP { 16 } else { 6 };
    bytes.extend(&frame[l4..field]);
    bytes.extend([0, 0]);
    bytes.extend(&frame[field + 2..end]);
    let checksum = !slow_sum(&bytes);
    if number == protocol::UDP && checksum == 0 {
        0xffff
    } else {
        checksum
    }
}

fn l4_checksum(frame: &[u8], l3: usize) -> u16 {
    let (l4, number) = if frame[l3] >> 4 == 4 {
        (l3 + 20, frame[l3 + 9])
    } else {
        (l3 + 40, frame[l3 + 6])
    };
    be16(frame, l4 + if number == protocol::TCP { 16 } else { 6 })
}

#[test]
fn checksums_are_computed_whatever_the_fields_hold() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    for payload in [0, 1, 18, 777, 1400] {
        for number in [protocol::TCP, protocol::UDP] {
            for mut frame in [
                ipv4(None, number, (5, 6), &pattern(payload)),
                ipv6(number, (5, 6), &pattern(payload)),
            ] {
                frame[24..26].fill(0x55);
                let field = frame.len() - payload - if number == protocol::TCP { 4 } else { 2 };
                frame[field..field + 2].fill(0x77);
                let mut segments = eth_seg(0xc0, 0, &frame[..14]);
                segments.extend(host.data_seg(&frame[14..]));
                host.post(&mut sq, opcode::SEND, true, &segments);
                host.ring_doorbell(&sq);
                let sent = host.frames().remove(0);
                assert_eq!(sent.len(), frame.len().max(60));
                assert_eq!(
                    l4_checksum(&sent, 14),
                    slow_l4_checksum(&sent, 14),
                    "{payload} bytes"
                );
                if frame[12] == 8 {
                    assert_eq!(slow_sum(&sent[14..34]), 0xffff, "IPv4 header");
                }
                host.poll(&mut sq.cq).unwrap();
            }
        }
    }
}

#[test]
fn fragments_and_other_protocols_stay_as_they_are() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    let mut fragment = ipv4(None, protocol::UDP, (5, 6), &pattern(100));
    fragment[20] = 0x20;
    for frame in [fragment, ipv4(None, 1, (5, 6), &pattern(100)), pattern(100)] {
        let mut segments = eth_seg(0x80, 0, &[]);
        segments.extend(host.data_seg(&frame));
        host.post(&mut sq, opcode::SEND, false, &segments);
        host.ring_doorbell(&sq);
        assert_eq!(host.frames(), [frame]);
    }
}

#[test]
fn a_tag_is_inserted_behind_the_addresses() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    let frame = ipv4(None, protocol::UDP, (5, 6), &pattern(20));
    for (flags, tpid) in [(0x8000u16, [0x81, 0]), (0x8001, [0x88, 0xa8])] {
        let mut segments = eth_seg(0xc0, 0, &[]);
        segments[12..14].copy_from_slice(&flags.to_be_bytes());
        segments[14..16].copy_from_slice(&[0x61, 0x23]);
        segments.extend(host.data_seg(&frame));
        host.post(&mut sq, opcode::SEND, false, &segments);
        host.ring_doorbell(&sq);
        let sent = host.frames().remove(0);
        assert_eq!(sent[..12], frame[..12]);
        assert_eq!(sent[12..14], tpid);
        assert_eq!(sent[14..18], [0x61, 0x23, 8, 0]);
        assert_eq!(sent[18..24], frame[14..20]);
        assert_eq!(l4_checksum(&sent, 18), slow_l4_checksum(&sent, 18));
        assert_eq!(sent.len(), frame.len() + 4);
    }
}

/// What segmentation should make of a packet: one frame per `mss` bytes of payload, by the book
/// (Linux `tcp_gso_segment`, `__udp_gso_segment`), checksums left out.
fn slow_segments(packet: &[u8], header: usize, l3: usize, mss: usize) -> Vec<Vec<u8>> {
    let v4 = packet[l3] >> 4 == 4;
    let l4 = l3 + if v4 { 20 } else { 40 };
    let tcp = packet[l3 + if v4 { 9 } else { 6 }] == protocol::TCP;
    let payload = &packet[header..];
    let count = payload.chunks(mss).len();
    let mut frames = Vec::new();
    for (i, chunk) in payload.chunks(mss).enumerate() {
        let mut frame = packet[..header].to_vec();
        frame.extend(chunk);
        let len = frame.len();
        if v4 {
            frame[l3 + 2..l3 + 4].copy_from_slice(&((len - l3) as u16).to_be_bytes());
            let id = be16(packet, l3 + 4).wrapping_add(i as u16);
            frame[l3 + 4..l3 + 6].copy_from_slice(&id.to_be_bytes());
        } else {
            frame[l3 + 4..l3 + 6].copy_from_slice(&((len - l3 - 40) as u16).to_be_bytes());
        }
        if tcp {
            let sequence = be32(packet, l4 + 4).wrapping_add((i * mss) as u32);
            frame[l4 + 4..l4 + 8].copy_from_slice(&sequence.to_be_bytes());
            if i + 1 != count {
                frame[l4 + 13] &= !0x09;
            }
            if i != 0 {
                frame[l4 + 13] &= !0x80;
            }
        } else {
            frame[l4 + 4..l4 + 6].copy_from_slice(&((len - l4) as u16).to_be_bytes());
        }
        frames.push(frame);
    }
    frames
}

/// Both without what segmentation has to fill in last: IPv4 and L4 checksums.
fn without_checksums(frame: &[u8], l3: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let v4 = frame[l3] >> 4 == 4;
    let l4 = l3 + if v4 { 20 } else { 40 };
    let tcp = frame[l3 + if v4 { 9 } else { 6 }] == protocol::TCP;
    if v4 {
        frame[l3 + 10..l3 + 12].fill(0);
    }
    let field = l4 + if tcp { 16 } else { 6 };
    frame[field..field + 2].fill(0);
    frame
}

#[test]
fn segmentation_agrees_with_the_book() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    for (size, mss) in [
        (10_000, 1448),
        (1448, 1448),
        (1449, 1448),
        (100, 7),
        (30_001, 8948),
    ] {
        for number in [protocol::TCP, protocol::UDP] {
            for (tag, v6) in [(None, false), (Some((0x8100, 0x2005)), false), (None, true)] {
                let mut packet = if v6 {
                    ipv6(number, (5, 6), &pattern(size))
                } else {
                    ipv4(tag, number, (5, 6), &pattern(size))
                };
                let l3 = if tag.is_some() { 18 } else { 14 };
                let header = packet.len() - size;
                if number == protocol::TCP {
                    // CWR, ACK, PSH, FIN; sequence numbers wrap.
                    packet[header - 7] = 0x99;
                    packet[header - 16..header - 12].copy_from_slice(&[0xff, 0xff, 0xf0, 0]);
                }
                let mut segments = eth_seg(0xc0, mss as u16, &packet[..header]);
                let middle = header + size / 3;
                segments.extend(host.data_seg(&packet[header..middle]));
                segments.extend(host.data_seg(&packet[middle..]));
                host.post(&mut sq, opcode::LSO, true, &segments);
                host.ring_doorbell(&sq);
                assert_eq!(host.poll(&mut sq.cq).map(|cqe| cqe[63] >> 4), Some(0));
                let sent = host.frames();
                let expected = slow_segments(&packet, header, l3, mss);
                assert_eq!(sent.len(), expected.len());
                for (sent, mut expected) in sent.iter().zip(expected) {
                    assert_eq!(l4_checksum(sent, l3), slow_l4_checksum(sent, l3));
                    if !v6 {
                        assert_eq!(slow_sum(&sent[l3..l3 + 20]), 0xffff);
                    }
                    expected.resize(expected.len().max(60), 0);
                    assert_eq!(
                        without_checksums(sent, l3),
                        without_checksums(&expected, l3)
                    );
                }
            }
        }
    }
}

#[test]
fn headers_may_come_from_memory_and_their_lengths_do_not_matter() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    let mut packet = ipv4(None, protocol::TCP, (5, 6), &pattern(5000));
    // BIG TCP: the length does not fit into its field.
    packet[16..18].fill(0);
    let mut segments = eth_seg(0xc0, 1000, &[]);
    segments[12..16].copy_from_slice(&[0x80, 0, 0x20, 5]);
    segments.extend(host.data_seg(&packet));
    host.post(&mut sq, opcode::LSO, true, &segments);
    host.ring_doorbell(&sq);
    let sent = host.frames();
    assert_eq!(sent.len(), 5);
    let mut payload: Vec<u8> = Vec::new();
    for frame in &sent {
        assert_eq!(frame[12..18], [0x81, 0, 0x20, 5, 8, 0]);
        assert_eq!(l4_checksum(frame, 18), slow_l4_checksum(frame, 18));
        payload.extend(&frame[58..]);
    }
    assert_eq!(payload, pattern(5000));
}

#[test]
fn what_cannot_be_segmented_fails() {
    let mut host = Host::new(1);
    let udp = ipv4(None, protocol::UDP, (5, 6), &[]);
    let icmp = ipv4(None, 1, (5, 6), &[]);
    let data = host.data_seg(&pattern(60_000));
    let far = 11_000;
    let cases = [
        (&udp[..], 0, 2),
        (&icmp, 100, 2),
        (&udp[..20], 100, 2),
        (&udp, far, 1),
        (&udp, 7, 1),
    ];
    for (header, mss, syndrome) in cases {
        let mut sq = host.sq();
        let mut segments = eth_seg(0xc0, mss, header);
        segments.extend(&data);
        host.post(&mut sq, opcode::LSO, false, &segments);
        host.ring_doorbell(&sq);
        let cqe = host.poll(&mut sq.cq).expect("an error");
        assert_eq!((cqe[63] >> 4, cqe[0x37]), (0xd, syndrome), "mss {mss}");
        assert!(host.frames().is_empty());
    }
}

#[test]
fn what_one_nic_sends_the_other_finds_good() {
    let mut left = Host::new(1);
    let mut right = Host::new(2);
    let mut sq = left.sq();
    let mut rq = right.receiver(false);
    let data = pattern(20_000);
    let packet = ipv6(protocol::TCP, (40000, 443), &data);
    let header = packet.len() - data.len();
    let mut segments = eth_seg(0xc0, 1440, &packet[..header]);
    segments.extend(left.data_seg(&packet[header..]));
    left.post(&mut sq, opcode::LSO, true, &segments);
    left.ring_doorbell(&sq);
    let mut received: Vec<u8> = Vec::new();
    let wire = &mut left.nic.core.out.wire;
    let frames: Vec<NicFrame> = std::iter::from_fn(|| wire.pop_front()).collect();
    assert_eq!(frames.len(), 14);
    for frame in &frames {
        eth::receive(&mut right.nic.core, frame);
        let cqe = right.poll(&mut rq.cq).expect("a completion");
        assert_eq!(cqe[0x1c], 7);
        let buffer = rq.buffers[usize::from(be16(&cqe, 0x3c))];
        let bytes = right.read(buffer, be32(&cqe, 0x2c) as usize);
        assert_eq!(be16(&cqe, 0x14), slow_sum(&bytes[14..]));
        received.extend(&bytes[header..]);
    }
    assert_eq!(received, data);
}
