//! The receive side: a frame goes through steering and receive side scaling into the buffers of
//! receive queues. Source: reference of the interface, "RX path".

use log::debug;
use rocinante_dma::{DmaError, MemoryMap};
use rocinante_wire::buf::Buf;
use rocinante_wire::frame::Piece;
use zerocopy::byteorder::big_endian::{U16, U32};

use super::checksum::{Sum, pseudo_header};
use super::headers::{ETHERNET_LEN, Headers, L3, L4};
use super::rq::Wqes;
use super::rss::Hash;
use super::steering::Delivery;
use super::{Fault, NO_USER_INDEX, QueueState};
use crate::mlx5::core::{Core, NicFrame};
use crate::mlx5::cqe::{Cqe, CqeOpcode};
use crate::mlx5::eq::{Eqe, EventType};
use crate::mlx5::mkey::Accessor;
use crate::mlx5::payload::{Memory, Source};
use crate::mlx5::rq::Taken;
use crate::mlx5::wqe::DataSeg;

/// What receiving needs at a time, kept to be used again.
#[derive(Default)]
pub(super) struct Scratch {
    deliveries: Vec<Delivery>,
    segs: Vec<DataSeg>,
}

/// Receives a frame that is no RoCE frame for this NIC.
pub fn receive(core: &mut Core, frame: &NicFrame) {
    accept(core, frame, false);
}

/// Receives a frame that this NIC sent to itself.
pub(super) fn receive_looped(core: &mut Core, frame: &NicFrame) {
    accept(core, frame, true);
}

fn accept(core: &mut Core, frame: &NicFrame, looped: bool) {
    if !core.bus_master {
        return;
    }
    let len = frame.len_on_wire();
    if !core.port.link_up() {
        core.eth.discards.receive_discard_vport_down += 1;
        return;
    }
    if len < ETHERNET_LEN {
        return;
    }
    // The MTU counts the frame check sequence.
    if len + 4 > usize::from(core.port.mtu().min(core.vport.mtu)) {
        core.port.counters.oversize += 1;
        core.vport_counters.received_errors.count(len);
        return;
    }
    let held: Buf;
    let pieces = if frame.is_known_good() {
        [None, None]
    } else {
        frame.pieces(0..len)
    };
    let (head, rest): (&[u8], &[u8]) = match pieces {
        [Some(Piece::Slice(head)), None] => (head, &[]),
        [Some(Piece::Slice(head)), Some(Piece::Slice(rest))] => (head, rest),
        _ => {
            let mut buf = core.buffers.get(len);
            if frame.write_to(&mut buf).is_err() {
                return;
            }
            held = buf;
            (&held, &[])
        }
    };
    let Some(headers) = Headers::parse(head, len) else {
        return;
    };
    let mut packet = Packet {
        head,
        rest,
        headers,
        checks: None,
    };
    core.port.counters.received.count(&packet.headers.dmac, len);
    let mut scratch = std::mem::take(&mut core.eth.rx);
    scratch.deliveries.clear();
    if !core
        .eth
        .steering
        .classify(&packet.headers.key(), len, &mut scratch.deliveries)
    {
        core.eth.discards.nic_receive_steering_discard += 1;
    }
    if !scratch.deliveries.is_empty() {
        let counters = &mut core.vport_counters;
        match packet.headers.dmac {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => &mut counters.received_eth_broadcast,
            [first, ..] if first & 1 != 0 => &mut counters.received_eth_multicast,
            _ => &mut counters.received_eth_unicast,
        }
        .count(len);
    }
    for delivery in &scratch.deliveries {
        let Some(tir) = core.eth.tirs.get(delivery.tirn) else {
            continue;
        };
        let wanted = match packet.headers.dmac[0] & 1 {
            0 => tir.loopback.unicast,
            _ => tir.loopback.multicast,
        };
        if looped && !wanted {
            continue;
        }
        if let Some((rqn, hash)) = tir.select(&packet.headers, &core.eth.rqts) {
            deliver(
                core,
                rqn,
                &mut packet,
                hash,
                delivery.flow_tag,
                &mut scratch.segs,
            );
        }
    }
    core.eth.rx = scratch;
}

/// Moves an RQ to error: what is posted is flushed.
pub fn flush_rq(core: &mut Core, rqn: u32) {
    let Some(rq) = core.eth.rqs.get_mut(rqn) else {
        return;
    };
    rq.state = QueueState::Error;
    let Wqes::Own(queue) = &mut rq.wqes else {
        return;
    };
    if !rq.flush_in_error || !core.bus_master {
        return;
    }
    let mut segs = Vec::new();
    for _ in 0..queue.available(&core.mem) {
        let Some(rq) = core.eth.rqs.get_mut(rqn) else {
            return;
        };
        let Wqes::Own(queue) = &mut rq.wqes else {
            return;
        };
        match queue.take(&core.mem, &mut segs) {
            Ok(Some(taken)) => {
                let user = if rq.user_index == NO_USER_INDEX {
                    0
                } else {
                    rq.user_index
                };
                let cqn = rq.cqn;
                if core
                    .complete(cqn, error_cqe(rqn, user, taken.wqe_counter, Fault::FLUSH))
                    .is_err()
                {
                    return;
                }
            }
            _ => return,
        }
    }
}

