//! An independent peer: the emulated NIC with the real mlx5 driver in one guest, Linux' soft-RoCE (rdma_rxe) over virtio-net on a
//! vhost-user port in the other. Two implementations of the standard, and every frame between them checked.
//!
//! The same guests then show what an ordinary VM is at such a port: TCP, jumbo frames, reboots, crashes, a cable that is pulled.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use rocinante_harness::lab::demo::Fabric;
use rocinante_harness::lab::{
    self, Emulated, Endpoint, Guest, GuestConfig, Job, Lab, complaints, load_rxe, tools,
};
use rocinante_tests::capture;
use rocinante_tests::guests::{ADDRESSES, PATIENCE, alone, finish, lab};
use rocinante_wire::fault::Rules;

const IPV6: [&str; 2] = ["fd00::1", "fd00::2"];

/// Path MTUs of InfiniBand.
const MTUS: [u32; 5] = [256, 512, 1024, 2048, 4096];

/// The guest with the emulated NIC, and the one with soft-RoCE.
const NIC: usize = 0;
const RXE: usize = 1;

/// The guests, each with what it talks through.
struct Bench<'a> {
    fabric: &'a Emulated,
    guests: Vec<Guest>,
    ends: Vec<Endpoint>,
    port: u16,
    started: Instant,
}

fn config(fabric: &Emulated, n: usize) -> GuestConfig {
    let mut config = GuestConfig::new(["nic", "rxe"][n]);
    if n == NIC {
        // The second NIC is the others, see `Others`.
        return fabric.attach(1, fabric.attach(0, config));
    }
    config.restarts = true;
    fabric.attach_vm(0, config)
}

