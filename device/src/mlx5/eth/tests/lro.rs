//! Large receive offload, from the driver's side: what comes out must be what went in.

use std::collections::BTreeMap;

use super::hostile::Random;
use super::*;
use crate::mlx5::eth::checksum;
use crate::mlx5::eth::checksum::tests::slow_sum;
use crate::mlx5::eth::headers::protocol;
use crate::mlx5::eth::headers::tests::{ipv4, ipv6};
use crate::mlx5::eth::headers::{ETHERTYPE_CVLAN, Headers, L3};
use crate::mlx5::eth::tir::Disposition;
use crate::mlx5::nic::Input as NicInput;
use rocinante_firmware_cmd::mlx5::eth::ModifyTirIn;
use rocinante_wire::time::Time;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const FIN: u8 = 0x01;
const CWR: u8 = 0x80;

/// A segment as a peer makes it.
#[derive(Clone)]
struct Seg {
    ipv6: bool,
    tag: Option<u16>,
    port: u16,
    sequence: u32,
    ack: u32,
    window: u16,
    flags: u8,
    ttl: u8,
    /// TSval of a time stamp option.
    stamp: Option<u32>,
    data: Vec<u8>,
}

impl Default for Seg {
    fn default() -> Self {
        Seg {
            ipv6: false,
            tag: None,
            port: 5001,
            sequence: 1000,
            ack: 1,
            window: 100,
            flags: ACK,
            ttl: 64,
            stamp: None,
            data: pattern(100),
        }
    }
}

impl Seg {
    fn frame(&self) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some(stamp) = self.stamp {
            options.extend([1, 1, 8, 10]);
            options.extend(stamp.to_be_bytes());
            options.extend([0, 0, 0, 9]);
        }
        let body = [&options[..], &self.data].concat();
        let tag = self.tag.map(|tci| (ETHERTYPE_CVLAN, tci));
        let mut frame = if self.ipv6 {
            ipv6(protocol::TCP, (self.port, 80), &body)
        } else {
            ipv4(tag, protocol::TCP, (self.port, 80), &body)
        };
        let Headers {
            l3_offset: l3,
            l4_offset: l4,
            ..
        } = Headers::parse(&frame, frame.len()).unwrap();
        frame[l3 + if self.ipv6 { 7 } else { 8 }] = self.ttl;
        frame[l4 + 4..l4 + 8].copy_from_slice(&self.sequence.to_be_bytes());
        frame[l4 + 8..l4 + 12].copy_from_slice(&self.ack.to_be_bytes());
        frame[l4 + 12] = (5 + options.len() as u8 / 4) << 4;
        frame[l4 + 13] = self.flags;
        frame[l4 + 14..l4 + 16].copy_from_slice(&self.window.to_be_bytes());
        let headers = Headers::parse(&frame, frame.len()).unwrap();
        checksum::fill_ipv4(&mut frame, &headers);
        checksum::fill_l4(&mut frame, &headers);
        frame
    }

    /// The one that follows it, with as much data.
    fn next(&self) -> Seg {
        Seg {
            sequence: self.sequence.wrapping_add(self.data.len() as u32),
            ..self.clone()
        }
    }
}

/// What `mlx5e_lro_update_hdr` makes of a merged packet: headers rewritten from the completion.
fn rewritten(mut frame: Vec<u8>, cqe: &[u8; 64]) -> Vec<u8> {
    if cqe[0x20] <= 1 {
        return frame;
    }
    let v6 = be16(&frame, 12) == 0x86dd;
    let l4 = if v6 { 54 } else { 34 };
    let total = frame.len() - 14;
    if v6 {
        frame[21] = cqe[5];
        frame[18..20].copy_from_slice(&(total as u16 - 40).to_be_bytes());
    } else {
        frame[22] = cqe[5];
        frame[16..18].copy_from_slice(&(total as u16).to_be_bytes());
    }
    frame[l4 + 13] = frame[l4 + 13] & !PSH | if cqe[4] & 0x40 != 0 { PSH } else { 0 };
    frame[l4 + 8..l4 + 12].copy_from_slice(&cqe[8..12]);
    frame[l4 + 14..l4 + 16].copy_from_slice(&cqe[6..8]);
    let header_len = usize::from(frame[l4 + 12] >> 4) * 4;
    // The driver sums up the header and takes the data's sum from the completion.
    let data = &frame[l4 + header_len..];
    assert_eq!(slow_sum(data), be16(cqe, 0x14), "sum over the data");
    assert_eq!(cqe[4] & 0x80, 0, "no time stamps in place of the device's");
    let headers = Headers::parse(&frame, frame.len()).unwrap();
    checksum::fill_ipv4(&mut frame, &headers);
    checksum::fill_l4(&mut frame, &headers);
    frame
}

