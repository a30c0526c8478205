//! What a user says about a port that leaves the process.

use std::net::SocketAddr;
use std::str::FromStr;

use crate::serve::DEFAULT_LINK;

/// What a port leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// Datagrams to and from one address, a frame in each.
    Udp {
        /// Where datagrams arrive.
        local: SocketAddr,
        /// Where they go and have to come from.
        remote: SocketAddr,
    },
}

/// A port to serve: `udp=ADDR:PORT,remote=ADDR:PORT`, each with `[,link=NAME][,name=NAME]`.
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
const KEYS: &str = "udp, remote, link, name";

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

fn pair(local: &str, remote: &str) -> Result<(SocketAddr, SocketAddr), String> {
    let (local, remote) = (address(local)?, address(remote)?);
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
        let (kind, usual) = if let Some(local) = given.take("udp") {
            let (local, remote) = pair(local, given.need("remote", "udp")?)?;
            (PortKind::Udp { local, remote }, "udp".to_owned())
        } else {
            return Err("none of udp= is given".to_owned());
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
        let both = "udp=localhost,remote=127.0.0.1:1";
        assert_eq!(wrong(both), "'localhost' is not ADDRESS:PORT");
        let both = "udp=[::]:1,remote=127.0.0.1:1";
        assert!(wrong(both).ends_with("are of different families"));
    }
}
