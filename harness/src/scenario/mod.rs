//! Scenarios: files in TOML that say which guests and NICs there are, what is done with them, and what has to come of it; checked
//! before anything boots, run, and reported. `docs/scenarios.md` describes the files.
//!
//! What is in a file is [`Scenario`]; [`read`] checks it; [`run()`] boots what it names and does its steps.

mod compare;
mod counter;
#[cfg(test)]
mod examples;
mod expect;
mod faults;
mod file;
mod model;
mod network;
mod parallel;
mod pattern;
mod report;
mod run;
mod source;
mod stage;
mod step;
mod template;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::lab::{Cache, LabConfig, Progress};
pub use model::{Machines, Scenario};
pub use parallel::run_side_by_side;
pub use report::{Check, Outcome, RunReport, ScenarioReport, junit, table};
use run::Means;
pub use source::Mistake;
use stage::{Labs, Stage};
pub use template::Variables;

/// Reads scenario files. All mistakes of all files are told.
pub fn read(files: &[PathBuf], given: &Variables) -> Result<Vec<Scenario>, Vec<Mistake>> {
    let mut scenarios = Vec::new();
    let mut mistakes = Vec::new();
    for path in files {
        let source = fs::read_to_string(path).map_err(|error| error.to_string());
        match source.map(|source| file::read(path, &source, given)) {
            Ok(Ok(of_file)) => scenarios.extend(of_file),
            Ok(Err(of_file)) => mistakes.extend(of_file),
            Err(message) => mistakes.push(Mistake {
                path: path.clone(),
                line: 1,
                column: 1,
                message,
            }),
        }
    }
    let unknown = given.keys().filter(|name| {
        !scenarios
            .iter()
            .any(|one| one.variables.contains_key(*name))
    });
    if let (true, Some(path)) = (mistakes.is_empty(), files.first()) {
        mistakes.extend(unknown.map(|name| Mistake {
            path: path.clone(),
            line: 1,
            column: 1,
            message: format!("no [variables] and no [matrix] has '{name}', which is to be set"),
        }));
    }
    if mistakes.is_empty() {
        Ok(scenarios)
    } else {
        Err(mistakes)
    }
}

/// The NICs' log, in each scenario's folder.
const LOG: &str = "nics.log";

/// How scenarios are run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What guests run that say nothing about it, and where logs go: to a folder for each scenario in that of the lab.
    pub lab: LabConfig,
    /// Guests are used again by a scenario that has the same ones as the one before it.
    pub reuse: bool,
}

/// Runs scenarios, one after the other. `each` is told of each that is over.
pub fn run(
    scenarios: &[Scenario],
    options: &Options,
    progress: &Progress,
    mut each: impl FnMut(&ScenarioReport),
) -> Result<RunReport> {
    let started = Instant::now();
    let folder = logs(&options.lab)?;
    progress.say(&format!("logs and captures: {}", folder.display()));
    let mut labs = Labs::new(options.lab.clone());
    let mut taken = BTreeSet::new();
    let mut stage: Option<Stage> = None;
    let mut reports = Vec::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        let keep = options.reuse
            && scenarios
                .get(number + 1)
                .is_some_and(|next| next.machines == scenario.machines);
        let name = folder_name(&scenario.name, &mut taken);
        let means = Means {
            labs: &mut labs,
            folder: empty_folder(&folder, &name)?,
            progress,
        };
        let (report, kept) = run::run(scenario, stage.take(), keep, means);
        stage = kept;
        each(&report);
        reports.push(report);
    }
    Ok(RunReport::new(reports, started.elapsed()))
}

/// The folder for all logs, made if need be.
pub fn logs(lab: &LabConfig) -> Result<PathBuf> {
    let folder = match &lab.logs {
        Some(folder) => folder.clone(),
        None => Cache::open(lab.cache.as_deref())?.run_folder()?,
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    folder
        .canonicalize()
        .with_context(|| format!("cannot resolve {}", folder.display()))
}

/// A name that can be a folder's and has not been taken.
fn folder_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            let good = c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if good { c } else { '-' }
        })
        .collect();
    let plain = plain.trim_matches(['-', '.']);
    let mut folder = plain.to_owned();
    let mut count = 1;
    while !taken.insert(folder.clone()) {
        count += 1;
        folder = format!("{plain}-{count}");
    }
    folder
}

/// The folder `name` in `parent`, without what an earlier run may have left there.
fn empty_folder(parent: &Path, name: &str) -> Result<PathBuf> {
    let folder = parent.join(name);
    if folder.exists() {
        // Another's folder of that name is not ours to empty.
        if !folder.join(LOG).is_file() {
            bail!("{} is there and not of an earlier run", folder.display());
        }
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_has_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s.toml");
        let source = "[variables]\nx = 1\n[guest.a]\n[[step]]\nguest = \"a\"\nrun = \"echo {x}\"\n";
        fs::write(&file, source).unwrap();
        let given = |name: &str| [(name.to_owned(), "2".to_owned())].into();
        assert!(read(std::slice::from_ref(&file), &given("x")).is_ok());
        let mistakes = read(std::slice::from_ref(&file), &given("y")).unwrap_err();
        assert!(mistakes[0].message.contains("'y'"), "{mistakes:?}");
        let missing = [folder.path().join("none.toml")];
        assert_eq!(read(&missing, &Variables::new()).unwrap_err().len(), 1);
    }

    #[test]
    fn every_scenario_has_a_folder_of_its_own() {
        let mut taken = BTreeSet::new();
        assert_eq!(folder_name("mtu[mtu=256]", &mut taken), "mtu-mtu-256");
        assert_eq!(folder_name("..", &mut taken), "");
        assert_eq!(folder_name("a", &mut taken), "a");
        assert_eq!(folder_name("a", &mut taken), "a-2");
    }
}
