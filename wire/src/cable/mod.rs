//! What is between a plug (a NIC, a tap) and its port of a switch: faults, rate and latency,
//! capture, carrier. Sans-I/O: owned by the plug's thread, which brings frames and the time and
//! polls what comes out; it changes only through its [`Control`], from anywhere.
//!
//! A cable that nobody does anything to costs one load and one branch per frame.

mod control;
mod lane;
mod pause;
mod selector;
mod shaper;

pub use control::{CableCounters, CableStatus, Control};

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::buf::BufPool;
use crate::fault::{Direction, LinkKind, Rules, forge};
use crate::frame::{Frame, Payload};
use crate::roce::RoceFrame;
use crate::switch::Wake;
use crate::time::Time;
use control::Shared;
use lane::{Lane, Surroundings, Tap, Wish};

/// Buffers for frames that become bytes; they are kept for the next ones.
const BUFFERS: usize = 256;

/// Changes of the carrier that one look at the clock may find; a flap that is faster is cut short.
const MAX_CHANGES: usize = 64;

/// What knows the queue pairs of a NIC.
pub trait Peers {
    /// The queue pair that sent `request`, which goes in this direction. Packets of connections
    /// name their destination only.
    fn sender(&self, request: &RoceFrame, direction: Direction) -> Option<u32>;
}

impl Peers for () {
    fn sender(&self, _: &RoceFrame, _: Direction) -> Option<u32> {
        None
    }
}

/// What a cable tells what is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CableEvent {
    /// Carrier or none.
    Carrier(bool),
    /// Speed in Mbit/s; `None` for the usual one.
    Speed(Option<u32>),
    /// So many more frames for what is plugged in had a wrong frame check sequence.
    FcsErrors(u64),
}

/// The state of the link, by the rules and the plug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LinkState {
    carrier: bool,
    blackhole: [bool; 2],
    speed: Option<u32>,
}

/// A cable.
pub struct Cable<P> {
    control: Control,
    shared: Arc<Shared>,
    /// The generation in which there was nothing to do; `ACTIVE` if there is something.
    quiet: u64,
    generation: u64,
    rules: Arc<Rules>,
    loaded: Time,
    tx: Lane<P>,
    rx: Lane<P>,
    tap: [Option<Tap>; 2],
    capture_epoch: Option<u64>,
    link: LinkState,
    /// When the link changes next.
    link_due: Option<Time>,
    /// What is plugged in is there.
    present: bool,
    events: VecDeque<CableEvent>,
    /// Frames with a wrong frame check sequence that have been told of.
    fcs_errors: u64,
    pool: BufPool,
}

const ACTIVE: u64 = u64::MAX;

impl<P: Payload + Clone> Cable<P> {
    /// A cable from the port `port` of link `link`. `waker` is called from other threads when
    /// the control has changed something.
    #[must_use]
    pub fn new(control: &Control, link: &str, port: &str, waker: Arc<dyn Wake>) -> Cable<P> {
        Cable {
            control: control.clone(),
            shared: control.plug(link, port, waker),
            quiet: ACTIVE,
            generation: ACTIVE,
            rules: Arc::default(),
            loaded: Time::ZERO,
            tx: Lane::new(Direction::Tx),
            rx: Lane::new(Direction::Rx),
            tap: [None, None],
            capture_epoch: None,
            link: LinkState {
                carrier: true,
                blackhole: [false; 2],
                speed: None,
            },
            link_due: None,
            present: true,
            events: VecDeque::new(),
            fcs_errors: 0,
            pool: BufPool::for_frames(BUFFERS),
        }
    }

