//! TOML values with the place where they stand, and with the variables of the matrix put in.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::source::Wrong;
use super::super::template::{self, Variables};

/// A value, the key that it stands under, and where.
#[derive(Clone, Copy)]
pub struct Value<'t> {
    pub key: &'t str,
    /// Where the key begins and ends; the value itself where there is none of its own.
    key_span: (usize, usize),
    item: &'t Spanned<DeValue<'t>>,
    variables: &'t Variables,
}

impl<'t> Value<'t> {
    pub fn span(&self) -> Range<usize> {
        self.item.span()
    }

    pub fn wrong(&self, message: impl Into<String>) -> Wrong {
        Wrong::new(self.span(), message)
    }

    /// The key is wrong, not what stands under it.
    pub fn wrong_key(&self, message: impl Into<String>) -> Wrong {
        Wrong::new(self.key_span.0..self.key_span.1, message)
    }

    pub fn expected(&self, what: &str) -> Wrong {
        let is = self.item.get_ref().type_str();
        self.wrong(format!("'{}' has to be {what}, not {is}", self.key))
    }

    /// The string that this is, with the variables of the matrix.
    pub fn string(&self) -> Option<Cow<'t, str>> {
        let text = self.item.get_ref().as_str()?;
        Some(template::fill_in(text, self.variables))
    }

    pub fn text(&self) -> Result<String, Wrong> {
        match self.string() {
            Some(text) => Ok(text.into_owned()),
            None => Err(self.expected("a string")),
        }
    }

    /// The same, which has to say something.
    pub fn words(&self) -> Result<String, Wrong> {
        let text = self.text()?;
        if text.trim().is_empty() {
            return Err(self.wrong(format!("'{}' is empty", self.key)));
        }
        Ok(text)
    }

    pub fn boolean(&self) -> Option<bool> {
        self.item.get_ref().as_bool()
    }

    pub fn flag(&self) -> Result<bool, Wrong> {
        self.boolean().ok_or_else(|| self.expected("true or false"))
    }

    /// A number as the file has it, of either type.
    pub fn figure(&self) -> Option<f64> {
        let value = self.item.get_ref();
        if let Some(integer) = value.as_integer() {
            let digits = integer.as_str().replace('_', "");
            return i64::from_str_radix(&digits, integer.radix())
                .ok()
                .map(|number| number as f64);
        }
        value.as_float()?.as_str().replace('_', "").parse().ok()
    }

    /// An integer from `min` to `max`, also as a string, since variables are strings.
    pub fn number(&self, min: u64, max: u64) -> Result<u64, Wrong> {
        let value = match self.string() {
            Some(text) => text.trim().parse().ok(),
            None => self.item.get_ref().as_integer().and_then(|integer| {
                u64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
            }),
        };
        value
            .filter(|value| (min..=max).contains(value))
            .ok_or_else(|| {
                self.wrong(format!(
                    "'{}' has to be a whole number from {min} to {max}",
                    self.key
                ))
            })
    }

    /// A string with a unit: ns, us, ms, s, min.
    pub fn duration(&self) -> Result<Duration, Wrong> {
        self.string()
            .and_then(|text| duration(&text))
            .ok_or_else(|| {
                self.wrong(format!(
                    "'{}' has to be a time with its unit, like \"10s\" (ns, us, ms, s, min)",
                    self.key
                ))
            })
    }

    /// A value by itself is a list of one.
    pub fn list(&self) -> Vec<Value<'t>> {
        match self.item.get_ref().as_array() {
            Some(array) => array.iter().map(|item| Value { item, ..*self }).collect(),
            None => vec![*self],
        }
    }

    pub fn is_list(&self) -> bool {
        self.item.get_ref().is_array()
    }

    pub fn is_table(&self) -> bool {
        self.item.get_ref().is_table()
    }

    pub fn table(&self) -> Result<Table<'t>, Wrong> {
        match self.item.get_ref().as_table() {
            Some(table) => Ok(Table::new(table, self.span(), self.variables)),
            None => Err(self.expected("a table")),
        }
    }

    /// The bytes of all strings within.
    pub fn strings(&self, spans: &mut Vec<Range<usize>>) {
        match self.item.get_ref() {
            DeValue::String(_) => spans.push(self.span()),
            DeValue::Array(array) => {
                for item in array.iter() {
                    Value { item, ..*self }.strings(spans);
                }
            }
            DeValue::Table(table) => {
                Table::new(table, self.span(), self.variables)
                    .iter()
                    .for_each(|value| value.strings(spans));
            }
            _ => {}
        }
    }
}

/// `10us` and the like.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')?;
    let (number, unit) = text.split_at(digits);
    let nanos = match unit.trim() {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "min" => 60e9,
        _ => return None,
    };
    let nanos = number.replace('_', "").parse::<f64>().ok()? * nanos;
    // A year, which is far below what a time can hold.
    (0.0..=3.2e16)
        .contains(&nanos)
        .then(|| Duration::from_nanos(nanos.round() as u64))
}

/// A table.
pub struct Table<'t> {
    entries: Vec<Value<'t>>,
    pub span: Range<usize>,
}

impl<'t> Table<'t> {
    pub fn new(table: &'t DeTable<'t>, span: Range<usize>, variables: &'t Variables) -> Self {
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, item)| {
                let span = key.span();
                Value {
                    key: key.get_ref(),
                    key_span: (span.start, span.end),
                    item,
                    variables,
                }
            })
            .collect();
        entries.sort_by_key(|value| value.key_span);
        Self { entries, span }
    }

    /// An error for the first key that is not in `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), Wrong> {
        match self
            .entries
            .iter()
            .find(|value| !known.contains(&value.key))
        {
            Some(value) => Err(value.wrong_key(format!(
                "unknown key '{}' (known: {})",
                value.key,
                known.join(", ")
            ))),
            None => Ok(()),
        }
    }

    pub fn get(&self, key: &str) -> Option<Value<'t>> {
        self.iter().find(|value| value.key == key)
    }

    pub fn need(&self, key: &str) -> Result<Value<'t>, Wrong> {
        self.get(key)
            .ok_or_else(|| Wrong::new(self.span.clone(), format!("'{key}' is missing")))
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'t>> + '_ {
        self.entries.iter().copied()
    }

    /// The values of `key`, none if it is not there.
    pub fn list(&self, key: &str) -> Vec<Value<'t>> {
        self.get(key).map(|value| value.list()).unwrap_or_default()
    }

    pub fn duration(&self, key: &str) -> Result<Option<Duration>, Wrong> {
        self.get(key).map(|value| value.duration()).transpose()
    }

    pub fn text(&self, key: &str) -> Result<Option<String>, Wrong> {
        self.get(key).map(|value| value.text()).transpose()
    }

    pub fn number(&self, key: &str, min: u64, max: u64) -> Result<Option<u64>, Wrong> {
        self.get(key)
            .map(|value| value.number(min, max))
            .transpose()
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, Wrong> {
        self.get(key).map(|value| value.flag()).transpose()
    }
}
