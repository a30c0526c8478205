//! Queue pair commands: creation, the transitions of the state machine, query and destruction.
//! Source: reference of the interface, "QP context and transitions"; Linux `mlx5_ib/qp.c`,
//! FreeBSD `mlx5_ib/mlx5_ib_qp.c`.
//!
//! A transition takes from its input the fields that it requires and those of its optional ones
//! whose bit is set, and leaves the rest of the context as it was: drivers send zeros there.

mod transition;

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::qp::{
    CreateQpIn, CreateQpOut, DestroyQpIn, ModifyQpIn, Qpc, QueryQpOut,
};
use rocinante_firmware_cmd::mlx5::status::CmdError;
use rocinante_wire::transport::{Requester, Responder, UcRequester, UcResponder};

use crate::mlx5::buffer::QueueBuffer;
use crate::mlx5::core::Core;
use crate::mlx5::nic::Nic;
use crate::mlx5::qp::{
    Attr, DEPTH, Engine, Qp, RQ_TYPE_SRQ, ReceiveSide, SendRing, SendSide, ServiceType, State,
    error,
};
use crate::mlx5::rq::{Order, ReceiveQueue};
use transition::{Transition, check, enter, merge};

checks! {
    CreateQp {
        CREATE_SERVICE = 1, BadParam, "st is not offered";
        CREATE_PD = 2, BadRes, "no such PD";
        CREATE_CQN_SND = 3, BadRes, "cqn_snd names no CQ";
        CREATE_CQN_RCV = 4, BadRes, "cqn_rcv names no CQ";
        CREATE_UAR = 5, BadRes, "no such UAR page";
        CREATE_SRQ = 6, BadRes, "srqn_rmpn_xrqn names no SRQ";
        CREATE_XRCD = 7, BadRes, "no such XRC domain";
        CREATE_SIZE = 8, BadParam, "a queue is larger than the capabilities allow";
        CREATE_PAS = 9, BadInpLen, "too few page addresses for the queues";
        CREATE_LIMIT = 10, Lim, "no QP number is free";
        CREATE_RQ_TYPE = 11, BadParam, "rq_type is not offered";
    }
    DestroyQp {
        DESTROY_QPN = 1, BadRes, "no such QP";
    }
    Rst2initQp {
        MODIFY_QPN = 1, BadRes, "no such QP";
        MODIFY_STATE = 2, BadQpState, "the QP is not in the state this transition starts from";
        MODIFY_MTU = 3, BadParam, "mtu is not 1 to 5";
        MODIFY_DEPTH = 4, BadParam, "log_rra_max or log_sra_max is above the capability";
        MODIFY_RESOURCE = 5, BadRes, "the context names a PD or CQ that does not exist";
        MODIFY_OPCODE = 6, BadOp, "this transition is not offered";
    }
    QueryQp {
        QUERY_QPN = 1, BadRes, "no such QP";
    }
}

/// Largest queue, log2 of its entries (`log_max_qp_sz`).
const LOG_MAX_QP_SIZE: u8 = 15;

/// Executes a QP command.
pub fn execute(
    nic: &mut Nic,
    opcode: Opcode,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), CmdError> {
    match opcode {
        Opcode::CreateQp => create(nic, input, output),
        Opcode::DestroyQp => destroy(nic, input),
        Opcode::QueryQp => query(nic, input, output),
        _ => modify(nic, opcode, input),
    }
}

/// The other objects that a context refers to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct References {
    pd: Option<u32>,
    cqn_send: Option<u32>,
    cqn_receive: Option<u32>,
}

impl References {
    fn of(context: &[u8]) -> References {
        let qpc = Qpc::new(context);
        // The UMR QP has no PD before RST2INIT; an unused side may have no CQ.
        let some = |number: u32| (number != 0).then_some(number);
        References {
            pd: some(qpc.pd()),
            cqn_send: some(qpc.cqn_snd()),
            cqn_receive: some(qpc.cqn_rcv()),
        }
    }

