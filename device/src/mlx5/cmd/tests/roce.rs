use rocinante_firmware_cmd::mlx5::vport::{
    AttachToMcgIn, QueryRoceAddressIn, QueryRoceAddressOut, SetRoceAddressIn,
};

use super::*;
use crate::mlx5::roce::{RoceAddress, RoceVersion};

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

#[test]
fn groups_need_a_qp_and_a_multicast_gid() {
    let mut driver = Driver::initialized();
    let mut attach = input(Opcode::AttachToMcg, 0, AttachToMcgIn::SIZE);
    let mut view = AttachToMcgIn::new(&mut attach);
    view.set_qpn(0x40).set_multicast_gid(&[0xff; 16]);
    assert_eq!(driver.refused(&attach), (Status::BadRes, 1));
    let detach = {
        let mut detach = attach.clone();
        Input::new(&mut detach).set_opcode(Opcode::DetachFromMcg.code());
        detach
    };
    assert_eq!(driver.refused(&detach), (Status::BadRes, 1));
}
