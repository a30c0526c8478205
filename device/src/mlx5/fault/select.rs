//! Which of the occurrences that a fault matches it hits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocinante_wire::fault::{Selection, Since};
use rocinante_wire::sim::Rng;
use rocinante_wire::time::Time;

use super::Fault;

/// Occurrences of a kind, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    matches: u64,
    hits: u64,
}

/// A fault as one NIC has it. NICs count by themselves.
pub(super) struct Armed {
    pub(super) fault: Arc<Fault>,
    pub(super) rng: Rng,
    loaded: Time,
    first: Option<Time>,
    count: Count,
}

impl Armed {
    pub(super) fn new(fault: &Arc<Fault>, loaded: Time) -> Armed {
        Armed {
            fault: Arc::clone(fault),
            rng: Rng::new(fault.seed),
            loaded,
            first: None,
            count: Count::default(),
        }
    }

    /// Counts an occurrence; whether it is hit.
    pub(super) fn take(&mut self, select: &Selection, now: Time) -> bool {
        let mut count = self.count;
        let hit = self.take_of(select, now, &mut count);
        self.count = count;
        hit
    }

    /// As [`take`](Self::take), with a count that somebody else keeps.
    pub(super) fn take_of(&mut self, select: &Selection, now: Time, count: &mut Count) -> bool {
        if self.fault.is_cleared() {
            return false;
        }
        let begin = match select.since {
            Since::Load => self.loaded,
            Since::Match => *self.first.get_or_insert(now),
        };
        let elapsed = now.since(begin);
        if elapsed < select.from || select.until.is_some_and(|until| elapsed >= until) {
            return false;
        }
        count.matches += 1;
        self.fault.counts.matches.fetch_add(1, Ordering::Relaxed);
        let hit = select.takes(count.matches)
            && select.probability.is_none_or(|p| self.rng.chance(p))
            && select.count.is_none_or(|limit| count.hits < limit);
        if hit {
            count.hits += 1;
            self.fault.counts.hits.fetch_add(1, Ordering::Relaxed);
        }
        hit
    }
}
