//! NICs served on vfio-user sockets, and drivers of our own that talk through them.

use std::path::Path;
use std::time::{Duration, Instant};

use rocinante_harness::driver::fabric::mac;
use rocinante_harness::driver::vfio::Attached;
use rocinante_harness::driver::{
    Access, Completion, Connection, Data, Driver, Event, Function, GidEntry, Mtu, QpConfig,
    RoceType, SendOp, SendWr, Service, mapped_gid,
};
use rocinante_harness::serve::{NicSpec, sockets_in};

use crate::pattern;

/// Memory of a driver.
pub const MEMORY: u64 = 64 << 20;

/// Real time that anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Two NICs in `folder`.
pub fn specs(folder: &Path) -> Vec<NicSpec> {
    let sockets = sockets_in(folder, 2);
    let spec = |(node, socket)| NicSpec {
        mac: mac(node),
        ..NicSpec::new(socket)
    };
    sockets.into_iter().enumerate().map(spec).collect()
}

/// A driver with a GID, a PD and a CQ.
pub struct Node {
    /// The driver.
    pub driver: Driver<Attached>,
    /// Its PD.
    pub pd: u32,
    /// Its CQ.
    pub cqn: u32,
}

impl Node {
    /// Attaches to a NIC, as node 0 or 1.
    pub fn attach(spec: &NicSpec, node: usize) -> Node {
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

    /// A new queue pair.
    pub fn qp(&mut self) -> u32 {
        let config = QpConfig::new(Service::Rc, self.pd, self.cqn);
        self.driver.create_qp(&config).unwrap()
    }

    /// The next completion, waited for with interrupts.
    #[track_caller]
    pub fn completion(&mut self) -> Completion {
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

/// Connects two new queue pairs.
pub fn connect(nodes: &mut [Node; 2]) -> [u32; 2] {
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
pub fn transfer(nodes: &mut [Node; 2], len: usize) {
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
