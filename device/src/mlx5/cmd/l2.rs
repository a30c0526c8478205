//! The table of MAC addresses of the multi-function switch, by which the port finds the physical
//! function that a frame is for. There is one function, and it gets all frames, so that the table
//! is only kept: drivers fill and clear it if they manage the switch.

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::vport::{
    DeleteL2TableEntryIn, QueryL2TableEntryIn, QueryL2TableEntryOut, SetL2TableEntryIn,
};
use rocinante_wire::MacAddr;

use super::CmdError;
use crate::mlx5::core::Core;
use crate::mlx5::vport::L2Entry;

checks! {
    SetL2TableEntry {
        SET_INDEX = 1, BadParam, "table_index is beyond log_max_l2_table";
        GROUP = 2, BadParam, "mac_address is a group address";
    }
    QueryL2TableEntry { QUERY_INDEX = 1, BadRes, "no such entry"; }
    DeleteL2TableEntry { DELETE_INDEX = 1, BadParam, "table_index is beyond log_max_l2_table"; }
}

fn exists(core: &Core, index: u32) -> bool {
    index >> core.hca.caps.general().log_max_l2_table() == 0
}

/// SET_L2_TABLE_ENTRY. What was there before is replaced.
pub fn set_l2_table_entry(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let set = SetL2TableEntryIn::new(input);
    if !exists(core, set.table_index()) {
        return Err(SET_INDEX);
    }
    let mac = MacAddr::from(set.mac_address().mac_addr());
    if mac.is_multicast() {
        return Err(GROUP);
    }
    let vlan = set.vlan_valid().then(|| set.vlan());
    core.vport
        .l2_table
        .insert(set.table_index(), L2Entry { mac, vlan });
    Ok(())
}

/// QUERY_L2_TABLE_ENTRY.
pub fn query_l2_table_entry(core: &Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let index = QueryL2TableEntryIn::new(input).table_index();
    let entry = core.vport.l2_table.get(&index).ok_or(QUERY_INDEX)?;
    let mut out = QueryL2TableEntryOut::new(output);
    out.set_vlan_valid(entry.vlan.is_some())
        .set_vlan(entry.vlan.unwrap_or(0));
    out.mac_address_mut().set_mac_addr(&entry.mac.octets());
    Ok(())
}

/// DELETE_L2_TABLE_ENTRY. FreeBSD has two users of the table with one numbering each, and deletes
/// some entries twice.
pub fn delete_l2_table_entry(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let index = DeleteL2TableEntryIn::new(input).table_index();
    if !exists(core, index) {
        return Err(DELETE_INDEX);
    }
    core.vport.l2_table.remove(&index);
    Ok(())
}
