//! The adapter as a network card: unmodified Linux guests ping, stream, copy files, and change whatever `ethtool` can change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use rocinante_harness::lab::demo::Fabric;
use rocinante_harness::lab::{Emulated, Lab, LabConfig, Progress, complaints, tools};
use rocinante_tests::capture;
use rocinante_tests::guests::{ADDRESSES, PATIENCE, Pair, alone, finish};
use rocinante_tests::net::{Counters, Ip, Net};

fn lab(name: &str) -> Lab {
    rocinante_tests::guests::lab(env!("CARGO_TARGET_TMPDIR"), name)
}

/// Sizes of ping payloads: around the smallest frame, each MTU's limit, and fragments of both.
const SIZES: [u32; 11] = [
    56, 57, 1000, 1472, 1473, 3000, 8972, 9000, 20000, 40000, 65000,
];

/// Packets of all sizes, streams in both directions and over several channels, files with their hashes; with both MTUs, over IPv4
/// and IPv6.
#[test]
fn packets_of_all_sizes_and_streams() {
    let _alone = alone();
    let lab = lab("streams");
    let fabric = Emulated::start(2, None).expect("NICs");
    let mut net = Net::new(Pair::boot_with(&lab, &fabric, 2));
    for n in [0, 1] {
        net.file(n, "large", 20_000_000);
    }
    for mtu in [1500, 9000] {
        net.mtu(mtu);
        let start = Instant::now();
        pings(&net);
        println!("MTU {mtu}: pings took {:?}", start.elapsed());

        let start = Instant::now();
        net.sh(0, "ethtool -L eth0 combined 1");
        net.tcp(&Ip::V4.of(1), "-n 10M");
        net.tcp(&Ip::V6.of(1), "-n 10M --reverse");
        net.sh(0, "ethtool -L eth0 combined 2");
        net.tcp(&Ip::V6.of(1), "-n 20M --parallel 4");
        net.tcp(&Ip::V4.of(1), "-n 20M --parallel 4 --reverse");
        net.tcp(&Ip::V4.of(1), "-n 10M --bidir");
        for options in ["", "--reverse"] {
            for ip in Ip::BOTH {
                net.udp(&ip.of(1), &format!("-n 1M -b 10M {options}"));
            }
        }
        net.udp(&Ip::V4.of(1), "-n 500K -b 5M --bidir");
        println!("MTU {mtu}: iperf3 took {:?}", start.elapsed());

        let start = Instant::now();
        for ip in Ip::BOTH {
            net.copies(&[(0, ip.of(1)), (1, ip.of(0))], "large");
        }
        println!("MTU {mtu}: copies took {:?}", start.elapsed());
    }
    spreading(&mut net);
    net.assert_checksums_were_right();
    net.pair.assert_no_complaints();
}

/// Pings of all sizes and patterns, in a flood, and to groups.
fn pings(net: &Net<'_>) {
    let sizes = SIZES.map(|size| size.to_string()).join(" ");
    for (ip, pattern) in [(Ip::V4, "00ff"), (Ip::V6, "a50f3c96")] {
        let to = ip.of(1);
        let text = net.sh(
            0,
            &format!(
                "for size in {sizes}; do
                    ping -c 3 -i 0.01 -W 20 -p {pattern} -s $size {to} || exit 1
                done
                ping -f -c 300 -W 20 -s 1000 -p {pattern} {to}"
            ),
        );
        let whole = text
            .lines()
            .filter(|line| line.contains(" 0% packet loss"))
            .count();
        assert_eq!(whole, SIZES.len() + 1, "{to}: {text}");
        // What ping says when it finds another byte than it has sent.
        assert!(!text.contains("wrong data"), "{to}: {text}");
    }
    for group in ["-b 192.0.2.255", "-I eth0 224.0.0.1", "-6 ff02::1%eth0"] {
        // The sender may answer too: count what comes from the other.
        let other = net.pair.ends[1].address;
        let text = net.sh(0, &format!("ping -c 5 -i 0.1 -W 20 {group}"));
        let from: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.split_once(" bytes from ")?.1.split_whitespace().next())
            .map(|address| address.trim_end_matches(':'))
            .collect();
        let answered = if group.contains("ff02") {
            from.len() >= 2
        } else {
            from.contains(other.to_string().as_str())
        };
        assert!(answered, "{group}: {text}");
    }
}

