//! Registers of the link: PMLP, PMTU, PTYS, PAOS, PPLM, PDDR, PCMR, and MLCR, the port's LED.

use std::time::Duration;

use rocinante_firmware_cmd::mlx5::registers::management::Mlcr;
use rocinante_firmware_cmd::mlx5::registers::port::{Paos, Pcmr, Pddr, Pmlp, Pmtu, Pplm, Ptys};
use rocinante_wire::time::Time;

use super::{CmdError, FEC, MTU, PAGE, SPEED, STATUS, check_port};
use crate::mlx5::core::Core;
use crate::mlx5::port::{self, Beacon, LinkTrouble, MAX_MTU, Port, fec, mode};

const UP: u8 = 1;
const DOWN: u8 = 2;

fn status(up: bool) -> u8 {
    if up { UP } else { DOWN }
}

/// `an_status`.
mod negotiation {
    pub const COMPLETE: u8 = 1;
    pub const FAILED: u8 = 2;
    pub const NOT_USED: u8 = 3;
    pub const LINK_DOWN: u8 = 4;
}

/// `proto_mask`: Ethernet, not InfiniBand, of which there are no modes.
const ETHERNET: u8 = 4;

/// `connector_type`: direct attach copper.
const DIRECT_ATTACH: u8 = 7;

pub(super) fn read_pmlp(data: &mut [u8]) -> Result<(), CmdError> {
    let mut pmlp = Pmlp::new(data);
    check_port(pmlp.local_port())?;
    // Module 0, lane n of it for both directions.
    let lane = |n: u32| n << 24 | n << 16;
    pmlp.set_rxtx(false).set_width(4);
    pmlp.set_lane0_module_mapping(lane(0))
        .set_lane1_module_mapping(lane(1));
    pmlp.set_lane2_module_mapping(lane(2))
        .set_lane3_module_mapping(lane(3));
    Ok(())
}

pub(super) fn read_pmtu(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let mut pmtu = Pmtu::new(data);
    check_port(pmtu.local_port())?;
    pmtu.set_max_mtu(MAX_MTU)
        .set_admin_mtu(port.mtu())
        .set_oper_mtu(port.mtu());
    Ok(())
}

pub(super) fn write_pmtu(port: &mut Port, data: &mut [u8]) -> Result<(), CmdError> {
    let mut pmtu = Pmtu::new(data);
    check_port(pmtu.local_port())?;
    if !port.set_mtu(pmtu.admin_mtu()) {
        return Err(MTU);
    }
    pmtu.set_max_mtu(MAX_MTU).set_oper_mtu(port.mtu());
    Ok(())
}

pub(super) fn read_ptys(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let request = Ptys::new(&*data);
    check_port(request.local_port())?;
    let (local_port, proto_mask) = (request.local_port(), request.proto_mask());
    data.fill(0);
    let mut ptys = Ptys::new(data);
    ptys.set_local_port(local_port)
        .set_proto_mask(proto_mask)
        .set_an_disable_cap(true)
        .set_an_disable_admin(port.forced);
    if proto_mask & ETHERNET == 0 {
        return Ok(());
    }
    ptys.set_eth_proto_capability(mode::ALL)
        .set_eth_proto_admin(port.modes);
    let (mode, rate) = port.operational_speed();
    ptys.set_eth_proto_oper(mode).set_data_rate_oper(rate);
    let negotiation = if port.negotiated() {
        ptys.set_eth_proto_lp_advertise(port.partner());
        negotiation::COMPLETE
    } else if port.link_up() {
        negotiation::NOT_USED
    } else if port.trouble() == LinkTrouble::NoCommonSpeed && !port.forced {
        negotiation::FAILED
    } else {
        negotiation::LINK_DOWN
    };
    ptys.set_an_status(negotiation)
        .set_connector_type(DIRECT_ATTACH);
    Ok(())
}

/// What the link is to come up with, the next time it does. Drivers close and open the port after
/// that.
pub(super) fn write_ptys(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let ptys = Ptys::new(data);
    check_port(ptys.local_port())?;
    let modes = ptys.eth_proto_admin() & mode::ALL;
    if ptys.proto_mask() & ETHERNET == 0 || modes == 0 {
        return Err(SPEED);
    }
    port.modes = modes;
    port.forced = ptys.an_disable_admin();
    Ok(())
}

pub(super) fn read_paos(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let mut paos = Paos::new(data);
    check_port(paos.local_port())?;
    paos.set_admin_status(status(port.admin_up()))
        .set_oper_status(status(port.link_up()));
    Ok(())
}

pub(super) fn write_paos(core: &mut Core, data: &mut [u8]) -> Result<(), CmdError> {
    let mut paos = Paos::new(data);
    check_port(paos.local_port())?;
    if paos.ase() {
        let up = match paos.admin_status() {
            UP => true,
            DOWN => false,
            _ => return Err(STATUS),
        };
        port::set_admin(core, up);
    }
    paos.set_oper_status(status(core.port.link_up()));
    Ok(())
}

