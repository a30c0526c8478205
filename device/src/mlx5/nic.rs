//! The NIC as a state machine: inputs, outputs and the order in which work is done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, trace, warn};
use rocinante_dma::MemoryMap;
use rocinante_firmware_cmd::mlx5::log::{Hex, Line};
use rocinante_firmware_cmd::mlx5::queue::{CommandQueue, FetchError, Request, SLOTS, Wrong};
use rocinante_wire::roce::RoceFrame;
use rocinante_wire::time::Time;

use super::bar::{Action, Bar, nic_interface};
use super::cmd;
use super::core::{Core, NicConfig, NicFrame};
use super::eq::{Eqe, EventType};
use super::eth;
use super::fault::{self, Faults, Injection, Plan};
use super::hca;
use super::pause::{self, Turn};
use super::port;
use super::qp::host::SendHost;
use super::qp::{Engine, Qp, State, datagram, error, receive, transmit};
use super::table::Table;
use super::timer::TimerKey;

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

/// How long a deadline waits that comes while bus mastering is off.
const POSTPONED: Duration = Duration::from_millis(100);

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

    fn run_commands(&mut self, mask: u32) {
        if !self.core.bus_master || self.bar.faults.dead() {
            return;
        }
        // The page slot comes last in the mask and must not wait: each slot is on its own anyway.
        for slot in (0..SLOTS).filter(|slot| mask >> slot & 1 == 1) {
            self.run_command(slot);
        }
    }

    fn run_command(&mut self, slot: u8) {
        let Some(queue) = self.queue else { return };
        let mut input = std::mem::take(&mut self.command_input);
        let had_events = self.core.eqs.subscriber(EventType::Command).is_some();
        let mut answered = true;
        match queue.fetch(&self.core.mem, slot, &mut input) {
            Ok(request) if self.faults.is_some() => {
                answered = fault::execute(self, queue, &request, &input);
            }
            Ok(request) => {
                let output = self.perform(&request, &input);
                self.answer(queue, &request, &output, None);
                self.keep_output(output);
            }
            Err(FetchError::Malformed { slot, status }) => {
                warn!(target: "mlx5::cmd", "{}: command slot {slot}: {status:?}", self.core.config.name);
                if let Err(error) = queue.reject(&self.core.mem, slot, status) {
                    warn!(target: "mlx5::cmd", "command slot {slot}: {error}");
                }
            }
            Err(error @ FetchError::Unreachable { .. }) => {
                self.command_input = input;
                warn!(
                    target: "mlx5::cmd",
                    "{}: {error}: is the guest's memory shared with this process \
                     (memory-backend-memfd,share=on)?",
                    self.core.config.name
                );
                return;
            }
            Err(error @ FetchError::NotOwned(_)) => {
                self.command_input = input;
                debug!(target: "mlx5::cmd", "{}: {error}", self.core.config.name);
                return;
            }
        }
        self.command_input = input;
        // The command that makes or removes the command EQ is polled for.
        if answered && had_events && self.core.eqs.subscriber(EventType::Command).is_some() {
            self.core.event(Eqe::command(1 << slot));
        }
    }

    /// Executes a command; what it has to say.
    pub(super) fn perform(&mut self, request: &Request, input: &[u8]) -> Vec<u8> {
        let mut output = std::mem::take(&mut self.command_output);
        output.clear();
        output.resize(16, 0);
        let result = cmd::execute(self, request.opcode, request.op_mod, input, &mut output);
        if let Err(error) = result {
            output.clear();
            output.resize(16, 0);
            output[0] = error.status.code();
            output[4..8].copy_from_slice(&error.syndrome.to_be_bytes());
        }
        let name = &self.core.config.name;
        debug!(target: "mlx5::cmd", "{name}: {}", Line { input, output: Some(&output) });
        trace!(target: "mlx5::cmd", "{name}: in {} out {}", Hex(input), Hex(&output));
        if let Err(error) = result {
            debug!(target: "mlx5::cmd", "{name}: {error}");
        }
        if let Some(queue) = &mut self.queue {
            queue.set_checksum(self.core.hca.caps.general().cmdif_checksum() != 0);
        }
        if self.core.cqs.faults.is_some() && fault::changes_queue_pairs(request.opcode) {
            fault::note_queue_pairs(self);
        }
        output
    }

    /// Hands a command back, with what it has to say.
    pub(super) fn answer(
        &mut self,
        queue: CommandQueue,
        request: &Request,
        output: &[u8],
        wrong: Option<&Wrong>,
    ) {
        let mem = &self.core.mem;
        let done = match wrong {
            None => queue.complete(mem, request, output),
            Some(wrong) => queue.complete_wrongly(mem, request, output, wrong),
        };
        if let Err(error) = done {
            warn!(target: "mlx5::cmd", "command slot {}: {error}", request.slot);
        }
    }

    /// Keeps a buffer for the next command's output.
    pub(super) fn keep_output(&mut self, mut output: Vec<u8>) {
        output.shrink_to(KEPT_OUTPUT);
        self.command_output = output;
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

    fn frame(&mut self, frame: &NicFrame) {
        if !self.core.bus_master || !self.core.port.link_up() {
            return;
        }
        let mut roce = RoceFrame::empty();
        if self.core.vport.roce_en
            && frame.parse_roce_to(&mut roce).is_ok()
            && self.core.is_for_roce(&roce)
        {
            if !frame.icrc_is_good(&roce.layout) {
                debug!(target: "roce::receive", "{}: wrong ICRC: {:?}", self.core.config.name, roce.packet);
                self.core.icrc_errors += 1;
                return;
            }
            let len = frame.len_on_wire();
            self.core.count_roce_receive(&roce.address, len);
            self.deliver(&roce, frame);
            return;
        }
        eth::receive(&mut self.core, frame);
    }

    /// A frame of this NIC for itself.
    fn roce(&mut self, frame: &NicFrame) {
        let mut roce = RoceFrame::empty();
        if frame.parse_roce_to(&mut roce).is_ok() {
            let mac = roce.address.dst_mac;
            let counters = &mut self.core.vport_counters;
            counters.received_ib(mac).count(frame.len_on_wire());
            self.deliver(&roce, frame);
        }
    }

    fn deliver(&mut self, roce: &RoceFrame, frame: &NicFrame) {
        match roce.packet.dest_qp {
            datagram::MULTICAST_QPN => self.deliver_multicast(roce, frame),
            datagram::GSI_QPN => {
                if let Some(qpn) = self.gsi {
                    self.deliver_to(qpn, roce, frame);
                }
            }
            qpn => self.deliver_to(qpn, roce, frame),
        }
    }

    fn deliver_multicast(&mut self, roce: &RoceFrame, frame: &NicFrame) {
        let gid = roce.address.l3.dst_gid().0;
        let own = self.core.is_own_mac(roce.address.src_mac);
        let count = self.core.roce.multicast.get(&gid).map_or(0, Vec::len);
        for index in 0..count {
            let member = self
                .core
                .roce
                .multicast
                .get(&gid)
                .and_then(|qpns| qpns.get(index));
            let Some(&qpn) = member else { return };
            let sender = own
                && roce.packet.deth.is_some_and(|deth| deth.src_qp == qpn)
                && self.qps.get(qpn).is_some_and(|qp| qp.attr.block_lb_mc);
            if !sender {
                self.deliver_to(qpn, roce, frame);
            }
        }
    }

    fn deliver_to(&mut self, qpn: u32, roce: &RoceFrame, frame: &NicFrame) {
        let Some(qp) = self.qps.get_mut(qpn) else {
            trace!(target: "roce::receive", "{}: no QP {qpn:#x}", self.core.config.name);
            return;
        };
        receive::packet(qp, &mut self.core, roce, frame);
        arm_timer(qp, &mut self.core);
        self.schedule(qpn);
    }

    fn run_timers(&mut self, now: Time) {
        while let Some(key) = self.core.timers.expired(now) {
            if key != TimerKey::Reset && !self.core.bus_master {
                // What it would do needs memory: later, if at all.
                self.core.timers.arm(now + POSTPONED, key);
                continue;
            }
            match key {
                TimerKey::Qp(qpn) => self.queue_pair_timeout(qpn),
                TimerKey::Cq(cqn) => {
                    let core = &mut self.core;
                    core.cqs
                        .timeout(&core.mem, &mut core.eqs, &mut core.timers, now, cqn);
                }
                TimerKey::Lro => eth::lro::timeout(&mut self.core),
                TimerKey::Reset => {
                    if self.bar.nic_interface() == nic_interface::SW_RESET {
                        self.bar.health_syndrome = 0;
                        self.bar.set_nic_interface(nic_interface::DISABLED);
                        fault::after_reset(self, false);
                    }
                }
            }
        }
        if self.faults.is_some() {
            fault::run(self, now);
        }
    }

    fn queue_pair_timeout(&mut self, qpn: u32) {
        let Some(qp) = self.qps.get_mut(qpn) else {
            return;
        };
        // An entry older than the QP's own deadline is left over.
        if qp.timer.is_none_or(|due| due > self.core.now) {
            return;
        }
        qp.timer = None;
        if qp.state == State::Err {
            error::flush(qp, &mut self.core);
            return;
        }
        let now = self.core.now;
        let Qp {
            attr, send, engine, ..
        } = &mut *qp;
        if let Engine::Reliable { requester, .. } = engine
            && requester.next_timeout().is_some_and(|due| due <= now)
        {
            let core = &mut self.core;
            let mut host = SendHost {
                core,
                attr,
                send,
                incoming: None,
                failed: false,
                overrun: false,
            };
            requester.handle_timeout(now, &mut host);
            let (failed, overrun) = (host.failed, host.overrun);
            transmit::after_send(qp, &mut self.core, failed, overrun);
        }
        arm_timer(qp, &mut self.core);
        self.schedule(qpn);
    }
}

/// Output buffer kept from one command to the next.
const KEPT_OUTPUT: usize = 1 << 16;

/// Sees to it that the NIC's timers hold the QP's deadline, or an earlier one.
fn arm_timer(qp: &mut Qp, core: &mut Core) {
    let Engine::Reliable { requester, .. } = &qp.engine else {
        return;
    };
    if let Some(due) = requester.next_timeout()
        && qp.timer.is_none_or(|armed| armed > due)
    {
        let key = TimerKey::Qp(qp.attr.qpn);
        if let Some(old) = qp.timer.replace(due) {
            core.timers.disarm(old, key);
        }
        core.timers.arm(due, key);
    }
}
