//! Serial consoles: a terminal attached to one ([`attach`]), and a program that drives one.
//!
//! Driving is done in three layers, none of which knows what system talks at the other end:
//! - `Cleaner` makes plain text of what a terminal would be sent: no escape sequences, no carriage returns;
//! - [`Console`] keeps the newest of that text, writes all bytes to a transcript, and waits, with deadlines, for something in it;
//! - [`Shell`] runs commands by a Bourne shell behind a console, and finds out what they said and how they ended, though the
//!   console echoes, the kernel talks in between, lines are lost, and the terminal takes no long lines.

mod attach;
mod clean;
#[cfg(test)]
mod fake;
mod shell;
mod stream;

pub use attach::attach;

#[cfg(test)]
pub use fake::Fake;
pub use shell::Shell;
pub use stream::Console;
