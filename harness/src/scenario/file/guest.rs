//! The tables `[guest.NAME]`: what is booted, and the NICs in it.

use std::net::Ipv4Addr;
use std::path::Path;

use regex::Regex;
use rocinante_wire::MacAddr;

use super::super::counter::RESERVED;
use super::super::model::{GuestPlan, KernelPlan, LogPlan, Machines, NicPlan, Setup, System};
use super::super::source::Wrong;
use super::{Logs, Reader, Table, Value, check_name};
use crate::lab::freebsd::Image;
use crate::ports::PortSpec;
use crate::serve::{DEFAULT_LINK, NicSpec};

const KEYS: &[&str] = &[
    "os",
    "kernel",
    "kernel_image",
    "modules",
    "files",
    "image",
    "password",
    "processors",
    "memory",
    "setup",
    "nic",
    "kernel_log",
    "allow",
    "qemu",
    "kernel_arguments",
];
const NIC_KEYS: &[&str] = &["name", "mac", "link", "speed", "manager", "address", "mtu"];

/// The networks of RFC 5737, for the first links.
const NETWORKS: [[u8; 3]; 3] = [[192, 0, 2], [198, 51, 100], [203, 0, 113]];
/// Of Linux; what tools run in it needs no more.
const MEMORY: u64 = 1024;
/// Of FreeBSD: ZFS wants so much.
const FREEBSD_MEMORY: u64 = 2048;

