//! What the frames look like on the cable, to tshark and to the ICRC.

use std::collections::BTreeMap;
use std::path::Path;

use rocinante_harness::lab::demo::Fabric;
use rocinante_harness::lab::{Emulated, LabConfig, Progress};
use rocinante_tests::capture;
use rocinante_tests::guests::{Pair, alone};
use rocinante_tests::net::{Ip, Net};

use super::{UDP_SEGMENT, add_stacked_vlan, add_vlan, lab};

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
