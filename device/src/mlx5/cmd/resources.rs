//! UARs, protection domains, transport domains, XRC domains: numbers handed out for the asking.

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::resources::{
    AllocPdOut, AllocTransportDomainOut, AllocUarOut, AllocXrcdOut, DeallocPdIn,
    DeallocTransportDomainIn, DeallocUarIn, DeallocXrcdIn,
};

use super::CmdError;
use crate::mlx5::core::Core;
use crate::mlx5::table::{Numbers, Table};

checks! {
    AllocUar { UAR_LIMIT = 1, Lim, "all UARs are in use"; }
    DeallocUar { NO_UAR = 1, BadRes, "no such UAR"; }
    AllocPd { PD_LIMIT = 1, Lim, "log_max_pd is reached"; }
    DeallocPd {
        NO_PD = 1, BadRes, "no such PD";
        PD_BUSY = 2, ResBusy, "the PD is in use by a queue";
        PD_HAS_MKEYS = 3, ResBusy, "the PD is in use by a memory key";
    }
    AllocTransportDomain { TD_LIMIT = 1, Lim, "log_max_transport_domain is reached"; }
    DeallocTransportDomain {
        NO_TD = 1, BadRes, "no such transport domain";
        TD_BUSY = 2, ResBusy, "the transport domain is in use by a TIS or TIR";
    }
    AllocXrcd { XRCD_LIMIT = 1, Lim, "log_max_xrcd is reached"; }
    DeallocXrcd {
        NO_XRCD = 1, BadRes, "no such XRC domain";
        XRCD_BUSY = 2, ResBusy, "the XRC domain is in use by a queue";
    }
}

fn alloc(table: &mut Table<()>, numbers: &mut Numbers, limit: CmdError) -> Result<u32, CmdError> {
    let number = numbers.alloc().ok_or(limit)?;
    table.insert(number, ());
    Ok(number)
}

fn dealloc(
    table: &mut Table<()>,
    numbers: &mut Numbers,
    number: u32,
    missing: CmdError,
    busy: CmdError,
) -> Result<(), CmdError> {
    if !table.contains(number) {
        return Err(missing);
    }
    if table.refs(number) != 0 {
        return Err(busy);
    }
    table.remove(number);
    numbers.free(number);
    Ok(())
}

/// ALLOC_UAR.
pub fn alloc_uar(core: &mut Core, output: &mut [u8]) -> Result<(), CmdError> {
    let r = &mut core.resources;
    let uar = alloc(&mut r.uars, &mut r.uar_numbers, UAR_LIMIT)?;
    AllocUarOut::new(output).set_uar(uar);
    Ok(())
}

/// DEALLOC_UAR. A queue that was made with it does not hold it: when a process ends, Linux frees the
/// UARs first that the process had mapped, looks at no status, and destroys the queues after
/// (`mlx5_ib_mmap_free`).
pub fn dealloc_uar(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let r = &mut core.resources;
    let uar = DeallocUarIn::new(input).uar();
    r.uars.remove(uar).ok_or(NO_UAR)?;
    r.uar_numbers.free(uar);
    Ok(())
}

/// ALLOC_PD.
pub fn alloc_pd(core: &mut Core, output: &mut [u8]) -> Result<(), CmdError> {
    let r = &mut core.resources;
    let pd = alloc(&mut r.pds, &mut r.pd_numbers, PD_LIMIT)?;
    AllocPdOut::new(output).set_pd(pd);
    Ok(())
}

/// DEALLOC_PD.
pub fn dealloc_pd(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let pd = DeallocPdIn::new(input).pd();
    // Memory keys are not counted as references: UMRs move them between PDs and free them, and
    // a free key, as they wait in the drivers' caches, does not hold the PD it last had.
    if core
        .mkeys
        .table
        .iter()
        .any(|(_, mkey)| !mkey.free && mkey.pd == pd)
    {
        return Err(PD_HAS_MKEYS);
    }
    let r = &mut core.resources;
    dealloc(&mut r.pds, &mut r.pd_numbers, pd, NO_PD, PD_BUSY)
}

/// ALLOC_TRANSPORT_DOMAIN.
pub fn alloc_transport_domain(core: &mut Core, output: &mut [u8]) -> Result<(), CmdError> {
    let r = &mut core.resources;
    let td = alloc(
        &mut r.transport_domains,
        &mut r.transport_domain_numbers,
        TD_LIMIT,
    )?;
    AllocTransportDomainOut::new(output).set_transport_domain(td);
    Ok(())
}

/// DEALLOC_TRANSPORT_DOMAIN.
pub fn dealloc_transport_domain(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let r = &mut core.resources;
    let td = DeallocTransportDomainIn::new(input).transport_domain();
    dealloc(
        &mut r.transport_domains,
        &mut r.transport_domain_numbers,
        td,
        NO_TD,
        TD_BUSY,
    )
}

/// ALLOC_XRCD.
pub fn alloc_xrcd(core: &mut Core, output: &mut [u8]) -> Result<(), CmdError> {
    let r = &mut core.resources;
    let xrcd = alloc(&mut r.xrcds, &mut r.xrcd_numbers, XRCD_LIMIT)?;
    AllocXrcdOut::new(output).set_xrcd(xrcd);
    Ok(())
}

/// DEALLOC_XRCD.
pub fn dealloc_xrcd(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let r = &mut core.resources;
    let xrcd = DeallocXrcdIn::new(input).xrcd();
    dealloc(&mut r.xrcds, &mut r.xrcd_numbers, xrcd, NO_XRCD, XRCD_BUSY)
}
