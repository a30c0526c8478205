//! CREATE_CQ, DESTROY_CQ, QUERY_CQ, MODIFY_CQ (moderation and resize).

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::layout::Bytes;
use rocinante_firmware_cmd::mlx5::cq::{
    Cqc, CreateCqIn, CreateCqOut, DestroyCqIn, ModifyCqIn, QueryCqIn, QueryCqOut,
};

use super::{CmdError, object_buffer};
use crate::mlx5::core::Core;
use crate::mlx5::cq::{Cq, CqRing, Moderation};

checks! {
    CreateCq {
        NO_EQ = 1, BadRes, "c_eqn names no EQ";
        NO_UAR = 2, BadParam, "uar_page names no UAR";
        SIZE = 3, BadParam, "log_cq_size is above log_max_cq_sz";
        CQE_SIZE = 4, BadParam, "cqe_sz is above 2";
        SHORT_LIST = 5, BadInpLen, "the page list does not cover the queue";
        RECORD = 6, BadParam, "dbr_addr is not a multiple of 8";
        UMEM = 7, BadParam, "there are no umems";
        LIMIT = 8, Lim, "log_max_cq is reached";
    }
    DestroyCq {
        DESTROY_NO_CQ = 1, BadRes, "no such CQ";
        BUSY = 2, ResBusy, "a queue completes on the CQ";
    }
    QueryCq { QUERY_NO_CQ = 1, BadRes, "no such CQ"; }
    ModifyCq {
        MODIFY_NO_CQ = 1, BadRes, "no such CQ";
        MODIFY_SELECT = 2, BadParam, "a selected field cannot be modified";
        MODIFY_MODE = 3, BadParam, "op_mod is neither modify nor resize";
        RESIZE_SIZE = 4, BadParam, "log_cq_size is above log_max_cq_sz";
        RESIZE_CQE_SIZE = 5, BadParam, "cqe_sz is above 2";
        RESIZE_LIST = 6, BadInpLen, "the page list does not cover the queue";
        OUTSTANDING = 7, BadSizeOutsCqes, "more completions are outstanding than the new size holds";
        RESIZE_UMEM = 8, BadParam, "there are no umems";
    }
}

/// Bits of `field_select` of a modification.
const SELECT_PERIOD: u32 = 1 << 0;
const SELECT_MAX_COUNT: u32 = 1 << 1;
const SELECT_OVERRUN_IGNORE: u32 = 1 << 2;
const SELECT_PERIOD_MODE: u32 = 1 << 4;

/// Bits of `field_select` of a resize.
const SELECT_LOG_SIZE: u32 = 1 << 0;
const SELECT_PAGE_OFFSET: u32 = 1 << 1;
const SELECT_PAGE_SIZE: u32 = 1 << 2;

/// `cq_period_mode` 1: the moderation period starts anew with each CQE.
const PERIOD_FROM_CQE: u8 = 1;

fn moderation<B: Bytes>(cqc: &Cqc<B>) -> Moderation {
    Moderation {
        period_us: cqc.cq_period(),
        max_count: cqc.cq_max_count(),
        restart_on_cqe: cqc.cq_period_mode() == PERIOD_FROM_CQE,
    }
}

/// The ring that a context describes; the error tells what is wrong.
fn ring<B: Bytes>(
    log_max_size: u8,
    cqc: &Cqc<B>,
    pas: impl Iterator<Item = u64>,
    [size, cqe_size, short_list]: [CmdError; 3],
) -> Result<CqRing, CmdError> {
    let log_size = cqc.log_cq_size();
    if log_size > log_max_size {
        return Err(size);
    }
    let stride = match cqc.cqe_sz() {
        0 => 64,
        1 | 2 => 128,
        _ => return Err(cqe_size),
    };
    let page_offset = u32::from(cqc.page_offset());
    let buffer = object_buffer(
        pas,
        cqc.log_page_size(),
        page_offset,
        u64::from(stride) << log_size,
    )
    .ok_or(short_list)?;
    Ok(CqRing {
        buffer,
        log_size,
        stride,
    })
}

/// CREATE_CQ.
pub fn create_cq(core: &mut Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let create = CreateCqIn::new(input);
    let cqc = create.cqc();
    if create.cq_umem_valid() || cqc.dbr_umem_valid() {
        return Err(UMEM);
    }
    // 8 significant bits: FreeBSD declares no more.
    let eqn = cqc.c_eqn() & 0xff;
    let uar = cqc.uar_page();
    let log_max_size = core.hca.caps.general().log_max_cq_sz();
    let ring = ring(
        log_max_size,
        &cqc,
        create.pas().iter(),
        [SIZE, CQE_SIZE, SHORT_LIST],
    )?;
    if !core.eqs.table.contains(eqn) {
        return Err(NO_EQ);
    }
    if !core.resources.uars.contains(uar) {
        return Err(NO_UAR);
    }
    if !cqc.dbr_addr().is_multiple_of(8) {
        return Err(RECORD);
    }
    let cqn = core.numbers.cq.alloc().ok_or(LIMIT)?;
    let _ = core.eqs.table.hold(eqn);
    let mut context = [0; Cqc::SIZE];
    Cqc::new(&mut context).assign(&cqc);
    let cq = Cq::new(
        eqn,
        ring,
        cqc.dbr_addr(),
        cqc.oi(),
        moderation(&cqc),
        context,
    );
    core.cqs.table.insert(cqn, cq);
    CreateCqOut::new(output).set_cqn(cqn);
    Ok(())
}

