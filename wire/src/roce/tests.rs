use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::MacAddr;
use crate::frame::HeadBuf;
use crate::ib::{Gid, ParseError};
use crate::opcode::{Op, Opcode, Service};
use crate::packet::{Packet, Reth};
use crate::psn::Psn;
use crate::vectors::{self, unhex};

const SRC_MAC: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
const DST_MAC: MacAddr = MacAddr(2, 0, 0, 0, 0, 2);
const LINK_LOCAL_1: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
const LINK_LOCAL_2: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 2);

fn address(l3: L3, udp_sport: u16) -> Address {
    Address {
        src_mac: SRC_MAC,
        dst_mac: DST_MAC,
        vlan: None,
        l3,
        udp_sport,
    }
}

fn v4() -> Address {
    let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    address(
        L3::V2Ipv4 {
            src,
            dst,
            tos: 0x68,
            ttl: 64,
        },
        0xc000,
    )
}

fn v6() -> Address {
    let l3 = L3::V2Ipv6 {
        src: LINK_LOCAL_1,
        dst: LINK_LOCAL_2,
        tclass: 0x68,
        flow_label: 0x12345,
        hop_limit: 64,
    };
    address(l3, 0xc123)
}

fn v1() -> Address {
    let l3 = L3::V1 {
        sgid: LINK_LOCAL_1.into(),
        dgid: LINK_LOCAL_2.into(),
        tclass: 0x20,
        flow_label: 1,
        hop_limit: 64,
    };
    address(l3, 0)
}

fn send_only(payload_len: u32) -> Packet {
    Packet {
        mig_req: true,
        pkey: 0xffff,
        dest_qp: 0x12,
        ack_req: true,
        psn: Psn::new(1),
        payload_len,
        ..Packet::new(Opcode::Ib(Service::Rc, Op::SendOnly))
    }
}

fn write_only() -> Packet {
    Packet {
        opcode: Opcode::Ib(Service::Rc, Op::WriteOnly),
        dest_qp: 0x11,
        psn: Psn::new(0xabc),
        reth: Some(Reth {
            va: 0x1234_5678_9abc,
            rkey: 0x1f2e,
            dma_len: 8,
        }),
        payload_len: 8,
        ..send_only(0)
    }
}

/// What the vectors' frames say. The last two are sent with MigReq, which the vectors do have.
fn known() -> Vec<(&'static vectors::Vector, Address, Packet)> {
    let cnp_address = Address {
        src_mac: MacAddr(0x7c, 0xfe, 0x90, 0x64, 0x3b, 0x32),
        dst_mac: MacAddr(0xe4, 0x1d, 0x2d, 0xab, 0x2b, 0xc2),
        vlan: None,
        l3: L3::V2Ipv4 {
            src: Ipv4Addr::new(10, 0, 0x11, 1),
            dst: Ipv4Addr::new(10, 0, 0x12, 1),
            tos: 0xc2,
            ttl: 64,
        },
        udp_sport: 0,
    };
    let cnp = Packet {
        opcode: Opcode::Cnp,
        mig_req: false,
        dest_qp: 0x118,
        ack_req: false,
        psn: Psn::new(0),
        ..send_only(0)
    };
    let tagged = Address {
        vlan: Some(Tci::new(3, false, 100)),
        ..v4()
    };
    vec![
        (&vectors::HW_CNP, cnp_address, cnp),
        (&vectors::V4_SEND, v4(), send_only(12)),
        (&vectors::V6_WRITE, v6(), write_only()),
        (&vectors::V1_SEND, v1(), send_only(12)),
        (&vectors::V4_VLAN_SEND, tagged, send_only(12)),
    ]
}

#[test]
fn vectors_parse_to_what_they_say() {
    for (vector, address, packet) in known() {
        let bytes = unhex(vector.frame);
        let frame = parse_frame(&bytes, bytes.len()).expect(vector.name);
        // The MigReq bit is 0x40 of BTH byte 1.
        let mig_req = bytes[usize::from(frame.layout.ib_offset) + 1] & 0x40 != 0;
        assert_eq!(frame.address, address, "{}", vector.name);
        assert_eq!(
            frame.packet,
            Packet { mig_req, ..packet },
            "{}",
            vector.name
        );
        assert_eq!(frame.layout.encap, vector.encap, "{}", vector.name);
        assert_eq!(
            usize::from(frame.layout.l3_offset),
            vector.l3_offset,
            "{}",
            vector.name
        );
        assert_eq!(
            usize::from(frame.layout.end),
            bytes.len(),
            "{}",
            vector.name
        );
        if packet.payload_len == 12 {
            assert_eq!(&bytes[frame.payload], b"hello roce!!", "{}", vector.name);
        }
    }
}

