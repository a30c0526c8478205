//! What the adapter says of itself and its module, and what drivers then do.

use super::scene::{Scene, reporter};

/// Module and sensor.
pub fn module(scene: &mut Scene<'_>) {
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
}

/// The health buffer, and an adapter that is gone.
pub fn health(scene: &mut Scene<'_>) {
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
    scene.part("pulled out, and another one plugged in", |scene| {
        let slot = scene.sh("dirname $(grep -l 0x15b3 /sys/bus/pci/devices/*/vendor)");
        let slot = slot.trim();
        let command = format!("od -An -v -tx4 -N64 {slot}/config");
        let header = |scene: &mut Scene<'_>| scene.sh(&command);
        let before = header(scene);
        assert!(before.contains("101715b3"), "{before}");
        scene.inject("removal", "");
        // QEMU has some bits of its own.
        let gone = header(scene);
        assert!(gone.trim_start().starts_with("ffffffff"), "{gone}");
        scene.says("Fatal error 1 detected");
        scene.sh(&format!(
            "echo 1 >{slot}/remove; echo 1 >/sys/bus/pci/rescan; [ ! -e {slot} ]"
        ));
        // The peer's cable leads to a switch.
        scene
            .pair
            .sh(1, "cat /sys/class/net/eth0/carrier | grep -q 1");
        scene.inject("clear", "");
        scene.sh(&format!(
            "echo 1 >/sys/bus/pci/rescan; grep -q 0x15b3 {slot}/vendor"
        ));
        scene.back();
        let after = header(scene);
        assert!(after.contains("101715b3"), "{after}");
        scene.works();
    });
}
