//! Rules applied to the frames that come into a lane.

use std::time::Duration;

use super::{Ask, Lane, Overtaken, Parcel, Surroundings, Wish, solid};
use crate::cable::control::count;
use crate::fault::{Action, DEEP, LinkKind, Rule, Scope, View, alter, bit_error, mark_ce};
use crate::frame::{Frame, FrameError, Payload};
use crate::sim::Rng;

fn comment(verb: &str, rule: &Rule) -> String {
    format!("{verb}; rule '{}': {}", rule.name, rule.action.name())
}

impl<P: Payload + Clone> Lane<P> {
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
    pub(in crate::cable) fn enter(
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
        if let Some(parcel) = self.bit_errors(env, parcel) {
            if parcel.note.is_none() && env.tap.is_some_and(|tap| tap.all) {
                self.record(env, &parcel.frame, None);
            }
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
                        let due = env.now + *fixed + Duration::from_nanos(more);
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
                let what = format!("; link '{}': bit error", fault.name);
                match &mut parcel.note {
                    Some(note) => note.push_str(&what),
                    None => {
                        self.record(env, &parcel.frame, Some(&format!("sent{what}")));
                        parcel.note = Some(format!("delivered{what}"));
                    }
                }
            }
            parcel.frame = frame;
        }
        Some(parcel)
    }
}
