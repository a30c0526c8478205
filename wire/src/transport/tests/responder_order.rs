//! Requests too early and too late: sequence NAKs, RNR, duplicates.

use super::super::*;
use super::host::*;
use crate::opcode::Op;

#[test]
fn a_gap_is_nakked_once_until_the_expected_packet_comes() {
    let mut r = Receiver::new(params());
    for index in [1, 2, 3] {
        assert_eq!(
            r.receive(ack_req(packet(Op::SendOnly, index, 0))),
            Outcome::Ok
        );
    }
    assert_eq!(r.answers(), [(Op::Acknowledge, 0, Some(0x60))]);
    assert_eq!(r.host.take_counts(), [Counter::OutOfSequence; 3]);
    assert_eq!(r.receive(packet(Op::SendOnly, 2, 0)), Outcome::Ok);
    assert!(r.answers().is_empty());
    assert_eq!(r.receive(ack_req(packet(Op::SendOnly, 0, 0))), Outcome::Ok);
    assert_eq!(r.receive(packet(Op::SendOnly, 4, 0)), Outcome::Ok);
    assert_eq!(
        r.answers(),
        [(Op::Acknowledge, 1, Some(0x60))],
        "the NAK says what the ACK would"
    );
    assert_eq!(
        r.host
            .take()
            .iter()
            .filter(|asked| **asked == Asked::Begin(None))
            .count(),
        1
    );
}

#[test]
fn without_receive_wqe_an_rnr_nak_with_the_timer_goes_out_and_the_rest_is_dropped() {
    let mut r = Receiver::new(RcParams {
        min_rnr_timer: 5,
        ..params()
    });
    r.host.begin = Ok(Begin::NotReady);
    for index in 0..3 {
        assert_eq!(
            r.receive(ack_req(packet(Op::SendOnly, index, 1))),
            Outcome::Ok
        );
    }
    assert_eq!(r.answers(), [(Op::Acknowledge, 0, Some(0x25))]);
    assert_eq!(r.host.take(), [Asked::Begin(None)]);
    r.responder.set_min_rnr_timer(6);
    assert_eq!(r.receive(ack_req(packet(Op::SendOnly, 0, 1))), Outcome::Ok);
    assert_eq!(
        r.answers(),
        [(Op::Acknowledge, 0, Some(0x26))],
        "each attempt gets its answer"
    );
    r.host.begin = Ok(Begin::Ready);
    assert_eq!(r.receive(ack_req(packet(Op::SendOnly, 0, 1))), Outcome::Ok);
    assert_eq!(r.answers(), [(Op::Acknowledge, 0, Some(0x1f))]);
}

#[test]
fn a_duplicate_send_or_write_is_acked_again_with_the_newest_psn_and_not_executed() {
    let mut r = Receiver::new(params());
    for index in 0..3 {
        assert_eq!(r.receive(packet(Op::SendOnly, index, 1)), Outcome::Ok);
    }
    assert_eq!(
        r.receive(with_reth(packet(Op::WriteOnly, 3, 1), VA, 1)),
        Outcome::Ok
    );
    r.host.take();
    r.host.take_counts();
    assert_eq!(r.receive(packet(Op::SendOnly, 0, 1)), Outcome::Ok);
    assert_eq!(
        r.receive(with_reth(packet(Op::WriteOnly, 3, 1), VA, 1)),
        Outcome::Ok
    );
    assert!(r.host.take().is_empty());
    assert_eq!(r.host.take_counts(), [Counter::DuplicateRequest; 2]);
    let responses = r.responses();
    assert_eq!(responses.len(), 1);
    assert_eq!(index_of(&responses[0].packet), 3);
    assert_eq!(responses[0].packet.aeth.map(|aeth| aeth.msn), Some(4));
}