impl Bench<'_> {
    #[track_caller]
    fn sh(&self, n: usize, command: &str) -> String {
        let done = self.guests[n].check(command, PATIENCE);
        done.unwrap_or_else(|error| panic!("{error:#}"))
    }

    #[track_caller]
    fn spawn(&self, n: usize, command: &str) -> Job {
        let job = self.guests[n].spawn(command);
        job.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// What has been done took so long.
    fn lap(&mut self, what: &str) {
        println!("{:5.1} s {what}", self.started.elapsed().as_secs_f64());
        self.started = Instant::now();
    }

    /// Runs a tool as server in one guest and as client in the other; `device` and `gid` are the
    /// options for those.
    #[track_caller]
    fn run(&mut self, server: usize, tool: &str, device: &str, gid: &str) -> String {
        self.port += 1;
        let (client, port) = (1 - server, self.port);
        let command = |n: usize| {
            let end = &self.ends[n];
            format!(
                "{tool} -p {port} {device} {} {gid} {}",
                end.device, end.gid_index
            )
        };
        let serving = self.spawn(server, &command(server));
        let listening = format!(
            "grep -q ':{port:04X} .* 0A ' /proc/net/tcp /proc/net/tcp6 || test ! -d {}",
            serving.folder()
        );
        let waited = self.guests[server].wait_until(&listening, PATIENCE);
        waited.unwrap_or_else(|error| panic!("{tool} does not listen: {error:#}"));
        let asked = format!("{} {}", command(client), ADDRESSES[server]);
        let asked = self.guests[client].exec(&asked, PATIENCE);
        let served = serving.wait(PATIENCE);
        match (&asked, &served) {
            (Ok(asked), Ok(served)) if asked.ok() && served.ok() => asked.text.clone(),
            _ => panic!("{tool}, server in guest {server}:\nclient {asked:#?}\nserver {served:#?}"),
        }
    }

    #[track_caller]
    fn listening(&self, n: usize, port: u16) {
        let listening = format!("grep -q ':{port:04X} .* 0A ' /proc/net/tcp /proc/net/tcp6");
        let waited = self.guests[n].wait_until(&listening, PATIENCE);
        waited.unwrap_or_else(|error| panic!("nothing listens at {port}: {error:#}"));
    }

    /// One of the ping-pongs of ibverbs-utils, which compares the data.
    #[track_caller]
    fn pingpong(&mut self, server: usize, options: &str) {
        let text = self.run(server, &format!("ibv_{options} -c"), "-d", "-g");
        if let Err(error) = tools::pingpong(&text) {
            panic!("{options}, server in guest {server}: {error:#}");
        }
    }

    /// One of perftest's programs.
    #[track_caller]
    fn perftest(&mut self, server: usize, options: &str) -> String {
        // Each end asks its own device for as many outstanding reads as the other's can: 16 against soft-RoCE's 128.
        let reads = if options.starts_with("read") || options.starts_with("atomic") {
            "-o 16"
        } else {
            ""
        };
        self.run(server, &format!("ib_{options} -F {reads}"), "-d", "-x")
    }

    /// A tool of the connection manager.
    #[track_caller]
    fn cm(&self, server: usize, serve: &str, ask: &str) {
        let serving = self.spawn(server, serve);
        let listening = format!(
            "rdma resource show cm_id | grep -q LISTEN || test ! -d {}",
            serving.folder()
        );
        let waited = self.guests[server].wait_until(&listening, PATIENCE);
        waited.unwrap_or_else(|error| panic!("{serve} does not listen: {error:#}"));
        finish(self.spawn(1 - server, ask), ask);
        finish(serving, serve);
    }

    /// rping writes, reads and compares.
    #[track_caller]
    fn rping(&self, server: usize, address: &str, size: u32) {
        let options = format!("-a {address} -C 10 -V -S {size}");
        self.cm(
            server,
            &format!("rping -s {options}"),
            &format!("rping -c {options}"),
        );
    }

    /// Has the tools use the GIDs of these addresses, as RoCE v2.
    fn use_gids(&mut self, addresses: [&str; 2]) {
        for n in [NIC, RXE] {
            let address: IpAddr = addresses[n].parse().expect("an address");
            let index = lab::find_gid(&self.guests[n], &self.ends[n].device, address);
            self.ends[n].gid_index = index.unwrap_or_else(|error| panic!("{error:#}"));
        }
    }

    fn configure(&mut self, n: usize) {
        let guest = &self.guests[n];
        let loaded = if n == NIC {
            self.fabric.load(guest)
        } else {
            load_rxe(guest)
        };
        loaded.unwrap_or_else(|error| panic!("driver: {error:#}"));
        let end = lab::configure(guest, ADDRESSES[n]);
        let end = end.unwrap_or_else(|error| panic!("interface: {error:#}"));
        self.ends.truncate(n);
        self.ends.push(end);
        let interface = &self.ends[n].interface;
        let ipv6 = format!("ip -6 address add {}/64 dev {interface} nodad", IPV6[n]);
        self.sh(n, &ipv6);
    }

    fn assert_no_complaints(&self, logs: &Path) {
        for guest in &self.guests {
            let dmesg = guest.dmesg().expect("dmesg");
            fs::write(logs.join(format!("{}.dmesg", guest.name())), &dmesg).expect("a log");
            let lines = complaints(&dmesg);
            assert!(lines.is_empty(), "{}:\n{lines:#?}", guest.name());
        }
    }
}

