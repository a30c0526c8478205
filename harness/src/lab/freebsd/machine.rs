//! A guest of either system, as far as tests between the two need to tell them apart.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::guest::{Background, FreeBsd};
use super::parse::{self, Version};
use crate::lab::guest::{Guest, Job, Output};
use crate::lab::{dmesg, endpoint};

/// For commands that hardly do anything, on an emulated processor.
pub(super) const SHORT: Duration = Duration::from_secs(120);
/// A driver has attached by then.
const ATTACH: Duration = Duration::from_secs(300);

/// A guest.
pub enum Machine {
    /// With FreeBSD.
    FreeBsd(FreeBsd),
    /// With the lab's Linux.
    Linux(Guest),
}

/// A command in the background.
pub enum Task<'a> {
    /// In FreeBSD.
    FreeBsd(Background<'a>),
    /// In Linux.
    Linux(Job),
}

/// A guest's NIC, ready to talk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The RDMA device; `None` if the system has no driver for it.
    pub device: Option<String>,
    /// The interface.
    pub interface: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its GIDs' indices by version of RoCE.
    pub gids: Vec<(Version, u32)>,
}

impl End {
    /// The index of the GID for `version`.
    pub fn gid(&self, version: Version) -> Option<u32> {
        self.gids
            .iter()
            .find(|(of, _)| *of == version)
            .map(|(_, index)| *index)
    }
}

impl Machine {
    /// Its name in reports.
    pub fn name(&self) -> &str {
        match self {
            Self::FreeBsd(guest) => guest.name(),
            Self::Linux(guest) => guest.name(),
        }
    }

    /// What runs in it.
    pub fn system(&self) -> Result<String> {
        Ok(match self {
            Self::FreeBsd(_) => {
                let release = self.check("sysctl -n kern.osrelease", SHORT)?;
                format!("FreeBSD {}", release.trim())
            }
            Self::Linux(_) => format!("Linux {}", self.check("uname -r", SHORT)?.trim()),
        })
    }

    /// Runs a command and waits for its end.
    pub fn exec(&self, command: &str, patience: Duration) -> Result<Output> {
        match self {
            Self::FreeBsd(guest) => guest.exec(command, patience),
            Self::Linux(guest) => guest.exec(command, patience),
        }
    }

    /// Like [`Machine::exec`], where another exit status than 0 is an error too.
    pub fn check(&self, command: &str, patience: Duration) -> Result<String> {
        match self {
            Self::FreeBsd(guest) => guest.check(command, patience),
            Self::Linux(guest) => guest.check(command, patience),
        }
    }

