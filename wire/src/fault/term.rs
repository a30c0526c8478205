//! Conditions on one field: how they are written, what they match, and whether anything can.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::field::{Field, Kind};
use super::opcodes::Opcodes;
use crate::MacAddr;

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// Both ends included.
    Range { min: u128, max: u128 },
    /// The bits of `mask` are those of `value`.
    Masked { mask: u128, value: u128 },
    /// Opcodes by name.
    Opcodes(Opcodes),
}

impl Test {
    fn is(value: u128) -> Test {
        Test::Range {
            min: value,
            max: value,
        }
    }

    fn matches(&self, value: u128) -> bool {
        match self {
            Test::Range { min, max } => (*min..=*max).contains(&value),
            Test::Masked { mask, value: bits } => value & mask == *bits,
            Test::Opcodes(set) => u8::try_from(value).is_ok_and(|byte| set.has(byte)),
        }
    }

    /// Whether all that this matches, `other` matches too; false also where that is hard to say.
    pub(crate) fn is_within(&self, other: &Test) -> bool {
        match (self, other) {
            _ if self == other => true,
            (Test::Range { min, max }, _) if min == max => other.matches(*min),
            (Test::Range { min, max }, Test::Range { min: from, max: to }) => {
                from <= min && max <= to
            }
            (
                Test::Masked { mask, value },
                Test::Masked {
                    mask: wider,
                    value: bits,
                },
            ) => mask & wider == *wider && value & wider == *bits,
            _ => false,
        }
    }

    /// The same as an interval of a field of `width` bits, where it is one.
    fn interval(&self, width: u8) -> Option<(u128, u128)> {
        match *self {
            Test::Range { min, max } => Some((min, max)),
            Test::Masked { mask, value } => {
                let all = u128::MAX >> (128 - u32::from(width.clamp(1, 128)));
                let free = all & !mask;
                // One interval only if the free bits are the lowest ones.
                (free & free.wrapping_add(1) == 0).then_some((value, value | free))
            }
            Test::Opcodes(_) => None,
        }
    }
}

/// A condition on a field: any of the positive tests (if there are some) and none of the negated
/// ones. A frame without the field does not meet it.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) field: &'static Field,
    pub(crate) any: Vec<Test>,
    pub(crate) none: Vec<Test>,
}

impl Condition {
    pub(crate) fn new(field: &'static Field) -> Condition {
        Condition {
            field,
            any: Vec::new(),
            none: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn matches(&self, value: u128) -> bool {
        (self.any.is_empty() || self.any.iter().any(|test| test.matches(value)))
            && !self.none.iter().any(|test| test.matches(value))
    }

    /// Adds what a string says.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), String> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix('!') {
            let rest = rest.strip_prefix('=').unwrap_or(rest);
            let test = parse_test(self.field, rest.trim())?;
            self.none.push(test);
        } else {
            let test = parse_test(self.field, text)?;
            self.any.push(test);
        }
        Ok(())
    }

    /// Whether a value exists that it matches. Where that is hard to say (masks of many kinds on
    /// a wide field) the answer is yes.
    pub(crate) fn is_possible(&self) -> bool {
        if self.field.width <= 16 {
            return (0..=self.field.max()).any(|value| self.matches(value));
        }
        let is_excluded = |test: &Test| self.none.iter().any(|other| test.is_within(other));
        if !self.any.is_empty() && self.any.iter().all(is_excluded) {
            return false;
        }
        let intervals = |tests: &[Test]| -> Option<Vec<(u128, u128)>> {
            tests
                .iter()
                .map(|test| test.interval(self.field.width))
                .collect()
        };
        let (Some(mut any), Some(mut none)) = (intervals(&self.any), intervals(&self.none)) else {
            return true;
        };
        if any.is_empty() {
            any.push((0, self.field.max()));
        }
        none.sort_unstable();
        any.into_iter().any(|(min, max)| {
            // The lowest value that is not excluded.
            let mut low = Some(min);
            for (from, to) in &none {
                if let Some(value) = low
                    && (*from..=*to).contains(&value)
                {
                    low = to.checked_add(1);
                }
            }
            low.is_some_and(|low| low <= max)
        })
    }
}

