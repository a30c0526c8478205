//! TOML to checked rules. Every mistake is told with its line and column.

mod action;
mod check;
mod condition;
mod link;
mod possible;
pub mod value;

use std::hash::Hasher;

use toml::de::DeTable;

use super::Rules;
use super::error::{Mistake, RuleErrors};
use super::rule::{Counts, Direction, Pattern, Place, Rule, Scope, Selection, Since};
use value::{Table, Value};

/// Rules in a file; more are a mistake.
const MAX_RULES: usize = 1024;

/// Kinds of entries that a file may have beyond those of packets and links.
pub trait More {
    /// Their keys in the file, `[[key]]`.
    fn kinds(&self) -> &[&'static str];

    /// Takes an entry.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(&mut self, kind: &'static str, entry: &Entry<'_, '_>) -> Result<(), Mistake>;
}

/// An entry of a file: one `[[key]]`.
pub struct Entry<'a, 't> {
    /// Its name, unique among all entries.
    pub name: &'t str,
    /// The line of its name.
    pub line: usize,
    /// What it says.
    pub table: &'a Table<'t>,
}

/// Nothing more.
struct Nothing;

impl More for Nothing {
    fn kinds(&self) -> &[&'static str] {
        &[]
    }

    fn read(&mut self, _: &'static str, _: &Entry<'_, '_>) -> Result<(), Mistake> {
        Ok(())
    }
}

/// Reads a file of rules.
pub(super) fn read(source: &str) -> Result<Rules, RuleErrors> {
    read_with(source, &mut Nothing)
}

/// Reads a file of rules and of other entries.
pub(super) fn read_with(source: &str, more: &mut dyn More) -> Result<Rules, RuleErrors> {
    let mut mistakes = Vec::new();
    let parsed = DeTable::parse(source).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        RuleErrors(vec![Mistake::new(&span, error.message()).locate(source)])
    })?;
    let root = Table::new(parsed.get_ref(), parsed.span());
    let mut rules = Rules::default();
    let kinds = more.kinds().to_vec();
    if let Err(mistake) = root.only(&[&["rule", "link", "shape"], kinds.as_slice()].concat()) {
        mistakes.push(mistake);
    }
    let mut names: Vec<String> = Vec::new();
    let mut each =
        |key: &str, read: &mut dyn FnMut(&Table<'_>, Value<'_>) -> Result<(), Mistake>| {
            let entries = root.get(key).map(|value| value.list()).unwrap_or_default();
            for (n, value) in entries.into_iter().enumerate() {
                let mut one = || {
                    let table = value.table()?;
                    let name = table.need("name")?;
                    if n >= MAX_RULES {
                        return Err(name.wrong(format!("more than {MAX_RULES} of [[{key}]]")));
                    }
                    let text = name.text()?;
                    if text.is_empty() || text.len() > 100 || text.chars().any(char::is_control) {
                        return Err(name.wrong("a name has 1 to 100 printable characters"));
                    }
                    if names.iter().any(|other| other == text) {
                        return Err(name.wrong(format!("the name '{text}' is given twice")));
                    }
                    names.push(text.to_owned());
                    read(&table, name)
                };
                if let Err(mistake) = one() {
                    mistakes.push(mistake);
                }
            }
        };
    each("rule", &mut |table, name| {
        rules.rules.push(rule(table, name, source)?);
        Ok(())
    });
    each("link", &mut |table, name| {
        rules.links.push(link::fault(table, name, source)?);
        Ok(())
    });
    each("shape", &mut |table, name| {
        rules.shapes.push(link::shape(table, name, source)?);
        Ok(())
    });
    for kind in kinds {
        each(kind, &mut |table, name| {
            let entry = Entry {
                name: name.text()?,
                line: line_of(&name, source),
                table,
            };
            more.read(kind, &entry)
        });
    }
    if mistakes.is_empty() {
        return Ok(rules);
    }
    mistakes.sort_by_key(|mistake| mistake.span.start);
    Err(RuleErrors(
        mistakes
            .into_iter()
            .map(|mistake| mistake.locate(source))
            .collect(),
    ))
}

fn line_of(value: &Value<'_>, source: &str) -> usize {
    value.wrong(String::new()).locate(source).line
}