/// All that the two can do with each other.
fn rdma(bench: &mut Bench<'_>) {
    for server in [NIC, RXE] {
        for mtu in MTUS {
            bench.pingpong(server, &format!("rc_pingpong -m {mtu} -s 8191 -n 20"));
        }
        bench.lap("RC SEND at each MTU, data compared");
        for size in [1, 4097] {
            bench.pingpong(server, &format!("rc_pingpong -s {size} -n 20"));
        }
        bench.pingpong(server, "rc_pingpong -e -s 3001 -n 20");
        bench.pingpong(server, "srq_pingpong -s 1023 -n 40 -q 4");
        bench.pingpong(server, "ud_pingpong -s 2047 -n 20");
        bench.pingpong(server, "uc_pingpong -m 1024 -s 5001 -n 20");
        bench.lap("other ping-pongs");
        for size in [1, 63, 4099, 50001] {
            bench.perftest(server, &format!("write_bw -s {size} -n 40"));
            bench.perftest(server, &format!("read_bw -s {size} -n 40"));
        }
        for mtu in [256, 1024] {
            bench.perftest(server, &format!("write_bw -m {mtu} -s 10007 -n 40"));
            bench.perftest(server, &format!("read_bw -m {mtu} -s 10007 -n 40"));
        }
        bench.perftest(server, "write_bw -c UC -s 9001 -n 40");
        bench.perftest(server, "send_bw -s 9001 -n 40");
        bench.perftest(server, "send_bw -c UC -s 9001 -n 40");
        bench.perftest(server, "send_bw -c UD -s 1001 -n 40");
        bench.perftest(server, "send_bw -r 16 -s 2001 -n 40 -q 3");
        bench.perftest(server, "write_lat -s 9 -n 40");
        bench.perftest(server, "read_lat -s 9 -n 40");
        bench.perftest(server, "send_lat -s 9 -n 40");
        bench.lap("perftest");
        bench.perftest(server, "atomic_bw -A FETCH_AND_ADD -n 40");
        bench.perftest(server, "atomic_bw -A CMP_AND_SWAP -n 40");
        bench.lap("atomics");
    }
    for server in [NIC, RXE] {
        let address = ADDRESSES[server].to_string();
        for (address, format) in [(&*address, "ip"), (IPV6[server], "ipv6")] {
            for size in [64, 4097, 65000] {
                bench.rping(server, address, size);
            }
            for tool in ["ucmatose", "udaddy"] {
                let common = format!("{tool} -f {format} -C 10 -S 1000 -c 2");
                bench.cm(
                    server,
                    &format!("{common} -b {address}"),
                    &format!("{common} -s {address}"),
                );
            }
        }
        bench.lap("rping, ucmatose and udaddy over IPv4 and IPv6");
    }
    bench.use_gids(IPV6);
    for server in [NIC, RXE] {
        bench.pingpong(server, "rc_pingpong -s 8191 -n 20");
        bench.pingpong(server, "ud_pingpong -s 1001 -n 20");
        bench.perftest(server, "write_bw -s 9001 -n 40");
        bench.perftest(server, "read_bw -s 9001 -n 40");
        bench.perftest(server, "atomic_bw -n 40");
    }
    bench.lap("the same over IPv6");
}

/// Losses in both directions: each end has to find out, to ask for what it misses, and to send it again.
fn losses(bench: &mut Bench<'_>) {
    let rule = "[[rule]]\nname = \"loss\"\nport = \"vm0\"\ndirection = \"both\"\nmatch = { opcode = \"RC_*\" }\n\
                probability = 0.02\nseed = 4\naction = \"drop\"\n";
    let control = bench.fabric.server().control().clone();
    control.set_rules(rule.parse().expect("a rule"));
    for server in [NIC, RXE] {
        bench.pingpong(server, "rc_pingpong -m 1024 -s 8191 -n 50");
        for what in ["write_bw", "read_bw", "send_bw"] {
            bench.perftest(server, &format!("{what} -m 512 -s 10007 -n 40"));
        }
        bench.perftest(server, "atomic_bw -n 60");
        bench.rping(server, &ADDRESSES[server].to_string(), 20001);
    }
    let lost = control.rules().counters()[0].hits;
    control.set_rules(Rules::default());
    bench.lap(&format!("RC with {lost} packets lost"));
    assert!(lost > 20, "only {lost}");
}

/// Every frame of the capture is what the standard says: lengths, checksums, ICRC.
fn check_frames(capture: &Path) {
    let mut kinds = [0u32; 256];
    for (number, frame) in capture::frames(capture).iter().enumerate() {
        match capture::roce(frame) {
            Ok(None) => {}
            Ok(Some(roce)) => kinds[usize::from(roce.opcode)] += 1,
            Err(what) => panic!("frame {}: {what}", number + 1),
        }
    }
    let seen: Vec<(usize, u32)> = kinds
        .into_iter()
        .enumerate()
        .filter(|(_, count)| *count > 0)
        .collect();
    println!("{} RoCE frames: {seen:02x?}", kinds.iter().sum::<u32>());
}

