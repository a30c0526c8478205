//! NIC vport context, vport state, P_Key table.

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::layout::{set_bytes, word};
use rocinante_firmware_cmd::mlx5::vport::{
    ModifyNicVportContextIn, ModifyVportStateIn, NicVportContext, QueryHcaVportPkeyIn,
    QueryHcaVportPkeyOut, QueryNicVportContextIn, QueryNicVportContextOut, QueryVportStateIn,
    QueryVportStateOut,
};
use rocinante_wire::MacAddr;

use super::CmdError;
use crate::mlx5::core::Core;
use crate::mlx5::eq::Eqe;
use crate::mlx5::port::MAX_MTU;
use crate::mlx5::vport::{AdminState, Vport, change_event};

checks! {
    QueryVportState {
        STATE_OTHER = 1, BadParam, "there is no other vport";
        STATE_KIND = 2, BadParam, "op_mod is none of vnic, esw, uplink";
    }
    ModifyVportState {
        SET_OTHER = 1, BadParam, "there is no other vport";
        SET_KIND = 2, BadParam, "op_mod is none of vnic, esw, uplink";
        SET_STATE = 3, BadParam, "admin_state is none of down, up, auto";
    }
    QueryNicVportContext {
        QUERY_OTHER = 1, BadParam, "there is no other vport";
        QUERY_LIST = 2, BadParam, "allowed_list_type is none of UC, MC, VLAN";
    }
    ModifyNicVportContext {
        MODIFY_OTHER = 1, BadParam, "there is no other vport";
        MODIFY_LIST = 2, BadParam, "allowed_list_type is none of UC, MC, VLAN";
        LIST_LIMIT = 3, BadParam, "the list is longer than log_max_current list";
        SHORT_LIST = 4, BadInpLen, "the list is shorter than allowed_list_size";
        MTU = 5, BadParam, "mtu is above the largest frame";
        AFFILIATION = 6, BadParam, "there is no other vhca";
    }
    QueryHcaVportPkey {
        PKEY_OTHER = 1, BadParam, "there is no other vport";
        PKEY_INDEX = 2, Ix, "pkey_index is beyond the table";
    }
}

/// `allowed_list_type`.
const LIST_UC: u8 = 0;
const LIST_MC: u8 = 1;
const LIST_VLAN: u8 = 2;

/// The word of the context that arms change events.
const CHANGE_EVENTS: usize = 4;

/// Entries of the P_Key table, `pkey_table_size` 0.
const PKEYS: usize = 128;
/// The P_Key at index 0; the others are empty.
const DEFAULT_PKEY: u16 = 0xffff;
/// The `pkey_index` that asks for the whole table.
const ALL_PKEYS: u16 = 0xffff;

/// Whether a command is about a vport that there is not. Vport 0 is the function's own.
fn is_other(other_vport: bool, vport_number: u16) -> bool {
    other_vport && vport_number != 0
}

/// QUERY_VPORT_STATE.
pub fn query_vport_state(
    core: &Core,
    op_mod: u16,
    input: &[u8],
    output: &mut [u8],
) -> Result<(), CmdError> {
    let query = QueryVportStateIn::new(input);
    if is_other(query.other_vport(), query.vport_number()) {
        return Err(STATE_OTHER);
    }
    if op_mod > 2 {
        return Err(STATE_KIND);
    }
    QueryVportStateOut::new(output)
        .set_admin_state(core.vport.admin_state as u8)
        .set_state(u8::from(core.vport.is_up(core.port.link_up())));
    Ok(())
}

/// MODIFY_VPORT_STATE.
pub fn modify_vport_state(core: &mut Core, op_mod: u16, input: &[u8]) -> Result<(), CmdError> {
    let modify = ModifyVportStateIn::new(input);
    if is_other(modify.other_vport(), modify.vport_number()) {
        return Err(SET_OTHER);
    }
    if op_mod > 2 {
        return Err(SET_KIND);
    }
    core.vport.admin_state = match modify.admin_state() {
        0 => AdminState::Down,
        1 => AdminState::Up,
        2 => AdminState::Auto,
        _ => return Err(SET_STATE),
    };
    Ok(())
}

