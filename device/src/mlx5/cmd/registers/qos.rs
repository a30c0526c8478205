//! Registers of flow control and of the quality of service: PFCC, QPTS, QPDP, QPDPM, QTCT, QETCR,
//! DCBX_PARAM.

use rocinante_firmware_cmd::layout::BytesMut;
use rocinante_firmware_cmd::mlx5::registers::port::Pfcc;
use rocinante_firmware_cmd::mlx5::registers::qos::{
    DcbxParam, EtsTcnConfig, Qetcr, Qpdp, Qpdpm, Qpts, Qtct,
};

use super::{BANDWIDTH, CmdError, DCBX, TRUST, check_port};
use crate::mlx5::port::Port;
use crate::mlx5::port::qos::{TRUST_DSCP, TRUST_PCP, TrafficClass};

pub(super) fn read_pfcc(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let local_port = Pfcc::new(&*data).local_port();
    check_port(local_port)?;
    data.fill(0);
    let flow = &port.flow_control;
    let mut pfcc = Pfcc::new(data);
    pfcc.set_local_port(local_port).set_ppan(flow.auto);
    // What is asked for is in force as long as it is not negotiated.
    pfcc.set_pptx(flow.pause_tx)
        .set_aptx(flow.pause_tx)
        .set_pfctx(flow.priorities_tx);
    pfcc.set_pprx(flow.pause_rx)
        .set_aprx(flow.pause_rx)
        .set_pfcrx(flow.priorities_rx);
    pfcc.set_device_stall_minor_watermark(flow.watermarks.0)
        .set_device_stall_critical_watermark(flow.watermarks.1);
    Ok(())
}

/// Masks say which fields are meant: `pptx_mask_n`, `pprx_mask_n` and `ppan_mask_n` which not,
/// the others which.
pub(super) fn write_pfcc(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let pfcc = Pfcc::new(data);
    check_port(pfcc.local_port())?;
    let before = port.flow_control;
    let flow = &mut port.flow_control;
    if !pfcc.ppan_mask_n() {
        flow.auto = pfcc.ppan();
    }
    if !pfcc.pptx_mask_n() {
        flow.pause_tx = pfcc.pptx();
    }
    if !pfcc.pprx_mask_n() {
        flow.pause_rx = pfcc.pprx();
    }
    let merge = |old: u8, new: u8, mask: u8| old & !mask | new & mask;
    flow.priorities_tx = merge(flow.priorities_tx, pfcc.pfctx(), pfcc.prio_mask_tx());
    flow.priorities_rx = merge(flow.priorities_rx, pfcc.pfcrx(), pfcc.prio_mask_rx());
    if pfcc.minor_stall_mask() {
        flow.watermarks.0 = pfcc.device_stall_minor_watermark();
    }
    if pfcc.critical_stall_mask() {
        flow.watermarks.1 = pfcc.device_stall_critical_watermark();
    }
    flow.resolve(&before);
    Ok(())
}

pub(super) fn read_qpts(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let mut qpts = Qpts::new(data);
    check_port(qpts.local_port())?;
    qpts.set_trust_state(port.qos.trust);
    Ok(())
}

pub(super) fn write_qpts(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let qpts = Qpts::new(data);
    check_port(qpts.local_port())?;
    match qpts.trust_state() {
        trust @ (TRUST_PCP | TRUST_DSCP) => port.qos.trust = trust,
        _ => return Err(TRUST),
    }
    Ok(())
}

pub(super) fn read_qpdp(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let mut qpdp = Qpdp::new(data);
    check_port(qpdp.local_port())?;
    qpdp.set_default_prio(port.qos.default_priority);
    Ok(())
}

pub(super) fn write_qpdp(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let qpdp = Qpdp::new(data);
    check_port(qpdp.local_port())?;
    port.qos.default_priority = qpdp.default_prio();
    Ok(())
}

/// An entry of QPDPM: the write is about it.
const ENTRY_VALID: u8 = 0x80;

pub(super) fn read_qpdpm(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let mut qpdpm = Qpdpm::new(data);
    check_port(qpdpm.local_port())?;
    let mut entries = [0; 0x80];
    for (entry, priority) in entries.chunks_exact_mut(2).zip(&port.qos.dscp) {
        entry.copy_from_slice(&[0, *priority]);
    }
    qpdpm.set_dscp(&entries);
    Ok(())
}

