//! CREATE, MODIFY and DESTROY of TIRs and receive queue tables.

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::eth::{
    CreateRqtIn, CreateRqtOut, CreateTirIn, CreateTirOut, DestroyRqtIn, DestroyTirIn, ModifyRqtIn,
    ModifyTirIn, Rqtc, Tirc,
};

use crate::mlx5::cmd::CmdError;
use crate::mlx5::eth::loopback::Loopback;
use crate::mlx5::eth::lro::{self, Rules};
use crate::mlx5::eth::rss::Hasher;
use crate::mlx5::eth::tir::{Disposition, Rqt, Tir};
use crate::mlx5::nic::Nic;

checks! {
    CreateTir {
        NO_TD = 1, BadRes, "no such transport domain";
        NO_RQ = 2, BadRes, "no such RQ";
        NO_RQT = 3, BadRes, "no such RQT";
        DISPOSITION = 4, BadParam, "disp_type is neither direct nor indirect";
        FUNCTION = 5, BadParam, "rx_hash_fn unknown";
        FEATURE = 6, BadParam, "tls_en is not offered";
        LIMIT = 7, Lim, "no more TIRs";
        MERGE = 8, BadParam, "packet_merge_mask asks for more than LRO";
    }
    ModifyTir {
        MODIFY_NO_TIR = 1, BadRes, "no such TIR";
        MODIFY_FUNCTION = 2, BadParam, "rx_hash_fn unknown";
        MODIFY_MERGE = 3, BadParam, "packet_merge_mask asks for more than LRO";
    }
    DestroyTir {
        DESTROY_NO_TIR = 1, BadRes, "no such TIR";
        TIR_BUSY = 2, ResBusy, "a flow table entry leads to it";
    }
    CreateRqt {
        RQT_SIZE = 1, BadParam, "rqt_actual_size is no power of two or above rqt_max_size";
        RQT_MAX = 2, BadParam, "rqt_max_size is 0 or above the capability";
        RQT_LIST = 3, BadInpLen, "list shorter than rqt_actual_size";
        RQT_NO_RQ = 4, BadRes, "no such RQ";
        RQT_LIMIT = 5, Lim, "no more RQTs";
        RQT_TYPE = 6, BadParam, "list_q_type is not RQ";
    }
    ModifyRqt {
        MODIFY_NO_RQT = 1, BadRes, "no such RQT";
        MODIFY_RQT_SIZE = 2, BadParam, "rqt_actual_size is no power of two or above rqt_max_size";
        MODIFY_RQT_LIST = 3, BadInpLen, "list shorter than rqt_actual_size";
        MODIFY_RQT_NO_RQ = 4, BadRes, "no such RQ";
    }
    DestroyRqt {
        DESTROY_NO_RQT = 1, BadRes, "no such RQT";
        RQT_BUSY = 2, ResBusy, "a TIR leads to it";
    }
}

/// Entries of the largest table (`log_max_rqt_size` is 11).
const MAX_RQT_SIZE: u16 = 1 << 11;

/// `rx_hash_fn` and what belongs to it.
fn hasher(tirc: Tirc<&[u8]>) -> Option<Hasher> {
    let fields = tirc.rx_hash_field_selector_outer().selected_fields();
    Hasher::new(
        tirc.rx_hash_fn(),
        tirc.rx_hash_symmetric(),
        fields,
        &tirc.rx_hash_toeplitz_key(),
    )
}

/// What is to be merged. `None`: more than is offered.
fn merging(tirc: Tirc<&[u8]>) -> Option<Option<Rules>> {
    /// IPv4 and IPv6.
    const LRO: u8 = 3;
    let mask = tirc.packet_merge_mask();
    (mask & !LRO == 0).then(|| {
        Rules::from_fields(
            mask,
            tirc.lro_timeout_period_usecs(),
            tirc.lro_max_ip_payload_size(),
        )
    })
}

pub(super) fn create_tir(nic: &mut Nic, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let core = &mut nic.core;
    let tirc = CreateTirIn::new(input).tirc();
    if tirc.tls_en() {
        return Err(FEATURE);
    }
    let transport_domain = tirc.transport_domain();
    if !core.resources.transport_domains.contains(transport_domain) {
        return Err(NO_TD);
    }
    let disposition = match tirc.disp_type() {
        0 => Disposition::Direct(tirc.inline_rqn()),
        1 => Disposition::Indirect(tirc.indirect_table()),
        _ => return Err(DISPOSITION),
    };
    let hasher = hasher(tirc).ok_or(FUNCTION)?;
    match disposition {
        Disposition::Direct(rqn) if !core.eth.rqs.contains(rqn) => return Err(NO_RQ),
        Disposition::Indirect(rqtn) if !core.eth.rqts.contains(rqtn) => return Err(NO_RQT),
        _ => {}
    }
    let loopback = Loopback::from_bits(tirc.self_lb_block());
    let merging = merging(tirc).ok_or(MERGE)?;
    let tirn = core.eth.tir_numbers.alloc().ok_or(LIMIT)?;
    let _ = core.resources.transport_domains.hold(transport_domain);
    let _ = match disposition {
        Disposition::Direct(rqn) => core.eth.rqs.hold(rqn),
        Disposition::Indirect(rqtn) => core.eth.rqts.hold(rqtn),
    };
    let tir = Tir {
        disposition,
        hasher,
        transport_domain,
        loopback,
        merging,
    };
    core.eth.loops.add(&tir);
    core.eth.tirs.insert(tirn, tir);
    CreateTirOut::new(output).set_tirn(tirn);
    Ok(())
}

