//! Commands from their slots and back: fetched, executed, answered. Knows the queue and what is done when it cannot be
//! read, not what any command does.

use log::{debug, trace, warn};
use rocinante_firmware_cmd::mlx5::log::{Hex, Line};
use rocinante_firmware_cmd::mlx5::queue::{CommandQueue, FetchError, Request, SLOTS, Wrong};

use super::Nic;
use crate::mlx5::cmd;
use crate::mlx5::eq::{Eqe, EventType};
use crate::mlx5::fault;

/// Output buffer kept from one command to the next.
const KEPT_OUTPUT: usize = 1 << 16;

impl Nic {
    pub(super) fn run_commands(&mut self, mask: u32) {
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
    pub(in crate::mlx5) fn perform(&mut self, request: &Request, input: &[u8]) -> Vec<u8> {
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
    pub(in crate::mlx5) fn answer(
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
    pub(in crate::mlx5) fn keep_output(&mut self, mut output: Vec<u8>) {
        output.shrink_to(KEPT_OUTPUT);
        self.command_output = output;
    }
}