/// QUERY_NIC_VPORT_CONTEXT, with the list that is asked for.
pub fn query_nic_vport_context(
    core: &Core,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), CmdError> {
    let query = QueryNicVportContextIn::new(input);
    if is_other(query.other_vport(), query.vport_number()) {
        return Err(QUERY_OTHER);
    }
    let vport = &core.vport;
    let list_type = query.allowed_list_type();
    let len = match list_type {
        LIST_UC => vport.uc_list.len(),
        LIST_MC => vport.mc_list.len(),
        LIST_VLAN => vport.vlan_list.len(),
        _ => return Err(QUERY_LIST),
    };
    output.resize(QueryNicVportContextOut::SIZE + 8 * len, 0);
    let mut out = QueryNicVportContextOut::new(output);
    let mut context = out.nic_vport_context_mut();
    context
        .set_min_wqe_inline_mode(vport.min_inline)
        .set_disable_mc_local_lb(vport.disable_mc_local_lb)
        .set_disable_uc_local_lb(vport.disable_uc_local_lb)
        .set_roce_en(vport.roce_en)
        .set_mtu(vport.mtu)
        .set_system_image_guid(vport.system_image_guid)
        .set_port_guid(vport.port_guid)
        .set_node_guid(vport.node_guid)
        .set_qkey_violation_counter(vport.qkey_violations)
        .set_promisc_uc(vport.promisc_uc)
        .set_promisc_mc(vport.promisc_mc)
        .set_promisc_all(vport.promisc_all)
        .set_allowed_list_type(list_type)
        .set_allowed_list_size(len as u16);
    set_bytes(
        context.as_bytes_mut(),
        CHANGE_EVENTS,
        &vport.change_events.to_be_bytes(),
    );
    context
        .permanent_address_mut()
        .set_mac_addr(&vport.permanent.octets());
    match list_type {
        LIST_VLAN => {
            for (index, vlan) in vport.vlan_list.iter().enumerate() {
                context.vlan_list_mut().get_mut(index).set_vlan(*vlan);
            }
        }
        _ => {
            let macs = if list_type == LIST_UC {
                &vport.uc_list
            } else {
                &vport.mc_list
            };
            for (index, mac) in macs.iter().enumerate() {
                context
                    .mac_list_mut()
                    .get_mut(index)
                    .set_mac_addr(&mac.octets());
            }
        }
    }
    Ok(())
}

/// MODIFY_NIC_VPORT_CONTEXT: the selected fields, all of them or, if one is bad, none.
pub fn modify_nic_vport_context(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let modify = ModifyNicVportContextIn::new(input);
    if is_other(modify.other_vport(), modify.vport_number()) {
        return Err(MODIFY_OTHER);
    }
    let (select, context) = (modify.field_select(), modify.nic_vport_context());
    let mut vport = core.vport.clone();
    if select.affiliation() {
        return Err(AFFILIATION);
    }
    if select.mtu() {
        if context.mtu() > MAX_MTU {
            return Err(MTU);
        }
        vport.mtu = context.mtu();
    }
    if select.addresses_list() {
        let len = usize::from(context.allowed_list_size());
        let caps = core.hca.caps.general();
        match context.allowed_list_type() {
            LIST_UC => vport.uc_list = mac_list(&context, len, caps.log_max_current_uc_list())?,
            LIST_MC => vport.mc_list = mac_list(&context, len, caps.log_max_current_mc_list())?,
            LIST_VLAN => vport.vlan_list = vlan_list(&context, len, caps.log_max_vlan_list())?,
            _ => return Err(MODIFY_LIST),
        }
    }
    if select.disable_uc_local_lb() {
        vport.disable_uc_local_lb = context.disable_uc_local_lb();
    }
    if select.disable_mc_local_lb() {
        vport.disable_mc_local_lb = context.disable_mc_local_lb();
    }
    if select.node_guid() {
        vport.node_guid = context.node_guid();
    }
    if select.port_guid() {
        vport.port_guid = context.port_guid();
    }
    if select.min_inline() {
        vport.min_inline = context.min_wqe_inline_mode();
    }
    if select.change_event() {
        vport.change_events = word(context.as_bytes(), CHANGE_EVENTS);
    }
    if select.promisc() {
        vport.promisc_uc = context.promisc_uc();
        vport.promisc_mc = context.promisc_mc();
        vport.promisc_all = context.promisc_all();
    }
    if select.permanent_address() {
        vport.permanent = mac(context.permanent_address().mac_addr());
    }
    if select.roce_en() {
        vport.roce_en = context.roce_en();
    }
    let changes = changes(&core.vport, &vport);
    core.vport = vport;
    // Whoever armed the events in this command means those to come.
    let armed = core.vport.change_events & change_event::ARMED != 0;
    if !select.change_event() && armed && core.vport.change_events & changes != 0 {
        core.vport.change_events = 0;
        core.event(Eqe::vport_change());
    }
    Ok(())
}

