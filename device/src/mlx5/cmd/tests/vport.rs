//! NIC vport context, vport state, P_Keys.

use rocinante_firmware_cmd::mlx5::vport::{
    ModifyNicVportContextIn, ModifyVportStateIn, QueryHcaVportPkeyIn, QueryHcaVportPkeyOut,
    QueryNicVportContextIn, QueryNicVportContextOut, QueryVportStateOut,
};

use super::*;

fn query(list_type: u8) -> Vec<u8> {
    let mut query = input(Opcode::QueryNicVportContext, 0, 16);
    QueryNicVportContextIn::new(&mut query).set_allowed_list_type(list_type);
    query
}

/// MODIFY_NIC_VPORT_CONTEXT with room for `entries`.
fn modify(entries: usize) -> Vec<u8> {
    input(
        Opcode::ModifyNicVportContext,
        0,
        ModifyNicVportContextIn::SIZE + 8 * entries,
    )
}

#[test]
fn the_context_is_that_of_the_adapter_at_first() {
    let mut driver = Driver::initialized();
    let output = driver.ok(&query(0));
    let query = QueryNicVportContextOut::new(&output);
    let context = query.nic_vport_context();
    assert_eq!(context.permanent_address().mac_addr(), [2, 0, 0, 0, 0, 1]);
    assert_eq!(&output[0x10 + 0xf6..][..6], &[2, 0, 0, 0, 0, 1]);
    assert_eq!(context.node_guid(), 0x0200_00ff_fe00_0001);
    assert_eq!((context.roce_en(), context.allowed_list_size()), (false, 0));
}

#[test]
fn only_selected_fields_change() {
    let mut driver = Driver::initialized();
    let mut change = modify(0);
    let mut view = ModifyNicVportContextIn::new(&mut change);
    view.field_select_mut()
        .set_mtu(true)
        .set_promisc(true)
        .set_change_event(true);
    view.nic_vport_context_mut().set_arm_change_event(true);
    view.nic_vport_context_mut()
        .set_mtu(9022)
        .set_roce_en(true)
        .set_promisc_mc(true);
    driver.ok(&change);
    let output = driver.ok(&query(0));
    let context = QueryNicVportContextOut::new(&output);
    let context = context.nic_vport_context();
    assert_eq!((context.mtu(), context.roce_en()), (9022, false));
    assert!(context.arm_change_event());
    assert_eq!((context.promisc_uc(), context.promisc_mc()), (false, true));
    let mut view = ModifyNicVportContextIn::new(&mut change);
    view.nic_vport_context_mut()
        .set_mtu(0xffff)
        .set_promisc_mc(false);
    assert_eq!(driver.refused(&change), (Status::BadParam, 5));
    assert!(driver.nic.core.vport.promisc_mc, "all or nothing");
}

#[test]
fn lists_are_replaced_and_read_back() {
    let mut driver = Driver::initialized();
    let mut macs = modify(2);
    let mut view = ModifyNicVportContextIn::new(&mut macs);
    view.field_select_mut().set_addresses_list(true);
    let mut context = view.nic_vport_context_mut();
    context.set_allowed_list_type(1).set_allowed_list_size(2);
    context
        .mac_list_mut()
        .get_mut(0)
        .set_mac_addr(&[1, 0, 0x5e, 0, 0, 1]);
    context
        .mac_list_mut()
        .get_mut(1)
        .set_mac_addr(&[0x33, 0x33, 0, 0, 0, 1]);
    driver.ok(&macs);
    let mut vlans = modify(1);
    let mut view = ModifyNicVportContextIn::new(&mut vlans);
    view.field_select_mut().set_addresses_list(true);
    let mut context = view.nic_vport_context_mut();
    context.set_allowed_list_type(2).set_allowed_list_size(1);
    context.vlan_list_mut().get_mut(0).set_vlan(100);
    driver.ok(&vlans);

    let output = driver.ok(&query(1));
    assert_eq!(output.len(), 0x110 + 16);
    assert_eq!(
        &output[0x110..],
        &[0, 0, 1, 0, 0x5e, 0, 0, 1, 0, 0, 0x33, 0x33, 0, 0, 0, 1]
    );
    assert_eq!(&driver.ok(&query(2))[0x110..], &[0, 0, 0, 100, 0, 0, 0, 0]);
    assert_eq!(driver.ok(&query(0)).len(), 0x110);
    assert_eq!(driver.refused(&query(3)), (Status::BadParam, 2));

    let mut view = ModifyNicVportContextIn::new(&mut macs);
    view.nic_vport_context_mut().set_allowed_list_size(3);
    assert_eq!(driver.refused(&macs), (Status::BadInpLen, 4));
    let mut view = ModifyNicVportContextIn::new(&mut macs);
    view.nic_vport_context_mut()
        .set_allowed_list_type(0)
        .set_allowed_list_size(129);
    assert_eq!(driver.refused(&macs), (Status::BadParam, 3));
    let mut view = ModifyNicVportContextIn::new(&mut macs);
    view.nic_vport_context_mut().set_allowed_list_type(4);
    assert_eq!(driver.refused(&macs), (Status::BadParam, 2));
    assert_eq!(driver.nic.core.vport.mc_list.len(), 2);
}

