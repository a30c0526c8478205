//! Pages lent and taken back.

use rocinante_firmware_cmd::mlx5::hca::QueryPagesOut;
use rocinante_firmware_cmd::mlx5::mkey::CreateMkeyIn;

use super::*;

#[test]
fn boot_and_init_pages_are_asked_for_and_all_come_back() {
    let mut driver = Driver::new();
    driver.bare(Opcode::EnableHca);
    assert_eq!(driver.give_wanted(1), 4);
    assert_eq!(driver.give_wanted(1), 0);
    assert_eq!(driver.give_wanted(2), 16);
    driver.bare(Opcode::InitHca);
    driver.bare(Opcode::TeardownHca);
    assert_eq!(driver.take(7), 7);
    assert_eq!(driver.take(768), 13);
    assert_eq!(driver.take(768), 0);
    assert!(driver.lent.is_empty());
}

#[test]
fn a_page_is_not_taken_twice() {
    let mut driver = Driver::initialized();
    let owned = driver.nic.core.hca.pages.owned();
    let (lent, fresh) = (driver.lent[3], driver.page());
    assert_eq!(driver.refused(&give(&[fresh, lent])), (Status::BadParam, 5));
    assert_eq!(
        driver.refused(&give(&[fresh, fresh])),
        (Status::BadParam, 5)
    );
    assert_eq!(driver.refused(&give(&[fresh | 8])), (Status::BadParam, 4));
    assert_eq!(driver.nic.core.hca.pages.owned(), owned);
    driver.ok(&give(&[fresh]));
}

#[test]
fn bad_page_commands_are_refused() {
    let mut driver = Driver::initialized();
    let mut short = give(&[0x9000, 0xa000]);
    short.truncate(24);
    assert_eq!(driver.refused(&short), (Status::BadInpLen, 3));
    assert_eq!(
        driver.refused(&input(Opcode::ManagePages, 3, 16)),
        (Status::BadParam, 2)
    );
    assert_eq!(
        driver.refused(&by_number(Opcode::ManagePages, 1)),
        (Status::BadParam, 1)
    );
    assert_eq!(
        driver.refused(&by_number(Opcode::QueryPages, 1)),
        (Status::BadParam, 1)
    );
    assert_eq!(
        driver.refused(&input(Opcode::QueryPages, 4, 16)),
        (Status::BadParam, 2)
    );
}

fn cache_key() -> Vec<u8> {
    let mut create = input(Opcode::CreateMkey, 0, CreateMkeyIn::SIZE);
    CreateMkeyIn::new(&mut create)
        .mkc_mut()
        .set_free(true)
        .set_umr_en(true)
        .set_access_mode_1_0(1)
        .set_translations_octword_size(0x8000);
    create
}

#[test]
fn regular_pages_are_asked_for_in_events_and_nothing_waits() {
    let mut driver = Driver::initialized();
    for _ in 0..200 {
        driver.ok(&cache_key());
    }
    // Nobody listens: nothing is asked for, nothing is lost.
    let uar = driver.uar();
    let page = driver.page();
    driver.ok(&create_eq(uar, 0, 1 << 0x0b, page));
    let event = eqe(&driver.nic, page, 0);
    assert_eq!(
        (event[1], &event[0x20..0x28]),
        (0x0b, &[0, 0, 0, 0, 0, 0, 0, 8][..])
    );
    assert_eq!(driver.nic.core.eqs.interrupts, [0]);

    let shortage = driver.ok(&input(Opcode::QueryPages, 3, 16));
    assert_eq!(QueryPagesOut::new(&shortage).num_pages(), 3);
    driver.give(8);
    for _ in 0..400 {
        driver.ok(&cache_key());
    }
    let event = eqe(&driver.nic, page, 1);
    assert_eq!((event[1], &event[0x24..0x28]), (0x0b, &[0, 0, 0, 8][..]));

    // The driver has none: the device goes on and does not nag.
    driver.ok(&input(Opcode::ManagePages, 0, 16));
    for _ in 0..64 {
        driver.ok(&cache_key());
    }
    assert_eq!(eqe(&driver.nic, page, 2), [0; 64]);
    assert_eq!(driver.take(100), 28);
}
