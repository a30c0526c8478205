//! All commands: name, arguments, what each does in one line, and who does it.

use serde_json::{Value, json};

use super::arguments::{Argument, Arguments, Kind, describe, optional, required};
use super::protocol::{Class, Failure, PROTOCOL, brief};
use super::{capture, counters, faults, link, nic, objects};
use crate::serve::ServerHandle;

/// Who executes a command.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// The server.
    Server(fn(&ServerHandle, &Arguments) -> Result<Value, Failure>),
    /// The conversation itself: begins to listen.
    Subscribe,
    /// Ends that.
    Unsubscribe,
}

/// A command.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub does: &'static str,
    /// Its arguments.
    pub arguments: &'static [Argument],
    /// Who does it.
    pub run: Run,
}

/// Events that can be subscribed to. EVENTS_LOST comes besides.
pub const EVENTS: &[&str] = &[
    "CAPTURE_FAILED",
    "CAPTURE_STARTED",
    "CAPTURE_STOPPED",
    "DRIVER_CAME",
    "DRIVER_VERSION",
    "DRIVER_WENT",
    "FAULT_HIT",
    "LINK_DOWN",
    "LINK_SPEED",
    "LINK_UP",
    "NIC_ATTACHED",
    "NIC_DETACHED",
    "NIC_HEALTH",
    "NIC_RESET",
    "PORT_RECOVERED",
    "PORT_TROUBLE",
    "QP_ERROR",
];

const PORT: Argument = required("port", Kind::Text);
const NIC: Argument = required("nic", Kind::Text);
const RING: &[Argument] = &[
    required("size", Kind::Text),
    required("files", Kind::Number),
];

/// All commands, by subject.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "query-version",
        does: "the program's version and the protocol's",
        arguments: &[],
        run: Run::Server(version),
    },
    Command {
        name: "query-commands",
        does: "all commands with their arguments",
        arguments: &[],
        run: Run::Server(list),
    },
    Command {
        name: "help",
        does: "all commands, or one, in words",
        arguments: &[optional("command", Kind::Text)],
        run: Run::Server(help),
    },
    Command {
        name: "query-status",
        does: "NICs and their drivers, ports, faults and the capture at a glance",
        arguments: &[],
        run: Run::Server(nic::status),
    },
    Command {
        name: "query-links",
        does: "ports, whether they are plugged in, and whether they have a carrier",
        arguments: &[],
        run: Run::Server(link::query),
    },
    Command {
        name: "set-link",
        does: "plugs a port's cable in, or pulls it",
        arguments: &[PORT, required("up", Kind::Flag)],
        run: Run::Server(link::set),
    },
    Command {
        name: "set-link-speed",
        does: "limits the speed of the far end of a NIC's cable",
        arguments: &[PORT, required("speed", Kind::Text)],
        run: Run::Server(link::set_speed),
    },
    Command {
        name: "load-faults",
        does: "replaces all faults",
        arguments: &[optional("text", Kind::Text), optional("file", Kind::Text)],
        run: Run::Server(faults::load),
    },
    Command {
        name: "query-faults",
        does: "the faults in force, with their hits",
        arguments: &[],
        run: Run::Server(faults::query),
    },
    Command {
        name: "clear-faults",
        does: "takes all faults out of force, or one of them",
        arguments: &[optional("name", Kind::Text)],
        run: Run::Server(faults::clear),
    },
    Command {
        name: "inject",
        does: "lets something go wrong at a NIC now",
        arguments: &[
            NIC,
            required("kind", Kind::Text),
            optional("keys", Kind::Any),
        ],
        run: Run::Server(faults::inject),
    },
    Command {
        name: "query-counters",
        does: "what NICs, ports, cables and rules have counted",
        arguments: &[optional("port", Kind::Text)],
        run: Run::Server(counters::query),
    },
    Command {
        name: "query-objects",
        does: "the objects that a NIC's driver has made: how many, or those of a kind",
        arguments: &[
            NIC,
            optional("kind", Kind::Text),
            optional("from", Kind::Number),
            optional("limit", Kind::Number),
        ],
        run: Run::Server(objects::query),
    },
    Command {
        name: "start-capture",
        does: "writes frames to a pcapng file, or to a ring of files",
        arguments: &[
            required("path", Kind::Text),
            optional("ring", Kind::Object(RING)),
            optional("ports", Kind::Texts),
            optional("links", Kind::Texts),
            optional("direction", Kind::Text),
        ],
        run: Run::Server(capture::start),
    },
    Command {
        name: "stop-capture",
        does: "completes the capture",
        arguments: &[],
        run: Run::Server(capture::stop),
    },
    Command {
        name: "query-capture",
        does: "how the capture is doing",
        arguments: &[],
        run: Run::Server(capture::query),
    },
    Command {
        name: "reset",
        does: "resets a NIC under its driver",
        arguments: &[NIC],
        run: Run::Server(nic::reset),
    },
    Command {
        name: "subscribe",
        does: "sends events from now on, all or some",
        arguments: &[optional("events", Kind::Texts)],
        run: Run::Subscribe,
    },
    Command {
        name: "unsubscribe",
        does: "sends no more events",
        arguments: &[],
        run: Run::Unsubscribe,
    },
    Command {
        name: "quit",
        does: "ends the program",
        arguments: &[],
        run: Run::Server(quit),
    },
];

/// The command of that name.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

fn version(_: &ServerHandle, _: &Arguments) -> Result<Value, Failure> {
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": PROTOCOL,
    }))
}

fn list(_: &ServerHandle, _: &Arguments) -> Result<Value, Failure> {
    let all = COMMANDS.iter().map(|command| {
        json!({
            "name": command.name,
            "does": command.does,
            "arguments": describe(command.arguments),
        })
    });
    Ok(json!({ "commands": all.collect::<Vec<_>>(), "events": EVENTS }))
}

fn help(_: &ServerHandle, arguments: &Arguments) -> Result<Value, Failure> {
    let text = match arguments.text("command") {
        Some(name) => {
            let command = find(name).ok_or_else(|| {
                let desc = format!("no command '{}'", brief(name));
                Failure::new(Class::CommandNotFound, desc)
            })?;
            usage(command)
        }
        None => COMMANDS.iter().map(usage).collect::<Vec<_>>().join("\n"),
    };
    Ok(json!({ "text": text }))
}

/// `name ARGUMENT [ARGUMENT]: what it does`.
fn usage(command: &Command) -> String {
    let mut text = command.name.to_owned();
    for argument in command.arguments {
        let (name, kind) = (argument.name, argument.kind.name());
        text += &if argument.required {
            format!(" {name}={kind}")
        } else {
            format!(" [{name}={kind}]")
        };
    }
    format!("{text}: {}", command.does)
}

fn quit(server: &ServerHandle, _: &Arguments) -> Result<Value, Failure> {
    server.quit();
    Ok(json!({}))
}
