//! Every field that rules can match and set, as an independent dissector reads it: a rule sets it, tshark finds the value in the
//! field that it knows by that name, and a second rule matches it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rocinante_tests::tshark;
use rocinante_wire::buf::BufPool;
use rocinante_wire::cable::{Cable, Control};
use rocinante_wire::capture::Capture;
use rocinante_wire::fault::{FIELDS, Field, Header, Kind, Source};
use rocinante_wire::frame::{Frame, NoPayload};
use rocinante_wire::time::Time;

/// What tshark calls them.
const NAMES: &[(&str, &str)] = &[
    ("eth.dst", "eth.dst"),
    ("eth.src", "eth.src"),
    ("eth.type", "eth.type"),
    ("vlan.pcp", "vlan.priority"),
    ("vlan.dei", "vlan.dei"),
    ("vlan.vid", "vlan.id"),
    ("vlan.type", "vlan.etype"),
    ("arp.htype", "arp.hw.type"),
    ("arp.ptype", "arp.proto.type"),
    ("arp.hlen", "arp.hw.size"),
    ("arp.plen", "arp.proto.size"),
    ("arp.oper", "arp.opcode"),
    ("arp.sha", "arp.src.hw_mac"),
    ("arp.spa", "arp.src.proto_ipv4"),
    ("arp.tha", "arp.dst.hw_mac"),
    ("arp.tpa", "arp.dst.proto_ipv4"),
    ("ipv4.version", "ip.version"),
    ("ipv4.ihl", "ip.hdr_len"),
    ("ipv4.tos", "ip.dsfield"),
    ("ipv4.dscp", "ip.dsfield.dscp"),
    ("ipv4.ecn", "ip.dsfield.ecn"),
    ("ipv4.len", "ip.len"),
    ("ipv4.id", "ip.id"),
    ("ipv4.df", "ip.flags.df"),
    ("ipv4.mf", "ip.flags.mf"),
    ("ipv4.frag", "ip.frag_offset"),
    ("ipv4.ttl", "ip.ttl"),
    ("ipv4.protocol", "ip.proto"),
    ("ipv4.checksum", "ip.checksum"),
    ("ipv4.src", "ip.src"),
    ("ipv4.dst", "ip.dst"),
    ("ipv6.version", "ipv6.version"),
    ("ipv6.tclass", "ipv6.tclass"),
    ("ipv6.dscp", "ipv6.tclass.dscp"),
    ("ipv6.ecn", "ipv6.tclass.ecn"),
    ("ipv6.flow", "ipv6.flow"),
    ("ipv6.len", "ipv6.plen"),
    ("ipv6.next", "ipv6.nxt"),
    ("ipv6.hop_limit", "ipv6.hlim"),
    ("ipv6.src", "ipv6.src"),
    ("ipv6.dst", "ipv6.dst"),
    ("grh.version", "infiniband.grh.ipver"),
    ("grh.tclass", "infiniband.grh.tclass"),
    ("grh.flow", "infiniband.grh.flowlabel"),
    ("grh.len", "infiniband.grh.paylen"),
    ("grh.next", "infiniband.grh.nxthdr"),
    ("grh.hop_limit", "infiniband.grh.hoplmt"),
    ("grh.sgid", "infiniband.grh.sgid"),
    ("grh.dgid", "infiniband.grh.dgid"),
    ("udp.sport", "udp.srcport"),
    ("udp.dport", "udp.dstport"),
    ("udp.len", "udp.length"),
    ("udp.checksum", "udp.checksum"),
    ("tcp.sport", "tcp.srcport"),
    ("tcp.dport", "tcp.dstport"),
    ("tcp.seq", "tcp.seq_raw"),
    ("tcp.ack_seq", "tcp.ack_raw"),
    ("tcp.doff", "tcp.hdr_len"),
    ("tcp.flags", "tcp.flags"),
    ("tcp.cwr", "tcp.flags.cwr"),
    ("tcp.ece", "tcp.flags.ece"),
    ("tcp.urg", "tcp.flags.urg"),
    ("tcp.ack", "tcp.flags.ack"),
    ("tcp.psh", "tcp.flags.push"),
    ("tcp.rst", "tcp.flags.reset"),
    ("tcp.syn", "tcp.flags.syn"),
    ("tcp.fin", "tcp.flags.fin"),
    ("tcp.window", "tcp.window_size_value"),
    ("tcp.checksum", "tcp.checksum"),
    ("tcp.urg_ptr", "tcp.urgent_pointer"),
    ("icmp.type", "icmp.type"),
    ("icmp.code", "icmp.code"),
    ("icmp.checksum", "icmp.checksum"),
    ("icmp.id", "icmp.ident"),
    ("icmp.seq", "icmp.seq"),
    ("icmpv6.type", "icmpv6.type"),
    ("icmpv6.code", "icmpv6.code"),
    ("icmpv6.checksum", "icmpv6.checksum"),
    ("icmpv6.id", "icmpv6.echo.identifier"),
    ("icmpv6.seq", "icmpv6.echo.sequence_number"),
    ("bth.opcode", "infiniband.bth.opcode"),
    ("bth.se", "infiniband.bth.se"),
    ("bth.migreq", "infiniband.bth.m"),
    ("bth.padcnt", "infiniband.bth.padcnt"),
    ("bth.tver", "infiniband.bth.tver"),
    ("bth.pkey", "infiniband.bth.p_key"),
    ("bth.dest_qp", "infiniband.bth.destqp"),
    ("bth.ackreq", "infiniband.bth.a"),
    ("bth.resv7", "infiniband.bth.reserved7"),
    ("bth.psn", "infiniband.bth.psn"),
    ("deth.qkey", "infiniband.deth.q_key"),
    ("deth.src_qp", "infiniband.deth.srcqp"),
    ("reth.va", "infiniband.reth.va"),
    ("reth.rkey", "infiniband.reth.r_key"),
    ("reth.dma_len", "infiniband.reth.dmalen"),
    // It has no names of their own for them.
    ("atomiceth.va", "infiniband.reth.va"),
    ("atomiceth.rkey", "infiniband.reth.r_key"),
    ("atomiceth.swap_add", "infiniband.atomiceth.swapdt"),
    ("atomiceth.compare", "infiniband.atomiceth.cmpdt"),
    ("aeth.syndrome", "infiniband.aeth.syndrome"),
    ("aeth.msn", "infiniband.aeth.msn"),
    ("atomicacketh.original", "infiniband.atomicacketh.origremdt"),
    ("immdt.data", "infiniband.immdt"),
    ("ieth.rkey", "infiniband.ieth"),
    ("mad.base_version", "infiniband.mad.baseversion"),
    ("mad.class", "infiniband.mad.mgmtclass"),
    ("mad.class_version", "infiniband.mad.classversion"),
    ("mad.method", "infiniband.mad.method"),
    ("mad.status", "infiniband.mad.status"),
    ("mad.tid", "infiniband.mad.transactionid"),
    ("mad.attr_id", "infiniband.mad.attributeid"),
    ("mad.attr_mod", "infiniband.mad.attributemodifier"),
];

