//! Tests that the declared positions are those of the drivers: bytes laid out by hand, and rules that all layouts obey.

mod eth;
mod rules;
mod vport;

use crate::mlx5::cq::{CreateCqIn, CreateCqOut};
use crate::mlx5::eq::CreateEqIn;
use crate::mlx5::hca::{ManagePagesIn, QueryIssiOut};
use crate::mlx5::mkey::CreateMkeyIn;
use crate::mlx5::opcode::Opcode;
use crate::mlx5::qp::{CreateQpIn, ModifyQpIn};
use crate::mlx5::srq::CreateXrcSrqIn;

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
