//! The device half of virtio-net: frames out of the guest's transmit ring and into its receive ring.
//!
//! Offers no checksum and no segmentation, so that guests send finished frames, as others on the
//! cable expect them. Whatever a driver writes is checked here; what is wrong is counted.

use std::ops::Range;

use rocinante_wire::buf::FRAME_BUF_SIZE;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_net::{
    VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS,
};
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};
use virtio_queue::Error;
use vm_memory::{Bytes, GuestAddress};

use super::ring::{Chain, Memory, Ring, RingError};

/// What a driver can be offered. MTU and link status are the monitor's to say, but not without our consent.
pub const FEATURES: u64 = 1 << VIRTIO_F_VERSION_1
    | 1 << VIRTIO_RING_F_EVENT_IDX
    | 1 << VIRTIO_RING_F_INDIRECT_DESC
    | 1 << VIRTIO_NET_F_MRG_RXBUF
    | 1 << VIRTIO_NET_F_MTU
    | 1 << VIRTIO_NET_F_STATUS;

/// The header before each frame, with the number of buffers at its end.
const HEADER: usize = 12;

/// The same of a legacy driver that takes one buffer per frame: without that number.
const SHORT_HEADER: usize = 10;

/// The longest frame in either direction.
pub const MAX_FRAME: usize = FRAME_BUF_SIZE - HEADER;

/// Chains looked at in one go, be they good or not.
const BATCH: usize = 256;

/// Descriptors of a chain, at most.
const CHAIN: usize = super::ring::QUEUE_SIZE as usize;

/// What a driver has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Chains to send from that are none: loops, wrong addresses or directions, no header.
    pub tx_malformed: u64,
    /// Frames to send that are longer than [`MAX_FRAME`].
    pub tx_too_long: u64,
    /// Frames to send that need an offload which was not offered.
    pub tx_offload: u64,
    /// Chains to receive to that are none.
    pub rx_malformed: u64,
    /// Frames for a driver that has no room for one of their length.
    pub rx_too_long: u64,
}

/// What a look at the transmit ring gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A frame; it is at this place of the buffer.
    Frame(Range<usize>),
    /// Something that is no frame: counted.
    Refused,
    /// Nothing now.
    Nothing,
}

/// What became of a frame for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The guest has it.
    Done,
    /// Not yet: the guest has too few buffers. `seen` is for [`Ring::listen`].
    Full {
        /// The available index at which they were too few.
        seen: u16,
    },
    /// Never: the ring is not in use, or its buffers are no good.
    Lost,
}

/// A virtio-net device with one pair of queues.
pub struct Device {
    /// Queue 0, for frames to the guest.
    pub rx: Ring,
    /// Queue 1, for frames from the guest.
    pub tx: Ring,
    header: usize,
    mergeable: bool,
    /// What went wrong.
    pub counters: Counters,
    // Kept for the next frame.
    pieces: Vec<(GuestAddress, usize)>,
    used: Vec<(u16, u32)>,
}

impl Device {
    /// A device that no driver has negotiated with.
    pub fn new() -> Result<Device, Error> {
        Ok(Device {
            rx: Ring::new()?,
            tx: Ring::new()?,
            header: SHORT_HEADER,
            mergeable: false,
            counters: Counters::default(),
            pieces: Vec::new(),
            used: Vec::new(),
        })
    }

    /// What driver and monitor have agreed on.
    pub fn set_features(&mut self, features: u64) {
        let has = |bit: u32| features & (1 << bit) != 0;
        self.mergeable = has(VIRTIO_NET_F_MRG_RXBUF);
        self.header = if self.mergeable || has(VIRTIO_F_VERSION_1) {
            HEADER
        } else {
            SHORT_HEADER
        };
        for ring in [&mut self.rx, &mut self.tx] {
            ring.set_event_idx(has(VIRTIO_RING_F_EVENT_IDX));
        }
    }

    /// The next thing that the guest sends, copied to `buf`.
    pub fn take(&mut self, memory: &Memory, buf: &mut [u8]) -> Taken {
        if !self.tx.active() {
            return Taken::Nothing;
        }
        self.try_take(memory, buf).unwrap_or_else(|error| {
            self.tx.fail(&error);
            Taken::Nothing
        })
    }

    fn try_take(&mut self, memory: &Memory, buf: &mut [u8]) -> Result<Taken, RingError> {
        let Some(chain) = self.tx.pop(memory)? else {
            return Ok(Taken::Nothing);
        };
        let head = chain.head_index();
        let read = read(memory, chain, buf, self.header);
        if head < self.tx.size() {
            self.tx.publish(memory, &[(head, 0)])?;
        }
        let counters = &mut self.counters;
        match read {
            Ok(frame) => return Ok(Taken::Frame(frame)),
            Err(Bad::Malformed) => counters.tx_malformed += 1,
            Err(Bad::TooLong) => counters.tx_too_long += 1,
            Err(Bad::Offload) => counters.tx_offload += 1,
        }
        Ok(Taken::Refused)
    }

    /// Hands a frame to the guest.
    pub fn deliver(&mut self, memory: &Memory, frame: &[u8]) -> Delivery {
        if !self.rx.active() {
            return Delivery::Lost;
        }
        self.try_deliver(memory, frame).unwrap_or_else(|error| {
            self.rx.fail(&error);
            Delivery::Lost
        })
    }

