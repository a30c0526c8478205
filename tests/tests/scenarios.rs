//! The scenarios of this repository run, in real guests; one that is wrong about something fails, and says so in the report.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rocinante_harness::lab::{LabConfig, Progress};
use rocinante_harness::scenario::{
    self, Options, Outcome, RunReport, Scenario, Variables, junit, table,
};
use rocinante_tests::guests::{alone, lab};
use rocinante_tests::program::program;

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

/// The program, told to run `file` with these words.
fn lab_run(file: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(["lab", "run"])
        .args(words)
        .arg("--junit")
        .arg(file.with_extension("xml"))
        .arg(file)
        .stdin(Stdio::null());
    command
}

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, text).expect("a file");
    file
}

/// Waits for the end, which has to come.
fn end(mut child: Child, within: Duration) -> ExitStatus {
    let until = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if Instant::now() > until {
            let _ = child.kill();
            panic!("it does not end within {within:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_exit_status_says_how_it_went() {
    let _alone = alone();
    // What has to be fetched is there then.
    let _lab = lab(env!("CARGO_TARGET_TMPDIR"), "scenarios-ends");
    let place = tempfile::tempdir().expect("a folder");
    let logs = place.path().join("logs").display().to_string();
    let step = "[[step]]\nguest = \"alice\"\nrun = \"true\"\n";

    let mistaken = file(
        place.path(),
        "mistaken.toml",
        &format!("[guest.alice]\n{step}within = 5\n"),
    );
    let output = lab_run(&mistaken, &["--logs", &logs])
        .output()
        .expect("a program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("mistaken.toml:5:10: "), "{said}");
    assert!(!mistaken.with_extension("xml").exists() && !Path::new(&logs).exists());

    // QEMU refuses it at once.
    let failing = file(
        place.path(),
        "failing.toml",
        &format!("[guest.alice]\nqemu = [\"-device\", \"no-such-device\"]\n{step}"),
    );
    let output = lab_run(&failing, &["--logs", &logs])
        .output()
        .expect("a program");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let xml = std::fs::read_to_string(failing.with_extension("xml")).expect("a report");
    for wanted in [
        "<testsuites name=\"rocinante\" tests=\"2\" failures=\"1\"",
        "no-such-device",
        "failing/alice.qemu]]",
        "<skipped message=\"the guests are not ready\"/>",
    ] {
        assert!(xml.contains(wanted), "no {wanted} in\n{xml}");
    }
}

/// A scenario that would take ten minutes, but for its deadline.
const ENDLESS: &str = "deadline = \"{deadline}\"\nstep_deadline = \"10min\"\n[variables]\ndeadline = \"9min\"\n\
    [guest.endless-guest]\nsetup = \"boot\"\n[[step]]\nguest = \"endless-guest\"\nrun = \"echo begun; sleep 600\"\n";

/// Processes with `word` in their command lines.
fn processes_with(word: &str) -> usize {
    let processes = std::fs::read_dir("/proc").expect("/proc");
    processes
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(word))
        .count()
}

/// Two runs of the same scenario at the same time, with one folder for logs: one is interrupted, the other's time passes.
#[test]
fn runs_that_are_ended_end_and_leave_reports() {
    let _alone = alone();
    let _lab = lab(env!("CARGO_TARGET_TMPDIR"), "scenarios-ends");
    let place = tempfile::tempdir().expect("a folder");
    let logs = place.path().join("logs");
    let words = |deadline: &'static str| {
        let mut words = vec!["--logs".to_owned(), logs.display().to_string()];
        words.extend(["--set".to_owned(), format!("deadline={deadline}")]);
        words
    };
    let start = |name: &str, deadline: &'static str| {
        let folder = place.path().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        let file = file(&folder, "endless.toml", ENDLESS);
        let words = words(deadline);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let child = lab_run(&file, &words)
            .stdout(Stdio::null())
            .spawn()
            .expect("a program");
        (child, file.with_extension("xml"))
    };
    let (late, late_report) = start("late", "20s");
    let (interrupted, report) = start("interrupted", "9min");
    // The one in the end runs its command, whichever folder it has: the other's guest does not get over its deadline.
    let is_there = |name: &str| {
        std::fs::read_to_string(logs.join(name).join("endless-guest.jobs"))
            .is_ok_and(|jobs| jobs.contains("sleep 600"))
    };
    let status = end(late, Duration::from_secs(120));
    assert_eq!(status.code(), Some(1));
    let xml = std::fs::read_to_string(late_report).expect("a report");
    assert!(
        xml.contains("the deadline of the scenario, 20s, has passed: "),
        "{xml}"
    );

    let until = Instant::now() + Duration::from_secs(180);
    let mine = |xml: &str, name: &str| xml.contains(&format!("/logs/{name}/"));
    let folder = if mine(&xml, "endless-2") {
        "endless"
    } else {
        "endless-2"
    };
    while !is_there(folder) {
        assert!(Instant::now() < until, "no guest in {folder}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let signalled = Instant::now();
    let killed = Command::new("kill")
        .args(["-INT", &interrupted.id().to_string()])
        .status();
    assert!(killed.is_ok_and(|status| status.success()));
    let status = end(interrupted, Duration::from_secs(60));
    println!("it ended after {:?}", signalled.elapsed());
    assert_eq!(status.code(), Some(130));
    let xml = std::fs::read_to_string(report).expect("a report");
    for wanted in [
        "interrupted by SIGINT: ",
        "endless-guest.jobs]]",
        "nics.log",
    ] {
        assert!(xml.contains(wanted), "no {wanted} in\n{xml}");
    }
    assert_eq!(processes_with("-name\0endless-guest\0"), 0);
}
