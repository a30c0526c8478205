//! CREATE, MODIFY, DESTROY and QUERY_SQ.

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::wq::{
    CreateSqIn, CreateSqOut, DestroySqIn, ModifySqIn, QuerySqIn, QuerySqOut,
};

use super::{LOG_MAX_WQ_SIZE, buffer, context};
use crate::mlx5::cmd::CmdError;
use crate::mlx5::eth::sq::Sq;
use crate::mlx5::eth::{QueueState, flush_sq};
use crate::mlx5::nic::Nic;

checks! {
    CreateSq {
        KIND = 1, BadParam, "wq_type is not cyclic or the stride not 64";
        SIZE = 2, BadParam, "log_wq_sz above log_max_wq_sz";
        FEATURE = 3, BadParam, "asks for a feature that is not offered";
        STATE = 4, BadParam, "initial state is not RST";
        TIS_COUNT = 5, BadParam, "tis_lst_sz above 1";
        NO_CQ = 6, BadRes, "no such CQ";
        NO_PD = 7, BadRes, "no such PD";
        NO_UAR = 8, BadRes, "no such UAR";
        NO_TIS = 9, BadRes, "no such TIS";
        PAGES = 10, BadInpLen, "page list does not cover the queue";
        LIMIT = 11, Lim, "no more queues";
    }
    ModifySq {
        MODIFY_NO_SQ = 1, BadRes, "no such SQ";
        MODIFY_FROM = 2, BadResState, "sq_state is not the state it is in";
        MODIFY_TO = 3, BadResState, "no such transition";
    }
    DestroySq {
        DESTROY_NO_SQ = 1, BadRes, "no such SQ";
    }
    QuerySq {
        QUERY_NO_SQ = 1, BadRes, "no such SQ";
    }
}

pub(super) fn create_sq(nic: &mut Nic, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let sqc = CreateSqIn::new(input).sqc();
    let wq = sqc.wq();
    if wq.wq_type() != 1 || wq.log_wq_stride() != 6 {
        return Err(KIND);
    }
    let log_size = wq.log_wq_sz();
    if log_size > LOG_MAX_WQ_SIZE {
        return Err(SIZE);
    }
    if sqc.hairpin() || sqc.non_wire() || wq.wq_umem_valid() || wq.dbr_umem_valid() {
        return Err(FEATURE);
    }
    if sqc.state() != QueueState::Reset as u8 {
        return Err(STATE);
    }
    let tisn = match sqc.tis_lst_sz() {
        // Linux' queues for internal operations name none.
        0 => None,
        1 => Some(sqc.tis_num_0()),
        _ => return Err(TIS_COUNT),
    };
    let core = &mut nic.core;
    let (cqn, pd, uar) = (sqc.cqn(), wq.pd(), wq.uar_page());
    if !core.cqs.table.contains(cqn) {
        return Err(NO_CQ);
    }
    if !core.resources.pds.contains(pd) {
        return Err(NO_PD);
    }
    if !core.resources.uars.contains(uar) {
        return Err(NO_UAR);
    }
    if tisn.is_some_and(|tisn| !core.eth.tiss.contains(tisn)) {
        return Err(NO_TIS);
    }
    let ring = buffer(wq, 64 << log_size).map_err(|_| PAGES)?;
    let sqn = core.numbers.queue.alloc().ok_or(LIMIT)?;
    // All were just seen to exist.
    let _ = core.cqs.table.hold(cqn);
    let _ = core.resources.pds.hold(pd);
    if let Some(tisn) = tisn {
        let _ = core.eth.tiss.hold(tisn);
    }
    let sq = Sq {
        context: context(sqc.as_bytes()),
        state: QueueState::Reset,
        cqn,
        tisn,
        pd,
        reserved_lkey: sqc.rlky(),
        reg_umr: sqc.reg_umr(),
        user_index: sqc.user_index(),
        flush_in_error: sqc.flush_in_error_en(),
        ring,
        log_size,
        doorbell_record: wq.dbr_addr(),
        consumer: 0,
        waiting: false,
    };
    core.eth.sqs.insert(sqn, sq);
    CreateSqOut::new(output).set_sqn(sqn);
    Ok(())
}

pub(super) fn modify_sq(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let view = ModifySqIn::new(input);
    let sqn = view.sqn();
    let sq = nic.core.eth.sqs.get_mut(sqn).ok_or(MODIFY_NO_SQ)?;
    if view.sq_state() != sq.state as u8 {
        return Err(MODIFY_FROM);
    }
    let next = QueueState::from_bits(view.sqc().state()).ok_or(MODIFY_TO)?;
    if !sq.state.may_become(next) {
        return Err(MODIFY_TO);
    }
    // `modify_bitmask` selects rate limits and hairpins, which are not offered.
    if next == QueueState::Error {
        flush_sq(&mut nic.core, sqn);
        return Ok(());
    }
    if next == QueueState::Reset {
        sq.consumer = 0;
    }
    sq.state = next;
    Ok(())
}

pub(super) fn destroy_sq(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let sqn = DestroySqIn::new(input).sqn();
    let core = &mut nic.core;
    let sq = core.eth.sqs.remove(sqn).ok_or(DESTROY_NO_SQ)?;
    core.cqs.table.release(sq.cqn);
    core.resources.pds.release(sq.pd);
    if let Some(tisn) = sq.tisn {
        core.eth.tiss.release(tisn);
    }
    core.numbers.queue.free(sqn);
    Ok(())
}

pub(super) fn query_sq(nic: &mut Nic, input: &[u8], output: &mut Vec<u8>) -> Result<(), CmdError> {
    let sqn = QuerySqIn::new(input).sqn();
    let sq = nic.core.eth.sqs.get(sqn).ok_or(QUERY_NO_SQ)?;
    output.resize(QuerySqOut::SIZE, 0);
    let mut view = QuerySqOut::new(&mut output[..]);
    let mut sqc = view.sqc_mut();
    sqc.as_bytes_mut().copy_from_slice(&sq.context);
    sqc.set_state(sq.state as u8);
    let producer = sq.producer(&nic.core.mem);
    sqc.wq_mut()
        .set_hw_counter(u32::from(sq.consumer))
        .set_sw_counter(u32::from(producer));
    Ok(())
}