/// Flows go to the channel that Toeplitz and the indirection table say, and stay there.
fn spreading(net: &mut Net<'_>) {
    // The key of Microsoft's verification suite.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];
    let key = KEY.map(|byte| format!("{byte:02x}")).join(":");
    net.sh(
        1,
        &format!("ethtool -L eth0 combined 2; ethtool -X eth0 hkey {key} equal 2"),
    );
    let table = net.sh(1, "ethtool -x eth0");
    assert!(table.contains(&key), "{table}");
    let receiver = net.pair.port();
    let _sink = net
        .pair
        .spawn(1, &format!("socat -u UDP4-RECV:{receiver} /dev/null"));
    net.bound(1, receiver);
    let mut used = BTreeSet::new();
    // Ports far apart: neighbours may all hash to the same channel.
    for sender in (30_000..38_000_u16).step_by(997).take(8) {
        // Linux asks for the symmetric hash: of each pair of fields the OR, then the XOR.
        let [one, other] = ADDRESSES.map(u32::from);
        let mut input = Vec::new();
        input.extend((one | other).to_be_bytes());
        input.extend((one ^ other).to_be_bytes());
        input.extend((sender | receiver).to_be_bytes());
        input.extend((sender ^ receiver).to_be_bytes());
        let channel = toeplitz(&KEY, &input) % 2;
        used.insert(channel);
        let before = net.counters(1);
        net.sh(
            0,
            &format!(
                "head -c 100000 /dev/zero |
                socat -u -b 1000 - UDP4:{}:{receiver},sourceport={sender}",
                Ip::V4.of(1)
            ),
        );
        let all_came = |grown: &Counters| grown.get(&format!("rx{channel}_packets")) >= Some(&100);
        let Err(grown) = net.grows(1, &before, all_came) else {
            continue;
        };
        panic!("flow from port {sender} did not come by channel {channel}: {grown:?}");
    }
    assert_eq!(used.len(), 2, "these flows were to use both channels");
    net.sh(1, "ethtool -X eth0 default");
}

/// Toeplitz' hash, bit by bit.
fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1 == 1;
    let mut hash = 0_u32;
    for at in (0..input.len() * 8).filter(|at| bit(input, *at)) {
        let window = (at..at + 32).fold(0, |word, k| word << 1 | u32::from(bit(key, k)));
        hash ^= window;
    }
    hash
}

/// Each feature that `ethtool -K` can change is changed, traffic checked, and changed back; then all that are on are off at once.
#[test]
fn each_offload_can_be_switched() {
    /// What is counted in a guest while the feature is on, and is not while it is off: guest 0 sends TCP over IPv4, guest 1 over IPv6.
    const EFFECTS: [(&str, usize, &str); 4] = [
        ("tx-tcp-segmentation", 0, "tx_tso_packets"),
        ("tx-tcp6-segmentation", 1, "tx_tso_packets"),
        ("tx-checksum-ip-generic", 0, "tx_csum_partial"),
        ("rx-checksumming", 1, "rx_csum_complete"),
    ];
    let _alone = alone();
    let lab = lab("offloads");
    let fabric = Emulated::start(2, None).expect("NICs");
    let mut net = Net::new(Pair::boot(&lab, &fabric));
    net.mtu(1500);
    files(&mut net);

    let before = [0, 1].map(|n| net.counters(n));
    exchange(&mut net);
    for (name, n, counter) in EFFECTS {
        let after = net.counters(n);
        let grown = after[counter] - before[n][counter];
        assert!(grown > 0, "{name} is on, and {counter} did not grow");
    }

    let usual = net.sh(0, "ethtool -k eth0");
    let features = tools::features(&usual);
    assert!(features.len() >= 15, "{usual}");
    for (name, on) in &features {
        let start = Instant::now();
        let set = |on: bool| format!("ethtool -K eth0 {name} {}", if on { "on" } else { "off" });
        net.pair.both(&set(!on));
        let now = tools::features(&net.sh(0, "ethtool -k eth0"));
        assert!(now.contains(&(name.clone(), !on)), "{name}: {now:?}");
        let before = [0, 1].map(|n| net.counters(n));
        exchange(&mut net);
        for (_, n, counter) in EFFECTS.iter().filter(|effect| effect.0 == name) {
            let after = net.counters(*n);
            assert_eq!(
                after[*counter], before[*n][*counter],
                "without {name}, {counter}"
            );
        }
        net.pair.both(&set(*on));
        assert_eq!(net.sh(0, "ethtool -k eth0"), usual, "after {name}");
        println!(
            "{name} {}: ok, {:?}",
            if *on { "off" } else { "on" },
            start.elapsed()
        );
    }

    private_flags(&mut net);

    // Datagrams that the adapter cuts, and that the kernel cuts.
    for state in ["off", "on"] {
        net.pair
            .both(&format!("ethtool -K eth0 tx-udp-segmentation {state}"));
        for ip in Ip::BOTH {
            let before = net.counters(0);
            net.datagrams(0, &ip.of(1), "datagrams", 60_000, UDP_SEGMENT);
            let grown = net.counters(0)["tx_tso_packets"] - before["tx_tso_packets"];
            assert_eq!(grown > 0, state == "on", "{state}: {grown}");
        }
    }

    let all = |state: &str| {
        let on = features.iter().filter(|(_, on)| *on);
        let words: Vec<String> = on.map(|(name, _)| format!("{name} {state}")).collect();
        format!("ethtool -K eth0 {}", words.join(" "))
    };
    net.pair.both(&all("off"));
    exchange(&mut net);
    net.mtu(9000);
    exchange(&mut net);
    net.pair.both(&all("on"));
    assert_eq!(net.sh(0, "ethtool -k eth0"), usual, "after all");
    exchange(&mut net);
    net.assert_checksums_were_right();
    assert_no_complaints_but(&net, "Enable private flag");
}

