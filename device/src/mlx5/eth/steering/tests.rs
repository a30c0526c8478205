//! Steering as the drivers use it, and as no driver would.

use super::*;

fn key(set: impl Fn(&mut [u8; 64])) -> Key {
    let mut bytes = [0; 64];
    set(&mut bytes);
    Key::from_bytes(&bytes)
}

/// A key with this ethertype and these last two bytes of the destination MAC.
fn packet(ethertype: u16, dmac: u16) -> Key {
    key(|bytes| {
        bytes[6..8].copy_from_slice(&ethertype.to_be_bytes());
        bytes[12..14].copy_from_slice(&dmac.to_be_bytes());
    })
}

fn mask(ethertype: bool, dmac: bool) -> Criteria {
    let all = |on| if on { 0xffff } else { 0 };
    Criteria {
        outer: packet(all(ethertype), all(dmac)),
        inner: false,
    }
}

struct AllTirs(Vec<u32>);

impl Tirs for AllTirs {
    fn hold(&mut self, tirn: u32) -> bool {
        if tirn < 100 {
            self.0.push(tirn);
        }
        tirn < 100
    }

    fn release(&mut self, tirn: u32) {
        let at = self.0.iter().position(|held| *held == tirn).expect("held");
        self.0.swap_remove(at);
    }
}

fn forward(value: Key, destinations: &[Destination]) -> Entry {
    Entry {
        value,
        action: Action::from_bits(Action::FORWARD).unwrap(),
        flow_tag: 0,
        destinations: destinations.into(),
        counters: Vec::new(),
    }
}

fn reached(steering: &mut Steering, key: &Key) -> Vec<u32> {
    let mut deliveries = Vec::new();
    steering.classify(key, 100, &mut deliveries);
    deliveries.iter().map(|delivery| delivery.tirn).collect()
}

#[test]
fn the_lowest_index_wins_whatever_the_order_of_creation() {
    let mut steering = Steering::default();
    let mut tirs = AllTirs(Vec::new());
    let table = steering.create_table(3, 4, None).unwrap();
    let any = steering
        .create_group(table, 8, 15, mask(false, false))
        .unwrap();
    let typed = steering
        .create_group(table, 4, 7, mask(true, false))
        .unwrap();
    let addressed = steering
        .create_group(table, 0, 3, mask(true, true))
        .unwrap();
    let mut set = |steering: &mut Steering, group, index, value, tirn| {
        let entry = forward(value, &[Destination::Tir(tirn)]);
        steering
            .set_entry(&mut tirs, table, group, index, entry)
            .unwrap();
    };
    set(&mut steering, any, 9, packet(0, 0), 1);
    set(&mut steering, any, 8, packet(7, 7), 2);
    set(&mut steering, typed, 4, packet(0x800, 9), 3);
    set(&mut steering, addressed, 3, packet(0x800, 5), 4);
    assert_eq!(reached(&mut steering, &packet(0x800, 5)), [4]);
    assert_eq!(reached(&mut steering, &packet(0x800, 6)), [3]);
    assert_eq!(reached(&mut steering, &packet(0x86dd, 6)), [2]);
    steering.delete_entry(&mut tirs, table, 8).unwrap();
    assert_eq!(reached(&mut steering, &packet(0x86dd, 6)), [1]);
    steering.delete_entry(&mut tirs, table, 8).unwrap();
    assert_eq!(tirs.0.len(), 3);
}

#[test]
fn misses_follow_the_chain_and_end_at_a_drop() {
    let mut steering = Steering::default();
    let mut tirs = AllTirs(Vec::new());
    let last = steering.create_table(9, 0, None).unwrap();
    let middle = steering.create_table(5, 2, Some(last)).unwrap();
    let first = steering.create_table(1, 2, None).unwrap();
    steering.set_root(Some(first)).unwrap();
    let group = steering
        .create_group(last, 0, 0, mask(false, false))
        .unwrap();
    let to = forward(Key::default(), &[Destination::Tir(7)]);
    steering.set_entry(&mut tirs, last, group, 0, to).unwrap();
    assert_eq!(reached(&mut steering, &packet(1, 1)), [0u32; 0]);
    steering.set_miss(first, Some(middle)).unwrap();
    assert_eq!(reached(&mut steering, &packet(1, 1)), [7]);
    let group = steering
        .create_group(middle, 0, 3, mask(true, false))
        .unwrap();
    let mut drop = forward(packet(1, 0), &[]);
    drop.action = Action::from_bits(Action::DROP).unwrap();
    steering
        .set_entry(&mut tirs, middle, group, 2, drop)
        .unwrap();
    assert_eq!(reached(&mut steering, &packet(1, 1)), [0u32; 0]);
    assert!(
        steering.classify(&packet(1, 1), 60, &mut Vec::new()),
        "dropped on purpose"
    );
    assert_eq!(reached(&mut steering, &packet(2, 1)), [7]);
    assert_eq!(steering.destroy_table(middle), Err(FlowError::Busy));
    assert_eq!(
        steering.set_miss(middle, Some(first)),
        Err(FlowError::Level)
    );
    assert_eq!(
        steering.set_miss(middle, Some(middle)),
        Err(FlowError::Level)
    );
    assert_eq!(
        steering.create_table(5, 0, Some(middle)),
        Err(FlowError::Level)
    );
}

