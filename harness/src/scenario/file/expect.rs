//! The tables `expect` of steps: what has to come of them.

use super::super::compare::Comparison;
use super::super::counter::Counter;
use super::super::model::{
    Action, CounterWanted, DriverChange, Expect, ObjectsWanted, PacketsWanted, Since, Stream,
    TextWanted, ValueWanted,
};
use super::super::pattern::Pattern;
use super::super::source::{Wrong, place};
use super::super::template::Template;
use super::context::Context;
use super::{Reader, Table, Value, check_variable, scalar};
use rocinante_device::mlx5::inspect::Kind;

const KEYS: &[&str] = &[
    "status",
    "output",
    "no_output",
    "stdout",
    "no_stdout",
    "stderr",
    "no_stderr",
    "values",
    "counters",
    "objects",
    "packets",
    "since",
    "kernel_log",
    "no_kernel_log",
    "carrier",
    "duration",
    "left",
];

/// Expectations of what a command prints: where, and whether it is there.
const TEXTS: [(&str, Stream, bool); 6] = [
    ("output", Stream::Both, true),
    ("no_output", Stream::Both, false),
    ("stdout", Stream::Output, true),
    ("no_stdout", Stream::Output, false),
    ("stderr", Stream::Error, true),
    ("no_stderr", Stream::Error, false),
];

/// Not a kind of object, but counted with them.
const PAGES: &str = "pages";

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
        let of_commands = ["status", "values"].into_iter();
        for key in of_commands.chain(TEXTS.map(|(key, ..)| key)) {
            if let (Some(value), false) = (table.get(key), action.has_output()) {
                return Err(value.wrong(format!(
                    "'{key}' is of a command that ends, and this step has none"
                )));
            }
        }
        if let Some(value) = table.get("status") {
            expect.status = status(&value)?;
        }
        expect.texts = texts(&table, action, context)?;
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
        if let Some(value) = table.get("objects") {
            for entry in value.table()?.iter() {
                expect.objects.push(objects_wanted(&entry, context)?);
            }
        }
        for value in table.list("packets") {
            expect
                .packets
                .push(self.packets_wanted(&value, action, context)?);
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

    /// `{ filter = "…", rule = "NAME", is = 1 }` of a capture that ends.
    fn packets_wanted(
        &self,
        value: &Value<'_>,
        action: &Action,
        context: &Context<'_>,
    ) -> Result<PacketsWanted, Wrong> {
        if !matches!(action, Action::Capture { start: false }) {
            return Err(value.wrong("'packets' goes with capture = \"stop\", when all are there"));
        }
        let table = value.table()?;
        table.only(&["filter", "rule", "is"])?;
        let mut filters = Vec::new();
        let mut at = value.span();
        if let Some(value) = table.get("filter") {
            at = value.span();
            let filter = value.words()?;
            filters.push(filter);
        }
        if let Some(value) = table.get("rule") {
            let name = value.text()?;
            context.check_rule(&name).map_err(|why| value.wrong(why))?;
            // As `wire` comments what a rule has done.
            filters.push(format!(
                "frame.comment contains \"rule '{}': \"",
                name.replace('\\', "\\\\").replace('"', "\\\"")
            ));
        }
        let text = match &filters[..] {
            [] => return Err(value.wrong("which packets? 'filter', 'rule', or both")),
            [one] => one.clone(),
            several => format!("({})", several.join(") && (")),
        };
        let filter = Template::new(&text, |name| context.knows(name))
            .map_err(|error| Wrong::new(at.clone(), error))?;
        let is = comparison(&table.need("is")?, context)?;
        if !is.can_hold_from_zero() {
            return Err(value.wrong(format!("'{is}' never holds: it is a number of packets")));
        }
        Ok(PacketsWanted {
            filter,
            place: place(self.source, at.start),
            is,
        })
    }

    fn counter_wanted(
        &self,
        entry: &Value<'_>,
        since: Since,
        context: &Context<'_>,
    ) -> Result<CounterWanted, Wrong> {
        let counter =
            Counter::new(entry.key, context.machines).map_err(|error| entry.wrong_key(error))?;
        if let Counter::Rule { name, .. } = &counter {
            context
                .check_rule(name)
                .map_err(|why| entry.wrong_key(why))?;
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

/// How many objects of a kind there are now: `"alice.qp" = 2`, `"alice.qp" = { is = 1, having = { state = "RTS" } }`.
fn objects_wanted(entry: &Value<'_>, context: &Context<'_>) -> Result<ObjectsWanted, Wrong> {
    let kinds = || {
        let names = Kind::ALL.iter().map(|kind| kind.name());
        names.chain([PAGES]).collect::<Vec<_>>().join(", ")
    };
    let (nic, kind) = entry
        .key
        .split_once('.')
        .ok_or_else(|| entry.wrong_key(format!("'{}' is not NIC.KIND ({})", entry.key, kinds())))?;
    let nic = context
        .nic(entry, nic)
        .map_err(|wrong| entry.wrong_key(wrong.message))?;
    let kind = match kind {
        PAGES => None,
        _ => Some(kind.parse().map_err(|_| {
            entry.wrong_key(format!("'{kind}' is no kind of object ({})", kinds()))
        })?),
    };
    let mut having = Vec::new();
    let is = if entry.is_table() {
        let table = entry.table()?;
        table.only(&["is", "having"])?;
        if let Some(value) = table.get("having") {
            if kind.is_none() {
                return Err(value.wrong("pages are counted, and have nothing to say"));
            }
            for field in value.table()?.iter() {
                let text = match field.string() {
                    Some(text) => text.into_owned(),
                    None => scalar(&field)?,
                };
                let text = Template::new(&text, |name| context.knows(name))
                    .map_err(|error| field.wrong(error))?;
                having.push((field.key.to_owned(), text));
            }
        }
        comparison(&table.need("is")?, context)?
    } else {
        comparison(entry, context)?
    };
    if !is.can_hold_from_zero() {
        return Err(entry.wrong(format!("'{is}' never holds: it is a number of objects")));
    }
    Ok(ObjectsWanted {
        nic,
        kind,
        having,
        is,
    })
}

/// What a step expects of what its command prints.
fn texts(
    table: &Table<'_>,
    action: &Action,
    context: &Context<'_>,
) -> Result<Vec<TextWanted>, Wrong> {
    let mut texts: Vec<TextWanted> = Vec::new();
    for (key, stream, present) in TEXTS {
        for value in table.list(key) {
            if stream != Stream::Both && !context.in_linux(action) {
                return Err(value.wrong(format!(
                    "'{key}': the two are told apart in Linux guests only"
                )));
            }
            let pattern = pattern(&value, context)?;
            let contradicts = |other: &TextWanted| {
                other.stream == stream
                    && other.present != present
                    && other.pattern.source() == pattern.source()
            };
            if texts.iter().any(contradicts) {
                return Err(value.wrong("what is wanted in the output cannot be unwanted too"));
            }
            texts.push(TextWanted {
                stream,
                present,
                pattern,
            });
        }
    }
    Ok(texts)
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
