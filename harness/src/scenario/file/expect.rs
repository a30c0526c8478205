//! The tables `expect` of steps: what has to come of them.

use super::super::compare::Comparison;
use super::super::counter::Counter;
use super::super::model::{Action, CounterWanted, DriverChange, Expect, Since, ValueWanted};
use super::super::pattern::Pattern;
use super::super::source::Wrong;
use super::step::Context;
use super::{Reader, Value, check_variable};

const KEYS: &[&str] = &[
    "status",
    "output",
    "no_output",
    "values",
    "counters",
    "since",
    "kernel_log",
    "no_kernel_log",
    "carrier",
    "duration",
    "left",
];

impl Reader<'_> {
    /// Reads them; `step` is the step that they are of.
    pub(super) fn expect(
        &self,
        value: Option<Value<'_>>,
        step: &Value<'_>,
        action: &Action,
        context: &mut Context<'_>,
    ) -> Result<Expect, Wrong> {
        let mut expect = Expect::default();
        // Commands succeed unless something else is said; one that is killed ends as it ends.
        if matches!(action, Action::Run { .. } | Action::Wait { .. }) {
            expect.status = Some(Comparison::equal(0.0));
        }
        let Some(value) = value else {
            if matches!(action, Action::Check) {
                return Err(step.wrong("this step does nothing and expects nothing"));
            }
            return Ok(expect);
        };
        let table = value.table()?;
        table.only(KEYS)?;
        for key in ["status", "output", "no_output", "values"] {
            if let (Some(value), false) = (table.get(key), action.has_output()) {
                return Err(value.wrong(format!(
                    "'{key}' is of a command that ends, and this step has none"
                )));
            }
        }
        if let Some(value) = table.get("status") {
            expect.status = status(&value)?;
        }
        expect.output = patterns(&table.list("output"), context)?;
        expect.no_output = patterns(&table.list("no_output"), context)?;
        for (value, pattern) in table.list("no_output").iter().zip(&expect.no_output) {
            if expect
                .output
                .iter()
                .any(|other| other.source() == pattern.source())
            {
                return Err(value.wrong("what is wanted in the output cannot be unwanted too"));
            }
        }
        for value in table.list("values") {
            expect.values.push(value_wanted(&value, context)?);
        }
        let since = match table.get("since") {
            Some(value) => self.since(&value, context)?,
            None if matches!(action, Action::Check) => Since::Start,
            None => Since::Step(context.step),
        };
        if let Some(value) = table.get("counters") {
            for entry in value.table()?.iter() {
                expect
                    .counters
                    .push(self.counter_wanted(&entry, since, context)?);
            }
        } else if let Some(value) = table.get("since")
            && !["kernel_log", "no_kernel_log"]
                .iter()
                .any(|key| table.get(key).is_some())
        {
            return Err(value.wrong(
                "'since' is of 'counters', 'kernel_log' and 'no_kernel_log', and there are none",
            ));
        }
        expect.log_since = Some(since);
        for (key, list) in [
            ("kernel_log", &mut expect.kernel_log),
            ("no_kernel_log", &mut expect.no_kernel_log),
        ] {
            if let Some(value) = table.get(key) {
                *list = logs(&value, action, context)?;
            }
        }
        if let Some(value) = table.get("carrier") {
            for entry in value.table()?.iter() {
                let nic = context.nic_of_key(&entry)?;
                let up = match &*entry.text()? {
                    "up" => true,
                    "down" => false,
                    _ => return Err(entry.wrong("a carrier is \"up\" or \"down\"")),
                };
                expect.carrier.push((nic, up));
            }
        }
        if let Some(value) = table.get("duration") {
            if matches!(action, Action::Check) {
                return Err(value.wrong("'duration' is of what is done, and nothing is"));
            }
            let comparison = Comparison::new(&value.text()?, true, |name| context.knows(name))
                .map_err(|error| value.wrong(error))?;
            expect.duration = Some(comparison);
        }
        if let Some(value) = table.get("left") {
            let unloads = matches!(
                action,
                Action::Driver {
                    change: DriverChange::Unload | DriverChange::Reload,
                    ..
                }
            );
            if !unloads {
                return Err(value.wrong("'left' is what a driver leaves when it is unloaded"));
            }
            expect.left = Some(pattern(&value, context)?);
        }
        if matches!(action, Action::Check) && expect.is_empty() {
            return Err(value.wrong("this step does nothing and expects nothing"));
        }
        Ok(expect)
    }

    fn counter_wanted(
        &self,
        entry: &Value<'_>,
        since: Since,
        context: &Context<'_>,
    ) -> Result<CounterWanted, Wrong> {
        let counter =
            Counter::new(entry.key, context.machines).map_err(|error| entry.wrong_key(error))?;
        if let Counter::Rule { name, .. } = &counter
            && !context.rules.contains(name)
        {
            let known: Vec<_> = context.rules.iter().map(String::as_str).collect();
            return Err(entry.wrong_key(format!(
                "no rule '{name}' has been in force by then ({})",
                if known.is_empty() {
                    "there were none".to_owned()
                } else {
                    known.join(", ")
                }
            )));
        }
        let (is, since) = if entry.is_table() {
            let table = entry.table()?;
            table.only(&["is", "since"])?;
            let since = match table.get("since") {
                Some(value) => self.since(&value, context)?,
                None => since,
            };
            (comparison(&table.need("is")?, context)?, since)
        } else {
            (comparison(entry, context)?, since)
        };
        if !is.can_hold_from_zero() {
            return Err(entry.wrong(format!("'{is}' never holds: counters do not fall")));
        }
        Ok(CounterWanted { counter, is, since })
    }
}

