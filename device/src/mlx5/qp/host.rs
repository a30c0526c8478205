//! What the transport asks of the device: local buffers and completions for the requester, remote
//! access and receive WQEs for the responder.

use log::debug;
use rocinante_wire::transport::{
    Access, AtomicOp, Begin, Counter, RecvDone, RecvKind, RemoteFault, RequesterHost,
    ResponderHost, WcError,
};
use zerocopy::byteorder::big_endian::U32;

use super::send::WqeBytes;
use super::{Attr, Held, ReceiveSide, SendSide, ServiceType, umr};
use crate::mlx5::core::Core;
use crate::mlx5::counters::QCounters;
use crate::mlx5::cqe::{Cqe, CqeOpcode};
use crate::mlx5::eq::{Eqe, EventType};
use crate::mlx5::mkey::{Accessor, Rights};
use crate::mlx5::payload::{GatherFault, Incoming, Memory, Source};
use crate::mlx5::srq::SrqKind;
use crate::mlx5::wqe::opcode;

/// The sending side of a QP at work.
pub struct SendHost<'a, 'f> {
    /// The NIC.
    pub core: &'a mut Core,
    /// The QP.
    pub attr: &'a Attr,
    /// Its send queue.
    pub send: &'a mut SendSide,
    /// The response being handled.
    pub incoming: Option<&'a Incoming<'f>>,
    /// A work request failed: the QP goes to error.
    pub failed: bool,
    /// A completion found its CQ full: likewise.
    pub overrun: bool,
}

impl<'a, 'f> SendHost<'a, 'f> {
    /// Nothing has gone wrong yet.
    #[inline]
    pub fn new(
        core: &'a mut Core,
        attr: &'a Attr,
        send: &'a mut SendSide,
        incoming: Option<&'a Incoming<'f>>,
    ) -> Self {
        SendHost {
            core,
            attr,
            send,
            incoming,
            failed: false,
            overrun: false,
        }
    }
}

impl SendHost<'_, '_> {
    fn memory(&self) -> Memory<'_> {
        Memory {
            map: &self.core.mem,
            mkeys: &self.core.mkeys,
            who: self.attr.accessor(),
        }
    }

    fn complete(&mut self, cqe: Cqe) {
        self.overrun |= self.core.complete(self.attr.cqn_send, cqe).is_err();
    }

    /// In-order completion: the transport names its requests in posting order.
    fn pop(&mut self, cookie: u32) -> Option<super::Inflight> {
        debug_assert_eq!(cookie, self.send.first_cookie);
        self.send.pop()
    }
}

/// User index for a send CQE: none is written as 0 (CQE version 0).
pub fn user_index(index: u32) -> u32 {
    if index == NO_USER_INDEX { 0 } else { index }
}

/// `user_index` of kernel objects.
pub const NO_USER_INDEX: u32 = 0xff_ffff;

impl RequesterHost for SendHost<'_, '_> {
    fn place_response(&mut self, cookie: u32, offset: u32, len: u32) -> Result<(), WcError> {
        let Some((entry, incoming)) = self.send.entry(cookie).zip(self.incoming) else {
            return Err(WcError::LocalQpOp);
        };
        debug_assert_eq!(len as usize, incoming.size());
        let memory = self.memory();
        memory.scatter(&entry.data.segs, u64::from(offset), incoming).map_err(|fault| {
            debug!(target: "mlx5::qp", "QP {:#x}: READ response not placed: {fault:?}", self.attr.qpn);
            WcError::LocalProtection
        })
    }

    fn atomic_result(&mut self, cookie: u32, original: u64) -> Result<(), WcError> {
        let entry = self.send.entry(cookie).ok_or(WcError::LocalQpOp)?;
        // Mode 1 (set by the drivers) returns the value in the host's order, mode 0 as on the wire.
        let bytes = if self.core.hca.caps.atomic().atomic_req_8b_endianness_mode() != 0 {
            original.to_le_bytes()
        } else {
            original.to_be_bytes()
        };
        self.memory()
            .scatter(&entry.data.segs, 0, &&bytes[..])
            .map_err(|_| WcError::LocalProtection)
    }

    fn execute_local(&mut self, cookie: u32) -> Result<(), WcError> {
        let entry = self.send.entry(cookie).ok_or(WcError::LocalQpOp)?;
        if entry.bad {
            debug!(target: "mlx5::qp", "QP {:#x}: bad WQE {:#x} opcode {:#x}", self.attr.qpn, entry.index, entry.opcode);
            return Err(WcError::LocalQpOp);
        }
        if entry.opcode != opcode::UMR {
            return Ok(());
        }
        let mut bytes = WqeBytes::new();
        let ring = self.send.ring.as_ref().ok_or(WcError::LocalQpOp)?;
        let wqe = ring
            .read(&self.core.mem, entry.index, &mut bytes)
            .ok_or(WcError::LocalQpOp)?;
        umr::execute(
            &self.core.mem,
            &mut self.core.mkeys,
            self.attr.accessor(),
            wqe,
        )
    }

