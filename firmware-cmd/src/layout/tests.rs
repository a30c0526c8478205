//! A structure with one field of each sort.

#![allow(dead_code, reason = "not every generated accessor is of interest")]

use proptest::prelude::*;

use super::*;

layout! {
    /// Part of the one below.
    pub context Inner[0x8] {
        0x00[31] flag;
        0x04[23:0] number;
    }

    /// One field of each sort.
    pub context Outer[0x40] {
        0x00[31:28] nibble;
        0x00[27] bit;
        0x00[26:16] eleven;
        0x00[15:0] half;
        0x04 word;
        0x08 long: u64;
        0x12 mac: [u8; 6];
        0x18 inner: Inner;
        0x20 pair: [Inner; 2];
        0x30 words: [u32; 2];
        0x40 tail: [u64];
    }

    /// Ends in an open structure.
    pub input Command[0x50] {
        0x10 outer: Outer;
    }
}

#[rustfmt::skip]
const BYTES: [u8; 0x50] = [
    0xa9, 0x23, 0x45, 0x67, 0x01, 0x02, 0x03, 0x04, 1, 2, 3, 4, 5, 6, 7, 8,
    0, 0, 0x02, 0xc9, 0x11, 0x22, 0x33, 0x44, 0x80, 0, 0, 0, 0xff, 0x12, 0x34, 0x56,
    0, 0, 0, 0, 0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 2,
    0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0x20, 0,
];

#[test]
fn getters() {
    let outer = Outer::new(&BYTES);
    assert_eq!(
        (outer.nibble(), outer.bit(), outer.eleven(), outer.half()),
        (0xa, true, 0x123, 0x4567)
    );
    assert_eq!(
        (outer.word(), outer.long()),
        (0x0102_0304, 0x0102_0304_0506_0708)
    );
    assert_eq!(outer.mac(), [0x02, 0xc9, 0x11, 0x22, 0x33, 0x44]);
    assert_eq!(
        (outer.inner().flag(), outer.inner().number()),
        (true, 0x12_3456)
    );
    let pair: Vec<_> = outer
        .pair()
        .iter()
        .map(|inner| (inner.flag(), inner.number()))
        .collect();
    assert_eq!(pair, [(false, 1), (true, 2)]);
    assert_eq!(outer.words().iter().collect::<Vec<_>>(), [3, 4]);
    assert_eq!(
        outer.tail().into_iter().collect::<Vec<_>>(),
        [0x1000, 0x1_0000_2000]
    );
    assert_eq!(
        (outer.tail().len(), outer.tail().get(1), outer.tail().get(2)),
        (2, Some(0x1_0000_2000), None)
    );
}

#[test]
fn parts_of_borrowed_bytes_outlive_the_view() {
    fn inner(bytes: &[u8]) -> Inner<&[u8]> {
        Outer::new(bytes).inner()
    }
    assert_eq!(inner(&BYTES).number(), 0x12_3456);
}

#[test]
fn an_open_structure_extends_to_the_end() {
    let mut bytes = vec![0; 0x10];
    bytes.extend_from_slice(&BYTES);
    assert_eq!(Command::new(&bytes).outer().tail().len(), 2);
    Command::new(&mut bytes).outer_mut().tail_mut().set(1, 7);
    assert_eq!(Command::new(&bytes).outer().tail().get(1), Some(7));
    assert_eq!(Outer::LAYOUT.extent(), usize::MAX);
    assert_eq!(Inner::LAYOUT.extent(), 8);
}

#[test]
fn setters_write_what_getters_read() {
    let mut bytes = vec![0; BYTES.len()];
    let mut outer = Outer::new(&mut bytes);
    outer
        .set_nibble(0xa)
        .set_bit(true)
        .set_eleven(0x123)
        .set_half(0x4567);
    outer.set_word(0x0102_0304).set_long(0x0102_0304_0506_0708);
    outer.set_mac(&[0x02, 0xc9, 0x11, 0x22, 0x33, 0x44]);
    outer.inner_mut().set_flag(true).set_number(0x12_3456);
    outer.pair_mut().get_mut(0).set_number(1);
    outer.pair_mut().get_mut(1).set_flag(true).set_number(2);
    outer.words_mut().set(0, 3);
    outer.words_mut().set(1, 4);
    outer.tail_mut().set(0, 0x1000);
    outer.tail_mut().set(1, 0x1_0000_2000);
    let mut expected = BYTES;
    expected[0x1c] = 0; // reserved, set in BYTES only
    assert_eq!(bytes, expected);

    let mut copy = Outer::new([0; 0x50]);
    copy.assign(&Outer::new(&bytes));
    assert_eq!(copy.into_inner(), expected);
}

