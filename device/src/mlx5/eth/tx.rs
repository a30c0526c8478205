//! The send side: consumes the WQEs of an SQ and puts their frames on the wire.
//! Source: reference of the interface, "TX path".

use log::{debug, trace};
use rocinante_firmware_cmd::mlx5::eth::Tisc;
use rocinante_firmware_cmd::mlx5::log::Hex;
use rocinante_wire::MacAddr;
use rocinante_wire::buf::Buf;
use rocinante_wire::frame::Frame;

use super::headers::Headers;
use super::segment::{self, Data, MAX_DATA, SendRequest};
use super::sq::{Fetched, MAX_WQE};
use super::{Fault, NO_USER_INDEX, QueueState, rx};
use crate::mlx5::core::Core;
use crate::mlx5::cqe::{Cqe, CqeOpcode};
use crate::mlx5::mkey::{Accessor, Rights};
use crate::mlx5::qp::umr;
use crate::mlx5::wqe::{self, Packed, SendData, opcode};

/// Frames that one call of [`run_sq`] may make before it stops, counted after each WQE: what a guest
/// can have waiting in here is bounded by this, the largest WQE and the number of queues.
const BUDGET: usize = 512;

/// What sending needs at a time, kept to be used again.
pub(super) struct Scratch {
    wqe: [u8; MAX_WQE],
    data: SendData,
    pieces: Vec<(u64, u64)>,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch {
            wqe: [0; MAX_WQE],
            data: SendData::default(),
            pieces: Vec::new(),
        }
    }
}

/// WQEs worked on in one go, whether they make frames or not.
const MAX_WQES: usize = 4096;

/// Works on the send queue `sqn` up to the producer index in its doorbell record. To be called when
/// its doorbell rings. A queue that made many frames stops, and goes on with [`resume`].
pub fn run_sq(core: &mut Core, sqn: u32) {
    let waits = core.eth.sqs.get(sqn).is_none_or(|sq| sq.waiting);
    if !core.bus_master || waits {
        return;
    }
    let mut scratch = core.eth.tx.take().unwrap_or_default();
    let start = core.out.wire.len();
    let mut wqes = 0;
    while step(core, sqn, &mut scratch) {
        wqes += 1;
        let frames = core.out.wire.len() - start + core.eth.looped.len();
        if frames >= BUDGET || wqes >= MAX_WQES {
            if let Some(sq) = core.eth.sqs.get_mut(sqn) {
                sq.waiting = true;
                core.eth.waiting.push_back(sqn);
            }
            break;
        }
    }
    core.eth.tx = Some(scratch);
    let domain = domain(core, sqn);
    while let Some(frame) = core.eth.looped.pop_front() {
        rx::receive_looped(core, &frame, domain);
    }
}

/// The transport domain of a send queue; 0, which is none, for one that makes no frames.
fn domain(core: &Core, sqn: u32) -> u32 {
    let sq = core.eth.sqs.get(sqn);
    let tis = sq.and_then(|sq| core.eth.tiss.get(sq.tisn?));
    tis.map_or(0, |tis| tis.transport_domain)
}

/// The priority of the frames of a send queue: that of its TIS.
fn priority(core: &Core, sqn: u32) -> u8 {
    let sq = core.eth.sqs.get(sqn);
    let tis = sq.and_then(|sq| core.eth.tiss.get(sq.tisn?));
    // Drivers put it in the upper three bits of the field.
    tis.map_or(0, |tis| Tisc::new(&tis.context).prio() >> 1)
}

/// Goes on with a send queue that stopped. To be called when the frames made so far are gone. False
/// if there is none.
pub fn resume(core: &mut Core) -> bool {
    let Some(sqn) = core.eth.waiting.pop_front() else {
        return false;
    };
    if let Some(sq) = core.eth.sqs.get_mut(sqn) {
        sq.waiting = false;
    }
    run_sq(core, sqn);
    true
}

/// Moves an SQ to error: what is posted is flushed.
pub fn flush_sq(core: &mut Core, sqn: u32) {
    let mut scratch = core.eth.tx.take().unwrap_or_default();
    if let Some(sq) = core.eth.sqs.get_mut(sqn) {
        sq.state = QueueState::Error;
    }
    // A ring holds at most 2^15 WQEs.
    while core.bus_master && step(core, sqn, &mut scratch) {}
    core.eth.tx = Some(scratch);
}

