//! What a user says about a port that leaves the process.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use rocinante_wire::vxlan::{self, Vni};

use super::VmPort;
use super::interface::NAME_MAX;
use crate::serve::DEFAULT_LINK;

/// What a port leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// A TAP interface with this name: attached to, or made.
    Tap(String),
    /// A network interface of the host.
    Host(String),
    /// Datagrams to and from one address, a frame in each.
    Udp {
        /// Where datagrams arrive.
        local: SocketAddr,
        /// Where they go and have to come from.
        remote: SocketAddr,
    },
    /// A VXLAN tunnel to one end point.
    Vxlan {
        /// Where datagrams arrive.
        local: SocketAddr,
        /// Where they go; they have to come from its address, from any port.
        remote: SocketAddr,
        /// The network.
        vni: Vni,
    },
    /// The virtio-net card of a VM.
    Vm(VmPort),
}

/// A port to serve: `tap=NAME`, `host=IFNAME`, `udp=ADDR:PORT,remote=ADDR:PORT`,
/// `vxlan=ADDR[:PORT],remote=ADDR[:PORT],vni=N` or `vhost-user=PATH[,mac=MAC]`, each with `[,link=NAME][,name=NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// What it leads to.
    pub kind: PortKind,
    /// The link it is plugged into.
    pub link: String,
    /// By which rules, captures and counters know it.
    pub name: String,
}

/// The keys, for those who mistake one.
const KEYS: &str = "tap, host, udp, vxlan, remote, vni, vhost-user, mac, link, name";

/// What was given, by key.
#[derive(Default)]
struct Given<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Given<'a> {
    fn parse(text: &'a str) -> Result<Given<'a>, String> {
        let mut given = Given::default();
        for part in text.split(',') {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("'{part}' is not KEY=VALUE"))?;
            if value.is_empty() {
                return Err(format!("{key}= has no value"));
            }
            if !KEYS.split(", ").any(|known| known == key) {
                return Err(format!("unknown key '{key}' ({KEYS})"));
            }
            if given.take(key).is_some() {
                return Err(format!("{key}= is given twice"));
            }
            given.0.push((key, value));
        }
        Ok(given)
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|(known, _)| *known == key)?;
        Some(self.0.swap_remove(at).1)
    }

    fn need(&mut self, key: &str, kind: &str) -> Result<&'a str, String> {
        self.take(key)
            .ok_or_else(|| format!("{kind}= needs {key}="))
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is not ADDRESS:PORT"))
}

/// An address that may leave out the port.
fn end_point(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, vxlan::PORT)),
        Err(_) => address(text),
    }
}

fn interface(name: &str) -> Result<String, String> {
    let odd = |c: char| c == '/' || c == '%' || c.is_whitespace();
    if name.len() > NAME_MAX || name.contains(odd) {
        return Err(format!("'{name}' is not the name of an interface"));
    }
    Ok(name.to_owned())
}

fn pair(local: SocketAddr, remote: SocketAddr) -> Result<(SocketAddr, SocketAddr), String> {
    if local.is_ipv4() != remote.is_ipv4() {
        return Err(format!("{local} and {remote} are of different families"));
    }
    Ok((local, remote))
}

