//! Completion queues: refusals, moderation, resize.

use rocinante_firmware_cmd::mlx5::cq::{CreateCqIn, ModifyCqIn, QueryCqOut};

use super::*;
use crate::mlx5::cq::Moderation;
use crate::mlx5::cqe::{Cqe, CqeOpcode};

fn changed((uar, eqn): (u32, u32), change: impl FnOnce(&mut CreateCqIn<&mut Vec<u8>>)) -> Vec<u8> {
    let mut create = create_cq(uar, eqn, MEMORY, MEMORY + 0x800);
    change(&mut CreateCqIn::new(&mut create));
    create
}

#[test]
fn bad_completion_queues_are_refused() {
    let mut driver = Driver::initialized();
    let uar = driver.uar();
    let of = (uar, driver.eq(uar, 0, 0));
    let refusals = [
        (
            changed(of, |c| _ = c.cqc_mut().set_c_eqn(99)),
            Status::BadRes,
            1,
        ),
        (
            changed(of, |c| _ = c.cqc_mut().set_uar_page(9)),
            Status::BadParam,
            2,
        ),
        (
            changed(of, |c| _ = c.cqc_mut().set_log_cq_size(23)),
            Status::BadParam,
            3,
        ),
        (
            changed(of, |c| _ = c.cqc_mut().set_cqe_sz(3)),
            Status::BadParam,
            4,
        ),
        (
            changed(of, |c| _ = c.cqc_mut().set_log_cq_size(7)),
            Status::BadInpLen,
            5,
        ),
        (
            changed(of, |c| _ = c.cqc_mut().set_cqe_sz(1)),
            Status::BadInpLen,
            5,
        ),
        (
            changed(of, |c| _ = c.cqc_mut().set_dbr_addr(MEMORY + 4)),
            Status::BadParam,
            6,
        ),
        (
            changed(of, |c| _ = c.set_cq_umem_valid(true)),
            Status::BadParam,
            7,
        ),
    ];
    for (create, status, check) in refusals {
        assert_eq!(driver.refused(&create), (status, check));
    }
    for opcode in [Opcode::DestroyCq, Opcode::QueryCq] {
        assert_eq!(
            driver.refused(&by_number(opcode, 0x80)),
            (Status::BadRes, 1),
            "{opcode}"
        );
    }
    let modify = input(Opcode::ModifyCq, 0, ModifyCqIn::SIZE);
    assert_eq!(driver.refused(&modify), (Status::BadRes, 1));
    assert!(driver.nic.core.cqs.table.is_empty());
    // Newer drivers write the EQ number as a word, older ones as a byte.
    driver.ok(&changed(of, |c| _ = c.cqc_mut().set_c_eqn(0xab00 | of.1)));
}

fn modify(cqn: u32, op_mod: u16, select: u32, pages: &[u64]) -> Vec<u8> {
    let mut modify = input(Opcode::ModifyCq, op_mod, ModifyCqIn::SIZE + 8 * pages.len());
    let mut view = ModifyCqIn::new(&mut modify);
    view.set_cqn(cqn).set_field_select(select);
    for (index, page) in pages.iter().enumerate() {
        view.pas_mut().set(index, *page);
    }
    modify
}

#[test]
fn moderation_changes_only_what_is_selected() {
    let mut driver = Driver::initialized();
    let uar = driver.uar();
    let eqn = driver.eq(uar, 0, 0);
    let cqn = driver.cq(uar, eqn);
    let mut period = modify(cqn, 0, 1, &[]);
    ModifyCqIn::new(&mut period)
        .cqc_mut()
        .set_cq_period(16)
        .set_cq_max_count(99)
        .set_oi(true);
    driver.ok(&period);
    let mut count = modify(cqn, 0, 2 | 16, &[]);
    ModifyCqIn::new(&mut count)
        .cqc_mut()
        .set_cq_max_count(32)
        .set_cq_period_mode(1);
    driver.ok(&count);
    let cq = driver.nic.core.cqs.table.get(cqn).unwrap();
    let expected = Moderation {
        period_us: 16,
        max_count: 32,
        restart_on_cqe: true,
    };
    assert_eq!((cq.moderation, cq.overrun_ignore), (expected, false));
    let output = driver.ok(&by_number(Opcode::QueryCq, cqn));
    let cqc = QueryCqOut::new(&output);
    let cqc = cqc.cqc();
    assert_eq!(
        (cqc.cq_period(), cqc.cq_max_count(), cqc.log_cq_size()),
        (16, 32, 6)
    );
    assert_eq!(
        driver.refused(&modify(cqn, 0, 8, &[])),
        (Status::BadParam, 2)
    );
    assert_eq!(
        driver.refused(&modify(cqn, 2, 0, &[])),
        (Status::BadParam, 3)
    );
}

