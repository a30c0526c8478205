//! Pairs of real guests with emulated NICs: what the tests that boot them share.
//!
//! What they need (QEMU, a kernel, tools) is prepared in the user's cache folder as the demo does.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocinante_harness::lab::demo::Fabric;
use rocinante_harness::lab::{
    self, Emulated, Endpoint, Guest, GuestConfig, Job, Lab, LabConfig, Output, Progress, complaints,
};

/// What anything in a guest may take: an emulated one on a loaded machine is slow.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The guests' addresses, of TEST-NET-1 (RFC 5737).
pub const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];

/// One pair of guests at a time: the machine may have no more than two processors.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lab, with the logs of test `name` in a folder of that name in `place`, which is the caller's `CARGO_TARGET_TMPDIR`.
pub fn lab(place: &str, name: &str) -> Lab {
    let config = LabConfig {
        logs: Some(Path::new(place).join(name)),
        ..LabConfig::default()
    };
    Lab::prepare(&config, &Progress::shown()).unwrap_or_else(|error| panic!("lab: {error:#}"))
}

/// Two guests with their NICs configured.
pub struct Pair<'a> {
    /// Boots them.
    pub lab: &'a Lab,
    /// Has their NICs.
    pub fabric: &'a Emulated,
    /// The guests.
    pub guests: Vec<Guest>,
    /// Their NICs, as they name them.
    pub ends: Vec<Endpoint>,
    shape: GuestConfig,
    port: u16,
}

impl<'a> Pair<'a> {
    /// Boots guests of one processor, loads their drivers and gives their interfaces [`ADDRESSES`].
    pub fn boot(lab: &'a Lab, fabric: &'a Emulated) -> Self {
        Self::boot_with(lab, fabric, 1)
    }

    /// The same with guests of `processors`.
    pub fn boot_with(lab: &'a Lab, fabric: &'a Emulated, processors: u32) -> Self {
        let mut shape = GuestConfig::new("");
        shape.processors = processors;
        Self::boot_as(lab, fabric, shape)
    }

    /// The same with guests that are like `shape` but for their names and NICs.
    pub fn boot_as(lab: &'a Lab, fabric: &'a Emulated, shape: GuestConfig) -> Self {
        let mut pair = Pair {
            lab,
            fabric,
            guests: Vec::new(),
            ends: Vec::new(),
            shape,
            port: 20000,
        };
        let configs = [0, 1].map(|n| pair.config(n));
        for (n, guest) in lab.boot_all(&configs).into_iter().enumerate() {
            pair.guests
                .push(guest.unwrap_or_else(|error| panic!("guest {n}: {error:#}")));
        }
        pair.ends = vec![pair.configure(0), pair.configure(1)];
        pair
    }

    /// What guest `n` is booted with.
    pub fn config(&self, n: usize) -> GuestConfig {
        let mut config = self.shape.clone();
        config.name = ["alice", "bob"][n].to_owned();
        self.fabric.attach(n, config)
    }

    /// Loads the driver of guest `n` and makes its interface ready.
    pub fn configure(&self, n: usize) -> Endpoint {
        let guest = &self.guests[n];
        self.fabric
            .load(guest)
            .unwrap_or_else(|error| panic!("driver: {error:#}"));
        lab::configure(guest, ADDRESSES[n]).unwrap_or_else(|error| panic!("NIC: {error:#}"))
    }

    /// Runs `command` in guest `n`, which must succeed.
    #[track_caller]
    pub fn sh(&self, n: usize, command: &str) -> String {
        match self.guests[n].check(command, PATIENCE) {
            Ok(text) => text,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Runs `command` in both guests at a time; both must succeed.
    #[track_caller]
    pub fn both(&self, command: &str) -> [String; 2] {
        let other = self.spawn(1, command);
        [self.sh(0, command), finish(other, command)]
    }

    /// Starts `command` in guest `n`.
    #[track_caller]
    pub fn spawn(&self, n: usize, command: &str) -> Job {
        match self.guests[n].spawn(command) {
            Ok(job) => job,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// A port that no earlier connection lingers on.
    pub fn port(&mut self) -> u16 {
        self.port += 1;
        self.port
    }

    /// Waits until something in guest `n` listens at a TCP port.
    #[track_caller]
    pub fn listening(&self, n: usize, port: u16) {
        let listening = format!("grep -q ':{port:04X} .* 0A ' /proc/net/tcp /proc/net/tcp6");
        if let Err(error) = self.guests[n].wait_until(&listening, PATIENCE) {
            panic!("nothing listens at {port}: {error:#}");
        }
    }

    /// Runs `tool` as server in the second guest and as client in the first; `device` is the
    /// option that names the RDMA device, the GID index goes to `gid`.
    pub fn run(&mut self, tool: &str, device: &str, gid: &str) -> String {
        let port = self.port();
        let command = |end: &Endpoint| {
            format!(
                "{tool} -p {port} {device} {} {gid} {}",
                end.device, end.gid_index
            )
        };
        let server = self.spawn(1, &command(&self.ends[1]));
        self.listening(1, port);
        let client = format!("{} {}", command(&self.ends[0]), ADDRESSES[1]);
        let client = self.guests[0].exec(&client, PATIENCE).expect("client");
        let server = server.wait(PATIENCE).expect("server ends");
        assert!(
            client.ok() && server.ok(),
            "{tool}: client {}:\n{}\nserver {}:\n{}",
            client.status,
            client.text,
            server.status,
            server.text
        );
        client.text
    }

    /// One of the ping-pongs of ibverbs-utils, such as `rc_pingpong`, with its options.
    pub fn pingpong(&mut self, options: &str) {
        self.run(&format!("ibv_{options}"), "-d", "-g");
    }

    /// One of perftest's programs, such as `write_bw`, with its options.
    pub fn perftest(&mut self, options: &str) {
        self.run(&format!("ib_{options} -F"), "-d", "-x");
    }

    /// No guest's kernel has complained about its NIC. What it has said is kept beside the other logs.
    #[track_caller]
    pub fn assert_no_complaints(&self) {
        for guest in &self.guests {
            let dmesg = guest.dmesg().expect("dmesg");
            let log = self.lab.logs().join(format!("{}.dmesg", guest.name()));
            fs::write(log, &dmesg).expect("a log");
            let lines = complaints(&dmesg);
            assert!(lines.is_empty(), "{}:\n{lines:#?}", guest.name());
        }
    }
}

/// Waits for the end of a job that must succeed; `what` it was is told when it does not.
#[track_caller]
pub fn finish(job: Job, what: &str) -> String {
    match job.wait(PATIENCE) {
        Ok(Output { status: 0, text }) => text,
        Ok(Output { status, text }) => panic!("{what}: status {status}: {text}"),
        Err(error) => panic!("{what}: {error:#}"),
    }
}
