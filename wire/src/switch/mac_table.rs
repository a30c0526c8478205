//! Which station was last seen at which port: a fixed table of atomics.
//!
//! A station is a MAC address in a VLAN; the same address in two VLANs is two stations (independent
//! VLAN learning, IEEE 802.1Q 3.96). Set-associative: a station has four places, the one longest unused is overwritten. An
//! entry is a single word, so a reader never sees half of one. A wrong or lost entry costs a flooded
//! frame or a frame to the wrong port until the station sends again, like in any switch.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::MacAddr;

const WAYS: usize = 4;
const SETS: usize = 1 << SET_BITS;
const SET_BITS: u32 = 10;

/// A VLAN and an address.
const STATION_BITS: u32 = 12 + 48;

/// Of a station's number, what its set does not say.
const TAG_BITS: u32 = STATION_BITS - SET_BITS;

const PORT_BITS: u32 = u64::BITS - TAG_BITS;

/// As many ports as an entry can tell apart.
pub(super) const MAX_PORTS: usize = (1 << PORT_BITS) - 1;

#[derive(Default)]
struct Entry {
    /// Tag in the upper bits, port plus one in the lower ones; 0 is empty.
    key: AtomicU64,
    /// The generation in which the station last sent.
    stamp: AtomicU32,
}

fn port_of(key: u64) -> Option<u16> {
    ((key & MAX_PORTS as u64) as u16).checked_sub(1)
}

pub(super) struct MacTable {
    sets: Vec<[Entry; WAYS]>,
    generation: AtomicU32,
}

/// The set of a station, and what tells it from the others there.
#[inline]
fn place(vlan: u16, mac: MacAddr) -> (usize, u64) {
    let [a, b, c, d, e, f] = mac.octets();
    let station = u64::from(vlan & 0xfff) << 48 | u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    // Fibonacci hashing: the upper bits of the product depend on all bits of the station. The
    // factor is odd, so nothing is lost: no two stations have the same product.
    let product = station.wrapping_mul(0x9e37_79b9_7f4a_7c15) & ((1 << STATION_BITS) - 1);
    (
        (product >> TAG_BITS) as usize,
        product & ((1 << TAG_BITS) - 1),
    )
}

impl MacTable {
    pub(super) fn new() -> MacTable {
        MacTable {
            sets: (0..SETS).map(|_| Default::default()).collect(),
            generation: AtomicU32::new(0),
        }
    }

    #[inline]
    fn set(&self, number: usize) -> &[Entry] {
        self.sets.get(number).map_or(&[], |set| set)
    }

    #[inline]
    fn is_fresh(&self, entry: &Entry) -> bool {
        let now = self.generation.load(Ordering::Relaxed);
        now.wrapping_sub(entry.stamp.load(Ordering::Relaxed)) <= 1
    }

    /// The port where `mac` was last seen in `vlan`.
    #[inline]
    pub(super) fn lookup(&self, vlan: u16, mac: MacAddr) -> Option<u16> {
        let (set, tag) = place(vlan, mac);
        self.set(set).iter().find_map(|entry| {
            let key = entry.key.load(Ordering::Relaxed);
            let here = key != 0 && key >> PORT_BITS == tag && self.is_fresh(entry);
            here.then(|| port_of(key))?
        })
    }

    /// Notes that `mac` has sent from `port` in `vlan`. Group addresses and zero are no senders.
    #[inline]
    pub(super) fn learn(&self, vlan: u16, mac: MacAddr, port: u16) {
        if mac.is_multicast() || mac.is_zero() {
            return;
        }
        let (set, tag) = place(vlan, mac);
        let key = tag << PORT_BITS | (u64::from(port) + 1);
        let now = self.generation.load(Ordering::Relaxed);
        let set = self.set(set);
        for entry in set {
            let old = entry.key.load(Ordering::Relaxed);
            if old != 0 && old >> PORT_BITS == tag {
                // Stores only what changes: the line stays shared between all senders.
                if old != key {
                    entry.key.store(key, Ordering::Relaxed);
                }
                if entry.stamp.load(Ordering::Relaxed) != now {
                    entry.stamp.store(now, Ordering::Relaxed);
                }
                return;
            }
        }
        let age = |entry: &&Entry| match entry.key.load(Ordering::Relaxed) {
            0 => u32::MAX,
            _ => now.wrapping_sub(entry.stamp.load(Ordering::Relaxed)),
        };
        if let Some(victim) = set.iter().max_by_key(age) {
            victim.stamp.store(now, Ordering::Relaxed);
            victim.key.store(key, Ordering::Relaxed);
        }
    }

