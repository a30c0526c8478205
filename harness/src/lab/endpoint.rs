//! A guest's RDMA device made ready to talk: its driver loaded, its interface up with an address, its RoCE v2 GID known.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result};

use super::guest::Guest;

const PATIENCE: Duration = Duration::from_secs(60);

/// The device as the tools in the guest name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// RDMA device, such as `mlx5_0`.
    pub device: String,
    /// Its network interface, such as `eth0`.
    pub interface: String,
    /// The interface's address.
    pub address: Ipv4Addr,
    /// Index of the RoCE v2 GID of that address.
    pub gid_index: u32,
}

/// Loads the mlx5 driver, both halves of it, and what user space needs to reach it.
pub fn load_mlx5(guest: &Guest) -> Result<()> {
    guest
        .check("modprobe -a mlx5_core mlx5_ib ib_uverbs rdma_ucm", PATIENCE)
        .map(|_| ())
}

/// Removes both halves of the mlx5 driver.
pub fn unload_mlx5(guest: &Guest) -> Result<()> {
    guest
        .check("modprobe -r mlx5_ib && modprobe -r mlx5_core", PATIENCE)
        .map(|_| ())
}

/// Waits for the first RDMA device, gives its interface `address` (of a /24), and waits until the port is active.
pub fn configure(guest: &Guest, address: Ipv4Addr) -> Result<Endpoint> {
    guest
        .wait_until(
            "ls /sys/class/infiniband/*/ports/1/gid_attrs/ndevs/0 >/dev/null 2>&1",
            PATIENCE,
        )
        .context("no RDMA device appeared")?;
    let names = guest.check(
        "cd /sys/class/infiniband; for d in *; do echo $d $(cat $d/ports/1/gid_attrs/ndevs/0); break; done",
        PATIENCE,
    )?;
    let (device, interface) = names
        .trim()
        .split_once(' ')
        .with_context(|| format!("no RDMA device with an interface: {names:?}"))?;
    guest.check(
        &format!(
            "ip link set {interface} mtu 9000 up && ip address replace {address}/24 dev {interface}"
        ),
        PATIENCE,
    )?;
    guest
        .wait_until(
            &format!("grep -q ACTIVE /sys/class/infiniband/{device}/ports/1/state"),
            PATIENCE,
        )
        .with_context(|| format!("port 1 of {device} does not become active"))?;
    let gid_index = find_gid(guest, device, address.into())?;
    Ok(Endpoint {
        device: device.to_owned(),
        interface: interface.to_owned(),
        address,
        gid_index,
    })
}

/// The index of the GID of `address` as RoCE v2, as soon as there is one.
///
/// # Errors
/// There is none for long, or the guest does not answer.
pub fn find_gid(guest: &Guest, device: &str, address: IpAddr) -> Result<u32> {
    let found = guest
        .check(&gid_script(device, &gid(address)), PATIENCE)
        .with_context(|| format!("{device} has no RoCE v2 GID for {address}"))?;
    found
        .trim()
        .parse()
        .with_context(|| format!("not a GID index: {found:?}"))
}

/// The GID of an address as sysfs prints it.
fn gid(address: IpAddr) -> String {
    let gid = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    gid.segments().map(|part| format!("{part:04x}")).join(":")
}

/// Prints the index of `gid` as RoCE v2, as soon as there is one. Of the table, which may have a thousand entries,
/// an interface with a few addresses fills the first.
fn gid_script(device: &str, gid: &str) -> String {
    format!(
        "cd /sys/class/infiniband/{device}/ports/1
        while :; do
            for index in $(seq 0 31); do
                read -r gid <gids/$index && [ \"$gid\" = {gid} ] || continue
                read -r kind <gid_attrs/types/$index && [ \"$kind\" = 'RoCE v2' ] || continue
                echo $index
                exit
            done
            sleep 0.1
        done 2>/dev/null"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    #[test]
    fn gids_are_written_as_sysfs_writes_them() {
        let written = gid(Ipv4Addr::new(192, 0, 2, 1).into());
        assert_eq!(written, "0000:0000:0000:0000:0000:ffff:c000:0201");
    }

    #[test]
    fn the_v2_gid_of_the_address_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let port = folder.path().join("ports/1");
        fs::create_dir_all(port.join("gids")).unwrap();
        fs::create_dir_all(port.join("gid_attrs/types")).unwrap();
        let written = gid(Ipv4Addr::new(192, 0, 2, 1).into());
        for (index, gid, kind) in [
            (0, "fe80::", "RoCE v2"),
            (2, &*written, "IB/RoCE v1"),
            (3, &*written, "RoCE v2"),
        ] {
            fs::write(port.join(format!("gids/{index}")), format!("{gid}\n")).unwrap();
            fs::write(
                port.join(format!("gid_attrs/types/{index}")),
                format!("{kind}\n"),
            )
            .unwrap();
        }
        let script = gid_script("mlx5_0", &written).replace(
            "/sys/class/infiniband/mlx5_0",
            &folder.path().to_string_lossy(),
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "3\n");
    }
}
