//! Reads what FreeBSD's tools and kernel print, where it differs from Linux.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};

/// A version of RoCE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// An EtherType of its own.
    V1,
    /// Over UDP.
    V2,
}

impl Version {
    /// As both kernels' GID tables and connection managers call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "IB/RoCE v1",
            Self::V2 => "RoCE v2",
        }
    }
}

/// Which lines `index gid type…` are about the IPv4-mapped GID of `address`.
pub fn gids(table: &str, address: Ipv4Addr) -> Vec<(Version, u32)> {
    let [a, b, c, d] = address.octets();
    let wanted = format!("0000:0000:0000:0000:0000:ffff:{a:02x}{b:02x}:{c:02x}{d:02x}");
    table
        .lines()
        .filter_map(|line| {
            let (index, rest) = line.trim().split_once(' ')?;
            let (gid, kind) = rest.split_once(' ')?;
            let version = match kind.trim() {
                "RoCE v2" => Version::V2,
                kind if kind.contains("v1") => Version::V1,
                _ => return None,
            };
            (gid == wanted).then_some((version, index.parse().ok()?))
        })
        .collect()
}

/// The average round trip in ms of a ping that lost nothing, by either system's ping.
pub fn ping(text: &str) -> Result<f64> {
    let summary = text
        .lines()
        .find(|line| line.contains("packet loss"))
        .context("ping printed no summary")?;
    let lost = summary
        .split(',')
        .find_map(|part| part.trim().strip_suffix("packet loss"))
        .and_then(|part| part.trim().strip_suffix('%'))
        .and_then(|percent| percent.parse::<f64>().ok())
        .with_context(|| format!("not a summary: {summary}"))?;
    if lost != 0.0 {
        bail!("{}", summary.trim());
    }
    text.lines()
        .find(|line| line.contains("min/avg/max"))
        .and_then(|line| line.split_once('='))
        .and_then(|(_, values)| values.trim().split('/').nth(1))
        .and_then(|average| average.parse().ok())
        .context("ping printed no round-trip times")
}

/// A field of `ifconfig`, such as `media` or `status`.
pub fn ifconfig<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.trim().split_once(':'))
        .find(|(name, _)| *name == field)
        .map(|(_, value)| value.trim())
}

/// The PCI device, such as `pci0:1:0:0`, in `slot=0 function=0 dbsf=pci0:1:0:0 handle=\_SB_.PCI0.S08_`.
pub fn pci_device(location: &str) -> Option<&str> {
    location
        .split_whitespace()
        .find_map(|word| word.strip_prefix("dbsf="))
}

/// What a kernel has said since it had said `before`. While either is read, the console shows what the kernel says at that moment
/// between the lines of its log; so lines are counted. A log that has become shorter is another one.
pub fn said_since(before: &str, messages: &str) -> String {
    let mut known: HashMap<&str, usize> = HashMap::new();
    for line in before.lines() {
        *known.entry(line).or_default() += 1;
    }
    if messages.lines().count() < before.lines().count() {
        known.clear();
    }
    let mut new = String::new();
    for line in messages.lines() {
        match known.get_mut(line) {
            Some(left @ 1..) => *left -= 1,
            _ => {
                new.push_str(line);
                new.push('\n');
            }
        }
    }
    new
}

/// The drivers' lines speak of these …
const SOURCES: &[&str] = &[
    "mlx5",
    "mce0",
    "mce1",
    "ib_core",
    "ibcore",
    "infiniband",
    "pcib",
    "krping: mem",
];
/// … and of these when something is wrong. mlx5_core's warnings and errors begin with `WARN:` and `ERR:`.
const WORDS: &[&str] = &[
    "WARN",
    "ERR:",
    "rror",
    "ail",
    "imeout",
    "imed out",
    "nvalid",
    "leak",
    "unsupported",
    "not supported",
    "mismatch",
];
/// Words of a kernel in trouble, whoever says them.
const ALARMS: &[&str] = &[
    "panic:",
    "Fatal trap",
    "KDB:",
    "lock order reversal",
    "Sleeping thread",
    "memory modified after free",
    "data mismatch",
];
/// What healthy adapters cause too.
const USUAL: &[&str] = &["link state changed"];