/// The change events that a modification is worth.
fn changes(before: &Vport, after: &Vport) -> u32 {
    let bit = |changed: bool, bit: u32| if changed { bit } else { 0 };
    bit(before.uc_list != after.uc_list, change_event::UNICAST)
        | bit(before.mc_list != after.mc_list, change_event::MULTICAST)
        | bit(before.vlan_list != after.vlan_list, change_event::VLAN)
        | bit(before.mtu != after.mtu, change_event::MTU)
        | bit(
            (before.promisc_uc, before.promisc_mc, before.promisc_all)
                != (after.promisc_uc, after.promisc_mc, after.promisc_all),
            change_event::PROMISC,
        )
}

fn mac(octets: [u8; 6]) -> MacAddr {
    MacAddr::from(octets)
}

fn mac_list(
    context: &NicVportContext<&[u8]>,
    len: usize,
    log_max: u8,
) -> Result<Vec<MacAddr>, CmdError> {
    if len > 1 << log_max {
        return Err(LIST_LIMIT);
    }
    let list = context.mac_list();
    if list.len() < len {
        return Err(SHORT_LIST);
    }
    Ok(list
        .iter()
        .take(len)
        .map(|entry| mac(entry.mac_addr()))
        .collect())
}

fn vlan_list(
    context: &NicVportContext<&[u8]>,
    len: usize,
    log_max: u8,
) -> Result<Vec<u16>, CmdError> {
    if len > 1 << log_max {
        return Err(LIST_LIMIT);
    }
    let list = context.vlan_list();
    if list.len() < len {
        return Err(SHORT_LIST);
    }
    Ok(list.iter().take(len).map(|entry| entry.vlan()).collect())
}

/// QUERY_HCA_VPORT_PKEY: full membership of the default partition at index 0, nothing else.
pub fn query_hca_vport_pkey(input: &[u8], output: &mut Vec<u8>) -> Result<(), CmdError> {
    let query = QueryHcaVportPkeyIn::new(input);
    if is_other(query.other_vport(), query.vport_number()) {
        return Err(PKEY_OTHER);
    }
    let index = query.pkey_index();
    let entries = match index {
        ALL_PKEYS => PKEYS,
        _ if usize::from(index) < PKEYS => 1,
        _ => return Err(PKEY_INDEX),
    };
    output.resize(QueryHcaVportPkeyOut::SIZE + 4 * entries, 0);
    if index == 0 || index == ALL_PKEYS {
        QueryHcaVportPkeyOut::new(output)
            .pkey_mut()
            .get_mut(0)
            .set_pkey(DEFAULT_PKEY);
    }
    Ok(())
}
