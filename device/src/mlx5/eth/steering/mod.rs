//! NIC receive steering: flow tables with groups of entries, the walk of a packet through them,
//! and flow counters.
//! Source: reference of the interface, "Steering semantics".
//!
//! Knows TIRs by number only. Every way out of a table leads to one of a higher level, so a walk
//! ends; how far it may fan out is bounded by [`MAX_VISITS`].

mod group;
mod key;
#[cfg(test)]
mod tests;
mod types;

pub use group::{Criteria, Entry};
pub use key::Key;
pub use types::{Action, Delivery, Destination, FlowError, Modify};

use group::Group;

use crate::mlx5::counters::Traffic;
use crate::mlx5::table::{Numbers, Table};

/// log2 of the entries of the largest table (`log_max_ft_size`).
pub const LOG_MAX_TABLE_SIZE: u8 = 20;
/// Levels are below this (`max_ft_level`).
pub const MAX_LEVEL: u8 = 128;
/// Entries of all tables together (`log_max_flow` is 20).
pub const MAX_ENTRIES: usize = 1 << 20;
/// Destinations of an entry (`log_max_destination` is 5).
pub const MAX_DESTINATIONS: usize = 32;
/// Counters of an entry.
pub const MAX_COUNTERS: usize = 8;
/// Counters that one command reads (`log_max_flow_counter_bulk` is 10).
pub const MAX_COUNTERS_READ: usize = 1 << 10;
/// Groups of a table; the drivers have a dozen.
const MAX_GROUPS: usize = 1 << 12;
/// Tables that one packet visits at most: two for each level.
const MAX_VISITS: usize = 2 * MAX_LEVEL as usize;
/// TIRs that one packet reaches at most.
const MAX_DELIVERIES: usize = 256;

/// A flow table.
pub struct FlowTable {
    level: u8,
    log_size: u8,
    /// Where packets go that no entry matches; `None` drops them.
    miss: Option<u32>,
    /// By range, ascending.
    groups: Vec<Group>,
}

impl FlowTable {
    /// Level.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Entries that it has room for.
    pub fn size(&self) -> u64 {
        1 << self.log_size.min(63)
    }

    /// Groups of entries.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    #[inline]
    fn find(&self, key: &Key) -> Option<&Entry> {
        // Groups are disjoint ranges in ascending order, so the first hit has the lowest index.
        self.groups.iter().find_map(|group| group.find(key))
    }

    fn group(&mut self, id: u32) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.id == id)
    }
}

/// All of NIC receive steering.
pub struct Steering {
    tables: Table<FlowTable>,
    table_numbers: Numbers,
    group_numbers: Numbers,
    counters: Table<Traffic>,
    counter_numbers: Numbers,
    entries: usize,
    /// Set by SET_FLOW_TABLE_ROOT.
    root: Option<u32>,
    /// Without that, the table of the lowest level.
    default_root: Option<u32>,
    /// Tables that the packet at hand has yet to visit.
    todo: Vec<u32>,
}

impl Default for Steering {
    fn default() -> Self {
        Steering {
            tables: Table::default(),
            table_numbers: Numbers::new(1, 1 << 16),
            group_numbers: Numbers::new(1, 1 << 20),
            counters: Table::default(),
            counter_numbers: Numbers::new(1, 1 << 16),
            entries: 0,
            root: None,
            default_root: None,
            todo: Vec::with_capacity(MAX_VISITS),
        }
    }
}

/// References of entries to TIRs, which somebody else keeps.
pub trait Tirs {
    /// One more reference; false if there is no such TIR.
    #[must_use]
    fn hold(&mut self, tirn: u32) -> bool;
    /// One reference less.
    fn release(&mut self, tirn: u32);
}

impl<T> Tirs for Table<T> {
    fn hold(&mut self, tirn: u32) -> bool {
        Table::hold(self, tirn)
    }

    fn release(&mut self, tirn: u32) {
        Table::release(self, tirn);
    }
}

