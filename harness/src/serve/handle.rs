//! What other threads may ask of a running server. Knows how to reach each NIC's thread, not how
//! it is started or ended.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rocinante_device::mlx5::leak::{Findings, Inventory};
use rocinante_device::mlx5::port::LinkSpeed;
use rocinante_device::mlx5::{GuestPayload, Input, Nic};
use rocinante_wire::cable::Control;
use rocinante_wire::switch::{PortCounters, PortWatch};
use serde_json::json;

use super::captures::{CaptureSpec, CaptureStatus, Captures};
use super::engine::{Mailbox, Request};
use super::events::Events;
use super::faults::Loaded;
use super::{ANSWER, NicSpec};
use crate::ports::{OutsideCounters, PortSpec, PortView};

/// A port of a link, seen from the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortStatus {
    /// The link.
    pub link: String,
    /// The port's name, unique.
    pub port: String,
    /// What passed through the switch; `tx` comes from what is plugged in.
    pub counters: PortCounters,
    /// What passed on the other side of a port that leaves the process.
    pub outside: Option<OutsideCounters>,
}

/// A NIC: what was asked for, how to reach its thread, its port.
type Member = (NicSpec, Arc<Mailbox>, PortWatch<GuestPayload>);

struct Inner {
    nics: Vec<Member>,
    ports: Vec<PortView>,
    control: Control,
    events: Events,
    captures: Captures,
    started: Instant,
    quit: (Mutex<bool>, Condvar),
    loaded: Loaded,
}

/// A running server, for any thread; clones are the same. When the server has ended, its NICs do
/// not answer any more.
#[derive(Clone)]
pub struct ServerHandle(Arc<Inner>);

impl ServerHandle {
    pub(super) fn new(
        nics: Vec<Member>,
        ports: Vec<PortView>,
        control: Control,
        events: Events,
        captures: Captures,
    ) -> ServerHandle {
        ServerHandle(Arc::new(Inner {
            nics,
            ports,
            control,
            events,
            captures,
            started: Instant::now(),
            quit: Default::default(),
            loaded: Loaded::default(),
        }))
    }

