//! NICs served on vfio-user sockets, driven through them: interrupts, traffic between two NICs of one server, clients
//! that crash, the capture, and what serving costs while nothing happens.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rocinante_harness::driver::fabric::mac;
use rocinante_harness::driver::vfio::Attached;
use rocinante_harness::driver::{
    Access, Completion, Connection, Data, Driver, Event, Function, GidEntry, Mtu, QpConfig,
    RoceType, SendOp, SendWr, Service, mapped_gid,
};
use rocinante_harness::serve::{NicSpec, Server, sockets_in};
use rocinante_tests::pattern;

const MEMORY: u64 = 64 << 20;

/// Real time that anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn specs(folder: &Path) -> Vec<NicSpec> {
    let sockets = sockets_in(folder, 2);
    let spec = |(node, socket)| NicSpec {
        mac: mac(node),
        ..NicSpec::new(socket)
    };
    sockets.into_iter().enumerate().map(spec).collect()
}

/// A driver with a GID, a PD and a CQ.
struct Node {
    driver: Driver<Attached>,
    pd: u32,
    cqn: u32,
}

impl Node {
    fn attach(spec: &NicSpec, node: usize) -> Node {
        let (function, pages) = Attached::connect(&spec.socket, MEMORY).unwrap();
        let mut driver = Driver::attach(function, pages).unwrap();
        assert_eq!(driver.mac().unwrap(), mac(node));
        let entry = GidEntry {
            kind: RoceType::V2Ipv4,
            gid: mapped_gid([10, 0, 0, node as u8 + 1]),
            mac: mac(node),
            vlan: None,
        };
        driver.set_gid(0, Some(&entry)).unwrap();
        let (pd, cqn) = (driver.alloc_pd().unwrap(), driver.create_cq(8).unwrap());
        Node { driver, pd, cqn }
    }

    fn qp(&mut self) -> u32 {
        let config = QpConfig::new(Service::Rc, self.pd, self.cqn);
        self.driver.create_qp(&config).unwrap()
    }

    /// The next completion, waited for with interrupts.
    #[track_caller]
    fn completion(&mut self) -> Completion {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(completion) = self.driver.poll_cq(self.cqn).unwrap() {
                assert!(completion.is_ok(), "{completion:x?}");
                return completion;
            }
            self.driver.arm_cq(self.cqn, false).unwrap();
            while self.driver.interrupt_event().unwrap() != Some(Event::Completion(self.cqn)) {
                assert!(Instant::now() < deadline, "no completion event came");
                self.driver.function.wait();
            }
        }
    }
}

fn connect(nodes: &mut [Node; 2]) -> [u32; 2] {
    let qps = [nodes[0].qp(), nodes[1].qp()];
    for (node, own) in nodes.iter_mut().enumerate() {
        let peer = 1 - node;
        let gid = mapped_gid([10, 0, 0, peer as u8 + 1]);
        let mut to = Connection::new(qps[peer], gid, mac(peer));
        to.mtu = Mtu::M4096;
        own.driver.connect(qps[node], &to).unwrap();
    }
    qps
}

/// A WRITE with immediate data of `len` bytes from 0 to 1, compared byte by byte.
fn transfer(nodes: &mut [Node; 2], len: usize) {
    let [here, there] = connect(nodes);
    let [a, b] = nodes;
    let from = a.driver.pages.alloc(len as u64).unwrap();
    let sent = pattern(7, len);
    a.driver.write(from.iova, &sent).unwrap();
    let source = a.driver.reg_buffer(a.pd, from, Access::READ).unwrap();
    let into = b.driver.pages.zeroed(len as u64).unwrap();
    let target = b.driver.reg_buffer(b.pd, into, Access::ALL).unwrap();
    b.driver.post_receive(there, 5, &[]).unwrap();
    let op = SendOp::WriteImm {
        va: target.va,
        rkey: target.key,
        imm: 0xabcd,
    };
    let gather = [source.sge(0, len as u32)];
    let wr = SendWr::new(6, op, Data::Sges(&gather));
    a.driver.post_send(here, &wr).unwrap();
    assert_eq!(a.completion().wr_id, 6);
    let received = b.completion();
    assert_eq!((received.wr_id, received.imm), (5, 0xabcd));
    assert!(b.driver.read(into.iova, len).unwrap() == sent);
    for (node, qpn, mr, buffer) in [(a, here, source, from), (b, there, target, into)] {
        node.driver.destroy_qp(qpn).unwrap();
        node.driver.dereg_mr(mr).unwrap();
        node.driver.pages.release(buffer);
    }
}

#[test]
fn two_nics_of_one_server_talk() {
    let folder = tempfile::tempdir().unwrap();
    let specs = specs(folder.path());
    let server = Server::start(&specs, None).unwrap();
    let mut nodes = [Node::attach(&specs[0], 0), Node::attach(&specs[1], 1)];
    for len in [1, 4096, 1_000_000] {
        transfer(&mut nodes, len);
    }
    for mut node in nodes {
        node.driver.destroy_cq(node.cqn).unwrap();
        node.driver.dealloc_pd(node.pd).unwrap();
        let (_, pages) = node.driver.detach().unwrap();
        assert_eq!(pages.in_use(), 0);
    }
    server.stop().unwrap();
    assert!(specs.iter().all(|spec| !spec.socket.exists()));
}

