//! Completion queues: production, overrun, arming, moderation and resize.
//! Source: reference of the interface, "Completion queue context"; Linux `mlx5_ib/cq.c`,
//! `mlx5_core/cq.c`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use log::{debug, warn};
use rocinante_dma::MemoryMap;
use rocinante_wire::time::Time;
use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::U64;

use super::buffer::QueueBuffer;
use super::cqe::{Cqe, CqeOpcode};
use super::eq::{Eqe, Eqs};
use super::fault::{CompletionFaults, Verdict};
use super::table::Table;
use super::timer::{TimerKey, Timers};

/// What the consumer asked to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    /// Nothing: fired, or never armed.
    No,
    /// The next completion.
    Next,
    /// The next solicited or failed completion.
    Solicited,
}

/// Interrupt moderation of a CQ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moderation {
    /// `cq_period` in microseconds; 0 means at once.
    pub period_us: u16,
    /// `cq_max_count`; 0 means no count.
    pub max_count: u16,
    /// `cq_period_mode` 1: the period starts anew with each CQE, else with the first.
    pub restart_on_cqe: bool,
}

/// A completion queue (`cqc` in use).
pub struct Cq {
    /// EQ that takes its completion events.
    pub eqn: u32,
    /// The context as last written by the driver, for QUERY_CQ.
    pub context: [u8; 64],
    /// No overrun check (`oi`).
    pub overrun_ignore: bool,
    /// Moderation in force.
    pub moderation: Moderation,
    ring: CqRing,
    /// Doorbell record: consumer index word, arm word.
    doorbell_record: u64,
    producer: u32,
    /// Consumer index as last read from the record: saves reading it for each CQE.
    consumer_seen: u32,
    arm: Arm,
    /// Producer index behind the last completion that was solicited or failed.
    solicited: u32,
    /// Completions since the last event that the arming asks for.
    unreported: u32,
    overrun: bool,
    timer: Option<Time>,
}

/// Where the entries are.
pub struct CqRing {
    /// Entries.
    pub buffer: QueueBuffer,
    /// log2 of the number of entries.
    pub log_size: u8,
    /// Bytes from one entry to the next, 64 or 128; the CQE64 is in the upper half of the latter.
    pub stride: u8,
}

/// The CQ is full: its owner gets a CQ error, the QPs on it go to error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CqOverrun;

impl Cq {
    /// A new, unarmed queue.
    pub fn new(
        eqn: u32,
        ring: CqRing,
        doorbell_record: u64,
        overrun_ignore: bool,
        moderation: Moderation,
        context: [u8; 64],
    ) -> Cq {
        Cq {
            eqn,
            context,
            overrun_ignore,
            moderation,
            ring,
            doorbell_record,
            producer: 0,
            consumer_seen: 0,
            arm: Arm::No,
            solicited: 0,
            unreported: 0,
            overrun: false,
            timer: None,
        }
    }

    /// Producer index, 24 bits.
    pub fn producer(&self) -> u32 {
        self.producer & 0xff_ffff
    }

    /// `cqc.status`: 0 good, 9 overrun.
    pub fn status(&self) -> u8 {
        if self.overrun { 9 } else { 0 }
    }

    /// `cqc.st`: 6 armed for solicited, 9 armed, 0xa fired.
    pub fn st(&self) -> u8 {
        match self.arm {
            Arm::Solicited => 6,
            Arm::Next => 9,
            Arm::No => 0xa,
        }
    }

    /// log2 of the number of entries.
    pub fn log_size(&self) -> u8 {
        self.ring.log_size
    }

    /// Consumer index from the doorbell record, 24 bits.
    pub fn consumer(&self, mem: &MemoryMap) -> u32 {
        mem.load_be32(self.doorbell_record, Ordering::Acquire)
            .unwrap_or(0)
            & 0xff_ffff
    }

    /// Completions the consumer has not seen.
    fn outstanding(&self) -> u32 {
        self.producer.wrapping_sub(self.consumer_seen) & 0xff_ffff
    }

    fn has_room(&mut self, mem: &MemoryMap) -> bool {
        let size = 1 << self.ring.log_size;
        if self.outstanding() < size {
            return true;
        }
        self.consumer_seen = self.consumer(mem);
        self.outstanding() < size
    }

    fn write(&mut self, mem: &MemoryMap, cqe: &mut Cqe) {
        let index = u64::from(self.producer & ((1 << self.ring.log_size) - 1));
        let owner = (self.producer >> self.ring.log_size) & 1;
        cqe.op_own = (cqe.op_own & !1) | owner as u8;
        let stride = u64::from(self.ring.stride);
        let at = index * stride + (stride - 64);
        // The last byte holds opcode and owner, and must become visible last.
        let bytes = cqe.as_bytes();
        let written = self
            .ring
            .buffer
            .write(mem, at, &bytes[..63])
            .and_then(|()| {
                let (address, _) = self.ring.buffer.address(at + 63).unwrap_or((u64::MAX, 0));
                mem.store_u8(address, bytes[63], Ordering::Release)
            });
        if let Err(error) = written {
            warn!(target: "mlx5::cq", "completion not written: {error}");
        }
        self.producer = self.producer.wrapping_add(1);
    }
}

/// All completion queues.
#[derive(Default)]
pub struct Cqs {
    /// By CQ number.
    pub table: Table<Cq>,
    /// What is to go wrong.
    pub(super) faults: Option<Box<CompletionFaults>>,
}

