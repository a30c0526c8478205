//! What running scenarios has found: for people, for CI systems, for programs.

mod junit;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::model::Scenario;
use crate::lab::{Figure, Report, TestResult};
pub use junit::junit;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As expected.
    Passed,
    /// Otherwise.
    Failed,
    /// Not looked at.
    Skipped,
}

/// A step, or one expectation of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What it is.
    pub name: String,
    /// The line of its step in the file.
    pub line: Option<usize>,
    /// How it came out.
    pub outcome: Outcome,
    /// How long it took.
    pub seconds: f64,
    /// What was seen: briefly if it passed, all that matters if it failed.
    pub message: String,
    /// What the command printed.
    pub output: String,
}

impl Check {
    /// One that passed.
    pub fn passed(name: impl Into<String>, message: impl Into<String>, took: Duration) -> Self {
        Self {
            name: name.into(),
            line: None,
            outcome: Outcome::Passed,
            seconds: took.as_secs_f64(),
            message: message.into(),
            output: String::new(),
        }
    }

    /// One that failed.
    pub fn failed(name: impl Into<String>, message: impl Into<String>, took: Duration) -> Self {
        Self {
            outcome: Outcome::Failed,
            ..Self::passed(name, message, took)
        }
    }

    /// One that was not looked at.
    pub fn skipped(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Skipped,
            ..Self::passed(name, message, Duration::ZERO)
        }
    }
}

/// A file that a scenario has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// What it is.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// What was found in one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioReport {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// What it is about.
    pub description: String,
    /// Whether all expectations held.
    pub ok: bool,
    /// How long it took.
    pub seconds: f64,
    /// When it began: seconds since 1970.
    pub started: u64,
    /// Its variables.
    pub variables: BTreeMap<String, String>,
    /// What ran in the guests.
    pub systems: BTreeMap<String, String>,
    /// All that was looked at, in order.
    pub checks: Vec<Check>,
    /// The folder with its files.
    pub folder: PathBuf,
    /// The files.
    pub attachments: Vec<Attachment>,
}

impl ScenarioReport {
    /// Of a scenario that nothing is known of yet.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            name: scenario.name.clone(),
            file: scenario.path.clone(),
            description: scenario.description.clone(),
            ok: false,
            seconds: 0.0,
            started: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            variables: scenario.variables.clone(),
            systems: BTreeMap::new(),
            checks: Vec::new(),
            folder: PathBuf::new(),
            attachments: Vec::new(),
        }
    }

    /// Of a scenario that could not be run.
    pub fn not_run(scenario: &Scenario, why: &str) -> Self {
        Self {
            checks: vec![Check::failed("run", why, Duration::ZERO)],
            ..Self::new(scenario)
        }
    }

    /// How many checks came out so.
    pub fn count(&self, outcome: Outcome) -> usize {
        let checks = self.checks.iter();
        checks.filter(|check| check.outcome == outcome).count()
    }
}

/// What was found in a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Whether all expectations of all scenarios held. A run of no scenarios has not.
    pub ok: bool,
    /// How long it took.
    pub seconds: f64,
    /// The scenarios.
    pub scenarios: Vec<ScenarioReport>,
}

impl RunReport {
    /// Of these scenarios.
    pub fn new(scenarios: Vec<ScenarioReport>, took: Duration) -> Self {
        Self {
            ok: !scenarios.is_empty() && scenarios.iter().all(|scenario| scenario.ok),
            seconds: took.as_secs_f64(),
            scenarios,
        }
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// The last line for people.
    pub fn summary(&self) -> String {
        let failed = self.scenarios.iter().filter(|s| !s.ok).count();
        match (self.scenarios.len(), failed) {
            (0, _) => "no scenario was run".to_owned(),
            (all, 0) => format!("{all} of {all} scenarios passed in {:.0} s", self.seconds),
            (all, failed) => {
                format!(
                    "{failed} of {all} scenarios FAILED in {:.0} s",
                    self.seconds
                )
            }
        }
    }
}

/// One scenario for people: a line for each check.
pub fn table(scenario: &ScenarioReport) -> String {
    let mut report = Report::default();
    for check in &scenario.checks {
        let took = Duration::from_secs_f64(check.seconds.max(0.0));
        let message = check.message.clone();
        report.add(match check.outcome {
            Outcome::Passed => {
                let figure = (check.seconds >= 0.01).then(|| Figure::new(check.seconds, "s"));
                TestResult::passed(&check.name, figure, brief(&message), took)
            }
            Outcome::Failed => TestResult::failed(&check.name, message, took),
            Outcome::Skipped => TestResult::skipped(&check.name, message, took),
        });
    }
    let result = if scenario.ok { "ok" } else { "FAILED" };
    let mut text = format!("{}: {result} ({:.1} s)\n", scenario.name, scenario.seconds);
    for line in report.table().lines().skip(1) {
        text += &format!("  {line}\n");
    }
    if !scenario.ok {
        text += &format!("  logs and capture: {}\n", scenario.folder.display());
    }
    text
}

/// Of what is as it should be, a line is enough.
fn brief(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    match line.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn report() -> RunReport {
        let second = Duration::from_secs(1);
        let mut failed = Check::failed("alice: x <&> \"y\"", "status 1\u{1b}[0m ]]>", second);
        failed.line = Some(7);
        failed.output = "line\u{0}one\r\n\u{fffe}two ü".into();
        let scenario = ScenarioReport {
            name: "retry".into(),
            file: "scenarios/retry.toml".into(),
            description: "a <b>".into(),
            ok: false,
            seconds: 3.25,
            started: 1_700_000_000,
            variables: [("mtu".to_owned(), "256".to_owned())].into(),
            systems: [("alice".to_owned(), "Linux 6.12".to_owned())].into(),
            checks: vec![
                Check::passed("boot", "2 guests", second),
                failed,
                Check::skipped("wait", "a step before it failed"),
            ],
            folder: "logs/retry".into(),
            attachments: vec![Attachment {
                name: "capture".into(),
                path: "logs/retry/capture.pcapng".into(),
            }],
        };
        RunReport::new(vec![scenario], Duration::from_secs(4))
    }

    #[test]
    fn people_see_what_failed_and_where_the_logs_are() {
        let report = report();
        let table = table(&report.scenarios[0]);
        assert!(table.starts_with("retry: FAILED (3.2 s)\n"), "{table}");
        assert!(table.contains("y\"  FAILED "), "{table}");
        assert!(table.ends_with("logs and capture: logs/retry\n"), "{table}");
        assert_eq!(report.summary(), "1 of 1 scenarios FAILED in 4 s");
    }

    #[test]
    fn json_can_be_read_again() {
        let report = report();
        let json = report.json().unwrap();
        assert_eq!(serde_json::from_str::<RunReport>(&json).unwrap(), report);
    }

    #[test]
    fn no_scenario_is_no_success() {
        assert!(!RunReport::new(Vec::new(), Duration::ZERO).ok);
    }
}