    fn completed(&mut self, cookie: u32) {
        let Some(entry) = self.pop(cookie) else {
            return;
        };
        if entry.signaled {
            let byte_cnt = match entry.opcode {
                opcode::RDMA_READ => entry.data.len as u32,
                opcode::ATOMIC_CS | opcode::ATOMIC_FA => 8,
                _ => 0,
            };
            let uidx = user_index(self.attr.user_index);
            self.complete(Cqe::request(
                self.attr.qpn,
                uidx,
                entry.opcode,
                entry.index,
                byte_cnt,
            ));
        }
        self.send.recycle(entry);
    }

    fn failed(&mut self, cookie: u32, err: WcError, vendor: u8) {
        self.failed = true;
        self.core.notes.failed(self.attr.qpn, err);
        let Some(entry) = self.pop(cookie) else {
            return;
        };
        self.core.count(self.attr.counters, |q| {
            q.req_cqe_error = q.req_cqe_error.wrapping_add(1)
        });
        self.complete(Cqe::error(
            CqeOpcode::ReqErr,
            self.attr.qpn,
            user_index(self.attr.user_index),
            entry.opcode,
            entry.index,
            err.syndrome(),
            vendor,
        ));
        self.send.recycle(entry);
    }

    fn count(&mut self, counter: Counter) {
        self.core.count(self.attr.counters, |q| bump(q, counter));
    }
}

/// The receiving side of a QP at work on one packet.
pub struct ReceiveHost<'a, 'f> {
    /// The NIC.
    pub core: &'a mut Core,
    /// The QP.
    pub attr: &'a Attr,
    /// Its receive queue.
    pub receive: &'a mut ReceiveSide,
    /// The packet's payload.
    pub incoming: &'a Incoming<'f>,
    /// The XRC SRQ that the packet names: its PD is the one that counts.
    pub xrc_srqn: Option<u32>,
    /// The sender's QP, for the CQE.
    pub remote_qpn: u32,
    /// The QP is in RTR: the first packet is an event.
    pub in_rtr: bool,
    /// A completion found its CQ full: the QP goes to error.
    pub overrun: bool,
}

impl ReceiveHost<'_, '_> {
    /// Whose keys a remote access is checked against: with XRC those of the SRQ that the packet
    /// names, if it is one of the QP's domain.
    fn remote_accessor(&self) -> Accessor {
        let mut who = self.attr.accessor();
        if let Some(srqn) = self.xrc_srqn {
            let srq = self.core.srqs.get(srqn);
            let srq = srq.filter(|srq| srq.kind == SrqKind::Xrc && srq.xrcd == self.attr.xrcd);
            // No PD has this number.
            who.pd = Some(srq.map_or(u32::MAX, |srq| srq.pd));
        }
        who
    }

    /// The held WQE, unless the SRQ that it came from is gone: no completion may follow that.
    fn take_held(&mut self) -> Option<Held> {
        let held = self.receive.held.take()?;
        held.srqn
            .is_none_or(|srqn| self.core.srqs.contains(srqn))
            .then_some(held)
    }

    fn memory(&self, who: Accessor) -> Memory<'_> {
        Memory {
            map: &self.core.mem,
            mkeys: &self.core.mkeys,
            who,
        }
    }

    fn take_from_srq(&mut self, srqn: u32, xrc: bool) -> Result<Begin, WcError> {
        let Core { srqs, mem, eqs, .. } = &mut *self.core;
        let Some(srq) = srqs.get_mut(srqn) else {
            return Ok(Begin::Invalid);
        };
        if xrc && (srq.kind != SrqKind::Xrc || srq.xrcd != self.attr.xrcd) {
            return Ok(Begin::Invalid);
        }
        if srq.error {
            return Ok(Begin::NotReady);
        }
        let taken = match srq.queue.take(mem, &mut self.receive.segs) {
            Ok(Some(taken)) => taken,
            Ok(None) => return Ok(Begin::NotReady),
            Err(error) => {
                debug!(target: "mlx5::qp", "SRQ {srqn:#x}: {error}");
                srq.error = true;
                eqs.post_async(mem, Eqe::srq(EventType::SrqCatastrophic, srqn));
                return Ok(Begin::NotReady);
            }
        };
        if srq.limit != 0 && srq.queue.available(mem) < srq.limit {
            srq.limit = 0;
            eqs.post_async(mem, Eqe::srq(EventType::SrqLimit, srqn));
        }
        // An XRC SRQ completes on its own CQ under its own index; another on the QP's.
        let user_index = match (xrc, self.attr.user_index, srq.user_index) {
            (true, _, NO_USER_INDEX) | (false, NO_USER_INDEX, _) => srqn,
            (true, _, index) | (false, index, _) => index,
        };
        self.receive.held = Some(Held {
            taken,
            srqn: Some(srqn),
            who: Accessor {
                pd: Some(srq.pd),
                qpn: self.attr.qpn,
                reserved_lkey: srq.reserved_lkey,
            },
            cqn: if xrc { srq.cqn } else { self.attr.cqn_receive },
            user_index,
        });
        Ok(Begin::Ready)
    }
}

