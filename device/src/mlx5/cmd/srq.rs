//! Shared receive queues: RMP (the basic SRQ of ISSI 1), XRC SRQ, and the SRQ of ISSI 0.

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::srq::{
    ArmRqIn, ArmXrcSrqIn, CreateSrqIn, CreateSrqOut, CreateXrcSrqIn, CreateXrcSrqOut, DestroySrqIn,
    DestroyXrcSrqIn, QuerySrqIn, QuerySrqOut, QueryXrcSrqIn, QueryXrcSrqOut, Srqc, XrcSrqc,
};
use rocinante_firmware_cmd::mlx5::wq::{
    CreateRmpIn, CreateRmpOut, DestroyRmpIn, ModifyRmpIn, QueryRmpIn, QueryRmpOut, Rmpc,
};

use super::{CmdError, object_buffer};
use crate::mlx5::core::Core;
use crate::mlx5::eq::{Eqe, EventType};
use crate::mlx5::rq::{Order, ReceiveQueue};
use crate::mlx5::srq::{Srq, SrqKind};

checks! {
    CreateRmp {
        RMP_NO_PD = 1, BadRes, "wq.pd names no PD";
        RMP_SIZE = 2, BadParam, "log_wq_sz is above log_max_srq_sz";
        RMP_LIST = 3, BadInpLen, "the page list does not cover the queue";
        RMP_SHAPE = 4, BadParam, "stride or doorbell record of the queue is not possible";
        RMP_LIMIT = 5, Lim, "log_max_rmp is reached";
        RMP_TYPE = 6, BadParam, "wq_type is neither linked list nor cyclic";
        RMP_UMEM = 7, BadParam, "there are no umems";
    }
    ModifyRmp {
        MODIFY_NO_RMP = 1, BadRes, "no such RMP";
        MODIFY_STATE = 2, BadResState, "rmp_state is not the state of the RMP";
    }
    DestroyRmp {
        DESTROY_NO_RMP = 1, BadRes, "no such RMP";
        RMP_BUSY = 2, ResBusy, "a queue receives from the RMP";
    }
    QueryRmp { QUERY_NO_RMP = 1, BadRes, "no such RMP"; }
    CreateXrcSrq {
        XRC_NO_PD = 1, BadRes, "pd names no PD";
        XRC_SIZE = 2, BadParam, "log_xrc_srq_size is above log_max_srq_sz";
        XRC_LIST = 3, BadInpLen, "the page list does not cover the queue";
        XRC_SHAPE = 4, BadParam, "stride or doorbell record of the queue is not possible";
        XRC_LIMIT = 5, Lim, "log_max_srq is reached";
        XRC_NO_CQ = 6, BadRes, "cqn names no CQ";
        XRC_NO_XRCD = 7, BadRes, "xrcd names no XRC domain";
        XRC_UMEM = 8, BadParam, "there are no umems";
    }
    DestroyXrcSrq {
        DESTROY_NO_XRC = 1, BadRes, "no such XRC SRQ";
        XRC_BUSY = 2, ResBusy, "a QP receives from the XRC SRQ";
    }
    QueryXrcSrq { QUERY_NO_XRC = 1, BadRes, "no such XRC SRQ"; }
    ArmXrcSrq { ARM_NO_XRC = 1, BadRes, "no such XRC SRQ"; }
    CreateSrq {
        SRQ_NO_PD = 1, BadRes, "pd names no PD";
        SRQ_SIZE = 2, BadParam, "log_srq_size is above log_max_srq_sz";
        SRQ_LIST = 3, BadInpLen, "the page list does not cover the queue";
        SRQ_SHAPE = 4, BadParam, "stride or doorbell record of the queue is not possible";
        SRQ_LIMIT = 5, Lim, "log_max_srq is reached";
        SRQ_NO_CQ = 6, BadRes, "cqn names no CQ";
        SRQ_NO_XRCD = 7, BadRes, "xrcd names no XRC domain";
    }
    DestroySrq {
        DESTROY_NO_SRQ = 1, BadRes, "no such SRQ";
        SRQ_BUSY = 2, ResBusy, "a QP receives from the SRQ";
    }
    QuerySrq { QUERY_NO_SRQ = 1, BadRes, "no such SRQ"; }
    ArmRq { ARM_NO_SRQ = 1, BadRes, "no such SRQ"; }
}

/// `wq_type`.
const LINKED_LIST: u8 = 0;
const CYCLIC: u8 = 1;

/// State RDY of an RMP, and ERR.
const RMP_RDY: u8 = 1;
const RMP_ERR: u8 = 3;
/// State error of an SRQ or XRC SRQ; good is 0.
const SRQ_ERROR: u8 = 1;

