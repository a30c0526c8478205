//! One direction of a cable: what is in force there, what is held back, rate and latency. What
//! rules do to frames is in [`rules`].

mod rules;

use std::collections::{BTreeMap, VecDeque};

use super::control::{Counts, count};
use super::pause;
use super::selector::Selector;
use super::shaper::{Admission, Shaper, Signal};
use crate::buf::BufPool;
use crate::capture::CaptureTap;
use crate::fault::{Action, Answer, Direction, FlowKey, Flows, LinkKind, Place, Rules, mark_ce};
use crate::frame::{Frame, FrameError, Payload};
use crate::roce::RoceFrame;
use crate::sim::Rng;
use crate::time::Time;

/// Frames that one direction of a cable may hold; more are dropped.
pub(super) const LIMIT: usize = 4096;

/// A frame, and what a capture is to say of it when it is delivered.
pub(super) struct Parcel<P> {
    pub(super) frame: Frame<P>,
    pub(super) note: Option<String>,
}

/// A frame that waits until others have overtaken it.
struct Overtaken<P> {
    left: u32,
    deadline: Time,
    parcel: Parcel<P>,
}

/// Where a capture shows the frames of a lane.
#[derive(Clone)]
pub(super) struct Tap {
    pub(super) tap: CaptureTap,
    /// Whether it shows those that nothing was done to.
    pub(super) all: bool,
}

/// What the lanes of a cable need besides their own state.
pub(super) struct Surroundings<'a> {
    pub(super) now: Time,
    pub(super) rules: &'a Rules,
    pub(super) loaded: Time,
    pub(super) pool: &'a BufPool,
    pub(super) counts: &'a Counts,
    pub(super) tap: Option<&'a Tap>,
    pub(super) carrier: bool,
    pub(super) blackhole: bool,
}

/// An answer that a rule wants to be forged.
pub(super) struct Wish {
    pub(super) request: RoceFrame,
    pub(super) flow: Option<FlowKey>,
    pub(super) answer: Answer,
    pub(super) qpn: u32,
    pub(super) note: Option<String>,
}

/// Finds the queue pair that sent a request.
pub(super) type Ask<'a> = &'a dyn Fn(&RoceFrame) -> Option<u32>;

struct Active {
    rule: usize,
    selector: Selector,
}

struct BitErrorSource {
    link: usize,
    rng: Rng,
    /// Set while the fault's time window is open.
    on: bool,
}

/// One direction of a cable.
pub(super) struct Lane<P> {
    direction: Direction,
    active: Vec<Active>,
    errors: Vec<BitErrorSource>,
    shape: Option<usize>,
    flows: Flows,
    track: bool,
    held: BTreeMap<(Time, u64), Parcel<P>>,
    sequence: u64,
    overtaken: Vec<Overtaken<P>>,
    shaper: Shaper<P>,
    ready: VecDeque<Parcel<P>>,
}

impl<P: Payload + Clone> Lane<P> {
    pub(super) fn new(direction: Direction) -> Lane<P> {
        Lane {
            direction,
            active: Vec::new(),
            errors: Vec::new(),
            shape: None,
            flows: Flows::default(),
            track: false,
            held: BTreeMap::new(),
            sequence: 0,
            overtaken: Vec::new(),
            shaper: Shaper::new(),
            ready: VecDeque::new(),
        }
    }

