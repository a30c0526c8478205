//! Datagrams: UD and GSI queue pairs, which send one packet per work request and complete it at
//! once, and receive without any state.

use log::{debug, trace};
use rocinante_firmware_cmd::mlx5::log::Hex;
use rocinante_wire::MacAddr;
use rocinante_wire::opcode::{Op, Opcode, Service};
use rocinante_wire::packet::{Deth, Packet};
use rocinante_wire::psn::Psn;
use rocinante_wire::roce::{Encap, HeaderTemplate, RoceFrame};
use rocinante_wire::transport::{Begin, ResponderHost, WcError};
use zerocopy::byteorder::big_endian::{U16, U32};

use super::host::{ReceiveHost, user_index};
use super::path::{MIN_UDP_SPORT, Route, address};
use super::send::WqeBytes;
use super::{Attr, Qp, ServiceType, State, error};
use crate::mlx5::core::{Core, NicFrame};
use crate::mlx5::cqe::{Cqe, CqeOpcode};
use crate::mlx5::eq::EventType;
use crate::mlx5::payload::{Incoming, Memory, Source};
use crate::mlx5::wqe::{self, AvSeg, CtrlSeg, SendData, WQEBB, opcode};

/// The QP number that everyone's GSI has on the wire.
pub const GSI_QPN: u32 = 1;

/// Destination QP of multicast.
pub const MULTICAST_QPN: u32 = 0xff_ffff;

/// Bytes in front of the payload of a received datagram.
const GRH_LEN: usize = 40;

/// Takes one work request and sends it. False: nothing posted, or what was posted went nowhere.
pub fn poll(qp: &mut Qp, core: &mut Core) -> bool {
    while qp.state == State::Rts {
        let mut entry = qp.send.fresh();
        let Some(ring) = &mut qp.send.ring else {
            return false;
        };
        let pending = ring.pending();
        if pending == 0 {
            qp.send.recycle(entry);
            return false;
        }
        let mut bytes = WqeBytes::new();
        entry.index = ring.consumer;
        let wqe = ring.read(&core.mem, entry.index, &mut bytes).unwrap_or(&[]);
        let blocks = (wqe.len().div_ceil(WQEBB) as u16).clamp(1, pending);
        ring.consumer = entry.index.wrapping_add(blocks);
        trace!(target: "mlx5::wqe", "{}: QP {:#x} {}", core.config.name, qp.attr.qpn, Hex(wqe));
        let sent = match wqe::control(wqe) {
            Ok(ctrl) => {
                entry.opcode = ctrl.opcode();
                entry.signaled = ctrl.signaled();
                send(&qp.attr, core, &ctrl, wqe, &mut entry.data)
            }
            Err(_) => Err(WcError::LocalQpOp),
        };
        let (index, opcode, signaled) = (entry.index, entry.opcode, entry.signaled);
        qp.send.recycle(entry);
        let uidx = user_index(qp.attr.user_index);
        let (cqe, frame) = match sent {
            Ok(frame) => (Cqe::request(qp.attr.qpn, uidx, opcode, index, 0), frame),
            Err(err) => {
                debug!(target: "mlx5::qp", "QP {:#x}: datagram WQE {index:#x} opcode {opcode:#x}: {err:?}", qp.attr.qpn);
                core.notes.failed(qp.attr.qpn, err);
                core.count(qp.attr.counters, |q| {
                    q.req_cqe_error = q.req_cqe_error.wrapping_add(1)
                });
                let (syndrome, vendor) = (err.syndrome(), err.vendor_syndrome());
                let kind = CqeOpcode::ReqErr;
                (
                    Cqe::error(kind, qp.attr.qpn, uidx, opcode, index, syndrome, vendor),
                    None,
                )
            }
        };
        if (signaled || cqe.is_error()) && core.complete(qp.attr.cqn_send, cqe).is_err() {
            error::to_error(
                qp,
                core,
                Some(EventType::WqCatastrophic),
                error::Cause::Local,
            );
        } else if cqe.is_error() {
            error::to_sq_error(qp, core);
        }
        if let Some(frame) = frame {
            core.send(frame);
            return true;
        }
    }
    false
}

/// Builds the packet of one work request; `None` for one that sends nothing.
fn send(
    attr: &Attr,
    core: &mut Core,
    ctrl: &CtrlSeg,
    wqe: &[u8],
    data: &mut SendData,
) -> Result<Option<NicFrame>, WcError> {
    let (op, imm) = match ctrl.opcode() {
        opcode::NOP => return Ok(None),
        opcode::SEND => (Op::SendOnly, None),
        opcode::SEND_IMM => (Op::SendOnlyImm, Some(ctrl.imm.get())),
        _ => return Err(WcError::LocalQpOp),
    };
    let av = wqe::datagram(wqe, data).map_err(|_| WcError::LocalQpOp)?;
    if data.len > u64::from(attr.mtu) {
        return Err(WcError::LocalLength);
    }
    let len = data.len as usize;
    let packet = Packet {
        solicited: ctrl.solicited(),
        mig_req: true,
        pkey: 0xffff,
        dest_qp: av.dest_qp(),
        // Datagrams are not sequenced; hardware counts, receivers do not look.
        psn: Psn::new(u32::from(ctrl.wqe_index())),
        deth: Some(Deth {
            qkey: qkey(attr, &av),
            src_qp: source_qp(attr),
        }),
        imm,
        payload_len: len as u32,
        ..Packet::new(Opcode::Ib(Service::Ud, op))
    };
    let source = core
        .roce
        .address(av.sgid_index())
        .ok_or(WcError::LocalQpOp)?;
    let m = av.rmac;
    let route = Route {
        dst_mac: MacAddr::new(m[0], m[1], m[2], m[3], m[4], m[5]),
        dst_gid: av.rgid,
        tclass: av.tclass,
        flow_label: av.flow_label(),
        hop_limit: av.hop_limit,
        udp_sport: match av.udp_sport.get() {
            0 => MIN_UDP_SPORT,
            port => port,
        },
        priority: av.sl() >> 1,
    };
    let template = HeaderTemplate::new(&address(source, &route));
    let mut frame = NicFrame::empty();
    let layout = template.write(&packet, frame.head_mut());
    // The work request completes now, so the bytes must be taken now.
    let memory = Memory {
        map: &core.mem,
        mkeys: &core.mkeys,
        who: attr.accessor(),
    };
    memory
        .copy_range(data, 0..data.len, &mut frame, &core.buffers)
        .map_err(|fault| {
            debug!(target: "mlx5::qp", "QP {:#x}: datagram not gathered: {fault:?}", attr.qpn);
            WcError::LocalProtection
        })?;
    frame.set_roce(layout);
    if m[0] & 1 == 1 {
        // Own members of the group get it too.
        core.out.loopback.push_back(frame.duplicate());
    }
    Ok(Some(frame))
}

