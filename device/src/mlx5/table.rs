//! Numbered objects: a table indexed by object number, with the reference counts that decide
//! between destroying an object and answering RES_BUSY; and the numbers themselves.

use std::collections::VecDeque;

struct Slot<T> {
    object: Box<T>,
    refs: u32,
}

/// Objects by number. Look-up is one index; numbers come from a [`Numbers`].
pub struct Table<T> {
    slots: Vec<Option<Slot<T>>>,
    live: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            slots: Vec::new(),
            live: 0,
        }
    }
}

impl<T> Table<T> {
    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The object with this number.
    pub fn get(&self, number: u32) -> Option<&T> {
        Some(&self.slots.get(number as usize)?.as_ref()?.object)
    }

    /// The object with this number.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        Some(&mut self.slots.get_mut(number as usize)?.as_mut()?.object)
    }

    /// Whether there is such an object.
    pub fn contains(&self, number: u32) -> bool {
        self.get(number).is_some()
    }

    /// Stores `object` under `number`, which a [`Numbers`] gave out (so it is below 2^24).
    pub fn insert(&mut self, number: u32, object: T) {
        let index = number as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        if self.slots[index]
            .replace(Slot {
                object: Box::new(object),
                refs: 0,
            })
            .is_none()
        {
            self.live += 1;
        }
    }

    /// Removes the object whatever its reference count.
    pub fn remove(&mut self, number: u32) -> Option<Box<T>> {
        let slot = self.slots.get_mut(number as usize)?.take()?;
        self.live -= 1;
        Some(slot.object)
    }

    /// How many other objects refer to it.
    pub fn refs(&self, number: u32) -> u32 {
        self.slot(number).map_or(0, |slot| slot.refs)
    }

    /// Counts one more reference; false if there is no such object.
    #[must_use]
    pub fn hold(&mut self, number: u32) -> bool {
        match self.slots.get_mut(number as usize).and_then(Option::as_mut) {
            Some(slot) => {
                slot.refs += 1;
                true
            }
            None => false,
        }
    }

    /// Counts one reference less.
    pub fn release(&mut self, number: u32) {
        if let Some(slot) = self.slots.get_mut(number as usize).and_then(Option::as_mut) {
            slot.refs = slot.refs.saturating_sub(1);
        }
    }

    /// Objects with their numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(number, slot)| Some((number as u32, &*slot.as_ref()?.object)))
    }

    /// Objects with their numbers, ascending from `first` on, among the next `span` numbers; and
    /// the number to go on from, if there may be more.
    pub fn range(&self, first: u32, span: usize) -> (impl Iterator<Item = (u32, &T)>, Option<u32>) {
        let begin = (first as usize).min(self.slots.len());
        let end = begin.saturating_add(span).min(self.slots.len());
        let next = (end < self.slots.len()).then_some(end as u32);
        let slots = self.slots.get(begin..end).unwrap_or(&[]);
        let objects = slots.iter().zip(begin as u32..);
        (
            objects.filter_map(|(slot, number)| Some((number, &*slot.as_ref()?.object))),
            next,
        )
    }

    /// Objects with their numbers, ascending.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(number, slot)| Some((number as u32, &mut *slot.as_mut()?.object)))
    }

    fn slot(&self, number: u32) -> Option<&Slot<T>> {
        self.slots.get(number as usize)?.as_ref()
    }
}

/// Gives out object numbers of one space. A freed number is reused last, so that a stale
/// number in a driver meets "no such object" rather than somebody else's.
pub struct Numbers {
    next: u32,
    end: u32,
    freed: VecDeque<u32>,
}

impl Numbers {
    /// Numbers in `first..end`.
    pub const fn new(first: u32, end: u32) -> Numbers {
        Numbers {
            next: first,
            end,
            freed: VecDeque::new(),
        }
    }

    /// A number not in use; `None` at the limit.
    pub fn alloc(&mut self) -> Option<u32> {
        // Fresh numbers first, but only a while: tables are indexed by number.
        if self.next < self.end && self.freed.len() < REUSE_DISTANCE {
            self.next += 1;
            return Some(self.next - 1);
        }
        self.freed.pop_front()
    }

    /// Takes a number back.
    pub fn free(&mut self, number: u32) {
        self.freed.push_back(number);
    }
}

/// How many freed numbers wait before one is reused.
const REUSE_DISTANCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_bounded() {
        let mut numbers = Numbers::new(16, 20);
        let given: Vec<_> = std::iter::from_fn(|| numbers.alloc()).collect();
        assert_eq!(given, [16, 17, 18, 19]);
        numbers.free(17);
        numbers.free(16);
        assert_eq!(numbers.alloc(), Some(17));
        assert_eq!(numbers.alloc(), Some(16));
        assert_eq!(numbers.alloc(), None);
    }

    #[test]
    fn ranges_end_where_the_table_ends() {
        let mut table = Table::default();
        for number in [2, 5, 9] {
            table.insert(number, number);
        }
        let seen = |first, span| {
            let (objects, next) = table.range(first, span);
            (objects.map(|(number, _)| number).collect::<Vec<_>>(), next)
        };
        assert_eq!(seen(0, 6), (vec![2, 5], Some(6)));
        assert_eq!(seen(6, 6), (vec![9], None));
        assert_eq!(seen(10, 6), (vec![], None));
        assert_eq!(seen(u32::MAX, usize::MAX), (vec![], None));
    }

    #[test]
    fn references_are_counted() {
        let mut table = Table::default();
        table.insert(3, "pd");
        assert!(table.hold(3));
        assert!(!table.hold(4));
        assert_eq!(table.refs(3), 1);
        table.release(3);
        table.release(3);
        assert_eq!(table.refs(3), 0);
        assert_eq!(table.remove(3).as_deref(), Some(&"pd"));
        assert!(table.is_empty());
        assert_eq!(table.get(u32::MAX), None);
    }
}
