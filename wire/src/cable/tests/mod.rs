//! Cables as what is plugged in sees them. Here is what all of their tests need.

mod any;
mod captures;
mod links;
mod packets;
mod shapes;

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
        mig_req: true,
        pkey: 0xffff,
        dest_qp,
        ack_req: !is_ack,
        psn: Psn::new(psn),
        aeth: is_ack.then_some(Aeth {
            syndrome: 0x1f,
            msn: psn,
        }),
        payload_len: payload.len() as u32,
        ..Packet::new(opcode)
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

/// Knows that host 1 sends from QP 0x77.
struct Known;

impl Peers for Known {
    fn sender(&self, request: &RoceFrame, direction: Direction) -> Option<u32> {
        assert_eq!(direction, Direction::Tx);
        (request.packet.dest_qp == 0x12).then_some(0x77)
    }
}
