//! Registers of the quality of service, 0x4000 to 0x40ff: traffic classes, trust, DCBX; and of shared buffers, 0xb0xx.

use crate::layout::layout;

layout! {
    /// What decides on the priority of a received frame: 1 its tag's PCP, 2 its DSCP.
    pub context Qpts[0x8] {
        0x00[23:16] local_port;
        0x04[2:0] trust_state;
    }

    /// One traffic class of QETCR. `g`, `b` and `r` say what a write is about.
    pub context EtsTcnConfig[0x8] {
        0x00[31] g;
        0x00[30] b;
        0x00[29] r;
        0x00[19:16] group;
        0x00[6:0] bw_allocation; // percent
        0x04[19:16] max_bw_units; // 0 no limit, 3 100 Mbit/s, 4 1 Gbit/s
        0x04[7:0] max_bw_value;
    }

    /// Transmission selection (IEEE 802.1Qaz).
    pub context Qetcr[0x50] {
        0x00[23:16] port_number;
        0x08 tc_configuration: [EtsTcnConfig; 8];
        0x48 global_configuration: EtsTcnConfig;
    }

    /// The default priority of untagged frames.
    pub context Qpdp[0x8] {
        0x00[23:16] local_port;
        0x04[2:0] default_prio;
    }

    /// From priority to traffic class.
    pub context Qtct[0x8] {
        0x00[23:16] port_number;
        0x00[2:0] prio;
        0x04[2:0] tclass;
    }

    /// From DSCP to priority: for each DSCP 16 bits, of which 15 says that a write is about it, 3:0 is the priority.
    pub context Qpdpm[0x84] {
        0x00[23:16] local_port;
        0x04 dscp: [u8; 0x80];
    }

    /// Which registers and features of this group exist.
    pub context Qcam[0x48] {
        0x00[23:16] feature_group;
        0x00[7:0] access_reg_group;
        0x08 qos_access_reg_cap_mask: QcamRegs;
        0x28 qos_feature_cap_mask: QcamFeatures;
    }

    /// Which registers of 0x4000 to 0x407f exist, apart from those that other capabilities announce.
    pub context QcamRegs[0x10] {
        0x0c[19] qpdpm;
        0x0c[3] qdpm;
        0x0c[2] qpts;
        0x0c[1] qcap;
    }

    /// Which features exist.
    pub context QcamFeatures[0x10] {
        0x0c[0] qpts_trust_both;
    }

    /// Data Center Bridging Exchange. Versions: 0 is run by the host, 3 by the adapter.
    pub context DcbxParam[0x40] {
        0x00[31] dcbx_cee_cap;
        0x00[30] dcbx_ieee_cap;
        0x00[29] dcbx_standby_cap;
        0x00[23:16] port_number;
        0x00[5:0] max_application_table_size;
        0x04[10:8] version_oper;
        0x04[2:0] version_admin;
        0x08[31] willing_admin;
        0x08[27:24] pfc_cap_oper;
        0x08[19:16] pfc_cap_admin;
        0x08[11:8] num_of_tc_oper;
        0x08[3:0] num_of_tc_admin;
        0x0c[31] remote_willing;
        0x0c[27:24] remote_pfc_cap;
        0x0c[3:0] remote_num_of_tc;
        0x10[7:0] error;
    }

    /// What shared buffers there are.
    pub context Sbcam[0x4c] {
        0x00[23:16] feature_group;
        0x00[7:0] access_reg_group;
        0x08 sb_access_reg_cap_mask: [u8; 0x10];
        0x28 sb_feature_cap_mask: [u8; 0x10];
        0x40 cap_total_buffer_size;
        0x44[31:16] cap_cell_size;
        0x44[15:8] cap_max_pg_buffers;
        0x44[7:0] cap_num_pool_supported;
        0x48[23:16] cap_sbsr_stat_size;
        0x48[15:8] cap_max_tclass_data;
        0x48[7:0] cap_max_cpu_ingress_tclass_sb;
    }

    /// A pool of shared buffers. `dir` 0 is ingress, 1 egress.
    pub context Sbpr[0x18] {
        0x00[31] desc;
        0x00[30] snap;
        0x00[25:24] dir;
        0x00[3:0] pool;
        0x04[31] infi_size;
        0x04[23:0] size;
        0x08[3:0] mode;
        0x0c[23:0] buff_occupancy;
        0x10[31] clr;
        0x10[23:0] max_buff_occupancy;
        0x14[23:0] ext_buff_occupancy;
    }

    /// What a port's buffer takes of a pool.
    pub context Sbcm[0x28] {
        0x00[31] desc;
        0x00[30] snap;
        0x00[23:16] local_port;
        0x00[15:14] pnat;
        0x00[13:8] pg_buff;
        0x00[1:0] dir;
        0x04[0] exc;
        0x10[23:0] buff_occupancy;
        0x14[31] clr;
        0x14[23:0] max_buff_occupancy;
        0x18[23:0] min_buff;
        0x1c[31] infi_max;
        0x1c[23:0] max_buff;
        0x24[3:0] pool;
    }
}
