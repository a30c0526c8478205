//! Drivers that attach to an adapter that is slow, odd or refuses.

use std::time::Duration;

use rocinante_tests::guests::PATIENCE;

use super::scene::{ALICE, Scene};

/// Loading the driver.
pub fn attach(scene: &mut Scene<'_>) {
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
}
