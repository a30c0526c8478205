//! The demonstration with FreeBSD: two guests, one or both of them FreeBSD, a NIC each, and what the image has to try them.

mod ethernet;
mod rdma;

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::boot::Login;
use super::guest::{FreeBsd, FreeBsdConfig};
use super::image::Image;
use super::machine::{End, Machine};
use super::parse::{self, Version};
use crate::lab::Lab;
use crate::lab::demo::Fabric;
use crate::lab::emulated::Emulated;
use crate::lab::guest::{GuestConfig, Output, excerpt};
use crate::lab::progress::Progress;
use crate::lab::report::{Figure, Report, TestResult};

const NAMES: [&str; 2] = ["alice", "bob"];
/// TEST-NET-1 of RFC 5737.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
/// For a test, on an emulated processor of a busy host.
const PATIENCE: Duration = Duration::from_secs(300);
/// A client that comes before its server listens is tried again.
const TRIES: usize = 5;
/// ZFS wants so much.
const MEMORY: u32 = 2048;
const PINGS: usize = 20;

/// What the second guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The same image again.
    FreeBsd,
    /// The lab's own.
    Linux,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is booted.
    pub image: Image,
    /// How to get in.
    pub login: Login,
    /// What the second guest is.
    pub peer: Peer,
    /// How many times the driver is detached and attached.
    pub reloads: usize,
    /// How many times the guest is started anew.
    pub reboots: usize,
    /// Greatest average of the round trips of 56 bytes, in µs.
    pub ping_latency: Option<f64>,
}

enum Found {
    Passed(Option<Figure>, String),
    Skipped(String),
}

type Outcome = Result<Found>;

fn passed(detail: impl Into<String>) -> Outcome {
    Ok(Found::Passed(None, detail.into()))
}

fn skipped(what: &str) -> Outcome {
    Ok(Found::Skipped(format!("the image has no {what}")))
}

/// Boots the guests and runs the tests. Failures are in the report; nothing is thrown. The guests are left running.
pub fn run(
    plan: &Plan,
    lab: &Lab,
    fabric: &Emulated,
    progress: &Progress,
) -> (Report, Vec<Machine>) {
    let mut run = Run {
        plan,
        lab,
        fabric,
        progress,
        machines: Vec::new(),
        ends: Vec::new(),
        port: 18515,
        report: Report {
            qemu: lab.qemu().version().unwrap_or_default(),
            accelerator: format!("{:?}", lab.accelerator()).to_lowercase(),
            logs: lab.logs().display().to_string(),
            ..Report::default()
        },
    };
    let up = run.test("boot", Run::boot) && run.test("attach", Run::attach);
    if up {
        run.tests();
    }
    if !run.machines.is_empty() {
        run.test("dmesg", Run::dmesg);
    }
    (run.report, run.machines)
}

struct Run<'a> {
    plan: &'a Plan,
    lab: &'a Lab,
    fabric: &'a Emulated,
    progress: &'a Progress,
    machines: Vec<Machine>,
    ends: Vec<End>,
    port: u16,
    report: Report,
}

