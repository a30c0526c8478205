//! Entries that match what a device does: commands, events, interrupts, completions.

use std::time::Duration;

use rocinante_device::mlx5::fault::names;
use rocinante_device::mlx5::fault::{
    CommandAction, CommandFault, CompletionAction, CompletionFault, Condition, Delivery,
    EventFault, InterruptFault, Kind, QueueKind,
};
use rocinante_firmware_cmd::layout::Layout;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_wire::fault::glob;
use rocinante_wire::fault::reading::{SELECTION, Table, Value, selection};

use super::super::layouts;
use super::{LAST_VECTOR, Result, named, number_or_name, only, value_of};

/// Keys of entries that something matches.
const MATCHING: [&str; 5] = ["name", "nic", "match", "action", "seed"];

/// The one key of an action that is a table, and those that go with it.
fn action_table<'t>(value: Value<'t>, known: &[(&str, &[&str])]) -> Result<(String, Table<'t>)> {
    let table = value.table()?;
    let found = known.iter().find(|(key, _)| table.get(key).is_some());
    let Some((key, others)) = found else {
        let keys: Vec<_> = known.iter().map(|(key, _)| *key).collect();
        return Err(value.wrong(format!("an action has one of {}", keys.join(", "))));
    };
    only(&table, &[&[*key], others])?;
    Ok(((*key).to_owned(), table))
}

fn matching<'t>(table: &Table<'t>, keys: &[&str]) -> Result<Option<Table<'t>>> {
    let Some(value) = table.get("match") else {
        return Ok(None);
    };
    let inner = value.table()?;
    if !keys.is_empty() {
        inner.only(keys)?;
    }
    Ok(Some(inner))
}

/// The commands that a pattern means.
fn opcodes(value: Value<'_>) -> Result<Vec<Opcode>> {
    let mut found = Vec::new();
    for item in value.list() {
        let before = found.len();
        if let Some(number) = item.integer() {
            let number = u16::try_from(number?).ok();
            found.extend(number.and_then(Opcode::from_u16));
        } else {
            let pattern = item.text()?;
            let fits = |opcode: &&Opcode| glob(pattern, opcode.name());
            found.extend(Opcode::ALL.iter().filter(fits).copied());
        }
        if found.len() == before {
            return Err(item.wrong(format!("no command '{}'", shown(item))));
        }
    }
    if found.is_empty() {
        return Err(value.wrong("'opcode': an empty list matches nothing"));
    }
    Ok(found)
}

fn shown(value: Value<'_>) -> String {
    match (value.string(), value.integer()) {
        (Some(text), _) => text.to_owned(),
        (_, Some(Ok(number))) => format!("{number:#x}"),
        _ => String::new(),
    }
}

/// Fields with values, for each of the opcodes.
fn conditions(
    values: &[Value<'_>],
    opcodes: &[Opcode],
    layout: impl Fn(Opcode) -> Option<&'static Layout>,
) -> Result<Vec<(u16, Vec<Condition>)>> {
    let mut all = Vec::new();
    for opcode in opcodes {
        let mut of_this = Vec::new();
        for value in values {
            // What is not offered here is refused anyway, and has no fields.
            let Some(layout) = layout(*opcode) else {
                let message = format!("{} is not offered: its fields are not known", opcode.name());
                return Err(value.wrong(message));
            };
            let field =
                layouts::field(layout, value.key).map_err(|message| value.wrong(message))?;
            let number = value_of(*value)?;
            layouts::fits(&field, number).map_err(|message| value.wrong(message))?;
            of_this.push(Condition {
                field,
                value: number,
            });
        }
        all.push((opcode.code(), of_this));
    }
    Ok(all)
}

/// Fields in a table: `{ a = 1, b.c = 2 }`.
fn fields<'t>(table: &Table<'t>, skip: &[&str]) -> Vec<Value<'t>> {
    table
        .iter()
        .filter(|value| !skip.contains(&value.key))
        .collect()
}

