//! READ and ATOMIC requests, fences, implied NAKs, bad responses.

use super::super::*;
use super::host::*;
use crate::opcode::Op;
use crate::packet::{Aeth, Packet};

const READ: SendOp = SendOp::Read { va: VA, rkey: RKEY };
const ADD: SendOp = SendOp::FetchAdd {
    va: VA,
    rkey: RKEY,
    add: 5,
};

fn atomic_ack(index: u32, original: u64) -> Packet {
    let aeth = Some(Aeth {
        syndrome: 0x1f,
        msn: 0,
    });
    Packet {
        aeth,
        atomic_ack: Some(original),
        ..packet(Op::AtomicAcknowledge, index, 0)
    }
}

#[test]
fn a_read_takes_a_psn_for_each_response() {
    let mut s = Sender::new(params());
    s.post(READ, 3 * MTU - 1, 1);
    s.post(READ, 0, 2);
    s.post(SendOp::Send, 1, 3);
    let packets = s.packets();
    assert_eq!(
        packets
            .iter()
            .map(|tx| index_of(&tx.packet))
            .collect::<Vec<_>>(),
        [0, 3, 4]
    );
    assert_eq!(
        packets[0].packet.reth.map(|reth| (reth.va, reth.dma_len)),
        Some((VA, 3 * MTU - 1))
    );
    s.receive(response(Op::ReadResponseFirst, 0, 0x1f, MTU));
    s.receive(response(Op::ReadResponseMiddle, 1, 0x1f, MTU));
    s.receive(response(Op::ReadResponseLast, 2, 0x1f, MTU - 1));
    s.receive(response(Op::ReadResponseOnly, 3, 0x1f, 0));
    assert_eq!(
        s.host.take(),
        [
            Asked::PlaceResponse(1, 0, MTU),
            Asked::PlaceResponse(1, MTU, MTU),
            Asked::PlaceResponse(1, 2 * MTU, MTU - 1),
            Asked::Completed(1),
            Asked::Completed(2),
        ]
    );
}

#[test]
fn a_read_response_acknowledges_the_sends_before_it() {
    let mut s = Sender::new(params());
    s.post(SendOp::Send, 1, 1);
    s.post(READ, 1, 2);
    assert_eq!(s.sent().len(), 2);
    s.receive(response(Op::ReadResponseOnly, 1, 0x1f, 1));
    assert_eq!(
        s.host.take(),
        [
            Asked::Completed(1),
            Asked::PlaceResponse(2, 0, 1),
            Asked::Completed(2)
        ]
    );
}

#[test]
fn an_atomic_response_acknowledges_the_sends_before_it() {
    let mut s = Sender::new(params());
    s.post(SendOp::Send, 1, 1);
    s.post(ADD, 8, 2);
    s.post(
        SendOp::CompareSwap {
            va: VA,
            rkey: RKEY,
            compare: 1,
            swap: 2,
        },
        8,
        3,
    );
    let packets = s.packets();
    assert_eq!(packets[1].packet.atomic.map(|a| a.swap_add), Some(5));
    assert_eq!(
        packets[2].packet.atomic.map(|a| (a.compare, a.swap_add)),
        Some((1, 2))
    );
    s.receive(atomic_ack(1, 77));
    s.receive(atomic_ack(2, 78));
    assert_eq!(
        s.host.take(),
        [
            Asked::Completed(1),
            Asked::AtomicResult(2, 77),
            Asked::Completed(2),
            Asked::AtomicResult(3, 78),
            Asked::Completed(3)
        ]
    );
}