    /// Counts the references; false, and nothing counted, if one does not exist.
    fn hold(self, core: &mut Core) -> bool {
        let exist = self.pd.is_none_or(|pd| core.resources.pds.contains(pd))
            && [self.cqn_send, self.cqn_receive]
                .into_iter()
                .flatten()
                .all(|cqn| core.cqs.table.contains(cqn));
        if exist {
            let _ = self.pd.is_none_or(|pd| core.resources.pds.hold(pd));
            for cqn in [self.cqn_send, self.cqn_receive].into_iter().flatten() {
                let _ = core.cqs.table.hold(cqn);
            }
        }
        exist
    }

    fn release(self, core: &mut Core) {
        if let Some(pd) = self.pd {
            core.resources.pds.release(pd);
        }
        for cqn in [self.cqn_send, self.cqn_receive].into_iter().flatten() {
            core.cqs.table.release(cqn);
        }
    }
}

/// References that stay for the life of a QP.
fn hold_fixed(core: &mut Core, qpc: &Qpc<&[u8]>) -> Result<(), CmdError> {
    let srqn = (qpc.rq_type() == RQ_TYPE_SRQ).then(|| qpc.srqn_rmpn_xrqn());
    let xrcd = (qpc.xrcd() != 0).then(|| qpc.xrcd());
    // An XRC target QP has no send queue, and no doorbell for one.
    if !qpc.no_sq() && !core.resources.uars.contains(qpc.uar_page()) {
        return Err(CREATE_UAR);
    }
    if srqn.is_some_and(|srqn| !core.srqs.contains(srqn)) {
        return Err(CREATE_SRQ);
    }
    if xrcd.is_some_and(|xrcd| !core.resources.xrcds.contains(xrcd)) {
        return Err(CREATE_XRCD);
    }
    let _ = srqn.is_none_or(|srqn| core.srqs.hold(srqn));
    let _ = xrcd.is_none_or(|xrcd| core.resources.xrcds.hold(xrcd));
    Ok(())
}

fn release_fixed(core: &mut Core, qpc: &Qpc<&[u8]>) {
    if qpc.rq_type() == RQ_TYPE_SRQ {
        core.srqs.release(qpc.srqn_rmpn_xrqn());
    }
    if qpc.xrcd() != 0 {
        core.resources.xrcds.release(qpc.xrcd());
    }
}

fn create(nic: &mut Nic, input: &[u8], output: &mut Vec<u8>) -> Result<(), CmdError> {
    let command = CreateQpIn::new(input);
    let mut context = [0; 0xe8];
    let given = command.qpc();
    let n = given.as_bytes().len().min(context.len());
    context[..n].copy_from_slice(&given.as_bytes()[..n]);
    let qpc = Qpc::new(&context[..]);
    let service = ServiceType::from_bits(qpc.st()).ok_or(CREATE_SERVICE)?;
    let core = &mut nic.core;
    let pd_needed = service != ServiceType::RegUmr;
    if pd_needed && !core.resources.pds.contains(qpc.pd()) {
        return Err(CREATE_PD);
    }
    if !qpc.no_sq() && !core.cqs.table.contains(qpc.cqn_snd()) {
        return Err(CREATE_CQN_SND);
    }
    let own_queue = match qpc.rq_type() {
        0 => true,
        1 | 3 => false,
        _ => return Err(CREATE_RQ_TYPE),
    };
    if (own_queue || qpc.rq_type() == RQ_TYPE_SRQ) && !core.cqs.table.contains(qpc.cqn_rcv()) {
        return Err(CREATE_CQN_RCV);
    }
    let (send, receive) = queues(&qpc, own_queue, command.pas().iter())?;
    if !References::of(&context).hold(core) {
        // What is not used may still name something that is not there.
        return Err(CREATE_CQN_RCV);
    }
    if let Err(error) = hold_fixed(core, &qpc) {
        References::of(&context).release(core);
        return Err(error);
    }
    let Some(qpn) = core.numbers.queue.alloc() else {
        References::of(&context).release(core);
        release_fixed(core, &qpc);
        return Err(CREATE_LIMIT);
    };
    let attr = Attr::derive(qpn, &context).ok_or(CREATE_SERVICE)?;
    let engine = match service {
        ServiceType::Rc | ServiceType::Xrc | ServiceType::RegUmr => Engine::Reliable {
            requester: Requester::new(DEPTH),
            responder: Responder::new(),
        },
        ServiceType::Uc => Engine::Unreliable {
            requester: UcRequester::new(DEPTH),
            responder: UcResponder::new(),
        },
        ServiceType::Ud | ServiceType::Gsi => Engine::Datagram,
    };
    if service == ServiceType::Gsi {
        nic.gsi = Some(qpn);
    }
    let qp = Qp {
        attr,
        state: State::Reset,
        context,
        doorbell_record: qpc.dbr_addr(),
        send: SendSide {
            ring: send,
            ..SendSide::default()
        },
        receive: ReceiveSide {
            queue: receive,
            ..ReceiveSide::default()
        },
        engine,
        path: None,
        scheduled: false,
        failure: None,
        timer: None,
        notified: None,
    };
    nic.qps.insert(qpn, qp);
    CreateQpOut::new(&mut *output).set_qpn(qpn);
    Ok(())
}

