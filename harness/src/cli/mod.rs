//! The command line: what the words are and which part of the program they call. Nothing is done here.

mod ctl;
mod lab;
mod scenario;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use env_logger::{Env, Target};

use crate::lab::LogSink;

/// A RoCE NIC that isn't there: serves emulated ConnectX adapters to virtual machines
#[derive(Debug, Parser)]
#[command(name = "rocinante", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Ctl(ctl::Arguments),
    /// Boot guests with emulated NICs and run tools in them
    Lab(lab::Arguments),
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut logger = env_logger::Builder::from_env(Env::default().default_filter_or("info"));
    if matches!(arguments.command, Command::Lab(_)) {
        logger.target(Target::Pipe(Box::new(LogSink)));
    }
    logger.init();
    let result = match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Ctl(arguments) => ctl::run(&arguments),
        Command::Lab(arguments) => lab::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("rocinante: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
