//! What a user says about a NIC on the command line.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail};
use rocinante_device::mlx5::PortManager;
use rocinante_device::mlx5::port::LinkSpeed;
use rocinante_wire::MacAddr;
use rocinante_wire::fault::{RuleErrors, Rules};

use crate::ports::PortSpec;

/// A NIC to serve: `socket=PATH[,mac=AA:BB:CC:DD:EE:FF][,link=NAME][,speed=25G]
/// [,manager=on|off|linux]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicSpec {
    /// vfio-user socket.
    pub socket: PathBuf,
    /// MAC address.
    pub mac: MacAddr,
    /// The link it is plugged into; NICs of the same link see each other.
    pub link: String,
    /// The speed of the link at this end, unless the driver wants a lower one.
    pub speed: LinkSpeed,
    /// Whether the driver manages the port.
    pub manager: PortManager,
}

/// The link of NICs that name none.
pub const DEFAULT_LINK: &str = "link0";

impl NicSpec {
    /// A NIC on the default link, with a MAC that depends on nothing but the socket's path.
    pub fn new(socket: PathBuf) -> NicSpec {
        NicSpec {
            mac: mac_of(&socket),
            socket,
            link: DEFAULT_LINK.to_owned(),
            speed: LinkSpeed::default(),
            manager: PortManager::default(),
        }
    }

    /// A short name: the socket's file name without extension.
    pub fn name(&self) -> String {
        self.socket
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
    }

    /// The QEMU arguments that attach it. Memory has to be shared (`memory-backend-memfd` with
    /// `share=on`), which is said once per machine.
    pub fn qemu_device(&self, port: usize) -> String {
        let socket = self.socket.display().to_string();
        // JSON, so that any path is right; serde_json escapes it.
        let device = serde_json::json!({
            "driver": "vfio-user-pci",
            "bus": format!("rnic{port}"),
            "socket": { "type": "unix", "path": socket },
        });
        format!(
            "-device pcie-root-port,id=rnic{port},chassis={} -device '{device}'",
            port + 1
        )
    }
}

impl FromStr for NicSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<NicSpec, String> {
        let mut socket = None;
        let mut mac = None;
        let mut link = None;
        let mut speed = None;
        let mut manager = None;
        for part in text.split(',') {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("'{part}' is not KEY=VALUE"))?;
            if value.is_empty() {
                return Err(format!("{key}= has no value"));
            }
            match key {
                "socket" => socket = Some(PathBuf::from(value)),
                "mac" => mac = Some(parse_mac(value)?),
                "link" => link = Some(value.to_owned()),
                "speed" => speed = Some(value.parse()?),
                "manager" => manager = Some(parse_manager(value)?),
                _ => {
                    return Err(format!(
                        "unknown key '{key}' (socket, mac, link, speed, manager)"
                    ));
                }
            }
        }
        let mut spec = NicSpec::new(socket.ok_or("socket=PATH is missing")?);
        spec.mac = mac.unwrap_or(spec.mac);
        spec.link = link.unwrap_or(spec.link);
        spec.speed = speed.unwrap_or(spec.speed);
        spec.manager = manager.unwrap_or(spec.manager);
        Ok(spec)
    }
}

fn parse_manager(text: &str) -> Result<PortManager, String> {
    match text {
        "on" => Ok(PortManager::Always),
        "off" => Ok(PortManager::Never),
        "linux" => Ok(PortManager::ForLinux),
        _ => Err(format!("'{text}' is none of on, off and linux")),
    }
}

/// The MAC address of what has a socket and was given none: depends on nothing but the path.
pub(crate) fn mac_of(socket: &Path) -> MacAddr {
    let mut hasher = DefaultHasher::new();
    socket.hash(&mut hasher);
    let h = hasher.finish().to_be_bytes();
    // Locally administered, unicast.
    MacAddr::new(0x02, 0x52, h[0], h[1], h[2], h[3])
}

pub(crate) fn parse_mac(text: &str) -> Result<MacAddr, String> {
    let mac: MacAddr = text
        .parse()
        .map_err(|_| format!("'{text}' is not a MAC address"))?;
    if mac.is_multicast() || mac.is_zero() {
        return Err(format!("{mac} is not a unicast address"));
    }
    Ok(mac)
}