/// socat's option to set UDP_SEGMENT (SOL_UDP is 17, the option 103) to 1400: the socket's datagrams are cut so.
const UDP_SEGMENT: &str = ",setsockopt=17:103:i1400";

/// Files for [`exchange`].
fn files(net: &mut Net<'_>) {
    for n in [0, 1] {
        net.file(n, "small", 2_000_000);
        net.file(n, "datagrams", 300_000);
    }
}

/// A file over TCP and another by UDP, each way, whole.
fn exchange(net: &mut Net<'_>) {
    net.copies(&[(0, Ip::V4.of(1)), (1, Ip::V6.of(0))], "small");
    net.datagrams(0, &Ip::V4.of(1), "datagrams", 1000, "");
    net.datagrams(1, &Ip::V6.of(0), "datagrams", 20_000, "");
}

/// The driver's own switches. Some need what this adapter does not say it can.
fn private_flags(net: &mut Net<'_>) {
    let usual = net.sh(0, "ethtool --show-priv-flags eth0");
    let flags: Vec<(String, bool)> = tools::fields(&usual)
        .into_iter()
        .map(|(name, state)| (name.to_owned(), state == "on"))
        .collect();
    assert!(flags.len() >= 5, "{usual}");
    for (name, on) in flags {
        let set = |on: bool| {
            let state = if on { "on" } else { "off" };
            format!("ethtool --set-priv-flags eth0 {name} {state}")
        };
        let mut refused = 0;
        for guest in &net.pair.guests {
            let output = guest.exec(&set(!on), PATIENCE).expect("guest");
            if !output.ok() {
                assert!(
                    output.text.contains("not supported"),
                    "{name}: {}",
                    output.text
                );
                refused += 1;
            }
        }
        if refused != 0 {
            println!("private flag {name}: not supported");
            assert_eq!(refused, 2, "{name}");
            continue;
        }
        exchange(net);
        net.pair.both(&set(on));
        assert_eq!(net.sh(0, "ethtool --show-priv-flags eth0"), usual, "{name}");
        println!("private flag {name}: ok");
    }
}

/// No guest's kernel has complained, but in lines with `usual` in them.
fn assert_no_complaints_but(net: &Net<'_>, usual: &str) {
    for guest in &net.pair.guests {
        let dmesg = guest.dmesg().expect("dmesg");
        let mut lines = complaints(&dmesg);
        lines.retain(|line| !line.contains(usual));
        assert!(lines.is_empty(), "{}:\n{lines:#?}", guest.name());
    }
}

/// VLANs, single and stacked, with tags put in and taken out by either side of the driver; and what is let in: addresses, groups, VLANs.
#[test]
fn vlans_and_filters() {
    let _alone = alone();
    let lab = lab("vlans");
    let fabric = Emulated::start(2, None).expect("NICs");
    let mut net = Net::new(Pair::boot(&lab, &fabric));
    files(&mut net);
    add_vlan(&net);
    for mtu in [9000, 1500] {
        net.pair.both(&format!("ip link set eth0.7 mtu {mtu}"));
        for (strip, insert) in [("on", "on"), ("off", "on"), ("on", "off"), ("off", "off")] {
            net.pair
                .both(&format!("ethtool -K eth0 rxvlan {strip} txvlan {insert}"));
            let before = net.counters(0);
            net.sh(
                0,
                &format!(
                    "ping -c 2 -i 0.01 -W 20 -M do -s {} 198.51.100.2 && ping -c 2 -i 0.01 -W 20 -s 20000 2001:db8:7::2",
                    mtu - 28
                ),
            );
            net.copies(
                &[(0, "198.51.100.2".into()), (1, "2001:db8:7::1".into())],
                "small",
            );
            net.datagrams(0, "2001:db8:7::2", "datagrams", 1000, "");
            let after = net.counters(0);
            let grew = |counter: &str| after[counter] > before[counter];
            assert_eq!(
                grew("rx_removed_vlan_packets"),
                strip == "on",
                "strip {strip}"
            );
            assert_eq!(
                grew("tx_added_vlan_packets"),
                insert == "on",
                "insert {insert}"
            );
        }
    }
    net.pair.both("ethtool -K eth0 rxvlan on txvlan on");
    groups(&net);
    filters(&net);
    add_stacked_vlan(&net);
    for insert in ["off", "on"] {
        net.pair
            .both(&format!("ethtool -K eth0 tx-vlan-stag-hw-insert {insert}"));
        net.sh(0, "ping -c 2 -i 0.01 -W 20 -M do -s 1472 203.0.113.2");
        net.copies(
            &[(0, "203.0.113.2".into()), (1, "203.0.113.1".into())],
            "small",
        );
    }
    net.assert_checksums_were_right();
    net.pair.assert_no_complaints();
}

