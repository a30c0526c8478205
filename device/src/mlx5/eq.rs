//! Event queues: the entry, its production, arming and the interrupt.
//! Source: reference of the interface, "Event queue"; Linux `mlx5_core/eq.c`,
//! FreeBSD `mlx5_core/mlx5_eq.c`.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use log::{debug, warn};
use rocinante_dma::MemoryMap;
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::buffer::QueueBuffer;
use super::fault::EventFaults;
use super::table::Table;

/// Event types, EQE byte 1 (`mlx5_event`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)] // the names are the interface's
pub enum EventType {
    Completion = 0x00,
    PathMigrated = 0x01,
    CommunicationEstablished = 0x02,
    SqDrained = 0x03,
    CqError = 0x04,
    WqCatastrophic = 0x05,
    InternalError = 0x08,
    PortChange = 0x09,
    Command = 0x0a,
    PageRequest = 0x0b,
    NicVportChange = 0x0d,
    WqInvalidRequest = 0x10,
    WqAccessError = 0x11,
    SrqCatastrophic = 0x12,
    SrqLastWqe = 0x13,
    SrqLimit = 0x14,
    PortModule = 0x16,
    TemperatureWarning = 0x17,
}

/// Event queue entry, 64 bytes (`struct mlx5_eqe`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Eqe {
    reserved0: u8,
    event_type: u8,
    reserved1: u8,
    sub_type: u8,
    reserved2: [u8; 28],
    /// Event data, offsets 0x20..0x3c of the entry.
    data: [u8; 28],
    reserved3: U16,
    signature: u8,
    owner: u8,
}

impl Eqe {
    /// An entry without data.
    pub fn new(event_type: EventType, sub_type: u8) -> Eqe {
        Eqe::of_type(event_type as u8, sub_type)
    }

    /// An entry without data of any type.
    pub fn of_type(event_type: u8, sub_type: u8) -> Eqe {
        Eqe {
            reserved0: 0,
            event_type,
            reserved1: 0,
            sub_type,
            reserved2: [0; 28],
            data: [0; 28],
            reserved3: U16::ZERO,
            signature: 0,
            owner: 0,
        }
    }

    /// Its type.
    pub fn event_type(&self) -> u8 {
        self.event_type
    }

    /// Its sub-type.
    pub fn sub_type(&self) -> u8 {
        self.sub_type
    }

    /// Puts a big-endian word at byte `offset` of the entry, which lies in the data (0x20..0x3c).
    #[must_use]
    pub fn with_word(mut self, offset: usize, value: u32) -> Eqe {
        let at = offset - 0x20;
        self.data[at..at + 4].copy_from_slice(U32::new(value).as_bytes());
        self
    }

    /// A completion event: the CQ number at 0x38.
    pub fn completion(cqn: u32) -> Eqe {
        Eqe::new(EventType::Completion, 0).with_word(0x38, cqn)
    }

    /// CQ error: number at 0x20, syndrome byte 0x2b (1 overrun, 2 access violation).
    pub fn cq_error(cqn: u32, syndrome: u8) -> Eqe {
        Eqe::new(EventType::CqError, 0)
            .with_word(0x20, cqn)
            .with_word(0x28, u32::from(syndrome))
    }

    /// Commands completed: bit per slot at 0x20.
    pub fn command(vector: u32) -> Eqe {
        Eqe::new(EventType::Command, 0).with_word(0x20, vector)
    }

    /// Page request for function 0: `pages` wanted, or offered back if negative, at 0x24.
    pub fn page_request(pages: i32) -> Eqe {
        Eqe::new(EventType::PageRequest, 0).with_word(0x24, pages as u32)
    }

    /// Port 1 went up (sub-type 4) or down (1); the port is in the high nibble of byte 0x28.
    pub fn port_change(up: bool) -> Eqe {
        Eqe::new(EventType::PortChange, if up { 4 } else { 1 }).with_word(0x28, 1 << 28)
    }

