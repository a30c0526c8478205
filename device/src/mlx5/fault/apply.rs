//! The faults of a NIC at work: what happens by itself, what lasts, and what resets leave of it.

use std::sync::Arc;
use std::time::Duration;

use log::info;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_wire::time::Time;

use super::command::{self, CommandFaults};
use super::event::Late;
use super::names::{CQ_ERROR, QP_EVENTS};
use super::{
    CompletionFaults, EventFaults, Fault, Injection, Kind, Object, Plan, Schedule, Start, Timeouts,
    Whom,
};
use crate::mlx5::bar::{Bar, BarFaults};
use crate::mlx5::eq::{Eqe, EventType};
use crate::mlx5::eth::{self, QueueState};
use crate::mlx5::hca::State;
use crate::mlx5::nic::Nic;
use crate::mlx5::qp::ServiceType;
use crate::mlx5::qp::error::{self, Cause};

/// What happens of a fault before everything else gets its turn.
const TURN: usize = 64;

/// Something that happens by itself.
struct Timed {
    fault: Arc<Fault>,
    /// From when on its times count.
    begin: Time,
    /// How often it has happened since.
    done: u64,
    next: Option<Time>,
}

/// Something that lasts, and the fault in the plan that it is of.
struct Standing {
    of: Option<usize>,
    what: Injection,
}

/// The faults of a NIC.
pub(in crate::mlx5) struct Faults {
    pub(super) commands: CommandFaults,
    timed: Vec<Timed>,
    standing: Vec<Standing>,
    /// The driver has initialized the device.
    initialized: bool,
    /// Pulled out, and whether bus mastering is to be on when it is back.
    gone: Option<bool>,
}

impl Faults {
    fn new(plan: &Plan, now: Time) -> Faults {
        let timed = plan.0.iter().filter_map(|fault| {
            let Kind::Timed(schedule, _) = &fault.kind else {
                return None;
            };
            Some(Timed {
                fault: Arc::clone(fault),
                begin: now,
                done: 0,
                next: (schedule.since == Start::Load).then_some(now + schedule.from),
            })
        });
        Faults {
            commands: CommandFaults::new(plan, now),
            timed: timed.collect(),
            standing: Vec::new(),
            initialized: false,
            gone: None,
        }
    }

    /// When something happens next.
    pub(in crate::mlx5) fn next(&self) -> Option<Time> {
        let timed = self.timed.iter().filter_map(|timed| timed.next);
        let late = self.commands.late.iter().map(|answer| answer.due);
        timed.chain(late).min()
    }

    /// Whether the adapter is pulled out.
    pub(in crate::mlx5) fn gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Bus mastering is switched. False if that takes effect later.
    pub(in crate::mlx5) fn bus_master(&mut self, enabled: bool) -> bool {
        match &mut self.gone {
            None => true,
            Some(later) => {
                *later = enabled;
                false
            }
        }
    }
}

impl Timed {
    fn schedule(&self) -> Option<(Schedule, Injection)> {
        match &self.fault.kind {
            Kind::Timed(schedule, injection) => Some((*schedule, *injection)),
            _ => None,
        }
    }

    fn begin(&mut self, now: Time) {
        if let Some((schedule, _)) = self.schedule() {
            self.begin = now;
            self.done = 0;
            self.next = Some(now + schedule.from);
        }
    }

    /// It has happened: when it does again.
    fn advance(&mut self, schedule: &Schedule) {
        self.done += 1;
        let again = schedule.every.filter(|_| {
            let limit = schedule.count.unwrap_or(u64::MAX);
            self.done < limit
        });
        let end = schedule.until.map(|until| self.begin + until);
        self.next = match (self.next, again) {
            (Some(next), Some(every)) => Some(next + every),
            _ => None,
        }
        .filter(|next| end.is_none_or(|end| *next < end));
    }
}

