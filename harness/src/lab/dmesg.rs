//! Reads a guest kernel's messages for trouble that a NIC may have caused: warnings and worse from the drivers and the PCI
//! core, and oopses from anywhere.

/// The least urgent syslog level that counts: KERN_WARNING.
const WARNING: u8 = 4;

/// Messages begin with one of these when they come from a driver of the NIC or from what attaches it.
const SOURCES: &[&str] = &[
    "mlx4",
    "mlx5",
    "infiniband",
    "ib_core",
    "ib_uverbs",
    "rdma",
    "mlxfw",
    "pci ",
    "pci:",
    "pci_bus",
    "pcieport",
    "PCI",
    "AER",
    "DMAR",
    "irq ",
];

/// Words of a kernel in trouble, whoever says them.
const ALARMS: &[&str] = &[
    "BUG:",
    "WARNING:",
    "Oops",
    "Call Trace",
    "general protection fault",
    "kernel panic",
    "blocked for more than",
    "soft lockup",
    "rcu_preempt detected stalls",
    "NETDEV WATCHDOG",
    "refcount_t:",
    "use-after-free",
];

/// Warnings that real, healthy adapters cause too.
const USUAL: &[&str] = &[
    // Adapters without ignore_flow_level, a ConnectX-4 Lx for one, under kernels before 6.8. Linux commit dd238b702064 made it a
    // debug message, "as it is just a statement of fact".
    "mlx5e_tc_post_act_init:40:",
    // What mlx5e_fix_features says of every adapter once there is an 802.1ad VLAN.
    "Dropping C-tag vlan stripping offload due to S-tag vlan",
    // And of one that is promiscuous, once.
    "S-tagged traffic will be dropped while C-tag vlan stripping is enabled",
];

/// The lines of `dmesg -r` that a healthy adapter would not cause.
pub fn complaints(raw: &str) -> Vec<&str> {
    raw.lines().filter(|line| is_complaint(line)).collect()
}

/// The lines of `dmesg -r` that no adapter may cause, however broken it is.
pub fn alarms(raw: &str) -> Vec<&str> {
    let alarming = |line: &&str| parse(line).is_some_and(|(_, text)| is_alarm(text));
    raw.lines().filter(alarming).collect()
}

fn is_alarm(text: &str) -> bool {
    ALARMS.iter().any(|alarm| text.contains(alarm))
}

fn is_complaint(line: &str) -> bool {
    let Some((level, text)) = parse(line) else {
        return false;
    };
    if is_alarm(text) {
        return true;
    }
    level <= WARNING
        && SOURCES.iter().any(|source| text.starts_with(source))
        && !USUAL.iter().any(|usual| text.contains(usual))
}

/// `<4>[    1.234567] text` gives (4, text). Above the three bits of the level there may be a facility's.
fn parse(line: &str) -> Option<(u8, &str)> {
    let (number, rest) = line.strip_prefix('<')?.split_once('>')?;
    let level = (number.parse::<u32>().ok()? & 7) as u8;
    let text = match rest.trim_start().strip_prefix('[') {
        Some(stamped) => stamped.split_once(']')?.1.trim_start(),
        None => rest,
    };
    Some((level, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_warnings_are_found() {
        let raw = "<6>[    1.000000] mlx5_core 0000:01:00.0: firmware version: 16.35.4506\n\
             <3>[    2.000000] mlx5_core 0000:01:00.0: wait_func:1136: ENABLE_HCA(0x104) timeout\n\
             <4>[    2.100000] pcieport 0000:00:02.0: AER: Corrected error received\n\
             <3>[    2.200000] infiniband mlx5_0: create_qp failed\n\
             <4>[    2.300000] ACPI: IRQ 4 override to edge(!), high(!)\n";
        let found = complaints(raw);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("ENABLE_HCA"));
    }

    #[test]
    fn what_real_adapters_cause_is_not_counted() {
        let usual = "<4>[ 23.577812] mlx5_core 0000:21:00.0: mlx5e_tc_post_act_init:40:(pid 9): firmware level support is missing\n";
        assert!(complaints(usual).is_empty());
        // The same function's other message is another matter.
        let other = usual.replace(":40:", ":53:");
        assert_eq!(complaints(&other).len(), 1);
    }

    #[test]
    fn alarms_are_found_at_any_level_from_anywhere() {
        let raw = "<6>[  242.0] INFO: task modprobe:77 blocked for more than 120 seconds.\n\
             <4>[    3.0] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2\n";
        assert_eq!(complaints(raw).len(), 2);
    }

    #[test]
    fn notices_and_unparsed_lines_are_not() {
        assert!(
            complaints("<5>[    1.0] mlx5_core 0000:01:00.0: notice\nfree text\n<x>\n").is_empty()
        );
        assert!(complaints("").is_empty());
    }

    #[test]
    fn a_facility_does_not_hide_the_level() {
        // Facility 3 (daemon), level 3 (error).
        assert_eq!(parse("<27>[ 1.0] mlx5_core x"), Some((3, "mlx5_core x")));
        assert_eq!(parse("<4>mlx5_core x"), Some((4, "mlx5_core x")));
    }
}