#[test]
fn the_state_follows_the_port_unless_forced() {
    let mut driver = Driver::initialized();
    let state = |driver: &mut Driver| {
        let output = driver.bare(Opcode::QueryVportState);
        let query = QueryVportStateOut::new(&output);
        (query.admin_state(), query.state())
    };
    assert_eq!(state(&mut driver), (2, 0));
    crate::mlx5::port::set_physical(&mut driver.nic.core, true);
    crate::mlx5::port::set_admin(&mut driver.nic.core, true);
    assert_eq!(state(&mut driver), (2, 1));
    let mut down = input(Opcode::ModifyVportState, 1, 16);
    ModifyVportStateIn::new(&mut down).set_admin_state(0);
    driver.ok(&down);
    assert_eq!(state(&mut driver), (0, 0));
    ModifyVportStateIn::new(&mut down).set_admin_state(3);
    assert_eq!(driver.refused(&down), (Status::BadParam, 3));
}

#[test]
fn there_is_one_vport() {
    let mut driver = Driver::initialized();
    let opcodes = [
        Opcode::QueryVportState,
        Opcode::ModifyVportState,
        Opcode::QueryNicVportContext,
        Opcode::ModifyNicVportContext,
        Opcode::QueryVportCounter,
        Opcode::QueryVnicEnv,
        Opcode::QueryHcaVportPkey,
        Opcode::QueryQCounter,
    ];
    for opcode in opcodes {
        let mut other = input(opcode, 0, 0x200);
        (other[8], other[11]) = (0x80, 1);
        assert_eq!(driver.refused(&other).0, Status::BadParam, "{opcode}");
    }
}

/// Drivers that manage vports may name their own as they name others.
#[test]
fn vport_0_is_the_functions_own() {
    let mut driver = Driver::initialized();
    for opcode in [Opcode::QueryVportState, Opcode::QueryNicVportContext] {
        let mut own = input(opcode, 0, 0x10);
        own[8] = 0x80;
        driver.ok(&own);
    }
}

#[test]
fn an_armed_change_is_told_once() {
    let mut driver = Driver::initialized();
    let uar = driver.uar();
    let eqn = driver.ok(&create_eq(uar, 0, 1 << 0x0d, MEMORY))[0x0b];
    let told = |driver: &Driver| {
        let eq = driver.nic.core.eqs.table.get(u32::from(eqn)).unwrap();
        eq.producer()
    };
    let mut arm = modify(0);
    let mut view = ModifyNicVportContextIn::new(&mut arm);
    view.field_select_mut().set_change_event(true);
    view.nic_vport_context_mut()
        .set_arm_change_event(true)
        .set_event_on_uc_address_change(true);
    let list = |kind: u8, mac: u8| {
        let mut bytes = modify(1);
        let mut view = ModifyNicVportContextIn::new(&mut bytes);
        view.field_select_mut().set_addresses_list(true);
        let mut context = view.nic_vport_context_mut();
        context.set_allowed_list_type(kind).set_allowed_list_size(1);
        context
            .mac_list_mut()
            .get_mut(0)
            .set_mac_addr(&[kind, 0, 0, 0, 0, mac]);
        bytes
    };
    driver.ok(&list(0, 1));
    assert_eq!(told(&driver), 0, "not armed");
    driver.ok(&arm);
    driver.ok(&list(1, 2));
    assert_eq!(told(&driver), 0, "another list");
    driver.ok(&list(0, 1));
    assert_eq!(told(&driver), 0, "the same list");
    driver.ok(&list(0, 2));
    assert_eq!(told(&driver), 1);
    driver.ok(&list(0, 3));
    assert_eq!(told(&driver), 1, "disarmed");
}

/// SET_L2_TABLE_ENTRY as Linux and FreeBSD send it: index 5, 02:00:00:00:00:07.
#[test]
fn the_table_of_addresses_is_kept() {
    let mut driver = Driver::initialized();
    let mut set = input(Opcode::SetL2TableEntry, 0, 0x40);
    set[0x17] = 5;
    set[0x22..0x28].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
    driver.ok(&set);
    let mut query = input(Opcode::QueryL2TableEntry, 0, 0x40);
    query[0x17] = 5;
    assert_eq!(driver.ok(&query)[0x20..0x28], [0, 0, 2, 0, 0, 0, 0, 7]);
    let mut delete = input(Opcode::DeleteL2TableEntry, 0, 0x40);
    delete[0x17] = 5;
    driver.ok(&delete);
    assert_eq!(driver.refused(&query), (Status::BadRes, 1));
    driver.ok(&delete);
    delete[0x17] = 128;
    assert_eq!(driver.refused(&delete), (Status::BadParam, 1));
    set[0x17] = 128;
    assert_eq!(driver.refused(&set), (Status::BadParam, 1));
    set[0x17] = 127;
    driver.ok(&set);
    set[0x22] = 3;
    assert_eq!(driver.refused(&set), (Status::BadParam, 2));
}

#[test]
fn one_pkey() {
    let mut driver = Driver::initialized();
    let mut query = input(Opcode::QueryHcaVportPkey, 0, 16);
    let output = driver.ok(&query);
    assert_eq!(&output[0x10..], &[0, 0, 0xff, 0xff]);
    QueryHcaVportPkeyIn::new(&mut query).set_pkey_index(127);
    assert_eq!(&driver.ok(&query)[0x10..], &[0; 4]);
    QueryHcaVportPkeyIn::new(&mut query).set_pkey_index(128);
    assert_eq!(driver.refused(&query), (Status::Ix, 2));
    QueryHcaVportPkeyIn::new(&mut query).set_pkey_index(0xffff);
    let output = driver.ok(&query);
    let table = QueryHcaVportPkeyOut::new(&output);
    let table: Vec<u16> = table.pkey().iter().map(|entry| entry.pkey()).collect();
    assert_eq!((table.len(), table[0]), (128, 0xffff));
    assert!(table[1..].iter().all(|pkey| *pkey == 0));
}
