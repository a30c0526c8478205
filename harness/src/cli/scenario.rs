//! `rocinante lab run`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::lab::{
    LabConfig, OwnKernel, Progress, end_by_itself, interrupted_status, nothing_more_to_say,
};
use crate::scenario::{self, Mistake, Options, RunReport, ScenarioReport, Variables};

/// The exit status of files with mistakes, as of wrong arguments.
const MISTAKES: u8 = 2;

/// Arguments of `lab run`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Scenario files
    #[arg(required = true, value_name = "FILE.toml")]
    files: Vec<PathBuf>,
    /// Also write the results to FILE, as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Also write the results to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only look for mistakes in the files
    #[arg(long)]
    check: bool,
    /// Use guests again for scenarios with the same ones that follow one another
    #[arg(long)]
    reuse: bool,
    /// Run so many files at a time, each in a process of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Give a variable of the files a value
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    set: Vec<(String, String)>,
    /// A Linux kernel of your own (bzImage), for guests that name none
    #[arg(long, value_name = "FILE")]
    kernel_image: Option<PathBuf>,
    /// The modules of that kernel, as `make modules_install INSTALL_MOD_PATH=FOLDER` leaves them
    #[arg(long, value_name = "FOLDER", requires = "kernel_image")]
    modules: Option<PathBuf>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs the scenarios, or looks for mistakes.
pub fn run(arguments: &Arguments, mut lab: LabConfig, progress: &Progress) -> Result<ExitCode> {
    let given: Variables = arguments.set.iter().cloned().collect();
    let scenarios = match scenario::read(&arguments.files, &given) {
        Ok(scenarios) => scenarios,
        Err(mistakes) => return Ok(refuse(&mistakes)),
    };
    if arguments.check {
        for scenario in scenarios {
            println!("{}: {} steps", scenario.name, scenario.steps.len());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let missing = [
        (
            &arguments.kernel_image,
            "file",
            Path::is_file as fn(&Path) -> bool,
        ),
        (&arguments.modules, "folder", Path::is_dir),
    ];
    for (given, what, is_there) in missing {
        if let Some(path) = given.as_deref().filter(|path| !is_there(path)) {
            eprintln!("rocinante: {}: no such {what}", path.display());
            return Ok(ExitCode::from(MISTAKES));
        }
    }
    lab.own_kernel = arguments.kernel_image.clone().map(|image| OwnKernel {
        image,
        modules: arguments.modules.clone(),
    });
    let wrong = scenario::check_filters(&scenarios, &lab, progress)?;
    if !wrong.is_empty() {
        return Ok(refuse(&wrong));
    }
    let results = Results {
        junit: arguments.junit.clone(),
        json: arguments.json.clone(),
    };
    // A program that is told to end tells what it has seen.
    let over: Arc<Mutex<Vec<ScenarioReport>>> = Arc::default();
    end_by_itself({
        let (over, results, scenarios) = (Arc::clone(&over), results.clone(), scenarios.clone());
        let began = Instant::now();
        move |signal| {
            let mut over = over.lock().unwrap_or_else(PoisonError::into_inner);
            let mut reports = std::mem::take(&mut *over);
            let why = format!("interrupted by signal {signal}");
            for scenario in &scenarios {
                let same = |report: &&ScenarioReport| report.name == scenario.name;
                if reports.iter().find(same).is_none() {
                    reports.push(ScenarioReport::not_run(scenario, &why));
                }
            }
            let written = results.write(&RunReport::new(reports, began.elapsed()));
            if let Err(error) = written {
                eprintln!("rocinante: {error:#}");
            }
        }
    });
    let show = |report: &ScenarioReport| {
        print!("{}", scenario::table(report));
        over.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(report.clone());
    };
    let report = if arguments.jobs > 1 {
        let folder = scenario::logs(&lab)?;
        progress.say(&format!("logs and captures: {}", folder.display()));
        let program = std::env::current_exe().context("the program's own file")?;
        let words = words(arguments, &lab);
        let jobs = usize::from(arguments.jobs);
        scenario::run_side_by_side(&scenarios, &given, &program, &words, jobs, &folder, show)?
    } else {
        let options = Options {
            lab,
            reuse: arguments.reuse,
        };
        scenario::run(&scenarios, &options, progress, show)?
    };
    println!("{}", report.summary());
    results.write(&report)?;
    nothing_more_to_say();
    Ok(match interrupted_status() {
        Some(status) => ExitCode::from(status),
        None if report.ok => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    })
}

/// Tells mistakes.
fn refuse(mistakes: &[Mistake]) -> ExitCode {
    for mistake in mistakes {
        eprintln!("{mistake}");
    }
    ExitCode::from(MISTAKES)
}

/// Where results go.
#[derive(Clone)]
struct Results {
    junit: Option<PathBuf>,
    json: Option<PathBuf>,
}

impl Results {
    fn write(&self, report: &RunReport) -> Result<()> {
        if let Some(path) = &self.junit {
            write(path, &scenario::junit(report))?;
        }
        if let Some(path) = &self.json {
            write(path, &(report.json()? + "\n"))?;
        }
        Ok(())
    }
}

/// The command line by which another process runs one file as this one would.
fn words(arguments: &Arguments, lab: &LabConfig) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["lab", "run", "--kernel", &lab.kernel.to_string()]
        .map(OsString::from)
        .into();
    let mut add = |name: &str, value: Option<OsString>| {
        if let Some(value) = value {
            words.extend([name.into(), value]);
        }
    };
    let path = |path: &Option<PathBuf>| path.clone().map(PathBuf::into_os_string);
    add("--cache", path(&lab.cache));
    add("--mirror", lab.mirror.clone().map(OsString::from));
    add("--kernel-image", path(&arguments.kernel_image));
    add("--modules", path(&arguments.modules));
    if arguments.reuse {
        words.push("--reuse".into());
    }
    words
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
