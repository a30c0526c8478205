//! UC: nobody answers, nobody repeats.

use super::super::*;
use super::host::*;
use crate::opcode::{Op, Opcode, Service};
use crate::packet::Packet;
use crate::psn::Psn;

fn uc(packet: Packet) -> Packet {
    Packet {
        opcode: Opcode::Ib(Service::Uc, op_of(&packet)),
        ..packet
    }
}

fn receiver(params: RcParams) -> (UcResponder, Host) {
    let mut responder = UcResponder::new();
    responder.configure_rtr(Psn::new(PSN), &params);
    (responder, Host::new())
}

fn done(byte_len: u32) -> Asked {
    Asked::CompleteReceive(RecvDone {
        byte_len,
        kind: RecvKind::Send,
        solicited: false,
    })
}

#[test]
fn a_request_completes_when_its_last_packet_is_out() {
    let mut requester = UcRequester::new(4);
    requester.configure_rts(
        Psn::new(PSN),
        &RcParams {
            service: Service::Uc,
            ..params()
        },
    );
    let mut host = Host::new();
    requester.post(wr(SendOp::Send, MTU + 1, 1)).expect("room");
    requester
        .post(wr(
            SendOp::WriteImm {
                va: VA,
                rkey: RKEY,
                imm: 1,
            },
            0,
            2,
        ))
        .expect("room");
    let first = *requester.poll_transmit(&mut host).expect("First").packet;
    let last = *requester.poll_transmit(&mut host).expect("Last").packet;
    assert!(host.take().is_empty());
    let only = *requester.poll_transmit(&mut host).expect("Only").packet;
    assert_eq!(host.take(), [Asked::Completed(1)]);
    assert_eq!(requester.poll_transmit(&mut host), None);
    assert_eq!(host.take(), [Asked::Completed(2)]);
    let sent = [first, last, only];
    assert_eq!(
        sent.map(|p| p.opcode),
        [Op::SendFirst, Op::SendLast, Op::WriteOnlyImm].map(|op| Opcode::Ib(Service::Uc, op))
    );
    assert_eq!(sent.map(|p| index_of(&p)), [0, 1, 2]);
    assert_eq!(sent.map(|p| p.ack_req), [false; 3]);
}

#[test]
fn what_uc_cannot_do_fails_with_local_qp_op() {
    for op in [
        SendOp::Read { va: VA, rkey: RKEY },
        SendOp::FetchAdd {
            va: VA,
            rkey: RKEY,
            add: 1,
        },
        SendOp::SendInv(1),
    ] {
        let mut requester = UcRequester::new(4);
        requester.configure_rts(Psn::new(PSN), &params());
        let mut host = Host::new();
        requester.post(wr(op, 8, 1)).expect("room");
        requester.post(wr(SendOp::Send, 8, 2)).expect("room");
        assert_eq!(requester.poll_transmit(&mut host), None);
        assert_eq!(host.take(), [Asked::Failed(1, WcError::LocalQpOp)]);
        let mut flushed = Vec::new();
        requester.flush(|cookie| flushed.push(cookie));
        assert_eq!(flushed, [2]);
    }
}

#[test]
fn a_gather_error_fails_instead_of_completing() {
    let mut requester = UcRequester::new(4);
    requester.configure_rts(Psn::new(PSN), &params());
    let mut host = Host::new();
    requester.post(wr(SendOp::Send, 8, 1)).expect("room");
    assert!(requester.poll_transmit(&mut host).is_some());
    requester.fail_local(1, WcError::LocalProtection, &mut host);
    assert_eq!(requester.poll_transmit(&mut host), None);
    assert_eq!(host.take(), [Asked::Failed(1, WcError::LocalProtection)]);
}