    /// Forgets all addresses seen at `port`.
    pub(super) fn forget_port(&self, port: u16) {
        for entry in self.sets.iter().flatten() {
            let key = entry.key.load(Ordering::Relaxed);
            if port_of(key) == Some(port) {
                // Lost if the address has just been seen elsewhere: then the new entry stays.
                let _ = entry
                    .key
                    .compare_exchange(key, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// Starts a new generation.
    pub(super) fn age(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u32) -> MacAddr {
        let [a, b, c, d] = n.to_be_bytes();
        MacAddr::new(2, 0, a, b, c, d)
    }

    #[test]
    fn learns_moves_and_forgets() {
        let table = MacTable::new();
        assert_eq!(table.lookup(0, mac(1)), None);
        table.learn(0, mac(1), 7);
        table.learn(0, mac(2), 0);
        assert_eq!(
            (table.lookup(0, mac(1)), table.lookup(0, mac(2))),
            (Some(7), Some(0))
        );
        table.learn(0, mac(1), 8);
        assert_eq!(table.lookup(0, mac(1)), Some(8));
        table.forget_port(8);
        assert_eq!(
            (table.lookup(0, mac(1)), table.lookup(0, mac(2))),
            (None, Some(0))
        );
    }

    #[test]
    fn the_same_address_in_two_vlans_is_two_stations() {
        let table = MacTable::new();
        table.learn(0, mac(1), 7);
        table.learn(5, mac(1), 8);
        table.learn(4095, mac(1), MAX_PORTS as u16 - 1);
        let known = [0, 5, 4095, 6].map(|vlan| table.lookup(vlan, mac(1)));
        assert_eq!(known, [Some(7), Some(8), Some(MAX_PORTS as u16 - 1), None]);
        table.forget_port(8);
        assert_eq!(table.lookup(5, mac(1)), None);
        assert_eq!(table.lookup(0, mac(1)), Some(7));
    }

    #[test]
    fn senders_only() {
        let table = MacTable::new();
        table.learn(0, MacAddr::zero(), 1);
        table.learn(0, MacAddr::broadcast(), 1);
        assert_eq!(table.lookup(0, MacAddr::zero()), None);
        assert_eq!(table.lookup(0, MacAddr::broadcast()), None);
    }

    #[test]
    fn an_address_that_stays_silent_is_forgotten() {
        let table = MacTable::new();
        table.learn(0, mac(1), 1);
        table.learn(0, mac(2), 2);
        table.age();
        table.learn(0, mac(2), 2);
        assert_eq!(table.lookup(0, mac(1)), Some(1));
        table.age();
        assert_eq!(
            (table.lookup(0, mac(1)), table.lookup(0, mac(2))),
            (None, Some(2))
        );
        table.learn(0, mac(1), 1);
        assert_eq!(table.lookup(0, mac(1)), Some(1));
    }

    #[test]
    fn more_addresses_than_places_overwrite_but_never_lie() {
        let table = MacTable::new();
        for n in 0..20_000 {
            table.learn(0, mac(n), (n % 1000) as u16);
            assert_eq!(table.lookup(0, mac(n)), Some((n % 1000) as u16));
        }
        let mut known = 0;
        for n in 0..20_000 {
            if let Some(port) = table.lookup(0, mac(n)) {
                assert_eq!(port, (n % 1000) as u16);
                known += 1;
            }
        }
        assert!((1000..=WAYS * SETS).contains(&known), "{known} known");
    }
}
