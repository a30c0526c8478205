//! Runs one scenario on a stage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rocinante_wire::fault::RuleCounters;

use super::counter::Counter;
use super::model::{Scenario, Since, Step};
use super::network;
use super::report::{Attachment, Check, Outcome, ScenarioReport};
use super::stage::{Labs, Stage};
use super::template::Variables;
use crate::lab::freebsd::{self, Machine};
use crate::lab::{Deadline, Job, LabConfig, Progress, interrupted, log_to};

/// A command in the background.
pub(super) enum Task {
    Linux(Job),
    FreeBsd(freebsd::Started),
}

/// A job under way.
pub(super) struct Started {
    pub guest: usize,
    pub task: Task,
    /// The file in the guest with its standard error, if that is kept apart.
    pub errors: Option<String>,
}

/// A scenario under way.
pub(super) struct Run<'a> {
    pub scenario: &'a Scenario,
    pub stage: Stage,
    pub variables: Variables,
    /// Jobs under way.
    pub jobs: BTreeMap<String, Started>,
    /// Commands so far whose standard error was kept apart.
    pub kept_errors: usize,
    /// What counters were when they began to count.
    pub bases: BTreeMap<(Since, Counter), f64>,
    /// What guests' kernels had said by then.
    pub logs: BTreeMap<(Since, usize), String>,
    /// Hits and matches of rules that are not in force any more.
    pub past_rules: BTreeMap<String, (u64, u64)>,
    /// What guests' kernels said before they were switched off.
    pub past_logs: BTreeMap<usize, String>,
    /// Where its files go.
    pub folder: PathBuf,
    /// When all has to be over.
    end: Instant,
    /// Captures so far.
    pub captures: usize,
    /// Where programs of the host are prepared.
    pub tools: LabConfig,
}

/// What a scenario is run with.
pub(super) struct Means<'a> {
    pub labs: &'a mut Labs,
    pub folder: PathBuf,
    pub progress: &'a Progress,
}

/// Runs a scenario. `stage` is one that an earlier scenario has left; what this one leaves is given back if it is clean and asked
/// for.
pub(super) fn run(
    scenario: &Scenario,
    stage: Option<Stage>,
    keep: bool,
    means: Means<'_>,
) -> (ScenarioReport, Option<Stage>) {
    let Means {
        labs,
        folder,
        progress,
    } = means;
    // What has to be fetched and built the first time is not the scenario's.
    let prepared = labs.prepare(&scenario.machines, progress);
    let started = Instant::now();
    let end = started + scenario.deadline;
    let mut report = ScenarioReport {
        folder: folder.clone(),
        ..ScenarioReport::new(scenario)
    };
    let deadline = Deadline::at(end).context("no thread for the deadline");
    let mut kept = None;
    let logs = Logs::new(stage.as_ref());
    let begun = prepared.and(deadline).and_then(|deadline| {
        let run = Run::begin(
            scenario,
            stage,
            labs,
            &folder,
            started,
            progress,
            &mut report,
        );
        Ok((run?, deadline))
    });
    match begun {
        Ok((mut run, deadline)) => {
            run.steps(progress, &mut report);
            run.look_at_logs(&mut report);
            drop(deadline);
            kept = run.finish(keep && all_passed(&report), progress, &mut report);
        }
        Err(error) => {
            let name = if report.checks.is_empty() {
                "boot"
            } else {
                "set up"
            };
            let why = because(scenario, end, format!("{error:#}"));
            report
                .checks
                .push(Check::failed(name, why, started.elapsed()));
            for step in &scenario.steps {
                report.checks.push(Check {
                    line: Some(step.line),
                    ..Check::skipped(&step.name, "the guests are not ready")
                });
            }
        }
    }
    logs.copy_to(&folder);
    report.attachments = attachments(&folder);
    report.ok = all_passed(&report);
    report.seconds = started.elapsed().as_secs_f64();
    (report, kept)
}

/// What failed, after what made it fail: guests are ended when a scenario has to end, and all that waits for them fails.
fn because(scenario: &Scenario, end: Instant, why: String) -> String {
    if let Some(signal) = interrupted() {
        format!("interrupted by {signal}: {why}")
    } else if Instant::now() >= end {
        format!(
            "the deadline of the scenario, {:?}, has passed: {why}",
            scenario.deadline
        )
    } else {
        why
    }
}

