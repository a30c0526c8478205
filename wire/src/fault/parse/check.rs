//! Finds rules that can never match: headers that exclude each other, fields that no opcode in
//! question has, values that the headers contradict.

use super::super::field::Header;
use super::super::opcodes::{Opcodes, name};
use super::super::rule::{Pattern, Selection};
use super::super::term::Condition;
use super::super::view::{
    PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, TYPE_ARP, TYPE_IPV4, TYPE_IPV6,
    extensions,
};
use super::possible;
use crate::opcode::{Op, Opcode};
use crate::roce::{ETHERTYPE_V1, UDP_PORT};

/// The EtherTypes of the headers that follow Ethernet.
const LAYER_3: [(Header, u16); 4] = [
    (Header::Arp, TYPE_ARP),
    (Header::Ipv4, TYPE_IPV4),
    (Header::Ipv6, TYPE_IPV6),
    (Header::Grh, ETHERTYPE_V1),
];

const LAYER_4: [(Header, u8); 4] = [
    (Header::Udp, PROTOCOL_UDP),
    (Header::Tcp, PROTOCOL_TCP),
    (Header::Icmp, PROTOCOL_ICMP),
    (Header::Icmpv6, PROTOCOL_ICMPV6),
];

/// What contradicts what in a pattern, if something does.
pub(super) fn pattern(pattern: &Pattern) -> Result<(), String> {
    let mut check = Check::new(pattern);
    check.headers()?;
    check.layers()?;
    check.values()?;
    check.opcodes()?;
    possible::check(pattern)
}

struct Check<'a> {
    pattern: &'a Pattern,
    /// Headers that must be there, with those that they need.
    need: u32,
}

impl<'a> Check<'a> {
    fn new(pattern: &'a Pattern) -> Check<'a> {
        Check {
            pattern,
            need: pattern.need,
        }
    }

    fn needs(&self, header: Header) -> bool {
        self.need & header.bit() != 0
    }

    fn condition(&self, field: &str) -> Option<&'a Condition> {
        self.pattern
            .conditions
            .iter()
            .find(|condition| condition.field.name == field)
    }

    fn roce(&self) -> Option<u8> {
        let wanted = self.condition("frame.roce");
        let can = |version: u8| {
            wanted.is_none_or(|condition| condition.matches(u128::from(version)))
                && self.pattern.roce.is_none_or(|only| only == version)
        };
        match (can(1), can(2)) {
            (true, false) => Some(1),
            (false, true) => Some(2),
            (false, false) => Some(0),
            (true, true) => None,
        }
    }

    /// Adds the headers that others imply.
    fn headers(&mut self) -> Result<(), String> {
        let extension = Header::all().find(|h| h.is_extension() && self.needs(*h));
        if extension.is_some() || self.needs(Header::Mad) || self.pattern.roce.is_some() {
            self.need |= Header::Bth.bit();
        }
        if self.pattern.opcodes.is_some() {
            self.need |= Header::Bth.bit();
        }
        if self.needs(Header::Bth) {
            match self.roce() {
                Some(0) => return Err("RoCE is version 1 or 2".into()),
                Some(1) => self.need |= Header::Grh.bit(),
                Some(_) => self.need |= Header::Udp.bit(),
                None if self.needs(Header::Ipv4) || self.needs(Header::Ipv6) => {
                    self.need |= Header::Udp.bit();
                }
                None => {}
            }
        }
        if self.needs(Header::Icmp) {
            self.need |= Header::Ipv4.bit();
        }
        if self.needs(Header::Icmpv6) {
            self.need |= Header::Ipv6.bit();
        }
        let both = self.need & self.pattern.forbid;
        match Header::all().find(|header| both & header.bit() != 0) {
            Some(header) => Err(format!("{header} has to be there and must not be there")),
            None => Ok(()),
        }
    }

    fn layers(&self) -> Result<(), String> {
        let one_of = |headers: &[Header]| -> Result<Option<Header>, String> {
            let mut needed = headers.iter().filter(|header| self.needs(**header));
            match (needed.next(), needed.next()) {
                (Some(a), Some(b)) => Err(format!("no frame has both {a} and {b}")),
                (first, _) => Ok(first.copied()),
            }
        };
        let l3 = one_of(&LAYER_3.map(|entry| entry.0))?;
        let l4 = one_of(&LAYER_4.map(|entry| entry.0))?;
        if let (Some(l4), Some(l3 @ (Header::Arp | Header::Grh))) = (l4, l3) {
            return Err(format!("no frame has both {l3} and {l4}"));
        }
        if self.pattern.any_ip && matches!(l3, Some(Header::Arp | Header::Grh)) {
            return Err("the action needs IPv4 or IPv6".into());
        }
        if self.needs(Header::Bth) {
            if let Some(l4 @ (Header::Tcp | Header::Icmp | Header::Icmpv6)) = l4 {
                return Err(format!("no frame has both {l4} and bth"));
            }
            if l3 == Some(Header::Arp) {
                return Err("no frame has both arp and bth".into());
            }
        }
        Ok(())
    }

