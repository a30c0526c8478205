//! What a responder does with requests that are in order and in order of law.

use super::super::*;
use super::host::*;
use crate::opcode::{Op, Opcode, Service};
use crate::packet::{AtomicEth, Packet};
use crate::psn::Psn;

fn done(kind: RecvKind, byte_len: u32, solicited: bool) -> Asked {
    Asked::CompleteReceive(RecvDone {
        byte_len,
        kind,
        solicited,
    })
}

#[test]
fn a_send_is_placed_packet_by_packet_and_completed_with_the_last() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(packet(Op::SendFirst, 0, MTU)), Outcome::Ok);
    assert_eq!(r.receive(packet(Op::SendMiddle, 1, MTU)), Outcome::Ok);
    assert!(r.answers().is_empty(), "nobody asked");
    assert!(r.responder.holds_receive());
    let last = Packet {
        solicited: true,
        ..packet(Op::SendLastImm, 2, 3)
    };
    assert_eq!(r.receive(ack_req(last)), Outcome::Ok);
    assert_eq!(
        r.host.take(),
        [
            Asked::Begin(None),
            Asked::PlaceReceive(0, MTU),
            Asked::PlaceReceive(MTU, MTU),
            Asked::PlaceReceive(2 * MTU, 3),
            done(RecvKind::SendImm(0xabcd), 2 * MTU + 3, true),
        ]
    );
    assert_eq!(r.answers(), [(Op::Acknowledge, 2, Some(0x1f))]);
    assert_eq!(
        (r.responder.msn(), r.responder.next_rcv_psn()),
        (1, Psn::new(PSN).add(3))
    );
    assert!(!r.responder.holds_receive());
}

#[test]
fn a_zero_length_send_takes_a_receive_wqe_and_places_nothing() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(packet(Op::SendOnly, 0, 0)), Outcome::Ok);
    assert_eq!(
        r.host.take(),
        [Asked::Begin(None), done(RecvKind::Send, 0, false)]
    );
}

#[test]
fn communication_is_established_by_the_first_accepted_request_only() {
    let mut r = Receiver::new(params());
    r.host.begin = Ok(Begin::NotReady);
    assert_eq!(r.receive(packet(Op::SendOnly, 1, 0)), Outcome::Ok);
    assert_eq!(r.receive(packet(Op::SendOnly, 0, 0)), Outcome::Ok);
    assert!(!r.host.asked.contains(&Asked::Established));
    r.host.begin = Ok(Begin::Ready);
    for index in 0..3 {
        assert_eq!(r.receive(packet(Op::SendOnly, index, 0)), Outcome::Ok);
    }
    assert_eq!(
        r.host
            .asked
            .iter()
            .filter(|asked| **asked == Asked::Established)
            .count(),
        1
    );
}

#[test]
fn a_write_is_checked_once_and_placed_where_the_reth_says() {
    let mut r = Receiver::new(params());
    assert_eq!(
        r.receive(with_reth(packet(Op::WriteFirst, 0, MTU), VA, 2 * MTU + 1)),
        Outcome::Ok
    );
    assert_eq!(r.receive(packet(Op::WriteMiddle, 1, MTU)), Outcome::Ok);
    assert_eq!(r.receive(ack_req(packet(Op::WriteLast, 2, 1))), Outcome::Ok);
    let mtu = u64::from(MTU);
    assert_eq!(
        r.host.take(),
        [
            Asked::CheckRemote(RKEY, VA, 2 * MTU + 1, Access::Write),
            Asked::PlaceRemote(RKEY, VA, MTU),
            Asked::PlaceRemote(RKEY, VA + mtu, MTU),
            Asked::PlaceRemote(RKEY, VA + 2 * mtu, 1),
        ]
    );
    assert_eq!(r.host.take_counts(), [Counter::RxWriteRequests]);
    assert_eq!(r.responder.msn(), 1);
}