#[test]
fn the_template_writes_the_vectors_headers() {
    for (vector, address, packet) in known() {
        let mut expected = unhex(vector.frame);
        let parsed = parse_frame(&expected, expected.len()).expect(vector.name);
        let packet = Packet {
            mig_req: parsed.packet.mig_req,
            ..packet
        };
        let mut head = HeadBuf::new();
        let layout = HeaderTemplate::new(&address).write(&packet, &mut head);
        assert_eq!(layout, parsed.layout, "{}", vector.name);
        // The identification is the sender's choice, and moves the header checksum with it.
        if vector.encap == Encap::V2Ipv4 {
            let l3 = vector.l3_offset;
            let (id, checksum) = (l3 + 4..l3 + 6, l3 + 10..l3 + 12);
            expected[id.clone()].copy_from_slice(&head.as_slice()[id]);
            expected[checksum.clone()].fill(0);
            let mut sum: u32 = expected[l3..l3 + 20]
                .chunks(2)
                .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
                .sum();
            while sum > 0xffff {
                sum = (sum >> 16) + (sum & 0xffff);
            }
            expected[checksum].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        }
        assert_eq!(
            head.as_slice(),
            &expected[..parsed.payload.start],
            "{}",
            vector.name
        );
    }
}

#[test]
fn the_grh_area_is_what_a_ud_receive_shows() {
    for (vector, ..) in known() {
        let bytes = unhex(vector.frame);
        let area = parse_frame(&bytes, bytes.len()).unwrap().grh_area(&bytes);
        let l3 = &bytes[vector.l3_offset..];
        if vector.encap == Encap::V2Ipv4 {
            assert_eq!(area[..20], [0; 20], "{}", vector.name);
            assert_eq!(area[20..], l3[..20], "{}", vector.name);
        } else {
            assert_eq!(area[..], l3[..40], "{}", vector.name);
        }
    }
}

