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
    self, Emulated, Endpoint, Guest, GuestConfig, Job, complaints, load_rxe, tools,
};
use rocinante_tests::capture;
use rocinante_tests::guests::{ADDRESSES, PATIENCE, alone, finish, lab};

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
        return fabric.attach(0, config);
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
            let gid = match addresses[n].parse().expect("an address") {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            let gid = gid.segments().map(|part| format!("{part:04x}")).join(":");
            let device = &self.ends[n].device;
            let script = format!(
                "cd /sys/class/infiniband/{device}/ports/1
                while :; do
                    for index in $(seq 0 31); do
                        read -r gid <gids/$index && [ \"$gid\" = {gid} ] || continue
                        read -r kind <gid_attrs/types/$index && [ \"$kind\" = 'RoCE v2' ] || continue
                        echo $index
                        exit
                    done
                    sleep 0.1
                done 2>/dev/null"
            );
            let index = self.sh(n, &script);
            self.ends[n].gid_index = index.trim().parse().expect("an index");
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

#[test]
fn soft_roce_and_the_emulated_nic_understand_each_other() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "rxe");
    let capture = lab.logs().join("rxe.pcapng");
    let fabric = Emulated::start_with_vms(1, 1, Some(&capture)).expect("a NIC and a port");
    let configs = [NIC, RXE].map(|n| config(&fabric, n));
    let guests = lab.boot_all(&configs).into_iter();
    let mut bench = Bench {
        fabric: &fabric,
        guests: guests
            .map(|guest| guest.unwrap_or_else(|error| panic!("{error:#}")))
            .collect(),
        ends: Vec::new(),
        port: 20000,
        started: Instant::now(),
    };
    bench.configure(NIC);
    bench.configure(RXE);
    println!("rdma_rxe of {}", bench.sh(RXE, "uname -r").trim());
    bench.lap("drivers");
    rdma(&mut bench);
    fabric.capture().expect("a capture");
    check_frames(&capture);
    bench.assert_no_complaints(lab.logs());
}
