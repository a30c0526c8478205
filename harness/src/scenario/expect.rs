//! Looks whether what came of a step is what was expected.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::counter::{Counter, Side};
use super::model::{Expect, GuestPlan, Since, Step, Stream, System, TextWanted};
use super::report::Check;
use super::run::Run;
use super::template::Variables;
use crate::control::counters::{of_cable, of_outside, of_port};
use crate::lab::freebsd::{self, Machine};
use crate::lab::{complaints as linux_complaints, excerpt};
use crate::serve::CaptureStatus;

/// For commands that hardly do anything.
const SHORT: Duration = Duration::from_secs(60);

/// What came of a step's action.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// Of a command.
    pub status: Option<i32>,
    /// What a command has printed: all of it, or standard output, if errors are kept apart.
    pub text: String,
    /// The errors, then.
    pub stderr: Option<String>,
    /// The capture that has ended.
    pub capture: Option<CaptureStatus>,
    /// How long it took.
    pub took: Duration,
    /// What an unloaded driver has left.
    pub left: Vec<String>,
}

impl Came {
    /// All that a command has printed.
    pub fn all(&self) -> Cow<'_, str> {
        match self.stderr.as_deref() {
            None | Some("") => Cow::Borrowed(&self.text),
            Some(errors) if self.text.is_empty() || self.text.ends_with('\n') => {
                Cow::Owned(format!("{}{errors}", self.text))
            }
            Some(errors) => Cow::Owned(format!("{}\n{errors}", self.text)),
        }
    }

    /// What it has printed there.
    fn stream(&self, stream: Stream) -> Cow<'_, str> {
        match (stream, &self.stderr) {
            (Stream::Both, _) => self.all(),
            (Stream::Output, _) => Cow::Borrowed(&self.text),
            (Stream::Error, errors) => Cow::Borrowed(errors.as_deref().unwrap_or_default()),
        }
    }
}

/// The lines of a guest's kernel's log that a healthy adapter would not cause.
pub(super) fn complaints(plan: &GuestPlan, messages: &str) -> Vec<String> {
    let lines = match plan.system {
        System::Linux { .. } => linux_complaints(messages),
        System::FreeBsd { .. } => freebsd::complaints(messages),
    };
    lines.into_iter().map(str::to_owned).collect()
}

