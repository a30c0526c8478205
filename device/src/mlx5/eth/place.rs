//! What has been received goes into a receive queue's memory and becomes a completion; or the
//! queue fails. Knows nothing of why it goes to this queue.

use log::debug;
use zerocopy::byteorder::big_endian::{U16, U32};

use super::headers::Tag;
use super::rq::Wqes;
use super::rss::Hash;
use super::striding::{Place, Span};
use super::{Fault, QueueState};
use crate::mlx5::core::Core;
use crate::mlx5::cqe::{Cqe, CqeOpcode};
use crate::mlx5::eq::{Eqe, EventType};
use crate::mlx5::mkey::Accessor;
use crate::mlx5::payload::{Memory, Source};
use crate::mlx5::rq::Taken;
use crate::mlx5::wqe::DataSeg;

/// What a completion says about what was received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    /// Receive hash.
    pub hash: Hash,
    /// Flow tag of the entry that led here.
    pub flow_tag: u32,
    /// The tag that was taken out.
    pub tag: Option<Tag>,
    /// `l4_hdr_type` and `l3_hdr_type`.
    pub header_types: u8,
    /// `hds_ip_ext`: what is good.
    pub good: u8,
    /// `check_sum`.
    pub check_sum: u16,
    /// It is several segments in one.
    pub merged: Option<Merged>,
}

/// LRO fields of a completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merged {
    /// `lro_num_seg`.
    pub segments: u8,
    /// One of them had PSH.
    pub push: bool,
    /// Smallest time to live.
    pub min_ttl: u8,
    /// TCP window of the last one.
    pub window: u16,
    /// Acknowledgment number of the last one.
    pub ack: u32,
}

impl Report {
    fn describe(&self, cqe: &mut Cqe) {
        cqe.rss_hash = U32::new(self.hash.value);
        cqe.rss_hash_type = self.hash.kind;
        cqe.l4_l3_hdr_type = self.header_types;
        cqe.hds_ip_ext = self.good;
        cqe.check_sum = U16::new(self.check_sum);
        if let Some(tag) = self.tag {
            cqe.l4_l3_hdr_type |= 1;
            cqe.vlan_info = U16::new(tag.tci);
        }
        if let Some(merged) = self.merged {
            let [w0, w1] = merged.window.to_be_bytes();
            let [a0, a1, a2, a3] = merged.ack.to_be_bytes();
            cqe.lro = [
                u8::from(merged.push) << 6,
                merged.min_ttl,
                w0,
                w1,
                a0,
                a1,
                a2,
                a3,
            ];
            let owner = cqe.srqn_uidx.get() & 0xff_ffff;
            cqe.srqn_uidx = U32::new(u32::from(merged.segments) << 24 | owner);
        }
    }
}

/// The WQE that a completion is about.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    /// User index, or number of the pool that it came from.
    owner: u32,
    /// Striding queues only.
    wqe_id: u16,
    /// Counter or index of the WQE, or the first stride.
    wqe_counter: u16,
}

/// A WQE, whose memory it names, and the user index or number that its CQE carries.
struct Target {
    taken: Taken,
    who: Accessor,
    owner: u32,
}

/// Puts `bytes` into the memory of queue `rqn`. `segs` is used for scatter lists.
pub(super) fn place(
    core: &mut Core,
    rqn: u32,
    report: &Report,
    bytes: &impl Source,
    segs: &mut Vec<DataSeg>,
) {
    match core.eth.rqs.get(rqn) {
        Some(rq) if rq.state == QueueState::Ready => match rq.wqes {
            Wqes::Striding(_) => place_striding(core, rqn, report, bytes),
            _ => place_whole(core, rqn, report, bytes, segs),
        },
        _ => {}
    }
}

