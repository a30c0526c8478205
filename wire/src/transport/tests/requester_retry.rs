//! Timeouts, NAKs and RNR NAKs as the requester sees them.

use super::super::*;
use super::host::*;
use crate::opcode::Op;
use crate::time::Time;
use std::time::Duration;

#[test]
fn retries_run_out_after_retry_count_plus_one_timeouts() {
    for retry_count in [0u8, 1, 3, 7] {
        let mut s = Sender::new(RcParams {
            retry_count,
            ack_timeout: 10,
            ..params()
        });
        s.post(SendOp::Send, 1, 1);
        let mut timeouts = 0;
        while s.requester.is_running() {
            assert_eq!(s.sent().len(), 1);
            assert_eq!(s.time_out(), Duration::from_nanos(4096 << 10));
            timeouts += 1;
        }
        assert_eq!(timeouts, u32::from(retry_count) + 1);
        assert_eq!(
            s.now.since(Time::ZERO),
            Duration::from_nanos(4096 << 10) * timeouts
        );
        assert_eq!(s.host.take(), [Asked::Failed(1, WcError::RetryExceeded)]);
        assert_eq!(
            s.host.counted.last(),
            Some(&Counter::ReqTransportRetriesExceeded)
        );
        assert_eq!(s.host.counted[0], Counter::LocalAckTimeoutErr);
        assert_eq!(s.requester.next_timeout(), None);
    }
}

#[test]
fn a_timeout_of_zero_never_expires() {
    let mut s = Sender::new(RcParams {
        ack_timeout: 0,
        ..params()
    });
    s.post(SendOp::Send, 1, 1);
    assert_eq!(s.sent().len(), 1);
    assert_eq!(s.requester.next_timeout(), None);
}

#[test]
fn progress_restarts_the_timer_and_refills_the_retries() {
    let timeout = Duration::from_nanos(4096 << 14);
    let mut s = Sender::new(RcParams {
        retry_count: 1,
        ..params()
    });
    s.post(SendOp::Send, 2 * MTU, 1);
    assert_eq!(s.sent().len(), 2);
    s.time_out();
    assert_eq!(s.sent().len(), 2);
    s.now += timeout / 2;
    s.receive(ack(0));
    assert_eq!(s.requester.next_timeout(), Some(s.now + timeout));
    s.time_out();
    assert!(
        s.requester.is_running(),
        "the retry spent before the progress is back"
    );
    assert_eq!(
        s.sent(),
        [(Op::SendLast, 1, MTU..2 * MTU)],
        "resumed in the middle of the message"
    );
    s.time_out();
    assert_eq!(s.host.take(), [Asked::Failed(1, WcError::RetryExceeded)]);
}

#[test]
fn a_timeout_repeats_everything_from_the_oldest_unanswered_packet() {
    let mut s = Sender::new(params());
    s.post(SendOp::Send, 1, 1);
    s.post(SendOp::Write { va: VA, rkey: RKEY }, 3 * MTU, 2);
    s.post(SendOp::Send, 1, 3);
    let first = s.sent();
    s.time_out();
    assert_eq!(s.sent(), first);
    s.receive(ack(1));
    s.time_out();
    // Middle and Last need no RETH: the responder remembers where it was.
    assert_eq!(
        s.sent(),
        [
            (Op::WriteMiddle, 2, MTU..2 * MTU),
            (Op::WriteLast, 3, 2 * MTU..3 * MTU),
            (Op::SendOnly, 4, 0..1)
        ]
    );
}

#[test]
fn a_sequence_nak_goes_back_to_its_psn_and_acknowledges_what_is_before() {
    let mut s = Sender::new(params());
    for cookie in 0..4 {
        s.post(SendOp::Send, 1, cookie);
    }
    assert_eq!(s.sent().len(), 4);
    s.receive(nak(2, 0x60));
    assert_eq!(s.host.take(), [Asked::Completed(0), Asked::Completed(1)]);
    assert_eq!(s.host.take_counts(), [Counter::PacketSeqErr]);
    assert_eq!(s.sent(), [(Op::SendOnly, 2, 0..1), (Op::SendOnly, 3, 0..1)]);
    s.receive(nak(2, 0x60));
    assert!(s.sent().is_empty(), "the same NAK again is a ghost");
}

#[test]
fn a_sequence_nak_without_progress_costs_a_retry() {
    let mut s = Sender::new(RcParams {
        retry_count: 0,
        ..params()
    });
    s.post(SendOp::Send, 1, 1);
    s.post(SendOp::Send, 1, 2);
    assert_eq!(s.sent().len(), 2);
    s.receive(nak(0, 0x60));
    assert_eq!(s.host.take(), [Asked::Failed(1, WcError::RetryExceeded)]);
}

