//! The NIC as a state machine: inputs, outputs and the order in which work is done.

mod commands;
mod deadlines;
mod deliver;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info};
use rocinante_dma::MemoryMap;
use rocinante_firmware_cmd::mlx5::queue::CommandQueue;
use rocinante_wire::time::Time;

use super::bar::{Action, Bar, nic_interface};
use super::core::{Core, NicConfig, NicFrame};
use super::eth;
use super::fault::{self, Faults, Injection, Plan};
use super::hca;
use super::pause::{self, Turn};
use super::port;
use super::qp::{Qp, State, error, transmit};
use super::table::Table;
use super::timer::TimerKey;
use deadlines::arm_timer;

/// What happens to a NIC.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // the large one is the common one
pub enum Input {
    /// A store to BAR0.
    BarWrite {
        /// Offset in the BAR.
        offset: u64,
        /// The bytes in memory order; `len` of them count.
        data: [u8; 8],
        /// 1, 2, 4 or 8.
        len: u8,
    },
    /// Guest memory changed: from now on this snapshot is used and the old one is not.
    Memory(Arc<MemoryMap>),
    /// Bus mastering was switched.
    BusMaster(bool),
    /// Function reset: everything returns to power-on.
    Reset,
    /// A frame from the wire.
    Frame(NicFrame),
    /// Physical link up or down.
    Link(bool),
    /// The far end of the cable can do speeds up to this one.
    FarEnd(port::LinkSpeed),
    /// From now on these faults are there, and no others.
    Faults(Plan),
    /// This goes wrong now.
    Inject(Injection),
    /// So many frames came with a wrong frame check sequence, and were dropped for it.
    FcsErrors(u64),
    /// Only time has passed.
    Tick,
}

/// Frames that one call may deliver to the NIC itself, or drop, before it lets the engine look at
/// everything else.
const INTERNAL_BUDGET: usize = 256;

/// Frames that a queue pair makes in its turn: what was fetched for the first serves the others.
const BURST: usize = 8;

/// How long a software reset takes: drivers wait up to a minute, and want to see it under way.
const SW_RESET_TIME: Duration = Duration::from_millis(20);

/// A NIC.
pub struct Nic {
    /// All but the queue pairs.
    pub core: Core,
    /// Queue pairs by number.
    pub qps: Table<Qp>,
    /// The QP that packets to QP 1 are for.
    pub gsi: Option<u32>,
    /// What is to go wrong.
    pub(super) faults: Option<Box<Faults>>,
    pub(super) bar: Bar,
    queue: Option<CommandQueue>,
    /// Queue pairs that may have something to send, round robin.
    ready: VecDeque<u32>,
    /// Buffers of the command being executed.
    command_input: Vec<u8>,
    command_output: Vec<u8>,
}

impl Nic {
    /// A NIC at power-on.
    pub fn new(config: NicConfig) -> Nic {
        Nic {
            core: Core::new(config),
            qps: Table::default(),
            gsi: None,
            faults: None,
            bar: Bar::new(),
            queue: None,
            ready: VecDeque::new(),
            command_input: Vec::new(),
            command_output: Vec::new(),
        }
    }

