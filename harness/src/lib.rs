//! The `rocinante` program as a library, so that the whole-system tests use the same parts: it serves NICs, boots guests, runs
//! scenarios and prints reports.

pub mod cli;
pub mod control;
pub mod driver;
pub mod faults;
pub mod lab;
pub mod ports;
pub mod scenario;
pub mod serve;