/// Sequence number, data, flags, segments.
fn tcp(frame: &[u8], cqe: &[u8; 64]) -> (u32, Vec<u8>, u8, u8) {
    let headers = Headers::parse(frame, frame.len()).unwrap();
    assert_ne!(headers.l3, L3::Other, "{frame:02x?}");
    (
        be32(frame, headers.l4_offset + 4),
        frame[headers.l4_payload..headers.l3_end].to_vec(),
        frame[headers.l4_offset + 13],
        cqe[0x20],
    )
}

const TIMEOUT_US: u64 = 32;
const LARGE: u64 = 0x1_0000;

/// A queue with buffers of 64 KiB and a TIR that merges.
struct Merger {
    host: Host,
    rqn: u32,
    tirn: u32,
    cq: TestCq,
    record: u64,
    buffers: Vec<u64>,
    posted: u32,
}

impl Merger {
    fn new(mask: u8, max_256: u8) -> Merger {
        let mut host = Host::new(1);
        let mut rq = host.rq(false);
        for buffer in &mut rq.buffers {
            *buffer = host.alloc(LARGE);
        }
        host.fill(&rq, LARGE as u32);
        let tirn = host.tir(Disposition::Direct(rq.rqn));
        host.all_to(&[tirn]);
        let mut merger = Merger {
            host,
            rqn: rq.rqn,
            tirn,
            cq: rq.cq,
            record: rq.record,
            buffers: rq.buffers,
            posted: 1 << LOG_RQ_SIZE,
        };
        merger.modify(mask, max_256).unwrap();
        merger
    }

    fn modify(&mut self, mask: u8, max_256: u8) -> Result<Vec<u8>, CmdError> {
        let mut modify = input(Opcode::ModifyTir, 0, ModifyTirIn::SIZE);
        let mut view = ModifyTirIn::new(&mut modify);
        view.set_tirn(self.tirn);
        view.bitmask_mut().set_packet_merge(true);
        view.tirc_mut()
            .set_packet_merge_mask(mask)
            .set_lro_timeout_period_usecs(TIMEOUT_US as u16)
            .set_lro_max_ip_payload_size(max_256);
        self.host.command(&modify)
    }

    fn receive(&mut self, seg: &Seg) {
        self.host.receive(&seg.frame());
    }

    /// `us` microseconds pass.
    fn pass(&mut self, us: u64) {
        let now = Time(self.host.nic.core.now.0 + us * 1000);
        self.host.nic.handle(now, NicInput::Tick);
    }

    /// The next packet, as it came and as the driver makes it; its buffer is posted again.
    fn poll(&mut self) -> Option<(Vec<u8>, [u8; 64])> {
        let cqe = self.host.poll(&mut self.cq)?;
        assert_eq!(cqe[63] >> 4, 2, "{cqe:02x?}");
        let index = usize::from(be16(&cqe, 0x3c)) % self.buffers.len();
        let bytes = self
            .host
            .read(self.buffers[index], be32(&cqe, 0x2c) as usize);
        self.posted += 1;
        self.host.write(self.record, &self.posted.to_be_bytes());
        Some((rewritten(bytes, &cqe), cqe))
    }

    fn segments(&mut self) -> Vec<(u32, usize, u8)> {
        let mut all = Vec::new();
        while let Some((frame, cqe)) = self.poll() {
            let (sequence, data, _, segments) = tcp(&frame, &cqe);
            all.push((sequence, data.len(), segments));
        }
        all
    }
}

