//! Ports between sockets of this process, through a whole server without NICs.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::*;
use crate::serve::events::Heard;
use crate::serve::{Server, ServerConfig};

const SOON: Duration = Duration::from_secs(20);

/// Addresses that no other process uses at the same time, if it asks here as well.
fn addresses(first: u8, count: u8) -> Vec<SocketAddr> {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    (first..first + count)
        .map(|n| SocketAddr::from(([127, 1 + high % 254, low, n], 4789)))
        .collect()
}

fn serve(ports: &[String]) -> Result<Server> {
    Server::serve(ServerConfig {
        ports: ports.iter().map(|text| text.parse().unwrap()).collect(),
        ..ServerConfig::default()
    })
}

/// The far end of a tunnel.
fn far_end(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn frame(to: u8, from: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x88, 0xb5];
    bytes.extend((14..len).map(|n| n as u8));
    bytes
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buf = vec![0; 65536];
    let (len, from) = socket.recv_from(&mut buf).unwrap();
    buf.truncate(len);
    (buf, from)
}

/// Waits until a condition holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn frames_pass_from_tunnel_to_tunnel_and_strangers_are_counted() {
    let at = addresses(1, 5);
    let server = serve(&[
        format!("udp={},remote={},name=west", at[0], at[1]),
        format!("udp={},remote={},name=east", at[2], at[3]),
    ])
    .unwrap();
    let (west, east, stranger) = (far_end(at[1]), far_end(at[3]), far_end(at[4]));
    for len in [14, 60, 1514, 4096, 9018] {
        let there = frame(2, 1, len);
        west.send_to(&there, at[0]).unwrap();
        assert_eq!(receive(&east), (there, at[2]), "{len} bytes");
        let back = frame(1, 2, len);
        east.send_to(&back, at[2]).unwrap();
        assert_eq!(receive(&west), (back, at[0]), "{len} bytes");
    }
    stranger.send_to(&frame(2, 9, 60), at[0]).unwrap();
    west.send_to(&[0; 13], at[0]).unwrap();
    let status = || server.port_status();
    until("two refused", || {
        status()[0].outside.unwrap().in_refused == 2
    });
    let [west, east] = &status()[..] else {
        panic!("{:?}", status())
    };
    assert_eq!((&*west.link, &*west.port), ("link0", "west"));
    for side in [west, east] {
        let outside = side.outside.unwrap();
        let bytes = 14 + 60 + 1514 + 4096 + 9018;
        assert_eq!((outside.in_packets, outside.in_bytes), (5, bytes));
        assert_eq!((outside.out_packets, outside.out_bytes), (5, bytes));
        assert_eq!(outside.out_dropped, 0);
        assert!(outside.up);
        assert_eq!(side.counters.tx_packets, 5);
        assert_eq!(side.counters.rx_packets, 5);
    }
    server.stop().unwrap();
    // The addresses are free again.
    drop(far_end(at[0]));
}

#[test]
fn rules_know_ports_by_name() {
    let at = addresses(11, 4);
    let ports: Vec<PortSpec> = [
        format!("udp={},remote={},name=west", at[0], at[1]),
        format!("udp={},remote={},name=east", at[2], at[3]),
    ]
    .map(|text| text.parse().unwrap())
    .into();
    let with = |rules: &str| {
        Server::serve(ServerConfig {
            ports: ports.clone(),
            faults: rules.parse().unwrap(),
            ..ServerConfig::default()
        })
    };
    let rule = "[[rule]]\nname = \"r\"\nport = \"west\"\nnth = 2\naction = \"drop\"\n";
    assert!(with(&rule.replace("west", "north")).is_err());
    let server = with(rule).unwrap();
    let (west, east) = (far_end(at[1]), far_end(at[3]));
    for len in [60, 61, 62] {
        west.send_to(&frame(2, 1, len), at[0]).unwrap();
    }
    assert_eq!(receive(&east).0.len(), 60);
    assert_eq!(receive(&east).0.len(), 62);
    // A pulled cable: nothing passes, and then it does again. It is told, and seen at once.
    let events = server.events().subscribe(|| {});
    let carriers = || -> Vec<bool> {
        let cables = server.control().status();
        cables.iter().map(|cable| cable.carrier).collect()
    };
    let heard = || match events.poll() {
        Some(Heard::Event(event)) => Some((event.name, event.data["port"].clone())),
        _ => None,
    };
    assert_eq!(server.plug_port("north", false), None);
    assert_eq!(server.plug_port("east", false), Some(()));
    assert_eq!(carriers(), [true, false]);
    assert_eq!(heard(), Some(("LINK_DOWN", "east".into())));
    until("a drop", || {
        west.send_to(&frame(2, 1, 99), at[0]).unwrap();
        server.port_status()[0].counters.tx_packets > 3
    });
    assert_eq!(server.plug_port("east", true), Some(()));
    assert_eq!(carriers(), [true, true]);
    assert_eq!(heard(), Some(("LINK_UP", "east".into())));
    west.send_to(&frame(2, 1, 63), at[0]).unwrap();
    // What was on its way while the cable was pulled may still come.
    while receive(&east).0.len() != 63 {}
}

