//! The tables `[[step]]`: what is done.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::model::{
    Action, DriverChange, PowerChange, Scenario, Since, Step, Stream, System, TextWanted,
};
use super::super::source::Wrong;
use super::super::template::Template;
use super::context::Context;
use super::{Reader, Table, Value, check_name};
use crate::faults::injection_from_json;

const ACTIONS: &[&str] = &[
    "run",
    "start",
    "wait",
    "kill",
    "driver",
    "configure",
    "plug",
    "unplug",
    "speed",
    "faults",
    "inject",
    "capture",
    "power",
];
const OTHERS: &[&str] = &[
    "name", "guest", "job", "listens", "ready", "deadline", "within", "continue", "expect",
];

impl Reader<'_> {
    pub(super) fn steps(
        &self,
        scenario: &mut Scenario,
        deadline: Duration,
        wrongs: &mut Vec<Wrong>,
    ) {
        let machines = scenario.machines.clone();
        let mut context = Context::new(&machines, &scenario.faults, scenario.capture);
        context.take_up(&scenario.faults_at_start);
        let Some(value) = self.root.get("step") else {
            let at = self.root.span.clone();
            wrongs.push(Wrong::new(at, "there is no [[step]]"));
            return;
        };
        let mut steps = Vec::new();
        for value in value.list() {
            match self.step(&value, &mut context, deadline) {
                Ok(step) => steps.push(step),
                Err(wrong) => wrongs.push(wrong),
            }
            context.step += 1;
        }
        // Those that a step with a mistake would have waited for are not to be blamed.
        if wrongs.is_empty() {
            for (name, (_, span)) in &context.jobs {
                let message = format!(
                    "no step waits for job '{name}' or ends it: how it ended would never be looked at"
                );
                wrongs.push(Wrong::new(span.clone(), message));
            }
        }
        keep_apart(&mut steps);
        for step in &steps {
            if let Action::Power { guest, change } = &step.action
                && matches!(change, PowerChange::Reset | PowerChange::Reboot)
                && let Some(guest) = scenario.machines.guests.get_mut(*guest)
            {
                guest.restarts = true;
            }
        }
        scenario.steps = steps;
    }

    fn step(
        &self,
        value: &Value<'_>,
        context: &mut Context<'_>,
        deadline: Duration,
    ) -> Result<Step, Wrong> {
        let table = value.table()?;
        table.only(&[ACTIONS, OTHERS].concat())?;
        let mut actions = table.iter().filter(|value| ACTIONS.contains(&value.key));
        let (first, second) = (actions.next(), actions.next());
        if let (Some(first), Some(second)) = (first, second) {
            return Err(second.wrong(format!(
                "a step does one thing: '{}' or '{}'",
                first.key, second.key
            )));
        }
        let action = match first {
            Some(value) => self.action(&value, &table, context)?,
            None => Action::Check,
        };
        self.only_where_it_means_something(&table, &action)?;
        if let Some(guest) = action.guest()
            && !context.running.get(guest).copied().unwrap_or(false)
            && !matches!(action, Action::Power { .. })
        {
            let name = &context.machines.guests[guest].name;
            return Err(value.wrong(format!("guest '{name}' does not run at this step")));
        }
        let label = table.text("name")?;
        let within = table.duration("within")?;
        if let (Some(_), Some(value)) = (within, table.get("within"))
            && !matches!(action, Action::Run { .. } | Action::Check)
        {
            return Err(value.wrong("'within' is for 'run' and for steps that only look"));
        }
        let expect = self.expect(table.get("expect"), value, &action, context)?;
        if let Some(label) = &label {
            let at = table.need("name")?;
            if label.trim().is_empty() || label.chars().any(char::is_control) {
                return Err(at.wrong("a step's name is printable"));
            }
            if context.labels.insert(label.clone(), context.step).is_some() {
                return Err(at.wrong(format!("there is a step '{label}' already")));
            }
        }
        let at = table.get("job").unwrap_or(*value);
        self.bring_about(&action, &at, context);
        Ok(Step {
            line: self.line(&value.span()),
            name: label.unwrap_or_else(|| title(&action, context)),
            action,
            expect,
            deadline: table.duration("deadline")?.unwrap_or(deadline),
            within,
            go_on: table.flag("continue")?.unwrap_or(false),
        })
    }

    /// Keys that say nothing with this action are mistakes.
    fn only_where_it_means_something(
        &self,
        table: &Table<'_>,
        action: &Action,
    ) -> Result<(), Wrong> {
        let starts = matches!(action, Action::Start { .. });
        for key in ["job", "listens", "ready"] {
            if let (Some(value), false) = (table.get(key), starts) {
                return Err(value.wrong(format!("'{key}' goes with 'start'")));
            }
        }
        if let (Some(value), None) = (table.get("guest"), action.guest()) {
            return Err(value.wrong("nothing is done in a guest at this step"));
        }
        Ok(())
    }

    fn action(
        &self,
        value: &Value<'_>,
        table: &Table<'_>,
        context: &mut Context<'_>,
    ) -> Result<Action, Wrong> {
        let guest = |context: &Context<'_>| context.guest(&table.need("guest")?);
        Ok(match value.key {
            "run" => Action::Run {
                guest: guest(context)?,
                command: context.template(value)?,
                apart: false,
            },
            "start" => self.start(value, table, context)?,
            "wait" => Action::Wait {
                job: context.job(value)?,
            },
            "kill" => Action::Kill {
                job: context.job(value)?,
            },
            "driver" => Action::Driver {
                guest: guest(context)?,
                change: match &*value.text()? {
                    "load" => DriverChange::Load,
                    "unload" => DriverChange::Unload,
                    "reload" => DriverChange::Reload,
                    _ => {
                        return Err(value.wrong("'driver' is \"load\", \"unload\" or \"reload\""));
                    }
                },
            },
            "configure" => {
                if !value.flag()? {
                    return Err(value.wrong("'configure' is true"));
                }
                Action::Configure {
                    guest: guest(context)?,
                }
            }
            "plug" | "unplug" => {
                let mut nics = Vec::new();
                for item in value.list() {
                    nics.push(context.nic(&item, &item.text()?)?);
                }
                Action::Plug {
                    nics,
                    plugged: value.key == "plug",
                }
            }
            "speed" => {
                let mut speeds = Vec::new();
                for item in value.table()?.iter() {
                    let nic = context.nic_of_key(&item)?;
                    let speed = item
                        .text()?
                        .parse()
                        .map_err(|error: String| item.wrong(error))?;
                    speeds.push((nic, speed));
                }
                if speeds.is_empty() {
                    return Err(value.wrong("'speed' names NICs, like { alice = \"25G\" }"));
                }
                Action::Speed(speeds)
            }
            "faults" => Action::Faults(self.set_names(value, context.sets)?),
            "inject" => inject(value, context)?,
            "capture" => Action::Capture {
                start: match &*value.text()? {
                    "start" => true,
                    "stop" if context.capturing => false,
                    "stop" => return Err(value.wrong("no capture is under way at this step")),
                    _ => return Err(value.wrong("'capture' is \"start\" or \"stop\"")),
                },
            },
            _ => self.power(value, guest(context)?, context)?,
        })
    }

    fn start(
        &self,
        value: &Value<'_>,
        table: &Table<'_>,
        context: &mut Context<'_>,
    ) -> Result<Action, Wrong> {
        let guest = context.guest(&table.need("guest")?)?;
        let named = table.need("job")?;
        let job = named.text()?;
        check_name(&named, &job)?;
        if context.jobs.contains_key(&job) {
            return Err(named.wrong(format!("job '{job}' is under way")));
        }
        let ready = match (table.get("ready"), table.get("listens")) {
            (Some(_), Some(value)) => return Err(value.wrong("either 'listens' or 'ready'")),
            (Some(value), None) => Some(context.template(&value)?),
            (None, Some(value)) => {
                let port = value.number(1, 65535)?;
                let command = match context.machines.guests.get(guest).map(|g| &g.system) {
                    Some(System::FreeBsd { .. }) => {
                        format!("netstat -an -p tcp | grep -q '[.]{port} .*LISTEN'")
                    }
                    _ => format!("grep -q ':{port:04X} .* 0A ' /proc/net/tcp /proc/net/tcp6"),
                };
                Some(Template::new(&command, |_| false).unwrap_or_default())
            }
            (None, None) => None,
        };
        Ok(Action::Start {
            guest,
            command: context.template(value)?,
            job,
            ready,
            apart: false,
        })
    }

    fn power(
        &self,
        value: &Value<'_>,
        guest: usize,
        context: &Context<'_>,
    ) -> Result<Action, Wrong> {
        let change = match &*value.text()? {
            "reset" => PowerChange::Reset,
            "reboot" => PowerChange::Reboot,
            "kill" => PowerChange::Kill,
            "off" => PowerChange::Off,
            "boot" => PowerChange::Boot,
            _ => {
                return Err(
                    value.wrong("'power' is \"reset\", \"reboot\", \"kill\", \"off\" or \"boot\"")
                );
            }
        };
        let plan = &context.machines.guests[guest];
        let runs = context.running.get(guest).copied().unwrap_or(false);
        if runs == (change == PowerChange::Boot) {
            let state = if runs { "runs" } else { "does not run" };
            return Err(value.wrong(format!("guest '{}' {state} at this step", plan.name)));
        }
        if matches!(plan.system, System::FreeBsd { .. }) && change == PowerChange::Reset {
            return Err(value.wrong("FreeBSD guests are rebooted, killed, switched off and booted"));
        }
        Ok(Action::Power { guest, change })
    }

    /// What is so after the step.
    fn bring_about(&self, action: &Action, value: &Value<'_>, context: &mut Context<'_>) {
        match action {
            Action::Start { guest, job, .. } => {
                context.jobs.insert(job.clone(), (*guest, value.span()));
                context.job_guests.insert(job.clone(), *guest);
            }
            Action::Faults(sets) => context.take_up(sets),
            Action::Capture { start } => context.capturing = *start,
            Action::Power { guest, change } => {
                if let Some(running) = context.running.get_mut(*guest) {
                    *running = !matches!(change, PowerChange::Kill | PowerChange::Off);
                }
                // Jobs go with the guest.
                context.jobs.retain(|_, (of, _)| of != guest);
            }
            _ => {}
        }
    }

    /// `start`, or a step's name.
    pub(super) fn since(&self, value: &Value<'_>, context: &Context<'_>) -> Result<Since, Wrong> {
        let name = value.text()?;
        match &*name {
            "start" => Ok(Since::Start),
            "step" => Ok(Since::Step(context.step)),
            _ => context
                .labels
                .get(&name)
                .map(|step| Since::Step(*step))
                .ok_or_else(|| {
                    value.wrong(format!(
                        "'since' is \"start\", \"step\" (this one), or the name of a step before this; '{name}' is none"
                    ))
                }),
        }
    }
}

