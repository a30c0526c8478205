//! Port registers, 0x5001 to 0x507f: MTU, speed, state, pause, modules, buffers.

use crate::layout::layout;

layout! {
    /// Port capability mask.
    pub context Pcap[0x14] {
        0x00[23:16] local_port;
        0x04 port_capability_mask: [u8; 0x10];
    }

    /// Which lanes of which module a port is made of.
    pub context Pmlp[0x40] {
        0x00[31] rxtx;
        0x00[23:16] local_port;
        0x00[7:0] width;
        0x04 lane0_module_mapping;
        0x08 lane1_module_mapping;
        0x0c lane2_module_mapping;
        0x10 lane3_module_mapping;
    }

    /// MTU; the values include 22 bytes of overhead.
    pub context Pmtu[0x10] {
        0x00[23:16] local_port;
        0x04[31:16] max_mtu;
        0x08[31:16] admin_mtu;
        0x0c[31:16] oper_mtu;
    }

    /// Port type and speed.
    pub context Ptys[0x40] {
        0x00[30] an_disable_admin;
        0x00[29] an_disable_cap;
        0x00[23:16] local_port;
        0x00[7:4] plane_ind;
        0x00[2:0] proto_mask;
        0x04[31:28] an_status;
        0x04[15:0] data_rate_oper;
        0x08 ext_eth_proto_capability;
        0x0c eth_proto_capability;
        0x10[31:16] ib_link_width_capability;
        0x10[15:0] ib_proto_capability;
        0x14 ext_eth_proto_admin;
        0x18 eth_proto_admin;
        0x1c[31:16] ib_link_width_admin;
        0x1c[15:0] ib_proto_admin;
        0x20 ext_eth_proto_oper;
        0x24 eth_proto_oper;
        0x28[31:16] ib_link_width_oper;
        0x28[15:0] ib_proto_oper;
        0x2c[3:0] connector_type;
        0x30 eth_proto_lp_advertise;
    }

    /// Administrative and operational status: 1 up, 2 down.
    pub context Paos[0x10] {
        0x00[31:24] swid;
        0x00[23:16] local_port;
        0x00[11:8] admin_status;
        0x00[3:0] oper_status;
        0x04[31] ase;
        0x04[30] ee;
        0x04[1:0] e;
    }

    /// Flow control.
    pub context Pfcc[0x20] {
        0x00[27:26] buf_ownership;
        0x00[23:16] local_port;
        0x00[4] ppan_mask_n;
        0x00[3] minor_stall_mask;
        0x00[2] critical_stall_mask;
        0x04[31:28] ppan;
        0x04[23:16] prio_mask_tx;
        0x04[7:0] prio_mask_rx;
        0x08[31] pptx;
        0x08[30] aptx;
        0x08[29] pptx_mask_n;
        0x08[23:16] pfctx;
        0x0c[31] pprx;
        0x0c[30] aprx;
        0x0c[29] pprx_mask_n;
        0x0c[23:16] pfcrx;
        0x10[31:16] device_stall_minor_watermark;
        0x10[15:0] device_stall_critical_watermark;
    }

    /// Priority to buffer.
    pub context Pptb[0xc] {
        0x00[29:28] mm;
        0x00[23:16] local_port;
        0x00[9] cm;
        0x00[8] um;
        0x00[7:0] pm;
        0x04 prio_x_buff;
        0x08[31:24] pm_msb;
        0x08[7:4] ctrl_buff;
        0x08[3:0] untagged_buff;
    }

    /// A buffer of PBMC.
    pub context Bufferx[0x8] {
        0x00[25] lossy;
        0x00[24] epsb;
        0x00[15:0] size;
        0x04[31:16] xoff_threshold;
        0x04[15:0] xon_threshold;
    }

    /// Which checks the port makes.
    pub context Pcmr[0xc] {
        0x00[23:16] local_port;
        0x04[31] entropy_force_cap;
        0x04[30] entropy_calc_cap;
        0x04[29] entropy_gre_calc_cap;
        0x04[13] rx_ts_over_crc_cap;
        0x04[1] fcs_cap;
        0x08[31] entropy_force;
        0x08[30] entropy_calc;
        0x08[29] entropy_gre_calc;
        0x08[13] rx_ts_over_crc;
        0x08[1] fcs_chk;
    }

    /// Diagnostic data of the port; of the pages only the troubleshooting information is laid out.
    pub context Pddr[0x100] {
        0x00[23:16] local_port;
        0x00[15:14] pnat;
        0x04[7:0] page_select; // 1 troubleshooting information, 3 module information
        0x08 page_data: PddrTroubleshooting;
    }

    /// Troubleshooting information of PDDR.
    pub context PddrTroubleshooting[0xf4] {
        0x00[15:0] group_opcode; // 0 monitor, 1 advanced
        0x04[15:0] status_opcode;
        0x08[15:0] user_feedback_data;
        0x08[31:16] user_feedback_index;
        0x10 status_message: [u8; 0xe4];
    }

    /// Buffer management.
    pub context Pbmc[0x6c] {
        0x00[23:16] local_port;
        0x04[31:16] xoff_timer_value;
        0x04[15:0] xoff_refresh;
        0x08[22:16] fullness_threshold;
        0x08[15:0] port_buffer_size;
        0x0c buffer: [Bufferx; 10];
    }

    /// Link modes, among them forward error correction.
    pub context Pplm[0x50] {
        0x00[23:16] local_port;
        0x08[31:24] port_profile_mode;
        0x08[23:16] static_port_profile;
        0x08[15:8] active_port_profile;
        0x0c[31:24] retransmission_active;
        0x0c[23:0] fec_mode_active;
        0x10[31:28] rs_fec_correction_bypass_cap;
        0x10[19:16] fec_override_cap_56g;
        0x10[15:12] fec_override_cap_100g;
        0x10[11:8] fec_override_cap_50g;
        0x10[7:4] fec_override_cap_25g;
        0x10[3:0] fec_override_cap_10g_40g;
        0x14[31:28] rs_fec_correction_bypass_admin;
        0x14[19:16] fec_override_admin_56g;
        0x14[15:12] fec_override_admin_100g;
        0x14[11:8] fec_override_admin_50g;
        0x14[7:4] fec_override_admin_25g;
        0x14[3:0] fec_override_admin_10g_40g;
        0x18[31:16] fec_override_cap_400g_8x;
        0x18[15:0] fec_override_cap_200g_4x;
        0x1c[31:16] fec_override_cap_100g_2x;
        0x1c[15:0] fec_override_cap_50g_1x;
        0x20[31:16] fec_override_admin_400g_8x;
        0x20[15:0] fec_override_admin_200g_4x;
        0x24[31:16] fec_override_admin_100g_2x;
        0x24[15:0] fec_override_admin_50g_1x;
        0x28[31:16] fec_override_cap_800g_8x;
        0x28[15:0] fec_override_cap_400g_4x;
        0x2c[31:16] fec_override_cap_200g_2x;
        0x2c[15:0] fec_override_cap_100g_1x;
        0x44[31:16] fec_override_admin_800g_8x;
        0x44[15:0] fec_override_admin_400g_4x;
        0x48[31:16] fec_override_admin_200g_2x;
        0x48[15:0] fec_override_admin_100g_1x;
    }

    /// Which port registers exist.
    pub context PcamRegs[0x10] {
        0x00 port_access_reg_cap_mask_127_to_96;
        0x04 port_access_reg_cap_mask_95_to_64;
        0x08[31:4] port_access_reg_cap_mask_63_to_36;
        0x08[3] pplm;
        0x08[2:0] port_access_reg_cap_mask_34_to_32;
        0x0c[31:13] port_access_reg_cap_mask_31_to_13;
        0x0c[12] pbmc;
        0x0c[11] pptb;
        0x0c[10:9] port_access_reg_cap_mask_10_to_09;
        0x0c[8] ppcnt;
        0x0c[7:0] port_access_reg_cap_mask_07_to_00;
    }

    /// Which port features exist.
    pub context PcamFeatures[0x10] {
        0x08[23] fec_100g_per_lane_in_pplm;
        0x08[12] buffer_ownership;
        0x0c[23] fec_50g_per_lane_in_pplm;
        0x0c[18] rx_icrc_encapsulated_counter;
        0x0c[13] ptys_extended_ethernet;
        0x0c[9] pfcc_mask;
        0x0c[5] per_lane_error_counters;
        0x0c[4] rx_buffer_fullness_counters;
        0x0c[3] ptys_connector_type;
        0x0c[1] ppcnt_discard_group;
        0x0c[0] ppcnt_statistical_group;
    }

    /// Port capability and feature masks.
    pub context Pcam[0x50] {
        0x00[23:16] feature_group;
        0x00[7:0] access_reg_group;
        0x08 port_access_reg_cap_mask: PcamRegs;
        0x28 feature_cap_mask: PcamFeatures;
    }
}
