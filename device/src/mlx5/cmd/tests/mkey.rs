//! Memory keys: refusals, lists, the keys of MR caches.

use rocinante_firmware_cmd::mlx5::mkey::{CreateMkeyIn, CreateMkeyOut, QueryMkeyOut};

use super::*;
use crate::mlx5::mkey::{Klm, MAX_STORED_OCTWORDS, Translation};

/// CREATE_MKEY of a region in `pd` with `octwords` of list announced and `room` bytes sent.
fn region(pd: u32, octwords: u32, room: usize) -> Vec<u8> {
    let mut create = input(Opcode::CreateMkey, 0, CreateMkeyIn::SIZE + room);
    let mut view = CreateMkeyIn::new(&mut create);
    view.set_translations_octword_actual_size(octwords);
    view.mkc_mut()
        .set_access_mode_1_0(1)
        .set_pd(pd)
        .set_qpn(0xff_ffff)
        .set_mkey_7_0(0x42)
        .set_lr(true)
        .set_rw(true)
        .set_start_addr(0x7000)
        .set_len(0x3000)
        .set_translations_octword_size(octwords)
        .set_log_page_size(12);
    create
}

fn changed(mut create: Vec<u8>, change: impl FnOnce(&mut CreateMkeyIn<&mut Vec<u8>>)) -> Vec<u8> {
    change(&mut CreateMkeyIn::new(&mut create));
    create
}

#[test]
fn bad_keys_are_refused() {
    let mut driver = Driver::initialized();
    let pd = driver.pd();
    let good = || region(pd, 2, 32);
    let refusals = [
        (
            changed(good(), |c| _ = c.mkc_mut().set_access_mode_4_2(1)),
            Status::BadParam,
            1,
        ),
        (
            changed(good(), |c| _ = c.mkc_mut().set_pd(pd + 1)),
            Status::BadRes,
            2,
        ),
        (region(pd, 3, 32), Status::BadInpLen, 3),
        (region(pd, u32::MAX, 32), Status::BadInpLen, 3),
        (
            changed(good(), |c| _ = c.mkc_mut().set_log_page_size(11)),
            Status::BadParam,
            4,
        ),
        (
            changed(good(), |c| _ = c.mkc_mut().set_len(u64::MAX)),
            Status::BadParam,
            5,
        ),
        (
            changed(good(), |c| _ = c.set_mkey_umem_valid(true)),
            Status::BadParam,
            6,
        ),
        (
            changed(good(), |c| _ = c.mkc_mut().set_access_mode_1_0(0)),
            Status::BadParam,
            7,
        ),
    ];
    for (create, status, check) in refusals {
        assert_eq!(driver.refused(&create), (status, check));
    }
    driver.nic.core.mkeys.stored_octwords = MAX_STORED_OCTWORDS - 1;
    assert_eq!(driver.refused(&good()), (Status::Lim, 9));
    driver.nic.core.mkeys.stored_octwords = 0;
    assert!(driver.nic.core.mkeys.table.is_empty());
    for opcode in [Opcode::DestroyMkey, Opcode::QueryMkey] {
        assert_eq!(
            driver.refused(&by_number(opcode, 0x100)),
            (Status::BadRes, 1),
            "{opcode}"
        );
    }
}

#[test]
fn page_lists_are_kept_and_counted() {
    let mut driver = Driver::initialized();
    let pd = driver.pd();
    let create = changed(region(pd, 2, 32), |c| {
        for (index, page) in [0x9000u64, 0x5000, 0xa000].into_iter().enumerate() {
            c.klm_pas_mtt_mut()[8 * index..][..8].copy_from_slice(&page.to_be_bytes());
        }
    });
    let index = CreateMkeyOut::new(&driver.ok(&create)).mkey_index();
    let mkeys = &driver.nic.core.mkeys;
    let mkey = mkeys.valid(index << 8 | 0x42).unwrap();
    assert_eq!(mkey.list, Translation::Mtt(vec![0x9000, 0x5000, 0xa000, 0]));
    assert_eq!(mkeys.stored_octwords, 2);
    let output = driver.ok(&by_number(Opcode::QueryMkey, index));
    let query = QueryMkeyOut::new(&output);
    let mkc = query.mkc();
    assert_eq!(
        (mkc.pd(), mkc.start_addr(), mkc.len()),
        (pd, 0x7000, 0x3000)
    );
    assert_eq!(
        (mkc.lr(), mkc.lw(), mkc.rr(), mkc.rw(), mkc.a()),
        (true, false, false, true, false)
    );
    driver.ok(&by_number(Opcode::DestroyMkey, index));
    assert_eq!(driver.nic.core.mkeys.stored_octwords, 0);
}

#[test]
fn klm_lists_have_length_key_address() {
    let mut driver = Driver::initialized();
    let pd = driver.pd();
    let create = changed(region(pd, 1, 16), |c| {
        c.mkc_mut().set_access_mode_1_0(2);
        let klm = [0, 0, 0x10, 0, 0, 9, 8, 7, 0, 0, 0x7f, 0, 0, 0, 0x20, 0];
        c.klm_pas_mtt_mut().copy_from_slice(&klm);
    });
    let index = CreateMkeyOut::new(&driver.ok(&create)).mkey_index();
    let list = &driver.nic.core.mkeys.table.get(index).unwrap().list;
    let klm = Klm {
        len: 0x1000,
        key: 0x0009_0807,
        va: 0x7f00_0000_2000,
    };
    assert_eq!(*list, Translation::Klm(vec![klm]));
}

#[test]
fn cache_keys_cost_nothing_until_they_are_filled() {
    let mut driver = Driver::initialized();
    // As FreeBSD's and Linux' MR caches make them: free, PD 0, no list, a large capacity.
    let create = changed(region(0, 0, 0), |c| {
        c.mkc_mut()
            .set_free(true)
            .set_umr_en(true)
            .set_translations_octword_size(0x8000);
    });
    for _ in 0..6112 {
        driver.ok(&create);
    }
    let mkeys = &driver.nic.core.mkeys;
    assert_eq!((mkeys.table.len(), mkeys.stored_octwords), (6112, 0));
    let (index, mkey) = mkeys.table.iter().next().unwrap();
    assert_eq!((mkey.octwords, mkey.umr_en), (0x8000, true));
    assert!(mkeys.valid(index << 8 | 0x42).is_err(), "free");
}

#[test]
fn a_free_key_keeps_an_initial_list() {
    let mut driver = Driver::initialized();
    let create = changed(region(0, 2, 32), |c| {
        c.mkc_mut().set_free(true).set_umr_en(true);
    });
    let index = CreateMkeyOut::new(&driver.ok(&create)).mkey_index();
    assert_eq!(
        driver.nic.core.mkeys.table.get(index).unwrap().list,
        Translation::Mtt(vec![0; 4])
    );
}
