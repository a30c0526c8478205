//! Scenario files: TOML to checked scenarios, one for each combination of the matrix. Every mistake is told with its place.

mod context;
mod expect;
mod guest;
mod step;
mod value;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use toml::de::DeTable;

use super::faults::{self, FaultSets};
use super::model::{LogPlan, Machines, Scenario};
use super::source::{Mistake, Wrong, place};
use super::template::{Variables, fill_in};
pub use value::duration;
use value::{Table, Value};

const KEYS: &[&str] = &[
    "name",
    "description",
    "deadline",
    "step_deadline",
    "capture",
    "variables",
    "matrix",
    "guest",
    "ports",
    "faults",
    "start_faults",
    "step",
];

/// For a scenario that says nothing.
const DEADLINE: Duration = Duration::from_secs(600);
/// For a step that says nothing.
const STEP_DEADLINE: Duration = Duration::from_secs(90);
/// Combinations of a matrix.
const MAX_COMBINATIONS: usize = 256;

/// Reads the text of the file `path`. `given` are values for the file's variables that come from elsewhere.
pub fn read(path: &Path, source: &str, given: &Variables) -> Result<Vec<Scenario>, Vec<Mistake>> {
    let locate = |wrong: Wrong| wrong.locate(path, source);
    let parsed = DeTable::parse(source).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        vec![locate(Wrong::new(span, error.message()))]
    })?;
    let none = Variables::new();
    let root = Table::new(parsed.get_ref(), parsed.span(), &none);
    let combinations = combinations(&root, given).map_err(|wrong| vec![locate(wrong)])?;
    let mut scenarios = Vec::new();
    for variables in &combinations {
        let root = Table::new(parsed.get_ref(), parsed.span(), variables);
        let reader = Reader {
            path,
            source,
            root,
            variables,
        };
        scenarios.push(reader.read()?);
    }
    Ok(scenarios)
}

/// The variables of the file for each combination of its matrix.
fn combinations(root: &Table<'_>, given: &Variables) -> Result<Vec<Variables>, Wrong> {
    let mut fixed = Variables::new();
    if let Some(table) = root.get("variables") {
        for value in table.table()?.iter() {
            check_variable(&value, value.key)?;
            let chosen = match given.get(value.key) {
                Some(given) => given.clone(),
                None => scalar(&value)?,
            };
            fixed.insert(value.key.to_owned(), chosen);
        }
    }
    let mut all = vec![fixed];
    let Some(table) = root.get("matrix") else {
        return Ok(all);
    };
    for value in table.table()?.iter() {
        check_variable(&value, value.key)?;
        let choices: Vec<String> = match given.get(value.key) {
            Some(given) => vec![given.clone()],
            None => value
                .list()
                .iter()
                .map(scalar)
                .collect::<Result<_, Wrong>>()?,
        };
        if choices.is_empty() {
            return Err(value.wrong(format!("'{}' has no value", value.key)));
        }
        if all
            .iter()
            .any(|variables| variables.contains_key(value.key))
        {
            return Err(value.wrong(format!("'{}' is a variable already", value.key)));
        }
        all = all
            .iter()
            .flat_map(|variables| {
                choices.iter().map(|choice| {
                    let mut variables = variables.clone();
                    variables.insert(value.key.to_owned(), choice.clone());
                    variables
                })
            })
            .collect();
        if all.len() > MAX_COMBINATIONS {
            return Err(value.wrong(format!("more than {MAX_COMBINATIONS} combinations")));
        }
    }
    Ok(all)
}

fn check_variable(value: &Value<'_>, name: &str) -> Result<(), Wrong> {
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if good {
        Ok(())
    } else {
        Err(value.wrong(format!(
            "'{name}': a variable is of letters, digits, '_' and '-', and begins with a letter"
        )))
    }
}

fn scalar(value: &Value<'_>) -> Result<String, Wrong> {
    match (value.string(), value.figure(), value.boolean()) {
        (Some(text), _, _) => Ok(text.into_owned()),
        (_, Some(figure), _) => Ok(figure.to_string()),
        (_, _, Some(flag)) => Ok(flag.to_string()),
        _ => Err(value.expected("a string, a number, true or false")),
    }
}

/// Names of scenarios, guests, NICs, jobs and sets: they become those of files and ports.
fn check_name(value: &Value<'_>, name: &str) -> Result<(), Wrong> {
    let good = (1..=60).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if good {
        Ok(())
    } else {
        Err(value.wrong(format!(
            "'{name}' is no name: 1 to 60 letters, digits, '_' and '-', beginning with a letter or digit"
        )))
    }
}

struct Reader<'t> {
    path: &'t Path,
    source: &'t str,
    root: Table<'t>,
    variables: &'t Variables,
}

