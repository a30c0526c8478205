//! Faults of firmware and device under a driver in the same process, in virtual time: each is what the file says, happens
//! when it says, and is over when it says; nothing of it is left.

use std::time::Duration;

use rocinante_device::mlx5::Input;
use rocinante_firmware_cmd::mlx5::caps::CapType;
use rocinante_firmware_cmd::mlx5::caps::general::GeneralCaps;
use rocinante_firmware_cmd::mlx5::hca::{QueryHcaCapOut, QueryPagesOut};
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::status::Status;
use rocinante_harness::driver::command::input;
use rocinante_harness::driver::{Driver, Error, Event, Function, Local, SendOp, syndrome};
use rocinante_harness::faults::{Faults, injection};
use rocinante_tests::World;

const MS: Duration = Duration::from_millis(1);

/// Two NICs, the first one's faults, and a connection between them.
struct Scene {
    world: World,
    faults: Faults,
    qps: [u32; 2],
}

impl Scene {
    fn new(text: &str) -> Scene {
        let mut world = World::new(2);
        let qps = world.rc();
        let mut scene = Scene {
            world,
            faults: Faults::default(),
            qps,
        };
        scene.load(text);
        scene
    }

    fn load(&mut self, text: &str) {
        let faults: Faults = text.parse().unwrap_or_else(|e| panic!("{text}\n{e}"));
        let plan = faults.plan("nic0");
        self.handle(Input::Faults(plan));
        self.faults = faults;
    }

    fn handle(&mut self, input: Input) {
        let now = self.world.fabric.now();
        let function = &mut self.node().function;
        function.now = now;
        function.handle(input);
    }

    fn inject(&mut self, kind: &str, keys: &str) {
        let injection = injection(kind, keys).unwrap_or_else(|e| panic!("{kind} {keys}: {e}"));
        self.handle(Input::Inject(injection));
    }

    fn node(&mut self) -> &mut Driver<Local> {
        self.world.node(0)
    }

    fn hits(&self, name: &str) -> (u64, u64) {
        let all = self.faults.device_counters();
        let found = all.into_iter().find(|counters| counters.name == name);
        let found = found.expect("a fault of that name");
        (found.matches, found.hits)
    }

    fn word(&mut self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        let now = self.world.fabric.now();
        let function = &mut self.node().function;
        function.now = now;
        function.load(offset, &mut bytes).unwrap();
        u32::from_be_bytes(bytes)
    }

    fn pass(&mut self, time: Duration) {
        self.world.fabric.run_for(time);
    }

    /// A WRITE from the NIC at fault to the other.
    fn write(&mut self, wr_id: u64) {
        let source = self.world.pattern(0, 4096, wr_id);
        let target = self.world.payload(1, 4096);
        let op = SendOp::Write {
            va: target.mr.va,
            rkey: target.mr.key,
        };
        let [here, _] = self.qps;
        self.world
            .post(0, here, wr_id, op, &[source.mr.sge(0, 4096)]);
    }
}

fn command(action: &str, more: &str) -> String {
    format!(
        "[[command]]\nname = \"c\"\nmatch = {{ opcode = \"ALLOC_PD\" }}\naction = {action}\n{more}\n"
    )
}