/// The lines of the kernel's messages that a healthy adapter would not cause.
pub fn complaints(messages: &str) -> Vec<&str> {
    let has = |line: &str, words: &[&str]| words.iter().any(|word| line.contains(word));
    messages
        .lines()
        .map(str::trim)
        .filter(|line| {
            // KDB says at each boot which debuggers there are.
            let alarm = has(line, ALARMS)
                && !line.starts_with("KDB: debugger backends")
                && !line.starts_with("KDB: current backend");
            alarm || has(line, SOURCES) && has(line, WORDS) && !has(line, USUAL)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_says_while_its_log_is_read_is_not_taken_for_a_new_log() {
        let before = "mlx5: a\nmce0: UP\nmlx5: b\n";
        let log = "mlx5: c\nmlx5: a\nmce0: UP\nmlx5: b\nmce0: UP\nmlx5: c\n";
        assert_eq!(said_since(before, log), "mlx5: c\nmce0: UP\nmlx5: c\n");
        assert_eq!(said_since("", before), before);
        assert_eq!(said_since(before, before), "");
        assert_eq!(said_since(before, "mlx5: a\n"), "mlx5: a\n");
    }

    #[test]
    fn pings_of_both_systems_are_read() {
        let freebsd = "PING 192.0.2.2 (192.0.2.2): 56 data bytes\n64 bytes from 192.0.2.2: icmp_seq=0 ttl=64 time=1.2 ms\n\n\
            --- 192.0.2.2 ping statistics ---\n5 packets transmitted, 5 packets received, 0.0% packet loss\n\
            round-trip min/avg/max/stddev = 0.612/0.811/1.210/0.200 ms\n";
        assert_eq!(ping(freebsd).unwrap(), 0.811);
        let linux = "5 packets transmitted, 5 received, 0% packet loss, time 812ms\nrtt min/avg/max/mdev = 0.3/0.525/1.9/0.3 ms\n";
        assert_eq!(ping(linux).unwrap(), 0.525);
        let lossy = freebsd.replace("5 packets received, 0.0%", "4 packets received, 20.0%");
        assert!(ping(&lossy).unwrap_err().to_string().contains("20.0%"));
        assert!(ping("ping: sendto: Network is down\n").is_err());
    }

    #[test]
    fn gids_of_the_address_are_found_by_version() {
        // sysctl prints each of the two on a line of its own, and the shell joins them.
        let table = "0 fe80:0000:0000:0000:0000:00ff:fe00:000a IB/RoCE v1\n1 fe80:0000:0000:0000:0000:00ff:fe00:000a RoCE v2\n\
            2 0000:0000:0000:0000:0000:ffff:c000:0201 IB/RoCE v1\n3 0000:0000:0000:0000:0000:ffff:c000:0201 RoCE v2\n\
            4 0000:0000:0000:0000:0000:0000:0000:0000\n5\n";
        let address = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(gids(table, address), [(Version::V1, 2), (Version::V2, 3)]);
        assert!(gids(table, Ipv4Addr::new(192, 0, 2, 2)).is_empty());
    }

    #[test]
    fn media_and_status_are_read() {
        let text = "mce0: flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> metric 0 mtu 9000\n\tether 02:00:00:00:00:0a\n\
            \tmedia: Ethernet 100GBase-CR4 <full-duplex,rxpause,txpause>\n\tstatus: active\n";
        assert_eq!(ifconfig(text, "status"), Some("active"));
        assert!(ifconfig(text, "media").unwrap().contains("100GBase-CR4"));
        assert_eq!(ifconfig(text, "lladdr"), None);
    }

    #[test]
    fn a_place_on_the_bus_is_read() {
        let location = "slot=0 function=0 dbsf=pci0:1:0:0 handle=\\_SB_.PCI0.S10_.S00_";
        assert_eq!(pci_device(location), Some("pci0:1:0:0"));
        assert_eq!(pci_device("slot=0 function=0"), None);
    }

    #[test]
    fn the_drivers_warnings_are_found() {
        let messages = "mlx5_core0: <mlx5_core> mem 0xfc000000-0xfdffffff at device 0.0 on pci1\nmlx5: Mellanox Core driver 3.5.2 (September 2019)\n\
            mce0: Ethernet address: 02:00:00:00:00:0a\nmce0: link state changed to DOWN\nKDB: debugger backends: ddb\nKDB: current backend: ddb\n\
            mlx5_core0: WARN: mlx5_vsc_wait_on_flag:106:(pid 0): timed out\nmlx5_core0: ERR: wait_func:967:(pid 0): ENABLE_HCA(0x104) timeout\n\
            uart0: ns8250: UART FCR is broken\nkrping: client ping data mismatch\n";
        let found = complaints(messages);
        assert_eq!(found.len(), 3, "{found:?}");
    }
}
