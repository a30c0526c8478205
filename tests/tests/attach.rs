//! Attaching and detaching leaves nothing behind, neither with the device nor with the driver.

use rocinante_device::mlx5::leak::Goodbye;
use rocinante_harness::driver::fabric::power_on;
use rocinante_harness::driver::{
    Access, Data, Driver, Function, GidEntry, Local, Pages, QpConfig, RoceType, SendOp, SendWr,
    Service, Sge, SrqKind, mapped_gid,
};
use rocinante_tests::World;
use rocinante_wire::MacAddr;

/// The device's verdict on the driver that has just left.
#[track_caller]
fn assert_clean(function: &Local, pages: &Pages) {
    let findings = function.nic.core.hca.findings.clone().expect("a goodbye");
    assert_eq!(findings.goodbye, Goodbye::Disable);
    assert_eq!(findings.leaked_objects, []);
    assert_eq!(findings.leaked_pages, 0);
    assert_eq!(pages.in_use(), 0, "bytes the driver still has in use");
}

#[test]
fn attach_and_detach_cycles_leave_nothing() {
    let (mut function, mut pages) = power_on(0, 32 << 20).unwrap();
    for cycle in 0..8 {
        let mut driver = Driver::attach(function, pages).unwrap();
        assert_eq!(driver.mac().unwrap(), MacAddr::new(2, 0, 0, 0, 0, 1));
        // Every cycle one more of everything.
        for _ in 0..cycle {
            let pd = driver.alloc_pd().unwrap();
            let xrcd = driver.alloc_xrcd().unwrap();
            let cqn = driver.create_cq(6).unwrap();
            let entry = GidEntry {
                kind: RoceType::V2Ipv4,
                gid: mapped_gid([10, 0, 0, 1]),
                mac: MacAddr::new(2, 0, 0, 0, 0, 1),
                vlan: None,
            };
            driver.set_gid(0, Some(&entry)).unwrap();
            let basic = driver.create_srq(SrqKind::Basic, pd, 4, 2).unwrap();
            let xrc = driver
                .create_srq(SrqKind::Xrc { xrcd, cqn }, pd, 4, 2)
                .unwrap();
            let counters = driver.alloc_q_counter().unwrap();
            let buffer = driver.pages.alloc(10_000).unwrap();
            let mr = driver.reg_buffer(pd, buffer, Access::ALL).unwrap();
            let qps: Vec<u32> = [Service::Rc, Service::Uc, Service::Ud, Service::Gsi]
                .into_iter()
                .map(|service| {
                    let config = QpConfig {
                        counters,
                        ..QpConfig::new(service, pd, cqn)
                    };
                    driver.create_qp(&config).unwrap()
                })
                .collect();
            let with_srq = QpConfig {
                srqn: Some(basic),
                log_receive: None,
                ..QpConfig::new(Service::Rc, pd, cqn)
            };
            let with_srq = driver.create_qp(&with_srq).unwrap();
            for qpn in qps.into_iter().chain([with_srq]) {
                driver.destroy_qp(qpn).unwrap();
            }
            driver.dereg_mr(mr).unwrap();
            driver.pages.release(buffer);
            driver.dealloc_q_counter(counters).unwrap();
            driver.destroy_srq(xrc).unwrap();
            driver.destroy_srq(basic).unwrap();
            driver.set_gid(0, None).unwrap();
            driver.destroy_cq(cqn).unwrap();
            driver.dealloc_xrcd(xrcd).unwrap();
            driver.dealloc_pd(pd).unwrap();
        }
        (function, pages) = driver.detach().unwrap();
        assert_clean(&function, &pages);
    }
}

/// An adapter that keeps its contexts in guest memory asks for more of it; all of it comes back.
#[test]
fn pages_asked_for_by_events_come_back_too() {
    let (function, pages) = power_on(0, 64 << 20).unwrap();
    let mut driver = Driver::attach(function, pages).unwrap();
    let (at_first, requested) = driver.pages_lent();
    assert_eq!(requested, 0);
    let pd = driver.alloc_pd().unwrap();
    let keys: Vec<_> = (0..3000)
        .map(|_| driver.alloc_mr(pd, 512).unwrap())
        .collect();
    let (lent, requested) = driver.pages_lent();
    assert!(requested > 0, "3000 keys fit into {lent} pages");
    assert_eq!(lent as u64, at_first as u64 + requested);
    for key in keys {
        driver.dereg_mr(key).unwrap();
    }
    driver.dealloc_pd(pd).unwrap();
    let (function, pages) = driver.detach().unwrap();
    assert_clean(&function, &pages);
}

/// The device says what a careless driver left.
#[test]
fn what_is_left_is_found() {
    let (function, pages) = power_on(0, 32 << 20).unwrap();
    let mut driver = Driver::attach(function, pages).unwrap();
    let pd = driver.alloc_pd().unwrap();
    driver.alloc_mr(pd, 8).unwrap();
    driver.create_srq(SrqKind::Basic, pd, 4, 1).unwrap();
    let (function, pages) = driver.detach().unwrap();
    let findings = function.nic.core.hca.findings.clone().unwrap();
    assert_eq!(
        findings.leaked_objects,
        [("PD", 1), ("mkey", 1), ("SRQ", 1)]
    );
    assert_eq!(findings.leaked_pages, 0);
    assert_ne!(pages.in_use(), 0);
}

/// A crashed driver leaves a device that the next one can use.
#[test]
fn the_next_driver_finds_a_clean_device() {
    let (function, pages) = power_on(0, 32 << 20).unwrap();
    let mut driver = Driver::attach(function, pages).unwrap();
    let pd = driver.alloc_pd().unwrap();
    let cqn = driver.create_cq(4).unwrap();
    driver
        .create_qp(&QpConfig::new(Service::Rc, pd, cqn))
        .unwrap();
    let function = driver.abandon();
    // The memory of the dead is not looked at again.
    let map = function.memory().clone();
    let pages = Pages::new(map, 0x10_0000 + (16 << 20), 16 << 20);
    let driver = Driver::attach(function, pages).unwrap();
    let (function, pages) = driver.detach().unwrap();
    assert_clean(&function, &pages);
}

#[test]
fn traffic_leaves_nothing_behind() {
    let mut world = World::new(2);
    let qps = world.rc();
    let source = world.pattern(0, 70_000, 1);
    let target = world.payload(1, 70_000);
    let sge = [source.mr.sge(0, 70_000)];
    let op = SendOp::Write {
        va: target.mr.va,
        rkey: target.mr.key,
    };
    world
        .node(0)
        .post_send(qps[0], &SendWr::new(1, op, Data::Sges(&sge)))
        .unwrap();
    assert_eq!(world.success(0).wr_id, 1);
    assert_eq!(
        world.bytes(1, &target, 0, 70_000),
        world.bytes(0, &source, 0, 70_000)
    );
    let receive = [Sge {
        addr: 0,
        len: 0,
        lkey: 0,
    }];
    world.node(1).post_receive(qps[1], 2, &receive).unwrap();
    world.release(0, source);
    world.release(1, target);
    for (node, qpn) in qps.into_iter().enumerate() {
        let end = world.ends[node];
        let driver = world.node(node);
        driver.destroy_qp(qpn).unwrap();
        driver.destroy_cq(end.cqn).unwrap();
        driver.dealloc_pd(end.pd).unwrap();
        driver.set_gid(0, None).unwrap();
    }
    for driver in world.fabric.nodes {
        let (function, pages) = driver.detach().unwrap();
        assert_clean(&function, &pages);
    }
}