/// Replaces all faults. What was injected and lasts is over.
pub(in crate::mlx5) fn load(nic: &mut Nic, plan: &Plan) {
    let now = nic.core.now;
    if let Some(faults) = &mut nic.faults {
        faults.standing.clear();
    }
    settle(nic);
    // What was held back is not lost with the fault that held it.
    flush_late(nic);
    nic.core.hca.faults = Default::default();
    nic.bar.faults = BarFaults::default();
    let mut timeouts = Timeouts::default();
    for fault in &plan.0 {
        match &fault.kind {
            Kind::Capability(overrides) => nic.core.hca.faults.overrides.extend(overrides),
            Kind::Timeouts(given) => {
                timeouts.command = given.command.or(timeouts.command);
                timeouts.init = given.init.or(timeouts.init);
                timeouts.registers.extend(&given.registers);
            }
            _ => continue,
        }
    }
    nic.bar.faults.set_timeouts(&timeouts);
    nic.core.hca.faults.timeouts = timeouts;
    nic.core.eqs.faults = EventFaults::new(plan, now);
    nic.core.cqs.faults = CompletionFaults::new(plan, now);
    note_queue_pairs(nic);
    nic.faults = (!plan.0.is_empty()).then(|| Box::new(Faults::new(plan, now)));
}

fn flush_late(nic: &mut Nic) {
    command::answer_late(nic, Time(u64::MAX));
    if let Some(faults) = &mut nic.core.eqs.faults {
        faults.now = Time(u64::MAX);
        deliver_late(nic);
    }
}

fn deliver_late(nic: &mut Nic) {
    let core = &mut nic.core;
    while let Some(late) = core.eqs.faults.as_mut().and_then(|faults| faults.due()) {
        match late {
            Late::Event(eqn, eqe) => core.eqs.deliver(&core.mem, eqn, eqe),
            Late::Interrupt(vector) => core.eqs.interrupts.push_back(vector),
        }
    }
}

/// Queue pairs have come or gone: faults of completions know them by service.
pub(in crate::mlx5) fn note_queue_pairs(nic: &mut Nic) {
    if let Some(faults) = &mut nic.core.cqs.faults {
        faults.services = nic
            .qps
            .iter()
            .map(|(number, qp)| (number, qp.attr.service))
            .collect();
    }
}

/// Does what is due. To be called when something has happened and when time has passed.
pub(in crate::mlx5) fn run(nic: &mut Nic, now: Time) {
    deliver_late(nic);
    command::answer_late(nic, now);
    fail_queues(nic);
    let initialized = nic.core.hca.state == State::Initialized;
    let Some(faults) = &mut nic.faults else {
        return;
    };
    if initialized != faults.initialized {
        faults.initialized = initialized;
        if initialized {
            let waiting = faults.timed.iter_mut();
            waiting
                .filter(|timed| {
                    timed
                        .schedule()
                        .is_some_and(|(s, _)| s.since == Start::Init)
                })
                .for_each(|timed| timed.begin(now));
        }
    }
    if faults.timed.iter().any(|timed| timed.fault.is_cleared()) {
        end_cleared(nic);
    }
    let timed = nic.faults.as_ref().map_or(0, |faults| faults.timed.len());
    for index in 0..timed {
        for _ in 0..TURN {
            if !happen(nic, now, index) {
                break;
            }
        }
    }
}

/// Faults that have been ended do not happen any more, and what lasts of them is over.
fn end_cleared(nic: &mut Nic) {
    let Some(faults) = &mut nic.faults else {
        return;
    };
    let mut over = false;
    for (index, timed) in faults.timed.iter_mut().enumerate() {
        if timed.fault.is_cleared() {
            timed.next = None;
            let before = faults.standing.len();
            faults
                .standing
                .retain(|standing| standing.of != Some(index));
            over |= faults.standing.len() != before;
        }
    }
    if over {
        settle(nic);
    }
}

/// What the `index`th timed fault is to do by `now`. False if there is nothing.
fn happen(nic: &mut Nic, now: Time, index: usize) -> bool {
    let Some(faults) = &mut nic.faults else {
        return false;
    };
    let Some(timed) = faults.timed.get_mut(index) else {
        return false;
    };
    let Some((schedule, injection)) = timed.schedule() else {
        return false;
    };
    if timed.next.is_none_or(|next| next > now) {
        return false;
    }
    let name = &nic.core.config.name;
    if !injection.lasts() {
        timed.advance(&schedule);
        timed.fault.note();
        info!(target: "mlx5::fault", "{name}: {}: {injection:?}", timed.fault.name);
        inject(nic, injection);
        return true;
    }
    let of = Some(index);
    faults.standing.retain(|standing| standing.of != of);
    if timed.done == 0 {
        timed.fault.note();
        timed.done = 1;
        timed.next = schedule.until.map(|until| timed.begin + until);
        info!(target: "mlx5::fault", "{name}: {}: {injection:?}", timed.fault.name);
        faults.standing.push(Standing {
            of,
            what: injection,
        });
    } else {
        info!(target: "mlx5::fault", "{name}: {}: over", timed.fault.name);
        timed.next = None;
    }
    settle(nic);
    true
}