/// VLAN 7 with 198.51.100.0/24 and 2001:db8:7::/64.
fn add_vlan(net: &Net<'_>) {
    for n in [0, 1] {
        let host = n + 1;
        net.sh(
            n,
            &format!(
                "ip link add link eth0 name eth0.7 type vlan id 7
                ip address add 198.51.100.{host}/24 dev eth0.7
                ip address add 2001:db8:7::{host}/64 dev eth0.7 nodad
                ip link set eth0.7 up"
            ),
        );
    }
    net.meet("198.51.100.2");
    net.meet("2001:db8:7::2");
}

/// Customer VLAN 9 in service VLAN 8 with 203.0.113.0/24. The driver does without stripping from then on.
fn add_stacked_vlan(net: &Net<'_>) {
    for n in [0, 1] {
        let host = n + 1;
        net.sh(
            n,
            &format!(
                "ip link add link eth0 name service type vlan proto 802.1ad id 8
                ip link set service up
                ip link add link service name customer mtu 1500 type vlan id 9
                ip address add 203.0.113.{host}/24 dev customer
                ip link set customer up"
            ),
        );
    }
    net.meet("203.0.113.2");
}

/// Datagrams to groups reach who has joined.
fn groups(net: &Net<'_>) {
    for (group, socket, join) in [
        ("239.1.2.3", "UDP4", "ip-add-membership=239.1.2.3:eth0"),
        ("[ff15::1234]", "UDP6", "ipv6-join-group=[ff15::1234]:eth0"),
    ] {
        let port = if socket == "UDP4" { 19_004 } else { 19_006 };
        net.sh(
            1,
            &format!(
                "socat -u {socket}-RECV:{port},{join} CREATE:/tmp/group-{port} >/dev/null 2>&1 & echo $! >/tmp/group.pid"
            ),
        );
        let scope = if socket == "UDP4" {
            "ip-multicast-if=192.0.2.1"
        } else {
            "interface=eth0"
        };
        // The adapter is told of groups some time after they were joined.
        let send = format!("echo hello | socat -u - {socket}-DATAGRAM:{group}:{port},{scope}");
        let deadline = Instant::now() + PATIENCE;
        while net
            .sh(1, &format!("cat /tmp/group-{port} || true"))
            .is_empty()
        {
            assert!(Instant::now() < deadline, "nothing came to {group}");
            net.sh(0, &send);
        }
        let came = net.sh(
            1,
            &format!("kill $(cat /tmp/group.pid); cat /tmp/group-{port}"),
        );
        assert!(came.starts_with("hello"), "{came}");
    }
}

/// Frames that are not for the second guest come to it only while it wants them.
fn filters(net: &Net<'_>) {
    let bob = net.sh(1, "cat /sys/class/net/eth0/address");
    let bob = bob.trim();
    net.sh(
        0,
        &format!(
            "ip link add link eth0 name eth0.10 type vlan id 10
            ip address add 198.51.101.1/24 dev eth0.10
            ip link set eth0.10 up
            ip neigh replace 198.51.101.2 lladdr {bob} dev eth0.10
            ip neigh replace 192.0.2.99 lladdr 02:00:00:00:00:99 dev eth0
            ip neigh replace 192.0.2.98 lladdr 02:00:00:00:00:98 dev eth0"
        ),
    );
    let to_host = |host: &str| format!("ping -c 2 -i 0.01 -W 0.1 {host}; true");
    let stranger = (to_host("192.0.2.99"), "02:00:00:00:00:99");
    let second = (to_host("192.0.2.98"), "02:00:00:00:00:98");
    let group = (
        "echo x | socat -u - UDP4-DATAGRAM:239.5.6.7:9,ip-multicast-if=192.0.2.1".to_owned(),
        "01:00:5e:05:06:07",
    );
    let vlan = (to_host("198.51.101.2"), "vlan 10,");

    // What the second guest does, and what of the above then comes to it.
    let steps: [(&str, [bool; 4]); 12] = [
        ("true", [false, false, false, false]),
        ("ip link set eth0 promisc on", [true, true, true, true]),
        ("ip link set eth0 promisc off", [false, false, false, false]),
        (
            "ip link set eth0 allmulticast on",
            [false, false, true, false],
        ),
        (
            "ip link set eth0 allmulticast off",
            [false, false, false, false],
        ),
        (
            "ip maddress add 01:00:5e:05:06:07 dev eth0",
            [false, false, true, false],
        ),
        (
            "ip maddress del 01:00:5e:05:06:07 dev eth0",
            [false, false, false, false],
        ),
        (
            "ip link add link eth0 name second address 02:00:00:00:00:98 type macvlan; ip link set second up",
            [false, true, false, false],
        ),
        ("ip link del second", [false, false, false, false]),
        (
            "ethtool -K eth0 rx-vlan-filter off",
            [false, false, false, true],
        ),
        (
            "ethtool -K eth0 rx-vlan-filter on",
            [false, false, false, false],
        ),
        (
            "ip link add link eth0 name eth0.10 type vlan id 10; ip link set eth0.10 up",
            [false, false, false, true],
        ),
    ];
    let traffic = [&stranger, &second, &group, &vlan];
    for (action, expected) in steps {
        net.sh(1, action);
        // The driver tells the adapter in its own time.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = seen(net, &traffic.map(|(send, _)| send.as_str()).join("\n"));
            let came = traffic.map(|(_, mark)| text.contains(mark));
            if came == expected {
                println!("{action}: {came:?}");
                break;
            }
            assert!(
                Instant::now() < deadline,
                "after {action}: {came:?}, not {expected:?}: {text}"
            );
        }
    }
}