#[test]
fn gids_and_ecn_of_the_three_encapsulations() {
    let mapped = Gid::from(Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(v4().l3.src_gid(), mapped);
    assert_eq!(v6().l3.dst_gid(), Gid::from(LINK_LOCAL_2));
    assert_eq!(v1().l3.dst_gid(), Gid::from(LINK_LOCAL_2));
    let l3 = L3::V2Ipv4 {
        src: Ipv4Addr::LOCALHOST,
        dst: Ipv4Addr::LOCALHOST,
        tos: 7,
        ttl: 9,
    };
    assert_eq!((l3.ecn(), l3.tclass(), l3.hop_limit()), (3, 7, 9));
    let l3 = L3::V1 {
        sgid: mapped,
        dgid: mapped,
        tclass: 3,
        flow_label: 0,
        hop_limit: 1,
    };
    assert_eq!(l3.ecn(), 0);
}

/// Changes one byte of a vector and parses the result.
fn with_byte(vector: &vectors::Vector, at: usize, value: u8) -> Result<RoceFrame, RoceError> {
    let mut bytes = unhex(vector.frame);
    bytes[at] = value;
    parse_frame(&bytes, bytes.len())
}

#[test]
fn what_looks_like_roce_but_is_not() {
    use RoceError::NotRoce;
    use vectors::{V1_SEND, V4_SEND, V4_VLAN_SEND, V6_WRITE};
    let cases = [
        ("ARP", &V4_SEND, 13, 0x06),
        ("IP version 5", &V4_SEND, 14, 0x55),
        ("IPv4 options", &V4_SEND, 14, 0x46),
        ("more fragments", &V4_SEND, 20, 0x60),
        ("fragment offset", &V4_SEND, 21, 1),
        ("TCP", &V4_SEND, 23, 6),
        ("another UDP port", &V4_SEND, 37, 0xb8),
        ("double tag", &V4_VLAN_SEND, 16, 0x81),
        ("IPv6 fragment header", &V6_WRITE, 20, 44),
        ("IPv6 version", &V6_WRITE, 14, 0x46),
        ("another UDP port on IPv6", &V6_WRITE, 57, 0),
        ("GRH version", &V1_SEND, 14, 0x52),
        ("GRH next header", &V1_SEND, 20, 0x11),
    ];
    for (what, vector, at, value) in cases {
        assert_eq!(with_byte(vector, at, value), Err(NotRoce), "{what}");
    }
    for len in 0..42 {
        let bytes = unhex(V4_SEND.frame);
        assert_eq!(parse_frame(&bytes[..len], len), Err(NotRoce), "{len} bytes");
    }
}

#[test]
fn lengths_checksum_and_transport_headers_are_checked() {
    use vectors::{V1_SEND, V4_SEND, V6_WRITE};
    assert_eq!(with_byte(&V4_SEND, 17, 0x39), Err(RoceError::Length));
    assert_eq!(with_byte(&V4_SEND, 39, 0x25), Err(RoceError::Length));
    assert_eq!(with_byte(&V6_WRITE, 19, 0x31), Err(RoceError::Length));
    assert_eq!(with_byte(&V1_SEND, 19, 0x1d), Err(RoceError::Length));
    assert_eq!(with_byte(&V1_SEND, 19, 0x03), Err(RoceError::Length));
    assert_eq!(
        with_byte(&V1_SEND, 19, 0x0f),
        Err(RoceError::Ib(ParseError::Truncated))
    );
    assert_eq!(with_byte(&V4_SEND, 22, 63), Err(RoceError::Ipv4Checksum));
    assert_eq!(
        with_byte(&V4_SEND, 43, 0x01),
        Err(RoceError::Ib(ParseError::Version(1)))
    );
    assert_eq!(
        with_byte(&V4_SEND, 42, 0x15),
        Err(RoceError::Ib(ParseError::Opcode(0x15)))
    );
    let bytes = unhex(V4_SEND.frame);
    assert_eq!(parse_frame(&bytes, bytes.len() - 1), Err(RoceError::Length));
}

#[test]
fn a_udp_checksum_is_not_looked_at_and_trailing_bytes_are_ethernet_padding() {
    let frame = with_byte(&vectors::V6_WRITE, 60, 0x77).unwrap();
    assert_eq!(frame.packet.payload_len, 8);
    let mut bytes = unhex(vectors::V4_SEND.frame);
    let len = bytes.len();
    bytes.extend_from_slice(&[0; 10]);
    let frame = parse_frame(&bytes, bytes.len()).unwrap();
    assert_eq!(usize::from(frame.layout.end), len);
    assert_eq!(&bytes[frame.payload], b"hello roce!!");
}

fn any_l3() -> impl Strategy<Value = (L3, u16)> {
    let v1 =
        any::<([u8; 16], [u8; 16], u8, u32, u8)>().prop_map(|(s, d, tclass, fl, hop_limit)| {
            let (sgid, dgid, flow_label) = (Gid(s), Gid(d), fl & 0xf_ffff);
            (
                L3::V1 {
                    sgid,
                    dgid,
                    tclass,
                    flow_label,
                    hop_limit,
                },
                0,
            )
        });
    let v4 = any::<([u8; 4], [u8; 4], u8, u8, u16)>().prop_map(|(src, dst, tos, ttl, sport)| {
        (
            L3::V2Ipv4 {
                src: src.into(),
                dst: dst.into(),
                tos,
                ttl,
            },
            sport,
        )
    });
    let v6 = any::<([u8; 16], [u8; 16], u8, u32, u8, u16)>().prop_map(
        |(src, dst, tclass, fl, hop_limit, sport)| {
            let (src, dst, flow_label) = (src.into(), dst.into(), fl & 0xf_ffff);
            (
                L3::V2Ipv6 {
                    src,
                    dst,
                    tclass,
                    flow_label,
                    hop_limit,
                },
                sport,
            )
        },
    );
    prop_oneof![v1, v4, v6]
}

proptest! {
    #[test]
    fn what_the_template_writes_is_parsed_back(
        (l3, udp_sport) in any_l3(),
        macs in any::<([u8; 6], [u8; 6])>(),
        vlan in any::<Option<u16>>(),
        payload_len in 0..5000u32,
        psn in any::<u32>(),
    ) {
        let address = Address {
            src_mac: macs.0.into(),
            dst_mac: macs.1.into(),
            vlan: vlan.map(Tci),
            l3,
            udp_sport,
        };
        let packet = Packet { psn: Psn::new(psn), ..send_only(payload_len) };
        let mut head = HeadBuf::new();
        prop_assert!(head.extend(&[0xee; 100]));
        let layout = HeaderTemplate::new(&address).write(&packet, &mut head);
        let wire_len = usize::from(layout.end);
        let frame = parse_frame(head.as_slice(), wire_len).unwrap();
        prop_assert_eq!(frame.layout, layout);
        prop_assert_eq!(frame.address, address);
        prop_assert_eq!(frame.packet, packet);
        prop_assert_eq!(frame.payload.start, head.len());
        prop_assert_eq!(frame.payload.len(), payload_len as usize);
        prop_assert_eq!(wire_len, head.len() + (payload_len as usize).next_multiple_of(4) + 4);
    }

    #[test]
    fn no_frame_panics(
        which in 0..vectors::ALL.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        wire_len in 0..200usize,
    ) {
        let mut bytes = unhex(vectors::ALL[which].frame);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Ok(frame) = parse_frame(&bytes, wire_len) {
            prop_assert!(frame.payload.end + 4 <= wire_len);
            let _ = frame.grh_area(&bytes);
        }
        let _ = parse_frame(&bytes, bytes.len());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_frame(&bytes, bytes.len());
    }
}
