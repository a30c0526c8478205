//! FreeBSD guests: an image that the user has, booted with an emulated NIC, and driven by its serial console.
//!
//! The image is never written to: QEMU keeps what the guest writes in a file of its own, which is gone with the guest
//! (`snapshot=on`). Nothing is expected of it but a root login on the console (without a password, as official VM images have it, or
//! with `--password`) or a bare root shell. What is missing in it is skipped, and named. [`Image`] tells what can be booted;
//! FreeBSD's kernel alone cannot, as its loader has to hand it the memory map, the hints and the root.

mod boot;
mod demo;
mod guest;
mod image;
mod machine;
mod parse;

pub use boot::Login;
pub use demo::{Peer, Plan, run};
pub use guest::{Background, FreeBsd, FreeBsdConfig, Started};
pub use image::{Image, Kind, NoImage};
pub use machine::{End, Machine};
pub use parse::Version;
pub(crate) use parse::{complaints, gids, said_since};
