use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::MacAddr;
use crate::buf::BufPool;

type P = Vec<u8>;

fn no_wake() -> Arc<dyn Wake> {
    Arc::new(|| {})
}

fn mac(n: u8) -> MacAddr {
    MacAddr::new(2, 0, 0, 0, 0, n)
}

fn frame(dst: MacAddr, src: MacAddr, body: &[u8]) -> Frame<P> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&dst.octets());
    bytes.extend_from_slice(&src.octets());
    bytes.extend_from_slice(&[0x08, 0x00]);
    bytes.extend_from_slice(body);
    Frame::from_slice(&bytes, &BufPool::for_frames(1))
}

fn bodies(port: &PortHandle<P>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = port.recv() {
        let mut bytes = Vec::new();
        frame.to_bytes(&mut bytes).unwrap();
        all.push(bytes.split_off(14));
    }
    all
}

#[test]
fn floods_until_it_has_learned() {
    let switch = Switch::<P>::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| switch.add_port(name, no_wake()));
    a.send(frame(mac(2), mac(1), b"who"));
    assert_eq!(bodies(&a), [] as [Vec<u8>; 0]);
    assert_eq!(
        (bodies(&b), bodies(&c)),
        (vec![b"who".to_vec()], vec![b"who".to_vec()])
    );
    b.send(frame(mac(1), mac(2), b"me"));
    assert_eq!((bodies(&a).len(), bodies(&c).len()), (1, 0));
    a.send(frame(mac(2), mac(1), b"you"));
    assert_eq!((bodies(&b).len(), bodies(&c).len()), (1, 0));
    // To oneself: a switch does not send back.
    a.send(frame(mac(1), mac(1), b"self"));
    assert_eq!(
        (bodies(&a).len(), bodies(&b).len(), bodies(&c).len()),
        (0, 0, 0)
    );
    for group in [MacAddr::broadcast(), MacAddr::new(0x33, 0x33, 0, 0, 0, 1)] {
        b.send(frame(group, mac(2), b"all"));
        assert_eq!(
            (bodies(&a).len(), bodies(&b).len(), bodies(&c).len()),
            (1, 0, 1)
        );
    }
    // The station moves to another port.
    c.send(frame(mac(2), mac(1), b"moved"));
    b.send(frame(mac(1), mac(2), b"there?"));
    assert_eq!((bodies(&a).len(), bodies(&c).len()), (0, 1));
}

#[test]
fn large_frames_and_tags_pass_unchanged() {
    let switch = Switch::<P>::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| switch.add_port(name, no_wake()));
    let mut body = vec![0x60, 0x64, 0x08, 0x00];
    body.extend((0..9000).map(|n| n as u8));
    let mut tagged = frame(MacAddr::broadcast(), mac(1), &body);
    let mut bytes = Vec::new();
    tagged.to_bytes(&mut bytes).unwrap();
    bytes[12..14].copy_from_slice(&[0x81, 0x00]);
    tagged = Frame::from_slice(&bytes, &BufPool::for_frames(1));
    a.send(tagged);
    for port in [b, c] {
        let mut got = Vec::new();
        port.recv().unwrap().to_bytes(&mut got).unwrap();
        assert_eq!(got, bytes);
    }
}

#[test]
fn a_full_queue_drops_and_counts_or_refuses() {
    let switch = Switch::<P>::new();
    let a = switch.add_port("a", no_wake());
    let b = switch.add_port_with_queue("b", no_wake(), 2);
    b.send(frame(mac(1), mac(2), b""));
    for _ in 0..5 {
        a.send(frame(mac(2), mac(1), b"1234"));
    }
    let refused = a.try_send(frame(mac(2), mac(1), b"5678"));
    assert_eq!(refused.map_err(|frame| frame.len_on_wire()), Err(18));
    assert_eq!(bodies(&b).len(), 2);
    assert!(a.try_send(frame(mac(2), mac(1), b"5678")).is_ok());
    assert_eq!(bodies(&b), [b"5678".to_vec()]);
    let expected = PortCounters {
        tx_packets: 1,
        tx_bytes: 14,
        rx_packets: 3,
        rx_bytes: 3 * 18,
        rx_dropped_packets: 3,
        rx_dropped_bytes: 3 * 18,
        ..PortCounters::default()
    };
    assert_eq!(b.counters(), expected);
    let expected = PortCounters {
        tx_packets: 6,
        tx_bytes: 6 * 18,
        rx_packets: 0,
        ..PortCounters::default()
    };
    assert_eq!(a.counters(), expected);
}

#[test]
fn a_link_that_is_down_carries_nothing() {
    let switch = Switch::<P>::new();
    let [a, b] = ["a", "b"].map(|name| switch.add_port(name, no_wake()));
    b.set_link(false);
    assert!(!b.link());
    a.send(frame(mac(2), mac(1), b""));
    b.send(frame(mac(1), mac(2), b""));
    assert_eq!((a.pending(), b.pending()), (0, 0));
    assert_eq!(b.counters().tx_dropped_packets, 1);
    b.set_link(true);
    a.send(frame(mac(2), mac(1), b""));
    assert_eq!(bodies(&b).len(), 1);
}

#[test]
fn short_frames_are_refused() {
    let switch = Switch::<P>::new();
    let [a, b] = ["a", "b"].map(|name| switch.add_port(name, no_wake()));
    a.send(Frame::from_slice(&[0xff; 13], &BufPool::for_frames(1)));
    assert_eq!((b.pending(), a.counters().tx_dropped_packets), (0, 1));
}

