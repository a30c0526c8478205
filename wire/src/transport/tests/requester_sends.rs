//! SEND and WRITE requests: packets, acknowledgements, window, local errors.

use super::super::*;
use super::host::*;
use crate::opcode::{Op, Service};
use crate::psn::Psn;

#[test]
fn a_message_is_cut_at_the_mtu_and_each_packet_takes_a_psn() {
    let mut s = Sender::new(params());
    s.post(SendOp::SendImm(7), 2 * MTU + 1, 1);
    s.post(SendOp::Send, 0, 2);
    s.post(SendOp::Write { va: VA, rkey: RKEY }, MTU, 3);
    s.post(
        SendOp::WriteImm {
            va: VA,
            rkey: RKEY,
            imm: 9,
        },
        MTU + 1,
        4,
    );
    s.post(SendOp::SendInv(0x99), 4, 5);
    let packets = s.packets();
    let shape: Vec<_> = packets
        .iter()
        .map(|tx| (op_of(&tx.packet), index_of(&tx.packet), tx.payload.clone()))
        .collect();
    assert_eq!(
        shape,
        [
            (Op::SendFirst, 0, 0..MTU),
            (Op::SendMiddle, 1, MTU..2 * MTU),
            (Op::SendLastImm, 2, 2 * MTU..2 * MTU + 1),
            (Op::SendOnly, 3, 0..0),
            (Op::WriteOnly, 4, 0..MTU),
            (Op::WriteFirst, 5, 0..MTU),
            (Op::WriteLastImm, 6, MTU..MTU + 1),
            (Op::SendOnlyInv, 7, 0..4),
        ]
    );
    for tx in &packets {
        let op = op_of(&tx.packet);
        assert_eq!(tx.packet.reth.is_some(), op.has_reth(), "{op:?}");
        assert_eq!(tx.packet.imm.is_some(), op.has_imm(), "{op:?}");
        assert_eq!(tx.packet.inv_rkey.is_some(), op.has_ieth(), "{op:?}");
        assert_eq!(
            tx.packet.payload_len,
            tx.payload.end - tx.payload.start,
            "{op:?}"
        );
        assert_eq!(tx.packet.dest_qp, 0x77);
    }
    assert_eq!(
        packets[5].packet.reth.map(|reth| (reth.va, reth.dma_len)),
        Some((VA, MTU + 1))
    );
    assert_eq!(s.requester.next_send_psn(), Psn::new(PSN).add(8));
    assert_eq!(s.requester.ssn(), 5);
}

#[test]
fn the_last_packet_of_a_message_asks_for_an_ack_and_carries_the_solicited_bit() {
    let mut s = Sender::new(params());
    s.requester
        .post(SendWr {
            solicited: true,
            ..wr(SendOp::Send, 3 * MTU, 1)
        })
        .expect("room");
    s.requester
        .post(SendWr {
            solicited: true,
            ..wr(SendOp::Write { va: VA, rkey: RKEY }, 1, 2)
        })
        .expect("room");
    let flags: Vec<_> = s
        .packets()
        .iter()
        .map(|tx| (tx.packet.ack_req, tx.packet.solicited))
        .collect();
    // A WRITE has no receive completion to be solicited.
    assert_eq!(
        flags,
        [(false, false), (false, false), (true, true), (true, false)]
    );
}

#[test]
fn an_ack_is_asked_for_every_2_to_the_log_ack_req_freq_packets() {
    let mut s = Sender::new(RcParams {
        log_ack_req_freq: 2,
        ..params()
    });
    s.post(SendOp::Send, 10 * MTU, 1);
    let asked: Vec<_> = s.packets().iter().map(|tx| tx.packet.ack_req).collect();
    assert_eq!(
        asked,
        [
            false, false, false, true, false, false, false, true, false, true
        ]
    );
}

