//! What the NICs, their cables and the switch allocate while frames pass: nothing, once they have seen as many at a time
//! as come later. Frames take the way that they take through engines, in one thread.

mod ethernet;

use std::sync::Arc;

use allocation_counter::measure;
use rocinante_device::mlx5::GuestPayload;
use rocinante_harness::driver::fabric::{mac, power_on};
use rocinante_harness::driver::{
    Access, Av, Connection, Data, Driver, GidEntry, Local, Mr, Mtu, QpConfig, RoceType, SendOp,
    SendWr, Service, mapped_gid,
};
use rocinante_wire::cable::{Cable, Control};
use rocinante_wire::switch::{PortHandle, Switch};
use rocinante_wire::time::Time;

const MEMORY: u64 = 64 << 20;

/// Messages under way.
const WINDOW: u64 = 16;

/// Rounds before anything is counted: buffers grow to what is needed, doorbells and timers have been seen.
const WARM_UP: usize = 8;

/// Rounds that are counted.
const ROUNDS: usize = 8;

/// What is between two NICs.
struct Link {
    ports: [PortHandle<GuestPayload>; 2],
    cables: [Cable<GuestPayload>; 2],
    now: Time,
}

impl Link {
    fn new() -> Link {
        let switch = Switch::new();
        let control = Control::new();
        let name = |n| format!("nic{n}");
        Link {
            ports: [0, 1].map(|n| switch.add_port(&name(n), Arc::new(|| {}))),
            cables: [0, 1].map(|n| Cable::new(&control, "link0", &name(n), Arc::new(|| {}))),
            now: Time::ZERO,
        }
    }

    /// Carries frames until there are none; how many.
    fn carry(&mut self, ends: &mut [Driver<Local>; 2]) -> usize {
        self.now += std::time::Duration::from_micros(1);
        let (now, mut frames) = (self.now, 0);
        loop {
            let before = frames;
            for (n, end) in ends.iter_mut().enumerate() {
                let (nic, cable) = (&mut end.function.nic, &mut self.cables[n]);
                end.function.now = now;
                while let Some(frame) = nic.poll_transmit(now) {
                    frames += 1;
                    if let Some(frame) = cable.transmit(now, frame, nic) {
                        self.ports[n].send(frame);
                    }
                }
            }
            for (n, end) in ends.iter_mut().enumerate() {
                let (nic, cable) = (&mut end.function.nic, &mut self.cables[n]);
                while let Some(frame) = self.ports[n].recv() {
                    if let Some(frame) = cable.receive(now, frame, nic) {
                        nic.receive(now, &frame);
                    }
                }
                while nic.poll_interrupt().is_some() {}
            }
            if frames == before {
                return frames;
            }
        }
    }
}

/// Runs rounds of traffic: `post` puts work before the first NIC and tells it, `reap` takes what came of it. What
/// doorbells and frames allocate is counted and has to be nothing.
fn allocates_nothing(
    what: &str,
    ends: &mut [Driver<Local>; 2],
    mut prepare: impl FnMut(&mut [Driver<Local>; 2]),
    mut ring: impl FnMut(&mut [Driver<Local>; 2]),
    mut reap: impl FnMut(&mut [Driver<Local>; 2]),
) {
    let mut link = Link::new();
    let (mut allocations, mut frames) = (0, 0);
    for round in 0..WARM_UP + ROUNDS {
        prepare(ends);
        let mut carried = 0;
        let counted = measure(|| {
            ring(ends);
            carried = link.carry(ends);
        });
        reap(ends);
        assert!(carried > 0, "{what}: no frame in round {round}");
        if round >= WARM_UP {
            allocations += counted.count_total;
            frames += carried;
        }
    }
    println!("{what}: {allocations} allocations with {frames} frames");
    assert_eq!(allocations, 0, "{what}: {frames} frames");
}

/// Two NICs with a queue pair each.
struct Pair {
    ends: [Driver<Local>; 2],
    cqns: [u32; 2],
    qpns: [u32; 2],
    mrs: [Mr; 2],
}