/// What an ordinary VM does: TCP in both directions, frames of all lengths, a verified copy.
fn ethernet(bench: &mut Bench<'_>) {
    for (from, to) in [(NIC, RXE), (RXE, NIC)] {
        let address = ADDRESSES[to];
        for size in [0, 1, 18, 1472, 8972] {
            let ping = format!("ping -M do -i 0.05 -c 3 -W 20 -s {size} {address}");
            tools::ping(&bench.sh(from, &ping))
                .or_else(|error| {
                    // There is no room for the time in the smallest ones.
                    if size < 16 { Ok(0.0) } else { Err(error) }
                })
                .unwrap_or_else(|error| panic!("{size} bytes: {error:#}"));
        }
        bench.port += 1;
        let port = bench.port;
        let serving = bench.spawn(to, &format!("iperf3 -s -1 -p {port}"));
        bench.listening(to, port);
        let text = bench.sh(from, &format!("iperf3 -J -c {address} -p {port} -n 20M"));
        finish(serving, "iperf3 -s");
        let streams = tools::iperf3(&text).expect("figures");
        for stream in &streams {
            // What the sender is done with may still be on its way when the receiver is told.
            assert!(stream.sent >= 20 << 20, "{stream:?}");
            assert!(stream.received >= stream.sent / 4, "{stream:?}");
            println!(
                "        {:.0} Mbit/s from guest {from}, {} segments sent again",
                stream.rate / 1e6,
                stream.retransmits
            );
        }
        bench.port += 1;
        let port = bench.port;
        let serve = format!("socat -u TCP-LISTEN:{port},reuseaddr - | sha256sum");
        let serving = bench.spawn(to, &serve);
        bench.listening(to, port);
        let send = format!(
            "head -c 10000003 /dev/urandom >/tmp/file; socat -u FILE:/tmp/file TCP:{address}:{port}; sha256sum </tmp/file; rm /tmp/file"
        );
        let sent = bench.sh(from, &send);
        assert_eq!(finish(serving, &serve), sent);
    }
    bench.lap("ping, TCP and a verified copy, both ways");
}

/// Traffic of others: TCP between the two NICs of one guest, the second of which is in a network
/// namespace of its own. Paced, so that there is time left for what it is not to notice.
struct Others {
    client: Job,
    _server: Job,
}

impl Others {
    fn start(bench: &Bench<'_>) -> Others {
        let far = "ip netns exec far";
        bench.sh(
            NIC,
            &format!(
                "mkdir -p /var/run /run && ip netns add far && ip link set eth1 netns far && {far} ip address add 198.51.100.2/24 dev eth1 && \
                 {far} ip link set eth1 mtu 9000 up && ip address add 198.51.100.1/24 dev eth0"
            ),
        );
        let server = bench.spawn(NIC, &format!("{far} iperf3 -s"));
        let ready = "ping -c 1 -W 1 198.51.100.2 >/dev/null";
        let ready = bench.guests[NIC].wait_until(ready, PATIENCE);
        ready.expect("the other NIC");
        let client = "rm -f /tmp/enough; until test -e /tmp/enough; do iperf3 -J -c 198.51.100.2 -b 30M -t 3 -i 1 || exit; done";
        Others {
            client: bench.spawn(NIC, client),
            _server: server,
        }
    }

    /// In each run something has arrived: a second without is a busy machine's, three are not.
    fn check(self, bench: &Bench<'_>) {
        bench.sh(NIC, "touch /tmp/enough");
        let text = finish(self.client, "traffic of others");
        let (mut seconds, mut again) = (0, 0);
        for run in serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>() {
            let run = run.expect("JSON");
            let arrived = run["end"]["sum_received"]["bytes"].as_u64();
            assert!(
                arrived > Some(0),
                "a pause in the traffic of others: {text}"
            );
            seconds += run["intervals"].as_array().expect("intervals").len();
            again += run["end"]["sum_sent"]["retransmits"].as_u64().unwrap_or(0);
        }
        assert!(seconds >= 3, "{text}");
        println!("        others: {seconds} seconds, {again} segments sent again");
        // TCP may send a segment again that is only late, where there are few processors; none is lost.
        for status in bench.fabric.server().port_status() {
            if status.port.starts_with("nic") {
                assert_eq!(status.counters.rx_dropped_packets, 0, "{status:?}");
                assert_eq!(status.counters.tx_dropped_packets, 0, "{status:?}");
            }
        }
    }
}