    /// The context of vport 0 changed: its number at 0x22.
    pub fn vport_change() -> Eqe {
        Eqe::new(EventType::NicVportChange, 0)
    }

    /// Module 0 is plugged and enabled.
    pub fn module_plugged() -> Eqe {
        Eqe::module(1, 0)
    }

    /// Module 0 says this: module in byte 0x21, status in byte 0x23, error type in byte 0x26.
    pub fn module(status: u8, error: u8) -> Eqe {
        Eqe::new(EventType::PortModule, 0)
            .with_word(0x20, u32::from(status))
            .with_word(0x24, u32::from(error) << 8)
    }

    /// Event of a QP, SQ or RQ: resource type in byte 0x34 (0 QP, 1 RQ, 2 SQ), number at 0x38.
    pub fn queue(event_type: EventType, resource: u8, number: u32) -> Eqe {
        Eqe::new(event_type, 0)
            .with_word(0x34, u32::from(resource) << 24)
            .with_word(0x38, number)
    }

    /// Event of an SRQ, RMP or XRC SRQ: number at 0x38.
    pub fn srq(event_type: EventType, number: u32) -> Eqe {
        Eqe::new(event_type, 0).with_word(0x38, number)
    }
}

/// An event queue (`eqc` in use).
pub struct Eq {
    /// Entries.
    pub buffer: QueueBuffer,
    /// log2 of the number of entries.
    pub log_size: u8,
    /// MSI-X vector.
    pub vector: u16,
    /// Event types this queue takes, bit n of word n/64.
    pub event_mask: [u64; 4],
    /// The context as the driver gave it, for QUERY_EQ.
    pub context: [u8; 64],
    producer: u32,
    consumer: u32,
    armed: bool,
    /// Events that wait because the queue is full; the queue never overwrites.
    pending: VecDeque<Eqe>,
    overrun: bool,
}

/// Events held back for one full EQ before it counts as overrun. Drivers keep 128 spare entries
/// and move their index at least that often, so this is not reached by a living driver.
const MAX_PENDING: usize = 4096;

impl Eq {
    /// A new queue; EQs are created armed.
    pub fn new(
        buffer: QueueBuffer,
        log_size: u8,
        vector: u16,
        event_mask: [u64; 4],
        context: [u8; 64],
    ) -> Eq {
        Eq {
            buffer,
            log_size,
            vector,
            event_mask,
            context,
            producer: 0,
            consumer: 0,
            armed: true,
            pending: VecDeque::new(),
            overrun: false,
        }
    }

    /// Producer index, 24 bits.
    pub fn producer(&self) -> u32 {
        self.producer & 0xff_ffff
    }

    /// Consumer index as last rung, 24 bits.
    pub fn consumer(&self) -> u32 {
        self.consumer & 0xff_ffff
    }

    /// Events that wait for room.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Whether an interrupt is due at the next event.
    pub fn armed(&self) -> bool {
        self.armed
    }

    fn outstanding(&self) -> u32 {
        self.producer.wrapping_sub(self.consumer) & 0xff_ffff
    }

    fn full(&self) -> bool {
        self.outstanding() >= 1 << self.log_size
    }

    fn write(&mut self, mem: &MemoryMap, mut eqe: Eqe) {
        let index = self.producer & ((1 << self.log_size) - 1);
        eqe.owner = ((self.producer >> self.log_size) & 1) as u8;
        let at = u64::from(index) * 64;
        // The owner bit is the entry's last byte and must become visible last.
        let written = self
            .buffer
            .write(mem, at, &eqe.as_bytes()[..63])
            .and_then(|()| {
                let (address, _) = self.buffer.address(at + 63).unwrap_or((u64::MAX, 0));
                mem.store_u8(address, eqe.owner, Ordering::Release)
            });
        if let Err(error) = written {
            warn!(target: "mlx5::eq", "event {:#x} not written: {error}", eqe.event_type);
        }
        self.producer = self.producer.wrapping_add(1);
    }
}