/// Keeps standard error apart for the commands of which it is looked at by itself.
fn keep_apart(steps: &mut [Step]) {
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    // What is expected of a job stands behind what starts it.
    for step in steps.iter_mut().rev() {
        let by_itself = |text: &TextWanted| text.stream != Stream::Both;
        let here = step.expect.texts.iter().any(by_itself);
        match &mut step.action {
            Action::Run { apart, .. } => *apart = here,
            Action::Start { job, apart, .. } => *apart = wanted.remove(job),
            Action::Wait { job } | Action::Kill { job } if here => {
                wanted.insert(job.clone());
            }
            _ => {}
        }
    }
}

/// `{ nic = "alice", kind = "module", status = "unplugged" }`: the words of an entry of faults, but for when.
fn inject(value: &Value<'_>, context: &Context<'_>) -> Result<Action, Wrong> {
    let table = value.table()?;
    let named = table.need("nic")?;
    let nic = context.nic(&named, &named.text()?)?;
    let kind = table.need("kind")?.text()?;
    let mut keys = serde_json::Map::new();
    for entry in table.iter() {
        if !["nic", "kind"].contains(&entry.key) {
            keys.insert(entry.key.to_owned(), json(&entry)?);
        }
    }
    let injection = injection_from_json(&kind, &keys).map_err(|error| value.wrong(error))?;
    Ok(Action::Inject { nic, injection })
}

