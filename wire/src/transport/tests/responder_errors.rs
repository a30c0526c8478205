//! Requests that end a connection, and what each of them leaves behind: NAK, completion, event.

use super::super::*;
use super::host::*;
use crate::opcode::Op;
use crate::packet::Packet;

const INVALID: Outcome = Outcome::Fatal {
    event: QpEvent::InvalidRequest,
};
const ACCESS: Outcome = Outcome::Fatal {
    event: QpEvent::Access,
};
const RECEIVE: Outcome = Outcome::Fatal {
    event: QpEvent::None,
};

/// The NAK is the last word.
fn assert_last_word(r: &mut Receiver, index: i32, syndrome: u8) {
    assert_eq!(
        r.answers().last(),
        Some(&(Op::Acknowledge, index, Some(syndrome)))
    );
    r.host.take();
    assert_eq!(
        r.receive(ack_req(packet(Op::SendOnly, index as u32, 0))),
        Outcome::Ok
    );
    assert_eq!(r.receive(ack_req(packet(Op::SendOnly, 0, 0))), Outcome::Ok);
    assert!(
        r.host.take().is_empty() && r.answers().is_empty(),
        "silent after an error"
    );
    assert!(!r.responder.is_running());
}

#[test]
fn opcodes_out_of_order_are_invalid_requests() {
    let write = with_reth(packet(Op::WriteFirst, 0, MTU), VA, 3 * MTU);
    let send = packet(Op::SendFirst, 0, MTU);
    let cases = [
        (None, packet(Op::SendMiddle, 0, MTU)),
        (None, packet(Op::SendLast, 0, 1)),
        (None, packet(Op::WriteMiddle, 0, MTU)),
        (None, packet(Op::WriteLastImm, 0, 1)),
        (Some(send), packet(Op::SendOnly, 1, 1)),
        (Some(send), packet(Op::SendFirst, 1, MTU)),
        (Some(send), packet(Op::WriteMiddle, 1, MTU)),
        (Some(send), packet(Op::WriteLast, 1, MTU)),
        (Some(send), read_request(1, VA, 1)),
        (Some(send), fetch_add(1, VA, 1)),
        (Some(write), packet(Op::SendMiddle, 1, MTU)),
        (Some(write), packet(Op::SendLast, 1, MTU)),
        (Some(write), with_reth(packet(Op::WriteOnly, 1, 1), VA, 1)),
        (Some(write), read_request(1, VA, 1)),
    ];
    for (before, bad) in cases {
        let mut r = Receiver::new(params());
        if let Some(before) = before {
            assert_eq!(r.receive(before), Outcome::Ok);
        }
        let held = r.responder.holds_receive();
        // With a receive WQE in hand its completion tells, without one an event.
        assert_eq!(
            r.receive(bad),
            if held { RECEIVE } else { INVALID },
            "{bad:?}"
        );
        let failed = r
            .host
            .take()
            .contains(&Asked::FailReceive(WcError::RemoteInvalidRequest));
        assert_eq!(failed, held);
        assert_eq!(
            r.host.take_counts().last(),
            Some(&Counter::RespRemoteInvalidRequest)
        );
        assert_last_word(&mut r, i32::from(before.is_some()), 0x61);
    }
}

