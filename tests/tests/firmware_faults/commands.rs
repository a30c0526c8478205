//! Commands that are refused, not answered, answered late or wrongly, and the events and interrupts that tell of them.

use std::time::{Duration, Instant};

use super::scene::Scene;

/// Commands by themselves.
pub fn commands(scene: &mut Scene<'_>) {
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
}

/// What tells of them.
pub fn events(scene: &mut Scene<'_>) {
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
}