fn json(value: &Value<'_>) -> Result<serde_json::Value, Wrong> {
    if value.is_list() {
        return value.list().iter().map(json).collect();
    }
    match (value.string(), value.boolean(), value.figure()) {
        (Some(text), _, _) => Ok(text.into_owned().into()),
        (_, Some(flag), _) => Ok(flag.into()),
        (_, _, Some(figure)) if figure.fract() == 0.0 => Ok((figure as i64).into()),
        (_, _, Some(figure)) => Ok(figure.into()),
        _ => Err(value.expected("a string, a number, true or false")),
    }
}

/// How a step without a name is called.
fn title(action: &Action, context: &Context<'_>) -> String {
    let guest = |number: usize| context.machines.guests[number].name.as_str();
    let nic = |number: usize| context.machines.nics[number].name.as_str();
    let short = |command: &Template| {
        let text = command.source();
        let line = text.trim().lines().next().unwrap_or_default().trim();
        match line.char_indices().nth(60) {
            Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
            None => line.to_owned(),
        }
    };
    match action {
        Action::Check => "check".to_owned(),
        Action::Run {
            guest: g, command, ..
        } => format!("{}: {}", guest(*g), short(command)),
        Action::Start {
            guest: g, command, ..
        } => format!("{}: start {}", guest(*g), short(command)),
        Action::Wait { job } => format!("wait for {job}"),
        Action::Kill { job } => format!("kill {job}"),
        Action::Driver { guest: g, change } => {
            let change = match change {
                DriverChange::Load => "load",
                DriverChange::Unload => "unload",
                DriverChange::Reload => "reload",
            };
            format!("{}: {change} the driver", guest(*g))
        }
        Action::Configure { guest: g } => format!("{}: configure", guest(*g)),
        Action::Plug { nics, plugged } => {
            let names: Vec<_> = nics.iter().map(|n| nic(*n)).collect();
            let verb = if *plugged { "plug in" } else { "unplug" };
            format!("{verb} {}", names.join(", "))
        }
        Action::Speed(speeds) => {
            let words: Vec<_> = speeds
                .iter()
                .map(|(n, speed)| format!("{} to {speed}", nic(*n)))
                .collect();
            format!("speed of {}", words.join(", "))
        }
        Action::Faults(sets) if sets.is_empty() => "no faults".to_owned(),
        Action::Faults(sets) => format!("faults: {}", sets.join(", ")),
        Action::Inject { nic: n, injection } => {
            let text = format!("{injection:?}");
            let word = text.split(|c: char| !c.is_alphanumeric()).next();
            format!("inject into {}: {}", nic(*n), word.unwrap_or_default())
        }
        Action::Capture { start: true } => "start a capture".to_owned(),
        Action::Capture { start: false } => "end the capture".to_owned(),
        Action::Power { guest: g, change } => {
            let change = match change {
                PowerChange::Reset => "reset",
                PowerChange::Reboot => "reboot",
                PowerChange::Kill => "kill",
                PowerChange::Off => "power off",
                PowerChange::Boot => "boot",
            };
            format!("{}: {change}", guest(*g))
        }
    }
}
