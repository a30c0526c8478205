//! A TAP interface of the host: what guests send, the host receives on it, and the other way round.
//!
//! One that exists (made with `ip tuntap add mode tap`) is attached to, otherwise it is made and
//! goes with the process. Addresses, MTU and up are the host's business. The kernel is told that
//! it can leave nothing to hardware, so frames come complete. The interface has a carrier while the
//! port's cable has one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, anyhow};
use log::info;
use rustix::io::Errno;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::{Backend, HEADROOM, Received, Sent, Trouble, carrier, interface};

/// A TAP interface.
pub(super) struct Tap {
    name: String,
    device: Option<SyncDevice>,
    /// The interface's number in the namespace of this process, whatever it is called by now.
    index: Option<u32>,
    /// The cable has a carrier.
    up: bool,
}

fn attach(name: &str) -> io::Result<SyncDevice> {
    let builder = DeviceBuilder::new().name(name).layer(Layer::L2);
    let device = builder.inherit_enable_state().build_sync()?;
    device.set_nonblocking(true)?;
    Ok(device)
}

impl Tap {
    pub(super) fn open(name: &str) -> Result<Tap> {
        let device = attach(name).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    ": it takes root, CAP_NET_ADMIN, or an interface made for the user (ip tuntap add)"
                }
                _ => "",
            };
            anyhow!("TAP interface {name}: {error}{hint}")
        })?;
        Ok(Tap {
            name: name.to_owned(),
            index: device.if_index().ok(),
            device: Some(device),
            up: true,
        })
    }

    /// Lets the host see the carrier, as far as possible: who has moved the interface to another
    /// namespace does without.
    fn show_carrier(&self) {
        let Some(index) = self.index.filter(|_| self.device.is_some()) else {
            return;
        };
        if let Err(error) = carrier::set(index, self.up) {
            let (name, state) = (&self.name, if self.up { "up" } else { "down" });
            info!(target: "port", "{name}: the host is not told that the link is {state}: {error}");
        }
    }

    fn trouble(&mut self, error: Errno) -> Trouble {
        match error {
            // The interface was deleted.
            Errno::BADFD | Errno::NODEV => {
                self.device = None;
                Trouble::Gone(error.into())
            }
            // Above all EIO: it is down.
            _ => Trouble::Passing(error.into()),
        }
    }
}

impl Backend for Tap {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.device.as_ref().map(AsFd::as_fd)
    }

    fn recv(&mut self, buf: &mut [u8]) -> Result<Received, Trouble> {
        let Some(device) = &self.device else {
            return Ok(Received::Nothing);
        };
        let room = buf.len();
        match rustix::io::read(device, buf) {
            // A frame that fills the buffer may have lost its end.
            Ok(len) if len >= room => Ok(Received::Refused),
            Ok(len) => Ok(Received::Frame(0..len)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Received::Nothing),
            Err(error) => Err(self.trouble(error)),
        }
    }

    fn send(&mut self, buf: &mut [u8]) -> Result<Sent, Trouble> {
        let frame = buf.get(HEADROOM..).unwrap_or_default();
        let Some(device) = &self.device else {
            return Ok(Sent::Full);
        };
        match rustix::io::write(device, frame) {
            Ok(_) => Ok(Sent::Done),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Sent::Full),
            Err(error) => Err(self.trouble(error)),
        }
    }

    fn poll_error(&mut self) -> Result<(), Trouble> {
        match interface::find(&self.name) {
            Some(_) => Ok(()),
            None => Err(self.trouble(Errno::NODEV)),
        }
    }

    fn explain(&self, error: &io::Error) -> Option<&'static str> {
        Some(match Errno::from_io_error(error)? {
            Errno::IO => "the interface is down",
            Errno::BADFD | Errno::NODEV => "the interface was deleted",
            _ => return None,
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.device = None;
        // Who has deleted it makes it again, or does not want it.
        interface::find(&self.name).ok_or(io::ErrorKind::NotFound)?;
        let device = attach(&self.name)?;
        self.index = device.if_index().ok();
        self.device = Some(device);
        if !self.up {
            self.show_carrier();
        }
        Ok(())
    }

    fn set_carrier(&mut self, up: bool) {
        self.up = up;
        self.show_carrier();
    }
}
