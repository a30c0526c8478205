//! Ethernet traffic between a pair of guests, each kind with a check of what arrived: files over TCP and datagrams over UDP by their
//! hash, pings by their pattern, iperf3 by its sums.

use std::collections::BTreeMap;
use std::time::Instant;

use rocinante_harness::lab::tools::{self, Stream};

use crate::guests::{ADDRESSES, PATIENCE, Pair, finish};

/// Figures by name.
pub type Counters = BTreeMap<String, u64>;

/// Which Internet protocol, with the guests' addresses on the bare interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Ip {
    /// Both.
    pub const BOTH: [Ip; 2] = [Ip::V4, Ip::V6];

    /// The address of guest `n`.
    pub fn of(self, n: usize) -> String {
        match self {
            Ip::V4 => ADDRESSES[n].to_string(),
            // Documentation prefix of RFC 3849.
            Ip::V6 => format!("2001:db8::{}", n + 1),
        }
    }
}

/// How socat writes an address of either protocol.
fn bracketed(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}

/// A pair ready for traffic: IPv6 addresses, large socket buffers, files of random bytes, an iperf3 server in each.
pub struct Net<'a> {
    /// The guests.
    pub pair: Pair<'a>,
    /// Size and hash of each guest's files.
    files: BTreeMap<(usize, String), (u32, String)>,
}

impl<'a> Net<'a> {
    /// Prepares a pair.
    pub fn new(pair: Pair<'a>) -> Self {
        for n in [0, 1] {
            let interface = &pair.ends[n].interface;
            pair.sh(
                n,
                &format!(
                    "ip address add {}/64 dev {interface} nodad
                    cd /proc/sys/net
                    for name in rmem wmem; do echo 16777216 >core/${{name}}_max; done
                    echo 0 >ipv4/icmp_echo_ignore_broadcasts
                    iperf3 --server --daemon",
                    Ip::V6.of(n)
                ),
            );
        }
        let net = Net {
            pair,
            files: BTreeMap::new(),
        };
        net.meet(&Ip::V4.of(1));
        net.meet(&Ip::V6.of(1));
        net
    }

    /// Waits until the second guest answers the first at `address`: before it is known, little can be queued for it.
    #[track_caller]
    pub fn meet(&self, address: &str) {
        let condition = format!("ping -c 1 -W 5 {address} >/dev/null");
        if let Err(error) = self.pair.guests[0].wait_until(&condition, PATIENCE) {
            panic!("{address} does not answer: {error:#}");
        }
    }

    /// Runs `command` in guest `n`; see [`Pair::sh`].
    #[track_caller]
    pub fn sh(&self, n: usize, command: &str) -> String {
        self.pair.sh(n, command)
    }

    /// Sets the MTU of both interfaces.
    #[track_caller]
    pub fn mtu(&self, mtu: u32) {
        self.pair.both(&format!("ip link set eth0 mtu {mtu}"));
    }

    /// Makes a file of random bytes in `/tmp` of guest `n`.
    #[track_caller]
    pub fn file(&mut self, n: usize, name: &str, bytes: u32) {
        let made = self.sh(
            n,
            &format!("head -c {bytes} /dev/urandom >/tmp/{name}; sha256sum </tmp/{name}"),
        );
        self.files.insert((n, name.to_owned()), (bytes, made));
    }

    /// The hash of a file of guest `n`, as `sha256sum` prints it.
    pub fn sum(&self, n: usize, name: &str) -> &str {
        &self.files[&(n, name.to_owned())].1
    }

    /// Copies file `name` of guest `from` over TCP to `to`, an address of the other guest.
    #[track_caller]
    pub fn copy(&mut self, from: usize, to: &str, name: &str) {
        self.copies(&[(from, to.to_owned())], name);
    }

    /// Copies over several connections at a time, each given by its sending guest and its destination.
    #[track_caller]
    pub fn copies(&mut self, connections: &[(usize, String)], name: &str) {
        let mut receivers = Vec::new();
        let mut senders = Vec::new();
        for (from, to) in connections {
            let port = self.pair.port();
            let kind = if to.contains(':') { "TCP6" } else { "TCP4" };
            let receiver = format!("socat -u -b 65536 {kind}-LISTEN:{port} - | sha256sum");
            receivers.push((*from, to, self.pair.spawn(1 - from, &receiver)));
            self.pair.listening(1 - from, port);
            let to = bracketed(to);
            let sender = format!("socat -u -b 65536 FILE:/tmp/{name} {kind}:{to}:{port}");
            senders.push((self.pair.spawn(*from, &sender), sender));
        }
        for (job, command) in senders {
            finish(job, &command);
        }
        for (from, to, job) in receivers {
            let got = finish(job, &format!("receiver at {to}"));
            assert_eq!(
                got,
                self.sum(from, name),
                "another file than {name} came to {to}"
            );
        }
    }

