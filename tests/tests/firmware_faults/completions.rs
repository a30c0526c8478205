//! Completions that fail, and what queues are said to have gone through.

use rocinante_tests::guests::ADDRESSES;
use rocinante_tests::verbs::{Verbs, goes_on};

use super::scene::Scene;

/// Completions of RDMA and Ethernet.
pub fn completions(scene: &mut Scene<'_>) {
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
}

/// Asynchronous events.
pub fn asynchronous(scene: &mut Scene<'_>) {
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
}
