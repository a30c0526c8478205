//! The demonstration: two guests, a NIC each, and the tools that people use to try RDMA, run between them.
//!
//! Knows the tests and their order. It does not know how NICs are served: that is behind [`Fabric`].

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::endpoint::{self, Endpoint};
use super::guest::{Guest, GuestConfig, excerpt};
use super::progress::Progress;
use super::report::{Figure, Report, TestResult};
use super::{Lab, dmesg, tools};

/// The NICs of a run, on one network, guest `n` having the `n`th.
pub trait Fabric {
    /// Gives a guest its NIC.
    fn attach(&self, guest: usize, config: GuestConfig) -> GuestConfig;

    /// Makes the RDMA device appear in a booted guest.
    fn load(&self, guest: &Guest) -> Result<()>;

    /// Makes it go away again.
    fn unload(&self, guest: &Guest) -> Result<()>;

    /// What the guest's driver still holds of the device: pages, objects. Asked after [`Fabric::unload`], so all of it is lost.
    fn leftovers(&self, guest: usize) -> Result<Vec<String>>;

    /// The capture of all frames so far, complete on disk; `None` if this fabric makes none.
    fn capture(&self) -> Result<Option<PathBuf>>;
}

/// What the demonstration asks of the figures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floors {
    /// Least average of 64 KiB writes, in MiB/s.
    pub write_bandwidth: Option<f64>,
    /// Greatest median of 8-byte writes, in µs.
    pub write_latency: Option<f64>,
}

/// The two guests, left running.
pub struct Demo {
    /// What was found.
    pub report: Report,
    /// The guests that booted.
    pub guests: Vec<Guest>,
}

const NAMES: [&str; 2] = ["alice", "bob"];
/// TEST-NET-1 of RFC 5737.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
const DEADLINE: Duration = Duration::from_secs(90);
const RELOADS: usize = 3;

type Outcome = Result<(Option<Figure>, String)>;

/// Boots the guests and runs the tests. Failures are in the report; nothing is thrown.
pub fn run(lab: &Lab, fabric: &dyn Fabric, floors: Floors, progress: &Progress) -> Demo {
    let mut run = Run {
        fabric,
        floors,
        progress,
        guests: Vec::new(),
        ends: Vec::new(),
        port: 18515,
        report: Report {
            kernel: lab.kernel().release.clone(),
            qemu: lab.qemu().version().unwrap_or_default(),
            accelerator: format!("{:?}", lab.accelerator()).to_lowercase(),
            logs: lab.logs().display().to_string(),
            ..Report::default()
        },
    };
    let up = run.test("boot", |run| run.boot(lab)) && run.test("attach", Run::attach);
    for (name, test) in TESTS {
        if up {
            run.test(name, test);
        } else {
            let why = "not run: the guests have no NICs".to_owned();
            run.report
                .add(TestResult::failed(name, why, Duration::ZERO));
        }
    }
    if !run.guests.is_empty() {
        run.test("dmesg", |run| run.dmesg(lab));
    }
    Demo {
        report: run.report,
        guests: run.guests,
    }
}

type Test = fn(&mut Run<'_>) -> Outcome;

const TESTS: &[(&str, Test)] = &[
    ("ping", |run| run.ping()),
    ("iperf3", |run| run.iperf3()),
    ("ibv_devinfo", |run| run.devinfo()),
    ("ibv_rc_pingpong", |run| {
        run.pingpong("ibv_rc_pingpong -c -s 8192")
    }),
    ("ibv_ud_pingpong", |run| {
        run.pingpong("ibv_ud_pingpong -c -s 1024")
    }),
    ("rping", |run| run.rping()),
    // Before those that leave the capture with much to write.
    ("ib_write_lat", |run| {
        let ceiling = run.floors.write_latency;
        run.latency("ib_write_lat", 8, ceiling)
    }),
    ("ib_send_lat", |run| run.latency("ib_send_lat", 8, None)),
    ("ib_write_bw", |run| {
        let floor = run.floors.write_bandwidth;
        run.bandwidth("ib_write_bw", 65536, 2000, floor)
    }),
    ("ib_read_bw", |run| {
        run.bandwidth("ib_read_bw", 65536, 2000, None)
    }),
    ("ib_send_bw", |run| {
        run.bandwidth("ib_send_bw", 65536, 2000, None)
    }),
    ("ib_atomic_bw", |run| {
        run.bandwidth("ib_atomic_bw", 8, 2000, None)
    }),
    ("reload", |run| run.reload()),
    ("ibv_rc_pingpong after reload", |run| {
        run.pingpong("ibv_rc_pingpong -c -s 8192")
    }),
    ("capture", |run| run.capture()),
];

struct Run<'a> {
    fabric: &'a dyn Fabric,
    floors: Floors,
    progress: &'a Progress,
    guests: Vec<Guest>,
    ends: Vec<Endpoint>,
    port: u16,
    report: Report,
}

