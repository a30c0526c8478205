use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::MacAddr;
use crate::buf::Buf;
use crate::capture::Capture;
use crate::fault::{FIELDS, Place};
use crate::frame::{Body, HeadBuf};
use crate::opcode::Opcode;
use crate::packet::{Aeth, Packet};
use crate::psn::Psn;
use crate::roce::{Address, HeaderTemplate, L3};

type Payloads = Vec<u8>;

const SEND: u8 = 0x04;
const ACK: u8 = 0x11;

/// From host 1 to host 2.
fn address(tos: u8) -> Address {
    Address {
        src_mac: MacAddr::new(2, 0, 0, 0, 0, 1),
        dst_mac: MacAddr::new(2, 0, 0, 0, 0, 2),
        vlan: None,
        l3: L3::V2Ipv4 {
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
            tos,
            ttl: 64,
        },
        udp_sport: 0xc000,
    }
}

fn back(address: Address) -> Address {
    let L3::V2Ipv4 { src, dst, tos, ttl } = address.l3 else {
        unreachable!()
    };
    Address {
        src_mac: address.dst_mac,
        dst_mac: address.src_mac,
        l3: L3::V2Ipv4 {
            src: dst,
            dst: src,
            tos,
            ttl,
        },
        ..address
    }
}

/// A known good packet with 100 bytes of payload (an acknowledgement has none) that lie elsewhere.
fn packet(address: &Address, opcode: u8, dest_qp: u32, psn: u32) -> Frame<Payloads> {
    let opcode = Opcode::from_byte(opcode).unwrap();
    let is_ack = opcode.to_byte() == ACK;
    let payload = if is_ack {
        Vec::new()
    } else {
        vec![psn as u8; 100]
    };
    let packet = Packet {
        opcode,
        solicited: false,
        mig_req: true,
        pkey: 0xffff,
        dest_qp,
        ack_req: !is_ack,
        psn: Psn::new(psn),
        xrc_srqn: None,
        deth: None,
        reth: None,
        atomic: None,
        aeth: is_ack.then_some(Aeth {
            syndrome: 0x1f,
            msn: psn,
        }),
        atomic_ack: None,
        imm: None,
        inv_rkey: None,
        payload_len: payload.len() as u32,
    };
    let mut head = HeadBuf::new();
    let layout = HeaderTemplate::new(address).write(&packet, &mut head);
    Frame::roce(head, layout, Body::Ref(payload))
}

fn send(psn: u32) -> Frame<Payloads> {
    packet(&address(2), SEND, 0x12, psn)
}

fn psn(frame: &Frame<Payloads>) -> u32 {
    frame.parse_roce().unwrap().packet.psn.get()
}

struct World {
    control: Control,
    cable: Cable<Payloads>,
    wakes: Arc<AtomicUsize>,
}

fn us(n: u64) -> Time {
    Time(1000 * n)
}

fn world(rules: &str) -> World {
    let control = Control::new();
    let wakes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&wakes);
    let waker = move || {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let cable = Cable::new(&control, "lab", "alice", Arc::new(waker));
    let mut world = World {
        control,
        cable,
        wakes,
    };
    world.set(rules);
    // Rules count from when the cable sees them.
    assert_eq!(world.cable.poll_transmit(us(0)).map(|f| psn(&f)), None);
    world
}

/// A rule with this beside its name.
fn rule(text: &str) -> World {
    world(&format!("[[rule]]\nname = \"r\"\n{text}\n"))
}

impl World {
    fn set(&mut self, rules: &str) {
        let rules: Rules = rules.parse().unwrap_or_else(|e| panic!("{rules}\n{e}"));
        self.control.set_rules(rules);
    }

    /// Sends; what leaves at once.
    fn tx(&mut self, now: Time, frame: Frame<Payloads>) -> Vec<Frame<Payloads>> {
        let first = self.cable.transmit(now, frame, &());
        let mut all: Vec<_> = first.into_iter().collect();
        all.extend(std::iter::from_fn(|| self.cable.poll_transmit(now)));
        all
    }

    /// PSNs of what leaves, a frame for each PSN sent, a microsecond apart from 1 us on, until
    /// nothing happens any more: with the times in microseconds.
    fn run(&mut self, psns: impl IntoIterator<Item = u32>) -> Vec<(u64, u32)> {
        let mut left = Vec::new();
        let mut now = us(0);
        for n in psns {
            let next = now + Duration::from_micros(1);
            self.drain(&mut now, next, &mut left);
            now = next;
            let out = self.tx(now, send(n));
            left.extend(out.iter().map(|frame| (now.0 / 1000, psn(frame))));
        }
        self.drain(&mut now, us(1_000_000), &mut left);
        left
    }

