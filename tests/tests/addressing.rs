//! RoCE addressing and the connection manager between real guests: the addresses that people configure, the tools of
//! rdmacm-utils over them, and what then goes over the wire, frame by frame.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Instant;

use rocinante_harness::lab::demo::Fabric;
use rocinante_harness::lab::{self, Emulated};
use rocinante_tests::capture::{self, Roce, Tag};
use rocinante_tests::guests::{ADDRESSES, PATIENCE, Pair, alone, finish, lab};
use rocinante_tests::tshark;
use rocinante_wire::icrc::Encap;

/// The VLAN, and the priority that its interface gives to all it sends.
const VLAN: Tag = Tag { id: 7, priority: 3 };
const VLAN_IPV4: [&str; 2] = ["198.51.100.1", "198.51.100.2"];
const VLAN_IPV6: [&str; 2] = ["fd07::1", "fd07::2"];
const IPV6: [&str; 2] = ["fd00::1", "fd00::2"];

/// Payload of the ping before the first phase; those of the others follow.
const MARK: usize = 2000;

/// Source ports of RoCE v2 are dynamic ones (annex A17.3.2, RFC 6335).
const SOURCE_PORTS: RangeInclusive<u16> = 0xc000..=0xffff;

/// RC SEND First to ATOMIC; UD SEND Only, with and without immediate data.
const UD: RangeInclusive<u8> = 0x64..=0x65;

/// What all RoCE frames of a phase have to be like.
type Expectation = Box<dyn Fn(&Roce) -> bool>;

/// Two guests, and what they do in phases that can be told apart in the capture.
struct Bench<'a> {
    pair: Pair<'a>,
    phases: Vec<(String, Expectation)>,
}

impl Bench<'_> {
    /// Does something of which all RoCE frames are as expected.
    fn phase(
        &mut self,
        name: &str,
        expect: impl Fn(&Roce) -> bool + 'static,
        act: impl FnOnce(&mut Pair<'_>),
    ) {
        let started = Instant::now();
        self.mark();
        self.phases.push((name.to_owned(), Box::new(expect)));
        act(&mut self.pair);
        println!("{:5.1} s {name}", started.elapsed().as_secs_f64());
    }

    fn mark(&self) {
        let size = MARK + self.phases.len();
        let mark = format!("ping -c 1 -W 20 -s {size} {}", ADDRESSES[1]);
        self.pair.sh(0, &mark);
    }

    /// Compares the frames of each phase with what was expected, and gives them.
    fn frames(&self, capture: &Path) -> Vec<Vec<Roce>> {
        let mut phases: Vec<Vec<Roce>> = vec![Vec::new(); self.phases.len()];
        let mut now = None;
        for (number, frame) in capture::frames(capture).iter().enumerate() {
            if let Some(size) = capture::echo_request(frame).filter(|size| *size >= MARK) {
                now = Some(size - MARK);
            }
            match capture::roce(frame) {
                Ok(None) => {}
                Ok(Some(roce)) => {
                    if let Some(frames) = now.and_then(|now| phases.get_mut(now)) {
                        frames.push(roce);
                    }
                }
                Err(what) => panic!("frame {}: {what}", number + 1),
            }
        }
        for ((name, expect), frames) in self.phases.iter().zip(&phases) {
            println!("{:6} frames: {name}", frames.len());
            assert!(!frames.is_empty(), "{name}: no frames");
            let other = frames.iter().find(|frame| !expect(frame));
            assert_eq!(other, None, "{name}: not as expected");
        }
        phases
    }
}

/// A frame of UDP or GRH, untagged, of no class, to or from a port that is none of a service.
fn plain(encap: Encap) -> impl Fn(&Roce) -> bool + Copy {
    move |frame| like(frame, encap, None, 0)
}

fn like(frame: &Roce, encap: Encap, tag: Option<Tag>, dscp: u8) -> bool {
    (frame.encap, frame.tag, frame.traffic_class >> 2) == (encap, tag, dscp)
        && frame.hop_limit > 0
        && frame.src_port.is_some() == (encap != Encap::V1)
        && frame
            .src_port
            .is_none_or(|port| SOURCE_PORTS.contains(&port))
}

/// Runs a tool of the connection manager, the server in the second guest, the client in the first.
fn cm(pair: &Pair<'_>, server: &str, client: &str) {
    let serving = pair.spawn(1, server);
    let listening = format!(
        "rdma resource show cm_id | grep -q LISTEN || test ! -d {}",
        serving.folder()
    );
    if let Err(error) = pair.guests[1].wait_until(&listening, PATIENCE) {
        panic!("{server} does not listen: {error:#}");
    }
    let asked = pair.spawn(0, client);
    finish(asked, client);
    finish(serving, server);
}

