//! What `ethtool` says, and what it changes while files are copied.

use std::time::Instant;

use rocinante_harness::lab::Emulated;
use rocinante_tests::guests::{PATIENCE, Pair, alone, finish};
use rocinante_tests::net::{Counters, Ip, Net};

use super::{exchange, files, lab};

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
