//! Send queues: what becomes of WQEs.

use super::*;
use crate::mlx5::eth::checksum;
use crate::mlx5::eth::headers::tests::ipv4;
use crate::mlx5::eth::headers::{Headers, protocol};
use crate::mlx5::wqe::opcode;
use rocinante_firmware_cmd::mlx5::wq::QuerySqOut;

fn state(host: &mut Host, sq: &TestSq) -> u8 {
    let output = host.ok(&by_number(Opcode::QuerySq, sq.sqn));
    QuerySqOut::new(&output).sqc().state()
}

#[test]
fn a_frame_is_gathered_from_header_and_data_and_completed() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    let frame = pattern(1514);
    let mut segments = eth_seg(0, 0, &frame[..18]);
    segments.extend(host.data_seg(&frame[18..1000]));
    // Empty segments are skipped.
    segments.extend(data_seg(0, 0, 0));
    segments.extend(host.data_seg(&frame[1000..]));
    host.post(&mut sq, opcode::SEND, true, &segments);
    host.ring_doorbell(&sq);
    assert_eq!(host.frames(), [frame]);
    let cqe = host.poll(&mut sq.cq).expect("a completion");
    assert_eq!((cqe[63] >> 4, be16(&cqe, 0x3c)), (0, 0));
    assert_eq!(be32(&cqe, 0x38), u32::from(opcode::SEND) << 24 | sq.sqn);
    assert!(host.poll(&mut sq.cq).is_none());
    assert_eq!(host.nic.core.port.counters.transmitted.frames, 1);
}

#[test]
fn short_frames_are_padded_with_zeros() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    for len in [14, 59, 60, 61] {
        let frame = vec![0xee; len];
        let mut segments = eth_seg(0, 0, &[]);
        segments.extend(host.data_seg(&frame));
        host.post(&mut sq, opcode::SEND, false, &segments);
    }
    host.ring_doorbell(&sq);
    let frames = host.frames();
    let lengths: Vec<_> = frames.iter().map(Vec::len).collect();
    assert_eq!(lengths, [60, 60, 60, 61]);
    assert!(frames[0][..14].iter().all(|b| *b == 0xee) && frames[0][14..].iter().all(|b| *b == 0));
    assert_eq!(
        (frames[1][58], frames[1][59], frames[2][59]),
        (0xee, 0, 0xee)
    );
    assert!(host.poll(&mut sq.cq).is_none(), "nothing was signaled");
}

#[test]
fn freebsd_fills_the_ring_with_long_nops_and_counts_signaled_wqes() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    let frame = pattern(60);
    let mut expected = Vec::new();
    for round in 0..40u16 {
        let signaled = round % 4 == 3;
        let mut segments = eth_seg(0, 0, &[]);
        segments.extend(host.data_seg(&frame));
        let index = host.post(&mut sq, opcode::SEND, signaled, &segments);
        if signaled {
            expected.push(index);
        }
        // 15 WQEBBs: ds is 60. It wraps at the end of the ring now and then.
        if round % 3 == 0 {
            host.post(&mut sq, opcode::NOP, false, &[0; 15 * 64 - 16]);
        }
        host.ring_doorbell(&sq);
    }
    assert_eq!(host.frames().len(), 40);
    let mut indices = Vec::new();
    while let Some(cqe) = host.poll(&mut sq.cq) {
        assert_eq!(cqe[63] >> 4, 0);
        indices.push(be16(&cqe, 0x3c));
    }
    assert_eq!(indices, expected);
}

#[test]
fn a_queue_without_tis_does_nops_only() {
    let mut host = Host::new(1);
    let cq = host.cq();
    let (ring, record) = (host.alloc(0x1000), host.alloc(64));
    let mut create = host.create_sq(cq.cqn, 0, ring, record);
    CreateSqIn::new(&mut create).sqc_mut().set_tis_lst_sz(0);
    let sqn = CreateSqOut::new(&host.ok(&create)).sqn();
    host.ok(&modify_sq(sqn, 0, 1));
    let mut sq = TestSq {
        sqn,
        ring,
        record,
        producer: 0,
        cq,
    };
    host.post(&mut sq, opcode::NOP, true, &[]);
    host.ring_doorbell(&sq);
    let cqe = host.poll(&mut sq.cq).expect("the NOP's completion");
    assert_eq!((cqe[63] >> 4, cqe[0x38]), (0, opcode::NOP));
    let mut segments = eth_seg(0, 0, &[]);
    segments.extend(host.data_seg(&pattern(60)));
    host.post(&mut sq, opcode::SEND, false, &segments);
    host.ring_doorbell(&sq);
    let cqe = host.poll(&mut sq.cq).expect("an error");
    assert_eq!((cqe[63] >> 4, cqe[0x37]), (0xd, 2));
}

