//! Reads what went over the wire in a capture, and checks each RoCE frame from its first byte to its ICRC.
//!
//! Takes frames apart by itself: of the code under test it uses the ICRC only, which has vectors of its own.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use rocinante_wire::icrc::{Encap, Icrc};

/// UDP port of RoCE v2 (IANA `roce`).
const ROCE_PORT: u16 = 4791;

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// VLAN id.
    pub id: u16,
    /// Priority code point.
    pub priority: u8,
}

/// A RoCE frame; its lengths, checksums and ICRC are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roce {
    /// Destination MAC.
    pub dst_mac: [u8; 6],
    /// Source MAC.
    pub src_mac: [u8; 6],
    /// VLAN tag.
    pub tag: Option<Tag>,
    /// The way it lies on Ethernet.
    pub encap: Encap,
    /// Type of service or traffic class, with the ECN bits.
    pub traffic_class: u8,
    /// Flow label; 0 in IPv4.
    pub flow_label: u32,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Source GID, an IPv4 address as a mapped one.
    pub src: [u8; 16],
    /// Destination GID, likewise.
    pub dst: [u8; 16],
    /// UDP source port; `None` in RoCE v1.
    pub src_port: Option<u16>,
    /// Opcode of the BTH.
    pub opcode: u8,
    /// Destination QP.
    pub dest_qp: u32,
}

/// All frames of a capture, in the order of their capture.
pub fn frames(path: &Path) -> Vec<Vec<u8>> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = PcapNgReader::new(BufReader::new(file)).expect("pcapng");
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.expect("a whole block") {
            frames.push(packet.data.into_owned());
        }
    }
    frames
}

/// How many frames a capture lacks, as it says itself.
pub fn dropped(path: &Path) -> u64 {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = PcapNgReader::new(BufReader::new(file)).expect("pcapng");
    let mut dropped = None;
    while let Some(block) = reader.next_block() {
        if let Block::InterfaceStatistics(statistics) = block.expect("a whole block") {
            for option in statistics.options {
                if let InterfaceStatisticsOption::IsbIfDrop(count) = option {
                    dropped = Some(dropped.unwrap_or(0) + count);
                }
            }
        }
    }
    dropped.unwrap_or_else(|| panic!("{} does not say it", path.display()))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Sum of 16-bit words in ones' complement (RFC 1071).
fn ones_sum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}

/// A RoCE frame taken apart, `None` if it is something else. What is wrong with it is an error.
pub fn roce(frame: &[u8]) -> Result<Option<Roce>, String> {
    parse(frame).transpose()
}

fn parse(frame: &[u8]) -> Option<Result<Roce, String>> {
    let dst_mac = frame.get(..6)?.try_into().ok()?;
    let src_mac = frame.get(6..12)?.try_into().ok()?;
    let mut l3 = 14;
    let mut ethertype = be16(frame, 12)?;
    let mut tag = None;
    if ethertype == 0x8100 {
        let tci = be16(frame, 14)?;
        tag = Some(Tag {
            id: tci & 0xfff,
            priority: (tci >> 13) as u8,
        });
        ethertype = be16(frame, 16)?;
        l3 = 18;
    }
    let packet = frame.get(l3..)?;
    let udp = match ethertype {
        0x8915 => None,
        0x0800 if packet.get(9) == Some(&17) => Some(usize::from(packet.first()? & 15) * 4),
        0x86dd if packet.get(6) == Some(&17) => Some(40),
        _ => return None,
    };
    if let Some(udp) = udp
        && be16(packet, udp + 2)? != ROCE_PORT
    {
        return None;
    }
    let encap = match ethertype {
        0x8915 => Encap::V1,
        0x0800 => Encap::V2Ipv4,
        _ => Encap::V2Ipv6,
    };
    let whole = check(packet, encap, udp.is_some());
    Some(whole.map(|Whole { bytes, headers }| {
        let bth = &bytes[headers..];
        let qp = &bth[5..8];
        let (traffic_class, flow_label, hop_limit, src, dst) = if encap == Encap::V2Ipv4 {
            let mapped = |at: usize| {
                let mut gid = [0; 16];
                gid[10..12].fill(0xff);
                gid[12..].copy_from_slice(&bytes[at..at + 4]);
                gid
            };
            (bytes[1], 0, bytes[8], mapped(12), mapped(16))
        } else {
            let word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let gid = |at: usize| {
                let mut gid = [0; 16];
                gid.copy_from_slice(&bytes[at..at + 16]);
                gid
            };
            (
                (word >> 20) as u8,
                word & 0xf_ffff,
                bytes[7],
                gid(8),
                gid(24),
            )
        };
        Roce {
            dst_mac,
            src_mac,
            tag,
            encap,
            traffic_class,
            flow_label,
            hop_limit,
            src,
            dst,
            src_port: udp.and_then(|udp| be16(bytes, udp)),
            opcode: bth[0],
            dest_qp: u32::from_be_bytes([0, qp[0], qp[1], qp[2]]),
        }
    }))
}

