//! What a run of tests has found, as a table for people and as JSON for programs.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

/// One figure, such as 214.5 MiB/s.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

impl Figure {
    /// `value` in `unit`.
    pub fn new(value: f64, unit: &'static str) -> Self {
        Self { value, unit }
    }
}

/// The outcome of one test.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TestResult {
    /// The test, mostly the tool that was run.
    pub name: String,
    /// Whether it passed.
    pub ok: bool,
    /// Whether it was not run, for a reason that is no failure.
    pub skipped: bool,
    /// Its figure, where it has one.
    pub value: Option<f64>,
    /// The figure's unit.
    pub unit: Option<&'static str>,
    /// What else is to be said: conditions if it passed, the reason if it did not.
    pub detail: String,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// The outcome of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Whether all tests passed. A run of no tests has not passed.
    pub ok: bool,
    /// The tests in the order in which they ran.
    pub tests: Vec<TestResult>,
    /// `uname -r` of the guests.
    pub kernel: String,
    /// The monitor's version.
    pub qemu: String,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// The folder with logs and capture.
    pub logs: String,
}

impl Report {
    /// Adds an outcome.
    pub fn add(&mut self, result: TestResult) {
        self.tests.push(result);
        self.ok =
            self.tests.iter().all(|test| test.ok) && !self.tests.iter().all(|test| test.skipped);
    }

    /// One line for each test: name, result, figure; below those that failed, why.
    pub fn table(&self) -> String {
        let figures: Vec<String> = self.tests.iter().map(TestResult::figure).collect();
        let width = |header: &str, cells: &mut dyn Iterator<Item = usize>| {
            cells.fold(header.len(), usize::max)
        };
        let name_width = width("test", &mut self.tests.iter().map(|t| t.name.len()));
        let figure_width = width("figure", &mut figures.iter().map(|f| f.chars().count()));
        let mut text = String::new();
        let mut line = |name: &str, result: &str, figure: &str, detail: &str| {
            let row = format!("{name:name_width$}  {result:7}  {figure:>figure_width$}  {detail}");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", row.trim_end());
        };
        line("test", "result", "figure", "");
        for (test, figure) in self.tests.iter().zip(&figures) {
            let result = match (test.ok, test.skipped) {
                (true, true) => "skipped",
                (true, false) => "ok",
                (false, _) => "FAILED",
            };
            let mut details = test.detail.lines();
            line(&test.name, result, figure, details.next().unwrap_or(""));
            for more in details {
                line("", "", "", more);
            }
        }
        text
    }

    /// The report as JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

impl TestResult {
    /// A test that passed.
    pub fn passed(name: &str, figure: Option<Figure>, detail: String, took: Duration) -> Self {
        Self {
            name: name.to_owned(),
            ok: true,
            skipped: false,
            value: figure.as_ref().map(|figure| figure.value),
            unit: figure.map(|figure| figure.unit),
            detail,
            seconds: took.as_secs_f64(),
        }
    }

    /// A test that failed.
    pub fn failed(name: &str, why: String, took: Duration) -> Self {
        Self {
            name: name.to_owned(),
            ok: false,
            skipped: false,
            value: None,
            unit: None,
            detail: why,
            seconds: took.as_secs_f64(),
        }
    }

    /// A test that was not run, which is no failure.
    pub fn skipped(name: &str, why: String, took: Duration) -> Self {
        Self {
            ok: true,
            skipped: true,
            ..Self::failed(name, why, took)
        }
    }

    fn figure(&self) -> String {
        match (self.value, self.unit) {
            (Some(value), Some(unit)) if value >= 1000.0 => format!("{value:.0} {unit}"),
            (Some(value), Some(unit)) if value >= 10.0 => format!("{value:.1} {unit}"),
            (Some(value), Some(unit)) => format!("{value:.2} {unit}"),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        let second = Duration::from_secs(1);
        let figure = Figure::new(214.53, "MiB/s");
        report.add(TestResult::passed(
            "ib_write_bw",
            Some(figure),
            "64 KiB".into(),
            second,
        ));
        report.add(TestResult::passed(
            "ibv_devinfo",
            None,
            String::new(),
            second,
        ));
        report
    }

    #[test]
    fn the_table_is_aligned() {
        assert_eq!(
            report().table(),
            "test         result        figure\n\
             ib_write_bw  ok       214.5 MiB/s  64 KiB\n\
             ibv_devinfo  ok\n"
        );
    }

    #[test]
    fn one_failure_fails_the_run_and_is_explained() {
        let mut report = report();
        assert!(report.ok);
        report.add(TestResult::failed(
            "ping",
            "no answer\nat all".into(),
            Duration::ZERO,
        ));
        assert!(!report.ok);
        let table = report.table();
        assert!(
            table.contains("ping         FAILED                no answer\n"),
            "{table}"
        );
        assert!(
            table.ends_with("                                   at all\n"),
            "{table}"
        );
    }

    #[test]
    fn what_is_skipped_neither_fails_nor_passes_a_run() {
        let skipped = || TestResult::skipped("krping", "the image has none".into(), Duration::ZERO);
        let mut report = report();
        report.add(skipped());
        assert!(report.ok);
        let table = report.table();
        assert!(
            table.contains("krping       skipped               the image has none\n"),
            "{table}"
        );
        let mut report = Report::default();
        report.add(skipped());
        assert!(!report.ok);
    }

    #[test]
    fn no_test_is_no_success() {
        assert!(!Report::default().ok);
    }

    #[test]
    fn json_has_what_programs_look_for() {
        let json: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert_eq!(json["ok"], true);
        assert_eq!(json["tests"][0]["name"], "ib_write_bw");
        assert_eq!(json["tests"][0]["value"], 214.53);
        assert_eq!(json["tests"][0]["unit"], "MiB/s");
        assert_eq!(json["tests"][1]["ok"], true);
        assert!(json["tests"][1]["value"].is_null());
    }
}
