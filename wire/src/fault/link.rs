//! Faults of the link itself, by the time since they were loaded.

use std::time::Duration;

use super::rule::Place;

/// When a fault is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// First.
    pub from: Duration,
    /// No longer.
    pub until: Option<Duration>,
    /// In between: so long there, so long not, so many times.
    pub flap: Option<(Duration, Duration, Option<u64>)>,
}

impl Schedule {
    /// Whether the fault is there, and when that changes next.
    #[must_use]
    pub fn at(&self, elapsed: Duration) -> (bool, Option<Duration>) {
        if elapsed < self.from {
            return (false, Some(self.from));
        }
        if self.until.is_some_and(|until| elapsed >= until) {
            return (false, None);
        }
        let Some((down, up, count)) = self.flap else {
            return (true, self.until);
        };
        let period = (down + up).as_nanos().max(1);
        let within = (elapsed - self.from).as_nanos();
        let (turn, part) = (within / period, within % period);
        if count.is_some_and(|count| turn >= u128::from(count)) {
            return (false, None);
        }
        let start = |turn: u128| {
            self.from + Duration::from_nanos(u64::try_from(turn * period).unwrap_or(u64::MAX))
        };
        let (there, next) = if part < down.as_nanos() {
            (true, start(turn) + down)
        } else if count.is_some_and(|count| turn + 1 >= u128::from(count)) {
            return (false, None);
        } else {
            (false, start(turn + 1))
        };
        (
            there,
            Some(self.until.map_or(next, |until| next.min(until))),
        )
    }
}

/// Random bit errors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BitErrors {
    /// Probability of each bit to be wrong.
    pub rate: f64,
    /// Where the randomness comes from.
    pub seed: u64,
    /// The frame comes, with a wrong bit; else the receiver's MAC drops it for its wrong FCS.
    pub deliver: bool,
}

impl BitErrors {
    /// The probability that one of `len` bytes, or of the FCS behind them, is wrong.
    pub(crate) fn per_frame(&self, len: usize) -> f64 {
        let bits = 8.0 * (len as f64 + 4.0);
        -(bits * (-self.rate).ln_1p()).exp_m1()
    }
}

/// What is wrong with a link.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkKind {
    /// No carrier.
    Down,
    /// Carrier, but nothing arrives.
    Blackhole,
    /// Another speed, in Mbit/s.
    Speed(u32),
    /// Wrong bits.
    BitErrors(BitErrors),
}

/// A fault of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkFault {
    /// Unique.
    pub name: String,
    /// The line of the file where it stands.
    pub line: usize,
    /// At which ports; the direction counts for bit errors and black holes.
    pub place: Place,
    /// When.
    pub schedule: Schedule,
    /// What.
    pub kind: LinkKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// All changes, found by following the times that `at` gives.
    fn changes(schedule: &Schedule) -> Vec<(u64, bool)> {
        let mut seen = vec![(0, schedule.at(Duration::ZERO).0)];
        let mut now = Duration::ZERO;
        while let Some(next) = schedule.at(now).1 {
            assert!(next > now, "time stands still at {now:?}");
            // Nothing changes in between.
            assert_eq!(
                schedule.at(next - Duration::from_nanos(1)).0,
                schedule.at(now).0
            );
            now = next;
            seen.push((now.as_millis() as u64, schedule.at(now).0));
            if seen.len() > 20 {
                break;
            }
        }
        seen
    }

    #[test]
    fn windows_and_flaps() {
        let mut schedule = Schedule {
            from: ms(0),
            until: None,
            flap: None,
        };
        assert_eq!(changes(&schedule), [(0, true)]);
        schedule.from = ms(5);
        schedule.until = Some(ms(9));
        assert_eq!(changes(&schedule), [(0, false), (5, true), (9, false)]);
        schedule.until = None;
        schedule.flap = Some((ms(2), ms(3), Some(2)));
        assert_eq!(
            changes(&schedule),
            [(0, false), (5, true), (7, false), (10, true), (12, false)]
        );
        schedule.flap = Some((ms(2), ms(3), None));
        schedule.until = Some(ms(11));
        assert_eq!(
            changes(&schedule),
            [(0, false), (5, true), (7, false), (10, true), (11, false)]
        );
        schedule.until = None;
        assert_eq!(changes(&schedule).len(), 21);
    }

    #[test]
    fn longer_frames_are_hit_more_often() {
        let errors = BitErrors {
            rate: 1e-9,
            seed: 0,
            deliver: false,
        };
        let p = errors.per_frame(996);
        assert!((p / 8e-6 - 1.0).abs() < 1e-3, "{p}");
        let errors = BitErrors {
            rate: 0.5,
            ..errors
        };
        assert!(errors.per_frame(1000) > 0.999_999);
    }
}