/// Without user index.
const NO_USER_INDEX: u32 = 0xff_ffff;

/// What the three create commands say in their own ways.
struct Wanted<I> {
    kind: SrqKind,
    pd: u32,
    cqn: u32,
    xrcd: u32,
    order: Order,
    log_size: u8,
    /// log2 of bytes.
    log_stride: u8,
    signature: bool,
    log_page_size: u8,
    page_offset: u32,
    record: u64,
    pas: I,
    reserved_lkey: bool,
    user_index: u32,
    limit: u16,
}

/// Refusals, in the order of the checks; those about CQ and XRC domain are not reached by an RMP.
struct Refusals {
    pd: CmdError,
    cq: CmdError,
    xrcd: CmdError,
    size: CmdError,
    list: CmdError,
    shape: CmdError,
    limit: CmdError,
}

fn create(
    core: &mut Core,
    wanted: Wanted<impl Iterator<Item = u64>>,
    context: Vec<u8>,
    refusals: &Refusals,
) -> Result<u32, CmdError> {
    if !core.resources.pds.contains(wanted.pd) {
        return Err(refusals.pd);
    }
    if wanted.cqn != 0 && !core.cqs.table.contains(wanted.cqn) {
        return Err(refusals.cq);
    }
    if wanted.xrcd != 0 && !core.resources.xrcds.contains(wanted.xrcd) {
        return Err(refusals.xrcd);
    }
    if wanted.log_size > core.hca.caps.general().log_max_srq_sz() {
        return Err(refusals.size);
    }
    let size = 1u64 << (wanted.log_size + wanted.log_stride);
    let buffer = object_buffer(wanted.pas, wanted.log_page_size, wanted.page_offset, size)
        .ok_or(refusals.list)?;
    if !wanted.record.is_multiple_of(4) {
        return Err(refusals.shape);
    }
    let queue = ReceiveQueue::new(
        buffer,
        wanted.order,
        wanted.log_size,
        wanted.log_stride,
        wanted.signature,
        wanted.record,
    )
    .ok_or(refusals.shape)?;
    let number = core.numbers.srq.alloc().ok_or(refusals.limit)?;
    // Numbers 0 stand for "none" and are never objects.
    let _ = core.resources.pds.hold(wanted.pd);
    let _ = core.cqs.table.hold(wanted.cqn);
    let _ = core.resources.xrcds.hold(wanted.xrcd);
    let srq = Srq {
        kind: wanted.kind,
        queue,
        pd: wanted.pd,
        cqn: wanted.cqn,
        xrcd: wanted.xrcd,
        reserved_lkey: wanted.reserved_lkey,
        user_index: wanted.user_index,
        limit: wanted.limit,
        error: false,
        context,
    };
    core.srqs.insert(number, srq);
    Ok(number)
}

fn destroy(
    core: &mut Core,
    number: u32,
    kind: SrqKind,
    missing: CmdError,
    busy: CmdError,
) -> Result<(), CmdError> {
    find(core, number, kind, missing)?;
    if core.srqs.refs(number) != 0 {
        return Err(busy);
    }
    if let Some(srq) = core.srqs.remove(number) {
        core.resources.pds.release(srq.pd);
        core.cqs.table.release(srq.cqn);
        core.resources.xrcds.release(srq.xrcd);
        core.numbers.srq.free(number);
    }
    Ok(())
}

fn find(
    core: &mut Core,
    number: u32,
    kind: SrqKind,
    missing: CmdError,
) -> Result<&mut Srq, CmdError> {
    core.srqs
        .get_mut(number)
        .filter(|srq| srq.kind == kind)
        .ok_or(missing)
}

/// Arms the limit event; it is due at once if fewer WQEs are posted already.
fn arm(
    core: &mut Core,
    number: u32,
    kind: SrqKind,
    limit: u16,
    missing: CmdError,
) -> Result<(), CmdError> {
    let mem = core.mem.clone();
    let srq = find(core, number, kind, missing)?;
    srq.limit = limit;
    if limit != 0 && srq.queue.available(&mem) < limit {
        srq.limit = 0;
        core.event(Eqe::srq(EventType::SrqLimit, number));
    }
    Ok(())
}