#[test]
fn a_gap_drops_the_message_and_keeps_its_receive_wqe() {
    let (mut responder, mut host) = receiver(params());
    let mut receive = |p: Packet| responder.handle_request(&uc(p), &mut host);
    assert_eq!(receive(packet(Op::SendFirst, 0, MTU)), Outcome::Ok);
    assert_eq!(receive(packet(Op::SendLast, 2, 1)), Outcome::Ok);
    assert_eq!(receive(packet(Op::SendMiddle, 3, MTU)), Outcome::Ok);
    assert_eq!(receive(packet(Op::SendOnly, 7, 5)), Outcome::Ok);
    assert_eq!(
        host.take(),
        [
            Asked::Begin(None),
            Asked::PlaceReceive(0, MTU),
            Asked::Rewind,
            Asked::PlaceReceive(0, 5),
            done(5)
        ]
    );
    assert_eq!(responder.next_rcv_psn(), Psn::new(PSN).add(8));
}

#[test]
fn a_new_first_drops_an_unfinished_message() {
    let (mut responder, mut host) = receiver(params());
    for p in [
        packet(Op::SendFirst, 0, MTU),
        packet(Op::SendFirst, 1, MTU),
        packet(Op::SendLast, 2, 1),
    ] {
        assert_eq!(responder.handle_request(&uc(p), &mut host), Outcome::Ok);
    }
    assert_eq!(
        host.take(),
        [
            Asked::Begin(None),
            Asked::PlaceReceive(0, MTU),
            Asked::Rewind,
            Asked::PlaceReceive(0, MTU),
            Asked::PlaceReceive(MTU, 1),
            done(MTU + 1)
        ]
    );
}

#[test]
fn without_receive_wqe_the_whole_message_is_dropped() {
    let (mut responder, mut host) = receiver(params());
    host.begin = Ok(Begin::NotReady);
    assert_eq!(
        responder.handle_request(&uc(packet(Op::SendFirst, 0, MTU)), &mut host),
        Outcome::Ok
    );
    host.begin = Ok(Begin::Ready);
    assert_eq!(
        responder.handle_request(&uc(packet(Op::SendLast, 1, 1)), &mut host),
        Outcome::Ok
    );
    assert_eq!(host.take(), [Asked::Begin(None)]);
    assert_eq!(host.take_counts(), [Counter::OutOfBuffer]);
}

#[test]
fn remote_faults_are_silent_and_drop_the_rest_of_the_message() {
    let (mut responder, mut host) = receiver(params());
    host.remote = Err(RemoteFault::Access);
    let first = with_reth(packet(Op::WriteFirst, 0, MTU), VA, 2 * MTU);
    assert_eq!(responder.handle_request(&uc(first), &mut host), Outcome::Ok);
    host.remote = Ok(());
    assert_eq!(
        responder.handle_request(&uc(packet(Op::WriteLast, 1, MTU)), &mut host),
        Outcome::Ok
    );
    let only = with_reth(packet(Op::WriteOnly, 2, 3), VA, 3);
    assert_eq!(responder.handle_request(&uc(only), &mut host), Outcome::Ok);
    responder.set_access(false);
    assert_eq!(
        responder.handle_request(
            &uc(Packet {
                psn: only.psn.add(1),
                ..only
            }),
            &mut host
        ),
        Outcome::Ok
    );
    assert_eq!(
        host.take(),
        [
            Asked::CheckRemote(RKEY, VA, 2 * MTU, Access::Write),
            Asked::CheckRemote(RKEY, VA, 3, Access::Write),
            Asked::PlaceRemote(RKEY, VA, 3)
        ]
    );
}

#[test]
fn a_receive_wqe_that_is_too_small_ends_with_an_error() {
    let (mut responder, mut host) = receiver(params());
    host.local = Err(WcError::LocalLength);
    let outcome = responder.handle_request(&uc(packet(Op::SendOnly, 0, 9)), &mut host);
    assert_eq!(
        outcome,
        Outcome::Fatal {
            event: QpEvent::None
        }
    );
    assert_eq!(
        host.take().last(),
        Some(&Asked::FailReceive(WcError::LocalLength))
    );
    assert!(!responder.is_running());
}