/// Makes something happen now.
pub(in crate::mlx5) fn inject(nic: &mut Nic, injection: Injection) {
    let core = &mut nic.core;
    match injection {
        Injection::Async {
            event_type,
            object,
            syndrome,
        } => asynchronous(nic, event_type, object, syndrome),
        Injection::Event {
            event_type,
            sub_type,
        } => core.event(Eqe::of_type(event_type, sub_type)),
        Injection::Interrupt(vector) => core.eqs.interrupts.push_back(vector),
        Injection::Pages(pages) => core.event(Eqe::page_request(pages)),
        Injection::Module { status, error } => core.event(Eqe::module(status, error)),
        Injection::Clear => {
            if let Some(faults) = &mut nic.faults {
                faults.standing.retain(|standing| standing.of.is_some());
                settle(nic);
            }
        }
        lasting => {
            let now = core.now;
            let faults = nic
                .faults
                .get_or_insert_with(|| Box::new(Faults::new(&Plan::default(), now)));
            // One of a kind at a time.
            faults.standing.retain(|standing| {
                standing.of.is_some()
                    || std::mem::discriminant(&standing.what) != std::mem::discriminant(&lasting)
            });
            faults.standing.push(Standing {
                of: None,
                what: lasting,
            });
            settle(nic);
        }
    }
}

fn chosen(whom: Whom, all: impl Iterator<Item = u32>) -> Vec<u32> {
    match whom {
        Whom::Number(number) => all.filter(|known| *known == number).collect(),
        Whom::Newest => all.last().into_iter().collect(),
        Whom::All => all.collect(),
    }
}

/// Queue pairs of the driver itself, which are not meant unless they are named.
fn is_special(service: ServiceType) -> bool {
    matches!(service, ServiceType::Gsi | ServiceType::RegUmr)
}

fn asynchronous(nic: &mut Nic, event_type: u8, object: Object, syndrome: u8) {
    let core = &mut nic.core;
    match object {
        Object::Qp(whom, service) => {
            let fits = nic.qps.iter().filter(|(_, qp)| {
                service.map_or_else(
                    || matches!(whom, Whom::Number(_)) || !is_special(qp.attr.service),
                    |service| qp.attr.service == service,
                )
            });
            let numbers = chosen(whom, fits.map(|(number, _)| number));
            let fatal = QP_EVENTS.contains(&(event_type, true));
            for number in numbers {
                core.event(
                    Eqe::of_type(event_type, 0)
                        .with_word(0x34, 0)
                        .with_word(0x38, number),
                );
                if let Some(qp) = nic.qps.get_mut(number)
                    && fatal
                {
                    error::to_error(qp, core, None, Cause::Local);
                }
            }
        }
        Object::Srq(whom) => {
            for number in chosen(whom, core.srqs.iter().map(|(number, _)| number)) {
                core.event(Eqe::of_type(event_type, 0).with_word(0x38, number));
            }
        }
        Object::Cq(whom) => {
            for number in chosen(whom, core.cqs.table.iter().map(|(number, _)| number)) {
                let eqe = Eqe::of_type(CQ_ERROR, 0)
                    .with_word(0x20, number)
                    .with_word(0x28, u32::from(syndrome));
                core.event(eqe);
                core.cqs.set_overrun(number);
            }
        }
    }
}