pub(super) fn write_qpdpm(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let qpdpm = Qpdpm::new(data);
    check_port(qpdpm.local_port())?;
    let entries = qpdpm.dscp();
    for (entry, priority) in entries.chunks_exact(2).zip(&mut port.qos.dscp) {
        if entry[0] & ENTRY_VALID != 0 {
            *priority = entry[1] & 7;
        }
    }
    Ok(())
}

pub(super) fn read_qtct(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let mut qtct = Qtct::new(data);
    check_port(qtct.port_number())?;
    let class = port.qos.class[usize::from(qtct.prio() & 7)];
    qtct.set_tclass(class);
    Ok(())
}

pub(super) fn write_qtct(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let qtct = Qtct::new(data);
    check_port(qtct.port_number())?;
    port.qos.class[usize::from(qtct.prio() & 7)] = qtct.tclass();
    Ok(())
}

fn show_class<B: BytesMut>(mut out: EtsTcnConfig<B>, class: &TrafficClass) {
    out.as_bytes_mut().fill(0);
    out.set_group(class.group)
        .set_bw_allocation(class.bandwidth);
    out.set_max_bw_units(class.limit_units)
        .set_max_bw_value(class.limit);
}

pub(super) fn read_qetcr(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let mut qetcr = Qetcr::new(data);
    check_port(qetcr.port_number())?;
    for (at, class) in port.qos.classes.iter().enumerate() {
        show_class(qetcr.tc_configuration_mut().get_mut(at), class);
    }
    show_class(qetcr.global_configuration_mut(), &port.qos.all);
    Ok(())
}

/// All of it or, if a part is bad, nothing.
pub(super) fn write_qetcr(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let qetcr = Qetcr::new(data);
    check_port(qetcr.port_number())?;
    let merge = |mut class: TrafficClass, new: EtsTcnConfig<&[u8]>| {
        if new.g() {
            class.group = new.group();
        }
        if new.b() {
            class.bandwidth = new.bw_allocation();
        }
        if new.r() {
            class.limit_units = new.max_bw_units();
            class.limit = new.max_bw_value();
        }
        class
    };
    let mut qos = port.qos;
    for (class, new) in qos.classes.iter_mut().zip(qetcr.tc_configuration().iter()) {
        *class = merge(*class, new);
    }
    qos.all = merge(qos.all, qetcr.global_configuration());
    if qos.classes.iter().any(|class| class.bandwidth > 100) {
        return Err(BANDWIDTH);
    }
    port.qos = qos;
    Ok(())
}

/// Who runs DCBX: the host or the adapter.
const BY_HOST: u8 = 0;
const BY_ADAPTER: u8 = 3;

pub(super) fn read_dcbx_param(port: &Port, data: &mut [u8]) -> Result<(), CmdError> {
    let request = DcbxParam::new(&*data);
    let number = request.port_number();
    check_port(number)?;
    data.fill(0);
    let (willing, pfc, classes) = port.qos.dcbx;
    let mut dcbx = DcbxParam::new(data);
    dcbx.set_port_number(number)
        .set_dcbx_cee_cap(true)
        .set_dcbx_ieee_cap(true)
        .set_dcbx_standby_cap(true)
        .set_max_application_table_size(16);
    dcbx.set_version_oper(port.qos.dcbx_version)
        .set_version_admin(port.qos.dcbx_version)
        .set_willing_admin(willing);
    dcbx.set_pfc_cap_oper(pfc)
        .set_pfc_cap_admin(pfc)
        .set_num_of_tc_oper(classes)
        .set_num_of_tc_admin(classes);
    Ok(())
}

pub(super) fn write_dcbx_param(port: &mut Port, data: &[u8]) -> Result<(), CmdError> {
    let dcbx = DcbxParam::new(data);
    check_port(dcbx.port_number())?;
    match dcbx.version_admin() {
        version @ (BY_HOST | BY_ADAPTER) => port.qos.dcbx_version = version,
        _ => return Err(DCBX),
    }
    port.qos.dcbx.0 = dcbx.willing_admin();
    Ok(())
}
