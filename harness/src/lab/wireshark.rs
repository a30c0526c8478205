//! tshark: the host's, or one prepared in the cache folder.

use std::process::Command;

use anyhow::Result;

use super::cache::Cache;
use super::debian::Apt;
use super::host::{Host, run, which};
use super::progress::Progress;
use super::sources::Mirror;
use super::tree::Tree;

const PACKAGES: &[&str] = &["tshark"];

/// A command that runs tshark, with no arguments yet.
pub fn command(
    cache: &Cache,
    mirror: impl FnOnce() -> Result<Mirror>,
    host: &Host,
    progress: &Progress,
) -> Result<Command> {
    if let Some(path) = which("tshark") {
        return Ok(Command::new(path));
    }
    let place = cache.entry("tshark", &format!("1 {PACKAGES:?}"), |place| {
        let apt_folder = place.join("apt");
        let apt = Apt::set_up(&apt_folder, &mirror()?, "trixie", host, progress)?;
        apt.unpack_closure("trixie", PACKAGES, &place.join("root"), "tshark", progress)?;
        std::fs::remove_dir_all(&apt_folder)?;
        run(of_tree(&Tree::new(place.join("root"))).arg("--version")).map(|_| ())
    })?;
    Ok(of_tree(&Tree::new(place.join("root"))))
}

fn of_tree(tree: &Tree) -> Command {
    let mut command = tree.command("usr/bin/tshark");
    command
        .env(
            "WIRESHARK_DATA_DIR",
            tree.root().join("usr/share/wireshark"),
        )
        .env(
            "WIRESHARK_PLUGIN_DIR",
            tree.root()
                .join("usr/lib/x86_64-linux-gnu/wireshark/plugins"),
        );
    command
}
