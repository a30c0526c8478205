//! RoCE addresses and multicast groups.

use rocinante_firmware_cmd::mlx5::qp::{CreateQpIn, CreateQpOut};
use rocinante_firmware_cmd::mlx5::vport::{
    AttachToMcgIn, QueryRoceAddressIn, QueryRoceAddressOut, SetRoceAddressIn,
};

use super::*;
use crate::mlx5::roce::{RoceAddress, RoceVersion, mapped};

fn set(index: u16, version: u8, l3_type: u8, gid: [u8; 16], mac: [u8; 6]) -> Vec<u8> {
    let mut set = input(Opcode::SetRoceAddress, 0, SetRoceAddressIn::SIZE);
    let mut view = SetRoceAddressIn::new(&mut set);
    view.set_roce_address_index(index);
    view.roce_address_mut()
        .set_source_l3_address(&gid)
        .set_source_mac(&mac)
        .set_roce_version(version)
        .set_roce_l3_type(l3_type);
    set
}

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MAPPED: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];

#[test]
fn ipv4_addresses_are_mapped_whichever_way_they_are_written() {
    let mut driver = Driver::initialized();
    let mut freebsd = MAPPED;
    freebsd[..12].fill(0);
    for gid in [freebsd, MAPPED] {
        driver.ok(&set(3, 2, 0, gid, MAC));
        let entry = *driver.nic.core.roce.address(3).unwrap();
        let mac = MacAddr::new(2, 0, 0, 0, 0, 1);
        let version = RoceVersion::V2Ipv4;
        assert_eq!(
            entry,
            RoceAddress {
                version,
                gid: MAPPED,
                mac,
                vlan: None
            }
        );
        assert!(driver.nic.core.roce.owns(&MAPPED));
    }
    let mut query = input(Opcode::QueryRoceAddress, 0, 16);
    QueryRoceAddressIn::new(&mut query).set_roce_address_index(3);
    let output = driver.ok(&query);
    let query = QueryRoceAddressOut::new(&output);
    let address = query.roce_address();
    assert_eq!((address.roce_version(), address.roce_l3_type()), (2, 0));
    assert_eq!(
        (address.source_l3_address(), address.source_mac()),
        (MAPPED, MAC)
    );
}

#[test]
fn an_entry_without_addresses_empties_its_place() {
    let mut driver = Driver::initialized();
    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 1];
    let mut tagged = set(1, 2, 1, link_local, MAC);
    let mut view = SetRoceAddressIn::new(&mut tagged);
    view.roce_address_mut()
        .set_vlan_valid(true)
        .set_vlan_id(100);
    driver.ok(&tagged);
    assert_eq!(driver.nic.core.roce.address(1).unwrap().vlan, Some(100));
    driver.ok(&set(0, 0, 0, link_local, MAC));
    assert_eq!(
        driver.nic.core.roce.address(0).unwrap().version,
        RoceVersion::V1
    );
    driver.ok(&set(1, 2, 1, [0; 16], [0; 6]));
    assert!(driver.nic.core.roce.address(1).is_none());
    driver.ok(&set(0, 0, 0, [0; 16], [0; 6]));
    assert!(!driver.nic.core.roce.owns(&link_local));
}

#[test]
fn bad_addresses_are_refused() {
    let mut driver = Driver::initialized();
    assert_eq!(
        driver.refused(&set(256, 2, 0, MAPPED, MAC)),
        (Status::Ix, 1)
    );
    assert_eq!(
        driver.refused(&set(0, 1, 0, MAPPED, MAC)),
        (Status::BadParam, 2)
    );
    assert_eq!(
        driver.refused(&set(0, 2, 2, MAPPED, MAC)),
        (Status::BadParam, 3)
    );
    let mut query = input(Opcode::QueryRoceAddress, 0, 16);
    QueryRoceAddressIn::new(&mut query).set_roce_address_index(256);
    assert_eq!(driver.refused(&query), (Status::Ix, 1));
}

/// A UD QP without queues of its own.
fn datagram_qp(driver: &mut Driver) -> u32 {
    let uar = driver.uar();
    let eqn = driver.eq(uar, 0, 0);
    let (pd, cqn) = (driver.pd(), driver.cq(uar, eqn));
    let (page, record) = (driver.page(), driver.page());
    let mut create = input(Opcode::CreateQp, 0, CreateQpIn::SIZE + 8);
    let mut view = CreateQpIn::new(&mut create);
    view.qpc_mut()
        .set_st(2)
        .set_pd(pd)
        .set_uar_page(uar)
        .set_cqn_snd(cqn)
        .set_cqn_rcv(cqn)
        .set_dbr_addr(record);
    view.pas_mut().set(0, page);
    CreateQpOut::new(&driver.ok(&create)).qpn()
}

fn group(opcode: Opcode, qpn: u32, gid: [u8; 16]) -> Vec<u8> {
    let mut group = input(opcode, 0, AttachToMcgIn::SIZE);
    AttachToMcgIn::new(&mut group)
        .set_qpn(qpn)
        .set_multicast_gid(&gid);
    group
}

#[test]
fn groups_have_members() {
    let mut driver = Driver::initialized();
    let qpn = datagram_qp(&mut driver);
    let attach = |gid| group(Opcode::AttachToMcg, qpn, gid);
    let detach = |gid| group(Opcode::DetachFromMcg, qpn, gid);
    let mut ipv6 = [0; 16];
    ipv6[..2].copy_from_slice(&[0xff, 0x12]);
    // What the connection manager makes of 239.1.2.3 on RoCE v2.
    let ipv4 = mapped([239, 1, 2, 3]);
    for gid in [ipv6, ipv4, ipv4] {
        driver.ok(&attach(gid));
    }
    let groups = &driver.nic.core.roce.multicast;
    assert_eq!((groups.len(), groups.get(&ipv4)), (2, Some(&vec![qpn])));

    let nobody = group(Opcode::AttachToMcg, qpn + 1, ipv6);
    assert_eq!(driver.refused(&nobody), (Status::BadRes, 1));
    for unicast in [MAPPED, [0xfe; 16]] {
        assert_eq!(driver.refused(&attach(unicast)), (Status::BadParam, 2));
    }
    driver.ok(&detach(ipv6));
    assert_eq!(driver.refused(&detach(ipv6)), (Status::BadRes, 1));
    // A QP that goes leaves its groups.
    driver.ok(&by_number(Opcode::DestroyQp, qpn));
    assert!(driver.nic.core.roce.multicast.is_empty());
}

#[test]
fn groups_and_members_are_bounded() {
    let mut driver = Driver::initialized();
    let qpn = datagram_qp(&mut driver);
    let gid = |n: u32| {
        let mut gid = [0xff; 16];
        gid[12..].copy_from_slice(&n.to_be_bytes());
        gid
    };
    for n in 0..1 << 13 {
        driver.ok(&group(Opcode::AttachToMcg, qpn, gid(n)));
    }
    let one_more = group(Opcode::AttachToMcg, qpn, gid(1 << 13));
    assert_eq!(driver.refused(&one_more), (Status::Lim, 3));
    let members = driver.nic.core.roce.multicast.get_mut(&gid(0)).unwrap();
    *members = vec![0; 240];
    assert_eq!(
        driver.refused(&group(Opcode::AttachToMcg, qpn, gid(0))),
        (Status::Lim, 4)
    );
}
