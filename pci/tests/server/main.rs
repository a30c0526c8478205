//! The server over a real socket: with well-behaved monitors and with others.

mod attach;
mod common;
mod hostile;
