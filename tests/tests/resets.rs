//! A device that is reset, or loses its memory, in the middle of things; and one whose driver means it no good.

use std::sync::Arc;
use std::time::Duration;

use rocinante_device::mlx5::{Input, NicFrame};
use rocinante_dma::MemoryMap;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_harness::driver::command::input;
use rocinante_harness::driver::fabric::{LinkConfig, MEMORY, mac};
use rocinante_harness::driver::{
    Access, Connection, Data, Driver, Error, Function, GidEntry, Local, Mtu, Pages, QpConfig,
    RoceType, SendOp, SendWr, Service, SrqKind, mapped_gid, syndrome,
};
use rocinante_tests::{Payload, World, run_id};
use rocinante_wire::sim::Rng;

const MEMORY_SIZE: u64 = 64 << 20;

/// Two NICs with a long WRITE under way from 0 to 1.
struct Traffic {
    world: World,
    source: Payload,
    here: u32,
}

fn traffic() -> Traffic {
    let link = LinkConfig::default();
    let mut world = World::with(2, MEMORY_SIZE, link, RoceType::V2Ipv4);
    let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
    let [here, there] = world.pair([0, 1], configs, |to| {
        (to.timeout, to.retry_count) = (8, 2);
    });
    let source = world.pattern(0, 4 << 20, 1);
    let target = world.payload(1, 4 << 20);
    world.receive(1, there, 7, &[target.mr.sge(0, 100)]);
    let (va, rkey) = (target.mr.va, target.mr.key);
    let gather = [source.mr.sge(0, 4 << 20)];
    world.post(0, here, 1, SendOp::Write { va, rkey }, &gather);
    // Both directions: READ responses flow the other way.
    let into = [source.mr.sge(0, 2 << 20)];
    world.post(0, here, 2, SendOp::Read { va, rkey }, &into);
    for _ in 0..40 {
        let limit = world.fabric.now() + Duration::from_secs(1);
        assert!(world.fabric.step(limit));
    }
    let cqn = world.ends[0].cqn;
    assert!(
        world.node(0).poll_cq(cqn).unwrap().is_none(),
        "done too soon"
    );
    Traffic {
        world,
        source,
        here,
    }
}

/// Attaches to a node again, as the next driver does.
fn attach_again(world: &mut World, node: usize) {
    let (spare, pages) =
        rocinante_harness::driver::fabric::power_on(9, 1 << 20).expect("a spare NIC");
    let spare = Driver::attach(spare, pages).unwrap();
    let old = std::mem::replace(&mut world.fabric.nodes[node], spare);
    let function = old.abandon();
    let map = function.memory().clone();
    let driver = Driver::attach(function, Pages::new(map, MEMORY, MEMORY_SIZE)).unwrap();
    world.fabric.nodes[node] = driver;
    let driver = world.node(node);
    let entry = GidEntry {
        kind: RoceType::V2Ipv4,
        gid: mapped_gid([10, 0, 0, node as u8 + 1]),
        mac: mac(node),
        vlan: None,
    };
    driver.set_gid(0, Some(&entry)).unwrap();
    let (pd, cqn) = (driver.alloc_pd().unwrap(), driver.create_cq(8).unwrap());
    world.ends[node] = rocinante_tests::End { pd, cqn };
}

/// A connection from node 0 to node 1 works, from scratch.
fn works(world: &mut World) {
    let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
    let [here, _] = world.pair([0, 1], configs, |_| {});
    let source = world.pattern(0, 50_000, 33);
    let target = world.payload(1, 50_000);
    let (va, rkey) = (target.mr.va, target.mr.key);
    let gather = [source.mr.sge(0, 50_000)];
    world.post(0, here, 11, SendOp::Write { va, rkey }, &gather);
    assert_eq!(world.success(0).wr_id, 11);
    let sent = world.bytes(0, &source, 0, 50_000);
    assert!(world.bytes(1, &target, 0, 50_000) == sent);
}

#[test]
fn a_function_level_reset_of_the_receiver() {
    let Traffic {
        mut world, here, ..
    } = traffic();
    world.node(1).function.reset().unwrap();
    assert_eq!(world.node(1).function.nic.qps.len(), 0);
    world.failure(0, 1, syndrome::RETRY_EXC);
    world.failure(0, 2, syndrome::WR_FLUSH);
    attach_again(&mut world, 1);
    world.node(0).destroy_qp(here).unwrap();
    works(&mut world);
}