/// A client that goes without a word: the next one finds a device as new, and the peer only loses its connection.
#[test]
fn the_next_client_finds_a_clean_device() {
    let folder = tempfile::tempdir().unwrap();
    let specs = specs(folder.path());
    let server = Server::start(&specs, None).unwrap();
    let mut peer = Node::attach(&specs[1], 1);
    for round in 0..4 {
        let crashing = Node::attach(&specs[0], 0);
        let mut nodes = [crashing, peer];
        transfer(&mut nodes, 10_000 + round);
        let [here, _] = connect(&mut nodes);
        let [mut crashing, survivor] = nodes;
        peer = survivor;
        // In the middle of something.
        let wr = SendWr::new(1, SendOp::Send, Data::Inline(b"left behind"));
        crashing.driver.post_send(here, &wr).unwrap();
        drop(crashing);
    }
    let mut nodes = [Node::attach(&specs[0], 0), peer];
    transfer(&mut nodes, 100_000);
    drop(nodes);
    server.stop().unwrap();
}

/// Device reset over the socket, then the same client attaches again.
#[test]
fn a_reset_over_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let specs = specs(folder.path());
    let _server = Server::start(&specs, None).unwrap();
    let node = Node::attach(&specs[0], 0);
    let mut function = node.driver.abandon();
    function.reset().unwrap();
    let map = function.memory().clone();
    let iova = rocinante_harness::driver::vfio::MEMORY;
    let pages = rocinante_harness::driver::Pages::new(map, iova, MEMORY);
    let driver = Driver::attach(function, pages).unwrap();
    let (_, pages) = driver.detach().unwrap();
    assert_eq!(pages.in_use(), 0);
}

/// Every block of the capture is whole, and the RoCE packets are in it.
#[test]
fn the_capture_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let specs = specs(folder.path());
    let path = folder.path().join("link0.pcapng");
    let server = Server::start(&specs, Some(&path)).unwrap();
    let mut nodes = [Node::attach(&specs[0], 0), Node::attach(&specs[1], 1)];
    transfer(&mut nodes, 20_000);
    drop(nodes);
    server.stop().unwrap();

    let bytes = fs::read(&path).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, mut writes, mut acks) = (0, 0, 0);
    assert_eq!((word(0), word(8)), (0x0a0d_0d0a, 0x1a2b_3c4d));
    while at < bytes.len() {
        let len = word(at + 4) as usize;
        assert!(
            len >= 12 && len.is_multiple_of(4),
            "block of {len} bytes at {at}"
        );
        assert_eq!(word(at + len - 4) as usize, len, "block at {at}");
        // Enhanced packet blocks: the packet from 28 on.
        if word(at) == 6 {
            let packet = &bytes[at + 28..at + 28 + word(at + 20) as usize];
            let udp_port = u16::from_be_bytes([packet[36], packet[37]]);
            if packet[12..14] == [8, 0] && udp_port == 4791 {
                match packet[42] {
                    0x06..=0x09 => writes += 1,
                    0x11 => acks += 1,
                    other => panic!("opcode {other:#x}"),
                }
            }
        }
        at += len;
    }
    // 20000 bytes in packets of 4096.
    assert_eq!(writes, 5);
    assert!(acks >= 1);
}

/// User and system time that a process has used, in clock ticks, and its resident set in KiB.
fn usage(pid: u32) -> (u64, u64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks = |index: usize| fields[index].parse::<u64>().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap();
    // utime and stime are fields 14 and 15 of the line; the state is field 3.
    (ticks(11) + ticks(12), rss.parse().unwrap())
}

/// `rocinante serve` with nothing to do: soon there, small, quiet, and gone without a trace.
#[test]
fn an_idle_server_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let specs = specs(folder.path());
    let mut command = Command::new(program());
    command.arg("serve").stdout(Stdio::piped());
    for spec in &specs {
        let socket = spec.socket.display();
        command
            .arg("--nic")
            .arg(format!("socket={socket},mac={}", spec.mac));
    }
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.find(|line| line.as_ref().is_ok_and(|line| line == "ready"));
    let took = start.elapsed();
    assert!(ready.is_some(), "it never said ready");
    assert!(took < Duration::from_secs(1), "ready after {took:?}");
    // With drivers attached and idle, as in guests that do nothing.
    let nodes = [Node::attach(&specs[0], 0), Node::attach(&specs[1], 1)];
    let before = usage(child.id());
    std::thread::sleep(Duration::from_secs(1));
    let after = usage(child.id());
    println!(
        "{took:?} until ready, {} ticks in a second, {} KiB",
        after.0 - before.0,
        after.1
    );
    assert!(after.1 < 64 << 10, "{} KiB resident", after.1);
    assert!(
        after.0 - before.0 <= 2,
        "{} ticks of 10 ms in a second",
        after.0 - before.0
    );
    drop(nodes);

    let pid = child.id().to_string();
    let killed = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(killed.success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(specs.iter().all(|spec| !spec.socket.exists()));
}

/// The program, built if this test was built without it.
fn program() -> std::path::PathBuf {
    // target/PROFILE/deps/sockets-HASH
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().and_then(Path::parent).unwrap();
    let program = folder.join("rocinante");
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "build",
        "--quiet",
        "--package",
        "rocinante-harness",
        "--bin",
        "rocinante",
    ]);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success());
    assert!(program.exists(), "{}", program.display());
    program
}