impl Run<'_> {
    fn test(&mut self, name: &str, body: impl FnOnce(&mut Self) -> Outcome) -> bool {
        let started = Instant::now();
        let outcome = {
            let _step = self.progress.step(name);
            body(self)
        };
        let took = started.elapsed();
        let result = match outcome {
            Ok((figure, detail)) => TestResult::passed(name, figure, detail, took),
            Err(error) => TestResult::failed(name, format!("{error:#}"), took),
        };
        let ok = result.ok;
        self.report.add(result);
        ok
    }

    fn boot(&mut self, lab: &Lab) -> Outcome {
        let started = Instant::now();
        let fabric = self.fabric;
        let configs = [0, 1].map(|index| fabric.attach(index, GuestConfig::new(NAMES[index])));
        let booted = lab.boot_all(&configs);
        for guest in booted {
            self.guests.push(guest?);
        }
        let figure = Figure::new(started.elapsed().as_secs_f64(), "s");
        Ok((Some(figure), format!("{} and {}", NAMES[0], NAMES[1])))
    }

    /// Loads the drivers in both guests at a time and configures what appears.
    fn attach(&mut self) -> Outcome {
        let started = Instant::now();
        self.ends = self.configure_all()?;
        let end = &self.ends[0];
        let detail = format!("{}, {}", end.device, end.interface);
        Ok((
            Some(Figure::new(started.elapsed().as_secs_f64(), "s")),
            detail,
        ))
    }

    fn configure_all(&self) -> Result<Vec<Endpoint>> {
        let fabric = self.fabric;
        for guest in &self.guests {
            fabric
                .load(guest)
                .with_context(|| format!("driver of {}", guest.name()))?;
        }
        self.guests
            .iter()
            .zip(ADDRESSES)
            .map(|(guest, address)| {
                endpoint::configure(guest, address)
                    .with_context(|| format!("NIC of {}", guest.name()))
            })
            .collect()
    }

    fn ping(&mut self) -> Outcome {
        let command = format!("ping -c 20 -i 0.1 -W 2 {}", ADDRESSES[1]);
        let output = self.guests[0].exec(&command, DEADLINE)?;
        let average = tools::ping(&output.text)?;
        // Twice the payload of a standard frame, so that the larger MTU is used.
        let command = format!("ping -c 5 -i 0.1 -W 2 -M do -s 3000 {}", ADDRESSES[1]);
        tools::ping(&self.guests[0].exec(&command, DEADLINE)?.text).context("of 3000 bytes")?;
        Ok((
            Some(Figure::new(average * 1000.0, "µs")),
            "round trip; also with 3000 bytes".into(),
        ))
    }

    fn iperf3(&mut self) -> Outcome {
        let port = self.next_port();
        let (_, client) = self.serve(
            &format!("iperf3 --server --one-off --port {port}"),
            &listens(port),
            &format!(
                "iperf3 --json --bytes 50M --port {port} --client {}",
                ADDRESSES[1]
            ),
        )?;
        let stream = tools::iperf3(&client)?[0];
        if stream.received == 0 {
            bail!("nothing was received of {} bytes", stream.sent);
        }
        let detail = format!(
            "TCP, {} MiB; {} segments sent again",
            stream.sent >> 20,
            stream.retransmits
        );
        Ok((Some(Figure::new(stream.rate / 1e6, "Mbit/s")), detail))
    }

    fn rping(&mut self) -> Outcome {
        const PINGS: usize = 50;
        let port = self.next_port();
        let what = format!("-a {} -p {port} -C {PINGS} -S 1000 -V -v", ADDRESSES[1]);
        // The kernel's connection manager listens, where no socket is.
        let ready = format!("rdma resource show cm_id | grep -q 'LISTEN.*:{port} '");
        let (server, client) = self.serve(
            &format!("rping -s {what}"),
            &ready,
            &format!("rping -c {what}"),
        )?;
        for (end, text) in [("server", server), ("client", client)] {
            let count = tools::rping(&text).context(end)?;
            if count != PINGS {
                bail!("the {end} saw {count} of {PINGS} pings");
            }
        }
        Ok((
            None,
            format!("connection manager; {PINGS} of 1000 bytes, data verified at both ends"),
        ))
    }

    fn devinfo(&mut self) -> Outcome {
        let mut detail = String::new();
        for (guest, end) in self.guests.iter().zip(&self.ends) {
            let text = guest.check(&format!("ibv_devinfo -v -d {}", end.device), DEADLINE)?;
            let state = tools::devinfo(&text, "state").unwrap_or("no state");
            if !state.starts_with("PORT_ACTIVE") {
                bail!("in {}: {state}", guest.name());
            }
            let field = |name| tools::devinfo(&text, name).unwrap_or("?");
            detail = format!(
                "PORT_ACTIVE, {}, firmware {}, active MTU {}",
                field("link_layer"),
                field("fw_ver"),
                field("active_mtu")
            );
        }
        Ok((None, detail))
    }

    fn pingpong(&mut self, tool: &str) -> Outcome {
        let (server, client) = self.pair(tool, |end| {
            format!("-d {} -g {}", end.device, end.gid_index)
        })?;
        tools::pingpong(&server).context("server")?;
        let rate = tools::pingpong(&client).context("client")?;
        Ok((
            Some(Figure::new(rate, "Mbit/s")),
            "data verified at both ends".into(),
        ))
    }

    fn bandwidth(&mut self, tool: &str, size: u32, iterations: u32, floor: Option<f64>) -> Outcome {
        // ib_atomic_bw has one size only, and no option for it.
        let sized = if tool == "ib_atomic_bw" {
            String::new()
        } else {
            format!(" -s {size}")
        };
        let command = format!("{tool}{sized} -n {iterations}");
        let (_, client) = self.pair(&command, perftest_arguments)?;
        let rate = tools::bandwidth(&client, size)?;
        if let Some(floor) = floor.filter(|floor| rate < *floor) {
            bail!("{rate:.1} MiB/s is below the floor of {floor} MiB/s");
        }
        Ok((
            Some(Figure::new(rate, "MiB/s")),
            format!("{iterations} of {size} bytes"),
        ))
    }

    fn latency(&mut self, tool: &str, size: u32, ceiling: Option<f64>) -> Outcome {
        let (_, client) = self.pair(&format!("{tool} -s {size} -n 1000"), perftest_arguments)?;
        let (typical, average) = tools::latency(&client, size)?;
        if let Some(ceiling) = ceiling.filter(|ceiling| typical > *ceiling) {
            bail!("{typical:.1} µs is above the ceiling of {ceiling} µs");
        }
        let detail = format!("median of 1000, {size} bytes; average {average:.1} µs");
        Ok((Some(Figure::new(typical, "µs")), detail))
    }

    /// Runs a tool as server in the second guest and as client in the first. Both must end well.
    fn pair(
        &mut self,
        tool: &str,
        arguments: impl Fn(&Endpoint) -> String,
    ) -> Result<(String, String)> {
        let port = self.next_port();
        let command = |end: &Endpoint| format!("{tool} -p {port} {}", arguments(end));
        let (server, client) = (command(&self.ends[1]), command(&self.ends[0]));
        let client = format!("{client} {}", self.ends[1].address);
        self.serve(&server, &listens(port), &client)
    }

    /// A port that no earlier connection lingers on.
    fn next_port(&mut self) -> u16 {
        self.port += 1;
        self.port
    }

    /// Runs `serve` in the second guest and, as soon as `ready` holds there, `ask` in the first. Both must end well.
    fn serve(&self, serve: &str, ready: &str, ask: &str) -> Result<(String, String)> {
        let [client, server] = &self.guests[..] else {
            bail!("two guests are needed");
        };
        let serving = server.spawn(serve)?;
        let gone = format!("test ! -d {}", serving.folder());
        server.wait_until(&format!("{ready} || {gone}"), DEADLINE)?;
        let asked = client.exec(ask, DEADLINE);
        let failed = !asked.as_ref().is_ok_and(|output| output.ok());
        if failed {
            // The server may wait for ever for a client that gave up.
            serving.kill()?;
        }
        let served = serving.wait(Duration::from_secs(20));
        let (asked, served) = match (asked, served) {
            (Ok(asked), Ok(served)) => (asked, served),
            (Err(error), Ok(served)) => {
                return Err(error.context(format!("the server said: {}", excerpt(&served.text))));
            }
            (Ok(asked), Err(error)) => {
                return Err(error.context(format!("the client said: {}", excerpt(&asked.text))));
            }
            (Err(error), Err(_)) => return Err(error),
        };
        if !asked.ok() || !served.ok() {
            bail!(
                "client, status {}: {}\nserver, status {}: {}",
                asked.status,
                excerpt(&asked.text),
                served.status,
                excerpt(&served.text)
            );
        }
        Ok((served.text, asked.text))
    }

    /// Removes and loads the first guest's driver, and looks each time whether it left anything with the device.
    fn reload(&mut self) -> Outcome {
        let started = Instant::now();
        let guest = self.guests.first().context("no guest")?;
        for round in 1..=RELOADS {
            self.fabric
                .unload(guest)
                .with_context(|| format!("unload {round}"))?;
            let left = self.fabric.leftovers(0)?;
            if !left.is_empty() {
                bail!("unload {round} left with the device: {}", left.join(", "));
            }
            self.fabric
                .load(guest)
                .with_context(|| format!("load {round}"))?;
        }
        self.ends[0] = endpoint::configure(guest, ADDRESSES[0])?;
        let figure = Figure::new(started.elapsed().as_secs_f64() / RELOADS as f64, "s");
        Ok((
            Some(figure),
            format!("each of {RELOADS}; nothing left behind"),
        ))
    }

    fn capture(&mut self) -> Outcome {
        let Some(path) = self.fabric.capture()? else {
            return Ok((None, "none is made by these NICs".into()));
        };
        let size = fs::metadata(&path)
            .with_context(|| format!("no capture {}", path.display()))?
            .len();
        // A section header and an interface description alone are under 100 bytes.
        if size < 100 {
            bail!("{} has no frames", path.display());
        }
        Ok((
            Some(Figure::new(size as f64 / 1_048_576.0, "MiB")),
            path.display().to_string(),
        ))
    }

    fn dmesg(&mut self, lab: &Lab) -> Outcome {
        let mut found = Vec::new();
        for guest in &self.guests {
            let raw = guest.dmesg()?;
            fs::write(lab.logs().join(format!("{}.dmesg", guest.name())), &raw)?;
            let lines = dmesg::complaints(&raw);
            found.extend(lines.iter().map(|line| format!("{}: {line}", guest.name())));
        }
        if !found.is_empty() {
            bail!(
                "{} lines that a healthy adapter would not cause:\n{}",
                found.len(),
                found.join("\n")
            );
        }
        Ok((None, "no warning or error".into()))
    }
}

/// A command that says whether something listens at a TCP port.
fn listens(port: u16) -> String {
    format!("grep -q ':{port:04X} .* 0A ' /proc/net/tcp /proc/net/tcp6")
}

fn perftest_arguments(end: &Endpoint) -> String {
    // -F: an emulated processor has no frequency to warn about.
    format!("-F -d {} -x {}", end.device, end.gid_index)
}