    fn drain(&mut self, now: &mut Time, until: Time, left: &mut Vec<(u64, u32)>) {
        while let Some(due) = self.cable.poll_timeout()
            && due < until
        {
            *now = (*now).max(due);
            while let Some(frame) = self.cable.poll_transmit(*now) {
                left.push((now.0 / 1000, psn(&frame)));
            }
            while self.cable.poll_event(*now).is_some() {}
        }
    }

    fn counters(&self) -> CableCounters {
        self.control.status()[0].tx
    }

    fn hits(&self) -> (u64, u64) {
        let rules = self.control.rules();
        let counters = &rules.counters()[0];
        (counters.matches, counters.hits)
    }
}

fn psns(run: &[(u64, u32)]) -> Vec<u32> {
    run.iter().map(|(_, psn)| *psn).collect()
}

#[test]
fn without_rules_frames_pass_as_they_are() {
    let mut world = world("");
    let out = world.cable.transmit(us(1), send(7), &()).expect("at once");
    assert!(
        out.is_known_good(),
        "still a reference to the sender's memory"
    );
    let out = world.cable.receive(us(1), send(7), &()).expect("at once");
    assert!(out.is_known_good());
    assert_eq!(world.cable.poll_timeout(), None);
    assert_ne!(world.cable.quiet, ACTIVE);
    // Rules for others change nothing.
    world.set("[[rule]]\nname = \"r\"\nport = \"bob\"\naction = \"drop\"\n");
    assert!(world.cable.is_stale());
    assert_eq!(world.wakes.load(Ordering::Relaxed), 2);
    assert!(world.cable.transmit(us(2), send(7), &()).is_some());
    assert_ne!(world.cable.quiet, ACTIVE);
    // A rule that does not match does not touch the frame either.
    world.set("[[rule]]\nname = \"r\"\nmatch = { bth.psn = 8 }\naction = \"drop\"\n");
    let out = world.cable.transmit(us(2), send(7), &()).expect("at once");
    assert!(out.is_known_good());
    assert!(world.cable.transmit(us(2), send(8), &()).is_none());
}

#[test]
fn the_nth_is_lost() {
    let mut world = rule("nth = [2, 4]\naction = \"drop\"");
    assert_eq!(psns(&world.run(10..15)), [10, 12, 14]);
    assert_eq!((world.hits(), world.counters().rule_drops), ((5, 2), 2));
}

#[test]
fn psns_count_from_the_first_of_each_flow() {
    let mut world = rule("match = { bth.psn_rel = 2 }\naction = \"drop\"");
    assert_eq!(
        psns(&world.run(0xff_fffe..0x100_0002)),
        [0xff_fffe, 0xff_ffff, 1]
    );
    let other = |n| packet(&address(2), SEND, 0x13, n);
    assert_eq!(world.tx(us(50), other(100)).len(), 1);
    assert_eq!(world.tx(us(50), other(102)).len(), 0);
}

#[test]
fn flows_are_counted_apart_if_asked() {
    let mut world = rule("nth = 1\nper = \"flow\"\naction = \"drop\"");
    for qp in [1, 2] {
        let out: Vec<usize> = (0..3)
            .map(|n| world.tx(us(1), packet(&address(2), SEND, qp, n)).len())
            .collect();
        assert_eq!(out, [0, 1, 1]);
    }
}

#[test]
fn rules_are_asked_in_order_until_one_decides() {
    let mut world = world(
        "[[rule]]\nname = \"a\"\nmatch = { bth.psn = 1 }\naction = \"pass\"\n\
         [[rule]]\nname = \"b\"\nmatch = { bth.psn = 2 }\naction = { set = { bth.psn = 3 } }\n\
         [[rule]]\nname = \"c\"\nmatch = { bth.psn = [1, 3] }\naction = \"drop\"\n\
         [[rule]]\nname = \"d\"\nmatch = { bth.psn = 3 }\naction = \"drop\"\n",
    );
    assert_eq!(psns(&world.run(0..5)), [0, 1, 4]);
    let hits: Vec<u64> = world
        .control
        .rules()
        .counters()
        .iter()
        .map(|rule| rule.hits)
        .collect();
    assert_eq!(hits, [1, 1, 2, 0]);
}