/// Takes a WQE of the QP's own queue.
pub fn take_own(core: &Core, attr: &Attr, receive: &mut ReceiveSide) -> Result<bool, WcError> {
    let Some(queue) = &mut receive.queue else {
        return Ok(false);
    };
    let Some(taken) = queue.take(&core.mem, &mut receive.segs).map_err(|error| {
        debug!(target: "mlx5::qp", "QP {:#x}: receive WQE: {error}", attr.qpn);
        WcError::LocalProtection
    })?
    else {
        return Ok(false);
    };
    receive.held = Some(Held {
        taken,
        srqn: None,
        who: attr.accessor(),
        cqn: attr.cqn_receive,
        user_index: user_index(attr.user_index),
    });
    Ok(true)
}

fn remote_fault(fault: GatherFault) -> RemoteFault {
    match fault {
        GatherFault::Mkey(_) => RemoteFault::Access,
        GatherFault::Dma(_) => RemoteFault::Operational,
    }
}

impl ResponderHost for ReceiveHost<'_, '_> {
    fn check_remote(
        &mut self,
        rkey: u32,
        va: u64,
        len: u32,
        access: Access,
    ) -> Result<(), RemoteFault> {
        let need = match access {
            Access::Read => Rights::REMOTE_READ,
            Access::Write => Rights::REMOTE_WRITE,
        };
        let who = self.remote_accessor();
        self.core.mkeys.check_remote(who, rkey, va, u64::from(len), need).map_err(|fault| {
            debug!(target: "mlx5::qp", "QP {:#x}: rkey {rkey:#x} va {va:#x} len {len:#x}: {fault:?}", self.attr.qpn);
            RemoteFault::Access
        })
    }

    fn place_remote(&mut self, rkey: u32, va: u64, _len: u32) -> Result<(), RemoteFault> {
        let who = self.remote_accessor();
        self.memory(who)
            .place_remote(rkey, va, self.incoming)
            .map_err(remote_fault)
    }

    fn atomic(&mut self, rkey: u32, va: u64, op: AtomicOp) -> Result<u64, RemoteFault> {
        let who = self.remote_accessor();
        let mut address = None;
        let resolved =
            self.core
                .mkeys
                .resolve_remote(who, rkey, va, 8, Rights::ATOMIC, &mut |iova, n| {
                    // Eight bytes in one place, or it is not one operation.
                    address.get_or_insert((iova, n));
                });
        let (Ok(()), Some((iova, 8))) = (resolved, address) else {
            return Err(RemoteFault::Access);
        };
        let mem = &self.core.mem;
        let done = match op {
            AtomicOp::CompareSwap { compare, swap } => {
                mem.compare_exchange_u64(iova, compare, swap)
            }
            AtomicOp::FetchAdd { add } => mem.fetch_add_u64(iova, add),
        };
        done.map_err(|_| RemoteFault::Operational)
    }

    fn begin_receive(&mut self, xrc_srqn: Option<u32>) -> Result<Begin, WcError> {
        if self.attr.service == ServiceType::Xrc {
            return match xrc_srqn {
                Some(srqn) => self.take_from_srq(srqn, true),
                None => Ok(Begin::Invalid),
            };
        }
        if let Some(srqn) = self.attr.srqn {
            return self.take_from_srq(srqn, false);
        }
        let ready = take_own(self.core, self.attr, self.receive)?;
        Ok(if ready { Begin::Ready } else { Begin::NotReady })
    }

    fn place_receive(&mut self, offset: u32, len: u32) -> Result<(), WcError> {
        let held = self.receive.held.ok_or(WcError::LocalQpOp)?;
        if u64::from(offset) + u64::from(len) > held.taken.capacity {
            return Err(WcError::LocalLength);
        }
        self.memory(held.who)
            .scatter(&self.receive.segs, u64::from(offset), self.incoming)
            .map_err(|fault| {
                debug!(target: "mlx5::qp", "QP {:#x}: receive not placed: {fault:?}", self.attr.qpn);
                WcError::LocalProtection
            })
    }