#[test]
fn segments_in_order_become_one_packet_with_the_last_ones_news() {
    for ipv6 in [false, true] {
        let mut merger = Merger::new(3, 255);
        let first = Seg {
            ipv6,
            stamp: Some(77),
            data: pattern(1001),
            ..Seg::default()
        };
        let second = Seg {
            ack: 5,
            window: 90,
            ttl: 60,
            data: pattern(999),
            ..first.next()
        };
        let third = Seg {
            sequence: second.sequence + 999,
            ack: 9,
            window: 80,
            flags: ACK | PSH,
            ttl: 62,
            ..second.clone()
        };
        merger.receive(&first);
        merger.receive(&second);
        assert!(merger.poll().is_none(), "not yet");
        merger.receive(&third);
        let (frame, cqe) = merger.poll().expect("PSH ends it");
        let whole = Seg {
            sequence: first.sequence,
            data: [first.data, second.data, third.data.clone()].concat(),
            ttl: 60,
            ..third
        };
        assert_eq!(frame, whole.frame());
        assert_eq!(cqe[0x20], 3, "segments");
        assert_eq!(cqe[4..12], [0x40, 60, 0, 80, 0, 0, 0, 9]);
        assert_eq!(cqe[0x1c], 7, "all good");
        assert_eq!(cqe[0x1d] >> 4, 4, "ACK and data");
        assert_ne!(be32(&cqe, 0x0c), 0, "hash");
        assert_eq!(be32(&cqe, 0x38), 0x77, "flow tag");
        assert!(merger.poll().is_none());
    }
}

#[test]
fn time_ends_a_session() {
    let mut merger = Merger::new(3, 255);
    let first = Seg::default();
    merger.receive(&first);
    merger.pass(TIMEOUT_US / 2);
    let other = Seg {
        port: 6000,
        ..Seg::default()
    };
    merger.receive(&other);
    merger.receive(&first.next());
    merger.pass(TIMEOUT_US / 2 - 1);
    assert!(merger.poll().is_none(), "one microsecond is left");
    merger.pass(1);
    assert_eq!(merger.segments(), [(1000, 200, 2)]);
    assert_eq!(
        merger.host.nic.poll_timeout(),
        Some(Time(3 * TIMEOUT_US / 2 * 1000))
    );
    merger.pass(TIMEOUT_US / 2);
    // Alone it is as if it had never been kept.
    let (frame, cqe) = merger.poll().expect("the other one");
    assert_eq!((&frame, cqe[0x20]), (&other.frame(), 0));
    assert_eq!(be16(&cqe, 0x14), slow_sum(&frame[14..]));
    assert_eq!(merger.host.nic.poll_timeout(), None);
}

#[test]
fn what_does_not_continue_a_session_comes_after_it() {
    let first = Seg {
        stamp: Some(5),
        ..Seg::default()
    };
    let second = first.next();
    let gap = Seg {
        sequence: second.sequence + 1,
        ..second.clone()
    };
    let others = [
        ("a gap", gap.clone()),
        ("once more", first.clone()),
        (
            "another time stamp",
            Seg {
                stamp: Some(6),
                ..second.clone()
            },
        ),
        (
            "without time stamp",
            Seg {
                stamp: None,
                ..second.clone()
            },
        ),
        (
            "an older acknowledgment",
            Seg {
                ack: 0,
                ..second.clone()
            },
        ),
        (
            "no data",
            Seg {
                data: Vec::new(),
                ..second.clone()
            },
        ),
        (
            "FIN",
            Seg {
                flags: ACK | FIN,
                ..second.clone()
            },
        ),
        (
            "CWR",
            Seg {
                flags: ACK | CWR,
                ..second.clone()
            },
        ),
        (
            "no ACK",
            Seg {
                flags: 0,
                ..second.clone()
            },
        ),
        (
            "PSH with a gap",
            Seg {
                flags: ACK | PSH,
                ..gap
            },
        ),
    ];
    for (what, other) in others {
        let mut merger = Merger::new(3, 255);
        merger.receive(&first);
        merger.receive(&other);
        let (frame, cqe) = merger.poll().unwrap_or_else(|| panic!("{what}: nothing"));
        assert_eq!((&frame, cqe[0x20]), (&first.frame(), 0), "{what}");
        merger.pass(TIMEOUT_US);
        let (frame, cqe) = merger.poll().unwrap_or_else(|| panic!("{what}: lost"));
        assert_eq!((&frame, cqe[0x20]), (&other.frame(), 0), "{what}");
        assert!(merger.poll().is_none(), "{what}");
    }
}

