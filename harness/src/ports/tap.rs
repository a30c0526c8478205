//! A TAP interface of the host: what guests send, the host receives on it, and the other way round.
//!
//! One that exists (made with `ip tuntap add mode tap`) is attached to, otherwise it is made and
//! goes with the process. Addresses, MTU and up are the host's business. The kernel is told that
//! it can leave nothing to hardware, so frames come complete.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, anyhow};
use rustix::io::Errno;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::{Backend, HEADROOM, Received, Sent, Trouble, interface};

/// A TAP interface.
pub(super) struct Tap {
    name: String,
    device: Option<SyncDevice>,
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
            device: Some(device),
        })
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

    fn reopen(&mut self) -> io::Result<()> {
        self.device = None;
        // Who has deleted it makes it again, or does not want it.
        interface::find(&self.name).ok_or(io::ErrorKind::NotFound)?;
        self.device = Some(attach(&self.name)?);
        Ok(())
    }
}
