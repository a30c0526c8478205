//! The values. What is not set here is 0, and closes the path that the drivers would take.

use super::CapType;
use super::ethernet::EthernetCaps;
use super::flow::{FlowTableFields, FlowTableNicCaps};
use super::general::GeneralCaps;
use super::rdma::{AtomicCaps, RoceCaps};
use crate::layout::BytesMut;

/// The internal timer counts nanoseconds. Linux derives a 32 bit multiplier from it, 2^23 (6.1) or 2^31 (6.12), and how
/// often to look at the timer so that products fit 64 bits: every 4 seconds (6.12).
const DEVICE_FREQUENCY_KHZ: u32 = 1_000_000;

/// Maximum capabilities.
pub(super) fn connectx5_max(cap_type: CapType) -> Box<[u8]> {
    let mut bytes = vec![0; cap_type.layout().size].into_boxed_slice();
    match cap_type {
        CapType::General => {
            let mut caps = GeneralCaps::new(&mut bytes);
            sizes(&mut caps);
            port(&mut caps);
            port_manager(&mut caps);
            diagnostics(&mut caps);
            rdma(&mut caps);
            others(&mut caps);
        }
        CapType::Ethernet => ethernet(&mut EthernetCaps::new(&mut bytes)),
        CapType::Atomic => atomic(&mut AtomicCaps::new(&mut bytes)),
        CapType::Roce => roce(&mut RoceCaps::new(&mut bytes)),
        CapType::FlowTableNic => flow(&mut FlowTableNicCaps::new(&mut bytes)),
        // There is nothing to switch between, so the switch has no tables of flows, and nothing is
        // paced or scheduled: frames leave as fast as they come. FreeBSD asks for the switch at
        // every port manager, Linux for the quality of service to offer DCB.
        CapType::FlowTableEswitch | CapType::Eswitch | CapType::Qos => {}
    }
    bytes
}

/// Where current capabilities differ from the maximum before the driver has set anything.
pub(super) fn reset(cap_type: CapType, current: &mut [u8]) {
    match cap_type {
        CapType::General => {
            GeneralCaps::new(current)
                .set_cmdif_checksum(0)
                .set_drain_sigerr(false)
                .set_log_uar_page_sz(0);
        }
        CapType::Atomic => {
            AtomicCaps::new(current).set_atomic_req_8b_endianness_mode(0);
        }
        CapType::Ethernet
        | CapType::Roce
        | CapType::FlowTableNic
        | CapType::FlowTableEswitch
        | CapType::Eswitch
        | CapType::Qos => {}
    }
}

fn sizes<B: BytesMut>(caps: &mut GeneralCaps<B>) {
    // FreeBSD sets log_max_qp to 17 whatever the maximum is.
    caps.set_log_max_qp(18).set_log_max_qp_sz(15);
    caps.set_log_max_srq(16).set_log_max_srq_sz(15);
    caps.set_log_max_cq(16).set_log_max_cq_sz(22);
    // EQ numbers have 8 bits in doorbells.
    caps.set_log_max_eq(7).set_log_max_eq_sz(22);
    // Either kernel's MR cache alone makes more than 6100 keys.
    caps.set_log_max_mkey(20)
        .set_log_max_mrw_sz(48)
        .set_log_max_klm_list_size(16)
        .set_max_indirection(4);
    caps.set_log_max_pd(16)
        .set_log_max_xrcd(12)
        .set_log_max_transport_domain(12);
    caps.set_log_max_rq(16)
        .set_log_max_sq(16)
        .set_log_max_rmp(16);
    caps.set_log_max_tir(12)
        .set_log_max_tis(12)
        .set_log_max_tis_per_sq(3);
    caps.set_log_max_rqt(12).set_log_max_rqt_size(11);
    caps.set_log_max_wq_sz(15);
    caps.set_log_max_stride_sz_rq(13)
        .set_log_min_stride_sz_rq(6);
    caps.set_log_max_stride_sz_sq(6).set_log_min_stride_sz_sq(6);
    caps.set_max_wqe_sz_sq(1024).set_max_wqe_sz_rq(512);
    caps.set_log_max_mcg(13).set_max_qp_mcg(240);
    caps.set_max_qp_cnt(0xff);
}

