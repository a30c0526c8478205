//! Positions are written as numbers here, from 04-caps of the reference, to catch a wrong declaration as well as a
//! wrong value.

use super::*;
use crate::layout::word;

fn current(caps: &HcaCaps, cap_type: CapType) -> Vec<u8> {
    caps.get(cap_type, CapMode::Current).to_vec()
}

fn bits(bytes: &[u8], offset: usize, hi: u32, lo: u32) -> u32 {
    (word(bytes, offset) >> lo) & (u32::MAX >> (31 - (hi - lo)))
}

#[test]
fn what_linux_needs_to_attach() {
    let caps = HcaCaps::connectx5();
    let general = current(&caps, CapType::General);
    assert_eq!(bits(&general, 0x40, 3, 3), 1, "eth_net_offloads");
    assert_eq!(bits(&general, 0x34, 25, 25), 1, "nic_flow_table");
    assert_eq!(bits(&general, 0x34, 9, 8), 1, "port_type Ethernet");
    assert_eq!(bits(&general, 0x44, 3, 3), 1, "xrc");
    assert_ne!(bits(&general, 0x9c, 31, 0), 0, "device_frequency_khz");
    let ethernet = current(&caps, CapType::Ethernet);
    assert_eq!(bits(&ethernet, 0x00, 31, 30), 3, "csum_cap, vlan_cap");
    assert_ne!(bits(&ethernet, 0x00, 20, 16), 0, "max_lso_cap");
    assert_ne!(bits(&ethernet, 0x00, 11, 8), 0, "rss_ind_tbl_cap");
    let flow = current(&caps, CapType::FlowTableNic);
    assert_eq!(flow.len(), 0x1000);
    assert_eq!(
        bits(&flow, 0x40, 31, 25),
        0b100_1111,
        "receive tables with all four modes"
    );
    assert!(bits(&flow, 0x44, 7, 0) >= 58, "max_ft_level");
    let roce = current(&caps, CapType::Roce);
    assert_eq!(bits(&roce, 0x10, 19, 16), 6, "both IP versions");
    assert_eq!(word(&roce, 0x18), 0xffff_c000);
}

#[test]
fn what_freebsd_needs_to_attach() {
    let caps = HcaCaps::connectx5();
    let max = caps.get(CapType::General, CapMode::Max);
    assert!(bits(max, 0x10, 4, 0) >= 17, "log_max_qp");
    let general = current(&caps, CapType::General);
    assert!(
        bits(&general, 0x70, 12, 8) >= 7,
        "log_max_rqt_size for 128 entries"
    );
    assert!(bits(&general, 0x4c, 20, 16) <= 9, "log_bf_reg_size");
    assert!(bits(&general, 0x1c, 3, 0) >= 2, "log_max_eq for 4 vectors");
}

/// Bits that open a path the device does not have, or that the two drivers read differently.
#[test]
fn what_has_to_stay_zero() {
    let caps = HcaCaps::connectx5();
    for mode in [CapMode::Max, CapMode::Current] {
        let general = caps.get(CapType::General, mode);
        for (name, offset, hi, lo) in [
            ("hca_cap_2", 0x04, 31, 31),
            ("event_cap", 0x10, 15, 15),
            ("ts_cqe_to_dest_cqn, shampo of 6.1", 0x14, 13, 0),
            ("debug", 0x30, 28, 28),
            ("rq_delay_drop", 0x30, 26, 26),
            ("device_memory", 0x34, 23, 23),
            ("fpga", 0x38, 10, 10),
            ("ipoib", 0x40, 28, 27),
            ("umr_modify_entity_size_disabled", 0x40, 24, 24),
            ("sho, tph, rf, dct", 0x40, 8, 5),
            ("pg", 0x44, 24, 24),
            ("vector_calc of Linux, imaicl of FreeBSD", 0x44, 16, 16),
            ("bf", 0x4c, 31, 31),
            ("reserved", 0x68, 27, 27),
            ("general_obj_types", 0x80, 31, 0),
            ("general_obj_types", 0x84, 31, 0),
            ("time stamp formats", 0x88, 31, 28),
            ("log_max_uctx", 0x8c, 28, 24),
            ("tls", 0x90, 30, 29),
            ("cqe_compression", 0xb4, 3, 0),
            ("tag_matching", 0xbc, 15, 15),
            ("sw_owner_id", 0xc0, 1, 1),
        ] {
            assert_eq!(bits(general, offset, hi, lo), 0, "{name} {mode:?}");
        }
    }
}

