//! The device as the PCI function sees it: everything is handed over to the engine.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use rocinante_device::mlx5::{Input, bar};
use rocinante_dma::MemoryMap;
use rocinante_pci::{DeviceModel, ResetKind};
use serde_json::json;

use super::engine::{Mailbox, Request};
use super::events::Events;
use super::{ANSWER, Clock};

/// Hands over to an engine.
pub struct Model {
    mailbox: Arc<Mailbox>,
    clock: Clock,
    name: String,
    events: Events,
    /// A monitor is there.
    attached: bool,
}

impl Model {
    /// In front of the engine that `mailbox` leads to.
    pub fn new(mailbox: Arc<Mailbox>, clock: Clock, name: String, events: Events) -> Model {
        Model {
            mailbox,
            clock,
            name,
            events,
            attached: false,
        }
    }

    /// A monitor has come, which shows in what it does first, or gone.
    fn set_attached(&mut self, attached: bool) {
        if self.attached != attached {
            self.attached = attached;
            let name = if attached {
                "NIC_ATTACHED"
            } else {
                "NIC_DETACHED"
            };
            self.events.tell(name, || json!({ "nic": self.name }));
        }
    }

    /// Asks the engine something and waits. `None`: it has ended, or hangs and is given up; from
    /// then on the device is as good as pulled out.
    fn ask<T>(&self, request: impl FnOnce(SyncSender<T>) -> Request) -> Option<T> {
        // A channel for each question: a late answer to another one must not be taken for this.
        let (reply, answer) = sync_channel(1);
        if !self.mailbox.post(request(reply)) {
            return None;
        }
        let answer = answer.recv_timeout(ANSWER).ok();
        if answer.is_none() && !self.mailbox.stopped() {
            log::error!(target: "mlx5", "a NIC does not answer: giving it up");
            self.mailbox.stop();
        }
        answer
    }

    /// Waits until `input` has taken effect. An engine that has ended does nothing any more.
    fn quiesce(&self, input: Input) {
        let _ = self.ask(|done| Request::Quiesce(input, done));
    }
}

impl DeviceModel for Model {
    fn bar_read(&mut self, _bar: u8, offset: u64, data: &mut [u8]) {
        self.set_attached(true);
        // The clock and the health counter need nothing of the engine.
        if !self.mailbox.faulty() && bar::read_clock(self.clock.now(), offset, data) {
            return;
        }
        for (chunk, offset) in data.chunks_mut(8).zip((offset..).step_by(8)) {
            let len = chunk.len();
            match self.ask(|reply| Request::BarRead { offset, len, reply }) {
                Some(bytes) => chunk.copy_from_slice(&bytes[..len]),
                // As a device that is gone.
                None => chunk.fill(0xff),
            }
        }
    }

    fn bar_write(&mut self, _bar: u8, offset: u64, data: &[u8]) {
        self.set_attached(true);
        for (chunk, at) in data.chunks(8).zip((offset..).step_by(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            let input = Input::BarWrite {
                offset: at,
                data: bytes,
                len: chunk.len() as u8,
            };
            self.mailbox.post(Request::Input(input));
        }
    }

    fn reset(&mut self, kind: ResetKind) {
        self.set_attached(matches!(kind, ResetKind::Flr | ResetKind::Device));
        self.quiesce(Input::Reset);
    }

    fn bus_master(&mut self, enabled: bool) {
        let input = Input::BusMaster(enabled);
        if enabled {
            self.mailbox.post(Request::Input(input));
        } else {
            self.quiesce(input);
        }
    }

    fn memory_changed(&mut self, map: Arc<MemoryMap>, must_quiesce: bool) {
        // Memory is taken away from one that goes, too.
        if !must_quiesce {
            self.set_attached(true);
        }
        let input = Input::Memory(map);
        if must_quiesce {
            self.quiesce(input);
        } else {
            self.mailbox.post(Request::Input(input));
        }
    }

    fn plugs(&self) -> u32 {
        self.mailbox.plugs()
    }
}
