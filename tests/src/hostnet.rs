//! Networks of the host for ports of the switch: network namespaces, interfaces in them, and TCP and UDP from there.
//!
//! Needs root and iproute2's `ip`. Names have the process in them, so that test runs do not meet; what was made is removed
//! when its guard is dropped, also when a test fails.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::guests::PATIENCE;

/// Ends the test with one line where it cannot run.
pub fn assert_possible() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes network namespaces: it has to run as root"
    );
    let version = Command::new("ip").arg("-V").output();
    assert!(
        version.is_ok_and(|output| output.status.success()),
        "this test needs ip of iproute2 (apt-get install iproute2)"
    );
}

/// A name for an interface or a namespace that only this process has.
pub fn name(suffix: &str) -> String {
    format!("rt{}{suffix}", std::process::id())
}

/// Runs `ip` with arguments that hold no blanks.
///
/// # Errors
/// What it says.
pub fn try_ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {arguments}: {}", said.trim()))
}

/// Runs `ip`, which must succeed.
#[track_caller]
pub fn ip(arguments: &str) {
    if let Err(error) = try_ip(arguments) {
        panic!("{error}");
    }
}

/// An interface that is deleted when this is dropped, if it is still there.
pub struct Interface(pub String);

impl Drop for Interface {
    fn drop(&mut self) {
        let _ = try_ip(&format!("link delete {}", self.0));
    }
}

/// A network namespace with its interfaces, until this is dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// An empty one, whose loopback interface is up.
    #[track_caller]
    pub fn new(suffix: &str) -> Namespace {
        let namespace = Namespace { name: name(suffix) };
        // Of a process that was killed and had the same number.
        let _ = try_ip(&format!("netns delete {}", namespace.name));
        ip(&format!("netns add {}", namespace.name));
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `ip` in it.
    #[track_caller]
    pub fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name));
    }

    /// Moves an interface of the host into it, as `eth0` with an address, up.
    #[track_caller]
    pub fn adopt(&self, interface: &str, address: Ipv4Addr, mtu: u32) {
        ip(&format!(
            "link set {interface} netns {} name eth0",
            self.name
        ));
        self.ip(&format!("address add {address}/24 dev eth0"));
        self.ip(&format!("link set eth0 mtu {mtu} up"));
    }

    /// A pair of interfaces: one of the host with this name, up, and `eth0` in here.
    #[track_caller]
    pub fn cable(&self, host: &str, address: Ipv4Addr, mtu: u32) -> Interface {
        let far = format!("{host}x");
        ip(&format!("link add {host} type veth peer name {far}"));
        let interface = Interface(host.to_owned());
        ip(&format!("link set {host} mtu {mtu} up"));
        self.adopt(&far, address, mtu);
        interface
    }

    /// Runs `act` on a thread in here.
    #[track_caller]
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(&self.name);
        let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("setns");
                act()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sends all bytes over TCP.
    #[track_caller]
    pub fn send(&self, to: Ipv4Addr, port: u16, bytes: &[u8]) {
        self.inside(|| {
            let mut stream = TcpStream::connect((to, port)).expect("connect");
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(bytes).expect("write");
        });
    }

    /// Takes one TCP connection, tells when it can come, and gives all that it brings.
    #[track_caller]
    pub fn receive(&self, at: Ipv4Addr, port: u16, ready: impl FnOnce() + Send) -> Vec<u8> {
        self.inside(|| {
            let listener = TcpListener::bind((at, port)).expect("listen");
            listener.set_nonblocking(true).unwrap();
            ready();
            let mut stream = None;
            until("a connection", || {
                stream = listener.accept().ok();
                stream.is_some()
            });
            let (mut stream, _) = stream.expect("a connection");
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("read");
            bytes
        })
    }

    /// Sends a datagram until it has come back.
    #[track_caller]
    pub fn echo(&self, to: Ipv4Addr, port: u16, bytes: &[u8]) {
        self.inside(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("socket");
            socket
                .set_read_timeout(Some(Duration::from_secs(2)))
                .unwrap();
            let mut back = vec![0; 65536];
            until("an echo", || {
                // Lost while addresses are still asked for.
                let sent = socket.send_to(bytes, (to, port));
                sent.is_ok()
                    && socket
                        .recv(&mut back)
                        .is_ok_and(|len| back.get(..len) == Some(bytes))
            });
        });
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = try_ip(&format!("netns delete {}", self.name));
    }
}

/// Waits until a condition holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