/// rping verifies what comes back.
fn rping(pair: &Pair<'_>, address: &str) {
    let options = format!("-a {address} -C 20 -V -S 3000");
    cm(
        pair,
        &format!("rping -s {options}"),
        &format!("rping -c {options}"),
    );
}

/// udaddy (UD) or ucmatose (RC).
fn cmatose(pair: &Pair<'_>, tool: &str, address: &str, options: &str) {
    let format = if address.contains(':') { "ipv6" } else { "ip" };
    let common = format!("{tool} -f {format} -C 20 -S 1000 -c 2 {options}");
    cm(
        pair,
        &format!("{common} -b {address}"),
        &format!("{common} -s {address}"),
    );
}

/// A multicast group: the second guest joins, then the first sends to it.
fn mckey(pair: &Pair<'_>, group: &str, addresses: [&str; 2]) {
    let common = format!("mckey -m {group} -C 10 -S 500");
    let receiver = pair.spawn(1, &format!("{common} -b {}", addresses[1]));
    let end = Instant::now() + PATIENCE;
    let joined = || {
        let inventory = pair.fabric.server().inventory(1).expect("the NIC runs");
        let mut kinds = inventory.objects.iter();
        kinds.any(|(kind, _)| *kind == "multicast attachment")
    };
    while !joined() {
        assert!(Instant::now() < end, "no QP is attached to {group}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let sender = format!("{common} -s -b {}", addresses[0]);
    finish(pair.spawn(0, &sender), &sender);
    finish(receiver, "mckey, receiving");
    assert!(!joined(), "still attached to {group}");
}

/// Sets `default_roce_mode` or `default_roce_tos` of both guests.
fn set_default(pair: &Pair<'_>, what: &str, value: &str) {
    let file = format!("/sys/kernel/config/rdma_cm/mlx5_0/ports/1/default_roce_{what}");
    pair.both(&format!("echo {value} >{file}"));
}

/// The index of the GID of `address` on `interface`, waited for.
fn gid_index(pair: &Pair<'_>, n: usize, address: &str, interface: &str, kind: &str) -> u32 {
    let gid = match address.parse().expect("an address") {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let gid = gid
        .segments()
        .map(|segment| format!("{segment:04x}"))
        .join(":");
    let script = format!(
        "cd /sys/class/infiniband/mlx5_0/ports/1
        while :; do
            for index in $(seq 0 255); do
                read -r gid <gids/$index && [ \"$gid\" = {gid} ] || continue
                read -r kind <gid_attrs/types/$index && [ \"$kind\" = '{kind}' ] || continue
                read -r name <gid_attrs/ndevs/$index && [ \"$name\" = {interface} ] || continue
                echo $index
                exit
            done
            sleep 0.1
        done 2>/dev/null"
    );
    pair.sh(n, &script).trim().parse().expect("an index")
}

/// Has the pingpongs and perftest use the GIDs of these addresses.
fn use_gids(pair: &mut Pair<'_>, addresses: [&str; 2], interface: &str, kind: &str) {
    for n in [0, 1] {
        pair.ends[n].gid_index = gid_index(pair, n, addresses[n], interface, kind);
    }
}

const V2: &str = "RoCE v2";
const V1: &str = "IB/RoCE v1";

/// Entries of the GID table in use.
const USED: &str = "cd /sys/class/infiniband/mlx5_0/ports/1/gids; used=0; for index in $(seq 0 255); do \
     read -r gid <$index; [ $gid = 0000:0000:0000:0000:0000:0000:0000:0000 ] || used=$((used + 1)); done; echo $used";

fn used(pair: &Pair<'_>, n: usize) -> usize {
    pair.sh(n, USED).trim().parse().expect("a number")
}

fn wait_for_used(pair: &Pair<'_>, n: usize, count: usize) {
    let condition = format!("[ $({USED}) = {count} ]");
    if let Err(error) = pair.guests[n].wait_until(&condition, PATIENCE) {
        panic!("not {count} GIDs: {error:#}");
    }
}

fn link_local(pair: &Pair<'_>, n: usize) -> Ipv6Addr {
    let text = pair.sh(n, "ip -6 -o address show dev eth0 scope link");
    let word = text.split_whitespace().nth(3).expect("an address");
    let (address, _) = word.split_once('/').expect("a prefix");
    address.parse().expect("an address")
}

#[test]
fn roce_and_its_connections_over_all_kinds_of_addresses() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "addressing");
    let capture = lab.logs().join("addressing.pcapng");
    let fabric = Emulated::start(2, Some(&capture)).expect("NICs");
    let pair = Pair::boot(&lab, &fabric);
    for n in [0, 1] {
        pair.sh(
            n,
            &format!(
                "ip -6 address add {}/64 dev eth0 nodad && modprobe configfs && \
                 mount -t configfs configfs /sys/kernel/config && mkdir /sys/kernel/config/rdma_cm/mlx5_0 && \
                 ip link add link eth0 name eth0.{} type vlan id {} egress-qos-map 0:{} 1:{3} 2:{3} 3:{3} 4:{3} 5:{3} 6:{3} 7:{3} && \
                 ip link set eth0.7 up && ip address add {}/24 dev eth0.7 && ip -6 address add {}/64 dev eth0.7 nodad",
                IPV6[n], VLAN.id, VLAN.id, VLAN.priority, VLAN_IPV4[n], VLAN_IPV6[n]
            ),
        );
        for (address, interface) in [
            (IPV6[n], "eth0"),
            (VLAN_IPV4[n], "eth0.7"),
            (VLAN_IPV6[n], "eth0.7"),
        ] {
            gid_index(&pair, n, address, interface, V2);
        }
        // Duplicate address detection of the link-local addresses.
        pair.sh(
            n,
            "until [ -z \"$(ip -6 address show tentative)\" ]; do sleep 0.1; done",
        );
    }
    let ipv4 = ADDRESSES.map(|address| address.to_string());
    let ipv4 = [&*ipv4[0], &*ipv4[1]];
    let scoped = format!("{}%eth0", link_local(&pair, 1));
    let scoped_vlan = format!("{}%eth0.7", link_local(&pair, 1));
    let mut bench = Bench {
        pair,
        phases: Vec::new(),
    };

    bench.phase("connections over IPv4", plain(Encap::V2Ipv4), |pair| {
        rping(pair, ipv4[1]);
        cmatose(pair, "udaddy", ipv4[1], "");
        cmatose(pair, "ucmatose", ipv4[1], "");
        cm(
            pair,
            &format!("cmtime -b {} -c 10", ipv4[1]),
            &format!("cmtime -s {} -c 10", ipv4[1]),
        );
        mckey(pair, "239.1.2.3", ipv4);
    });
    bench.phase("connections over IPv6", plain(Encap::V2Ipv6), |pair| {
        rping(pair, IPV6[1]);
        cmatose(pair, "udaddy", IPV6[1], "");
        cmatose(pair, "ucmatose", IPV6[1], "");
    });
    bench.phase(
        "connections over link-local IPv6",
        |frame| plain(Encap::V2Ipv6)(frame) && frame.src[..2] == [0xfe, 0x80],
        |pair| rping(pair, &scoped),
    );
    bench.phase("connections by RoCE v1", plain(Encap::V1), |pair| {
        set_default(pair, "mode", &format!("'{V1}'"));
        rping(pair, ipv4[1]);
        rping(pair, IPV6[1]);
        rping(pair, &scoped);
        cmatose(pair, "udaddy", ipv4[1], "");
        cmatose(pair, "udaddy", IPV6[1], "");
        cmatose(pair, "ucmatose", IPV6[1], "");
        mckey(pair, "239.1.2.3", ipv4);
        // Linux joins groups of IPv6 by RoCE v1 only.
        mckey(pair, "ff0e::1:2", IPV6);
        set_default(pair, "mode", &format!("'{V2}'"));
    });

    let tagged = |encap| move |frame: &Roce| like(frame, encap, Some(VLAN), 0);
    bench.phase(
        "connections over IPv4 in a VLAN",
        tagged(Encap::V2Ipv4),
        |pair| {
            rping(pair, VLAN_IPV4[1]);
            // Not udaddy: its server answers with the service level of the completion, which is the kind of header by RoCE.
            cmatose(pair, "ucmatose", VLAN_IPV4[1], "");
        },
    );
    bench.phase(
        "connections over IPv6 in a VLAN",
        tagged(Encap::V2Ipv6),
        |pair| {
            rping(pair, VLAN_IPV6[1]);
            rping(pair, &scoped_vlan);
        },
    );
    // Without the connection manager the service level is the priority.
    let with_priority = |encap, priority| {
        let tag = Tag { id: 7, priority };
        move |frame: &Roce| like(frame, encap, Some(tag), 0)
    };
    bench.phase(
        "pingpong and perftest in a VLAN",
        with_priority(Encap::V2Ipv4, 5),
        |pair| {
            use_gids(pair, VLAN_IPV4, "eth0.7", V2);
            pair.pingpong("rc_pingpong -c -n 50 -l 5");
            pair.perftest("write_bw -s 8192 -n 50 -S 5");
            pair.perftest("send_bw -c UD -s 1000 -n 50 -S 5");
        },
    );
    bench.phase(
        "pingpong in a VLAN by RoCE v1",
        with_priority(Encap::V1, 4),
        |pair| {
            use_gids(pair, VLAN_IPV6, "eth0.7", V1);
            pair.pingpong("rc_pingpong -c -n 50 -l 4");
            pair.pingpong("ud_pingpong -c -n 50 -l 4 -s 500");
        },
    );

    let classed = |encap, dscp, tag: Option<Tag>| move |frame: &Roce| like(frame, encap, tag, dscp);
    bench.phase(
        "traffic class 104",
        classed(Encap::V2Ipv4, 26, None),
        |pair| {
            use_gids(pair, ipv4, "eth0", V2);
            pair.perftest("write_bw -s 8192 -n 50 --tclass=104");
            pair.perftest("send_bw -c UD -s 1000 -n 50 --tclass=104");
        },
    );
    bench.phase(
        "traffic class 108 over IPv6",
        classed(Encap::V2Ipv6, 27, None),
        |pair| {
            use_gids(pair, IPV6, "eth0", V2);
            pair.perftest("read_bw -s 8192 -n 50 --tclass=108");
        },
    );
    bench.phase(
        "default type of service 184",
        classed(Encap::V2Ipv4, 46, None),
        |pair| {
            set_default(pair, "tos", "184");
            rping(pair, ipv4[1]);
        },
    );
    bench.phase(
        "default type of service 184 in a VLAN",
        classed(Encap::V2Ipv4, 46, Some(VLAN)),
        |pair| {
            rping(pair, VLAN_IPV4[1]);
            set_default(pair, "tos", "0");
        },
    );
    bench.phase(
        "type of service 32 of one connection",
        classed(Encap::V2Ipv4, 8, None),
        |pair| cmatose(pair, "ucmatose", ipv4[1], "-t 32"),
    );

    // Its address handles say one hop; those of connections are Linux' to fill in.
    bench.phase(
        "hop limits",
        |frame| plain(Encap::V2Ipv6)(frame) && frame.hop_limit == 1,
        |pair| {
            use_gids(pair, IPV6, "eth0", V2);
            pair.pingpong("ud_pingpong -c -n 50 -s 500");
        },
    );
    // Linux: low 14 bits of the label, exclusive or with the upper six, above 0xc000.
    bench.phase(
        "flow labels",
        |frame| {
            let ports = [0x5 ^ 0x2345 | 0xc000, 0xbcd | 0xc000];
            plain(Encap::V2Ipv4)(frame) && frame.src_port.is_some_and(|port| ports.contains(&port))
        },
        |pair| {
            use_gids(pair, ipv4, "eth0", V2);
            pair.perftest("write_bw -s 8192 -n 50 -q 4 --flow_label=90949,3021");
        },
    );
    let many = bench.phases.len();
    bench.phase("eight connections", plain(Encap::V2Ipv4), |pair| {
        pair.perftest("write_bw -s 8192 -n 50 -q 8");
    });

    bench.phase("a table full of addresses", plain(Encap::V2Ipv4), |pair| {
        let before = used(pair, 1);
        let more = (256 - before) / 2;
        let batch = |verb| {
            format!(
                "for n in $(seq {more}); do echo address {verb} 10.7.0.$n/32 dev eth0; done | ip -batch -"
            )
        };
        pair.sh(1, &batch("add"));
        wait_for_used(pair, 1, before + 2 * more);
        let last = gid_index(pair, 1, &format!("10.7.0.{more}"), "eth0", V2);
        assert!(last >= 254, "the last address has GID {last}");
        pair.ends[1].gid_index = last;
        pair.sh(0, &format!("ip route add 10.7.0.{more} dev eth0"));
        pair.pingpong("rc_pingpong -c -n 50");
        rping(pair, &format!("10.7.0.{more}"));
        pair.sh(1, &batch("delete"));
        wait_for_used(pair, 1, before);
        use_gids(pair, ipv4, "eth0", V2);
        pair.pingpong("rc_pingpong -c -n 50");
    });
    bench.phase("addresses come and go", plain(Encap::V2Ipv4), |pair| {
        come_and_go(pair)
    });
    let renamed = bench.phases.len();
    bench.phase(
        "another MAC",
        |frame| frame.encap != Encap::V1,
        |pair| {
            // Linux tells nobody: the neighbour has to ask anew.
            pair.sh(1, "ip link set eth0 address 02:00:00:00:0b:02");
            gid_index(pair, 1, "fe80::ff:fe00:b02", "eth0", V2);
            pair.sh(
                0,
                "ip neighbour flush dev eth0; ip neighbour flush dev eth0.7",
            );
            use_gids(pair, ipv4, "eth0", V2);
            pair.pingpong("rc_pingpong -c -n 50");
            pair.pingpong("ud_pingpong -c -n 50 -s 500");
            rping(pair, ipv4[1]);
            rping(pair, IPV6[1]);
            rping(pair, VLAN_IPV4[1]);
            pair.sh(0, &format!("ping -c 3 -i 0.2 -W 20 {}", ipv4[1]));
        },
    );
    bench.mark();

    let Bench { pair, .. } = &bench;
    pair.both("rmdir /sys/kernel/config/rdma_cm/mlx5_0");
    for n in [0, 1] {
        fabric.unload(&pair.guests[n]).expect("the driver goes");
        let left = fabric.leftovers(n).expect("a goodbye");
        assert_eq!(left, [""; 0], "left with NIC {n}");
    }
    pair.assert_no_complaints();
    fabric.capture().expect("capture");

    let phases = bench.frames(&capture);
    let mut ports: Vec<_> = phases[many].iter().map(|frame| frame.src_port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() >= 8, "few source ports: {ports:?}");
    let new = [2, 0, 0, 0, 0x0b, 2];
    let strangers = phases[renamed]
        .iter()
        .find(|frame| frame.src_mac != new && frame.dst_mac != new);
    assert_eq!(strangers, None, "neither from nor to the new MAC");
    assert!(
        phases
            .iter()
            .flatten()
            .any(|frame| UD.contains(&frame.opcode)),
        "no datagrams"
    );
    dissect(&capture, phases.iter().map(Vec::len).sum());
}

/// Other addresses than a connection's may change without harm to it; without its own it ends with an error, in time.
fn come_and_go(pair: &mut Pair<'_>) {
    pair.sh(1, "ip address add 10.8.0.1/32 dev eth0");
    let own = gid_index(pair, 1, "10.8.0.1", "eth0", V2);
    let port = pair.port();
    let endless = |end: &lab::Endpoint, gid: u32, to: &str| {
        format!(
            "ibv_rc_pingpong -d {} -g {gid} -p {port} -n 100000000 {to}",
            end.device
        )
    };
    let server = pair.spawn(1, &endless(&pair.ends[1], own, ""));
    pair.listening(1, port);
    let address = ADDRESSES[1].to_string();
    let client = pair.spawn(0, &endless(&pair.ends[0], pair.ends[0].gid_index, &address));
    let goes_on = "cd /sys/class/infiniband/mlx5_0/ports/1/counters; read -r n <port_rcv_packets; end=$((n + 100)); \
                   until [ $n -gt $end ]; do sleep 0.05; read -r n <port_rcv_packets; done";
    pair.sh(0, goes_on);
    for _ in 0..5 {
        pair.sh(
            1,
            "ip address add 10.8.0.2/32 dev eth0; ip address add 10.8.0.3/32 dev eth0",
        );
        gid_index(pair, 1, "10.8.0.3", "eth0", V2);
        pair.sh(
            1,
            "ip address delete 10.8.0.2/32 dev eth0; ip address delete 10.8.0.3/32 dev eth0",
        );
    }
    pair.sh(0, goes_on);
    pair.sh(1, "ip address delete 10.8.0.1/32 dev eth0");
    let output = client.wait(PATIENCE).expect("the client ends");
    assert!(
        output.status == 1 && output.text.contains("transport retry counter exceeded"),
        "{output:?}"
    );
    server.kill().expect("kill");
    server.wait(PATIENCE).expect("the server ends");
    pair.sh(1, "ip address add 10.8.0.1/32 dev eth0");
    let again = gid_index(pair, 1, "10.8.0.1", "eth0", V2);
    let before = std::mem::replace(&mut pair.ends[1].gid_index, again);
    pair.pingpong("rc_pingpong -c -n 50");
    pair.ends[1].gid_index = before;
    pair.sh(1, "ip address delete 10.8.0.1/32 dev eth0");
}

/// An independent dissector finds nothing malformed, and as many RoCE frames as we do.
fn dissect(capture: &Path, least: usize) {
    assert_eq!(tshark::malformed(capture), [""; 0]);
    let packets = tshark::fields(capture, "infiniband", &["frame.number"]);
    assert!(packets.len() >= least);
}