#[test]
fn ports_come_and_go() {
    let switch = Switch::<P>::new();
    let a = switch.add_port("a", no_wake());
    let b = switch.add_port("b", no_wake());
    b.send(frame(mac(1), mac(2), b""));
    assert_eq!(bodies(&a).len(), 1);
    drop(b);
    assert_eq!(switch.port_count(), 1);
    a.send(frame(mac(2), mac(1), b"nobody"));
    let c = switch.add_port("c", no_wake());
    assert_eq!((switch.port_count(), c.name()), (2, "c"));
    // c has b's number, but not its address: this is flooded, and c is the only other port.
    let d = switch.add_port("d", no_wake());
    a.send(frame(mac(2), mac(1), b"flooded"));
    assert_eq!((bodies(&c).len(), bodies(&d).len()), (1, 1));
}

#[test]
fn links_of_one_name_are_one_switch() {
    let links = Links::<P>::new();
    let a = links.get("one").add_port("a", no_wake());
    let b = links.get("one").add_port("b", no_wake());
    let c = links.get("two").add_port("c", no_wake());
    a.send(frame(MacAddr::broadcast(), mac(1), b""));
    assert_eq!((b.pending(), c.pending()), (1, 0));
    b.send(frame(mac(1), mac(2), b""));
    links.age();
    links.age();
    a.send(frame(mac(2), mac(1), b""));
    assert_eq!(b.pending(), 2);
}

#[test]
fn every_delivered_frame_wakes() {
    let switch = Switch::<P>::new();
    let wakes = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&wakes);
    let a = switch.add_port("a", no_wake());
    let waker = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let _b = switch.add_port_with_queue("b", waker, 2);
    for _ in 0..3 {
        a.send(frame(mac(2), mac(1), b""));
    }
    assert_eq!(wakes.load(Ordering::Relaxed), 2);
}

#[test]
fn many_threads_send_while_ports_come_and_go() {
    const FRAMES: usize = 20_000;
    const SENDERS: usize = 3;
    let switch: Switch<P> = Switch::new();
    let sink = switch.add_port_with_queue("sink", no_wake(), 64);
    let done = AtomicUsize::new(0);
    let deadline = Instant::now() + Duration::from_secs(60);
    // So that the sink's address is known.
    sink.send(frame(mac(9), mac(0), b""));
    let mut got = vec![Vec::new(); SENDERS];
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (switch, done) = (&switch, &done);
            scope.spawn(move || {
                let port = switch.add_port("sender", no_wake());
                for n in 0..FRAMES {
                    let mut body = vec![sender as u8];
                    body.extend_from_slice(&(n as u32).to_be_bytes());
                    port.send(frame(mac(0), mac(1 + sender as u8), &body));
                    while port.recv().is_some() {}
                }
                done.fetch_add(1, Ordering::Release);
            });
        }
        scope.spawn(|| {
            while done.load(Ordering::Acquire) < SENDERS && Instant::now() < deadline {
                let visitor = switch.add_port_with_queue("visitor", no_wake(), 4);
                visitor.send(frame(MacAddr::broadcast(), mac(100), &[99]));
            }
        });
        loop {
            let finished = done.load(Ordering::Acquire) == SENDERS;
            for body in bodies(&sink) {
                if let [sender, number @ ..] = &body[..]
                    && let Some(numbers) = got.get_mut(usize::from(*sender))
                {
                    numbers.push(u32::from_be_bytes(number.try_into().unwrap()));
                }
            }
            if finished || Instant::now() > deadline {
                break;
            }
        }
    });
    assert_eq!(done.load(Ordering::Acquire), SENDERS, "deadline passed");
    let counters = sink.counters();
    let received: usize = got.iter().map(Vec::len).sum();
    // Each frame came once or was counted, and those of one sender in order.
    for numbers in &got {
        assert!(numbers.is_sorted_by(|a, b| a < b));
    }
    assert!(
        received > 0 && counters.rx_packets as usize >= received,
        "{counters:?}"
    );
    assert!(
        (counters.rx_packets + counters.rx_dropped_packets) as usize >= SENDERS * FRAMES,
        "{received} received, {counters:?}"
    );
    assert_eq!(switch.port_count(), 1);
}

#[test]
fn each_vlan_learns_by_itself() {
    let switch = Switch::<P>::new();
    let ports = ["a", "b", "c"].map(|name| switch.add_port(name, no_wake()));
    let tagged = |dst: u8, src: u8, tag: &[u8]| {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&mac(dst).octets());
        bytes.extend_from_slice(&mac(src).octets());
        bytes.extend_from_slice(tag);
        bytes.extend_from_slice(&[0x08, 0x00, src]);
        Frame::from_slice(&bytes, &BufPool::for_frames(1))
    };
    let pending = || ports.each_ref().map(|port| port.pending());
    let five = [0x81, 0, 0xe0, 5];
    let (six, priority) = ([0x88, 0xa8, 0, 6], [0x81, 0, 0x60, 0]);
    // Station 1 is at `a` in VLAN 5 and at `b` without a tag.
    ports[0].send(tagged(9, 1, &five));
    ports[1].send(tagged(9, 1, &[]));
    assert_eq!(pending(), [1, 1, 2]);
    ports[2].send(tagged(1, 3, &five));
    assert_eq!(pending(), [2, 1, 2]);
    ports[2].send(tagged(1, 3, &[]));
    ports[2].send(tagged(1, 3, &priority));
    assert_eq!(pending(), [2, 3, 2]);
    ports[2].send(tagged(1, 3, &six));
    assert_eq!(pending(), [3, 4, 2]);
}