pub(super) fn read_pplm(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let request = Pplm::new(&*data);
    check_port(request.local_port())?;
    let local_port = request.local_port();
    data.fill(0);
    let mut pplm = Pplm::new(data);
    pplm.set_local_port(local_port);
    let [slow, by25, by50, by100] = fec::CAPABILITY;
    pplm.set_fec_override_cap_10g_40g(slow)
        .set_fec_override_cap_25g(by25)
        .set_fec_override_cap_50g(by50)
        .set_fec_override_cap_100g(by100);
    let [slow, by25, by50, by100] = port.fec.admin;
    pplm.set_fec_override_admin_10g_40g(slow)
        .set_fec_override_admin_25g(by25)
        .set_fec_override_admin_50g(by50)
        .set_fec_override_admin_100g(by100);
    if port.link_up() {
        pplm.set_fec_mode_active(u32::from(port.fec.active()));
    }
    Ok(())
}

/// Counts from the next time on that the link comes up, as speeds do.
pub(super) fn write_pplm(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let pplm = Pplm::new(data);
    check_port(pplm.local_port())?;
    let wish = [
        pplm.fec_override_admin_10g_40g(),
        pplm.fec_override_admin_25g(),
        pplm.fec_override_admin_50g(),
        pplm.fec_override_admin_100g(),
    ];
    let fits = |(wish, can): (&u8, &u8)| wish & !can == 0;
    if pplm.fec_override_admin_56g() != 0 || !wish.iter().zip(&fec::CAPABILITY).all(fits) {
        return Err(FEC);
    }
    port.fec.admin = wish;
    Ok(())
}

/// `page_select` of PDDR.
mod page {
    pub const OPERATION: u8 = 0;
    pub const TROUBLESHOOTING: u8 = 1;
    pub const MODULE: u8 = 3;
}

/// `group_opcode` of the troubleshooting information.
const MONITOR: u16 = 0;

/// FreeBSD asks for the module information to tell long range from extended range optics, which
/// a cable is neither of.
pub(super) fn read_pddr(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let mut pddr = Pddr::new(data);
    check_port(pddr.local_port())?;
    let page = pddr.page_select();
    let mut shown = pddr.page_data_mut();
    let group = shown.group_opcode();
    shown.as_bytes_mut().fill(0);
    match page {
        page::OPERATION | page::MODULE => Ok(()),
        page::TROUBLESHOOTING => {
            shown.set_group_opcode(group);
            if group != MONITOR {
                return Ok(());
            }
            let trouble = port.trouble();
            shown.set_status_opcode(trouble as u16);
            let text: &[u8] = match trouble {
                LinkTrouble::None => b"No issue was observed.",
                LinkTrouble::ClosedByCommand => {
                    b"The port is closed by command. Please check that the interface is enabled."
                }
                LinkTrouble::NoPartner => b"Auto-negotiation no partner detected.",
                LinkTrouble::NoPartnerForced => b"No partner detected during force mode.",
                LinkTrouble::NoCommonSpeed => b"No common speed was found during auto-negotiation.",
            };
            let mut message = [0; 0xe4];
            for (to, from) in message.iter_mut().zip(text) {
                *to = *from;
            }
            shown.set_status_message(&message);
            Ok(())
        }
        _ => Err(PAGE),
    }
}

pub(super) fn read_pcmr(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let mut pcmr = Pcmr::new(data);
    check_port(pcmr.local_port())?;
    pcmr.set_fcs_cap(true).set_fcs_chk(port.checks_fcs);
    Ok(())
}

pub(super) fn write_pcmr(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let pcmr = Pcmr::new(data);
    check_port(pcmr.local_port())?;
    port.checks_fcs = pcmr.fcs_chk();
    Ok(())
}

/// `beacon_duration` of a LED that blinks until it is switched off.
const FOR_EVER: u16 = 0xffff;

pub(super) fn read_mlcr(port: &Port, now: Time, data: &mut [u8]) -> Result<(), CmdError> {
    let mut mlcr = Mlcr::new(data);
    check_port(mlcr.local_port())?;
    let remain = match port.beacon {
        Beacon::Off => 0,
        Beacon::On => FOR_EVER,
        Beacon::Until(end) => end.0.saturating_sub(now.0).div_ceil(1_000_000_000) as u16,
    };
    mlcr.set_beacon_remain(remain);
    Ok(())
}

pub(super) fn write_mlcr(core: &mut Core, data: &[u8]) -> Result<(), CmdError> {
    let mlcr = Mlcr::new(data);
    check_port(mlcr.local_port())?;
    core.port.beacon = match mlcr.beacon_duration() {
        0 => Beacon::Off,
        FOR_EVER => Beacon::On,
        seconds => Beacon::Until(core.now + Duration::from_secs(seconds.into())),
    };
    let state = if core.port.beacon == Beacon::Off {
        "off"
    } else {
        "on"
    };
    log::info!(target: "mlx5::cmd", "{}: the port's LED is {state}", core.config.name);
    Ok(())
}
