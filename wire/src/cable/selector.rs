//! Which of the frames that a rule matches it hits, at one port in one direction.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use crate::fault::{FlowKey, Rule, Scope, Since};
use crate::sim::Rng;
use crate::time::Time;

/// Flows that a rule counts by themselves; it does not match further ones.
const MAX_FLOWS: usize = 4096;

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    matches: u64,
    hits: u64,
}

/// What a rule remembers at one port in one direction.
#[derive(Debug)]
pub(super) struct Selector {
    /// Decides by probability, and what an action leaves to chance.
    pub(super) rng: Rng,
    port: Count,
    flows: HashMap<FlowKey, Count>,
}

impl Selector {
    pub(super) fn new(seed: u64) -> Selector {
        Selector {
            rng: Rng::new(seed),
            port: Count::default(),
            flows: HashMap::new(),
        }
    }

    /// Counts a match at `now`; whether it is to be hit.
    pub(super) fn take(
        &mut self,
        rule: &Rule,
        now: Time,
        loaded: Time,
        flow: Option<FlowKey>,
    ) -> bool {
        let select = &rule.select;
        let begin = match select.since {
            Since::Load => loaded,
            Since::Match => {
                let first = rule.counts.first_match.fetch_min(now.0, Ordering::Relaxed);
                Time(first.min(now.0))
            }
        };
        let elapsed = now.since(begin);
        if elapsed < select.from || select.until.is_some_and(|until| elapsed >= until) {
            return false;
        }
        let local = match select.per {
            Scope::All => None,
            Scope::Port => Some(&mut self.port),
            Scope::Flow => {
                let Some(flow) = flow else { return false };
                if self.flows.len() >= MAX_FLOWS && !self.flows.contains_key(&flow) {
                    return false;
                }
                Some(self.flows.entry(flow).or_default())
            }
        };
        let together = rule.counts.matches.fetch_add(1, Ordering::Relaxed) + 1;
        let n = match &local {
            None => together,
            Some(count) => count.matches + 1,
        };
        let hit = select.takes(n) && select.probability.is_none_or(|p| self.rng.chance(p));
        match local {
            None => {
                let room = |hits: u64| {
                    (hit && select.count.is_none_or(|count| hits < count)).then_some(hits + 1)
                };
                rule.counts
                    .hits
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
                    .is_ok()
            }
            Some(count) => {
                count.matches = n;
                let hit = hit && select.count.is_none_or(|limit| count.hits < limit);
                if hit {
                    count.hits += 1;
                    rule.counts.hits.fetch_add(1, Ordering::Relaxed);
                }
                hit
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Rules;

    /// Numbers (from 1) of those of 100 frames, a microsecond apart, that are hit.
    fn hits(selection: &str) -> Vec<u64> {
        let source = format!("[[rule]]\nname = \"r\"\naction = \"drop\"\n{selection}\n");
        let rules: Rules = source.parse().unwrap();
        let rule = &rules.rules()[0];
        let mut selector = Selector::new(5);
        let loaded = Time(1_000_000);
        let hits: Vec<u64> = (1..=100)
            .filter(|n| selector.take(rule, Time(1_000_000 + 1000 * n), loaded, None))
            .collect();
        assert_eq!(rule.counters().hits, hits.len() as u64);
        hits
    }

    #[test]
    fn every_way_to_select() {
        assert_eq!(hits("nth = 3"), [3]);
        assert_eq!(hits("nth = [7, 3]"), [3, 7]);
        assert_eq!(hits("every = 30"), [30, 60, 90]);
        assert_eq!(hits("first = 2"), [1, 2]);
        assert_eq!(hits("after = 98"), [99, 100]);
        assert_eq!(hits("after = 10\nevery = 7\ncount = 2"), [14, 21]);
        assert_eq!(hits("count = 1"), [1]);
        assert_eq!(hits("from = \"98us\""), [98, 99, 100]);
        assert_eq!(hits("until = \"3us\""), [1, 2]);
        // The clock starts with the first match, at 1 us.
        assert_eq!(hits("from = \"98us\"\nsince = \"match\""), [99, 100]);
        // What comes before the window is not counted.
        assert_eq!(hits("from = \"50us\"\nnth = 2"), [51]);
        assert_eq!(hits("nth = 3\nper = \"port\""), [3]);
        assert_eq!(hits("probability = 1.0").len(), 100);
        let some = hits("probability = 0.3");
        assert!((15..45).contains(&some.len()), "{}", some.len());
        assert_eq!(some, hits("probability = 0.3"), "the same seed");
        assert_eq!(hits("probability = 0.3\ncount = 4"), some[..4]);
    }

    #[test]
    fn counts_are_shared_or_not() {
        for (per, expected) in [("all", [true, false]), ("port", [true, true])] {
            let source =
                format!("[[rule]]\nname = \"r\"\naction = \"drop\"\nnth = 1\nper = \"{per}\"\n");
            let rules: Rules = source.parse().unwrap();
            let rule = &rules.rules()[0];
            let mut ports = [Selector::new(1), Selector::new(2)];
            let hit = ports
                .each_mut()
                .map(|port| port.take(rule, Time(1), Time(0), None));
            assert_eq!(hit, expected, "{per}");
            assert_eq!(rule.counters().matches, 2);
        }
    }
}