#[test]
fn a_function_may_have_a_port_that_others_manage() {
    let mut caps = HcaCaps::connectx5();
    assert!(caps.manages_port());
    assert_eq!(bits(&current(&caps, CapType::General), 0x34, 31, 31), 1);
    let before = current(&caps, CapType::General);
    caps.set_manages_port(false);
    caps.reset();
    assert!(!caps.manages_port());
    let general = current(&caps, CapType::General);
    assert_eq!(bits(&general, 0x34, 31, 31), 0, "vport_group_manager");
    assert_eq!(bits(&general, 0x34, 24, 24), 0, "eswitch_manager");
    assert_eq!(bits(&general, 0x90, 28, 24), 0, "log_max_l2_table");
    caps.set_manages_port(true);
    assert_eq!(current(&caps, CapType::General), before);
}

#[test]
fn set_takes_writable_fields_up_to_their_maximum() {
    let mut caps = HcaCaps::connectx5();
    let before = current(&caps, CapType::General);
    assert_eq!(caps.general().log_max_qp(), 18);
    assert!(!caps.general().drain_sigerr());

    // What FreeBSD sends: the current structure with a few fields changed.
    let mut wish = before.clone();
    let mut general = GeneralCaps::new(&mut wish);
    general
        .set_log_max_qp(17)
        .set_drain_sigerr(true)
        .set_log_uar_page_sz(0)
        .set_pkey_table_size(5);
    general.set_dct(true).set_num_ports(2);
    caps.set(CapType::General, &wish);
    let general = caps.general();
    assert_eq!(general.log_max_qp(), 17);
    assert!(general.drain_sigerr());
    assert_eq!(general.pkey_table_size(), 0, "maximum");
    assert!(!general.dct(), "maximum");
    assert_eq!(general.num_ports(), 1, "not writable");

    GeneralCaps::new(&mut wish).set_log_max_qp(31);
    caps.set(CapType::General, &wish);
    assert_eq!(caps.general().log_max_qp(), 18);

    // Whatever is set, only writable fields differ from the reset values.
    caps.set(CapType::General, &[0xff; 0x100]);
    let mut after = current(&caps, CapType::General);
    GeneralCaps::new(&mut after)
        .set_cmdif_checksum(0)
        .set_drain_sigerr(false)
        .set_log_uar_page_sz(0);
    assert_eq!(after, before);

    caps.set(CapType::General, &[]);
    assert_eq!(caps.general().log_max_qp(), 0, "missing bytes are zero");
    caps.reset();
    assert_eq!(current(&caps, CapType::General), before);
}

#[test]
fn atomic_mode_is_set_by_the_driver() {
    let mut caps = HcaCaps::connectx5();
    assert!(caps.atomic().supported_atomic_req_8b_endianness_mode_1());
    assert_eq!(caps.atomic().atomic_req_8b_endianness_mode(), 0);
    let mut wish = [0; 0x100];
    AtomicCaps::new(&mut wish).set_atomic_req_8b_endianness_mode(1);
    caps.set(CapType::Atomic, &wish);
    assert_eq!(caps.atomic().atomic_req_8b_endianness_mode(), 1);
    assert_eq!(caps.atomic().atomic_operations(), 3);
}

#[test]
fn op_mods() {
    assert_eq!(query_op_mod(0), Some((CapType::General, CapMode::Max)));
    assert_eq!(query_op_mod(7), Some((CapType::Atomic, CapMode::Current)));
    assert_eq!(
        query_op_mod(15),
        Some((CapType::FlowTableNic, CapMode::Current))
    );
    for unannounced in [2, 5, 10, 13, 0x20] {
        assert_eq!(query_op_mod(unannounced << 1), None);
    }
    for cap_type in CapType::ALL {
        assert_eq!(CapType::from_u16(cap_type as u16), Some(cap_type));
        assert_eq!(CapType::ALL[index(cap_type)], cap_type);
        for name in cap_type.writable() {
            assert!(cap_type.layout().field(name).is_some(), "{name}");
        }
    }
}
