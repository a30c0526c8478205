//! Atomic, RoCE and QoS capabilities.

use crate::layout::layout;

layout! {
    /// Atomic operations, type 3.
    pub context AtomicCaps[0x100] {
        0x08[31:30] atomic_req_8b_endianness_mode;
        0x08[25] supported_atomic_req_8b_endianness_mode_1;
        0x10[15:0] atomic_operations;
        0x14[15:0] atomic_size_qp;
        0x18[15:0] atomic_size_dc;
    }

    /// RoCE, type 4.
    pub context RoceCaps[0x100] {
        0x00[31] roce_apm;
        0x00[27] sw_r_roce_src_udp_port;
        0x00[26] fl_rc_qp_when_roce_disabled;
        0x00[25] fl_rc_qp_when_roce_enabled;
        0x00[24] roce_cc_general;
        0x00[23] qp_ooo_transmit_default;
        0x00[1:0] qp_ts_format;
        0x10[19:16] l3_type;
        0x10[7:0] roce_version;
        0x14[15:0] r_roce_dest_udp_port;
        0x18[31:16] r_roce_max_src_udp_port;
        0x18[15:0] r_roce_min_src_udp_port;
        0x1c[15:0] roce_address_table_size;
    }

    /// Quality of service, type 12.
    pub context QosCaps[0x100] {
        0x00[31] packet_pacing;
        0x00[30] esw_scheduling;
        0x00[29] esw_bw_share;
        0x00[28] esw_rate_limit;
        0x00[26] packet_pacing_burst_bound;
        0x00[25] packet_pacing_typical_size;
        0x00[23] nic_sq_scheduling;
        0x00[22] nic_bw_share;
        0x00[21] nic_rate_limit;
        0x00[20] packet_pacing_uid;
        0x00[19:16] log_esw_max_sched_depth;
        0x04[20:16] log_max_qos_nic_queue_group;
        0x08 packet_pacing_max_rate;
        0x0c packet_pacing_min_rate;
        0x10[15:0] packet_pacing_rate_table_size;
        0x14[31:16] esw_element_type;
        0x14[15:0] esw_tsar_type;
        0x18[15:0] max_qos_para_vport;
        0x1c max_tsar_bw_share;
        0x20[31:16] nic_element_type;
        0x20[15:0] nic_tsar_type;
        0x24[28:24] log_meter_aso_granularity;
        0x24[20:16] log_meter_aso_max_alloc;
        0x24[12:8] log_max_num_meter_aso;
    }
}