/// Fields that tshark does not show.
const UNSHOWN: [&str; 4] = ["bth.fecn", "bth.becn", "bth.resv6", "xrceth.srqn"];

/// Values without which it would take the packet for something else.
const VALUES: &[(&str, u128)] = &[
    ("eth.type", 0x88a8),
    ("arp.ptype", 0x800),
    ("arp.hlen", 6),
    ("arp.plen", 4),
    ("ipv4.version", 4),
    ("ipv4.ihl", 6),
    ("ipv4.len", 30),
    ("ipv6.version", 6),
    ("ipv6.len", 11),
    ("grh.version", 6),
    ("grh.next", 0x1b),
    ("udp.len", 9),
    ("tcp.doff", 6),
    ("icmp.type", 0),
    ("icmpv6.type", 129),
    ("bth.opcode", 0x0a),
    ("mad.base_version", 1),
    ("mad.class", 7),
];

/// In words of four bytes, where tshark counts bytes.
const WORDS: [&str; 2] = ["ipv4.ihl", "tcp.doff"];

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// With a tag.
fn ethernet(ethertype: u16, rest: &[u8]) -> Vec<u8> {
    let head = unhex("0200000000020200000000018100a005");
    [&head, &ethertype.to_be_bytes()[..], rest].concat()
}

