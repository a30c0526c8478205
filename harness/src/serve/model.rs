//! The device as the PCI function sees it: everything is handed over to the engine.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rocinante_device::mlx5::{Input, bar};
use rocinante_dma::MemoryMap;
use rocinante_pci::{DeviceModel, ResetKind};

use super::engine::{Mailbox, Request};
use super::{ANSWER, Clock};

/// Hands over to an engine.
pub struct Model {
    mailbox: Arc<Mailbox>,
    clock: Clock,
    read_reply: (SyncSender<[u8; 8]>, Receiver<[u8; 8]>),
    quiesced: (SyncSender<()>, Receiver<()>),
}

impl Model {
    /// In front of the engine that `mailbox` leads to.
    pub fn new(mailbox: Arc<Mailbox>, clock: Clock) -> Model {
        Model {
            mailbox,
            clock,
            read_reply: sync_channel(1),
            quiesced: sync_channel(1),
        }
    }

    /// Waits until `input` has taken effect.
    fn quiesce(&mut self, input: Input) {
        // An answer to a question given up earlier must not be taken for the one to this.
        while self.quiesced.1.try_recv().is_ok() {}
        if self
            .mailbox
            .post(Request::Quiesce(input, self.quiesced.0.clone()))
            && self.quiesced.1.recv_timeout(ANSWER).is_err()
        {
            log::warn!(target: "mlx5::bar", "the engine does not answer");
        }
    }
}

impl DeviceModel for Model {
    fn bar_read(&mut self, _bar: u8, offset: u64, data: &mut [u8]) {
        // The clock and the health counter need nothing of the engine.
        if bar::read_clock(self.clock.now(), offset, data) {
            return;
        }
        for (chunk, at) in data.chunks_mut(8).zip((offset..).step_by(8)) {
            while self.read_reply.1.try_recv().is_ok() {}
            let reply = self.read_reply.0.clone();
            let asked = self.mailbox.post(Request::BarRead {
                offset: at,
                len: chunk.len(),
                reply,
            });
            match self.read_reply.1.recv_timeout(ANSWER) {
                Ok(bytes) if asked => chunk.copy_from_slice(&bytes[..chunk.len()]),
                // As a device that is gone.
                _ => chunk.fill(0xff),
            }
        }
    }

    fn bar_write(&mut self, _bar: u8, offset: u64, data: &[u8]) {
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

    fn reset(&mut self, _kind: ResetKind) {
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
        let input = Input::Memory(map);
        if must_quiesce {
            self.quiesce(input);
        } else {
            self.mailbox.post(Request::Input(input));
        }
    }
}
