//! What goes wrong ends as the standard says: with the right status on the right side, once, and with everything that
//! was posted flushed.

use std::time::Duration;

use rocinante_harness::driver::fabric::{LinkConfig, mac};
use rocinante_harness::driver::{
    Access, Connection, Data, Event, Mr, QpConfig, RoceType, SendOp, SendWr, Service, Sge, SrqKind,
    Umr, UmrPages, syndrome,
};
use rocinante_tests::{Payload, World};
use rocinante_wire::sim::SimConfig;

/// Event types.
const WQ_CATAS: u8 = 0x05;
const WQ_INVAL_REQ: u8 = 0x10;
const WQ_ACCESS: u8 = 0x11;
const SRQ_LAST_WQE: u8 = 0x13;
const COMM_EST: u8 = 0x02;

/// QP states in the context.
const RTS: u8 = 3;
const SQER: u8 = 4;
const ERR: u8 = 6;

/// Two connected QPs, and payload on both sides.
struct Scene {
    world: World,
    here: u32,
    there: u32,
    source: Payload,
    target: Payload,
}

impl Scene {
    fn new() -> Scene {
        Scene::tuned(|_| {})
    }

    fn tuned(tune: impl Fn(&mut Connection)) -> Scene {
        let mut world = World::new(2);
        let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
        let [here, there] = world.pair([0, 1], configs, |to| {
            to.timeout = 8;
            tune(to);
        });
        let source = world.pattern(0, 16 << 10, 1);
        let target = world.payload(1, 16 << 10);
        Scene {
            world,
            here,
            there,
            source,
            target,
        }
    }

    fn state(&mut self, node: usize) -> u8 {
        let qpn = [self.here, self.there][node];
        self.world.node(node).query_qp(qpn).unwrap().qpc().state()
    }

    /// Posts `op` with `sges`, a second work request behind it, and a receive on both sides; the first fails as said
    /// and everything else of this side is flushed.
    #[track_caller]
    fn fails(&mut self, op: SendOp<'_>, sges: &[Sge], wanted: u8) {
        let (here, there) = (self.here, self.there);
        self.world
            .receive(0, here, 90, &[self.source.mr.sge(0, 64)]);
        if matches!(op, SendOp::Write { .. } | SendOp::Read { .. }) {
            self.world
                .receive(1, there, 91, &[self.target.mr.sge(0, 64)]);
        }
        let driver = self.world.node(0);
        driver
            .stage_send(here, &SendWr::new(1, op, Data::Sges(sges)))
            .unwrap();
        // Unsignaled, and flushed all the same.
        let quiet = SendWr {
            signaled: false,
            ..SendWr::new(2, SendOp::Send, Data::Inline(b"behind"))
        };
        driver.stage_send(here, &quiet).unwrap();
        driver.ring(here).unwrap();
        self.world.failure(0, 1, wanted);
        self.world.failure(0, 2, syndrome::WR_FLUSH);
        let flushed = self.world.failure(0, 90, syndrome::WR_FLUSH);
        assert!(!flushed.send);
        assert_eq!(self.state(0), ERR);
        // What is posted to a QP in error is flushed at once.
        self.world.post(0, here, 3, SendOp::Send, &[]);
        self.world.failure(0, 3, syndrome::WR_FLUSH);
        self.world.no_completion(0);
    }

    /// The peer has failed too, with this event, and flushed its receive.
    #[track_caller]
    fn peer_failed(&mut self, event: u8) {
        self.world.failure(1, 91, syndrome::WR_FLUSH);
        assert_eq!(self.state(1), ERR);
        let there = self.there;
        let events = self.world.events(1);
        assert!(events.contains(&Event::Queue(event, there)), "{events:x?}");
    }

    /// Nothing has happened to the peer.
    #[track_caller]
    fn peer_is_well(&mut self) {
        assert_eq!(self.state(1), RTS);
        self.world.no_completion(1);
    }