fn ipv4(protocol: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = unhex("45020000123440004000beef0a0000010a000002");
    header[9] = protocol;
    header[2..4].copy_from_slice(&(20 + rest.len() as u16).to_be_bytes());
    ethernet(0x800, &[&header, rest].concat())
}

fn ipv6(ethertype: u16, next: u8, rest: &[u8]) -> Vec<u8> {
    let mut header =
        unhex("6681234500000040fe80000000000000000000fffe000001fe80000000000000000000fffe000002");
    header[6] = next;
    header[4..6].copy_from_slice(&(rest.len() as u16).to_be_bytes());
    ethernet(ethertype, &[&header, rest].concat())
}

fn udp(port: u16, rest: &[u8]) -> Vec<u8> {
    let len = 8 + rest.len() as u16;
    let [port, len] = [port, len].map(u16::to_be_bytes);
    [&[0xc0, 0], &port[..], &len, &[0x12, 0x34], rest].concat()
}

/// BTH, so many bytes of extension headers, 256 of payload, and what shall become the ICRC.
fn ib(opcode: u8, dest_qp: u8, extensions: usize) -> Vec<u8> {
    let bth = unhex("0040ffff00000012800000ab");
    let rest = (0..extensions + 260).map(|n| (n as u8).wrapping_mul(37).wrapping_add(11));
    let mut packet: Vec<u8> = bth.into_iter().chain(rest).collect();
    packet[0] = opcode;
    packet[7] = dest_qp;
    packet
}

/// A frame that has this header.
fn frame_with(header: Header) -> Vec<u8> {
    let roce = |opcode, qp, extensions| ipv4(17, &udp(4791, &ib(opcode, qp, extensions)));
    let tcp = unhex("10000050000000010000000250120fff0000000068656c6c6f");
    let echo = unhex("0800000000010002616263");
    match header {
        Header::Ethernet | Header::Vlan | Header::Ipv4 | Header::Udp => {
            ipv4(17, &udp(5353, b"hello"))
        }
        Header::Arp => ethernet(
            0x806,
            &unhex("00010800060400010200000000010a0000010200000000020a000002"),
        ),
        Header::Ipv6 => ipv6(0x86dd, 17, &udp(5353, b"hello")),
        Header::Grh => ipv6(0x8915, 0x1b, &ib(4, 5, 0)),
        Header::Tcp => ipv4(6, &tcp),
        Header::Icmp => ipv4(1, &echo),
        Header::Icmpv6 => ipv6(0x86dd, 58, &unhex("8000000000010002616263")),
        Header::Bth => roce(0x04, 5, 0),
        Header::XrcEth => roce(0xa4, 5, 4),
        Header::Deth | Header::Mad => roce(0x64, 1, 8),
        Header::Reth => roce(0x0a, 5, 16),
        Header::AtomicEth => roce(0x13, 5, 28),
        Header::Aeth => roce(0x11, 5, 4),
        Header::AtomicAckEth => roce(0x12, 5, 12),
        Header::ImmDt => roce(0x05, 5, 4),
        Header::Ieth => roce(0x17, 5, 4),
    }
}

fn literal(field: &Field, value: u128) -> String {
    let bytes = value.to_be_bytes();
    match field.kind {
        Kind::Mac => {
            let octets = bytes[10..].iter().map(|octet| format!("{octet:02x}"));
            octets.collect::<Vec<_>>().join(":")
        }
        Kind::Ipv4 => Ipv4Addr::from(value as u32).to_string(),
        Kind::Ipv6 => Ipv6Addr::from(value).to_string(),
        _ => format!("{value:#x}"),
    }
}