/// IBTA 10.2.5: a Q_Key with the high bit set stands for the QP's own.
fn qkey(attr: &Attr, av: &AvSeg) -> u32 {
    let qkey = av.qkey.get();
    if qkey >> 31 == 1 { attr.qkey } else { qkey }
}

/// Source QP in the DETH.
pub fn source_qp(attr: &Attr) -> u32 {
    match (attr.service, attr.deth_sqpn) {
        (ServiceType::Gsi, _) => GSI_QPN,
        (_, 0) => attr.qpn,
        (_, sqpn) => sqpn,
    }
}

/// Delivers a datagram to one QP. What does not fit the rules is dropped and counted.
pub fn receive(qp: &mut Qp, core: &mut Core, roce: &RoceFrame, frame: &NicFrame) {
    let packet = &roce.packet;
    let Some(deth) = packet.deth else { return };
    if deth.qkey != qp.attr.qkey {
        debug!(target: "mlx5::qp", "QP {:#x}: Q_Key {:#x} is not {:#x}", qp.attr.qpn, deth.qkey, qp.attr.qkey);
        core.vport.qkey_violations = core.vport.qkey_violations.wrapping_add(1);
        return;
    }
    let incoming = Incoming::new(frame, roce.payload.clone());
    let Qp { attr, receive, .. } = qp;
    let mut host = ReceiveHost {
        core,
        attr,
        receive,
        incoming: &incoming,
        xrc_srqn: None,
        remote_qpn: deth.src_qp,
        in_rtr: false,
        overrun: false,
    };
    let failure = match host.begin_receive(None) {
        Ok(Begin::Ready) => place(&mut host, roce, frame),
        Ok(Begin::NotReady | Begin::Invalid) => {
            host.core.count(host.attr.counters, |q| {
                q.out_of_buffer = q.out_of_buffer.wrapping_add(1)
            });
            return;
        }
        Err(err) => Err(err),
    };
    match failure {
        Ok(()) => complete(&mut host, roce, deth.src_qp),
        Err(err) => host.fail_receive(err),
    }
    if host.overrun {
        error::to_error(
            qp,
            core,
            Some(EventType::WqCatastrophic),
            error::Cause::Local,
        );
    } else if failure.is_err() {
        error::to_error(qp, core, None, error::Cause::Local);
    }
}

/// GRH area, then payload.
fn place(
    host: &mut ReceiveHost<'_, '_>,
    roce: &RoceFrame,
    frame: &NicFrame,
) -> Result<(), WcError> {
    let held = host.receive.held.ok_or(WcError::LocalQpOp)?;
    let total = (GRH_LEN + host.incoming.size()) as u64;
    if total > held.taken.capacity {
        return Err(WcError::LocalLength);
    }
    let memory = Memory {
        map: &host.core.mem,
        mkeys: &host.core.mkeys,
        who: held.who,
    };
    let grh = roce.grh_area(frame.head());
    let segs = &host.receive.segs;
    memory
        .scatter(segs, 0, &&grh[..])
        .and_then(|()| memory.scatter(segs, GRH_LEN as u64, host.incoming))
        .map_err(|fault| {
            debug!(target: "mlx5::qp", "QP {:#x}: datagram not placed: {fault:?}", host.attr.qpn);
            WcError::LocalProtection
        })
}

fn complete(host: &mut ReceiveHost<'_, '_>, roce: &RoceFrame, src_qp: u32) {
    let Some(held) = host.receive.held.take() else {
        return;
    };
    let (opcode, imm) = match roce.packet.imm {
        Some(imm) => (CqeOpcode::RespSendImm, imm),
        None => (CqeOpcode::RespSend, u32::from(roce.packet.pkey)),
    };
    let mut cqe =
        Cqe::new(opcode, host.attr.qpn, held.taken.wqe_counter).solicited(roce.packet.solicited);
    let l3 = match roce.layout.encap {
        Encap::V1 => 0,
        Encap::V2Ipv6 => 1,
        Encap::V2Ipv4 => 2,
    };
    const GRH_PRESENT: u32 = 1 << 28;
    cqe.flags_rqpn = U32::new(GRH_PRESENT | l3 << 24 | src_qp);
    if let Some(tci) = roce.address.vlan {
        cqe.l4_l3_hdr_type = 1;
        cqe.vlan_info = U16::new(tci.0);
    }
    cqe.byte_cnt = U32::new((GRH_LEN + host.incoming.size()) as u32);
    cqe.imm_inval_pkey = U32::new(imm);
    cqe.srqn_uidx = U32::new(held.user_index);
    host.overrun |= host.core.complete(held.cqn, cqe).is_err();
}
