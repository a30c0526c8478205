//! What is tried of RDMA: devices, ping-pongs, the connection manager's tools, krping.

use anyhow::{Context, Result, bail};

use super::{Found, Outcome, PATIENCE, PINGS, Peer, Run, passed, serve, skipped};
use crate::lab::freebsd::machine::{End, Machine};
use crate::lab::freebsd::parse::Version;
use crate::lab::guest::excerpt;
use crate::lab::report::Figure;
use crate::lab::tools;

impl Run<'_> {
    pub(super) fn devinfo(&mut self) -> Outcome {
        let mut detail = String::new();
        for (machine, end) in self.pair()? {
            let Some(device) = &end.device else {
                return skipped("mlx5ib");
            };
            if !machine.has("ibv_devinfo")? {
                return skipped("ibv_devinfo");
            }
            let text = machine.check(&format!("ibv_devinfo -v -d {device}"), PATIENCE)?;
            let field = |name| tools::devinfo(&text, name).unwrap_or("?");
            if !field("state").starts_with("PORT_ACTIVE") {
                bail!("in {}: {}", machine.name(), field("state"));
            }
            detail = format!(
                "PORT_ACTIVE, firmware {}, active MTU {}",
                field("fw_ver"),
                field("active_mtu")
            );
        }
        passed(detail)
    }

    /// Why a tool cannot be run by both guests.
    pub(super) fn lacks(&self, tool: &str) -> Result<Option<Outcome>> {
        for (machine, end) in self.pair()? {
            if end.device.is_none() {
                return Ok(Some(skipped("mlx5ib")));
            }
            if !machine.has(tool)? {
                return Ok(Some(skipped(tool)));
            }
        }
        Ok(None)
    }

    pub(super) fn set_version(&self, version: Version) -> Result<()> {
        for (machine, end) in self.pair()? {
            let device = end.device.as_ref().context("no RDMA device")?;
            machine.set_version(device, version)?;
        }
        Ok(())
    }

    pub(super) fn pingpong(&mut self, tool: &str, version: Version) -> Outcome {
        if let Some(outcome) = self.lacks(tool)? {
            return outcome;
        }
        self.port += 1;
        let port = self.port;
        let [client, server] = self.pair()?;
        let command = |(_, end): (&Machine, &End)| -> Result<String> {
            let device = end.device.as_ref().context("no RDMA device")?;
            let gid = end.gid(version).context("no GID")?;
            Ok(format!(
                "{tool} -d {device} -g {gid} -p {port} -n 200 -s 1024"
            ))
        };
        let (_, asked) = serve(
            server.0,
            client.0,
            &command(server)?,
            &format!("{} {}", command(client)?, server.1.address),
        )?;
        Ok(Found::Passed(
            Some(Figure::new(tools::pingpong(&asked.text)?, "Mbit/s")),
            "200 messages each way".into(),
        ))
    }

    pub(super) fn rping(&mut self, version: Version) -> Outcome {
        if let Some(outcome) = self.lacks("rping")? {
            return outcome;
        }
        self.set_version(version)?;
        self.port += 1;
        let [client, server] = self.pair()?;
        let what = format!(
            "-a {} -p {} -C {PINGS} -S 1000 -V -v",
            server.1.address, self.port
        );
        let (_, asked) = serve(
            server.0,
            client.0,
            &format!("rping -s {what}"),
            &format!("rping -c {what}"),
        )?;
        let count = tools::rping(&asked.text)?;
        if count != PINGS {
            bail!("{count} of {PINGS} pings");
        }
        passed(format!("{PINGS} of 1000 bytes, verified"))
    }

    pub(super) fn cm(&mut self, tool: &str, version: Version) -> Outcome {
        if let Some(outcome) = self.lacks(tool)? {
            return outcome;
        }
        self.set_version(version)?;
        self.port += 1;
        let [client, server] = self.pair()?;
        // What is the port to one is the port space to the other.
        let what = match tool {
            "ucmatose" => format!("-p {} -C 10 -S 1000", self.port),
            _ => "-C 10 -S 1000".to_owned(),
        };
        let (served, asked) = serve(
            server.0,
            client.0,
            &format!("{tool} -b {} {what}", server.1.address),
            &format!("{tool} -s {} {what}", server.1.address),
        )?;
        for (end, output) in [("server", served), ("client", asked)] {
            if !output.text.contains("return status 0") {
                bail!("{end}: {}", excerpt(&output.text));
            }
        }
        passed("10 messages of 1000 bytes")
    }

    /// Between two kernels with krping; with a Linux that has none, its rping is the other end, both ways.
    pub(super) fn krping(&mut self, version: Version) -> Outcome {
        if self.pair()?.iter().any(|(_, end)| end.device.is_none()) {
            return skipped("mlx5ib");
        }
        let [(alice, _), (bob, _)] = self.pair()?;
        if !alice.has_krping()? || self.plan.peer == Peer::FreeBsd && !bob.has_krping()? {
            return skipped("krping");
        }
        self.set_version(version)?;
        let first = self.port + 1;
        self.port += 2;
        let [a, b] = self.pair()?;
        let mut said = Vec::new();
        for (offset, (server, client)) in [(b, a), (a, b)].into_iter().enumerate() {
            let port = first + u16::try_from(offset)?;
            let address = server.1.address;
            let command = |machine: &Machine, role: &str| match machine {
                Machine::FreeBsd(_) => format!(
                    "echo '{role},addr={address},port={port},count={PINGS},size=1000,validate' >/dev/krping"
                ),
                Machine::Linux(_) => {
                    let letter = role.get(..1).unwrap_or("s");
                    format!("rping -{letter} -a {address} -p {port} -C {PINGS} -S 1000 -V -v")
                }
            };
            let (served, asked) = serve(
                server.0,
                client.0,
                &command(server.0, "server"),
                &command(client.0, "client"),
            )?;
            for (machine, output) in [(server.0, &served), (client.0, &asked)] {
                if matches!(machine, Machine::Linux(_)) {
                    let count = tools::rping(&output.text)?;
                    if count != PINGS {
                        bail!("rping saw {count} of {PINGS} pings");
                    }
                }
            }
            let tool = |machine: &Machine| match machine {
                Machine::FreeBsd(_) => "krping",
                Machine::Linux(_) => "rping",
            };
            said.push(format!(
                "{} in {} to {} in {}",
                tool(client.0),
                client.0.name(),
                tool(server.0),
                server.0.name()
            ));
        }
        for (machine, _) in [a, b] {
            let messages = machine.messages()?;
            if let Some(line) = messages.lines().find(|line| line.contains("data mismatch")) {
                bail!("{}: {}", machine.name(), line.trim());
            }
        }
        passed(format!(
            "{PINGS} of 1000 bytes, verified: {}",
            said.join("; ")
        ))
    }
}
