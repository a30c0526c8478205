//! QUERY_PAGES, MANAGE_PAGES, and the events that ask for more pages.

use log::{debug, warn};
use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::hca::{
    ManagePagesIn, ManagePagesOut, QueryPagesIn, QueryPagesOut,
};

use super::CmdError;
use crate::mlx5::eq::{Eqe, EventType};
use crate::mlx5::hca::State;
use crate::mlx5::nic::Nic;
use crate::mlx5::pages::GiveError;

checks! {
    QueryPages {
        QUERY_FUNCTION = 1, BadParam, "there is no other function";
        QUERY_STAGE = 2, BadParam, "op_mod is none of boot, init, regular";
    }
    ManagePages {
        FUNCTION = 1, BadParam, "there is no other function";
        OPERATION = 2, BadParam, "op_mod is none of cannot give, give, take";
        SHORT_LIST = 3, BadInpLen, "fewer pages than input_num_entries";
        UNALIGNED = 4, BadParam, "a page address is not at a page boundary";
        TWICE = 5, BadParam, "a page was given before";
        TOO_MANY = 6, Lim, "more pages than the device can use";
    }
}

/// QUERY_PAGES: op_mod 1 boot, 2 init, 3 regular.
pub fn query_pages(
    nic: &Nic,
    op_mod: u16,
    input: &[u8],
    output: &mut [u8],
) -> Result<(), CmdError> {
    let query = QueryPagesIn::new(input);
    if query.function_id() != 0 || query.embedded_cpu_function() {
        return Err(QUERY_FUNCTION);
    }
    let pages = &nic.core.hca.pages;
    let wanted = match op_mod {
        1 => pages.boot_shortage(),
        2 => pages.init_shortage(),
        3 => pages.regular_shortage(regular_pages(nic)),
        _ => return Err(QUERY_STAGE),
    };
    QueryPagesOut::new(output).set_num_pages(wanted as u32);
    Ok(())
}

/// MANAGE_PAGES: op_mod 0 cannot give, 1 give, 2 take.
pub fn manage_pages(
    nic: &mut Nic,
    op_mod: u16,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), CmdError> {
    let manage = ManagePagesIn::new(input);
    if manage.function_id() != 0 || manage.embedded_cpu_function() {
        return Err(FUNCTION);
    }
    let pages = &mut nic.core.hca.pages;
    let n = manage.input_num_entries() as usize;
    match op_mod {
        0 => {
            warn!(target: "mlx5::page", "the driver cannot give the pages asked for");
            pages.refuse();
            Ok(())
        }
        1 => {
            let list = manage.pas();
            if list.len() < n {
                return Err(SHORT_LIST);
            }
            let given = pages.give(list.iter().take(n)).map_err(|error| {
                warn!(target: "mlx5::page", "pages refused: {error:x?}");
                match error {
                    GiveError::Unaligned(_) => UNALIGNED,
                    GiveError::Twice(_) => TWICE,
                    GiveError::TooMany => TOO_MANY,
                }
            })?;
            debug!(target: "mlx5::page", "{given} pages given, {} owned", pages.owned());
            Ok(())
        }
        2 => {
            let kept = nic
                .core
                .hca
                .faults
                .keep_pages
                .map_or(0, |kept| kept as usize);
            let n = n.min(pages.owned().saturating_sub(kept));
            let taken = pages.take(n);
            debug!(target: "mlx5::page", "{} of {n} pages taken back, {} owned", taken.len(), pages.owned());
            output.resize(ManagePagesOut::SIZE + 8 * taken.len(), 0);
            let mut out = ManagePagesOut::new(output);
            out.set_output_num_entries(taken.len() as u32);
            for (index, page) in taken.into_iter().enumerate() {
                out.pas_mut().set(index, page);
            }
            Ok(())
        }
        _ => Err(OPERATION),
    }
}

/// Pages that an adapter of this kind would fill with the contexts and lists that exist now.
fn regular_pages(nic: &Nic) -> u64 {
    let core = &nic.core;
    let contexts = [
        (core.cqs.table.len(), 64),
        (core.srqs.len(), 64),
        (nic.qps.len(), 16),
        (core.mkeys.table.len(), 64),
        (core.resources.pds.len() + core.resources.uars.len(), 512),
    ];
    let contexts: u64 = contexts
        .iter()
        .map(|(count, per_page)| (count / per_page) as u64)
        .sum();
    contexts + core.mkeys.stored_octwords / 256
}

/// Asks for pages if objects have outgrown those that were given and somebody listens.
/// Nothing waits for the answer.
pub fn request_pages(nic: &mut Nic) {
    if nic.core.hca.state != State::Initialized {
        return;
    }
    let regular = regular_pages(nic);
    let core = &mut nic.core;
    if core.hca.pages.regular_shortage(regular) == 0
        || core.eqs.subscriber(EventType::PageRequest).is_none()
    {
        return;
    }
    if let Some(ask) = core.hca.pages.request(regular) {
        debug!(target: "mlx5::page", "asking for {ask} pages, {} owned", core.hca.pages.owned());
        core.event(Eqe::page_request(ask.min(i32::MAX as u64) as i32));
    }
}
