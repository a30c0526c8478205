//! The `action` of a rule, and what it asks of the frames that the rule matches.

use std::time::Duration;

use super::super::error::Mistake;
use super::super::field::{Field, Kind, Source};
use super::super::opcodes::Opcodes;
use super::super::rule::{Action, Answer, Damage, Pattern, Repair, Target};
use super::super::term::{Condition, in_range, parse_value};
use super::condition::field;
use super::value::{Table, Value};
use crate::opcode::{Opcode, Service};

const NAMES: &str = "pass, drop, duplicate, delay, reorder, corrupt, truncate, ecn-ce, set, forge";

/// The longest time that an action may hold a frame.
const LONGEST: Duration = Duration::from_secs(60);

/// Reads an action and adds to `pattern` what it needs of a frame.
pub(super) fn read(value: Value<'_>, pattern: &mut Pattern) -> Result<Action, Mistake> {
    if let Some(name) = value.string() {
        return match name {
            "pass" => Ok(Action::Pass),
            "drop" => Ok(Action::Drop),
            "ecn-ce" => {
                pattern.any_ip = true;
                Ok(Action::EcnCe)
            }
            _ => Err(value.wrong(format!(
                "no action '{name}' by itself: \"drop\", \"pass\", \"ecn-ce\", or a table, \
                 like {{ delay = \"1ms\" }} ({NAMES})"
            ))),
        };
    }
    let table = value.table()?;
    // 'delay' is also a parameter of 'duplicate': that comes first.
    if let Some(copies) = table.get("duplicate") {
        table.only(&["duplicate", "delay"])?;
        return Ok(Action::Duplicate {
            copies: copies.number(1, 16)? as u32,
            delay: held(&table, "delay")?.unwrap_or_default(),
        });
    }
    if let Some(fixed) = table.get("delay") {
        table.only(&["delay", "jitter"])?;
        let (fixed, jitter) = (limited(fixed)?, held(&table, "jitter")?.unwrap_or_default());
        if fixed + jitter == Duration::ZERO {
            return Err(value.wrong("a delay of nothing does nothing"));
        }
        return Ok(Action::Delay { fixed, jitter });
    }
    if let Some(by) = table.get("reorder") {
        table.only(&["reorder", "timeout"])?;
        let timeout = held(&table, "timeout")?.unwrap_or(Duration::from_millis(1));
        if let (Some(value), true) = (table.get("timeout"), timeout.is_zero()) {
            return Err(value.wrong("within no time nothing overtakes"));
        }
        return Ok(Action::Reorder {
            by: by.number(1, 1024)? as u32,
            timeout,
        });
    }
    if let Some(target) = table.get("corrupt") {
        return corrupt(target, &table, pattern);
    }
    if let Some(len) = table.get("truncate") {
        table.only(&["truncate"])?;
        let len = len.number(14, 65535)? as u32;
        at_least(pattern, "frame.len", u128::from(len) + 1)
            .map_err(|message| value.wrong(message))?;
        return Ok(Action::Truncate(len));
    }
    if let Some(fields) = table.get("set") {
        return set(fields, &table, pattern);
    }
    if let Some(answer) = table.get("forge") {
        return forge(answer, &table, pattern);
    }
    Err(value.wrong(format!("no action is named here ({NAMES})")))
}

fn limited(value: Value<'_>) -> Result<Duration, Mistake> {
    let duration = value.duration()?;
    if duration > LONGEST {
        return Err(value.wrong(format!("'{}' is longer than a minute", value.key)));
    }
    Ok(duration)
}

fn held(table: &Table<'_>, key: &str) -> Result<Option<Duration>, Mistake> {
    table.get(key).map(limited).transpose()
}

/// Adds `field >= min`.
fn at_least(pattern: &mut Pattern, name: &str, min: u128) -> Result<(), String> {
    let field = field(name)?;
    let mut condition = Condition::new(field);
    condition.add(&format!(">= {min}"))?;
    // Together with what the rule itself says about it.
    if let Some(own) = pattern.conditions.iter().find(|own| own.field == field) {
        let possible =
            (0..=field.max()).any(|value| own.matches(value) && condition.matches(value));
        if !possible {
            return Err(format!("the action needs {name} of at least {min}"));
        }
    }
    pattern.conditions.push(condition);
    Ok(())
}

