//! Recorded Ethernet WQEs move frames: from one replayed FreeBSD to another.

use std::time::Duration;

use rocinante_tests::pattern;
use rocinante_tests::replay::Completion;
use rocinante_tests::replay::pair::Pair;
use rocinante_tests::vectors::{Kind, Record};

use super::{MAC, PEER, detach, peer_session, send, session, up, vectors};

/// Receive queues and their CQs, as recorded.
const RECEIVE: [(u32, u32); 2] = [(0x43, 0x85), (0x45, 0x87)];
/// Send queues and theirs.
const SEND: [(u32, u32); 2] = [(0x42, 0x84), (0x44, 0x86)];

/// Send WQE opcodes.
const PLAIN: u8 = 0x0a;
const LSO: u8 = 0x0e;

/// L2, L3 and L4 were found right.
const CHECKED: u8 = 7;

/// IP and TCP header in a recorded WQE: Ethernet 14, IPv4 20, TCP 32.
const HEADERS: usize = 66;

/// Data segments of a send WQE as (length, address), and the inline headers.
fn segments(wqe: &[u8]) -> (Vec<u8>, Vec<(usize, u64)>) {
    let inline = usize::from(u16::from_be_bytes([wqe[28], wqe[29]]));
    let headers = wqe[30..30 + inline].to_vec();
    let first = 32 + inline.saturating_sub(2).next_multiple_of(16);
    let list = wqe[first..].chunks_exact(16).map(|segment| {
        let len = u32::from_be_bytes([segment[0], segment[1], segment[2], segment[3]]);
        let mut address = [0; 8];
        address.copy_from_slice(&segment[8..]);
        (len as usize, u64::from_be_bytes(address))
    });
    (headers, list.collect())
}

/// One's complement sum of 16-bit words.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum over the pseudo header of a TCP segment.
fn pseudo(frame: &[u8]) -> u32 {
    let tcp = (frame.len() - 34) as u32;
    u32::from(sum(&frame[26..34], 6 + tcp))
}

/// The first frame of a connection, with the addresses and ports of `headers`, which are those of a later one.
fn syn(headers: &[u8], len: usize) -> Vec<u8> {
    let mut frame = headers[..54].to_vec();
    frame.resize(len, 1);
    frame[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
    // Data offset 10 words, SYN; the driver leaves the pseudo header's sum where the checksum goes.
    frame[46..48].copy_from_slice(&[0xa0, 0x02]);
    frame[50..54].fill(0);
    let partial = pseudo(&frame) as u16;
    frame[50..52].copy_from_slice(&partial.to_be_bytes());
    frame
}

fn arp(len: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(MAC);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(MAC);
    frame.extend([10, 1, 0, 1, 0, 0, 0, 0, 0, 0, 10, 1, 0, 1]);
    assert_eq!(frame.len(), len);
    frame
}

/// As it arrives: no shorter than Ethernet allows.
fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(60), 0);
    frame
}

fn is_sq(record: &&Record) -> bool {
    matches!(record.kind, Kind::Sq(_))
}