    /// Starts a command in the background.
    pub fn start(&self, command: &str) -> Result<Task<'_>> {
        Ok(match self {
            Self::FreeBsd(guest) => Task::FreeBsd(guest.start(command)?),
            Self::Linux(guest) => Task::Linux(guest.spawn(command)?),
        })
    }

    /// Whether it has a program.
    pub fn has(&self, program: &str) -> Result<bool> {
        Ok(self.exec(&format!("command -v {program}"), SHORT)?.ok())
    }

    /// Whether it has krping: as a device, or as a module that can be loaded.
    pub fn has_krping(&self) -> Result<bool> {
        match self {
            Self::FreeBsd(_) => Ok(self
                .exec(
                    "[ -c /dev/krping ] || { kldload -n krping && [ -c /dev/krping ]; }",
                    SHORT,
                )?
                .ok()),
            Self::Linux(_) => Ok(false),
        }
    }

    /// Loads the drivers and waits for the interface.
    pub fn attach(&self) -> Result<()> {
        match self {
            Self::FreeBsd(_) => {
                // A lease that cannot be had must not take our address away. Modules may be in the kernel.
                self.exec(
                    "command -v service && { service devd onestop; pkill dhclient; }
                     command -v kldload && for module in mlx5en mlx5ib; do kldload -n $module; done",
                    ATTACH,
                )?;
                self.check("until ifconfig mce0; do sleep 1; done", ATTACH)
                    .context("no mce0 appears: has the image mlx5en?")
                    .map(|_| ())
            }
            Self::Linux(guest) => endpoint::load_mlx5(guest),
        }
    }

    /// Gives the interface `address` of a /24 and an MTU of 9000, and waits for the link and the GIDs.
    pub fn configure(&self, address: Ipv4Addr) -> Result<End> {
        match self {
            Self::FreeBsd(_) => self.configure_freebsd(address),
            Self::Linux(guest) => {
                let end = endpoint::configure(guest, address)?;
                let port = format!("/sys/class/infiniband/{}/ports/1", end.device);
                let table = guest.check(
                    &format!(
                        "cd {port}; for i in $(seq 0 31); do echo $i $(cat gids/$i gid_attrs/types/$i 2>/dev/null); done"
                    ),
                    SHORT,
                )?;
                Ok(End {
                    gids: parse::gids(&table, address),
                    device: Some(end.device),
                    interface: end.interface,
                    address,
                })
            }
        }
    }

    fn configure_freebsd(&self, address: Ipv4Addr) -> Result<End> {
        self.check(
            &format!("ifconfig mce0 inet {address}/24 mtu 9000 up"),
            SHORT,
        )?;
        self.check(
            "until ifconfig mce0 | while read -r key value; do [ \"$key $value\" = 'status: active' ] && echo up; done | read -r up; do sleep 1; done",
            ATTACH,
        )
        .context("mce0 has no carrier")?;
        let has_rdma = self
            .exec("sysctl -n sys.class.infiniband.mlx5_0.node_guid", SHORT)?
            .ok();
        if !has_rdma {
            return Ok(End {
                device: None,
                interface: "mce0".into(),
                address,
                gids: Vec::new(),
            });
        }
        let port = "sys.class.infiniband.mlx5_0.ports.1";
        let table = format!(
            "i=0; while [ $i -lt 16 ]; do echo $i $(sysctl -n {port}.gids.$i {port}.gid_attrs.types.$i 2>/dev/null); i=$((i + 1)); done"
        );
        // The table follows the address soon.
        let mut gids = Vec::new();
        for _ in 0..10 {
            gids = parse::gids(&self.check(&table, SHORT)?, address);
            if gids.len() == 2 {
                break;
            }
            self.check("sleep 1", SHORT)?;
        }
        if gids.len() != 2 {
            bail!("mlx5_0 of {} has no GIDs for {address}", self.name());
        }
        Ok(End {
            device: Some("mlx5_0".into()),
            interface: "mce0".into(),
            address,
            gids,
        })
    }

    /// Which version of RoCE the connection manager takes from now on.
    pub fn set_version(&self, device: &str, version: Version) -> Result<()> {
        let name = version.name();
        let command = match self {
            Self::FreeBsd(_) => {
                format!("sysctl sys.class.infiniband.{device}.default_roce_mode_port1='{name}'")
            }
            Self::Linux(_) => format!(
                "c=/sys/kernel/config; modprobe configfs 2>/dev/null; modprobe rdma_cm 2>/dev/null
                 [ -d $c/rdma_cm ] || mount -t configfs none $c
                 mkdir -p $c/rdma_cm/{device} && echo '{name}' >$c/rdma_cm/{device}/ports/1/default_roce_mode"
            ),
        };
        self.check(&command, SHORT).map(|_| ())
    }

    /// A command that prints what `command` pipes into it as a SHA-256 in hexadecimal digits.
    pub fn sha256(&self) -> &'static str {
        match self {
            Self::FreeBsd(_) => "sha256",
            Self::Linux(_) => "sha256sum",
        }
    }

    /// All that its kernel has said.
    pub fn messages(&self) -> Result<String> {
        match self {
            Self::FreeBsd(_) => {
                // The buffer begins with zeroes, which end a string for sysctl.
                let said = self.check(
                    "if command -v dmesg >/dev/null; then dmesg; else sysctl -b kern.msgbuf; fi",
                    SHORT,
                )?;
                if said.trim().is_empty() {
                    bail!("the kernel of {} has no messages", self.name());
                }
                Ok(said)
            }
            Self::Linux(guest) => guest.dmesg(),
        }
    }

    /// Those of its kernel's lines that a healthy adapter would not cause.
    pub fn complaints(&self, messages: &str) -> Vec<String> {
        let lines = match self {
            Self::FreeBsd(_) => parse::complaints(messages),
            Self::Linux(_) => dmesg::complaints(messages),
        };
        lines.into_iter().map(str::to_owned).collect()
    }
}

impl Task<'_> {
    /// Waits for its end.
    pub fn wait(self, patience: Duration) -> Result<Output> {
        match self {
            Self::FreeBsd(job) => job.wait(patience),
            Self::Linux(job) => job.wait(patience),
        }
    }

    /// Ends it.
    pub fn kill(&self) -> Result<()> {
        match self {
            Self::FreeBsd(job) => job.kill(),
            Self::Linux(job) => job.kill(),
        }
    }
}
