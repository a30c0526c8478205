use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::icrc::Encap;
use crate::opcode::{Op, Opcode, Service};
use crate::packet::Packet;
use crate::psn::Psn;
use crate::roce::HeaderTemplate;
use crate::vectors::{self, unhex};

/// Memory that can be taken away.
#[derive(Clone, Debug)]
struct Guest {
    bytes: Arc<Vec<u8>>,
    gone: Arc<AtomicBool>,
}

impl Guest {
    fn new(bytes: &[u8]) -> Guest {
        Guest {
            bytes: Arc::new(bytes.to_vec()),
            gone: Arc::default(),
        }
    }
}

impl Payload for Guest {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        !self.gone.load(Ordering::Relaxed) && copy_slice(&self.bytes, offset, out)
    }
}

/// The headers of a vector as its own sender would make them, with the vector's IPv4
/// identification, and its payload.
fn taken_apart(vector: &vectors::Vector) -> (HeadBuf, Layout, Vec<u8>) {
    let bytes = unhex(vector.frame);
    let parsed = roce::parse_frame(&bytes, bytes.len()).unwrap();
    let mut head = HeadBuf::new();
    let layout = HeaderTemplate::new(&parsed.address).write(&parsed.packet, &mut head);
    if vector.encap == Encap::V2Ipv4 {
        for at in [4, 5, 10, 11].map(|at| at + vector.l3_offset) {
            head.as_mut_slice()[at] = bytes[at];
        }
    }
    (head, layout, bytes[parsed.payload].to_vec())
}

#[test]
fn known_good_frames_become_the_vectors_bytes_wherever_their_payload_lies() {
    let pool = BufPool::for_frames(4);
    for vector in vectors::ALL {
        let (head, layout, payload) = taken_apart(vector);
        let mut with_payload = head.clone();
        assert!(with_payload.extend(&payload));
        let mut with_half = head.clone();
        let (first, second) = payload.split_at(payload.len() / 2);
        assert!(with_half.extend(first));
        let frames = [
            Frame::roce(head.clone(), layout, Body::Ref(Guest::new(&payload))),
            Frame::roce(head, layout, Body::Bytes(pool.copy_of(&payload))),
            Frame::roce(with_payload, layout, Body::Empty),
            Frame::roce(with_half, layout, Body::Ref(Guest::new(second))),
        ];
        let expected = unhex(vector.frame);
        for frame in frames {
            let mut bytes = vec![1, 2, 3];
            frame.to_bytes(&mut bytes).unwrap();
            assert_eq!(bytes, expected, "{}", vector.name);
            assert_eq!(frame.len_on_wire(), expected.len());
            assert!(frame.is_known_good() && frame.icrc_is_good(&layout));
            assert_eq!(frame.parse_roce().unwrap().layout, layout);
            let raw: Frame<NoPayload> = frame.materialize(&pool).unwrap();
            assert!(
                !raw.is_known_good() && raw.icrc_is_good(&layout),
                "{}",
                vector.name
            );
            assert_eq!(raw.parse_roce(), frame.parse_roce());
        }
    }
}

#[test]
fn a_damaged_frame_has_a_bad_icrc() {
    let pool = BufPool::for_frames(1);
    let good = unhex(vectors::V4_SEND.frame);
    for at in [42, 45, 53, 54, 60, 66, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        let frame: Frame<NoPayload> = Frame::from_slice(&bytes, &pool);
        let layout = roce::classify(frame.head(), frame.len_on_wire()).unwrap();
        assert!(!frame.icrc_is_good(&layout), "byte {at} changed");
    }
}

#[test]
fn memory_that_is_gone_is_noticed() {
    let (head, layout, payload) = taken_apart(&vectors::V4_SEND);
    let guest = Guest::new(&payload);
    let frame = Frame::roce(head, layout, Body::Ref(guest.clone()));
    guest.gone.store(true, Ordering::Relaxed);
    assert_eq!(frame.to_bytes(&mut Vec::new()), Err(FrameError::Unreadable));
    assert!(!frame.copy_to(frame.head().len(), &mut [0; 4]));
    assert!(matches!(
        Frame::raw(HeadBuf::new(), Body::Ref(guest)),
        Err(FrameError::Unreadable)
    ));
}

#[test]
fn room_that_is_too_small_is_refused() {
    let pool = BufPool::for_frames(1);
    let frame: Frame<NoPayload> = Frame::from_slice(&[7; 300], &pool);
    assert_eq!(frame.write_to(&mut [0; 299]), Err(FrameError::Length));
    assert_eq!(frame.write_to(&mut [0; 301]), Ok(300));
}

#[test]
fn a_frame_is_small_enough_to_be_moved() {
    assert!(
        size_of::<Frame<Guest>>() <= 224,
        "{} bytes",
        size_of::<Frame<Guest>>()
    );
}

