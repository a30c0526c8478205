//! Packets of all sizes, streams, files, and the channels that they come by.

use std::collections::BTreeSet;
use std::time::Instant;

use rocinante_harness::lab::Emulated;
use rocinante_tests::guests::{ADDRESSES, Pair, alone};
use rocinante_tests::net::{Counters, Ip, Net};

use super::lab;

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

/// Pings of all sizes and patterns, in a flood, and to groups. ping waits for the last answer no longer than its interval or two
/// round trips, so the interval has to be longer than what keeps a processor from a guest for a moment.
fn pings(net: &Net<'_>) {
    let sizes = SIZES.map(|size| size.to_string()).join(" ");
    for (ip, pattern) in [(Ip::V4, "00ff"), (Ip::V6, "a50f3c96")] {
        let to = ip.of(1);
        let text = net.sh(
            0,
            &format!(
                "for size in {sizes}; do
                    ping -c 3 -i 0.2 -W 20 -p {pattern} -s $size {to} || exit 1
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
