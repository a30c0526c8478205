//! Faults of firmware and device under an unmodified Linux driver: it says what its source says it does, and afterwards
//! the adapter works again, by ping and by a verified transfer over RDMA.

mod attach;
mod commands;
mod completions;
mod health;
mod pages;
mod scene;

use rocinante_harness::lab::Emulated;
use rocinante_tests::guests::{alone, lab};
use scene::Scene;

/// Boots two guests and does to the first one's adapter what `parts` say.
fn with_guests(name: &str, parts: &[fn(&mut Scene<'_>)]) {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), name);
    let fabric = Emulated::start(2, None).expect("NICs");
    let mut scene = Scene::boot(&lab, &fabric);
    scene.works();
    for part in parts {
        part(&mut scene);
    }
    scene.end();
}

#[test]
fn commands_events_and_completions() {
    // The driver is not unloaded after this: it waits for the slots of commands that were never answered (docs/findings.md).
    with_guests(
        "firmware-commands",
        &[
            commands::commands,
            commands::events,
            completions::completions,
        ],
    );
}

#[test]
fn health_pages_module_and_removal() {
    with_guests(
        "firmware-health",
        &[
            health::module,
            completions::asynchronous,
            pages::requests,
            health::health,
            attach::attach,
            pages::kept,
        ],
    );
}
