//! Entries of firmware and devices: from TOML to checked faults. Here are those that say how a device is; the others match what it
//! does, or happen by themselves.

mod happening;
mod matched;

use std::sync::Arc;
use std::time::Duration;

use rocinante_device::mlx5::fault::names::{self, Names, find};
use rocinante_device::mlx5::fault::{Fault, Injection, Kind, Override, Timeouts};
use rocinante_wire::fault::reading::{Entry, Mistake, More, Table, Value, seed};

use super::{DeviceFault, layouts};
use crate::serve::VECTORS;
use happening::{happening, raw_event, raw_interrupt, schedule};
use matched::{command, completion, event, interrupt};

/// The highest interrupt vector of a NIC.
const LAST_VECTOR: u64 = VECTORS as u64 - 1;

/// The kinds of entries.
const KINDS: &[&str] = &[
    "command",
    "event",
    "interrupt",
    "completion",
    "async",
    "health",
    "pages",
    "module",
    "sensor",
    "removal",
    "capability",
    "timeout",
];

/// Those that can also happen at once.
pub(super) const INJECTABLE: &[&str] = &[
    "async",
    "event",
    "interrupt",
    "health",
    "pages",
    "module",
    "sensor",
    "removal",
];

type Result<T> = std::result::Result<T, Mistake>;

/// Reads the entries of devices.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) faults: Vec<DeviceFault>,
    /// One entry is read for what it lets happen, not when.
    now: bool,
    pub(super) injection: Option<Injection>,
}

impl Reader {
    pub(super) fn for_injection() -> Reader {
        Reader {
            now: true,
            ..Reader::default()
        }
    }
}

impl More for Reader {
    fn kinds(&self) -> &[&'static str] {
        KINDS
    }

    fn read(&mut self, kind: &'static str, entry: &Entry<'_, '_>) -> Result<()> {
        let table = entry.table;
        if self.now {
            self.injection = Some(match kind {
                "event" => raw_event(table)?,
                "interrupt" => raw_interrupt(table)?,
                _ => happening(kind, table, &["name"])?,
            });
            return Ok(());
        }
        let nics = nics(table)?;
        let what = match kind {
            "command" => command(table)?,
            "event" => event(table)?,
            "interrupt" => interrupt(table)?,
            "completion" => completion(table)?,
            "capability" => capability(table)?,
            "timeout" => timeout(table)?,
            _ => {
                const TIMED: [&str; 7] =
                    ["name", "nic", "from", "until", "every", "count", "since"];
                let injection = happening(kind, table, &TIMED)?;
                Kind::Timed(schedule(table, injection)?, injection)
            }
        };
        self.faults.push(DeviceFault {
            line: entry.line,
            nics,
            fault: Arc::new(Fault::new(entry.name, seed(table, entry.name)?, what)),
        });
        Ok(())
    }
}

fn nics(table: &Table<'_>) -> Result<Vec<String>> {
    let Some(value) = table.get("nic") else {
        return Ok(Vec::new());
    };
    let list = value.list();
    if list.is_empty() {
        return Err(value.wrong("'nic': an empty list means nowhere"));
    }
    list.iter()
        .map(|item| item.text().map(str::to_owned))
        .collect()
}

fn only(table: &Table<'_>, keys: &[&[&str]]) -> Result<()> {
    table.only(&keys.concat())
}

/// A name of a table.
fn named<T: Copy>(value: Value<'_>, names: Names<T>) -> Result<T> {
    let text = value.text()?;
    find(names, text).ok_or_else(|| {
        let known: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        value.wrong(format!("no '{text}' ({})", known.join(", ")))
    })
}

/// A number, or a name of a table.
fn number_or_name(value: Value<'_>, names: Names<u8>) -> Result<u8> {
    match value.string() {
        Some(text) if !text.starts_with(|c: char| c.is_ascii_digit()) => named(value, names),
        _ => Ok(value.number(0, 0xff)? as u8),
    }
}

/// A number, or true or false.
fn value_of(value: Value<'_>) -> Result<u64> {
    match value.boolean() {
        Some(yes) => Ok(u64::from(yes)),
        None => value.number(0, u64::MAX),
    }
}

fn capability(table: &Table<'_>) -> Result<Kind> {
    table.only(&["name", "nic", "set"])?;
    let value = table.need("set")?;
    let mut overrides: Vec<Override> = Vec::new();
    for (path, value) in leaves("", &value.table()?)? {
        let number = value_of(value)?;
        let found = layouts::capability(&path, number).map_err(|message| value.wrong(message))?;
        let place = |one: &Override| (one.cap_type as u16, one.bit_offset);
        if overrides.iter().any(|other| place(other) == place(&found)) {
            return Err(value.wrong(format!("'{path}' is set twice")));
        }
        overrides.push(found);
    }
    if overrides.is_empty() {
        return Err(value.wrong("'set' says nothing"));
    }
    Ok(Kind::Capability(overrides))
}

/// Values by their paths: `a.b = 1` and `"a.b" = 1` are the same.
fn leaves<'t>(prefix: &str, table: &Table<'t>) -> Result<Vec<(String, Value<'t>)>> {
    let mut found = Vec::new();
    for value in table.iter() {
        let path = if prefix.is_empty() {
            value.key.to_owned()
        } else {
            format!("{prefix}.{}", value.key)
        };
        if value.is_table() {
            found.extend(leaves(&path, &value.table()?)?);
        } else {
            found.push((path, value));
        }
    }
    Ok(found)
}

fn timeout(table: &Table<'_>) -> Result<Kind> {
    let known: Vec<&str> = names::TIMEOUTS.iter().map(|(name, _)| *name).collect();
    only(table, &[&["name", "nic", "command", "init"], &known])?;
    let mut timeouts = Timeouts {
        command: table.duration("command")?,
        init: table.duration("init")?,
        registers: Vec::new(),
    };
    for (name, offset) in names::TIMEOUTS {
        if let Some(time) = table.duration(name)? {
            timeouts.registers.push((*offset, time));
        }
    }
    if timeouts == Timeouts::default() {
        return Err(Mistake::new(&table.span, "no timeout is given"));
    }
    let zero = |time: &Duration| time.as_millis() == 0;
    let given = [timeouts.command, timeouts.init];
    if given.iter().flatten().any(zero) || timeouts.registers.iter().any(|(_, time)| zero(time)) {
        return Err(Mistake::new(&table.span, "a timeout is 1 ms or more"));
    }
    Ok(Kind::Timeouts(timeouts))
}