#[test]
fn commands_are_refused_denied_and_undelivered() {
    let mut scene = Scene::new(&command(
        "{ status = \"NO_RES\", syndrome = 0x1234 }",
        "nth = [2, 4]",
    ));
    let first = scene.node().alloc_pd().unwrap();
    match scene.node().alloc_pd() {
        Err(Error::Refused {
            opcode: Opcode::AllocPd,
            status: Some(Status::NoRes),
            syndrome: 0x1234,
        }) => {}
        other => panic!("{other:?}"),
    }
    // It was not executed: the next number is the next number.
    assert_eq!(scene.node().alloc_pd().unwrap(), first + 1);
    assert!(scene.node().alloc_pd().is_err());
    assert!(scene.node().alloc_pd().is_ok());
    assert_eq!(scene.hits("c"), (5, 2));

    scene.load(&command(
        "{ status = \"BAD_PARAM\", executed = true }",
        "count = 1",
    ));
    assert!(scene.node().alloc_pd().is_err());
    // This one was.
    assert_eq!(scene.node().alloc_pd().unwrap(), first + 4);

    for (delivery, number) in [("signature", 1), ("token", 2), ("descriptor", 0x10)] {
        scene.load(&command(&format!("{{ delivery = \"{delivery}\" }}"), ""));
        match scene.node().alloc_pd() {
            Err(Error::Delivery { status, .. }) => assert_eq!(status, number),
            other => panic!("{other:?}"),
        }
    }
    // What was not delivered was not executed.
    scene.load("");
    assert_eq!(scene.node().alloc_pd().unwrap(), first + 5);
    scene.load(&command("\"wrong-signature\"", ""));
    assert!(matches!(scene.node().alloc_pd(), Err(Error::Signature(_))));
    for silent in [
        "\"ignore\"",
        "\"no-answer\"",
        "\"wrong-ownership\"",
        "{ delay = \"5ms\" }",
    ] {
        scene.load(&command(silent, "count = 1"));
        assert!(
            matches!(scene.node().alloc_pd(), Err(Error::Timeout(_))),
            "{silent}"
        );
        assert!(scene.node().alloc_pd().is_ok(), "{silent}");
        scene.pass(10 * MS);
    }
    for harmless in ["\"wrong-token\"", "\"no-event\""] {
        scene.load(&command(harmless, ""));
        assert!(scene.node().alloc_pd().is_ok(), "{harmless}");
        assert_eq!(scene.hits("c"), (1, 1), "{harmless}");
    }
    scene.load("");
    assert!(scene.node().alloc_pd().is_ok());
}

#[test]
fn answers_are_changed_by_name_or_by_chance() {
    let mut scene = Scene::new(
        "[[command]]\nname = \"forty\"\nmatch = { opcode = \"QUERY_PAGES\", function_id = 0 }\naction = { set = { num_pages = 40 } }\n\
         [[command]]\nname = \"noise\"\nmatch = { opcode = \"QUERY_ADAPTER\" }\naction = { corrupt = \"output\", bits = 3 }\n",
    );
    let query = input(Opcode::QueryPages, 3, 16);
    let output = scene.node().execute(&query, 16).unwrap();
    assert_eq!(QueryPagesOut::new(&output).num_pages(), 40);
    let query = input(Opcode::QueryAdapter, 0, 16);
    let noisy = scene.node().execute(&query, 0x100).unwrap();
    scene.load("");
    let clean = scene.node().execute(&query, 0x100).unwrap();
    let wrong: u32 = noisy
        .iter()
        .zip(&clean)
        .map(|(a, b)| (a ^ b).count_ones())
        .sum();
    assert!((1..=3).contains(&wrong), "{wrong}");
}

#[test]
fn capabilities_and_timeouts_are_announced() {
    let mut scene = Scene::new(
        "[[capability]]\nname = \"odd\"\nset = { general.log_max_qp = 5, general.dct = true, general.roce = false }\n\
         [[timeout]]\nname = \"short\"\ncommand = \"3s\"\nteardown = \"30min\"\n",
    );
    for mode in [0, 1] {
        let query = input(
            Opcode::QueryHcaCap,
            (CapType::General as u16) << 1 | mode,
            16,
        );
        let output = scene.node().execute(&query, QueryHcaCapOut::SIZE).unwrap();
        let caps = QueryHcaCapOut::new(&output);
        let caps = GeneralCaps::new(caps.capability());
        assert_eq!(
            (caps.log_max_qp(), caps.dct(), caps.roce()),
            (5, true, false)
        );
    }
    assert_eq!((scene.word(0xff8), scene.word(0xffc)), (3000, 2000));
    // DTOR at offset 0x28: too long for milliseconds.
    let mut query = input(Opcode::AccessReg, 1, 16 + 0x40);
    query[10..12].copy_from_slice(&0xc00e_u16.to_be_bytes());
    let output = scene.node().execute(&query, 16 + 0x40).unwrap();
    assert_eq!(
        output[16 + 0x28..16 + 0x2c],
        (1u32 << 29 | 1800).to_be_bytes()
    );
    scene.load("");
    assert_eq!((scene.word(0xff8), scene.word(0xffc)), (0, 0));
    assert!(scene.node().execute(&query, 16 + 0x40).is_err());
}

