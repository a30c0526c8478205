//! A fabric with a protection domain and a completion queue on each node.

use std::time::Duration;

use rocinante_harness::driver::fabric::{Fabric, LinkConfig, mac};
use rocinante_harness::driver::{
    Access, Av, Buffer, Completion, Connection, Data, Driver, Event, GidEntry, Local, Mr, QpConfig,
    RoceType, SendOp, SendWr, Service, Sge, mapped_gid,
};
use rocinante_wire::sim::{Rng, SimConfig};

/// What each node has.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Protection domain.
    pub pd: u32,
    /// Completion queue.
    pub cqn: u32,
}

/// A fabric and what is on its nodes.
pub struct World {
    /// NICs and links.
    pub fabric: Fabric,
    /// By node.
    pub ends: Vec<End>,
    /// Printed by failing tests.
    pub seed: u64,
    kind: RoceType,
}

/// Bytes of a test, registered.
#[derive(Clone, Copy, Debug)]
pub struct Payload {
    /// Where they are.
    pub buffer: Buffer,
    /// The key to them.
    pub mr: Mr,
}

/// A name for a run in the messages of a failing test.
pub fn run_id(seed: u64) -> String {
    format!("seed {seed:#x}")
}

/// Entries of the CQs, log2.
const LOG_CQ: u8 = 10;