#[test]
fn payloads_of_wrong_length_are_invalid_requests() {
    let cases = [
        vec![packet(Op::SendFirst, 0, MTU - 1)],
        vec![packet(Op::SendOnly, 0, MTU + 1)],
        vec![packet(Op::SendFirst, 0, MTU), packet(Op::SendMiddle, 1, 1)],
        vec![packet(Op::SendFirst, 0, MTU), packet(Op::SendLast, 1, 0)],
        vec![
            packet(Op::SendFirst, 0, MTU),
            packet(Op::SendLast, 1, MTU + 1),
        ],
        // Against the DMA length of the RETH.
        vec![with_reth(packet(Op::WriteOnly, 0, 5), VA, 6)],
        vec![with_reth(packet(Op::WriteOnly, 0, 6), VA, 5)],
        vec![with_reth(packet(Op::WriteFirst, 0, MTU), VA, MTU)],
        vec![
            with_reth(packet(Op::WriteFirst, 0, MTU), VA, 2 * MTU),
            packet(Op::WriteMiddle, 1, MTU),
        ],
        vec![
            with_reth(packet(Op::WriteFirst, 0, MTU), VA, 2 * MTU),
            packet(Op::WriteLast, 1, MTU - 1),
        ],
        vec![
            with_reth(packet(Op::WriteFirst, 0, MTU), VA, MTU + 1),
            packet(Op::WriteLast, 1, MTU),
        ],
        vec![Packet {
            payload_len: 1,
            ..read_request(0, VA, 1)
        }],
        vec![Packet {
            payload_len: 1,
            ..fetch_add(0, VA, 1)
        }],
    ];
    for packets in cases {
        let mut r = Receiver::new(params());
        let (bad, good) = packets.split_last().expect("a packet");
        for packet in good {
            assert_eq!(r.receive(*packet), Outcome::Ok);
        }
        assert_ne!(r.receive(*bad), Outcome::Ok, "{packets:?}");
        assert_last_word(&mut r, index_of(bad), 0x61);
    }
}

#[test]
fn messages_longer_than_log_msg_max_are_invalid_requests() {
    let limited = || {
        Receiver::new(RcParams {
            log_msg_max: 9,
            ..params()
        })
    };
    for bad in [
        with_reth(packet(Op::WriteFirst, 0, MTU), VA, 513),
        read_request(0, VA, 513),
    ] {
        let mut r = limited();
        assert_eq!(r.receive(bad), INVALID);
        assert_last_word(&mut r, 0, 0x61);
    }
    let mut r = limited();
    assert_eq!(r.receive(packet(Op::SendFirst, 0, MTU)), Outcome::Ok);
    assert_eq!(r.receive(packet(Op::SendMiddle, 1, MTU)), Outcome::Ok);
    assert_eq!(r.receive(packet(Op::SendLast, 2, 1)), RECEIVE);
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(read_request(0, VA, (1 << 31) + 1)), INVALID);
}

#[test]
fn operations_the_queue_pair_forbids_are_invalid_requests() {
    for bad in [
        with_reth(packet(Op::WriteOnly, 0, 1), VA, 1),
        read_request(0, VA, 1),
        fetch_add(0, VA, 1),
    ] {
        let mut r = Receiver::new(params());
        r.responder.set_access(false, false, false);
        assert_eq!(r.receive(bad), INVALID);
        assert!(
            !r.host
                .take()
                .iter()
                .any(|asked| *asked != Asked::Established)
        );
        assert_last_word(&mut r, 0, 0x61);
    }
}

#[test]
fn an_unaligned_atomic_is_an_invalid_request() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(fetch_add(0, VA + 4, 1)), INVALID);
    assert_last_word(&mut r, 0, 0x61);
}

#[test]
fn an_rkey_fault_is_a_remote_access_nak_and_an_event() {
    for bad in [
        with_reth(packet(Op::WriteOnly, 0, 1), VA, 1),
        read_request(0, VA, 1),
        fetch_add(0, VA, 8),
    ] {
        let mut r = Receiver::new(params());
        r.host.remote = Err(RemoteFault::Access);
        assert_eq!(r.receive(bad), ACCESS);
        assert_eq!(r.host.take_counts(), [Counter::RespRemoteAccessErrors]);
        assert_last_word(&mut r, 0, 0x62);
    }
}

#[test]
fn a_fault_while_placing_a_write_with_immediate_also_ends_its_receive() {
    let mut r = Receiver::new(params());
    r.host.place_remote = Err(RemoteFault::Access);
    assert_eq!(
        r.receive(with_reth(packet(Op::WriteOnlyImm, 0, 1), VA, 1)),
        ACCESS
    );
    assert_eq!(
        r.host.take().last(),
        Some(&Asked::FailReceive(WcError::LocalAccess))
    );
    assert_last_word(&mut r, 0, 0x62);
}

