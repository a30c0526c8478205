//! What is tried of the network card: addresses, ping, a TCP copy.

use std::time::Instant;

use anyhow::{Context, bail};

use super::{Found, Outcome, PATIENCE, Run, passed, serve, skipped};
use crate::lab::freebsd::machine::Machine;
use crate::lab::freebsd::parse;
use crate::lab::report::Figure;

impl Run<'_> {
    pub(super) fn ifconfig(&mut self) -> Outcome {
        let [(alice, _), _] = self.pair()?;
        let text = alice.check("ifconfig mce0", PATIENCE)?;
        let field = |name| parse::ifconfig(&text, name).unwrap_or("?");
        if field("status") != "active" {
            bail!("status: {}", field("status"));
        }
        passed(format!("{}, active", field("media")))
    }

    /// Both ways, also with more than a standard frame holds.
    pub(super) fn ping(&mut self) -> Outcome {
        let mut average = 0.0;
        let mut first = true;
        let [a, b] = self.pair()?;
        for (from, to) in [(a, b), (b, a)] {
            for size in [56, 1472, 4000, 8000] {
                let command = format!("ping -c 5 -i 0.2 -s {size} {}", to.1.address);
                let output = from.0.exec(&command, PATIENCE)?;
                let round = parse::ping(&output.text)
                    .with_context(|| format!("from {} with {size} bytes", from.0.name()))?;
                if first {
                    average = round * 1000.0;
                    first = false;
                }
            }
        }
        if let Some(ceiling) = self.plan.ping_latency.filter(|ceiling| average > *ceiling) {
            bail!("{average:.0} µs is above the ceiling of {ceiling} µs");
        }
        Ok(Found::Passed(
            Some(Figure::new(average, "µs")),
            "56, 1472, 4000 and 8000 bytes, both ways".into(),
        ))
    }

    pub(super) fn copy(&mut self) -> Outcome {
        let [a, b] = self.pair()?;
        for (machine, _) in [a, b] {
            let sender = if matches!(machine, Machine::Linux(_)) {
                "socat"
            } else {
                "nc"
            };
            for tool in [sender, machine.sha256()] {
                if !machine.has(tool)? {
                    return skipped(tool);
                }
            }
        }
        let mut port = self.port;
        let mut detail = String::new();
        let mut rate = 0.0_f64;
        for (from, to) in [(a, b), (b, a)] {
            port += 1;
            // Something that every system has, several times.
            let data = "i=0; while [ $i -lt 8 ]; do cat /bin/sh; i=$((i + 1)); done";
            let listen = match to.0 {
                Machine::FreeBsd(_) => format!("nc -l {port} </dev/null"),
                Machine::Linux(_) => format!("socat -u TCP-LISTEN:{port},reuseaddr -"),
            };
            let send = match from.0 {
                Machine::FreeBsd(_) => format!("nc -N {} {port}", to.1.address),
                Machine::Linux(_) => format!("socat -u - TCP:{}:{port}", to.1.address),
            };
            let said = from
                .0
                .check(
                    &format!("{{ {data}; }} | {}; {{ {data}; }} | wc -c", from.0.sha256()),
                    PATIENCE,
                )
                .or_else(|_| {
                    from.0
                        .check(&format!("{{ {data}; }} | {}", from.0.sha256()), PATIENCE)
                })?;
            let wanted = digest(&said).context("no digest of what is sent")?;
            let started = Instant::now();
            let (served, _) = serve(
                to.0,
                from.0,
                &format!("{listen} | {}", to.0.sha256()),
                &format!("{{ {data}; }} | {send} && echo sent"),
            )?;
            let took = started.elapsed().as_secs_f64();
            let got = digest(&served.text).context("no digest of what was received")?;
            if got != wanted {
                bail!(
                    "{} sent what has {wanted}, and {} got what has {got}",
                    from.0.name(),
                    to.0.name()
                );
            }
            if let Some(bytes) = said
                .split_whitespace()
                .last()
                .and_then(|n| n.parse::<u64>().ok())
            {
                rate = bytes as f64 / took / 1_048_576.0;
            }
            detail = format!("both ways, sha256 {}…", wanted.get(..12).unwrap_or(&wanted));
        }
        self.port = port;
        let figure = (rate > 0.0).then(|| Figure::new(rate, "MiB/s"));
        Ok(Found::Passed(figure, detail))
    }
}

/// The SHA-256 in what either system's tool has printed.
fn digest(text: &str) -> Option<String> {
    text.split_whitespace()
        .find(|word| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #[test]
    fn digests_of_both_systems_are_found() {
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(
            super::digest(&format!("{digest}\n")).as_deref(),
            Some(digest)
        );
        assert_eq!(
            super::digest(&format!("{digest}  -\n 8388608\n")).as_deref(),
            Some(digest)
        );
        assert_eq!(super::digest("sha256: not found\n"), None);
    }
}
