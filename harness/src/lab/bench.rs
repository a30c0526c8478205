//! What the data path does in a second, without guests: RDMA WRITE from doorbell to completion, two NICs in this
//! process, beside what copying the same bytes takes in the same run.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rocinante_wire::time::Time;
use serde::Serialize;

use crate::driver::fabric::{mac, power_on};
use crate::driver::vfio::Attached;
use crate::driver::{
    Access, Completion, Connection, Data, Driver, Function, GidEntry, Local, Mr, Mtu, QpConfig,
    RoceType, SendOp, SendWr, Service, mapped_gid,
};
use crate::serve::{NicSpec, Server, sockets_in};

/// At 64 KiB, RDMA WRITE reaches at least this part of memcpy.
const FLOOR_RATIO: f64 = 0.25;

/// At 8 bytes, at least this many messages a second.
const FLOOR_RATE: f64 = 1e6;

/// One measurement of one thing; several are taken and the best counts, since whatever else the machine does only
/// makes them worse.
const SAMPLE: Duration = Duration::from_millis(4);
const SAMPLES: usize = 100;

/// Work before anything is measured: after a time of idleness processors take seconds to be as fast as they can, and what
/// executes many instructions gains more by it than memcpy.
const WARM_UP: Duration = Duration::from_secs(4);

/// Completions that take longer than this do not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Messages under way.
const WINDOW: u64 = 32;

/// Memory of each NIC: source and target of the largest window, and queues.
const MEMORY: u64 = 128 << 20;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// What was measured.
    pub name: String,
    /// Not below its floor, if it has one.
    pub ok: bool,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// memcpy of messages of the same size, in the same unit.
    pub memcpy: Option<f64>,
    /// `value` divided by `memcpy`.
    pub ratio: Option<f64>,
    /// The least that passes: of `ratio` if there is one, else of `value`.
    pub floor: Option<f64>,
}

/// All figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Bench {
    /// Nothing is below its floor.
    pub ok: bool,
    /// In the order measured.
    pub tests: Vec<Measured>,
}

impl Bench {
    /// One line for each figure.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for test in &self.tests {
            let result = if test.ok { "ok" } else { "BELOW FLOOR" };
            // Writing to a string cannot fail.
            let _ = write!(text, "{:52} {:>8.2} {:6}", test.name, test.value, test.unit);
            if let (Some(memcpy), Some(ratio)) = (test.memcpy, test.ratio) {
                let _ = write!(text, " memcpy {memcpy:7.2}, ratio {ratio:.2}");
            }
            if let Some(floor) = test.floor {
                let _ = write!(text, "  floor {floor}");
            }
            let _ = writeln!(text, "  {result}");
        }
        text
    }
}

/// Measures everything whose name contains `only`.
pub fn run(only: &str) -> Result<Bench> {
    type Test = Box<dyn FnOnce(&str) -> Result<Measured>>;
    let mut tests: Vec<(String, Test)> = Vec::new();
    for (size, floor) in [(64 << 10, Some(FLOOR_RATIO)), (1 << 20, None)] {
        let name = format!("RDMA WRITE {}, one thread", bytes(size));
        tests.push((
            name,
            Box::new(move |name| bandwidth(name, size, floor, &mut in_process()?)),
        ));
    }
    for (name, batch, floor) in [
        ("RDMA WRITE 8 B, one thread", 1, Some(FLOOR_RATE)),
        ("RDMA WRITE 8 B, one thread, 16 to a doorbell", 16, None),
    ] {
        tests.push((
            name.to_owned(),
            Box::new(move |name| rate(name, batch, floor)),
        ));
    }
    for size in [64 << 10, 1 << 20] {
        let name = format!("RDMA WRITE {}, two engines, vfio-user", bytes(size));
        tests.push((
            name,
            Box::new(move |name| bandwidth(name, size, None, &mut Served::start()?.pair)),
        ));
    }
    tests.retain(|(name, _)| name.contains(only));
    if tests.is_empty() {
        bail!("no measurement has '{only}' in its name");
    }
    warm_up()?;
    let tests = tests
        .into_iter()
        .map(|(name, test)| test(&name).with_context(|| name.clone()))
        .collect::<Result<Vec<_>>>()?;
    let ok = tests.iter().all(|test| test.ok);
    Ok(Bench { ok, tests })
}