#[test]
fn copies_come_behind_and_are_bytes() {
    let mut world = rule("nth = 2\naction = { duplicate = 2 }");
    assert_eq!(psns(&world.run(0..3)), [0, 1, 1, 1, 2]);
    let mut world = rule("nth = 1\naction = { duplicate = 2, delay = \"10us\" }");
    assert_eq!(world.run(0..2), [(1, 0), (2, 1), (11, 0), (21, 0)]);
    let mut world = rule("action = { duplicate = 1 }");
    let out = world.tx(us(1), send(5));
    assert_eq!(out.len(), 2);
    for frame in out {
        let parsed = frame.parse_roce().unwrap();
        assert!(!frame.is_known_good() && frame.icrc_is_good(&parsed.layout));
    }
}

#[test]
fn late_frames_are_overtaken_and_jitter_stays_in_its_bounds() {
    let mut world = rule("nth = 1\naction = { delay = \"5us\" }");
    assert_eq!(world.run(0..3), [(2, 1), (3, 2), (6, 0)]);
    let text = "action = { delay = \"50us\", jitter = \"20us\" }";
    let run = rule(text).run(0..40);
    assert_eq!(run.len(), 40);
    for (at, psn) in &run {
        let delay = at - u64::from(psn + 1);
        assert!((50..=70).contains(&delay), "{psn} after {delay} us");
    }
    assert!(psns(&run).windows(2).any(|pair| pair[0] > pair[1]));
    assert_eq!(run, rule(text).run(0..40), "the same seed");
    assert_ne!(run, rule(&format!("{text}\nseed = 1")).run(0..40));
}

#[test]
fn a_frame_is_overtaken_by_as_many_as_asked_or_until_the_timeout() {
    let mut world = rule("nth = 2\naction = { reorder = 2 }");
    assert_eq!(psns(&world.run(0..6)), [0, 2, 3, 1, 4, 5]);
    let mut world = rule("nth = 3\naction = { reorder = 2, timeout = \"40us\" }");
    assert_eq!(world.run(0..4), [(1, 0), (2, 1), (4, 3), (43, 2)]);
}

#[test]
fn a_corrupt_icrc_reaches_the_receiver_and_is_seen_there() {
    let mut world = rule("nth = 1\naction = { corrupt = \"icrc\" }");
    let out = world.tx(us(1), send(5)).remove(0);
    let parsed = out.parse_roce().unwrap();
    assert!(!out.icrc_is_good(&parsed.layout));
    let out = world.tx(us(1), send(6)).remove(0);
    assert!(out.is_known_good(), "only the first");
}

#[test]
fn ecn_is_marked_in_place() {
    let mut world = rule("action = \"ecn-ce\"");
    let out = world.tx(us(1), send(5)).remove(0);
    assert!(out.is_known_good());
    assert_eq!(out.parse_roce().unwrap().address.l3.ecn(), 3);
}

/// Knows that host 1 sends from QP 0x77.
struct Known;

impl Peers for Known {
    fn sender(&self, request: &RoceFrame, direction: Direction) -> Option<u32> {
        assert_eq!(direction, Direction::Tx);
        (request.packet.dest_qp == 0x12).then_some(0x77)
    }
}

#[test]
fn answers_are_forged_to_the_sender() {
    let mut world = rule("nth = 2\naction = { forge = \"nak-sequence-error\" }");
    // What the responder has acknowledged so far.
    let ack = packet(&back(address(2)), ACK, 0x77, 9);
    assert!(world.cable.receive(us(1), ack, &Known).is_some());
    assert!(world.cable.transmit(us(1), send(10), &Known).is_some());
    assert!(world.cable.transmit(us(1), send(11), &Known).is_none());
    assert_eq!(world.cable.poll_timeout(), Some(Time::ZERO));
    let answer = world.cable.poll_receive(us(1)).expect("an answer");
    let answer = answer.parse_roce().unwrap();
    assert_eq!(answer.packet.dest_qp, 0x77);
    assert_eq!(answer.packet.psn.get(), 11);
    let expected = Aeth {
        syndrome: 0x60,
        msn: 9,
    };
    assert_eq!(answer.packet.aeth, Some(expected));
    assert!(world.cable.poll_receive(us(1)).is_none());
    assert_eq!(world.control.status()[0].rx.forged, 1);

    let mut world = rule("action = { forge = \"cnp\" }");
    assert!(world.cable.transmit(us(1), send(10), &Known).is_some());
    let answer = world.cable.poll_receive(us(1)).expect("an answer");
    assert_eq!(answer.parse_roce().unwrap().packet.opcode, Opcode::Cnp);

    // Nobody knows the sender: the rule does not match, and that is counted.
    let mut world = rule("action = { forge = \"ack\" }");
    assert_eq!(psns(&world.run(0..2)), [0, 1]);
    assert_eq!((world.hits(), world.counters().unforgeable), ((0, 0), 2));
}