/// Queues whose work was said to have failed go to the error state.
fn fail_queues(nic: &mut Nic) {
    let core = &mut nic.core;
    let Some(faults) = &mut core.cqs.faults else {
        return;
    };
    for number in std::mem::take(&mut faults.failed) {
        if let Some(qp) = nic.qps.get_mut(number) {
            error::to_error(qp, core, None, Cause::Local);
        } else if let Some(sq) = core.eth.sqs.get_mut(number) {
            sq.state = QueueState::Error;
        }
    }
    let receivers = match &mut core.cqs.faults {
        Some(faults) => std::mem::take(&mut faults.failed_receivers),
        None => return,
    };
    for cqn in receivers {
        let found = core.eth.rqs.iter().find(|(_, rq)| rq.cqn == cqn);
        if let Some((rqn, _)) = found {
            eth::fail_rq(core, rqn);
        }
    }
}

/// Sees to it that what lasts is there, and that nothing else is.
fn settle(nic: &mut Nic) {
    let now = nic.core.now;
    let Some(faults) = &mut nic.faults else {
        return;
    };
    let mut health = None;
    let mut counter = false;
    let mut initializing = false;
    let mut keep_pages = None;
    let mut temperature = None;
    let mut gone = false;
    for standing in &faults.standing {
        match standing.what {
            Injection::Health(given) => health = Some(given),
            Injection::HealthCounter => counter = true,
            Injection::Initializing => initializing = true,
            Injection::KeepPages(pages) => keep_pages = Some(pages),
            Injection::Temperature(given) => temperature = Some(given),
            Injection::Removal => gone = true,
            _ => {}
        }
    }
    nic.bar.faults.health = health;
    nic.bar.faults.initializing = initializing;
    nic.bar.faults.stop_counter(now, counter);
    nic.core.hca.faults.keep_pages = keep_pages;
    let was_gone = faults.gone.is_some();
    if gone && !was_gone {
        let bus_master = nic.core.bus_master;
        info!(target: "mlx5::fault", "{}: pulled out", nic.core.config.name);
        faults.gone = Some(bus_master);
        nic.reset_objects();
        let faults = nic.bar.faults;
        nic.bar = Bar::new();
        nic.bar.faults = faults;
        nic.core.bus_master = false;
    } else if !gone && was_gone {
        info!(target: "mlx5::fault", "{}: back", nic.core.config.name);
        nic.core.bus_master = faults.gone.take().unwrap_or_default();
    }
    let core = &mut nic.core;
    let before = core.port.sensor.is_too_hot();
    core.port.sensor.injected = temperature;
    if core.port.sensor.is_too_hot() && !before {
        // Bit 0 is the chip's.
        core.event(Eqe::new(EventType::TemperatureWarning, 0).with_word(0x2c, 1));
    }
}

/// All objects are gone.
pub(in crate::mlx5) fn forget_objects(nic: &mut Nic) {
    if let Some(faults) = &mut nic.core.eqs.faults {
        faults.forget();
    }
    if let Some(faults) = &mut nic.core.cqs.faults {
        faults.services.clear();
        faults.failed.clear();
        faults.failed_receivers.clear();
    }
    if let Some(faults) = &mut nic.faults {
        faults.commands.late.clear();
        faults.initialized = false;
        // The port was made anew.
        let temperature = faults.standing.iter().find_map(|s| match s.what {
            Injection::Temperature(given) => Some(given),
            _ => None,
        });
        nic.core.port.sensor.injected = temperature;
    }
}

/// A reset helps against some of what lasts. `power_on`: it was one of the function, which helps against more.
pub(in crate::mlx5) fn after_reset(nic: &mut Nic, power_on: bool) {
    if let Some(faults) = &mut nic.faults {
        if power_on && faults.gone.is_some() {
            faults.gone = Some(false);
        }
        faults.standing.retain(|standing| match standing.what {
            Injection::Health(health) => health.sticky,
            Injection::Removal => !power_on,
            _ => standing.of.is_some() || !power_on,
        });
        settle(nic);
    }
}

/// Whether this command changes which queue pairs there are.
pub(in crate::mlx5) fn changes_queue_pairs(opcode: u16) -> bool {
    opcode == Opcode::CreateQp.code() || opcode == Opcode::DestroyQp.code()
}

/// A time as the initialization segment and DTOR say it.
pub(in crate::mlx5) fn announced(time: Duration) -> u32 {
    let milliseconds = time.as_millis();
    if milliseconds < 1 << 20 {
        milliseconds as u32
    } else {
        1 << 29 | time.as_secs().min((1 << 20) - 1) as u32
    }
}