#[test]
fn the_window_closes_with_an_ack_request_and_opens_with_the_ack() {
    let mut s = Sender::new(params());
    s.post(SendOp::Send, 200 * MTU, 1);
    let packets = s.packets();
    assert_eq!(packets.len(), SEND_WINDOW as usize);
    assert!(packets.last().is_some_and(|tx| tx.packet.ack_req));
    // Half a window ahead too, so that the pipe never runs dry.
    assert!(packets[SEND_WINDOW as usize / 2 - 1].packet.ack_req);
    s.receive(ack(63));
    assert_eq!(s.packets().len(), 64);
    assert!(s.host.take().is_empty());
    s.receive(ack(199));
    assert!(s.host.take().is_empty(), "PSN 199 is not sent yet");
    s.receive(ack(191));
    assert_eq!(s.packets().len(), 8);
    s.receive(ack(199));
    assert_eq!(s.host.take(), [Asked::Completed(1)]);
    assert_eq!(s.requester.last_acked_psn(), Psn::new(PSN).add(199));
}

#[test]
fn one_ack_completes_all_messages_before_it_in_order() {
    let mut s = Sender::new(params());
    for cookie in 0..5 {
        s.post(SendOp::Send, 1, cookie);
    }
    assert_eq!(s.sent().len(), 5);
    s.receive(ack(3));
    assert_eq!(s.host.take(), [0, 1, 2, 3].map(Asked::Completed));
    assert_eq!(s.requester.outstanding().collect::<Vec<_>>(), [4]);
    s.receive(ack(4));
    assert_eq!(s.host.take(), [Asked::Completed(4)]);
    assert_eq!(s.requester.next_timeout(), None);
}

#[test]
fn an_ack_inside_a_message_completes_only_what_is_before() {
    let mut s = Sender::new(params());
    s.post(SendOp::Send, 1, 1);
    s.post(SendOp::Send, 3 * MTU, 2);
    assert_eq!(s.sent().len(), 4);
    s.receive(ack(2));
    assert_eq!(s.host.take(), [Asked::Completed(1)]);
    assert_eq!(s.requester.last_acked_psn(), Psn::new(PSN).add(2));
}

#[test]
fn ghost_acks_and_acks_of_what_was_never_sent_are_ignored() {
    let mut s = Sender::new(params());
    s.receive(ack(0));
    s.post(SendOp::Send, 1, 1);
    s.post(SendOp::Send, 1, 2);
    assert_eq!(s.sent().len(), 2);
    s.receive(ack(2));
    s.receive(ack(0x7f_ffff));
    s.receive(nak(2, 0x62));
    s.receive(ack(0));
    assert_eq!(s.host.take(), [Asked::Completed(1)]);
    s.receive(ack(0));
    s.receive(nak(0, 0x61));
    s.receive(nak(0, 0x60));
    assert_eq!((s.host.take(), s.host.take_counts()), (vec![], vec![]));
    assert!(s.sent().is_empty());
    assert!(s.requester.is_running());
}

#[test]
fn a_message_beyond_log_msg_max_fails_in_its_turn_with_local_length() {
    let mut s = Sender::new(RcParams {
        log_msg_max: 10,
        ..params()
    });
    s.post(SendOp::Send, 1024, 1);
    s.post(SendOp::Send, 1025, 2);
    s.post(SendOp::Send, 1, 3);
    assert_eq!(s.sent().len(), 4);
    assert!(s.host.take().is_empty());
    s.receive(ack(3));
    assert_eq!(
        s.host.take(),
        [Asked::Completed(1), Asked::Failed(2, WcError::LocalLength)]
    );
    assert_eq!(s.host.take_counts(), [Counter::ReqLocalLengthError]);
    assert!(s.requester.is_error());
    let mut flushed = Vec::new();
    s.requester.flush(|cookie| flushed.push(cookie));
    assert_eq!(flushed, [3]);
}

#[test]
fn a_payload_that_cannot_be_gathered_fails_after_its_predecessors() {
    let mut s = Sender::new(params());
    s.post(SendOp::Send, 1, 1);
    s.post(SendOp::Send, 2 * MTU, 2);
    s.post(SendOp::Send, 1, 3);
    let mut poll = || {
        s.requester
            .poll_transmit(s.now, &mut s.host)
            .map(|tx| tx.cookie)
    };
    assert_eq!((poll(), poll(), poll()), (Some(1), Some(2), Some(2)));
    s.requester
        .fail_local(2, WcError::LocalProtection, &mut s.host);
    assert!(
        s.sent().is_empty(),
        "nothing from the failed request on is sent"
    );
    assert!(s.host.take().is_empty());
    s.time_out();
    assert_eq!(
        s.sent(),
        [(Op::SendOnly, 0, 0..1)],
        "predecessors are still repeated"
    );
    s.receive(ack(0));
    assert_eq!(
        s.host.take(),
        [
            Asked::Completed(1),
            Asked::Failed(2, WcError::LocalProtection)
        ]
    );
    assert!(s.requester.is_error());
    assert_eq!(s.requester.next_timeout(), None);
}