#[test]
fn without_a_root_set_the_lowest_level_is_the_root() {
    let mut steering = Steering::default();
    let mut tirs = AllTirs(Vec::new());
    assert!(!steering.classify(&packet(1, 1), 60, &mut Vec::new()));
    for (level, tirn) in [(10, 1), (9, 2), (11, 3)] {
        let table = steering.create_table(level, 1, None).unwrap();
        let group = steering
            .create_group(table, 0, 1, mask(false, false))
            .unwrap();
        let entry = forward(Key::default(), &[Destination::Tir(tirn)]);
        steering
            .set_entry(&mut tirs, table, group, 1, entry)
            .unwrap();
    }
    assert_eq!(reached(&mut steering, &packet(1, 1)), [2]);
    steering.set_root(Some(3)).unwrap();
    assert_eq!(reached(&mut steering, &packet(1, 1)), [3]);
    steering.delete_entry(&mut tirs, 3, 1).unwrap();
    assert_eq!(steering.destroy_table(3), Err(FlowError::Busy));
    steering.destroy_group(3, 3).unwrap();
    steering.destroy_table(3).unwrap();
    assert_eq!(reached(&mut steering, &packet(1, 1)), [2]);
    assert_eq!(steering.set_root(Some(3)), Err(FlowError::NoTable));
}

#[test]
fn replication_reaches_every_destination_once_and_is_bounded() {
    let mut steering = Steering::default();
    let mut tirs = AllTirs(Vec::new());
    let mut tables = Vec::new();
    for level in 0..MAX_LEVEL {
        tables.push(steering.create_table(level, 0, None).unwrap());
    }
    let all = mask(false, false);
    for pair in tables.windows(2) {
        let group = steering.create_group(pair[0], 0, 0, all.clone()).unwrap();
        // Every table leads to the next 32 times over: 32^63 ways.
        let entry = forward(
            Key::default(),
            &[Destination::Table(pair[1]); MAX_DESTINATIONS],
        );
        steering
            .set_entry(&mut tirs, pair[0], group, 0, entry)
            .unwrap();
    }
    assert_eq!(reached(&mut steering, &packet(1, 1)), [0u32; 0]);
    let last = *tables.last().unwrap();
    let group = steering.create_group(last, 0, 0, all.clone()).unwrap();
    let entry = forward(Key::default(), &[Destination::Tir(1), Destination::Tir(2)]);
    steering
        .set_entry(&mut tirs, last, group, 0, entry.clone())
        .unwrap();
    assert!(reached(&mut steering, &packet(1, 1)).len() <= MAX_DELIVERIES);
    steering.set_root(Some(last)).unwrap();
    assert_eq!(reached(&mut steering, &packet(1, 1)), [1, 2]);
    assert_eq!(steering.tables.refs(last), 32);
}