/// What tcpdump sees in the second guest, without a wish of its own for more, of what `command` does in the first.
fn seen(net: &Net<'_>, command: &str) -> String {
    net.sh(
        1,
        "tcpdump -Z root -p -l -n -e -i eth0 >/tmp/seen 2>/tmp/seen.log & echo $! >/tmp/seen.pid
        until grep -q listening /tmp/seen.log; do
            kill -0 $! || { cat /tmp/seen.log; exit 1; }
            sleep 0.05
        done",
    );
    net.sh(0, command);
    // Whatever came before this has come.
    net.sh(0, "ping -c 1 -W 60 -s 777 192.0.2.2");
    net.sh(
        1,
        "until grep -q 'echo request.*length 785' /tmp/seen; do sleep 0.05; done
        kill $(cat /tmp/seen.pid); cat /tmp/seen; rm /tmp/seen /tmp/seen.log",
    )
}

/// All that `ethtool` asks is answered; what it can change is changed while files go both ways, and all of them arrive whole; and
/// what the one counts as sent is what the other counts as received.
#[test]
fn ethtool_answers_and_changes_under_traffic() {
    let _alone = alone();
    let lab = lab("ethtool");
    let fabric = Emulated::start(2, None).expect("NICs");
    let mut net = Net::new(Pair::boot_with(&lab, &fabric, 2));
    files(&mut net);
    answers(&net);
    counters_add_up(&mut net);
    changes(&mut net);
    counters_add_up(&mut net);
    net.assert_checksums_were_right();
    net.pair.assert_no_complaints();
}

fn answers(net: &Net<'_>) {
    let commands: [(&str, &[&str]); 16] = [
        (
            "",
            &[
                "Speed: 100000Mb/s",
                "Duplex: Full",
                "Auto-negotiation: on",
                "Link detected: yes",
                "100000baseCR4/Full",
            ],
        ),
        (
            "-i",
            &[
                "driver: mlx5_core",
                "firmware-version: 16.",
                "bus-info: 0000:01:00.0",
                "supports-statistics: yes",
                "supports-test: yes",
                "supports-priv-flags: yes",
            ],
        ),
        ("-g", &["RX: 8192", "TX: 8192", "RX: 1024", "TX: 1024"]),
        ("-l", &["Combined: 2"]),
        (
            "-c",
            &["Adaptive RX: on TX: on", "rx-usecs: ", "tx-frames: "],
        ),
        ("-a", &["Autonegotiate: off", "RX: ", "TX: "]),
        ("-k", &["tcp-segmentation-offload: on"]),
        (
            "-S",
            &[
                "rx_packets: ",
                "rx0_packets: ",
                "tx_packets_phy: ",
                "rx_prio0_packets: ",
            ],
        ),
        (
            "-T",
            &[
                "PTP Hardware Clock: 0",
                "hardware-transmit",
                "hardware-receive",
            ],
        ),
        ("-x", &["0: 0 1 0 1 0 1 0 1", "toeplitz: on"]),
        ("-u", &["2 RX rings available"]),
        ("-P", &["Permanent address: 02:"]),
        ("-m", &["Identifier : 0x11 (QSFP28)"]),
        ("--show-priv-flags", &["rx_cqe_moder"]),
        ("-n", &["Total 0 rules"]),
        (
            "--test",
            &["The test result is PASS", "Link Test 0", "Loopback Test 0"],
        ),
    ];
    for (option, expected) in commands {
        let text = net.sh(1, &format!("ethtool {option} eth0"));
        // What the columns are separated by does not matter.
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let told = lines.join("\n") + "\n";
        for expect in expected {
            let words = expect.trim_end();
            assert!(
                told.contains(words),
                "ethtool {option}: no {expect:?} in {text}"
            );
        }
    }
    let permanent = net.sh(1, "ethtool -P eth0");
    let address = net.sh(1, "cat /sys/class/net/eth0/address");
    assert!(permanent.contains(address.trim()), "{permanent}{address}");
    let clock = net.sh(1, "phc_ctl /dev/ptp0 get");
    assert!(clock.contains("clock time is"), "{clock}");
    let info = net.sh(1, "devlink dev info");
    assert!(
        info.contains("mlx5_core") && info.contains("fw.version 16."),
        "{info}"
    );
}