impl Steering {
    /// Creates a table; `miss` is the table for packets that match no entry.
    pub fn create_table(
        &mut self,
        level: u8,
        log_size: u8,
        miss: Option<u32>,
    ) -> Result<u32, FlowError> {
        if level >= MAX_LEVEL || log_size > LOG_MAX_TABLE_SIZE {
            return Err(FlowError::Size);
        }
        self.check_level(level, miss)?;
        let id = self.table_numbers.alloc().ok_or(FlowError::Limit)?;
        if let Some(miss) = miss {
            // `check_level` has seen it.
            let _ = self.tables.hold(miss);
        }
        self.tables.insert(
            id,
            FlowTable {
                level,
                log_size,
                miss,
                groups: Vec::new(),
            },
        );
        self.find_default_root();
        Ok(id)
    }

    /// Destroys a table without groups that nothing leads to. Being the root does not keep it.
    pub fn destroy_table(&mut self, id: u32) -> Result<(), FlowError> {
        let table = self.tables.get(id).ok_or(FlowError::NoTable)?;
        if !table.groups.is_empty() || self.tables.refs(id) > 0 {
            return Err(FlowError::Busy);
        }
        if let Some(miss) = table.miss {
            self.tables.release(miss);
        }
        self.tables.remove(id);
        self.table_numbers.free(id);
        if self.root == Some(id) {
            self.root = None;
        }
        self.find_default_root();
        Ok(())
    }

    /// Changes where a table's misses go.
    pub fn set_miss(&mut self, id: u32, miss: Option<u32>) -> Result<(), FlowError> {
        let table = self.tables.get(id).ok_or(FlowError::NoTable)?;
        let old = table.miss;
        self.check_level(table.level, miss)?;
        if let Some(miss) = miss {
            let _ = self.tables.hold(miss);
        }
        if let Some(old) = old {
            self.tables.release(old);
        }
        if let Some(table) = self.tables.get_mut(id) {
            table.miss = miss;
        }
        Ok(())
    }

    /// Makes a table the root, or with `None` leaves that to the levels.
    pub fn set_root(&mut self, id: Option<u32>) -> Result<(), FlowError> {
        if id.is_some_and(|id| !self.tables.contains(id)) {
            return Err(FlowError::NoTable);
        }
        self.root = id;
        Ok(())
    }

    /// Creates a group for the entries `start..=end`.
    pub fn create_group(
        &mut self,
        table: u32,
        start: u32,
        end: u32,
        criteria: Criteria,
    ) -> Result<u32, FlowError> {
        let table = self.tables.get_mut(table).ok_or(FlowError::NoTable)?;
        let overlaps = |group: &Group| start <= group.end && group.start <= end;
        if start > end || end >= 1 << table.log_size || table.groups.iter().any(overlaps) {
            return Err(FlowError::Range);
        }
        if table.groups.len() >= MAX_GROUPS {
            return Err(FlowError::Limit);
        }
        let id = self.group_numbers.alloc().ok_or(FlowError::Limit)?;
        let at = table.groups.partition_point(|group| group.start < start);
        table
            .groups
            .insert(at, Group::new(id, start, end, criteria));
        Ok(id)
    }

    /// Destroys a group without entries.
    pub fn destroy_group(&mut self, table: u32, id: u32) -> Result<(), FlowError> {
        let table = self.tables.get_mut(table).ok_or(FlowError::NoTable)?;
        if !table.group(id).ok_or(FlowError::NoGroup)?.is_empty() {
            return Err(FlowError::Busy);
        }
        table.groups.retain(|group| group.id != id);
        self.group_numbers.free(id);
        Ok(())
    }