    fn write(&self) -> SendOp<'static> {
        let Mr { va, key, .. } = self.target.mr;
        SendOp::Write { va, rkey: key }
    }
}

#[test]
fn wrong_local_keys_are_protection_errors_of_this_side() {
    let other_variant = |mr: Mr| Mr {
        key: mr.key ^ 1,
        ..mr
    };
    let mut scene = Scene::new();
    let gather = [other_variant(scene.source.mr).sge(0, 100)];
    scene.fails(scene.write(), &gather, syndrome::LOCAL_PROT);
    scene.peer_is_well();

    // Beyond the region by one byte.
    let mut scene = Scene::new();
    let gather = [scene.source.mr.sge((16 << 10) - 99, 100)];
    scene.fails(scene.write(), &gather, syndrome::LOCAL_PROT);
    scene.peer_is_well();

    // Before it.
    let mut scene = Scene::new();
    let before = Sge {
        addr: scene.source.mr.va - 1,
        len: 1,
        lkey: scene.source.mr.key,
    };
    scene.fails(SendOp::Send, &[before], syndrome::LOCAL_PROT);
    scene.peer_is_well();

    // A key that does not allow to write, for what is read.
    let mut scene = Scene::new();
    let pd = scene.world.ends[0].pd;
    let buffer = scene.source.buffer;
    let read_only = scene.world.node(0).reg_buffer(pd, buffer, Access::READ);
    let into = [read_only.unwrap().sge(0, 100)];
    let (va, rkey) = (scene.target.mr.va, scene.target.mr.key);
    scene.fails(SendOp::Read { va, rkey }, &into, syndrome::LOCAL_PROT);

    // Another protection domain's.
    let mut scene = Scene::new();
    let driver = scene.world.node(0);
    let other = driver.alloc_pd().unwrap();
    let foreign = driver.reg_buffer(other, buffer, Access::ALL).unwrap();
    let gather = [scene.source.mr.sge(0, 10), foreign.sge(0, 100)];
    scene.fails(scene.write(), &gather, syndrome::LOCAL_PROT);
    scene.peer_is_well();

    // The reserved lkey, for a QP that may not use it.
    let mut scene = Scene::new();
    let reserved = Sge {
        addr: scene.source.buffer.iova,
        len: 10,
        lkey: 0x500,
    };
    scene.fails(scene.write(), &[reserved], syndrome::LOCAL_PROT);
    scene.peer_is_well();
}

#[test]
fn wrong_remote_keys_are_access_errors_of_both_sides() {
    type Make = fn(&mut Scene) -> (u64, u32);
    let cases: [(&str, Make); 6] = [
        ("variant", |scene| {
            (scene.target.mr.va, scene.target.mr.key ^ 1)
        }),
        ("no such key", |scene| (scene.target.mr.va, 0xfff_ff00)),
        ("beyond", |scene| {
            let Mr { va, key, len } = scene.target.mr;
            (va + len - 99, key)
        }),
        ("wraps", |scene| (u64::MAX - 10, scene.target.mr.key)),
        ("rights", |scene| {
            let pd = scene.world.ends[1].pd;
            let buffer = scene.target.buffer;
            let mr = scene.world.node(1).reg_buffer(pd, buffer, Access::LOCAL);
            let mr = mr.unwrap();
            (mr.va, mr.key)
        }),
        ("protection domain", |scene| {
            let buffer = scene.target.buffer;
            let driver = scene.world.node(1);
            let pd = driver.alloc_pd().unwrap();
            let mr = driver.reg_buffer(pd, buffer, Access::ALL).unwrap();
            (mr.va, mr.key)
        }),
    ];
    for (name, wrong) in cases {
        for read in [false, true] {
            println!("{name}, read {read}");
            let mut scene = Scene::new();
            let (va, rkey) = wrong(&mut scene);
            let gather = [scene.source.mr.sge(0, 100)];
            let op = if read {
                SendOp::Read { va, rkey }
            } else {
                SendOp::Write { va, rkey }
            };
            scene.fails(op, &gather, syndrome::REMOTE_ACCESS);
            scene.peer_failed(WQ_ACCESS);
        }
    }
}