/// Virtual time that a wait may take: longer than all retries of a lossy link.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    /// `nodes` NICs over perfect links, RoCE v2 over IPv4.
    pub fn new(nodes: usize) -> World {
        World::with(nodes, 64 << 20, LinkConfig::default(), RoceType::V2Ipv4)
    }

    /// Two NICs over bad links.
    pub fn lossy(seed: u64, kind: RoceType) -> World {
        let sim = SimConfig {
            latency: Duration::from_micros(1),
            drop: 0.02,
            duplicate: 0.01,
            reorder: 0.03,
            reorder_delay: Duration::from_micros(20),
            seed,
        };
        let as_bytes = Rng::new(seed).chance(0.5);
        World::with(2, 64 << 20, LinkConfig { sim, as_bytes }, kind)
    }

    /// Any.
    pub fn with(nodes: usize, memory: u64, link: LinkConfig, kind: RoceType) -> World {
        let seed = link.sim.seed;
        let mut fabric = Fabric::new(nodes, memory, link).expect("all nodes attach");
        let ends = (0..nodes)
            .map(|node| {
                let driver = fabric.node(node);
                let entry = GidEntry {
                    kind,
                    gid: gid(kind, node),
                    mac: mac(node),
                    vlan: None,
                };
                driver.set_gid(0, Some(&entry)).expect("a GID");
                End {
                    pd: driver.alloc_pd().expect("a PD"),
                    cqn: driver.create_cq(LOG_CQ).expect("a CQ"),
                }
            })
            .collect();
        World {
            fabric,
            ends,
            seed,
            kind,
        }
    }

    /// A driver.
    pub fn node(&mut self, node: usize) -> &mut Driver<Local> {
        self.fabric.node(node)
    }

    /// GID of a node.
    pub fn gid(&self, node: usize) -> [u8; 16] {
        gid(self.kind, node)
    }

    /// An ordinary configuration of a QP on `node`.
    pub fn config(&self, node: usize, service: Service) -> QpConfig {
        let End { pd, cqn } = self.ends[node];
        QpConfig::new(service, pd, cqn)
    }

    /// The way from anywhere to a QP on `node`.
    pub fn to(&self, node: usize, qpn: u32) -> Connection {
        Connection::new(qpn, self.gid(node), mac(node))
    }

    /// The address of a datagram QP on `node`.
    pub fn av(&self, node: usize, qpn: u32, qkey: u32) -> Av {
        Av {
            qpn,
            qkey,
            sgid_index: 0,
            gid: self.gid(node),
            mac: mac(node),
            sl: 0,
            tclass: 0,
            hop_limit: 64,
            flow_label: 0,
            udp_sport: 0xc123,
        }
    }

    /// Two connected QPs of one service, on nodes `a` and `b`; `tune` sees both connections.
    pub fn pair(
        &mut self,
        [a, b]: [usize; 2],
        configs: [QpConfig; 2],
        tune: impl Fn(&mut Connection),
    ) -> [u32; 2] {
        let qps = [
            self.node(a).create_qp(&configs[0]).expect("a QP"),
            self.node(b).create_qp(&configs[1]).expect("a QP"),
        ];
        self.connect([a, b], qps, tune);
        qps
    }

    /// Connects two QPs.
    pub fn connect(&mut self, [a, b]: [usize; 2], qps: [u32; 2], tune: impl Fn(&mut Connection)) {
        // PSNs that wrap soon.
        const PSNS: [u32; 2] = [0xff_fffa, 0x12_3456];
        let mut to_b = self.to(b, qps[1]);
        (to_b.send_psn, to_b.receive_psn) = (PSNS[0], PSNS[1]);
        let mut to_a = self.to(a, qps[0]);
        (to_a.send_psn, to_a.receive_psn) = (PSNS[1], PSNS[0]);
        tune(&mut to_b);
        tune(&mut to_a);
        self.node(a).connect(qps[0], &to_b).expect("connected");
        self.node(b).connect(qps[1], &to_a).expect("connected");
    }

    /// RC QPs on nodes 0 and 1 with all defaults.
    pub fn rc(&mut self) -> [u32; 2] {
        let configs = [self.config(0, Service::Rc), self.config(1, Service::Rc)];
        self.pair([0, 1], configs, |_| {})
    }

    /// `len` bytes on a node with all rights.
    pub fn payload(&mut self, node: usize, len: u64) -> Payload {
        let pd = self.ends[node].pd;
        let driver = self.node(node);
        let buffer = driver.pages.zeroed(len).expect("memory");
        let mr = driver
            .reg_buffer(pd, buffer, Access::ALL)
            .expect("registered");
        Payload { buffer, mr }
    }

    /// `len` bytes on a node, filled with a pattern that `salt` selects.
    pub fn pattern(&mut self, node: usize, len: u64, salt: u64) -> Payload {
        let payload = self.payload(node, len);
        self.node(node)
            .write(payload.buffer.iova, &pattern(salt, len as usize))
            .expect("memory");
        payload
    }

    /// Gives payload back.
    pub fn release(&mut self, node: usize, payload: Payload) {
        let driver = self.node(node);
        driver.dereg_mr(payload.mr).expect("the key was there");
        driver.pages.release(payload.buffer);
    }

    /// `len` bytes of a payload from `offset` on.
    pub fn bytes(&mut self, node: usize, payload: &Payload, offset: u64, len: usize) -> Vec<u8> {
        self.node(node)
            .read(payload.buffer.iova + offset, len)
            .expect("memory")
    }

    /// Posts a signaled work request with a gather list.
    #[track_caller]
    pub fn post(&mut self, node: usize, qpn: u32, wr_id: u64, op: SendOp<'_>, sges: &[Sge]) {
        let wr = SendWr::new(wr_id, op, Data::Sges(sges));
        self.node(node).post_send(qpn, &wr).expect("posted");
    }

    /// Posts a receive.
    #[track_caller]
    pub fn receive(&mut self, node: usize, qpn: u32, wr_id: u64, sges: &[Sge]) {
        self.node(node)
            .post_receive(qpn, wr_id, sges)
            .expect("posted");
    }

    /// The next completion on a node, which has to come in time.
    #[track_caller]
    pub fn completion(&mut self, node: usize) -> Completion {
        let cqn = self.ends[node].cqn;
        self.completion_on(node, cqn)
    }

    /// The next completion on a CQ, which has to come in time.
    #[track_caller]
    pub fn completion_on(&mut self, node: usize, cqn: u32) -> Completion {
        let mut found = None;
        self.fabric.run_until(PATIENCE, |fabric| {
            found = fabric.node(node).poll_cq(cqn).expect("a CQ");
            found.is_some()
        });
        match found {
            Some(completion) => completion,
            None => panic!(
                "{}: no completion on node {node} at {:?}, next {:?}",
                run_id(self.seed),
                self.fabric.now(),
                self.fabric.next()
            ),
        }
    }

    /// The next completion, which has to be a success.
    #[track_caller]
    pub fn success(&mut self, node: usize) -> Completion {
        let completion = self.completion(node);
        assert!(
            completion.is_ok(),
            "{}: node {node}: {completion:x?}",
            run_id(self.seed)
        );
        completion
    }

    /// The next completion, which has to be this error of this work request.
    #[track_caller]
    pub fn failure(&mut self, node: usize, wr_id: u64, syndrome: u8) -> Completion {
        let completion = self.completion(node);
        assert_eq!(
            (completion.wr_id, completion.syndrome),
            (wr_id, syndrome),
            "{}: node {node}: {completion:x?}",
            run_id(self.seed)
        );
        completion
    }

    /// Lets everything come to rest; then there must be no completion on a node.
    #[track_caller]
    pub fn no_completion(&mut self, node: usize) {
        self.fabric.run_for(Duration::from_millis(50));
        let cqn = self.ends[node].cqn;
        let completion = self.node(node).poll_cq(cqn).expect("a CQ");
        assert!(
            completion.is_none(),
            "{}: node {node}: {completion:x?}",
            run_id(self.seed)
        );
    }

    /// The events of a node so far.
    pub fn events(&mut self, node: usize) -> Vec<Event> {
        let driver = self.node(node);
        std::iter::from_fn(|| driver.poll_event().expect("EQs")).collect()
    }
}

/// GID of a node for addresses of a kind.
pub fn gid(kind: RoceType, node: usize) -> [u8; 16] {
    let last = node as u8 + 1;
    match kind {
        RoceType::V2Ipv4 => mapped_gid([10, 0, 0, last]),
        RoceType::V2Ipv6 => [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last],
        RoceType::V1 => [
            0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, last,
        ],
    }
}

/// Bytes that differ at every position, by page and by salt.
pub fn pattern(salt: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(salt);
    let mut bytes = vec![0; len];
    for chunk in bytes.chunks_mut(8) {
        let word = rng.next_u64().to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    bytes
}