    /// Fields whose values follow from the headers that are there.
    fn values(&self) -> Result<(), String> {
        let must_be = |field: &str, value: u128, because: Header| -> Result<(), String> {
            match self.condition(field) {
                Some(condition) if !condition.matches(value) => Err(format!(
                    "{field} is {value:#x} where there is {because}, which the rule excludes"
                )),
                _ => Ok(()),
            }
        };
        for (header, ethertype) in LAYER_3 {
            if !self.needs(header) {
                continue;
            }
            let ethertype = u128::from(ethertype);
            if self.needs(Header::Vlan) {
                // Behind two tags the second one hides it.
                if let Some(condition) = self.condition("vlan.type")
                    && ![ethertype, 0x8100, 0x88a8]
                        .iter()
                        .any(|value| condition.matches(*value))
                {
                    must_be("vlan.type", ethertype, header)?;
                }
            } else if let Some(condition) = self.condition("eth.type")
                && (self.pattern.forbid & Header::Vlan.bit() != 0
                    || !(condition.matches(0x8100) || condition.matches(0x88a8)))
            {
                must_be("eth.type", ethertype, header)?;
            }
        }
        for (header, protocol) in LAYER_4 {
            if self.needs(header) {
                must_be("ipv4.protocol", u128::from(protocol), header)?;
                must_be("ipv6.next", u128::from(protocol), header)?;
            }
        }
        if self.needs(Header::Bth) {
            must_be("udp.dport", u128::from(UDP_PORT), Header::Bth)?;
        }
        Ok(())
    }

    /// Whether an opcode is left that has all the extension headers and a payload as wanted.
    fn opcodes(&self) -> Result<(), String> {
        if !self.needs(Header::Bth) {
            return Ok(());
        }
        let mut left = Opcodes::ALL;
        if let Some(condition) = self.condition("bth.opcode") {
            left.retain(|byte| condition.matches(u128::from(byte)));
        }
        let wanted = left;
        if let Some(only) = &self.pattern.opcodes {
            left.retain(|byte| only.has(byte));
            if left.is_empty() {
                return Err(format!(
                    "the action does not apply to {}",
                    describe(&wanted)
                ));
            }
        }
        for header in Header::all() {
            let is = |byte: u8| match header {
                Header::Mad => extensions(byte) & Header::Deth.bit() != 0,
                _ => extensions(byte) & header.bit() != 0,
            };
            if (header.is_extension() || header == Header::Mad) && self.needs(header) {
                let before = left;
                left.retain(is);
                if left.is_empty() {
                    return Err(format!("{} has no {header}", describe(&before)));
                }
            }
            if header.is_extension() && self.pattern.forbid & header.bit() != 0 {
                let before = left;
                left.retain(|byte| !is(byte));
                if left.is_empty() {
                    return Err(format!("{} always has {header}", describe(&before)));
                }
            }
        }
        if let Some(condition) = self.condition("payload.len")
            && !condition.matches(0)
        {
            let before = left;
            left.retain(has_payload);
            if left.is_empty() {
                return Err(format!("{} has no payload", describe(&before)));
            }
        }
        if self.needs(Header::Mad)
            && let Some(condition) = self.condition("bth.dest_qp")
            && !condition.matches(0)
            && !condition.matches(1)
        {
            return Err("only packets to QP 0 or 1 have mad".into());
        }
        Ok(())
    }
}

/// Unknown opcodes may have any payload.
pub(super) fn has_payload(byte: u8) -> bool {
    !matches!(
        Opcode::from_byte(byte),
        Some(
            Opcode::Cnp
                | Opcode::Ib(
                    _,
                    Op::ReadRequest
                        | Op::Acknowledge
                        | Op::AtomicAcknowledge
                        | Op::CompareSwap
                        | Op::FetchAdd
                )
        )
    )
}

fn describe(opcodes: &Opcodes) -> String {
    let names: Vec<String> = opcodes
        .iter()
        .map(|byte| Opcode::from_byte(byte).map_or_else(|| format!("{byte:#04x}"), name))
        .take(4)
        .collect();
    match names.len() {
        4 => format!("{}, …", names.get(..3).unwrap_or_default().join(", ")),
        _ => names.join(", "),
    }
}

/// Whether a selection leaves any match to hit.
pub(super) fn selection(select: &Selection) -> Result<(), String> {
    if select.until.is_some_and(|until| until <= select.from) {
        return Err("the time window is empty: 'until' is not after 'from'".into());
    }
    let possible = if select.nth.is_empty() {
        let turn = (select.after / select.every).checked_add(1);
        let next = turn.and_then(|turn| turn.checked_mul(select.every));
        next.is_some_and(|next| select.first.is_none_or(|first| next <= first))
    } else {
        select.nth.iter().any(|n| select.takes(*n))
    };
    if possible {
        Ok(())
    } else {
        Err("no match is left by 'nth', 'every', 'first' and 'after' together".into())
    }
}