    fn try_deliver(&mut self, memory: &Memory, frame: &[u8]) -> Result<Delivery, RingError> {
        let start = self.rx.position();
        let seen = self.rx.available(memory)?;
        let need = self.header + frame.len();
        self.pieces.clear();
        self.used.clear();
        let mut room = 0;
        for _ in 0..BATCH {
            let Some(chain) = self.rx.pop(memory)? else {
                break;
            };
            let head = chain.head_index();
            let before = self.pieces.len();
            let Some(len) = gather(chain, &mut self.pieces) else {
                // Back to the driver, empty, unless good ones are waiting before it: then later.
                if !self.used.is_empty() {
                    self.pieces.truncate(before);
                    self.rx.rewind(self.rx.position().wrapping_sub(1));
                    break;
                }
                self.pieces.clear();
                self.counters.rx_malformed += 1;
                if head < self.rx.size() {
                    self.rx.publish(memory, &[(head, 0)])?;
                }
                return Ok(Delivery::Lost);
            };
            let written = len.min(need - room);
            self.used.push((head, written as u32));
            room += written;
            if room == need || !self.mergeable {
                break;
            }
        }
        if room < need {
            self.rx.rewind(start);
            let single = !self.mergeable && !self.used.is_empty();
            // No number of buffers helps where each is too short, or where all that there can be are here.
            let hopeless = single || self.used.len() >= usize::from(self.rx.size()).min(BATCH);
            if hopeless {
                self.counters.rx_too_long += 1;
                return Ok(Delivery::Lost);
            }
            return Ok(Delivery::Full { seen });
        }
        let mut header = [0; HEADER];
        if let Some(number) = header.last_chunk_mut() {
            *number = (self.used.len() as u16).to_le_bytes();
        }
        let parts = [header.get(..self.header).unwrap_or_default(), frame];
        if !scatter(memory, &self.pieces, parts) {
            self.counters.rx_malformed += 1;
            self.used.iter_mut().for_each(|used| used.1 = 0);
            self.rx.publish(memory, &self.used)?;
            return Ok(Delivery::Lost);
        }
        self.rx.publish(memory, &self.used)?;
        Ok(Delivery::Done)
    }

    /// Tells the guest of what was given back on either ring, if it wants to know.
    pub fn flush(&mut self, memory: &Memory) {
        for ring in [&mut self.rx, &mut self.tx] {
            if ring.active()
                && let Err(error) = ring.signal(memory)
            {
                ring.fail(&error);
            }
        }
    }

    /// Asks for a kick at the next frame that the guest sends. True if there is one by now.
    pub fn listen_tx(&mut self, memory: &Memory) -> bool {
        let seen = self.tx.position();
        listen(&mut self.tx, memory, seen)
    }

    /// Asks for a kick at the next buffer beyond those `seen`. True if there is one by now.
    pub fn listen_rx(&mut self, memory: &Memory, seen: u16) -> bool {
        listen(&mut self.rx, memory, seen)
    }
}

fn listen(ring: &mut Ring, memory: &Memory, seen: u16) -> bool {
    ring.active()
        && ring.listen(memory, seen).unwrap_or_else(|error| {
            ring.fail(&error);
            false
        })
}

/// Why a chain is not a frame to send.
enum Bad {
    Malformed,
    TooLong,
    Offload,
}

/// Flag of a header: the checksum is to be completed.
const NEEDS_CSUM: u8 = 1;

/// Copies what a chain holds to `buf`; where the frame is, behind its header.
fn read(
    memory: &Memory,
    chain: Chain<'_>,
    buf: &mut [u8],
    header: usize,
) -> Result<Range<usize>, Bad> {
    let mut len = 0;
    let mut more = true;
    for desc in chain.take(CHAIN) {
        if desc.is_write_only() {
            return Err(Bad::Malformed);
        }
        let end = len + desc.len() as usize;
        let place = buf.get_mut(len..end).ok_or(Bad::TooLong)?;
        memory
            .read_slice(place, desc.addr())
            .map_err(|_| Bad::Malformed)?;
        len = end;
        more = desc.has_next();
    }
    // A chain that goes on where nothing comes was cut: it is a loop, or leaves its table.
    if more || len < header {
        return Err(Bad::Malformed);
    }
    if len > header + MAX_FRAME {
        return Err(Bad::TooLong);
    }
    let asks = buf
        .first_chunk()
        .is_none_or(|[flags, segmentation]| flags & NEEDS_CSUM != 0 || *segmentation != 0);
    if asks {
        return Err(Bad::Offload);
    }
    Ok(header..len)
}

/// Adds the pieces of a chain to write to, and tells how long they are. `None` if it is none.
fn gather(chain: Chain<'_>, pieces: &mut Vec<(GuestAddress, usize)>) -> Option<usize> {
    let mut room = 0;
    let mut more = true;
    for desc in chain.take(CHAIN) {
        if !desc.is_write_only() {
            return None;
        }
        let len = desc.len() as usize;
        pieces.push((desc.addr(), len));
        room += len;
        more = desc.has_next();
    }
    (!more && room > 0).then_some(room)
}

/// Writes `parts`, one after the other, to `pieces`. False if those are not in memory.
fn scatter(memory: &Memory, pieces: &[(GuestAddress, usize)], parts: [&[u8]; 2]) -> bool {
    let mut pieces = pieces.iter().copied();
    let mut piece = (GuestAddress(0), 0);
    for mut part in parts {
        while !part.is_empty() {
            if piece.1 == 0 {
                match pieces.next() {
                    Some(next) => piece = next,
                    None => return false,
                }
            }
            let (at, room) = piece;
            let (now, rest) = part.split_at(part.len().min(room));
            let end = at.0.checked_add(now.len() as u64);
            let (Ok(()), Some(end)) = (memory.write_slice(now, at), end) else {
                return false;
            };
            piece = (GuestAddress(end), room - now.len());
            part = rest;
        }
    }
    true
}
