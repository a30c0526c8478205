//! Event queues: refusals, numbers, query.

use rocinante_firmware_cmd::mlx5::eq::{CreateEqIn, QueryEqOut};

use super::*;

/// CREATE_EQ with one thing changed.
fn changed(driver: &mut Driver, change: impl FnOnce(&mut CreateEqIn<&mut Vec<u8>>)) -> Vec<u8> {
    let uar = driver.uar();
    let mut create = create_eq(uar, 0, 0, MEMORY);
    change(&mut CreateEqIn::new(&mut create));
    create
}

#[test]
fn bad_event_queues_are_refused() {
    let mut driver = Driver::initialized();
    let d = &mut driver;
    let size = changed(d, |c| _ = c.eqc_mut().set_log_eq_size(23));
    let vector = changed(d, |c| _ = c.eqc_mut().set_intr(8));
    let uar = changed(d, |c| _ = c.eqc_mut().set_uar_page(15));
    let two_pages = changed(d, |c| _ = c.eqc_mut().set_log_eq_size(7));
    let offset = changed(d, |c| _ = c.eqc_mut().set_page_offset(1));
    let mut none = changed(d, |_| ());
    none.truncate(CreateEqIn::SIZE);
    assert_eq!(d.refused(&size), (Status::BadParam, 1));
    assert_eq!(d.refused(&vector), (Status::BadParam, 2));
    assert_eq!(d.refused(&uar), (Status::BadRes, 3));
    for short in [two_pages, offset, none] {
        assert_eq!(d.refused(&short), (Status::BadInpLen, 4));
    }
    assert_eq!(
        d.refused(&by_number(Opcode::DestroyEq, 1)),
        (Status::BadRes, 1)
    );
    assert_eq!(
        d.refused(&by_number(Opcode::QueryEq, 1)),
        (Status::BadRes, 1)
    );
    assert!(d.nic.core.eqs.table.is_empty());
}

/// FreeBSD reads no module of which no event said that it is plugged.
#[test]
fn whoever_subscribes_to_modules_is_told_of_the_one_there_is() {
    let mut driver = Driver::initialized();
    let uar = driver.uar();
    driver.ok(&create_eq(uar, 0, 1 << 0x16, MEMORY));
    let mut entry = [0; 64];
    driver.nic.core.mem.read(MEMORY, &mut entry).unwrap();
    // Type, module and status, the rest is zero, the owner bit included.
    assert_eq!((entry[0x01], entry[0x21], entry[0x23]), (0x16, 0, 1));
    assert_eq!(entry.iter().filter(|byte| **byte != 0).count(), 2);
}

#[test]
fn event_queue_numbers_fit_a_doorbell() {
    let mut driver = Driver::initialized();
    let uar = driver.uar();
    let mut numbers = Vec::new();
    let error = loop {
        match driver.command(&create_eq(uar, 0, 0, MEMORY)) {
            Ok(output) => numbers.push(CreateEqOut::new(&output).eq_number()),
            Err(error) => break error,
        }
    };
    assert_eq!((error.status, numbers.len()), (Status::Lim, 127));
    assert!(numbers.iter().all(|eqn| (1..128).contains(eqn)));
}

#[test]
fn a_query_shows_what_was_created_and_where_it_stands() {
    let mut driver = Driver::initialized();
    let (uar, page) = (driver.uar(), driver.page());
    let output = driver.ok(&create_eq(uar, 5, 1 << 9 | 1 << 4, page));
    let eqn = u32::from(CreateEqOut::new(&output).eq_number());
    crate::mlx5::port::set_physical(&mut driver.nic.core, true);
    assert_eq!(eqe(&driver.nic, page, 0)[1], 9);
    assert_eq!(driver.nic.core.eqs.interrupts, [5]);
    let output = driver.ok(&by_number(Opcode::QueryEq, eqn));
    let query = QueryEqOut::new(&output);
    assert_eq!(query.event_bitmask(), 1 << 9 | 1 << 4);
    let eqc = query.eqc();
    assert_eq!((eqc.log_eq_size(), eqc.uar_page(), eqc.intr()), (6, uar, 5));
    assert_eq!(
        (eqc.st(), eqc.producer_counter(), eqc.consumer_counter()),
        (0xa, 1, 0)
    );
}