#[test]
fn nothing_that_is_held_gets_lost_when_rules_change() {
    let mut world = rule("action = { delay = \"10us\" }");
    assert!(world.tx(us(1), send(1)).is_empty());
    world.set("");
    assert_eq!(world.cable.poll_timeout(), Some(Time::ZERO));
    assert_eq!(world.tx(us(2), send(2)).len(), 1);
    assert_eq!(world.cable.poll_timeout(), Some(us(11)));
    let late = world.cable.poll_transmit(us(11)).expect("the first");
    assert_eq!(psn(&late), 1);
    assert!(world.cable.poll_transmit(us(11)).is_none());
    assert_ne!(world.cable.quiet, ACTIVE);
}

#[test]
fn what_is_held_is_finite() {
    let mut world = rule("action = { delay = \"10s\" }");
    for n in 0..lane::LIMIT as u32 + 3 {
        assert!(world.tx(us(1), send(n)).is_empty());
    }
    assert_eq!(world.counters().queue_drops, 3);
    let mut left = 0;
    let late = us(11_000_000);
    while world.cable.poll_transmit(late).is_some() {
        left += 1;
    }
    assert_eq!(left, lane::LIMIT);
}

#[test]
fn links_flap_at_their_times_and_lose_what_is_on_its_way() {
    let mut world = world(
        "[[link]]\nname = \"f\"\nfault = \"flap\"\nfrom = \"10us\"\ndown = \"5us\"\nup = \"5us\"\ncount = 2\n\
         [[rule]]\nname = \"r\"\nnth = 9\naction = { delay = \"3us\" }\n",
    );
    let mut events = Vec::new();
    let mut delivered = Vec::new();
    for n in 1..=30 {
        let now = us(n);
        while let Some(event) = world.cable.poll_event(now) {
            events.push((n, event));
        }
        let out = world.cable.transmit(now, send(n as u32), &());
        delivered.extend(out.iter().map(psn));
    }
    let carrier = CableEvent::Carrier;
    assert_eq!(
        events,
        [
            (10, carrier(false)),
            (15, carrier(true)),
            (20, carrier(false)),
            (25, carrier(true))
        ]
    );
    let expected: Vec<u32> = (1..9).chain(15..20).chain(25..31).collect();
    assert_eq!(delivered, expected);
    // Ten sent in vain, and the late one.
    assert_eq!(world.counters().link_drops, 11);
    assert!(world.control.status()[0].carrier);
}

#[test]
fn a_cable_that_was_asleep_tells_every_change() {
    let mut world = world(
        "[[link]]\nname = \"f\"\nfault = \"flap\"\ndown = \"5us\"\nup = \"5us\"\ncount = 3\n",
    );
    let events = std::iter::from_fn(|| world.cable.poll_event(us(100))).count();
    assert_eq!(events, 6);
    assert!(world.cable.carrier());
}

#[test]
fn plugs_black_holes_and_speeds() {
    let mut world = world("");
    assert!(world.control.set_plugged("alice", false));
    assert!(!world.control.set_plugged("carol", false));
    assert_eq!(
        world.cable.poll_event(us(1)),
        Some(CableEvent::Carrier(false))
    );
    assert!(world.cable.transmit(us(1), send(1), &()).is_none());
    assert!(world.cable.receive(us(1), send(1), &()).is_none());
    world.control.set_plugged("alice", true);
    assert_eq!(
        world.cable.poll_event(us(2)),
        Some(CableEvent::Carrier(true))
    );
    assert!(world.cable.transmit(us(2), send(1), &()).is_some());
    world.set(
        "[[link]]\nname = \"b\"\nfault = \"blackhole\"\ndirection = \"rx\"\n\
         [[link]]\nname = \"s\"\nfault = \"speed\"\nspeed = 25000\n",
    );
    assert_eq!(
        world.cable.poll_event(us(3)),
        Some(CableEvent::Speed(Some(25000)))
    );
    assert_eq!(world.cable.poll_event(us(3)), None);
    assert!(world.cable.transmit(us(3), send(1), &()).is_some());
    assert!(world.cable.receive(us(3), send(1), &()).is_none());
    assert_eq!(world.control.status()[0].rx.blackhole_drops, 1);
}

