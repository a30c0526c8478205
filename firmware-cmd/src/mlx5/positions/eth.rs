//! Ethernet queues and flow steering.

use super::words;
use crate::mlx5::eth::{CreateRqtIn, CreateTirIn, ModifyTirIn};
use crate::mlx5::flow::{CreateFlowGroupIn, CreateFlowTableIn, SetFlowTableEntryIn};
use crate::mlx5::wq::{CreateRqIn, CreateSqIn, ModifySqIn};

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