/// The rings: receive queue first, send queue behind it.
fn queues(
    qpc: &Qpc<&[u8]>,
    own_queue: bool,
    pas: impl Iterator<Item = u64>,
) -> Result<(Option<SendRing>, Option<ReceiveQueue>), CmdError> {
    if qpc.log_sq_size() > LOG_MAX_QP_SIZE || qpc.log_rq_size() > LOG_MAX_QP_SIZE {
        return Err(CREATE_SIZE);
    }
    let log_stride = qpc.log_rq_stride() + 4;
    let receive_size = if own_queue {
        1u64 << (qpc.log_rq_size() + log_stride)
    } else {
        0
    };
    let send_size = if qpc.no_sq() {
        0
    } else {
        64u64 << qpc.log_sq_size()
    };
    if receive_size + send_size == 0 {
        return Ok((None, None));
    }
    let page_shift = u32::from(qpc.log_page_size()) + 12;
    let offset = u64::from(qpc.page_offset()) << page_shift.saturating_sub(6).min(57);
    let whole = QueueBuffer::new(pas, page_shift, offset, receive_size + send_size)
        .map_err(|_| CREATE_PAS)?;
    let receive = if own_queue {
        let buffer = whole.sub(0, receive_size).ok_or(CREATE_PAS)?;
        let (log_size, signature) = (qpc.log_rq_size(), qpc.wq_signature());
        let record = qpc.dbr_addr();
        Some(
            ReceiveQueue::new(
                buffer,
                Order::Cyclic,
                log_size,
                log_stride,
                signature,
                record,
            )
            .ok_or(CREATE_SIZE)?,
        )
    } else {
        None
    };
    let send = if send_size != 0 {
        let buffer = whole.sub(receive_size, send_size).ok_or(CREATE_PAS)?;
        Some(SendRing {
            buffer,
            log_size: qpc.log_sq_size(),
            consumer: 0,
            producer: 0,
        })
    } else {
        None
    };
    Ok((send, receive))
}

fn destroy(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let qpn = DestroyQpIn::new(input).qpn();
    let qp = nic.qps.remove(qpn).ok_or(DESTROY_QPN)?;
    let core = &mut nic.core;
    References::of(&qp.context).release(core);
    release_fixed(core, &Qpc::new(&qp.context[..]));
    core.roce.multicast.retain(|_, members| {
        members.retain(|&member| member != qpn);
        !members.is_empty()
    });
    core.numbers.queue.free(qpn);
    if nic.gsi == Some(qpn) {
        nic.gsi = None;
    }
    Ok(())
}