#[test]
fn a_resize_ends_the_old_ring_and_goes_on_in_the_new() {
    let mut driver = Driver::initialized();
    let uar = driver.uar();
    let eqn = driver.eq(uar, 0, 0);
    let (old, record) = (driver.page(), driver.page());
    let output = driver.ok(&create_cq(uar, eqn, old, record));
    let cqn = CreateCqOut::new(&output).cqn();
    for n in 0..3 {
        driver
            .nic
            .core
            .complete(cqn, Cqe::new(CqeOpcode::Req, 1, n))
            .unwrap();
    }
    let new = driver.page();
    let mut small = modify(cqn, 1, 7, &[new]);
    ModifyCqIn::new(&mut small).cqc_mut().set_log_cq_size(1);
    assert_eq!(driver.refused(&small), (Status::BadSizeOutsCqes, 7));
    let mut short = modify(cqn, 1, 7, &[]);
    ModifyCqIn::new(&mut short).cqc_mut().set_log_cq_size(2);
    assert_eq!(driver.refused(&short), (Status::BadInpLen, 6));
    let mut large = modify(cqn, 1, 7, &[new]);
    ModifyCqIn::new(&mut large).cqc_mut().set_log_cq_size(23);
    assert_eq!(driver.refused(&large), (Status::BadParam, 4));

    let mut resize = modify(cqn, 1, 7, &[new]);
    ModifyCqIn::new(&mut resize).cqc_mut().set_log_cq_size(2);
    driver.ok(&resize);
    let at = |page: u64, index: u64| eqe(&driver.nic, page, index);
    assert_eq!(
        at(old, 3)[0x3f],
        0x50,
        "the fourth entry of the old ring says resize"
    );
    driver
        .nic
        .core
        .complete(cqn, Cqe::new(CqeOpcode::Req, 1, 3))
        .unwrap_err();
    driver
        .nic
        .core
        .mem
        .write(record, &3u32.to_be_bytes())
        .unwrap();
    let output = driver.ok(&by_number(Opcode::QueryCq, cqn));
    let query = QueryCqOut::new(&output);
    let cqc = query.cqc();
    assert_eq!(
        (
            cqc.log_cq_size(),
            cqc.producer_counter(),
            cqc.consumer_counter()
        ),
        (2, 4, 3)
    );
    assert_eq!(cqc.status(), 9, "overrun");
}

#[test]
fn a_full_ring_has_no_room_for_the_resize_entry() {
    let mut driver = Driver::initialized();
    let uar = driver.uar();
    let eqn = driver.eq(uar, 0, 0);
    let (old, record) = (driver.page(), driver.page());
    let output = driver.ok(&create_cq(uar, eqn, old, record));
    let cqn = CreateCqOut::new(&output).cqn();
    for n in 0..64 {
        let cqe = Cqe::new(CqeOpcode::Req, 1, n);
        driver.nic.core.complete(cqn, cqe).unwrap();
    }
    let pages = [driver.page(), driver.page()];
    let mut resize = modify(cqn, 1, 7, &pages);
    ModifyCqIn::new(&mut resize).cqc_mut().set_log_cq_size(7);
    assert_eq!(driver.refused(&resize), (Status::BadSizeOutsCqes, 7));
    assert_eq!(
        eqe(&driver.nic, old, 0)[0x3f],
        0,
        "the first entry is still there"
    );
    driver
        .nic
        .core
        .mem
        .write(record, &1u32.to_be_bytes())
        .unwrap();
    driver.ok(&resize);
    assert_eq!(eqe(&driver.nic, old, 0)[0x3f], 0x51);
}
