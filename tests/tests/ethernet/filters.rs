//! VLANs, and which frames the receive filters let in.

use std::time::Instant;

use rocinante_harness::lab::Emulated;
use rocinante_tests::guests::{PATIENCE, Pair, alone};
use rocinante_tests::net::Net;

use super::{add_stacked_vlan, add_vlan, files, lab};

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