#[test]
fn what_cannot_be_opened_is_said() {
    let at = addresses(21, 2);
    let _taken = far_end(at[0]);
    let wrong = serve(&[format!("udp={},remote={}", at[0], at[1])]);
    let error = format!("{:#}", wrong.err().expect("the address is taken"));
    let expected = format!("port udp: UDP socket {}: Address already in use", at[0]);
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn vxlan_takes_its_network_from_any_port_of_its_remote() {
    let at = addresses(31, 5);
    let any_port = |address: SocketAddr| SocketAddr::new(address.ip(), 0);
    let server = serve(&[
        format!("vxlan={},remote={},vni=66051", at[0], at[1]),
        format!("udp={},remote={}", at[2], at[3]),
    ])
    .unwrap();
    let (vtep, plain) = (far_end(at[1]), far_end(at[3]));
    let (elsewhere, stranger) = (far_end(any_port(at[1])), far_end(any_port(at[4])));
    let network = |vni: [u8; 3], inner: &[u8]| {
        let [a, b, c] = vni;
        [&[8, 0, 0, 0, a, b, c, 0], inner].concat()
    };
    let there = frame(2, 1, 100);
    elsewhere
        .send_to(&network([1, 2, 3], &there), at[0])
        .unwrap();
    assert_eq!(receive(&plain), (there, at[2]));
    let back = frame(1, 2, 9018);
    plain.send_to(&back, at[2]).unwrap();
    assert_eq!(receive(&vtep), (network([1, 2, 3], &back), at[0]));
    let refused = [
        (&elsewhere, network([1, 2, 4], &back)),
        (&elsewhere, network([1, 2, 3], &back[..13])),
        (&elsewhere, back.clone()),
        (&elsewhere, Vec::new()),
        (&stranger, network([1, 2, 3], &back)),
    ];
    for (socket, datagram) in &refused {
        socket.send_to(datagram, at[0]).unwrap();
    }
    let outside = || server.port_status()[0].outside.unwrap();
    until("all refused", || {
        outside().in_refused == refused.len() as u64
    });
    assert_eq!((outside().in_packets, outside().out_packets), (1, 1));
}

#[test]
fn a_remote_may_come_late_and_go() {
    let at = addresses(41, 4);
    let server = serve(&[
        format!("udp={},remote={},name=west", at[0], at[1]),
        format!("udp={},remote={},name=east", at[2], at[3]),
    ])
    .unwrap();
    let west = far_end(at[1]);
    let status = || server.port_status()[1].outside.unwrap();
    let events = server.events().subscribe(|| {});
    for _ in 0..2 {
        // The network says that nobody is there: what is sent meanwhile is lost and counted.
        let before = status().out_dropped;
        until("a frame is lost", || {
            west.send_to(&frame(2, 1, 60), at[0]).unwrap();
            status().out_dropped > before
        });
        let east = far_end(at[3]);
        east.set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        until("a frame arrives", || {
            west.send_to(&frame(2, 1, 61), at[0]).unwrap();
            east.recv(&mut [0; 100]).is_ok_and(|len| len == 61)
        });
        east.send_to(&frame(1, 2, 62), at[2]).unwrap();
        assert_eq!(receive(&west).0.len(), 62);
    }
    // Told once: it has not been calm for long enough in between.
    let heard: Vec<_> = std::iter::from_fn(|| events.poll()).collect();
    let [Heard::Event(trouble)] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!(trouble.name, "PORT_TROUBLE");
    assert_eq!(trouble.data["port"], "east");
    assert_eq!(trouble.data["gone"], false);
}
