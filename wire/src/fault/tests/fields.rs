//! Every field of the table, matched and rewritten in a frame that has it, and described.

use super::*;
use crate::buf::{Buf, BufPool};
use crate::fault::view::extensions;
use crate::frame::{Frame, NoPayload};
use crate::sim::Rng;
use crate::vectors::unhex;

/// Ethernet with a tag, then what is behind it.
fn tagged(ethertype: u16, rest: &str) -> Vec<u8> {
    let mut bytes = unhex("0200000000020200000000018100a005");
    bytes.extend_from_slice(&ethertype.to_be_bytes());
    bytes.extend(unhex(rest));
    bytes
}

fn ipv4(protocol: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = tagged(0x800, "45020000123440004000beef0a0000010a000002");
    bytes[27] = protocol;
    let len = (bytes.len() - 18 + rest.len()) as u16;
    bytes[20..22].copy_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = tagged(
        0x86dd,
        "6681234500000040fe80000000000000000000fffe000001fe80000000000000000000fffe000002",
    );
    bytes[24] = next;
    bytes[22..24].copy_from_slice(&(rest.len() as u16).to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

fn udp(port: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = unhex("c000000000001234");
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..6].copy_from_slice(&((8 + rest.len()) as u16).to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

/// BTH, the extension headers of the opcode, 36 bytes of payload, ICRC.
fn ib(opcode: u8, dest_qp: u8) -> Vec<u8> {
    let mut bytes = unhex("0040ffff00000012800000ab");
    bytes[0] = opcode;
    bytes[7] = dest_qp;
    let has = extensions(opcode);
    let headers = Header::all().filter(|header| has & header.bit() != 0);
    let len = headers.map(Header::len).sum::<usize>() + 36 + 4;
    bytes.extend((0..len).map(|n| (n as u8).wrapping_mul(37).wrapping_add(11)));
    bytes
}

/// Frames that have all headers between them.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = vec![
        tagged(
            0x806,
            "00010800060400010200000000010a0000010200000000020a000002",
        ),
        ipv4(
            6,
            &unhex("10000050000000010000000250120fff0000000068656c6c6f"),
        ),
        ipv4(17, &udp(53, b"hello")),
        ipv4(1, &unhex("0800000000010002616263")),
        ipv6(58, &unhex("8000000000010002616263")),
        ipv6(
            6,
            &unhex("10000050000000010000000250120fff0000000068656c6c6f"),
        ),
    ];
    // RC READ_REQUEST, ACKNOWLEDGE, ATOMIC_ACKNOWLEDGE, COMPARE_SWAP, SEND_ONLY_WITH_IMMEDIATE, SEND_ONLY_WITH_INVALIDATE,
    // XRC WRITE_ONLY, UD SEND_ONLY to QP 1.
    for (opcode, qp) in [
        (0x0c, 5),
        (0x11, 5),
        (0x12, 5),
        (0x13, 5),
        (0x05, 5),
        (0x17, 5),
        (0xaa, 5),
        (0x64, 1),
    ] {
        let ib = ib(opcode, qp);
        frames.push(ipv4(17, &udp(4791, &ib)));
        frames.push(ipv6(17, &udp(4791, &ib)));
        let mut v1 = ipv6(0x1b, &ib);
        v1[16..18].copy_from_slice(&0x8915u16.to_be_bytes());
        frames.push(v1);
    }
    frames
}

fn bits(bytes: &[u8], at: usize, width: usize) -> u128 {
    (at..at + width).fold(0, |value, bit| {
        value << 1 | u128::from(bytes[bit / 8] >> (7 - bit % 8) & 1)
    })
}

/// The bits of checksums and ICRC.
fn guards(view: &View<'_>, len: usize) -> Vec<std::ops::Range<usize>> {
    let mut guards = Vec::new();
    for (header, at) in [
        (Header::Ipv4, 10),
        (Header::Udp, 6),
        (Header::Tcp, 16),
        (Header::Icmp, 2),
        (Header::Icmpv6, 2),
    ] {
        if let Some(start) = view.offset(header) {
            guards.push(8 * (start + at)..8 * (start + at + 2));
        }
    }
    if view.has(Header::Bth) {
        guards.push(8 * (len - 4)..8 * len);
    }
    guards
}

fn literal(field: &Field, value: u128) -> String {
    let bytes = value.to_be_bytes();
    match field.kind {
        Kind::Mac => format!(
            "\"{}\"",
            bytes[10..]
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect::<Vec<_>>()
                .join(":")
        ),
        Kind::Ipv4 => format!("\"{}\"", std::net::Ipv4Addr::from(value as u32)),
        Kind::Ipv6 => format!("\"{}\"", std::net::Ipv6Addr::from(value)),
        _ => format!("\"{value:#x}\""),
    }
}

/// A rule that matches the field's one value and sets the other.
fn rewriting(field: &Field, from: u128, to: u128) -> Rules {
    let leave = if field.name.ends_with(".checksum") {
        ", checksum = \"leave\""
    } else {
        ""
    };
    parse(&format!(
        "[[rule]]\nname = \"r\"\nmatch = {{ \"{name}\" = {from} }}\n\
         action = {{ set = {{ \"{name}\" = {to} }}{leave} }}\n",
        name = field.name,
        from = literal(field, from),
        to = literal(field, to),
    ))
}

#[test]
fn every_field_is_matched_and_rewritten_where_it_is() {
    let frames = frames();
    let pool = BufPool::for_frames(2);
    for field in FIELDS {
        let Source::Bits { header, offset } = field.source else {
            continue;
        };
        let mut seen = 0;
        for bytes in &frames {
            let view = View::parse(bytes, bytes.len());
            let Some(start) = view.offset(header) else {
                continue;
            };
            seen += 1;
            let (at, width) = (8 * start + usize::from(offset), usize::from(field.width));
            let old = bits(bytes, at, width);
            for new in [old ^ field.max(), old ^ 1, old ^ (1 << (width - 1))] {
                // A rule that asks for what such a frame never has is refused: then any value.
                let possible = format!(
                    "[[rule]]\nname = \"r\"\nmatch = {{ \"{}\" = {} }}\naction = \"drop\"\n",
                    field.name,
                    literal(field, old)
                );
                assert!(possible.parse::<Rules>().is_ok(), "{possible}");
                let rules = rewriting(field, old, new);
                let rule = &rules.rules[0];
                assert!(rule.pattern.matches(&view, None), "{} {old:#x}", field.name);
                let others = rewriting(field, new, old);
                assert!(
                    !others.rules[0].pattern.matches(&view, None),
                    "{} {new:#x}",
                    field.name
                );

                let frame = Frame::<NoPayload>::from_buf(Buf::from_vec(bytes.clone()));
                let frame = alter(&frame, &rule.action, &pool, &mut Rng::new(1)).unwrap();
                let mut out = Vec::new();
                frame.to_bytes(&mut out).unwrap();
                assert_eq!(out.len(), bytes.len(), "{}", field.name);
                assert_eq!(bits(&out, at, width), new, "{}", field.name);
                // Where headers say otherwise where the others are, other checksums are meant.
                let after = View::parse(&out, out.len());
                let guards = [guards(&view, bytes.len()), guards(&after, out.len())].concat();
                for bit in 0..8 * bytes.len() {
                    let may = (at..at + width).contains(&bit)
                        || guards.iter().any(|guard| guard.contains(&bit));
                    assert!(
                        may || bits(&out, bit, 1) == bits(bytes, bit, 1),
                        "{} {new:#x}: bit {} of byte {} is another",
                        field.name,
                        bit % 8,
                        bit / 8
                    );
                }
                let out = Frame::<NoPayload>::from_buf(Buf::from_vec(out.clone()));
                if let (Some(layout), false) = (after.layout(), field.name.ends_with(".checksum")) {
                    assert!(out.icrc_is_good(layout), "{} {new:#x}", field.name);
                }
            }
        }
        assert!(seen > 0, "no frame has {}", field.name);
    }
}

#[test]
fn derived_fields_are_matched() {
    for (pattern, index) in [
        ("frame.len = 46", 0),
        ("payload.len = 5, tcp = true, ipv4 = true", 1),
        (
            "payload.len = 36, frame.roce = 2, opcode = \"RC_ACKNOWLEDGE\", ipv6 = true",
            usize::MAX,
        ),
        ("frame.roce = 1, opcode = \"UD_SEND_ONLY\", mad = true", 29),
        (
            "payload.len = 36, frame.roce = 1, opcode = \"UD_SEND_ONLY\"",
            29,
        ),
        ("frame.roce = 2, mad = true, ipv4 = true", 27),
    ] {
        let source = rule(pattern, "action = \"drop\"");
        let found: Vec<usize> = match source.parse::<Rules>() {
            Ok(rules) => {
                let frames = frames();
                let all = frames.iter().enumerate().filter(|(_, bytes)| {
                    let view = View::parse(bytes, bytes.len());
                    rules.rules[0].pattern.matches(&view, None)
                });
                all.map(|(n, _)| n).collect()
            }
            // An acknowledgement has no payload.
            Err(_) => vec![usize::MAX],
        };
        assert_eq!(found, [index], "{pattern}");
    }
}

/// The list for users has all fields and says of them what the table says.
#[test]
fn the_list_of_fields_is_complete() {
    let mut text = String::from(
        "# Fields\n\nWhat rules match, set and corrupt, by `header.field`; [rules.md](rules.md) says how.\n",
    );
    let derived = FIELDS
        .iter()
        .filter(|field| !matches!(field.source, Source::Bits { .. }));
    text += "\n## What follows from the frame\n\nThese can be matched, not changed.\n\n| field | bits | |\n|-|-|-|\n";
    for field in derived {
        text += &format!("| `{}` | {} | {} |\n", field.name, field.width, field.about);
    }
    for header in Header::all() {
        text += &format!(
            "\n## `{header}`: {}\n\n| field | bits | |\n|-|-|-|\n",
            header.about()
        );
        let of_header = |field: &&Field| matches!(field.source, Source::Bits { header: of, .. } if of == header);
        for field in FIELDS.iter().filter(of_header) {
            text += &format!("| `{}` | {} | {} |\n", field.name, field.width, field.about);
        }
    }
    let file = include_str!("../fields.md");
    for (n, (is, expected)) in file.lines().zip(text.lines()).enumerate() {
        assert_eq!(is, expected, "line {}", n + 1);
    }
    assert_eq!(file.len(), text.len());
}
