//! TOML values with the place where they stand. Other languages of the same file read theirs with it.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::error::Mistake;
use super::super::term::parse_number;

/// A value, the key that it stands under, and where.
#[derive(Clone, Copy)]
pub struct Value<'t> {
    /// Its key.
    pub key: &'t str,
    item: &'t Spanned<DeValue<'t>>,
}

impl<'t> Value<'t> {
    /// The bytes of the file where it stands.
    pub fn span(&self) -> Range<usize> {
        self.item.span()
    }

    /// A mistake about it.
    pub fn wrong(&self, message: impl Into<String>) -> Mistake {
        Mistake::new(&self.span(), message)
    }

    fn expected(&self, what: &str) -> Mistake {
        let is = self.item.get_ref().type_str();
        self.wrong(format!("'{}' has to be {what}, not {is}", self.key))
    }

    /// A string; `None` for another type.
    pub fn string(&self) -> Option<&'t str> {
        self.item.get_ref().as_str()
    }

    /// A string.
    ///
    /// # Errors
    /// Another type.
    pub fn text(&self) -> Result<&'t str, Mistake> {
        self.string().ok_or_else(|| self.expected("a string"))
    }

    /// `true` or `false`; `None` for another type.
    pub fn boolean(&self) -> Option<bool> {
        self.item.get_ref().as_bool()
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// Another type.
    pub fn flag(&self) -> Result<bool, Mistake> {
        self.boolean().ok_or_else(|| self.expected("true or false"))
    }

    /// A TOML integer, as large as fields can be; `None` for another type.
    pub fn integer(&self) -> Option<Result<u128, Mistake>> {
        let integer = self.item.get_ref().as_integer()?;
        let text = integer.as_str();
        let value = u128::from_str_radix(&text.replace('_', ""), integer.radix());
        Some(value.map_err(|_| self.wrong(format!("'{}' is no value from 0 on", self.key))))
    }

    /// An integer or a string with one, from `min` to `max`.
    ///
    /// # Errors
    /// Anything else.
    pub fn number(&self, min: u64, max: u64) -> Result<u64, Mistake> {
        let value = match self.integer() {
            Some(value) => value?,
            None => self
                .string()
                .and_then(parse_number)
                .ok_or_else(|| self.expected("a number"))?,
        };
        u64::try_from(value)
            .ok()
            .filter(|value| (min..=max).contains(value))
            .ok_or_else(|| {
                self.wrong(if max == u64::MAX {
                    format!("'{}' has to be {min} or more", self.key)
                } else {
                    format!("'{}' has to be from {min} to {max}", self.key)
                })
            })
    }

    /// A number with or without fraction.
    ///
    /// # Errors
    /// Another type.
    pub fn float(&self) -> Result<f64, Mistake> {
        let value = self.item.get_ref();
        let text = match (value.as_float(), value.as_integer()) {
            (Some(float), _) => float.as_str(),
            (_, Some(integer)) if integer.radix() == 10 => integer.as_str(),
            _ => return Err(self.expected("a number")),
        };
        text.replace('_', "")
            .parse()
            .map_err(|_| self.expected("a number"))
    }

    /// A string with a unit: ns, us, ms, s, min.
    ///
    /// # Errors
    /// Anything else.
    pub fn duration(&self) -> Result<Duration, Mistake> {
        let wrong = || {
            self.wrong(format!(
                "'{}' has to be a time with its unit, like \"10us\" (ns, us, ms, s, min)",
                self.key
            ))
        };
        let text = self.string().ok_or_else(wrong)?.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
            .ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let nanos = match unit.trim() {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "min" => 60e9,
            _ => return Err(wrong()),
        };
        let number: f64 = number.replace('_', "").parse().map_err(|_| wrong())?;
        let nanos = number * nanos;
        // A year, which is far below what a time can hold.
        if !(0.0..=3.2e16).contains(&nanos) {
            return Err(wrong());
        }
        Ok(Duration::from_nanos(nanos.round() as u64))
    }

    /// A value by itself is a list of one.
    pub fn list(&self) -> Vec<Value<'t>> {
        match self.item.get_ref().as_array() {
            Some(array) => array
                .iter()
                .map(|item| Value {
                    key: self.key,
                    item,
                })
                .collect(),
            None => vec![*self],
        }
    }

    /// Whether it is a table.
    pub fn is_table(&self) -> bool {
        self.item.get_ref().is_table()
    }

    /// A table.
    ///
    /// # Errors
    /// Another type.
    pub fn table(&self) -> Result<Table<'t>, Mistake> {
        match self.item.get_ref().as_table() {
            Some(table) => Ok(Table::new(table, self.span())),
            None => Err(self.expected("a table")),
        }
    }
}

/// A table.
pub struct Table<'t> {
    entries: Vec<(Value<'t>, Range<usize>)>,
    /// The bytes of the file where it stands.
    pub span: Range<usize>,
}

impl<'t> Table<'t> {
    /// The values of `table`, in the order of the file.
    pub fn new(table: &'t DeTable<'t>, span: Range<usize>) -> Table<'t> {
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, item)| {
                let value = Value {
                    key: key.get_ref(),
                    item,
                };
                (value, key.span())
            })
            .collect();
        entries.sort_by_key(|(_, span)| span.start);
        Table { entries, span }
    }

    /// An error for the first key that is not in `known`.
    ///
    /// # Errors
    /// That one.
    pub fn only(&self, known: &[&str]) -> Result<(), Mistake> {
        match self
            .entries
            .iter()
            .find(|(value, _)| !known.contains(&value.key))
        {
            Some((value, span)) => Err(Mistake::new(
                span,
                format!("unknown key '{}' (known: {})", value.key, known.join(", ")),
            )),
            None => Ok(()),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Value<'t>> {
        self.iter().find(|value| value.key == key)
    }

    /// The value of a key that has to be there.
    ///
    /// # Errors
    /// It is not.
    pub fn need(&self, key: &str) -> Result<Value<'t>, Mistake> {
        self.get(key)
            .ok_or_else(|| Mistake::new(&self.span, format!("'{key}' is missing")))
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = Value<'t>> + '_ {
        self.entries.iter().map(|(value, _)| *value)
    }

    /// Values with the place of their keys.
    pub fn keys(&self) -> impl Iterator<Item = (Value<'t>, Range<usize>)> + '_ {
        self.entries.iter().cloned()
    }

    /// A duration that may be left out.
    ///
    /// # Errors
    /// Anything else.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>, Mistake> {
        self.get(key).map(|value| value.duration()).transpose()
    }

    /// A number that may be left out.
    ///
    /// # Errors
    /// Anything else.
    pub fn number(&self, key: &str, min: u64, max: u64) -> Result<Option<u64>, Mistake> {
        self.get(key)
            .map(|value| value.number(min, max))
            .transpose()
    }
}
