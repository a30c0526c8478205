//! Entries of firmware and devices: from TOML to checked faults.

use std::sync::Arc;
use std::time::Duration;

use rocinante_device::mlx5::fault::names::{self, Names, find};
use rocinante_device::mlx5::fault::{
    CommandAction, CommandFault, CompletionAction, CompletionFault, Condition, Delivery,
    EventFault, Fault, Health, Injection, InterruptFault, Kind, Object, QueueKind, Schedule, Start,
    Timeouts, Whom,
};
use rocinante_firmware_cmd::layout::Layout;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_wire::fault::glob;
use rocinante_wire::fault::reading::{
    Entry, Mistake, More, SELECTION, Table, Value, seed, selection,
};

use super::{DeviceFault, layouts};

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

/// Keys of entries that something matches.
const MATCHING: [&str; 5] = ["name", "nic", "match", "action", "seed"];

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

/// A number, or true or false.
fn value_of(value: Value<'_>) -> Result<u64> {
    match value.boolean() {
        Some(yes) => Ok(u64::from(yes)),
        None => value.number(0, u64::MAX),
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

fn command(table: &Table<'_>) -> Result<Kind> {
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
        "delay" => CommandAction::Delay(main.duration()?),
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
            CommandAction::Set(conditions(&wanted, opcodes, output)?)
        }
        _ => CommandAction::Delivery(named(main, names::DELIVERY)?),
    })
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
    let delay = table.duration("delay")?;
    Ok(match key.as_str() {
        "duplicate" => {
            let copies = table.need("duplicate")?.number(1, 1000)?;
            Delivery::Duplicate(copies as u32, delay.unwrap_or_default())
        }
        _ => Delivery::Delay(delay.unwrap_or_default()),
    })
}

fn event(table: &Table<'_>) -> Result<Kind> {
    only(table, &[&MATCHING, &SELECTION])?;
    let mut fault = EventFault {
        types: Vec::new(),
        eqn: None,
        sub_type: None,
        action: delivery(table.need("action")?)?,
    };
    if let Some(inner) = matching(table, &["type", "eq", "sub_type"])? {
        if let Some(value) = inner.get("type") {
            for item in value.list() {
                fault.types.push(number_or_name(item, names::EVENTS)?);
            }
        }
        fault.eqn = inner.number("eq", 1, 0xff)?.map(|n| n as u32);
        fault.sub_type = inner.number("sub_type", 0, 0xff)?.map(|n| n as u8);
    }
    Ok(Kind::Event(selection(table)?, fault))
}

fn interrupt(table: &Table<'_>) -> Result<Kind> {
    only(table, &[&MATCHING, &SELECTION])?;
    let inner = matching(table, &["vector"])?;
    let vector = inner.map(|inner| inner.number("vector", 0, 0xffff));
    let fault = InterruptFault {
        vector: vector.transpose()?.flatten().map(|n| n as u16),
        action: delivery(table.need("action")?)?,
    };
    Ok(Kind::Interrupt(selection(table)?, fault))
}