/// The key of a message is looked at before its first byte is placed, and for all of it.
#[test]
fn nothing_is_written_by_a_message_that_is_too_long_for_its_region() {
    let mut scene = Scene::new();
    let Mr { va, key, len } = scene.target.mr;
    let gather = [scene.source.mr.sge(0, 8192)];
    let op = SendOp::Write {
        va: va + len - 8191,
        rkey: key,
    };
    scene.fails(op, &gather, syndrome::REMOTE_ACCESS);
    scene.peer_failed(WQ_ACCESS);
    let target = scene.target;
    assert!(
        scene
            .world
            .bytes(1, &target, 0, 16 << 10)
            .iter()
            .all(|byte| *byte == 0)
    );
}

#[test]
fn what_the_peer_does_not_allow_is_an_invalid_request() {
    for denied in 0..3 {
        println!("denied {denied}");
        let mut scene = Scene::tuned(|to| to.remote[denied] = false);
        let (va, rkey) = (scene.target.mr.va, scene.target.mr.key);
        let into = [scene.source.mr.sge(0, 8)];
        let op = match denied {
            0 => SendOp::Read { va, rkey },
            1 => SendOp::Write { va, rkey },
            _ => SendOp::FetchAdd { va, rkey, add: 1 },
        };
        let (world, here, there) = (&mut scene.world, scene.here, scene.there);
        world.receive(1, there, 91, &[]);
        world.post(0, here, 1, op, &into);
        world.failure(0, 1, syndrome::REMOTE_INVAL_REQ);
        scene.peer_failed(WQ_INVAL_REQ);
    }
    // An atomic at an address that is not a multiple of 8.
    let mut scene = Scene::new();
    let (va, rkey) = (scene.target.mr.va + 4, scene.target.mr.key);
    let into = [scene.source.mr.sge(0, 8)];
    let (world, here, there) = (&mut scene.world, scene.here, scene.there);
    world.receive(1, there, 91, &[]);
    let op = SendOp::FetchAdd { va, rkey, add: 1 };
    world.post(0, here, 1, op, &into);
    world.failure(0, 1, syndrome::REMOTE_INVAL_REQ);
    scene.peer_failed(WQ_INVAL_REQ);
}

#[test]
fn a_message_longer_than_the_receive_fails_on_both_sides() {
    let mut scene = Scene::new();
    let (here, there) = (scene.here, scene.there);
    let short = [scene.target.mr.sge(0, 1000), scene.target.mr.sge(1000, 999)];
    scene.world.receive(1, there, 7, &short);
    scene.world.receive(1, there, 8, &short);
    let gather = [scene.source.mr.sge(0, 2000)];
    scene.world.post(0, here, 1, SendOp::Send, &gather);
    scene.world.failure(0, 1, syndrome::REMOTE_INVAL_REQ);
    scene.world.failure(1, 7, syndrome::LOCAL_LENGTH);
    scene.world.failure(1, 8, syndrome::WR_FLUSH);
    assert_eq!((scene.state(0), scene.state(1)), (ERR, ERR));
}

#[test]
fn a_receive_with_a_wrong_key_fails_on_both_sides() {
    let mut scene = Scene::new();
    let (here, there) = (scene.here, scene.there);
    let wrong = [Sge {
        lkey: scene.target.mr.key ^ 1,
        ..scene.target.mr.sge(0, 4096)
    }];
    scene.world.receive(1, there, 7, &wrong);
    let gather = [scene.source.mr.sge(0, 2000)];
    scene.world.post(0, here, 1, SendOp::Send, &gather);
    scene.world.failure(0, 1, syndrome::REMOTE_OP);
    scene.world.failure(1, 7, syndrome::LOCAL_PROT);
}

