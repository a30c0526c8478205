//! Several scenario files at a time, each in a process of its own: nothing that one does can be felt by another.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use super::model::Scenario;
use super::report::{RunReport, ScenarioReport};
use super::template::Variables;
use crate::lab::{Program, interrupted};

/// Runs the files of `scenarios`, at most `jobs` at a time, by `program` with these arguments before the file and
/// `--logs folder --json …`, and with the values of `given` for variables that the file has. `each` is told of each scenario that
/// is over.
pub fn run_side_by_side(
    scenarios: &[Scenario],
    given: &Variables,
    program: &Path,
    arguments: &[OsString],
    jobs: usize,
    folder: &Path,
    each: impl FnMut(&ScenarioReport) + Send,
) -> Result<RunReport> {
    let started = Instant::now();
    let mut names = BTreeSet::new();
    if let Some(twice) = scenarios.iter().find(|one| !names.insert(&one.name)) {
        bail!("two scenarios are called '{}'", twice.name);
    }
    let mut files: Vec<&PathBuf> = scenarios.iter().map(|scenario| &scenario.path).collect();
    files.dedup();
    let next = AtomicUsize::new(0);
    let each = Mutex::new(each);
    let found: Mutex<BTreeMap<usize, Vec<ScenarioReport>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(files.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(file) = files.get(number) else {
                        return;
                    };
                    let reports = match interrupted() {
                        Some(signal) => Err(anyhow!("interrupted by {signal}")),
                        None => {
                            let mut arguments = arguments.to_vec();
                            arguments.extend(settings(scenarios, file, given));
                            one(file, program, &arguments, folder)
                        }
                    };
                    let reports = reports.unwrap_or_else(|error| {
                        let of_file = scenarios.iter().filter(|one| one.path == **file);
                        of_file
                            .map(|scenario| {
                                ScenarioReport::not_run(scenario, &format!("{error:#}"))
                            })
                            .collect()
                    });
                    for report in &reports {
                        each.lock().unwrap_or_else(PoisonError::into_inner)(report);
                    }
                    found
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(number, reports);
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let reports = found.into_values().flatten().collect();
    Ok(RunReport::new(reports, started.elapsed()))
}

/// The given values of variables that a file has: of another's it would know nothing.
fn settings(scenarios: &[Scenario], file: &Path, given: &Variables) -> Vec<OsString> {
    let scenario = scenarios.iter().find(|one| one.path == file);
    let has = |name: &String| scenario.is_some_and(|one| one.variables.contains_key(name));
    given
        .iter()
        .filter(|(name, _)| has(name))
        .flat_map(|(name, value)| ["--set".into(), format!("{name}={value}").into()])
        .collect()
}

/// Runs one file. What its process has found is in the file that it writes.
fn one(
    file: &Path,
    program: &Path,
    arguments: &[OsString],
    folder: &Path,
) -> Result<Vec<ScenarioReport>> {
    let result = tempfile::Builder::new()
        .prefix("rocinante-")
        .suffix(".json")
        .tempfile()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg("--logs")
        .arg(folder)
        .arg("--json")
        .arg(result.path())
        .arg("--")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let status = Program::start(&mut command)
        .and_then(Program::wait)
        .with_context(|| format!("cannot run {}", program.display()))?;
    let json = std::fs::read_to_string(result.path())?;
    let report: RunReport = serde_json::from_str(&json)
        .with_context(|| format!("{} ended ({status}) without a report", program.display()))?;
    Ok(report.scenarios)
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn scenario(name: &str) -> Scenario {
        let source = "[guest.a]\n[[step]]\nguest = \"a\"\nrun = \"true\"\n";
        let mut scenarios = file::read(Path::new(name), source, &Variables::new()).unwrap();
        scenarios.remove(0)
    }

    #[test]
    fn each_file_has_a_process_and_reports_are_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        // --logs FOLDER --json RESULT -- FILE
        let script = "#!/bin/sh\n[ $6 = b.toml ] && exit 3\n\
            [ $6 = a.toml ] && sleep 0.3\n\
            echo '{\"ok\":true,\"seconds\":1,\"scenarios\":[{\"name\":\"'$6'\",\"file\":\"'$6'\",\"description\":\"\",\"ok\":true,\
            \"seconds\":1,\"started\":0,\"variables\":{},\"systems\":{},\"checks\":[],\"folder\":\"'$2'\",\"attachments\":[]}]}' >$4\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let scenarios = ["a.toml", "b.toml", "c.toml"].map(scenario);
        let mut told = Vec::new();
        let none = Variables::new();
        let report = run_side_by_side(
            &scenarios,
            &none,
            &program,
            &[],
            2,
            folder.path(),
            |report| {
                told.push(report.name.clone());
            },
        )
        .unwrap();
        let names: Vec<_> = report
            .scenarios
            .iter()
            .map(|one| (one.name.as_str(), one.ok))
            .collect();
        assert_eq!(names, [("a.toml", true), ("b", false), ("c.toml", true)]);
        assert_eq!(told.len(), 3);
        assert!(!report.ok);
        let why = &report.scenarios[1].checks[0].message;
        assert!(why.contains("exit status: 3"), "{why}");
        let twice = [scenario("a.toml"), scenario("a.toml")];
        assert!(run_side_by_side(&twice, &none, &program, &[], 2, folder.path(), |_| {}).is_err());
    }

    #[test]
    fn a_file_is_told_what_is_of_its_variables() {
        let source = "[variables]\nx = 1\n[guest.a]\n[[step]]\nguest = \"a\"\nrun = \"echo {x}\"\n";
        let with = file::read(Path::new("x.toml"), source, &Variables::new()).unwrap();
        let scenarios = [scenario("a.toml"), with[0].clone()];
        let given = ["x", "y"]
            .map(|name| (name.to_owned(), "2".to_owned()))
            .into();
        assert_eq!(
            settings(&scenarios, Path::new("x.toml"), &given),
            ["--set", "x=2"]
        );
        assert!(settings(&scenarios, Path::new("a.toml"), &given).is_empty());
    }
}