/// One WQE for one packet.
fn place_whole(
    core: &mut Core,
    rqn: u32,
    report: &Report,
    bytes: &impl Source,
    segs: &mut Vec<DataSeg>,
) {
    let target = match take(core, rqn, segs) {
        Ok(Some(target)) => target,
        Ok(None) => return count_out_of_buffer(core, rqn, report),
        Err(fault) => return fail(core, rqn, Name::default(), fault),
    };
    let name = Name {
        owner: target.owner,
        wqe_id: 0,
        wqe_counter: target.taken.wqe_counter,
    };
    let len = bytes.size();
    if target.taken.capacity < len as u64 {
        return fail(core, rqn, name, Fault::LENGTH);
    }
    let memory = Memory {
        map: &core.mem,
        mkeys: &core.mkeys,
        who: target.who,
    };
    if memory.scatter(segs, 0, bytes).is_err() {
        return fail(core, rqn, name, Fault::PROTECTION);
    }
    complete(core, rqn, name, len as u32, Some(report));
}

/// The next strides of the WQE in progress, or the first of the next one.
fn place_striding(core: &mut Core, rqn: u32, report: &Report, bytes: &impl Source) {
    // A filler makes room for a packet that fits a WQE at all: the second answer is the last.
    for _ in 0..2 {
        let Core {
            eth, mem, mkeys, ..
        } = core;
        let Some(rq) = eth.rqs.get_mut(rqn) else {
            return;
        };
        let (who, owner) = (rq.accessor(rqn), rq.owner());
        let Wqes::Striding(queue) = &mut rq.wqes else {
            return;
        };
        let len = bytes.size();
        let name = |span: Span| Name {
            owner,
            wqe_id: span.wqe_id,
            wqe_counter: span.first,
        };
        match queue.reserve(mem, len) {
            Ok(Place::Strides(span)) => {
                if span.capacity < span.offset + len as u64 {
                    return fail(core, rqn, name(span), Fault::LENGTH);
                }
                let memory = Memory {
                    map: mem,
                    mkeys,
                    who,
                };
                if memory.scatter(queue.segs(), span.offset, bytes).is_err() {
                    return fail(core, rqn, name(span), Fault::PROTECTION);
                }
                let byte_cnt = u32::from(span.strides) << 16 | len as u32 & 0xffff;
                return complete(core, rqn, name(span), byte_cnt, Some(report));
            }
            Ok(Place::Filler(span)) => {
                let byte_cnt = FILLER | u32::from(span.strides) << 16;
                complete(core, rqn, name(span), byte_cnt, None);
            }
            Ok(Place::Empty) => return count_out_of_buffer(core, rqn, report),
            Ok(Place::TooLong(span)) => return fail(core, rqn, name(span), Fault::LENGTH),
            Err(_) => return fail(core, rqn, Name::default(), Fault::PROTECTION),
        }
    }
}

/// In `byte_cnt` of a striding queue: strides that nothing is in.
const FILLER: u32 = 1 << 31;

fn count_out_of_buffer(core: &mut Core, rqn: u32, report: &Report) {
    let Some(rq) = core.eth.rqs.get(rqn) else {
        return;
    };
    let packets = report.merged.map_or(1, |merged| u32::from(merged.segments));
    core.count(rq.counter_set, |counters| {
        counters.out_of_buffer = counters.out_of_buffer.wrapping_add(packets);
    });
}