fn warm_up() -> Result<()> {
    let mut pair = in_process()?;
    let end = Instant::now() + WARM_UP;
    while Instant::now() < end {
        pair.sample(64 << 10, 1)?;
    }
    Ok(())
}

fn bytes(size: u64) -> String {
    if size >= 1 << 20 {
        format!("{} MiB", size >> 20)
    } else {
        format!("{} KiB", size >> 10)
    }
}

/// Two NICs with a connection, and the loop that carries frames if nobody else does.
struct Pair<F: Function> {
    ends: [Driver<F>; 2],
    cqn: u32,
    qpn: u32,
    source: Mr,
    target: Mr,
    /// Lets the NICs work, if they do not by themselves.
    turn: fn(&mut [Driver<F>; 2]),
}

impl<F: Function> Pair<F> {
    fn connect(mut ends: [Driver<F>; 2], turn: fn(&mut [Driver<F>; 2])) -> Result<Pair<F>> {
        let mut made = Vec::new();
        for (node, end) in ends.iter_mut().enumerate() {
            let entry = GidEntry {
                kind: RoceType::V2Ipv4,
                gid: mapped_gid([10, 0, 0, node as u8 + 1]),
                mac: mac(node),
                vlan: None,
            };
            end.set_gid(0, Some(&entry))?;
            let pd = end.alloc_pd()?;
            let cqn = end.create_cq(10)?;
            let buffer = end.pages.alloc(WINDOW << 20)?;
            // Pages that nobody has touched are all the same one, which would be in the cache for ever.
            end.write(buffer.iova, &vec![node as u8 + 1; buffer.len as usize])?;
            let mr = end.reg_buffer(pd, buffer, Access::ALL)?;
            let qpn = end.create_qp(&QpConfig::new(Service::Rc, pd, cqn))?;
            made.push((cqn, qpn, mr));
        }
        for (node, end) in ends.iter_mut().enumerate() {
            let peer = 1 - node;
            let gid = mapped_gid([10, 0, 0, peer as u8 + 1]);
            let mut to = Connection::new(made[peer].1, gid, mac(peer));
            to.mtu = Mtu::M4096;
            end.connect(made[node].1, &to)?;
        }
        let [(cqn, qpn, source), (_, _, target)] = made[..] else {
            bail!("two ends");
        };
        Ok(Pair {
            ends,
            cqn,
            qpn,
            source,
            target,
            turn,
        })
    }

    /// Writes messages of `size` bytes for the time of a sample: messages per second. `batch` of them are posted with
    /// one doorbell; every one is completed.
    fn sample(&mut self, size: u64, batch: u64) -> Result<f64> {
        let (mut posted, mut done) = (0u64, 0u64);
        let start = Instant::now();
        let mut last = start;
        loop {
            let more = last - start < SAMPLE;
            if more && posted + batch <= done + WINDOW {
                for _ in 0..batch {
                    let at = posted % WINDOW * size;
                    let op = SendOp::Write {
                        va: self.target.va + at,
                        rkey: self.target.key,
                    };
                    let gather = [self.source.sge(at, size as u32)];
                    let wr = SendWr::new(posted, op, Data::Sges(&gather));
                    self.ends[0].stage_send(self.qpn, &wr)?;
                    posted += 1;
                }
                self.ends[0].ring(self.qpn)?;
                continue;
            }
            if !more && posted == done {
                break;
            }
            (self.turn)(&mut self.ends);
            while let Some(completion) = self.ends[0].poll_cq(self.cqn)? {
                expect(&completion, done)?;
                done += 1;
            }
            last = Instant::now();
            if last - start > PATIENCE {
                bail!("{posted} posted, {done} completed, and no more");
            }
        }
        Ok(done as f64 / start.elapsed().as_secs_f64())
    }
}