impl Run<'_> {
    /// A check for each expectation of a step.
    pub(super) fn checks(&mut self, step: &Step, came: &Came) -> Vec<Check> {
        let expect = &step.expect;
        let mut checks = self.of_output(step, expect, came);
        if let Some(wanted) = &expect.duration {
            let seconds = came.took.as_secs_f64();
            let name = format!("{}: takes {wanted}", step.name);
            checks.push(verdict(
                name,
                wanted.holds(seconds, &self.variables),
                &format!("{seconds:.3} s"),
            ));
        }
        for wanted in &expect.counters {
            let shown = show_counter(&wanted.counter, self);
            let name = format!("{}: {shown} {}", step.name, equals(&wanted.is.to_string()));
            checks.push(match self.growth(&wanted.counter, wanted.since) {
                Ok(growth) => verdict(
                    name,
                    wanted.is.holds(growth, &self.variables),
                    &format!("it is {growth}{}", wanted.is.explained(&self.variables)),
                ),
                Err(error) => Check::failed(name, format!("{error:#}"), Duration::ZERO),
            });
        }
        for wanted in &expect.objects {
            checks.push(self.of_objects(step, wanted));
        }
        for wanted in &expect.packets {
            checks.push(self.of_packets(step, wanted, came));
        }
        for (nic, up) in &expect.carrier {
            let plan = &self.scenario.machines.nics[*nic];
            let name = format!(
                "{}: carrier of {} is {}",
                step.name,
                plan.name,
                if *up { "up" } else { "down" }
            );
            checks.push(match self.carrier(*nic) {
                Ok(seen) => {
                    let said = if seen { "it is up" } else { "it is down" };
                    verdict(name, Ok(seen == *up), said)
                }
                Err(error) => Check::failed(name, format!("{error:#}"), Duration::ZERO),
            });
        }
        let wanted = expect.kernel_log.iter().map(|log| (log, true));
        let unwanted = expect.no_kernel_log.iter().map(|log| (log, false));
        for ((guest, pattern), present) in wanted.chain(unwanted) {
            let plan = &self.scenario.machines.guests[*guest];
            let name = format!(
                "{}: kernel log of {} has {}/{}/",
                step.name,
                plan.name,
                if present { "" } else { "no " },
                pattern.source()
            );
            let since = expect.log_since.unwrap_or(Since::Start);
            let before = self.logs.get(&(since, *guest)).map_or("", String::as_str);
            let said = self.messages_since(*guest, before);
            let looked = said.and_then(|said| {
                let regex = pattern
                    .regex(&self.variables)
                    .map_err(|error| anyhow!(error))?;
                Ok((regex.is_match(&said) == present, said))
            });
            checks.push(match looked {
                Ok((holds, said)) => {
                    verdict(name, Ok(holds), &format!("it says: {}", excerpt(&said)))
                }
                Err(error) => Check::failed(name, format!("{error:#}"), Duration::ZERO),
            });
        }
        checks
    }

    fn of_output(&mut self, step: &Step, expect: &Expect, came: &Came) -> Vec<Check> {
        let mut checks = Vec::new();
        let said = |text: &str| {
            if text.trim().is_empty() {
                "it printed nothing".to_owned()
            } else {
                format!("it printed: {}", excerpt(text))
            }
        };
        let all = came.all();
        for TextWanted {
            stream,
            present,
            pattern,
        } in &expect.texts
        {
            let name = format!(
                "{}: prints {}/{}/{}",
                step.name,
                if *present { "" } else { "no " },
                pattern.source(),
                match stream {
                    Stream::Both => "",
                    Stream::Output => " to stdout",
                    Stream::Error => " to stderr",
                }
            );
            let text = came.stream(*stream);
            let holds = pattern
                .regex(&self.variables)
                .map(|regex| regex.is_match(&text) == *present);
            checks.push(verdict(name, holds, &said(&text)));
        }
        for wanted in &expect.values {
            let what = match (&wanted.is, &wanted.save) {
                (Some(is), _) => format!("is {is}"),
                (None, Some(save)) => format!("is kept as {save}"),
                (None, None) => String::new(),
            };
            let name = format!("{}: /{}/ {what}", step.name, wanted.pattern.source());
            let found = wanted.pattern.regex(&self.variables).map(|regex| {
                let captures = regex.captures(&all)?;
                Some(captures.get(1)?.as_str().to_owned())
            });
            let text = match found {
                Ok(Some(text)) => text,
                Ok(None) => {
                    let why = format!("nothing matches; {}", said(&all));
                    checks.push(Check::failed(name, why, Duration::ZERO));
                    continue;
                }
                Err(error) => {
                    checks.push(Check::failed(name, error, Duration::ZERO));
                    continue;
                }
            };
            if let Some(is) = &wanted.is {
                let holds = text
                    .trim()
                    .parse::<f64>()
                    .map_err(|_| format!("'{text}' is no number"))
                    .and_then(|figure| is.holds(figure, &self.variables));
                let explained = is.explained(&self.variables);
                checks.push(verdict(name, holds, &format!("it is {text}{explained}")));
            } else {
                checks.push(Check::passed(name, text.clone(), Duration::ZERO));
            }
            if let Some(save) = &wanted.save {
                self.variables.insert(save.clone(), text.trim().to_owned());
            }
        }
        checks
    }

    /// What a guest's kernel has said since it had said `before`.
    fn messages_since(&self, guest: usize, before: &str) -> Result<String> {
        let machine = self.stage.guest(guest)?;
        let messages = machine.messages()?;
        if let Machine::FreeBsd(_) = machine {
            return Ok(freebsd::said_since(before, &messages));
        }
        Ok(match messages.strip_prefix(before) {
            Some(new) => new.to_owned(),
            // It has started anew.
            None => messages,
        })
    }

    /// Whether a NIC's driver sees a carrier.
    fn carrier(&self, nic: usize) -> Result<bool> {
        let plan = &self.scenario.machines.nics[nic];
        let interface = self
            .variables
            .get(&format!("{}.interface", plan.name))
            .with_context(|| format!("{} has not been configured", plan.name))?;
        let machine = self.stage.guest(plan.guest)?;
        let command = match machine {
            // One that is down has none, and says so by an error.
            Machine::Linux(_) => {
                format!("cat /sys/class/net/{interface}/carrier 2>/dev/null || echo 0")
            }
            Machine::FreeBsd(_) => {
                // By the shell alone: rescue systems have no grep.
                format!(
                    "case $(ifconfig {interface}) in *'status: active'*) echo 1 ;; *) echo 0 ;; esac"
                )
            }
        };
        Ok(machine.check(&command, SHORT)?.trim() == "1")
    }

    /// Keeps what counters are at this moment, of those that count from it.
    pub(super) fn take_bases(&mut self, since: Since) -> Result<()> {
        let steps = self.scenario.steps.iter();
        let wanted: Vec<Counter> = steps
            .flat_map(|step| &step.expect.counters)
            .filter(|wanted| wanted.since == since)
            .map(|wanted| wanted.counter.clone())
            .collect();
        for counter in wanted {
            // What is not there yet begins at 0.
            let value = self.read(&counter).unwrap_or(0.0);
            self.bases.insert((since, counter), value);
        }
        for step in &self.scenario.steps {
            let expect = &step.expect;
            if expect.log_since != Some(since) {
                continue;
            }
            for (guest, _) in expect.kernel_log.iter().chain(&expect.no_kernel_log) {
                // One that does not run has said nothing.
                if let (false, Ok(machine)) = (
                    self.logs.contains_key(&(since, *guest)),
                    self.stage.guest(*guest),
                ) {
                    let messages = machine.messages()?;
                    self.logs.insert((since, *guest), messages);
                }
            }
        }
        Ok(())
    }

    /// How much a counter has grown. One that has fallen has begun anew, as those of a driver do that is loaded again.
    fn growth(&self, counter: &Counter, since: Since) -> Result<f64> {
        let now = self.read(counter)?;
        let base = match counter {
            // They count from when they were loaded.
            Counter::Rule { .. } => 0.0,
            _ => self
                .bases
                .get(&(since, counter.clone()))
                .copied()
                .unwrap_or(0.0),
        };
        Ok(if now < base { now } else { now - base })
    }

    fn read(&self, counter: &Counter) -> Result<f64> {
        match counter {
            Counter::Rule { name, matches } => {
                let counters = self.stage.server.fault_counters();
                let now = counters
                    .into_iter()
                    .find(|counters| counters.name == *name)
                    .map(|counters| (counters.hits, counters.matches));
                let (hits, all) = now
                    .or_else(|| self.past_rules.get(name).copied())
                    .with_context(|| format!("no rule '{name}' has been in force"))?;
                Ok(if *matches { all } else { hits } as f64)
            }
            Counter::Port { port, side, name } => {
                let found = self.at_port(port, *side)?;
                let (_, value) = found
                    .into_iter()
                    .find(|(known, _)| known == name)
                    .context("no such counter")?;
                Ok(value as f64)
            }
            Counter::Nic { nic, .. } => {
                let plan = &self.scenario.machines.nics[*nic];
                let variable = |part: &str| {
                    let name = format!("{}.{part}", plan.name);
                    let value = self.variables.get(&name).cloned();
                    value.with_context(|| format!("{} has not been configured", plan.name))
                };
                let command = counter
                    .command(&variable("device")?, &variable("interface")?)
                    .context("not a guest's counter")?;
                let text = self.stage.guest(plan.guest)?.check(&command, SHORT)?;
                text.trim()
                    .parse()
                    .map_err(|_| anyhow!("`{command}` prints no number but: {}", text.trim()))
            }
        }
    }
}