impl Reader<'_> {
    fn line(&self, span: &std::ops::Range<usize>) -> usize {
        place(self.source, span.start).0
    }

    /// A path in the file is one from the file's folder.
    fn resolve(&self, value: &Value<'_>) -> Result<std::path::PathBuf, Wrong> {
        let text = value.words()?;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        Ok(folder.join(text))
    }

    fn read(&self) -> Result<Scenario, Vec<Mistake>> {
        let mut wrongs = Vec::new();
        let mut mistakes = Vec::new();
        let scenario = self.scenario(&mut wrongs, &mut mistakes);
        match scenario {
            Ok(scenario) if wrongs.is_empty() && mistakes.is_empty() => return Ok(scenario),
            Ok(_) => {}
            Err(wrong) => wrongs.push(wrong),
        }
        mistakes.extend(
            wrongs
                .into_iter()
                .map(|wrong| wrong.locate(self.path, self.source)),
        );
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        mistakes.dedup();
        Err(mistakes)
    }

    fn scenario(
        &self,
        wrongs: &mut Vec<Wrong>,
        mistakes: &mut Vec<Mistake>,
    ) -> Result<Scenario, Wrong> {
        let root = &self.root;
        if let Err(wrong) = root.only(KEYS) {
            wrongs.push(wrong);
        }
        let name = self.name()?;
        let (machines, logs) = self.machines(wrongs)?;
        let faults = self.fault_sets(&machines, wrongs, mistakes);
        let faults_at_start = match root.get("start_faults") {
            Some(value) => self.set_names(&value, &faults)?,
            None => Vec::new(),
        };
        let step_deadline = root.duration("step_deadline")?.unwrap_or(STEP_DEADLINE);
        let mut scenario = Scenario {
            path: self.path.to_owned(),
            name,
            description: root.text("description")?.unwrap_or_default(),
            deadline: root.duration("deadline")?.unwrap_or(DEADLINE),
            capture: root.flag("capture")?.unwrap_or(true),
            variables: self.variables.clone(),
            machines,
            logs,
            faults,
            faults_at_start,
            steps: Vec::new(),
        };
        self.steps(&mut scenario, step_deadline, wrongs);
        Ok(scenario)
    }

    fn name(&self) -> Result<String, Wrong> {
        let mut name = match self.root.get("name") {
            Some(value) => {
                let name = value.text()?;
                check_name(&value, &name)?;
                name
            }
            None => self
                .path
                .file_stem()
                .map_or_else(|| "scenario".to_owned(), |s| s.to_string_lossy().into()),
        };
        if let Some(matrix) = self.root.get("matrix") {
            let values: Vec<String> = matrix
                .table()?
                .iter()
                .filter_map(|value| {
                    let chosen = self.variables.get(value.key)?;
                    Some(format!("{}={chosen}", value.key))
                })
                .collect();
            name = format!("{name}[{}]", values.join(","));
        }
        Ok(name)
    }

    /// Names of sets, each of which there is.
    fn set_names(&self, value: &Value<'_>, sets: &FaultSets) -> Result<Vec<String>, Wrong> {
        let mut names = Vec::new();
        for item in value.list() {
            let name = item.text()?;
            if !sets.has(&name) {
                let known: Vec<_> = sets.names().collect();
                return Err(item.wrong(format!(
                    "there are no faults called '{name}' ({})",
                    if known.is_empty() {
                        "none are defined: [[faults.NAME.rule]]".to_owned()
                    } else {
                        known.join(", ")
                    }
                )));
            }
            names.push(name);
        }
        // Each by itself is looked at elsewhere.
        if names.len() > 1
            && let Err(errors) = sets.faults(&names)
            && let Some(error) = errors.0.first()
        {
            return Err(value.wrong(format!("together: {}", error.message)));
        }
        Ok(names)
    }

    fn fault_sets(
        &self,
        machines: &Machines,
        wrongs: &mut Vec<Wrong>,
        mistakes: &mut Vec<Mistake>,
    ) -> FaultSets {
        let mut sets = FaultSets::default();
        let Some(value) = self.root.get("faults") else {
            return sets;
        };
        let mut strings = Vec::new();
        self.root
            .iter()
            .for_each(|value| value.strings(&mut strings));
        let mut add_all = || -> Result<(), Wrong> {
            for set in value.table()?.iter() {
                check_name(&set, set.key)?;
                let table = set.table()?;
                if let Some(file) = table.get("file") {
                    table.only(&["file"])?;
                    let path = self.resolve(&file)?;
                    let text = std::fs::read_to_string(&path)
                        .map_err(|error| file.wrong(format!("{}: {error}", path.display())))?;
                    sets.add(set.key, &path, text);
                    continue;
                }
                let (text, headers) = faults::lines(self.source, set.key, &strings);
                let entries: usize = table.iter().map(|entries| entries.list().len()).sum();
                if headers != entries || entries == 0 {
                    return Err(set.wrong(format!(
                        "faults are written below headers of their own, like [[faults.{}.rule]], [[faults.{0}.link]], \
                         or are in the file that faults.{0}.file names",
                        set.key
                    )));
                }
                sets.add(
                    set.key,
                    self.path,
                    fill_in(&text, self.variables).into_owned(),
                );
            }
            Ok(())
        };
        if let Err(wrong) = add_all() {
            wrongs.push(wrong);
        }
        let nics = machines
            .nics
            .iter()
            .map(|nic| (nic.link.as_str(), nic.name.as_str()));
        let others = machines
            .ports
            .iter()
            .map(|port| (port.link.as_str(), port.name.as_str()));
        let ports: Vec<(&str, &str)> = nics.chain(others).collect();
        let names: Vec<&str> = machines.nics.iter().map(|nic| nic.name.as_str()).collect();
        mistakes.extend(sets.mistakes(&ports, &names));
        sets
    }
}

/// What a guest's kernel may say, by the guest's name, until the guests are in order.
type Logs = BTreeMap<String, LogPlan>;

#[cfg(test)]
mod tests;