fn completion(table: &Table<'_>) -> Result<Kind> {
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
            CompletionAction::Fail {
                syndrome: number_or_name(inner.need("syndrome")?, names::CQE)?,
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

fn capability(table: &Table<'_>) -> Result<Kind> {
    table.only(&["name", "nic", "set"])?;
    let value = table.need("set")?;
    let mut overrides = Vec::new();
    for (path, value) in leaves("", &value.table()?)? {
        let number = value_of(value)?;
        let found = layouts::capability(&path, number).map_err(|message| value.wrong(message))?;
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

fn schedule(table: &Table<'_>, injection: Injection) -> Result<Schedule> {
    let schedule = Schedule {
        from: table.duration("from")?.unwrap_or_default(),
        until: table.duration("until")?,
        every: table.duration("every")?,
        count: table.number("count", 1, u64::MAX)?,
        since: match table.get("since") {
            None => Start::Load,
            Some(value) => match value.text()? {
                "load" => Start::Load,
                "init" => Start::Init,
                _ => return Err(value.wrong("'since' is \"load\" or \"init\"")),
            },
        },
    };
    if let Some(value) = table.get("until")
        && schedule.until.is_some_and(|until| until <= schedule.from)
    {
        return Err(value.wrong("the time window is empty: 'until' is not after 'from'"));
    }
    if injection.lasts() {
        for key in ["every", "count"] {
            if let Some(value) = table.get(key) {
                return Err(value.wrong(format!("'{key}': this lasts, from 'from' until 'until'")));
            }
        }
    } else if let Some(every) = schedule.every {
        if let Some(value) = table.get("every")
            && every < Duration::from_micros(10)
        {
            return Err(value.wrong("'every' is shorter than 10us"));
        }
    } else if let Some(value) = table.get("count").or(table.get("until")) {
        return Err(value.wrong("this happens once: 'every' is missing"));
    }
    Ok(schedule)
}

/// What an entry lets happen. `common` are the keys that say when and where.
fn happening(kind: &'static str, table: &Table<'_>, common: &[&str]) -> Result<Injection> {
    match kind {
        "async" => asynchronous(table, common),
        "health" => health(table, common),
        "pages" => pages(table, common),
        "module" => module(table, common),
        "sensor" => sensor(table, common),
        _ => {
            table.only(common)?;
            Ok(Injection::Removal)
        }
    }
}

fn raw_event(table: &Table<'_>) -> Result<Injection> {
    table.only(&["name", "type", "sub_type"])?;
    Ok(Injection::Event {
        event_type: number_or_name(table.need("type")?, names::EVENTS)?,
        sub_type: table.number("sub_type", 0, 0xff)?.unwrap_or(0) as u8,
    })
}

fn raw_interrupt(table: &Table<'_>) -> Result<Injection> {
    table.only(&["name", "vector"])?;
    Ok(Injection::Interrupt(
        table.need("vector")?.number(0, 0xffff)? as u16,
    ))
}

fn whom(value: Value<'_>) -> Result<Whom> {
    match value.string() {
        Some("all") => Ok(Whom::All),
        Some("newest") => Ok(Whom::Newest),
        Some(text) if !text.starts_with(|c: char| c.is_ascii_digit()) => Err(value.wrong(format!(
            "'{}' is a number, \"newest\" or \"all\"",
            value.key
        ))),
        _ => Ok(Whom::Number(value.number(0, 0xff_ffff)? as u32)),
    }
}

fn asynchronous(table: &Table<'_>, common: &[&str]) -> Result<Injection> {
    only(
        table,
        &[common, &["event", "qp", "service", "srq", "cq", "syndrome"]],
    )?;
    let value = table.need("event")?;
    let event_type = number_or_name(value, names::EVENTS)?;
    let of_qp = names::QP_EVENTS
        .iter()
        .any(|(known, _)| *known == event_type);
    let of_srq = names::SRQ_EVENTS.contains(&event_type);
    let (key, others): (&str, &[&str]) = if of_qp {
        ("qp", &["srq", "cq", "syndrome"])
    } else if of_srq {
        ("srq", &["qp", "cq", "service", "syndrome"])
    } else if event_type == names::CQ_ERROR {
        ("cq", &["qp", "srq", "service"])
    } else {
        return Err(value.wrong("this is no event of a queue pair, SRQ or CQ"));
    };
    if let Some(value) = others.iter().find_map(|other| table.get(other)) {
        return Err(value.wrong(format!(
            "'{}' does not go with this event, '{key}' does",
            value.key
        )));
    }
    let service = match table.get("service") {
        None => None,
        Some(value) => Some(named(value, names::SERVICES)?),
    };
    let who = match table.get(key) {
        Some(value) => whom(value)?,
        None if service.is_some() => Whom::Newest,
        None => whom(table.need(key)?)?,
    };
    Ok(Injection::Async {
        event_type,
        object: match key {
            "qp" => Object::Qp(who, service),
            "srq" => Object::Srq(who),
            _ => Object::Cq(who),
        },
        syndrome: table.number("syndrome", 0, 0xff)?.unwrap_or(1) as u8,
    })
}

fn health(table: &Table<'_>, common: &[&str]) -> Result<Injection> {
    if let Some(value) = table.get("counter") {
        only(table, &[common, &["counter"]])?;
        return match value.text()? {
            "stopped" => Ok(Injection::HealthCounter),
            _ => Err(value.wrong("'counter' is \"stopped\"")),
        };
    }
    if let Some(value) = table.get("initializing") {
        only(table, &[common, &["initializing"]])?;
        return if value.flag()? {
            Ok(Injection::Initializing)
        } else {
            Err(value.wrong("'initializing' is true"))
        };
    }
    const KEYS: [&str; 7] = [
        "syndrome",
        "ext_syndrome",
        "rfr",
        "severity",
        "sticky",
        "dead",
        "counter",
    ];
    only(table, &[common, &KEYS])?;
    let flag = |key: &str| -> Result<Option<bool>> {
        table.get(key).map(|value| value.flag()).transpose()
    };
    let rfr = flag("rfr")?.unwrap_or(false);
    let value = table.get("syndrome").ok_or_else(|| {
        Mistake::new(
            &table.span,
            "one of 'syndrome', 'counter' and 'initializing' is missing",
        )
    })?;
    let severity = match table.get("severity") {
        None => None,
        Some(value) => Some(number_or_name(value, names::SEVERITY)? & 7),
    };
    let health = Health {
        syndrome: number_or_name(value, names::HEALTH)?,
        ext_syndrome: table.number("ext_syndrome", 0, 0xffff)?.unwrap_or(0) as u16,
        rfr,
        severity,
        sticky: flag("sticky")?.unwrap_or(false),
        dead: flag("dead")?.unwrap_or(rfr),
    };
    if health.syndrome == 0 {
        return Err(value.wrong("syndrome 0 is health"));
    }
    Ok(Injection::Health(health))
}

fn pages(table: &Table<'_>, common: &[&str]) -> Result<Injection> {
    only(table, &[common, &["ask", "give-back", "keep"]])?;
    let most = i32::MAX as u64;
    let ask = table.number("ask", 1, most)?;
    let give_back = table.number("give-back", 1, most)?;
    let keep = table.number("keep", 1, most)?;
    match (ask, give_back, keep) {
        (Some(n), None, None) => Ok(Injection::Pages(n as i32)),
        (None, Some(n), None) => Ok(Injection::Pages(-(n as i32))),
        (None, None, Some(n)) => Ok(Injection::KeepPages(n as u32)),
        _ => Err(Mistake::new(
            &table.span,
            "there is one of 'ask', 'give-back' and 'keep'",
        )),
    }
}

fn module(table: &Table<'_>, common: &[&str]) -> Result<Injection> {
    only(table, &[common, &["status", "error"]])?;
    let error = match table.get("error") {
        None => None,
        Some(value) => Some(number_or_name(value, names::MODULE_ERROR)?),
    };
    let status = match (table.get("status"), error) {
        (Some(value), _) => number_or_name(value, names::MODULE)?,
        (None, Some(_)) => 3,
        (None, None) => return Err(Mistake::new(&table.span, "'status' is missing")),
    };
    if let (Some(value), true) = (table.get("error"), status != 3) {
        return Err(value.wrong("'error' goes with the status \"error\""));
    }
    Ok(Injection::Module {
        status,
        error: error.unwrap_or(0),
    })
}

fn sensor(table: &Table<'_>, common: &[&str]) -> Result<Injection> {
    only(table, &[common, &["temperature"]])?;
    let value = table.need("temperature")?;
    let celsius = value.float()?;
    if !(-100.0..=1000.0).contains(&celsius) {
        return Err(value.wrong("'temperature' is in degrees Celsius, from -100 to 1000"));
    }
    Ok(Injection::Temperature((celsius * 8.0).round() as i16))
}