#[test]
fn events_are_lost_late_and_doubled() {
    let port = |action: &str| {
        format!(
            "[[event]]\nname = \"e\"\nmatch = {{ type = \"PORT_CHANGE\" }}\naction = {action}\n"
        )
    };
    let flap = |scene: &mut Scene| {
        scene.handle(Input::Link(false));
        scene.handle(Input::Link(true));
    };
    let both = [Event::Port { up: false }, Event::Port { up: true }];
    let mut scene = Scene::new(&port("\"drop\""));
    flap(&mut scene);
    assert_eq!(scene.world.events(0), []);
    scene.load(&port("{ delay = \"4ms\" }"));
    flap(&mut scene);
    assert_eq!(scene.world.events(0), []);
    scene.pass(5 * MS);
    assert_eq!(scene.world.events(0), both);
    scene.load(&port("{ duplicate = 2, delay = \"1ms\" }"));
    flap(&mut scene);
    assert_eq!(scene.world.events(0), both);
    scene.pass(5 * MS);
    assert_eq!(scene.world.events(0), [both, both].concat());
    // What is held back when the faults go comes then.
    scene.load(&port("{ delay = \"1s\" }"));
    flap(&mut scene);
    scene.load("");
    assert_eq!(scene.world.events(0), both);
}

#[test]
fn interrupts_are_lost_late_and_spurious() {
    let fault = |action: &str| {
        format!("[[interrupt]]\nname = \"i\"\nmatch = {{ vector = 0 }}\naction = {action}\n")
    };
    let mut scene = Scene::new(&fault("\"drop\""));
    while scene.node().function.interrupt().is_some() {}
    scene.handle(Input::Link(false));
    assert_eq!(scene.node().function.interrupt(), None);
    // The event is there.
    assert_eq!(scene.world.events(0), [Event::Port { up: false }]);
    scene.load(&fault("{ delay = \"2ms\" }"));
    scene.handle(Input::Link(true));
    assert_eq!(scene.node().function.interrupt(), None);
    scene.pass(3 * MS);
    assert_eq!(scene.node().function.interrupt(), Some(0));
    scene.inject("interrupt", "vector = 7");
    assert_eq!(scene.node().function.interrupt(), Some(7));
}

#[test]
fn completions_fail_and_are_lost() {
    let fault = |action: &str| {
        format!(
            "[[completion]]\nname = \"c\"\nmatch = {{ service = \"RC\", side = \"send\" }}\nper = \"qp\"\nnth = 2\naction = {action}\n"
        )
    };
    let mut scene = Scene::new(&fault("{ syndrome = \"REMOTE_OP_ERR\", vendor = 0x88 }"));
    for n in 1..=3 {
        scene.write(n);
    }
    assert_eq!(scene.world.success(0).wr_id, 1);
    scene.world.failure(0, 2, syndrome::REMOTE_OP);
    scene.world.failure(0, 3, syndrome::WR_FLUSH);
    assert_eq!(scene.hits("c").1, 1);

    let mut scene = Scene::new(&fault("\"drop\""));
    for n in 1..=3 {
        scene.write(n);
    }
    assert_eq!(scene.world.success(0).wr_id, 1);
    assert_eq!(scene.world.success(0).wr_id, 3);

    let mut scene = Scene::new(&fault("\"overrun\""));
    let cqn = scene.world.ends[0].cqn;
    for n in 1..=2 {
        scene.write(n);
    }
    scene.world.success(0);
    scene.world.no_completion(0);
    assert!(scene.world.events(0).contains(&Event::CqError(cqn, 1)));
}