fn error_cqe(rqn: u32, user: u32, wqe_counter: u16, fault: Fault) -> Cqe {
    Cqe::error(
        CqeOpcode::RespErr,
        rqn,
        user,
        0,
        wqe_counter,
        fault.syndrome,
        fault.vendor,
    )
}

/// What checksums say about a packet.
#[derive(Clone, Copy)]
struct Checks {
    /// One's complement sum over the IP datagram.
    sum: u16,
    l3_ok: bool,
    l4_ok: bool,
}

/// A frame being received.
struct Packet<'a> {
    /// Contiguous beginning with all headers.
    head: &'a [u8],
    rest: &'a [u8],
    headers: Headers,
    checks: Option<Checks>,
}

impl Packet<'_> {
    /// Sum over the bytes `start..end`, taken as if `start` were even.
    fn sum(&self, start: usize, end: usize) -> Sum {
        let split = self.head.len();
        let first = self
            .head
            .get(start.min(split)..end.min(split))
            .unwrap_or_default();
        let skip = start.max(split);
        let second = self
            .rest
            .get(skip - split..end.max(skip) - split)
            .unwrap_or_default();
        Sum::default().add_at(0, first).add_at(first.len(), second)
    }

    /// Computed once, however many queues the packet goes to. `None`: not an IP datagram.
    fn checks(&mut self) -> Option<Checks> {
        if self.headers.l3 == L3::Other {
            return None;
        }
        if self.checks.is_some() {
            return self.checks;
        }
        let Headers {
            l3_offset, l3_end, ..
        } = self.headers;
        let l4_offset = self.headers.l4_offset.min(l3_end);
        let header = self.sum(l3_offset, l4_offset);
        let l4 = self.sum(l4_offset, l3_end);
        // An IP header is a multiple of four bytes.
        let sum = header.add_word(l4.folded());
        let l3_ok = self.headers.l3 == L3::Ipv6 || header.is_good();
        let without = self.headers.l4 == L4::Udp
            && self.headers.l3 == L3::Ipv4
            && self.head.get(l4_offset + 6..l4_offset + 8) == Some(&[0, 0]);
        let l4_ok = match self.headers.l4 {
            L4::None => false,
            _ if without => true,
            _ => pseudo_header(&self.headers, l3_end - l4_offset)
                .add_word(l4.folded())
                .is_good(),
        };
        self.checks = Some(Checks {
            sum: sum.folded(),
            l3_ok,
            l4_ok,
        });
        self.checks
    }

    /// `l4_hdr_type` and `l3_hdr_type` of a CQE.
    fn header_types(&self) -> u8 {
        let l4 = match self.headers.l4 {
            L4::None => 0,
            L4::Udp => 2,
            L4::Tcp if self.headers.tcp_flags & 0x10 == 0 => 1,
            L4::Tcp if self.headers.l4_payload == self.headers.l3_end => 3,
            L4::Tcp => 4,
        };
        let l3 = match self.headers.l3 {
            L3::Other => 0,
            L3::Ipv6 => 1,
            L3::Ipv4 => 2,
        };
        l4 << 4 | l3 << 2
    }

    /// What is scattered: with `strip`, without the outermost tag.
    fn bytes(&self, strip: bool) -> Parts<'_> {
        let (front, back) = match (strip, self.head.get(..12), self.head.get(16..)) {
            (true, Some(front), Some(back)) => (front, back),
            _ => (self.head, &[][..]),
        };
        Parts([front, back, self.rest])
    }
}

/// Bytes in up to three places.
struct Parts<'a>([&'a [u8]; 3]);

impl Source for Parts<'_> {
    fn size(&self) -> usize {
        self.0.iter().map(|part| part.len()).sum()
    }

    #[inline]
    fn copy_to_guest(
        &self,
        mut at: usize,
        mut len: usize,
        map: &MemoryMap,
        mut iova: u64,
    ) -> Result<(), DmaError> {
        for part in self.0 {
            let Some(bytes) = part.get(at..) else {
                at -= part.len();
                continue;
            };
            let bytes = bytes.get(..len).unwrap_or(bytes);
            map.write(iova, bytes)?;
            iova = iova.wrapping_add(bytes.len() as u64);
            len -= bytes.len();
            at = 0;
        }
        Ok(())
    }
}

/// A WQE, whose memory it names, and the user index or number that its CQE carries.
struct Target {
    taken: Taken,
    who: Accessor,
    owner: u32,
}

