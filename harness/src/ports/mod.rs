//! Ports of the switch that leave the process: host interfaces, tunnels, other programs.
//!
//! Each port has a cable like a NIC's (faults, capture, carrier, rate and latency by `[[shape]]`) and one
//! thread, which waits in poll(2) for its outside and for its queue at the switch. What the outside
//! is, a [`Backend`] knows; this module knows only frames. Directions are as at a NIC: `tx` comes
//! from what is plugged in, so from the outside, and `rx` goes to it.
//!
//! Frames that go out become bytes in a buffer of the port, with their ICRC; those that come in are
//! received into pooled buffers. What the outside has no room for is held for a moment, then lost
//! and counted. An outside that goes away is asked again each second; nobody else notices.

mod bell;
mod carrier;
mod counters;
mod interface;
mod offload;
mod packet;
mod run;
mod spec;
mod tap;
mod tunnel;
mod vhost_user;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rocinante_device::mlx5::GuestPayload;
use rocinante_wire::cable::{Cable, Control};
use rocinante_wire::switch::{PortWatch, Switch};

use crate::serve::Clock;
use crate::serve::events::Events;
use bell::Bell;
pub use counters::OutsideCounters;
use counters::OutsideCounts;
use run::Runner;
pub use spec::{PortKind, PortSpec};
pub use vhost_user::VmPort;

/// Bytes before an outgoing frame that a backend may write its header to.
pub const HEADROOM: usize = 16;

/// What a look at the outside gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A frame; it is at this place of the buffer.
    Frame(Range<usize>),
    /// Something that this port does not take: counted.
    Refused,
    /// Nothing now.
    Nothing,
}

/// Whether a frame went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It did.
    Done,
    /// There is no room; it is offered again when the outside says so.
    Full,
    /// It did not, and will not: nobody is there, or nobody takes it.
    Lost,
}

/// What is wrong with the outside.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// This frame is lost; the next one may pass.
    #[error(transparent)]
    Passing(io::Error),
    /// Nothing passes until [`Backend::reopen`] succeeds.
    #[error(transparent)]
    Gone(io::Error),
}

/// What a port leads to. Nothing here blocks; all of it is called from the port's thread.
pub trait Backend: Send {
    /// What poll(2) waits for; `None` while it is gone.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Whether the descriptor is writable when there is room again; otherwise it is then readable.
    fn is_writable_with_room(&self) -> bool {
        true
    }

    /// Takes a frame into `buf`, which has room for the longest (with [`HEADROOM`]).
    ///
    /// # Errors
    /// What is wrong with the outside.
    fn recv(&mut self, buf: &mut [u8]) -> Result<Received, Trouble>;

    /// Sends what begins at [`HEADROOM`] in `buf`; what is before may be overwritten.
    ///
    /// # Errors
    /// What is wrong with the outside; the frame is lost.
    fn send(&mut self, buf: &mut [u8]) -> Result<Sent, Trouble>;

    /// poll(2) has seen an error, and there was nothing to receive.
    ///
    /// # Errors
    /// What it was; by default, that the descriptor is of no use any more.
    fn poll_error(&mut self) -> Result<(), Trouble> {
        Err(Trouble::Gone(io::ErrorKind::BrokenPipe.into()))
    }

    /// What an error means here, if that says more than the error itself.
    fn explain(&self, error: &io::Error) -> Option<&'static str> {
        let _ = error;
        None
    }

    /// Tries to have the outside back.
    ///
    /// # Errors
    /// Why it is still away.
    fn reopen(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The cable has a carrier, or has none any more.
    fn set_carrier(&mut self, up: bool) {
        let _ = up;
    }
}

/// A port whose outside is there, before anything passes.
pub struct Opened {
    spec: PortSpec,
    backend: Box<dyn Backend>,
}

/// Opens the outside of a port.
///
/// # Errors
/// What is missing, in one line.
pub fn open(spec: &PortSpec) -> Result<Opened> {
    Ok(Opened {
        spec: spec.clone(),
        backend: backend(&spec.kind).with_context(|| format!("port {}", spec.name))?,
    })
}

fn backend(kind: &PortKind) -> Result<Box<dyn Backend>> {
    Ok(match kind {
        PortKind::Tap(name) => Box::new(tap::Tap::open(name)?),
        PortKind::Host(name) => Box::new(packet::Packet::open(name)?),
        PortKind::Vm(vm) => Box::new(vhost_user::VhostUser::bind(&vm.socket)?),
        PortKind::Udp { local, remote } => Box::new(tunnel::Tunnel::udp(*local, *remote)?),
        PortKind::Vxlan { local, remote, vni } => {
            Box::new(tunnel::Tunnel::vxlan(*local, *remote, *vni)?)
        }
    })
}

/// A port as others see it; clones see the same.
#[derive(Clone)]
pub struct PortView {
    spec: PortSpec,
    watch: PortWatch<GuestPayload>,
    counts: Arc<OutsideCounts>,
    bell: Arc<Bell>,
    turns: Arc<AtomicU64>,
}

/// A port looks at its cable within microseconds, unless its host is very busy.
const LOOK: Duration = Duration::from_secs(1);

impl PortView {
    /// What was asked for.
    pub fn spec(&self) -> &PortSpec {
        &self.spec
    }

    /// The port at the switch.
    pub fn watch(&self) -> &PortWatch<GuestPayload> {
        &self.watch
    }

    /// What passed on the other side.
    pub fn outside(&self) -> OutsideCounters {
        self.counts.get()
    }

    /// Waits until the port has seen what its cable was told before.
    pub fn settle(&self) {
        // The turn that is under way may have been at the cable before.
        let enough = self.turns.load(Ordering::Acquire) + 2;
        let end = Instant::now() + LOOK;
        while self.turns.load(Ordering::Acquire) < enough && Instant::now() < end {
            self.bell.ring();
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// A port in service, until it is dropped.
pub struct Served {
    view: PortView,
    bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Plugs an open port into its switch.
    ///
    /// # Errors
    /// No descriptor or thread is to be had.
    pub fn start(
        opened: Opened,
        control: &Control,
        switch: &Switch<GuestPayload>,
        clock: Clock,
        events: &Events,
    ) -> Result<Served> {
        let Opened { spec, backend } = opened;
        let bell = Arc::new(Bell::new().context("eventfd")?);
        let ring = Arc::clone(&bell);
        let waker = Arc::new(move || ring.ring());
        let cable = Cable::new(control, &spec.link, &spec.name, Arc::clone(&waker) as _);
        let port = switch.add_port(&spec.name, waker);
        let watch = port.watch();
        let counts: Arc<OutsideCounts> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let turns: Arc<AtomicU64> = Arc::default();
        let runner = Runner::new(
            backend,
            (port, cable),
            Arc::clone(&bell),
            Arc::clone(&counts),
            (Arc::clone(&stop), Arc::clone(&turns)),
            (clock, events.clone()),
        );
        let thread = std::thread::Builder::new()
            .name(format!("port-{}", spec.name))
            .spawn(move || runner.run())
            .context("port thread")?;
        Ok(Served {
            view: PortView {
                spec,
                watch,
                counts,
                bell: Arc::clone(&bell),
                turns,
            },
            bell,
            stop,
            thread: Some(thread),
        })
    }

    /// What others may see.
    pub fn view(&self) -> &PortView {
        &self.view
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!(target: "port", "{} has ended: this is a bug, please report it", self.view.spec.name);
        }
    }
}

#[cfg(test)]
mod tests;
