//! The driver's side of event queues: creation, consumption, arming.

use std::sync::atomic::Ordering;

use rocinante_firmware_cmd::mlx5::eq::{CreateEqIn, CreateEqOut};
use rocinante_firmware_cmd::mlx5::opcode::Opcode;

use super::command::input;
use super::error::Result;
use super::function::Function;
use super::memory::Buffer;
use super::{Bare, Driver, bar};

/// log2 of the entries.
const LOG_SIZE: u8 = 8;
const ENTRY: u64 = 64;

/// UAR offset of the doorbell that arms too, and of the one that does not.
const DOORBELL_ARM: u64 = 0x40;
const DOORBELL: u64 = 0x48;

/// Event types, EQE byte 1.
mod event {
    pub const COMPLETION: u8 = 0x00;
    pub const CQ_ERROR: u8 = 0x04;
    pub const PORT_CHANGE: u8 = 0x09;
    pub const PAGE_REQUEST: u8 = 0x0b;
    pub const SRQ_CATAS: u8 = 0x12;
    pub const SRQ_LIMIT: u8 = 0x14;
    /// Types about a QP: their number is at 0x38, the resource type at 0x34.
    pub const QUEUE: [u8; 8] = [0x01, 0x02, 0x03, 0x05, 0x07, 0x10, 0x11, 0x13];
}

/// Types that the asynchronous EQ takes: those of FreeBSD's, and page requests.
pub(super) const ASYNC_EVENTS: u64 = 0x1f_22be | 1 << event::PAGE_REQUEST;

/// Something that the device reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A completion on an armed CQ.
    Completion(u32),
    /// CQ number and syndrome (1 overrun, 2 access violation).
    CqError(u32, u8),
    /// Event type and QP number.
    Queue(u8, u32),
    /// The limit of an SRQ was reached.
    SrqLimit(u32),
    /// An SRQ has failed.
    SrqCatas(u32),
    /// The port went up or down.
    Port {
        /// Up.
        up: bool,
    },
    /// Event type of any other.
    Other(u8),
}

/// An event queue.
pub struct Eq {
    pub eqn: u32,
    pub buffer: Buffer,
    consumer: u32,
}

impl Eq {
    pub(super) fn create<F: Function>(
        bare: &mut Bare<'_, F>,
        uar: u32,
        vector: u16,
        events: u64,
    ) -> Result<Eq> {
        let buffer = bare.pages.zeroed(ENTRY << LOG_SIZE)?;
        for index in 0..1 << LOG_SIZE {
            // Entries belong to the device until their owner bit is 0.
            let at = buffer.iova + index * ENTRY + 63;
            bare.function.memory().store_u8(at, 1, Ordering::Relaxed)?;
        }
        let pas: Vec<u64> = buffer.pages().collect();
        let mut create = input(Opcode::CreateEq, 0, CreateEqIn::SIZE + 8 * pas.len());
        let mut view = CreateEqIn::new(&mut create);
        view.eqc_mut()
            .set_log_eq_size(LOG_SIZE)
            .set_uar_page(uar)
            .set_intr(vector);
        let mut mask = [0; 32];
        mask[..8].copy_from_slice(&events.to_be_bytes());
        view.set_event_bitmask(&mask);
        for (index, page) in pas.into_iter().enumerate() {
            view.pas_mut().set(index, page);
        }
        let output = bare.execute(&create, 16)?;
        Ok(Eq {
            eqn: CreateEqOut::new(&output).eq_number().into(),
            buffer,
            consumer: 0,
        })
    }

    /// The next entry.
    fn next<F: Function>(&mut self, function: &F) -> Result<Option<[u8; 64]>> {
        let index = u64::from(self.consumer & ((1 << LOG_SIZE) - 1));
        let at = self.buffer.iova + index * ENTRY;
        let owner = function.memory().load_u8(at + 63, Ordering::Acquire)? & 1;
        if u32::from(owner) != (self.consumer >> LOG_SIZE) & 1 {
            return Ok(None);
        }
        let mut entry = [0; 64];
        function.memory().read(at, &mut entry)?;
        self.consumer = self.consumer.wrapping_add(1);
        Ok(Some(entry))
    }

    fn ring<F: Function>(&self, function: &mut F, uar: u32, doorbell: u64) -> Result<()> {
        let word = self.eqn << 24 | (self.consumer & 0xff_ffff);
        let at = u64::from(uar) * bar::UAR_PAGE + doorbell;
        function.store(at, &word.to_be_bytes())
    }
}

/// Entries consumed before the device is told, so that a queue in use never fills.
const BATCH: usize = 64;

impl<F: Function> Driver<F> {
    /// Takes the entries of the asynchronous EQ, serves page requests, and arms it again.
    pub(super) fn poll_async_events(&mut self) -> Result<()> {
        let mut taken = 0;
        while let Some(entry) = self.async_eq.next(&self.function)? {
            taken += 1;
            if taken % BATCH == 0 {
                self.async_eq.ring(&mut self.function, self.uar, DOORBELL)?;
            }
            let word = |at: usize| {
                u32::from_be_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
            };
            let number = word(0x38) & 0xff_ffff;
            let event = match entry[1] {
                event::PAGE_REQUEST => {
                    self.give_requested(word(0x24) as i32)?;
                    continue;
                }
                event::CQ_ERROR => Event::CqError(word(0x20) & 0xff_ffff, entry[0x2b]),
                event::SRQ_LIMIT => Event::SrqLimit(number),
                event::SRQ_CATAS => Event::SrqCatas(number),
                event::PORT_CHANGE => Event::Port { up: entry[3] == 4 },
                kind if event::QUEUE.contains(&kind) => Event::Queue(kind, number),
                kind => Event::Other(kind),
            };
            self.events.push_back(event);
        }
        if taken > 0 {
            self.async_eq
                .ring(&mut self.function, self.uar, DOORBELL_ARM)?;
        }
        Ok(())
    }

    fn poll_completion_events(&mut self) -> Result<()> {
        let mut taken = 0;
        while let Some(entry) = self.completion_eq.next(&self.function)? {
            taken += 1;
            if taken % BATCH == 0 {
                self.completion_eq
                    .ring(&mut self.function, self.uar, DOORBELL)?;
            }
            let cqn = u32::from_be_bytes([entry[0x38], entry[0x39], entry[0x3a], entry[0x3b]]);
            self.events.push_back(if entry[1] == event::COMPLETION {
                Event::Completion(cqn & 0xff_ffff)
            } else {
                Event::Other(entry[1])
            });
        }
        if taken > 0 {
            self.completion_eq
                .ring(&mut self.function, self.uar, DOORBELL_ARM)?;
        }
        Ok(())
    }

    /// The next event, found without looking at interrupts.
    pub fn poll_event(&mut self) -> Result<Option<Event>> {
        if self.events.is_empty() {
            self.poll_async_events()?;
            self.poll_completion_events()?;
        }
        Ok(self.events.pop_front())
    }

    /// The next event, looked for only where an interrupt says there is one.
    pub fn interrupt_event(&mut self) -> Result<Option<Event>> {
        while let Some(vector) = self.function.interrupt() {
            match vector {
                super::vector::ASYNC => self.poll_async_events()?,
                _ => self.poll_completion_events()?,
            }
        }
        Ok(self.events.pop_front())
    }
}
