//! Event queues as recorded CREATE_EQ make them, and what is in them.

use std::sync::atomic::Ordering;

use rocinante_firmware_cmd::mlx5::eq::CreateEqIn;
use rocinante_firmware_cmd::mlx5::hca::ManagePagesIn;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_harness::driver::Function;
use rocinante_harness::driver::command::{PAGE_SLOT, input};

use super::numbers::Object;
use super::rings::Buffer;
use super::{GIVE, PAGE, Session};
use crate::vectors::Record;

const ENTRY: u64 = 64;

/// UAR offset of the doorbell that tells the consumer index and arms.
const ARM: u64 = 0x40;

/// Event types.
mod kind {
    pub const COMPLETION: u8 = 0x00;
    pub const PORT_CHANGE: u8 = 0x09;
    pub const COMMAND: u8 = 0x0a;
    pub const PAGE_REQUEST: u8 = 0x0b;
}

/// Something that an event queue reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Completion on an armed CQ, by the number given now.
    Completion(u32),
    /// The port went up or down.
    Port {
        /// Up.
        up: bool,
    },
    /// Any other type.
    Other(u8),
}

/// An event queue.
pub(super) struct EventQueue {
    buffer: Buffer,
    log_size: u8,
    vector: u16,
    eqn: u32,
    /// Offset of its UAR page in the BAR.
    uar: u64,
    events: u64,
    consumer: u32,
}

impl Session {
    /// Before CREATE_EQ: entries belong to the device.
    pub(super) fn prepare_eq(&self, recorded: &[u8]) {
        let view = CreateEqIn::new(recorded);
        let buffer = Buffer::new(view.pas().iter(), 0);
        for index in 0..1u64 << view.eqc().log_eq_size() {
            self.write(buffer.at(index * ENTRY + 63), &[1]);
        }
    }

    /// After CREATE_EQ: arms it.
    pub(super) fn made_eq(&mut self, record: &Record) -> Result<(), String> {
        let view = CreateEqIn::new(&record.input[..]);
        let eqc = view.eqc();
        let mask = view.event_bitmask();
        let mut events = [0; 8];
        events.copy_from_slice(&mask[..8]);
        let recorded = u32::from(record.output[11]);
        let eq = EventQueue {
            buffer: Buffer::new(view.pas().iter(), 0),
            log_size: eqc.log_eq_size(),
            vector: eqc.intr(),
            eqn: self.numbers.get(Object::Eq, recorded)?,
            uar: u64::from(self.numbers.get(Object::Uar, eqc.uar_page())?) * PAGE,
            events: u64::from_be_bytes(events),
            consumer: 0,
        };
        self.ring_eq(&eq)?;
        self.eqs.insert(recorded, eq);
        Ok(())
    }

    fn ring_eq(&mut self, eq: &EventQueue) -> Result<(), String> {
        let word = eq.eqn << 24 | eq.consumer & 0xff_ffff;
        let stored = self.function.store(eq.uar + ARM, &word.to_be_bytes());
        stored.map_err(|error| error.to_string())
    }

    /// The queue that command completions go to.
    pub(super) fn command_eq(&self) -> Option<u32> {
        let of_commands = |(_, eq): &(&u32, &EventQueue)| eq.events >> kind::COMMAND & 1 == 1;
        self.eqs.iter().find(of_commands).map(|(eqn, _)| *eqn)
    }

    /// Takes all entries of all queues; serves page requests. The command slots that completed.
    pub fn poll_events(&mut self) -> Result<u32, String> {
        let mut completed = 0;
        let mut requested = 0;
        let recorded: Vec<u32> = self.eqs.keys().copied().collect();
        let fired = self.take_interrupts();
        for recorded in recorded {
            let Some(mut eq) = self.eqs.remove(&recorded) else {
                continue;
            };
            let before = eq.consumer;
            while let Some(entry) = self.next_event(&mut eq)? {
                let word = |at: usize| {
                    u32::from_be_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
                };
                match entry[1] {
                    kind::COMMAND => completed |= word(0x20),
                    kind::PAGE_REQUEST => requested += word(0x24) as i32,
                    kind::COMPLETION => self.events.push(Event::Completion(word(0x38) & 0xff_ffff)),
                    kind::PORT_CHANGE => self.events.push(Event::Port { up: entry[3] == 4 }),
                    other => self.events.push(Event::Other(other)),
                }
            }
            let taken = eq.consumer != before;
            if taken {
                if !fired.contains(&eq.vector) {
                    return Err(format!("events, but no interrupt {}", eq.vector));
                }
                self.ring_eq(&eq)?;
            }
            self.eqs.insert(recorded, eq);
        }
        if let Some(count) = usize::try_from(requested).ok().filter(|count| *count > 0) {
            self.wanted = count;
            let give = self.give_input(&input(Opcode::ManagePages, GIVE, ManagePagesIn::SIZE))?;
            self.execute(PAGE_SLOT, &give, 16)?;
        }
        Ok(completed)
    }

    fn next_event(&self, eq: &mut EventQueue) -> Result<Option<[u8; 64]>, String> {
        let index = u64::from(eq.consumer & ((1 << eq.log_size) - 1));
        let at = eq.buffer.at(index * ENTRY);
        let owner = self
            .memory()
            .load_u8(at + 63, Ordering::Acquire)
            .map_err(|error| error.to_string())?;
        if u32::from(owner & 1) != eq.consumer >> eq.log_size & 1 {
            return Ok(None);
        }
        eq.consumer = eq.consumer.wrapping_add(1);
        let mut entry = [0; 64];
        entry.copy_from_slice(&self.read(at, 64));
        Ok(Some(entry))
    }
}
