//! RoCE address table and multicast groups.

use log::debug;
use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::vport::{
    AttachToMcgIn, DetachFromMcgIn, QueryRoceAddressIn, QueryRoceAddressOut, SetRoceAddressIn,
};
use rocinante_wire::MacAddr;

use super::CmdError;
use crate::mlx5::core::Core;
use crate::mlx5::nic::Nic;
use crate::mlx5::roce::{RoceAddress, RoceVersion, TABLE_SIZE, mapped};

checks! {
    SetRoceAddress {
        SET_INDEX = 1, Ix, "roce_address_index is beyond the table";
        VERSION = 2, BadParam, "roce_version is neither 1 nor 2";
        L3_TYPE = 3, BadParam, "roce_l3_type is neither IPv4 nor IPv6";
    }
    QueryRoceAddress { QUERY_INDEX = 1, Ix, "roce_address_index is beyond the table"; }
    AttachToMcg {
        ATTACH_NO_QP = 1, BadRes, "no such QP";
        NOT_MULTICAST = 2, BadParam, "the GID is not a multicast GID";
        GROUPS = 3, Lim, "log_max_mcg is reached";
        MEMBERS = 4, Lim, "max_qp_mcg is reached";
    }
    DetachFromMcg { NOT_ATTACHED = 1, BadRes, "the QP is not attached to the group"; }
}

/// `roce_version`.
const VERSION_1: u8 = 0;
const VERSION_2: u8 = 2;
/// `roce_l3_type`.
const L3_IPV4: u8 = 0;
const L3_IPV6: u8 = 1;

fn index(index: u16, error: CmdError) -> Result<u8, CmdError> {
    u8::try_from(index)
        .ok()
        .filter(|index| usize::from(*index) < TABLE_SIZE)
        .ok_or(error)
}

/// SET_ROCE_ADDRESS: an entry without addresses empties its place, whatever version it names.
pub fn set_roce_address(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let set = SetRoceAddressIn::new(input);
    let index = index(set.roce_address_index(), SET_INDEX)?;
    let address = set.roce_address();
    let (gid, mac) = (address.source_l3_address(), address.source_mac());
    if gid == [0; 16] && mac == [0; 6] {
        core.roce.set_address(index, None);
        return Ok(());
    }
    let (version, gid) = match (address.roce_version(), address.roce_l3_type()) {
        (VERSION_1, _) => (RoceVersion::V1, gid),
        // FreeBSD leaves the first twelve bytes zero, Linux writes the mapped form.
        (VERSION_2, L3_IPV4) => (
            RoceVersion::V2Ipv4,
            mapped([gid[12], gid[13], gid[14], gid[15]]),
        ),
        (VERSION_2, L3_IPV6) => (RoceVersion::V2Ipv6, gid),
        (VERSION_2, _) => return Err(L3_TYPE),
        _ => return Err(VERSION),
    };
    let vlan = address.vlan_valid().then(|| address.vlan_id());
    let entry = RoceAddress {
        version,
        gid,
        mac: MacAddr::from(mac),
        vlan,
    };
    debug!(target: "mlx5::cmd", "RoCE address {index}: {entry:?}");
    core.roce.set_address(index, Some(entry));
    Ok(())
}

/// QUERY_ROCE_ADDRESS.
pub fn query_roce_address(core: &Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let index = index(
        QueryRoceAddressIn::new(input).roce_address_index(),
        QUERY_INDEX,
    )?;
    let Some(entry) = core.roce.address(index) else {
        return Ok(());
    };
    let mut out = QueryRoceAddressOut::new(output);
    let mut address = out.roce_address_mut();
    let (version, l3_type) = match entry.version {
        RoceVersion::V1 => (VERSION_1, L3_IPV4),
        RoceVersion::V2Ipv4 => (VERSION_2, L3_IPV4),
        RoceVersion::V2Ipv6 => (VERSION_2, L3_IPV6),
    };
    address
        .set_source_l3_address(&entry.gid)
        .set_source_mac(&entry.mac.octets())
        .set_vlan_valid(entry.vlan.is_some())
        .set_vlan_id(entry.vlan.unwrap_or(0))
        .set_roce_version(version)
        .set_roce_l3_type(l3_type);
    Ok(())
}

/// Multicast GIDs are IPv6 multicast, or (RoCE v2) mapped IPv4 multicast addresses.
fn is_multicast(gid: &[u8; 16]) -> bool {
    gid[0] == 0xff || (*gid == mapped([gid[12], gid[13], gid[14], gid[15]]) && gid[12] >> 4 == 0xe)
}

/// ATTACH_TO_MCG; a second attachment of the same QP changes nothing.
pub fn attach_to_mcg(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let attach = AttachToMcgIn::new(input);
    let (qpn, gid) = (attach.qpn(), attach.multicast_gid());
    if !nic.qps.contains(qpn) {
        return Err(ATTACH_NO_QP);
    }
    if !is_multicast(&gid) {
        return Err(NOT_MULTICAST);
    }
    let caps = nic.core.hca.caps.general();
    let (max_groups, max_members) = (
        1usize << caps.log_max_mcg().min(24),
        caps.max_qp_mcg() as usize,
    );
    let groups = &mut nic.core.roce.multicast;
    if !groups.contains_key(&gid) && groups.len() >= max_groups {
        return Err(GROUPS);
    }
    let members = groups.entry(gid).or_default();
    if members.contains(&qpn) {
        return Ok(());
    }
    if members.len() >= max_members {
        return Err(MEMBERS);
    }
    members.push(qpn);
    Ok(())
}

/// DETACH_FROM_MCG.
pub fn detach_from_mcg(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let detach = DetachFromMcgIn::new(input);
    let (qpn, gid) = (detach.qpn(), detach.multicast_gid());
    let members = core.roce.multicast.get_mut(&gid).ok_or(NOT_ATTACHED)?;
    let place = members
        .iter()
        .position(|member| *member == qpn)
        .ok_or(NOT_ATTACHED)?;
    members.swap_remove(place);
    if members.is_empty() {
        core.roce.multicast.remove(&gid);
    }
    Ok(())
}