/// Every fault must be at a port there is.
pub fn check_faults(
    nics: &[NicSpec],
    ports: &[PortSpec],
    faults: &Rules,
) -> Result<(), RuleErrors> {
    let names: Vec<String> = nics.iter().map(NicSpec::name).collect();
    let of_nics = nics
        .iter()
        .zip(&names)
        .map(|(spec, name)| (spec.link.as_str(), name.as_str()));
    let others = ports
        .iter()
        .map(|spec| (spec.link.as_str(), spec.name.as_str()));
    let places: Vec<(&str, &str)> = of_nics.chain(others).collect();
    faults.check_places(&places)
}

/// Sockets and MAC addresses must be different, and so must the names of ports.
pub fn check(specs: &[NicSpec], ports: &[PortSpec]) -> Result<()> {
    if specs.is_empty() && ports.is_empty() {
        bail!("no NIC to serve");
    }
    let mut names: HashSet<String> = specs.iter().map(NicSpec::name).collect();
    for port in ports {
        if !names.insert(port.name.clone()) {
            bail!(
                "port {} is there twice: name=NAME tells them apart",
                port.name
            );
        }
    }
    let mut sockets = HashSet::new();
    let mut macs = HashSet::new();
    for spec in specs {
        if !sockets.insert(&spec.socket) {
            bail!("socket {} is given twice", spec.socket.display());
        }
        if !macs.insert((&spec.link, spec.mac.octets())) {
            bail!("MAC {} is on link {} twice", spec.mac, spec.link);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_write() {
        let spec: NicSpec = "socket=/run/a.sock,mac=02:00:00:00:00:01,link=blue,speed=25G"
            .parse()
            .unwrap();
        assert_eq!(spec.socket, PathBuf::from("/run/a.sock"));
        assert_eq!(spec.mac, MacAddr::new(2, 0, 0, 0, 0, 1));
        assert_eq!(spec.link, "blue");
        assert_eq!(spec.speed, LinkSpeed::G25);
        assert_eq!(spec.name(), "a");
        let plain: NicSpec = "socket=b.sock".parse().unwrap();
        assert_eq!(plain, NicSpec::new("b.sock".into()));
        assert_eq!(plain.link, DEFAULT_LINK);
        assert_eq!(plain.speed, LinkSpeed::G100);
        assert_eq!(plain.manager, PortManager::ForLinux);
        let guest: NicSpec = "socket=b.sock,manager=off".parse().unwrap();
        assert_eq!(guest.manager, PortManager::Never);
        assert!(!plain.mac.is_multicast());
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |text: &str| text.parse::<NicSpec>().unwrap_err();
        assert_eq!(wrong("mac=02:00:00:00:00:01"), "socket=PATH is missing");
        assert_eq!(
            wrong("socket=a,colour=red"),
            "unknown key 'colour' (socket, mac, link, speed, manager)"
        );
        assert_eq!(wrong("socket=a,mac=zz"), "'zz' is not a MAC address");
        assert!(wrong("socket=a,speed=26G").contains("none of the speeds"));
        assert_eq!(
            wrong("socket=a,manager=no"),
            "'no' is none of on, off and linux"
        );
        assert!(wrong("socket=a,mac=01:00:5e:00:00:01").contains("not a unicast address"));
        assert_eq!(wrong("socket"), "'socket' is not KEY=VALUE");
        let a: NicSpec = "socket=a".parse().unwrap();
        assert!(check(&[a.clone(), a.clone()], &[]).is_err());
        assert!(check(&[], &[]).is_err());
        let port: PortSpec = "udp=127.0.0.1:1,remote=127.0.0.1:2".parse().unwrap();
        let same = PortSpec {
            name: "a".into(),
            ..port.clone()
        };
        assert!(check(std::slice::from_ref(&a), std::slice::from_ref(&port)).is_ok());
        let twice = check(&[a], &[port, same]).unwrap_err().to_string();
        assert_eq!(twice, "port a is there twice: name=NAME tells them apart");
    }
}