impl Run<'_> {
    fn tests(&mut self) {
        self.test("ifconfig", |run| run.ifconfig());
        self.test("ping", |run| run.ping());
        self.test("TCP copy", |run| run.copy());
        self.test("ibv_devinfo", |run| run.devinfo());
        for version in [Version::V2, Version::V1] {
            for tool in [
                "ibv_rc_pingpong",
                "ibv_uc_pingpong",
                "ibv_ud_pingpong",
                "ibv_srq_pingpong",
            ] {
                self.versioned(tool, version, |run| run.pingpong(tool, version));
            }
            self.versioned("krping", version, |run| run.krping(version));
            self.versioned("rping", version, |run| run.rping(version));
            for tool in ["ucmatose", "udaddy"] {
                self.versioned(tool, version, |run| run.cm(tool, version));
            }
        }
        self.test("detach and attach", |run| run.reload());
        self.test("ping after attach", |run| run.ping());
        if self.plan.reboots > 0 {
            self.test("reboot", |run| run.reboot());
            self.test("ping after reboot", |run| run.ping());
            self.versioned("krping after reboot", Version::V2, |run| {
                run.krping(Version::V2)
            });
        }
        self.test("capture", |run| run.capture());
    }

    fn versioned(&mut self, name: &str, version: Version, body: impl FnOnce(&mut Self) -> Outcome) {
        let short = version.name().trim_start_matches("IB/");
        self.test(&format!("{name}, {short}"), body);
    }

    fn test(&mut self, name: &str, body: impl FnOnce(&mut Self) -> Outcome) -> bool {
        let started = Instant::now();
        let outcome = {
            let _step = self.progress.step(name);
            body(self)
        };
        let took = started.elapsed();
        let result = match outcome {
            Ok(Found::Passed(figure, detail)) => TestResult::passed(name, figure, detail, took),
            Ok(Found::Skipped(why)) => TestResult::skipped(name, why, took),
            Err(error) => TestResult::failed(name, format!("{error:#}"), took),
        };
        let ok = result.ok;
        self.report.add(result);
        ok
    }

    fn boot(&mut self) -> Outcome {
        let started = Instant::now();
        let booted = std::thread::scope(|scope| {
            let boots = [0, 1].map(|index| {
                let run = &*self;
                scope.spawn(move || run.boot_one(index))
            });
            boots.map(|boot| {
                boot.join()
                    .unwrap_or_else(|_| bail!("booting a guest panicked"))
            })
        });
        for machine in booted {
            self.machines.push(machine?);
        }
        let systems: Vec<String> = self
            .machines
            .iter()
            .map(Machine::system)
            .collect::<Result<_>>()?;
        self.report.kernel = systems.join(" and ");
        Ok(Found::Passed(
            Some(Figure::new(started.elapsed().as_secs_f64(), "s")),
            self.report.kernel.clone(),
        ))
    }

    fn boot_one(&self, index: usize) -> Result<Machine> {
        let name = NAMES.get(index).context("two guests only")?;
        if index == 1 && self.plan.peer == Peer::Linux {
            let config = self.fabric.attach(index, GuestConfig::new(name));
            return Ok(Machine::Linux(self.lab.boot(&config)?));
        }
        let config = FreeBsdConfig {
            name: (*name).to_owned(),
            image: self.plan.image.clone(),
            login: self.plan.login.clone(),
            nic: self
                .fabric
                .sockets()
                .get(index)
                .context("no NIC for this guest")?
                .clone(),
            memory: MEMORY,
            processors: 2,
        };
        Ok(Machine::FreeBsd(FreeBsd::boot(&config, self.lab)?))
    }

    fn attach(&mut self) -> Outcome {
        let started = Instant::now();
        self.ends = self
            .machines
            .iter()
            .zip(ADDRESSES)
            .map(|(machine, address)| ready(machine, address))
            .collect::<Result<_>>()?;
        let detail: Vec<String> = self
            .ends
            .iter()
            .map(|end| match &end.device {
                Some(device) => format!("{}, {device}", end.interface),
                None => format!("{}, no RDMA", end.interface),
            })
            .collect();
        Ok(Found::Passed(
            Some(Figure::new(started.elapsed().as_secs_f64(), "s")),
            detail.join("; "),
        ))
    }

    /// Both guests, the client's first.
    fn pair(&self) -> Result<[(&Machine, &End); 2]> {
        match (&self.machines[..], &self.ends[..]) {
            ([alice, bob], [a, b]) => Ok([(alice, a), (bob, b)]),
            _ => bail!("two guests are needed"),
        }
    }

    /// What the first guest's driver left with the device.
    fn clean(&self, when: &str) -> Result<()> {
        let left = self.fabric.leftovers(0).with_context(|| when.to_owned())?;
        if !left.is_empty() {
            bail!("{when} left with the device: {}", left.join(", "));
        }
        Ok(())
    }

    fn reload(&mut self) -> Outcome {
        let [(alice, _), _] = self.pair()?;
        if !alice.has("devctl")? {
            return skipped("devctl");
        }
        if self.plan.reloads == 0 {
            return Ok(Found::Skipped("not asked for".into()));
        }
        // Detached, a device has its driver's name no more.
        let location = alice.check("sysctl -n dev.mlx5_core.0.%location", PATIENCE)?;
        let device = parse::pci_device(&location).context("mlx5_core0 is no PCI device?")?;
        let started = Instant::now();
        let rounds = self.plan.reloads;
        for round in 1..=rounds {
            alice
                .check(&format!("devctl detach {device}"), PATIENCE)
                .with_context(|| format!("detach {round}"))?;
            self.clean(&format!("detach {round}"))?;
            alice
                .check(&format!("devctl attach {device}"), PATIENCE)
                .with_context(|| format!("attach {round}"))?;
        }
        let end = ready(alice, ADDRESSES[0])?;
        if let Some(first) = self.ends.first_mut() {
            *first = end;
        }
        Ok(Found::Passed(
            Some(Figure::new(
                started.elapsed().as_secs_f64() / rounds as f64,
                "s",
            )),
            format!("each of {rounds}; 0 objects, 0 pages left each time"),
        ))
    }

    fn reboot(&mut self) -> Outcome {
        let started = Instant::now();
        let rounds = self.plan.reboots;
        for round in 1..=rounds {
            let fabric = self.fabric;
            let Some(Machine::FreeBsd(guest)) = self.machines.first_mut() else {
                bail!("no FreeBSD guest");
            };
            let mut left = None;
            guest
                .reboot(|| {
                    left = Some(fabric.leftovers(0)?);
                    Ok(())
                })
                .with_context(|| format!("reboot {round}"))?;
            let left = left.unwrap_or_default();
            if !left.is_empty() {
                bail!("reboot {round} left with the device: {}", left.join(", "));
            }
            let machine = self.machines.first().context("no guest")?;
            let end = ready(machine, ADDRESSES[0]).with_context(|| format!("reboot {round}"))?;
            if let Some(first) = self.ends.first_mut() {
                *first = end;
            }
        }
        Ok(Found::Passed(
            Some(Figure::new(
                started.elapsed().as_secs_f64() / rounds as f64,
                "s",
            )),
            format!("each of {rounds}; 0 objects, 0 pages left each time"),
        ))
    }

    fn capture(&mut self) -> Outcome {
        let Some(path) = self.fabric.capture()? else {
            return Ok(Found::Skipped("not asked for".into()));
        };
        let size = fs::metadata(&path)
            .with_context(|| format!("no capture {}", path.display()))?
            .len();
        // A section header and an interface description alone are under 100 bytes.
        if size < 100 {
            bail!("{} has no frames", path.display());
        }
        Ok(Found::Passed(
            Some(Figure::new(size as f64 / 1_048_576.0, "MiB")),
            path.display().to_string(),
        ))
    }

    fn dmesg(&mut self) -> Outcome {
        let mut found = Vec::new();
        for machine in &self.machines {
            let messages = machine.messages()?;
            fs::write(
                self.lab.logs().join(format!("{}.dmesg", machine.name())),
                &messages,
            )?;
            let lines = machine.complaints(&messages);
            found.extend(
                lines
                    .iter()
                    .map(|line| format!("{}: {line}", machine.name())),
            );
        }
        if !found.is_empty() {
            bail!(
                "{} lines that a healthy adapter would not cause:\n{}",
                found.len(),
                found.join("\n")
            );
        }
        passed("no warning or error")
    }
}

