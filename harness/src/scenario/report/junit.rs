//! JUnit XML as CI systems read it: a suite for each scenario, a case for each step and expectation.
//!
//! There is no standard, but a common core (Jenkins' junit-plugin, GitLab, GitHub's actions): `testsuites`, `testsuite`,
//! `properties`, `testcase` with `failure`, `skipped` and `system-out`. Files are attached as Jenkins and GitLab have it, by
//! `[[ATTACHMENT|path]]` in `system-out`. Written by hand: it is a handful of elements, and what matters is that any output of any
//! program ends up as well-formed XML 1.0, which writers of XML leave to their callers.

use std::fmt::Write;

use super::{Attachment, Check, Outcome, RunReport, ScenarioReport};

/// More of an output than its end is of little use in a report; the logs have it all.
const OUTPUT: usize = 64 << 10;

/// The report as a document.
pub fn junit(report: &RunReport) -> String {
    let mut out = Xml::default();
    let count = |outcome| -> usize {
        let scenarios = report.scenarios.iter();
        scenarios.map(|scenario| scenario.count(outcome)).sum()
    };
    let tests: usize = report.scenarios.iter().map(|s| s.checks.len()).sum();
    out.open(
        "testsuites",
        &[
            ("name", "rocinante"),
            ("tests", &tests.to_string()),
            ("failures", &count(Outcome::Failed).to_string()),
            ("errors", "0"),
            ("skipped", &count(Outcome::Skipped).to_string()),
            ("time", &seconds(report.seconds)),
        ],
    );
    for scenario in &report.scenarios {
        suite(&mut out, scenario);
    }
    out.close("testsuites");
    out.0
}

fn suite(out: &mut Xml, scenario: &ScenarioReport) {
    out.open(
        "testsuite",
        &[
            ("name", &scenario.name),
            ("file", &scenario.file.to_string_lossy()),
            ("timestamp", &timestamp(scenario.started)),
            ("tests", &scenario.checks.len().to_string()),
            ("failures", &scenario.count(Outcome::Failed).to_string()),
            ("errors", "0"),
            ("skipped", &scenario.count(Outcome::Skipped).to_string()),
            ("time", &seconds(scenario.seconds)),
        ],
    );
    out.open("properties", &[]);
    let mut property = |name: &str, value: &str| {
        out.empty("property", &[("name", name), ("value", value)]);
    };
    property("description", &scenario.description);
    property("logs", &scenario.folder.to_string_lossy());
    for (name, value) in &scenario.variables {
        property(&format!("variable.{name}"), value);
    }
    for (guest, system) in &scenario.systems {
        property(&format!("guest.{guest}"), system);
    }
    for Attachment { name, path } in &scenario.attachments {
        property(&format!("file.{name}"), &path.to_string_lossy());
    }
    out.close("properties");
    for check in &scenario.checks {
        case(out, scenario, check);
    }
    out.element("system-out", &[], &attachments(scenario));
    out.close("testsuite");
}

fn case(out: &mut Xml, scenario: &ScenarioReport, check: &Check) {
    let line = check.line.map(|line| line.to_string());
    let file = scenario.file.to_string_lossy();
    let time = seconds(check.seconds);
    let mut attributes = vec![
        ("classname", scenario.name.as_str()),
        ("name", check.name.as_str()),
        ("time", time.as_str()),
        ("file", file.as_ref()),
    ];
    if let Some(line) = &line {
        attributes.push(("line", line));
    }
    out.open("testcase", &attributes);
    let first = check.message.lines().next().unwrap_or_default();
    let mut said = tail(&check.output).to_owned();
    match check.outcome {
        Outcome::Passed => {}
        Outcome::Failed => {
            out.element(
                "failure",
                &[("message", first), ("type", "expectation")],
                &check.message,
            );
            if !said.is_empty() && !said.ends_with('\n') {
                said.push('\n');
            }
            said += &attachments(scenario);
        }
        Outcome::Skipped => out.empty("skipped", &[("message", first)]),
    }
    if !said.is_empty() {
        out.element("system-out", &[], &said);
    }
    out.close("testcase");
}

