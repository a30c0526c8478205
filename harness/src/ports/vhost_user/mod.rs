//! A port for an ordinary VM: its virtio-net card is plugged into the switch, by vhost-user.
//!
//! We listen, the monitor connects; one at a time, as often as it likes. Link down is told in the
//! only way that QEMU understands from here: the connection ends, and the card has no carrier until
//! it can connect again.
//!
//! All of it happens in the port's thread. `vhost-user-backend` would have had it in two of its
//! own, whose epoll knows no deadlines, leaves a descriptor behind with each connection, and ends
//! for good at a kick that the monitor has taken back; so only the protocol is the crates'.

mod connection;
mod net;
mod ring;
mod session;
mod spec;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use log::{info, warn};
use rocinante_pci::Listener;
use rustix::event::{Timespec, epoll};

use super::{Backend, HEADROOM, Received, Sent, Trouble};
use connection::Connection;
use net::{Counters, Delivery, Taken};
use session::State;
pub use spec::VmPort;

/// A guest that has not taken a frame for so long gets no more until it has made room: those who
/// send to it are not to wait.
const PATIENCE: Duration = Duration::from_millis(20);

/// Frames from the guest before its monitor is listened to.
const BATCH: u32 = 64;

/// How often a ring may say that there is something more.
const LOOKS: usize = 8;

/// What an event is about.
mod token {
    pub const LISTENER: u64 = 0;
    pub const MONITOR: u64 = 1;
    pub const RX: u64 = 2;
    pub const TX: u64 = 3;
}

/// A monitor that is connected.
struct Attached {
    connection: Connection,
    state: Box<State>,
    /// When the guest's buffers began to be too few.
    full_since: Option<Instant>,
}

/// The outside of a vhost-user port.
pub struct VhostUser {
    path: PathBuf,
    /// There is a carrier.
    up: bool,
    /// There is none without carrier.
    listener: Option<Listener>,
    attached: Option<Attached>,
    epoll: OwnedFd,
    /// Frames since the monitor was listened to.
    unheard: u32,
}

impl VhostUser {
    /// Listens at `path`.
    pub fn bind(path: &Path) -> Result<VhostUser> {
        let mut port = VhostUser {
            path: path.to_owned(),
            up: true,
            listener: Some(Listener::bind(path)?),
            attached: None,
            epoll: new_epoll()?,
            unheard: 0,
        };
        port.watch()?;
        Ok(port)
    }

    /// Has poll(2) look at all that there is now, and nothing else. Made anew each time: what the monitor keeps open would stay
    /// in an old one.
    fn watch(&mut self) -> io::Result<()> {
        let new = new_epoll()?;
        let add = |fd: BorrowedFd<'_>, token| {
            epoll::add(
                &new,
                fd,
                epoll::EventData::new_u64(token),
                epoll::EventFlags::IN,
            )
        };
        match (&self.attached, &self.listener) {
            (Some(attached), _) => {
                add(attached.connection.as_fd(), token::MONITOR)?;
                let device = &attached.state.device;
                for (ring, token) in [(&device.rx, token::RX), (&device.tx, token::TX)] {
                    if let Some(kick) = ring.kick() {
                        add(kick.as_fd(), token)?;
                    }
                }
            }
            (None, Some(listener)) => add(listener.as_fd(), token::LISTENER)?,
            (None, None) => {}
        }
        self.epoll = new;
        Ok(())
    }

    /// Looks at listener, monitor and kicks. Whether there was something.
    fn look(&mut self) -> Result<bool, Trouble> {
        self.unheard = 0;
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; 4];
        let now = Timespec::default();
        let count = match epoll::wait(&self.epoll, &mut events[..], Some(&now)) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(Trouble::Gone(error.into())),
        };
        for event in events.iter().take(count) {
            match (event.data.u64(), &self.attached) {
                (token::LISTENER, _) => self.accept()?,
                (token::MONITOR, _) => self.hear()?,
                (token::RX, Some(attached)) => attached.state.device.rx.take_kick(),
                (token::TX, Some(attached)) => attached.state.device.tx.take_kick(),
                _ => {}
            }
        }
        Ok(count > 0)
    }

    fn accept(&mut self) -> Result<(), Trouble> {
        let Some(listener) = &self.listener else {
            return Ok(());
        };
        let accepted = listener.accept().map_err(io::Error::other);
        let Some(stream) = accepted.map_err(Trouble::Passing)? else {
            return Ok(());
        };
        let state = State::new().map_err(|error| Trouble::Passing(io::Error::other(error)))?;
        let path = self.path.display();
        match Connection::new(stream) {
            Ok(connection) => {
                info!(target: "vhost_user", "{path}: a monitor has come");
                self.attached = Some(Attached {
                    connection,
                    state: Box::new(state),
                    full_since: None,
                });
            }
            Err(error) => warn!(target: "vhost_user", "{path}: {error}"),
        }
        self.watch().map_err(Trouble::Gone)
    }

    /// Does what the monitor says.
    fn hear(&mut self) -> Result<(), Trouble> {
        let Some(mut attached) = self.attached.take() else {
            return Ok(());
        };
        match attached.connection.serve(attached.state) {
            Ok(state) => {
                attached.state = state;
                self.attached = Some(attached);
            }
            Err(ended) => {
                let path = self.path.display();
                let counters = ended.counters;
                match ended.error {
                    None => info!(target: "vhost_user", "{path}: the monitor has gone"),
                    Some(error) => {
                        warn!(target: "vhost_user", "{path}: the monitor is sent away: {error}");
                    }
                }
                if counters != Counters::default() {
                    warn!(target: "vhost_user", "{path}: its driver was wrong: {counters:?}");
                }
            }
        }
        self.watch().map_err(Trouble::Gone)
    }

    /// Takes the next thing that the guest sends. If there is none, a kick was asked for.
    fn take(&mut self, buf: &mut [u8]) -> Taken {
        let Some(Attached { state, .. }) = &mut self.attached else {
            return Taken::Nothing;
        };
        let State { device, memory, .. } = &mut **state;
        let Some(memory) = memory else {
            return Taken::Nothing;
        };
        for _ in 0..LOOKS {
            let taken = device.take(memory, buf);
            if taken != Taken::Nothing {
                return taken;
            }
            device.flush(memory);
            if !device.listen_tx(memory) {
                return Taken::Nothing;
            }
        }
        // It says that there is something, and there is not: ask again later.
        Taken::Refused
    }
}