/// Changes, each followed by two whole files in each direction before the next.
fn changes(net: &mut Net<'_>) {
    let port = net.pair.port();
    for n in [0, 1] {
        net.sh(
            n,
            &format!(
                "rm -f /tmp/sums /tmp/stop; touch /tmp/sums
                socat -u TCP4-LISTEN:{port},fork,reuseaddr SYSTEM:'sha256sum >>/tmp/sums' >/dev/null 2>&1 &"
            ),
        );
        net.pair.listening(n, port);
    }
    let senders: Vec<_> = [0, 1]
        .map(|n| {
            let to = Ip::V4.of(1 - n);
            let send = format!(
                "until test -e /tmp/stop; do
                    socat -u -b 65536 FILE:/tmp/small TCP4:{to}:{port} || exit 1
                done"
            );
            net.pair.spawn(n, &send)
        })
        .into_iter()
        .collect();
    let more = "had=$(wc -l </tmp/sums); until test $(wc -l </tmp/sums) -ge $((had + 2)); do sleep 0.05; done";
    net.pair.both(more);
    let rule = format!("ethtool -N eth0 flow-type tcp4 dst-port {port} action 1");
    let changes = [
        "ethtool -G eth0 rx 256 tx 128",
        "ethtool -G eth0 rx 8192 tx 8192",
        "ethtool -G eth0 rx 1024 tx 1024",
        "ethtool -L eth0 combined 1",
        "ethtool -L eth0 combined 2",
        "ethtool -C eth0 adaptive-rx off adaptive-tx off rx-usecs 50 rx-frames 8 tx-usecs 30 tx-frames 4",
        "ethtool -C eth0 rx-usecs 0 rx-frames 1 tx-usecs 0 tx-frames 1",
        "ethtool -C eth0 adaptive-rx on adaptive-tx on",
        "ethtool -C eth0 cqe-mode-rx off cqe-mode-tx on",
        "ethtool -C eth0 cqe-mode-rx on cqe-mode-tx off",
        "ethtool -K eth0 gro off tso off gso off",
        "ethtool -K eth0 tx off rx off sg off",
        "ethtool -K eth0 tx on rx on sg on tso on gso on gro on",
        "ethtool -X eth0 weight 0 1",
        "ethtool -X eth0 equal 2 hfunc xor",
        "ethtool -X eth0 default hfunc toeplitz",
        "ethtool -N eth0 rx-flow-hash tcp4 sd",
        "ethtool -N eth0 rx-flow-hash tcp4 sdfn",
        &rule,
        "ethtool -N eth0 delete 1023",
        "ip link set eth0 mtu 1500",
        "ip link set eth0 mtu 9000",
        "ethtool -A eth0 rx on tx on",
        "ethtool -A eth0 rx off tx off",
    ];
    for change in changes {
        let start = Instant::now();
        net.pair.both(change);
        net.pair.both(more);
        println!("{change}: ok, {:?}", start.elapsed());
    }
    net.pair.both("touch /tmp/stop");
    for (n, sender) in senders.into_iter().enumerate() {
        finish(sender, &format!("sender in guest {n}"));
    }
    for n in [0, 1] {
        let sums = net.sh(n, "cat /tmp/sums");
        let wrong = sums
            .lines()
            .filter(|sum| sum.trim() != net.sum(1 - n, "small").trim())
            .count();
        assert_eq!(wrong, 0, "files that came to guest {n}: {sums}");
        println!("guest {n} got {} files", sums.lines().count());
    }
}