fn ready(machine: &Machine, address: Ipv4Addr) -> Result<End> {
    machine
        .attach()
        .and_then(|()| machine.configure(address))
        .with_context(|| format!("NIC of {}", machine.name()))
}

/// Runs one command as server and then the other as client. Both must end well. A client that fails while the server still waits is
/// tried again: there is no telling from outside, on both systems and for all tools, when a server listens.
fn serve(server: &Machine, client: &Machine, serve: &str, ask: &str) -> Result<(Output, Output)> {
    let serving = server.start(serve)?;
    let mut asked = client.exec(&format!("sleep 1; {ask}"), PATIENCE);
    for _ in 1..TRIES {
        if asked.as_ref().map_or(true, Output::ok) {
            break;
        }
        asked = client.exec(&format!("sleep 2; {ask}"), PATIENCE);
    }
    if !asked.as_ref().is_ok_and(Output::ok) {
        // The server may wait for ever for a client that gave up.
        serving.kill()?;
    }
    let served = serving.wait(PATIENCE);
    let asked = asked.with_context(|| match &served {
        Ok(served) => format!("the server said: {}", excerpt(&served.text)),
        Err(error) => format!("the server: {error:#}"),
    })?;
    let served = served.with_context(|| format!("the client said: {}", excerpt(&asked.text)))?;
    if !asked.ok() || !served.ok() {
        bail!(
            "client in {}, status {}: {}\nserver in {}, status {}: {}",
            client.name(),
            asked.status,
            excerpt(&asked.text),
            server.name(),
            served.status,
            excerpt(&served.text)
        );
    }
    Ok((served, asked))
}
