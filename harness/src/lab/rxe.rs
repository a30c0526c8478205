//! A fabric for comparison: Linux' own soft-RoCE (rdma_rxe) over virtio-net, the two guests wired to each other.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::demo::Fabric;
use super::guest::{Guest, GuestConfig};
use super::signals::Scratch;

const PATIENCE: Duration = Duration::from_secs(30);

/// The wire, a UNIX socket between two QEMUs.
pub struct Rxe {
    folder: Scratch,
}

impl Rxe {
    /// A new wire.
    pub fn new() -> Result<Self> {
        let folder = Scratch::new()?;
        Ok(Self { folder })
    }
}

/// Loads virtio-net and soft-RoCE on top of it, and what user space needs to reach it.
pub fn load_rxe(guest: &Guest) -> Result<()> {
    guest.check(
        "modprobe -a virtio_net rdma_rxe ib_uverbs rdma_ucm",
        PATIENCE,
    )?;
    guest.wait_until("test -e /sys/class/net/eth0", PATIENCE)?;
    guest
        .check(
            "ip link set eth0 up && rdma link add rxe0 type rxe netdev eth0",
            PATIENCE,
        )
        .map(|_| ())
}

impl Fabric for Rxe {
    fn attach(&self, guest: usize, mut config: GuestConfig) -> GuestConfig {
        let wire = self.folder.path().join("wire");
        // The first listens, the others come.
        let role = if guest == 0 {
            "server=on"
        } else {
            "server=off,reconnect-ms=100"
        };
        let wire = wire.display();
        config.qemu_arguments.extend([
            "-netdev".into(),
            format!("stream,id=wire,{role},addr.type=unix,addr.path={wire}"),
            "-device".into(),
            // A locally administered address.
            format!(
                "virtio-net-pci,netdev=wire,mac=52:54:00:00:00:{:02x},host_mtu=9000",
                guest + 1
            ),
        ]);
        config
    }

    fn load(&self, guest: &Guest) -> Result<()> {
        load_rxe(guest)
    }

    fn unload(&self, guest: &Guest) -> Result<()> {
        guest.check("rdma link delete rxe0 && modprobe -r rdma_rxe", PATIENCE)?;
        Ok(())
    }

    fn leftovers(&self, _guest: usize) -> Result<Vec<String>> {
        // The device is the driver: it went with it.
        Ok(Vec::new())
    }

    fn capture(&self) -> Result<Option<PathBuf>> {
        Ok(None)
    }
}
