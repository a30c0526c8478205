//! Changes to the bytes of a frame, and making checksums and ICRC right again.

use super::field::{Header, Source, set_bits};
use super::rule::{Action, Damage, Repair, Target};
use super::view::{DEEP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, View};
use crate::buf::BufPool;
use crate::frame::{Frame, FrameError, Payload};
use crate::icrc::Icrc;
use crate::roce;
use crate::sim::Rng;

/// A frame after an action.
pub(crate) type Altered<P> = Result<Frame<P>, FrameError>;

/// The frame as bytes, with the action applied. Actions that change no bytes change none.
pub(crate) fn alter<P: Payload>(
    frame: &Frame<P>,
    action: &Action,
    pool: &BufPool,
    rng: &mut Rng,
) -> Altered<P> {
    let mut bytes = pool.get(frame.len_on_wire());
    frame.write_to(&mut bytes)?;
    match action {
        Action::Truncate(len) => bytes.truncate(*len as usize),
        Action::Corrupt {
            target,
            damage,
            repair,
        } => {
            corrupt(&mut bytes, target, damage, rng);
            mend(&mut bytes, *repair);
        }
        Action::Set { fields, repair } => {
            // All by where they lie now: setting one may hide another's header.
            let view = View::parse(&bytes, bytes.len());
            let places: Vec<(usize, u8, u128)> = fields
                .iter()
                .filter_map(|(field, value)| {
                    let Source::Bits { header, offset } = field.source else {
                        return None;
                    };
                    let at = 8 * view.offset(header)? + usize::from(offset);
                    Some((at, field.width, *value))
                })
                .collect();
            for (at, width, value) in places {
                let _ = set_bits(&mut bytes, at, width, value);
            }
            mend(&mut bytes, *repair);
        }
        _ => {}
    }
    Ok(Frame::from_buf(bytes))
}

/// Where the bits lie that a corruption may invert: first bit and number.
fn region(bytes: &[u8], target: &Target) -> Option<(usize, usize)> {
    let view = View::parse(bytes, bytes.len());
    let whole = |from: usize, to: usize| (8 * from, 8 * to.saturating_sub(from));
    Some(match target {
        Target::Anywhere => {
            let tag = if view.has(Header::Vlan) { 4 } else { 0 };
            whole(14 + tag, bytes.len())
        }
        Target::Payload => {
            let payload = view.payload()?;
            whole(payload.start, payload.end)
        }
        Target::Icrc => {
            let end = match view.layout() {
                Some(layout) => usize::from(layout.end),
                None => bytes.len(),
            };
            whole(end.checked_sub(4)?, end)
        }
        Target::Field(field) => {
            let Source::Bits { header, offset } = field.source else {
                return None;
            };
            let at = 8 * view.offset(header)? + usize::from(offset);
            (at, usize::from(field.width))
        }
        Target::Offset(at) => {
            let at = *at as usize;
            whole(at, at + 1)
        }
    })
}

fn invert(bytes: &mut [u8], bit: usize) {
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 0x80 >> (bit % 8);
    }
}

fn corrupt(bytes: &mut [u8], target: &Target, damage: &Damage, rng: &mut Rng) {
    let Some((start, len)) = region(bytes, target) else {
        return;
    };
    match damage {
        Damage::Random(count) => {
            let mut left = (*count as usize).min(len);
            // Floyd's sampling: `count` different bits out of `len`.
            let mut chosen: Vec<usize> = Vec::with_capacity(left);
            while left > 0 {
                let last = len - left;
                let pick = rng.below(last as u64 + 1) as usize;
                chosen.push(if chosen.contains(&pick) { last } else { pick });
                left -= 1;
            }
            for bit in chosen {
                invert(bytes, start + bit);
            }
        }
        Damage::Xor(mask) => {
            // Of a longer region the first byte.
            let width = match target {
                Target::Payload => len.min(8),
                _ => len,
            };
            for bit in (0..width.min(128)).filter(|bit| mask >> (width - 1 - bit) & 1 == 1) {
                invert(bytes, start + bit);
            }
        }
    }
}