    /// Whether it does nothing to frames: they may pass it by. To be asked for each of them.
    #[inline]
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.control.generation() == self.quiet
    }

    /// A frame from what is plugged in. It comes back if it can go on at once; what comes later,
    /// or besides, is polled. `None` also if it is lost.
    #[inline]
    pub fn transmit(&mut self, now: Time, frame: Frame<P>, peers: &impl Peers) -> Option<Frame<P>> {
        if self.is_quiet() {
            return Some(frame);
        }
        self.enter(now, frame, Direction::Tx, peers)
    }

    /// A frame for what is plugged in, as [`transmit`](Self::transmit).
    #[inline]
    pub fn receive(&mut self, now: Time, frame: Frame<P>, peers: &impl Peers) -> Option<Frame<P>> {
        if self.is_quiet() {
            return Some(frame);
        }
        self.enter(now, frame, Direction::Rx, peers)
    }

    /// The next frame for the wire that was held back, copied or forged.
    #[inline]
    pub fn poll_transmit(&mut self, now: Time) -> Option<Frame<P>> {
        if self.is_quiet() {
            return None;
        }
        self.poll(now, Direction::Tx)
    }

    /// The next frame for what is plugged in that was held back, copied or forged.
    #[inline]
    pub fn poll_receive(&mut self, now: Time) -> Option<Frame<P>> {
        if self.is_quiet() {
            return None;
        }
        self.poll(now, Direction::Rx)
    }

    /// What has happened to the link.
    #[inline]
    pub fn poll_event(&mut self, now: Time) -> Option<CableEvent> {
        if self.is_quiet() {
            return None;
        }
        self.refresh(now);
        self.events.pop_front()
    }

    /// When to poll again, if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        if !self.events.is_empty() || self.is_stale() {
            return Some(Time::ZERO);
        }
        let (tx, rx) = (self.tx.next(&self.rules), self.rx.next(&self.rules));
        [tx, rx, self.link_due].into_iter().flatten().min()
    }

    /// Whether the control has changed something that was not yet looked at.
    #[inline]
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.control.generation() != self.generation
    }

    /// Plugs it in or pulls it out, at once.
    pub fn set_plugged(&mut self, now: Time, plugged: bool) {
        self.shared.plugged.store(plugged, Ordering::Relaxed);
        self.update_link(now);
        self.refresh(now);
    }

    /// What is plugged in is there or has gone, whatever the plug says: an adapter that was pulled out of its slot.
    pub fn set_present(&mut self, now: Time, present: bool) {
        self.present = present;
        self.update_link(now);
        self.refresh(now);
    }

    /// Whether there is a carrier.
    #[must_use]
    pub fn carrier(&self) -> bool {
        self.link.carrier
    }

    fn lanes(&mut self, direction: Direction) -> (Surroundings<'_>, &mut Lane<P>) {
        let n = direction as usize;
        let env = Surroundings {
            now: Time::ZERO,
            rules: &self.rules,
            loaded: self.loaded,
            pool: &self.pool,
            counts: self.shared.counts(direction),
            tap: self.tap.get(n).and_then(Option::as_ref),
            carrier: self.link.carrier,
            blackhole: self.link.blackhole.get(n).copied().unwrap_or(false),
        };
        let lane = match direction {
            Direction::Tx => &mut self.tx,
            Direction::Rx => &mut self.rx,
        };
        (env, lane)
    }

    #[cold]
    fn enter(
        &mut self,
        now: Time,
        frame: Frame<P>,
        direction: Direction,
        peers: &impl Peers,
    ) -> Option<Frame<P>> {
        self.refresh(now);
        let (mut env, lane) = self.lanes(direction);
        env.now = now;
        // What is due goes before what comes.
        lane.advance(&env);
        let wishes = lane.enter(&env, frame, &|request| peers.sender(request, direction));
        let next = lane.pop();
        for wish in wishes {
            self.grant(now, wish, direction.reverse());
        }
        self.ask_for_pause(now, direction);
        next
    }

    /// A queue that has grown, or is short again, tells so against its direction.
    fn ask_for_pause(&mut self, now: Time, direction: Direction) {
        let (mut env, lane) = self.lanes(direction);
        env.now = now;
        let Some((frame, note)) = lane.pause_frame(&env) else {
            return;
        };
        let (mut env, lane) = self.lanes(direction.reverse());
        env.now = now;
        lane.insert_unseen(&env, frame, note);
    }

    /// Forges an answer, for the lane that it takes.
    fn grant(&mut self, now: Time, wish: Wish, direction: Direction) {
        let (mut env, lane) = self.lanes(direction);
        env.now = now;
        let msn = wish
            .flow
            .map_or(0, |flow| lane.msn(&flow.reverse(wish.qpn)));
        if let Some(frame) = forge(&wish.request, wish.answer, wish.qpn, msn) {
            lane.insert(&env, frame, wish.note);
        }
    }

    #[cold]
    fn poll(&mut self, now: Time, direction: Direction) -> Option<Frame<P>> {
        self.refresh(now);
        let (mut env, lane) = self.lanes(direction);
        env.now = now;
        lane.advance(&env);
        let next = lane.pop();
        if direction == Direction::Rx {
            // What the other way's queue has to say goes this way.
            self.ask_for_pause(now, Direction::Tx);
            if next.is_none() {
                let (_, lane) = self.lanes(direction);
                return lane.pop();
            }
        }
        next
    }

    /// Looks at what the control and the clock have changed.
    fn refresh(&mut self, now: Time) {
        let generation = self.control.generation();
        if generation != self.generation {
            self.generation = generation;
            self.take_up(now);
        }
        if self.link_due.is_some_and(|due| due <= now) {
            self.update_link(now);
        }
        self.tell_fcs_errors();
        let idle = self.tx.is_idle()
            && self.rx.is_idle()
            && self.tap.iter().all(Option::is_none)
            && self.link_due.is_none()
            && self.link.carrier
            && self.link.blackhole == [false; 2]
            && self.events.is_empty();
        self.quiet = if idle { generation } else { ACTIVE };
    }

    fn tell_fcs_errors(&mut self) {
        let errors = self.shared.rx.fcs_errors.load(Ordering::Relaxed);
        let before = std::mem::replace(&mut self.fcs_errors, errors);
        let more = errors.wrapping_sub(before);
        match self.events.back_mut() {
            _ if more == 0 => {}
            Some(CableEvent::FcsErrors(untold)) => *untold += more,
            _ => self.events.push_back(CableEvent::FcsErrors(more)),
        }
    }

    fn take_up(&mut self, now: Time) {
        let rules = self.control.rules();
        if !Arc::ptr_eq(&rules, &self.rules) {
            self.loaded = *rules.loaded.get_or_init(|| now);
            self.tx
                .configure(&rules, &self.shared.link, &self.shared.port);
            self.rx
                .configure(&rules, &self.shared.link, &self.shared.port);
            self.rules = rules;
        }
        self.tx.drop_cleared(&self.rules);
        self.rx.drop_cleared(&self.rules);
        let epoch = self.control.capture_epoch();
        if epoch != self.capture_epoch {
            self.capture_epoch = epoch;
            self.tap = match self.control.tap(&self.shared) {
                None => [None, None],
                Some((tap, wanted)) => wanted.map(|all| {
                    Some(Tap {
                        tap: tap.clone(),
                        all,
                    })
                }),
            };
        }
        self.update_link(now);
    }

    /// Steps through the changes of the link up to now.
    fn update_link(&mut self, now: Time) {
        let mut at = self.link_due.map_or(now, |due| due.min(now));
        for _ in 0..MAX_CHANGES {
            let (state, due) = self.link_at(at);
            self.change_link(state);
            self.link_due = due;
            match due {
                Some(due) if due <= now => at = due,
                _ => return,
            }
        }
        // Too many changes since the last look: the state now is what counts.
        let (state, due) = self.link_at(now);
        self.change_link(state);
        self.link_due = due;
    }

    /// The state of the link at a time, and when it changes next.
    fn link_at(&mut self, at: Time) -> (LinkState, Option<Time>) {
        let mut state = LinkState {
            carrier: self.present && self.shared.plugged.load(Ordering::Relaxed),
            blackhole: [false; 2],
            speed: None,
        };
        let mut due: Option<Time> = None;
        let elapsed = at.since(self.loaded);
        let rules = Arc::clone(&self.rules);
        let here = |fault: &&crate::fault::LinkFault| {
            fault.place.is_at(&self.shared.link, &self.shared.port)
                && !rules.is_cleared(&fault.name)
        };
        for fault in rules.links.iter().filter(here) {
            let (there, next) = fault.schedule.at(elapsed);
            let next = next.map(|next| self.loaded + next);
            due = [due, next].into_iter().flatten().min();
            if !there {
                continue;
            }
            match &fault.kind {
                LinkKind::Down => state.carrier = false,
                LinkKind::Speed(speed) => state.speed = Some(*speed),
                LinkKind::Blackhole => {
                    for direction in [Direction::Tx, Direction::Rx] {
                        if let Some(flag) = state.blackhole.get_mut(direction as usize)
                            && fault.place.goes(direction)
                        {
                            *flag = true;
                        }
                    }
                }
                LinkKind::BitErrors(_) => {}
            }
        }
        let is_on = |n: usize| {
            rules
                .links
                .get(n)
                .is_some_and(|fault| fault.schedule.at(elapsed).0)
        };
        self.tx.set_bit_errors(is_on);
        self.rx.set_bit_errors(is_on);
        (state, due)
    }

    fn change_link(&mut self, state: LinkState) {
        let before = std::mem::replace(&mut self.link, state);
        // Nobody polls: the last ones are those that count.
        while self.events.len() > MAX_CHANGES {
            self.events.pop_front();
        }
        if before.speed != state.speed {
            self.events.push_back(CableEvent::Speed(state.speed));
        }
        if before.carrier == state.carrier {
            return;
        }
        self.shared.carrier.store(state.carrier, Ordering::Relaxed);
        self.events.push_back(CableEvent::Carrier(state.carrier));
        if !state.carrier {
            for (lane, direction) in [(&mut self.tx, Direction::Tx), (&mut self.rx, Direction::Rx)]
            {
                let lost = lane.clear() as u64;
                let counts = self.shared.counts(direction);
                counts.link_drops.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }
}

impl<P> fmt::Debug for Cable<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cable")
            .field("link", &self.shared.link)
            .field("port", &self.shared.port)
            .field("state", &self.link)
            .finish()
    }
}

#[cfg(test)]
mod tests;
