//! A flow group: a range of a table's entries that share one mask, stored sparsely and found by
//! the hash of the masked value. Knows nothing of where flows go.

use std::collections::{BTreeMap, HashMap};

use super::key::{BuildKeyHasher, Key};
use super::{Action, Destination};

/// A flow table entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Match values; only what the group masks counts.
    pub value: Key,
    /// What is done.
    pub action: Action,
    /// `flow_tag`, 24 bits.
    pub flow_tag: u32,
    /// Where it goes, if `action` forwards.
    pub destinations: Vec<Destination>,
    /// Flow counters, if `action` counts.
    pub counters: Vec<u32>,
}

/// `match_criteria` of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Criteria {
    /// Mask over the outer headers.
    pub outer: Key,
    /// It also asks for headers inside a tunnel. Tunnels are not parsed, so nothing matches.
    pub inner: bool,
}

/// A flow group.
pub struct Group {
    /// `group_id`.
    pub id: u32,
    /// First flow index.
    pub start: u32,
    /// Last flow index.
    pub end: u32,
    criteria: Criteria,
    /// By masked value; of equal ones the lowest index wins.
    by_value: HashMap<Key, BTreeMap<u32, Entry>, BuildKeyHasher>,
    by_index: BTreeMap<u32, Key>,
}

impl Group {
    /// A group without entries.
    pub fn new(id: u32, start: u32, end: u32, criteria: Criteria) -> Group {
        Group {
            id,
            start,
            end,
            criteria,
            by_value: HashMap::default(),
            by_index: BTreeMap::new(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_index.is_empty()
    }

    /// Whether `index` is in its range.
    pub fn contains(&self, index: u32) -> bool {
        (self.start..=self.end).contains(&index)
    }

    /// The entry that a packet meets.
    #[inline]
    pub fn find(&self, key: &Key) -> Option<&Entry> {
        if self.by_index.is_empty() || self.criteria.inner {
            return None;
        }
        let entries = self.by_value.get(&key.masked(&self.criteria.outer))?;
        entries.values().next()
    }

    /// The entry at `index`.
    pub fn get(&self, index: u32) -> Option<&Entry> {
        self.by_value.get(self.by_index.get(&index)?)?.get(&index)
    }

    /// The entry at `index`, to be changed; its value cannot be.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Entry> {
        self.by_value
            .get_mut(self.by_index.get(&index)?)?
            .get_mut(&index)
    }

    /// Stores an entry; returns the one it replaces.
    pub fn insert(&mut self, index: u32, entry: Entry) -> Option<Entry> {
        let old = self.remove(index);
        let key = entry.value.masked(&self.criteria.outer);
        self.by_value.entry(key).or_default().insert(index, entry);
        self.by_index.insert(index, key);
        old
    }

    /// Removes an entry.
    pub fn remove(&mut self, index: u32) -> Option<Entry> {
        let key = self.by_index.remove(&index)?;
        let entries = self.by_value.get_mut(&key)?;
        let old = entries.remove(&index);
        if entries.is_empty() {
            self.by_value.remove(&key);
        }
        old
    }
}
