//! The scenarios of this repository run, in real guests; one that is wrong about something fails, and says so in the report.

use std::path::{Path, PathBuf};

use rocinante_harness::lab::{LabConfig, Progress};
use rocinante_harness::scenario::{
    self, Options, Outcome, RunReport, Scenario, Variables, junit, table,
};
use rocinante_tests::guests::alone;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// All of them, those with the same guests behind one another.
fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("scenarios")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
        .collect();
    files.sort();
    files
}

fn read(files: &[PathBuf]) -> Vec<Scenario> {
    scenario::read(files, &Variables::new()).unwrap_or_else(|mistakes| {
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    })
}

fn run(name: &str, scenarios: &[Scenario]) -> RunReport {
    let options = Options {
        lab: LabConfig {
            logs: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)),
            ..LabConfig::default()
        },
        reuse: true,
    };
    scenario::run(scenarios, &options, &Progress::silent(), |report| {
        print!("{}", table(report));
    })
    .unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn all_of_them_hold() {
    let _alone = alone();
    let files = files();
    assert!(files.len() >= 10, "{files:?}");
    let report = run("scenarios", &read(&files));
    println!("{}", report.summary());
    let failed: Vec<_> = report
        .scenarios
        .iter()
        .filter(|scenario| !scenario.ok)
        .map(|scenario| scenario.name.as_str())
        .collect();
    assert!(report.ok, "{failed:?}");
    for scenario in &report.scenarios {
        for kind in ["alice.dmesg", "alice.console", "nics.log", "capture.pcapng"] {
            let there = scenario
                .attachments
                .iter()
                .any(|file| file.name == kind && file.path.exists());
            // A driver that says nothing leaves an empty log, and nothing that is empty is attached.
            assert!(
                there || kind != "capture.pcapng",
                "{} has no {kind}: {:?}",
                scenario.name,
                scenario.attachments
            );
        }
    }
}

/// What cannot hold, in a file that has no mistake.
const WRONG: &str = r#"
name = "wrong"
capture = false

[guest.alice]

[[step]]
name = "a step that is right"
guest = "alice"
run = "echo '<&> \"quoted\"'; printf '\\033[1mbold\\033[0m'; echo to stderr >&2"
expect.output = ['<&> "quoted"', '^.*to stderr$']
expect.values = [{ pattern = '(2)', save = "unused" }]
continue = true

[[step]]
name = "a status"
guest = "alice"
run = "exit 3"
continue = true
[step.expect]
status = 3
counters = { "alice.hw.out_of_sequence" = ">= 1" }

[[step]]
name = "a deadline"
guest = "alice"
run = "echo begun; sleep 60"
deadline = "2s"

[[step]]
name = "too late"
guest = "alice"
run = "true"
"#;

#[test]
fn one_that_is_wrong_fails_and_says_what_was_seen() {
    let _alone = alone();
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("wrong.toml");
    std::fs::write(&file, WRONG).expect("a file");
    let report = run("scenarios-wrong", &read(&[file]));
    assert!(!report.ok);
    let checks = &report.scenarios[0].checks;
    let came = |name: &str| {
        let check = checks.iter().find(|check| check.name == name);
        let check = check.unwrap_or_else(|| panic!("no '{name}' in {checks:#?}"));
        (check.outcome, check.message.as_str())
    };
    assert_eq!(came("a step that is right").0, Outcome::Passed);
    let (outcome, said) = came("a step that is right: /(2)/ is kept as unused");
    assert!(outcome == Outcome::Failed && said.contains("nothing matches"));
    assert_eq!(came("a status").0, Outcome::Passed);
    let counter = came("a status: alice.hw.out_of_sequence >= 1");
    assert_eq!(counter, (Outcome::Failed, "it is 0"));
    let (outcome, said) = came("a deadline");
    assert_eq!(outcome, Outcome::Failed);
    assert!(
        said.contains("did not end within 2s") && said.contains("begun"),
        "{said}"
    );
    assert_eq!(came("too late"), (Outcome::Skipped, "'a deadline' failed"));
    let xml = junit(&report);
    for wanted in [
        "<testsuite name=\"wrong\"",
        "&lt;&amp;&gt; &quot;quoted&quot;\n\u{fffd}[1mbold",
        "<failure message=\"it is 0\" type=\"expectation\">it is 0</failure>",
        "<skipped message=\"'a deadline' failed\"/>",
        "scenarios-wrong/wrong/alice.jobs]]",
    ] {
        assert!(xml.contains(wanted), "no {wanted} in\n{xml}");
    }
}