/// The keys `link`, `port` and `direction`.
fn place(table: &Table<'_>, default: Option<Direction>) -> Result<Place, Mistake> {
    let patterns = |key: &str| -> Result<Vec<String>, Mistake> {
        let Some(value) = table.get(key) else {
            return Ok(Vec::new());
        };
        let list = value.list();
        if list.is_empty() {
            return Err(value.wrong(format!("'{key}': an empty list means nowhere")));
        }
        list.iter()
            .map(|item| item.text().map(str::to_owned))
            .collect()
    };
    let direction = match table.get("direction") {
        None => default,
        Some(value) => match value.text()? {
            "tx" => Some(Direction::Tx),
            "rx" => Some(Direction::Rx),
            "both" => None,
            _ => return Err(value.wrong("'direction' is \"tx\", \"rx\" or \"both\"")),
        },
    };
    Ok(Place {
        links: patterns("link")?,
        ports: patterns("port")?,
        direction,
    })
}

/// A seed from the file, or one that depends on the name only.
///
/// # Errors
/// It is no number.
pub fn seed(table: &Table<'_>, name: &str) -> Result<u64, Mistake> {
    Ok(match table.number("seed", 0, u64::MAX)? {
        Some(seed) => seed,
        None => hash(name),
    })
}

/// The same on every machine and in every version.
pub(crate) fn hash(text: &str) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    Hasher::write(&mut hasher, text.as_bytes());
    hasher.finish()
}

/// The keys of a [`Selection`] but `per`.
pub const SELECTION: [&str; 9] = [
    "nth",
    "every",
    "first",
    "after",
    "count",
    "probability",
    "from",
    "until",
    "since",
];

/// Which of the matches are hit, all of them counted together.
///
/// # Errors
/// A key that is wrong, or none that can be hit.
pub fn selection(table: &Table<'_>) -> Result<Selection, Mistake> {
    let mut nth = Vec::new();
    if let Some(value) = table.get("nth") {
        for item in value.list() {
            nth.push(item.number(1, u64::MAX)?);
        }
        if nth.is_empty() {
            return Err(value.wrong("'nth': an empty list hits nothing"));
        }
        nth.sort_unstable();
        nth.dedup();
    }
    let probability = match table.get("probability") {
        None => None,
        Some(value) => {
            let p = value.float()?;
            if !(p > 0.0 && p <= 1.0) {
                return Err(value.wrong("'probability' is greater than 0 and at most 1"));
            }
            Some(p)
        }
    };
    let since = match table.get("since") {
        None => Since::Load,
        Some(value) => match value.text()? {
            "load" => Since::Load,
            "match" => Since::Match,
            _ => return Err(value.wrong("'since' is \"load\" or \"match\"")),
        },
    };
    let select = Selection {
        nth,
        every: table.number("every", 1, u64::MAX)?.unwrap_or(1),
        first: table.number("first", 1, u64::MAX)?,
        after: table.number("after", 0, u64::MAX)?.unwrap_or(0),
        count: table.number("count", 1, u64::MAX)?,
        probability,
        from: table.duration("from")?.unwrap_or_default(),
        until: table.duration("until")?,
        since,
        per: Scope::All,
    };
    check::selection(&select).map_err(|message| {
        let keys = ["until", "nth", "first", "every", "after"];
        let place = keys.iter().find_map(|key| table.get(key));
        Mistake::new(
            &place.map_or(table.span.clone(), |value| value.span()),
            message,
        )
    })?;
    Ok(select)
}

/// What is counted together.
fn scope(table: &Table<'_>) -> Result<Scope, Mistake> {
    Ok(match table.get("per") {
        None => Scope::All,
        Some(value) => match value.text()? {
            "all" => Scope::All,
            "port" => Scope::Port,
            "flow" => Scope::Flow,
            _ => return Err(value.wrong("'per' is \"all\", \"port\" or \"flow\"")),
        },
    })
}

fn rule(table: &Table<'_>, name: Value<'_>, source: &str) -> Result<Rule, Mistake> {
    table.only(&[
        "name",
        "link",
        "port",
        "direction",
        "match",
        "nth",
        "every",
        "first",
        "after",
        "count",
        "probability",
        "seed",
        "from",
        "until",
        "since",
        "per",
        "action",
    ])?;
    let text = name.text()?;
    let mut pattern = match table.get("match") {
        Some(value) => {
            let pattern = condition::read(&value.table()?)?;
            check::pattern(&pattern).map_err(|message| impossible(value, &message))?;
            pattern
        }
        None => Pattern::default(),
    };
    let value = table.need("action")?;
    let action = action::read(value, &mut pattern)?;
    check::pattern(&pattern).map_err(|message| impossible(value, &message))?;
    Ok(Rule {
        name: text.to_owned(),
        line: line_of(&name, source),
        place: place(table, Some(Direction::Tx))?,
        pattern,
        select: Selection {
            per: scope(table)?,
            ..selection(table)?
        },
        seed: seed(table, text)?,
        action,
        counts: Counts::default(),
    })
}

fn impossible(value: Value<'_>, message: &str) -> Mistake {
    value.wrong(format!("the rule can never match: {message}"))
}