#[test]
fn a_duplicate_does_not_hide_the_nak_for_the_expected_packet() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(packet(Op::SendOnly, 0, 1)), Outcome::Ok);
    assert_eq!(r.receive(packet(Op::SendOnly, 5, 1)), Outcome::Ok);
    assert_eq!(r.receive(packet(Op::SendOnly, 0, 1)), Outcome::Ok);
    assert_eq!(r.answers(), [(Op::Acknowledge, 1, Some(0x60))]);
}

#[test]
fn a_duplicate_read_is_executed_again_for_the_range_it_asks_for() {
    let mut r = Receiver::new(params());
    let mtu = u64::from(MTU);
    assert_eq!(r.receive(read_request(0, VA, 4 * MTU)), Outcome::Ok);
    assert_eq!(r.answers().len(), 4);
    r.host.take();
    assert_eq!(
        r.receive(read_request(2, VA + 2 * mtu, 2 * MTU)),
        Outcome::Ok
    );
    assert_eq!(
        r.host.take(),
        [Asked::CheckRemote(
            RKEY,
            VA + 2 * mtu,
            2 * MTU,
            Access::Read
        )],
        "revalidated"
    );
    let responses = r.responses();
    assert_eq!(
        responses
            .iter()
            .map(|tx| (op_of(&tx.packet), index_of(&tx.packet), tx.source))
            .collect::<Vec<_>>(),
        [
            (
                Op::ReadResponseFirst,
                2,
                Source::Remote {
                    rkey: RKEY,
                    va: VA + 2 * mtu,
                    len: MTU
                }
            ),
            (
                Op::ReadResponseLast,
                3,
                Source::Remote {
                    rkey: RKEY,
                    va: VA + 3 * mtu,
                    len: MTU
                }
            ),
        ]
    );
    assert_eq!(r.responder.msn(), 1);
    assert_eq!(r.receive(read_request(1, VA + mtu, MTU)), Outcome::Ok);
    assert_eq!(
        r.answers(),
        [(Op::ReadResponseOnly, 1, Some(0x1f))],
        "also a part from the middle"
    );
}

#[test]
fn a_duplicate_read_outside_of_what_was_asked_is_dropped() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(read_request(0, VA, 4 * MTU)), Outcome::Ok);
    assert_eq!(r.answers().len(), 4);
    r.host.take();
    for bad in [
        read_request(0, VA + 1, 4 * MTU),
        read_request(0, VA, 4 * MTU + 1),
        read_request(1, VA + u64::from(MTU), 4 * MTU),
        read_request(0x80_0005, VA, MTU),
    ] {
        assert_eq!(r.receive(bad), Outcome::Ok);
    }
    assert!(r.host.take().is_empty() && r.answers().is_empty());
}

#[test]
fn a_duplicate_read_of_memory_that_was_taken_back_is_dropped() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(read_request(0, VA, MTU)), Outcome::Ok);
    assert_eq!(r.answers().len(), 1);
    r.host.remote = Err(RemoteFault::Access);
    assert_eq!(r.receive(read_request(0, VA, MTU)), Outcome::Ok);
    assert!(r.answers().is_empty() && r.responder.is_running());
}

