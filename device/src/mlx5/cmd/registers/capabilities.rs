//! PCAM, MCAM and QCAM: which registers and features there are.

use rocinante_firmware_cmd::mlx5::registers::management::Mcam;
use rocinante_firmware_cmd::mlx5::registers::port::Pcam;
use rocinante_firmware_cmd::mlx5::registers::qos::Qcam;

use super::{CmdError, GROUP};

/// Bits of registers that the driver does not look for by name: PCAP, PMLP, PMTU, PTYS, PAOS, PFCC.
const PORT_REGISTERS: u8 = 0b1101_1110;

/// Registers 0x5001 to 0x507f.
pub(super) fn read_pcam(data: &mut [u8]) -> Result<(), CmdError> {
    let mut pcam = Pcam::new(data);
    if pcam.access_reg_group() != 0 || pcam.feature_group() != 0 {
        return Err(GROUP);
    }
    let mut mask = pcam.port_access_reg_cap_mask_mut();
    mask.as_bytes_mut().fill(0);
    mask.set_port_access_reg_cap_mask_07_to_00(PORT_REGISTERS);
    mask.set_ppcnt(true)
        .set_pptb(true)
        .set_pbmc(true)
        .set_pplm(true);
    let mut features = pcam.feature_cap_mask_mut();
    features.as_bytes_mut().fill(0);
    // No ptys_extended_ethernet: there are no lanes of 50 Gbit/s.
    features
        .set_ptys_connector_type(true)
        .set_pfcc_mask(true)
        .set_ppcnt_discard_group(true)
        .set_ppcnt_statistical_group(true)
        .set_per_lane_error_counters(true)
        .set_rx_buffer_fullness_counters(true)
        .set_rx_icrc_encapsulated_counter(true);
    Ok(())
}

/// Registers 0x9000 to 0x907f of group 0. That the firmware can be asked for its version does not
/// mean that it can be updated: that takes MCC and MCDA. No other group, of which newer drivers ask
/// for several, has a register or feature to announce.
pub(super) fn read_mcam(data: &mut [u8]) {
    let mut mcam = Mcam::new(data);
    let first = mcam.access_reg_group() == 0;
    let mut registers = mcam.mng_access_reg_cap_mask_mut();
    registers.as_bytes_mut().fill(0);
    registers.set_mcqs(first).set_mcqi(first).set_mtmp(first);
    let first = mcam.feature_group() == 0;
    let mut features = mcam.mng_feature_cap_mask_mut();
    features.as_bytes_mut().fill(0);
    // No mcia_32dwords: Linux 6.1 as Debian builds it trips over its own memory checks with it.
    features
        .set_pcie_performance_group(first)
        .set_tx_overflow_buffer_pkt(first)
        .set_pcie_outbound_stalled(first);
}

/// Registers 0x4000 to 0x407f.
pub(super) fn read_qcam(data: &mut [u8]) -> Result<(), CmdError> {
    let mut qcam = Qcam::new(data);
    if qcam.access_reg_group() != 0 || qcam.feature_group() != 0 {
        return Err(GROUP);
    }
    let mut registers = qcam.qos_access_reg_cap_mask_mut();
    registers.as_bytes_mut().fill(0);
    registers.set_qpdpm(true).set_qpts(true);
    qcam.qos_feature_cap_mask_mut().as_bytes_mut().fill(0);
    Ok(())
}
