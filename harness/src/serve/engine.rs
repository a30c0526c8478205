//! The thread that owns a NIC: it takes what the vfio-user thread and the link bring, and carries
//! away what the NIC produces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::SyncSender;

use crossbeam_queue::ArrayQueue;
use rocinante_device::mlx5::leak::{Findings, Inventory};
use rocinante_device::mlx5::port::LinkSpeed;
use rocinante_device::mlx5::{GuestPayload, Input, Nic, NicConfig, NicFrame};
use rocinante_pci::Interrupts;
use rocinante_wire::cable::{Cable, CableEvent};
use rocinante_wire::switch::PortHandle;
use rocinante_wire::time::Time;
use serde_json::json;

use super::events::Events;
use super::wake::Doorbell;
use super::{Clock, NicSpec, notes};

/// A NIC's port on the switch.
pub type Port = PortHandle<GuestPayload>;

/// A NIC's port, and the cable that leads to it.
pub type Plug = (Port, Cable<GuestPayload>);

/// What the vfio-user thread asks of the engine.
pub enum Request {
    /// Something that happened; nobody waits.
    Input(Input),
    /// Something that happened; the sender waits until it has taken effect.
    Quiesce(Input, SyncSender<()>),
    /// A load from BAR0 of `len` bytes (at most 8).
    BarRead {
        /// Where.
        offset: u64,
        /// How much.
        len: usize,
        /// Takes the bytes.
        reply: SyncSender<[u8; 8]>,
    },
    /// The cable is plugged in or pulled; the sender waits until it is.
    Cable(bool, SyncSender<()>),
    /// What the driver left behind at its last goodbye.
    Findings(SyncSender<Option<Findings>>),
    /// What the NIC holds for its driver just now.
    Inventory(SyncSender<Inventory>),
    /// Back to power-on; the sender waits until it is.
    Reset(SyncSender<()>),
    /// Somebody wants to look at the NIC.
    Look(Look),
}

/// Looks at a NIC and tells whoever asked.
pub type Look = Box<dyn FnOnce(&Nic) + Send>;

/// Requests to one engine that may wait; a vCPU that is faster than its NIC is held up here.
const MAILBOX: usize = 1024;

/// Inputs handled before outputs are looked at, and the other way round.
const BATCH: usize = 128;

/// The way to an engine.
pub struct Mailbox {
    requests: ArrayQueue<Request>,
    doorbell: Arc<Doorbell>,
    stop: AtomicBool,
    /// No load may be answered without asking the NIC.
    faulty: AtomicBool,
    /// How often the NIC was pulled out and plugged in.
    plugs: AtomicU32,
}

impl Mailbox {
    /// Empty.
    pub fn new(doorbell: Arc<Doorbell>) -> Mailbox {
        Mailbox {
            requests: ArrayQueue::new(MAILBOX),
            doorbell,
            stop: AtomicBool::new(false),
            faulty: AtomicBool::new(false),
            plugs: AtomicU32::new(0),
        }
    }

    /// Hands a request over; waits while the mailbox is full. False if the engine has ended.
    pub fn post(&self, mut request: Request) -> bool {
        while let Err(back) = self.requests.push(request) {
            if self.stopped() {
                return false;
            }
            request = back;
            self.doorbell.ring();
            std::thread::yield_now();
        }
        self.doorbell.ring();
        !self.stopped()
    }

    /// Ends the engine.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.doorbell.ring();
    }

    /// Whether only the NIC knows what loads read.
    pub fn faulty(&self) -> bool {
        self.faulty.load(Ordering::Relaxed)
    }

    /// How often the NIC was pulled out and plugged in: odd, it is out.
    pub fn plugs(&self) -> u32 {
        self.plugs.load(Ordering::Acquire)
    }

    /// Whether the engine has ended or is to.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// Tells the vfio-user thread, which then answers like a device that was pulled out.
struct StopOnDrop(Arc<Mailbox>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::error!(target: "mlx5", "a NIC has ended: this is a bug, please report it");
        }
        self.0.stop();
    }
}

/// The speed of a link that can do `megabits` a second.
fn at_most(megabits: u32) -> LinkSpeed {
    let mut speeds = LinkSpeed::ALL.into_iter().rev();
    let fits = speeds.find(|speed| u32::from(*speed as u16) * 100 <= megabits);
    fits.unwrap_or(LinkSpeed::G1)
}

