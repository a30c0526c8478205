//! NICs served on vfio-user sockets, driven through them: interrupts, traffic between two NICs of one server, clients
//! that crash, the capture, and what serving costs while nothing happens.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocinante_dma::MemoryMap;
use rocinante_harness::driver::vfio::Attached;
use rocinante_harness::driver::{
    Access, Data, Driver, Error, Function, Pages, QpConfig, SendOp, SendWr, Service,
};
use rocinante_harness::serve::{NicSpec, Server, ServerConfig};
use rocinante_tests::program::program;
use rocinante_tests::served::{MEMORY, Node, PATIENCE, connect, specs, transfer};
use rocinante_wire::fault::Rules;

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

/// Faults at the ports of served NICs: what is lost is sent again, the capture says why, and the rules can be replaced.
#[test]
fn faults_on_the_way_are_made_good() {
    let folder = tempfile::tempdir().unwrap();
    let specs = specs(folder.path());
    let path = folder.path().join("link0.pcapng");
    let rules = "[[rule]]\nname = \"lose one\"\nport = \"nic0\"\nnth = 3\n\
                 match = { opcode = \"RC_WRITE_*\" }\naction = \"drop\"\n";
    let with = |rules: &str, capture: Option<&Path>| {
        Server::serve(ServerConfig {
            nics: specs.clone(),
            capture: capture.map(Path::to_path_buf),
            faults: rules.parse().unwrap(),
            ..ServerConfig::default()
        })
    };
    let server = with(rules, Some(&path)).unwrap();
    let mut nodes = [Node::attach(&specs[0], 0), Node::attach(&specs[1], 1)];
    transfer(&mut nodes, 100_000);
    let counters = server.control().rules().counters();
    assert_eq!(counters[0].hits, 1, "{counters:?}");
    assert!(counters[0].matches > 25, "{counters:?}");
    assert_eq!(server.control().status()[0].tx.rule_drops, 1);
    server.control().set_rules(Rules::default());
    transfer(&mut nodes, 100_000);
    assert!(server.control().rules().counters().is_empty());
    drop(nodes);
    server.stop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let comment = b"sent; rule 'lose one': drop";
    let shown = bytes.windows(comment.len()).filter(|part| part == comment);
    assert_eq!(shown.count(), 1);

    // A rule for a port that is not there is a mistake of the file.
    let nowhere = rules.replace("nic0", "eth7");
    let error = with(&nowhere, None)
        .err()
        .expect("no such port")
        .to_string();
    assert!(
        error.contains("line 2, column 1: 'lose one' is at no port"),
        "{error}"
    );
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
    let pages = Pages::new(map, iova, MEMORY);
    let driver = Driver::attach(function, pages).unwrap();
    let (_, pages) = driver.detach().unwrap();
    assert_eq!(pages.in_use(), 0);
}

/// A function that is lost after a number of stores, of which most are doorbells of commands.
struct Cut {
    function: Attached,
    stores: u32,
}

impl Function for Cut {
    fn load(&mut self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.function.load(offset, out)
    }

    fn store(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let Some(stores) = self.stores.checked_sub(1) else {
            return Err(Error::Device("pulled".into()));
        };
        self.stores = stores;
        self.function.store(offset, data)
    }

    fn memory(&self) -> &Arc<MemoryMap> {
        self.function.memory()
    }

    fn bus_master(&mut self, enabled: bool) -> Result<(), Error> {
        self.function.bus_master(enabled)
    }

    fn reset(&mut self) -> Result<(), Error> {
        self.function.reset()
    }

    fn interrupt(&mut self) -> Option<u16> {
        self.function.interrupt()
    }

    fn wait(&mut self) -> bool {
        self.function.wait()
    }
}

/// Attaches, makes some objects, and detaches.
fn a_short_life(function: Cut, pages: Pages) -> Result<(), Error> {
    let mut driver = Driver::attach(function, pages)?;
    let (pd, cqn) = (driver.alloc_pd()?, driver.create_cq(4)?);
    let buffer = driver.pages.alloc(10_000)?;
    let mr = driver.reg_buffer(pd, buffer, Access::ALL)?;
    let qpn = driver.create_qp(&QpConfig::new(Service::Rc, pd, cqn))?;
    driver.to_init(qpn)?;
    driver.destroy_qp(qpn)?;
    driver.dereg_mr(mr)?;
    driver.destroy_cq(cqn)?;
    driver.dealloc_pd(pd)?;
    driver.detach().map(|_| ())
}

