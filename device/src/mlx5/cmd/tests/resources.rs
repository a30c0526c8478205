//! Numbers handed out, their limits, and who keeps them busy.

use rocinante_firmware_cmd::mlx5::eth::VxlanUdpDportIn;
use rocinante_firmware_cmd::mlx5::mkey::{CreateMkeyIn, CreateMkeyOut};
use rocinante_firmware_cmd::mlx5::resources::AllocTransportDomainOut;

use super::*;

#[test]
fn numbers_are_handed_out_and_taken_back() {
    let mut driver = Driver::initialized();
    let pairs = [
        (Opcode::AllocUar, Opcode::DeallocUar),
        (Opcode::AllocPd, Opcode::DeallocPd),
        (Opcode::AllocTransportDomain, Opcode::DeallocTransportDomain),
        (Opcode::AllocXrcd, Opcode::DeallocXrcd),
    ];
    for (alloc, dealloc) in pairs {
        let output = driver.bare(alloc);
        let number = AllocTransportDomainOut::new(&output).transport_domain();
        assert_ne!(number, 0, "{alloc}: 0 means none");
        driver.ok(&by_number(dealloc, number));
        assert_eq!(
            driver.refused(&by_number(dealloc, number)),
            (Status::BadRes, 1),
            "{dealloc}"
        );
        assert_eq!(
            driver.refused(&by_number(dealloc, 0xff_ffff)).0,
            Status::BadRes,
            "{dealloc}"
        );
    }
    assert!(
        driver.uar() >= 16,
        "lower indices alias the initialization segment"
    );
}

#[test]
fn limits_are_kept() {
    let mut driver = Driver::initialized();
    let limits = [
        (Opcode::AllocTransportDomain, 1 << 12),
        (Opcode::AllocXrcd, 1 << 12),
        (Opcode::AllocUar, 8192),
        (Opcode::AllocQCounter, 256),
    ];
    for (alloc, limit) in limits {
        let mut given = 0;
        let error = loop {
            match driver.command(&input(alloc, 0, 16)) {
                Ok(_) => given += 1,
                Err(error) => break error,
            }
            assert!(given <= limit, "{alloc}");
        };
        assert_eq!(error.status, Status::Lim, "{alloc}");
        assert!(given >= limit - 16, "{alloc}: {given}");
    }
}

#[test]
fn what_is_in_use_is_busy() {
    let mut driver = Driver::initialized();
    let (uar, cq_uar) = (driver.uar(), driver.uar());
    let eqn = driver.eq(uar, 0, 0);
    let cqn = driver.cq(cq_uar, eqn);
    assert_eq!(
        driver.refused(&by_number(Opcode::DestroyEq, eqn)),
        (Status::ResBusy, 2)
    );
    driver.ok(&by_number(Opcode::DestroyCq, cqn));
    driver.ok(&by_number(Opcode::DestroyEq, eqn));
}

#[test]
fn a_uar_goes_before_the_queues_that_were_made_with_it() {
    let mut driver = Driver::initialized();
    let (uar, cq_uar) = (driver.uar(), driver.uar());
    let eqn = driver.eq(uar, 0, 0);
    let cqn = driver.cq(cq_uar, eqn);
    driver.ok(&by_number(Opcode::DeallocUar, cq_uar));
    assert_eq!(
        driver.refused(&by_number(Opcode::DeallocUar, cq_uar)),
        (Status::BadRes, 1)
    );
    driver.ok(&by_number(Opcode::DestroyCq, cqn));
    driver.ok(&by_number(Opcode::DeallocUar, uar));
    driver.ok(&by_number(Opcode::DestroyEq, eqn));
}

#[test]
fn a_pd_is_busy_while_a_key_opens_something_in_it() {
    let mut driver = Driver::initialized();
    let pd = driver.pd();
    let mut create = input(Opcode::CreateMkey, 0, CreateMkeyIn::SIZE);
    CreateMkeyIn::new(&mut create)
        .mkc_mut()
        .set_pd(pd)
        .set_length64(true)
        .set_lr(true);
    let index = CreateMkeyOut::new(&driver.ok(&create)).mkey_index();
    assert_eq!(
        driver.refused(&by_number(Opcode::DeallocPd, pd)),
        (Status::ResBusy, 3)
    );
    // A UMR frees the key, as at deregistration; it waits in a cache, and still names the PD.
    driver.nic.core.mkeys.table.get_mut(index).unwrap().free = true;
    driver.ok(&by_number(Opcode::DeallocPd, pd));
}

#[test]
fn vxlan_ports_are_counted() {
    let mut driver = Driver::initialized();
    let port = |opcode, number| {
        let mut input = input(opcode, 0, VxlanUdpDportIn::SIZE);
        VxlanUdpDportIn::new(&mut input).set_vxlan_udp_port(number);
        input
    };
    // Interfaces may share a port.
    for _ in 0..16 {
        driver.ok(&port(Opcode::AddVxlanUdpDport, 4789));
    }
    let another = port(Opcode::AddVxlanUdpDport, 8472);
    assert_eq!(driver.refused(&another), (Status::Lim, 1));
    let wrong = port(Opcode::DeleteVxlanUdpDport, 8472);
    assert_eq!(driver.refused(&wrong), (Status::BadRes, 1));
    driver.ok(&port(Opcode::DeleteVxlanUdpDport, 4789));
    driver.ok(&another);
    driver.ok(&wrong);
}