#[test]
fn surplus_bits_and_bytes_are_dropped() {
    let mut bytes = [0xff; 0x40];
    let mut outer = Outer::new(&mut bytes);
    outer.set_nibble(0x10).set_eleven(0xf800);
    outer.words_mut().set(2, 9);
    outer.words_mut().set(usize::MAX, 9);
    outer.pair_mut().get_mut(2).set_number(9);
    outer.pair_mut().get_mut(usize::MAX).set_number(9);
    outer.tail_mut().set(0, 9);
    assert_eq!(word(&bytes, 0), 0x0800_ffff);
    assert!(bytes[4..].iter().all(|&byte| byte == 0xff));
}

#[test]
fn reserved_bits_are_found() {
    assert_eq!(Outer::LAYOUT.reserved_bit(&BYTES), Some((0x1c, 7)));
    let mut bytes = BYTES;
    bytes[0x1c] = 0;
    assert_eq!(Outer::LAYOUT.reserved_bit(&bytes), None);
    bytes[0x2b] = 1;
    assert_eq!(
        Outer::LAYOUT.reserved_bit(&bytes),
        Some((0x2b, 0)),
        "in the second element"
    );
}

#[test]
fn debug_names_what_is_not_zero() {
    let mut outer = Outer::new([0; 0x48]);
    assert_eq!(format!("{outer:?}"), "Outer");
    outer.set_half(0x10);
    outer.inner_mut().set_flag(true);
    outer.pair_mut().get_mut(1).set_number(2);
    outer.tail_mut().set(0, 0x1000);
    let text =
        "Outer half 0x10 inner { flag 0x1 } pair [ { } { number 0x2 } ] tail 0000000000001000";
    assert_eq!(format!("{outer:?}"), text);
}

proptest! {
    /// However short the bytes are, nothing panics, what is missing is zero, and setters stay within.
    #[test]
    fn any_length(len in 0..0x50usize, fill in any::<u8>()) {
        let mut bytes = vec![fill; len];
        let outer = Outer::new(&bytes);
        let mut padded = vec![fill; len];
        padded.resize(0x50, 0);
        let whole = Outer::new(&padded);
        prop_assert_eq!(outer.half(), whole.half());
        prop_assert_eq!(outer.long(), whole.long());
        prop_assert_eq!(outer.mac(), whole.mac());
        prop_assert_eq!(outer.inner().number(), whole.inner().number());
        prop_assert_eq!(outer.words().len(), (len.clamp(0x30, 0x38) - 0x30) / 4);
        prop_assert_eq!(outer.tail().len(), len.saturating_sub(0x40) / 8);
        let _ = format!("{outer:?} {:?}", Outer::LAYOUT.reserved_bit(&bytes));

        let mut outer = Outer::new(&mut bytes);
        outer.set_half(1).set_long(2).set_mac(&[3; 6]).set_nibble(4);
        outer.inner_mut().set_number(5);
        outer.tail_mut().set(0, 6);
        prop_assert_eq!(bytes.len(), len);
    }

    /// A field is its bits and no others.
    #[test]
    fn fields_are_disjoint(at in 0..Outer::FIELDS.len(), fill in any::<u8>(), value in any::<u64>()) {
        let field = &Outer::FIELDS[at];
        let before = [fill; 0x50];
        let mut after = before;
        field.set_int(&mut after, value);
        match field.int(&before) {
            Some(_) => prop_assert_eq!(field.int(&after), Some(value & (u64::MAX >> (64 - field.bits)))),
            None => prop_assert_eq!(after, before),
        }
        for bit in 0..8 * 0x50u32 {
            let of = |bytes: &[u8]| bytes[(bit / 8) as usize] >> (7 - bit % 8) & 1;
            let within = bit >= field.bit_offset && (field.bits == 0 || bit < field.bit_offset + field.bits);
            prop_assert!(within || of(&before) == of(&after), "bit {}", bit);
        }
    }
}