fn modify(nic: &mut Nic, opcode: Opcode, input: &[u8]) -> Result<(), CmdError> {
    let command = ModifyQpIn::new(input);
    let qpn = command.qpn();
    let Nic { qps, core, .. } = nic;
    let qp = qps.get_mut(qpn).ok_or(MODIFY_QPN)?;
    let transition = match opcode {
        Opcode::Qp2Err => {
            error::to_error(qp, core, None, error::Cause::Local);
            return Ok(());
        }
        Opcode::Qp2Rst => {
            error::reset(qp);
            return Ok(());
        }
        Opcode::Rst2initQp => Transition::RstToInit,
        Opcode::Init2initQp => Transition::InitToInit,
        Opcode::Init2rtrQp => Transition::InitToRtr,
        Opcode::Rtr2rtsQp => Transition::RtrToRts,
        Opcode::Rts2rtsQp => Transition::RtsToRts,
        Opcode::Sqerr2rtsQp => Transition::SqErrToRts,
        // No command enters SQD.
        Opcode::SqdRtsQp => return Err(MODIFY_STATE),
        _ => return Err(MODIFY_OPCODE),
    };
    if qp.state != transition.from() {
        return Err(MODIFY_STATE);
    }
    let mut context = qp.context;
    merge(
        &mut context,
        transition,
        command.opt_param_mask(),
        &command.qpc(),
    );
    check(&Qpc::new(&context[..]), transition, qp.attr.service)?;
    let (old, new) = (References::of(&qp.context), References::of(&context));
    if old != new {
        if !new.hold(core) {
            return Err(MODIFY_RESOURCE);
        }
        old.release(core);
    }
    let attr = Attr::derive(qpn, &context).ok_or(MODIFY_RESOURCE)?;
    qp.context = context;
    qp.attr = attr;
    enter(qp, core, transition);
    if qp.state == State::Rts {
        // Work may have been posted before the transition.
        if let Some(ring) = &mut qp.send.ring {
            ring.refresh(&core.mem, qp.doorbell_record);
        }
        nic.schedule(qpn);
    }
    Ok(())
}

fn query(nic: &mut Nic, input: &[u8], output: &mut Vec<u8>) -> Result<(), CmdError> {
    let qpn = DestroyQpIn::new(input).qpn();
    let Nic { qps, core, .. } = nic;
    let qp = qps.get_mut(qpn).ok_or(QUERY_QPN)?;
    output.resize(QueryQpOut::SIZE, 0);
    let mut out = QueryQpOut::new(&mut *output);
    let mut qpc = out.qpc_mut();
    qpc.assign(&Qpc::new(&qp.context[..]));
    qpc.set_state(qp.state as u8);
    if let Some(ring) = &mut qp.send.ring {
        ring.refresh(&core.mem, qp.doorbell_record);
        qpc.set_hw_sq_wqebb_counter(ring.consumer);
        qpc.set_sw_sq_wqebb_counter(ring.producer);
    }
    if let Some(queue) = &mut qp.receive.queue {
        qpc.set_hw_rq_counter(queue.consumed().into());
        qpc.set_sw_rq_counter(queue.producer(&core.mem).into());
    }
    match &qp.engine {
        Engine::Reliable {
            requester,
            responder,
        } => {
            if requester.is_running() || requester.is_error() {
                qpc.set_next_send_psn(requester.next_send_psn().get());
                qpc.set_last_acked_psn(requester.last_acked_psn().get());
                qpc.set_ssn(requester.ssn());
            }
            if responder.is_running() {
                qpc.set_next_rcv_psn(responder.next_rcv_psn().get());
                qpc.set_rmsn(responder.msn());
            }
        }
        Engine::Unreliable {
            requester,
            responder,
        } => {
            if requester.is_running() {
                qpc.set_next_send_psn(requester.next_send_psn().get());
            }
            if responder.is_running() {
                qpc.set_next_rcv_psn(responder.next_rcv_psn().get());
            }
        }
        Engine::Datagram => {}
    }
    Ok(())
}