/// A local error of the work request itself, also where it never gets as far as a packet.
#[test]
fn work_requests_that_make_no_sense_are_operation_errors() {
    for op in [
        SendOp::Raw {
            opcode: 0x14,
            len: 48,
        },
        SendOp::Raw {
            opcode: 0x3f,
            len: 0,
        },
        // RDMA WRITE without its remote address.
        SendOp::Raw {
            opcode: 0x08,
            len: 0,
        },
    ] {
        println!("{op:?}");
        let mut scene = Scene::new();
        scene.fails(op, &[], syndrome::LOCAL_QP_OP);
        scene.peer_is_well();
    }
    // UMR of a key that does not allow it.
    let mut scene = Scene::new();
    let umr = Umr::Invalidate {
        key: scene.source.mr.key,
    };
    scene.fails(SendOp::Umr(&umr), &[], syndrome::MW_BIND);
    scene.peer_is_well();
    // UMR of a key that is in use already.
    let mut scene = Scene::new();
    let pd = scene.world.ends[0].pd;
    let mr = scene.world.node(0).alloc_mr(pd, 8).unwrap();
    let register = Umr::Register {
        mr: Mr {
            va: 0x1000,
            len: 4096,
            ..mr
        },
        access: Access::ALL,
        log_page_size: 12,
        pages: UmrPages::Inline(vec![scene.source.buffer.iova]),
    };
    let here = scene.here;
    scene.world.post(0, here, 7, SendOp::Umr(&register), &[]);
    assert_eq!(scene.world.success(0).wr_id, 7);
    scene.fails(SendOp::Umr(&register), &[], syndrome::MW_BIND);
}

/// A SEND with invalidate of a key that may not be invalidated is the receiver's error.
#[test]
fn keys_are_invalidated_only_if_they_allow_it() {
    let mut scene = Scene::new();
    let pd = scene.world.ends[1].pd;
    let buffer = scene.target.buffer;
    let stubborn = Access {
        remote_invalidate: false,
        ..Access::ALL
    };
    let mr = scene.world.node(1).reg_buffer(pd, buffer, stubborn);
    let (here, there) = (scene.here, scene.there);
    scene.world.receive(1, there, 7, &[]);
    scene
        .world
        .post(0, here, 1, SendOp::SendInv(mr.unwrap().key), &[]);
    scene.world.failure(1, 7, syndrome::LOCAL_ACCESS);
    assert_eq!(scene.state(1), ERR);
    // This side is not told and gives up by itself.
    scene.world.failure(0, 1, syndrome::RETRY_EXC);
}

/// Retries are exhausted when the peer's RNR timer has expired as often as allowed.
#[test]
fn receiver_not_ready_ends_after_its_retries() {
    // Timer code 12.
    const RNR_TIMER: Duration = Duration::from_micros(640);
    let mut scene = Scene::tuned(|to| {
        to.rnr_retry = 3;
        to.min_rnr_timer = 12;
        to.timeout = 14;
    });
    let here = scene.here;
    let start = scene.world.fabric.now();
    scene.world.post(0, here, 1, SendOp::Send, &[]);
    scene.world.failure(0, 1, syndrome::RNR_RETRY_EXC);
    let took = scene.world.fabric.now() - start;
    let expected = RNR_TIMER * 3;
    assert!(
        took >= expected && took < expected * 12 / 10,
        "{took:?}, expected {expected:?}"
    );
    scene.peer_is_well();
}

/// With seven RNR retries there is no end, and a receive that comes late is in time.
#[test]
fn receiver_not_ready_waits_for_ever_if_so_told() {
    let mut scene = Scene::tuned(|to| {
        to.rnr_retry = 7;
        to.min_rnr_timer = 1;
    });
    let (here, there) = (scene.here, scene.there);
    let gather = [scene.source.mr.sge(0, 5000)];
    scene.world.post(0, here, 1, SendOp::Send, &gather);
    scene.world.fabric.run_for(Duration::from_millis(20));
    scene
        .world
        .receive(1, there, 7, &[scene.target.mr.sge(0, 5000)]);
    assert_eq!(scene.world.success(1).wr_id, 7);
    assert_eq!(scene.world.success(0).wr_id, 1);
    let (source, target) = (scene.source, scene.target);
    assert_eq!(
        scene.world.bytes(1, &target, 0, 5000),
        scene.world.bytes(0, &source, 0, 5000)
    );
}