/// A value as it is written in a string.
pub(crate) fn parse_value(field: &Field, text: &str) -> Result<u128, String> {
    let wrong = |what: &str| format!("'{text}' is not {what} ({})", field.name);
    let value = match field.kind {
        Kind::Mac => match text.parse::<MacAddr>() {
            Ok(mac) => mac
                .octets()
                .iter()
                .fold(0, |value, octet| value << 8 | u128::from(*octet)),
            Err(_) => return Err(wrong("a MAC address")),
        },
        Kind::Ipv4 => match text.parse::<Ipv4Addr>() {
            Ok(ip) => u128::from(u32::from(ip)),
            Err(_) => return Err(wrong("an IPv4 address")),
        },
        Kind::Ipv6 => match text.parse::<Ipv6Addr>() {
            Ok(ip) => u128::from(ip),
            Err(_) => return Err(wrong("an IPv6 address")),
        },
        Kind::Number | Kind::Opcode | Kind::Flag => {
            parse_number(text).ok_or_else(|| wrong("a number"))?
        }
    };
    in_range(field, value)
}

/// `value` if the field can hold it.
pub(crate) fn in_range(field: &Field, value: u128) -> Result<u128, String> {
    if value > field.max() {
        return Err(format!(
            "{value:#x} does not fit {}, which has {} bit{}",
            field.name,
            field.width,
            if field.width == 1 { "" } else { "s" }
        ));
    }
    Ok(value)
}

/// Decimal, or with `0x`, `0o`, `0b`; `_` may stand between digits.
pub(crate) fn parse_number(text: &str) -> Option<u128> {
    let digits = text.replace('_', "");
    let (digits, radix) = match digits.get(..2) {
        Some("0x") => (digits.get(2..)?, 16),
        Some("0o") => (digits.get(2..)?, 8),
        Some("0b") => (digits.get(2..)?, 2),
        _ => (digits.as_str(), 10),
    };
    // The standard library would take a sign.
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    u128::from_str_radix(digits, radix).ok()
}

