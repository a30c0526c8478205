//! `[[link]]`, faults of the link itself, and `[[shape]]`, its rate and latency.

use std::time::Duration;

use super::super::error::Mistake;
use super::super::link::{BitErrors, LinkFault, LinkKind, Schedule};
use super::super::rule::Direction;
use super::super::shape::{Pause, Shape};
use super::value::{Table, Value};
use super::{line_of, place, seed};

/// Reads a `[[link]]`.
pub(super) fn fault(
    table: &Table<'_>,
    name: Value<'_>,
    source: &str,
) -> Result<LinkFault, Mistake> {
    const COMMON: [&str; 7] = [
        "name",
        "link",
        "port",
        "fault",
        "from",
        "until",
        "direction",
    ];
    let only = |more: &[&str]| table.only(&[&COMMON[..6], more].concat());
    let kind = table.need("fault")?;
    let from = table.duration("from")?.unwrap_or_default();
    let until = table.duration("until")?;
    if let Some(value) = table.get("until")
        && until.is_some_and(|until| until <= from)
    {
        return Err(value.wrong("the time window is empty: 'until' is not after 'from'"));
    }
    let mut schedule = Schedule {
        from,
        until,
        flap: None,
    };
    let period = |key: &str| -> Result<Duration, Mistake> {
        let value = table.need(key)?;
        let duration = value.duration()?;
        if duration < Duration::from_micros(1) {
            return Err(value.wrong(format!("'{key}' is shorter than a microsecond")));
        }
        Ok(duration)
    };
    let kind = match kind.text()? {
        "down" => {
            only(&[])?;
            LinkKind::Down
        }
        "flap" => {
            only(&["down", "up", "count"])?;
            let count = table.number("count", 1, u64::MAX)?;
            schedule.flap = Some((period("down")?, period("up")?, count));
            LinkKind::Down
        }
        "blackhole" => {
            only(&["direction"])?;
            LinkKind::Blackhole
        }
        "speed" => {
            only(&["speed"])?;
            LinkKind::Speed(table.need("speed")?.number(1, 1_000_000)? as u32)
        }
        "bit-errors" => {
            only(&["direction", "rate", "seed", "seen-by"])?;
            let value = table.need("rate")?;
            let rate = value.float()?;
            if !(rate > 0.0 && rate < 1.0) {
                return Err(value.wrong("'rate' is greater than 0 and less than 1"));
            }
            let deliver = match table
                .get("seen-by")
                .map(|v| Ok((v, v.text()?)))
                .transpose()?
            {
                None | Some((_, "fcs")) => false,
                Some((_, "icrc")) => true,
                Some((value, _)) => return Err(value.wrong("'seen-by' is \"fcs\" or \"icrc\"")),
            };
            LinkKind::BitErrors(BitErrors {
                rate,
                seed: seed(table, name.text()?)?,
                deliver,
            })
        }
        other => {
            return Err(kind.wrong(format!(
                "no link fault '{other}' (down, flap, blackhole, speed, bit-errors)"
            )));
        }
    };
    Ok(LinkFault {
        name: name.text()?.to_owned(),
        line: line_of(&name, source),
        place: place(table, None)?,
        schedule,
        kind,
    })
}

/// Reads a `[[shape]]`.
pub(super) fn shape(table: &Table<'_>, name: Value<'_>, source: &str) -> Result<Shape, Mistake> {
    table.only(&[
        "name",
        "link",
        "port",
        "direction",
        "rate",
        "latency",
        "queue",
        "ecn",
        "xoff",
        "xon",
        "pfc",
    ])?;
    let shape = Shape {
        name: name.text()?.to_owned(),
        line: line_of(&name, source),
        place: place(table, None)?,
        rate: table.get("rate").map(rate).transpose()?,
        latency: table.duration("latency")?.unwrap_or_default(),
        queue: table.number("queue", 64, 64 << 20)?.unwrap_or(1 << 20),
        ecn: table.number("ecn", 1, 64 << 20)?,
        pause: pause(table)?,
    };
    if let Some(value) = table.get("latency")
        && shape.latency > Duration::from_secs(10)
    {
        return Err(value.wrong("'latency' is longer than 10 s"));
    }
    if shape.rate.is_none() && shape.latency.is_zero() {
        return Err(name.wrong("a shape has a 'rate', a 'latency' or both"));
    }
    if let (Some(value), None) = (table.get("ecn"), shape.rate) {
        return Err(value.wrong("'ecn' needs a 'rate': without one nothing queues"));
    }
    if let (Some(value), Some(pause)) = (table.get("xoff"), shape.pause) {
        if shape.rate.is_none() {
            return Err(value.wrong("'xoff' needs a 'rate': without one nothing queues"));
        }
        if shape.place.direction != Some(Direction::Tx) {
            return Err(value
                .wrong("'xoff' needs direction = \"tx\": who fills the other queue is elsewhere"));
        }
        if pause.xoff >= shape.queue {
            return Err(value.wrong("'xoff' is never reached: 'queue' is not larger"));
        }
    }
    if let Some(value) = table.get("ecn")
        && shape.ecn.is_some_and(|ecn| ecn >= shape.queue)
    {
        return Err(value.wrong("'ecn' is never reached: 'queue' is not larger"));
    }
    Ok(shape)
}

/// When the sender is to pause: `xoff`, and with it `xon` (half of it) and `pfc`.
fn pause(table: &Table<'_>) -> Result<Option<Pause>, Mistake> {
    let Some(xoff) = table.number("xoff", 2, 64 << 20)? else {
        for key in ["xon", "pfc"] {
            if let Some(value) = table.get(key) {
                return Err(value.wrong(format!("'{key}' needs an 'xoff'")));
            }
        }
        return Ok(None);
    };
    let xon = table.number("xon", 0, 64 << 20)?.unwrap_or(xoff / 2);
    if let Some(value) = table.get("xon")
        && xon >= xoff
    {
        return Err(value.wrong("'xon' is not less than 'xoff'"));
    }
    let priorities = match table.get("pfc") {
        None => None,
        Some(value) => {
            let mut mask = 0;
            for priority in value.list() {
                mask |= 1 << priority.number(0, 7)?;
            }
            if mask == 0 {
                return Err(value.wrong("'pfc' names no priority"));
            }
            Some(mask)
        }
    };
    Ok(Some(Pause {
        xoff,
        xon,
        priorities,
    }))
}

/// Bits per second.
fn rate(value: Value<'_>) -> Result<u64, Mistake> {
    let wrong = || {
        value.wrong(
            "'rate' is a number with its unit, like \"10Gbit/s\" (bit/s, kbit/s, Mbit/s, Gbit/s)",
        )
    };
    let text = value.string().ok_or_else(wrong)?.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "bit/s" => 1.0,
        "kbit/s" => 1e3,
        "Mbit/s" => 1e6,
        "Gbit/s" => 1e9,
        _ => return Err(wrong()),
    };
    let rate = number.parse::<f64>().map_err(|_| wrong())? * factor;
    if !(1e3..=1e12).contains(&rate) {
        return Err(value.wrong("'rate' is from 1 kbit/s to 1000 Gbit/s"));
    }
    Ok(rate as u64)
}
