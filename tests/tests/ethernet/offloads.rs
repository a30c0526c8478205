//! Each offload and each private flag, on and off.

use std::time::Instant;

use rocinante_harness::lab::{Emulated, complaints, tools};
use rocinante_tests::guests::{PATIENCE, Pair, alone};
use rocinante_tests::net::{Ip, Net};

use super::{UDP_SEGMENT, exchange, files, lab};

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