#[test]
fn bit_errors_come_as_often_as_asked_and_repeat_with_the_seed() {
    let text = |seen: &str| {
        format!(
            "[[link]]\nname = \"e\"\nfault = \"bit-errors\"\nrate = 1e-4\nseen-by = \"{seen}\"\n\
             from = \"0s\"\nuntil = \"1s\"\n"
        )
    };
    // 14 + 20 + 8 + 12 + 100 + 4 bytes and the FCS: p = 12 %.
    let mut lost = world(&text("fcs"));
    let run = lost.run(0..1000);
    assert!((800..950).contains(&run.len()), "{}", run.len());
    assert_eq!(lost.counters().fcs_errors as usize, 1000 - run.len());
    assert_eq!(run, world(&text("fcs")).run(0..1000));
    // Who is to get them counts them.
    let mut here = world(&text("fcs"));
    let came = (0..100).filter(|n| here.cable.receive(us(1), send(*n), &()).is_some());
    let lost = 100 - came.count() as u64;
    assert!(lost > 0);
    assert_eq!(
        here.cable.poll_event(us(1)),
        Some(CableEvent::FcsErrors(lost))
    );
    assert_eq!(here.cable.poll_event(us(1)), None);
    let mut wrong = world(&text("icrc"));
    let mut bad = 0;
    for n in 0..1000 {
        let out = wrong.tx(us(1), send(n)).remove(0);
        if out.is_known_good() {
            continue;
        }
        bad += 1;
        let (mut sent, mut came) = (Vec::new(), Vec::new());
        send(n).to_bytes(&mut sent).unwrap();
        out.to_bytes(&mut came).unwrap();
        let differing: u32 = sent
            .iter()
            .zip(&came)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        assert_eq!(differing, 1);
    }
    assert_eq!(bad, 1000 - run.len(), "the same frames");
}

#[test]
fn a_slow_wire_takes_its_time_marks_and_drops() {
    let shape = "[[shape]]\nname = \"s\"\ndirection = \"tx\"\nrate = \"1Gbit/s\"\nlatency = \"10us\"\n\
                 queue = 1000\necn = 500\n";
    let mut world = world(shape);
    // 158 bytes and 24 of overhead are 1456 ns.
    let mut out = Vec::new();
    for n in 0..9 {
        out.extend(world.tx(us(0), send(n)));
    }
    assert!(out.is_empty());
    let mut left = Vec::new();
    while let Some(due) = world.cable.poll_timeout() {
        let frame = world.cable.poll_transmit(due).expect("what is due");
        let ecn = frame.parse_roce().unwrap().address.l3.ecn();
        left.push((due.0, psn(&frame), ecn));
    }
    let expected: Vec<(u64, u32, u8)> = (0..5)
        .map(|n| {
            (
                1456 * (u64::from(n) + 1) + 10_000,
                n,
                if n < 3 { 2 } else { 3 },
            )
        })
        .collect();
    assert_eq!(left, expected);
    let counters = world.counters();
    assert_eq!((counters.queue_drops, counters.ecn_marks), (4, 2));
    // The other direction is as fast as ever.
    assert!(world.cable.receive(us(0), send(1), &()).is_some());
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// PSN, flags and comment of each packet of a capture.
fn captured(bytes: &[u8]) -> Vec<(u32, u32, String)> {
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption as Option_;
    let mut reader = pcap_file::pcapng::PcapNgReader::new(bytes).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        let block = block.unwrap();
        if let pcap_file::pcapng::Block::InterfaceDescription(interface) = &block {
            assert!(format!("{:?}", interface.options).contains("lab/alice"));
        }
        let pcap_file::pcapng::Block::EnhancedPacket(packet) = block else {
            continue;
        };
        let frame = Frame::<Payloads>::from_buf(Buf::from_vec(packet.data.to_vec()));
        let (mut flags, mut comment) = (0, String::new());
        for option in &packet.options {
            match option {
                Option_::Flags(value) => flags = *value,
                Option_::Comment(text) => comment = text.to_string(),
                _ => {}
            }
        }
        packets.push((psn(&frame), flags, comment));
    }
    packets
}