#[test]
fn asynchronous_events_find_their_queues() {
    let mut scene = Scene::new("");
    let [here, _] = scene.qps;
    scene.inject("async", "event = \"COMM_EST\"\nqp = \"newest\"");
    assert_eq!(scene.world.events(0), [Event::Queue(2, here)]);
    scene.inject(
        "async",
        "event = \"PATH_MIG\"\nservice = \"RC\"\nqp = \"all\"",
    );
    assert_eq!(scene.world.events(0), [Event::Queue(1, here)]);
    scene.inject("async", "event = \"PATH_MIG\"\nqp = 0xfffff");
    scene.inject("async", "event = \"PATH_MIG\"\nservice = \"UD\"");
    assert_eq!(scene.world.events(0), []);
    // It works on.
    scene.write(1);
    assert!(scene.world.completion(0).is_ok());
    scene.inject("async", "event = \"WQ_CATAS_ERROR\"\nqp = \"newest\"");
    assert_eq!(scene.world.events(0), [Event::Queue(5, here)]);
    scene.write(2);
    scene.world.failure(0, 2, syndrome::WR_FLUSH);
    let cqn = scene.world.ends[0].cqn;
    scene.inject(
        "async",
        "event = \"CQ_ERROR\"\ncq = \"newest\"\nsyndrome = 2",
    );
    assert_eq!(scene.world.events(0), [Event::CqError(cqn, 2)]);
}

const NIC_INTERFACE: u64 = 0x14;
const HEALTH_RFR: u64 = 0x238;
const HEALTH_SYNDROME: u64 = 0x23c;
const HEALTH_COUNTER: u64 = 0x1010;

#[test]
fn health_is_bad_until_a_reset() {
    let mut scene = Scene::new(
        "[[health]]\nname = \"h\"\nfrom = \"3ms\"\nsyndrome = \"FW_INTERNAL_ERR\"\next_syndrome = 0x77\nseverity = \"critical\"\nrfr = true\n",
    );
    assert_eq!(scene.word(HEALTH_SYNDROME), 0);
    scene.pass(4 * MS);
    assert_eq!(scene.word(HEALTH_SYNDROME), 0x01_0077);
    assert_eq!(scene.word(HEALTH_RFR), 0x8a00_0000);
    assert_eq!(scene.hits("h"), (1, 1));
    // The firmware is dead.
    assert!(matches!(scene.node().alloc_pd(), Err(Error::Timeout(_))));
    scene
        .node()
        .function
        .store(NIC_INTERFACE, &[0, 0, 7, 0])
        .unwrap();
    scene.pass(50 * MS);
    assert_eq!(scene.word(NIC_INTERFACE) >> 8 & 7, 1);
    assert_eq!(
        (scene.word(HEALTH_RFR), scene.word(HEALTH_SYNDROME)),
        (0, 0)
    );

    // One that no reset helps against, but its end does.
    let mut scene = Scene::new(
        "[[health]]\nname = \"h\"\nsyndrome = 8\nrfr = true\nsticky = true\ndead = false\nuntil = \"100ms\"\n",
    );
    scene.handle(Input::Reset);
    assert_eq!(scene.word(HEALTH_SYNDROME), 8 << 16);
    scene.pass(101 * MS);
    assert_eq!(scene.word(HEALTH_SYNDROME), 0);
}

#[test]
fn the_counter_stands_still_and_initialization_takes_its_time() {
    let mut scene = Scene::new("");
    let second = Duration::from_secs(1);
    scene.inject("health", "counter = \"stopped\"");
    scene.inject("health", "initializing = true");
    let before = scene.word(HEALTH_COUNTER);
    scene.pass(second);
    assert_eq!(scene.word(HEALTH_COUNTER), before);
    assert_eq!(scene.word(0x1fc) >> 31, 1);
    scene.inject("clear", "");
    assert_ne!(scene.word(HEALTH_COUNTER), before);
    assert_eq!(scene.word(0x1fc) >> 31, 0);
}

#[test]
fn pages_are_asked_for_and_kept() {
    let mut scene = Scene::new(
        "[[pages]]\nname = \"p\"\nask = 16\nfrom = \"1ms\"\nevery = \"1ms\"\ncount = 10\n",
    );
    let (before, _) = scene.node().pages_lent();
    scene.pass(20 * MS);
    scene.world.events(0);
    assert_eq!(scene.node().pages_lent().0, before + 160);
    assert_eq!(scene.hits("p"), (10, 10));
    scene.inject("pages", "keep = 100");
    let mut take = input(Opcode::ManagePages, 2, 16);
    take[12..16].copy_from_slice(&500u32.to_be_bytes());
    let output = scene.node().execute(&take, 16 + 8 * 500).unwrap();
    let back = u32::from_be_bytes([output[8], output[9], output[10], output[11]]);
    assert_eq!(back as usize, before + 160 - 100);
}

