//! The adapter as a network card: unmodified Linux guests ping, stream, copy files, and change whatever `ethtool` can change.

mod ethtool;
mod filters;
mod offloads;
mod streams;
mod wire;

use rocinante_harness::lab::Lab;
use rocinante_tests::net::{Ip, Net};

/// socat's option to set UDP_SEGMENT (SOL_UDP is 17, the option 103) to 1400: the socket's datagrams are cut so.
const UDP_SEGMENT: &str = ",setsockopt=17:103:i1400";

fn lab(name: &str) -> Lab {
    rocinante_tests::guests::lab(env!("CARGO_TARGET_TMPDIR"), name)
}

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