fn port<B: BytesMut>(caps: &mut GeneralCaps<B>) {
    const ETHERNET: u8 = 1;
    caps.set_num_ports(1).set_port_type(ETHERNET);
    caps.set_eth_net_offloads(true)
        .set_nic_flow_table(true)
        .set_roce(true);
    caps.set_max_tc(8);
    caps.set_log_max_current_uc_list(7)
        .set_log_max_current_mc_list(13)
        .set_log_max_vlan_list(12);
    caps.set_disable_local_lb_uc(true)
        .set_disable_local_lb_mc(true);
    caps.set_vport_counters(true);
    caps.set_pcam_reg(true).set_mcam_reg(true);
    // 128 << 0 P_Keys and 8 << 4 GIDs, of which Ethernet ports use the first only.
    caps.set_pkey_table_size(0).set_gid_table_size(4);
}

/// log2 of the MAC addresses that the switch in front of the functions can tell apart.
pub const LOG_MAX_L2_TABLE: u8 = 7;

/// The one physical function of the port is also its manager, and the manager of the switch that
/// virtual functions would be behind. What the drivers ask for because of it is here: contexts of
/// vport 0, the table of MAC addresses, registers of flow control and traffic classes.
fn port_manager<B: BytesMut>(caps: &mut GeneralCaps<B>) {
    caps.set_vport_group_manager(true)
        .set_eswitch_manager(true)
        .set_log_max_l2_table(LOG_MAX_L2_TABLE)
        .set_nic_vport_change_event(true);
    caps.set_ets(true)
        .set_qcam_reg(true)
        .set_sbcam_reg(true)
        .set_dcbx(true)
        .set_qos(true);
    caps.set_port_module_event(true)
        .set_temp_warn_event(true)
        .set_ports_check(true)
        .set_beacon_led(true);
}

/// Counters of QUERY_VNIC_ENV.
fn diagnostics<B: BytesMut>(caps: &mut GeneralCaps<B>) {
    caps.set_nic_receive_steering_discard(true)
        .set_receive_discard_vport_down(true)
        .set_transmit_discard_vport_down(true);
    caps.set_eq_overrun_count(true)
        .set_invalid_command_count(true)
        .set_quota_exceeded_count(true);
    caps.set_vnic_env_queue_counters(true)
        .set_vnic_env_cq_overrun(true)
        .set_vnic_env_int_rq_oob(true)
        .set_vport_counter_local_loopback(true);
}

fn rdma<B: BytesMut>(caps: &mut GeneralCaps<B>) {
    // Neither mlx5_ib loads without xrc.
    caps.set_rc(true).set_uc(true).set_ud(true).set_xrc(true);
    caps.set_atomic(true);
    caps.set_log_max_ra_req_qp(4).set_log_max_ra_res_qp(4);
    caps.set_log_max_msg(30);
    // 4.096 microseconds << 16, 268 milliseconds.
    caps.set_local_ca_ack_delay(16);
    caps.set_block_lb_mc(true);
    caps.set_pkv(true)
        .set_qkv(true)
        .set_compact_address_vector(true);
    // Memory windows of type 2B.
    caps.set_imaicl(true);
    caps.set_umr_ptr_rlky(true)
        .set_umr_extended_translation_offset(true);
    caps.set_drain_sigerr(true);
    // CQEs carry the user index.
    caps.set_cqe_version(1);
    caps.set_out_of_seq_cnt(true)
        .set_retransmission_q_counters(true)
        .set_enhanced_error_q_counters(true);
    caps.set_modify_rq_counter_set_id(true);
    // Counters of congestion control; there is nothing to set.
    caps.set_cc_query_allowed(true);
}

fn others<B: BytesMut>(caps: &mut GeneralCaps<B>) {
    caps.set_cq_oi(true).set_cq_resize(true);
    caps.set_cq_moderation(true)
        .set_cq_period_start_from_cqe(true)
        .set_cq_period_mode_modify(true);
    // Linux uses striding queues if small packets have as many strides as fit 256 KiB, which are fewer than 2^9.
    caps.set_striding_rq(true).set_ext_stride_num_range(true);
    caps.set_end_pad(true);
    caps.set_fast_teardown(true).set_force_teardown(true);
    caps.set_driver_version(true);
    // Linux reads flow counters from the last multiple of 4 on. With bulks of one that would
    // miss the counter, and Linux would ask for ever.
    caps.set_log_max_flow_counter_bulk(10);
    // Pages of 4 KiB and more; UARs of the guest's page size, up to 64 KiB.
    caps.set_log_pg_sz(12).set_log_uar_page_sz(4);
    // 32 MiB of UARs. No BlueFlame, but the drivers space doorbells by the size of its registers.
    caps.set_uar_sz(5)
        .set_num_of_uars_per_page(1)
        .set_log_bf_reg_size(9);
    caps.set_device_frequency_khz(DEVICE_FREQUENCY_KHZ)
        .set_device_frequency_mhz(DEVICE_FREQUENCY_KHZ / 1000);
    caps.set_cmdif_checksum(3);
}

