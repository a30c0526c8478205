//! The end of a QP's work: going to the error state, flushing what was posted, reset.

use std::time::Duration;

use rocinante_wire::transport::WcError;

use super::host::user_index;
use super::send::WqeBytes;
use super::{Engine, Qp, State};
use crate::mlx5::core::Core;
use crate::mlx5::cqe::{Cqe, CqeOpcode};
use crate::mlx5::eq::{Eqe, EventType};
use crate::mlx5::timer::TimerKey;
use crate::mlx5::wqe::{self, WQEBB};

/// How often the receive queue of a QP in error is looked at: posting a receive rings no doorbell,
/// and whoever drains a QP waits for the flush of what it posted last.
const FLUSH_POLL: Duration = Duration::from_millis(2);

/// Who found the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This side: a command, a failed work request, a full CQ. The responder falls silent.
    Local,
    /// The responder, which still has a NAK to send.
    Responder,
}

/// Takes the QP to the error state and flushes it. The asynchronous event, if the cause calls for
/// one, comes first.
pub fn to_error(qp: &mut Qp, core: &mut Core, event: Option<EventType>, cause: Cause) {
    if qp.state == State::Err {
        return;
    }
    if let Some(event) = event {
        core.event(Eqe::queue(event, 0, qp.attr.qpn));
    }
    qp.state = State::Err;
    let responder = cause == Cause::Responder;
    qp.failure = Some(core.notes.qp_error(qp.attr.qpn, event, responder));
    fail_held(qp, core);
    match &mut qp.engine {
        Engine::Reliable { responder, .. } if cause == Cause::Local => responder.stop(),
        Engine::Unreliable { responder, .. } => responder.stop(),
        _ => {}
    }
    if qp.attr.srqn.is_some() {
        core.event(Eqe::queue(EventType::SrqLastWqe, 0, qp.attr.qpn));
    }
    flush(qp, core);
}

/// Flushes the send queue only: a datagram QP goes to SQER, where it still receives.
pub fn to_sq_error(qp: &mut Qp, core: &mut Core) {
    if qp.state == State::Rts {
        qp.state = State::SqErr;
        qp.failure = Some(core.notes.qp_error(qp.attr.qpn, None, false));
        flush_send(qp, core);
    }
}

/// Flushes what has been posted up to now; called again for what is posted later.
pub fn flush(qp: &mut Qp, core: &mut Core) {
    flush_send(qp, core);
    if qp.state != State::Err {
        return;
    }
    flush_receive(qp, core);
    if qp.receive.queue.is_some() {
        let due = core.now + FLUSH_POLL;
        qp.timer = Some(due);
        core.timers.arm(due, TimerKey::Qp(qp.attr.qpn));
    }
}

/// Flushes the send queue.
pub fn flush_send(qp: &mut Qp, core: &mut Core) {
    match &mut qp.engine {
        Engine::Reliable { requester, .. } => requester.flush(|_| {}),
        Engine::Unreliable { requester, .. } => requester.flush(|_| {}),
        Engine::Datagram => {}
    }
    while let Some(entry) = qp.send.pop() {
        flush_one(qp, core, entry.opcode, entry.index);
        qp.send.recycle(entry);
    }
    loop {
        let Some(ring) = &mut qp.send.ring else {
            return;
        };
        let pending = ring.pending();
        if pending == 0 {
            return;
        }
        let mut bytes = WqeBytes::new();
        let index = ring.consumer;
        let wqe = ring.read(&core.mem, index, &mut bytes).unwrap_or(&[]);
        let opcode = wqe::control(wqe).map_or(0, |ctrl| ctrl.opcode());
        let blocks = (wqe.len().div_ceil(WQEBB) as u16).clamp(1, pending);
        ring.consumer = index.wrapping_add(blocks);
        flush_one(qp, core, opcode, index);
    }
}

fn flush_one(qp: &Qp, core: &mut Core, opcode: u8, index: u16) {
    core.count(qp.attr.counters, |q| {
        q.req_cqe_flush_error = q.req_cqe_flush_error.wrapping_add(1)
    });
    let cqe = flush_cqe(
        CqeOpcode::ReqErr,
        qp,
        user_index(qp.attr.user_index),
        opcode,
        index,
    );
    // A full CQ has been reported when it ran over; a flush that does not fit is lost with it.
    let _ = core.complete(qp.attr.cqn_send, cqe);
}

fn flush_cqe(kind: CqeOpcode, qp: &Qp, user_index: u32, opcode: u8, index: u16) -> Cqe {
    let flushed = WcError::WrFlush;
    let (syndrome, vendor) = (flushed.syndrome(), flushed.vendor_syndrome());
    Cqe::error(
        kind,
        qp.attr.qpn,
        user_index,
        opcode,
        index,
        syndrome,
        vendor,
    )
}

fn fail_held(qp: &mut Qp, core: &mut Core) {
    if let Some(held) = qp.receive.held.take()
        && held.srqn.is_none_or(|srqn| core.srqs.contains(srqn))
    {
        core.count(qp.attr.counters, |q| {
            q.resp_cqe_flush_error = q.resp_cqe_flush_error.wrapping_add(1)
        });
        let cqe = flush_cqe(
            CqeOpcode::RespErr,
            qp,
            held.user_index,
            0,
            held.taken.wqe_counter,
        );
        let _ = core.complete(held.cqn, cqe);
    }
}

fn flush_receive(qp: &mut Qp, core: &mut Core) {
    // What is posted meanwhile is found by the next poll.
    let posted = match &mut qp.receive.queue {
        Some(queue) => queue.available(&core.mem),
        None => 0,
    };
    for _ in 0..posted {
        let Some(queue) = &mut qp.receive.queue else {
            return;
        };
        let Ok(Some(taken)) = queue.take(&core.mem, &mut qp.receive.segs) else {
            return;
        };
        core.count(qp.attr.counters, |q| {
            q.resp_cqe_flush_error = q.resp_cqe_flush_error.wrapping_add(1)
        });
        let uidx = user_index(qp.attr.user_index);
        let cqe = flush_cqe(CqeOpcode::RespErr, qp, uidx, 0, taken.wqe_counter);
        if core.complete(qp.attr.cqn_receive, cqe).is_err() {
            return;
        }
    }
}

/// To RESET: no completion any more, indices back to zero.
pub fn reset(qp: &mut Qp) {
    qp.state = State::Reset;
    qp.failure = None;
    qp.send.reset();
    qp.receive.held = None;
    if let Some(queue) = &mut qp.receive.queue {
        queue.reset();
    }
    match &mut qp.engine {
        Engine::Reliable {
            requester,
            responder,
        } => {
            requester.reset();
            responder.reset();
        }
        Engine::Unreliable {
            requester,
            responder,
        } => {
            requester.reset();
            responder.reset();
        }
        Engine::Datagram => {}
    }
    qp.path = None;
    qp.timer = None;
}