/// Inverts one bit behind the Ethernet header, as a bad cable would.
pub(crate) fn bit_error<P: Payload>(frame: &Frame<P>, pool: &BufPool, rng: &mut Rng) -> Altered<P> {
    let action = Action::Corrupt {
        target: Target::Anywhere,
        damage: Damage::Random(1),
        repair: Repair {
            checksum: false,
            icrc: false,
        },
    };
    alter(frame, &action, pool, rng)
}

/// Sets ECN to "congestion experienced". The ICRC does not cover it, so the frame stays what it
/// is. False if there is no IP header, or if `only_capable` and the sender says it is not.
pub(crate) fn mark_ce<P: Payload>(frame: &mut Frame<P>, only_capable: bool) -> bool {
    let view = View::parse(frame.head(), frame.len_on_wire());
    let (v4, v6) = (view.offset(Header::Ipv4), view.offset(Header::Ipv6));
    let (at, shift) = match (v4, v6) {
        (Some(at), _) => (at + 1, 0),
        (_, Some(at)) => (at + 1, 4),
        _ => return false,
    };
    let head = frame.head_mut().as_mut_slice();
    let Some(byte) = head.get_mut(at) else {
        return false;
    };
    if only_capable && *byte >> shift & 3 == 0 {
        return false;
    }
    *byte |= 3 << shift;
    if let Some(at) = v4 {
        mend_ipv4(head, at);
    }
    true
}

fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let odd = rest.first().map_or(0, |byte| u32::from(*byte) << 8);
    // A frame has at most 2^15 words: no overflow.
    words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum::<u32>()
        + odd
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn mend_ipv4(bytes: &mut [u8], at: usize) {
    let Some(header_len) = bytes.get(at).map(|byte| usize::from(byte & 0xf) * 4) else {
        return;
    };
    let Some(header) = bytes.get_mut(at..at + header_len) else {
        return;
    };
    if let Some(place) = header.get_mut(10..12) {
        place.fill(0);
        let value = !fold(sum(header));
        if let Some(place) = header.get_mut(10..12) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }
}

/// Makes right what `repair` names, as far as the headers can be made out.
pub(crate) fn mend(bytes: &mut [u8], repair: Repair) {
    if repair.checksum {
        let view = View::parse(
            bytes.get(..bytes.len().min(DEEP)).unwrap_or_default(),
            bytes.len(),
        );
        let v4 = view.offset(Header::Ipv4);
        let l4 = layer_4(&view, bytes);
        if let Some(at) = v4 {
            mend_ipv4(bytes, at);
        }
        if let Some(l4) = l4 {
            l4.mend(bytes);
        }
    }
    if repair.icrc {
        mend_icrc(bytes);
    }
}

/// A checksum over everything from a transport header to the end of the packet.
struct Layer4 {
    range: std::ops::Range<usize>,
    /// Where the checksum is, from the header on.
    checksum: usize,
    /// Sum of the pseudo header.
    pseudo: u32,
    /// No checksum stays no checksum.
    optional: bool,
}

fn layer_4(view: &View<'_>, bytes: &[u8]) -> Option<Layer4> {
    let (addresses, protocol, end) = if let Some(at) = view.offset(Header::Ipv4) {
        let len = u16::from_be_bytes(bytes.get(at + 2..at + 4)?.try_into().ok()?);
        (
            bytes.get(at + 12..at + 20)?,
            *bytes.get(at + 9)?,
            at + usize::from(len),
        )
    } else {
        let at = view.offset(Header::Ipv6)?;
        let len = u16::from_be_bytes(bytes.get(at + 4..at + 6)?.try_into().ok()?);
        (
            bytes.get(at + 8..at + 40)?,
            *bytes.get(at + 6)?,
            at + 40 + usize::from(len),
        )
    };
    let (header, checksum, pseudo) = if let Some(at) = view.offset(Header::Udp) {
        (at, 6, Some(PROTOCOL_UDP))
    } else if let Some(at) = view.offset(Header::Tcp) {
        (at, 16, Some(PROTOCOL_TCP))
    } else if let Some(at) = view.offset(Header::Icmpv6) {
        (at, 2, Some(PROTOCOL_ICMPV6))
    } else {
        (view.offset(Header::Icmp)?, 2, None)
    };
    let range = header..end;
    bytes.get(range.clone())?;
    let pseudo = match pseudo {
        Some(_) => sum(addresses) + u32::from(protocol) + range.len() as u32,
        None => 0,
    };
    Some(Layer4 {
        range,
        checksum,
        pseudo,
        optional: protocol == PROTOCOL_UDP,
    })
}