/// CREATE_RMP.
pub fn create_rmp(core: &mut Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let create_rmp = CreateRmpIn::new(input);
    let rmpc = create_rmp.rmpc();
    let wq = rmpc.wq();
    if wq.dbr_umem_valid() || wq.wq_umem_valid() {
        return Err(RMP_UMEM);
    }
    let order = match wq.wq_type() {
        LINKED_LIST => Order::LinkedList,
        CYCLIC => Order::Cyclic,
        _ => return Err(RMP_TYPE),
    };
    let wanted = Wanted {
        kind: SrqKind::Rmp,
        pd: wq.pd(),
        cqn: 0,
        xrcd: 0,
        order,
        log_size: wq.log_wq_sz(),
        log_stride: wq.log_wq_stride(),
        signature: wq.wq_signature(),
        log_page_size: wq.log_wq_pg_sz(),
        page_offset: u32::from(wq.page_offset()),
        record: wq.dbr_addr(),
        pas: wq.pas().iter(),
        reserved_lkey: false,
        user_index: NO_USER_INDEX,
        limit: wq.lwm(),
    };
    let refusals = Refusals {
        pd: RMP_NO_PD,
        cq: RMP_SHAPE,
        xrcd: RMP_SHAPE,
        size: RMP_SIZE,
        list: RMP_LIST,
        shape: RMP_SHAPE,
        limit: RMP_LIMIT,
    };
    let context = context_of(rmpc.as_bytes(), Rmpc::SIZE);
    let number = create(core, wanted, context, &refusals)?;
    CreateRmpOut::new(output).set_rmpn(number);
    Ok(())
}

/// MODIFY_RMP: arms the limit if so selected.
pub fn modify_rmp(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let modify = ModifyRmpIn::new(input);
    let number = modify.rmpn();
    let srq = find(core, number, SrqKind::Rmp, MODIFY_NO_RMP)?;
    if modify.rmp_state() != rmp_state(srq) {
        return Err(MODIFY_STATE);
    }
    if modify.bitmask().lwm() {
        let limit = modify.rmpc().wq().lwm();
        arm(core, number, SrqKind::Rmp, limit, MODIFY_NO_RMP)?;
    }
    Ok(())
}

/// DESTROY_RMP.
pub fn destroy_rmp(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let number = DestroyRmpIn::new(input).rmpn();
    destroy(core, number, SrqKind::Rmp, DESTROY_NO_RMP, RMP_BUSY)
}

/// QUERY_RMP.
pub fn query_rmp(core: &mut Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let srq = find(
        core,
        QueryRmpIn::new(input).rmpn(),
        SrqKind::Rmp,
        QUERY_NO_RMP,
    )?;
    let mut out = QueryRmpOut::new(output);
    let mut rmpc = out.rmpc_mut();
    rmpc.assign(&Rmpc::new(&srq.context));
    rmpc.set_state(rmp_state(srq));
    let mut wq = rmpc.wq_mut();
    wq.set_lwm(srq.limit)
        .set_hw_counter(u32::from(srq.queue.consumed()));
    Ok(())
}

fn rmp_state(srq: &Srq) -> u8 {
    if srq.error { RMP_ERR } else { RMP_RDY }
}

/// CREATE_XRC_SRQ.
pub fn create_xrc_srq(core: &mut Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let create_srq = CreateXrcSrqIn::new(input);
    let srqc = create_srq.xrc_srqc();
    if create_srq.xrc_srq_umem_valid() || srqc.dbr_umem_valid() {
        return Err(XRC_UMEM);
    }
    let order = if srqc.basic_cyclic_rcv_wqe() {
        Order::Cyclic
    } else {
        Order::LinkedList
    };
    let wanted = Wanted {
        kind: SrqKind::Xrc,
        pd: srqc.pd(),
        cqn: srqc.cqn(),
        xrcd: srqc.xrcd(),
        order,
        log_size: srqc.log_xrc_srq_size(),
        log_stride: srqc.log_rq_stride() + 4,
        signature: srqc.wq_signature(),
        log_page_size: srqc.log_page_size(),
        page_offset: u32::from(srqc.page_offset()),
        record: u64::from(srqc.db_record_addr_h()) << 32 | u64::from(srqc.db_record_addr_l()) << 2,
        pas: create_srq.pas().iter(),
        reserved_lkey: srqc.rlky(),
        user_index: srqc.user_index(),
        limit: srqc.lwm(),
    };
    // An XRC SRQ is nothing without its CQ and domain.
    if wanted.cqn == 0 {
        return Err(XRC_NO_CQ);
    }
    if wanted.xrcd == 0 {
        return Err(XRC_NO_XRCD);
    }
    let refusals = Refusals {
        pd: XRC_NO_PD,
        cq: XRC_NO_CQ,
        xrcd: XRC_NO_XRCD,
        size: XRC_SIZE,
        list: XRC_LIST,
        shape: XRC_SHAPE,
        limit: XRC_LIMIT,
    };
    let by_number = srqc.user_index_equal_xrc_srqn();
    let context = context_of(srqc.as_bytes(), XrcSrqc::SIZE);
    let number = create(core, wanted, context, &refusals)?;
    if let Some(srq) = core.srqs.get_mut(number).filter(|_| by_number) {
        srq.user_index = number;
    }
    CreateXrcSrqOut::new(output).set_xrc_srqn(number);
    Ok(())
}