fn all_passed(report: &ScenarioReport) -> bool {
    report
        .checks
        .iter()
        .all(|check| check.outcome == Outcome::Passed)
}

impl<'a> Run<'a> {
    /// Boots the guests and makes them ready.
    fn begin(
        scenario: &'a Scenario,
        stage: Option<Stage>,
        labs: &mut Labs,
        folder: &Path,
        started: Instant,
        progress: &Progress,
        report: &mut ScenarioReport,
    ) -> Result<Self> {
        log_to(&folder.join(super::LOG))?;
        let faults = scenario
            .faults
            .faults(&scenario.faults_at_start)
            .map_err(|errors| anyhow!("{errors}"))?;
        let capture = scenario.capture.then(|| folder.join("capture.pcapng"));
        let _step = progress.step(format!("{}: boot", scenario.name));
        let stage = match stage {
            Some(stage) => {
                stage.take_over(faults, capture.as_deref())?;
                stage
            }
            None => Stage::boot(
                &scenario.machines,
                labs,
                folder,
                capture.as_deref(),
                faults,
                progress,
            )?,
        };
        report.systems = stage.systems().into_iter().collect();
        let systems: Vec<&str> = report.systems.values().map(String::as_str).collect();
        report
            .checks
            .push(Check::passed("boot", systems.join(", "), started.elapsed()));
        let mut run = Self {
            scenario,
            stage,
            variables: scenario.variables.clone(),
            jobs: BTreeMap::new(),
            kept_errors: 0,
            bases: BTreeMap::new(),
            logs: BTreeMap::new(),
            past_rules: BTreeMap::new(),
            past_logs: BTreeMap::new(),
            folder: folder.to_owned(),
            end: started + scenario.deadline,
            captures: usize::from(scenario.capture),
            tools: labs.config().clone(),
        };
        let began = Instant::now();
        for nic in &scenario.machines.nics {
            network::tell_plan(nic, &mut run.variables);
        }
        run.stage.set_up_all(&mut run.variables)?;
        run.take_bases(Since::Start)?;
        report
            .checks
            .push(Check::passed("set up", "", began.elapsed()));
        Ok(run)
    }

    fn steps(&mut self, progress: &Progress, report: &mut ScenarioReport) {
        let scenario = self.scenario;
        let mut failed = None;
        for (number, step) in scenario.steps.iter().enumerate() {
            if let Some(name) = &failed {
                report.checks.push(Check {
                    line: Some(step.line),
                    ..Check::skipped(&step.name, format!("'{name}' failed"))
                });
                continue;
            }
            let mut checks = {
                let _step = progress.step(format!("{}: {}", scenario.name, step.name));
                self.step(number, step)
            };
            for check in &mut checks {
                if check.outcome == Outcome::Failed {
                    check.message = because(scenario, self.end, std::mem::take(&mut check.message));
                }
            }
            let bad = checks.iter().any(|check| check.outcome == Outcome::Failed);
            if bad && !step.go_on {
                failed = Some(step.name.clone());
            }
            report.checks.extend(checks.into_iter().map(|check| Check {
                line: Some(step.line),
                ..check
            }));
        }
    }