/// Waits until NIC `n` holds nothing of its driver's any more, as after power-on.
#[track_caller]
fn wait_until_empty(server: &Server, n: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let inventory = server.inventory(n).unwrap();
        if inventory.objects.is_empty() && inventory.pages == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "still there: {inventory:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A monitor that goes in the middle of its driver's life, each time a little later, as when the device is unplugged.
#[test]
fn a_client_that_goes_at_any_point_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let specs = specs(folder.path());
    let server = Server::start(&specs, None).unwrap();
    let mut lived = None;
    for stores in 0..200 {
        let (function, pages) = Attached::connect(&specs[0].socket, 16 << 20).unwrap();
        let life = a_short_life(Cut { function, stores }, pages);
        wait_until_empty(&server, 0);
        match life {
            Ok(()) => {
                lived = Some(stores);
                break;
            }
            Err(error) => assert!(error.to_string().contains("pulled"), "{error}"),
        }
    }
    let stores = lived.expect("200 stores are enough for a life");
    assert!(stores > 20, "whole after {stores} stores");
    server.stop().unwrap();
}

/// Two NICs with much under way in both directions; some of it has arrived.
fn busy(specs: &[NicSpec]) -> [Node; 2] {
    const LEN: usize = 24 << 20;
    let mut nodes = [Node::attach(&specs[0], 0), Node::attach(&specs[1], 1)];
    let qps = connect(&mut nodes);
    let buffers = nodes.each_mut().map(|node| {
        let buffer = node.driver.pages.zeroed(LEN as u64).unwrap();
        let mr = node
            .driver
            .reg_buffer(node.pd, buffer, Access::ALL)
            .unwrap();
        (buffer, mr)
    });
    let half = LEN / 2;
    for (n, node) in nodes.iter_mut().enumerate() {
        // The lower halves are sent, the upper ones written.
        let (own, (_, peer)) = (&buffers[n], &buffers[1 - n]);
        node.driver.write(own.0.iova, &[0x5a; 4096]).unwrap();
        let op = SendOp::Write {
            va: peer.va + half as u64,
            rkey: peer.key,
        };
        let gather = [own.1.sge(0, half as u32)];
        for id in 0..4 {
            let wr = SendWr::new(id, op.clone(), Data::Sges(&gather));
            node.driver.post_send(qps[n], &wr).unwrap();
        }
    }
    let deadline = Instant::now() + PATIENCE;
    for (node, (buffer, _)) in nodes.iter().zip(&buffers) {
        let first = buffer.iova + half as u64;
        while node.driver.read(first, 1).unwrap() != [0x5a] {
            assert!(Instant::now() < deadline, "nothing arrives");
        }
    }
    nodes
}

/// Either end of a busy connection is reset, loses its memory, or is unplugged. It holds nothing afterwards, and the other end
/// goes on to serve.
#[test]
fn a_device_is_lost_in_traffic() {
    let folder = tempfile::tempdir().unwrap();
    let specs = specs(folder.path());
    let server = Server::start(&specs, None).unwrap();
    for victim in [0, 1] {
        for way in ["reset", "memory", "unplugged"] {
            println!("NIC {victim}: {way}");
            let [a, b] = busy(&specs);
            let (mut lost, other) = if victim == 0 { (a, b) } else { (b, a) };
            match way {
                "reset" => {
                    lost.driver.function.reset().unwrap();
                    // At once: who resets a device may free its memory.
                    let inventory = server.inventory(victim).unwrap();
                    assert!(inventory.objects.is_empty() && inventory.pages == 0);
                }
                "memory" => {
                    let memory = rocinante_harness::driver::vfio::MEMORY;
                    let client = lost.driver.function.client();
                    client.dma_unmap(memory, MEMORY).unwrap();
                }
                _ => {}
            }
            drop(lost);
            wait_until_empty(&server, victim);
            // Its driver is alive and well.
            let mut other = other;
            let pd = other.driver.alloc_pd().unwrap();
            other.driver.dealloc_pd(pd).unwrap();
            drop(other);
            wait_until_empty(&server, 1 - victim);
            let mut nodes = [Node::attach(&specs[0], 0), Node::attach(&specs[1], 1)];
            transfer(&mut nodes, 50_000);
        }
    }
    server.stop().unwrap();
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
