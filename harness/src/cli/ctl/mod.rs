//! `rocinante ctl`: what users say to a running server. Knows the words and how answers are shown;
//! the server does the rest.

mod show;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::{Map, Value, json};

use crate::control::client::{Client, ClientError, default_socket};
use crate::control::session::MAX_LINE;
use crate::serve::CaptureRing;

/// The exit code for wrong arguments and for rules with mistakes.
const USAGE: u8 = 2;

/// How long a request may take: a NIC that does not answer is given up before.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait for an event at a time.
const TURN: Duration = Duration::from_secs(3600);

/// Control a running server
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the server was told to listen (serve --control)
    /// [default: rocinante.sock in $XDG_RUNTIME_DIR, or in /run for root]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,

    /// Print answers as JSON
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// NICs and their drivers, ports, faults and the capture
    Status,
    /// Ports of links: list them, plug cables in or pull them, set speeds
    #[command(subcommand)]
    Link(Link),
    /// Faults of packets, links, firmware and devices
    #[command(subcommand)]
    Faults(Faults),
    /// Let something go wrong at a NIC now
    Inject {
        /// The NIC
        nic: String,
        /// async, event, interrupt, health, pages, module, sensor or removal; or clear for all that lasts
        kind: String,
        /// What belongs to it, such as syndrome=FW_INTERNAL_ERR or pages=100
        #[arg(value_name = "KEY=VALUE", value_parser = parse_key)]
        keys: Vec<(String, Value)>,
    },
    /// What NICs, ports, cables and rules have counted
    Counters {
        /// Only this port
        port: Option<String>,
        /// Also those that are 0
        #[arg(long)]
        all: bool,
    },
    /// Objects that a NIC's driver has made
    Objects {
        /// The NIC
        nic: String,
        /// qp, cq, eq, mkey, srq, pd, xrcd, uar, sq, rq, tir, tis, flow-table, q-counter or gid; left out: how many of each
        kind: Option<String>,
        /// Begin with this number
        #[arg(long, default_value_t = 0)]
        from: u32,
        /// No more than so many
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Captures of frames
    #[command(subcommand)]
    Capture(Capture),
    /// Reset a NIC under its driver
    Reset {
        /// The NIC
        nic: String,
    },
    /// Print events until interrupted
    Events {
        /// Only these, such as LINK_DOWN
        names: Vec<String>,
        /// End after so many
        #[arg(long)]
        count: Option<usize>,
    },
    /// All commands of the protocol
    Commands,
    /// Send a request as it is: JSON, or a command without arguments
    Raw {
        /// The request
        request: String,
    },
    /// End the server
    Quit,
}

#[derive(Debug, Subcommand)]
enum Link {
    /// Ports, plugs and carriers
    List,
    /// Plug a port's cable in
    Up {
        /// The port
        port: String,
    },
    /// Pull a port's cable
    Down {
        /// The port
        port: String,
    },
    /// Limit the speed of the far end of a NIC's cable
    Speed {
        /// The NIC
        port: String,
        /// 1G, 10G, 25G, 40G, 50G or 100G
        speed: String,
    },
}