fn repair(table: &Table<'_>, default: bool) -> Result<Repair, Mistake> {
    let choice = |key: &str| -> Result<bool, Mistake> {
        let Some(value) = table.get(key) else {
            return Ok(default);
        };
        match value.text()? {
            "leave" => Ok(false),
            "repair" => Ok(true),
            _ => Err(value.wrong(format!("'{key}' is \"leave\" or \"repair\""))),
        }
    };
    Ok(Repair {
        checksum: choice("checksum")?,
        icrc: choice("icrc")?,
    })
}

fn corrupt(target: Value<'_>, table: &Table<'_>, pattern: &mut Pattern) -> Result<Action, Mistake> {
    table.only(&["corrupt", "bits", "xor", "icrc", "checksum"])?;
    let mut room = None;
    let place = if let Some(offset) = target.integer() {
        let offset = u32::try_from(offset?)
            .ok()
            .filter(|offset| *offset < 65535)
            .ok_or_else(|| target.wrong("an offset is from 0 to 65534"))?;
        at_least(pattern, "frame.len", u128::from(offset) + 1)
            .map_err(|message| target.wrong(message))?;
        room = Some(8);
        Target::Offset(offset)
    } else {
        match target.text()? {
            "random" => {
                at_least(pattern, "frame.len", 20).map_err(|message| target.wrong(message))?;
                Target::Anywhere
            }
            "payload" => {
                at_least(pattern, "payload.len", 1).map_err(|message| target.wrong(message))?;
                Target::Payload
            }
            "icrc" => {
                pattern.require(super::super::field::Header::Bth);
                room = Some(32);
                Target::Icrc
            }
            name => {
                let field = field(name).map_err(|message| {
                    target.wrong(format!(
                        "{message}; or \"random\", \"payload\", \"icrc\", or an offset"
                    ))
                })?;
                in_frame(field, pattern).map_err(|message| target.wrong(message))?;
                room = Some(field.width);
                Target::Field(field)
            }
        }
    };
    let damage = match (table.get("xor"), table.get("bits")) {
        (Some(xor), Some(_)) => return Err(xor.wrong("either 'xor' or 'bits'")),
        (Some(xor), None) => {
            if matches!(place, Target::Anywhere) {
                return Err(xor.wrong("'xor' needs a place: an offset, a field, payload or icrc"));
            }
            let bits = match xor.integer() {
                Some(number) => number?,
                None => super::super::term::parse_number(xor.text()?)
                    .ok_or_else(|| xor.wrong("'xor' is a number"))?,
            };
            let limit = room.unwrap_or(8);
            if bits == 0 || (limit < 128 && bits >> limit != 0) {
                return Err(xor.wrong(format!("'xor' inverts 1 to {limit} bits here")));
            }
            Damage::Xor(bits)
        }
        (None, bits) => {
            let max = room.map_or(64, u64::from).min(64);
            Damage::Random(bits.map_or(Ok(1), |bits| bits.number(1, max))? as u32)
        }
    };
    let repair = repair(table, false)?;
    if repair.icrc && matches!(place, Target::Icrc) {
        return Err(target.wrong("a corrupted ICRC that is repaired is not corrupted"));
    }
    if let (Target::Field(field), true) = (&place, repair.checksum)
        && is_checksum(field)
    {
        return Err(target.wrong("a corrupted checksum that is repaired is not corrupted"));
    }
    Ok(Action::Corrupt {
        target: place,
        damage,
        repair,
    })
}

/// Whether repairing checksums decides about its value.
fn is_checksum(field: &Field) -> bool {
    field.name.ends_with(".checksum")
}

/// Requires the header of a field that is to be changed.
fn in_frame(field: &'static Field, pattern: &mut Pattern) -> Result<(), String> {
    match field.source {
        Source::Bits { header, .. } => {
            pattern.require(header);
            Ok(())
        }
        _ => Err(format!(
            "{} follows from the frame and cannot be changed",
            field.name
        )),
    }
}

fn set(fields: Value<'_>, table: &Table<'_>, pattern: &mut Pattern) -> Result<Action, Mistake> {
    table.only(&["set", "icrc", "checksum"])?;
    let repair = repair(table, true)?;
    let mut values: Vec<(&'static Field, u128)> = Vec::new();
    let mut take = |name: &str, value: Value<'_>, pattern: &mut Pattern| {
        let (field, number) = set_one(name, value, pattern)?;
        if let Some((other, _)) = values.iter().find(|(other, _)| overlap(other, field)) {
            return Err(value.wrong(if *other == field {
                format!("{} is set twice", field.name)
            } else {
                format!(
                    "{} and {} share bits: set one of them",
                    other.name, field.name
                )
            }));
        }
        if repair.checksum && is_checksum(field) {
            return Err(value.wrong(format!(
                "{} is computed anew, unless there is checksum = \"leave\"",
                field.name
            )));
        }
        values.push((field, number));
        Ok(())
    };
    for value in fields.table()?.iter() {
        if value.is_table() {
            for inner in value.table()?.iter() {
                let name = format!("{}.{}", value.key, inner.key);
                take(&name, inner, pattern)?;
            }
        } else {
            take(value.key, value, pattern)?;
        }
    }
    if values.is_empty() {
        return Err(fields.wrong("'set' names no field"));
    }
    Ok(Action::Set {
        fields: values,
        repair,
    })
}

