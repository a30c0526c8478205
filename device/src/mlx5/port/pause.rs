//! Pauses that the far end has asked for: until when which priorities may not send.
//! Source: IEEE 802.3 annex 31B, IEEE 802.1Qbb annex 31D; the counters are those of PPCNT's group of priorities.
//!
//! Knows pause frames and the time, no queues.

use std::time::Duration;

use rocinante_wire::time::Time;

use super::FrameCounters;
use super::control::Request;
use super::flow_control::FlowControl;

/// The slot of the whole link; those before it are of single priorities.
const LINK: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Pause {
    since: Time,
    until: Time,
}

/// The pauses that are there.
#[derive(Clone, Debug, Default)]
pub struct Pauses {
    slots: [Option<Pause>; LINK + 1],
}

impl Pauses {
    /// Does what a pause frame asks for, as far as the port is to heed it. `rate` is that of the link, in 100 Mbit/s.
    pub fn heed(
        &mut self,
        request: &Request,
        flow: &FlowControl,
        rate: u16,
        now: Time,
        counters: &mut FrameCounters,
    ) {
        match *request {
            Request::Link(quanta) if flow.pause_rx => self.set(LINK, quanta, rate, now, counters),
            Request::Link(_) => {}
            Request::Priorities(mask, times) => {
                for (at, quanta) in times.into_iter().enumerate() {
                    if (mask & flow.priorities_rx) >> at & 1 == 1 {
                        self.set(at, quanta, rate, now, counters);
                    }
                }
            }
        }
    }

    fn set(&mut self, at: usize, quanta: u16, rate: u16, now: Time, counters: &mut FrameCounters) {
        // A quantum is 512 bit times.
        let time = Duration::from_nanos(u64::from(quanta) * 5120 / u64::from(rate.max(1)));
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        let until = now + time;
        match slot {
            Some(pause) => pause.until = until,
            None if quanta > 0 => *slot = Some(Pause { since: now, until }),
            None => {}
        }
        self.expire(now, counters);
    }

    /// Ends those whose time is over.
    fn expire(&mut self, now: Time, counters: &mut FrameCounters) {
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let Some(pause) = *slot else { continue };
            if pause.until > now {
                continue;
            }
            *slot = None;
            // Those of the whole link are counted as priority 0's.
            if let Some(counter) = counters.priorities.get_mut(at % LINK) {
                counter.pause_time += pause.until.max(pause.since).since(pause.since);
                counter.pause_transitions += 1;
            }
        }
    }

    /// The priorities that may not send now, a bit each.
    pub fn mask(&mut self, now: Time, counters: &mut FrameCounters) -> u8 {
        self.expire(now, counters);
        if self.is_of_link() {
            return 0xff;
        }
        let bits = self.slots.iter().take(LINK).enumerate();
        bits.fold(0, |mask, (at, slot)| mask | u8::from(slot.is_some()) << at)
    }

    /// Whether the whole link is paused, as of the last look at the time.
    pub fn is_of_link(&self) -> bool {
        self.slots.last().is_some_and(Option::is_some)
    }

    /// When the first one ends, unless that is changed before.
    pub fn next(&self) -> Option<Time> {
        self.slots.iter().flatten().map(|pause| pause.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: FlowControl = FlowControl {
        pause_tx: false,
        pause_rx: true,
        priorities_tx: 0,
        priorities_rx: 0b1000,
        auto: 0,
        watermarks: (0, 0),
    };

    #[test]
    fn pauses_last_as_long_as_said_at_the_speed_of_the_link() {
        let mut counters = FrameCounters::default();
        let mut pauses = Pauses::default();
        // 100 Gbit/s: 5.12 ns each.
        pauses.heed(&Request::Link(1000), &BOTH, 1000, Time(100), &mut counters);
        assert_eq!(pauses.next(), Some(Time(5220)));
        assert_eq!(pauses.mask(Time(5219), &mut counters), 0xff);
        assert_eq!(pauses.mask(Time(5220), &mut counters), 0);
        assert_eq!(pauses.next(), None);
        let count = counters.priorities[0];
        assert_eq!(
            (count.pause_time, count.pause_transitions),
            (Duration::from_nanos(5120), 1)
        );
        // At 1 Gbit/s, ended early.
        pauses.heed(&Request::Link(0xffff), &BOTH, 10, Time(6000), &mut counters);
        assert_eq!(pauses.mask(Time(30_000_000), &mut counters), 0xff);
        pauses.heed(
            &Request::Link(0),
            &BOTH,
            10,
            Time(30_006_000),
            &mut counters,
        );
        assert_eq!(pauses.mask(Time(30_006_000), &mut counters), 0);
        assert_eq!(counters.priorities[0].pause_transitions, 2);
    }

    #[test]
    fn only_what_the_port_heeds_is_paused() {
        let mut counters = FrameCounters::default();
        let mut pauses = Pauses::default();
        let both = Request::Priorities(0b1010, [1000; 8]);
        pauses.heed(&both, &BOTH, 1000, Time(0), &mut counters);
        assert_eq!(pauses.mask(Time(1), &mut counters), 0b1000);
        let deaf = FlowControl {
            pause_rx: false,
            priorities_rx: 0,
            ..BOTH
        };
        let mut pauses = Pauses::default();
        pauses.heed(&both, &deaf, 1000, Time(0), &mut counters);
        pauses.heed(&Request::Link(9), &deaf, 1000, Time(0), &mut counters);
        assert_eq!(pauses.mask(Time(1), &mut counters), 0);
    }
}