    /// Sends file `name` of guest `from` to `to` by UDP, `size` bytes a time; `options` are socat's for the sender.
    #[track_caller]
    pub fn datagrams(&mut self, from: usize, to: &str, name: &str, size: u32, options: &str) {
        let port = self.pair.port();
        let kind = if to.contains(':') { "UDP6" } else { "UDP4" };
        let got = format!("/tmp/got-{port}");
        let receiver = format!("socat -u -b 65536 {kind}-RECV:{port},rcvbuf=8000000 CREATE:{got}");
        let job = self.pair.spawn(1 - from, &receiver);
        self.bound(1 - from, port);
        let host = bracketed(to);
        self.sh(
            from,
            &format!(
                "socat -u -b {size} FILE:/tmp/{name} {kind}:{host}:{port},sndbuf=8000000{options}"
            ),
        );
        let (bytes, sum) = &self.files[&(from, name.to_owned())];
        let came = self.sh(
            1 - from,
            &format!(
                "for _ in $(seq 400); do
                    size=$(stat -c %s {got})
                    test $size = {bytes} && break
                    sleep 0.05
                done
                echo \"$size $(sha256sum <{got})\"
                rm {got}"
            ),
        );
        let _ = job.kill();
        let expected = format!("{bytes} {}", sum.trim());
        assert_eq!(
            came.trim(),
            expected,
            "{size} bytes a datagram to {to}, options {options:?}: lost or changed; {}",
            self.losses(1 - from)
        );
    }

    /// Waits until something in guest `n` has bound a UDP port.
    #[track_caller]
    pub fn bound(&self, n: usize, port: u16) {
        let bound = format!("grep -q ':{port:04X} ' /proc/net/udp /proc/net/udp6");
        if let Err(error) = self.pair.guests[n].wait_until(&bound, PATIENCE) {
            panic!("nobody waits for datagrams at {port}: {error:#}");
        }
    }

    /// Runs iperf3 from the first guest to `to`.
    #[track_caller]
    pub fn iperf3(&self, to: &str, options: &str) -> Vec<Stream> {
        let command = format!("iperf3 --json --client {to} {options}");
        let output = match self.pair.guests[0].exec(&command, PATIENCE) {
            Ok(output) => output.text,
            Err(error) => panic!("{error:#}"),
        };
        match tools::iperf3(&output) {
            Ok(streams) => streams,
            Err(error) => panic!("{command}: {error:#}"),
        }
    }

    /// A TCP test, which must bring what it has sent, but for what waits in buffers when iperf3 calls an end.
    #[track_caller]
    pub fn tcp(&self, to: &str, options: &str) {
        for stream in self.iperf3(to, options) {
            println!("TCP {to} {options}: {stream:?}");
            assert!(stream.sent > 0, "{to} {options}: {stream:?}");
            assert!(
                stream.received <= stream.sent && stream.received >= stream.sent / 4,
                "{to} {options}: {stream:?}"
            );
        }
    }

    /// A UDP test with buffers that hold all that is sent: nothing is lost, nothing overtaken.
    #[track_caller]
    pub fn udp(&self, to: &str, options: &str) {
        for stream in self.iperf3(to, &format!("--udp --window 4M {options}")) {
            println!("UDP {to} {options}: {stream:?}");
            assert!(
                stream.datagrams > 0 && stream.lost == 0 && stream.out_of_order == 0,
                "{to} {options}: {stream:?}; first guest: {}; second: {}",
                self.losses(0),
                self.losses(1)
            );
        }
    }

    /// Where guest `n` may have lost packets.
    pub fn losses(&self, n: usize) -> String {
        self.sh(
            n,
            "{ ethtool -S eth0 | grep -E 'out_of_buffer|drop|discard|_err|alloc_fail'
            nstat -az | grep -E 'Errors|Discards|ReasmFails|CsumErrors'; } |
            grep -vE '[: ]0( |$)|^[A-Za-z0-9]+ +0 ' || true",
        )
    }

    /// What `ethtool -S` counts in guest `n`.
    #[track_caller]
    pub fn counters(&self, n: usize) -> Counters {
        let text = self.sh(n, "ethtool -S eth0");
        tools::fields(&text)
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }

    /// Waits until what has been counted in guest `n` since `before` is `enough`; else tells what grew.
    pub fn grows(
        &self,
        n: usize,
        before: &Counters,
        enough: impl Fn(&Counters) -> bool,
    ) -> Result<Counters, Counters> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut grown = self.counters(n);
            for (name, count) in &mut grown {
                *count = count.saturating_sub(before.get(name).copied().unwrap_or(0));
            }
            grown.retain(|_, count| *count != 0);
            if enough(&grown) {
                return Ok(grown);
            }
            if Instant::now() >= deadline {
                return Err(grown);
            }
        }
    }

    /// No received packet had a checksum that the guests' stacks found wrong.
    #[track_caller]
    pub fn assert_checksums_were_right(&self) {
        for n in [0, 1] {
            let text = self.sh(n, "nstat -az");
            let wrong: Vec<&str> = text
                .lines()
                .filter(|line| {
                    let mut words = line.split_whitespace();
                    let counts_errors =
                        words.next().is_some_and(|name| name.contains("CsumErrors"));
                    counts_errors && words.next() != Some("0")
                })
                .collect();
            assert!(wrong.is_empty(), "guest {n}: {wrong:#?}");
            assert!(text.contains("CsumErrors"), "{text}");
            let failures = self.sh(n, "dmesg | grep 'hw csum failure' || true");
            assert_eq!(failures, "", "guest {n}");
        }
    }
}