/// A packet from its layer 3 header to its ICRC.
struct Whole<'a> {
    bytes: &'a [u8],
    /// Length of what is before the BTH.
    headers: usize,
}

fn check(packet: &[u8], encap: Encap, is_udp: bool) -> Result<Whole<'_>, String> {
    let short = || format!("cut: {packet:02x?}");
    let headers = encap.headers_len();
    let length = |at| be16(packet, at).map(usize::from).ok_or_else(short);
    let total = match encap {
        Encap::V2Ipv4 => length(2)?,
        Encap::V1 | Encap::V2Ipv6 => 40 + length(4)?,
    };
    // An Ethernet frame may be longer than what is in it, up to the least length.
    if total > packet.len() || (packet.len() > total && packet.len() > 46) {
        return Err(format!("length {total} in {} bytes", packet.len()));
    }
    let bytes = &packet[..total];
    if bytes.len() < headers + 12 + 4 {
        return Err(short());
    }
    match encap {
        Encap::V2Ipv4 => {
            if bytes[0] != 0x45 {
                return Err(format!("IPv4 begins with {:#x}", bytes[0]));
            }
            if ones_sum(&bytes[..20]) != 0xffff {
                return Err("the IPv4 header's checksum is wrong".into());
            }
        }
        Encap::V1 if (bytes[0] >> 4, bytes[6]) != (6, 0x1b) => {
            return Err(format!("not a GRH: {:02x?}", &bytes[..40]));
        }
        Encap::V1 => {}
        Encap::V2Ipv6 => {
            if bytes[0] >> 4 != 6 {
                return Err(format!("IPv6 begins with {:#x}", bytes[0]));
            }
        }
    }
    if is_udp {
        let udp = headers - 8;
        if be16(bytes, udp + 4).map(usize::from) != Some(total - udp) {
            return Err("the UDP length is wrong".into());
        }
        let sum = be16(bytes, udp + 6);
        // Annex A17.3.2: senders set it to zero.
        if sum != Some(0) {
            return Err(format!("UDP checksum {sum:04x?}"));
        }
    }
    let (covered, icrc) = bytes.split_at(total - 4);
    let mut right = Icrc::new(encap, &covered[..headers + 12]).ok_or_else(short)?;
    right.update(&covered[headers + 12..]);
    let right = right.finish();
    if icrc != right {
        return Err(format!("ICRC {icrc:02x?}, right is {right:02x?}"));
    }
    Ok(Whole { bytes, headers })
}

/// The payload length of a ping, where a frame is an untagged ICMP echo request: pings of unusual lengths divide a capture.
pub fn echo_request(frame: &[u8]) -> Option<usize> {
    let is = be16(frame, 12)? == 0x0800 && *frame.get(23)? == 1 && *frame.get(34)? == 8;
    let total = usize::from(be16(frame, 16)?);
    (is && frame[14] == 0x45).then(|| total.checked_sub(28))?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An acknowledgement over IPv4.
    fn ack() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        frame.extend([0x45, 0x02, 0, 48, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        frame.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        frame.extend([0xc1, 0x23, 0x12, 0xb7, 0, 28, 0, 0]);
        frame.extend([0x11, 0, 0xff, 0xff, 0, 0, 0, 0x45, 0, 0, 0, 7]);
        frame.extend([0x1f, 0, 0, 1]);
        let sum = !ones_sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        let icrc = Icrc::new(Encap::V2Ipv4, &frame[14..]).unwrap().finish();
        frame.extend(icrc);
        frame
    }

    #[test]
    fn a_frame_is_taken_apart() {
        let found = roce(&ack()).unwrap().unwrap();
        assert_eq!(
            (found.encap, found.traffic_class, found.hop_limit),
            (Encap::V2Ipv4, 2, 64)
        );
        assert_eq!((found.src_port, found.opcode), (Some(0xc123), 0x11));
        assert_eq!((found.dest_qp, found.tag), (0x45, None));
        assert_eq!(found.dst[10..], [0xff, 0xff, 192, 0, 2, 2]);
        let mut tagged = ack();
        tagged.splice(12..12, [0x81, 0x00, 0x60, 0x07]);
        let tag = Tag { id: 7, priority: 3 };
        assert_eq!(roce(&tagged).unwrap().unwrap().tag, Some(tag));
    }

    #[test]
    fn what_is_wrong_is_noticed() {
        // Total length, header checksum, UDP length, UDP checksum, payload, ICRC.
        for at in [17, 25, 39, 41, 55, 61] {
            let mut frame = ack();
            frame[at] ^= 1;
            assert!(roce(&frame).is_err(), "byte {at}");
        }
        assert!(roce(&ack()[..50]).is_err());
    }

    #[test]
    fn other_frames_are_left_alone() {
        let mut frame = ack();
        frame[37] = 1;
        assert_eq!(roce(&frame), Ok(None));
        assert_eq!(roce(&frame[..13]), Ok(None));
        assert_eq!(echo_request(&frame), None);
    }
}
