//! Checked against sums that are computed another way: a segment's checksum is right if the sum
//! over pseudo header and segment is all ones.

use super::*;

const HEADERS: usize = 14 + 20 + 20;

fn put_all(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn tcp4(payload: usize, tag: bool) -> Vec<u8> {
    let mut piece = vec![0; HEADERS + payload];
    put_all(&mut piece, 12, &[8, 0]);
    let ip = [
        0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    put_all(&mut piece, 14, &ip);
    put_all(
        &mut piece,
        34,
        &[0, 1, 0, 2, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0x50, 0x99],
    );
    for (n, byte) in piece[HEADERS..].iter_mut().enumerate() {
        *byte = n as u8;
    }
    if tag {
        piece.splice(12..12, [0x81, 0, 0, 5]);
    }
    piece
}

fn large(gso_type: u8, size: u16) -> VnetHeader {
    VnetHeader {
        flags: NEEDS_CSUM,
        gso_type,
        gso_size: size,
        ..VnetHeader::default()
    }
}

fn segments(piece: &[u8], header: &VnetHeader) -> Vec<Vec<u8>> {
    let mut segments = Segments::default();
    let mut all = Vec::new();
    if segments.start(piece, 0..piece.len(), header) {
        let mut out = vec![0xee; 10_000];
        while let Some(len) = segments.next(piece, &mut out) {
            all.push(out[..len].to_vec());
        }
    }
    all
}

/// The sum over IPv4 pseudo header and the rest, which has to be all ones.
fn sum4(segment: &[u8], l3: usize) -> u16 {
    let l4 = &segment[l3 + 20..];
    let pseudo = add(
        u64::from(segment[l3 + 9]) + l4.len() as u64,
        &segment[l3 + 12..l3 + 20],
    );
    folded(add(pseudo, l4))
}

#[test]
fn tcp_segments_are_as_if_sent_one_by_one() {
    for tag in [false, true] {
        let piece = tcp4(3000, tag);
        let l3 = if tag { 18 } else { 14 };
        let all = segments(&piece, &large(GSO_TCPV4 | GSO_ECN, 1448));
        let lens: Vec<usize> = all.iter().map(|one| one.len() - l3 - 40).collect();
        assert_eq!(lens, [1448, 1448, 104]);
        let mut payload = Vec::new();
        for (n, one) in all.iter().enumerate() {
            assert_eq!(one[..l3], piece[..l3]);
            assert_eq!(folded(add(0, &one[l3..l3 + 20])), 0xffff, "IP header {n}");
            assert_eq!(sum4(one, l3), 0xffff, "TCP checksum {n}");
            assert_eq!(
                get::<2>(one, l3 + 2),
                Some(((one.len() - l3) as u16).to_be_bytes())
            );
            assert_eq!(
                get::<2>(one, l3 + 4),
                Some((0x1234 + n as u16).to_be_bytes())
            );
            let sequence = 0xffff_ff00_u32.wrapping_add(1448 * n as u32);
            assert_eq!(get::<4>(one, l3 + 24), Some(sequence.to_be_bytes()));
            payload.extend_from_slice(&one[l3 + 40..]);
        }
        assert_eq!(payload, piece[l3 + 40..]);
        let flags: Vec<u8> = all.iter().map(|one| one[l3 + 33]).collect();
        // CWR on the first, PSH and FIN on the last, ACK on all.
        assert_eq!(flags, [0x90, 0x10, 0x19]);
    }
}

#[test]
fn udp_segments_over_ipv6() {
    let mut piece = vec![0; 14 + 40 + 8 + 250];
    put_all(&mut piece, 12, &[0x86, 0xdd, 0x60]);
    piece[14 + 6] = UDP;
    piece[14 + 8] = 0xfe;
    piece[14 + 24] = 0xfe;
    let all = segments(&piece, &large(GSO_UDP_L4, 100));
    let lens: Vec<usize> = all.iter().map(Vec::len).collect();
    assert_eq!(lens, [162, 162, 112]);
    for one in all {
        let l4 = &one[54..];
        assert_eq!(get::<2>(&one, 18), Some((l4.len() as u16).to_be_bytes()));
        assert_eq!(get::<2>(l4, 4), Some((l4.len() as u16).to_be_bytes()));
        let pseudo = add(u64::from(UDP) + l4.len() as u64, &one[22..54]);
        assert_eq!(folded(add(pseudo, l4)), 0xffff);
    }
}

#[test]
fn what_cannot_be_taken_apart_is_refused() {
    let piece = tcp4(3000, false);
    let refused = |piece: &[u8], header: VnetHeader| segments(piece, &header).is_empty();
    assert!(!refused(&piece, large(GSO_TCPV4, 1448)));
    assert!(refused(&piece, large(GSO_TCPV4, 0)));
    assert!(refused(&piece, large(GSO_TCPV6, 1448)));
    assert!(refused(&piece, large(GSO_UDP_L4, 1448)));
    assert!(refused(&piece, large(77, 1448)));
    // A segment that is longer than any frame.
    assert!(refused(&tcp4(30_000, false), large(GSO_TCPV4, 20_000)));
    for len in 0..=HEADERS {
        assert!(
            refused(&piece[..len], large(GSO_TCPV4, 1448)),
            "{len} bytes"
        );
    }
    for at in 12..HEADERS {
        for bit in 0..8 {
            let mut odd = piece.clone();
            odd[at] ^= 1 << bit;
            // Whatever it is, it comes to an end.
            segments(&odd, &large(GSO_TCPV4, 1448));
        }
    }
}

#[test]
fn a_checksum_is_finished_where_the_kernel_says() {
    let mut frame = tcp4(101, false);
    let pseudo = folded(add(u64::from(TCP) + 121, &frame[26..34]));
    put_all(&mut frame, 34 + 16, &pseudo.to_be_bytes());
    assert!(complete_checksum(&mut frame, 34, 16));
    assert_eq!(sum4(&frame, 14), 0xffff);
    assert!(!complete_checksum(&mut frame, 34, 1000));
    assert!(!complete_checksum(&mut frame, 1000, 0));
    assert!(!complete_checksum(&mut [], 0, 0));
    let header = VnetHeader {
        flags: NEEDS_CSUM,
        csum_start: 34,
        csum_offset: 16,
        ..VnetHeader::default()
    };
    assert_eq!(header.unfinished(), Some((34, 16)));
    assert_eq!(VnetHeader::default().unfinished(), None);
}

#[test]
fn a_checksum_that_nobody_calls_unfinished_is_known_by_its_value() {
    for tag in [false, true] {
        let l3 = if tag { 18 } else { 14 };
        let mut frame = tcp4(101, tag);
        put_all(&mut frame, l3 + 2, &141_u16.to_be_bytes());
        // What is behind the packet is padding.
        frame.extend([0xaa; 7]);
        let good = {
            let mut good = frame.clone();
            let sum = add(u64::from(TCP) + 121, &good[l3 + 12..l3 + 20]);
            let value = checksum(add(sum, &good[l3 + 20..l3 + 141]));
            put_all(&mut good, l3 + 36, &value.to_be_bytes());
            good
        };
        let pseudo = folded(add(u64::from(TCP) + 121, &frame[l3 + 12..l3 + 20]));
        put_all(&mut frame, l3 + 36, &pseudo.to_be_bytes());
        let unfinished = frame.clone();
        assert_eq!(finish_unmarked(&mut frame), Some(()));
        assert_eq!(frame, good);
        // Right ones and wrong ones are left as they are.
        assert_eq!(finish_unmarked(&mut frame), None);
        assert_eq!(frame, good);
        frame[l3 + 37] ^= 1;
        assert_eq!(finish_unmarked(&mut frame), None);
        for len in 0..l3 + 141 {
            assert_eq!(finish_unmarked(&mut unfinished[..len].to_vec()), None);
        }
    }
}