#[test]
fn damage_is_not_merged() {
    let mut merger = Merger::new(3, 255);
    let first = Seg::default();
    merger.receive(&first);
    let mut damaged = first.next().frame();
    *damaged.last_mut().unwrap() ^= 1;
    merger.host.receive(&damaged);
    assert_eq!(merger.poll().map(|(frame, _)| frame), Some(first.frame()));
    let (frame, cqe) = merger.poll().expect("as it came");
    assert_eq!((&frame, cqe[0x1c]), (&damaged, 3));
}

#[test]
fn a_session_is_bounded_by_size_and_by_segments() {
    // 1 KiB: the TCP header and ten segments of 100 bytes.
    let mut merger = Merger::new(3, 4);
    let mut seg = Seg::default();
    for _ in 0..25 {
        merger.receive(&seg);
        seg = seg.next();
    }
    assert_eq!(merger.segments(), [(1000, 1000, 10), (2000, 1000, 10)]);
    merger.pass(TIMEOUT_US);
    assert_eq!(merger.segments(), [(3000, 500, 5)]);
    // Too large to be merged at all.
    let large = Seg {
        data: pattern(600),
        ..seg.clone()
    };
    merger.receive(&large);
    assert_eq!(merger.segments(), [(seg.sequence, 600, 0)]);

    let mut merger = Merger::new(3, 255);
    let mut seg = Seg {
        data: vec![7],
        ..Seg::default()
    };
    for _ in 0..256 {
        merger.receive(&seg);
        seg = seg.next();
    }
    merger.pass(TIMEOUT_US);
    assert_eq!(merger.segments(), [(1000, 255, 255), (1255, 1, 0)]);
}

#[test]
fn only_what_the_tir_names_is_merged() {
    let v4 = Seg::default();
    let v6 = Seg {
        ipv6: true,
        ..Seg::default()
    };
    let mut merger = Merger::new(1, 255);
    merger.receive(&v4);
    assert_eq!(merger.segments(), []);
    merger.receive(&v6);
    assert_eq!(merger.segments(), [(1000, 100, 0)]);
    // What was kept is delivered when nothing is to be merged any more.
    merger.modify(0, 255).unwrap();
    assert_eq!(merger.segments(), [(1000, 100, 0)]);
    merger.receive(&v4.next());
    assert_eq!(merger.segments(), [(1100, 100, 0)]);
    merger.modify(2, 255).unwrap();
    merger.receive(&v6.next());
    assert_eq!(merger.segments(), []);
    assert!(merger.modify(4, 255).is_err(), "header data split");
}

#[test]
fn a_tag_that_is_taken_out_is_in_the_completion() {
    let mut merger = Merger::new(3, 255);
    let first = Seg {
        tag: Some(0x6007),
        ..Seg::default()
    };
    let plain = Seg {
        tag: None,
        ..first.next()
    };
    merger.receive(&first);
    merger.receive(&first.next());
    // The same without tag is another flow.
    merger.receive(&plain);
    merger.pass(TIMEOUT_US);
    let (frame, cqe) = merger.poll().expect("a packet");
    assert_eq!((cqe[0x20], cqe[0x1d] & 1, be16(&cqe, 0x1e)), (2, 1, 0x6007));
    let whole = Seg {
        tag: None,
        data: [pattern(100), pattern(100)].concat(),
        ..first.clone()
    };
    assert_eq!(frame, whole.frame());
    assert_eq!(merger.poll().map(|(frame, _)| frame), Some(plain.frame()));
    // One that stays in the frame is not expected by drivers.
    let mut modify = modify_rq(merger.rqn, 1, 1);
    let mut view = ModifyRqIn::new(&mut modify);
    view.set_modify_bitmask(2).rqc_mut().set_vsd(true);
    merger.host.ok(&modify);
    merger.receive(&first);
    assert_eq!(merger.poll().map(|(frame, _)| frame), Some(first.frame()));
}

#[test]
fn the_end_of_a_queue_is_the_end_of_its_sessions() {
    let mut merger = Merger::new(3, 255);
    let first = Seg::default();
    merger.receive(&first);
    merger.host.ok(&modify_rq(merger.rqn, 1, 3));
    let cqe = merger.host.poll(&mut merger.cq).expect("what was kept");
    assert_eq!((cqe[63] >> 4, be32(&cqe, 0x2c)), (2, 154));
    let cqe = merger.host.poll(&mut merger.cq).expect("what was posted");
    assert_eq!((cqe[63] >> 4, cqe[0x37]), (0xe, 5));

    let mut merger = Merger::new(3, 255);
    merger.receive(&first);
    merger.host.ok(&modify_rq(merger.rqn, 1, 0));
    merger.host.ok(&modify_rq(merger.rqn, 0, 1));
    merger.pass(TIMEOUT_US);
    assert_eq!(merger.segments(), [], "nothing from before the reset");
}

