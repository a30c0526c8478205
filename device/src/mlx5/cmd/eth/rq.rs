//! CREATE, MODIFY, DESTROY and QUERY_RQ.

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::wq::{
    CreateRqIn, CreateRqOut, DestroyRqIn, ModifyRqIn, QueryRqIn, QueryRqOut, Rqc,
};

use super::{LOG_MAX_WQ_SIZE, buffer, context};
use crate::mlx5::cmd::CmdError;
use crate::mlx5::core::Core;
use crate::mlx5::eth::rq::{Rq, Wqes};
use crate::mlx5::eth::striding::{Strides, Striding};
use crate::mlx5::eth::{QueueState, flush_rq, lro};
use crate::mlx5::nic::Nic;
use crate::mlx5::rq::{Order, ReceiveQueue};
use crate::mlx5::srq::SrqKind;

checks! {
    CreateRq {
        KIND = 1, BadParam, "wq_type is neither linked list nor cyclic, with strides or without";
        SIZE = 2, BadParam, "log_wq_sz or log_wq_stride out of range";
        FEATURE = 3, BadParam, "asks for a feature that is not offered";
        STATE = 4, BadParam, "initial state is not RST";
        MEMORY = 5, BadParam, "mem_rq_type is neither inline nor RMP";
        NO_CQ = 6, BadRes, "no such CQ";
        NO_PD = 7, BadRes, "no such PD";
        NO_RMP = 8, BadRes, "no such RMP";
        NO_COUNTER = 9, BadRes, "no such Q counter set";
        PAGES = 10, BadInpLen, "page list does not cover the queue";
        LIMIT = 11, Lim, "no more queues";
        STRIDES = 12, BadParam, "log_wqe_num_of_strides out of range";
    }
    ModifyRq {
        MODIFY_NO_RQ = 1, BadRes, "no such RQ";
        MODIFY_FROM = 2, BadResState, "rq_state is not the state it is in";
        MODIFY_TO = 3, BadResState, "no such transition";
        MODIFY_NO_COUNTER = 4, BadRes, "no such Q counter set";
    }
    DestroyRq {
        DESTROY_NO_RQ = 1, BadRes, "no such RQ";
        BUSY = 2, ResBusy, "a TIR or RQT leads to it";
    }
    QueryRq {
        QUERY_NO_RQ = 1, BadRes, "no such RQ";
    }
}

/// `modify_rq_in.modify_bitmask`.
mod bitmask {
    pub const VSD: u64 = 1 << 1;
    pub const SCATTER_FCS: u64 = 1 << 2;
    pub const COUNTER_SET_ID: u64 = 1 << 3;
}

pub(super) fn create_rq(nic: &mut Nic, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let core = &mut nic.core;
    let rqc = CreateRqIn::new(input).rqc();
    let wq = rqc.wq();
    if rqc.hairpin() || wq.wq_umem_valid() || wq.dbr_umem_valid() {
        return Err(FEATURE);
    }
    if rqc.state() != QueueState::Reset as u8 {
        return Err(STATE);
    }
    let cqn = rqc.cqn();
    if !core.cqs.table.contains(cqn) {
        return Err(NO_CQ);
    }
    let counter_set = rqc.counter_set_id();
    if !has_counter_set(core, counter_set) {
        return Err(NO_COUNTER);
    }
    let wqes = match rqc.mem_rq_type() {
        0 => own_wqes(core, rqc)?,
        1 => {
            let rmp = core
                .srqs
                .get(rqc.rmpn())
                .filter(|srq| srq.kind == SrqKind::Rmp);
            rmp.ok_or(NO_RMP)?;
            Wqes::Rmp(rqc.rmpn())
        }
        _ => return Err(MEMORY),
    };
    let pd = wq.pd();
    let rqn = core.numbers.queue.alloc().ok_or(LIMIT)?;
    // All were just seen to exist.
    let _ = core.cqs.table.hold(cqn);
    let _ = match wqes {
        Wqes::Own(_) | Wqes::Striding(_) => core.resources.pds.hold(pd),
        Wqes::Rmp(rmpn) => core.srqs.hold(rmpn),
    };
    let rq = Rq {
        context: context(rqc.as_bytes()),
        state: QueueState::Reset,
        cqn,
        pd,
        reserved_lkey: rqc.rlky(),
        user_index: rqc.user_index(),
        strip_vlan: !rqc.vsd(),
        scatter_fcs: rqc.scatter_fcs(),
        flush_in_error: rqc.flush_in_error_en(),
        counter_set,
        wqes,
    };
    core.eth.rqs.insert(rqn, rq);
    CreateRqOut::new(output).set_rqn(rqn);
    Ok(())
}

