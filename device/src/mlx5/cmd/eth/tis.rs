//! CREATE, MODIFY, DESTROY and QUERY_TIS.

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::eth::{
    CreateTisIn, CreateTisOut, DestroyTisIn, ModifyTisIn, QueryTisIn, QueryTisOut, Tisc,
};

use super::context;
use crate::mlx5::cmd::CmdError;
use crate::mlx5::eth::tir::Tis;
use crate::mlx5::nic::Nic;

checks! {
    CreateTis {
        NO_TD = 1, BadRes, "no such transport domain";
        NO_PD = 2, BadRes, "no such PD";
        FEATURE = 3, BadParam, "tls_en is not offered";
        LIMIT = 4, Lim, "no more TISs";
    }
    ModifyTis {
        MODIFY_NO_TIS = 1, BadRes, "no such TIS";
    }
    DestroyTis {
        DESTROY_NO_TIS = 1, BadRes, "no such TIS";
        BUSY = 2, ResBusy, "an SQ sends through it";
    }
    QueryTis {
        QUERY_NO_TIS = 1, BadRes, "no such TIS";
    }
}

pub(super) fn create_tis(nic: &mut Nic, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let core = &mut nic.core;
    let tisc = CreateTisIn::new(input).tisc();
    let (transport_domain, pd) = (tisc.transport_domain(), tisc.pd());
    if tisc.tls_en() {
        return Err(FEATURE);
    }
    if !core.resources.transport_domains.contains(transport_domain) {
        return Err(NO_TD);
    }
    if pd != 0 && !core.resources.pds.contains(pd) {
        return Err(NO_PD);
    }
    let tisn = core.eth.tis_numbers.alloc().ok_or(LIMIT)?;
    let _ = core.resources.transport_domains.hold(transport_domain);
    if pd != 0 {
        let _ = core.resources.pds.hold(pd);
    }
    let tis = Tis {
        context: context(tisc.as_bytes()),
        transport_domain,
        pd,
    };
    core.eth.tiss.insert(tisn, tis);
    CreateTisOut::new(output).set_tisn(tisn);
    Ok(())
}

pub(super) fn modify_tis(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let view = ModifyTisIn::new(input);
    let tis = nic
        .core
        .eth
        .tiss
        .get_mut(view.tisn())
        .ok_or(MODIFY_NO_TIS)?;
    // Link aggregation is not offered; its fields say nothing here.
    if view.bitmask().prio() {
        Tisc::new(&mut tis.context).set_prio(view.tisc().prio());
    }
    Ok(())
}

pub(super) fn destroy_tis(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let tisn = DestroyTisIn::new(input).tisn();
    let core = &mut nic.core;
    if core.eth.tiss.refs(tisn) > 0 {
        return Err(BUSY);
    }
    let tis = core.eth.tiss.remove(tisn).ok_or(DESTROY_NO_TIS)?;
    core.resources
        .transport_domains
        .release(tis.transport_domain);
    if tis.pd != 0 {
        core.resources.pds.release(tis.pd);
    }
    core.eth.tis_numbers.free(tisn);
    Ok(())
}

pub(super) fn query_tis(nic: &mut Nic, input: &[u8], output: &mut Vec<u8>) -> Result<(), CmdError> {
    let tisn = QueryTisIn::new(input).tisn();
    let tis = nic.core.eth.tiss.get(tisn).ok_or(QUERY_NO_TIS)?;
    output.resize(QueryTisOut::SIZE, 0);
    QueryTisOut::new(&mut output[..])
        .tisc_mut()
        .as_bytes_mut()
        .copy_from_slice(&tis.context);
    Ok(())
}
