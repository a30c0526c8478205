//! Vport contexts, RoCE addresses, registers.

use super::words;
use crate::mlx5::registers::counters::{Ieee8023Counters, Ppcnt};
use crate::mlx5::registers::port::{Paos, Pmtu, Ptys};
use crate::mlx5::vport::{ModifyNicVportContextIn, SetRoceAddressIn};

#[test]
fn vport_and_roce_addresses() {
    let mut bytes = words(
        0x210,
        [
            (0x0c, 0x44),
            (0x124, 9000),
            (0x1f0, 0x4000_0002),
            (0x1f4, 0x0000_0002),
        ],
    );
    bytes[0x1f8..0x1fc].copy_from_slice(&[0xc9, 0x11, 0x22, 0x33]);
    bytes[0x202..0x208].copy_from_slice(&[1, 2, 3, 4, 5, 6]);
    bytes[0x20a..0x210].copy_from_slice(&[7, 8, 9, 10, 11, 12]);
    let input = ModifyNicVportContextIn::new(&bytes);
    assert!(input.field_select().mtu() && input.field_select().addresses_list());
    assert!(!input.field_select().promisc());
    let context = input.nic_vport_context();
    assert_eq!(
        (
            context.mtu(),
            context.promisc_mc(),
            context.allowed_list_size()
        ),
        (9000, true, 2)
    );
    assert_eq!(
        context.permanent_address().mac_addr(),
        [0x00, 0x02, 0xc9, 0x11, 0x22, 0x33]
    );
    let list: Vec<_> = context
        .mac_list()
        .iter()
        .map(|entry| entry.mac_addr())
        .collect();
    assert_eq!(list, [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]);

    let bytes = words(
        0x30,
        [
            (0x08, 0x0003_0001),
            (0x1c, 0x0a00_0001),
            (0x20, 0x1064_0002),
            (0x24, 0xc911_2233),
            (0x28, 0x0000_0002),
        ],
    );
    let input = SetRoceAddressIn::new(&bytes);
    assert_eq!((input.roce_address_index(), input.vhca_port_num()), (3, 1));
    let address = input.roce_address();
    assert_eq!(address.source_l3_address()[12..], [10, 0, 0, 1]);
    assert_eq!((address.vlan_valid(), address.vlan_id()), (true, 100));
    assert_eq!(address.source_mac(), [0x00, 0x02, 0xc9, 0x11, 0x22, 0x33]);
    assert_eq!((address.roce_l3_type(), address.roce_version()), (0, 2));
}

#[test]
fn registers() {
    let bytes = words(0x10, [(0, 0x0001_0000), (4, 10218 << 16), (8, 1522 << 16)]);
    let pmtu = Pmtu::new(&bytes);
    assert_eq!(
        (
            pmtu.local_port(),
            pmtu.max_mtu(),
            pmtu.admin_mtu(),
            pmtu.oper_mtu()
        ),
        (1, 10218, 1522, 0)
    );
    let bytes = words(
        0x40,
        [(0, 0x0001_0004), (0x0c, 1 << 20), (0x18, 3), (0x24, 5)],
    );
    let ptys = Ptys::new(&bytes);
    assert_eq!(
        (ptys.proto_mask(), ptys.eth_proto_capability()),
        (4, 1 << 20)
    );
    assert_eq!((ptys.eth_proto_admin(), ptys.eth_proto_oper()), (3, 5));
    let bytes = words(0x10, [(0, 0x0001_0102), (4, 0x8000_0000)]);
    let paos = Paos::new(&bytes);
    assert_eq!(
        (paos.admin_status(), paos.oper_status(), paos.ase()),
        (1, 2, true)
    );

    let mut bytes = words(0x100, [(0, 0x0001_0010), (4, 0x8000_0003)]);
    let mut ppcnt = Ppcnt::new(&mut bytes);
    assert_eq!((ppcnt.grp(), ppcnt.clr(), ppcnt.prio_tc()), (0x10, true, 3));
    let mut counters = Ieee8023Counters::new(ppcnt.counter_set_mut());
    counters
        .set_a_frames_transmitted_ok(1)
        .set_a_octets_received_ok(0x2_0000_0003);
    assert_eq!(bytes[0x08..0x10], [0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(bytes[0x30..0x38], [0, 0, 0, 2, 0, 0, 0, 3]);
}