#[test]
fn an_ack_may_overtake_the_retransmission() {
    let mut s = Sender::new(params());
    for cookie in 0..4 {
        s.post(SendOp::Send, 2 * MTU, cookie);
    }
    assert_eq!(s.sent().len(), 8);
    s.time_out();
    s.receive(ack(4));
    assert_eq!(s.sent().first(), Some(&(Op::SendLast, 5, MTU..2 * MTU)));
    s.receive(ack(7));
    assert!(s.requester.is_idle());
    s.post(SendOp::Send, 1, 9);
    assert_eq!(s.sent(), [(Op::SendOnly, 8, 0..1)]);
}

#[test]
fn fatal_naks_fail_the_request_they_name() {
    for (syndrome, err, counter) in [
        (
            0x61,
            WcError::RemoteInvalidRequest,
            Counter::ReqRemoteInvalidRequest,
        ),
        (0x62, WcError::RemoteAccess, Counter::ReqRemoteAccessErrors),
        (
            0x63,
            WcError::RemoteOperation,
            Counter::ReqRemoteOperationErrors,
        ),
        (
            0x64,
            WcError::RemoteOperation,
            Counter::ReqRemoteOperationErrors,
        ),
        (
            0x7f,
            WcError::RemoteOperation,
            Counter::ReqRemoteOperationErrors,
        ),
    ] {
        let mut s = Sender::new(params());
        for cookie in 0..4 {
            s.post(SendOp::Send, 2 * MTU, cookie);
        }
        assert_eq!(s.sent().len(), 8);
        s.receive(nak(3, syndrome));
        assert_eq!(s.host.take(), [Asked::Completed(0), Asked::Failed(1, err)]);
        assert_eq!(s.host.take_counts(), [counter]);
        assert!(s.sent().is_empty() && !s.requester.can_post());
        let mut flushed = Vec::new();
        s.requester.flush(|cookie| flushed.push(cookie));
        assert_eq!(flushed, [2, 3]);
        s.receive(ack(7));
        assert!(s.host.take().is_empty());
    }
}

#[test]
fn an_rnr_nak_waits_as_told_and_resumes_at_its_psn() {
    let mut s = Sender::new(RcParams {
        rnr_retry: 1,
        ..params()
    });
    for cookie in 0..3 {
        s.post(SendOp::Send, 1, cookie);
    }
    assert_eq!(s.sent().len(), 3);
    s.receive(nak(1, 0x20 | 12));
    assert_eq!(s.host.take(), [Asked::Completed(0)]);
    assert_eq!(s.host.take_counts(), [Counter::RnrNakRetryErr]);
    // Packets that were behind it may draw a sequence NAK from a hasty peer.
    s.receive(nak(1, 0x60));
    assert!(s.sent().is_empty() && s.host.take_counts().is_empty());
    assert_eq!(s.time_out(), Duration::from_micros(640));
    assert_eq!(s.sent(), [(Op::SendOnly, 1, 0..1), (Op::SendOnly, 2, 0..1)]);
    s.receive(nak(1, 0x20 | 12));
    assert_eq!(s.host.take(), [Asked::Failed(1, WcError::RnrRetryExceeded)]);
    assert_eq!(s.host.counted.last(), Some(&Counter::ReqRnrRetriesExceeded));
}

#[test]
fn seven_rnr_retries_are_endless() {
    let mut s = Sender::new(RcParams {
        rnr_retry: 7,
        retry_count: 0,
        ..params()
    });
    s.post(SendOp::Send, 1, 1);
    for _ in 0..1000 {
        assert_eq!(s.sent().len(), 1);
        s.receive(nak(0, 0x21));
        assert_eq!(s.time_out(), Duration::from_micros(10));
    }
    assert_eq!(s.sent().len(), 1);
    s.receive(ack(0));
    assert_eq!(s.host.take(), [Asked::Completed(1)]);
}

#[test]
fn a_poll_after_the_rnr_time_resumes_without_a_timeout_call() {
    let mut s = Sender::new(params());
    s.post(SendOp::Send, 1, 1);
    assert_eq!(s.sent().len(), 1);
    s.receive(nak(0, 0x21));
    s.now += Duration::from_micros(9);
    assert!(s.sent().is_empty());
    s.now += Duration::from_micros(1);
    assert_eq!(s.sent().len(), 1);
    assert_eq!(
        s.requester.next_timeout(),
        Some(s.now + Duration::from_nanos(4096 << 14))
    );
}
