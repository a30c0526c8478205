//! Keys, lists and what they resolve to.

use super::*;

fn mtt_key() -> Mkey {
    Mkey {
        variant: 0x77,
        free: false,
        umr_en: true,
        remote_invalidate: false,
        mode: AccessMode::Mtt,
        rights: Rights::LOCAL_READ.with(Rights::LOCAL_WRITE),
        pd: 3,
        qpn: 0xff_ffff,
        length64: false,
        start: 0x7000_0100,
        len: 0x2000,
        log_page_size: 12,
        octwords: 2,
        list: Translation::Mtt(vec![0x5000 | 3, 0x9000, 0x2000]),
        context: [0; 64],
    }
}

fn keys(list: Vec<(u32, Mkey)>) -> Mkeys {
    let mut keys = Mkeys::default();
    for (index, mkey) in list {
        keys.table.insert(index, mkey);
    }
    keys
}

fn who(pd: u32) -> Accessor {
    Accessor {
        pd: Some(pd),
        qpn: 0x42,
        reserved_lkey: false,
    }
}

fn pieces(
    keys: &Mkeys,
    key: u32,
    va: u64,
    len: u64,
    need: Rights,
) -> Result<Vec<(u64, u64)>, MkeyFault> {
    let mut out = Vec::new();
    keys.resolve(who(3), key, va, len, need, &mut |a, n| out.push((a, n)))?;
    Ok(out)
}

#[test]
fn pages_are_walked_from_the_page_of_the_start() {
    let keys = keys(vec![(9, mtt_key())]);
    assert_eq!(
        pieces(&keys, 0x977, 0x7000_0100, 0x2000, Rights::LOCAL_WRITE),
        Ok(vec![(0x5100, 0xf00), (0x9000, 0x1000), (0x2000, 0x100)])
    );
    assert_eq!(
        pieces(&keys, 0x977, 0x7000_20ff, 1, Rights::NONE),
        Ok(vec![(0x20ff, 1)])
    );
}

#[test]
fn refusals_name_their_reason() {
    let keys = keys(vec![(9, mtt_key())]);
    let at = |key, va, len, need| pieces(&keys, key, va, len, need).unwrap_err();
    assert_eq!(at(0x978, 0x7000_0100, 1, Rights::NONE), MkeyFault::NoKey);
    assert_eq!(at(0xa77, 0x7000_0100, 1, Rights::NONE), MkeyFault::NoKey);
    assert_eq!(
        at(0x977, 0x7000_0100, 1, Rights::REMOTE_READ),
        MkeyFault::Access
    );
    assert_eq!(at(0x977, 0x7000_00ff, 1, Rights::NONE), MkeyFault::Bounds);
    assert_eq!(
        at(0x977, 0x7000_0100, 0x2001, Rights::NONE),
        MkeyFault::Bounds
    );
    assert_eq!(at(0x977, u64::MAX, 2, Rights::NONE), MkeyFault::Bounds);
    assert_eq!(
        keys.check(who(4), 0x977, 0x7000_0100, 1, Rights::NONE),
        Err(MkeyFault::Protection)
    );
}

#[test]
fn the_reserved_lkey_needs_rlky() {
    let keys = Mkeys::default();
    let mut who = who(1);
    assert_eq!(
        keys.check(who, RESERVED_LKEY, 0, 1, Rights::LOCAL_WRITE),
        Err(MkeyFault::NoKey)
    );
    who.reserved_lkey = true;
    assert_eq!(
        keys.check(who, RESERVED_LKEY, 0, 1, Rights::LOCAL_WRITE),
        Ok(())
    );
}

#[test]
fn klm_lists_chain_other_keys() {
    let window = Mkey {
        mode: AccessMode::Klm,
        rights: Rights::REMOTE_WRITE,
        start: 0x100,
        len: 0x30,
        list: Translation::Klm(vec![
            Klm {
                len: 0x10,
                key: 0x977,
                va: 0x7000_10f8,
            },
            Klm {
                len: 0x20,
                key: 0x977,
                va: 0x7000_0100,
            },
        ]),
        ..mtt_key()
    };
    let keys = keys(vec![(9, mtt_key()), (10, window)]);
    assert_eq!(
        pieces(&keys, 0xa77, 0x108, 0x10, Rights::REMOTE_WRITE),
        // 0x7000_10f8 + 8 is 0x1000 into the region, that is 0x100 into its second page.
        Ok(vec![(0x9100, 8), (0x5100, 8)])
    );
}

#[test]
fn a_key_that_contains_itself_ends() {
    let own = Mkey {
        mode: AccessMode::Klm,
        list: Translation::Klm(vec![Klm {
            len: 0x2000,
            key: 0xa77,
            va: 0x7000_0100,
        }]),
        ..mtt_key()
    };
    let keys = keys(vec![(10, own)]);
    assert_eq!(
        pieces(&keys, 0xa77, 0x7000_0100, 1, Rights::NONE),
        Err(MkeyFault::Depth)
    );
}