    fn complete_receive(&mut self, done: RecvDone) {
        let Some(held) = self.take_held() else {
            return;
        };
        let (opcode, imm) = match done.kind {
            RecvKind::Send => (CqeOpcode::RespSend, 0),
            RecvKind::SendImm(imm) => (CqeOpcode::RespSendImm, imm),
            RecvKind::SendInv(rkey) => (CqeOpcode::RespSendInv, rkey),
            RecvKind::WriteImm(imm) => (CqeOpcode::RespWriteImm, imm),
        };
        let mut cqe =
            Cqe::new(opcode, self.attr.qpn, held.taken.wqe_counter).solicited(done.solicited);
        cqe.byte_cnt = U32::new(done.byte_len);
        cqe.imm_inval_pkey = U32::new(imm);
        cqe.flags_rqpn = U32::new(self.remote_qpn);
        cqe.srqn_uidx = U32::new(held.user_index);
        self.overrun |= self.core.complete(held.cqn, cqe).is_err();
    }

    fn fail_receive(&mut self, err: WcError) {
        self.core.notes.failed(self.attr.qpn, err);
        let Some(held) = self.take_held() else {
            return;
        };
        self.core.count(self.attr.counters, |q| {
            q.resp_cqe_error = q.resp_cqe_error.wrapping_add(1)
        });
        let cqe = Cqe::error(
            CqeOpcode::RespErr,
            self.attr.qpn,
            held.user_index,
            0,
            held.taken.wqe_counter,
            err.syndrome(),
            err.vendor_syndrome(),
        );
        self.overrun |= self.core.complete(held.cqn, cqe).is_err();
    }

    fn rewind_receive(&mut self) {
        // The held WQE stays; the next message writes it from its start.
    }

    fn invalidate(&mut self, rkey: u32) -> Result<(), RemoteFault> {
        let who = self.remote_accessor();
        self.core
            .mkeys
            .invalidate(who, rkey)
            .map_err(|_| RemoteFault::Access)
    }

    fn communication_established(&mut self) {
        if self.in_rtr {
            self.core.event(Eqe::queue(
                EventType::CommunicationEstablished,
                0,
                self.attr.qpn,
            ));
        }
    }

    fn count(&mut self, counter: Counter) {
        self.core.count(self.attr.counters, |q| bump(q, counter));
    }
}

/// Advances the Q counter that the transport named.
fn bump(q: &mut QCounters, counter: Counter) {
    let field = match counter {
        Counter::RxWriteRequests => &mut q.rx_write_requests,
        Counter::RxReadRequests => &mut q.rx_read_requests,
        Counter::RxAtomicRequests => &mut q.rx_atomic_requests,
        Counter::OutOfBuffer => &mut q.out_of_buffer,
        Counter::OutOfSequence => &mut q.out_of_sequence,
        Counter::DuplicateRequest => &mut q.duplicate_request,
        Counter::RnrNakRetryErr => &mut q.rnr_nak_retry_err,
        Counter::PacketSeqErr => &mut q.packet_seq_err,
        Counter::ImpliedNakSeqErr => &mut q.implied_nak_seq_err,
        Counter::LocalAckTimeoutErr => &mut q.local_ack_timeout_err,
        Counter::ReqRnrRetriesExceeded => &mut q.req_rnr_retries_exceeded,
        Counter::ReqTransportRetriesExceeded => &mut q.req_transport_retries_exceeded,
        Counter::ReqLocalLengthError => &mut q.req_local_length_error,
        Counter::ReqLocalProtection => &mut q.req_local_protection,
        Counter::LocalOperationError => &mut q.local_operation_error,
        Counter::ReqMwBinding => &mut q.req_mw_binding,
        Counter::ReqBadResponse => &mut q.req_bad_response,
        Counter::ReqRemoteInvalidRequest => &mut q.req_remote_invalid_request,
        Counter::ReqRemoteAccessErrors => &mut q.req_remote_access_errors,
        Counter::ReqRemoteOperationErrors => &mut q.req_remote_operation_errors,
        Counter::RespLocalLengthError => &mut q.resp_local_length_error,
        Counter::RespLocalProtection => &mut q.resp_local_protection,
        Counter::RespLocalQpError => &mut q.resp_local_qp_error,
        Counter::RespRemoteInvalidRequest => &mut q.resp_remote_invalid_request,
        Counter::RespRemoteAccessErrors => &mut q.resp_remote_access_errors,
    };
    *field = field.wrapping_add(1);
}