/// Local ACK timeouts end after (retries + 1) · 4.096 µs · 2^timeout.
#[test]
fn a_peer_that_is_gone_is_given_up_in_time() {
    for (timeout, retry_count) in [(8, 7), (10, 3), (14, 0), (12, 1), (0x10, 7)] {
        let mut scene = Scene::tuned(|to| {
            to.timeout = timeout;
            to.retry_count = retry_count;
        });
        scene.world.fabric.set_links(SimConfig {
            drop: 1.0,
            ..SimConfig::default()
        });
        let here = scene.here;
        let start = scene.world.fabric.now();
        let gather = [scene.source.mr.sge(0, 5000)];
        let op = scene.write();
        scene.world.post(0, here, 1, op, &gather);
        scene.world.post(0, here, 2, SendOp::Send, &gather);
        scene.world.failure(0, 1, syndrome::RETRY_EXC);
        let took = scene.world.fabric.now() - start;
        let expected = Duration::from_nanos(4096 << timeout) * (u32::from(retry_count) + 1);
        assert!(
            took >= expected * 8 / 10 && took <= expected * 12 / 10,
            "timeout {timeout}, {retry_count} retries: {took:?}, expected {expected:?}"
        );
        scene.world.failure(0, 2, syndrome::WR_FLUSH);
    }
}

/// Everything posted comes back in order when a QP is brought to error by command, and nothing after reset.
#[test]
fn the_error_state_flushes_and_reset_forgets() {
    let mut scene = Scene::tuned(|to| to.timeout = 0);
    scene.world.fabric.set_links(SimConfig {
        drop: 1.0,
        ..SimConfig::default()
    });
    let (here, source) = (scene.here, scene.source);
    for wr_id in 0..5 {
        let receive = [source.mr.sge(0, 64)];
        scene.world.receive(0, here, 100 + wr_id, &receive);
        let wr = SendWr {
            signaled: wr_id % 2 == 0,
            ..SendWr::new(wr_id, scene.write(), Data::Sges(&receive))
        };
        scene.world.node(0).post_send(here, &wr).unwrap();
    }
    scene.world.fabric.run_for(Duration::from_millis(1));
    scene.world.node(0).to_error(here).unwrap();
    for wr_id in 0..5 {
        scene.world.failure(0, wr_id, syndrome::WR_FLUSH);
    }
    for wr_id in 100..105 {
        scene.world.failure(0, wr_id, syndrome::WR_FLUSH);
    }
    scene.world.receive(0, here, 105, &[]);
    scene.world.failure(0, 105, syndrome::WR_FLUSH);
    // Reset takes back what is posted and says nothing of it.
    scene.world.node(0).to_reset(here).unwrap();
    scene.world.receive(0, here, 106, &[]);
    scene.world.no_completion(0);

    // And the QP works again.
    scene.world.fabric.set_links(SimConfig::default());
    scene.world.node(0).to_reset(here).unwrap();
    let there = scene.there;
    scene.world.node(1).to_reset(there).unwrap();
    scene.world.connect([0, 1], [here, there], |_| {});
    scene
        .world
        .receive(1, there, 7, &[scene.target.mr.sge(0, 64)]);
    scene
        .world
        .post(0, here, 8, SendOp::Send, &[source.mr.sge(0, 64)]);
    assert_eq!(scene.world.success(1).wr_id, 7);
    assert_eq!(scene.world.success(0).wr_id, 8);
}