/// A NIC with its surroundings.
pub struct Engine {
    nic: Nic,
    port: Port,
    cable: Cable<GuestPayload>,
    /// Of the far end, where no rule says otherwise.
    speed: LinkSpeed,
    mailbox: Arc<Mailbox>,
    interrupts: Arc<Interrupts>,
    clock: Clock,
    events: Events,
    /// The health syndrome that was told last.
    health: u8,
    /// A frame that the port it is for has no room for.
    held: Option<NicFrame>,
    /// A fault has pulled the NIC out.
    gone: bool,
}

impl Engine {
    /// A NIC at power-on as `spec` wants it, its link up.
    pub fn new(
        config: NicConfig,
        spec: &NicSpec,
        (port, cable): Plug,
        mailbox: Arc<Mailbox>,
        interrupts: Arc<Interrupts>,
        clock: Clock,
        events: Events,
    ) -> Engine {
        let mut nic = Nic::new(config);
        nic.handle(clock.now(), Input::FarEnd(spec.speed));
        nic.handle(clock.now(), Input::Link(true));
        Engine {
            nic,
            port,
            cable,
            speed: spec.speed,
            mailbox,
            interrupts,
            clock,
            events,
            health: 0,
            held: None,
            gone: false,
        }
    }

    /// Works until the mailbox is stopped.
    pub fn run(mut self) {
        // However it ends, nobody may wait for it.
        let _gone = StopOnDrop(Arc::clone(&self.mailbox));
        self.mailbox.doorbell.attach();
        while !self.mailbox.stopped() {
            let busy = self.take_requests() | self.take_frames() | self.give();
            if !busy {
                self.rest();
            }
        }
    }

    fn take_requests(&mut self) -> bool {
        for taken in 0..BATCH {
            let Some(request) = self.mailbox.requests.pop() else {
                return taken > 0;
            };
            let now = self.clock.now();
            match request {
                Request::Input(input) => self.nic.handle(now, input),
                Request::Quiesce(input, done) => {
                    if let Input::FarEnd(speed) = input {
                        self.speed = speed;
                        self.tell_speed(speed);
                    }
                    self.nic.handle(now, input);
                    let faulty = self.nic.has_faults();
                    self.mailbox.faulty.store(faulty, Ordering::Relaxed);
                    self.see_whether_gone(now);
                    // Who asked may have gone.
                    let _ = done.try_send(());
                }
                Request::BarRead { offset, len, reply } => {
                    let mut bytes = [0; 8];
                    let n = len.min(bytes.len());
                    self.nic.bar_read(now, offset, &mut bytes[..n]);
                    let _ = reply.try_send(bytes);
                }
                Request::Cable(plugged, done) => {
                    self.cable.set_plugged(now, plugged);
                    self.take_events(now);
                    let _ = done.try_send(());
                }
                Request::Inventory(reply) => {
                    let _ = reply.try_send(Inventory::of(&self.nic));
                }
                Request::Reset(done) => {
                    // The PCI function knows nothing of this, so bus mastering stays.
                    let bus_master = self.nic.core.bus_master;
                    self.nic.handle(now, Input::Reset);
                    self.nic.handle(now, Input::BusMaster(bus_master));
                    self.see_whether_gone(now);
                    let _ = done.try_send(());
                }
                Request::Look(look) => look(&self.nic),
                Request::Findings(reply) => {
                    let _ = reply.try_send(self.nic.core.hca.findings.clone());
                }
            }
        }
        true
    }

    fn tell_speed(&self, speed: LinkSpeed) {
        let port = self.port.name();
        self.events.tell(
            "LINK_SPEED",
            || json!({ "port": port, "speed": speed.to_string() }),
        );
    }

    /// Passes on what the NIC noted.
    fn tell_notes(&mut self) {
        let wanted = self.events.wanted();
        self.nic.core.notes.wanted = wanted;
        if !wanted {
            return;
        }
        while let Some(note) = self.nic.core.notes.poll() {
            notes::tell(&self.events, self.port.name(), &note);
        }
        let syndrome = self.nic.health_syndrome();
        if syndrome != self.health {
            self.health = syndrome;
            let nic = self.port.name();
            self.events
                .tell("NIC_HEALTH", || json!({ "nic": nic, "syndrome": syndrome }));
        }
    }

    /// A fault may have pulled the NIC out, or have let it come back. The far end of its cable has no carrier meanwhile.
    fn see_whether_gone(&mut self, now: Time) {
        let gone = self.nic.is_gone();
        if gone != self.gone {
            self.gone = gone;
            self.mailbox.plugs.fetch_add(1, Ordering::Release);
            self.cable.set_present(now, !gone);
            self.take_events(now);
            if !gone {
                // What has happened to the cable in between.
                let carrier = self.cable.carrier();
                self.nic.handle(now, Input::Link(carrier));
            }
        }
    }