#[test]
fn a_function_level_reset_of_the_sender() {
    let Traffic { mut world, .. } = traffic();
    world.node(0).function.reset().unwrap();
    let memory = world.node(0).read(MEMORY, 1 << 20).unwrap();
    world.fabric.run_for(Duration::from_millis(100));
    // Not a byte is written after the reset, and no interrupt comes.
    assert!(memory == world.node(0).read(MEMORY, 1 << 20).unwrap());
    assert_eq!(world.node(0).function.interrupt(), None);
    attach_again(&mut world, 0);
    works(&mut world);
}

/// Without bus mastering the device touches nothing and sends nothing; with it again, work goes on.
#[test]
fn bus_mastering_is_switched_off_and_on() {
    let Traffic { mut world, .. } = traffic();
    world.node(0).function.bus_master(false).unwrap();
    // What is on the links still arrives, and answers are not taken.
    world.fabric.run_for(Duration::from_micros(10));
    let frames = world.fabric.frames;
    let memory = world.node(0).read(MEMORY, 4 << 20).unwrap();
    world.fabric.run_for(Duration::from_micros(500));
    assert!(
        world.fabric.frames <= frames + 1,
        "frames without bus mastering"
    );
    assert!(memory == world.node(0).read(MEMORY, 4 << 20).unwrap());
    let refused = world.node(0).alloc_pd();
    assert!(matches!(refused, Err(Error::Timeout(_))), "{refused:?}");
    world.node(0).function.bus_master(true).unwrap();
    assert_eq!(world.success(0).wr_id, 1);
    assert_eq!(world.success(0).wr_id, 2);
}

/// The monitor takes the memory away: the NIC goes on without it and without harm.
#[test]
fn memory_is_unmapped_under_a_transfer() {
    for node in 0..2 {
        println!("of node {node}");
        let Traffic {
            mut world,
            source,
            here,
        } = traffic();
        let map = Arc::clone(world.node(node).memory());
        world
            .node(node)
            .function
            .handle(Input::Memory(MemoryMap::empty()));
        world.fabric.run_for(Duration::from_millis(50));
        // And back again: what has failed has failed, the rest works.
        world.node(node).function.handle(Input::Memory(map));
        world.fabric.run_for(Duration::from_millis(50));
        let state = world.node(0).query_qp(here).unwrap().qpc().state();
        assert_eq!(state, 6, "the connection is lost");
        world.node(0).destroy_qp(here).unwrap();
        let cqn = world.ends[0].cqn;
        let driver = world.node(0);
        driver.destroy_cq(cqn).unwrap();
        world.ends[0].cqn = world.node(0).create_cq(6).unwrap();
        let cqn = world.node(1).create_cq(6).unwrap();
        world.ends[1].cqn = cqn;
        works(&mut world);
        world.release(0, source);
    }
}

/// A driver that gives the device nonsense: commands, work requests, doorbells and records of random content. It is
/// told so, or gets an error completion; the device lives on, and serves the next driver.
struct Hostile {
    rng: Rng,
    qps: Vec<u32>,
    cqs: Vec<u32>,
}

impl Hostile {
    fn word(&mut self) -> u32 {
        // Small numbers and those of objects more often than others.
        match self.rng.below(6) {
            0 => self.rng.next_u64() as u32,
            1 => self.rng.below(8) as u32,
            2 => 0xff_ffff,
            3 => u32::MAX - self.rng.below(3) as u32,
            _ => self.rng.below(0x200) as u32,
        }
    }

    /// A random command; mostly one that exists.
    fn command(&mut self, driver: &mut Driver<Local>) {
        const SPARED: [Opcode; 5] = [
            // These end the driver's life or take its pages.
            Opcode::TeardownHca,
            Opcode::DisableHca,
            Opcode::EnableHca,
            Opcode::ManagePages,
            Opcode::ModifyVportState,
        ];
        let opcode = Opcode::ALL[self.rng.below(Opcode::ALL.len() as u64) as usize];
        if SPARED.contains(&opcode) {
            return;
        }
        let min = opcode.command().map_or(16, |command| command.input.size);
        let len = match self.rng.below(4) {
            0 => self.rng.below(64) as usize + 16,
            1 => min + 8 * self.rng.below(64) as usize,
            _ => min,
        };
        let mut bytes = input(opcode, self.rng.below(3) as u16, len);
        for at in (8..len).step_by(4) {
            if self.rng.chance(0.3)
                && let Some(place) = bytes.get_mut(at..at + 4)
            {
                place.copy_from_slice(&self.word().to_be_bytes());
            }
        }
        let _ = driver.execute(&bytes, 16 + self.rng.below(1000) as usize);
    }

