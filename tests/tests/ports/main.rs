//! Ports of the switch that leave the process, with real guests: TAP, a host interface and VXLAN to networks of the host, and
//! tunnels between two processes. What needs no guest is in [`interfaces`].

mod interfaces;

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rocinante_harness::lab::demo::Fabric;
use rocinante_harness::lab::{self, Emulated, Guest, GuestConfig, complaints};
use rocinante_harness::ports::OutsideCounters;
use rocinante_harness::serve::ServerConfig;
use rocinante_tests::guests::{ADDRESSES, PATIENCE, Pair, alone, finish, lab};
use rocinante_tests::hostnet::{self, Interface, Namespace, ip, until};
use rocinante_tests::program::program;

/// Bytes of a copy: some thousand frames.
const COPY: usize = 12 << 20;

/// What a guest echoes at.
const ECHO: u16 = 7;

const TAP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const VETH: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
const VXLAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 13);

/// Addresses below the VXLAN network, of the range for benchmarks (RFC 2544).
fn underlay() -> [Ipv4Addr; 2] {
    let [.., high, low] = std::process::id().to_be_bytes();
    [1, 2].map(|n| Ipv4Addr::new(198, 18 + (high & 1), low, n))
}

/// A guest with one NIC, and networks of the host on the same link.
struct Bench<'a> {
    guest: Guest,
    fabric: &'a Emulated,
    port: u16,
}

impl Bench<'_> {
    #[track_caller]
    fn sh(&self, command: &str) -> String {
        match self.guest.check(command, PATIENCE) {
            Ok(text) => text,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Waits until `address` answers, then pings with the largest packets that fit an MTU.
    #[track_caller]
    fn meet(&self, address: Ipv4Addr, mtu: u32) {
        let condition = format!("ping -c 1 -W 5 {address} >/dev/null");
        if let Err(error) = self.guest.wait_until(&condition, PATIENCE) {
            panic!("{address} does not answer: {error:#}; {:#?}", self.status());
        }
        let size = mtu - 28;
        let said = self.sh(&format!("ping -c 5 -i 0.1 -W 20 -M do -s {size} {address}"));
        assert!(said.contains(" 0% packet loss"), "{address}: {said}");
    }

    /// Copies over TCP in both directions.
    #[track_caller]
    fn copy(&mut self, namespace: &Namespace, address: Ipv4Addr) {
        self.port += 1;
        let port = self.port;
        let bytes: Vec<u8> = (0..COPY as u32)
            .map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8)
            .collect();
        let started = Instant::now();
        let receiver = format!("socat -u -b 65536 TCP4-LISTEN:{port} CREATE:/tmp/copy");
        let job = self.guest.spawn(&receiver).expect("receiver");
        let listening = format!("grep -q ':{port:04X} .* 0A ' /proc/net/tcp");
        self.guest
            .wait_until(&listening, PATIENCE)
            .expect("it listens");
        namespace.send(ADDRESSES[0], port, &bytes);
        finish(job, "receiver");
        let there = started.elapsed();
        let started = Instant::now();
        let back = namespace.receive(address, port, || {
            // Runs beside: the connection is waited for with a deadline.
            let sender = format!("socat -u -b 65536 FILE:/tmp/copy TCP4:{address}:{port}");
            self.guest.spawn(&sender).expect("sender");
        });
        let back_in = started.elapsed();
        assert!(
            back == bytes,
            "{address}: {} of {} bytes came back",
            back.len(),
            bytes.len()
        );
        self.sh("rm /tmp/copy");
        println!("{address}: {there:.1?} there, {back_in:.1?} back");
    }

    fn status(&self) -> Vec<(String, OutsideCounters)> {
        let status = self.fabric.server().port_status().into_iter();
        status
            .filter_map(|port| Some((port.port, port.outside?)))
            .collect()
    }

    fn outside(&self, name: &str) -> OutsideCounters {
        let found = self.status().into_iter().find(|(port, _)| port == name);
        found.expect("a port").1
    }
}

