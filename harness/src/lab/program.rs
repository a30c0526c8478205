//! Small C programs for guests, compiled on the host against the guests' own verbs library.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::cache::Cache;
use super::debian::Apt;
use super::host::{Host, run};
use super::progress::Progress;
use super::sources::Mirror;
use super::tree::Tree;

/// Has the headers of the library that the guests' image has.
const HEADERS: &str = "libibverbs-dev";

const LIBRARY: &str = "usr/lib/x86_64-linux-gnu/libibverbs.so.1";

/// The program compiled from `source`, found in the cache or made.
pub fn compile(
    source: &str,
    cache: &Cache,
    tree: &Tree,
    mirror: impl FnOnce() -> Result<Mirror>,
    host: &Host,
    progress: &Progress,
) -> Result<PathBuf> {
    let headers = cache.entry("guest-headers", &format!("1 {HEADERS}"), |place| {
        let apt_folder = place.join("apt");
        let apt = Apt::set_up(&apt_folder, &mirror()?, "trixie", host, progress)?;
        apt.unpack_some(
            "trixie",
            HEADERS,
            |package| package == HEADERS,
            &place.join("root"),
            "headers for guest programs",
            progress,
        )?;
        Ok(fs::remove_dir_all(&apt_folder)?)
    })?;
    let recipe = format!("{} {} {source}", headers.display(), tree.root().display());
    let place = cache.entry("guest-program", &recipe, |place| {
        // Rust links with it, so it is there; its headers come with what it links with.
        let compiler = host.program("cc", "gcc libc6-dev", progress)?;
        let file = place.join("program.c");
        fs::write(&file, source)?;
        run(Command::new(compiler)
            .args(["-std=gnu17", "-O2", "-Wall", "-Werror", "-s", "-o"])
            .arg(place.join("program"))
            .arg("-isystem")
            .arg(headers.join("root/usr/include"))
            .arg(file)
            .arg(tree.root().join(LIBRARY))
            // The library's own C library is the guest's, which may be newer than the host's.
            .arg("-Wl,--allow-shlib-undefined"))
        .map(|_| ())
        .context("a guest program does not compile")
    })?;
    Ok(place.join("program"))
}