/// DESTROY_XRC_SRQ.
pub fn destroy_xrc_srq(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let number = DestroyXrcSrqIn::new(input).xrc_srqn();
    destroy(core, number, SrqKind::Xrc, DESTROY_NO_XRC, XRC_BUSY)
}

/// QUERY_XRC_SRQ.
pub fn query_xrc_srq(core: &mut Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let mem = core.mem.clone();
    let srq = find(
        core,
        QueryXrcSrqIn::new(input).xrc_srqn(),
        SrqKind::Xrc,
        QUERY_NO_XRC,
    )?;
    let mut out = QueryXrcSrqOut::new(output);
    let mut srqc = out.xrc_srqc_mut();
    srqc.assign(&XrcSrqc::new(&srq.context));
    srqc.set_state(if srq.error { SRQ_ERROR } else { 0 })
        .set_lwm(srq.limit)
        .set_wqe_cnt(srq.queue.available(&mem));
    Ok(())
}

/// ARM_XRC_SRQ.
pub fn arm_xrc_srq(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let request = ArmXrcSrqIn::new(input);
    arm(
        core,
        request.xrc_srqn(),
        SrqKind::Xrc,
        request.lwm(),
        ARM_NO_XRC,
    )
}

/// CREATE_SRQ. Drivers name a CQ and an XRC domain for a basic SRQ too, and make XRC SRQs with the
/// same command.
pub fn create_srq(core: &mut Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let create_srq = CreateSrqIn::new(input);
    let srqc = create_srq.srqc();
    let wanted = Wanted {
        kind: SrqKind::Basic,
        pd: srqc.pd(),
        cqn: srqc.cqn(),
        xrcd: srqc.xrcd(),
        order: Order::LinkedList,
        log_size: srqc.log_srq_size(),
        log_stride: srqc.log_rq_stride() + 4,
        signature: srqc.wq_signature(),
        log_page_size: srqc.log_page_size(),
        page_offset: u32::from(srqc.page_offset()),
        record: srqc.dbr_addr(),
        pas: create_srq.pas().iter(),
        reserved_lkey: srqc.rlky(),
        user_index: NO_USER_INDEX,
        limit: srqc.lwm(),
    };
    let refusals = Refusals {
        pd: SRQ_NO_PD,
        cq: SRQ_NO_CQ,
        xrcd: SRQ_NO_XRCD,
        size: SRQ_SIZE,
        list: SRQ_LIST,
        shape: SRQ_SHAPE,
        limit: SRQ_LIMIT,
    };
    let context = context_of(srqc.as_bytes(), Srqc::SIZE);
    let number = create(core, wanted, context, &refusals)?;
    CreateSrqOut::new(output).set_srqn(number);
    Ok(())
}

/// DESTROY_SRQ.
pub fn destroy_srq(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let number = DestroySrqIn::new(input).srqn();
    destroy(core, number, SrqKind::Basic, DESTROY_NO_SRQ, SRQ_BUSY)
}

/// QUERY_SRQ.
pub fn query_srq(core: &mut Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let mem = core.mem.clone();
    let srq = find(
        core,
        QuerySrqIn::new(input).srqn(),
        SrqKind::Basic,
        QUERY_NO_SRQ,
    )?;
    let mut out = QuerySrqOut::new(output);
    let mut srqc = out.srqc_mut();
    srqc.assign(&Srqc::new(&srq.context));
    srqc.set_state(if srq.error { SRQ_ERROR } else { 0 })
        .set_lwm(srq.limit)
        .set_wqe_cnt(srq.queue.available(&mem));
    Ok(())
}

/// ARM_RQ.
pub fn arm_rq(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let request = ArmRqIn::new(input);
    arm(
        core,
        request.srq_number(),
        SrqKind::Basic,
        request.lwm(),
        ARM_NO_SRQ,
    )
}

/// A context without the page list that may follow it.
fn context_of(bytes: &[u8], size: usize) -> Vec<u8> {
    bytes
        .iter()
        .copied()
        .chain(std::iter::repeat(0))
        .take(size)
        .collect()
}
