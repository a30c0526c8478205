//! CREATE_MKEY, QUERY_MKEY, DESTROY_MKEY, QUERY_SPECIAL_CONTEXTS.

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::hca::QuerySpecialContextsOut;
use rocinante_firmware_cmd::mlx5::mkey::{
    CreateMkeyIn, CreateMkeyOut, DestroyMkeyIn, Mkc, QueryMkeyIn, QueryMkeyOut,
};

use super::CmdError;
use crate::mlx5::core::Core;
use crate::mlx5::mkey::{
    AccessMode, ListFault, MAX_STORED_OCTWORDS, Mkey, RESERVED_LKEY, Rights, Translation,
};

checks! {
    CreateMkey {
        MODE = 1, BadParam, "access_mode is none of PA, MTT, KLM, KSM";
        NO_PD = 2, BadRes, "pd names no PD";
        SHORT_LIST = 3, BadInpLen, "the list is shorter than translations_octword_actual_size";
        PAGE_SIZE = 4, BadParam, "log_page_size of a page list is below 12";
        OVERFLOW = 5, BadParam, "start_addr + len overflows";
        UMEM = 6, BadParam, "there are no umems";
        LIST_WITHOUT_USE = 7, BadParam, "a list for an access mode that has none";
        LIMIT = 8, Lim, "log_max_mkey is reached";
        BUDGET = 9, Lim, "the lists of all keys are too long";
    }
    QueryMkey { QUERY_NO_KEY = 1, BadRes, "no such mkey"; }
    DestroyMkey { DESTROY_NO_KEY = 1, BadRes, "no such mkey"; }
}

/// CREATE_MKEY.
pub fn create_mkey(core: &mut Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let create = CreateMkeyIn::new(input);
    let mkc = create.mkc();
    if create.mkey_umem_valid() {
        return Err(UMEM);
    }
    let mode = match mkc.access_mode_4_2() << 2 | mkc.access_mode_1_0() {
        0 => AccessMode::Pa,
        1 => AccessMode::Mtt,
        2 => AccessMode::Klm,
        3 => AccessMode::Ksm,
        _ => return Err(MODE),
    };
    let octwords = create.translations_octword_actual_size();
    let all = create.klm_pas_mtt();
    let list = usize::try_from(octwords)
        .ok()
        .and_then(|n| n.checked_mul(16))
        .and_then(|bytes| all.get(..bytes))
        .ok_or(SHORT_LIST)?;
    if mode == AccessMode::Pa && !list.is_empty() {
        return Err(LIST_WITHOUT_USE);
    }
    let (start, len) = (mkc.start_addr(), mkc.len());
    // Keys for the drivers' caches are created free; a UMR fills in what is missing.
    if !mkc.free() {
        if !core.resources.pds.contains(mkc.pd()) {
            return Err(NO_PD);
        }
        if mode == AccessMode::Mtt && mkc.log_page_size() < 12 {
            return Err(PAGE_SIZE);
        }
        if !mkc.length64() && start.checked_add(len).is_none() {
            return Err(OVERFLOW);
        }
    }
    if core.mkeys.stored_octwords + u64::from(octwords) > MAX_STORED_OCTWORDS {
        return Err(BUDGET);
    }
    let mut context = [0; Mkc::SIZE];
    Mkc::new(&mut context).assign(&mkc);
    let mkey = Mkey {
        variant: mkc.mkey_7_0(),
        free: mkc.free(),
        umr_en: mkc.umr_en(),
        remote_invalidate: mkc.en_rinval(),
        mode,
        rights: Rights::NONE
            .with_if(mkc.lr(), Rights::LOCAL_READ)
            .with_if(mkc.lw(), Rights::LOCAL_WRITE)
            .with_if(mkc.rr(), Rights::REMOTE_READ)
            .with_if(mkc.rw(), Rights::REMOTE_WRITE)
            .with_if(mkc.a(), Rights::ATOMIC),
        pd: mkc.pd(),
        qpn: mkc.qpn(),
        length64: mkc.length64(),
        start,
        len,
        log_page_size: mkc.log_page_size(),
        octwords: mkc.translations_octword_size().max(octwords),
        list: Translation::None,
        context,
    };
    let index = core.numbers.mkey.alloc().ok_or(LIMIT)?;
    core.mkeys.table.insert(index, mkey);
    if let Err(fault) = core.mkeys.write_list(index, None, list) {
        core.mkeys.remove(index);
        core.numbers.mkey.free(index);
        return Err(match fault {
            ListFault::Budget => BUDGET,
            ListFault::Refused => LIST_WITHOUT_USE,
        });
    }
    CreateMkeyOut::new(output).set_mkey_index(index);
    Ok(())
}

/// QUERY_MKEY: the context with what UMRs have made of it.
pub fn query_mkey(core: &Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let index = QueryMkeyIn::new(input).mkey_index();
    let mkey = core.mkeys.table.get(index).ok_or(QUERY_NO_KEY)?;
    let mut out = QueryMkeyOut::new(output);
    let mut mkc = out.mkc_mut();
    mkc.assign(&Mkc::new(&mkey.context));
    mkc.set_free(mkey.free)
        .set_mkey_7_0(mkey.variant)
        .set_qpn(mkey.qpn)
        .set_pd(mkey.pd)
        .set_length64(mkey.length64)
        .set_start_addr(mkey.start)
        .set_len(mkey.len)
        .set_log_page_size(mkey.log_page_size)
        .set_lr(mkey.rights.contains(Rights::LOCAL_READ))
        .set_lw(mkey.rights.contains(Rights::LOCAL_WRITE))
        .set_rr(mkey.rights.contains(Rights::REMOTE_READ))
        .set_rw(mkey.rights.contains(Rights::REMOTE_WRITE))
        .set_a(mkey.rights.contains(Rights::ATOMIC))
        .set_en_rinval(mkey.remote_invalidate);
    Ok(())
}

/// DESTROY_MKEY.
pub fn destroy_mkey(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let index = DestroyMkeyIn::new(input).mkey_index();
    core.mkeys.remove(index).ok_or(DESTROY_NO_KEY)?;
    core.numbers.mkey.free(index);
    Ok(())
}

/// QUERY_SPECIAL_CONTEXTS: the reserved lkey; the others belong to capabilities not offered.
pub fn query_special_contexts(output: &mut [u8]) {
    QuerySpecialContextsOut::new(output).set_resd_lkey(RESERVED_LKEY);
}