/// The first packet on a connection that is ready to receive only is an event.
#[test]
fn communication_established() {
    let mut world = World::new(2);
    let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
    let here = world.node(0).create_qp(&configs[0]).unwrap();
    let there = world.node(1).create_qp(&configs[1]).unwrap();
    let (to_there, to_here) = (world.to(1, there), world.to(0, here));
    world.node(0).connect(here, &to_there).unwrap();
    world.node(1).to_init(there).unwrap();
    world.node(1).to_rtr(there, &to_here).unwrap();
    world.receive(1, there, 1, &[]);
    world.receive(1, there, 2, &[]);
    for wr_id in [1, 2] {
        world.post(0, here, wr_id, SendOp::Send, &[]);
        world.success(1);
        world.success(0);
    }
    let count = |event: &Event| *event == Event::Queue(COMM_EST, there);
    let events = world.events(1);
    assert_eq!(events.iter().filter(|e| count(e)).count(), 1, "{events:x?}");
}

/// A CQ that is full reports an error event; its QPs go to error.
#[test]
fn a_completion_queue_that_runs_over() {
    let mut world = World::new(2);
    let pd = world.ends[0].pd;
    let small = world.node(0).create_cq(2).unwrap();
    let config = QpConfig::new(Service::Rc, pd, small);
    let configs = [config, world.config(1, Service::Rc)];
    let [here, _] = world.pair([0, 1], configs, |_| {});
    for wr_id in 0..4 {
        world.post(0, here, wr_id, SendOp::Nop, &[]);
    }
    world.fabric.run_for(Duration::from_millis(1));
    assert_eq!(world.events(0), []);
    // Two are taken, and two more find room.
    for wr_id in 0..2 {
        assert_eq!(world.completion_on(0, small).wr_id, wr_id);
    }
    for wr_id in 4..7 {
        world.post(0, here, wr_id, SendOp::Nop, &[]);
    }
    world.fabric.run_for(Duration::from_millis(1));
    let events = world.events(0);
    assert_eq!(
        events,
        [Event::CqError(small, 1), Event::Queue(WQ_CATAS, here)]
    );
    for wr_id in 2..6 {
        let completion = world.completion_on(0, small);
        assert!(completion.is_ok() && completion.wr_id == wr_id);
    }
    assert!(world.node(0).poll_cq(small).unwrap().is_none());
}

/// The limit of a shared receive queue is reported once, when fewer receives are left.
#[test]
fn a_shared_receive_queue_reports_its_limit() {
    let mut world = World::new(2);
    let pd = world.ends[1].pd;
    let srqn = world.node(1).create_srq(SrqKind::Basic, pd, 5, 2).unwrap();
    let with_srq = QpConfig {
        srqn: Some(srqn),
        log_receive: None,
        ..world.config(1, Service::Rc)
    };
    let configs = [world.config(0, Service::Rc), with_srq];
    let [here, there] = world.pair([0, 1], configs, |_| {});
    let source = world.pattern(0, 4096, 1);
    let target = world.payload(1, 64 << 10);
    let post = |world: &mut World, wr_id: u64| {
        let into = [target.mr.sge(wr_id * 1000, 1000)];
        world.node(1).post_srq_receive(srqn, wr_id, &into).unwrap();
    };
    for wr_id in 0..10 {
        post(&mut world, wr_id);
    }
    world.node(1).arm_srq(srqn, 8).unwrap();
    world.events(1);
    for wr_id in 0..2 {
        world.post(0, here, wr_id, SendOp::Send, &[source.mr.sge(0, 500)]);
        assert_eq!(world.success(1).wr_id, wr_id);
        world.success(0);
    }
    assert!(!world.events(1).contains(&Event::SrqLimit(srqn)));
    for wr_id in 2..5 {
        world.post(0, here, wr_id, SendOp::Send, &[source.mr.sge(0, 500)]);
        assert_eq!(world.success(1).wr_id, wr_id);
        world.success(0);
    }
    let events = world.events(1);
    let limits = events.iter().filter(|e| **e == Event::SrqLimit(srqn));
    assert_eq!(limits.count(), 1, "{events:?}");
    // Armed above what is posted it is due at once.
    world.node(1).arm_srq(srqn, 20).unwrap();
    assert!(world.events(1).contains(&Event::SrqLimit(srqn)));
    // Around the list several times.
    for wr_id in 5..10 {
        world.post(0, here, wr_id, SendOp::Send, &[]);
        assert_eq!(world.success(1).wr_id, wr_id);
        world.success(0);
    }
    for round in 0..100 {
        post(&mut world, round % 20);
        let bytes = [source.mr.sge(round, 900)];
        world.post(0, here, round, SendOp::Send, &bytes);
        assert_eq!(world.success(1).wr_id, round % 20);
        world.success(0);
        let came = world.bytes(1, &target, round % 20 * 1000, 900);
        assert_eq!(came, world.bytes(0, &source, round, 900));
    }
    // The error of a QP does not flush what is shared.
    post(&mut world, 1);
    world.node(1).to_error(there).unwrap();
    assert!(world.events(1).contains(&Event::Queue(SRQ_LAST_WQE, there)));
    world.no_completion(1);
}