    /// A random store to the doorbells.
    fn doorbell(&mut self, driver: &mut Driver<Local>) {
        let (_, uar) = driver.uar();
        let registers = [0x20, 0x24, 0x40, 0x48, 0x800, 0x804, 0x900, 0xa08, 0xff8];
        let register = registers[self.rng.below(registers.len() as u64) as usize];
        let mut data = [0; 8];
        let (high, low) = (self.word(), self.word());
        data[..4].copy_from_slice(&high.to_be_bytes());
        let low = if self.rng.chance(0.5) {
            let n = self.rng.below(self.qps.len() as u64) as usize;
            self.qps[n] << 8
        } else {
            low
        };
        data[4..].copy_from_slice(&low.to_be_bytes());
        let len = [1, 2, 4, 8][self.rng.below(4) as usize];
        driver.function.store(uar + register, &data[..len]).unwrap();
    }

    /// Random bytes where queues, records and mailboxes are.
    fn scribble(&mut self, driver: &mut Driver<Local>, from: u64, len: u64) {
        for _ in 0..self.rng.below(40) {
            let at = from + self.rng.below(len - 8);
            let word = match self.rng.below(3) {
                0 => u64::from(self.word()).to_be_bytes(),
                _ => self.rng.next_u64().to_le_bytes(),
            };
            driver.write(at, &word).unwrap();
        }
    }
}

fn hostile(seed: u64) {
    println!("{}", run_id(seed));
    let mut world = World::lossy(seed, RoceType::V2Ipv4);
    let mut hostile = Hostile {
        rng: Rng::new(seed),
        qps: Vec::new(),
        cqs: Vec::new(),
    };
    // Node 0 is hostile; it has one of everything, connected to node 1 and to itself.
    let pd = world.ends[0].pd;
    let xrcd = world.node(0).alloc_xrcd().unwrap();
    let victim = {
        let config = world.config(1, Service::Rc);
        let driver = world.node(1);
        let qpn = driver.create_qp(&config).unwrap();
        driver.to_init(qpn).unwrap();
        qpn
    };
    for service in [
        Service::Rc,
        Service::Uc,
        Service::Ud,
        Service::Gsi,
        Service::RegUmr,
        Service::Rc,
    ] {
        let cqn = world.node(0).create_cq(4).unwrap();
        let config = QpConfig::new(service, pd, cqn);
        let qpn = world.node(0).create_qp(&config).unwrap();
        let to = if hostile.qps.is_empty() {
            world.to(1, victim)
        } else {
            world.to(0, qpn)
        };
        world.node(0).connect(qpn, &to).unwrap();
        if hostile.qps.is_empty() {
            let back = world.to(0, qpn);
            let driver = world.node(1);
            driver.to_rtr(victim, &back).unwrap();
            driver.to_rts(victim, &back).unwrap();
        }
        hostile.qps.push(qpn);
        hostile.cqs.push(cqn);
    }
    let cqn = hostile.cqs[0];
    let driver = world.node(0);
    driver
        .create_srq(SrqKind::Xrc { xrcd, cqn }, pd, 4, 2)
        .unwrap();
    driver.reg_all(pd, Access::ALL).unwrap();
    let queues = driver.pages.in_use();
    for round in 0..400 {
        let driver = world.node(0);
        match hostile.rng.below(5) {
            0 => hostile.command(driver),
            1 | 2 => hostile.doorbell(driver),
            3 => hostile.scribble(driver, MEMORY, queues),
            _ => {
                // A work request of random bytes, properly posted.
                let n = hostile.rng.below(hostile.qps.len() as u64) as usize;
                let op = SendOp::Raw {
                    opcode: hostile.rng.below(0x30) as u8,
                    len: hostile.rng.below(12) as usize * 16,
                };
                let wr = SendWr::new(round, op, Data::Sges(&[]));
                let _ = driver.post_send(hostile.qps[n], &wr);
            }
        }
        let limit = world.fabric.now() + Duration::from_millis(1);
        for _ in 0..20 {
            if !world.fabric.step(limit) {
                break;
            }
        }
        for node in 0..2 {
            while world.node(node).function.interrupt().is_some() {}
        }
    }
    // The neighbour has taken no harm, and the next driver finds a device as new.
    world.fabric.set_links(Default::default());
    attach_again(&mut world, 0);
    let driver = world.node(1);
    let cqn = driver.create_cq(8).unwrap();
    world.ends[1].cqn = cqn;
    works(&mut world);
}

