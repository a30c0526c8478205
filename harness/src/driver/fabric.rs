//! NICs joined by links in virtual time: deterministic, one thread, the same seed gives the same run.

use std::sync::Arc;
use std::time::Duration;

use rocinante_device::mlx5::{GuestPayload, Input, Nic, NicConfig, NicFrame, PortManager};
use rocinante_dma::MemoryMap;
use rocinante_wire::MacAddr;
use rocinante_wire::buf::BufPool;
use rocinante_wire::cable::{Cable, CableEvent, Control};
use rocinante_wire::sim::{SimConfig, SimLink};
use rocinante_wire::time::Time;

use super::{Driver, Local, Pages, Result};

/// First bus address of every node's memory.
pub const MEMORY: u64 = 0x10_0000;

/// MSI-X vectors of every node.
const VECTORS: u16 = 16;

/// A frame on its way. The copies that a link makes refer to the same payload.
struct Flying(NicFrame);

impl Clone for Flying {
    fn clone(&self) -> Flying {
        Flying(self.0.duplicate())
    }
}

/// What links are like.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkConfig {
    /// Loss, delay, disorder. Each link has a seed of its own, derived from this one.
    pub sim: SimConfig,
    /// Frames become bytes on the link, as those do that leave the process.
    pub as_bytes: bool,
}

/// NICs, each with a driver, and the links between them.
pub struct Fabric {
    /// Drivers, by node.
    pub nodes: Vec<Driver<Local>>,
    /// Faults, capture and carrier: the ports are `nic0`, `nic1` and so on, of link `link0`.
    pub control: Control,
    /// Between each node and the links.
    cables: Vec<Cable<GuestPayload>>,
    macs: Vec<MacAddr>,
    /// To each node.
    links: Vec<SimLink<Flying>>,
    as_bytes: bool,
    buffers: BufPool,
    now: Time,
    /// Frames that were sent.
    pub frames: u64,
}

/// MAC address of a node.
pub fn mac(node: usize) -> MacAddr {
    MacAddr::new(0x02, 0, 0, 0, 0, node as u8 + 1)
}

/// A NIC at power-on with its memory, link up.
pub fn power_on(node: usize, memory: u64) -> Result<(Local, Pages)> {
    let map = MemoryMap::anonymous(MEMORY, memory)?;
    let nic = Nic::new(NicConfig {
        mac: mac(node),
        name: format!("nic{node}"),
        vectors: VECTORS,
        manager: PortManager::Always,
    });
    let mut local = Local::new(nic, map.clone());
    local.handle(Input::Link(true));
    Ok((local, Pages::new(map, MEMORY, memory)))
}