fn expect(completion: &Completion, wr_id: u64) -> Result<()> {
    if !completion.is_ok() || completion.wr_id != wr_id {
        bail!("message {wr_id}: {completion:x?}");
    }
    Ok(())
}

fn in_process() -> Result<Pair<Local>> {
    let [a, b] = [0, 1].map(|node| -> Result<Driver<Local>> {
        let (local, pages) = power_on(node, MEMORY)?;
        Ok(Driver::attach(local, pages)?)
    });
    Pair::connect([a?, b?], exchange)
}

/// Carries frames between two NICs until neither has any.
fn exchange(ends: &mut [Driver<Local>; 2]) {
    let [a, b] = ends;
    let now = clock();
    (a.function.now, b.function.now) = (now, now);
    loop {
        let sent = carry(&mut a.function, &mut b.function);
        let answered = carry(&mut b.function, &mut a.function);
        if !sent && !answered {
            return;
        }
    }
}

/// Nanoseconds since the first call.
fn clock() -> Time {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    Time(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}

fn carry(from: &mut Local, to: &mut Local) -> bool {
    let mut any = false;
    while let Some(frame) = &from.nic.poll_transmit(from.now) {
        to.nic.receive(to.now, frame);
        any = true;
    }
    any
}

/// NICs served on sockets, each with its engine thread.
struct Served {
    pair: Pair<Attached>,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Served {
    fn start() -> Result<Served> {
        let folder = tempfile::tempdir().context("a folder for sockets")?;
        let specs: Vec<NicSpec> = sockets_in(folder.path(), 2)
            .into_iter()
            .enumerate()
            .map(|(node, socket)| NicSpec {
                mac: mac(node),
                ..NicSpec::new(socket)
            })
            .collect();
        let server = Server::start(&specs, None)?;
        let [a, b] = [0, 1].map(|node: usize| -> Result<Driver<Attached>> {
            let (function, pages) = Attached::connect(&specs[node].socket, MEMORY)?;
            Ok(Driver::attach(function, pages)?)
        });
        Ok(Served {
            pair: Pair::connect([a?, b?], |_| std::thread::yield_now())?,
            _server: server,
            _folder: folder,
        })
    }
}

fn bandwidth<F: Function>(
    name: &str,
    size: u64,
    floor: Option<f64>,
    pair: &mut Pair<F>,
) -> Result<Measured> {
    let gigabytes = |per_second: f64| per_second * size as f64 / 1e9;
    let (mut value, mut memcpy) = (0f64, 0f64);
    // As much memory as the NICs use.
    let room = (WINDOW * size) as usize;
    let (from, mut into) = (vec![1; room], vec![2; room]);
    for _ in 0..SAMPLES {
        memcpy = memcpy.max(gigabytes(copies(size as usize, &from, &mut into)));
        value = value.max(gigabytes(pair.sample(size, 1)?));
    }
    let ratio = value / memcpy;
    Ok(Measured {
        name: name.to_owned(),
        ok: floor.is_none_or(|floor| ratio >= floor),
        value,
        unit: "GB/s",
        memcpy: Some(memcpy),
        ratio: Some(ratio),
        floor,
    })
}

fn rate(name: &str, batch: u64, floor: Option<f64>) -> Result<Measured> {
    let mut pair = in_process()?;
    let mut value = 0f64;
    for _ in 0..SAMPLES {
        value = value.max(pair.sample(8, batch)?);
    }
    Ok(Measured {
        name: name.to_owned(),
        ok: floor.is_none_or(|floor| value >= floor),
        value: value / 1e6,
        unit: "M/s",
        memcpy: None,
        ratio: None,
        floor: floor.map(|floor| floor / 1e6),
    })
}

/// Copies of `size` bytes a second.
fn copies(size: usize, from: &[u8], into: &mut [u8]) -> f64 {
    let (mut done, start) = (0u64, Instant::now());
    while start.elapsed() < SAMPLE {
        for (from, into) in from.chunks(size).zip(into.chunks_mut(size)) {
            into.copy_from_slice(black_box(from));
            black_box(&mut *into);
            done += 1;
        }
    }
    done as f64 / start.elapsed().as_secs_f64()
}