/// DESTROY_CQ.
pub fn destroy_cq(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let cqn = DestroyCqIn::new(input).cqn();
    if core.cqs.table.refs(cqn) != 0 {
        return Err(BUSY);
    }
    let cq = core.cqs.table.remove(cqn).ok_or(DESTROY_NO_CQ)?;
    core.eqs.table.release(cq.eqn);
    core.numbers.cq.free(cqn);
    Ok(())
}

/// QUERY_CQ.
pub fn query_cq(core: &Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let cqn = QueryCqIn::new(input).cqn();
    let cq = core.cqs.table.get(cqn).ok_or(QUERY_NO_CQ)?;
    let mut out = QueryCqOut::new(output);
    let mut cqc = out.cqc_mut();
    cqc.assign(&Cqc::new(&cq.context));
    cqc.set_status(cq.status())
        .set_st(cq.st())
        .set_producer_counter(cq.producer())
        .set_consumer_counter(cq.consumer(&core.mem));
    Ok(())
}

/// MODIFY_CQ: op_mod 0 modifies, 1 resizes.
pub fn modify_cq(core: &mut Core, op_mod: u16, input: &[u8]) -> Result<(), CmdError> {
    let modify = ModifyCqIn::new(input);
    let cqn = modify.cqn();
    if !core.cqs.table.contains(cqn) {
        return Err(MODIFY_NO_CQ);
    }
    match op_mod {
        0 => modify_fields(core, cqn, modify.field_select(), &modify.cqc()),
        1 => resize(core, cqn, &modify),
        _ => Err(MODIFY_MODE),
    }
}

fn modify_fields<B: Bytes>(
    core: &mut Core,
    cqn: u32,
    select: u32,
    new: &Cqc<B>,
) -> Result<(), CmdError> {
    const KNOWN: u32 =
        SELECT_PERIOD | SELECT_MAX_COUNT | SELECT_OVERRUN_IGNORE | SELECT_PERIOD_MODE;
    if select & !KNOWN != 0 {
        return Err(MODIFY_SELECT);
    }
    let cq = core.cqs.table.get_mut(cqn).ok_or(MODIFY_NO_CQ)?;
    let mut cqc = Cqc::new(&mut cq.context);
    if select & SELECT_PERIOD != 0 {
        cqc.set_cq_period(new.cq_period());
    }
    if select & SELECT_MAX_COUNT != 0 {
        cqc.set_cq_max_count(new.cq_max_count());
    }
    if select & SELECT_OVERRUN_IGNORE != 0 {
        cqc.set_oi(new.oi());
    }
    if select & SELECT_PERIOD_MODE != 0 {
        cqc.set_cq_period_mode(new.cq_period_mode());
    }
    cq.overrun_ignore = cqc.oi();
    cq.moderation = moderation(&cqc);
    Ok(())
}

fn resize(core: &mut Core, cqn: u32, modify: &ModifyCqIn<&[u8]>) -> Result<(), CmdError> {
    if modify.cq_umem_valid() {
        return Err(RESIZE_UMEM);
    }
    let select = modify.field_select();
    if select & !(SELECT_LOG_SIZE | SELECT_PAGE_OFFSET | SELECT_PAGE_SIZE) != 0 {
        return Err(MODIFY_SELECT);
    }
    let new = modify.cqc();
    let mut context = core.cqs.table.get(cqn).ok_or(MODIFY_NO_CQ)?.context;
    let mut cqc = Cqc::new(&mut context);
    if select & SELECT_LOG_SIZE != 0 {
        cqc.set_log_cq_size(new.log_cq_size());
    }
    if select & SELECT_PAGE_OFFSET != 0 {
        cqc.set_page_offset(new.page_offset());
    }
    if select & SELECT_PAGE_SIZE != 0 {
        cqc.set_log_page_size(new.log_page_size());
    }
    // Has no bit of its own; drivers always send it.
    cqc.set_cqe_sz(new.cqe_sz());
    let log_max_size = core.hca.caps.general().log_max_cq_sz();
    let ring = ring(
        log_max_size,
        &cqc,
        modify.pas().iter(),
        [RESIZE_SIZE, RESIZE_CQE_SIZE, RESIZE_LIST],
    )?;
    if !core.cqs.resize(&core.mem, cqn, ring) {
        return Err(OUTSTANDING);
    }
    if let Some(cq) = core.cqs.table.get_mut(cqn) {
        cq.context = context;
    }
    Ok(())
}