fn comparison(value: &Value<'_>, context: &Context<'_>) -> Result<Comparison, Wrong> {
    if let Some(figure) = value.figure() {
        return Ok(Comparison::equal(figure));
    }
    let Some(text) = value.string() else {
        return Err(value.expected("a number or a comparison, like \">= 5\""));
    };
    Comparison::new(&text, false, |name| context.knows(name)).map_err(|error| value.wrong(error))
}

fn status(value: &Value<'_>) -> Result<Option<Comparison>, Wrong> {
    if value.string().as_deref() == Some("any") {
        return Ok(None);
    }
    let is = match (value.figure(), value.string()) {
        (Some(figure), _) => Comparison::equal(figure),
        (None, Some(text)) => {
            Comparison::new(&text, false, |_| false).map_err(|error| value.wrong(error))?
        }
        (None, None) => {
            return Err(value.expected("a number, a comparison like \"!= 0\", or \"any\""));
        }
    };
    let none = super::Variables::new();
    let possible = (0..=255).any(|status| is.holds(f64::from(status), &none) == Ok(true));
    if possible {
        Ok(Some(is))
    } else {
        Err(value.wrong(format!("no exit status is {is}: they are from 0 to 255")))
    }
}

fn pattern(value: &Value<'_>, context: &Context<'_>) -> Result<Pattern, Wrong> {
    Pattern::new(&value.text()?, |name| context.knows(name)).map_err(|error| value.wrong(error))
}

fn patterns(values: &[Value<'_>], context: &Context<'_>) -> Result<Vec<Pattern>, Wrong> {
    values.iter().map(|value| pattern(value, context)).collect()
}

fn value_wanted(value: &Value<'_>, context: &mut Context<'_>) -> Result<ValueWanted, Wrong> {
    let table = value.table()?;
    table.only(&["pattern", "is", "save"])?;
    let at = table.need("pattern")?;
    let pattern = pattern(&at, context)?;
    if pattern.groups() == 0 {
        return Err(at.wrong("'pattern' has no group (…) that the value is taken from"));
    }
    let is = match table.get("is") {
        Some(value) => Some(comparison(&value, context)?),
        None => None,
    };
    let save = match table.get("save") {
        Some(value) => {
            let name = value.text()?;
            check_variable(&value, &name)?;
            Some(name)
        }
        None => None,
    };
    if is.is_none() && save.is_none() {
        return Err(value.wrong("a value is compared ('is') or kept ('save'), or both"));
    }
    context.saved.extend(save.clone());
    Ok(ValueWanted { pattern, is, save })
}

/// A pattern for the log of the step's guest, or one for each guest that is named.
fn logs(
    value: &Value<'_>,
    action: &Action,
    context: &Context<'_>,
) -> Result<Vec<(usize, Pattern)>, Wrong> {
    let mut logs = Vec::new();
    if value.is_table() {
        for entry in value.table()?.iter() {
            let guest = context
                .machines
                .guest(entry.key)
                .ok_or_else(|| entry.wrong_key(format!("there is no guest '{}'", entry.key)))?;
            for item in entry.list() {
                logs.push((guest, pattern(&item, context)?));
            }
        }
        return Ok(logs);
    }
    let guest = action.guest().ok_or_else(|| {
        value.wrong(format!(
            "'{}' of which guest? Name it: {{ alice = \"…\" }}",
            value.key
        ))
    })?;
    for item in value.list() {
        logs.push((guest, pattern(&item, context)?));
    }
    Ok(logs)
}