/// Counters of both guests, taken while nothing is under way.
fn at_rest(net: &Net<'_>) -> [Counters; 2] {
    let deadline = Instant::now() + PATIENCE;
    let read = || [0, 1].map(|n| net.counters(n));
    let mut last = read();
    loop {
        let now = read();
        let same = [0, 1].iter().all(|n: &usize| {
            [
                "tx_packets_phy",
                "rx_packets_phy",
                "tx_packets",
                "rx_packets",
            ]
            .iter()
            .all(|name| last[*n].get(*name) == now[*n].get(*name))
        });
        if same {
            return now;
        }
        assert!(
            Instant::now() < deadline,
            "there is always something under way"
        );
        last = now;
    }
}

fn counters_add_up(net: &mut Net<'_>) {
    let before = at_rest(net);
    exchange(net);
    net.sh(0, "ping -c 10 -i 0.01 -s 5000 192.0.2.2; ping -c 3 -i 0.1 -b 192.0.2.255; ping -c 3 -i 0.1 ff02::1%eth0");
    let after = at_rest(net);
    let grown = |n: usize, name: &str| {
        let get = |counters: &Counters| {
            *counters
                .get(name)
                .unwrap_or_else(|| panic!("no counter {name} in {counters:?}"))
        };
        get(&after[n]) - get(&before[n])
    };
    for (sender, receiver) in [(0, 1), (1, 0)] {
        for what in ["packets_phy", "bytes_phy", "multicast_phy", "broadcast_phy"] {
            let sent = grown(sender, &format!("tx_{what}"));
            assert_eq!(
                sent,
                grown(receiver, &format!("rx_{what}")),
                "{what} from {sender}"
            );
        }
        for what in ["unicast_packets", "unicast_bytes", "broadcast_packets"] {
            let sent = grown(sender, &format!("tx_vport_{what}"));
            assert_eq!(
                sent,
                grown(receiver, &format!("rx_vport_{what}")),
                "{what} from {sender}"
            );
        }
        // What the driver counts by itself is what the adapter counts.
        assert_eq!(grown(sender, "tx_packets"), grown(sender, "tx_packets_phy"));
        assert!(grown(receiver, "rx_packets") <= grown(receiver, "rx_packets_phy"));
        assert!(grown(sender, "tx_vport_unicast_packets") > 100);
        // By size, by priority, by channel.
        let sum = |n: usize, of: &dyn Fn(&str) -> bool| -> u64 {
            let names = after[n].keys().filter(|name| of(name));
            names.map(|name| grown(n, name)).sum()
        };
        let of_size = |name: &str| {
            name.starts_with("rx_") && name.ends_with("_bytes_phy") && name != "rx_bytes_phy"
        };
        assert_eq!(sum(receiver, &of_size), grown(receiver, "rx_packets_phy"));
        for direction in ["rx", "tx"] {
            let of_priority = |name: &str| {
                name.starts_with(&format!("{direction}_prio")) && name.ends_with("_packets")
            };
            assert_eq!(
                sum(receiver, &of_priority),
                grown(receiver, &format!("{direction}_packets_phy"))
            );
        }
    }
}