#[test]
fn a_gather_error_of_the_only_request_fails_at_once() {
    let mut s = Sender::new(params());
    s.post(SendOp::Send, 1, 1);
    assert!(s.requester.poll_transmit(s.now, &mut s.host).is_some());
    s.requester
        .fail_local(1, WcError::LocalProtection, &mut s.host);
    assert_eq!(s.host.take(), [Asked::Failed(1, WcError::LocalProtection)]);
    assert!(!s.requester.can_post());
}

#[test]
fn local_operations_run_in_order_and_complete_in_order() {
    let mut s = Sender::new(params());
    s.post(SendOp::Local, 0, 1);
    assert!(s.sent().is_empty());
    assert_eq!(s.host.take(), [Asked::Local(1), Asked::Completed(1)]);
    s.post(SendOp::Send, 1, 2);
    s.post(SendOp::Local, 0, 3);
    s.requester
        .post(SendWr {
            fence: Fence::All,
            ..wr(SendOp::Local, 0, 4)
        })
        .expect("room");
    assert_eq!(s.sent().len(), 1);
    assert_eq!(s.host.take(), [Asked::Local(3)], "4 waits for the SEND");
    s.time_out();
    assert_eq!(s.sent().len(), 1);
    assert!(
        s.host.take().is_empty(),
        "no second execution after a retry"
    );
    s.receive(ack(0));
    assert!(s.sent().is_empty());
    assert_eq!(
        s.host.take(),
        [
            Asked::Completed(2),
            Asked::Completed(3),
            Asked::Local(4),
            Asked::Completed(4)
        ]
    );
}

#[test]
fn a_local_operation_that_fails_stops_the_queue_after_its_predecessors() {
    let mut s = Sender::new(params());
    s.host.execute = Err(WcError::MwBind);
    s.post(SendOp::Send, 1, 1);
    s.post(SendOp::Local, 0, 2);
    s.post(SendOp::Send, 1, 3);
    assert_eq!(s.sent().len(), 1);
    s.receive(ack(0));
    assert_eq!(
        s.host.take(),
        [
            Asked::Local(2),
            Asked::Completed(1),
            Asked::Failed(2, WcError::MwBind)
        ]
    );
    assert!(s.sent().is_empty());
}

#[test]
fn the_queue_is_bounded_and_closed_outside_rts() {
    let mut requester = Requester::new(2);
    assert_eq!(requester.post(wr(SendOp::Send, 0, 0)), Err(Full));
    requester.configure_rts(Psn::new(0), &params());
    assert_eq!(requester.post(wr(SendOp::Send, 0, 0)), Ok(()));
    assert_eq!(requester.post(wr(SendOp::Send, 0, 1)), Ok(()));
    assert_eq!(requester.post(wr(SendOp::Send, 0, 2)), Err(Full));
    requester.reset();
    assert!(requester.is_idle() && !requester.can_post());
}

#[test]
fn every_xrc_request_names_its_srq() {
    let mut s = Sender::new(RcParams {
        service: Service::Xrc,
        ..params()
    });
    for (cookie, op) in [SendOp::Send, SendOp::Read { va: VA, rkey: RKEY }]
        .into_iter()
        .enumerate()
    {
        let xrc_srqn = Some(0x42);
        s.requester
            .post(SendWr {
                xrc_srqn,
                ..wr(op, 2 * MTU, cookie as u32)
            })
            .expect("room");
    }
    for tx in s.packets() {
        assert_eq!(tx.packet.xrc_srqn, Some(0x42));
        assert!(matches!(
            tx.packet.opcode,
            crate::opcode::Opcode::Ib(Service::Xrc, _)
        ));
    }
}