pub(super) fn command(table: &Table<'_>) -> Result<Kind> {
    only(table, &[&MATCHING, &SELECTION])?;
    let inner = matching(table, &[])?;
    let mut op_mod = None;
    let mut wanted = Vec::new();
    let found = match &inner {
        None => Opcode::ALL.to_vec(),
        Some(inner) => {
            op_mod = inner.number("op_mod", 0, 0xffff)?.map(|n| n as u16);
            wanted = fields(inner, &["opcode", "op_mod"]);
            match inner.get("opcode") {
                Some(value) => opcodes(value)?,
                None => Opcode::ALL.to_vec(),
            }
        }
    };
    let input = |opcode: Opcode| Some(opcode.command()?.input);
    Ok(Kind::Command(
        selection(table)?,
        CommandFault {
            opcodes: conditions(&wanted, &found, input)?,
            op_mod,
            action: command_action(table.need("action")?, &found)?,
        },
    ))
}

fn command_action(value: Value<'_>, opcodes: &[Opcode]) -> Result<CommandAction> {
    const WORDS: [&str; 6] = [
        "ignore",
        "no-answer",
        "no-event",
        "wrong-token",
        "wrong-signature",
        "wrong-ownership",
    ];
    if let Some(word) = value.string() {
        return Ok(match word {
            "ignore" => CommandAction::Ignore,
            "no-answer" => CommandAction::NoAnswer,
            "no-event" => CommandAction::NoEvent,
            "wrong-token" => CommandAction::Token,
            "wrong-signature" => CommandAction::Signature,
            "wrong-ownership" => CommandAction::Ownership,
            _ => {
                let known = WORDS.join(", ");
                return Err(value.wrong(format!(
                    "no action '{word}' ({known}, or a table with status, delay, corrupt, set or delivery)"
                )));
            }
        });
    }
    let known: [(&str, &[&str]); 5] = [
        ("status", &["syndrome", "executed"]),
        ("delay", &[]),
        ("corrupt", &["bits"]),
        ("set", &[]),
        ("delivery", &[]),
    ];
    let (key, table) = action_table(value, &known)?;
    let main = table.need(&key)?;
    Ok(match key.as_str() {
        "status" => {
            let text = main.text()?;
            let status = names::status(text).ok_or_else(|| {
                main.wrong(format!(
                    "no status '{text}' (as drivers print them: BAD_PARAM, NO_RES, …)"
                ))
            })?;
            let syndrome = table.number("syndrome", 0, u64::from(u32::MAX))?;
            let syndrome = syndrome.unwrap_or(0) as u32;
            let executed = table.get("executed").map(|value| value.flag());
            if executed.transpose()?.unwrap_or(false) {
                CommandAction::Deny { status, syndrome }
            } else {
                CommandAction::Refuse { status, syndrome }
            }
        }
        "delay" => CommandAction::Delay(late(main)?),
        "corrupt" => {
            if main.text()? != "output" {
                return Err(main.wrong("'corrupt' is \"output\""));
            }
            let bits = table.number("bits", 1, 1 << 16)?;
            CommandAction::Corrupt(bits.unwrap_or(1) as u32)
        }
        "set" => {
            let output = |opcode: Opcode| Some(opcode.command()?.output);
            let wanted = fields(&main.table()?, &[]);
            if wanted.is_empty() {
                return Err(main.wrong("'set' says nothing"));
            }
            CommandAction::Set(conditions(&wanted, opcodes, output)?)
        }
        _ => CommandAction::Delivery(named(main, names::DELIVERY)?),
    })
}

/// A delay that can be noticed.
fn late(value: Value<'_>) -> Result<Duration> {
    let delay = value.duration()?;
    if delay.is_zero() {
        return Err(value.wrong("a delay of nothing does nothing"));
    }
    Ok(delay)
}

fn delivery(value: Value<'_>) -> Result<Delivery> {
    if let Some(word) = value.string() {
        return match word {
            "drop" => Ok(Delivery::Drop),
            _ => Err(value.wrong(format!(
                "no action '{word}' (drop, {{ delay = … }}, {{ duplicate = … }})"
            ))),
        };
    }
    let known: [(&str, &[&str]); 2] = [("duplicate", &["delay"]), ("delay", &[])];
    let (key, table) = action_table(value, &known)?;
    Ok(match key.as_str() {
        "duplicate" => {
            let copies = table.need("duplicate")?.number(1, 1000)?;
            let delay = table.duration("delay")?;
            Delivery::Duplicate(copies as u32, delay.unwrap_or_default())
        }
        _ => Delivery::Delay(late(table.need("delay")?)?),
    })
}

