//! A lossy link in virtual time, for tests: the same seed gives the same losses.
//!
//! Knows nothing of what it carries.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Time;

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough to lose packets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// From a seed; any value will do.
    #[must_use]
    pub const fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// `true` with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        // 53 bits, what an f64 holds exactly.
        ((self.next_u64() >> 11) as f64) < p * (1u64 << 53) as f64
    }
}

/// What a link does to what is sent over it. Probabilities are from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct SimConfig {
    /// Time from `send` to `poll`.
    pub latency: Duration,
    /// Lost.
    pub drop: f64,
    /// Delivered twice (the second copy is subject to reordering on its own).
    pub duplicate: f64,
    /// Held back by up to `reorder_delay`, so that later ones overtake it.
    pub reorder: f64,
    /// The longest a reordered one is held back.
    pub reorder_delay: Duration,
    /// Where the randomness comes from.
    pub seed: u64,
}

impl Default for SimConfig {
    /// A perfect link of 1 microsecond.
    fn default() -> SimConfig {
        SimConfig {
            latency: Duration::from_micros(1),
            drop: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_delay: Duration::from_micros(20),
            seed: 0,
        }
    }
}

/// One direction of a link.
#[derive(Clone, Debug)]
pub struct SimLink<T> {
    config: SimConfig,
    rng: Rng,
    /// By time of arrival; what arrives at the same time does so in the order it was sent.
    flying: BTreeMap<(Time, u64), T>,
    sequence: u64,
    dropped: u64,
}

impl<T: Clone> SimLink<T> {
    /// An empty link.
    #[must_use]
    pub fn new(config: SimConfig) -> SimLink<T> {
        SimLink {
            config,
            rng: Rng::new(config.seed),
            flying: BTreeMap::new(),
            sequence: 0,
            dropped: 0,
        }
    }

    /// Sends `item` at time `now`.
    pub fn send(&mut self, now: Time, item: T) {
        if self.rng.chance(self.config.drop) {
            self.dropped += 1;
            return;
        }
        if self.rng.chance(self.config.duplicate) {
            self.launch(now, item.clone());
        }
        self.launch(now, item);
    }

    fn launch(&mut self, now: Time, item: T) {
        let mut arrival = now + self.config.latency;
        if self.rng.chance(self.config.reorder) {
            let limit = u64::try_from(self.config.reorder_delay.as_nanos()).unwrap_or(u64::MAX);
            arrival += Duration::from_nanos(self.rng.below(limit));
        }
        self.flying.insert((arrival, self.sequence), item);
        self.sequence += 1;
    }

    /// The next item that has arrived by `now`.
    pub fn poll(&mut self, now: Time) -> Option<T> {
        let first = self.flying.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the next item arrives.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.flying.keys().next().map(|(at, _)| *at)
    }

    /// Items lost so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Changes the behaviour for what is sent from now on; the seed stays as it was.
    pub fn set_config(&mut self, config: SimConfig) {
        self.config = config;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(config: SimConfig) -> Vec<u32> {
        let mut link = SimLink::new(config);
        let mut got = Vec::new();
        for n in 0..10_000u32 {
            let now = Time(u64::from(n) * 100);
            link.send(now, n);
            while let Some(item) = link.poll(now) {
                got.push(item);
            }
        }
        while let Some(at) = link.next_timeout() {
            assert_eq!(link.poll(Time(at.0 - 1)), None);
            got.extend(link.poll(at));
        }
        got
    }

    #[test]
    fn a_perfect_link_delivers_in_order_after_its_latency() {
        assert_eq!(run(SimConfig::default()), (0..10_000).collect::<Vec<_>>());
        let mut link = SimLink::new(SimConfig::default());
        link.send(Time(5), 'a');
        assert_eq!(link.next_timeout(), Some(Time(1005)));
        assert_eq!(link.poll(Time(1004)), None);
        assert_eq!(link.poll(Time(1005)), Some('a'));
        assert_eq!(link.next_timeout(), None);
    }

    #[test]
    fn losses_duplicates_and_disorder_come_as_often_as_asked_and_repeat_with_the_seed() {
        let config = SimConfig {
            drop: 0.1,
            seed: 7,
            ..SimConfig::default()
        };
        let got = run(config);
        assert!(
            (8_800..9_200).contains(&got.len()),
            "{} of 10000 with drop 0.1",
            got.len()
        );
        assert_eq!(got, run(config));
        assert_ne!(got, run(SimConfig { seed: 8, ..config }));

        let got = run(SimConfig {
            duplicate: 0.1,
            ..SimConfig::default()
        });
        assert!(
            (10_800..11_200).contains(&got.len()),
            "{} with duplicate 0.1",
            got.len()
        );

        let got = run(SimConfig {
            reorder: 0.1,
            ..SimConfig::default()
        });
        let overtaken = got.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert_eq!(got.len(), 10_000);
        assert!(
            (500..1_500).contains(&overtaken),
            "{overtaken} overtaken with reorder 0.1"
        );
    }

    #[test]
    fn everything_is_lost_at_probability_one() {
        assert!(
            run(SimConfig {
                drop: 1.0,
                ..SimConfig::default()
            })
            .is_empty()
        );
    }
}
