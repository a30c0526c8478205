//! An Ethernet switch within the process: NICs, taps and tunnels are its ports.
//!
//! Forwards in the sender's thread and without locks: learns source addresses, in each VLAN by
//! itself, sends known unicast to one port and everything else to all others: multicast is
//! flooded, groups are not learned. All ports are members of all VLANs, and tags pass through as
//! they are; an untagged frame and one of VLAN 0 (priority only) are in the same VLAN. A port has a
//! finite queue, whose overflow is dropped and counted there, but a sender may ask first, as with
//! pause frames ([`PortHandle::try_send`]). Rate, latency, ECN marks and faults are the cables'
//! ([`crate::cable`]). Knows nothing of spanning trees, so links must not form a loop, and nothing of
//! RoCE.

mod links;
mod mac_table;

pub use links::Links;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;

use crate::frame::{Frame, Payload};
use mac_table::{MAX_PORTS, MacTable};

/// Frames that wait at a port for their receiver before more are dropped.
pub const DEFAULT_QUEUE_LEN: usize = 4096;

/// Tells whoever serves a port that a frame has arrived. Called from the senders' threads, once
/// per frame: has to be cheap when its thread is awake.
pub trait Wake: Send + Sync {
    /// There is something to receive.
    fn wake(&self);
}

impl<F: Fn() + Send + Sync> Wake for F {
    fn wake(&self) {
        self();
    }
}

/// What passed through a port, from the point of view of what is plugged in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // packets and bytes, by the names of the interface counters (RFC 2863)
pub struct PortCounters {
    pub tx_packets: u64,
    pub tx_bytes: u64,
    /// Sent while the link was down, or shorter than an Ethernet header.
    pub tx_dropped_packets: u64,
    pub tx_dropped_bytes: u64,
    pub rx_packets: u64,
    pub rx_bytes: u64,
    /// Arrived while the queue was full.
    pub rx_dropped_packets: u64,
    pub rx_dropped_bytes: u64,
}

