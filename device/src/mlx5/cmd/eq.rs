//! CREATE_EQ, DESTROY_EQ, QUERY_EQ.

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::eq::{
    CreateEqIn, CreateEqOut, DestroyEqIn, Eqc, QueryEqIn, QueryEqOut,
};

use super::{CmdError, object_buffer};
use crate::mlx5::core::Core;
use crate::mlx5::eq::{Eq, Eqe, EventType};

checks! {
    CreateEq {
        SIZE = 1, BadParam, "log_eq_size is above log_max_eq_sz";
        VECTOR = 2, BadParam, "intr is not an MSI-X vector of this function";
        NO_UAR = 3, BadRes, "uar_page names no UAR";
        SHORT_LIST = 4, BadInpLen, "the page list does not cover the queue";
        LIMIT = 5, Lim, "log_max_eq is reached";
    }
    DestroyEq {
        DESTROY_NO_EQ = 1, BadRes, "no such EQ";
        BUSY = 2, ResBusy, "a CQ reports to the EQ";
    }
    QueryEq { QUERY_NO_EQ = 1, BadRes, "no such EQ"; }
}

/// `eqc.st` of an armed queue, and of one that has fired.
const ST_ARMED: u8 = 0x9;
const ST_FIRED: u8 = 0xa;

/// CREATE_EQ.
pub fn create_eq(core: &mut Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let create = CreateEqIn::new(input);
    let eqc = create.eqc();
    let log_size = eqc.log_eq_size();
    if log_size > core.hca.caps.general().log_max_eq_sz() {
        return Err(SIZE);
    }
    let vector = eqc.intr();
    if vector >= core.config.vectors {
        return Err(VECTOR);
    }
    let uar = eqc.uar_page();
    if !core.resources.uars.contains(uar) {
        return Err(NO_UAR);
    }
    let buffer = object_buffer(
        create.pas().iter(),
        eqc.log_page_size(),
        u32::from(eqc.page_offset()),
        64 << log_size,
    )
    .ok_or(SHORT_LIST)?;
    let mut mask = [0; 4];
    for (word, bytes) in mask.iter_mut().zip(create.event_bitmask().chunks_exact(8)) {
        *word = bytes
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    let mut context = [0; Eqc::SIZE];
    Eqc::new(&mut context).assign(&eqc);
    let eqn = core.numbers.eq.alloc().ok_or(LIMIT)?;
    core.eqs
        .table
        .insert(eqn, Eq::new(buffer, log_size, vector, mask, context));
    CreateEqOut::new(output).set_eq_number(eqn as u8);
    // Whoever asks for the module's events is told first that it is there.
    if mask[0] >> EventType::PortModule as u8 & 1 == 1 {
        core.event(Eqe::module_plugged());
    }
    Ok(())
}

/// DESTROY_EQ.
pub fn destroy_eq(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let eqn = u32::from(DestroyEqIn::new(input).eq_number());
    if core.eqs.table.refs(eqn) != 0 {
        return Err(BUSY);
    }
    core.eqs.table.remove(eqn).ok_or(DESTROY_NO_EQ)?;
    core.numbers.eq.free(eqn);
    Ok(())
}

/// QUERY_EQ.
pub fn query_eq(core: &Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let eqn = u32::from(QueryEqIn::new(input).eq_number());
    let eq = core.eqs.table.get(eqn).ok_or(QUERY_NO_EQ)?;
    let mut out = QueryEqOut::new(output);
    out.set_event_bitmask(eq.event_mask[0]);
    let mut eqc = out.eqc_mut();
    eqc.assign(&Eqc::new(&eq.context));
    eqc.set_status(0)
        .set_st(if eq.armed() { ST_ARMED } else { ST_FIRED })
        .set_producer_counter(eq.producer())
        .set_consumer_counter(eq.consumer());
    Ok(())
}
