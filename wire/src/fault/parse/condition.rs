//! The `match` table of a rule.

use super::super::error::Mistake;
use super::super::field::{FIELDS, Field, Header, Kind, Source};
use super::super::rule::Pattern;
use super::super::term::{Condition, in_range};
use super::value::{Table, Value};

/// Reads a `match` table. Fields may be written `"bth.psn" = 1`, `bth.psn = 1` or as a table.
pub(super) fn read(table: &Table<'_>) -> Result<Pattern, Mistake> {
    let mut pattern = Pattern::default();
    for (value, key) in table.keys() {
        let header = Header::by_name(value.key);
        if let (Some(header), Some(there)) = (header, value.boolean()) {
            if there {
                pattern.require(header);
            } else {
                pattern.forbid |= header.bit();
            }
        } else if value.is_table() {
            if value.table()?.iter().next().is_none() {
                return Err(value.wrong(format!("'{}' names no field", value.key)));
            }
            for (inner, span) in value.table()?.keys() {
                let name = format!("{}.{}", value.key, inner.key);
                let field = field(&name).map_err(|message| Mistake::new(&span, message))?;
                add(&mut pattern, field, inner)?;
            }
        } else {
            let field = field(value.key).map_err(|message| Mistake::new(&key, message))?;
            add(&mut pattern, field, value)?;
        }
    }
    Ok(pattern)
}

/// The field of that name, or what there is instead.
pub(super) fn field(name: &str) -> Result<&'static Field, String> {
    if let Some(field) = Field::by_name(name) {
        return Ok(field);
    }
    let prefix = name.split_once('.').map_or(name, |parts| parts.0);
    let siblings: Vec<&str> = FIELDS
        .iter()
        .filter_map(|field| field.name.split_once('.'))
        .filter(|parts| parts.0 == prefix)
        .map(|parts| parts.1)
        .collect();
    if siblings.is_empty() {
        let mut headers = vec!["frame", "payload"];
        headers.extend(Header::all().map(Header::name));
        return Err(format!(
            "unknown field '{name}' (headers: {})",
            headers.join(", ")
        ));
    }
    Err(format!(
        "unknown field '{name}' ({prefix} has {})",
        siblings.join(", ")
    ))
}

fn add(pattern: &mut Pattern, field: &'static Field, value: Value<'_>) -> Result<(), Mistake> {
    if pattern
        .conditions
        .iter()
        .any(|condition| condition.field == field)
    {
        return Err(value.wrong(format!("{} is given twice", field.name)));
    }
    let mut condition = Condition::new(field);
    let list = value.list();
    if list.is_empty() {
        return Err(value.wrong(format!("{}: an empty list matches nothing", field.name)));
    }
    for item in list {
        add_value(&mut condition, item)?;
    }
    if !condition.is_possible() {
        return Err(value.wrong(format!("no value of {} can meet this", field.name)));
    }
    if let Source::Bits { header, .. } = field.source {
        pattern.require(header);
    } else if let Some(header) = field.header() {
        pattern.require(header);
    }
    pattern.conditions.push(condition);
    Ok(())
}

fn add_value(condition: &mut Condition, item: Value<'_>) -> Result<(), Mistake> {
    let field = condition.field;
    let text = if let Some(there) = item.boolean() {
        if field.kind != Kind::Flag {
            return Err(item.wrong(format!("{} is not true or false", field.name)));
        }
        u8::from(there).to_string()
    } else if let Some(text) = item.string() {
        text.to_owned()
    } else if let Some(number) = item.integer() {
        let number = number?;
        if matches!(field.kind, Kind::Mac | Kind::Ipv4 | Kind::Ipv6) {
            return Err(item.wrong(format!("{} has to be an address in a string", field.name)));
        }
        in_range(field, number)
            .map_err(|message| item.wrong(message))?
            .to_string()
    } else {
        return Err(item.wrong(format!(
            "{} has to be a number, a string or a list of them",
            field.name
        )));
    };
    condition.add(&text).map_err(|message| item.wrong(message))
}