    /// Sets an entry; one that is there already is replaced.
    pub fn set_entry(
        &mut self,
        tirs: &mut impl Tirs,
        table: u32,
        group: u32,
        index: u32,
        entry: Entry,
    ) -> Result<(), FlowError> {
        let found = self.tables.get_mut(table).ok_or(FlowError::NoTable)?;
        let level = found.level;
        let found = found.group(group).ok_or(FlowError::NoGroup)?;
        if !found.contains(index) {
            return Err(FlowError::Index);
        }
        if found.get(index).is_none() && self.entries >= MAX_ENTRIES {
            return Err(FlowError::Limit);
        }
        self.hold(tirs, level, &entry.destinations, &entry.counters)?;
        let found = self
            .tables
            .get_mut(table)
            .and_then(|table| table.group(group));
        match found.and_then(|group| group.insert(index, entry)) {
            Some(old) => self.release(tirs, &old.destinations, &old.counters),
            None => self.entries += 1,
        }
        Ok(())
    }

    /// Changes parts of an entry.
    pub fn modify_entry(
        &mut self,
        tirs: &mut impl Tirs,
        table: u32,
        index: u32,
        what: Modify,
        new: Entry,
    ) -> Result<(), FlowError> {
        let found = self.tables.get_mut(table).ok_or(FlowError::NoTable)?;
        let level = found.level;
        let entry = found
            .groups
            .iter()
            .find(|group| group.contains(index))
            .and_then(|group| group.get(index))
            .ok_or(FlowError::NoEntry)?;
        let mut changed = entry.clone();
        if what.action {
            changed.action = new.action;
        }
        if what.flow_tag {
            changed.flow_tag = new.flow_tag;
        }
        if what.destinations {
            changed.destinations = new.destinations;
        }
        if what.counters {
            changed.counters = new.counters;
        }
        self.hold(tirs, level, &changed.destinations, &changed.counters)?;
        let entry = self
            .tables
            .get_mut(table)
            .and_then(|table| table.groups.iter_mut().find(|group| group.contains(index)))
            .and_then(|group| group.get_mut(index));
        if let Some(entry) = entry {
            let old = std::mem::replace(entry, changed);
            self.release(tirs, &old.destinations, &old.counters);
        }
        Ok(())
    }

    /// Deletes an entry; one that is not there is no error (FreeBSD 12 relies on it).
    pub fn delete_entry(
        &mut self,
        tirs: &mut impl Tirs,
        table: u32,
        index: u32,
    ) -> Result<(), FlowError> {
        let table = self.tables.get_mut(table).ok_or(FlowError::NoTable)?;
        let group = table.groups.iter_mut().find(|group| group.contains(index));
        if let Some(old) = group.and_then(|group| group.remove(index)) {
            self.entries -= 1;
            self.release(tirs, &old.destinations, &old.counters);
        }
        Ok(())
    }

    /// All flow tables.
    pub fn tables(&self) -> &Table<FlowTable> {
        &self.tables
    }

    /// Whether received packets come to this table first.
    pub fn is_root(&self, table: u32) -> bool {
        self.root.or(self.default_root) == Some(table)
    }