#[test]
fn a_guest_on_networks_of_the_host() {
    hostnet::assert_possible();
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "ports-host");
    let (tap, veth, outer) = (hostnet::name("t"), hostnet::name("h"), hostnet::name("u"));
    let spaces = ["a", "b", "c"].map(Namespace::new);
    let [at_tap, at_veth, at_vxlan] = &spaces;
    let [near, far] = underlay();
    let veth_guard = at_veth.cable(&veth, VETH, 9000);
    // Frames of 9000 bytes over this one need fragments.
    let _outer = at_vxlan.cable(&outer, far, 1500);
    ip(&format!("address add {near}/24 dev {outer}"));
    at_vxlan.ip(&format!(
        "link add vx0 type vxlan id 42 local {far} remote {near} dstport 4789"
    ));
    at_vxlan.ip(&format!("address add {VXLAN}/24 dev vx0"));
    // Hardware would cut large segments: there is none between two ends on one host.
    at_vxlan.ip("link set vx0 mtu 9000 gso_max_segs 1 up");
    let ports = [
        format!("tap={tap}"),
        format!("host={veth},name=uplink"),
        format!("vxlan={near},remote={far},vni=42"),
    ];
    let config = ServerConfig {
        ports: ports.map(|text| text.parse().unwrap()).into(),
        ..ServerConfig::default()
    };
    let fabric = Emulated::start_with(1, None, config).unwrap_or_else(|error| panic!("{error:#}"));
    at_tap.adopt(&tap, TAP, 9000);

    let guest = lab
        .boot(&fabric.attach(0, GuestConfig::new("alice")))
        .unwrap_or_else(|error| panic!("guest: {error:#}"));
    fabric.load(&guest).expect("driver");
    lab::configure(&guest, ADDRESSES[0]).expect("NIC");
    let mut bench = Bench {
        guest,
        fabric: &fabric,
        port: 20000,
    };
    let echo = format!("socat -b 65536 UDP4-RECVFROM:{ECHO},fork PIPE");
    let _echo = bench.guest.spawn(&echo).expect("echo");
    let all = [(at_tap, TAP), (at_veth, VETH), (at_vxlan, VXLAN)];

    for mtu in [9000, 1500] {
        let started = Instant::now();
        bench.sh(&format!("ip link set eth0 mtu {mtu}"));
        at_tap.ip(&format!("link set eth0 mtu {mtu}"));
        at_veth.ip(&format!("link set eth0 mtu {mtu}"));
        at_vxlan.ip(&format!("link set vx0 mtu {mtu}"));
        for (namespace, address) in all {
            bench.meet(address, mtu);
            namespace.echo(ADDRESSES[0], ECHO, &vec![0x5a; mtu as usize - 28]);
            bench.copy(namespace, address);
        }
        println!("MTU {mtu}: {:.1} s", started.elapsed().as_secs_f64());
    }
    // The networks see each other over the same switch.
    for (n, (namespace, _)) in all.iter().enumerate() {
        let (other, address) = all[(n + 1) % all.len()];
        let port = 30000 + n as u16;
        let got = std::thread::scope(|scope| {
            let (ready, told) = std::sync::mpsc::channel();
            let receiver = scope.spawn(move || {
                other.receive(address, port, move || {
                    let _ = ready.send(());
                })
            });
            told.recv_timeout(PATIENCE).expect("a listener");
            namespace.send(address, port, &vec![0x42; COPY]);
            receiver.join().expect("receiver")
        });
        assert!(got == vec![0x42; COPY], "{address}: {} bytes", got.len());
    }
    for (name, outside) in bench.status() {
        println!("{name}: {outside:?}");
        assert!(outside.up && outside.in_packets > 1000 && outside.out_packets > 1000);
    }

    // One network goes away while another is busy; that one notices nothing.
    let dropped = bench.outside(&tap).out_dropped;
    at_tap.ip("link delete eth0");
    bench.copy(at_veth, VETH);
    until("the TAP interface is gone", || !bench.outside(&tap).up);
    let _ = bench
        .guest
        .exec(&format!("ping -c 3 -i 0.1 -W 1 {TAP}"), PATIENCE);
    until("frames for it are lost", || {
        bench.outside(&tap).out_dropped > dropped
    });
    let _tap = Interface(tap.clone());
    ip(&format!("tuntap add {tap} mode tap"));
    until("the TAP interface is back", || bench.outside(&tap).up);
    at_tap.adopt(&tap, TAP, 1500);
    bench.meet(TAP, 1500);
    drop(veth_guard);
    until("the host interface is gone", || !bench.outside("uplink").up);
    bench.copy(at_tap, TAP);
    let _veth = at_veth.cable(&veth, VETH, 9000);
    until("the host interface is back", || bench.outside("uplink").up);
    bench.meet(VETH, 1500);
    bench.copy(at_veth, VETH);

    let dmesg = bench.guest.dmesg().expect("dmesg");
    let lines = complaints(&dmesg);
    assert!(lines.is_empty(), "{lines:#?}");
}

