//! What a NIC does by itself: memory keys through work requests, loopback, completion events, the link.

use std::time::Duration;

use crate::{GRH, QKEY, ud};
use rocinante_harness::driver::fabric::LinkConfig;
use rocinante_harness::driver::{
    Access, Data, Event, Mr, RoceType, SendOp, SendWr, Service, Umr, UmrPages, syndrome,
};
use rocinante_tests::World;
use rocinante_wire::sim::SimConfig;

/// Fast registration, use, invalidation from here and from there.
#[test]
fn memory_is_registered_and_invalidated_by_work_requests() {
    let mut world = World::new(2);
    let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
    let [here, there] = world.pair([0, 1], configs, |to| to.timeout = 8);
    let source = world.pattern(0, 200 << 10, 1);
    let pd = world.ends[1].pd;
    let free = world.node(1).alloc_mr(pd, 64).unwrap();
    let list = world.payload(1, 4096);
    for (round, pages) in [1usize, 3, 8, 9, 50].into_iter().enumerate() {
        let target = world.payload(1, (pages as u64) << 12);
        // Pages in another order than they lie, so that the list matters.
        let iovas: Vec<u64> = target.buffer.pages().collect();
        let order: Vec<u64> = iovas.iter().rev().copied().collect();
        let round = round as u32;
        let mr = Mr {
            key: free.key & !0xff | (round + 0x40),
            va: 0x7000_0000_0000 + 0x123,
            len: ((pages as u64) << 12) - 0x123,
        };
        let pages = if pages <= 8 {
            UmrPages::Inline(order.clone())
        } else {
            let bytes: Vec<u8> = order.iter().flat_map(|page| page.to_be_bytes()).collect();
            world.node(1).write(list.buffer.iova, &bytes).unwrap();
            UmrPages::At {
                addr: list.mr.va,
                lkey: list.mr.key,
                len: pages,
            }
        };
        let register = Umr::Register {
            mr,
            access: Access::ALL,
            log_page_size: 12,
            pages,
        };
        world.post(1, there, 1, SendOp::Umr(&register), &[]);
        assert_eq!(world.success(1).wr_id, 1);
        // Written to from the other side, all of it.
        let (va, rkey) = (mr.va, mr.key);
        let gather = [source.mr.sge(0, mr.len as u32)];
        world.post(0, here, 2, SendOp::Write { va, rkey }, &gather);
        world.success(0);
        let sent = world.bytes(0, &source, 0, mr.len as usize);
        let mut came = Vec::new();
        for (n, page) in order.iter().enumerate() {
            let skip = if n == 0 { 0x123 } else { 0 };
            let part = world.node(1).read(page + skip, 4096 - skip as usize);
            came.extend(part.unwrap());
        }
        assert!(came == sent, "{} pages", order.len());
        // Every other time from there, else from here.
        if round.is_multiple_of(2) {
            world.receive(1, there, 3, &[]);
            world.post(0, here, 4, SendOp::SendInv(mr.key), &[]);
            let received = world.success(1);
            assert_eq!((received.wr_id, received.imm), (3, mr.key));
            assert_eq!(received.cqe.op_own >> 4, 4, "RESP_SEND_INV");
            world.success(0);
        } else {
            let invalidate = Umr::Invalidate { key: mr.key };
            world.post(1, there, 5, SendOp::Umr(&invalidate), &[]);
            world.success(1);
        }
        world.release(1, target);
    }
    // Invalid is invalid.
    world.receive(1, there, 9, &[]);
    let op = SendOp::Write {
        va: 0x7000_0000_0123,
        rkey: free.key & !0xff | 0x44,
    };
    world.post(0, here, 6, op, &[source.mr.sge(0, 8)]);
    world.failure(0, 6, syndrome::REMOTE_ACCESS);
    world.failure(1, 9, syndrome::WR_FLUSH);
}

