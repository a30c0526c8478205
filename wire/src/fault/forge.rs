//! Answers that nobody gave: acknowledgements of all kinds and congestion notifications, made from
//! the packet that they answer.

use super::rule::Answer;
use crate::cnp::{answer_to, cnp};
use crate::frame::{Frame, Payload};
use crate::opcode::{Op, Opcode, Service};
use crate::packet::Aeth;
use crate::roce::RoceFrame;
use crate::transport::aeth::{ACK, RNR_NAK};

/// A forged frame, or why there is none.
pub(crate) type Forged<P> = Option<Frame<P>>;

fn ends_message(op: Op) -> bool {
    !matches!(
        op,
        Op::SendFirst | Op::SendMiddle | Op::WriteFirst | Op::WriteMiddle
    )
}

/// The answer to `request`, for the queue pair `qpn` that sent it. `msn` is the last message
/// number that the responder told. `None` where such an answer does not exist.
pub(crate) fn forge<P: Payload>(
    request: &RoceFrame,
    answer: Answer,
    qpn: u32,
    msn: u32,
) -> Forged<P> {
    let Opcode::Ib(service, op) = request.packet.opcode else {
        return None;
    };
    if answer == Answer::Cnp {
        return cnp(request, qpn);
    }
    let reliable = matches!(service, Service::Rc | Service::Xrc) && op.is_request();
    if !reliable {
        return None;
    }
    let (syndrome, done) = match answer {
        Answer::Nak(syndrome) => (syndrome, 0),
        Answer::RnrNak(timer) => (RNR_NAK | (timer & 0x1f), 0),
        _ => (ACK, u32::from(ends_message(op))),
    };
    let msn = msn.wrapping_add(done) & 0xff_ffff;
    Some(answer_to(request, &request.address.reverse(), |packet| {
        packet.opcode = Opcode::Ib(service, Op::Acknowledge);
        packet.dest_qp = qpn;
        packet.aeth = Some(Aeth { syndrome, msn });
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::Buf;
    use crate::frame::NoPayload;
    use crate::vectors::{self, unhex};

    fn parsed(vector: &vectors::Vector) -> RoceFrame {
        Frame::<NoPayload>::from_buf(Buf::from_vec(unhex(vector.frame)))
            .parse_roce()
            .unwrap()
    }

    #[test]
    fn answers_go_back_with_the_psn_of_the_request() {
        for vector in [
            &vectors::V4_SEND,
            &vectors::V6_WRITE,
            &vectors::V1_SEND,
            &vectors::V4_VLAN_SEND,
        ] {
            let request = parsed(vector);
            for (answer, syndrome, msn) in [
                (Answer::Ack, 0x1f, 8),
                (Answer::Nak(0x60), 0x60, 7),
                (Answer::Nak(0x63), 0x63, 7),
                (Answer::RnrNak(14), 0x2e, 7),
            ] {
                let frame: Frame<NoPayload> = forge(&request, answer, 0x77, 7).unwrap();
                let mut bytes = Vec::new();
                frame.to_bytes(&mut bytes).unwrap();
                let frame = Frame::<NoPayload>::from_buf(Buf::from_vec(bytes));
                let back = frame.parse_roce().unwrap();
                assert!(frame.icrc_is_good(&back.layout));
                assert_eq!(back.packet.opcode.to_byte(), 0x11, "{}", vector.name);
                assert_eq!(back.packet.psn, request.packet.psn);
                assert_eq!(back.packet.dest_qp, 0x77);
                assert_eq!(back.packet.aeth, Some(Aeth { syndrome, msn }));
                assert_eq!(back.address.src_mac, request.address.dst_mac);
                assert_eq!(back.address.dst_mac, request.address.src_mac);
                assert_eq!(back.address.l3.src_gid(), request.address.l3.dst_gid());
                assert_eq!(back.address.l3.dst_gid(), request.address.l3.src_gid());
                assert_eq!(back.address.vlan, request.address.vlan);
            }
        }
    }

    #[test]
    fn notifications_look_like_the_hardwares() {
        let frame: Frame<NoPayload> =
            forge(&parsed(&vectors::V4_SEND), Answer::Cnp, 0x118, 0).unwrap();
        let mut bytes = Vec::new();
        frame.to_bytes(&mut bytes).unwrap();
        let hardware = unhex(vectors::HW_CNP.frame);
        assert_eq!(bytes.len(), hardware.len());
        assert_eq!(bytes[15], hardware[15], "type of service");
        // But for MigReq, which is the connection's, the BTH is the same.
        assert_eq!(bytes[42], hardware[42]);
        assert_eq!(bytes[44..70], hardware[44..70]);
        let none: Forged<NoPayload> = forge(&parsed(&vectors::V1_SEND), Answer::Cnp, 1, 0);
        assert!(none.is_none(), "RoCE v1 has no notifications");
        let none: Forged<NoPayload> = forge(&parsed(&vectors::HW_CNP), Answer::Ack, 1, 0);
        assert!(none.is_none());
    }
}