#[derive(Default)]
struct Count {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    #[inline]
    fn add(&self, bytes: usize) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// [`add`](Self::add) where no other thread counts at the same time: two stores are cheaper than two locked
    /// additions.
    #[inline]
    fn add_alone(&self, bytes: usize) {
        let (packets, octets) = self.get();
        self.packets
            .store(packets.wrapping_add(1), Ordering::Relaxed);
        let octets = octets.wrapping_add(bytes as u64);
        self.bytes.store(octets, Ordering::Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        (
            self.packets.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

/// Keeps what one thread writes out of the cache line (and its prefetched neighbour) that another
/// thread writes.
#[repr(align(128))]
#[derive(Default)]
struct Apart<T>(T);

struct Port<P> {
    index: u16,
    name: String,
    queue: ArrayQueue<Frame<P>>,
    waker: Arc<dyn Wake>,
    link: AtomicBool,
    sent: Apart<[Count; 2]>,
    received: Apart<Count>,
    overrun: Apart<Count>,
}

impl<P: Payload> Port<P> {
    /// Queues a frame for the receiver, or drops it if the queue is full or the link down.
    #[inline]
    fn deliver(&self, frame: Frame<P>) {
        if !self.link.load(Ordering::Relaxed) {
            return;
        }
        match self.queue.push(frame) {
            Ok(()) => self.waker.wake(),
            Err(frame) => self.overrun.0.add(frame.len_on_wire()),
        }
    }
}

impl<P> Port<P> {
    fn counters(&self) -> PortCounters {
        let [sent, refused] = &self.sent.0;
        let (tx_packets, tx_bytes) = sent.get();
        let (tx_dropped_packets, tx_dropped_bytes) = refused.get();
        let (rx_packets, rx_bytes) = self.received.0.get();
        let (rx_dropped_packets, rx_dropped_bytes) = self.overrun.0.get();
        PortCounters {
            tx_packets,
            tx_bytes,
            tx_dropped_packets,
            tx_dropped_bytes,
            rx_packets,
            rx_bytes,
            rx_dropped_packets,
            rx_dropped_bytes,
        }
    }
}

type Ports<P> = Vec<Option<Arc<Port<P>>>>;

struct Shared<P> {
    ports: ArcSwap<Ports<P>>,
    /// Held while ports are added or removed; never on the data path.
    change: Mutex<()>,
    table: MacTable,
}

impl<P> Shared<P> {
    fn change_ports<R>(&self, change: impl FnOnce(&mut Ports<P>) -> R) -> R {
        let _guard = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ports = Ports::clone(&self.ports.load());
        let result = change(&mut ports);
        self.ports.store(Arc::new(ports));
        result
    }
}

/// The switch; clones are the same switch.
pub struct Switch<P>(Arc<Shared<P>>);

impl<P> Clone for Switch<P> {
    fn clone(&self) -> Switch<P> {
        Switch(Arc::clone(&self.0))
    }
}

impl<P: Payload + Clone> Switch<P> {
    /// A switch without ports.
    #[must_use]
    pub fn new() -> Switch<P> {
        Switch(Arc::new(Shared {
            ports: ArcSwap::from_pointee(Vec::new()),
            change: Mutex::new(()),
            table: MacTable::new(),
        }))
    }

    /// Adds a port with the default queue, link up. It is there until its handle is dropped.
    #[must_use]
    pub fn add_port(&self, name: &str, waker: Arc<dyn Wake>) -> PortHandle<P> {
        self.add_port_with_queue(name, waker, DEFAULT_QUEUE_LEN)
    }

    /// Adds a port at which up to `queue_len` frames can wait.
    #[must_use]
    pub fn add_port_with_queue(
        &self,
        name: &str,
        waker: Arc<dyn Wake>,
        queue_len: usize,
    ) -> PortHandle<P> {
        let port = self.0.change_ports(|ports| {
            let index = ports
                .iter()
                .position(Option::is_none)
                .unwrap_or(ports.len());
            let port = Arc::new(Port {
                // A port costs a megabyte: memory ends before the numbers do. One that is beyond
                // what can be learned would share a station's place with another.
                index: index.min(MAX_PORTS - 1) as u16,
                name: name.to_owned(),
                queue: ArrayQueue::new(queue_len.max(1)),
                waker,
                link: AtomicBool::new(true),
                sent: Apart::default(),
                received: Apart::default(),
                overrun: Apart::default(),
            });
            match ports.get_mut(index) {
                Some(slot) => *slot = Some(Arc::clone(&port)),
                None => ports.push(Some(Arc::clone(&port))),
            }
            port
        });
        PortHandle {
            shared: Arc::clone(&self.0),
            port,
        }
    }

    /// Ports plugged in.
    #[must_use]
    pub fn port_count(&self) -> usize {
        self.0.ports.load().iter().flatten().count()
    }

    /// Lets time pass for learned addresses: one that has not sent since the call before the last
    /// is forgotten. Call it every few minutes.
    pub fn age(&self) {
        self.0.table.age();
    }
}

impl<P: Payload + Clone> Default for Switch<P> {
    fn default() -> Switch<P> {
        Switch::new()
    }
}

impl<P> fmt::Debug for Switch<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.0.ports.load();
        let names = ports.iter().flatten().map(|port| &port.name);
        f.debug_list().entries(names).finish()
    }
}

/// One port, held by what is plugged in; unplugged when dropped. May be shared between one sending
/// and one receiving thread; with more of them its counters would miss frames.
pub struct PortHandle<P> {
    shared: Arc<Shared<P>>,
    port: Arc<Port<P>>,
}

impl<P: Payload + Clone> PortHandle<P> {
    /// Sends a frame. Where a receiver's queue is full, it is dropped and counted there.
    #[inline]
    pub fn send(&self, frame: Frame<P>) {
        let [sent, refused] = &self.port.sent.0;
        let (true, Some(dst), Some(src)) = (self.link(), frame.dst_mac(), frame.src_mac()) else {
            refused.add_alone(frame.len_on_wire());
            return;
        };
        sent.add_alone(frame.len_on_wire());
        let vlan = frame.vlan_id();
        self.shared.table.learn(vlan, src, self.port.index);
        let ports = self.shared.ports.load();
        match self.shared.table.lookup(vlan, dst) {
            Some(index) if index == self.port.index => {}
            Some(index) => {
                if let Some(Some(port)) = ports.get(usize::from(index)) {
                    port.deliver(frame);
                }
            }
            // Group addresses are never learned.
            None => {
                let mut others = ports
                    .iter()
                    .flatten()
                    .filter(|port| port.index != self.port.index);
                let Some(first) = others.next() else { return };
                for port in others {
                    port.deliver(frame.duplicate());
                }
                first.deliver(frame);
            }
        }
    }

    /// Sends a frame as over a link with flow control (IEEE 802.1Qbb): if it is for one receiver
    /// and that one's queue is full, it comes back, neither sent nor counted. Try again later.
    /// With several senders at once a frame can still be dropped.
    ///
    /// # Errors
    /// The frame.
    #[inline]
    #[allow(clippy::result_large_err)] // a frame is moved by value, here as everywhere
    pub fn try_send(&self, frame: Frame<P>) -> Result<(), Frame<P>> {
        if self.is_held_up(&frame) {
            return Err(frame);
        }
        self.send(frame);
        Ok(())
    }

    /// Whether [`try_send`](Self::try_send) would give a frame back: asked before, it need not be moved.
    #[inline]
    #[must_use]
    pub fn is_held_up(&self, frame: &Frame<P>) -> bool {
        let receiver = frame
            .dst_mac()
            .and_then(|dst| self.shared.table.lookup(frame.vlan_id(), dst));
        receiver.is_some_and(|index| {
            let ports = self.shared.ports.load();
            matches!(ports.get(usize::from(index)), Some(Some(port)) if port.queue.is_full())
        })
    }

    /// The next frame that has arrived.
    #[inline]
    #[must_use]
    pub fn recv(&self) -> Option<Frame<P>> {
        let frame = self.port.queue.pop()?;
        self.port.received.0.add_alone(frame.len_on_wire());
        Some(frame)
    }

    /// Frames waiting to be received.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.port.queue.len()
    }

    /// What has passed so far.
    #[must_use]
    pub fn counters(&self) -> PortCounters {
        self.port.counters()
    }

    /// Sees what passes from elsewhere, without being plugged in.
    #[must_use]
    pub fn watch(&self) -> PortWatch<P> {
        PortWatch(Arc::clone(&self.port))
    }

    /// Takes the link up or down. While it is down nothing goes in or out; what waits can still
    /// be received.
    pub fn set_link(&self, up: bool) {
        self.port.link.store(up, Ordering::Relaxed);
        if !up {
            self.shared.table.forget_port(self.port.index);
        }
    }

    /// Whether the link is up.
    #[must_use]
    pub fn link(&self) -> bool {
        self.port.link.load(Ordering::Relaxed)
    }

    /// The name it was added with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.port.name
    }
}

/// Sees the counters of a port; clones see the same.
pub struct PortWatch<P>(Arc<Port<P>>);

impl<P> Clone for PortWatch<P> {
    fn clone(&self) -> PortWatch<P> {
        PortWatch(Arc::clone(&self.0))
    }
}

impl<P> PortWatch<P> {
    /// The name of the port.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether its link is up.
    #[must_use]
    pub fn link(&self) -> bool {
        self.0.link.load(Ordering::Relaxed)
    }

    /// What has passed so far.
    #[must_use]
    pub fn counters(&self) -> PortCounters {
        self.0.counters()
    }
}

impl<P> fmt::Debug for PortWatch<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PortWatch").field(&self.0.name).finish()
    }
}

impl<P> Drop for PortHandle<P> {
    fn drop(&mut self) {
        let index = self.port.index;
        // Learned addresses go first, so that whoever gets the number next inherits none.
        self.shared.table.forget_port(index);
        self.shared.change_ports(|ports| {
            if let Some(slot) = ports.get_mut(usize::from(index)) {
                *slot = None;
            }
        });
    }
}

impl<P> fmt::Debug for PortHandle<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortHandle")
            .field("name", &self.port.name)
            .field("pending", &self.port.queue.len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