#[test]
fn a_capture_shows_what_was_sent_and_what_was_delivered_with_the_cause() {
    let mut world = world(
        "[[rule]]\nname = \"lose\"\nmatch = { bth.psn = 2 }\naction = \"drop\"\n\
         [[rule]]\nname = \"break\"\nmatch = { bth.psn = 3 }\naction = { corrupt = \"icrc\" }\n\
         [[rule]]\nname = \"late\"\nmatch = { bth.psn = 3 }\naction = { delay = \"1us\" }\n\
         [[rule]]\nname = \"no\"\nmatch = { bth.psn = 4 }\naction = { forge = \"nak-invalid-request\" }\n",
    );
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let clock = || Duration::from_secs(1);
    let capture = Capture::start(Sink(Arc::clone(&bytes)), Box::new(clock)).unwrap();
    assert!(world.control.start_capture(capture, false).is_none());
    for n in 1..5 {
        let _ = world.cable.transmit(us(u64::from(n)), send(n), &Known);
    }
    assert!(world.cable.poll_receive(us(9)).is_some());
    // The other direction without comment is shown by the port where it comes from.
    assert!(world.cable.receive(us(9), send(100), &()).is_some());
    world.control.set_plugged("alice", false);
    assert!(world.cable.transmit(us(10), send(5), &()).is_none());
    let capture = world.control.stop_capture().expect("it runs");
    world.control.set_plugged("alice", true);
    assert!(world.cable.transmit(us(11), send(6), &()).is_some());
    assert_eq!(capture.finish().unwrap().written, 7);
    let text = |psn: u32, flags: u32, comment: &str| (psn, flags, comment.to_owned());
    let expected = [
        text(1, 2, ""),
        text(2, 2, "sent; rule 'lose': drop"),
        text(3, 2, "sent; rule 'break': corrupt"),
        // When the next frame came, it was due.
        text(3, 2, "delivered; rule 'break': corrupt; rule 'late': delay"),
        text(4, 2, "sent; rule 'no': forge nak-invalid-request"),
        text(4, 1, "forged; rule 'no': forge nak-invalid-request"),
        text(5, 2, "sent; lost: no carrier"),
    ];
    assert_eq!(captured(&bytes.lock().unwrap()), expected);
}

#[test]
fn a_port_can_show_both_directions_without_losing_its_references() {
    let mut world = world("");
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let clock = || Duration::from_secs(1);
    let capture = Capture::start(Sink(Arc::clone(&bytes)), Box::new(clock)).unwrap();
    world.control.start_capture(capture, true);
    let out = world.cable.receive(us(1), send(1), &()).unwrap();
    assert!(out.is_known_good());
    assert!(world.cable.transmit(us(1), send(2), &()).is_some());
    world.control.stop_capture().unwrap().finish().unwrap();
    let expected = [(1, 1, String::new()), (2, 2, String::new())];
    assert_eq!(captured(&bytes.lock().unwrap()), expected);
}

#[test]
fn one_entry_goes_and_the_others_stay_as_they_are() {
    let mut world = world(
        "[[rule]]\nname = \"first\"\nmatch = { bth.psn = 1 }\naction = \"drop\"\n\
         [[rule]]\nname = \"third\"\nnth = 3\nper = \"port\"\naction = \"drop\"\n\
         [[link]]\nname = \"hole\"\nfault = \"blackhole\"\ndirection = \"rx\"\n\
         [[shape]]\nname = \"slow\"\nlatency = \"1ms\"\ndirection = \"tx\"\n",
    );
    assert!(world.cable.transmit(us(1), send(1), &()).is_none());
    assert!(world.cable.transmit(us(1), send(2), &()).is_none());
    assert!(world.cable.receive(us(1), send(3), &()).is_none());
    assert!(!world.control.clear_rule("nobody"));
    assert!(world.control.clear_rule("first") && world.control.clear_rule("hole"));
    assert!(!world.control.clear_rule("first"), "it is gone");
    assert!(world.cable.receive(us(2), send(3), &()).is_some());
    // One is on its way since before, and is not overtaken; what follows is the second match of the
    // rule that is left, and the third.
    assert!(world.control.clear_rule("slow"));
    assert_eq!(world.cable.poll_timeout(), Some(Time::ZERO));
    let _ = world.cable.poll_transmit(us(2));
    assert_eq!(world.cable.poll_timeout(), Some(us(1001)));
    assert_eq!(world.run([1, 4]), [(1001, 2), (1001, 1)]);
    let rules = world.control.rules();
    assert!(rules.is_cleared("slow") && !rules.is_cleared("third"));
    assert_eq!(rules.counters()[1].hits, 1);
}

#[test]
fn a_capture_can_be_of_one_port_and_direction_and_tells_how_far_it_is() {
    let mut world = world("");
    let place = |port: &str| Place {
        links: vec!["lab".to_owned()],
        ports: vec![port.to_owned()],
        direction: Some(Direction::Rx),
    };
    for (port, expected) in [("bob", vec![]), ("al*", vec![(1, 1, String::new())])] {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let clock = || Duration::from_secs(1);
        let capture = Capture::start(Sink(Arc::clone(&bytes)), Box::new(clock)).unwrap();
        world.control.start_capture_at(capture, place(port));
        assert!(world.cable.receive(us(1), send(1), &()).is_some());
        assert!(world.cable.transmit(us(1), send(2), &()).is_some());
        let (stats, error) = world.control.capture_stats().expect("it runs");
        assert!(stats.written <= 1 && error.is_none());
        let capture = world.control.stop_capture().unwrap();
        assert!(world.control.capture_stats().is_none());
        let written = expected.len() as u64;
        assert_eq!(capture.finish().unwrap().written, written, "{port}");
        assert_eq!(captured(&bytes.lock().unwrap()), expected, "{port}");
    }
}