#[test]
fn a_removed_adapter_is_gone_and_comes_back_empty() {
    let mut scene = Scene::new("[[removal]]\nname = \"r\"\nfrom = \"10ms\"\nuntil = \"30ms\"\n");
    scene.write(1);
    assert!(scene.world.completion(0).is_ok());
    scene.pass(15 * MS);
    for offset in [0, NIC_INTERFACE, HEALTH_COUNTER, 0x1000, 0x12345] {
        assert_eq!(scene.word(offset), u32::MAX);
    }
    assert!(matches!(scene.node().alloc_pd(), Err(Error::Timeout(_))));
    assert!(scene.node().function.nic.qps.is_empty());
    assert_eq!(scene.node().function.interrupt(), None);
    scene.pass(20 * MS);
    assert_eq!(scene.word(4) >> 16, 5);
    assert_eq!(scene.hits("r"), (1, 1));
    // A reset brings one back that was pulled out for ever.
    let mut scene = Scene::new("");
    scene.inject("removal", "");
    assert_eq!(scene.word(0), u32::MAX);
    scene.handle(Input::Reset);
    assert_ne!(scene.word(0), u32::MAX);
}

#[test]
fn a_fault_can_be_ended_by_itself() {
    let mut scene = Scene::new(&format!(
        "{}\n[[removal]]\nname = \"r\"\nfrom = \"1ms\"\n",
        command("{ status = \"LIM\" }", "")
    ));
    assert!(scene.node().alloc_pd().is_err());
    let fault = |scene: &Scene, n: usize| std::sync::Arc::clone(&scene.faults.devices[n].fault);
    assert!(fault(&scene, 0).clear());
    assert!(!fault(&scene, 0).clear());
    assert!(scene.node().alloc_pd().is_ok());
    scene.pass(2 * MS);
    assert_eq!(scene.word(0), u32::MAX);
    fault(&scene, 1).clear();
    scene.pass(MS);
    assert_ne!(scene.word(0), u32::MAX);
}

/// Faults of all kinds at once, with drivers that do not care: nothing panics, nothing hangs.
#[test]
fn everything_at_once_harms_nobody_else() {
    let text = r#"
        [[command]]
        name = "a"
        probability = 0.3
        action = { corrupt = "output", bits = 9 }
        [[command]]
        name = "b"
        probability = 0.1
        action = { delay = "1ms" }
        [[event]]
        name = "c"
        probability = 0.5
        action = { duplicate = 20, delay = "10us" }
        [[interrupt]]
        name = "d"
        probability = 0.5
        action = "drop"
        [[completion]]
        name = "e"
        probability = 0.2
        action = "duplicate"
        [[completion]]
        name = "f"
        probability = 0.02
        action = { syndrome = 1 }
        [[pages]]
        name = "g"
        ask = 3
        every = "50us"
        count = 100
        [[removal]]
        name = "h"
        from = "5ms"
        until = "6ms"
    "#;
    for seed in 0..20 {
        let mut scene = Scene::new("");
        let [here, _] = scene.qps;
        let source = scene.world.pattern(0, 4096, 1);
        let target = scene.world.payload(1, 4096);
        scene.load(&text.replace("action", &format!("seed = {seed}\n        action")));
        for n in 0..200 {
            let op = SendOp::Write {
                va: target.mr.va,
                rkey: target.mr.key,
            };
            let wr = [source.mr.sge(0, 512)];
            let gather = rocinante_harness::driver::Data::Sges(&wr);
            let wr = rocinante_harness::driver::SendWr::new(n, op, gather);
            let _ = scene.node().post_send(here, &wr);
            let _ = scene.node().alloc_pd();
            let cqn = scene.world.ends[0].cqn;
            let _ = scene.node().poll_cq(cqn);
            let _ = scene.node().poll_event();
            scene.pass(MS / 20);
        }
        scene.load("");
        scene.handle(Input::Reset);
        assert_eq!(scene.word(4) >> 16, 5);
    }
}