#[test]
fn recorded_wqes_send_and_receive_frames() {
    let mut pair = Pair::new([up(session()), up(peer_session())]);
    let records = vectors("ethernet.txt");
    let mut buffers = Vec::new();
    for record in &records {
        if let Kind::Rq(rqn) = record.kind {
            pair.ends[1].post(record).expect("posted");
            let mut address = [0; 8];
            address.copy_from_slice(&record.input[24..32]);
            buffers.push((rqn, u64::from_be_bytes(address)));
        }
    }
    pair.run(Duration::from_micros(50));
    pair.frames.clear();

    // What a connection looks like is in the headers of its first large send.
    let large = records.iter().filter(is_sq).find(|r| r.input[3] == LSO);
    let (headers, _) = segments(&large.expect("a large send").input);
    assert_eq!(headers.len(), HEADERS);
    assert_eq!((&headers[..6], &headers[6..12]), (&PEER[..], &MAC[..]));

    // Frames that the other end will take, in order, as they should be but for checksums.
    let mut expected: Vec<Vec<u8>> = Vec::new();
    let mut posted = [0; 2];
    for record in records.iter().filter(is_sq) {
        let (inline, list) = segments(&record.input);
        let len: usize = list.iter().map(|(len, _)| len).sum();
        let payload = match (record.input[3], len) {
            (PLAIN, 42) if expected.is_empty() => arp(len),
            (PLAIN, 74) => syn(&headers, len),
            // To nobody.
            (PLAIN, _) => vec![0; len],
            _ => pattern(record.line as u64, len),
        };
        let mss = usize::from(u16::from_be_bytes([record.input[22], record.input[23]]));
        let frames: Vec<Vec<u8>> = match record.input[3] {
            PLAIN if payload[0] == 0 => Vec::new(),
            PLAIN => vec![payload.clone()],
            _ => {
                let parts = payload.chunks(mss);
                parts.map(|part| [&inline[..], part].concat()).collect()
            }
        };
        if expected.len() + frames.len() > 32 {
            break;
        }
        let mut at = 0;
        for (len, address) in list {
            pair.ends[0].write(address, &payload[at..at + len]);
            at += len;
        }
        pair.ends[0].post(record).expect("posted");
        posted[usize::from(record.kind == Kind::Sq(SEND[1].0))] += 1;
        expected.extend(frames.into_iter().map(padded));
        // The queues are not ordered among each other.
        pair.run(Duration::from_micros(20));
    }
    assert!(expected.len() > 20, "{} frames", expected.len());

    pair.run(Duration::from_millis(1));
    for ((_, cqn), posted) in SEND.into_iter().zip(posted) {
        let done = completions(&mut pair, 0, cqn);
        assert_eq!(done.len(), posted, "completions on {cqn:#x}");
        assert!(done.iter().all(|cqe| cqe.opcode() == 0), "{done:x?}");
    }

    let mut received = Vec::new();
    for (rqn, cqn) in RECEIVE {
        let mut own = buffers.iter().filter(|(of, _)| *of == rqn);
        for cqe in completions(&mut pair, 1, cqn) {
            let (_, address) = own.next().expect("a buffer");
            assert_eq!(cqe.opcode(), 2, "{cqe:x?}");
            let len = cqe.byte_count() as usize;
            received.push((cqe, pair.ends[1].read(*address, len)));
        }
    }
    assert_eq!(received.len(), expected.len());
    let mut sequence = 0;
    for ((cqe, frame), expected) in received.iter().zip(&expected) {
        assert_eq!(frame.len(), expected.len());
        assert_eq!(frame[..14], expected[..14]);
        if frame[12..14] == [8, 6] {
            assert_eq!(frame, expected);
            continue;
        }
        assert_eq!(cqe.checks() & CHECKED, CHECKED, "{cqe:x?}");
        assert_eq!(
            usize::from(u16::from_be_bytes([frame[16], frame[17]])),
            frame.len() - 14
        );
        assert_eq!(sum(&frame[14..34], 0), 0xffff, "IP header checksum");
        assert_eq!(sum(&frame[34..], pseudo(frame)), 0xffff, "TCP checksum");
        assert_eq!(
            frame[HEADERS.min(frame.len())..],
            expected[HEADERS.min(expected.len())..]
        );
        let seq = u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]);
        if frame.len() > 74 {
            // Segments of one connection follow each other.
            assert!(sequence == 0 || sequence == seq, "{sequence:#x} {seq:#x}");
            sequence = seq.wrapping_add((frame.len() - HEADERS) as u32);
        }
    }
    println!("{} frames", expected.len());

    for end in &mut pair.ends {
        send(end, "mtu.txt");
        send(end, "close.txt");
        detach(end);
    }
}

fn completions(pair: &mut Pair, end: usize, cqn: u32) -> Vec<Completion> {
    let session = &mut pair.ends[end];
    session.poll_events().expect("event queues");
    std::iter::from_fn(|| session.poll(cqn).expect("a CQ")).collect()
}
