//! Does what a step says.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::expect::{Came, of_status};
use super::model::{Action, PowerChange, Since, Step};
use super::report::{Check, Outcome};
use super::run::{Run, Started, Task, remember};
use super::template::Template;
use crate::lab::freebsd::Machine;
use crate::lab::{Output, excerpt};
use crate::serve::{CaptureSpec, CaptureStatus};

/// Between looks at what is to become so.
const LOOK: Duration = Duration::from_millis(200);
/// The last words of a job that was killed.
const LAST_WORDS: Duration = Duration::from_secs(20);

impl Run<'_> {
    /// Does a step and looks at what has come of it: a check for what is done, and one for each thing expected.
    pub(super) fn step(&mut self, number: usize, step: &Step) -> Vec<Check> {
        let began = Instant::now();
        let fail = |error: anyhow::Error| {
            vec![Check::failed(
                &step.name,
                format!("{error:#}"),
                began.elapsed(),
            )]
        };
        if let Err(error) = self.take_bases(Since::Step(number)) {
            return fail(error);
        }
        let until = step.within.map(|within| began + within);
        loop {
            let checks = self.once(step, began);
            let bad = checks.iter().any(|check| check.outcome == Outcome::Failed);
            let again = bad
                && until.is_some_and(|until| Instant::now() < until)
                && self.patience(step).is_ok();
            if !again {
                return checks;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn once(&mut self, step: &Step, began: Instant) -> Vec<Check> {
        let started = Instant::now();
        let acted = self.act(step).map(|came| Came {
            took: started.elapsed(),
            ..came
        });
        let took = began.elapsed();
        let came = match acted {
            Ok(came) => came,
            Err(error) => return vec![Check::failed(&step.name, format!("{error:#}"), took)],
        };
        let mut first = match of_status(step, &came, &self.variables)
            .and_then(|said| self.of_leftovers(step, &came).map(|()| said))
        {
            Ok(said) => Check::passed(&step.name, said, took),
            Err(why) => Check::failed(&step.name, why, took),
        };
        first.output = came.all().into_owned();
        let mut checks = self.checks(step, &came);
        for check in &mut checks {
            if check.outcome == Outcome::Failed {
                check.output = came.all().into_owned();
            }
        }
        // A step that only looks is its expectations.
        if !matches!(step.action, Action::Check) {
            checks.insert(0, first);
        } else if let Some(check) = checks.first_mut() {
            check.seconds = took.as_secs_f64();
        }
        checks
    }

    fn of_leftovers(&self, step: &Step, came: &Came) -> Result<(), String> {
        let left = came.left.join(", ");
        match &step.expect.left {
            None if left.is_empty() => Ok(()),
            None => Err(format!("left with the device: {left}")),
            Some(pattern) => {
                let regex = pattern.regex(&self.variables)?;
                if regex.is_match(&left) {
                    Ok(())
                } else {
                    let left = if left.is_empty() { "nothing" } else { &left };
                    Err(format!(
                        "left with the device: {left}, where /{}/ was expected",
                        pattern.source()
                    ))
                }
            }
        }
    }

    fn text(&self, template: &Template) -> Result<String> {
        template
            .text(&self.variables)
            .map_err(|error| anyhow!(error))
    }

    fn act(&mut self, step: &Step) -> Result<Came> {
        let patience = self.patience(step)?;
        let mut came = Came::default();
        match &step.action {
            Action::Check => {}
            Action::Run {
                guest,
                command,
                apart,
            } => {
                let mut command = self.text(command)?;
                let errors = apart.then(|| self.keep_errors(&mut command));
                let output = self.stage.guest(*guest)?.exec(&command, patience);
                came = self.came(*guest, output, errors)?;
            }
            Action::Start {
                guest,
                command,
                job,
                ready,
                apart,
            } => {
                let mut command = self.text(command)?;
                let errors = apart.then(|| self.keep_errors(&mut command));
                let ready = match ready {
                    Some(ready) => Some(self.text(ready)?),
                    None => None,
                };
                let task = self.start(*guest, &command, ready.as_deref(), patience)?;
                let guest = *guest;
                let started = Started {
                    guest,
                    task,
                    errors,
                };
                self.jobs.insert(job.clone(), started);
            }
            Action::Wait { job } => {
                let Started {
                    guest,
                    task,
                    errors,
                } = self.job(job)?;
                let output = match task {
                    Task::Linux(task) => task.wait(patience),
                    Task::FreeBsd(task) => match self.stage.guest(guest)? {
                        Machine::FreeBsd(guest) => guest.wait_for(&task, patience),
                        Machine::Linux(_) => bail!("job '{job}' is not one of this guest"),
                    },
                };
                came = self.came(guest, output, errors)?;
            }
            Action::Kill { job } => {
                let Started {
                    guest,
                    task,
                    errors,
                } = self.job(job)?;
                match task {
                    Task::Linux(task) => {
                        task.kill()?;
                        came = self.came(guest, task.wait(LAST_WORDS), errors)?;
                    }
                    Task::FreeBsd(task) => {
                        if let Machine::FreeBsd(guest) = self.stage.guest(guest)? {
                            guest.end(&task)?;
                        }
                    }
                }
            }
            Action::Driver { guest, change } => {
                came.left = self.stage.driver(*guest, *change, &mut self.variables)?;
            }
            Action::Configure { guest } => {
                self.stage.configure(*guest, &mut self.variables)?;
            }
            Action::Plug { nics, plugged } => {
                for nic in nics {
                    self.stage
                        .server
                        .plug_cable(*nic, *plugged)
                        .context("the NIC has ended")?;
                }
            }
            Action::Speed(speeds) => {
                for (nic, speed) in speeds {
                    self.stage
                        .server
                        .set_speed(*nic, *speed)
                        .context("the NIC has ended")?;
                }
            }
            Action::Faults(sets) => self.set_faults(sets)?,
            Action::Inject { nic, injection } => {
                self.stage
                    .server
                    .inject(*nic, *injection)
                    .context("the NIC has ended")?;
            }
            Action::Capture { start } => came.capture = self.capture(*start)?,
            Action::Power { guest, change } => self.power(*guest, *change, patience)?,
        }
        Ok(came)
    }

    /// Lets a command, of a guest with Linux, print its errors to a file, whose path is the answer.
    fn keep_errors(&mut self, command: &mut String) -> String {
        self.kept_errors += 1;
        let file = format!("/run/errors.{}", self.kept_errors);
        *command = format!("exec 2>{file}\n{command}");
        file
    }

    /// What came of a command whose errors are in the file `errors`, if they are kept apart.
    fn came(&self, guest: usize, output: Result<Output>, errors: Option<String>) -> Result<Came> {
        let stderr = match &errors {
            Some(file) => {
                let read = format!("cat {file}; rm -f {file}");
                let read = self.stage.guest(guest)?.exec(&read, LAST_WORDS);
                Some(read.map(|read| read.text))
            }
            None => None,
        };
        let output = output.map_err(|error| match &stderr {
            Some(Ok(stderr)) if !stderr.trim().is_empty() => {
                error.context(format!("standard error: {}", excerpt(stderr)))
            }
            _ => error,
        })?;
        Ok(Came {
            status: Some(output.status),
            text: output.text,
            stderr: stderr.transpose()?,
            ..Came::default()
        })
    }

    fn job(&mut self, name: &str) -> Result<Started> {
        self.jobs
            .remove(name)
            .with_context(|| format!("there is no job '{name}' any more"))
    }

    fn start(
        &self,
        guest: usize,
        command: &str,
        ready: Option<&str>,
        patience: Duration,
    ) -> Result<Task> {
        match self.stage.guest(guest)? {
            Machine::Linux(guest) => {
                let job = guest.spawn(command)?;
                if let Some(ready) = ready {
                    let folder = job.folder();
                    let condition = format!("{ready} || test ! -d {folder}");
                    let waited = guest.wait_until(&condition, patience);
                    let ended = !guest.exec(&format!("test -d {folder}"), patience)?.ok();
                    if waited.is_err() || ended {
                        if !ended {
                            job.kill()?;
                        }
                        let said = job.wait(LAST_WORDS);
                        let said = said.map_or_else(
                            |error| format!("{error:#}"),
                            |output| format!("status {}: {}", output.status, output.text.trim()),
                        );
                        waited.with_context(|| format!("it said: {said}"))?;
                        bail!("it ended before it was ready: {said}");
                    }
                }
                Ok(Task::Linux(job))
            }
            Machine::FreeBsd(guest) => {
                let started = guest.launch(command)?;
                if let Some(ready) = ready {
                    guest
                        .check(&format!("until {ready}; do sleep 1; done"), patience)
                        .context("it does not become ready")?;
                }
                Ok(Task::FreeBsd(started))
            }
        }
    }

    fn set_faults(&mut self, sets: &[String]) -> Result<()> {
        let faults = self
            .scenario
            .faults
            .faults(sets)
            .map_err(|errors| anyhow!("{errors}"))?;
        let server = &self.stage.server;
        remember(server.fault_counters(), &mut self.past_rules);
        server
            .set_faults(faults)
            .map_err(|errors| anyhow!("{errors}"))
    }

    /// Ends the capture that runs, and tells what became of it; starts another if `start`.
    fn capture(&mut self, start: bool) -> Result<Option<CaptureStatus>> {
        let ended = self.stage.server.stop_capture();
        if let Some(error) = ended.as_ref().and_then(|ended| ended.error.as_ref()) {
            bail!("capture: {error}");
        }
        if start {
            self.captures += 1;
            let name = match self.captures {
                1 => "capture.pcapng".to_owned(),
                n => format!("capture-{n}.pcapng"),
            };
            let path = self.folder.join(name);
            self.stage.server.start_capture(CaptureSpec::new(&path))?;
        }
        Ok(ended)
    }

    fn power(&mut self, guest: usize, change: PowerChange, patience: Duration) -> Result<()> {
        if change != PowerChange::Boot {
            self.keep_log(guest);
            self.jobs.retain(|_, job| job.guest != guest);
        }
        self.stage
            .power(guest, change, patience, &mut self.variables)
    }
}
