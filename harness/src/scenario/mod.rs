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
mod objects;
mod packets;
mod parallel;
mod pattern;
mod report;
mod run;
mod source;
mod stage;
mod step;
mod template;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::lab::{Cache, LabConfig, Progress, interrupted};
pub use model::{Machines, Scenario};
pub use packets::check_filters;
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
    // Guests that are used again go on writing to the folder of an earlier scenario.
    let mut claims: Vec<Claim> = Vec::new();
    let mut stage: Option<Stage> = None;
    let mut reports = Vec::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        if let Some(signal) = interrupted() {
            let report = ScenarioReport::not_run(scenario, &format!("interrupted by {signal}"));
            each(&report);
            reports.push(report);
            continue;
        }
        let keep = options.reuse
            && scenarios
                .get(number + 1)
                .is_some_and(|next| next.machines == scenario.machines);
        let claim = claim(&folder, &folder_name(&scenario.name))?;
        let means = Means {
            labs: &mut labs,
            folder: claim.path.clone(),
            progress,
        };
        claims.push(claim);
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

/// A folder's name for a scenario's.
fn folder_name(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            let good = c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if good { c } else { '-' }
        })
        .collect();
    plain.trim_matches(['-', '.']).to_owned()
}

/// A folder of a scenario's own.
struct Claim {
    path: PathBuf,
    /// Locked; so no other run takes the folder for one that an earlier run has left.
    _log: File,
}

/// The folder `name` in `parent`, without what an earlier run may have left there; `name-2` and so on, where another run is using
/// that.
fn claim(parent: &Path, name: &str) -> Result<Claim> {
    // So that runs that begin at the same time claim one after the other.
    let lock = File::open(parent).with_context(|| format!("cannot open {}", parent.display()))?;
    flock(&lock, FlockOperation::LockExclusive)
        .with_context(|| format!("cannot lock {}", parent.display()))?;
    for count in 1.. {
        let path = match count {
            1 => parent.join(name),
            _ => parent.join(format!("{name}-{count}")),
        };
        let log = path.join(LOG);
        if path.exists() {
            // Another's folder of that name is not ours to empty.
            let Ok(log) = File::open(&log) else {
                bail!("{} is there and not of an earlier run", path.display());
            };
            if flock(&log, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot empty {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let log = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        flock(&log, FlockOperation::LockExclusive).context("cannot lock a new log")?;
        return Ok(Claim { path, _log: log });
    }
    bail!("no name is left for the folder of {name}")
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
        assert_eq!(folder_name("mtu[mtu=256]"), "mtu-mtu-256");
        assert_eq!(folder_name(".."), "");
        let parent = tempfile::tempdir().unwrap();
        let first = claim(parent.path(), "a").unwrap();
        fs::write(first.path.join("capture.pcapng"), "1").unwrap();
        let second = claim(parent.path(), "a").unwrap();
        assert_eq!(first.path, parent.path().join("a"));
        assert_eq!(second.path, parent.path().join("a-2"));
        assert!(first.path.join("capture.pcapng").exists());
        drop(first);
        let third = claim(parent.path(), "a").unwrap();
        assert_eq!(third.path, parent.path().join("a"));
        assert!(!third.path.join("capture.pcapng").exists());
        fs::create_dir(parent.path().join("mine")).unwrap();
        assert!(claim(parent.path(), "mine").is_err());
    }
}