    /// What is left of a step's time, and of the scenario's.
    pub(super) fn patience(&self, step: &Step) -> Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(anyhow!("no time is left for this step"));
        }
        Ok(left.min(step.deadline))
    }

    /// Keeps what a guest's kernel has said, for a guest that is about to go.
    pub(super) fn keep_log(&mut self, guest: usize) {
        // One that is stuck has nothing to say.
        if let Ok(machine) = self.stage.guest(guest)
            && let Ok(messages) = machine.messages()
        {
            self.past_logs.entry(guest).or_default().push_str(&messages);
        }
    }

    fn look_at_logs(&mut self, report: &mut ScenarioReport) {
        let guests: Vec<usize> = self.stage.running().map(|(guest, _)| guest).collect();
        let count = self.scenario.machines.guests.len();
        let mut errors = BTreeMap::new();
        for guest in guests {
            let messages = self.stage.guest(guest).and_then(Machine::messages);
            match messages {
                Ok(messages) => self.past_logs.entry(guest).or_default().push_str(&messages),
                Err(error) => {
                    errors.insert(guest, error);
                }
            }
        }
        for guest in 0..count {
            let began = Instant::now();
            let plan = &self.scenario.machines.guests[guest];
            let name = format!("kernel log of {}", plan.name);
            let messages = self.past_logs.get(&guest).cloned().unwrap_or_default();
            let file = self.folder.join(format!("{}.dmesg", plan.name));
            if let Err(error) = fs::write(&file, &messages) {
                let why = format!("cannot write {}: {error}", file.display());
                report
                    .checks
                    .push(Check::failed(name, why, began.elapsed()));
                continue;
            }
            let rules = self.scenario.logs.get(guest).cloned().unwrap_or_default();
            if rules.ignored {
                continue;
            }
            if let Some(error) = errors.get(&guest) {
                let why = format!("it cannot be read: {error:#}");
                report
                    .checks
                    .push(Check::failed(name, why, began.elapsed()));
                continue;
            }
            let found: Vec<String> = super::expect::complaints(plan, &messages)
                .into_iter()
                .filter(|line| !rules.allowed.iter().any(|allowed| allowed.is_match(line)))
                .collect();
            report.checks.push(if found.is_empty() {
                Check::passed(name, "no complaint", began.elapsed())
            } else {
                let why = format!(
                    "{} lines that a healthy adapter would not cause:\n{}",
                    found.len(),
                    found.join("\n")
                );
                Check::failed(name, why, began.elapsed())
            });
        }
    }

    /// Ends what is under way. The stage is given back if it is to be kept and can be.
    fn finish(
        mut self,
        keep: bool,
        progress: &Progress,
        report: &mut ScenarioReport,
    ) -> Option<Stage> {
        let began = Instant::now();
        let _step = progress.step(format!("{}: end", self.scenario.name));
        let mut fail = |error: anyhow::Error| {
            report
                .checks
                .push(Check::failed("end", format!("{error:#}"), began.elapsed()));
        };
        if let Err(error) = self.stage.server.finish_capture() {
            fail(error);
        }
        self.jobs.clear();
        if keep && self.stage.is_whole() {
            match self.stage.clean() {
                Ok(()) => return Some(self.stage),
                Err(error) => {
                    fail(error.context("the guests could not be cleaned up for the next scenario"));
                }
            }
        }
        if let Err(error) = self.stage.end() {
            fail(error);
        }
        None
    }
}

/// The faults in force are forgotten by the server: what they did is kept.
pub(super) fn remember(faults: Vec<RuleCounters>, past: &mut BTreeMap<String, (u64, u64)>) {
    for counters in faults {
        past.insert(counters.name, (counters.hits, counters.matches));
    }
}

/// Logs that guests go on writing in the folder of an earlier scenario, with what was in them already.
struct Logs(Vec<(PathBuf, u64)>);

impl Logs {
    fn new(stage: Option<&Stage>) -> Self {
        let folder = stage.map(Stage::logs);
        let entries = folder.and_then(|folder| fs::read_dir(folder).ok());
        let files = entries.into_iter().flatten().filter_map(|entry| {
            let path = entry.ok()?.path();
            let is_log = path
                .extension()
                .is_some_and(|kind| kind == "console" || kind == "jobs");
            let length = fs::metadata(&path).ok()?.len();
            is_log.then_some((path, length))
        });
        Self(files.collect())
    }

    /// Copies what has been added since.
    fn copy_to(&self, folder: &Path) {
        use std::io::{Read, Seek, SeekFrom};
        for (path, from) in &self.0 {
            let Some(name) = path.file_name() else {
                continue;
            };
            let mut text = Vec::new();
            let copied = fs::File::open(path)
                .and_then(|mut file| {
                    file.seek(SeekFrom::Start(*from))?;
                    file.read_to_end(&mut text)
                })
                .and_then(|_| fs::write(folder.join(name), &text));
            if let Err(error) = copied {
                log::warn!("log {}: {error}", path.display());
            }
        }
    }
}

/// The files of a scenario, by name, as seen from where the program runs.
fn attachments(folder: &Path) -> Vec<Attachment> {
    let here = std::env::current_dir().unwrap_or_default();
    let mut files: Vec<Attachment> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let is_file = fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() > 0);
            is_file.then(|| Attachment {
                name: path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                path: path.strip_prefix(&here).unwrap_or(&path).to_owned(),
            })
        })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}