/// The cable, the guest and its QEMU come and go, while others have something to say to each other.
fn comes_and_goes(bench: &mut Bench<'_>, lab: &Lab) {
    let others = Others::start(bench);
    let ping = format!("ping -i 0.05 -c 3 -W 20 -s 8972 {}", ADDRESSES[RXE]);
    let carrier = |bench: &Bench<'_>, up: u32| {
        let seen = format!("[ $(cat /sys/class/net/eth0/carrier) = {up} ]");
        let seen = bench.guests[RXE].wait_until(&seen, PATIENCE);
        seen.unwrap_or_else(|error| panic!("carrier {up}: {error:#}"));
    };
    for _ in 0..2 {
        assert!(bench.fabric.server().control().set_plugged("vm0", false));
        carrier(bench, 0);
        assert!(bench.fabric.server().control().set_plugged("vm0", true));
        carrier(bench, 1);
        bench.sh(NIC, &ping);
    }
    bench.lap("a cable that is pulled and plugged in");

    let reset = |guest: &Guest| {
        let reset = guest
            .monitor()
            .execute("system_reset", serde_json::json!({}));
        reset.map(|_| ())
    };
    let restarted = bench.guests[RXE].restart(reset, 2 * PATIENCE);
    restarted.unwrap_or_else(|error| panic!("reset: {error:#}"));
    bench.configure(RXE);
    bench.sh(NIC, &ping);
    bench.pingpong(NIC, "rc_pingpong -s 8191 -n 20");
    bench.lap("a guest that is reset");

    // Dropped, QEMU is killed, in the middle of traffic.
    let flood = bench.spawn(NIC, &format!("ping -f -q -w 60 -s 8000 {}", ADDRESSES[RXE]));
    let arrives = bench.guests[RXE].wait_until(
        "[ $(cat /sys/class/net/eth0/statistics/rx_packets) -gt 500 ]",
        PATIENCE,
    );
    arrives.unwrap_or_else(|error| panic!("no flood: {error:#}"));
    drop(bench.guests.remove(RXE));
    let again = lab.boot(&config(bench.fabric, RXE));
    let again = again.unwrap_or_else(|error| panic!("{error:#}"));
    bench.guests.push(again);
    bench.configure(RXE);
    bench.sh(NIC, "kill -INT $(pidof ping); true");
    let _ = flood.wait(PATIENCE);
    bench.sh(NIC, &ping);
    bench.pingpong(RXE, "rc_pingpong -s 8191 -n 20");
    bench.lap("a QEMU that is killed, and another one");
    others.check(bench);
}

/// Boots both guests, their drivers loaded and their interfaces up.
fn boot<'a>(lab: &Lab, fabric: &'a Emulated) -> Bench<'a> {
    let configs = [NIC, RXE].map(|n| config(fabric, n));
    let guests = lab.boot_all(&configs).into_iter();
    let mut bench = Bench {
        fabric,
        guests: guests
            .map(|guest| guest.unwrap_or_else(|error| panic!("{error:#}")))
            .collect(),
        ends: Vec::new(),
        port: 20000,
        started: Instant::now(),
    };
    bench.configure(NIC);
    bench.configure(RXE);
    bench.lap("drivers");
    bench
}

#[test]
fn soft_roce_and_the_emulated_nic_understand_each_other() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "rxe");
    let capture = lab.logs().join("rxe.pcapng");
    let fabric = Emulated::start_with_vms(1, 1, Some(&capture)).expect("a NIC and a port");
    let mut bench = boot(&lab, &fabric);
    println!("rdma_rxe of {}", bench.sh(RXE, "uname -r").trim());
    rdma(&mut bench);
    losses(&mut bench);
    fabric.capture().expect("a capture");
    check_frames(&capture);
    bench.assert_no_complaints(lab.logs());
}

#[test]
fn an_ordinary_vm_is_on_the_cable() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "vm");
    let fabric = Emulated::start_with_vms(2, 1, None).expect("NICs and a port");
    let mut bench = boot(&lab, &fabric);
    ethernet(&mut bench);
    comes_and_goes(&mut bench, &lab);
    bench.assert_no_complaints(lab.logs());
}
