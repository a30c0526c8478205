//! Interfaces of the host as ports, without guests: tags, carriers, and interfaces that go away and come back.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rocinante_harness::ports::OutsideCounters;
use rocinante_harness::serve::events::{Heard, Subscription};
use rocinante_harness::serve::{Server, ServerConfig};
use rocinante_tests::guests::PATIENCE;
use rocinante_tests::hostnet::{self, Interface, ip, until};

/// Addresses for tunnels that no other test has.
fn addresses<const N: usize>(first: u8) -> [SocketAddr; N] {
    let [.., high, low] = std::process::id().to_be_bytes();
    std::array::from_fn(|n| SocketAddr::from(([127, 1 + high % 254, low, first + n as u8], 4000)))
}

#[track_caller]
fn serve(ports: &[String]) -> Server {
    let server = Server::serve(ServerConfig {
        ports: ports.iter().map(|text| text.parse().unwrap()).collect(),
        ..ServerConfig::default()
    });
    server.unwrap_or_else(|error| panic!("{error:#}"))
}

/// A frame with a source of its own, behind so many tags.
fn tagged(tags: &[[u8; 4]], len: usize) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0x52, 0x4f, 0x43, 0x49, 0x01];
    frame.extend(tags.as_flattened());
    // Local experimental (IEEE 802a).
    frame.extend([0x88, 0xb5]);
    frame.extend((frame.len()..len).map(|n| n as u8));
    frame
}

/// The kernel takes tags out of frames; the port puts them back.
#[test]
fn tags_pass_host_interfaces() {
    hostnet::assert_possible();
    let name = hostnet::name("v");
    ip(&format!(
        "link add {name} mtu 9000 type veth peer name {name}x mtu 9000"
    ));
    let _pair = Interface(name.clone());
    ip(&format!("link set {name} up"));
    ip(&format!("link set {name}x up"));
    let [near, west, far, east] = addresses(11);
    let server = serve(&[
        format!("udp={near},remote={west},link=west,name=west"),
        format!("host={name},link=west"),
        format!("host={name}x,link=east"),
        format!("udp={far},remote={east},link=east,name=east"),
    ]);
    let [west, east] = [west, east].map(|address| UdpSocket::bind(address).unwrap());
    east.set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let priority = [0x81, 0, 0xe0, 0];
    let (customer, service) = ([0x81, 0, 0x60, 5], [0x88, 0xa8, 0x0f, 0xfe]);
    for tags in [
        &[][..],
        &[customer],
        &[service],
        &[priority],
        &[service, customer],
        &[customer, customer],
    ] {
        for len in [60, 1514, 9014] {
            let frame = tagged(tags, len);
            // A cable between interfaces may take a moment after they are up, and the host greets
            // them as well.
            let end = Instant::now() + PATIENCE;
            let mut last = Vec::new();
            while last != frame {
                west.send_to(&frame, near).unwrap();
                let mut got = [0; 10_000];
                while let Ok((len, _)) = east.recv_from(&mut got) {
                    if got[6..12] == frame[6..12] {
                        last = got[..len].to_vec();
                        break;
                    }
                }
                assert!(
                    Instant::now() < end,
                    "{tags:x?}, {len} bytes: {:x?}; {:#?}",
                    last.get(..32),
                    server.port_status()
                );
            }
        }
    }
}

/// What the host sees of an interface's carrier, once it is up.
fn carrier(interface: &str) -> bool {
    let path = format!("/sys/class/net/{interface}/carrier");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.trim() == "1"
}

#[test]
fn a_tap_has_the_carrier_of_its_cable() {
    hostnet::assert_possible();
    let tap = hostnet::name("k");
    let server = serve(&[format!("tap={tap}")]);
    ip(&format!("link set {tap} up"));
    assert!(carrier(&tap));
    for up in [false, true, false] {
        server.plug_port(&tap, up).expect("a port");
        assert_eq!(carrier(&tap), up);
    }
    // One that is made again is as the cable is.
    let is_up = || outside(&server, &tap).up;
    ip(&format!("link delete {tap}"));
    until("the interface is gone", || !is_up());
    let _tap = Interface(tap.clone());
    ip(&format!("tuntap add {tap} mode tap"));
    ip(&format!("link set {tap} up"));
    until("the interface is back", is_up);
    assert!(!carrier(&tap));
    server.plug_port(&tap, true).expect("a port");
    assert!(carrier(&tap));
}