impl FromStr for PortSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<PortSpec, String> {
        let mut given = Given::parse(text)?;
        let link = given.take("link");
        let name = given.take("name");
        let (kind, usual) = if let Some(name) = given.take("tap") {
            (PortKind::Tap(interface(name)?), name.to_owned())
        } else if let Some(name) = given.take("host") {
            (PortKind::Host(interface(name)?), name.to_owned())
        } else if let Some(local) = given.take("udp") {
            let remote = given.need("remote", "udp")?;
            let (local, remote) = pair(address(local)?, address(remote)?)?;
            (PortKind::Udp { local, remote }, "udp".to_owned())
        } else if let Some(local) = given.take("vxlan") {
            let remote = given.need("remote", "vxlan")?;
            let (local, remote) = pair(end_point(local)?, end_point(remote)?)?;
            let vni: Vni = given.need("vni", "vxlan")?.parse()?;
            let name = format!("vxlan{vni}");
            (PortKind::Vxlan { local, remote, vni }, name)
        } else if let Some(path) = given.take("vhost-user") {
            let vm = VmPort::new(path.into(), given.take("mac"))?;
            let name = vm.name();
            (PortKind::Vm(vm), name)
        } else {
            return Err("none of tap=, host=, udp=, vxlan= and vhost-user= is given".to_owned());
        };
        if let Some((key, _)) = given.0.first() {
            return Err(format!("{key}= is of no use here"));
        }
        Ok(PortSpec {
            kind,
            link: link.unwrap_or(DEFAULT_LINK).to_owned(),
            name: name.map_or(usual, str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_write() {
        let plain: PortSpec = "udp=127.0.0.1:7000,remote=127.0.0.2:7001".parse().unwrap();
        let kind = PortKind::Udp {
            local: "127.0.0.1:7000".parse().unwrap(),
            remote: "127.0.0.2:7001".parse().unwrap(),
        };
        assert_eq!(plain.kind, kind);
        assert_eq!((&*plain.link, &*plain.name), (DEFAULT_LINK, "udp"));
        let named: PortSpec = "name=west,link=blue,remote=[::1]:2,udp=[::]:1"
            .parse()
            .unwrap();
        assert_eq!((&*named.link, &*named.name), ("blue", "west"));
        let vm: PortSpec = "vhost-user=/run/vm1.sock,mac=02:00:00:00:00:07"
            .parse()
            .unwrap();
        assert_eq!((&*vm.link, &*vm.name), (DEFAULT_LINK, "vm1"));
        let tap: PortSpec = "tap=tap0".parse().unwrap();
        assert_eq!(tap.kind, PortKind::Tap("tap0".into()));
        let host: PortSpec = "host=eth0,name=uplink".parse().unwrap();
        assert_eq!(host.kind, PortKind::Host("eth0".into()));
        assert_eq!((&*tap.name, &*host.name), ("tap0", "uplink"));
        let vxlan: PortSpec = "vxlan=0.0.0.0,remote=10.0.0.2,vni=42".parse().unwrap();
        let kind = PortKind::Vxlan {
            local: "0.0.0.0:4789".parse().unwrap(),
            remote: "10.0.0.2:4789".parse().unwrap(),
            vni: Vni::new(42).unwrap(),
        };
        assert_eq!((vxlan.kind, &*vxlan.name), (kind, "vxlan42"));
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |text: &str| text.parse::<PortSpec>().unwrap_err();
        assert_eq!(wrong("udp"), "'udp' is not KEY=VALUE");
        assert_eq!(wrong("udp="), "udp= has no value");
        assert_eq!(wrong("udp=127.0.0.1:1"), "udp= needs remote=");
        assert_eq!(
            wrong("remote=127.0.0.1:1,link=a,link=b"),
            "link= is given twice"
        );
        assert!(wrong("colour=red").starts_with("unknown key 'colour' ("));
        assert!(wrong("link=a").starts_with("none of "));
        assert_eq!(wrong("tap=t,host=e"), "host= is of no use here");
        assert_eq!(wrong("tap=t,vni=1"), "vni= is of no use here");
        assert!(wrong("tap=much-too-long-a-name").ends_with("the name of an interface"));
        let vxlan = "vxlan=::1,remote=::2";
        assert_eq!(wrong(vxlan), "vxlan= needs vni=");
        assert!(wrong(&format!("{vxlan},vni=16777216")).contains("is not a VNI"));
        let vm = "vhost-user=a,mac=01:00:5e:00:00:01";
        assert!(wrong(vm).ends_with("is not a unicast address"));
        assert_eq!(
            wrong("vhost-user=a,remote=[::]:1"),
            "remote= is of no use here"
        );
        let both = "udp=localhost,remote=127.0.0.1:1";
        assert_eq!(wrong(both), "'localhost' is not ADDRESS:PORT");
        let both = "udp=[::]:1,remote=127.0.0.1:1";
        assert!(wrong(both).ends_with("are of different families"));
    }
}
