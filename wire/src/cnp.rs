//! Congestion notification packets of RoCE v2 (IBTA annex A17.9.3): how the receiver of a packet that a switch has
//! marked tells its sender.

use crate::frame::{Frame, Payload};
use crate::opcode::Opcode;
use crate::packet::Packet;
use crate::psn::Psn;
use crate::roce::{Address, HeaderTemplate, L3, RoceFrame};

/// Differentiated services code point and ECN bits: 48, ECN-capable; what ConnectX sends.
const TOS: u8 = 0xc2;

/// The notification for the queue pair `qpn`, which sent `marked`. `None` in RoCE v1, which has none.
#[must_use]
pub fn cnp<P: Payload>(marked: &RoceFrame, qpn: u32) -> Option<Frame<P>> {
    let mut address = marked.address.reverse();
    match &mut address.l3 {
        L3::V1 { .. } => return None,
        L3::V2Ipv4 { tos, .. } => *tos = TOS,
        L3::V2Ipv6 { tclass, .. } => *tclass = TOS,
    }
    Some(answer_to(marked, &address, |packet| {
        packet.opcode = Opcode::Cnp;
        packet.dest_qp = qpn;
        packet.psn = Psn::new(0);
    }))
}

/// A packet without payload to `address` that has of `request` what `fill` does not set.
pub(crate) fn answer_to<P: Payload>(
    request: &RoceFrame,
    address: &Address,
    fill: impl FnOnce(&mut Packet),
) -> Frame<P> {
    // What both ends agree on; the rest is the answer's own.
    let mut packet = Packet {
        mig_req: request.packet.mig_req,
        pkey: request.packet.pkey,
        dest_qp: request.packet.dest_qp,
        psn: request.packet.psn,
        ..Packet::new(request.packet.opcode)
    };
    fill(&mut packet);
    let mut frame = Frame::empty();
    let layout = HeaderTemplate::new(address).write(&packet, frame.head_mut());
    frame.set_roce(layout);
    frame
}