impl Reader<'_> {
    pub(super) fn machines(
        &self,
        wrongs: &mut Vec<Wrong>,
    ) -> Result<(Machines, Vec<LogPlan>), Wrong> {
        let guests = self.root.need("guest")?.table()?;
        let mut machines = Machines {
            guests: Vec::new(),
            nics: Vec::new(),
            ports: Vec::new(),
        };
        let mut logs = Logs::new();
        for value in guests.iter() {
            if let Err(wrong) = self.guest(&value, &mut machines, &mut logs) {
                wrongs.push(wrong);
            }
        }
        for value in self.root.list("ports") {
            match self.port(&value, &machines) {
                Ok(port) => machines.ports.push(port),
                Err(wrong) => wrongs.push(wrong),
            }
        }
        let logs = machines
            .guests
            .iter()
            .map(|guest| logs.remove(&guest.name).unwrap_or_default())
            .collect();
        Ok((machines, logs))
    }

    /// A port that leads elsewhere, as `serve --port` has it.
    fn port(&self, value: &Value<'_>, machines: &Machines) -> Result<PortSpec, Wrong> {
        let port: PortSpec = value
            .words()?
            .replace("{loopback}", &loopback(std::process::id()).to_string())
            .parse()
            .map_err(|error: String| value.wrong(error))?;
        let nics = machines.nics.iter().map(|nic| &nic.name);
        let others = machines.ports.iter().map(|port| &port.name);
        if nics.chain(others).any(|name| *name == port.name) {
            return Err(value.wrong(format!("there is a port '{}' already", port.name)));
        }
        Ok(port)
    }

    fn guest(
        &self,
        value: &Value<'_>,
        machines: &mut Machines,
        logs: &mut Logs,
    ) -> Result<(), Wrong> {
        check_name(value, value.key)?;
        let table = value.table()?;
        table.only(KEYS)?;
        let system = self.system(&table)?;
        let is_linux = matches!(system, System::Linux { .. });
        let number = machines.guests.len();
        logs.insert(value.key.to_owned(), log_plan(&table)?);
        let setup = match table.text("setup")?.as_deref() {
            None | Some("network") => Setup::Network,
            Some("driver") => Setup::Driver,
            Some("boot") => Setup::Boot,
            Some(_) => {
                return Err(table
                    .need("setup")?
                    .wrong("'setup' is \"boot\", \"driver\" or \"network\""));
            }
        };
        let words = |key: &str| -> Result<Vec<String>, Wrong> {
            table.list(key).iter().map(Value::words).collect()
        };
        let memory = if is_linux { MEMORY } else { FREEBSD_MEMORY };
        machines.guests.push(GuestPlan {
            name: value.key.to_owned(),
            system,
            processors: table.number("processors", 1, 64)?.unwrap_or(1) as u32,
            memory: table.number("memory", 128, 1 << 20)?.unwrap_or(memory) as u32,
            setup,
            restarts: false,
            qemu_arguments: words("qemu")?,
            kernel_arguments: words("kernel_arguments")?,
        });
        match table.get("nic") {
            None => self.nic(None, value, number, machines),
            Some(nics) => {
                let list = nics.list();
                if !is_linux && list.len() > 1 {
                    return Err(nics.wrong("FreeBSD guests have one NIC"));
                }
                for nic in list {
                    self.nic(Some(nic), value, number, machines)?;
                }
                Ok(())
            }
        }
    }

    fn system(&self, table: &Table<'_>) -> Result<System, Wrong> {
        let of = |keys: &[&str], what: &str| -> Result<(), Wrong> {
            match keys.iter().find_map(|key| table.get(key)) {
                Some(value) => Err(value.wrong(format!("'{}' is for {what} only", value.key))),
                None => Ok(()),
            }
        };
        match table.text("os")?.as_deref() {
            None | Some("linux") => {
                of(&["image", "password"], "FreeBSD guests (os = \"freebsd\")")?;
                let exists = |value: &Value<'_>, folder: bool| {
                    let path = self.resolve(value)?;
                    let there = if folder {
                        path.is_dir()
                    } else {
                        path.is_file()
                    };
                    if there {
                        Ok(path)
                    } else {
                        let what = if folder { "folder" } else { "file" };
                        Err(value.wrong(format!("{}: no such {what}", path.display())))
                    }
                };
                let modules = match table.get("modules") {
                    Some(value) => Some(exists(&value, true)?),
                    None => None,
                };
                let kernel = match (table.get("kernel"), table.get("kernel_image")) {
                    (Some(_), Some(value)) => {
                        return Err(value.wrong("either 'kernel' or 'kernel_image'"));
                    }
                    (Some(value), None) => Some(KernelPlan::Series(
                        value
                            .text()?
                            .parse()
                            .map_err(|error: String| value.wrong(error))?,
                    )),
                    (None, Some(value)) => Some(KernelPlan::Own {
                        image: exists(&value, false)?,
                        modules: modules.clone(),
                    }),
                    (None, None) => None,
                };
                if let (Some(value), None) = (table.get("modules"), table.get("kernel_image")) {
                    return Err(value.wrong("'modules' are those of a 'kernel_image'"));
                }
                let files = match table.get("files") {
                    Some(value) => Some(exists(&value, true)?),
                    None => None,
                };
                Ok(System::Linux { kernel, files })
            }
            Some("freebsd") => {
                of(
                    &[
                        "kernel",
                        "kernel_image",
                        "modules",
                        "files",
                        "qemu",
                        "kernel_arguments",
                    ],
                    "Linux guests",
                )?;
                let value = table.need("image")?;
                let path = self.resolve(&value)?;
                Image::open(Some(&path)).map_err(|error| value.wrong(error.to_string()))?;
                Ok(System::FreeBsd {
                    image: path,
                    password: table.text("password")?,
                })
            }
            Some(_) => Err(table
                .need("os")?
                .wrong("'os' is \"linux\" (the lab's) or \"freebsd\" (with an 'image')")),
        }
    }

    /// A NIC, all of whose keys may be left out.
    fn nic(
        &self,
        value: Option<Value<'_>>,
        guest: &Value<'_>,
        number: usize,
        machines: &mut Machines,
    ) -> Result<(), Wrong> {
        let at = value.unwrap_or(*guest);
        let table = match value {
            Some(value) => Some(value.table()?),
            None => None,
        };
        let get = |key: &str| table.as_ref().and_then(|table| table.get(key));
        if let Some(table) = &table {
            table.only(NIC_KEYS)?;
        }
        let place = machines.nics_of(number).count();
        let name = match get("name") {
            Some(value) => {
                let name = value.text()?;
                check_name(&value, &name)?;
                name
            }
            None if place == 0 => guest.key.to_owned(),
            None => format!("{}{}", guest.key, place + 1),
        };
        if RESERVED.contains(&name.as_str()) {
            return Err(at.wrong(format!("'{name}' cannot be the name of a NIC")));
        }
        if machines.nic(&name).is_some() {
            return Err(at.wrong(format!("there is a NIC '{name}' already")));
        }
        let link = match get("link") {
            Some(value) => {
                let link = value.text()?;
                check_name(&value, &link)?;
                link
            }
            None => DEFAULT_LINK.to_owned(),
        };
        // The keys mean what they mean on the command line.
        let mut spec = NicSpec::new(Path::new(&name).to_owned());
        for key in ["speed", "manager", "mac"] {
            if let Some(value) = get(key) {
                let text = value.words()?;
                if text.contains(',') {
                    return Err(value.wrong(format!("'{text}' is no {key}")));
                }
                let words = format!("socket={name},{key}={text}");
                let parsed: NicSpec = words.parse().map_err(|error: String| value.wrong(error))?;
                match key {
                    "speed" => spec.speed = parsed.speed,
                    "manager" => spec.manager = parsed.manager,
                    _ => spec.mac = parsed.mac,
                }
            }
        }
        let nth = machines.nics.len() as u8;
        if get("mac").is_none() {
            // Locally administered.
            spec.mac = MacAddr::new(0x02, 0x52, 0, 0, 0, nth.wrapping_add(1));
        }
        if machines
            .nics
            .iter()
            .any(|nic| nic.link == link && nic.mac == spec.mac)
        {
            return Err(at.wrong(format!("{} is on link {link} twice", spec.mac)));
        }
        let (address, prefix) = match get("address") {
            Some(value) => {
                let text = value.text()?;
                address(&text).ok_or_else(|| {
                    value.wrong(format!(
                        "'{text}' is no IPv4 address of an interface, like \"10.0.0.1/24\""
                    ))
                })?
            }
            None => (default_address(machines, &link, &at)?, 24),
        };
        let mtu = match get("mtu") {
            Some(value) => value.number(576, 9978)? as u16,
            None => 9000,
        };
        machines.nics.push(NicPlan {
            name,
            guest: number,
            mac: spec.mac,
            link,
            speed: spec.speed,
            manager: spec.manager,
            address,
            prefix,
            mtu,
        });
        Ok(())
    }
}