impl Cqs {
    /// Writes a completion and reports it if the CQ is armed for it.
    /// A CQ that does not exist swallows the completion.
    pub fn push(
        &mut self,
        mem: &MemoryMap,
        eqs: &mut Eqs,
        timers: &mut Timers,
        now: Time,
        cqn: u32,
        mut cqe: Cqe,
    ) -> Result<(), CqOverrun> {
        let Some(cq) = self.table.get_mut(cqn) else {
            debug!(target: "mlx5::cq", "no CQ {cqn:#x} for a completion");
            return Ok(());
        };
        let mut verdict = Verdict::Write;
        if let Some(faults) = &mut self.faults {
            verdict = faults.take(now, cqn, &mut cqe);
            if verdict == Verdict::Drop {
                return Ok(());
            }
        }
        let full = !cq.overrun_ignore && (cq.overrun || !cq.has_room(mem));
        if full || verdict == Verdict::Overrun {
            if !cq.overrun {
                cq.overrun = true;
                warn!(target: "mlx5::cq", "CQ {cqn:#x} overrun");
                eqs.post_async(mem, Eqe::cq_error(cqn, 1));
            }
            return Err(CqOverrun);
        }
        if !cqe.is_error() {
            cqe.timestamp = U64::new(now.0);
        }
        let solicited = cqe.is_solicited();
        cq.write(mem, &mut cqe);
        if verdict == Verdict::Twice {
            cq.write(mem, &mut cqe);
        }
        if solicited {
            cq.solicited = cq.producer;
        }
        if cq.arm == Arm::Next || (cq.arm == Arm::Solicited && solicited) {
            cq.unreported += 1;
            report(cq, mem, eqs, timers, now, cqn);
        }
        Ok(())
    }

    /// The CQ counts as run over.
    pub fn set_overrun(&mut self, cqn: u32) {
        if let Some(cq) = self.table.get_mut(cqn) {
            cq.overrun = true;
        }
    }

    /// CQ doorbell (UAR offset 0x20): arms for completions after the consumer index given.
    pub fn doorbell(
        &mut self,
        mem: &MemoryMap,
        eqs: &mut Eqs,
        timers: &mut Timers,
        now: Time,
        word0: u32,
        word1: u32,
    ) {
        let cqn = word1 & 0xff_ffff;
        let Some(cq) = self.table.get_mut(cqn) else {
            return;
        };
        let solicited_only = word0 >> 24 & 1 == 1;
        let consumer = word0 & 0xff_ffff;
        // Asking for less does not take back what was asked for before.
        if !solicited_only {
            cq.arm = Arm::Next;
        } else if cq.arm == Arm::No {
            cq.arm = Arm::Solicited;
        }
        // Completions that the consumer did not see when it armed count as new.
        let last = if cq.arm == Arm::Next {
            cq.producer
        } else {
            cq.solicited
        };
        let behind = last.wrapping_sub(consumer) & 0xff_ffff;
        cq.unreported = 0;
        if behind != 0 && behind <= 1 << cq.ring.log_size {
            cq.unreported = behind;
            report(cq, mem, eqs, timers, now, cqn);
        }
    }

    /// The moderation timer of a CQ expired.
    pub fn timeout(
        &mut self,
        mem: &MemoryMap,
        eqs: &mut Eqs,
        timers: &mut Timers,
        now: Time,
        cqn: u32,
    ) {
        let Some(cq) = self.table.get_mut(cqn) else {
            return;
        };
        match cq.timer {
            Some(due) if due <= now => {
                cq.timer = None;
                if cq.arm != Arm::No && cq.unreported > 0 {
                    fire(cq, mem, eqs, timers, cqn);
                }
            }
            Some(due) => timers.arm(due, TimerKey::Cq(cqn)),
            None => {}
        }
    }

    /// Changes to another ring: a RESIZE entry ends the old one. `false` if the entries that the
    /// consumer has not taken would not fit into the new ring, or leave no room in the old one.
    pub fn resize(&mut self, mem: &MemoryMap, cqn: u32, ring: CqRing) -> bool {
        let Some(cq) = self.table.get_mut(cqn) else {
            return false;
        };
        if !cq.has_room(mem) {
            return false;
        }
        cq.consumer_seen = cq.consumer(mem);
        if cq.outstanding() + 1 > 1 << ring.log_size {
            return false;
        }
        let mut end = Cqe::new(CqeOpcode::Resize, 0, 0);
        cq.write(mem, &mut end);
        cq.ring = ring;
        true
    }
}

/// Reports unreported completions now, or after the moderation period.
fn report(cq: &mut Cq, mem: &MemoryMap, eqs: &mut Eqs, timers: &mut Timers, now: Time, cqn: u32) {
    let Moderation {
        period_us,
        max_count,
        restart_on_cqe,
    } = cq.moderation;
    let counted = max_count != 0 && cq.unreported >= u32::from(max_count);
    if counted || period_us == 0 {
        fire(cq, mem, eqs, timers, cqn);
        return;
    }
    if cq.timer.is_none() || restart_on_cqe {
        let due = now + Duration::from_micros(u64::from(period_us));
        if let Some(old) = cq.timer.replace(due) {
            timers.disarm(old, TimerKey::Cq(cqn));
        }
        timers.arm(due, TimerKey::Cq(cqn));
    }
}

fn fire(cq: &mut Cq, mem: &MemoryMap, eqs: &mut Eqs, timers: &mut Timers, cqn: u32) {
    cq.arm = Arm::No;
    cq.unreported = 0;
    if let Some(due) = cq.timer.take() {
        timers.disarm(due, TimerKey::Cq(cqn));
    }
    eqs.post(mem, cq.eqn, Eqe::completion(cqn));
}
