//! Entries that happen by themselves, once or by the clock: asynchronous events, health, pages, modules, sensors, removal.

use std::time::Duration;

use rocinante_device::mlx5::fault::names;
use rocinante_device::mlx5::fault::{Health, Injection, Object, Schedule, Start, Whom};
use rocinante_wire::fault::reading::{Mistake, Table, Value};

use super::{LAST_VECTOR, Result, named, number_or_name, only};

pub(super) fn schedule(table: &Table<'_>, injection: Injection) -> Result<Schedule> {
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
pub(super) fn happening(
    kind: &'static str,
    table: &Table<'_>,
    common: &[&str],
) -> Result<Injection> {
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

pub(super) fn raw_event(table: &Table<'_>) -> Result<Injection> {
    table.only(&["name", "type", "sub_type"])?;
    Ok(Injection::Event {
        event_type: number_or_name(table.need("type")?, names::EVENTS)?,
        sub_type: table.number("sub_type", 0, 0xff)?.unwrap_or(0) as u8,
    })
}

pub(super) fn raw_interrupt(table: &Table<'_>) -> Result<Injection> {
    table.only(&["name", "vector"])?;
    Ok(Injection::Interrupt(
        table.need("vector")?.number(0, LAST_VECTOR)? as u16,
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
        Some(value) => Some(match number_or_name(value, names::SEVERITY)? {
            severity @ 0..=7 => severity,
            _ => return Err(value.wrong("'severity' has to be from 0 to 7")),
        }),
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
