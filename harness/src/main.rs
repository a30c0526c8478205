//! The `rocinante` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    rocinante_harness::cli::main()
}
