//! PPCNT, MPCNT and the counter groups they carry. A group is laid over `counter_set`.
//! The words called `_high` and `_low` in `mlx5_ifc.h` are one 64 bit field here.

use crate::layout::layout;

layout! {
    /// Port counters.
    pub context Ppcnt[0x100] {
        0x00[31:24] swid;
        0x00[23:16] local_port;
        0x00[15:14] pnat;
        0x00[5:0] grp;
        0x04[31] clr;
        0x04[11:8] plane_ind;
        0x04[4:0] prio_tc;
        0x08 counter_set: [u8];
    }

    /// Management (PCIe) counters.
    pub context Mpcnt[0x100] {
        0x00[23:16] pcie_index;
        0x00[5:0] grp;
        0x04[31] clr;
        0x08 counter_set: [u8];
    }

    /// PPCNT group 0, IEEE 802.3.
    pub context Ieee8023Counters[0xf8] {
        0x00 a_frames_transmitted_ok: u64;
        0x08 a_frames_received_ok: u64;
        0x10 a_frame_check_sequence_errors: u64;
        0x18 a_alignment_errors: u64;
        0x20 a_octets_transmitted_ok: u64;
        0x28 a_octets_received_ok: u64;
        0x30 a_multicast_frames_xmitted_ok: u64;
        0x38 a_broadcast_frames_xmitted_ok: u64;
        0x40 a_multicast_frames_received_ok: u64;
        0x48 a_broadcast_frames_received_ok: u64;
        0x50 a_in_range_length_errors: u64;
        0x58 a_out_of_range_length_field: u64;
        0x60 a_frame_too_long_errors: u64;
        0x68 a_symbol_error_during_carrier: u64;
        0x70 a_mac_control_frames_transmitted: u64;
        0x78 a_mac_control_frames_received: u64;
        0x80 a_unsupported_opcodes_received: u64;
        0x88 a_pause_mac_ctrl_frames_received: u64;
        0x90 a_pause_mac_ctrl_frames_transmitted: u64;
    }

    /// PPCNT group 1, RFC 2863.
    pub context Rfc2863Counters[0xf8] {
        0x00 if_in_octets: u64;
        0x08 if_in_ucast_pkts: u64;
        0x10 if_in_discards: u64;
        0x18 if_in_errors: u64;
        0x20 if_in_unknown_protos: u64;
        0x28 if_out_octets: u64;
        0x30 if_out_ucast_pkts: u64;
        0x38 if_out_discards: u64;
        0x40 if_out_errors: u64;
        0x48 if_in_multicast_pkts: u64;
        0x50 if_in_broadcast_pkts: u64;
        0x58 if_out_multicast_pkts: u64;
        0x60 if_out_broadcast_pkts: u64;
    }

    /// PPCNT group 2, RFC 2819.
    pub context Rfc2819Counters[0xf8] {
        0x00 ether_stats_drop_events: u64;
        0x08 ether_stats_octets: u64;
        0x10 ether_stats_pkts: u64;
        0x18 ether_stats_broadcast_pkts: u64;
        0x20 ether_stats_multicast_pkts: u64;
        0x28 ether_stats_crc_align_errors: u64;
        0x30 ether_stats_undersize_pkts: u64;
        0x38 ether_stats_oversize_pkts: u64;
        0x40 ether_stats_fragments: u64;
        0x48 ether_stats_jabbers: u64;
        0x50 ether_stats_collisions: u64;
        0x58 ether_stats_pkts64octets: u64;
        0x60 ether_stats_pkts65to127octets: u64;
        0x68 ether_stats_pkts128to255octets: u64;
        0x70 ether_stats_pkts256to511octets: u64;
        0x78 ether_stats_pkts512to1023octets: u64;
        0x80 ether_stats_pkts1024to1518octets: u64;
        0x88 ether_stats_pkts1519to2047octets: u64;
        0x90 ether_stats_pkts2048to4095octets: u64;
        0x98 ether_stats_pkts4096to8191octets: u64;
        0xa0 ether_stats_pkts8192to10239octets: u64;
    }

    /// PPCNT group 3, RFC 3635.
    pub context Rfc3635Counters[0xf8] {
        0x00 dot3stats_alignment_errors: u64;
        0x08 dot3stats_fcs_errors: u64;
        0x10 dot3stats_single_collision_frames: u64;
        0x18 dot3stats_multiple_collision_frames: u64;
        0x20 dot3stats_sqe_test_errors: u64;
        0x28 dot3stats_deferred_transmissions: u64;
        0x30 dot3stats_late_collisions: u64;
        0x38 dot3stats_excessive_collisions: u64;
        0x40 dot3stats_internal_mac_transmit_errors: u64;
        0x48 dot3stats_carrier_sense_errors: u64;
        0x50 dot3stats_frame_too_longs: u64;
        0x58 dot3stats_internal_mac_receive_errors: u64;
        0x60 dot3stats_symbol_errors: u64;
        0x68 dot3control_in_unknown_opcodes: u64;
        0x70 dot3in_pause_frames: u64;
        0x78 dot3out_pause_frames: u64;
    }

    /// PPCNT group 5, Ethernet extended.
    pub context ExtendedCounters[0xf8] {
        0x00 port_transmit_wait: u64;
        0x08 ecn_marked: u64;
        0x10 no_buffer_discard_mc: u64;
        0x18 rx_ebp: u64;
        0x20 tx_ebp: u64;
        0x28 rx_buffer_almost_full: u64;
        0x30 rx_buffer_full: u64;
        0x38 rx_icrc_encapsulated: u64;
        0x50 tx_stats_pkts64octets: u64;
        0x58 tx_stats_pkts65to127octets: u64;
        0x60 tx_stats_pkts128to255octets: u64;
        0x68 tx_stats_pkts256to511octets: u64;
        0x70 tx_stats_pkts512to1023octets: u64;
        0x78 tx_stats_pkts1024to1518octets: u64;
        0x80 tx_stats_pkts1519to2047octets: u64;
        0x88 tx_stats_pkts2048to4095octets: u64;
        0x90 tx_stats_pkts4096to8191octets: u64;
        0x98 tx_stats_pkts8192to10239octets: u64;
    }

    /// PPCNT group 6, discards.
    pub context DiscardCounters[0xf8] {
        0x00 ingress_general: u64;
        0x08 ingress_policy_engine: u64;
        0x10 ingress_vlan_membership: u64;
        0x18 ingress_tag_frame_type: u64;
        0x20 egress_vlan_membership: u64;
        0x28 loopback_filter: u64;
        0x30 egress_general: u64;
        0x40 egress_hoq: u64;
        0x48 port_isolation: u64;
        0x50 egress_policy_engine: u64;
        0x58 ingress_tx_link_down: u64;
        0x60 egress_stp_filter: u64;
        0x68 egress_hoq_stall: u64;
    }

    /// PPCNT group 0x10, one priority.
    pub context PerPrioCounters[0xf8] {
        0x00 rx_octets: u64;
        0x20 rx_frames: u64;
        0x28 tx_octets: u64;
        0x48 tx_frames: u64;
        0x50 rx_pause: u64;
        0x58 rx_pause_duration: u64;
        0x60 tx_pause: u64;
        0x68 tx_pause_duration: u64;
        0x70 rx_pause_transition: u64;
        0x78 rx_discards: u64;
        0x80 device_stall_minor_watermark_cnt: u64;
        0x88 device_stall_critical_watermark_cnt: u64;
    }

    /// PPCNT group 0x12, physical layer.
    pub context PhysLayerCounters[0xf8] {
        0x00 time_since_last_clear: u64;
        0x08 symbol_errors: u64;
        0x10 sync_headers_errors: u64;
        0x18 edpl_bip_errors_lane0: u64;
        0x20 edpl_bip_errors_lane1: u64;
        0x28 edpl_bip_errors_lane2: u64;
        0x30 edpl_bip_errors_lane3: u64;
        0x38 fc_fec_corrected_blocks_lane0: u64;
        0x40 fc_fec_corrected_blocks_lane1: u64;
        0x48 fc_fec_corrected_blocks_lane2: u64;
        0x50 fc_fec_corrected_blocks_lane3: u64;
        0x58 fc_fec_uncorrectable_blocks_lane0: u64;
        0x60 fc_fec_uncorrectable_blocks_lane1: u64;
        0x68 fc_fec_uncorrectable_blocks_lane2: u64;
        0x70 fc_fec_uncorrectable_blocks_lane3: u64;
        0x78 rs_fec_corrected_blocks: u64;
        0x80 rs_fec_uncorrectable_blocks: u64;
        0x88 rs_fec_no_errors_blocks: u64;
        0x90 rs_fec_single_error_blocks: u64;
        0x98 rs_fec_corrected_symbols_total: u64;
        0xa0 rs_fec_corrected_symbols_lane0: u64;
        0xa8 rs_fec_corrected_symbols_lane1: u64;
        0xb0 rs_fec_corrected_symbols_lane2: u64;
        0xb8 rs_fec_corrected_symbols_lane3: u64;
        0xc0 link_down_events;
        0xc4 successful_recovery_events;
    }

    /// PPCNT group 0x16, physical layer statistics.
    pub context PhysLayerStatisticalCounters[0xf8] {
        0x00 time_since_last_clear: u64;
        0x08 phy_received_bits: u64;
        0x10 phy_symbol_errors: u64;
        0x18 phy_corrected_bits: u64;
        0x20 phy_corrected_bits_lane0: u64;
        0x28 phy_corrected_bits_lane1: u64;
        0x30 phy_corrected_bits_lane2: u64;
        0x38 phy_corrected_bits_lane3: u64;
    }

    /// PPCNT group 0x20, InfiniBand port counters.
    pub context IbPortCounters[0x28] {
        0x00[31:16] symbol_error_counter;
        0x00[15:8] link_error_recovery_counter;
        0x00[7:0] link_downed_counter;
        0x04[31:16] port_rcv_errors;
        0x04[15:0] port_rcv_remote_physical_errors;
        0x08[31:16] port_rcv_switch_relay_errors;
        0x08[15:0] port_xmit_discards;
        0x0c[31:24] port_xmit_constraint_errors;
        0x0c[23:16] port_rcv_constraint_errors;
        0x0c[7:0] link_overrun_errors;
        0x10[15:0] vl_15_dropped;
        0x24 port_xmit_wait;
    }

    /// PPCNT group 0x21, InfiniBand extended port counters.
    pub context IbExtendedPortCounters[0xf8] {
        0x60 port_xmit_data: u64;
        0x68 port_rcv_data: u64;
        0x70 port_xmit_pkts: u64;
        0x78 port_rcv_pkts: u64;
        0x90 port_unicast_xmit_pkts: u64;
        0x98 port_multicast_xmit_pkts: u64;
        0xa0 port_unicast_rcv_pkts: u64;
        0xa8 port_multicast_rcv_pkts: u64;
    }

    /// MPCNT group 0, PCIe performance.
    pub context PciePerfCounters[0xf8] {
        0x00 life_time_counter: u64;
        0x08 rx_errors;
        0x0c tx_errors;
        0x10 l0_to_recovery_eieos;
        0x14 l0_to_recovery_ts;
        0x18 l0_to_recovery_framing;
        0x1c l0_to_recovery_retrain;
        0x20 crc_error_dllp;
        0x24 crc_error_tlp;
        0x28 tx_overflow_buffer_pkt: u64;
        0x30 outbound_stalled_reads;
        0x34 outbound_stalled_writes;
        0x38 outbound_stalled_reads_events;
        0x3c outbound_stalled_writes_events;
    }
}
