//! Commands that are refused, answered late, wrongly or never.

use log::info;
use rocinante_firmware_cmd::mlx5::queue::{CommandQueue, Request, Wrong};
use rocinante_wire::time::Time;

use super::select::Armed;
use super::{CommandAction, CommandFault, Condition, Kind, Plan};
use crate::mlx5::eq::{Eqe, EventType};
use crate::mlx5::nic::Nic;

/// Behind status and syndrome.
const HEADER: usize = 8;

/// Answers that may be late at one time: each slot has one, and slots may be used again.
const MAX_LATE: usize = 1024;

/// An answer that is given later.
pub(super) struct LateAnswer {
    pub(super) due: Time,
    queue: CommandQueue,
    request: Request,
    output: Vec<u8>,
}

/// Faults of the commands of a NIC.
#[derive(Default)]
pub(super) struct CommandFaults {
    armed: Vec<Armed>,
    pub(super) late: Vec<LateAnswer>,
}

fn holds(conditions: &[Condition], bytes: &[u8]) -> bool {
    conditions
        .iter()
        .all(|condition| condition.field.int(bytes) == Some(condition.value))
}

impl CommandFaults {
    pub(super) fn new(plan: &Plan, now: Time) -> CommandFaults {
        let armed = plan
            .0
            .iter()
            .filter(|fault| matches!(fault.kind, Kind::Command(..)));
        CommandFaults {
            armed: armed.map(|fault| Armed::new(fault, now)).collect(),
            late: Vec::new(),
        }
    }

    /// The fault that hits a command, by its place in the plan.
    fn take(&mut self, now: Time, request: &Request, input: &[u8]) -> Option<usize> {
        self.armed.iter_mut().position(|armed| {
            let fault = armed.fault.clone();
            let Kind::Command(select, fault) = &fault.kind else {
                return false;
            };
            let opcode = |(code, conditions): &(u16, Vec<Condition>)| {
                *code == request.opcode && holds(conditions, input)
            };
            fault.opcodes.iter().any(opcode)
                && fault.op_mod.is_none_or(|only| only == request.op_mod)
                && armed.take(select, now)
        })
    }
}

fn refusal(output: &mut Vec<u8>, status: u8, syndrome: u32) {
    output.clear();
    output.resize(16, 0);
    output[0] = status;
    output[4..8].copy_from_slice(&syndrome.to_be_bytes());
}

/// Executes and answers a command that was fetched from `queue`. False if no event is to say so.
pub(in crate::mlx5) fn execute(
    nic: &mut Nic,
    queue: CommandQueue,
    request: &Request,
    input: &[u8],
) -> bool {
    let now = nic.core.now;
    let faults = nic.faults.as_deref_mut();
    let hit = faults.and_then(|faults| {
        let index = faults.commands.take(now, request, input)?;
        Some((index, faults.commands.armed.get(index)?.fault.clone()))
    });
    let Some((index, fault)) = hit else {
        let output = nic.perform(request, input);
        nic.answer(queue, request, &output, None);
        nic.keep_output(output);
        return true;
    };
    let Kind::Command(_, CommandFault { action, .. }) = &fault.kind else {
        return true;
    };
    info!(
        target: "mlx5::fault", "{}: {}: command {:#x}", nic.core.config.name, fault.name, request.opcode
    );
    let mut output = match action {
        CommandAction::Ignore => return false,
        // What could not be delivered is not executed either.
        CommandAction::Refuse { .. } | CommandAction::Delivery(_) => Vec::new(),
        _ => nic.perform(request, input),
    };
    let mut wrong = Wrong::default();
    let mut event = true;
    match action {
        CommandAction::Ignore | CommandAction::NoAnswer => return false,
        CommandAction::Refuse { status, syndrome } | CommandAction::Deny { status, syndrome } => {
            refusal(&mut output, status.code(), *syndrome);
        }
        CommandAction::Delay(delay) => {
            if let Some(faults) = nic.faults.as_deref_mut()
                && faults.commands.late.len() < MAX_LATE
            {
                faults.commands.late.push(LateAnswer {
                    due: now + *delay,
                    queue,
                    request: *request,
                    output,
                });
            }
            return false;
        }
        CommandAction::NoEvent => event = false,
        CommandAction::Corrupt(bits) => {
            let room = output.len().min(request.output_len as usize);
            let faults = nic.faults.as_deref_mut();
            let armed = faults.and_then(|faults| faults.commands.armed.get_mut(index));
            if let (Some(armed), Some(body)) = (armed, output.get_mut(HEADER..room)) {
                for _ in 0..*bits {
                    let bit = armed.rng.below(8 * body.len() as u64);
                    if let Some(byte) = body.get_mut((bit / 8) as usize) {
                        *byte ^= 1 << (bit % 8);
                    }
                }
            }
        }
        CommandAction::Set(fields) => {
            let of_this = fields.iter().filter(|(code, _)| *code == request.opcode);
            for condition in of_this.flat_map(|(_, conditions)| conditions) {
                condition.field.set_int(&mut output, condition.value);
            }
        }
        CommandAction::Delivery(status) => wrong.delivery = Some(*status),
        CommandAction::Token => wrong.token = 0xff,
        CommandAction::Signature => wrong.signature = 0xff,
        CommandAction::Ownership => wrong.ownership = true,
    }
    nic.answer(queue, request, &output, Some(&wrong));
    nic.keep_output(output);
    event
}

/// Gives the answers that are due.
pub(super) fn answer_late(nic: &mut Nic, now: Time) {
    loop {
        let Some(faults) = nic.faults.as_deref_mut() else {
            return;
        };
        let late = &mut faults.commands.late;
        let Some(index) = late.iter().position(|answer| answer.due <= now) else {
            return;
        };
        let LateAnswer {
            queue,
            request,
            output,
            ..
        } = late.remove(index);
        nic.answer(queue, &request, &output, None);
        if nic.core.eqs.subscriber(EventType::Command).is_some() {
            nic.core.event(Eqe::command(1 << request.slot));
        }
    }
}