impl Layer4 {
    fn mend(&self, bytes: &mut [u8]) {
        let Some(packet) = bytes.get_mut(self.range.clone()) else {
            return;
        };
        let place = self.checksum..self.checksum + 2;
        match packet.get_mut(place.clone()) {
            Some([0, 0]) if self.optional => return,
            Some(field) => field.fill(0),
            None => return,
        }
        let mut value = !fold(sum(packet) + self.pseudo);
        if value == 0 && self.optional {
            value = 0xffff;
        }
        if let Some(field) = packet.get_mut(place) {
            field.copy_from_slice(&value.to_be_bytes());
        }
    }
}

fn mend_icrc(bytes: &mut [u8]) {
    let Ok(layout) = roce::classify(bytes, bytes.len()) else {
        return;
    };
    let covered = bytes.get(usize::from(layout.l3_offset)..layout.icrc_offset());
    let Some(icrc) = covered.and_then(|covered| Icrc::new(layout.encap, covered)) else {
        return;
    };
    let value = icrc.finish();
    if let Some(place) = bytes.get_mut(layout.icrc_offset()..usize::from(layout.end)) {
        place.copy_from_slice(&value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::Buf;
    use crate::fault::field::Field;
    use crate::frame::NoPayload;
    use crate::sim::Rng;
    use crate::vectors::{self, unhex};
    use pnet_packet::Packet;
    use pnet_packet::ipv4::{self, Ipv4Packet};
    use pnet_packet::tcp;
    use proptest::prelude::*;

    const ALL: Repair = Repair {
        checksum: true,
        icrc: true,
    };
    const NONE: Repair = Repair {
        checksum: false,
        icrc: false,
    };

    fn frame(bytes: Vec<u8>) -> Frame<NoPayload> {
        Frame::from_buf(Buf::from_vec(bytes))
    }

    fn run(bytes: &[u8], action: &Action) -> Vec<u8> {
        let pool = BufPool::for_frames(2);
        let changed = alter(&frame(bytes.to_vec()), action, &pool, &mut Rng::new(1)).unwrap();
        let mut out = Vec::new();
        changed.to_bytes(&mut out).unwrap();
        out
    }

    fn is_good(bytes: &[u8]) -> bool {
        let frame = frame(bytes.to_vec());
        let parsed = frame.parse_roce().unwrap();
        frame.icrc_is_good(&parsed.layout)
    }

    fn field(name: &str) -> &'static Field {
        Field::by_name(name).unwrap()
    }

    #[test]
    fn fields_are_set_and_everything_is_right_again() {
        for vector in vectors::ALL {
            let bytes = unhex(vector.frame);
            let action = Action::Set {
                fields: vec![(field("bth.pkey"), 0x1234), (field("bth.psn"), 0xabcdef)],
                repair: ALL,
            };
            let out = run(&bytes, &action);
            assert!(is_good(&out), "{}", vector.name);
            let parsed = frame(out).parse_roce().unwrap().packet;
            assert_eq!((parsed.pkey, parsed.psn.get()), (0x1234, 0xabcdef));
            let Action::Set { fields, .. } = action else {
                unreachable!()
            };
            let action = Action::Set {
                fields,
                repair: NONE,
            };
            assert!(!is_good(&run(&bytes, &action)), "{}", vector.name);
        }
    }

    #[test]
    fn a_corrupt_icrc_is_all_that_is_wrong() {
        for vector in vectors::ALL {
            let bytes = unhex(vector.frame);
            let action = Action::Corrupt {
                target: Target::Icrc,
                damage: Damage::Random(3),
                repair: NONE,
            };
            let out = run(&bytes, &action);
            assert_eq!(out[..out.len() - 4], bytes[..bytes.len() - 4]);
            assert!(!is_good(&out));
            let differing: u32 = out
                .iter()
                .zip(&bytes)
                .map(|(a, b)| (a ^ b).count_ones())
                .sum();
            assert_eq!(differing, 3);
        }
    }

    #[test]
    fn payload_can_be_wrong_without_anyone_noticing() {
        let bytes = unhex(vectors::V6_WRITE.frame);
        let action = Action::Corrupt {
            target: Target::Payload,
            damage: Damage::Xor(0x81),
            repair: ALL,
        };
        let out = run(&bytes, &action);
        assert!(is_good(&out));
        let at = bytes.len() - 12;
        assert_eq!(out[at], bytes[at] ^ 0x81);
    }

    #[test]
    fn congestion_is_marked_without_making_bytes() {
        for (vector, capable) in [
            (&vectors::V4_SEND, true),
            (&vectors::V6_WRITE, true),
            (&vectors::V4_VLAN_SEND, true),
            (&vectors::V1_SEND, false),
        ] {
            let mut marked = frame(unhex(vector.frame));
            assert_eq!(mark_ce(&mut marked, false), capable, "{}", vector.name);
            let parsed = marked.parse_roce().expect("the checksum is right");
            assert_eq!(parsed.address.l3.ecn(), if capable { 3 } else { 0 });
            assert!(marked.icrc_is_good(&parsed.layout));
        }
        // Not-ECT: a switch does not mark it.
        let mut bytes = unhex(vectors::V4_SEND.frame);
        bytes[15] &= 0xfc;
        assert!(!mark_ce(&mut frame(bytes), true));
    }

    /// Ethernet, IPv4, TCP SYN and three bytes.
    fn tcp_frame() -> Vec<u8> {
        let mut bytes = unhex(concat!(
            "0200000000020200000000010800",
            "4500002b0001400040060000",
            "0a0000010a000002",
            "1000005000000001000000005002ffff00000000",
            "616263",
            "0000"
        ));
        mend(&mut bytes, ALL);
        bytes
    }

    #[test]
    fn tcp_checksums_are_as_another_implementation_computes_them() {
        let check = |bytes: &[u8]| {
            let ip = Ipv4Packet::new(&bytes[14..57]).unwrap();
            assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
            let tcp = tcp::TcpPacket::new(ip.payload()).unwrap();
            let expected = tcp::ipv4_checksum(&tcp, &ip.get_source(), &ip.get_destination());
            assert_eq!(tcp.get_checksum(), expected);
        };
        check(&tcp_frame());
        let action = Action::Set {
            fields: vec![(field("tcp.rst"), 1), (field("ipv4.ttl"), 3)],
            repair: ALL,
        };
        let out = run(&tcp_frame(), &action);
        check(&out);
        assert_eq!((out[47], out[22]), (0x06, 3));
    }

    #[test]
    fn truncated_frames_are_shorter() {
        let bytes = unhex(vectors::V4_SEND.frame);
        assert_eq!(run(&bytes, &Action::Truncate(40)), bytes[..40]);
        assert_eq!(run(&bytes, &Action::Truncate(4000)), bytes);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_lengths_stay(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            ethertype in prop::sample::select(vec![0u16, 0x800, 0x806, 0x8100, 0x86dd, 0x8915]),
            which in 0..8usize, bits in 0..100u32, at in 0..400u32, xor: u128,
            field in prop::sample::select(super::super::field::FIELDS.iter().collect::<Vec<_>>()),
        ) {
            let mut bytes = bytes;
            if let Some(place) = bytes.get_mut(12..14) {
                place.copy_from_slice(&ethertype.to_be_bytes());
            }
            let target = match which {
                0 => Target::Anywhere,
                1 => Target::Payload,
                2 => Target::Icrc,
                3 => Target::Offset(at),
                _ => Target::Field(field),
            };
            let damage = if which % 2 == 0 { Damage::Random(bits) } else { Damage::Xor(xor) };
            let actions = [
                Action::Corrupt { target, damage, repair: ALL },
                Action::Set { fields: vec![(field, xor)], repair: ALL },
            ];
            for action in &actions {
                prop_assert_eq!(run(&bytes, action).len(), bytes.len());
            }
            mark_ce(&mut frame(bytes), false);
        }

        #[test]
        fn as_many_bits_change_as_were_asked_for(bits in 1..64u32, seed: u64) {
            let bytes = unhex(vectors::V6_WRITE.frame);
            let mut out = bytes.clone();
            corrupt(&mut out, &Target::Payload, &Damage::Random(bits), &mut Rng::new(seed));
            let differing: u32 = out.iter().zip(&bytes).map(|(a, b)| (a ^ b).count_ones()).sum();
            prop_assert_eq!(differing, bits);
        }
    }
}