    /// What happens, as it happens.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// How long it has run.
    pub fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Asks whoever runs the server to end it.
    pub fn quit(&self) {
        let (quit, changed) = &self.0.quit;
        *quit.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Waits until somebody has asked for the end.
    pub fn wait_for_quit(&self) {
        let (quit, changed) = &self.0.quit;
        let mut quit = quit.lock().unwrap_or_else(PoisonError::into_inner);
        while !*quit {
            quit = changed.wait(quit).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The NICs, as they were asked for.
    pub fn specs(&self) -> impl Iterator<Item = &NicSpec> {
        self.0.nics.iter().map(|(spec, _, _)| spec)
    }

    /// The ports that leave the process, as they were asked for.
    pub fn ports(&self) -> impl Iterator<Item = &PortSpec> {
        self.0.ports.iter().map(PortView::spec)
    }

    /// All ports of all links with their counters: NICs first.
    pub fn port_status(&self) -> Vec<PortStatus> {
        let status = |link: &str, watch: &PortWatch<GuestPayload>, outside| PortStatus {
            link: link.to_owned(),
            port: watch.name().to_owned(),
            counters: watch.counters(),
            outside,
        };
        let nics = self.0.nics.iter();
        let nics = nics.map(|(spec, _, watch)| status(&spec.link, watch, None));
        let ports = self.0.ports.iter();
        let ports = ports.map(|port| status(&port.spec().link, port.watch(), Some(port.outside())));
        nics.chain(ports).collect()
    }

    /// The number of the NIC with this name.
    pub fn nic(&self, name: &str) -> Option<usize> {
        self.specs().position(|spec| spec.name() == name)
    }

    /// What the driver of the `n`th NIC left behind at its last goodbye; `None` if there was none
    /// since it came, or no such NIC.
    pub fn findings(&self, n: usize) -> Option<Findings> {
        self.ask(n, Request::Findings)?
    }

    /// What the `n`th NIC holds for its driver just now; `None` if there is no such NIC.
    pub fn inventory(&self, n: usize) -> Option<Inventory> {
        self.ask(n, Request::Inventory)
    }

    /// Lets the thread of the `n`th NIC look at its state. The NIC stands still meanwhile, so
    /// `look` has to be quick. `None` if there is no such NIC.
    pub fn look<T: Send + 'static>(
        &self,
        n: usize,
        look: impl FnOnce(&Nic) -> T + Send + 'static,
    ) -> Option<T> {
        self.ask(n, |reply| {
            Request::Look(Box::new(move |nic| {
                // Who asked may have gone.
                let _ = reply.try_send(look(nic));
            }))
        })
    }

    /// Faults, capture and carrier of all ports, named after the NICs.
    pub fn control(&self) -> &Control {
        &self.0.control
    }

    /// Plugs the `n`th NIC's cable in, or pulls it. When this returns, nothing passes any more, or
    /// everything does again, and the driver has been told. `None` if there is no such NIC.
    pub fn plug_cable(&self, n: usize, plugged: bool) -> Option<()> {
        self.ask(n, |done| Request::Cable(plugged, done))
    }

    /// Plugs the cable of any port in, or pulls it. When this returns, whoever is plugged in has been told. `None` if
    /// there is no such port.
    pub fn plug_port(&self, name: &str, plugged: bool) -> Option<()> {
        if let Some(n) = self.nic(name) {
            return self.plug_cable(n, plugged);
        }
        let mut ports = self.0.ports.iter();
        let port = ports.find(|port| port.spec().name == name)?;
        self.control().set_plugged(name, plugged);
        port.settle();
        Some(())
    }

    /// Lets the far end of the `n`th NIC's cable do speeds up to `speed`. When this returns the
    /// driver has been told of a link that came up anew. `None` if there is no such NIC.
    pub fn set_speed(&self, n: usize, speed: LinkSpeed) -> Option<()> {
        self.ask(n, |done| Request::Quiesce(Input::FarEnd(speed), done))
    }

    /// Resets the `n`th NIC as its own firmware could: all is as at power-on, but the monitor, the
    /// guest's memory and its PCI function stay as they are. `None` if there is no such NIC.
    pub fn reset(&self, n: usize) -> Option<()> {
        self.ask(n, Request::Reset)
    }

    /// Starts a capture, unless one runs.
    pub fn start_capture(&self, spec: CaptureSpec) -> Result<()> {
        let path = spec.path.display().to_string();
        self.0.captures.start(self.control(), spec)?;
        self.events()
            .tell("CAPTURE_STARTED", || json!({ "path": path }));
        Ok(())
    }

    /// Completes the capture, if there is one, and tells what became of it. Traffic goes on without.
    pub fn stop_capture(&self) -> Option<CaptureStatus> {
        let ended = self.0.captures.stop(self.control())?;
        self.events().tell("CAPTURE_STOPPED", || {
            json!({
                "path": ended.spec.path.display().to_string(),
                "written": ended.stats.written,
                "error": ended.error,
            })
        });
        Some(ended)
    }

    /// How the capture is doing that runs, if one does.
    pub fn capture_status(&self) -> Option<CaptureStatus> {
        self.0.captures.status(self.control())
    }

    /// [`stop_capture`](Self::stop_capture); an error if the capture is not whole.
    pub fn finish_capture(&self) -> Result<()> {
        match self.stop_capture().and_then(|ended| ended.error) {
            Some(error) => bail!("capture: {error}"),
            None => Ok(()),
        }
    }

    pub(super) fn loaded(&self) -> &Loaded {
        &self.0.loaded
    }

    pub(super) fn ask<T>(
        &self,
        n: usize,
        request: impl FnOnce(SyncSender<T>) -> Request,
    ) -> Option<T> {
        let (reply, answer) = sync_channel(1);
        let (_, mailbox, _) = self.0.nics.get(n)?;
        let asked = mailbox.post(request(reply));
        asked.then(|| answer.recv_timeout(ANSWER).ok())?
    }
}