fn ethernet<B: BytesMut>(caps: &mut EthernetCaps<B>) {
    /// Nothing has to be inlined.
    const INLINE_NOT_REQUIRED: u8 = 2;
    caps.set_csum_cap(true)
        .set_vlan_cap(true)
        .set_wqe_vlan_insert(true);
    caps.set_wqe_inline_mode(INLINE_NOT_REQUIRED);
    caps.set_max_lso_cap(18);
    caps.set_rss_ind_tbl_cap(8);
    caps.set_self_lb_en_modifiable(true).set_scatter_fcs(true);
    // Linux maps the buffers of striding queues with it.
    caps.set_reg_umr_sq(true);
    caps.set_enhanced_multi_pkt_send_wqe(true);
    // Segments with PSH are merged and end the packet.
    caps.set_lro_cap(true).set_lro_psh_flag(true);
    // Microseconds. Linux looks for 32, FreeBSD takes the third.
    for (at, period) in [8, 16, 32, 1024].into_iter().enumerate() {
        caps.lro_timer_supported_periods_mut().set(at, period);
    }
}

fn atomic<B: BytesMut>(caps: &mut AtomicCaps<B>) {
    const COMPARE_SWAP_FETCH_ADD: u16 = 0b11;
    const EIGHT_BYTES: u16 = 8;
    caps.set_supported_atomic_req_8b_endianness_mode_1(true)
        .set_atomic_req_8b_endianness_mode(1);
    caps.set_atomic_operations(COMPARE_SWAP_FETCH_ADD);
    caps.set_atomic_size_qp(EIGHT_BYTES)
        .set_atomic_size_dc(EIGHT_BYTES);
}

fn roce<B: BytesMut>(caps: &mut RoceCaps<B>) {
    const V1_AND_V2: u8 = 0b101;
    /// Without both there are no GIDs at all.
    const IPV4_AND_IPV6: u8 = 0b110;
    caps.set_roce_version(V1_AND_V2).set_l3_type(IPV4_AND_IPV6);
    caps.set_r_roce_dest_udp_port(4791);
    caps.set_r_roce_min_src_udp_port(0xc000)
        .set_r_roce_max_src_udp_port(0xffff);
    caps.set_sw_r_roce_src_udp_port(true);
    caps.set_roce_address_table_size(256);
}

fn flow<B: BytesMut>(caps: &mut FlowTableNicCaps<B>) {
    caps.set_nic_rx_multi_path_tirs(true);
    let mut table = caps.flow_table_properties_nic_receive_mut();
    table
        .set_ft_support(true)
        .set_flow_modify_en(true)
        .set_modify_root(true);
    table
        .set_identified_miss_table_mode(true)
        .set_flow_table_modify(true);
    // ignore_flow_level stays 0: with it Linux gives each tc chain a modify header action, which there is none of, and
    // would offload no tc filter at all instead of those of priority 1.
    // Linux puts its last table at level 66 (6.12.107) and more with each release.
    table
        .set_log_max_ft_size(20)
        .set_max_ft_level(128)
        .set_log_max_ft_num(16);
    table.set_log_max_destination(5).set_log_max_flow(20);
    matchable(&mut table.ft_field_support_mut());
    matchable(&mut table.ft_field_bitmask_support_mut());
}

fn matchable<B: BytesMut>(fields: &mut FlowTableFields<B>) {
    fields
        .set_outer_dmac(true)
        .set_outer_smac(true)
        .set_outer_ether_type(true);
    fields
        .set_outer_first_prio(true)
        .set_outer_first_cfi(true)
        .set_outer_first_vid(true);
    fields
        .set_outer_ip_version(true)
        .set_outer_sip(true)
        .set_outer_dip(true)
        .set_outer_frag(true);
    fields
        .set_outer_ip_protocol(true)
        .set_outer_ip_ecn(true)
        .set_outer_ip_dscp(true);
    fields.set_outer_udp_sport(true).set_outer_udp_dport(true);
    fields
        .set_outer_tcp_sport(true)
        .set_outer_tcp_dport(true)
        .set_outer_tcp_flags(true);
}
