//! Whether any frame has all that a pattern asks for: every order in which headers follow each other is tried, with what they
//! say of each other. Finds what no single pair of conditions tells.

use super::super::field::Header;
use super::super::rule::Pattern;
use super::super::view::{
    PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, TYPE_ARP, TYPE_IPV4, TYPE_IPV6,
    TYPE_QINQ, TYPE_VLAN, extensions,
};
use super::check::has_payload;
use crate::buf::FRAME_BUF_SIZE;
use crate::ib::ICRC_LEN;
use crate::roce::{ETHERTYPE_V1, UDP_PORT};

/// The longest frame that ports take, without frame check sequence.
pub(super) const LONGEST_FRAME: usize = FRAME_BUF_SIZE;

/// ARP, IPv4, IPv6 or GRH with its EtherType; `None` for something else.
type Layer3 = Option<(Header, u16)>;

/// UDP, TCP, ICMP or ICMPv6 with its protocol number; `None` for something else.
type Layer4 = Option<(Header, u8)>;

/// What follows what in a frame.
#[derive(Clone, Copy)]
struct Stack {
    tags: usize,
    l3: Layer3,
    l4: Layer4,
    bth: bool,
}

const IPV4: Layer3 = Some((Header::Ipv4, TYPE_IPV4));
const IPV6: Layer3 = Some((Header::Ipv6, TYPE_IPV6));

const UDP: Layer4 = Some((Header::Udp, PROTOCOL_UDP));
const TCP: Layer4 = Some((Header::Tcp, PROTOCOL_TCP));

/// Those of RoCE first: most rules are about it.
fn stacks() -> impl Iterator<Item = Stack> {
    const BEHIND_TAGS: [(Layer3, Layer4, bool); 14] = [
        (IPV4, UDP, true),
        (IPV6, UDP, true),
        (Some((Header::Grh, ETHERTYPE_V1)), None, true),
        (IPV4, UDP, false),
        (IPV4, TCP, false),
        (IPV4, Some((Header::Icmp, PROTOCOL_ICMP)), false),
        (IPV4, None, false),
        (IPV6, UDP, false),
        (IPV6, TCP, false),
        (IPV6, Some((Header::Icmpv6, PROTOCOL_ICMPV6)), false),
        (IPV6, None, false),
        (Some((Header::Grh, ETHERTYPE_V1)), None, false),
        (Some((Header::Arp, TYPE_ARP)), None, false),
        (None, None, false),
    ];
    (0..3).flat_map(|tags| {
        BEHIND_TAGS
            .iter()
            .map(move |&(l3, l4, bth)| Stack { tags, l3, l4, bth })
    })
}

impl Stack {
    /// The headers but those that the opcode decides about.
    fn headers(&self) -> u32 {
        let there = [
            Some(Header::Ethernet),
            (self.tags > 0).then_some(Header::Vlan),
            self.l3.map(|(header, _)| header),
            self.l4.map(|(header, _)| header),
            self.bth.then_some(Header::Bth),
        ];
        there.iter().flatten().fold(0, |bits, h| bits | h.bit())
    }
}

/// One thing that a pattern asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    There(Header),
    NotThere(Header),
    AnyIp,
    Roce,
    Opcodes,
    Condition(usize),
}

struct Search<'a> {
    pattern: &'a Pattern,
    wishes: Vec<Wish>,
}