#[test]
fn after_a_bad_wqe_only_signaled_ones_are_flushed_and_a_reset_mends_it() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    let mut bad = eth_seg(0, 0, &[]);
    bad.extend(data_seg(60, host.lkey ^ 1, MEMORY));
    let mut good = eth_seg(0, 0, &[]);
    good.extend(host.data_seg(&pattern(60)));
    let first = host.post(&mut sq, opcode::SEND, false, &bad);
    host.post(&mut sq, opcode::SEND, false, &good);
    let second = host.post(&mut sq, opcode::SEND, true, &good);
    host.ring_doorbell(&sq);
    let mut seen = Vec::new();
    while let Some(cqe) = host.poll(&mut sq.cq) {
        seen.push((cqe[63] >> 4, cqe[0x37], be16(&cqe, 0x3c)));
    }
    assert_eq!(seen, [(0xd, 4, first), (0xd, 5, second)]);
    assert!(host.frames().is_empty());
    assert_eq!(state(&mut host, &sq), 3);
    assert!(
        host.command(&modify_sq(sq.sqn, 1, 0)).is_err(),
        "it is not in RDY"
    );
    assert!(
        host.command(&modify_sq(sq.sqn, 3, 1)).is_err(),
        "there is no way back to RDY"
    );
    host.ok(&modify_sq(sq.sqn, 3, 0));
    host.ok(&modify_sq(sq.sqn, 0, 1));
    sq.producer = 0;
    host.post(&mut sq, opcode::SEND, true, &good);
    host.ring_doorbell(&sq);
    assert_eq!(host.frames().len(), 1);
    assert_eq!(host.poll(&mut sq.cq).map(|cqe| cqe[63] >> 4), Some(0));
}

#[test]
fn memory_beyond_the_guest_and_frames_beyond_the_port_fail() {
    let mut host = Host::new(1);
    let lkey = host.lkey;
    for (len, at, syndrome) in [
        (60, MEMORY + MEMORY_SIZE - 30, 4),
        (13, MEMORY, 1),
        (10215, MEMORY, 1),
        (u32::MAX >> 1, MEMORY, 1),
    ] {
        let mut sq = host.sq();
        let mut segments = eth_seg(0, 0, &[]);
        segments.extend(data_seg(len, lkey, at));
        host.post(&mut sq, opcode::SEND, false, &segments);
        host.ring_doorbell(&sq);
        let cqe = host.poll(&mut sq.cq).expect("an error");
        assert_eq!(
            (cqe[63] >> 4, cqe[0x37]),
            (0xd, syndrome),
            "{len} bytes at {at:#x}"
        );
    }
    assert!(host.frames().is_empty());
}

#[test]
fn while_the_link_is_down_frames_vanish_with_a_completion() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    port::set_physical(&mut host.nic.core, false);
    let mut segments = eth_seg(0, 0, &[]);
    segments.extend(host.data_seg(&pattern(60)));
    host.post(&mut sq, opcode::SEND, true, &segments);
    host.ring_doorbell(&sq);
    assert!(host.frames().is_empty());
    assert_eq!(host.poll(&mut sq.cq).map(|cqe| cqe[63] >> 4), Some(0));
    assert_eq!(host.nic.core.eth.discards.transmit_discard_vport_down, 1);
}

#[test]
fn leaving_ready_flushes_what_is_posted() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    host.post(&mut sq, opcode::NOP, true, &[]);
    host.post(&mut sq, opcode::NOP, false, &[]);
    host.post(&mut sq, opcode::NOP, true, &[]);
    // The record says so, but no doorbell rang.
    host.write(sq.record + 4, &u32::from(sq.producer).to_be_bytes());
    host.ok(&modify_sq(sq.sqn, 1, 3));
    let mut seen = Vec::new();
    while let Some(cqe) = host.poll(&mut sq.cq) {
        seen.push((cqe[0x37], be16(&cqe, 0x3c)));
    }
    assert_eq!(seen, [(5, 0), (5, 2)]);
    // FreeBSD posts on and waits for the completions.
    host.post(&mut sq, opcode::NOP, true, &[]);
    host.ring_doorbell(&sq);
    assert_eq!(
        host.poll(&mut sq.cq)
            .map(|cqe| (cqe[0x37], be16(&cqe, 0x3c))),
        Some((5, 3))
    );
}

#[test]
fn a_producer_that_makes_no_sense_stops_the_queue() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    sq.producer = 65;
    host.ring_doorbell(&sq);
    assert_eq!(
        host.poll(&mut sq.cq).map(|cqe| (cqe[63] >> 4, cqe[0x37])),
        Some((0xd, 2))
    );
    assert!(host.poll(&mut sq.cq).is_none());
    assert_eq!(state(&mut host, &sq), 3);
    host.ring_doorbell(&sq);
    assert!(host.poll(&mut sq.cq).is_none());
}