/// What tshark prints; of several values the first.
fn number(text: &str) -> Option<u128> {
    let text = text.split(',').next()?;
    match text {
        "True" => return Some(1),
        "False" => return Some(0),
        _ => {}
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return u128::from_str_radix(digits, 16).ok();
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(u32::from(address).into());
    }
    if text.split(':').count() == 6 {
        return u128::from_str_radix(&text.replace(':', ""), 16).ok();
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some(address.into());
    }
    text.parse().ok()
}

/// The frame behind a cable with this rule.
fn through(rule: &str, frame: Frame<NoPayload>) -> Option<Frame<NoPayload>> {
    let rule = format!("[[rule]]\nname = \"r\"\n{rule}\n");
    let control = Control::new();
    control.set_rules(
        rule.parse()
            .unwrap_or_else(|errors| panic!("{rule}{errors}")),
    );
    let mut cable = Cable::new(&control, "lab", "port", Arc::new(|| {}));
    cable.transmit(Time(1), frame, &())
}

#[test]
fn a_dissector_finds_what_rules_set() {
    let pool = BufPool::for_frames(4);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fields.pcapng");
    let capture = Capture::create(&path).expect("a capture");
    let tap = capture.tap("fields");
    let mut expected = Vec::new();
    for field in FIELDS {
        let Source::Bits { header, .. } = field.source else {
            continue;
        };
        let name = NAMES.iter().find(|(name, _)| *name == field.name);
        let Some((name, shown)) = name else {
            assert!(UNSHOWN.contains(&field.name), "{} is not tried", field.name);
            continue;
        };
        let frame = || Frame::<NoPayload>::from_slice(&frame_with(header), &pool);
        // A flag that is not set in these frames but where it is.
        let pattern = match field.kind {
            Kind::Flag => u128::from(
                ![
                    "vlan.dei",
                    "ipv4.df",
                    "bth.migreq",
                    "tcp.ack",
                    "tcp.syn",
                    "bth.ackreq",
                ]
                .contains(name),
            ),
            _ => (u128::MAX / 0xff * 0x4b) & field.max(),
        };
        let fixed = VALUES.iter().find(|(name, _)| *name == field.name);
        let value = fixed.map_or(pattern, |(_, value)| *value);
        let text = literal(field, value);
        let leave = if name.ends_with("checksum") {
            ", checksum = \"leave\""
        } else {
            ""
        };
        let rule = format!("action = {{ set = {{ \"{name}\" = \"{text}\" }}{leave} }}");
        let set = through(&rule, frame()).unwrap_or_else(|| panic!("{name}: lost"));
        tap.record(&set, None);
        let rule = format!("match = {{ \"{name}\" = \"{text}\" }}\naction = \"drop\"");
        assert!(
            through(&rule, set).is_none(),
            "{name}: {text} is not matched"
        );
        expected.push((*name, *shown, value));
    }
    let stats = capture.finish().expect("complete");
    assert_eq!(stats.written as usize, expected.len());

    let mut asked: Vec<&str> = expected.iter().map(|(_, shown, _)| *shown).collect();
    asked.sort_unstable();
    asked.dedup();
    let packets = tshark::fields(&path, "frame", &asked);
    assert_eq!(packets.len(), expected.len());
    let mut wrong = Vec::new();
    for (packet, (name, shown, value)) in packets.iter().zip(expected) {
        let at = asked
            .iter()
            .position(|field| *field == shown)
            .expect("it was asked for");
        let scale = if WORDS.contains(&name) { 4 } else { 1 };
        // Some are shown as bytes.
        let bytes = packet[at].split(',').next();
        let bytes = bytes.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        if ![number(&packet[at]), bytes].contains(&Some(scale * value)) {
            wrong.push(format!(
                "{name} = {value:#x}, and {shown} is {:?}",
                packet[at]
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