#[test]
fn reads_and_atomics_outstanding_are_bounded_by_max_rd_atomic() {
    let mut s = Sender::new(RcParams {
        max_rd_atomic: 2,
        ..params()
    });
    s.post(READ, 2 * MTU, 1);
    s.post(ADD, 8, 2);
    s.post(READ, 1, 3);
    s.post(SendOp::Send, 1, 4);
    assert_eq!(
        s.sent(),
        [(Op::ReadRequest, 0, 0..0), (Op::FetchAdd, 2, 0..0)]
    );
    s.receive(response(Op::ReadResponseFirst, 0, 0x1f, MTU));
    assert!(s.sent().is_empty());
    s.receive(response(Op::ReadResponseLast, 1, 0x1f, MTU));
    assert_eq!(
        s.sent(),
        [(Op::ReadRequest, 3, 0..0), (Op::SendOnly, 4, 0..1)]
    );
}

#[test]
fn a_fence_waits_for_earlier_reads_only() {
    let mut s = Sender::new(params());
    s.post(READ, 1, 1);
    s.post(SendOp::Send, 1, 2);
    s.requester
        .post(SendWr {
            fence: Fence::ReadAtomic,
            ..wr(SendOp::Send, 1, 3)
        })
        .expect("room");
    assert_eq!(s.sent().len(), 2);
    s.receive(response(Op::ReadResponseOnly, 0, 0x1f, 1));
    assert_eq!(
        s.sent(),
        [(Op::SendOnly, 2, 0..1)],
        "the SEND before it is still unanswered"
    );
}

#[test]
fn an_ack_beyond_an_unanswered_read_repeats_the_missing_part_of_the_read() {
    let mut s = Sender::new(params());
    s.post(READ, 4 * MTU, 1);
    s.post(SendOp::Send, 1, 2);
    assert_eq!(s.sent().len(), 2);
    s.receive(response(Op::ReadResponseFirst, 0, 0x1f, MTU));
    s.receive(ack(4));
    s.receive(ack(4));
    assert_eq!(s.host.take_counts(), [Counter::ImpliedNakSeqErr], "once");
    let packets = s.packets();
    assert_eq!(packets.len(), 2);
    let reth = packets[0].packet.reth.expect("READ request");
    assert_eq!(
        (index_of(&packets[0].packet), reth.va, reth.dma_len),
        (1, VA + u64::from(MTU), 3 * MTU)
    );
    assert!(packets.iter().all(|tx| tx.retransmission));
    // The answer to the repetition begins with First, at the second packet.
    s.receive(response(Op::ReadResponseFirst, 1, 0x1f, MTU));
    s.receive(response(Op::ReadResponseMiddle, 2, 0x1f, MTU));
    s.receive(response(Op::ReadResponseLast, 3, 0x1f, MTU));
    s.receive(ack(4));
    assert_eq!(s.host.take().last(), Some(&Asked::Completed(2)));
    assert!(s.requester.is_idle());
}

#[test]
fn a_hole_in_read_responses_is_an_implied_nak() {
    let mut s = Sender::new(params());
    s.post(READ, 4 * MTU, 1);
    assert_eq!(s.sent().len(), 1);
    s.receive(response(Op::ReadResponseFirst, 0, 0x1f, MTU));
    s.receive(response(Op::ReadResponseMiddle, 2, 0x1f, MTU));
    s.receive(response(Op::ReadResponseLast, 3, 0x1f, MTU));
    assert_eq!(s.host.take(), [Asked::PlaceResponse(1, 0, MTU)]);
    assert_eq!(s.host.take_counts(), [Counter::ImpliedNakSeqErr]);
    assert_eq!(s.sent(), [(Op::ReadRequest, 1, 0..0)]);
    // Only the end was missing: Only answers it.
    s.receive(response(Op::ReadResponseFirst, 1, 0x1f, MTU));
    s.receive(response(Op::ReadResponseMiddle, 2, 0x1f, MTU));
    s.time_out();
    assert_eq!(s.sent(), [(Op::ReadRequest, 3, 0..0)]);
    s.receive(response(Op::ReadResponseOnly, 3, 0x1f, MTU));
    assert_eq!(s.host.take().last(), Some(&Asked::Completed(1)));
}