/// Whether both have bits in common.
fn overlap(a: &Field, b: &Field) -> bool {
    let range = |field: &Field| match field.source {
        Source::Bits { header, offset } => Some((header, offset, offset + u16::from(field.width))),
        _ => None,
    };
    match (range(a), range(b)) {
        (Some((header, from, to)), Some((other, start, end))) => {
            header == other && from < end && start < to
        }
        _ => false,
    }
}

fn set_one(
    name: &str,
    value: Value<'_>,
    pattern: &mut Pattern,
) -> Result<(&'static Field, u128), Mistake> {
    let field = field(name).map_err(|message| value.wrong(message))?;
    in_frame(field, pattern).map_err(|message| value.wrong(message))?;
    let is_address = matches!(field.kind, Kind::Mac | Kind::Ipv4 | Kind::Ipv6);
    let number = if let (Some(there), Kind::Flag) = (value.boolean(), field.kind) {
        u128::from(there)
    } else if let (Some(number), false) = (value.integer(), is_address) {
        in_range(field, number?).map_err(|message| value.wrong(message))?
    } else {
        let text = value.text()?;
        let opcodes = Opcodes::named(text);
        let mut named = opcodes.iter();
        match (field.kind, named.next(), named.next()) {
            (Kind::Opcode, Some(byte), None) => u128::from(byte),
            (Kind::Opcode, Some(_), Some(_)) => {
                return Err(value.wrong(format!("'{text}' is more than one opcode")));
            }
            _ => parse_value(field, text).map_err(|message| value.wrong(message))?,
        }
    };
    Ok((field, number))
}

fn forge(answer: Value<'_>, table: &Table<'_>, pattern: &mut Pattern) -> Result<Action, Mistake> {
    let name = answer.text()?;
    let answer = match name {
        "ack" => Answer::Ack,
        "nak-sequence-error" => Answer::Nak(0x60),
        "nak-invalid-request" => Answer::Nak(0x61),
        "nak-remote-access" => Answer::Nak(0x62),
        "nak-remote-operational" => Answer::Nak(0x63),
        "nak-invalid-rd-request" => Answer::Nak(0x64),
        "nak" => Answer::Nak(0x60 | table.need("code")?.number(0, 31)? as u8),
        "rnr-nak" => Answer::RnrNak(table.number("timer", 0, 31)?.unwrap_or(12) as u8),
        "cnp" => Answer::Cnp,
        other => {
            return Err(answer.wrong(format!(
                "no answer '{other}' (ack, nak-sequence-error, nak-invalid-request, \
                 nak-remote-access, nak-remote-operational, nak-invalid-rd-request, nak with 'code', \
                 rnr-nak, cnp)"
            )));
        }
    };
    match answer {
        Answer::RnrNak(_) => table.only(&["forge", "deliver", "dest_qp", "timer"])?,
        Answer::Nak(_) if name == "nak" => table.only(&["forge", "deliver", "dest_qp", "code"])?,
        _ => table.only(&["forge", "deliver", "dest_qp"])?,
    }
    let mut opcodes = Opcodes::ALL;
    opcodes.retain(|byte| match (Opcode::from_byte(byte), answer) {
        // Notifications exist in RoCE v2 only, and are not answered by one.
        (Some(Opcode::Ib(..)), Answer::Cnp) => true,
        (Some(Opcode::Ib(Service::Rc | Service::Xrc, op)), _) => op.is_request(),
        _ => false,
    });
    pattern.opcodes = Some(opcodes);
    if answer == Answer::Cnp {
        pattern.roce = Some(2);
    }
    Ok(Action::Forge {
        answer,
        deliver: table
            .get("deliver")
            .map_or(Ok(answer == Answer::Cnp), |v| v.flag())?,
        dest_qp: table.number("dest_qp", 0, 0xff_ffff)?.map(|qpn| qpn as u32),
    })
}
