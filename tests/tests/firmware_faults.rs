//! Faults of firmware and device under an unmodified Linux driver: it says what its source says it does, and afterwards
//! the adapter works again, by ping and by a verified transfer over RDMA.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rocinante_harness::faults::{Faults, injection};
use rocinante_harness::lab::Emulated;
use rocinante_harness::lab::demo::Fabric;
use rocinante_tests::guests::{ADDRESSES, PATIENCE, Pair, alone, lab};
use rocinante_tests::verbs::{Verbs, goes_on};
use rocinante_wire::fault::RuleCounters;

/// The guest whose adapter is at fault, the other one's peer.
const ALICE: usize = 0;

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
struct Scene<'a> {
    pair: Pair<'a>,
    part: usize,
    failed: Vec<String>,
}

impl<'a> Scene<'a> {
    fn boot(lab: &'a rocinante_harness::lab::Lab, fabric: &'a Emulated) -> Self {
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
    fn part(&mut self, name: &str, act: impl FnOnce(&mut Self)) {
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
    fn end(self) {
        assert!(self.failed.is_empty(), "failed: {}", self.failed.join("; "));
    }

    #[track_caller]
    fn sh(&self, command: &str) -> String {
        self.pair.sh(ALICE, command)
    }

    /// From now on these faults are there, beside the timeouts.
    #[track_caller]
    fn faults(&self, text: &str) {
        let all = format!("{IMPATIENT}{text}");
        let faults: Faults = all.parse().unwrap_or_else(|e| panic!("{text}\n{e}"));
        self.pair
            .fabric
            .server()
            .set_faults(faults)
            .expect("faults");
    }

    fn calm(&self) {
        self.faults("");
    }

    #[track_caller]
    fn inject(&self, kind: &str, keys: &str) {
        let injection = injection(kind, keys).unwrap_or_else(|e| panic!("{kind} {keys}: {e}"));
        let done = self.pair.fabric.server().inject(ALICE, injection);
        done.expect("the NIC runs");
    }

    fn hits(&self, name: &str) -> u64 {
        let counters = self.pair.fabric.server().fault_counters();
        let found = counters.into_iter().find(|counters| counters.name == name);
        found.map_or(0, |RuleCounters { hits, .. }| hits)
    }

    /// Waits until the kernel has said something in this part.
    #[track_caller]
    fn says(&self, pattern: &str) {
        let said = format!(
            "dmesg | sed '1,/part {} /d' | grep -q -- '{pattern}'",
            self.part
        );
        if let Err(error) = self.pair.guests[ALICE].wait_until(&said, PATIENCE / 2) {
            panic!("'{pattern}' is not said: {error:#}\n{}", self.said());
        }
    }

    /// What the kernel has said in this part.
    fn said(&self) -> String {
        self.sh(&format!("dmesg | sed '1,/part {} /d'", self.part))
    }

    /// Pages that the adapter has.
    fn pages(&self) -> usize {
        let inventory = self.pair.fabric.server().inventory(ALICE);
        inventory.expect("the NIC runs").pages
    }

    #[track_caller]
    fn wait_for_pages(&self, wanted: impl Fn(usize) -> bool) {
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
    fn reported(&self, name: &str) {
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
    fn fails(&self, command: &str) -> String {
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
    fn works(&mut self) {
        self.sh(&format!("ping -c 3 -i 0.2 -W 20 {}", ADDRESSES[1]));
        self.pair.pingpong("rc_pingpong -c -n 50");
    }

    /// A pingpong whose client, at the adapter at fault, fails. What it said.
    #[track_caller]
    fn pingpong_fails(&mut self) -> String {
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

    fn unload(&self) {
        let fabric = self.pair.fabric;
        fabric
            .unload(&self.pair.guests[ALICE])
            .expect("the driver goes");
    }

    /// Loads the driver, which finds the adapter healthy.
    fn load(&mut self) {
        self.pair.ends[ALICE] = self.pair.configure(ALICE);
    }

    /// The driver has recovered: the interface is there again.
    fn back(&mut self) {
        self.pair.ends[ALICE] =
            rocinante_harness::lab::configure(&self.pair.guests[ALICE], ADDRESSES[ALICE])
                .unwrap_or_else(|error| panic!("back: {error:#}\n{}", self.said()));
    }
}

/// `devlink health` of a reporter of the adapter.
fn reporter(name: &str, what: &str) -> String {
    let nic = "pci/$(basename $(dirname $(grep -l 0x15b3 /sys/bus/pci/devices/*/vendor)))";
    format!("devlink health {what} {nic} reporter {name}")
}

#[test]
fn commands_events_and_completions() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "firmware-commands");
    let fabric = Emulated::start(2, None).expect("NICs");
    let mut scene = Scene::boot(&lab, &fabric);
    scene.works();

    scene.part("a command is refused", |scene| {
    scene.faults(
        r#"
        [[command]]
        name = "refused"
        nic = "nic0"
        match = { opcode = "CREATE_CQ" }
        nth = 1
        action = { status = "NO_RES", syndrome = 0xabcd12 }
        "#,
    );
    let text = scene.pingpong_fails();
    assert!(text.contains("Couldn't create CQ"), "{text}");
    scene.says("CREATE_CQ(0x400) op_mod(0x0) failed, status no resources(0xf), syndrome (0xabcd12), err(-11)");
    scene.works();

    });
    scene.part("a command is never answered", |scene| {
        scene.faults(
            r#"
        [[command]]
        name = "silence"
        nic = "nic0"
        match = { opcode = "ALLOC_PD" }
        nth = 1
        action = "no-answer"
        "#,
        );
        let started = Instant::now();
        let text = scene.pingpong_fails();
        assert!(text.contains("Couldn't allocate PD"), "{text}");
        // The timeout that was announced, and the five seconds of mlx5_cmd_eq_recover.
        assert!(started.elapsed() > Duration::from_secs(6));
        scene.says("ALLOC_PD(0x800) No done completion");
        scene.says("ALLOC_PD(0x800) timeout. Will cause a leak of a command resource");
        scene.works();
    });
    scene.part("the event of a command is lost", |scene| {
    scene.faults(
        r#"
        [[event]]
        name = "lost"
        nic = "nic0"
        match = { type = "CMD" }
        nth = 1
        action = "drop"
        "#,
    );
    scene.fails("devlink dev info; ethtool -m eth0 >/dev/null || ethtool -a eth0 >/dev/null; dmesg | grep -q NOT");
    scene.says("No done completion");
    scene.calm();
    scene.works();

    });
    scene.part("the interrupt of a command is lost", |scene| {
        scene.faults(
            r#"
        [[command]]
        name = "the command"
        nic = "nic0"
        match = { opcode = "ALLOC_PD" }
        nth = 1
        action = { delay = "10ms" }
        [[interrupt]]
        name = "lost interrupt"
        nic = "nic0"
        match = { vector = 0 }
        nth = 3
        action = "drop"
        "#,
        );
        scene.works();
        scene.says("recovered after timeout");
        assert_eq!(scene.hits("lost interrupt"), 1);
    });
    scene.part(
        "a command is answered late, but before the driver gives up",
        |scene| {
            scene.faults(
                r#"
        [[command]]
        name = "late"
        nic = "nic0"
        match = { opcode = "CREATE_QP" }
        nth = 1
        action = { delay = "3s" }
        "#,
            );
            scene.works();
            scene.says("CREATE_QP(0x500) recovered after timeout");
        },
    );
    scene.part("and after it has given up", |scene| {
        scene.faults(
            r#"
        [[command]]
        name = "too late"
        nic = "nic0"
        match = { opcode = "CREATE_QP" }
        nth = 1
        action = { delay = "8s" }
        "#,
        );
        scene.pingpong_fails();
        scene.says("CREATE_QP(0x500) timeout");
        scene.says("Command completion arrived after timeout");
        scene.works();
    });
    scene.part("a command could not be delivered", |scene| {
        for (delivery, errno) in [
            ("token", "Invalid request descriptor"),
            ("signature", "Invalid request descriptor"),
            ("firmware", "Input/output error"),
        ] {
            scene.faults(&format!(
                r#"
            [[command]]
            name = "undelivered"
            nic = "nic0"
            match = {{ opcode = "ACCESS_REG", register_id = 0x9014 }}
            action = {{ delivery = "{delivery}" }}
            "#,
            ));
            let text = scene.fails("ethtool -m eth0");
            assert!(text.contains(errno), "{delivery}: {text}");
        }
        scene.calm();
        scene.works();
    });
    scene.part("events come twice", |scene| {
        scene.faults(
            r#"
        [[event]]
        name = "twice"
        nic = "nic0"
        match = { type = ["COMP", "PORT_CHANGE", "NIC_VPORT_CHANGE"] }
        action = { duplicate = 1 }
        [[interrupt]]
        name = "interrupts twice"
        nic = "nic0"
        action = { duplicate = 1, delay = "1ms" }
        "#,
        );
        scene.works();
        assert!(scene.hits("twice") > 10 && scene.hits("interrupts twice") > 10);
    });
    scene.part("events and interrupts are late", |scene| {
        scene.faults(
            r#"
        [[event]]
        name = "late events"
        nic = "nic0"
        action = { delay = "2ms" }
        [[interrupt]]
        name = "late interrupts"
        nic = "nic0"
        action = { delay = "2ms" }
        "#,
        );
        scene.works();
        assert!(scene.hits("late events") > 10 && scene.hits("late interrupts") > 10);
    });
    scene.part("answers are not what they should be", |scene| {
    scene.faults(
        r#"
        [[command]]
        name = "counters"
        nic = "nic0"
        match = { opcode = "ACCESS_REG", register_id = 0x5008 }
        action = { corrupt = "output", bits = 20 }
        [[command]]
        name = "token"
        nic = "nic0"
        match = { opcode = "QUERY_Q_COUNTER" }
        action = "wrong-token"
        [[command]]
        name = "signature"
        nic = "nic0"
        match = { opcode = "ALLOC_PD" }
        action = "wrong-signature"
        [[command]]
        name = "ownership"
        nic = "nic0"
        match = { opcode = "DEALLOC_PD" }
        action = "wrong-ownership"
        "#,
    );
    scene.sh("ethtool -S eth0 >/dev/null; cat /sys/class/infiniband/*/ports/1/hw_counters/out_of_sequence");
    scene.works();
    for name in ["counters", "token", "signature", "ownership"] {
        assert!(scene.hits(name) > 0, "{name}");
    }

    });
    scene.part("a completion fails", |scene| {
        scene.faults(
            r#"
        [[completion]]
        name = "failed"
        nic = "nic0"
        match = { service = "RC", side = "send" }
        per = "qp"
        nth = 5
        action = { syndrome = "REMOTE_OP_ERR", vendor = 0x88 }
        "#,
        );
        let text = scene.pingpong_fails();
        assert!(
            text.contains("Failed status remote operation error (11)"),
            "{text}"
        );
        scene.calm();
        scene.works();
    });
    scene.part("a CQ has no room", |scene| {
        scene.faults(
            r#"
        [[completion]]
        name = "overrun"
        nic = "nic0"
        match = { service = "RC" }
        per = "qp"
        nth = 7
        action = "overrun"
        "#,
        );
        scene.pingpong_fails();
        assert_eq!(scene.hits("overrun"), 1);
        scene.calm();
        scene.works();
    });
    scene.part("a completion of Ethernet fails", |scene| {
        scene.faults(
            r#"
        [[completion]]
        name = "sq"
        nic = "nic0"
        match = { service = "ETHERNET", side = "send" }
        nth = 1
        action = { syndrome = "LOCAL_QP_OP_ERR", vendor = 0x77 }
        "#,
        );
        scene.sh(&format!("ping -c 5 -i 0.2 -W 5 {}; true", ADDRESSES[1]));
        scene.says("Error cqe on cqn");
        scene.works();
    });
    scene.part("and one of what was received", |scene| {
        scene.faults(
            r#"
        [[completion]]
        name = "rq"
        nic = "nic0"
        match = { service = "ETHERNET", side = "receive" }
        nth = 1
        action = { syndrome = "LOCAL_PROT_ERR", vendor = 0x77 }
        "#,
        );
        scene.sh(&format!("ping -c 5 -i 0.2 -W 5 {}; true", ADDRESSES[1]));
        scene.says("ERR CQE on RQ");
        scene.works();
    });
    // The driver is not unloaded any more: it waits for the slots of commands that were never answered (docs/findings.md).
    scene.end();
}

#[test]
fn health_pages_module_and_removal() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "firmware-health");
    let fabric = Emulated::start(2, None).expect("NICs");
    let mut scene = Scene::boot(&lab, &fabric);
    scene.works();

    scene.part("the module says what is wrong with it", |scene| {
        scene.inject("module", "error = \"bus-stuck\"");
        scene.says(
            "Port module event\\[error\\]: module 0, Cable error, Bus stuck (I2C or data shorted)",
        );
        scene.inject("module", "error = \"high-temperature\"");
        scene.says("Cable error, High Temperature");
        scene.inject("module", "status = \"unplugged\"");
        scene.says("Port module event: module 0, Cable unplugged");
        scene.inject("module", "status = \"plugged\"");
        scene.says("Port module event: module 0, Cable plugged");
    });
    scene.part("it is hot", |scene| {
        scene.inject("sensor", "temperature = 112.5");
        scene.says("High temperature on sensors with bit set 0 1");
        let hot = scene.sh("cat /sys/class/hwmon/*/temp1_input");
        assert!(hot.contains("112500"), "{hot}");
        scene.inject("clear", "");
        let cool = scene.sh("cat /sys/class/hwmon/*/temp1_input");
        assert!(!cool.contains("112500"), "{cool}");
    });
    scene.part("queues say what happens to them", |scene| {
        let verbs = Verbs::start(&scene.pair);
        let running = verbs.endless(&scene.pair, "op=write size=1000 window=4 srq=1");
        for (event, whom) in [
            ("COMM_EST", "qp"),
            ("SQ_DRAINED", "qp"),
            ("PATH_MIG", "qp"),
            ("SRQ_RQ_LIMIT", "srq"),
            ("SRQ_CATAS_ERROR", "srq"),
            ("WQ_CATAS_ERROR", "qp"),
        ] {
            scene.inject(
                "async",
                &format!("event = \"{event}\"\n{whom} = \"newest\""),
            );
        }
        let report = running.finish();
        // By enum ibv_event_type; those of queue pairs go by way of a work queue. And IBV_WC_WR_FLUSH_ERR.
        let mut events: Vec<_> = report["events"].split(',').collect();
        events.sort_unstable();
        assert_eq!(events, ["1", "14", "15", "4", "5", "6"], "{report:?}");
        assert_eq!(report.status(), 5, "{report:?}");

        let running = verbs.spawn(
            &scene.pair,
            "op=write size=1000 window=4 until-told=1 patience=5",
        );
        goes_on(&scene.pair);
        scene.inject(
            "async",
            "event = \"CQ_ERROR\"\ncq = \"newest\"\nsyndrome = 1",
        );
        let report = running.finish();
        // The queue pair cannot tell any more what became of its work.
        let mut events: Vec<_> = report["events"].split(',').collect();
        events.sort_unstable();
        assert_eq!(events, ["0", "1"], "{report:?}");
        assert_eq!(report.number("stuck"), 1, "{report:?}");
        scene.says("CQ error on CQN 0x[0-9a-f]*, syndrome 0x1");
        verbs.stop();
        scene.works();
    });
    scene.part("pages are asked for and given back", |scene| {
        let before = scene.pages();
        scene.faults(
            r#"
        [[pages]]
        name = "storm"
        nic = "nic0"
        ask = 50
        every = "2ms"
        count = 100
        "#,
        );
        scene.wait_for_pages(|pages| pages >= before + 5000);
        scene.works();
        scene.inject("pages", "give-back = 5000");
        scene.wait_for_pages(|pages| pages < before + 100);
        scene.works();
    });
    scene.part("more pages than there are", |scene| {
        scene.faults(
            r#"
        [[command]]
        name = "cannot give"
        nic = "nic0"
        match = { opcode = "MANAGE_PAGES", op_mod = 0 }
        action = { delay = "1us" }
        "#,
        );
        scene.inject("pages", "ask = 200_000_000");
        scene.says("vzalloc failed 1600000016");
        scene.says("give fail -12");
        assert_eq!(scene.hits("cannot give"), 1);
        scene.works();
    });
    scene.part("health is not good", |scene| {
        scene.inject(
            "health",
            "syndrome = \"HIGH_TEMP_ERR\"\nseverity = \"warning\"",
        );
        scene.reported("fw");
        let diagnosis = scene.sh(&reporter("fw", "diagnose"));
        assert!(diagnosis.contains("High temperature"), "{diagnosis}");
        scene.works();
        scene.inject("clear", "");
    });
    scene.part("the health counter stands still", |scene| {
        scene.inject("health", "counter = \"stopped\"");
        scene.says("device.s health compromised - reached miss count");
        scene.works();
        scene.inject("clear", "");
    });
    scene.part("an internal error", |scene| {
        let graceless = reporter("fw_fatal", "set") + " grace_period 0";
        scene.sh(&graceless);
        scene.inject(
            "health",
            "syndrome = \"FW_INTERNAL_ERR\"\next_syndrome = 0x1234\nrfr = true",
        );
        scene.says("Fatal error 5 detected");
        scene.says("Health issue observed, firmware internal error, severity(3) ERROR");
        scene.says("ext_synd 0x1234");
        scene.says("Issuing FW Reset");
        scene.says("health recovery succeeded");
        scene.back();
        scene.works();
    });
    scene.part("pulled out", |scene| {
        scene.inject("removal", "");
        scene.says("Fatal error 1 detected");
        scene.says("handling bad device here");
        scene.inject("clear", "");
        scene.says("health recovery succeeded");
        scene.back();
        scene.works();
    });
    scene.part("initialization takes its time", |scene| {
        scene.unload();
        scene.inject("health", "initializing = true");
        let loading = scene.pair.spawn(ALICE, "modprobe -a mlx5_core mlx5_ib");
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(scene.pages(), 0);
        scene.inject("clear", "");
        loading.wait(PATIENCE).expect("loaded");
        scene.back();
        scene.works();
    });
    scene.part("an odd adapter", |scene| {
        scene.unload();
        scene.faults(
            r#"
        [[capability]]
        name = "odd"
        nic = "nic0"
        set = { general.log_max_qp = 8, ethernet.lro_cap = false }
        [[command]]
        name = "forty pages"
        nic = "nic0"
        match = { opcode = "QUERY_PAGES", op_mod = 1 }
        action = { set = { num_pages = 40 } }
        "#,
        );
        scene.load();
        let offloads = scene.sh("ethtool -k eth0");
        assert!(
            offloads.contains("large-receive-offload: off [fixed]"),
            "{offloads}"
        );
        let qps = scene.sh("ibv_devinfo -v | grep max_qp:");
        assert!(qps.contains("256"), "{qps}");
        assert!(scene.pages() >= 40);
        scene.works();
        scene.unload();
        scene.calm();
        scene.load();
    });
    scene.part("initialization is refused", |scene| {
        scene.unload();
        scene.faults(
            r#"
        [[command]]
        name = "no HCA"
        nic = "nic0"
        match = { opcode = "INIT_HCA" }
        action = { status = "INT_ERR", syndrome = 0x99 }
        "#,
        );
        scene.sh("modprobe mlx5_core; true");
        scene.says(
            "INIT_HCA(0x102) op_mod(0x0) failed, status internal error(0x1), syndrome (0x99), err(-5)",
        );
        scene.says("probe with driver mlx5_core failed with error -5");
        scene.sh("modprobe -r mlx5_core");
        scene.calm();
        scene.load();
        scene.works();
    });
    scene.part("pages are kept", |scene| {
        scene.inject("pages", "keep = 30");
        scene.unload();
        scene.says("FW did not return all pages. giving up");
        scene.inject("clear", "");
        scene.load();
        scene.works();
    });
    scene.end();
}