#[test]
fn hostile_drivers_harm_nobody_else() {
    // Nothing that is refused is of interest here.
    for seed in 0..60 {
        hostile(0x5000 + seed);
    }
}

/// Frames of random content, and true ones with a few bytes changed.
#[test]
fn hostile_frames_harm_nobody() {
    for seed in 0..20 {
        let seed = 0x6000 + seed;
        let mut rng = Rng::new(seed);
        let mut world = World::new(2);
        let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
        let [here, _] = world.pair([0, 1], configs, |to| {
            (to.timeout, to.mtu) = (6, Mtu::M512);
        });
        let source = world.pattern(0, 32 << 10, seed);
        let target = world.payload(1, 32 << 10);
        let pool = rocinante_wire::buf::BufPool::for_frames(64);
        let op = SendOp::Write {
            va: target.mr.va,
            rkey: target.mr.key,
        };
        world.post(0, here, 1, op, &[source.mr.sge(0, 32 << 10)]);
        let mut samples: Vec<Vec<u8>> = Vec::new();
        for _ in 0..200 {
            let now = world.fabric.now();
            let local = &mut world.node(0).function;
            // Take some frames off the wire.
            if let Some(frame) = local.nic.poll_transmit(now) {
                let mut bytes = Vec::new();
                frame.to_bytes(&mut bytes).unwrap();
                samples.push(bytes);
            }
            let mut bytes = match rng.below(4) {
                0 => (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect(),
                _ => match samples.len() as u64 {
                    0 => Vec::new(),
                    n => samples[rng.below(n) as usize].clone(),
                },
            };
            for _ in 0..rng.below(6) + 1 {
                let n = bytes.len() as u64;
                if n > 0 {
                    let at = rng.below(n) as usize;
                    bytes[at] ^= 1 << rng.below(8);
                }
            }
            if rng.chance(0.2) {
                bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
            }
            let frame: NicFrame = rocinante_wire::frame::Frame::from_slice(&bytes, &pool);
            world.node(1).function.handle(Input::Frame(frame));
            let limit = world.fabric.now() + Duration::from_micros(50);
            world.fabric.step(limit);
        }
        assert_eq!(world.success(0).wr_id, 1, "{}", run_id(seed));
        let sent = world.bytes(0, &source, 0, 32 << 10);
        assert!(
            world.bytes(1, &target, 0, 32 << 10) == sent,
            "{}",
            run_id(seed)
        );
    }
}

/// Not more work than a fixed amount is done for one call, whatever a driver asks for.
#[test]
fn two_queue_pairs_of_one_nic_do_not_keep_it_for_ever() {
    let mut world = World::with(1, 32 << 20, LinkConfig::default(), RoceType::V2Ipv4);
    let config = world.config(0, Service::Rc);
    let tune = |to: &mut Connection| to.mtu = Mtu::M256;
    let [here, _] = world.pair([0, 0], [config, config], tune);
    let source = world.pattern(0, 8 << 20, 1);
    let target = world.payload(0, 8 << 20);
    let (va, rkey) = (target.mr.va, target.mr.key);
    let gather = [source.mr.sge(0, 8 << 20)];
    world.post(0, here, 1, SendOp::Write { va, rkey }, &gather);
    let now = world.fabric.now();
    let nic = &mut world.node(0).function.nic;
    assert!(nic.poll_transmit(now).is_none());
    // There is more to do, and it says so.
    assert!(nic.poll_timeout().is_some_and(|due| due <= now));
    assert_eq!(world.success(0).wr_id, 1);
}