fn parse_test(field: &Field, text: &str) -> Result<Test, String> {
    let value = |text: &str| parse_value(field, text.trim());
    if let Some(rest) = text.strip_prefix(">=") {
        return Ok(Test::Range {
            min: value(rest)?,
            max: field.max(),
        });
    }
    if let Some(rest) = text.strip_prefix("<=") {
        return Ok(Test::Range {
            min: 0,
            max: value(rest)?,
        });
    }
    if let Some(rest) = text.strip_prefix('>') {
        let above = value(rest)?;
        if above == field.max() {
            return Err(format!("no value of {} is greater", field.name));
        }
        return Ok(Test::Range {
            min: above + 1,
            max: field.max(),
        });
    }
    if let Some(rest) = text.strip_prefix('<') {
        let Some(max) = value(rest)?.checked_sub(1) else {
            return Err(format!("no value of {} is less", field.name));
        };
        return Ok(Test::Range { min: 0, max });
    }
    if let Some(rest) = text.strip_prefix('&') {
        let Some((mask, bits)) = rest.split_once("==") else {
            return Err(format!("'{text}' is not '& MASK == VALUE'"));
        };
        let (mask, bits) = (value(mask)?, value(bits)?);
        if bits & !mask != 0 {
            return Err(format!(
                "'{text}' can never be: {bits:#x} has bits outside of {mask:#x}"
            ));
        }
        return Ok(Test::Masked { mask, value: bits });
    }
    if let Some((min, max)) = text.split_once("..") {
        let (min, max) = (value(min)?, value(max)?);
        if min > max {
            return Err(format!("'{text}' is empty: write the smaller value first"));
        }
        return Ok(Test::Range { min, max });
    }
    if let (Kind::Ipv4 | Kind::Ipv6, Some((address, len))) = (field.kind, text.split_once('/')) {
        let bits = value(address)?;
        let len = len
            .parse::<u8>()
            .ok()
            .filter(|len| *len <= field.width)
            .ok_or_else(|| format!("'{text}' has no prefix length from 0 to {}", field.width))?;
        let host = field.max().checked_shr(u32::from(len)).unwrap_or(0);
        if bits & host != 0 {
            return Err(format!("'{text}' has bits behind its prefix"));
        }
        return Ok(Test::Masked {
            mask: field.max() & !host,
            value: bits,
        });
    }
    if field.kind == Kind::Opcode && parse_number(text).is_none() {
        let set = Opcodes::named(text);
        if set.is_empty() {
            return Err(format!(
                "no opcode is called '{text}' (RC_SEND_ONLY, RC_READ_RESPONSE_*, UD_*, CNP, …)"
            ));
        }
        return Ok(Test::Opcodes(set));
    }
    Ok(Test::is(value(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(field: &str, texts: &[&str]) -> Result<Condition, String> {
        let mut condition = Condition::new(Field::by_name(field).unwrap());
        texts.iter().try_for_each(|text| condition.add(text))?;
        Ok(condition)
    }

    #[test]
    fn every_way_to_compare() {
        for (field, texts, yes, no) in [
            ("bth.psn", &["5"][..], &[5u128][..], &[4u128, 6][..]),
            ("bth.psn", &["0x1_0"], &[16], &[10]),
            ("bth.psn", &["!= 5"], &[4, 6, 0xff_ffff], &[5]),
            ("bth.psn", &["!5", "!6"], &[4, 7], &[5, 6]),
            ("bth.psn", &["> 5"], &[6, 0xff_ffff], &[5, 0]),
            ("bth.psn", &[">=5"], &[5], &[4]),
            ("bth.psn", &["< 5"], &[4, 0], &[5]),
            ("bth.psn", &["<= 5"], &[5], &[6]),
            ("bth.psn", &["5..7", "10"], &[5, 7, 10], &[4, 8, 9]),
            ("bth.psn", &["5..7", "!= 6"], &[5, 7], &[6]),
            ("tcp.flags", &["& 0x12 == 0x02"], &[2, 0x0a], &[0x12, 0]),
            ("ipv4.src", &["10.1.0.0/16"], &[0x0a01_ffff], &[0x0a02_0000]),
            ("ipv4.src", &["0.0.0.0/0"], &[0, 0xffff_ffff], &[]),
            (
                "ipv6.src",
                &["fe80::/10"],
                &[0xfe80 << 112],
                &[0xfec0 << 112],
            ),
            ("eth.src", &["02:00:00:00:00:01"], &[0x0200_0000_0001], &[1]),
            ("opcode", &["RC_SEND_*", "0x81"], &[4, 0, 0x81], &[0x24, 6]),
        ] {
            let condition = condition(field, texts).unwrap();
            for value in yes {
                assert!(condition.matches(*value), "{field} {texts:?} {value:#x}");
            }
            for value in no {
                assert!(!condition.matches(*value), "{field} {texts:?} {value:#x}");
            }
            assert!(condition.is_possible(), "{field} {texts:?}");
        }
    }

    #[test]
    fn values_that_a_field_cannot_have_are_refused() {
        for (field, text) in [
            ("bth.psn", "0x1000000"),
            ("bth.psn", "-1"),
            ("bth.psn", "+1"),
            ("bth.psn", "many"),
            ("bth.psn", "7..5"),
            ("bth.psn", "> 0xffffff"),
            ("bth.psn", "< 0"),
            ("tcp.flags", "& 0x01 == 0x02"),
            ("tcp.flags", "& 0x01"),
            ("ipv4.src", "10.0.0.0/33"),
            ("ipv4.src", "10.0.0.1/8"),
            ("ipv4.src", "fe80::1"),
            ("eth.src", "02:00"),
            ("opcode", "RC_NOTHING"),
            ("opcode", "256"),
        ] {
            let result = condition(field, &[text]);
            assert!(result.is_err(), "{field} {text}: {result:?}");
        }
    }

    #[test]
    fn contradictions_are_seen() {
        for (field, texts, possible) in [
            ("bth.padcnt", &["!0", "!1", "!2", "!3"][..], false),
            ("bth.padcnt", &["!0", "!1", "!2"], true),
            ("bth.psn", &["5..7", "!5..6", "!7"], false),
            ("bth.psn", &["5..7", "!5..6"], true),
            ("bth.psn", &["!0..0xffffff"], false),
            ("ipv6.src", &["fe80::/64", "!fe80::/10"], false),
            ("ipv6.src", &["fe80::/10", "!fe80::/64"], true),
            ("ipv4.src", &["10.0.0.1", "!10.0.0.0/8"], false),
            ("opcode", &["RC_ACKNOWLEDGE", "!RC_*"], false),
            ("bth.psn", &["& 3 == 1", "!& 1 == 1"], false),
            ("bth.psn", &["& 1 == 1", "!& 3 == 1"], true),
            ("bth.psn", &["5", "& 3 == 1", "!& 1 == 1"], false),
        ] {
            let condition = condition(field, texts).unwrap();
            assert_eq!(condition.is_possible(), possible, "{field} {texts:?}");
        }
    }
}