#[test]
fn a_send_longer_than_its_receive_wqe_is_an_invalid_request_with_a_local_length_error() {
    let mut r = Receiver::new(params());
    r.host.local = Err(WcError::LocalLength);
    assert_eq!(r.receive(packet(Op::SendOnly, 0, 9)), RECEIVE);
    assert_eq!(
        r.host.take().last(),
        Some(&Asked::FailReceive(WcError::LocalLength))
    );
    assert_eq!(r.host.take_counts(), [Counter::RespLocalLengthError]);
    assert_last_word(&mut r, 0, 0x61);
}

#[test]
fn a_bad_lkey_in_a_receive_wqe_is_a_remote_operational_nak() {
    let mut r = Receiver::new(params());
    r.host.local = Err(WcError::LocalProtection);
    assert_eq!(r.receive(packet(Op::SendOnly, 0, 9)), RECEIVE);
    assert_eq!(
        r.host.take().last(),
        Some(&Asked::FailReceive(WcError::LocalProtection))
    );
    assert_last_word(&mut r, 0, 0x63);
    let mut r = Receiver::new(params());
    r.host.begin = Err(WcError::LocalQpOp);
    assert_eq!(r.receive(packet(Op::SendOnly, 0, 9)), RECEIVE);
    assert_eq!(
        r.host.take().last(),
        Some(&Asked::FailReceive(WcError::LocalQpOp))
    );
    assert_last_word(&mut r, 0, 0x63);
}

#[test]
fn an_invalidate_that_fails_is_not_told_to_the_peer() {
    let mut r = Receiver::new(params());
    r.host.invalidate = Err(RemoteFault::Access);
    assert_eq!(r.receive(ack_req(packet(Op::SendOnlyInv, 0, 1))), ACCESS);
    assert_eq!(
        r.host.take().last(),
        Some(&Asked::FailReceive(WcError::LocalAccess))
    );
    assert!(r.answers().is_empty());
}

#[test]
fn a_read_whose_data_cannot_be_fetched_is_nakked_at_that_packet() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(read_request(0, VA, 3 * MTU)), Outcome::Ok);
    assert_eq!(r.receive(ack_req(packet(Op::SendOnly, 3, 0))), Outcome::Ok);
    assert!(r.responder.poll_transmit().is_some());
    assert!(r.responder.poll_transmit().is_some());
    assert_eq!(
        r.responder
            .read_failed(RemoteFault::Operational, &mut r.host),
        Outcome::Fatal {
            event: QpEvent::Catas
        }
    );
    assert_eq!(r.answers(), [(Op::Acknowledge, 1, Some(0x63))]);
    assert_eq!(
        r.responder.read_failed(RemoteFault::Access, &mut r.host),
        Outcome::Ok,
        "only once"
    );
}

#[test]
fn a_repeated_read_whose_data_cannot_be_fetched_is_given_up() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(read_request(0, VA, 3 * MTU)), Outcome::Ok);
    assert_eq!(r.answers().len(), 3);
    assert_eq!(r.receive(read_request(0, VA, 3 * MTU)), Outcome::Ok);
    assert!(r.responder.poll_transmit().is_some());
    assert_eq!(
        r.responder.read_failed(RemoteFault::Access, &mut r.host),
        Outcome::Ok
    );
    assert!(r.answers().is_empty() && r.responder.is_running());
    assert_eq!(r.receive(read_request(0, VA, 3 * MTU)), Outcome::Ok);
    assert_eq!(r.answers().len(), 3, "and can be asked for again");
}

#[test]
fn answers_owed_before_an_error_still_go_out() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(read_request(0, VA, 2 * MTU)), Outcome::Ok);
    assert_eq!(r.receive(ack_req(packet(Op::SendOnly, 2, 0))), Outcome::Ok);
    assert_eq!(r.receive(packet(Op::SendLast, 3, 1)), INVALID);
    assert_eq!(
        r.answers()
            .iter()
            .map(|answer| answer.1)
            .collect::<Vec<_>>(),
        [0, 1, 3]
    );
}

#[test]
fn stopped_by_command_it_owes_nothing() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(read_request(0, VA, 2 * MTU)), Outcome::Ok);
    r.responder.stop();
    assert!(r.answers().is_empty());
    assert_eq!(r.receive(ack_req(packet(Op::SendOnly, 2, 0))), Outcome::Ok);
    assert!(r.answers().is_empty());
}