/// What goes over the wire, read by tshark: every checksum is right, tags are where they belong, nothing is malformed; and of RoCE
/// each ICRC, which tshark does not check.
#[test]
fn frames_are_right_on_the_wire() {
    let _alone = alone();
    let lab = lab("frames");
    let path = lab.logs().join("frames.pcapng");
    let fabric = Emulated::start(2, Some(&path)).expect("NICs");
    let mut net = Net::new(Pair::boot(&lab, &fabric));
    for n in [0, 1] {
        net.file(n, "little", 200_000);
    }
    add_vlan(&net);
    for mtu in [9000, 1500] {
        net.mtu(mtu);
        for to in ["192.0.2.2", "2001:db8::2", "198.51.100.2", "2001:db8:7::2"] {
            net.sh(
                0,
                &format!(
                    "for size in 0 1 57 1400 9000; do ping -c 1 -W 20 -s $size {to} || exit 1; done"
                ),
            );
        }
        // The adapter's work, then the kernel's.
        for state in ["on", "off"] {
            net.pair.both(&format!(
                "ethtool -K eth0 tx {state} tso {state} txvlan {state}"
            ));
            net.copies(
                &[
                    (0, Ip::V4.of(1)),
                    (1, Ip::V6.of(0)),
                    (0, "198.51.100.2".into()),
                    (1, "2001:db8:7::1".into()),
                ],
                "little",
            );
            for to in ["192.0.2.2", "2001:db8:7::2"] {
                net.datagrams(0, to, "little", 999, "");
                net.datagrams(0, to, "little", 20_000, "");
            }
        }
        net.pair.both("ethtool -K eth0 tx on tso on txvlan on");
        for to in ["192.0.2.2", "2001:db8::2", "198.51.100.2", "2001:db8:7::2"] {
            net.datagrams(0, to, "little", 50_000, UDP_SEGMENT);
        }
    }
    net.mtu(9000);
    add_stacked_vlan(&net);
    net.copies(
        &[(0, "203.0.113.2".into()), (1, "203.0.113.1".into())],
        "little",
    );
    // RoCE by every kind of GID that these interfaces have.
    let gids = net.sh(
        0,
        "cd /sys/class/infiniband/mlx5_0/ports/1
        for n in $(seq 0 31); do
            test $(cat gids/$n) != 0000:0000:0000:0000:0000:0000:0000:0000 || continue
            echo $n $(cat gid_attrs/ndevs/$n) $(cat gid_attrs/types/$n)
        done 2>/dev/null",
    );
    let usual = net.pair.ends.clone();
    for line in gids.lines() {
        let index = line.split(' ').next().and_then(|word| word.parse().ok());
        for end in &mut net.pair.ends {
            end.gid_index = index.unwrap_or_else(|| panic!("{line}"));
        }
        if !line.contains("service") && !line.contains("customer") {
            net.pair.pingpong("rc_pingpong -c -n 5 -s 3000");
        }
    }
    net.pair.ends = usual;
    net.pair.assert_no_complaints();
    fabric.capture().expect("capture");

    assert_eq!(capture::dropped(&path), 0, "frames that were not captured");
    let mut kinds = BTreeMap::<String, usize>::new();
    for frame in capture::frames(&path) {
        match capture::roce(&frame) {
            Ok(None) => {}
            Ok(Some(roce)) => {
                let tag = roce.tag.map(|tag| tag.id);
                *kinds
                    .entry(format!("{:?}, VLAN {tag:?}", roce.encap))
                    .or_default() += 1;
            }
            Err(wrong) => panic!("{wrong}: {frame:02x?}"),
        }
    }
    println!("RoCE: {kinds:#?}");
    for kind in ["V1", "V2Ipv4", "V2Ipv6"] {
        for tag in ["None", "Some(7)"] {
            let kind = format!("{kind}, VLAN {tag}");
            assert!(kinds.contains_key(&kind), "no {kind} in {kinds:?}");
        }
    }
    dissect(&path);
}

/// What tshark is asked of each frame.
const FIELDS: [&str; 10] = [
    "ip.checksum.status",
    "tcp.checksum.status",
    "udp.checksum.status",
    "icmp.checksum.status",
    "icmpv6.checksum.status",
    "ip.src",
    "ipv6.src",
    "vlan.id",
    "ieee8021ad.id",
    "_ws.malformed",
];

fn dissect(path: &Path) {
    let mut command = rocinante_harness::lab::tshark(&LabConfig::default(), &Progress::shown())
        .unwrap_or_else(|error| panic!("tshark: {error:#}"));
    command.args([
        "-n",
        "-Y",
        "!infiniband && !(udp.port == 4791)",
        "-T",
        "fields",
        "-E",
        "separator=;",
    ]);
    // Of random bytes it takes some for a protocol, and then finds that malformed.
    for transport in ["udp", "tcp"] {
        command.args(["-d", &format!("{transport}.port==5001-65535,data")]);
    }
    for protocol in ["ip", "tcp", "udp"] {
        command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let output = command.arg("-r").arg(path).output().expect("tshark runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut good = BTreeMap::<String, usize>::new();
    for (n, line) in text.lines().enumerate() {
        let values: Vec<&str> = line.split(';').collect();
        assert_eq!(values.len(), FIELDS.len(), "tshark: {line:?}");
        let of = |field: &str| {
            let at = FIELDS.iter().position(|name| *name == field);
            at.map_or("", |at| values[at])
        };
        for field in &FIELDS[..5] {
            // 0 Bad, 1 Good, 2 Unverified, 3 Not present.
            for status in of(field).split(',').filter(|status| !status.is_empty()) {
                assert!(
                    !matches!(status, "0" | "Bad"),
                    "frame {n} but RoCE, {field}: {line}"
                );
                if matches!(status, "1" | "Good") {
                    *good.entry((*field).to_owned()).or_default() += 1;
                }
            }
        }
        assert_eq!(of("_ws.malformed"), "", "{line}");
        let source = format!("{}{}", of("ip.src"), of("ipv6.src"));
        let expected = if source.starts_with("198.51.100.") || source.starts_with("2001:db8:7::") {
            ("7", "")
        } else if source.starts_with("203.0.113.") {
            ("9", "8")
        } else if source.starts_with("192.0.2.") || source.starts_with("2001:db8::") {
            ("", "")
        } else {
            continue;
        };
        assert_eq!((of("vlan.id"), of("ieee8021ad.id")), expected, "{line}");
        *good.entry(format!("from {source}")).or_default() += 1;
    }
    println!("tshark: {good:#?}");
    for field in &FIELDS[..5] {
        assert!(good.get(*field) > Some(&10), "{field}: {good:?}");
    }
}