fn outside(server: &Server, name: &str) -> OutsideCounters {
    let status = server.port_status().into_iter();
    let found = status
        .filter(|port| port.port == name)
        .find_map(|port| port.outside);
    found.expect("a port that leaves the process")
}

/// The next event of a port: name, and the error if there is one.
#[track_caller]
fn next_event(events: &Subscription, port: &str) -> (&'static str, Option<(String, bool)>) {
    let mut found = None;
    until("an event", || {
        while let Some(Heard::Event(event)) = events.poll() {
            if event.data["port"] == port {
                let error = event.data["error"].as_str().map(str::to_owned);
                let gone = event.data["gone"].as_bool();
                found = Some((event.name, error.zip(gone)));
                return true;
            }
        }
        false
    });
    found.expect("an event")
}

/// An interface that is too narrow, down, renamed and deleted: that is told, and the tunnels on the same switch work on.
#[test]
fn others_do_not_notice_an_interface_that_goes() {
    hostnet::assert_possible();
    let name = hostnet::name("g");
    let add = || {
        ip(&format!(
            "link add {name} mtu 1500 type veth peer name {name}x"
        ))
    };
    let up = |interface: &str| ip(&format!("link set {interface} up"));
    add();
    let _pair = Interface(name.clone());
    up(&name);
    up(&format!("{name}x"));
    let [near, to_west, far, to_east] = addresses(21);
    // Before the server: the kernel has something to say at the new interface, and it goes to both.
    let [west, east] = [to_west, to_east].map(|address| UdpSocket::bind(address).unwrap());
    let server = serve(&[
        format!("host={name},name=uplink"),
        format!("udp={near},remote={to_west},name=west"),
        format!("udp={far},remote={to_east},name=east"),
    ]);
    let events = server.events().subscribe(|| {});
    east.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    // To everybody: the interface has its part in all of it.
    let mut broadcast = tagged(&[], 1514);
    broadcast[..6].fill(0xff);
    let passes = || {
        until("a frame passes", || {
            west.send_to(&broadcast, near).unwrap();
            let mut got = [0; 2000];
            east.recv(&mut got).is_ok_and(|len| got[..len] == broadcast)
        });
    };
    passes();
    let wide = {
        let mut frame = broadcast.clone();
        frame.resize(1600, 0);
        frame
    };
    let told = |error: &str, gone| ("PORT_TROUBLE", Some((error.to_owned(), gone)));
    let lost = outside(&server, "uplink").out_dropped;
    west.send_to(&wide, near).unwrap();
    let narrow = told("a frame is longer than the interface's MTU", false);
    assert_eq!(next_event(&events, "uplink"), narrow);
    until("it is counted", || {
        outside(&server, "uplink").out_dropped == lost + 1
    });
    passes();
    // Worse than before, so it is told again.
    ip(&format!("link set {name} down"));
    assert_eq!(
        next_event(&events, "uplink"),
        told("the interface is down", true)
    );
    passes();
    assert!(!outside(&server, "uplink").up);
    up(&name);
    assert_eq!(next_event(&events, "uplink"), ("PORT_RECOVERED", None));
    passes();
    // The name is what it is looked for by.
    ip(&format!("link set {name} down"));
    assert_eq!(next_event(&events, "uplink").0, "PORT_TROUBLE");
    let renamed = Interface(hostnet::name("r"));
    ip(&format!("link set {name} name {}", renamed.0));
    up(&renamed.0);
    passes();
    drop(renamed);
    add();
    up(&name);
    assert_eq!(next_event(&events, "uplink"), ("PORT_RECOVERED", None));
    ip(&format!("link delete {name}"));
    let (what, error) = next_event(&events, "uplink");
    assert_eq!(what, "PORT_TROUBLE");
    // Down first, on its way to be deleted.
    assert!(error.is_some_and(|(_, gone)| gone));
    passes();
    assert_eq!(outside(&server, "west").out_dropped, 0);
}