/// An address of this host that no other run has: of 127.64.0.0/10, after the process, whose number has 22 bits at most.
fn loopback(process: u32) -> Ipv4Addr {
    let [_, a, b, c] = process.to_be_bytes();
    Ipv4Addr::new(127, 64 | (a & 63), b, c)
}

fn address(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "24"));
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    let address: Ipv4Addr = address.parse().ok()?;
    let good = !address.is_multicast() && !address.is_unspecified() && !address.is_broadcast();
    good.then_some((address, prefix))
}

/// Links have networks of their own, in the order in which they are named, and NICs on them count from 1.
fn default_address(machines: &Machines, link: &str, at: &Value<'_>) -> Result<Ipv4Addr, Wrong> {
    let mut links: Vec<&str> = Vec::new();
    for known in machines.nics.iter().map(|nic| nic.link.as_str()) {
        if !links.contains(&known) {
            links.push(known);
        }
    }
    let index = links
        .iter()
        .position(|known| *known == link)
        .unwrap_or(links.len());
    let [a, b, c] = *NETWORKS
        .get(index)
        .ok_or_else(|| at.wrong("a NIC on a fourth link needs an 'address'"))?;
    let taken = |host: u8| {
        let address = Ipv4Addr::new(a, b, c, host);
        machines.nics.iter().any(|nic| nic.address == address)
    };
    (1..255)
        .find(|host| !taken(*host))
        .map(|host| Ipv4Addr::new(a, b, c, host))
        .ok_or_else(|| at.wrong("there are no more addresses"))
}

fn log_plan(table: &Table<'_>) -> Result<LogPlan, Wrong> {
    let ignored = match table.text("kernel_log")?.as_deref() {
        None | Some("clean") => false,
        Some("any") => true,
        Some(_) => {
            return Err(table
                .need("kernel_log")?
                .wrong("'kernel_log' is \"clean\" or \"any\""));
        }
    };
    let mut allowed = Vec::new();
    for value in table.list("allow") {
        let text = value.words()?;
        allowed.push(
            Regex::new(&text)
                .map_err(|error| value.wrong(format!("not a regular expression: {error}")))?,
        );
    }
    Ok(LogPlan { ignored, allowed })
}