pub(super) fn event(table: &Table<'_>) -> Result<Kind> {
    only(table, &[&MATCHING, &SELECTION])?;
    let mut fault = EventFault {
        types: Vec::new(),
        eqn: None,
        sub_type: None,
        action: delivery(table.need("action")?)?,
    };
    if let Some(inner) = matching(table, &["type", "eq", "sub_type"])? {
        if let Some(value) = inner.get("type") {
            if value.list().is_empty() {
                return Err(value.wrong("'type': an empty list matches nothing"));
            }
            for item in value.list() {
                fault.types.push(number_or_name(item, names::EVENTS)?);
            }
            if fault.types.is_empty() {
                return Err(value.wrong("'type': an empty list matches nothing"));
            }
        }
        fault.eqn = inner.number("eq", 1, 0xff)?.map(|n| n as u32);
        fault.sub_type = inner.number("sub_type", 0, 0xff)?.map(|n| n as u8);
    }
    Ok(Kind::Event(selection(table)?, fault))
}

pub(super) fn interrupt(table: &Table<'_>) -> Result<Kind> {
    only(table, &[&MATCHING, &SELECTION])?;
    let inner = matching(table, &["vector"])?;
    let vector = inner.map(|inner| inner.number("vector", 0, LAST_VECTOR));
    let fault = InterruptFault {
        vector: vector.transpose()?.flatten().map(|n| n as u16),
        action: delivery(table.need("action")?)?,
    };
    Ok(Kind::Interrupt(selection(table)?, fault))
}

pub(super) fn completion(table: &Table<'_>) -> Result<Kind> {
    only(table, &[&MATCHING, &SELECTION, &["per"]])?;
    let action = table.need("action")?;
    let action = match action.string() {
        Some("drop") => CompletionAction::Drop,
        Some("duplicate") => CompletionAction::Duplicate,
        Some("overrun") => CompletionAction::Overrun,
        Some(word) => {
            return Err(action.wrong(format!(
                "no action '{word}' (drop, duplicate, overrun, {{ syndrome = … }})"
            )));
        }
        None => {
            let (_, inner) = action_table(action, &[("syndrome", &["vendor"])])?;
            let value = inner.need("syndrome")?;
            let syndrome = number_or_name(value, names::CQE)?;
            if syndrome == 0 {
                return Err(value.wrong("syndrome 0 is none"));
            }
            CompletionAction::Fail {
                syndrome,
                vendor: inner.number("vendor", 0, 0xff)?.unwrap_or(0) as u8,
            }
        }
    };
    let mut fault = CompletionFault {
        cqn: None,
        qpn: None,
        queue: None,
        request: None,
        per_queue: false,
        action,
    };
    if let Some(value) = table.get("per") {
        fault.per_queue = match value.text()? {
            "all" => false,
            "qp" => true,
            _ => return Err(value.wrong("'per' is \"all\" or \"qp\"")),
        };
    }
    if let Some(inner) = matching(table, &["cq", "qp", "service", "side"])? {
        fault.cqn = inner.number("cq", 0, 0xff_ffff)?.map(|n| n as u32);
        fault.qpn = inner.number("qp", 0, 0xff_ffff)?.map(|n| n as u32);
        if let Some(value) = inner.get("service") {
            fault.queue = Some(match value.text()? {
                "ETHERNET" => QueueKind::Ethernet,
                _ => QueueKind::Qp(named(value, names::SERVICES)?),
            });
        }
        if let Some(value) = inner.get("side") {
            fault.request = Some(match value.text()? {
                "send" => true,
                "receive" => false,
                _ => return Err(value.wrong("'side' is \"send\" or \"receive\"")),
            });
        }
    }
    Ok(Kind::Completion(selection(table)?, fault))
}