impl Pair {
    fn new(service: Service, mtu: Mtu) -> Pair {
        let mut ends = [0, 1].map(|node| {
            let (local, pages) = power_on(node, MEMORY).unwrap();
            Driver::attach(local, pages).unwrap()
        });
        let mut made = Vec::new();
        for (node, end) in ends.iter_mut().enumerate() {
            let entry = GidEntry {
                kind: RoceType::V2Ipv4,
                gid: gid(node),
                mac: mac(node),
                vlan: None,
            };
            end.set_gid(0, Some(&entry)).unwrap();
            let pd = end.alloc_pd().unwrap();
            let cqn = end.create_cq(10).unwrap();
            let buffer = end.pages.alloc(WINDOW << 16).unwrap();
            let mr = end.reg_buffer(pd, buffer, Access::ALL).unwrap();
            let config = QpConfig {
                qkey: QKEY,
                ..QpConfig::new(service, pd, cqn)
            };
            made.push((cqn, end.create_qp(&config).unwrap(), mr));
        }
        let [(cq0, qp0, mr0), (cq1, qp1, mr1)] = made[..] else {
            unreachable!("two ends")
        };
        for (node, end) in ends.iter_mut().enumerate() {
            let (own, peer) = if node == 0 { (qp0, qp1) } else { (qp1, qp0) };
            if service == Service::Ud {
                end.activate(own, mtu).unwrap();
            } else {
                let mut to = Connection::new(peer, gid(1 - node), mac(1 - node));
                to.mtu = mtu;
                end.connect(own, &to).unwrap();
            }
        }
        Pair {
            ends,
            cqns: [cq0, cq1],
            qpns: [qp0, qp1],
            mrs: [mr0, mr1],
        }
    }

    /// Windows of messages of `size` bytes.
    fn run(
        &mut self,
        what: &str,
        size: u64,
        op: impl Fn(u64, Mr) -> SendOp<'static>,
        receives: bool,
    ) {
        let (cqns, qpns, [source, target]) = (self.cqns, self.qpns, self.mrs);
        allocates_nothing(
            what,
            &mut self.ends,
            |ends| {
                for n in 0..WINDOW {
                    if receives {
                        // Room for the header that datagrams come with.
                        let len = size as u32 + 40;
                        let sge = target.sge(0, len);
                        ends[1].post_receive(qpns[1], n, &[sge]).unwrap();
                    }
                    let sges = [source.sge(n * size, size as u32)];
                    let wr = SendWr::new(n, op(n * size, target), Data::Sges(&sges));
                    ends[0].stage_send(qpns[0], &wr).unwrap();
                }
            },
            |ends| ends[0].ring(qpns[0]).unwrap(),
            |ends| {
                for (node, end) in ends.iter_mut().enumerate() {
                    let mut done = 0;
                    while let Some(completion) = end.poll_cq(cqns[node]).unwrap() {
                        assert!(completion.is_ok(), "{what}: {completion:x?}");
                        done += 1;
                    }
                    let expected = if node == 0 || receives { WINDOW } else { 0 };
                    assert_eq!(done, expected, "{what}, node {node}");
                }
            },
        );
    }
}

const QKEY: u32 = 0x1234;

fn gid(node: usize) -> [u8; 16] {
    mapped_gid([10, 0, 0, node as u8 + 1])
}

fn write(at: u64, target: Mr) -> SendOp<'static> {
    SendOp::Write {
        va: target.va + at,
        rkey: target.key,
    }
}

#[test]
fn connections() {
    for (mtu, size) in [
        (Mtu::M4096, 8),
        (Mtu::M4096, 300),
        (Mtu::M4096, 60_000),
        (Mtu::M1024, 60_000),
    ] {
        for service in [Service::Rc, Service::Uc] {
            let mut pair = Pair::new(service, mtu);
            let name = |op| format!("{service:?} {op}, {size} bytes, MTU {}", mtu.bytes());
            pair.run(&name("WRITE"), size, write, false);
            pair.run(&name("SEND"), size, |_, _| SendOp::Send, true);
            if service == Service::Rc {
                let read = |at, target: Mr| SendOp::Read {
                    va: target.va + at,
                    rkey: target.key,
                };
                pair.run(&name("READ"), size, read, false);
            }
        }
    }
}

#[test]
fn datagrams() {
    for size in [8, 2000] {
        let mut pair = Pair::new(Service::Ud, Mtu::M4096);
        let av: &'static Av = Box::leak(Box::new(Av {
            qpn: pair.qpns[1],
            qkey: QKEY,
            sgid_index: 0,
            gid: gid(1),
            mac: mac(1),
            sl: 0,
            tclass: 0,
            hop_limit: 64,
            flow_label: 0,
            udp_sport: 0xc000,
        }));
        let op = |_, _| SendOp::Datagram { av, imm: None };
        pair.run(&format!("UD, {size} bytes"), size, op, true);
    }
}