/// One WQE. False if there was none.
fn step(core: &mut Core, sqn: u32, scratch: &mut Scratch) -> bool {
    let Some(sq) = core.eth.sqs.get_mut(sqn) else {
        return false;
    };
    if sq.state == QueueState::Reset {
        return false;
    }
    let producer = sq.producer(&core.mem);
    let wqe = match sq.fetch(&core.mem, producer, &mut scratch.wqe) {
        Ok(Some(wqe)) => wqe,
        Ok(None) => return false,
        Err(_) => {
            // Nothing tells where the next WQE is.
            let index = sq.consumer;
            sq.consumer = producer;
            if sq.state == QueueState::Ready {
                sq.state = QueueState::Error;
                debug!(target: "mlx5::eth", "SQ {sqn:#x}: no WQE at index {index:#x}");
                complete(core, sqn, opcode::NOP, index, Some(Fault::OPERATION));
            }
            return false;
        }
    };
    sq.consume(&wqe);
    trace!(
        target: "mlx5::wqe",
        "{}: SQ {sqn:#x} {}",
        core.config.name,
        Hex(scratch.wqe.get(..wqe.len).unwrap_or(&[]))
    );
    if sq.state == QueueState::Error {
        // FreeBSD frees a fixed number of WQEs for each completion: none for those unsignaled.
        if sq.flush_in_error && wqe.ctrl.signaled() {
            complete(core, sqn, wqe.ctrl.opcode(), wqe.index, Some(Fault::FLUSH));
        }
        return true;
    }
    match execute(core, sqn, &wqe, scratch) {
        Ok(()) if wqe.ctrl.signaled() => complete(core, sqn, wqe.ctrl.opcode(), wqe.index, None),
        Ok(()) => {}
        Err(fault) => {
            debug!(
                target: "mlx5::eth",
                "SQ {sqn:#x}: WQE {:#x} opcode {:#x} fails with syndrome {:#x}",
                wqe.index, wqe.ctrl.opcode(), fault.syndrome
            );
            if let Some(sq) = core.eth.sqs.get_mut(sqn) {
                sq.state = QueueState::Error;
            }
            complete(core, sqn, wqe.ctrl.opcode(), wqe.index, Some(fault));
        }
    }
    true
}

fn complete(core: &mut Core, sqn: u32, wqe_opcode: u8, index: u16, fault: Option<Fault>) {
    let Some(sq) = core.eth.sqs.get(sqn) else {
        return;
    };
    let user = if sq.user_index == NO_USER_INDEX {
        0
    } else {
        sq.user_index
    };
    let cqe = match fault {
        None => Cqe::request(sqn, user, wqe_opcode, index, 0),
        Some(Fault { syndrome, vendor }) => Cqe::error(
            CqeOpcode::ReqErr,
            sqn,
            user,
            wqe_opcode,
            index,
            syndrome,
            vendor,
        ),
    };
    let cqn = sq.cqn;
    if core.complete(cqn, cqe).is_err()
        && let Some(sq) = core.eth.sqs.get_mut(sqn)
    {
        sq.state = QueueState::Error;
    }
}