#[test]
fn a_write_with_immediate_completes_a_receive_with_the_length_of_the_message() {
    let mut r = Receiver::new(params());
    assert_eq!(
        r.receive(with_reth(packet(Op::WriteFirst, 0, MTU), VA, MTU + 1)),
        Outcome::Ok
    );
    r.host.take();
    r.host.begin = Ok(Begin::NotReady);
    assert_eq!(r.receive(packet(Op::WriteLastImm, 1, 1)), Outcome::Ok);
    assert_eq!(
        r.host.take(),
        [Asked::Begin(None)],
        "no data before there is a receive WQE"
    );
    assert_eq!(r.answers(), [(Op::Acknowledge, 1, Some(0x20 | 12))]);
    r.host.begin = Ok(Begin::Ready);
    assert_eq!(r.receive(packet(Op::WriteLastImm, 1, 1)), Outcome::Ok);
    assert_eq!(
        r.host.take(),
        [
            Asked::Begin(None),
            Asked::PlaceRemote(RKEY, VA + u64::from(MTU), 1),
            done(RecvKind::WriteImm(0xabcd), MTU + 1, false)
        ]
    );
}

#[test]
fn zero_length_writes_and_reads_do_not_look_at_the_rkey() {
    let mut r = Receiver::new(params());
    r.host.remote = Err(RemoteFault::Access);
    assert_eq!(
        r.receive(with_reth(packet(Op::WriteOnly, 0, 0), VA, 0)),
        Outcome::Ok
    );
    assert_eq!(
        r.receive(with_reth(packet(Op::WriteOnlyImm, 1, 0), VA, 0)),
        Outcome::Ok
    );
    assert_eq!(r.receive(read_request(2, VA, 0)), Outcome::Ok);
    assert_eq!(
        r.host.take(),
        [
            Asked::Begin(None),
            done(RecvKind::WriteImm(0xabcd), 0, false)
        ]
    );
    assert_eq!(r.answers(), [(Op::ReadResponseOnly, 2, Some(0x1f))]);
}

#[test]
fn send_with_invalidate_invalidates_before_it_completes() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(packet(Op::SendOnlyInv, 0, 4)), Outcome::Ok);
    assert_eq!(
        r.host.take(),
        [
            Asked::Begin(None),
            Asked::PlaceReceive(0, 4),
            Asked::Invalidate(0x5678),
            done(RecvKind::SendInv(0x5678), 4, false)
        ]
    );
}

#[test]
fn a_read_is_answered_lazily_packet_by_packet() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(read_request(0, VA, 2 * MTU + 5)), Outcome::Ok);
    assert_eq!(
        r.host.take(),
        [Asked::CheckRemote(RKEY, VA, 2 * MTU + 5, Access::Read)]
    );
    assert_eq!(r.responder.next_rcv_psn(), Psn::new(PSN).add(3));
    let responses = r.responses();
    let mtu = u64::from(MTU);
    let source = |va, len| Source::Remote {
        rkey: RKEY,
        va,
        len,
    };
    assert_eq!(
        responses
            .iter()
            .map(|tx| (op_of(&tx.packet), index_of(&tx.packet), tx.source))
            .collect::<Vec<_>>(),
        [
            (Op::ReadResponseFirst, 0, source(VA, MTU)),
            (Op::ReadResponseMiddle, 1, source(VA + mtu, MTU)),
            (Op::ReadResponseLast, 2, source(VA + 2 * mtu, 5)),
        ]
    );
    assert_eq!(
        responses
            .iter()
            .map(|tx| tx.packet.aeth.map(|a| a.msn))
            .collect::<Vec<_>>(),
        [Some(1), None, Some(1)]
    );
    assert_eq!(responses[2].packet.payload_len, 5);
}