#[test]
fn duplicate_read_responses_are_ignored() {
    let mut s = Sender::new(params());
    s.post(READ, 2 * MTU, 1);
    assert_eq!(s.sent().len(), 1);
    for _ in 0..2 {
        s.receive(response(Op::ReadResponseFirst, 0, 0x1f, MTU));
    }
    s.receive(response(Op::ReadResponseLast, 1, 0x1f, MTU));
    s.receive(response(Op::ReadResponseLast, 1, 0x1f, MTU));
    assert_eq!(s.host.take().len(), 3);
}

#[test]
fn a_late_response_is_good_even_after_the_request_was_taken_back() {
    let mut s = Sender::new(params());
    s.post(READ, 2 * MTU, 1);
    s.post(READ, MTU, 2);
    assert_eq!(s.sent().len(), 2);
    s.time_out();
    s.receive(response(Op::ReadResponseFirst, 0, 0x1f, MTU));
    assert_eq!(
        s.sent(),
        [(Op::ReadRequest, 1, 0..0), (Op::ReadRequest, 2, 0..0)]
    );
    s.receive(response(Op::ReadResponseLast, 1, 0x1f, MTU));
    s.receive(response(Op::ReadResponseOnly, 2, 0x1f, MTU));
    assert!(s.requester.is_idle());
    // Nothing is miscounted: as many READs as allowed can follow.
    for cookie in 0..16 {
        s.post(READ, 2 * MTU, 10 + cookie);
    }
    assert_eq!(s.sent().len(), 16);
}

#[test]
fn a_response_of_wrong_length_or_kind_is_a_bad_response() {
    let bad = [
        response(Op::ReadResponseOnly, 0, 0x1f, MTU),
        response(Op::ReadResponseFirst, 0, 0x1f, MTU - 1),
        response(Op::ReadResponseMiddle, 0, 0x1f, MTU),
        response(Op::ReadResponseFirst, 0, 0x62, MTU),
        response(Op::Acknowledge, 0, 0x40, 0),
        atomic_ack(0, 1),
        Packet {
            aeth: None,
            ..ack(0)
        },
    ];
    for packet in bad {
        let mut s = Sender::new(params());
        s.post(READ, 2 * MTU, 1);
        assert_eq!(s.sent().len(), 1);
        s.receive(packet);
        assert_eq!(
            s.host.take(),
            [Asked::Failed(1, WcError::BadResponse)],
            "{packet:?}"
        );
    }
    for packet in [response(Op::ReadResponseOnly, 0, 0x1f, 1), atomic_ack(0, 1)] {
        let mut s = Sender::new(params());
        s.post(SendOp::Send, 1, 1);
        assert_eq!(s.sent().len(), 1);
        s.receive(packet);
        assert_eq!(
            s.host.take(),
            [Asked::Failed(1, WcError::BadResponse)],
            "{packet:?}"
        );
    }
}

#[test]
fn a_response_that_cannot_be_placed_fails_its_request() {
    let mut s = Sender::new(params());
    s.post(READ, 1, 1);
    s.post(SendOp::Send, 1, 2);
    assert_eq!(s.sent().len(), 2);
    s.host.local = Err(WcError::LocalProtection);
    s.receive(response(Op::ReadResponseOnly, 0, 0x1f, 1));
    assert_eq!(
        s.host.take(),
        [
            Asked::PlaceResponse(1, 0, 1),
            Asked::Failed(1, WcError::LocalProtection)
        ]
    );
    assert_eq!(s.requester.outstanding().collect::<Vec<_>>(), [2]);
}

#[test]
fn reads_never_stretch_the_psn_window_beyond_comparison() {
    let mut s = Sender::new(params());
    s.post(READ, 1 << 30, 1);
    s.post(READ, 1 << 30, 2);
    s.post(SendOp::Send, 1, 3);
    assert_eq!(s.sent(), [(Op::ReadRequest, 0, 0..0)]);
    s.post(READ, 1 << 29, 4);
    assert!(s.sent().is_empty());
}