    /// How many objects of each kind there are.
    pub fn inventory(&self) -> [(&'static str, usize); 4] {
        let groups = self
            .tables
            .iter()
            .map(|(_, table)| table.groups.len())
            .sum();
        [
            ("flow table", self.tables.len()),
            ("flow group", groups),
            ("flow table entry", self.entries),
            ("flow counter", self.counters.len()),
        ]
    }

    /// A new flow counter.
    pub fn alloc_counter(&mut self) -> Result<u32, FlowError> {
        let id = self.counter_numbers.alloc().ok_or(FlowError::Limit)?;
        self.counters.insert(id, Traffic::default());
        Ok(id)
    }

    /// Frees a flow counter that no entry uses.
    pub fn free_counter(&mut self, id: u32) -> Result<(), FlowError> {
        if !self.counters.contains(id) {
            return Err(FlowError::NoCounter);
        }
        if self.counters.refs(id) > 0 {
            return Err(FlowError::Busy);
        }
        self.counters.remove(id);
        self.counter_numbers.free(id);
        Ok(())
    }

    /// What a counter says; `clear` starts it anew.
    pub fn read_counter(&mut self, id: u32, clear: bool) -> Option<Traffic> {
        let counter = self.counters.get_mut(id)?;
        let value = *counter;
        if clear {
            *counter = Traffic::default();
        }
        Some(value)
    }

    /// Walks a packet of `len` bytes through the tables and adds the TIRs it reaches to
    /// `deliveries`. False if it was discarded because nothing said where it should go.
    #[inline]
    pub fn classify(&mut self, key: &Key, len: usize, deliveries: &mut Vec<Delivery>) -> bool {
        let Some(root) = self.root.or(self.default_root) else {
            return false;
        };
        let mut wanted = false;
        let mut visits = 0;
        self.todo.clear();
        self.todo.push(root);
        while let Some(id) = self.todo.pop() {
            visits += 1;
            if visits > MAX_VISITS {
                break;
            }
            let Some(table) = self.tables.get(id) else {
                continue;
            };
            let Some(entry) = table.find(key) else {
                self.todo.extend(table.miss);
                continue;
            };
            if entry.action.has(Action::COUNT) {
                for counter in &entry.counters {
                    if let Some(counter) = self.counters.get_mut(*counter) {
                        counter.count(len);
                    }
                }
            }
            if entry.action.has(Action::DROP) {
                wanted = true;
                continue;
            }
            if !entry.action.has(Action::FORWARD) {
                continue;
            }
            for destination in &entry.destinations {
                match *destination {
                    Destination::Table(id) if self.todo.len() < MAX_VISITS => self.todo.push(id),
                    Destination::Tir(tirn) if deliveries.len() < MAX_DELIVERIES => {
                        deliveries.push(Delivery {
                            tirn,
                            flow_tag: entry.flow_tag,
                        });
                    }
                    _ => {}
                }
            }
        }
        wanted || !deliveries.is_empty()
    }

    /// Takes references for an entry of a table of this level: all or none.
    fn hold(
        &mut self,
        tirs: &mut impl Tirs,
        level: u8,
        destinations: &[Destination],
        counters: &[u32],
    ) -> Result<(), FlowError> {
        for (held, destination) in destinations.iter().enumerate() {
            let result = match *destination {
                Destination::Tir(tirn) if tirs.hold(tirn) => Ok(()),
                Destination::Tir(_) => Err(FlowError::NoDestination),
                Destination::Table(id) => match self.check_level(level, Some(id)) {
                    Err(FlowError::NoTable) => Err(FlowError::NoDestination),
                    Err(error) => Err(error),
                    Ok(()) => {
                        let _ = self.tables.hold(id);
                        Ok(())
                    }
                },
            };
            if result.is_err() {
                self.release(tirs, &destinations[..held], &[]);
                return result;
            }
        }
        for (held, counter) in counters.iter().enumerate() {
            if !self.counters.hold(*counter) {
                self.release(tirs, destinations, &counters[..held]);
                return Err(FlowError::NoCounter);
            }
        }
        Ok(())
    }

    fn release(&mut self, tirs: &mut impl Tirs, destinations: &[Destination], counters: &[u32]) {
        for destination in destinations {
            match *destination {
                Destination::Tir(tirn) => tirs.release(tirn),
                Destination::Table(id) => self.tables.release(id),
            }
        }
        for counter in counters {
            self.counters.release(*counter);
        }
    }

    fn check_level(&self, level: u8, next: Option<u32>) -> Result<(), FlowError> {
        let Some(next) = next else { return Ok(()) };
        let next = self.tables.get(next).ok_or(FlowError::NoTable)?;
        if next.level > level {
            Ok(())
        } else {
            Err(FlowError::Level)
        }
    }

    fn find_default_root(&mut self) {
        let lowest = self.tables.iter().min_by_key(|(_, table)| table.level);
        self.default_root = lowest.map(|(id, _)| id);
    }
}
