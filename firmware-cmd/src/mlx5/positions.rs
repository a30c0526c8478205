//! Tests that the declared positions are those of the drivers: bytes laid out by hand, and rules that all layouts obey.

use crate::layout::{Kind, Layout};
use crate::mlx5::caps::CapType;
use crate::mlx5::cq::{CreateCqIn, CreateCqOut};
use crate::mlx5::eq::CreateEqIn;
use crate::mlx5::eth::{CreateRqtIn, CreateTirIn, ModifyTirIn};
use crate::mlx5::flow::{CreateFlowGroupIn, CreateFlowTableIn, SetFlowTableEntryIn};
use crate::mlx5::hca::{ManagePagesIn, QueryIssiOut, SetHcaCapIn};
use crate::mlx5::mkey::CreateMkeyIn;
use crate::mlx5::opcode::Opcode;
use crate::mlx5::qp::{CreateQpIn, ModifyQpIn};
use crate::mlx5::registers::Register;
use crate::mlx5::registers::counters::{Ieee8023Counters, Ppcnt};
use crate::mlx5::registers::port::{Paos, Pmtu, Ptys};
use crate::mlx5::srq::CreateXrcSrqIn;
use crate::mlx5::vport::{ModifyNicVportContextIn, SetRoceAddressIn};
use crate::mlx5::wq::{CreateRqIn, CreateSqIn, ModifySqIn};