/// Rules of all kinds, from numbers.
fn any_rule() -> impl Strategy<Value = String> {
    let fields: Vec<&'static str> = FIELDS.iter().map(|field| field.name).collect();
    let condition = prop_oneof![
        Just(String::new()),
        (prop::sample::select(fields.clone()), any::<u16>())
            .prop_map(|(field, value)| format!("\"{field}\" = \"!= {value}\"")),
        (prop::sample::select(fields.clone()), any::<u16>())
            .prop_map(|(field, value)| format!("\"{field}\" = \"<= {value}\"")),
        Just("opcode = \"RC_*\"".to_owned()),
    ];
    let action = prop_oneof![
        Just("\"drop\"".to_owned()),
        Just("\"ecn-ce\"".to_owned()),
        Just("{ duplicate = 2 }".to_owned()),
        Just("{ delay = \"3us\", jitter = \"9us\" }".to_owned()),
        (1..5u32).prop_map(|n| format!("{{ reorder = {n} }}")),
        (1..32u32).prop_map(|n| format!("{{ corrupt = \"icrc\", bits = {n} }}")),
        (14..200u32).prop_map(|n| format!("{{ truncate = {n} }}")),
        (0..200u32).prop_map(|n| format!("{{ corrupt = {n}, icrc = \"repair\" }}")),
        Just("{ corrupt = \"random\", bits = 30, checksum = \"repair\" }".to_owned()),
        Just("{ corrupt = \"payload\", bits = 9 }".to_owned()),
        (prop::sample::select(fields), any::<u8>())
            .prop_map(|(field, n)| format!("{{ set = {{ \"{field}\" = {n} }} }}")),
        Just("{ forge = \"rnr-nak\", dest_qp = 5, deliver = true }".to_owned()),
        Just("{ forge = \"cnp\", dest_qp = 5 }".to_owned()),
    ];
    let per = prop::sample::select(vec!["all", "port", "flow"]);
    (condition, action, per, 1..4u32).prop_map(|(condition, action, per, every)| {
        format!(
            "match = {{ {condition} }}\naction = {action}\nper = \"{per}\"\nevery = {every}\n\
             direction = \"both\"\n"
        )
    })
}

proptest! {
    #[test]
    fn no_frame_panics_with_any_rules(
        rules in prop::collection::vec(any_rule(), 1..6),
        frames in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..220), 0..12usize, any::<u8>(), any::<bool>()),
            1..30,
        ),
    ) {
        // What makes no sense together was refused; the rest has to stand anything.
        let mut text = String::new();
        for (n, rule) in rules.iter().enumerate() {
            let rule = format!("[[rule]]\nname = \"r{n}\"\n{rule}");
            if rule.parse::<Rules>().is_ok() {
                text.push_str(&rule);
            }
        }
        let mut world = world(&text);
        let mut now = us(0);
        for (bytes, shape, opcode, outwards) in frames {
            now += Duration::from_micros(1);
            let frame = match shape {
                // Something like RoCE, damaged at one place.
                0..4 => {
                    let mut bytes_of = Vec::new();
                    packet(&address(2), SEND, 7, 3).to_bytes(&mut bytes_of).unwrap();
                    bytes_of[42] = opcode;
                    if let [at, value, ..] = bytes[..] {
                        let len = bytes_of.len();
                        bytes_of[usize::from(at) % len] = value;
                    }
                    bytes_of.truncate(bytes.len().max(14));
                    Frame::from_buf(Buf::from_vec(bytes_of))
                }
                4..8 => {
                    let mut bytes = bytes;
                    let types = [0x800u16, 0x86dd, 0x8915, 0x8100];
                    if let Some(place) = bytes.get_mut(12..14) {
                        place.copy_from_slice(&types[shape - 4].to_be_bytes());
                    }
                    Frame::from_buf(Buf::from_vec(bytes))
                }
                8 => Frame::from_buf(Buf::from_vec(bytes)),
                _ => send(u32::from(opcode)),
            };
            let _ = if outwards {
                world.cable.transmit(now, frame, &())
            } else {
                world.cable.receive(now, frame, &())
            };
            while world.cable.poll_transmit(now).is_some() {}
            while world.cable.poll_receive(now).is_some() {}
        }
        now += Duration::from_secs(1);
        while world.cable.poll_transmit(now).is_some() {}
        while world.cable.poll_receive(now).is_some() {}
        prop_assert_eq!(world.cable.poll_timeout(), None, "something is held for ever");
    }

    #[test]
    fn disorder_loses_and_doubles_nothing(
        by in 1..6u32, every in 1..5u32, copies in 1..3u32, every_copy in 2..6u32, jitter in 1..50u32,
        seed: u32, frames in 1..60u32,
    ) {
        let text = format!(
            "[[rule]]\nname = \"a\"\nevery = {every}\naction = {{ reorder = {by}, timeout = \"20us\" }}\n\
             [[rule]]\nname = \"b\"\nevery = {every_copy}\naction = {{ duplicate = {copies}, delay = \"7us\" }}\n\
             [[rule]]\nname = \"c\"\nprobability = 0.5\nseed = {seed}\naction = {{ delay = \"1us\", jitter = \"{jitter}us\" }}\n\
             [[shape]]\nname = \"s\"\nrate = \"10Gbit/s\"\nlatency = \"2us\"\n"
        );
        let mut world = world(&text);
        let run = world.run(0..frames);
        let rules = world.control.rules();
        let doubled = rules.counters()[1].hits * u64::from(copies);
        prop_assert_eq!(run.len() as u64, u64::from(frames) + doubled);
        let mut seen = psns(&run);
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen, (0..frames).collect::<Vec<_>>());
    }
}