#[test]
fn a_duplicate_read_rewinds_a_response_under_way_and_those_behind_it() {
    let mut r = Receiver::new(params());
    let mtu = u64::from(MTU);
    assert_eq!(r.receive(read_request(0, VA, 4 * MTU)), Outcome::Ok);
    assert_eq!(r.receive(read_request(4, VA, 2 * MTU)), Outcome::Ok);
    for _ in 0..3 {
        assert!(r.responder.poll_transmit().is_some());
    }
    // Still to come: nothing changes.
    assert_eq!(r.receive(read_request(3, VA + 3 * mtu, MTU)), Outcome::Ok);
    // Already out: again from there, and each packet once.
    assert_eq!(r.receive(read_request(1, VA + mtu, 3 * MTU)), Outcome::Ok);
    assert_eq!(
        r.answers()
            .iter()
            .map(|answer| answer.1)
            .collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
}

#[test]
fn a_repeated_read_goes_before_later_responses_which_start_over() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(read_request(0, VA, MTU)), Outcome::Ok);
    assert_eq!(r.receive(read_request(1, VA, 3 * MTU)), Outcome::Ok);
    assert_eq!(r.receive(ack_req(packet(Op::SendOnly, 4, 0))), Outcome::Ok);
    for _ in 0..3 {
        assert!(r.responder.poll_transmit().is_some());
    }
    assert_eq!(r.receive(read_request(0, VA, MTU)), Outcome::Ok);
    assert_eq!(
        r.answers(),
        [
            (Op::ReadResponseOnly, 0, Some(0x1f)),
            (Op::ReadResponseFirst, 1, Some(0x1f)),
            (Op::ReadResponseMiddle, 2, None),
            (Op::ReadResponseLast, 3, Some(0x1f)),
            (Op::Acknowledge, 4, Some(0x1f)),
        ]
    );
}

#[test]
fn a_duplicate_atomic_is_answered_from_memory() {
    let mut r = Receiver::new(RcParams {
        max_dest_rd_atomic: 2,
        ..params()
    });
    for (index, value) in [(0, 10), (1, 11), (2, 12)] {
        r.host.atomic_value = value;
        assert_eq!(r.receive(fetch_add(index, VA, 1)), Outcome::Ok);
        assert_eq!(r.responses().len(), 1);
    }
    r.host.take();
    r.host.atomic_value = 99;
    assert_eq!(r.receive(fetch_add(1, VA, 1)), Outcome::Ok);
    assert_eq!(r.receive(fetch_add(2, VA, 1)), Outcome::Ok);
    assert_eq!(r.receive(fetch_add(0, VA, 1)), Outcome::Ok);
    assert_eq!(r.receive(read_request(2, VA, 8)), Outcome::Ok);
    assert!(r.host.take().is_empty(), "not executed");
    let values: Vec<_> = r
        .responses()
        .iter()
        .map(|tx| (index_of(&tx.packet), tx.packet.atomic_ack))
        .collect();
    assert_eq!(values, [(1, Some(11)), (2, Some(12))], "0 is forgotten");
}

#[test]
fn reads_beyond_the_responder_depth_are_invalid_requests() {
    let mut r = Receiver::new(RcParams {
        max_dest_rd_atomic: 2,
        ..params()
    });
    assert_eq!(r.receive(read_request(0, VA, MTU)), Outcome::Ok);
    assert_eq!(r.receive(fetch_add(1, VA, 1)), Outcome::Ok);
    assert!(r.responder.poll_transmit().is_some());
    assert_eq!(
        r.receive(read_request(2, VA, MTU)),
        Outcome::Ok,
        "the first is answered"
    );
    let outcome = r.receive(read_request(3, VA, MTU));
    assert_eq!(
        outcome,
        Outcome::Fatal {
            event: QpEvent::InvalidRequest
        }
    );
    assert_eq!(
        r.answers(),
        [
            (Op::AtomicAcknowledge, 1, Some(0x1f)),
            (Op::ReadResponseOnly, 2, Some(0x1f)),
            (Op::Acknowledge, 3, Some(0x61))
        ]
    );
}

#[test]
fn a_repeated_answer_makes_room_for_a_new_request() {
    let mut r = Receiver::new(RcParams {
        max_dest_rd_atomic: 1,
        ..params()
    });
    assert_eq!(r.receive(read_request(0, VA, MTU)), Outcome::Ok);
    assert_eq!(r.answers().len(), 1);
    // The repetition crossed the answer on the wire: the peer has it and asks for more.
    assert_eq!(r.receive(read_request(0, VA, MTU)), Outcome::Ok);
    assert_eq!(r.receive(read_request(1, VA, MTU)), Outcome::Ok);
    assert_eq!(r.answers(), [(Op::ReadResponseOnly, 1, Some(0x1f))]);
}
