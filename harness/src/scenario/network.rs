//! A guest's NIC made ready for traffic, and what its system calls it.

use std::time::Duration;

use anyhow::{Context, Result};

use super::model::NicPlan;
use super::template::Variables;
use crate::lab::Guest;
use crate::lab::freebsd::{Machine, Version, gids};

const PATIENCE: Duration = Duration::from_secs(90);

/// A NIC as its guest knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The RDMA device; `None` if the system has no driver for it.
    pub device: Option<String>,
    /// The interface.
    pub interface: String,
    /// The GIDs of its address.
    pub gids: Vec<(Version, u32)>,
}

impl End {
    /// Sets the variables of `nic`.
    pub fn tell(&self, nic: &NicPlan, variables: &mut Variables) {
        let mut set = |part: &str, value: String| {
            variables.insert(format!("{}.{part}", nic.name), value);
        };
        set("interface", self.interface.clone());
        if let Some(device) = &self.device {
            set("device", device.clone());
        }
        for (version, index) in &self.gids {
            let part = match version {
                Version::V1 => "gid_v1",
                Version::V2 => "gid",
            };
            set(part, index.to_string());
        }
    }
}

/// The variables of a NIC that are known without a guest.
pub fn tell_plan(nic: &NicPlan, variables: &mut Variables) {
    for (part, value) in [
        ("ip", nic.address.to_string()),
        ("mac", nic.mac.to_string()),
        ("mtu", nic.mtu.to_string()),
    ] {
        variables.insert(format!("{}.{part}", nic.name), value);
    }
}

/// Waits for a NIC's interface and device, gives it its address, and waits for the link and the GIDs.
pub fn configure(machine: &Machine, nic: &NicPlan) -> Result<End> {
    match machine {
        Machine::Linux(guest) => configure_linux(guest, nic),
        Machine::FreeBsd(_) => {
            let end = machine.configure(nic.address)?;
            let mtu = format!("ifconfig {} mtu {}", end.interface, nic.mtu);
            machine.check(&mtu, PATIENCE)?;
            Ok(End {
                device: end.device,
                interface: end.interface,
                gids: end.gids,
            })
        }
    }
}

fn configure_linux(guest: &Guest, nic: &NicPlan) -> Result<End> {
    let found = guest
        .check(&script(nic), PATIENCE)
        .with_context(|| format!("NIC {} does not become ready", nic.name))?;
    let mut lines = found.lines();
    let (device, interface) = lines
        .next()
        .and_then(|line| line.split_once(' '))
        .with_context(|| format!("not what the script prints: {found:?}"))?;
    let table: Vec<&str> = lines.collect();
    Ok(End {
        device: Some(device.to_owned()),
        interface: interface.to_owned(),
        gids: gids(&table.join("\n"), nic.address),
    })
}

/// Does it all, and prints a line with device and interface, then the table of GIDs.
fn script(nic: &NicPlan) -> String {
    let [a, b, c, d] = nic.address.octets();
    let NicPlan {
        mac,
        mtu,
        address,
        prefix,
        ..
    } = nic;
    format!(
        "I=; until [ -n \"$I\" ]; do
            for i in /sys/class/net/*; do
                [ -e $i/device ] && [ \"$(cat $i/address)\" = {mac} ] && I=${{i##*/}}
            done
            [ -n \"$I\" ] || sleep 0.05
        done
        D=; until [ -n \"$D\" ]; do
            for d in /sys/class/infiniband/*; do
                [ \"$(cat $d/ports/1/gid_attrs/ndevs/0 2>/dev/null)\" = $I ] && D=${{d##*/}}
            done
            [ -n \"$D\" ] || sleep 0.05
        done
        ip link set $I mtu {mtu} up && ip address replace {address}/{prefix} dev $I || exit 1
        cd /sys/class/infiniband/$D/ports/1
        until grep -q ACTIVE state; do sleep 0.05; done
        echo $D $I
        gid=0000:0000:0000:0000:0000:ffff:{a:02x}{b:02x}:{c:02x}{d:02x}
        while :; do
            T=$(for i in $(seq 0 15); do
                read -r g <gids/$i && [ \"$g\" = $gid ] && echo $i $g $(cat gid_attrs/types/$i)
            done 2>/dev/null)
            case $T in *v2*) echo \"$T\"; exit 0 ;; esac
            sleep 0.05
        done"
    )
}
