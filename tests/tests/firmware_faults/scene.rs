//! Two guests, of which one has an adapter with faults: what happens to it, part by part.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rocinante_harness::faults::{Faults, injection};
use rocinante_harness::lab::Emulated;
use rocinante_harness::lab::demo::Fabric;
use rocinante_tests::guests::{ADDRESSES, PATIENCE, Pair};
use rocinante_wire::fault::RuleCounters;

/// The guest whose adapter is at fault, the other one's peer.
pub const ALICE: usize = 0;

/// Commands time out after a second instead of a minute, and health is looked at more often.
const IMPATIENT: &str = r#"
[[timeout]]
name = "impatient"
nic = "nic0"
command = "1s"
health-poll = "200ms"
reclaim-pages = "500ms"
"#;

/// Two guests, and what goes wrong at the adapter of the first.
pub struct Scene<'a> {
    pub pair: Pair<'a>,
    part: usize,
    failed: Vec<String>,
}

impl<'a> Scene<'a> {
    pub fn boot(lab: &'a rocinante_harness::lab::Lab, fabric: &'a Emulated) -> Self {
        let faults = IMPATIENT.parse().expect("faults");
        fabric.server().set_faults(faults).expect("faults");
        let scene = Scene {
            pair: Pair::boot(lab, fabric),
            part: 0,
            failed: Vec::new(),
        };
        scene.sh("mount -t debugfs none /sys/kernel/debug 2>/dev/null; dmesg -n 1; true");
        scene
    }

    /// A part of the test: what the kernel says meanwhile is its. One that fails leaves the others their chance.
    pub fn part(&mut self, name: &str, act: impl FnOnce(&mut Self)) {
        let started = Instant::now();
        self.part += 1;
        self.sh(&format!("echo part {} {name} >/dev/kmsg", self.part));
        let ended = catch_unwind(AssertUnwindSafe(|| act(self)));
        println!("{:5.1} s {name}", started.elapsed().as_secs_f64());
        if ended.is_err() {
            self.failed.push(name.to_owned());
            self.calm();
        }
    }

    #[track_caller]
    pub fn end(self) {
        assert!(self.failed.is_empty(), "failed: {}", self.failed.join("; "));
    }

    #[track_caller]
    pub fn sh(&self, command: &str) -> String {
        self.pair.sh(ALICE, command)
    }

    /// From now on these faults are there, beside the timeouts.
    #[track_caller]
    pub fn faults(&self, text: &str) {
        let all = format!("{IMPATIENT}{text}");
        let faults: Faults = all.parse().unwrap_or_else(|e| panic!("{text}\n{e}"));
        self.pair
            .fabric
            .server()
            .set_faults(faults)
            .expect("faults");
    }

    pub fn calm(&self) {
        self.faults("");
    }

    #[track_caller]
    pub fn inject(&self, kind: &str, keys: &str) {
        let injection = injection(kind, keys).unwrap_or_else(|e| panic!("{kind} {keys}: {e}"));
        let done = self.pair.fabric.server().inject(ALICE, injection);
        done.expect("the NIC runs");
    }

    pub fn hits(&self, name: &str) -> u64 {
        let counters = self.pair.fabric.server().fault_counters();
        let found = counters.into_iter().find(|counters| counters.name == name);
        found.map_or(0, |RuleCounters { hits, .. }| hits)
    }

    /// Waits until the kernel has said something in this part.
    #[track_caller]
    pub fn says(&self, pattern: &str) {
        let said = format!(
            "dmesg | sed '1,/part {} /d' | grep -q -- '{pattern}'",
            self.part
        );
        if let Err(error) = self.pair.guests[ALICE].wait_until(&said, PATIENCE / 2) {
            panic!("'{pattern}' is not said: {error:#}\n{}", self.said());
        }
    }

    /// What the kernel has said in this part.
    pub fn said(&self) -> String {
        self.sh(&format!("dmesg | sed '1,/part {} /d'", self.part))
    }

    /// Pages that the adapter has.
    pub fn pages(&self) -> usize {
        let inventory = self.pair.fabric.server().inventory(ALICE);
        inventory.expect("the NIC runs").pages
    }

    #[track_caller]
    pub fn wait_for_pages(&self, wanted: impl Fn(usize) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !wanted(self.pages()) {
            assert!(
                Instant::now() < end,
                "{} pages\n{}",
                self.pages(),
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a health reporter has counted an error.
    #[track_caller]
    pub fn reported(&self, name: &str) {
        let shown = format!("{} | grep -q 'error [1-9]'", reporter(name, "show"));
        if let Err(error) = self.pair.guests[ALICE].wait_until(&shown, PATIENCE) {
            panic!(
                "{error:#}\n{}\n{}",
                self.sh(&reporter(name, "show")),
                self.said()
            );
        }
    }

    /// Runs a command that has to fail.
    #[track_caller]
    pub fn fails(&self, command: &str) -> String {
        let output = self.pair.guests[ALICE]
            .exec(command, PATIENCE)
            .expect("it ends");
        assert_ne!(
            output.status,
            0,
            "{command}\n{}\n{}",
            output.text,
            self.said()
        );
        output.text
    }

    /// The adapter works, and what is there is as it was.
    #[track_caller]
    pub fn works(&mut self) {
        self.sh(&format!("ping -c 3 -i 0.2 -W 20 {}", ADDRESSES[1]));
        self.pair.pingpong("rc_pingpong -c -n 50");
    }

    /// A pingpong whose client, at the adapter at fault, fails. What it said.
    #[track_caller]
    pub fn pingpong_fails(&mut self) -> String {
        let port = self.pair.port();
        let command = |n: usize| {
            let end = &self.pair.ends[n];
            format!(
                "timeout 8 ibv_rc_pingpong -c -n 50 -p {port} -d {} -g {}",
                end.device, end.gid_index
            )
        };
        let server = self.pair.spawn(1, &command(1));
        self.pair.listening(1, port);
        let text = self.fails(&format!("{} {}", command(0), ADDRESSES[1]));
        server.kill().expect("kill");
        server.wait(PATIENCE).expect("the server ends");
        text
    }

    pub fn unload(&self) {
        let fabric = self.pair.fabric;
        fabric
            .unload(&self.pair.guests[ALICE])
            .expect("the driver goes");
    }

    /// Loads the driver, which finds the adapter healthy.
    pub fn load(&mut self) {
        self.pair.ends[ALICE] = self.pair.configure(ALICE);
    }

    /// The driver has recovered: the interface is there again.
    pub fn back(&mut self) {
        self.pair.ends[ALICE] =
            rocinante_harness::lab::configure(&self.pair.guests[ALICE], ADDRESSES[ALICE])
                .unwrap_or_else(|error| panic!("back: {error:#}\n{}", self.said()));
    }
}

/// `devlink health` of a reporter of the adapter.
pub fn reporter(name: &str, what: &str) -> String {
    let nic = "pci/$(basename $(dirname $(grep -l 0x15b3 /sys/bus/pci/devices/*/vendor)))";
    format!("devlink health {what} {nic} reporter {name}")
}