/// A NIC carries what its own QPs send to each other, without the wire.
#[test]
fn one_nic_talks_to_itself() {
    let mut world = World::with(1, 32 << 20, LinkConfig::default(), RoceType::V2Ipv4);
    let config = world.config(0, Service::Rc);
    let [here, there] = world.pair([0, 0], [config, config], |_| {});
    let source = world.pattern(0, 1 << 20, 5);
    let target = world.payload(0, 1 << 20);
    let (va, rkey) = (target.mr.va, target.mr.key);
    let gather = [source.mr.sge(0, 1 << 20)];
    world.post(0, here, 1, SendOp::Write { va, rkey }, &gather);
    assert_eq!(world.success(0).wr_id, 1);
    let sent = world.bytes(0, &source, 0, 1 << 20);
    assert!(world.bytes(0, &target, 0, 1 << 20) == sent);
    world.receive(0, there, 2, &[target.mr.sge(0, 100)]);
    world.post(0, here, 3, SendOp::Send, &[source.mr.sge(9, 100)]);
    let mut ids = [world.success(0).wr_id, world.success(0).wr_id];
    ids.sort_unstable();
    assert_eq!(ids, [2, 3]);
    let sent = world.bytes(0, &source, 9, 100);
    assert_eq!(world.bytes(0, &target, 0, 100), sent);
    assert_eq!(world.fabric.frames, 0, "frames on the wire");

    // A datagram QP to itself.
    let qpn = ud(&mut world, 0);
    world.receive(0, qpn, 4, &[target.mr.sge(0, 100)]);
    let av = world.av(0, qpn, QKEY);
    let op = SendOp::Datagram { av: &av, imm: None };
    let wr = SendWr::new(5, op, Data::Inline(b"me"));
    world.node(0).post_send(qpn, &wr).unwrap();
    let mut ids = [world.success(0).wr_id, world.success(0).wr_id];
    ids.sort_unstable();
    assert_eq!(ids, [4, 5]);
    assert_eq!(world.bytes(0, &target, GRH as u64, 2), b"me");
}

/// Completion events: an armed CQ tells once, a CQ armed for solicited ones waits for one.
#[test]
fn armed_completion_queues_tell_once() {
    let mut world = World::new(2);
    let [here, there] = world.rc();
    let (from, to) = (world.ends[0].cqn, world.ends[1].cqn);
    for id in 0..40 {
        world.receive(1, there, id, &[]);
    }
    let send = |world: &mut World, id, solicited| {
        let wr = SendWr {
            solicited,
            ..SendWr::new(id, SendOp::Send, Data::Sges(&[]))
        };
        world.node(0).post_send(here, &wr).unwrap();
        world.success(0);
    };
    let told = |world: &mut World, node, cqn| {
        let event = Event::Completion(cqn);
        let driver = world.node(node);
        let events: Vec<Event> = std::iter::from_fn(|| driver.interrupt_event().unwrap()).collect();
        events.iter().filter(|e| **e == event).count()
    };
    // Not armed: nothing.
    send(&mut world, 0, true);
    world.success(1);
    assert_eq!(told(&mut world, 1, to), 0);
    // Armed: once, however many follow.
    world.node(1).arm_cq(to, false).unwrap();
    for id in 1..4 {
        send(&mut world, id, false);
    }
    assert_eq!(told(&mut world, 1, to), 1);
    // Armed with completions that were not taken: at once.
    world.node(1).arm_cq(to, false).unwrap();
    assert_eq!(told(&mut world, 1, to), 1);
    for _ in 1..4 {
        world.success(1);
    }
    // Armed for solicited ones only.
    world.node(1).arm_cq(to, true).unwrap();
    send(&mut world, 4, false);
    world.success(1);
    assert_eq!(told(&mut world, 1, to), 0);
    send(&mut world, 5, true);
    world.success(1);
    assert_eq!(told(&mut world, 1, to), 1);
    assert_eq!(told(&mut world, 0, from), 0);
    // Many rounds: neither the event queue nor its owner bits mind wrapping.
    for id in 6..1000 {
        world.receive(1, there, id, &[]);
        world.node(1).arm_cq(to, false).unwrap();
        send(&mut world, id, false);
        world.success(1);
        assert_eq!(told(&mut world, 1, to), 1, "round {id}");
    }
}

/// A link that goes down and up again is an event, and traffic goes on.
#[test]
fn links_go_down_and_up() {
    use rocinante_device::mlx5::Input;
    let mut world = World::new(2);
    let [here, _] = world.rc();
    let source = world.pattern(0, 100_000, 1);
    let target = world.payload(1, 100_000);
    world.node(1).function.handle(Input::Link(false));
    assert!(world.events(1).contains(&Event::Port { up: false }));
    let op = SendOp::Write {
        va: target.mr.va,
        rkey: target.mr.key,
    };
    world.post(0, here, 1, op, &[source.mr.sge(0, 100_000)]);
    world.fabric.run_for(Duration::from_millis(100));
    let cqn = world.ends[0].cqn;
    assert!(world.node(0).poll_cq(cqn).unwrap().is_none());
    world.node(1).function.handle(Input::Link(true));
    assert!(world.events(1).contains(&Event::Port { up: true }));
    assert_eq!(world.success(0).wr_id, 1);
    let sent = world.bytes(0, &source, 0, 100_000);
    assert!(world.bytes(1, &target, 0, 100_000) == sent);
    world.fabric.set_links(SimConfig::default());
}