/// `rocinante serve` as a process of its own.
struct Other(Child);

impl Other {
    fn serve(arguments: &[String]) -> Other {
        let mut command = Command::new(program());
        command.arg("serve").args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().expect("rocinante serve");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let other = Other(child);
        let ready = output
            .lines()
            .map_while(Result::ok)
            .any(|line| line == "ready");
        assert!(ready, "it never said ready");
        other
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn two_processes_are_one_fabric() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "ports-tunnel");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("far.sock");
    let [.., high, low] = std::process::id().to_be_bytes();
    let [here, there] = [1, 2].map(|n| Ipv4Addr::new(127, 1 + high % 254, low, n));
    // Two ways between two switches are a loop: one of them is unplugged.
    let tunnels = |local: Ipv4Addr, remote: Ipv4Addr| {
        [
            format!("udp={local}:4000,remote={remote}:4000"),
            format!("vxlan={local},remote={remote},vni=7"),
        ]
    };
    let config = ServerConfig {
        ports: tunnels(here, there)
            .map(|text| text.parse().unwrap())
            .into(),
        ..ServerConfig::default()
    };
    let mut fabric =
        Emulated::start_with(1, None, config).unwrap_or_else(|error| panic!("{error:#}"));
    let control = fabric.server().control().clone();
    assert!(control.set_plugged("vxlan7", false));
    let [udp, vxlan] = tunnels(there, here);
    let other = Other::serve(&[
        "--nic".into(),
        format!("socket={}", socket.display()),
        "--port".into(),
        udp,
        "--port".into(),
        vxlan,
    ]);
    fabric.join(socket);
    let mut pair = Pair::boot(&lab, &fabric);
    for (tunnel, unused) in [("udp", "vxlan7"), ("vxlan7", "udp")] {
        assert!(control.set_plugged(unused, false));
        until("the other tunnel is unplugged", || {
            let status = control.status();
            status
                .iter()
                .all(|cable| cable.port != unused || !cable.carrier)
        });
        assert!(control.set_plugged(tunnel, true));
        let started = Instant::now();
        let answers = format!("ping -c 1 -W 5 {} >/dev/null", ADDRESSES[1]);
        pair.guests[0].wait_until(&answers, PATIENCE).expect(tunnel);
        pair.sh(
            0,
            &format!("ping -c 5 -i 0.1 -W 20 -M do -s 8972 {}", ADDRESSES[1]),
        );
        pair.pingpong("rc_pingpong -c -s 65536 -n 300");
        pair.pingpong("ud_pingpong -c -s 2048 -n 300");
        for tool in ["write_bw", "read_bw", "send_bw"] {
            let said = pair.run(&format!("ib_{tool} -F -s 65536 -n 1000"), "-d", "-x");
            let figures = said.lines().find(|line| line.trim().starts_with("65536"));
            println!("{tunnel}: {tool}: {}", figures.expect("figures"));
        }
        println!("{tunnel}: {:.1} s", started.elapsed().as_secs_f64());
        for port in fabric.server().port_status() {
            println!("{port:?}");
            if port.port == tunnel {
                let outside = port.outside.expect("a port");
                assert_eq!((outside.in_refused, outside.out_dropped), (0, 0));
                assert!(outside.in_packets > 5000 && outside.out_packets > 5000);
            }
        }
    }
    pair.assert_no_complaints();
    // The other process goes: nobody answers any more, and nothing else happens here.
    drop(pair.guests.pop());
    drop(other);
    let ping = format!("ping -c 3 -i 0.1 -W 1 {}", ADDRESSES[1]);
    let answered = pair.guests[0].exec(&ping, PATIENCE);
    assert!(answered.is_ok_and(|output| !output.ok()), "who answers?");
    assert!(fabric.server().inventory(0).is_some(), "the NIC has ended");
    pair.assert_no_complaints();
}
