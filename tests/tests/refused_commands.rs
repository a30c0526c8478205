//! Each kind of command that Linux' driver gives when it attaches, takes its interface up, makes queues for programs and
//! goes is refused once, in turn: the driver fails or does without, its kernel says nothing worse than that,
//! what it had made is given back, and the next attempt works. With `REFUSE=every` in the environment it is each
//! command there is instead of the first of each kind, which takes a quarter of an hour.
//!
//! Beside that, a second adapter never ends initializing: the driver waits for it for two minutes, and gives up.

use std::time::{Duration, Instant};

use rocinante_device::mlx5::leak::Inventory;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_harness::faults::Faults;
use rocinante_harness::lab::demo::Fabric;
use rocinante_harness::lab::{Emulated, Guest, GuestConfig, alarms, complaints};
use rocinante_tests::guests::{PATIENCE, alone, lab};

/// Pages that do not come back are not waited for.
const IMPATIENT: &str = r#"
[[timeout]]
name = "impatient"
reclaim-pages = "500ms"
"#;

/// How long Linux waits for an adapter to initialize (`FW_PRE_INIT_TIMEOUT`).
const FW_PRE_INIT: Duration = Duration::from_secs(120);

/// The second adapter.
const STUCK: &str = r#"
[[health]]
name = "stuck"
nic = "nic1"
initializing = true
"#;

/// What Linux 6.12 does not survive (docs/findings.md): command, and which of those in a phase.
const FINDINGS: &[(&str, &str, &[u64])] = &[
    // The second group of each of four tables.
    ("attach", "CREATE_FLOW_GROUP", &[2, 4, 6, 8]),
];

/// The addresses of both adapters.
const NAMES: &str =
    "set -- $(grep -l 0x15b3 /sys/bus/pci/devices/*/vendor | cut -d/ -f6); nic=$1; stuck=$2";

/// Attaching without the module being loaded anew, which takes longer than attaching.
const ATTACH: &str = "echo $nic >/sys/bus/pci/drivers/mlx5_core/bind";
const DETACH: &str =
    "ip link set eth0 down 2>/dev/null; echo $nic >/sys/bus/pci/drivers/mlx5_core/unbind";
const UP: &str = "ip link set eth0 up && ip address replace 192.0.2.1/24 dev eth0";
const DOWN: &str = "ip address flush dev eth0; ip link set eth0 down";
/// The adapter with itself.
const QUEUES: &str = "for kind in rc srq xsrq; do timeout 5 ibv_${kind}_pingpong -d mlx5_0 -g 0 -n 3 & \
     for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; grep -q ':4853 .* 0A ' /proc/net/tcp /proc/net/tcp6 && break; done; \
     timeout 5 ibv_${kind}_pingpong -d mlx5_0 -g 0 -n 3 127.0.0.1; wait; done";

/// Kinds of objects, and how many of each.
type Objects = Vec<(&'static str, usize)>;

/// A guest and the adapter that refuses.
struct Scene<'a> {
    fabric: &'a Emulated,
    guest: Guest,
    /// The second adapter is initializing.
    stuck: bool,
    wrong: Vec<String>,
}