/// Big-endian words at their offsets, in `len` bytes.
fn words<const N: usize>(len: usize, words: [(usize, u32); N]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (offset, word) in words {
        bytes[offset..offset + 4].copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// The command EQ of FreeBSD: 256 entries, vector 1, command completions only.
#[test]
fn create_eq() {
    let bytes = words(
        0x118,
        [
            (0, 0x0301_0000),
            (0x1c, 0x0800_0010),
            (0x24, 1),
            (0x28, 0),
            (0x5c, 0x400),
            (0x110, 1),
            (0x114, 0x2345_6000),
        ],
    );
    let input = CreateEqIn::new(&bytes);
    assert_eq!(input.opcode(), Opcode::CreateEq.code());
    assert_eq!(
        (
            input.eqc().log_eq_size(),
            input.eqc().uar_page(),
            input.eqc().intr()
        ),
        (8, 16, 1)
    );
    assert_eq!(input.event_bitmask()[..8], 0x400u64.to_be_bytes());
    assert_eq!(input.pas().iter().collect::<Vec<_>>(), [0x1_2345_6000]);
}

/// A transmit CQ of FreeBSD: 1024 entries on EQ 4, 16 microseconds or 32 completions.
#[test]
fn create_cq() {
    let bytes = words(
        0x120,
        [
            (0x10, 0x0042_8000),
            (0x18, 0x0000_0840),
            (0x1c, 0x0a00_0014),
            (0x20, 0x0010_0020),
            (0x24, 4),
            (0x28, 0x0900_0000),
            (0x48, 0x1),
            (0x4c, 0x8000_0040),
            (0x114, 0x1000),
            (0x11c, 0x2000),
        ],
    );
    let input = CreateCqIn::new(&bytes);
    let cqc = input.cqc();
    assert_eq!((cqc.cqe_sz(), cqc.oi(), cqc.cq_period_mode()), (2, true, 1));
    assert_eq!((cqc.page_offset(), cqc.log_page_size()), (33, 9));
    assert_eq!(
        (cqc.log_cq_size(), cqc.uar_page(), cqc.c_eqn()),
        (10, 20, 4)
    );
    assert_eq!((cqc.cq_period(), cqc.cq_max_count()), (16, 32));
    assert_eq!(cqc.dbr_addr(), 0x1_8000_0040);
    assert_eq!(input.pas().iter().collect::<Vec<_>>(), [0x1000, 0x2000]);

    let mut output = [0; 16];
    CreateCqOut::new(&mut output).set_cqn(0x104);
    assert_eq!(
        output,
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x04, 0, 0, 0, 0]
    );
}

#[test]
fn manage_pages() {
    let bytes = words(
        0x20,
        [
            (0, 0x0108_0000),
            (4, 1),
            (0x0c, 2),
            (0x14, 0x7000),
            (0x1c, 0x8000),
        ],
    );
    let input = ManagePagesIn::new(&bytes);
    assert_eq!(
        (
            input.op_mod(),
            input.function_id(),
            input.input_num_entries()
        ),
        (1, 0, 2)
    );
    assert_eq!(input.pas().iter().collect::<Vec<_>>(), [0x7000, 0x8000]);
    let mut issi = [0; 0x70];
    QueryIssiOut::new(&mut issi).set_supported_issi_dw0(3);
    assert_eq!(issi[0x6c..], [0, 0, 0, 3]);
}

/// A key of the MR cache: free, translated by UMR later, for local and remote use.
#[test]
fn create_mkey() {
    let bytes = words(
        0x120,
        [
            (0x10, 0x4000_bd00),
            (0x14, 0xffff_ff0b),
            (0x1c, 0x8000_0007),
            (0x20, 1),
            (0x2c, 0x3000),
            (0x44, 8),
            (0x48, 0x2c),
            (0x60, 1),
            (0x114, 0x9003),
        ],
    );
    let input = CreateMkeyIn::new(&bytes);
    let mkc = input.mkc();
    assert!(mkc.free() && mkc.umr_en() && mkc.length64());
    assert_eq!(
        (mkc.a(), mkc.rw(), mkc.rr(), mkc.lw(), mkc.lr()),
        (false, true, true, true, true)
    );
    assert_eq!((mkc.access_mode_4_2(), mkc.access_mode_1_0()), (0, 1));
    assert_eq!((mkc.qpn(), mkc.mkey_7_0(), mkc.pd()), (0xff_ffff, 0x0b, 7));
    assert_eq!((mkc.start_addr(), mkc.len()), (1 << 32, 0x3000));
    assert_eq!(
        (mkc.translations_octword_size(), mkc.log_page_size()),
        (8, 44)
    );
    assert_eq!(input.translations_octword_actual_size(), 1);
    assert_eq!(
        input.klm_pas_mtt(),
        [0, 0, 0, 0, 0, 0, 0x90, 3, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}

/// The UMR QP of FreeBSD, and the transition that makes it ready to receive.
#[test]
fn create_and_modify_qp() {
    let bytes = words(
        0x118,
        [
            (0x18, 0x000c_1800),
            (0x1c, 0x1000_0003),
            (0x20, 0x0000_4800),
            (0x24, 0x0200_0010),
            (0x28, 0x00ff_ffff),
            (0x94, 0x103),
            (0xb4, 0x103),
            (0xbc, 0x9_f040),
            (0xc4, 0x0300_0000),
        ],
    );
    let input = CreateQpIn::new(&bytes);
    let qpc = input.qpc();
    assert_eq!(
        (qpc.st(), qpc.pm_state(), qpc.latency_sensitive(), qpc.pd()),
        (0xc, 3, true, 3)
    );
    assert_eq!(
        (qpc.log_sq_size(), qpc.log_rq_size(), qpc.no_sq()),
        (9, 0, false)
    );
    assert_eq!(
        (qpc.counter_set_id(), qpc.uar_page(), qpc.user_index()),
        (2, 16, 0xff_ffff)
    );
    assert_eq!(
        (qpc.cqn_snd(), qpc.cqn_rcv(), qpc.rq_type()),
        (0x103, 0x103, 3)
    );
    assert_eq!(qpc.dbr_addr(), 0x9_f040);

    let bytes = words(
        0x110,
        [
            (0x00, 0x0503_0000),
            (0x08, 0x4e),
            (0x10, 0x18),
            (0x20, 0xac00_0000),
            (0x2c, 0x12_3456),
            (0x38, 0x7001_0340),
            (0x3c, 0x0026_0000 | 0xabcd),
            (0x40, 0xfe80_0000),
            (0x4c, 0x0000_0001),
            (0x50, 0x001a_c123),
            (0x54, 0x3001_0002),
            (0x58, 0xc911_2233),
            (0x88, 0x0080_0000),
            (0xa8, 0x0080_e000),
            (0xac, 0x0c65_4321),
        ],
    );
    let input = ModifyQpIn::new(&bytes);
    assert_eq!((input.qpn(), input.opt_param_mask()), (0x4e, 0x18));
    let qpc = input.qpc();
    assert_eq!(
        (qpc.mtu(), qpc.log_msg_max(), qpc.remote_qpn()),
        (5, 12, 0x12_3456)
    );
    assert_eq!((qpc.log_sra_max(), qpc.log_rra_max()), (4, 4));
    assert_eq!((qpc.rre(), qpc.rwe(), qpc.rae()), (true, true, true));
    assert_eq!((qpc.min_rnr_nak(), qpc.next_rcv_psn()), (12, 0x65_4321));
    let path = qpc.primary_address_path();
    assert_eq!(
        (
            path.ack_timeout(),
            path.src_addr_index(),
            path.stat_rate(),
            path.hop_limit()
        ),
        (14, 1, 3, 64)
    );
    assert_eq!((path.tclass(), path.flow_label()), (2, 0x6_abcd));
    assert_eq!(
        path.rgid_rip(),
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    );
    assert_eq!((path.dscp(), path.udp_sport()), (26, 0xc123));
    assert_eq!((path.eth_prio(), path.vhca_port_num()), (3, 1));
    assert_eq!(path.rmac(), [0x00, 0x02, 0xc9, 0x11, 0x22, 0x33]);
    assert_eq!(qpc.secondary_address_path().rmac(), [0; 6]);
}

#[test]
fn create_xrc_srq() {
    let bytes = words(
        0x118,
        [
            (0x10, 0x0100_0000),
            (0x14, 0x0100_0004),
            (0x18, 0x100),
            (0x28, 9),
            (0x3c, 0x5000),
        ],
    );
    let input = CreateXrcSrqIn::new(&bytes);
    let srqc = input.xrc_srqc();
    assert_eq!(
        (srqc.log_xrc_srq_size(), srqc.log_rq_stride(), srqc.xrcd()),
        (1, 1, 4)
    );
    assert_eq!((srqc.cqn(), srqc.pd()), (0x100, 9));
    assert_eq!(
        (srqc.db_record_addr_h(), srqc.db_record_addr_l()),
        (0, 0x5000 >> 2)
    );
}

/// FreeBSD's transmit and receive queue of a channel.
#[test]
fn send_and_receive_queues() {
    let bytes = words(
        0x120,
        [
            (0x00, 0x0904_0000),
            (0x20, 0x1000_0000),
            (0x28, 0x104),
            (0x40, 0x0001_0000),
            (0x4c, 0x6252),
            (0x50, 0x1000_0000),
            (0x58, 2),
            (0x5c, 0x21),
            (0x64, 0x3084),
            (0x70, 0x0006_000a),
            (0x114, 0x4_0000),
            (0x11c, 0x4_1000),
        ],
    );
    let input = CreateSqIn::new(&bytes);
    let sqc = input.sqc();
    assert_eq!(
        (sqc.flush_in_error_en(), sqc.state(), sqc.cqn()),
        (true, 0, 0x104)
    );
    assert_eq!((sqc.tis_lst_sz(), sqc.tis_num_0()), (1, 0x6252));
    let wq = sqc.wq();
    assert_eq!(
        (wq.wq_type(), wq.pd(), wq.uar_page(), wq.dbr_addr()),
        (1, 2, 0x21, 0x3084)
    );
    assert_eq!(
        (wq.log_wq_stride(), wq.log_wq_pg_sz(), wq.log_wq_sz()),
        (6, 0, 10)
    );
    assert_eq!(wq.pas().iter().collect::<Vec<_>>(), [0x4_0000, 0x4_1000]);

    let bytes = words(
        0x118,
        [
            (0x2c, 0x0200_0000),
            (0x50, 0x0200_0000),
            (0x70, 0x0005_000a),
            (0x114, 0x5_0000),
        ],
    );
    let input = CreateRqIn::new(&bytes);
    let rqc = input.rqc();
    assert_eq!(
        (rqc.counter_set_id(), rqc.vsd(), rqc.mem_rq_type()),
        (2, false, 0)
    );
    assert_eq!(
        (
            rqc.wq().wq_type(),
            rqc.wq().end_padding_mode(),
            rqc.wq().log_wq_stride()
        ),
        (0, 1, 5)
    );
    assert_eq!(rqc.wq().pas().get(0), Some(0x5_0000));

    let bytes = words(0x110, [(0x08, 0x0000_186d), (0x20, 0x0010_0000)]);
    let input = ModifySqIn::new(&bytes);
    assert_eq!(
        (input.sq_state(), input.sqn(), input.sqc().state()),
        (0, 0x186d, 1)
    );
}

#[test]
fn receive_side_scaling() {
    let bytes = words(
        0x118,
        [(0x34, 0x80), (0x38, 2), (0x110, 0x186e), (0x114, 0x1870)],
    );
    let input = CreateRqtIn::new(&bytes);
    let rqtc = input.rqtc();
    assert_eq!((rqtc.rqt_max_size(), rqtc.rqt_actual_size()), (128, 2));
    assert_eq!(
        rqtc.rq_num()
            .iter()
            .map(|rq| rq.rq_num())
            .collect::<Vec<_>>(),
        [0x186e, 0x1870]
    );

    let bytes = words(
        0x110,
        [
            (0x24, 0x1000_0000),
            (0x40, 0x8000_1871),
            (0x44, 0x2300_0001),
            (0x48, 0xd181_c62c),
            (0x6c, 0x0102_0304),
            (0x70, 0xc000_000f),
        ],
    );
    let input = CreateTirIn::new(&bytes);
    let tirc = input.tirc();
    assert_eq!(
        (
            tirc.disp_type(),
            tirc.rx_hash_symmetric(),
            tirc.indirect_table()
        ),
        (1, true, 0x1871)
    );
    assert_eq!(
        (
            tirc.rx_hash_fn(),
            tirc.self_lb_block(),
            tirc.transport_domain()
        ),
        (2, 3, 1)
    );
    assert_eq!(tirc.rx_hash_toeplitz_key()[..4], [0xd1, 0x81, 0xc6, 0x2c]);
    assert_eq!(tirc.rx_hash_toeplitz_key()[36..], [1, 2, 3, 4]);
    let select = tirc.rx_hash_field_selector_outer();
    assert_eq!(
        (
            select.l3_prot_type(),
            select.l4_prot_type(),
            select.selected_fields()
        ),
        (true, true, 0xf)
    );

    let bytes = words(0x110, [(0x08, 0x1872), (0x14, 0x10)]);
    let input = ModifyTirIn::new(&bytes);
    assert_eq!(
        (
            input.tirn(),
            input.bitmask().self_lb_en(),
            input.bitmask().hash()
        ),
        (0x1872, true, false)
    );
}

/// FreeBSD's main table, a group on destination MAC, and a rule to a TIR.
#[test]
fn flow_steering() {
    let bytes = words(0x40, [(0x10, 0), (0x18, 0x000a_000f)]);
    let context = CreateFlowTableIn::new(&bytes).flow_table_context();
    assert_eq!(
        (
            context.level(),
            context.log_size(),
            context.table_miss_action()
        ),
        (10, 15, 0)
    );

    let bytes = words(
        0x400,
        [
            (0x14, 0x1882),
            (0x1c, 27),
            (0x24, 16410),
            (0x3c, 1),
            (0x44, 0xffff),
            (0x48, u32::MAX),
            (0x4c, 0xffff_0000),
        ],
    );
    let input = CreateFlowGroupIn::new(&bytes);
    assert_eq!(
        (
            input.table_id(),
            input.start_flow_index(),
            input.end_flow_index()
        ),
        (0x1882, 27, 16410)
    );
    let outer = input.match_criteria().outer_headers();
    assert_eq!(
        (
            input.match_criteria_enable(),
            outer.dmac(),
            outer.ethertype()
        ),
        (1, [0xff; 6], 0xffff)
    );
    assert_eq!((outer.smac(), outer.first_vid()), ([0; 6], 0));

    let bytes = words(
        0x350,
        [
            (0x14, 0x1882),
            (0x18, 0x4),
            (0x20, 30),
            (0x44, 0x1884),
            (0x48, 0xff_fffe),
            (0x4c, 4),
            (0x50, 2),
            (0x84, 0x0800),
            (0x88, 0x0002_c911),
            (0x8c, 0x2233_8064),
            (0x90, 0x1168_a810),
            (0x9c, 0x1234_12b7),
            (0xbc, 0x0a00_0001),
            (0x340, 0x0200_1873),
            (0x348, 0x0100_1882),
        ],
    );
    let input = SetFlowTableEntryIn::new(&bytes);
    assert_eq!((input.modify_enable_mask(), input.flow_index()), (4, 30));
    let flow = input.flow_context();
    assert_eq!(
        (flow.group_id(), flow.flow_tag(), flow.action()),
        (0x1884, 0xff_fffe, 4)
    );
    let outer = flow.match_value().outer_headers();
    assert_eq!(
        (outer.ethertype(), outer.dmac()),
        (0x0800, [0x00, 0x02, 0xc9, 0x11, 0x22, 0x33])
    );
    assert_eq!(
        (outer.first_prio(), outer.first_cfi(), outer.first_vid()),
        (4, false, 100)
    );
    assert_eq!(
        (outer.ip_protocol(), outer.ip_dscp(), outer.ip_ecn()),
        (17, 26, 0)
    );
    assert_eq!(
        (
            outer.cvlan_tag(),
            outer.frag(),
            outer.ip_version(),
            outer.tcp_flags()
        ),
        (true, true, 4, 0x10)
    );
    assert_eq!((outer.udp_sport(), outer.udp_dport()), (0x1234, 4791));
    assert_eq!(outer.dst_ipv4_dst_ipv6()[12..], [10, 0, 0, 1]);
    let to: Vec<_> = flow
        .destination()
        .iter()
        .map(|to| (to.destination_type(), to.destination_id()))
        .collect();
    assert_eq!(to[..2], [(2, 0x1873), (1, 0x1882)]);
}

#[test]
fn vport_and_roce_addresses() {
    let mut bytes = words(
        0x210,
        [
            (0x0c, 0x44),
            (0x124, 9000),
            (0x1f0, 0x4000_0002),
            (0x1f4, 0x0000_0002),
        ],
    );
    bytes[0x1f8..0x1fc].copy_from_slice(&[0xc9, 0x11, 0x22, 0x33]);
    bytes[0x202..0x208].copy_from_slice(&[1, 2, 3, 4, 5, 6]);
    bytes[0x20a..0x210].copy_from_slice(&[7, 8, 9, 10, 11, 12]);
    let input = ModifyNicVportContextIn::new(&bytes);
    assert!(input.field_select().mtu() && input.field_select().addresses_list());
    assert!(!input.field_select().promisc());
    let context = input.nic_vport_context();
    assert_eq!(
        (
            context.mtu(),
            context.promisc_mc(),
            context.allowed_list_size()
        ),
        (9000, true, 2)
    );
    assert_eq!(
        context.permanent_address().mac_addr(),
        [0x00, 0x02, 0xc9, 0x11, 0x22, 0x33]
    );
    let list: Vec<_> = context
        .mac_list()
        .iter()
        .map(|entry| entry.mac_addr())
        .collect();
    assert_eq!(list, [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]);

    let bytes = words(
        0x30,
        [
            (0x08, 0x0003_0001),
            (0x1c, 0x0a00_0001),
            (0x20, 0x1064_0002),
            (0x24, 0xc911_2233),
            (0x28, 0x0000_0002),
        ],
    );
    let input = SetRoceAddressIn::new(&bytes);
    assert_eq!((input.roce_address_index(), input.vhca_port_num()), (3, 1));
    let address = input.roce_address();
    assert_eq!(address.source_l3_address()[12..], [10, 0, 0, 1]);
    assert_eq!((address.vlan_valid(), address.vlan_id()), (true, 100));
    assert_eq!(address.source_mac(), [0x00, 0x02, 0xc9, 0x11, 0x22, 0x33]);
    assert_eq!((address.roce_l3_type(), address.roce_version()), (0, 2));
}

#[test]
fn registers() {
    let bytes = words(0x10, [(0, 0x0001_0000), (4, 10218 << 16), (8, 1522 << 16)]);
    let pmtu = Pmtu::new(&bytes);
    assert_eq!(
        (
            pmtu.local_port(),
            pmtu.max_mtu(),
            pmtu.admin_mtu(),
            pmtu.oper_mtu()
        ),
        (1, 10218, 1522, 0)
    );
    let bytes = words(
        0x40,
        [(0, 0x0001_0004), (0x0c, 1 << 20), (0x18, 3), (0x24, 5)],
    );
    let ptys = Ptys::new(&bytes);
    assert_eq!(
        (ptys.proto_mask(), ptys.eth_proto_capability()),
        (4, 1 << 20)
    );
    assert_eq!((ptys.eth_proto_admin(), ptys.eth_proto_oper()), (3, 5));
    let bytes = words(0x10, [(0, 0x0001_0102), (4, 0x8000_0000)]);
    let paos = Paos::new(&bytes);
    assert_eq!(
        (paos.admin_status(), paos.oper_status(), paos.ase()),
        (1, 2, true)
    );

    let mut bytes = words(0x100, [(0, 0x0001_0010), (4, 0x8000_0003)]);
    let mut ppcnt = Ppcnt::new(&mut bytes);
    assert_eq!((ppcnt.grp(), ppcnt.clr(), ppcnt.prio_tc()), (0x10, true, 3));
    let mut counters = Ieee8023Counters::new(ppcnt.counter_set_mut());
    counters
        .set_a_frames_transmitted_ok(1)
        .set_a_octets_received_ok(0x2_0000_0003);
    assert_eq!(bytes[0x08..0x10], [0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(bytes[0x30..0x38], [0, 0, 0, 2, 0, 0, 0, 3]);
}

fn all_layouts() -> Vec<&'static Layout> {
    fn add(layout: &'static Layout, to: &mut Vec<&'static Layout>) {
        if to.iter().any(|known| known.name == layout.name) {
            return;
        }
        to.push(layout);
        for field in layout.fields {
            if let Kind::Struct(inner) | Kind::Array(inner) = field.kind {
                add(inner, to);
            }
        }
    }
    let mut all = Vec::new();
    for command in Opcode::ALL.iter().filter_map(|opcode| opcode.command()) {
        add(command.input, &mut all);
        add(command.output, &mut all);
    }
    Register::ALL
        .iter()
        .for_each(|register| add(register.layout(), &mut all));
    (0..16)
        .filter_map(CapType::from_u16)
        .for_each(|cap_type| add(cap_type.layout(), &mut all));
    all
}

/// Fields lie within their structure and do not overlap, integers lie within their words. Two names for one place are
/// the exception.
#[test]
fn fields_are_where_they_can_be() {
    let layouts = all_layouts();
    assert!(layouts.len() > 180, "{}", layouts.len());
    for layout in layouts {
        let size = 8 * layout.size as u32;
        let mut taken: Vec<(u32, u32, &str)> = Vec::new();
        for field in layout.fields {
            let (start, end) = (field.bit_offset, field.bit_offset + field.bits);
            let at = format!("{}.{}", layout.name, field.name);
            if field.bits == 0 {
                assert!(start <= size, "{at} leaves a gap");
            } else {
                assert!(end <= size, "{at} lies outside");
            }
            if matches!(field.kind, Kind::Int) {
                assert!(
                    field.bits == 64 && start % 32 == 0 || start / 32 == (end - 1) / 32,
                    "{at} straddles words"
                );
            }
            for &(other_start, other_end, other) in &taken {
                let apart = end <= other_start || other_end <= start || field.bits == 0;
                let aliases = start == other_start && end == other_end;
                assert!(apart || aliases, "{at} overlaps {other}");
            }
            taken.push((start, end, field.name));
        }
    }
}

/// What the drivers send has no reserved bits set, so that a check for them can be switched on.
#[test]
fn capabilities_have_no_reserved_bits() {
    let caps = crate::mlx5::caps::HcaCaps::connectx5();
    for cap_type in (0..16).filter_map(CapType::from_u16) {
        let bytes = caps.get(cap_type, crate::mlx5::caps::CapMode::Max);
        assert_eq!(cap_type.layout().reserved_bit(bytes), None, "{cap_type:?}");
    }
    let mut set = vec![0; SetHcaCapIn::SIZE];
    SetHcaCapIn::new(&mut set)
        .set_opcode(Opcode::SetHcaCap.code())
        .capability_mut()[0x1c] = 1;
    assert_eq!(SetHcaCapIn::LAYOUT.reserved_bit(&set), None);
}