pub(super) fn modify_tir(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let view = ModifyTirIn::new(input);
    let core = &mut nic.core;
    if !core.eth.tirs.contains(view.tirn()) {
        return Err(MODIFY_NO_TIR);
    }
    let merging = if view.bitmask().packet_merge() {
        let merging = merging(view.tirc()).ok_or(MODIFY_MERGE)?;
        lro::deliver_all(core);
        Some(merging)
    } else {
        None
    };
    let eth = &mut core.eth;
    let tir = eth.tirs.get_mut(view.tirn()).ok_or(MODIFY_NO_TIR)?;
    if let Some(merging) = merging {
        tir.merging = merging;
    }
    if view.bitmask().hash() {
        tir.hasher = hasher(view.tirc()).ok_or(MODIFY_FUNCTION)?;
    }
    if view.bitmask().self_lb_en() {
        let loopback = Loopback::from_bits(view.tirc().self_lb_block());
        let before = std::mem::replace(&mut tir.loopback, loopback);
        eth.loops.changed(before, loopback);
    }
    Ok(())
}

pub(super) fn destroy_tir(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let tirn = DestroyTirIn::new(input).tirn();
    let core = &mut nic.core;
    if core.eth.tirs.refs(tirn) > 0 {
        return Err(TIR_BUSY);
    }
    let tir = core.eth.tirs.remove(tirn).ok_or(DESTROY_NO_TIR)?;
    if tir.merging.is_some() {
        lro::deliver_all(core);
    }
    core.resources
        .transport_domains
        .release(tir.transport_domain);
    core.eth.loops.remove(&tir);
    match tir.disposition {
        Disposition::Direct(rqn) => core.eth.rqs.release(rqn),
        Disposition::Indirect(rqtn) => core.eth.rqts.release(rqtn),
    }
    core.eth.tir_numbers.free(tirn);
    Ok(())
}

/// Why a list of RQs is refused.
enum BadList {
    Size,
    Short,
    NoRq,
}

/// Holds the RQs of a table context: all or none.
fn hold_list(nic: &mut Nic, rqtc: Rqtc<&[u8]>, max_size: u16) -> Result<Vec<u32>, BadList> {
    let size = rqtc.rqt_actual_size();
    if !size.is_power_of_two() || size > max_size {
        return Err(BadList::Size);
    }
    let list = rqtc.rq_num();
    if list.len() < usize::from(size) {
        return Err(BadList::Short);
    }
    let rqns: Vec<u32> = list
        .iter()
        .take(usize::from(size))
        .map(|entry| entry.rq_num())
        .collect();
    let rqs = &mut nic.core.eth.rqs;
    if !rqns.iter().all(|rqn| rqs.contains(*rqn)) {
        return Err(BadList::NoRq);
    }
    for rqn in &rqns {
        let _ = rqs.hold(*rqn);
    }
    Ok(rqns)
}

fn release_list(nic: &mut Nic, rqns: &[u32]) {
    for rqn in rqns {
        nic.core.eth.rqs.release(*rqn);
    }
}

pub(super) fn create_rqt(nic: &mut Nic, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let rqtc = CreateRqtIn::new(input).rqtc();
    let max_size = rqtc.rqt_max_size();
    if max_size == 0 || max_size > MAX_RQT_SIZE {
        return Err(RQT_MAX);
    }
    if rqtc.list_q_type() != 0 {
        return Err(RQT_TYPE);
    }
    let rqns = hold_list(nic, rqtc, max_size).map_err(|bad| match bad {
        BadList::Size => RQT_SIZE,
        BadList::Short => RQT_LIST,
        BadList::NoRq => RQT_NO_RQ,
    })?;
    let Some(rqtn) = nic.core.eth.rqt_numbers.alloc() else {
        release_list(nic, &rqns);
        return Err(RQT_LIMIT);
    };
    nic.core.eth.rqts.insert(rqtn, Rqt { rqns, max_size });
    CreateRqtOut::new(output).set_rqtn(rqtn);
    Ok(())
}

pub(super) fn modify_rqt(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let view = ModifyRqtIn::new(input);
    let max_size = nic
        .core
        .eth
        .rqts
        .get(view.rqtn())
        .ok_or(MODIFY_NO_RQT)?
        .max_size;
    if !view.bitmask().rqn_list() {
        return Ok(());
    }
    let new = hold_list(nic, view.rqtc(), max_size).map_err(|bad| match bad {
        BadList::Size => MODIFY_RQT_SIZE,
        BadList::Short => MODIFY_RQT_LIST,
        BadList::NoRq => MODIFY_RQT_NO_RQ,
    })?;
    let rqt = nic
        .core
        .eth
        .rqts
        .get_mut(view.rqtn())
        .ok_or(MODIFY_NO_RQT)?;
    let old = std::mem::replace(&mut rqt.rqns, new);
    release_list(nic, &old);
    Ok(())
}

pub(super) fn destroy_rqt(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let rqtn = DestroyRqtIn::new(input).rqtn();
    let eth = &mut nic.core.eth;
    if eth.rqts.refs(rqtn) > 0 {
        return Err(RQT_BUSY);
    }
    let rqt = eth.rqts.remove(rqtn).ok_or(DESTROY_NO_RQT)?;
    eth.rqt_numbers.free(rqtn);
    release_list(nic, &rqt.rqns);
    Ok(())
}