fn attachments(scenario: &ScenarioReport) -> String {
    let files = scenario.attachments.iter();
    files
        .map(|file| format!("[[ATTACHMENT|{}]]\n", file.path.display()))
        .collect()
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(OUTPUT);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..).unwrap_or_default()
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.3}")
}

/// `2023-11-14T22:13:20`, in UTC, of seconds since 1970.
fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // The calendar repeats every 400 years, which are counted from a March (Howard Hinnant, "chrono-compatible low-level date
    // algorithms").
    let days = days + 719_468;
    let era = days / 146_097;
    let day = days % 146_097;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// A document being written.
struct Xml(String);

impl Default for Xml {
    fn default() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned())
    }
}

impl Xml {
    fn begin(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.0.push('<');
        self.0 += name;
        for (name, value) in attributes {
            // Writing to a string cannot fail.
            let _ = write!(self.0, " {name}=\"{}\"", escaped(value, true));
        }
    }

    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.begin(name, attributes);
        self.0 += ">\n";
    }

    fn close(&mut self, name: &str) {
        self.0 += &format!("</{name}>\n");
    }

    fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.begin(name, attributes);
        self.0 += "/>\n";
    }

    fn element(&mut self, name: &str, attributes: &[(&str, &str)], text: &str) {
        self.begin(name, attributes);
        self.0.push('>');
        self.0 += &escaped(text, false);
        self.0 += &format!("</{name}>\n");
    }
}

/// As XML 1.0 has it: the characters that mean something are written as references; those that it has no way to write become U+FFFD.
fn escaped(text: &str, attribute: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            // A reader would take them for spaces.
            '\n' | '\t' if attribute => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            '\n' | '\t' => escaped.push(c),
            // Readers turn a bare one into a line feed.
            '\r' => escaped += "&#13;",
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00");
        assert_eq!(timestamp(1_700_000_000), "2023-11-14T22:13:20");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(timestamp(4_107_542_399), "2100-02-28T23:59:59");
    }

    #[test]
    fn what_xml_cannot_say_is_replaced() {
        assert_eq!(escaped("a<b>&\"'\n", false), "a&lt;b&gt;&amp;&quot;'\n");
        assert_eq!(escaped("a\nb\tc", true), "a&#10;b&#9;c");
        assert_eq!(
            escaped("\u{0}\u{1b}\r\u{fffe}\u{ffff}\u{10ffff}", false),
            "\u{fffd}\u{fffd}&#13;\u{fffd}\u{fffd}\u{10ffff}"
        );
    }

    #[test]
    fn a_report_has_what_ci_systems_look_for() {
        let xml = junit(&super::super::tests::report());
        for wanted in [
            "<testsuites name=\"rocinante\" tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" time=\"4.000\">",
            "<testsuite name=\"retry\" file=\"scenarios/retry.toml\" timestamp=\"2023-11-14T22:13:20\"",
            "<property name=\"variable.mtu\" value=\"256\"/>",
            "<property name=\"file.capture\" value=\"logs/retry/capture.pcapng\"/>",
            "name=\"alice: x &lt;&amp;&gt; &quot;y&quot;\" time=\"1.000\" file=\"scenarios/retry.toml\" line=\"7\">",
            "<failure message=\"status 1\u{fffd}[0m ]]&gt;\" type=\"expectation\">",
            "line\u{fffd}one&#13;\n\u{fffd}two ü\n[[ATTACHMENT|logs/retry/capture.pcapng]]\n</system-out>",
            "<skipped message=\"a step before it failed\"/>",
        ] {
            assert!(xml.contains(wanted), "no {wanted} in\n{xml}");
        }
        let opened = xml.matches("<testcase ").count();
        assert_eq!((opened, xml.matches("</testcase>").count()), (3, 3));
    }

    #[test]
    fn long_outputs_keep_their_end() {
        let text = "ü".repeat(OUTPUT);
        assert!(tail(&text).len() <= OUTPUT && tail(&text).ends_with('ü'));
    }
}