/// A raw frame of `bytes`, made in each of the ways there are.
fn raw_frames(bytes: &[u8], head_len: usize, pool: &BufPool) -> Vec<Frame<Guest>> {
    let head_len = head_len.min(bytes.len());
    let head = || {
        let mut head = HeadBuf::new();
        assert!(head.extend(&bytes[..head_len]));
        head
    };
    let rest = &bytes[head_len..];
    vec![
        Frame::raw(head(), Body::Ref(Guest::new(rest))).unwrap(),
        Frame::raw(head(), Body::Bytes(pool.copy_of(rest))).unwrap(),
        Frame::from_buf(pool.copy_of(bytes)),
        Frame::from_slice(bytes, pool),
    ]
}

proptest! {
    #[test]
    fn raw_frames_hold_their_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        head_len in 0..HEAD_CAPACITY,
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
    ) {
        let pool = BufPool::for_frames(8);
        let (a, b) = (a.index(bytes.len() + 1), b.index(bytes.len() + 1));
        let range = a.min(b)..a.max(b);
        for frame in raw_frames(&bytes, head_len, &pool) {
            prop_assert!(frame.head().len() >= bytes.len().min(HEAD_MIN));
            for frame in [frame.duplicate(), frame] {
                prop_assert_eq!(frame.len_on_wire(), bytes.len());
                let mut out = Vec::new();
                frame.to_bytes(&mut out).unwrap();
                prop_assert_eq!(&out, &bytes);
                let mut part = vec![0; range.len()];
                prop_assert!(frame.copy_to(range.start, &mut part));
                prop_assert_eq!(&part[..], &bytes[range.clone()]);
                let mut in_pieces = Vec::new();
                for piece in frame.pieces(range.clone()).into_iter().flatten() {
                    prop_assert!(!piece.is_empty());
                    match piece {
                        Piece::Slice(slice) => in_pieces.extend_from_slice(slice),
                        Piece::Ref { payload, offset, len } => {
                            in_pieces.extend_from_slice(&payload.bytes[offset..offset + len]);
                        }
                    }
                }
                prop_assert_eq!(&in_pieces[..], &bytes[range.clone()]);
                prop_assert!(!frame.copy_to(range.start, &mut vec![0; bytes.len() - range.start + 1]));
            }
        }
    }

    #[test]
    fn odd_ranges_do_not_panic(len in 0..400usize, start in any::<usize>(), end in any::<usize>()) {
        let pool = BufPool::for_frames(1);
        let frame: Frame<NoPayload> = Frame::from_slice(&vec![0; len], &pool);
        let held: usize = frame.pieces(start..end).into_iter().flatten().map(|p| p.len()).sum();
        prop_assert!(held <= len);
        prop_assert!(!frame.copy_to(start.max(len), &mut [0]));
    }

    #[test]
    fn a_known_good_frame_as_bytes_passes_the_check_in_any_encapsulation(
        which in 0..vectors::ALL.len(),
        payload in prop::collection::vec(any::<u8>(), 0..4200),
        in_head in 0..64usize,
        psn in any::<u32>(),
    ) {
        let pool = BufPool::for_frames(4);
        let vector = unhex(vectors::ALL[which].frame);
        let address = roce::parse_frame(&vector, vector.len()).unwrap().address;
        let packet = Packet {
            solicited: true,
            pkey: 0xffff,
            dest_qp: 5,
            psn: Psn::new(psn),
            payload_len: payload.len() as u32,
            ..Packet::new(Opcode::Ib(Service::Rc, Op::SendOnly))
        };
        let mut head = HeadBuf::new();
        let layout = HeaderTemplate::new(&address).write(&packet, &mut head);
        let (first, second) = payload.split_at(in_head.min(payload.len()).min(head.room()));
        prop_assert!(head.extend(first));
        let frame = Frame::roce(head, layout, Body::Ref(Guest::new(second)));
        let mut raw: Frame<Guest> = frame.materialize(&pool).unwrap();
        let parsed = raw.parse_roce().unwrap();
        prop_assert!(raw.icrc_is_good(&parsed.layout));
        prop_assert_eq!(&parsed, &frame.parse_roce().unwrap());
        for frame in [&frame, &raw] {
            let mut received = vec![0; parsed.payload.len()];
            prop_assert!(frame.copy_to(parsed.payload.start, &mut received));
            prop_assert_eq!(&received, &payload);
        }
        // The same bytes in the sender's memory.
        let mut bytes = Vec::new();
        raw.to_bytes(&mut bytes).unwrap();
        raw = Frame::raw(HeadBuf::new(), Body::Ref(Guest::new(&bytes))).unwrap();
        prop_assert!(raw.icrc_is_good(&parsed.layout));
        *bytes.last_mut().unwrap() ^= 1;
        raw = Frame::raw(HeadBuf::new(), Body::Ref(Guest::new(&bytes))).unwrap();
        prop_assert!(!raw.icrc_is_good(&parsed.layout));
    }
}