impl Scene<'_> {
    fn faults(&self, text: &str) {
        let stuck = if self.stuck { STUCK } else { "" };
        let faults: Faults = format!("{IMPATIENT}{stuck}{text}").parse().expect("faults");
        self.fabric.server().set_faults(faults).expect("faults");
    }

    /// Runs a command, whatever comes of it.
    #[track_caller]
    fn run(&self, command: &str) -> bool {
        let command = format!("{NAMES}; {command}");
        match self.guest.exec(&command, PATIENCE) {
            Ok(output) => output.ok(),
            Err(error) => panic!("{command}: {error:#}\n{}", self.said()),
        }
    }

    #[track_caller]
    fn must(&self, command: &str) {
        assert!(self.run(command), "{command}\n{}", self.said());
    }

    fn said(&self) -> String {
        self.guest
            .dmesg()
            .unwrap_or_else(|error| format!("{error:#}"))
    }

    fn inventory(&self) -> Inventory {
        let inventory = self.fabric.server().inventory(0);
        inventory.expect("the NIC runs")
    }

    /// The commands of what `act` does, and how many of each.
    fn survey(&self, act: &str) -> Vec<(&'static str, u64)> {
        let entries = Opcode::ALL.iter().map(|opcode| {
            let name = opcode.name();
            format!("[[command]]\nname = \"{name}\"\nmatch = {{ opcode = \"{name}\" }}\nnth = 1_000_000_000\naction = \"ignore\"\n")
        });
        self.faults(&entries.collect::<String>());
        self.must(act);
        let counters = self.fabric.server().fault_counters();
        let given = Opcode::ALL.iter().filter_map(|opcode| {
            let counter = counters
                .iter()
                .find(|counter| counter.name == opcode.name())?;
            (counter.matches > 0).then_some((opcode.name(), counter.matches))
        });
        let given = given.collect();
        self.faults("");
        given
    }

    /// One command after the other is refused while `act` is done; each time `before` is done first and `after` afterwards.
    fn refuse(&mut self, phase: &str, [before, act, after]: [&str; 3], leaves: bool) {
        let started = Instant::now();
        let every = std::env::var("REFUSE").is_ok_and(|what| what == "every");
        self.must(&format!("{before}; true"));
        let given = self.survey(act);
        self.must(after);
        let mut count = 0;
        for (opcode, times) in given {
            // A question that is not answered is asked most while attaching.
            if !every && phase != "attach" && opcode.starts_with("QUERY_") {
                continue;
            }
            for nth in 1..=if every { times } else { 1 } {
                let known = FINDINGS.iter().any(|(in_phase, known, which)| {
                    *in_phase == phase && *known == opcode && which.contains(&nth)
                });
                if !known {
                    self.refuse_one(phase, opcode, nth, [before, act, after], leaves);
                    count += 1;
                }
            }
        }
        println!(
            "{:5.1} s {phase}: {count} refused",
            started.elapsed().as_secs_f64()
        );
    }

    fn refuse_one(
        &mut self,
        phase: &str,
        opcode: &str,
        nth: u64,
        [before, act, after]: [&str; 3],
        leaves: bool,
    ) {
        self.must(&format!("dmesg -C; {before}"));
        let held = self.inventory().objects;
        self.faults(&format!(
            "[[command]]\nname = \"refused\"\nnic = \"nic0\"\nmatch = {{ opcode = \"{opcode}\" }}\nnth = {nth}\n\
             action = {{ status = \"INT_ERR\", syndrome = 0x{nth:x} }}\n"
        ));
        self.run(act);
        self.faults("");
        self.run(after);
        let left = more(&held, &self.inventory().objects);
        let said = self.said();
        let mut alarms = alarms(&said);
        if takes_back(opcode) {
            // The RDMA core warns of what it cannot get rid of, once each.
            alarms.retain(|line| !line.contains("WARNING:") && !line.contains("Call Trace"));
        } else if !leaves && !left.is_empty() {
            self.wrong
                .push(format!("{phase}: {opcode} {nth}: left {left:?}\n{said}"));
        }
        if !alarms.is_empty() {
            self.wrong
                .push(format!("{phase}: {opcode} {nth}: {alarms:#?}\n{said}"));
        }
    }
}

/// Whether a command takes something from the adapter: refused, it is still there.
fn takes_back(opcode: &str) -> bool {
    let verbs = ["DESTROY_", "DEALLOC_", "DELETE_", "MANAGE_PAGES"];
    verbs.iter().any(|verb| opcode.starts_with(verb))
}

/// Objects that there are more of.
fn more(before: &Objects, after: &Objects) -> Objects {
    let grown = after.iter().filter_map(|(kind, count)| {
        let old = before.iter().find(|(known, _)| known == kind);
        let grown = count.saturating_sub(old.map_or(0, |(_, old)| *old));
        (grown > 0).then_some((*kind, grown))
    });
    grown.collect()
}

#[test]
fn a_refused_command_costs_what_it_was_for_and_no_more() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "refused-commands");
    let fabric = Emulated::start(2, None).expect("NICs");
    let guest = lab
        .boot(&fabric.attach(1, fabric.attach(0, GuestConfig::new("alice"))))
        .unwrap_or_else(|error| panic!("{error:#}"));
    let mut scene = Scene {
        fabric: &fabric,
        guest,
        stuck: true,
        wrong: Vec::new(),
    };
    scene.faults("");
    // Profile 1 keeps no memory keys in store, of which each load would make thousands.
    scene.must(
        "dmesg -n 1; echo 0 >/sys/bus/pci/drivers_autoprobe; modprobe mlx5_core prof_sel=1; modprobe -a mlx5_ib ib_uverbs",
    );
    let waiting = scene
        .guest
        .spawn(&format!("{NAMES}; nic=$stuck; {ATTACH}"))
        .expect("a job");
    let began = Instant::now();
    scene.refuse(
        "attach",
        ["true", ATTACH, &format!("{DETACH}; true")],
        false,
    );
    scene.must(ATTACH);
    scene.refuse("up", ["true", UP, &format!("{DOWN}; true")], false);
    scene.must(UP);
    scene.refuse("queues", ["true", QUEUES, "true"], false);
    scene.must(DETACH);
    let up = format!("{ATTACH} && {UP}");
    scene.refuse("detach", [&up, DETACH, "true"], true);

    let gave_up = waiting.wait(PATIENCE + FW_PRE_INIT).expect("it ends");
    // It was under way when this began to count.
    assert!(began.elapsed() > FW_PRE_INIT - Duration::from_secs(10));
    assert!(
        !gave_up.ok() && gave_up.text.contains("timed out"),
        "{}",
        gave_up.text
    );
    scene.stuck = false;
    scene.faults("");
    scene.must(&format!("nic=$stuck; {ATTACH}"));
    scene.must("nic=$stuck; echo $nic >/sys/bus/pci/drivers/mlx5_core/unbind");

    // And all is as if nothing had been.
    scene.must(&format!("dmesg -C; {up} && {QUEUES} && {DETACH}"));
    let left = fabric.leftovers(0).expect("the driver has gone");
    assert!(left.is_empty(), "{left:?}");
    let said = scene.said();
    let complaints = complaints(&said);
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(scene.wrong.is_empty(), "{}", scene.wrong.join("\n"));
}
