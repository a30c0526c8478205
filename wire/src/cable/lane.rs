//! One direction of a cable: rules, what they hold back, bit errors, rate and latency.

use std::collections::{BTreeMap, VecDeque};

use super::control::{Counts, count};
use super::selector::Selector;
use super::shaper::{Admission, Shaper};
use crate::buf::BufPool;
use crate::capture::CaptureTap;
use crate::fault::{
    Action, Answer, DEEP, Direction, FlowKey, Flows, LinkKind, Rule, Rules, Scope, View, alter,
    bit_error, mark_ce,
};
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

fn comment(verb: &str, rule: &Rule) -> String {
    format!("{verb}; rule '{}': {}", rule.name, rule.action.name())
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
        let here = |place: &crate::fault::Place| place.is_at(link, port) && place.goes(direction);
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

    /// The next rule from number `start` on that hits the frame, with the answer that it wants.
    fn next_hit(
        &mut self,
        env: &Surroundings<'_>,
        start: usize,
        frame: &Frame<P>,
        view: &View<'_>,
        relative: Option<u32>,
        ask: Ask<'_>,
    ) -> Option<(usize, Option<Wish>)> {
        for (n, active) in self.active.iter_mut().enumerate().skip(start) {
            let Some(rule) = env.rules.rules.get(active.rule) else {
                continue;
            };
            if !rule.pattern.matches(view, relative) {
                continue;
            }
            let wish = match rule.action {
                Action::Forge {
                    answer, dest_qp, ..
                } => {
                    let Ok(request) = frame.parse_roce() else {
                        continue;
                    };
                    let sender = dest_qp
                        .or_else(|| request.packet.deth.map(|deth| deth.src_qp))
                        .or_else(|| ask(&request));
                    let Some(qpn) = sender else {
                        count(&env.counts.unforgeable);
                        continue;
                    };
                    Some(Wish {
                        request,
                        flow: view.flow(),
                        answer,
                        qpn,
                        note: env.tap.map(|_| comment("forged", rule)),
                    })
                }
                _ => None,
            };
            let flow = match rule.select.per {
                Scope::Flow => view.flow(),
                _ => None,
            };
            if active.selector.take(rule, env.now, env.loaded, flow) {
                return Some((n, wish));
            }
        }
        None
    }

    /// A frame comes in. What leaves at once or later is to be polled. Returns the answers that
    /// rules want to be forged.
    pub(super) fn enter(
        &mut self,
        env: &Surroundings<'_>,
        frame: Frame<P>,
        ask: Ask<'_>,
    ) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let mut parcel = Parcel { frame, note: None };
        if !env.carrier || env.blackhole {
            let (counter, why) = if env.carrier {
                (&env.counts.blackhole_drops, "black hole")
            } else {
                (&env.counts.link_drops, "no carrier")
            };
            count(counter);
            self.lose(env, &parcel, why);
            return wishes;
        }
        let mut next = 0;
        let mut relative = None;
        let mut first = true;
        while !self.active.is_empty() || (first && self.track) {
            let mut scratch = [0; DEEP];
            let view = View::of(&parcel.frame, &mut scratch);
            if first && self.track {
                relative = self.flows.note(&view);
            }
            first = false;
            let hit = self.next_hit(env, next, &parcel.frame, &view, relative, ask);
            let Some((n, wish)) = hit else { break };
            next = n + 1;
            let Some(rule) = self
                .active
                .get(n)
                .and_then(|active| env.rules.rules.get(active.rule))
            else {
                break;
            };
            if rule.action == Action::Pass {
                break;
            }
            self.annotate(env, &mut parcel, rule);
            wishes.extend(wish);
            match self.apply(env, parcel, rule, n) {
                Some(changed) => parcel = changed,
                None => return wishes,
            }
        }
        if parcel.note.is_none() && env.tap.is_some_and(|tap| tap.all) {
            self.record(env, &parcel.frame, None);
        }
        if let Some(parcel) = self.bit_errors(env, parcel) {
            self.emit(env, parcel, env.now);
        }
        wishes
    }

    /// Shows a frame as it was sent, at the first rule that touches it, and notes the rule.
    fn annotate(&self, env: &Surroundings<'_>, parcel: &mut Parcel<P>, rule: &Rule) {
        if env.tap.is_none() {
            return;
        }
        match &mut parcel.note {
            None => {
                self.record(env, &parcel.frame, Some(&comment("sent", rule)));
                parcel.note = Some(comment("delivered", rule));
            }
            Some(note) => {
                note.push_str(&format!("; rule '{}': {}", rule.name, rule.action.name()));
            }
        }
    }

    /// Does what a rule says; the frame, if later rules are to be asked.
    fn apply(
        &mut self,
        env: &Surroundings<'_>,
        mut parcel: Parcel<P>,
        rule: &Rule,
        n: usize,
    ) -> Option<Parcel<P>> {
        let active = self.active.get_mut(n)?;
        let altered: Result<(), FrameError> = match &rule.action {
            Action::Pass => Ok(()),
            Action::Drop | Action::Forge { deliver: false, .. } => {
                count(&env.counts.rule_drops);
                // If only this rule touched it, that has been shown.
                if parcel
                    .note
                    .as_ref()
                    .is_some_and(|note| note.matches("; rule '").count() > 1)
                {
                    let note = parcel.note.take().unwrap_or_default();
                    let note = note.replacen("delivered", "lost", 1);
                    self.record(env, &parcel.frame, Some(&note));
                }
                return None;
            }
            Action::Forge { .. } => Ok(()),
            Action::EcnCe => {
                mark_ce(&mut parcel.frame, false);
                Ok(())
            }
            Action::Corrupt { .. } | Action::Truncate(_) | Action::Set { .. } => alter(
                &parcel.frame,
                &rule.action,
                env.pool,
                &mut active.selector.rng,
            )
            .map(|frame| parcel.frame = frame),
            // What is held must be what was sent, whatever the sender does with its memory.
            Action::Duplicate { copies, delay } => match solid(&parcel.frame, env.pool) {
                Ok(frame) => {
                    for n in 1..=*copies {
                        let copy = Parcel {
                            frame: frame.duplicate(),
                            note: parcel.note.as_ref().map(|note| format!("{note} (copy)")),
                        };
                        self.hold(env, copy, env.now + *delay * n);
                    }
                    parcel.frame = frame;
                    self.emit(env, parcel, env.now);
                    self.poll_held(env);
                    return None;
                }
                Err(error) => Err(error),
            },
            Action::Delay { fixed, jitter } => {
                let most = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX);
                let more = active.selector.rng.below(most.saturating_add(1));
                match solid(&parcel.frame, env.pool) {
                    Ok(frame) => {
                        parcel.frame = frame;
                        let due = env.now + *fixed + std::time::Duration::from_nanos(more);
                        self.hold(env, parcel, due);
                        return None;
                    }
                    Err(error) => Err(error),
                }
            }
            Action::Reorder { by, timeout } => match solid(&parcel.frame, env.pool) {
                Ok(frame) => {
                    parcel.frame = frame;
                    if self.has_room(env, &parcel) {
                        self.overtaken.push(Overtaken {
                            left: *by,
                            deadline: env.now + *timeout,
                            parcel,
                        });
                    }
                    return None;
                }
                Err(error) => Err(error),
            },
        };
        if altered.is_err() {
            count(&env.counts.unreadable);
            return None;
        }
        Some(parcel)
    }

    fn bit_errors(&mut self, env: &Surroundings<'_>, mut parcel: Parcel<P>) -> Option<Parcel<P>> {
        for n in 0..self.errors.len() {
            let source = self.errors.get_mut(n)?;
            let Some(fault) = env.rules.links.get(source.link).filter(|_| source.on) else {
                continue;
            };
            let LinkKind::BitErrors(errors) = &fault.kind else {
                continue;
            };
            let p = errors.per_frame(parcel.frame.len_on_wire());
            if !source.rng.chance(p) {
                continue;
            }
            // Drawn in any case, so that the same frames are hit either way.
            let mut place = Rng::new(source.rng.next_u64());
            if !errors.deliver {
                count(&env.counts.fcs_errors);
                self.lose(env, &parcel, &format!("link '{}': wrong FCS", fault.name));
                return None;
            }
            let Ok(frame) = bit_error(&parcel.frame, env.pool, &mut place) else {
                count(&env.counts.unreadable);
                return None;
            };
            if env.tap.is_some() {
                self.lose(env, &parcel, &format!("link '{}': bit error", fault.name));
                parcel.note = Some(format!("delivered; link '{}': bit error", fault.name));
            }
            parcel.frame = frame;
        }
        Some(parcel)
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
        let parcel = Parcel { frame, note };
        if self.has_room(env, &parcel) {
            count(&env.counts.forged);
            self.deliver(env, parcel);
        }
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

    /// When something is due.
    pub(super) fn next(&self) -> Option<Time> {
        if !self.ready.is_empty() {
            return Some(Time::ZERO);
        }
        let held = self.held.keys().next().map(|(due, _)| *due);
        let overtaken = self.overtaken.iter().map(|waiting| waiting.deadline).min();
        [held, overtaken, self.shaper.next()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// The same frame, independent of the sender's memory.
fn solid<P: Payload>(frame: &Frame<P>, pool: &BufPool) -> Result<Frame<P>, FrameError> {
    frame.materialize(pool)
}
