//! A queue in front of a wire with a rate and a latency. Without a shape it only keeps the order
//! of what an earlier one still holds.

use std::collections::VecDeque;
use std::time::Duration;

use super::lane::Parcel;
use crate::fault::Shape;
use crate::time::Time;

/// What becomes of a frame that comes to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It waits.
    Queued,
    /// It waits, and so much does already that it is to be marked.
    Marked,
    /// There is no room.
    Full,
}

/// What whoever fills a queue is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// To pause, for as long as can be said.
    Xoff,
    /// To go on.
    Xon,
}

/// A pause is asked for again after so long: the longest that can be is 84 us at 400 Gbit/s.
const AGAIN: Duration = Duration::from_micros(40);

pub(super) struct Shaper<P> {
    /// When a pause was last asked for that is not over.
    paused: Option<Time>,
    /// When the wire is free again.
    free_at: Time,
    last_arrival: Time,
    flying: VecDeque<(Time, Parcel<P>)>,
}

impl<P> Shaper<P> {
    pub(super) fn new() -> Shaper<P> {
        Shaper {
            paused: None,
            free_at: Time::ZERO,
            last_arrival: Time::ZERO,
            flying: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.flying.len()
    }

    /// Whether a frame of `len` bytes may come at `at`.
    pub(super) fn admit(&self, shape: &Shape, at: Time, len: usize) -> Admission {
        let Some(rate) = shape.rate else {
            return Admission::Queued;
        };
        let waiting = self.waiting(rate, at);
        if waiting + len as u128 > u128::from(shape.queue) {
            Admission::Full
        } else if shape.ecn.is_some_and(|ecn| waiting >= u128::from(ecn)) {
            Admission::Marked
        } else {
            Admission::Queued
        }
    }

    /// Bytes that wait: what the wire is busy with from now on.
    fn waiting(&self, rate: u64, at: Time) -> u128 {
        self.free_at.since(at).as_nanos() * u128::from(rate) / 8_000_000_000
    }

    /// Whether whoever fills the queue is to be told something about it now.
    pub(super) fn signal(&mut self, shape: &Shape, at: Time) -> Option<Signal> {
        let (rate, pause) = (shape.rate?, shape.pause?);
        let waiting = self.waiting(rate, at);
        match self.paused {
            Some(_) if waiting <= u128::from(pause.xon) => {
                self.paused = None;
                Some(Signal::Xon)
            }
            // Before the pause that was asked for is over, at any speed of a link.
            Some(told) if at.since(told) >= AGAIN => {
                self.paused = Some(at);
                Some(Signal::Xoff)
            }
            None if waiting >= u128::from(pause.xoff) => {
                self.paused = Some(at);
                Some(Signal::Xoff)
            }
            _ => None,
        }
    }

    /// When [`signal`](Self::signal) is to be asked again.
    pub(super) fn next_signal(&self, shape: &Shape) -> Option<Time> {
        let (rate, pause, told) = (shape.rate?, shape.pause?, self.paused?);
        let left = u128::from(pause.xon) * 8_000_000_000 / u128::from(rate.max(1));
        let left = Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX));
        // One more than what rounding may have cost.
        let xon = Time(self.free_at.0.saturating_sub(left.as_nanos() as u64) + 1);
        Some(xon.min(told + AGAIN))
    }

    /// Takes a frame that was admitted.
    pub(super) fn push(&mut self, shape: Option<&Shape>, at: Time, len: usize, parcel: Parcel<P>) {
        let arrival = match shape {
            Some(shape) => {
                self.free_at = self.free_at.max(at) + shape.serialization(len);
                self.free_at + shape.latency
            }
            None => at,
        };
        // Another shape must not let frames overtake.
        self.last_arrival = self.last_arrival.max(arrival);
        self.flying.push_back((self.last_arrival, parcel));
    }

    /// The next frame that has arrived.
    pub(super) fn pop(&mut self, now: Time) -> Option<Parcel<P>> {
        if self.next()? > now {
            return None;
        }
        self.flying.pop_front().map(|(_, parcel)| parcel)
    }

    /// When the next frame arrives.
    pub(super) fn next(&self) -> Option<Time> {
        self.flying.front().map(|(arrival, _)| *arrival)
    }

    /// All are lost; how many.
    pub(super) fn clear(&mut self) -> usize {
        let lost = self.flying.len();
        self.flying.clear();
        self.free_at = Time::ZERO;
        self.paused = None;
        lost
    }
}
