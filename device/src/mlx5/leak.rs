//! What a driver leaves behind: objects that were not destroyed and pages that were not taken back
//! when it says goodbye.

use log::{debug, info, warn};

use super::core::Core;
use super::nic::Nic;
use super::notes::Note;

/// How the driver said goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// TEARDOWN_HCA, graceful: all objects should be gone; pages are taken back afterwards.
    Teardown,
    /// TEARDOWN_HCA, force or fast: leaves everything as it is, by design.
    ForceTeardown,
    /// DISABLE_HCA: nothing should be left.
    Disable,
    /// Reset without notice.
    Reset,
}

/// What was left at the last goodbye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The occasion.
    pub goodbye: Goodbye,
    /// Kinds of object and how many of each, only those of which there were any.
    pub leaked_objects: Vec<(&'static str, usize)>,
    /// Pages that the device held.
    pub leaked_pages: usize,
}

impl Findings {
    /// Objects of all kinds.
    pub fn objects(&self) -> usize {
        self.leaked_objects.iter().map(|(_, count)| count).sum()
    }
}

/// What a NIC holds for its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Kinds of object and how many of each, only those of which there are any.
    pub objects: Vec<(&'static str, usize)>,
    /// Pages of the driver's memory.
    pub pages: usize,
}

impl Inventory {
    /// Takes stock of `nic`.
    pub fn of(nic: &Nic) -> Inventory {
        Inventory {
            objects: inventory(&nic.core, nic.qps.len()),
            pages: nic.core.hca.pages.owned(),
        }
    }
}

/// Counts what there is, beside `qps` queue pairs.
pub fn inventory(core: &Core, qps: usize) -> Vec<(&'static str, usize)> {
    let resources = &core.resources;
    let mut counts = vec![
        ("UAR", resources.uars.len()),
        ("PD", resources.pds.len()),
        ("transport domain", resources.transport_domains.len()),
        ("XRC domain", resources.xrcds.len()),
        ("Q counter", core.q_counters.len()),
        ("EQ", core.eqs.table.len()),
        ("CQ", core.cqs.table.len()),
        ("mkey", core.mkeys.table.len()),
        ("SRQ", core.srqs.len()),
        ("QP", qps),
        ("SQ", core.eth.sqs.len()),
        ("RQ", core.eth.rqs.len()),
        ("RQT", core.eth.rqts.len()),
        ("TIR", core.eth.tirs.len()),
        ("TIS", core.eth.tiss.len()),
        ("L2 table entry", core.vport.l2_table.len()),
        (
            "multicast attachment",
            core.roce.multicast.values().map(Vec::len).sum(),
        ),
    ];
    counts.extend(core.eth.steering.inventory());
    counts.retain(|(_, count)| *count != 0);
    counts
}

/// Takes stock at a goodbye, writes it to the log and keeps it as the HCA's findings.
///
/// At DISABLE_HCA the verdict covers what the teardown before it found.
pub fn report(core: &mut Core, qps: usize, goodbye: Goodbye) {
    let hca = &core.hca;
    let leaked_objects = match (&hca.findings, goodbye) {
        // The teardown has dropped the objects that it found.
        (Some(before), Goodbye::Disable) if before.goodbye == Goodbye::Teardown => {
            before.leaked_objects.clone()
        }
        _ => inventory(core, qps),
    };
    let findings = Findings {
        goodbye,
        leaked_objects,
        leaked_pages: hca.pages.owned(),
    };
    if goodbye == Goodbye::Reset && findings.objects() == 0 && findings.leaked_pages == 0 {
        return;
    }
    let name = &core.config.name;
    let list = findings
        .leaked_objects
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect::<Vec<_>>()
        .join(", ");
    let (objects, pages) = (findings.objects(), findings.leaked_pages);
    match goodbye {
        Goodbye::Teardown if objects != 0 => {
            warn!(target: "mlx5::leak", "{name}: TEARDOWN_HCA with {objects} objects left: {list}");
        }
        Goodbye::Teardown => {}
        Goodbye::Disable if objects == 0 && pages == 0 => {
            info!(target: "mlx5::leak", "{name}: teardown clean: 0 objects, 0 pages left");
        }
        Goodbye::Disable => warn!(
            target: "mlx5::leak",
            "{name}: DISABLE_HCA: leaked {objects} objects ({list}), {pages} pages"
        ),
        // As it is meant to be: nobody had a chance to destroy anything.
        Goodbye::ForceTeardown | Goodbye::Reset => debug!(
            target: "mlx5::leak",
            "{name}: {goodbye:?} drops {objects} objects ({list}), {pages} pages"
        ),
    }
    // The verdict of a teardown is that of the DISABLE_HCA behind it.
    if goodbye != Goodbye::Teardown {
        core.notes.add(Note::Went(findings.clone()));
    }
    core.hca.findings = Some(findings);
}
