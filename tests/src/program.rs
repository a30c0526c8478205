//! The `rocinante` program, for tests that need another process.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program, built if this test was built without it.
pub fn program() -> PathBuf {
    // target/PROFILE/deps/TEST-HASH
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().and_then(Path::parent).unwrap();
    let program = folder.join("rocinante");
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "build",
        "--quiet",
        "--package",
        "rocinante-harness",
        "--bin",
        "rocinante",
    ]);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success());
    assert!(program.exists(), "{}", program.display());
    program
}