impl Run<'_> {
    /// The counters on one side of a port.
    fn at_port(&self, port: &str, side: Side) -> Result<Vec<(&'static str, u64)>> {
        let server = &self.stage.server;
        if let Side::CableTx | Side::CableRx = side {
            let status = server.control().status();
            let cable = status.iter().find(|cable| cable.port == port);
            let cable = cable.with_context(|| format!("{port} has no cable"))?;
            return Ok(of_cable(match side {
                Side::CableTx => &cable.tx,
                _ => &cable.rx,
            })
            .to_vec());
        }
        let status = server.port_status();
        let found = status.iter().find(|status| status.port == port);
        let found = found.with_context(|| format!("there is no port {port}"))?;
        Ok(match (side, &found.outside) {
            (Side::Outside, Some(outside)) => of_outside(outside).to_vec(),
            _ => of_port(&found.counters).to_vec(),
        })
    }
}

pub(super) fn equals(comparison: &str) -> String {
    if comparison.starts_with(|c: char| c.is_ascii_digit() || c == '{') {
        format!("= {comparison}")
    } else {
        comparison.to_owned()
    }
}

fn show_counter(counter: &Counter, run: &Run<'_>) -> String {
    let nic = |nic: usize| &run.scenario.machines.nics[nic].name;
    match counter {
        Counter::Nic { nic: n, kind, name } => {
            format!("{}.{}.{name}", nic(*n), format!("{kind:?}").to_lowercase())
        }
        Counter::Port { port, side, name } => match side {
            Side::Switch => format!("switch.{port}.{name}"),
            Side::CableTx => format!("cable.{port}.tx.{name}"),
            Side::CableRx => format!("cable.{port}.rx.{name}"),
            Side::Outside => format!("outside.{port}.{name}"),
        },
        Counter::Rule { name, matches } => {
            format!("rule.{name}{}", if *matches { ".matches" } else { "" })
        }
    }
}

pub(super) fn verdict(name: String, holds: Result<bool, String>, seen: &str) -> Check {
    match holds {
        Ok(true) => Check::passed(name, seen, Duration::ZERO),
        Ok(false) => Check::failed(name, seen, Duration::ZERO),
        Err(error) => Check::failed(name, error, Duration::ZERO),
    }
}

/// Whether a status is the expected one, as a check of the step itself.
pub(super) fn of_status(step: &Step, came: &Came, variables: &Variables) -> Result<String, String> {
    let Some(status) = came.status else {
        return Ok(String::new());
    };
    let said = format!("status {status}");
    match &step.expect.status {
        None => Ok(said),
        Some(wanted) => match wanted.holds(f64::from(status), variables)? {
            true => Ok(said),
            false => Err(format!(
                "{said}, where {wanted} was expected; it printed: {}",
                excerpt(&came.all())
            )),
        },
    }
}