#[test]
fn a_refused_entry_holds_nothing() {
    let mut steering = Steering::default();
    let mut tirs = AllTirs(Vec::new());
    let high = steering.create_table(2, 2, None).unwrap();
    let low = steering.create_table(1, 2, None).unwrap();
    let group = steering.create_group(high, 0, 3, mask(true, true)).unwrap();
    let mut set =
        |steering: &mut Steering, index, destinations: &[Destination], counters: &[u32]| {
            let mut entry = forward(Key::default(), destinations);
            entry.counters = counters.into();
            steering.set_entry(&mut tirs, high, group, index, entry)
        };
    use Destination::{Table, Tir};
    let counter = steering.alloc_counter().unwrap();
    assert_eq!(set(&mut steering, 4, &[Tir(1)], &[]), Err(FlowError::Index));
    assert_eq!(
        set(&mut steering, 0, &[Tir(1), Tir(100)], &[]),
        Err(FlowError::NoDestination)
    );
    assert_eq!(
        set(&mut steering, 0, &[Tir(1), Table(low)], &[]),
        Err(FlowError::Level)
    );
    assert_eq!(
        set(&mut steering, 0, &[Table(99)], &[]),
        Err(FlowError::NoDestination)
    );
    assert_eq!(
        set(&mut steering, 0, &[Tir(1)], &[counter, 99]),
        Err(FlowError::NoCounter)
    );
    assert!(tirs.0.is_empty());
    assert_eq!(steering.entries, 0);
    steering.free_counter(counter).unwrap();
    assert_eq!(steering.free_counter(counter), Err(FlowError::NoCounter));
    assert_eq!(
        steering.create_group(high, 3, 3, mask(true, true)),
        Err(FlowError::Range)
    );
    assert_eq!(
        steering.create_group(low, 3, 4, mask(true, true)),
        Err(FlowError::Range)
    );
    assert_eq!(
        steering.create_group(low, 3, 2, mask(true, true)),
        Err(FlowError::Range)
    );
}

#[test]
fn counters_count_and_modifications_apply_by_mask() {
    let mut steering = Steering::default();
    let mut tirs = AllTirs(Vec::new());
    let table = steering.create_table(2, 2, None).unwrap();
    let group = steering
        .create_group(table, 0, 3, mask(true, false))
        .unwrap();
    let counter = steering.alloc_counter().unwrap();
    let mut entry = forward(packet(0x800, 0), &[Destination::Tir(1)]);
    entry.action = Action::from_bits(Action::FORWARD | Action::COUNT).unwrap();
    entry.counters = vec![counter];
    steering
        .set_entry(&mut tirs, table, group, 1, entry.clone())
        .unwrap();
    let mut deliveries = Vec::new();
    steering.classify(&packet(0x800, 3), 100, &mut deliveries);
    steering.classify(&packet(0x800, 3), 60, &mut deliveries);
    steering.classify(&packet(0x801, 3), 60, &mut deliveries);
    assert_eq!(deliveries.len(), 2);
    let traffic = Traffic {
        packets: 2,
        octets: 160,
    };
    assert_eq!(steering.read_counter(counter, true), Some(traffic));
    assert_eq!(
        steering.read_counter(counter, false),
        Some(Traffic::default())
    );
    assert_eq!(steering.free_counter(counter), Err(FlowError::Busy));

    let mut new = forward(
        packet(0x801, 0),
        &[Destination::Tir(2), Destination::Tir(3)],
    );
    new.flow_tag = 9;
    let what = Modify {
        destinations: true,
        ..Modify::default()
    };
    steering
        .modify_entry(&mut tirs, table, 1, what, new.clone())
        .unwrap();
    deliveries.clear();
    steering.classify(&packet(0x800, 3), 100, &mut deliveries);
    let expected = [
        Delivery {
            tirn: 2,
            flow_tag: 0,
        },
        Delivery {
            tirn: 3,
            flow_tag: 0,
        },
    ];
    assert_eq!(deliveries, expected);
    tirs.0.sort_unstable();
    assert_eq!(tirs.0, [2, 3]);
    let what = Modify {
        flow_tag: true,
        action: true,
        counters: true,
        ..Modify::default()
    };
    steering
        .modify_entry(&mut tirs, table, 1, what, new.clone())
        .unwrap();
    deliveries.clear();
    steering.classify(&packet(0x800, 3), 100, &mut deliveries);
    assert_eq!(
        deliveries[0],
        Delivery {
            tirn: 2,
            flow_tag: 9
        }
    );
    steering.free_counter(counter).unwrap();
    assert_eq!(
        steering.modify_entry(&mut tirs, table, 2, what, new),
        Err(FlowError::NoEntry)
    );
    steering.delete_entry(&mut tirs, table, 1).unwrap();
    assert!(tirs.0.is_empty());
}

#[test]
fn inner_criteria_match_nothing() {
    let mut steering = Steering::default();
    let mut tirs = AllTirs(Vec::new());
    let table = steering.create_table(2, 1, None).unwrap();
    let criteria = Criteria {
        inner: true,
        ..Criteria::default()
    };
    let group = steering.create_group(table, 0, 1, criteria).unwrap();
    let entry = forward(Key::default(), &[Destination::Tir(1)]);
    steering
        .set_entry(&mut tirs, table, group, 0, entry)
        .unwrap();
    assert_eq!(reached(&mut steering, &packet(1, 1)), [0u32; 0]);
}