/// The receive queue of an RQ without RMP.
fn own_wqes(core: &Core, rqc: Rqc<&[u8]>) -> Result<Wqes, CmdError> {
    let wq = rqc.wq();
    let (order, striding) = match wq.wq_type() {
        0 => (Order::LinkedList, false),
        1 => (Order::Cyclic, false),
        2 => (Order::LinkedList, true),
        3 => (Order::Cyclic, true),
        _ => return Err(KIND),
    };
    let strides = Strides::from_fields(
        wq.log_wqe_num_of_strides(),
        wq.log_wqe_stride_size(),
        wq.two_byte_shift_en(),
    );
    if striding && strides.is_none() {
        return Err(STRIDES);
    }
    let (log_size, log_stride) = (wq.log_wq_sz(), wq.log_wq_stride());
    if log_size > LOG_MAX_WQ_SIZE {
        return Err(SIZE);
    }
    // Linux's drop RQ, which never gets a WQE, has no PD.
    if wq.pd() != 0 && !core.resources.pds.contains(wq.pd()) {
        return Err(NO_PD);
    }
    let ring = buffer(wq, 1 << (log_size + log_stride)).map_err(|_| PAGES)?;
    let queue = ReceiveQueue::new(
        ring,
        order,
        log_size,
        log_stride,
        wq.wq_signature(),
        wq.dbr_addr(),
    )
    .ok_or(SIZE)?;
    Ok(match strides {
        Some(strides) if striding => Wqes::Striding(Striding::new(queue, strides)),
        _ => Wqes::Own(queue),
    })
}

fn has_counter_set(core: &Core, set: u8) -> bool {
    set == 0 || core.q_counters.contains(u32::from(set))
}

pub(super) fn modify_rq(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let core = &mut nic.core;
    let view = ModifyRqIn::new(input);
    let (rqn, rqc, select) = (view.rqn(), view.rqc(), view.modify_bitmask());
    let has_set = has_counter_set(core, rqc.counter_set_id());
    let rq = core.eth.rqs.get_mut(rqn).ok_or(MODIFY_NO_RQ)?;
    if view.rq_state() != rq.state as u8 {
        return Err(MODIFY_FROM);
    }
    let next = QueueState::from_bits(rqc.state()).ok_or(MODIFY_TO)?;
    if !rq.state.may_become(next) {
        return Err(MODIFY_TO);
    }
    if select & bitmask::COUNTER_SET_ID != 0 {
        if !has_set {
            return Err(MODIFY_NO_COUNTER);
        }
        rq.counter_set = rqc.counter_set_id();
        Rqc::new(&mut rq.context).set_counter_set_id(rqc.counter_set_id());
    }
    if select & bitmask::VSD != 0 {
        rq.strip_vlan = !rqc.vsd();
        Rqc::new(&mut rq.context).set_vsd(rqc.vsd());
    }
    if select & bitmask::SCATTER_FCS != 0 {
        rq.scatter_fcs = rqc.scatter_fcs();
        Rqc::new(&mut rq.context).set_scatter_fcs(rqc.scatter_fcs());
    }
    match next {
        QueueState::Error => {
            lro::deliver_queue(core, rqn);
            flush_rq(core, rqn);
        }
        QueueState::Reset => {
            rq.reset();
            rq.state = next;
            lro::drop_queue(core, rqn);
        }
        QueueState::Ready => rq.state = next,
    }
    Ok(())
}

pub(super) fn destroy_rq(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let rqn = DestroyRqIn::new(input).rqn();
    let core = &mut nic.core;
    if core.eth.rqs.refs(rqn) > 0 {
        return Err(BUSY);
    }
    let rq = core.eth.rqs.remove(rqn).ok_or(DESTROY_NO_RQ)?;
    lro::drop_queue(core, rqn);
    core.cqs.table.release(rq.cqn);
    match rq.wqes {
        Wqes::Own(_) | Wqes::Striding(_) => core.resources.pds.release(rq.pd),
        Wqes::Rmp(rmpn) => core.srqs.release(rmpn),
    }
    core.numbers.queue.free(rqn);
    Ok(())
}

pub(super) fn query_rq(nic: &mut Nic, input: &[u8], output: &mut Vec<u8>) -> Result<(), CmdError> {
    let rqn = QueryRqIn::new(input).rqn();
    let core = &mut nic.core;
    let rq = core.eth.rqs.get_mut(rqn).ok_or(QUERY_NO_RQ)?;
    output.resize(QueryRqOut::SIZE, 0);
    let mut view = QueryRqOut::new(&mut output[..]);
    let mut rqc = view.rqc_mut();
    rqc.as_bytes_mut().copy_from_slice(&rq.context);
    rqc.set_state(rq.state as u8);
    if let Some(queue) = rq.own_queue() {
        let (consumed, producer) = (queue.consumed(), queue.producer(&core.mem));
        rqc.wq_mut()
            .set_hw_counter(u32::from(consumed))
            .set_sw_counter(u32::from(producer));
    }
    Ok(())
}