impl Fabric {
    /// `nodes` NICs with `memory` bytes each, all attached.
    pub fn new(nodes: usize, memory: u64, link: LinkConfig) -> Result<Fabric> {
        let drivers = (0..nodes)
            .map(|node| {
                let (local, pages) = power_on(node, memory)?;
                Driver::attach(local, pages)
            })
            .collect::<Result<_>>()?;
        let links = (0..nodes as u64)
            .map(|node| {
                SimLink::new(SimConfig {
                    seed: link.sim.seed.wrapping_mul(31).wrapping_add(node),
                    ..link.sim
                })
            })
            .collect();
        let control = Control::new();
        // Who changes something in virtual time is the one who lets it pass: nobody sleeps.
        let cable = |node| Cable::new(&control, "link0", &format!("nic{node}"), Arc::new(|| {}));
        let cables = (0..nodes).map(cable).collect();
        Ok(Fabric {
            nodes: drivers,
            control,
            cables,
            macs: (0..nodes).map(mac).collect(),
            links,
            as_bytes: link.as_bytes,
            buffers: BufPool::for_frames(256),
            now: Time::ZERO,
            frames: 0,
        })
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Frames lost on all links.
    pub fn lost(&self) -> u64 {
        self.links.iter().map(SimLink::dropped).sum()
    }

    /// Changes the links for what is sent from now on.
    pub fn set_links(&mut self, sim: SimConfig) {
        for link in &mut self.links {
            link.set_config(sim);
        }
    }

    /// One driver.
    pub fn node(&mut self, node: usize) -> &mut Driver<Local> {
        &mut self.nodes[node]
    }

    /// Takes what the NICs have to send now; whether there was anything.
    fn collect(&mut self) -> bool {
        /// Frames of one NIC before the next one's turn.
        const TURN: usize = 64;
        let mut busy = false;
        for from in 0..self.nodes.len() {
            for _ in 0..TURN {
                let local = &mut self.nodes[from].function;
                let cable = &mut self.cables[from];
                if let Some(frame) = cable.poll_transmit(self.now) {
                    busy = true;
                    self.launch(from, frame);
                    continue;
                }
                let Some(frame) = local.nic.poll_transmit(self.now) else {
                    break;
                };
                busy = true;
                self.frames += 1;
                if let Some(frame) = cable.transmit(self.now, frame, &local.nic) {
                    self.launch(from, frame);
                }
            }
        }
        busy
    }

    /// Tells the NICs what has happened to their cables; whether something has.
    fn tell(&mut self) -> bool {
        let mut busy = false;
        for (driver, cable) in self.nodes.iter_mut().zip(&mut self.cables) {
            while let Some(event) = cable.poll_event(self.now) {
                busy = true;
                if let CableEvent::Carrier(up) = event {
                    driver.function.now = self.now;
                    driver.function.handle(Input::Link(up));
                }
            }
        }
        busy
    }

    fn launch(&mut self, from: usize, frame: NicFrame) {
        let frame = if self.as_bytes {
            match frame.materialize::<GuestPayload>(&self.buffers) {
                Ok(frame) => frame,
                // Its memory is gone: nothing leaves.
                Err(_) => return,
            }
        } else {
            frame
        };
        let to = frame.dst_mac();
        let known = self.macs.iter().position(|mac| Some(*mac) == to);
        for node in 0..self.nodes.len() {
            if node != from && known.is_none_or(|known| known == node) {
                self.links[node].send(self.now, Flying(frame.duplicate()));
            }
        }
    }

    /// Delivers what has arrived.
    fn deliver(&mut self) {
        let now = self.now;
        let ends = self.nodes.iter_mut().zip(&mut self.cables);
        for ((driver, cable), link) in ends.zip(&mut self.links) {
            let nic = &mut driver.function.nic;
            while let Some(Flying(frame)) = link.poll(now) {
                if let Some(frame) = cable.receive(now, frame, nic) {
                    nic.receive(now, &frame);
                }
            }
            while let Some(frame) = cable.poll_receive(now) {
                nic.receive(now, &frame);
            }
        }
    }

    /// When something happens next, if anything will.
    pub fn next(&self) -> Option<Time> {
        let nics = self
            .nodes
            .iter()
            .map(|node| node.function.nic.poll_timeout());
        let links = self.links.iter().map(SimLink::next_timeout);
        let cables = self.cables.iter().map(Cable::poll_timeout);
        nics.chain(links).chain(cables).flatten().min()
    }

    /// Does what is due now; then, if nothing is, goes on to the next thing that happens. False if nothing ever
    /// will, or not before `limit`.
    pub fn step(&mut self, limit: Time) -> bool {
        if self.tell() | self.collect() {
            return true;
        }
        let Some(next) = self.next().filter(|next| *next <= limit) else {
            return false;
        };
        self.now = self.now.max(next);
        for node in &mut self.nodes {
            node.function.now = self.now;
            node.function.handle(Input::Tick);
        }
        self.deliver();
        true
    }

    /// Steps until `done` says so; false if it has not after `limit` of virtual time or if nothing happens any more.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Fabric) -> bool,
    ) -> bool {
        let limit = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(limit) {
                return done(self);
            }
        }
    }

    /// Lets `time` pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
        for node in &mut self.nodes {
            node.function.now = end;
            node.function.handle(Input::Tick);
        }
    }
}