impl<'a> Search<'a> {
    fn new(pattern: &'a Pattern) -> Search<'a> {
        let in_conditions = pattern
            .conditions
            .iter()
            .filter_map(|condition| condition.field.header())
            .fold(0, |bits, header| bits | header.bit());
        let mut wishes: Vec<Wish> = (0..pattern.conditions.len()).map(Wish::Condition).collect();
        for header in Header::all() {
            if pattern.need & !in_conditions & header.bit() != 0 {
                wishes.push(Wish::There(header));
            }
            if pattern.forbid & header.bit() != 0 {
                wishes.push(Wish::NotThere(header));
            }
        }
        for (there, wish) in [
            (pattern.any_ip, Wish::AnyIp),
            (pattern.roce.is_some(), Wish::Roce),
            (pattern.opcodes.is_some(), Wish::Opcodes),
        ] {
            if there {
                wishes.push(wish);
            }
        }
        Search { pattern, wishes }
    }

    fn name(&self, wish: Wish) -> String {
        match wish {
            Wish::There(header) => header.to_string(),
            Wish::NotThere(header) => format!("no {header}"),
            Wish::AnyIp => "ipv4 or ipv6, which the action needs".into(),
            Wish::Roce => "the RoCE version that the action needs".into(),
            Wish::Opcodes => "an opcode that the action applies to".into(),
            Wish::Condition(n) => self
                .pattern
                .conditions
                .get(n)
                .map_or_else(String::new, |condition| {
                    format!("{} as wanted", condition.field.name)
                }),
        }
    }

    /// Whether a frame exists that meets `wishes`.
    fn can_be(&self, wishes: &[Wish]) -> bool {
        let (mut need, mut forbid) = (0, 0);
        let mut conditions = Vec::new();
        for wish in wishes {
            match wish {
                Wish::There(header) => need |= header.bit(),
                Wish::NotThere(header) => forbid |= header.bit(),
                Wish::Condition(n) => {
                    let Some(condition) = self.pattern.conditions.get(*n) else {
                        continue;
                    };
                    need |= condition.field.header().map_or(0, Header::bit);
                    conditions.push(condition);
                }
                _ => {}
            }
        }
        let meets = |field: &str, value: u128| {
            conditions
                .iter()
                .filter(|condition| condition.field.name == field)
                .all(|condition| condition.matches(value))
        };
        let meets_any = |field: &str, values: &[u16]| {
            values.iter().any(|value| meets(field, u128::from(*value)))
        };
        let asks = |field: &str| conditions.iter().any(|c| c.field.name == field);
        let lengths = |field: &str, most: usize| -> Vec<usize> {
            let all = (0..=most).filter(|len| meets(field, *len as u128));
            all.collect()
        };
        // Looked up for each of the stacks and opcodes.
        let longest = match asks("frame.len") {
            true => lengths("frame.len", LONGEST_FRAME).last().copied(),
            false => Some(LONGEST_FRAME),
        };
        let Some(longest) = longest else { return false };
        let payloads = asks("payload.len").then(|| lengths("payload.len", LONGEST_FRAME));
        let fits = |headers: u32, from: usize, to: usize| {
            let mut len = Header::all()
                .filter(|header| headers & header.bit() != 0)
                .map(Header::len)
                .sum::<usize>();
            if let Some(payloads) = &payloads {
                let at = payloads.partition_point(|len| *len < from);
                let Some(least) = payloads.get(at).filter(|len| **len <= to) else {
                    return false;
                };
                len += least - from;
                if headers & Header::Bth.bit() != 0 {
                    len += ICRC_LEN;
                }
            }
            len <= longest
        };
        let any = |wish: Wish| wishes.contains(&wish);
        stacks().any(|stack| {
            let headers = stack.headers();
            let all_but_ib = need & !(IB_HEADERS | Header::Bth.bit());
            let is_here = headers & all_but_ib == all_but_ib
                && headers & forbid == 0
                && (stack.bth || need & (IB_HEADERS | Header::Bth.bit()) == 0)
                && (!any(Wish::AnyIp) || stack.l3 == IPV4 || stack.l3 == IPV6);
            if !is_here {
                return false;
            }
            let inner = stack.l3.map(|(_, ethertype)| ethertype);
            let behind = |field: &str| inner.is_none_or(|value| meets_any(field, &[value]));
            let tags = [TYPE_VLAN, TYPE_QINQ];
            let types = match stack.tags {
                0 => behind("eth.type"),
                1 => meets_any("eth.type", &tags) && behind("vlan.type"),
                _ => meets_any("eth.type", &tags) && meets_any("vlan.type", &tags),
            };
            let protocols = stack.l4.is_none_or(|(_, protocol)| {
                let protocol = u128::from(protocol);
                meets("ipv4.protocol", protocol)
                    && meets("ipv6.next", protocol)
                    && meets("ipv4.frag", 0)
                    && (5..=15).any(|words| meets("ipv4.ihl", words))
            });
            if !types || !protocols {
                return false;
            }
            if !stack.bth {
                return !any(Wish::Roce) && !any(Wish::Opcodes) && fits(headers, 0, LONGEST_FRAME);
            }
            let version = if stack.l4.is_none() { 1 } else { 2 };
            if !meets("udp.dport", u128::from(UDP_PORT))
                || !meets("frame.roce", u128::from(version))
                || any(Wish::Roce) && self.pattern.roce.is_some_and(|only| only != version)
            {
                return false;
            }
            (0..=255).any(|opcode| {
                let is_wanted = !any(Wish::Opcodes)
                    || self
                        .pattern
                        .opcodes
                        .as_ref()
                        .is_none_or(|set| set.has(opcode));
                if !is_wanted || !meets("bth.opcode", u128::from(opcode)) {
                    return false;
                }
                let extensions = extensions(opcode);
                let most = if has_payload(opcode) {
                    LONGEST_FRAME
                } else {
                    0
                };
                let plain = headers | extensions;
                let is = |all: u32, least: usize| {
                    all & need == need && all & forbid == 0 && fits(all, least, most)
                };
                let mad = Header::Mad.bit();
                let is_datagram = extensions & Header::Deth.bit() != 0;
                let to_management = meets("bth.dest_qp", 0) || meets("bth.dest_qp", 1);
                // A datagram to them that is too short has none.
                is(plain, 0) || (is_datagram && to_management && is(plain | mad, Header::Mad.len()))
            })
        })
    }
}

/// Headers that the opcode decides about.
const IB_HEADERS: u32 = Header::XrcEth.bit()
    | Header::Deth.bit()
    | Header::Reth.bit()
    | Header::AtomicEth.bit()
    | Header::Aeth.bit()
    | Header::AtomicAckEth.bit()
    | Header::ImmDt.bit()
    | Header::Ieth.bit()
    | Header::Mad.bit();

/// What no frame has together, if no frame has all that `pattern` asks for.
pub(super) fn check(pattern: &Pattern) -> Result<(), String> {
    let search = Search::new(pattern);
    if search.can_be(&search.wishes) {
        return Ok(());
    }
    // Without any one of these there would be frames.
    let mut core = search.wishes.clone();
    let mut n = 0;
    while n < core.len() {
        let mut fewer = core.clone();
        fewer.remove(n);
        if search.can_be(&fewer) {
            n += 1;
        } else {
            core = fewer;
        }
    }
    let alone = |name: &str| {
        core.iter().all(|wish| match wish {
            Wish::Condition(n) => pattern
                .conditions
                .get(*n)
                .is_some_and(|condition| condition.field.name == name),
            _ => false,
        })
    };
    if alone("frame.len") {
        return Err(format!(
            "frames have {} to {LONGEST_FRAME} bytes",
            Header::Ethernet.len()
        ));
    }
    if alone("payload.len") {
        return Err(format!("no frame has more than {LONGEST_FRAME} bytes"));
    }
    let names: Vec<String> = core.iter().map(|wish| search.name(*wish)).collect();
    Err(match names.as_slice() {
        [only] => format!("no frame has {only}"),
        _ => format!("no frame has {}", names.join(" and ")),
    })
}