fn take(core: &mut Core, rqn: u32, segs: &mut Vec<DataSeg>) -> Result<Option<Target>, Fault> {
    let Some(rq) = core.eth.rqs.get_mut(rqn) else {
        return Ok(None);
    };
    let (who, owner) = (rq.accessor(rqn), rq.owner());
    match &mut rq.wqes {
        Wqes::Own(queue) => {
            let taken = queue.take(&core.mem, segs).map_err(|_| Fault::PROTECTION)?;
            Ok(taken.map(|taken| Target { taken, who, owner }))
        }
        Wqes::Rmp(rmpn) => {
            let rmpn = *rmpn;
            Ok(
                take_from_rmp(core, rmpn, who, segs).map(|(taken, who)| Target {
                    taken,
                    who,
                    owner,
                }),
            )
        }
        Wqes::Striding(_) => Ok(None),
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

fn complete(core: &mut Core, rqn: u32, name: Name, byte_cnt: u32, report: Option<&Report>) {
    let Some(rq) = core.eth.rqs.get(rqn) else {
        return;
    };
    let cqn = rq.cqn;
    let flow_tag = report.map_or(0, |report| report.flow_tag);
    let mut cqe = Cqe::new(CqeOpcode::RespSend, flow_tag, name.wqe_counter);
    cqe.wqe_id = U16::new(name.wqe_id);
    cqe.srqn_uidx = U32::new(name.owner & 0xff_ffff);
    cqe.byte_cnt = U32::new(byte_cnt);
    if let Some(report) = report {
        report.describe(&mut cqe);
    }
    if core.complete(cqn, cqe).is_err()
        && let Some(rq) = core.eth.rqs.get_mut(rqn)
    {
        rq.state = QueueState::Error;
    }
}

/// An error completion; then the queue is in error and flushes.
fn fail(core: &mut Core, rqn: u32, name: Name, fault: Fault) {
    let Some(rq) = core.eth.rqs.get_mut(rqn) else {
        return;
    };
    debug!(
        target: "mlx5::eth",
        "RQ {rqn:#x}: WQE {:#x} {:#x} fails with syndrome {:#x}",
        name.wqe_id, name.wqe_counter, fault.syndrome
    );
    rq.state = QueueState::Error;
    if let Wqes::Striding(queue) = &mut rq.wqes {
        // This completion is that WQE's last.
        queue.give_up();
    }
    let cqn = rq.cqn;
    if core.complete(cqn, error_cqe(rqn, name, fault)).is_ok() {
        flush_rq(core, rqn);
    }
}

/// A completion has said that the RQ failed: it goes to error, and what else is posted is flushed.
pub fn fail_rq(core: &mut Core, rqn: u32) {
    if let Some(rq) = core.eth.rqs.get_mut(rqn)
        && let Wqes::Striding(queue) = &mut rq.wqes
    {
        queue.give_up();
    }
    flush_rq(core, rqn);
}

/// Moves an RQ to error: what is posted is flushed.
pub fn flush_rq(core: &mut Core, rqn: u32) {
    let Some(rq) = core.eth.rqs.get_mut(rqn) else {
        return;
    };
    rq.state = QueueState::Error;
    if !rq.flush_in_error || !core.bus_master {
        return;
    }
    let posted = match &mut rq.wqes {
        Wqes::Own(queue) => u32::from(queue.available(&core.mem)),
        Wqes::Striding(queue) => {
            u32::from(queue.is_open()) + u32::from(queue.queue.available(&core.mem))
        }
        Wqes::Rmp(_) => 0,
    };
    let mut segs = Vec::new();
    for _ in 0..posted {
        let Some(rq) = core.eth.rqs.get_mut(rqn) else {
            return;
        };
        let (cqn, owner) = (rq.cqn, rq.owner());
        let (wqe_id, wqe_counter) = match &mut rq.wqes {
            Wqes::Own(queue) => match queue.take(&core.mem, &mut segs) {
                Ok(Some(taken)) => (0, taken.wqe_counter),
                _ => return,
            },
            Wqes::Striding(queue) => match queue.abandon(&core.mem) {
                Ok(Some(name)) => name,
                _ => return,
            },
            Wqes::Rmp(_) => return,
        };
        let name = Name {
            owner,
            wqe_id,
            wqe_counter,
        };
        let cqe = error_cqe(rqn, name, Fault::FLUSH);
        if core.complete(cqn, cqe).is_err() {
            return;
        }
    }
}

fn error_cqe(rqn: u32, name: Name, fault: Fault) -> Cqe {
    let mut cqe = Cqe::error(
        CqeOpcode::RespErr,
        rqn,
        name.owner,
        0,
        name.wqe_counter,
        fault.syndrome,
        fault.vendor,
    );
    cqe.wqe_id = U16::new(name.wqe_id);
    cqe
}
