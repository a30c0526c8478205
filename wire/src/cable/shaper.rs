//! A queue in front of a wire with a rate and a latency. Without a shape it only keeps the order
//! of what an earlier one still holds.

use std::collections::VecDeque;

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

pub(super) struct Shaper<P> {
    /// When the wire is free again.
    free_at: Time,
    last_arrival: Time,
    flying: VecDeque<(Time, Parcel<P>)>,
}

impl<P> Shaper<P> {
    pub(super) fn new() -> Shaper<P> {
        Shaper {
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
        // What waits is what the wire is busy with from now on.
        let busy = self.free_at.since(at).as_nanos();
        let waiting = busy * u128::from(rate) / 8_000_000_000;
        if waiting + len as u128 > u128::from(shape.queue) {
            Admission::Full
        } else if shape.ecn.is_some_and(|ecn| waiting >= u128::from(ecn)) {
            Admission::Marked
        } else {
            Admission::Queued
        }
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
        lost
    }
}
