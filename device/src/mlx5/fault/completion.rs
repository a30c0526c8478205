//! Completions that are lost, doubled, or say what is not so.

use std::collections::BTreeMap;

use rocinante_wire::time::Time;
use rocinante_wire::transport::WcError;

use super::select::{Armed, Count};
use super::{CompletionAction, Kind, Plan, QueueKind};
use crate::mlx5::cqe::{Cqe, CqeOpcode};
use crate::mlx5::qp::ServiceType;

/// Queues that a fault counts by themselves; it does not match those of further ones.
const MAX_QUEUES: usize = 65536;

/// What becomes of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mlx5) enum Verdict {
    /// It is written.
    Write,
    /// It is lost.
    Drop,
    /// It is written twice.
    Twice,
    /// There is no room for it.
    Overrun,
}

/// Faults of the completion queues of a NIC.
pub(in crate::mlx5) struct CompletionFaults {
    armed: Vec<(Armed, BTreeMap<u32, Count>)>,
    /// Queue pairs there are.
    pub(super) services: BTreeMap<u32, ServiceType>,
    /// Queue pairs whose work has been said to have failed: they go to the error state.
    pub(super) failed: Vec<u32>,
    /// Completion queues whose receive queue's work has been said to have failed.
    pub(super) failed_receivers: Vec<u32>,
}

impl CompletionFaults {
    /// `None` if the plan has none.
    pub(super) fn new(plan: &Plan, now: Time) -> Option<Box<CompletionFaults>> {
        let armed: Vec<_> = plan
            .0
            .iter()
            .filter(|fault| matches!(fault.kind, Kind::Completion(..)))
            .map(|fault| (Armed::new(fault, now), BTreeMap::new()))
            .collect();
        (!armed.is_empty()).then(|| {
            Box::new(CompletionFaults {
                armed,
                services: BTreeMap::new(),
                failed: Vec::new(),
                failed_receivers: Vec::new(),
            })
        })
    }

    /// Takes a completion, which it may change.
    pub(in crate::mlx5) fn take(&mut self, now: Time, cqn: u32, cqe: &mut Cqe) -> Verdict {
        // Flushed work is what a fault leaves behind, not what it is about.
        if cqe.is_error() || cqe.op_own >> 4 == CqeOpcode::Resize as u8 {
            return Verdict::Write;
        }
        let qpn = cqe.sop_drop_qpn.get() & 0xff_ffff;
        let request = cqe.op_own >> 4 == CqeOpcode::Req as u8;
        if self.failed.contains(&qpn) {
            // Its queue is as good as in the error state, where it is about to go.
            fail(cqe, qpn, request, WcError::WrFlush.syndrome(), 0);
            return Verdict::Write;
        }
        let service = self.services.get(&qpn).copied();
        let queue = service.map_or(QueueKind::Ethernet, QueueKind::Qp);
        let action = self.armed.iter_mut().find_map(|(armed, counts)| {
            let fault = armed.fault.clone();
            let Kind::Completion(select, fault) = &fault.kind else {
                return None;
            };
            let matches = fault.cqn.is_none_or(|only| only == cqn)
                && fault.qpn.is_none_or(|only| only == qpn)
                && fault.queue.is_none_or(|only| only == queue)
                && fault.request.is_none_or(|only| only == request);
            if !matches {
                return None;
            }
            let hit = if fault.per_queue {
                if counts.len() >= MAX_QUEUES && !counts.contains_key(&qpn) {
                    return None;
                }
                armed.take_of(select, now, counts.entry(qpn).or_default())
            } else {
                armed.take(select, now)
            };
            hit.then_some(fault.action)
        });
        match action {
            None => Verdict::Write,
            Some(CompletionAction::Drop) => Verdict::Drop,
            Some(CompletionAction::Duplicate) => Verdict::Twice,
            Some(CompletionAction::Overrun) => Verdict::Overrun,
            Some(CompletionAction::Fail { syndrome, vendor }) => {
                fail(cqe, qpn, request, syndrome, vendor);
                if request || service.is_some() {
                    self.failed.push(qpn);
                } else {
                    // What Ethernet received names no queue.
                    self.failed_receivers.push(cqn);
                }
                Verdict::Write
            }
        }
    }
}

/// Makes an error of a completion.
fn fail(cqe: &mut Cqe, qpn: u32, request: bool, syndrome: u8, vendor: u8) {
    let opcode = if request {
        CqeOpcode::ReqErr
    } else {
        CqeOpcode::RespErr
    };
    let wqe_id = cqe.wqe_id;
    *cqe = Cqe::error(
        opcode,
        qpn,
        cqe.srqn_uidx.get(),
        (cqe.sop_drop_qpn.get() >> 24) as u8,
        cqe.wqe_counter.get(),
        syndrome,
        vendor,
    );
    cqe.wqe_id = wqe_id;
}