/// All event queues and the interrupts they raise.
#[derive(Default)]
pub struct Eqs {
    /// By EQ number.
    pub table: Table<Eq>,
    /// MSI-X vectors to fire, in order; drained by the engine.
    pub interrupts: VecDeque<u16>,
    /// An EQ ran over: goes to the health buffer (syndrome 0x0c).
    pub overrun: bool,
    /// Set by force teardown: no event leaves any more.
    pub silenced: bool,
    /// What is to go wrong.
    pub(super) faults: Option<Box<EventFaults>>,
}

impl Eqs {
    /// Posts to the EQ with this number; no such EQ drops the event.
    pub fn post(&mut self, mem: &MemoryMap, eqn: u32, eqe: Eqe) {
        if let Some(faults) = &mut self.faults
            && !self.silenced
            && self.table.contains(eqn)
            && !faults.event(eqn, &eqe)
        {
            return;
        }
        self.deliver(mem, eqn, eqe);
    }

    /// As [`post`](Self::post), and nothing goes wrong.
    pub(super) fn deliver(&mut self, mem: &MemoryMap, eqn: u32, eqe: Eqe) {
        if self.silenced {
            return;
        }
        let Some(eq) = self.table.get_mut(eqn) else {
            debug!(target: "mlx5::eq", "no EQ {eqn} for event {:#x}", eqe.event_type);
            return;
        };
        if eq.full() || !eq.pending.is_empty() {
            if eq.pending.len() < MAX_PENDING {
                eq.pending.push_back(eqe);
            } else if !eq.overrun {
                eq.overrun = true;
                self.overrun = true;
                warn!(target: "mlx5::eq", "EQ {eqn} overrun: the driver does not consume events");
            }
            return;
        }
        eq.write(mem, eqe);
        self.fire(eqn);
    }

    /// Posts to the EQ that subscribed to this type; nobody subscribed drops the event.
    /// The latest subscriber wins.
    pub fn post_async(&mut self, mem: &MemoryMap, eqe: Eqe) {
        if let Some(eqn) = self.subscriber_of(eqe.event_type) {
            self.post(mem, eqn, eqe);
        }
    }

    /// The EQ that takes events of this type.
    pub fn subscriber(&self, event_type: EventType) -> Option<u32> {
        self.subscriber_of(event_type as u8)
    }

    fn subscriber_of(&self, event_type: u8) -> Option<u32> {
        let (word, bit) = (usize::from(event_type >> 6), event_type & 63);
        let takes = |eq: &Eq| eq.event_mask[word] >> bit & 1 == 1;
        self.table
            .iter()
            .filter(|(_, eq)| takes(eq))
            .map(|(eqn, _)| eqn)
            .last()
    }

    /// EQ doorbell: consumer index, and arming if the driver rang the arming register.
    pub fn doorbell(&mut self, mem: &MemoryMap, eqn: u32, consumer: u32, arm: bool) {
        let Some(eq) = self.table.get_mut(eqn) else {
            return;
        };
        let advance = consumer.wrapping_sub(eq.consumer) & 0xff_ffff;
        // An index beyond the producer would be a driver's mistake; believing it would let
        // entries be overwritten.
        if advance <= eq.outstanding() {
            eq.consumer = consumer & 0xff_ffff;
        } else {
            debug!(target: "mlx5::eq", "EQ {eqn}: consumer index {consumer:#x} beyond the producer");
        }
        eq.armed |= arm;
        while !eq.full() {
            let Some(eqe) = eq.pending.pop_front() else {
                break;
            };
            eq.write(mem, eqe);
        }
        self.fire(eqn);
    }

    fn fire(&mut self, eqn: u32) {
        if let Some(eq) = self.table.get_mut(eqn)
            && eq.armed
            && eq.outstanding() != 0
        {
            eq.armed = false;
            let vector = eq.vector;
            let faults = self.faults.as_mut();
            if faults.is_none_or(|faults| faults.interrupt(vector)) {
                self.interrupts.push_back(vector);
            }
        }
    }
}