    /// Takes up new rules. What the old ones hold stays where it is.
    pub(super) fn configure(&mut self, rules: &Rules, link: &str, port: &str) {
        let direction = self.direction;
        let salt = crate::fault::hash(&format!("{link}/{port}/{}", direction.name()));
        let here = |place: &Place| place.is_at(link, port) && place.goes(direction);
        self.active = rules
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| here(&rule.place))
            .map(|(n, rule)| Active {
                rule: n,
                selector: Selector::new(rule.seed ^ salt),
            })
            .collect();
        self.errors = rules
            .links
            .iter()
            .enumerate()
            .filter(|(_, fault)| here(&fault.place))
            .filter_map(|(n, fault)| match &fault.kind {
                LinkKind::BitErrors(errors) => Some(BitErrorSource {
                    link: n,
                    rng: Rng::new(errors.seed ^ salt),
                    on: false,
                }),
                _ => None,
            })
            .collect();
        self.shape = rules.shapes.iter().position(|shape| here(&shape.place));
        self.flows = Flows::default();
        // Answers are forged with what is known of the other direction.
        self.track = rules
            .rules
            .iter()
            .filter(|rule| rule.place.is_at(link, port))
            .any(|rule| rule.pattern.is_relative() || matches!(rule.action, Action::Forge { .. }));
    }

    /// Forgets what is no longer in force. The rest stays as it is.
    pub(super) fn drop_cleared(&mut self, rules: &Rules) {
        let stays = |name: Option<&String>| name.is_some_and(|name| !rules.is_cleared(name));
        self.active
            .retain(|active| stays(rules.rules.get(active.rule).map(|rule| &rule.name)));
        self.errors
            .retain(|source| stays(rules.links.get(source.link).map(|link| &link.name)));
        let shape = self.shape.and_then(|shape| rules.shapes.get(shape));
        if !stays(shape.map(|shape| &shape.name)) {
            self.shape = None;
        }
    }

    /// Opens and closes the time windows of bit errors.
    pub(super) fn set_bit_errors(&mut self, is_on: impl Fn(usize) -> bool) {
        for source in &mut self.errors {
            source.on = is_on(source.link);
        }
    }

    /// Whether frames pass as if it was not there, but for the link's state.
    pub(super) fn is_idle(&self) -> bool {
        self.active.is_empty()
            && !self.track
            && self.errors.is_empty()
            && self.shape.is_none()
            && self.holds() == 0
    }

    fn holds(&self) -> usize {
        self.held.len() + self.overtaken.len() + self.shaper.len() + self.ready.len()
    }

    /// The last message number acknowledged in a flow.
    pub(super) fn msn(&self, flow: &FlowKey) -> u32 {
        self.flows.msn(flow)
    }

    /// All that is on its way is lost.
    pub(super) fn clear(&mut self) -> usize {
        let lost = self.holds();
        self.held.clear();
        self.overtaken.clear();
        self.ready.clear();
        self.shaper.clear();
        lost
    }

    fn record(&self, env: &Surroundings<'_>, frame: &Frame<P>, comment: Option<&str>) {
        if let Some(tap) = env.tap {
            tap.tap.record_port(frame, self.direction, comment);
        }
    }

    /// A frame is lost, for a reason that is no rule's.
    fn lose(&self, env: &Surroundings<'_>, parcel: &Parcel<P>, why: &str) {
        if env.tap.is_some() {
            let note = match &parcel.note {
                Some(note) => format!("{}; lost: {why}", note.replacen("delivered", "sent", 1)),
                None => format!("sent; lost: {why}"),
            };
            self.record(env, &parcel.frame, Some(&note));
        }
    }

    fn has_room(&self, env: &Surroundings<'_>, parcel: &Parcel<P>) -> bool {
        let room = self.holds() < LIMIT;
        if !room {
            count(&env.counts.queue_drops);
            self.lose(env, parcel, "too much on its way");
        }
        room
    }

    fn hold(&mut self, env: &Surroundings<'_>, parcel: Parcel<P>, due: Time) {
        if self.has_room(env, &parcel) {
            self.held.insert((due, self.sequence), parcel);
            self.sequence += 1;
        }
    }

    /// A frame goes on; those that it overtakes may be next.
    fn emit(&mut self, env: &Surroundings<'_>, parcel: Parcel<P>, at: Time) {
        self.forward(env, parcel, at);
        let mut n = 0;
        while let Some(waiting) = self.overtaken.get_mut(n) {
            waiting.left = waiting.left.saturating_sub(1);
            if waiting.left == 0 {
                let released = self.overtaken.remove(n);
                self.forward(env, released.parcel, at);
            } else {
                n += 1;
            }
        }
    }

    /// Into the shaper, if there is one, or out.
    fn forward(&mut self, env: &Surroundings<'_>, mut parcel: Parcel<P>, at: Time) {
        let shape = self.shape.and_then(|shape| env.rules.shapes.get(shape));
        if shape.is_none() && self.shaper.len() == 0 {
            if self.has_room(env, &parcel) {
                self.deliver(env, parcel);
            }
            return;
        }
        let len = parcel.frame.len_on_wire();
        if let Some(shape) = shape {
            match self.shaper.admit(shape, at, len) {
                Admission::Queued => {}
                Admission::Marked => {
                    if mark_ce(&mut parcel.frame, true) {
                        count(&env.counts.ecn_marks);
                        if env.tap.is_some() {
                            let note = parcel.note.get_or_insert_with(|| "delivered".to_owned());
                            note.push_str(&format!("; shape '{}': ecn-ce", shape.name));
                        }
                    }
                }
                Admission::Full => {
                    count(&env.counts.queue_drops);
                    self.lose(env, &parcel, &format!("shape '{}': queue full", shape.name));
                    return;
                }
            }
        }
        if !self.has_room(env, &parcel) {
            return;
        }
        match solid(&parcel.frame, env.pool) {
            Ok(frame) => {
                parcel.frame = frame;
                self.shaper.push(shape, at, len, parcel);
            }
            Err(_) => count(&env.counts.unreadable),
        }
    }

    fn deliver(&mut self, env: &Surroundings<'_>, parcel: Parcel<P>) {
        if let Some(note) = &parcel.note {
            self.record(env, &parcel.frame, Some(note));
        }
        self.ready.push_back(parcel);
    }

    /// A frame that a rule of the other direction made; no rule sees it.
    pub(super) fn insert(&mut self, env: &Surroundings<'_>, frame: Frame<P>, note: Option<String>) {
        if self.insert_unseen(env, frame, note) {
            count(&env.counts.forged);
        }
    }

    /// A frame that the cable itself made; no rule sees it. False if there is no room.
    pub(super) fn insert_unseen(
        &mut self,
        env: &Surroundings<'_>,
        frame: Frame<P>,
        note: Option<String>,
    ) -> bool {
        let parcel = Parcel { frame, note };
        let room = self.has_room(env, &parcel);
        if room {
            self.deliver(env, parcel);
        }
        room
    }

    fn poll_held(&mut self, env: &Surroundings<'_>) {
        while let Some(first) = self.held.first_entry()
            && first.key().0 <= env.now
        {
            let ((due, _), parcel) = first.remove_entry();
            self.emit(env, parcel, due);
        }
    }

    /// Moves on what is due.
    pub(super) fn advance(&mut self, env: &Surroundings<'_>) {
        self.poll_held(env);
        while let Some(n) = self
            .overtaken
            .iter()
            .position(|waiting| waiting.deadline <= env.now)
        {
            let released = self.overtaken.remove(n);
            self.forward(env, released.parcel, env.now);
        }
        while let Some(parcel) = self.shaper.pop(env.now) {
            self.deliver(env, parcel);
        }
    }

    /// The next frame that has come through.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Frame<P>> {
        self.ready.pop_front().map(|parcel| parcel.frame)
    }

    /// The pause frame, if there is one to be sent against the direction of this lane.
    pub(super) fn pause_frame(
        &mut self,
        env: &Surroundings<'_>,
    ) -> Option<(Frame<P>, Option<String>)> {
        let shape = env.rules.shapes.get(self.shape?)?;
        let pause = shape.pause?;
        let signal = self.shaper.signal(shape, env.now)?;
        count(&env.counts.pauses);
        let note = env.tap.map(|_| {
            let what = match signal {
                Signal::Xoff => "xoff",
                Signal::Xon => "xon",
            };
            format!("made; shape '{}': {what}", shape.name)
        });
        let frame = pause::frame(pause.priorities, signal == Signal::Xoff);
        Some((Frame::from_slice(&frame, env.pool), note))
    }

    /// When something is due.
    pub(super) fn next(&self, rules: &Rules) -> Option<Time> {
        if !self.ready.is_empty() {
            return Some(Time::ZERO);
        }
        let shape = self.shape.and_then(|shape| rules.shapes.get(shape));
        let signal = shape.and_then(|shape| self.shaper.next_signal(shape));
        let held = self.held.keys().next().map(|(due, _)| *due);
        let overtaken = self.overtaken.iter().map(|waiting| waiting.deadline).min();
        [held, overtaken, signal, self.shaper.next()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// The same frame, independent of the sender's memory.
fn solid<P: Payload>(frame: &Frame<P>, pool: &BufPool) -> Result<Frame<P>, FrameError> {
    frame.materialize(pool)
}