fn new_epoll() -> io::Result<OwnedFd> {
    Ok(epoll::create(epoll::CreateFlags::CLOEXEC)?)
}

impl Backend for VhostUser {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    /// The guest's kick says that there is room again.
    fn is_writable_with_room(&self) -> bool {
        false
    }

    fn recv(&mut self, buf: &mut [u8]) -> Result<Received, Trouble> {
        if self.unheard >= BATCH {
            self.look()?;
        }
        self.unheard += 1;
        if self.up && self.listener.is_none() {
            return Err(Trouble::Gone(io::ErrorKind::NotConnected.into()));
        }
        let mut taken = self.take(buf);
        if taken == Taken::Nothing && self.look()? {
            taken = self.take(buf);
        }
        Ok(match taken {
            Taken::Frame(at) => Received::Frame(at),
            Taken::Refused => Received::Refused,
            Taken::Nothing => Received::Nothing,
        })
    }

    fn send(&mut self, buf: &mut [u8]) -> Result<Sent, Trouble> {
        let frame = buf.get(HEADROOM..).unwrap_or_default();
        let Some(attached) = &mut self.attached else {
            return Ok(Sent::Lost);
        };
        let State { device, memory, .. } = &mut *attached.state;
        let Some(memory) = memory else {
            return Ok(Sent::Lost);
        };
        for _ in 0..LOOKS {
            let seen = match device.deliver(memory, frame) {
                Delivery::Done => {
                    attached.full_since = None;
                    device.flush(memory);
                    return Ok(Sent::Done);
                }
                Delivery::Lost => return Ok(Sent::Lost),
                Delivery::Full { seen } => seen,
            };
            if !device.listen_rx(memory, seen) {
                break;
            }
        }
        let since = *attached.full_since.get_or_insert_with(Instant::now);
        let patient = since.elapsed() < PATIENCE;
        Ok(if patient { Sent::Full } else { Sent::Lost })
    }

    fn reopen(&mut self) -> io::Result<()> {
        if self.listener.is_none() {
            self.listener = Some(Listener::bind(&self.path).map_err(io::Error::other)?);
        }
        self.watch()
    }

    fn set_carrier(&mut self, up: bool) {
        self.up = up;
        if up {
            // If that fails, it is tried again each second.
            let _ = self.reopen();
            return;
        }
        if self.attached.take().is_some() {
            let path = self.path.display();
            info!(target: "vhost_user", "{path}: no carrier: the monitor is sent away");
        }
        self.listener = None;
        if let Err(error) = self.watch() {
            warn!(target: "vhost_user", "{}: {error}", self.path.display());
        }
    }
}
