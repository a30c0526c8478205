//! Incoming RoCE packets: which QP they are for, and handing them to its transport.

use log::trace;
use rocinante_wire::opcode::{Opcode, Service};
use rocinante_wire::roce::RoceFrame;

use super::host::{ReceiveHost, SendHost};
use super::transmit::{after_receive, after_send};
use super::{Engine, Qp, ServiceType, congestion, datagram};
use crate::mlx5::core::{Core, NicFrame};
use crate::mlx5::payload::Incoming;

/// P_Keys agree if their low 15 bits do; the one in the table is the default, 0xffff.
const PKEY_MASK: u16 = 0x7fff;

/// Whether a packet may reach a QP at all: partition, state, service and, once connected, peer.
fn admits(qp: &Qp, roce: &RoceFrame) -> Result<(), &'static str> {
    let Opcode::Ib(service, _) = roce.packet.opcode else {
        return Err("not a data packet");
    };
    if roce.packet.pkey & PKEY_MASK != PKEY_MASK {
        return Err("P_Key");
    }
    if !qp.state.receives() {
        return Err("QP state");
    }
    let fits = match qp.attr.service {
        ServiceType::Rc => service == Service::Rc,
        ServiceType::Uc => service == Service::Uc,
        ServiceType::Xrc => service == Service::Xrc,
        ServiceType::Ud | ServiceType::Gsi => service == Service::Ud,
        ServiceType::RegUmr => false,
    };
    if !fits {
        return Err("service");
    }
    if !qp.attr.service.is_datagram() {
        let l3 = &roce.address.l3;
        let from_peer = qp
            .path
            .as_ref()
            .is_some_and(|path| path.remote == l3.src_gid() && path.local == l3.dst_gid());
        if !from_peer {
            return Err("GIDs");
        }
    }
    Ok(())
}

/// Handles one packet addressed to `qp`, whose ICRC is good.
pub fn packet(qp: &mut Qp, core: &mut Core, roce: &RoceFrame, frame: &NicFrame) {
    if let Err(reason) = admits(qp, roce) {
        if roce.packet.opcode == Opcode::Cnp {
            congestion::notified(qp, core);
            return;
        }
        trace!(target: "roce::receive", "QP {:#x}: {:?} dropped: {reason}", qp.attr.qpn, roce.packet.opcode);
        return;
    }
    let Opcode::Ib(_, op) = roce.packet.opcode else {
        return;
    };
    if qp.attr.service.is_datagram() {
        datagram::receive(qp, core, roce, frame);
        return;
    }
    if roce.address.l3.ecn() == congestion::CE {
        congestion::marked(qp, core, roce);
    }
    let incoming = Incoming::new(frame, roce.payload.clone());
    let in_rtr = qp.state == super::State::Rtr;
    let Qp {
        attr,
        send,
        receive,
        engine,
        ..
    } = &mut *qp;
    if !op.is_request() {
        let Engine::Reliable { requester, .. } = engine else {
            return;
        };
        let now = core.now;
        let incoming = Some(&incoming);
        let mut host = SendHost::new(core, attr, send, incoming);
        requester.handle_response(now, &roce.packet, &mut host);
        let (failed, overrun) = (host.failed, host.overrun);
        after_send(qp, core, failed, overrun);
        return;
    }
    let mut host = ReceiveHost {
        core,
        attr,
        receive,
        incoming: &incoming,
        xrc_srqn: roce.packet.xrc_srqn,
        remote_qpn: 0,
        in_rtr,
        overrun: false,
    };
    let outcome = match engine {
        Engine::Reliable { responder, .. } => responder.handle_request(&roce.packet, &mut host),
        Engine::Unreliable { responder, .. } => responder.handle_request(&roce.packet, &mut host),
        Engine::Datagram => return,
    };
    let overrun = host.overrun;
    after_receive(qp, core, outcome, overrun);
}