fn execute(core: &mut Core, sqn: u32, wqe: &Fetched, scratch: &mut Scratch) -> Result<(), Fault> {
    match wqe.ctrl.opcode() {
        opcode::NOP => return Ok(()),
        opcode::SEND | opcode::LSO | opcode::UMR | opcode::ENHANCED_MPSW => {}
        _ => return Err(Fault::OPERATION),
    }
    let sq = core.eth.sqs.get(sqn).ok_or(Fault::OPERATION)?;
    if wqe.ctrl.opcode() == opcode::UMR {
        if !sq.reg_umr {
            return Err(Fault::OPERATION);
        }
        let who = sq.accessor(sqn);
        let bytes = scratch.wqe.get(..wqe.len).unwrap_or_default();
        return umr::execute(&core.mem, &mut core.mkeys, who, bytes).map_err(|error| Fault {
            syndrome: error.syndrome(),
            vendor: error.vendor_syndrome(),
        });
    }
    if sq.tisn.is_none() {
        return Err(Fault::OPERATION);
    }
    let bytes = scratch.wqe.get(..wqe.len).unwrap_or_default();
    if wqe.ctrl.opcode() == opcode::ENHANCED_MPSW {
        let who = sq.accessor(sqn);
        return send_many(core, sqn, who, bytes, &mut scratch.pieces);
    }
    let request =
        segment::decode(&wqe.ctrl, bytes, &mut scratch.data).map_err(|_| Fault::OPERATION)?;
    if scratch.data.len > MAX_DATA {
        return Err(Fault::LENGTH);
    }
    if !core.port.link_up() {
        // Consumed all the same: drivers wait for their completions before they close.
        core.eth.discards.transmit_discard_vport_down += 1;
        return Ok(());
    }
    scratch.pieces.clear();
    let who = sq.accessor(sqn);
    for seg in &scratch.data.segs {
        let mut piece = |address, len| scratch.pieces.push((address, len));
        core.mkeys
            .resolve(
                who,
                seg.lkey,
                seg.addr,
                u64::from(seg.len),
                Rights::LOCAL_READ,
                &mut piece,
            )
            .map_err(|_| Fault::PROTECTION)?;
    }
    let domain = domain(core, sqn);
    let priority = priority(core, sqn);
    send(
        core,
        (domain, priority),
        &request,
        &scratch.data.inline,
        &scratch.pieces,
    )
}

/// Sends the packets of a WQE that holds many, each whole in one segment or inline.
fn send_many(
    core: &mut Core,
    sqn: u32,
    who: Accessor,
    wqe: &[u8],
    pieces: &mut Vec<(u64, u64)>,
) -> Result<(), Fault> {
    let request = segment::decode_shared(wqe).map_err(|_| Fault::OPERATION)?;
    if !core.port.link_up() {
        core.eth.discards.transmit_discard_vport_down += 1;
        return Ok(());
    }
    let origin = (domain(core, sqn), priority(core, sqn));
    let mut rest = wqe.get(32..).unwrap_or_default();
    while let Some(packet) = wqe::next_packed(&mut rest).map_err(|_| Fault::OPERATION)? {
        pieces.clear();
        let inline = match packet {
            Packed::Inline(bytes) => bytes,
            Packed::Segment(seg) if u64::from(seg.len) > MAX_DATA => return Err(Fault::LENGTH),
            Packed::Segment(seg) => {
                let mut piece = |address, len| pieces.push((address, len));
                let (key, need) = (seg.lkey, Rights::LOCAL_READ);
                core.mkeys
                    .resolve(who, key, seg.addr, u64::from(seg.len), need, &mut piece)
                    .map_err(|_| Fault::PROTECTION)?;
                &[]
            }
        };
        send(core, origin, &request, inline, pieces)?;
    }
    Ok(())
}

/// Makes and sends the frames of a request of a send queue of that transport domain and priority.
fn send(
    core: &mut Core,
    (domain, priority): (u32, u8),
    request: &SendRequest<'_>,
    inline: &[u8],
    pieces: &[(u64, u64)],
) -> Result<(), Fault> {
    let Core {
        mem,
        buffers,
        out,
        port,
        vport,
        vport_counters,
        eth,
        ..
    } = core;
    let data = Data::new(mem, inline, pieces);
    let loop_unicast = !vport.disable_uc_local_lb && eth.loops.any(domain, false);
    let loop_multicast = !vport.disable_mc_local_lb && eth.loops.any(domain, true);
    let emit = |buf: Buf, headers: &Headers| {
        let len = buf.len();
        let group = headers.dmac[0] & 1 != 0;
        match headers.dmac {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => &mut vport_counters.transmitted_eth_broadcast,
            _ if group => &mut vport_counters.transmitted_eth_multicast,
            _ => &mut vport_counters.transmitted_eth_unicast,
        }
        .count(len);
        let to = MacAddr::from(headers.dmac);
        let own = || vport.permanent == to || vport.uc_list.contains(&to);
        if group && loop_multicast {
            eth.looped.push_back(Frame::from_buf(buf.duplicate()));
        } else if !group && loop_unicast && own() {
            eth.looped.push_back(Frame::from_buf(buf));
            return;
        }
        let counters = &mut port.counters.transmitted;
        counters.count_of_priority(&headers.dmac, len, priority);
        out.wire.push_back(Frame::from_buf(buf));
    };
    let max_frame = usize::from(crate::mlx5::port::MAX_MTU) - 4;
    segment::build(request, data, max_frame, buffers, emit)
}