fn take(core: &mut Core, rqn: u32, segs: &mut Vec<DataSeg>) -> Result<Option<Target>, Fault> {
    let Some(rq) = core.eth.rqs.get_mut(rqn) else {
        return Ok(None);
    };
    let who = rq.accessor(rqn);
    match &mut rq.wqes {
        Wqes::Own(queue) => {
            let owner = if rq.user_index == NO_USER_INDEX {
                0
            } else {
                rq.user_index
            };
            let taken = queue.take(&core.mem, segs).map_err(|_| Fault::PROTECTION)?;
            Ok(taken.map(|taken| Target { taken, who, owner }))
        }
        Wqes::Rmp(rmpn) => {
            let owner = if rq.user_index == NO_USER_INDEX {
                *rmpn
            } else {
                rq.user_index
            };
            let rmpn = *rmpn;
            Ok(
                take_from_rmp(core, rmpn, who, segs).map(|(taken, who)| Target {
                    taken,
                    who,
                    owner,
                }),
            )
        }
    }
}

/// A WQE of a receive memory pool, and who may access what it names. A pool that cannot be read
/// is in error and gives none any more.
fn take_from_rmp(
    core: &mut Core,
    rmpn: u32,
    who: Accessor,
    segs: &mut Vec<DataSeg>,
) -> Option<(Taken, Accessor)> {
    let Core { srqs, mem, eqs, .. } = core;
    let rmp = srqs.get_mut(rmpn).filter(|rmp| !rmp.error)?;
    let Ok(taken) = rmp.queue.take(mem, segs) else {
        rmp.error = true;
        eqs.post_async(mem, Eqe::srq(EventType::SrqCatastrophic, rmpn));
        return None;
    };
    let taken = taken?;
    if rmp.limit != 0 && rmp.queue.available(mem) < rmp.limit {
        rmp.limit = 0;
        eqs.post_async(mem, Eqe::srq(EventType::SrqLimit, rmpn));
    }
    Some((
        taken,
        Accessor {
            pd: Some(rmp.pd),
            reserved_lkey: rmp.reserved_lkey,
            ..who
        },
    ))
}

fn deliver(
    core: &mut Core,
    rqn: u32,
    packet: &mut Packet<'_>,
    hash: Hash,
    flow_tag: u32,
    segs: &mut Vec<DataSeg>,
) {
    let Some(rq) = core.eth.rqs.get(rqn) else {
        return;
    };
    if rq.state != QueueState::Ready {
        return;
    }
    let (cqn, counter_set) = (rq.cqn, rq.counter_set);
    let tag = packet
        .headers
        .tag
        .filter(|tag| rq.strip_vlan && !tag.service);
    let target = match take(core, rqn, segs) {
        Ok(Some(target)) => target,
        Ok(None) => {
            core.count(counter_set, |counters| {
                counters.out_of_buffer = counters.out_of_buffer.wrapping_add(1);
            });
            return;
        }
        Err(fault) => return fail(core, rqn, 0, 0, fault),
    };
    let checks = packet.checks();
    let bytes = packet.bytes(tag.is_some());
    let len = bytes.size();
    let wqe_counter = target.taken.wqe_counter;
    if target.taken.capacity < len as u64 {
        return fail(core, rqn, target.owner, wqe_counter, Fault::LENGTH);
    }
    let memory = Memory {
        map: &core.mem,
        mkeys: &core.mkeys,
        who: target.who,
    };
    if memory.scatter(segs, 0, &bytes).is_err() {
        return fail(core, rqn, target.owner, wqe_counter, Fault::PROTECTION);
    }
    let mut cqe = Cqe::new(CqeOpcode::RespSend, flow_tag, wqe_counter);
    cqe.srqn_uidx = U32::new(target.owner & 0xff_ffff);
    cqe.byte_cnt = U32::new(len as u32);
    cqe.rss_hash = U32::new(hash.value);
    cqe.rss_hash_type = hash.kind;
    cqe.l4_l3_hdr_type = packet.header_types();
    // L2 is good: there is no frame check sequence to be wrong.
    cqe.hds_ip_ext = 1;
    if let Some(checks) = checks {
        cqe.check_sum = U16::new(checks.sum);
        cqe.hds_ip_ext |= u8::from(checks.l3_ok) << 1 | u8::from(checks.l4_ok) << 2;
    }
    if let Some(tag) = tag {
        cqe.l4_l3_hdr_type |= 1;
        cqe.vlan_info = U16::new(tag.tci);
    }
    if core.complete(cqn, cqe).is_err()
        && let Some(rq) = core.eth.rqs.get_mut(rqn)
    {
        rq.state = QueueState::Error;
    }
}

/// An error completion; then the queue is in error and flushes.
fn fail(core: &mut Core, rqn: u32, owner: u32, wqe_counter: u16, fault: Fault) {
    let Some(rq) = core.eth.rqs.get_mut(rqn) else {
        return;
    };
    debug!(target: "mlx5::eth", "RQ {rqn:#x}: WQE {wqe_counter:#x} fails with syndrome {:#x}", fault.syndrome);
    rq.state = QueueState::Error;
    let cqn = rq.cqn;
    if core
        .complete(cqn, error_cqe(rqn, owner, wqe_counter, fault))
        .is_ok()
    {
        flush_rq(core, rqn);
    }
}