#[test]
fn the_oldest_session_makes_room() {
    let mut merger = Merger::new(3, 255);
    for port in 0..17 {
        merger.receive(&Seg {
            port,
            sequence: u32::from(port),
            ..Seg::default()
        });
    }
    assert_eq!(merger.segments(), [(0, 100, 0)]);
    merger.pass(TIMEOUT_US);
    assert_eq!(merger.segments().len(), 16);
}

/// Flows at random with reordering, losses, repetitions, acknowledgments and pauses: per flow the
/// segments come out in the order they went in, and no byte is lost, added or changed.
#[test]
fn streams_come_out_as_they_went_in() {
    let mut random = Random(0x5eed_0004);
    let mut merged = 0u32;
    for round in 0..60 {
        let max = [255, 64, 4, 1][round % 4];
        let mut merger = Merger::new(3, max);
        let mut flows: Vec<Seg> = (0..5)
            .map(|n| Seg {
                ipv6: n % 2 == 1,
                port: 100 + n,
                sequence: 0u32.wrapping_sub(random.below(4000) as u32),
                stamp: (n > 2).then_some(1),
                ..Seg::default()
            })
            .collect();
        // By port: (sequence number, byte) in order of arrival.
        let mut sent: BTreeMap<u16, Vec<(u32, u8)>> = BTreeMap::new();
        let mut received: BTreeMap<u16, Vec<(u32, u8)>> = BTreeMap::new();
        let note = |to: &mut BTreeMap<u16, Vec<(u32, u8)>>, port, sequence: u32, data: &[u8]| {
            let bytes = data.iter().enumerate();
            to.entry(port)
                .or_default()
                .extend(bytes.map(|(i, byte)| (sequence.wrapping_add(i as u32), *byte)));
        };
        for _ in 0..300 {
            let index = random.below(flows.len() as u64) as usize;
            for _ in 0..random.below(6) {
                let flow = &mut flows[index];
                let len = [0, 1, 99, 536, 1400][random.below(5) as usize];
                flow.data = random.bytes(len);
                flow.flags = ACK | if random.below(8) == 0 { PSH } else { 0 };
                flow.ack = flow.ack.wrapping_add(random.below(3) as u32);
                if random.below(20) == 0 {
                    flow.stamp = flow.stamp.map(|stamp| stamp + 1);
                }
                if random.below(30) == 0 {
                    flow.sequence = flow.sequence.wrapping_sub(random.below(2000) as u32);
                }
                note(&mut sent, flow.port, flow.sequence, &flow.data);
                let frame = flow.frame();
                flow.sequence = flow.sequence.wrapping_add(len as u32);
                merger.host.receive(&frame);
            }
            if random.below(4) == 0 {
                merger.pass(random.below(40));
            }
            if random.below(40) == 0 {
                merger.modify(random.below(4) as u8, max).unwrap();
            }
            while let Some((frame, cqe)) = merger.poll() {
                let headers = Headers::parse(&frame, frame.len()).unwrap();
                let (sequence, data, _, segments) = tcp(&frame, &cqe);
                merged += u32::from(segments);
                note(&mut received, headers.sport, sequence, &data);
            }
        }
        merger.pass(TIMEOUT_US);
        while let Some((frame, cqe)) = merger.poll() {
            let headers = Headers::parse(&frame, frame.len()).unwrap();
            let (sequence, data, ..) = tcp(&frame, &cqe);
            note(&mut received, headers.sport, sequence, &data);
        }
        for (port, bytes) in sent {
            let got = received.remove(&port).unwrap_or_default();
            let at = bytes.iter().zip(&got).position(|(a, b)| a != b);
            assert!(
                bytes == got,
                "round {round}, port {port}: {} sent, {} received, different at {at:?}",
                bytes.len(),
                got.len()
            );
        }
    }
    assert!(merged > 1000, "{merged} merged: too tame");
}