#[test]
fn atomics_return_the_value_found() {
    let mut r = Receiver::new(params());
    r.host.atomic_value = 42;
    assert_eq!(r.receive(fetch_add(0, VA, 7)), Outcome::Ok);
    let atomic = Some(AtomicEth {
        va: VA + 8,
        rkey: RKEY,
        swap_add: 2,
        compare: 1,
    });
    assert_eq!(
        r.receive(Packet {
            atomic,
            ..packet(Op::CompareSwap, 1, 0)
        }),
        Outcome::Ok
    );
    assert_eq!(
        r.host.take(),
        [
            Asked::Atomic(RKEY, VA, AtomicOp::FetchAdd { add: 7 }),
            Asked::Atomic(
                RKEY,
                VA + 8,
                AtomicOp::CompareSwap {
                    compare: 1,
                    swap: 2
                }
            )
        ]
    );
    let responses = r.responses();
    assert_eq!(
        responses
            .iter()
            .map(|tx| (op_of(&tx.packet), tx.packet.atomic_ack))
            .collect::<Vec<_>>(),
        [(Op::AtomicAcknowledge, Some(42)); 2]
    );
    assert_eq!(responses[1].packet.aeth.map(|aeth| aeth.msn), Some(2));
}

#[test]
fn acks_are_coalesced_until_polled_and_never_overtake_read_responses() {
    let mut r = Receiver::new(params());
    for index in 0..3 {
        assert_eq!(
            r.receive(ack_req(packet(Op::SendOnly, index, 0))),
            Outcome::Ok
        );
    }
    assert_eq!(r.receive(read_request(3, VA, 2 * MTU)), Outcome::Ok);
    for index in 5..8 {
        assert_eq!(
            r.receive(ack_req(packet(Op::SendOnly, index, 0))),
            Outcome::Ok
        );
    }
    assert_eq!(r.receive(fetch_add(8, VA, 1)), Outcome::Ok);
    assert_eq!(
        r.answers(),
        [
            (Op::Acknowledge, 2, Some(0x1f)),
            (Op::ReadResponseFirst, 3, Some(0x1f)),
            (Op::ReadResponseLast, 4, Some(0x1f)),
            (Op::Acknowledge, 7, Some(0x1f)),
            (Op::AtomicAcknowledge, 8, Some(0x1f)),
        ]
    );
    assert_eq!(r.responder.msn(), 8);
}

#[test]
fn the_msn_counts_messages_not_packets() {
    let mut r = Receiver::new(params());
    assert_eq!(r.receive(packet(Op::SendFirst, 0, MTU)), Outcome::Ok);
    assert_eq!(r.responder.msn(), 0);
    assert_eq!(r.receive(packet(Op::SendLast, 1, 1)), Outcome::Ok);
    assert_eq!(
        r.receive(with_reth(packet(Op::WriteOnly, 2, 1), VA, 1)),
        Outcome::Ok
    );
    assert_eq!(r.receive(read_request(3, VA, 3 * MTU)), Outcome::Ok);
    assert_eq!(r.receive(ack_req(packet(Op::SendOnly, 6, 0))), Outcome::Ok);
    let last = r
        .responses()
        .last()
        .and_then(|tx| tx.packet.aeth)
        .expect("ACK");
    assert_eq!(last.msn, 4);
}

#[test]
fn an_xrc_target_takes_the_srq_the_packet_names_and_answers_in_xrc() {
    let mut r = Receiver::new(RcParams {
        service: Service::Xrc,
        ..params()
    });
    let xrc = |op, index| Packet {
        opcode: Opcode::Ib(Service::Xrc, op),
        xrc_srqn: Some(0x42),
        ..packet(op, index, 0)
    };
    assert_eq!(r.receive(ack_req(xrc(Op::SendOnly, 0))), Outcome::Ok);
    assert_eq!(r.host.take()[0], Asked::Begin(Some(0x42)));
    let answer = r.responses()[0].packet;
    assert_eq!(
        (answer.opcode, answer.xrc_srqn),
        (Opcode::Ib(Service::Xrc, Op::Acknowledge), None)
    );
    r.host.begin = Ok(Begin::Invalid);
    let outcome = r.receive(xrc(Op::SendOnly, 1));
    assert_eq!(
        outcome,
        Outcome::Fatal {
            event: QpEvent::InvalidRequest
        }
    );
    assert_eq!(r.answers(), [(Op::Acknowledge, 1, Some(0x61))]);
}
