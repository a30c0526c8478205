//! Which MAC address was last seen at which port: a fixed table of atomics.
//!
//! Set-associative: an address has four places, the one longest unused is overwritten. An entry is
//! a single word, so a reader never sees half of one. A wrong or lost entry costs a flooded frame
//! or a frame to the wrong port until the station sends again, like in any switch.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::MacAddr;

const WAYS: usize = 4;
const SETS: usize = 1024;

#[derive(Default)]
struct Entry {
    /// Address in the upper 48 bits, port in the lower 16; 0 is empty.
    key: AtomicU64,
    /// The generation in which the address last sent.
    stamp: AtomicU32,
}

pub(super) struct MacTable {
    sets: Vec<[Entry; WAYS]>,
    generation: AtomicU32,
}

fn word(mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.octets();
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

impl MacTable {
    pub(super) fn new() -> MacTable {
        MacTable {
            sets: (0..SETS).map(|_| Default::default()).collect(),
            generation: AtomicU32::new(0),
        }
    }

    #[inline]
    fn set(&self, mac: u64) -> &[Entry] {
        // Fibonacci hashing: the upper bits of the product depend on all bits of the address.
        let hash = mac.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        self.sets.get(hash as usize % SETS).map_or(&[], |set| set)
    }

    #[inline]
    fn is_fresh(&self, entry: &Entry) -> bool {
        let now = self.generation.load(Ordering::Relaxed);
        now.wrapping_sub(entry.stamp.load(Ordering::Relaxed)) <= 1
    }

    /// The port where `mac` was last seen.
    #[inline]
    pub(super) fn lookup(&self, mac: MacAddr) -> Option<u16> {
        let mac = word(mac);
        self.set(mac).iter().find_map(|entry| {
            let key = entry.key.load(Ordering::Relaxed);
            (key >> 16 == mac && key != 0 && self.is_fresh(entry)).then_some(key as u16)
        })
    }

    /// Notes that `mac` has sent from `port`. Group addresses and zero are no senders.
    #[inline]
    pub(super) fn learn(&self, mac: MacAddr, port: u16) {
        let address = word(mac);
        if mac.is_multicast() || address == 0 {
            return;
        }
        let key = address << 16 | u64::from(port);
        let now = self.generation.load(Ordering::Relaxed);
        let set = self.set(address);
        for entry in set {
            let old = entry.key.load(Ordering::Relaxed);
            if old >> 16 == address {
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
            if key != 0 && key as u16 == port {
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
        assert_eq!(table.lookup(mac(1)), None);
        table.learn(mac(1), 7);
        table.learn(mac(2), 0);
        assert_eq!(
            (table.lookup(mac(1)), table.lookup(mac(2))),
            (Some(7), Some(0))
        );
        table.learn(mac(1), 8);
        assert_eq!(table.lookup(mac(1)), Some(8));
        table.forget_port(8);
        assert_eq!(
            (table.lookup(mac(1)), table.lookup(mac(2))),
            (None, Some(0))
        );
    }

    #[test]
    fn senders_only() {
        let table = MacTable::new();
        table.learn(MacAddr::zero(), 1);
        table.learn(MacAddr::broadcast(), 1);
        assert_eq!(table.lookup(MacAddr::zero()), None);
        assert_eq!(table.lookup(MacAddr::broadcast()), None);
    }

    #[test]
    fn an_address_that_stays_silent_is_forgotten() {
        let table = MacTable::new();
        table.learn(mac(1), 1);
        table.learn(mac(2), 2);
        table.age();
        table.learn(mac(2), 2);
        assert_eq!(table.lookup(mac(1)), Some(1));
        table.age();
        assert_eq!(
            (table.lookup(mac(1)), table.lookup(mac(2))),
            (None, Some(2))
        );
        table.learn(mac(1), 1);
        assert_eq!(table.lookup(mac(1)), Some(1));
    }

    #[test]
    fn more_addresses_than_places_overwrite_but_never_lie() {
        let table = MacTable::new();
        for n in 0..20_000 {
            table.learn(mac(n), (n % 1000) as u16);
            assert_eq!(table.lookup(mac(n)), Some((n % 1000) as u16));
        }
        let mut known = 0;
        for n in 0..20_000 {
            if let Some(port) = table.lookup(mac(n)) {
                assert_eq!(port, (n % 1000) as u16);
                known += 1;
            }
        }
        assert!((1000..=WAYS * SETS).contains(&known), "{known} known");
    }
}