    /// Takes an input that happened at `now`.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.set_now(now);
        match input {
            // Nobody is there.
            Input::BarWrite { .. } if self.is_gone() => {}
            Input::BarWrite { offset, data, len } => {
                let data = data.get(..usize::from(len)).unwrap_or(&data);
                if let Some(action) = self.bar.write(offset, data) {
                    self.act(action);
                }
            }
            Input::Memory(map) => self.core.mem = map,
            Input::BusMaster(enabled) => {
                let faults = self.faults.as_mut();
                if faults.is_none_or(|faults| faults.bus_master(enabled)) {
                    self.core.bus_master = enabled;
                }
            }
            Input::Reset => self.power_on_reset(),
            Input::Frame(frame) => self.frame(&frame),
            Input::Link(up) => port::set_physical(&mut self.core, up),
            Input::FarEnd(speed) => port::set_partner(&mut self.core, speed),
            Input::Faults(plan) => fault::load(self, &plan),
            Input::Inject(injection) => fault::inject(self, injection),
            Input::FcsErrors(count) => self.core.port.counters.fcs_errors += count,
            Input::Tick => {}
        }
        self.run_timers(now);
    }

    fn set_now(&mut self, now: Time) {
        self.core.now = now;
        if let Some(faults) = &mut self.core.eqs.faults {
            faults.now = now;
        }
    }

    /// Whether a fault has pulled it out.
    pub fn is_gone(&self) -> bool {
        self.faults.as_ref().is_some_and(|faults| faults.gone())
    }

    /// Whether there are faults that may change what loads read.
    pub fn has_faults(&self) -> bool {
        self.faults.is_some()
    }

    /// Takes a frame from the wire, as [`Input::Frame`] does, without moving it.
    pub fn receive(&mut self, now: Time, frame: &NicFrame) {
        self.set_now(now);
        self.frame(frame);
        self.run_timers(now);
    }

    /// A load from BAR0.
    pub fn bar_read(&self, now: Time, offset: u64, out: &mut [u8]) {
        if self.is_gone() {
            out.fill(0xff);
        } else {
            self.bar.read(now, offset, out);
        }
    }

    /// The next frame for the wire. Call until `None`, then see [`poll_timeout`](Self::poll_timeout).
    pub fn poll_transmit(&mut self, now: Time) -> Option<NicFrame> {
        self.set_now(now);
        if !self.core.bus_master {
            return None;
        }
        if self.core.out.paused {
            return self.poll_paused();
        }
        self.poll_frames()
    }

    /// The next frame that no pause holds back.
    #[cold]
    fn poll_paused(&mut self) -> Option<NicFrame> {
        for _ in 0..INTERNAL_BUDGET {
            let mask = match pause::turn(&mut self.core) {
                Turn::Over => return self.poll_frames(),
                Turn::Frame(frame) => return Some(frame),
                Turn::Others(mask) => mask,
                Turn::None => return None,
            };
            let frame = self.poll_frames()?;
            if let Some(frame) = pause::hold(&mut self.core, mask, frame) {
                return Some(frame);
            }
        }
        None
    }

    fn poll_frames(&mut self) -> Option<NicFrame> {
        let mut budget = INTERNAL_BUDGET;
        loop {
            if let Some(frame) = self.core.out.loopback.pop_front() {
                self.roce(&frame);
            } else if let Some(frame) = self.core.out.wire.pop_front() {
                return Some(frame);
            } else if !eth::resume(&mut self.core) && !self.poll_queue_pairs() {
                return None;
            }
            budget -= 1;
            if budget == 0 {
                return None;
            }
        }
    }

    /// The next MSI-X vector to fire.
    pub fn poll_interrupt(&mut self) -> Option<u16> {
        if !self.core.bus_master {
            return None;
        }
        self.core.eqs.interrupts.pop_front()
    }

    /// When to call [`handle`](Self::handle) with a tick at the latest; `now` or earlier if there
    /// is more to transmit.
    pub fn poll_timeout(&self) -> Option<Time> {
        let out = &self.core.out;
        let idle = self.ready.is_empty()
            && out.loopback.is_empty()
            && out.wire.is_empty()
            && self.core.eth.waiting.is_empty();
        let held_up = out.paused && (idle || !pause::may_make(&self.core));
        if self.core.bus_master && !idle && !held_up {
            return Some(Time::ZERO);
        }
        let mut next = self.core.timers.next();
        if self.core.bus_master && held_up {
            next = [next, pause::next(&self.core)].into_iter().flatten().min();
        }
        match &self.faults {
            None => next,
            Some(faults) => {
                let late = self.core.eqs.faults.as_ref();
                let others = [faults.next(), late.and_then(|late| late.next())];
                others.into_iter().chain([next]).flatten().min()
            }
        }
    }

    /// The health syndrome that drivers see; 0 is healthy.
    pub fn health_syndrome(&self) -> u8 {
        self.bar.health().syndrome
    }

    fn act(&mut self, action: Action) {
        // Without bus mastering there is nothing that a doorbell could do.
        let touches_memory = !matches!(action, Action::CommandQueue(_) | Action::NicInterface(_));
        if touches_memory && !self.core.bus_master {
            return;
        }
        match action {
            Action::CommandQueue(base) => {
                // A driver that starts on a live device (after a crash of the last one) resets it.
                if self.queue.is_some() && self.core.hca.state != hca::State::Disabled {
                    info!(target: "mlx5::cmd", "{}: command queue set anew, resetting", self.core.config.name);
                    self.reset_objects();
                }
                debug!(target: "mlx5::cmd", "{}: command queue at {base:#x}", self.core.config.name);
                self.bar.health_syndrome = 0;
                self.queue = Some(CommandQueue::new(base));
            }
            Action::NicInterface(mode) => self.set_nic_interface(mode),
            Action::Commands(mask) => self.run_commands(mask),
            Action::Eq { eqn, consumer, arm } => {
                self.core.eqs.doorbell(&self.core.mem, eqn, consumer, arm);
            }
            Action::Cq(word0, word1) => {
                let core = &mut self.core;
                core.cqs.doorbell(
                    &core.mem,
                    &mut core.eqs,
                    &mut core.timers,
                    core.now,
                    word0,
                    word1,
                );
            }
            Action::Send(number) => self.send_doorbell(number),
        }
        if std::mem::take(&mut self.core.eqs.overrun) {
            // Asynchronous EQ buffer overrun, reported in the health buffer.
            self.bar.health_syndrome = 0x0c;
        }
    }

    fn set_nic_interface(&mut self, mode: u8) {
        match mode {
            nic_interface::DISABLED => {
                self.core.eqs.silenced = true;
                self.reset_objects();
                self.bar.set_nic_interface(nic_interface::DISABLED);
            }
            nic_interface::SW_RESET => {
                info!(target: "mlx5::cmd", "{}: software reset", self.core.config.name);
                self.reset_objects();
                self.bar.set_nic_interface(nic_interface::SW_RESET);
                let due = self.core.now + SW_RESET_TIME;
                self.core.timers.arm(due, TimerKey::Reset);
            }
            _ => debug!(target: "mlx5::cmd", "nic_interface {mode} is not offered"),
        }
    }

    fn power_on_reset(&mut self) {
        self.reset_objects();
        let faults = self.bar.faults;
        self.bar = Bar::new();
        self.bar.faults = faults;
        self.core.bus_master = false;
        fault::after_reset(self, true);
    }

    /// Back to before ENABLE_HCA, whatever the driver left.
    pub(super) fn reset_objects(&mut self) {
        let qps = std::mem::take(&mut self.qps);
        self.core.reset(qps.len());
        self.gsi = None;
        self.ready.clear();
        self.queue = None;
        if self.faults.is_some() {
            fault::forget_objects(self);
        }
    }

    fn send_doorbell(&mut self, number: u32) {
        if let Some(qp) = self.qps.get_mut(number) {
            let record = qp.doorbell_record;
            if let Some(ring) = &mut qp.send.ring {
                ring.refresh(&self.core.mem, record);
            }
            match qp.state {
                State::Err => error::flush_send(qp, &mut self.core),
                _ => self.schedule(number),
            }
        } else {
            eth::run_sq(&mut self.core, number);
        }
    }

    /// Puts a QP on the list of those that may have something to send.
    pub fn schedule(&mut self, number: u32) {
        if let Some(qp) = self.qps.get_mut(number)
            && !qp.scheduled
        {
            qp.scheduled = true;
            self.ready.push_back(number);
        }
    }

    /// Makes the next frames of any queue pair, some of each in turn. False if there are none.
    fn poll_queue_pairs(&mut self) -> bool {
        loop {
            let Some(&number) = self.ready.front() else {
                return false;
            };
            let Some(qp) = self.qps.get_mut(number) else {
                self.ready.pop_front();
                continue;
            };
            let mut sent = 0;
            while sent < BURST && transmit::poll(qp, &mut self.core) {
                sent += 1;
            }
            arm_timer(qp, &mut self.core);
            if sent == BURST {
                self.ready.rotate_left(1);
                return true;
            }
            qp.scheduled = false;
            self.ready.pop_front();
            if sent > 0 {
                return true;
            }
        }
    }
}
