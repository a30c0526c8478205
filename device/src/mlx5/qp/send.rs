//! Working a send queue: from the doorbell to work requests of the transport.

use std::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use log::trace;
use rocinante_dma::MemoryMap;
use rocinante_firmware_cmd::mlx5::log::Hex;
use rocinante_wire::transport::{Fence, SendOp, SendWr};

use super::{Engine, Inflight, Qp, SendRing, ServiceType, State};
use crate::mlx5::wqe::{self, WQEBB, opcode};

/// Bytes of the longest WQE: `ds` of 7 bits in units of 16 bytes, in whole basic blocks.
const MAX_WQE: usize = 2048;

/// Room for a WQE. Most have one or two basic blocks: the rest is not even cleared.
pub type WqeBytes = ArrayVec<u8, MAX_WQE>;

impl SendRing {
    /// Reads the producer from the doorbell record (second word).
    pub fn refresh(&mut self, mem: &MemoryMap, doorbell_record: u64) {
        if let Ok(word) = mem.load_be32(doorbell_record.wrapping_add(4), Ordering::Acquire) {
            self.producer = word as u16;
        }
    }

    /// Basic blocks posted and not taken.
    pub fn pending(&self) -> u16 {
        // A record that claims more than the ring holds is a driver's mistake.
        self.producer
            .wrapping_sub(self.consumer)
            .min(1 << self.log_size)
    }

    /// Reads the WQE that starts at basic block `index`. `None`: its control segment cannot be
    /// read or makes no sense; then nothing after it can be found either.
    pub fn read<'a>(&self, mem: &MemoryMap, index: u16, out: &'a mut WqeBytes) -> Option<&'a [u8]> {
        out.clear();
        let mut block = [0; WQEBB];
        self.read_block(mem, index, &mut block)?;
        let len = wqe::control(&block).ok()?.ds() * 16;
        if len == 0 {
            return None;
        }
        out.try_extend_from_slice(&block[..len.min(WQEBB)]).ok()?;
        for n in 1..len.div_ceil(WQEBB) {
            self.read_block(mem, index.wrapping_add(n as u16), &mut block)?;
            let part = &block[..(len - n * WQEBB).min(WQEBB)];
            out.try_extend_from_slice(part).ok()?;
        }
        Some(out)
    }

    fn read_block(&self, mem: &MemoryMap, index: u16, out: &mut [u8]) -> Option<()> {
        let slot = u64::from(index & ((1u32 << self.log_size) - 1) as u16);
        self.buffer.read(mem, slot * WQEBB as u64, out).ok()
    }
}

/// Takes WQEs from the ring and hands them to the transport, as far as both have some.
/// Datagrams are taken one by one when they are sent, see [`super::datagram`].
pub fn pump(qp: &mut Qp, mem: &MemoryMap) {
    if qp.state != State::Rts {
        return;
    }
    let Qp {
        send, engine, attr, ..
    } = qp;
    loop {
        let ready = match engine {
            Engine::Reliable { requester, .. } => requester.can_post(),
            Engine::Unreliable { requester, .. } => requester.can_post(),
            Engine::Datagram => false,
        };
        let Some(ring) = &mut send.ring else { return };
        let pending = ring.pending();
        if !ready || pending == 0 {
            return;
        }
        let mut bytes = WqeBytes::new();
        let index = ring.consumer;
        let wqe = ring.read(mem, index, &mut bytes).unwrap_or(&[]);
        let blocks = (wqe.len().div_ceil(WQEBB) as u16).clamp(1, pending);
        ring.consumer = index.wrapping_add(blocks);
        trace!(target: "mlx5::wqe", "QP {:#x} {}", attr.qpn, Hex(wqe));
        let mut entry = send.fresh();
        let wr = decode(wqe, index, attr.service, &mut entry);
        let cookie = send.push(entry);
        let wr = SendWr { cookie, ..wr };
        let posted = match engine {
            Engine::Reliable { requester, .. } => requester.post(wr),
            Engine::Unreliable { requester, .. } => requester.post(wr),
            Engine::Datagram => return,
        };
        debug_assert!(posted.is_ok(), "can_post said yes");
    }
}

/// Decodes one WQE. What cannot be executed becomes a local operation that fails in its turn, so
/// that its predecessors complete first.
fn decode(bytes: &[u8], index: u16, service: ServiceType, entry: &mut Inflight) -> SendWr {
    entry.index = index;
    entry.bad = true;
    entry.signaled = true;
    let mut wr = SendWr {
        op: SendOp::Local,
        len: 0,
        cookie: 0,
        solicited: false,
        fence: Fence::None,
        xrc_srqn: None,
    };
    let Ok(ctrl) = wqe::control(bytes) else {
        return wr;
    };
    entry.opcode = ctrl.opcode();
    entry.signaled = ctrl.signaled();
    wr.solicited = ctrl.solicited();
    wr.fence = match ctrl.fence() {
        0 | 1 => Fence::None,
        3 => Fence::All,
        _ => Fence::ReadAtomic,
    };
    match (entry.opcode, service) {
        (opcode::NOP | opcode::UMR, _) => {
            entry.bad = false;
            return wr;
        }
        (_, ServiceType::RegUmr) => return wr,
        _ => {}
    }
    let xrc = service == ServiceType::Xrc;
    if let Ok(Some((op, srqn))) = wqe::connected(&ctrl, bytes, xrc, &mut entry.data)
        && supported(op, service)
    {
        entry.bad = false;
        wr.op = op;
        wr.xrc_srqn = srqn;
        // Longer than any message: the transport refuses it with a length error.
        wr.len = u32::try_from(entry.data.len).unwrap_or(u32::MAX);
    }
    wr
}

fn supported(op: SendOp, service: ServiceType) -> bool {
    service != ServiceType::Uc
        || matches!(
            op,
            SendOp::Send | SendOp::SendImm(_) | SendOp::Write { .. } | SendOp::WriteImm { .. }
        )
}