/// Pause frames by what the queue holds: asked for at XOFF, again while that lasts, and ended at XON.
#[test]
fn a_queue_asks_its_sender_to_pause() {
    let mut world = world(
        "[[shape]]\nname = \"s\"\ndirection = \"tx\"\nrate = \"1Gbit/s\"\nqueue = 100_000\nxoff = 10_000\nxon = 4_000\npfc = [3]\n",
    );
    let asked = |world: &mut World, at: u64| -> Option<u16> {
        let frame = world.cable.poll_receive(us(at))?;
        let mut bytes = Vec::new();
        frame.to_bytes(&mut bytes).unwrap();
        assert_eq!(bytes[12..18], [0x88, 8, 1, 1, 0, 8]);
        Some(u16::from_be_bytes([bytes[24], bytes[25]]))
    };
    // Of 158 bytes each, 1456 ns with what is around them: the 56th finds more than 10000 bytes.
    for n in 0..80 {
        world.cable.transmit(us(1), send(n), &());
        assert!(n > 50 || world.cable.poll_receive(us(1)).is_none(), "{n}");
    }
    assert_eq!(asked(&mut world, 1), Some(0xffff));
    assert_eq!(asked(&mut world, 1), None);
    let due = world.cable.poll_timeout().unwrap();
    assert!(due <= us(41), "{due:?}");
    assert_eq!(asked(&mut world, 41), Some(0xffff), "again");
    // 80 frames are 116 us; 4000 bytes are 32 us of them.
    assert_eq!(asked(&mut world, 80), None);
    assert_eq!(asked(&mut world, 86), Some(0));
    assert_eq!(asked(&mut world, 200), None);
    assert_eq!(world.counters().pauses, 3);
    assert_eq!(world.counters().queue_drops, 0);
}

#[test]
fn pauses_that_make_no_sense_are_refused() {
    let wrong = |more: &str| {
        let text = format!("[[shape]]\nname = \"s\"\nlatency = \"1us\"\n{more}\n");
        text.parse::<Rules>().unwrap_err().to_string()
    };
    let tx = "direction = \"tx\"\nrate = \"1Gbit/s\"";
    for (more, why) in [
        (
            "direction = \"tx\"\nxoff = 1000".to_owned(),
            "needs a 'rate'",
        ),
        (
            "rate = \"1Gbit/s\"\nxoff = 1000".to_owned(),
            "direction = \"tx\"",
        ),
        (format!("{tx}\nxoff = 2_000_000"), "never reached"),
        (format!("{tx}\nxoff = 1000\nxon = 1000"), "not less"),
        (format!("{tx}\nxon = 1000"), "needs an 'xoff'"),
        (format!("{tx}\nxoff = 1000\npfc = []"), "names no priority"),
        (format!("{tx}\nxoff = 1000\npfc = 8"), "7"),
    ] {
        let error = wrong(&more);
        assert!(error.contains(why), "{more}: {error}");
    }
}