    /// What has happened to the cable.
    fn take_events(&mut self, now: Time) {
        while let Some(event) = self.cable.poll_event(now) {
            match event {
                CableEvent::Carrier(up) => {
                    self.port.set_link(up);
                    if !self.gone {
                        self.nic.handle(now, Input::Link(up));
                    }
                    notes::tell_carrier(&self.events, self.port.name(), up);
                }
                CableEvent::Speed(speed) => {
                    let speed = speed.map_or(self.speed, at_most);
                    self.tell_speed(speed);
                    self.nic.handle(now, Input::FarEnd(speed));
                }
                CableEvent::FcsErrors(count) => self.nic.handle(now, Input::FcsErrors(count)),
            }
        }
    }

    fn take_frames(&mut self) -> bool {
        let now = self.clock.now();
        self.take_events(now);
        let mut taken = 0;
        while taken < BATCH && self.take_one(now) {
            taken += 1;
        }
        taken > 0
    }

    /// Hands the next frame to the NIC; false if there is none.
    #[inline]
    fn take_one(&mut self, now: Time) -> bool {
        if !self.cable.is_quiet() {
            return self.take_through_cable(now);
        }
        // Frames are large: none is moved that need not be.
        let Some(frame) = &self.port.recv() else {
            return false;
        };
        self.nic.receive(now, frame);
        true
    }

    /// [`take_one`](Self::take_one) where the cable may do something to frames.
    #[cold]
    fn take_through_cable(&mut self, now: Time) -> bool {
        let frame = match self.cable.poll_receive(now) {
            Some(frame) => Some(frame),
            None => match self.port.recv() {
                Some(frame) => self.cable.receive(now, frame, &self.nic),
                None => return false,
            },
        };
        if let Some(frame) = frame {
            self.nic.receive(now, &frame);
        }
        true
    }

    fn give(&mut self) -> bool {
        let now = self.clock.now();
        // Deadlines do not wait until there is nothing else to do.
        self.nic.handle(now, Input::Tick);
        self.see_whether_gone(now);
        let mut given = 0;
        while given < BATCH && self.give_one(now) {
            given += 1;
        }
        self.tell_notes();
        while let Some(vector) = self.nic.poll_interrupt() {
            self.interrupts.fire(vector);
        }
        given > 0
    }

    /// Sends the next frame of the NIC; false if there is none, or none can go.
    #[inline]
    fn give_one(&mut self, now: Time) -> bool {
        if self.held.is_some() || !self.cable.is_quiet() {
            return self.give_through_cable(now);
        }
        match self.nic.poll_transmit(now) {
            Some(frame) => self.send(frame),
            None => false,
        }
    }

    /// [`give_one`](Self::give_one) where a frame has waited, or the cable may do something to frames.
    #[cold]
    fn give_through_cable(&mut self, now: Time) -> bool {
        let mut frame = self.held.take().or_else(|| self.cable.poll_transmit(now));
        if frame.is_none() {
            let Some(made) = self.nic.poll_transmit(now) else {
                return false;
            };
            // One that is lost or late was work all the same.
            frame = self.cable.transmit(now, made, &self.nic);
        }
        frame.is_none_or(|frame| self.send(frame))
    }

    /// Sends a frame to the switch. A full port holds its senders up, as pause frames do: dropping would cost a
    /// retransmission of all that follows. False if this one has to wait.
    #[inline]
    fn send(&mut self, frame: NicFrame) -> bool {
        if self.port.is_held_up(&frame) {
            self.held = Some(frame);
            return false;
        }
        self.port.send(frame);
        true
    }

    fn rest(&mut self) {
        let now = self.clock.now();
        if self.held.is_some() {
            // The port's receiver is busy; nobody says when it has made room.
            std::thread::yield_now();
            return;
        }
        let timeouts = [self.nic.poll_timeout(), self.cable.poll_timeout()];
        let due = timeouts.into_iter().flatten().min();
        if due.is_none_or(|due| due > now) {
            let timeout = due.map(|due| due.since(now));
            let (mailbox, port, cable) = (&self.mailbox, &self.port, &self.cable);
            mailbox.doorbell.sleep(timeout, || {
                !mailbox.requests.is_empty()
                    || port.pending() > 0
                    || cable.is_stale()
                    || mailbox.stopped()
            });
        }
    }
}