/// A datagram QP that meets an error still receives, and sends again after SQERR2RTS.
#[test]
fn datagram_errors_stop_the_send_queue_only() {
    const QKEY: u32 = 0x1111_1111;
    let mut world = World::new(2);
    let [here, there] = [0, 1].map(|node| {
        let config = QpConfig {
            qkey: QKEY,
            ..world.config(node, Service::Ud)
        };
        let driver = world.node(node);
        let qpn = driver.create_qp(&config).unwrap();
        driver
            .activate(qpn, rocinante_harness::driver::Mtu::M1024)
            .unwrap();
        qpn
    });
    let source = world.pattern(0, 8192, 1);
    let inbox = world.payload(0, 8192);
    let target = world.payload(1, 8192);
    let av = world.av(1, there, QKEY);
    let datagram = SendOp::Datagram { av: &av, imm: None };
    // Longer than the MTU.
    world.post(0, here, 1, datagram.clone(), &[source.mr.sge(0, 1025)]);
    world.failure(0, 1, syndrome::LOCAL_LENGTH);
    let state = world.node(0).query_qp(here).unwrap().qpc().state();
    assert_eq!(state, SQER);
    world.post(0, here, 2, datagram.clone(), &[source.mr.sge(0, 10)]);
    world.failure(0, 2, syndrome::WR_FLUSH);
    // It still receives.
    world.receive(0, here, 7, &[inbox.mr.sge(0, 2048)]);
    let back = world.av(0, here, QKEY);
    let answer = SendOp::Datagram {
        av: &back,
        imm: None,
    };
    world.post(1, there, 3, answer, &[target.mr.sge(0, 100)]);
    assert_eq!(world.success(0).byte_len, 140);
    world.success(1);
    // And sends again.
    world.node(0).recover(here).unwrap();
    world.receive(1, there, 8, &[target.mr.sge(0, 2048)]);
    world.post(0, here, 4, datagram, &[source.mr.sge(0, 10)]);
    assert_eq!(world.success(0).wr_id, 4);
    assert_eq!(world.success(1).byte_len, 50);
}

/// Packets of a connection whose peer is not who it was are not taken.
#[test]
fn packets_of_strangers_are_not_taken() {
    let link = LinkConfig::default();
    let mut world = World::with(3, 32 << 20, link, RoceType::V2Ipv4);
    let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
    let [_, there] = world.pair([0, 1], configs, |_| {});
    // A third NIC sends to the QP of node 1 that is connected to node 0.
    let config = world.config(2, Service::Rc);
    let stranger = world.node(2).create_qp(&config).unwrap();
    let mut to = Connection::new(there, world.gid(1), mac(1));
    (to.send_psn, to.timeout, to.retry_count) = (0xff_fffa, 8, 1);
    world.node(2).connect(stranger, &to).unwrap();
    world.receive(1, there, 1, &[]);
    world.post(2, stranger, 1, SendOp::Send, &[]);
    world.failure(2, 1, syndrome::RETRY_EXC);
    world.no_completion(1);
}