#[test]
fn a_busy_queue_stops_for_others_and_goes_on() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    let mut header = ipv4(None, 6, (1, 2), &[]);
    header[13] = 0;
    let data = pattern(60_000);
    let data = host.data_seg(&data);
    for _ in 0..20 {
        let mut segments = eth_seg(0xc0, 1000, &header);
        segments.extend(&data);
        host.post(&mut sq, opcode::LSO, false, &segments);
    }
    host.ring_doorbell(&sq);
    let waiting = host.nic.core.out.wire.len();
    assert!((512..640).contains(&waiting), "{waiting} frames");
    assert_eq!(host.nic.core.eth.waiting, [sq.sqn]);
    // Another doorbell does not bring it forward.
    host.ring_doorbell(&sq);
    assert_eq!(host.nic.core.out.wire.len(), waiting);
    assert_eq!(host.frames().len(), 20 * 60);
    assert!(host.nic.core.eth.waiting.is_empty());
}

#[test]
fn a_wqe_of_many_packets_sends_each_and_completes_once() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    let mut frames: Vec<Vec<u8>> = [60, 1514, 200]
        .into_iter()
        .map(|len| ipv4(None, protocol::UDP, (5, 6), &pattern(len - 42)))
        .collect();
    // As `mlx5e_tx_mpwqe_session_start` leaves it: nothing but checksum flags.
    let mut segments = vec![0; 16];
    segments[4] = 0xc0;
    segments.extend(host.data_seg(&frames[0]));
    segments.extend(host.data_seg(&frames[1]));
    // `mlx5e_xdp_mpwqe_add_dseg` puts small ones inline.
    segments.extend((1u32 << 31 | 200).to_be_bytes());
    segments.extend(&frames[2]);
    segments.resize(segments.len().next_multiple_of(16), 0);
    let index = host.post(&mut sq, opcode::ENHANCED_MPSW, true, &segments);
    host.ring_doorbell(&sq);
    for frame in &mut frames {
        let headers = Headers::parse(frame, frame.len()).unwrap();
        checksum::fill_ipv4(frame, &headers);
        checksum::fill_l4(frame, &headers);
    }
    assert_eq!(host.frames(), frames);
    let cqe = host.poll(&mut sq.cq).expect("a completion");
    assert_eq!(
        (cqe[63] >> 4, cqe[0x38], be16(&cqe, 0x3c)),
        (0, 0x29, index)
    );
    assert!(host.poll(&mut sq.cq).is_none());
    // What comes before a packet that cannot be read is sent.
    let mut segments = vec![0; 16];
    segments.extend(host.data_seg(&frames[0]));
    segments.extend(data_seg(60, host.lkey ^ 1, MEMORY));
    host.post(&mut sq, opcode::ENHANCED_MPSW, false, &segments);
    host.ring_doorbell(&sq);
    assert_eq!(host.frames(), frames[..1]);
    let cqe = host.poll(&mut sq.cq).expect("an error");
    assert_eq!((cqe[63] >> 4, cqe[0x37]), (0xd, 4));
    // A packet that is cut off.
    let mut sq = host.sq();
    let mut segments = vec![0; 16];
    segments.extend((1u32 << 31 | 100).to_be_bytes());
    segments.extend([0; 12]);
    host.post(&mut sq, opcode::ENHANCED_MPSW, false, &segments);
    host.ring_doorbell(&sq);
    let cqe = host.poll(&mut sq.cq).expect("an error");
    assert_eq!((cqe[63] >> 4, cqe[0x37]), (0xd, 2));
}

#[test]
fn data_come_from_many_segments_and_from_the_wqe_itself() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    let frame = pattern(1400);
    // Headers inline, then 29 segments of uneven lengths, in as many places.
    let mut segments = eth_seg(0, 0, &frame[..18]);
    let mut at = 18;
    for n in 0..29 {
        let len = 1 + n * 3;
        segments.extend(host.data_seg(&frame[at..at + len]));
        at += len;
    }
    host.post(&mut sq, opcode::SEND, true, &segments);
    host.ring_doorbell(&sq);
    assert_eq!(host.frames(), [frame[..at].to_vec()]);
    assert_eq!(host.poll(&mut sq.cq).map(|cqe| cqe[63] >> 4), Some(0));
    // All of it inline: header and data.
    let mut segments = eth_seg(0, 0, &frame[..18]);
    segments.extend((1u32 << 31 | 300).to_be_bytes());
    segments.extend(&frame[18..318]);
    segments.resize(segments.len().next_multiple_of(16), 0);
    host.post(&mut sq, opcode::SEND, true, &segments);
    host.ring_doorbell(&sq);
    assert_eq!(host.frames(), [frame[..318].to_vec()]);
    assert_eq!(host.poll(&mut sq.cq).map(|cqe| cqe[63] >> 4), Some(0));
}