#[derive(Debug, Subcommand)]
enum Faults {
    /// Replace all faults by those of a file
    Load {
        /// Faults in TOML; `-` for the standard input
        file: PathBuf,
    },
    /// The faults in force, with their hits
    List,
    /// Take all faults out of force, or one
    Clear {
        /// Its name
        name: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum Capture {
    /// Start one
    Start {
        /// A pcapng file, which is overwritten
        file: PathBuf,
        /// A ring of files instead: so many (FILE.0001 and so on), each of about this size
        #[arg(long, value_name = "SIZE,FILES")]
        ring: Option<CaptureRing>,
        /// Only at these ports, with * and ?
        #[arg(long = "port", value_name = "NAME")]
        ports: Vec<String>,
        /// Only at these links, with * and ?
        #[arg(long = "link", value_name = "NAME")]
        links: Vec<String>,
        /// tx: what comes from NICs (so each frame is there once), rx: what goes to them, both
        #[arg(long, default_value = "tx", value_parser = ["tx", "rx", "both"])]
        direction: String,
    },
    /// Complete it
    Stop,
    /// How it is doing
    Status,
}

/// `KEY=VALUE`, where a value that is no number, truth value or list is text.
fn parse_key(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' is not KEY=VALUE"))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((key.to_owned(), value))
}

/// Does it.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match act(arguments) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast_ref::<ClientError>() {
            Some(ClientError::Refused { class, error, .. }) if class == "BadRules" => {
                let file = match &arguments.command {
                    Command::Faults(Faults::Load { file }) => file.display().to_string(),
                    _ => "rules".to_owned(),
                };
                for mistake in error["errors"].as_array().into_iter().flatten() {
                    let message = mistake["message"].as_str().unwrap_or_default();
                    eprintln!(
                        "{file}:{}:{}: {message}",
                        mistake["line"], mistake["column"]
                    );
                }
                Ok(ExitCode::from(USAGE))
            }
            Some(ClientError::Refused { class, desc, .. })
                if class == "InvalidArgument" || class == "CommandNotFound" =>
            {
                eprintln!("rocinante: {desc}");
                Ok(ExitCode::from(USAGE))
            }
            // Whoever reads the output has seen enough.
            _ if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            _ => Err(error),
        },
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn connect(arguments: &Arguments) -> Result<Client> {
    let socket = match &arguments.socket {
        Some(socket) => socket.clone(),
        None => default_socket().context("--socket PATH is missing: XDG_RUNTIME_DIR is not set")?,
    };
    Ok(Client::connect(&socket, PATIENCE)?)
}

/// A path as the server has to know it, which may be in another folder.
fn absolute(path: &Path) -> Result<String> {
    let path = std::path::absolute(path).with_context(|| path.display().to_string())?;
    match path.to_str() {
        Some(path) => Ok(path.to_owned()),
        None => bail!("{}: not UTF-8", path.display()),
    }
}

/// All of a file of faults, unless it is longer than a request can be.
fn read(file: impl Read) -> io::Result<String> {
    let mut text = String::new();
    file.take(MAX_LINE as u64 + 1).read_to_string(&mut text)?;
    if text.len() > MAX_LINE {
        return Err(io::Error::other("more than 1 MiB"));
    }
    Ok(text)
}

/// The protocol's command and its arguments.
fn request(command: &Command) -> Result<(&'static str, Value)> {
    Ok(match command {
        Command::Status => ("query-status", json!({})),
        Command::Link(Link::List) => ("query-links", json!({})),
        Command::Link(Link::Up { port }) => ("set-link", json!({ "port": port, "up": true })),
        Command::Link(Link::Down { port }) => ("set-link", json!({ "port": port, "up": false })),
        Command::Link(Link::Speed { port, speed }) => {
            ("set-link-speed", json!({ "port": port, "speed": speed }))
        }
        Command::Faults(Faults::Load { file }) => {
            let text = if file.as_os_str() == "-" {
                read(io::stdin()).context("standard input")?
            } else {
                let text = fs::File::open(file).and_then(read);
                text.with_context(|| file.display().to_string())?
            };
            ("load-faults", json!({ "text": text }))
        }
        Command::Faults(Faults::List) => ("query-faults", json!({})),
        Command::Inject { nic, kind, keys } => {
            let keys: Map<String, Value> = keys.iter().cloned().collect();
            ("inject", json!({ "nic": nic, "kind": kind, "keys": keys }))
        }
        Command::Faults(Faults::Clear { name }) => ("clear-faults", json!({ "name": name })),
        Command::Counters { port, .. } => ("query-counters", json!({ "port": port })),
        Command::Objects { nic, .. } => ("query-objects", json!({ "nic": nic })),
        Command::Capture(Capture::Start {
            file,
            ring,
            ports,
            links,
            direction,
        }) => {
            let ring =
                ring.map(|ring| json!({ "size": ring.size.to_string(), "files": ring.files }));
            let arguments = json!({
                "path": absolute(file)?,
                "ring": ring,
                "ports": ports,
                "links": links,
                "direction": direction,
            });
            ("start-capture", arguments)
        }
        Command::Capture(Capture::Stop) => ("stop-capture", json!({})),
        Command::Capture(Capture::Status) => ("query-capture", json!({})),
        Command::Reset { nic } => ("reset", json!({ "nic": nic })),
        Command::Commands => ("query-commands", json!({})),
        Command::Quit => ("quit", json!({})),
        Command::Events { names, .. } => ("subscribe", json!({ "events": names })),
        Command::Raw { .. } => ("raw", Value::Null),
    })
}

fn act(arguments: &Arguments) -> Result<()> {
    let (name, request) = request(&arguments.command)?;
    let mut client = connect(arguments)?;
    match &arguments.command {
        Command::Events { count, .. } => {
            client.execute(name, request)?;
            return events(&mut client, arguments.json, *count);
        }
        Command::Raw { request } => return raw(&mut client, request),
        _ => {}
    }
    let answer = match &arguments.command {
        Command::Objects {
            nic,
            kind: Some(kind),
            from,
            limit,
        } => objects(&mut client, nic, kind, *from, *limit)?,
        _ => client.execute(name, request)?,
    };
    let text = match &arguments.command {
        Command::Status => show::status(&answer),
        Command::Link(Link::List) => show::links(&answer),
        Command::Faults(Faults::Load { .. }) => format!("{} loaded\n", answer["loaded"]),
        Command::Faults(Faults::List) => show::faults(&answer),
        Command::Counters { all, .. } => show::counters(&answer, *all),
        Command::Objects { kind, .. } => show::objects(kind.as_deref(), &answer),
        Command::Capture(Capture::Stop) => show::capture(&answer),
        Command::Capture(Capture::Status) => show::capture(&answer["capture"]),
        Command::Commands => show::commands(&answer),
        _ => String::new(),
    };
    if arguments.json {
        print(&format!("{answer:#}\n"))?;
    } else {
        print(&text)?;
    }
    match &arguments.command {
        Command::Capture(Capture::Stop) if answer["error"].is_string() => {
            bail!("the capture is not whole")
        }
        _ => Ok(()),
    }
}

fn print(text: &str) -> Result<()> {
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

/// All objects of a kind, in as many requests as it takes.
fn objects(
    client: &mut Client,
    nic: &str,
    kind: &str,
    mut from: u32,
    limit: Option<usize>,
) -> Result<Value> {
    const PAGE: usize = 128;
    let mut objects: Vec<Value> = Vec::new();
    loop {
        let left = limit.map_or(PAGE, |limit| limit.saturating_sub(objects.len()));
        let arguments = json!({
            "nic": nic,
            "kind": kind,
            "from": from,
            "limit": left.clamp(1, PAGE),
        });
        let mut page = client.execute("query-objects", arguments)?;
        if let Value::Array(more) = page["objects"].take() {
            objects.extend(more);
        }
        let next = page["next"]
            .as_u64()
            .and_then(|next| u32::try_from(next).ok());
        match next {
            Some(next) if limit.is_none_or(|limit| objects.len() < limit) => from = next,
            _ => {
                objects.truncate(limit.unwrap_or(usize::MAX));
                page["objects"] = objects.into();
                return Ok(page);
            }
        }
    }
}

fn events(client: &mut Client, as_json: bool, count: Option<usize>) -> Result<()> {
    let mut seen = 0;
    while count.is_none_or(|count| seen < count) {
        let Some(event) = client.event(Instant::now() + TURN)? else {
            continue;
        };
        let line = if as_json {
            event.to_string()
        } else {
            show::event(&event)
        };
        print(&format!("{line}\n"))?;
        io::stdout().flush()?;
        seen += 1;
    }
    Ok(())
}

fn raw(client: &mut Client, request: &str) -> Result<()> {
    let request = match serde_json::from_str::<Value>(request) {
        Ok(request @ Value::Object(_)) => request,
        Ok(_) => bail!("a request is an object: {request}"),
        Err(_) if request.chars().all(|c| c.is_ascii_lowercase() || c == '-') => {
            json!({ "execute": request })
        }
        Err(error) => bail!("not JSON: {error}"),
    };
    let mut answer = client.request(request)?;
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("id");
    }
    print(&format!("{answer:#}\n"))?;
    match answer["error"]["desc"].as_str() {
        Some(desc) => bail!("{desc}"),
        None => Ok(()),
    }
}
