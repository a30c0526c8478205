//! Counters in the text format of Prometheus. Knows names and meanings, not how they are fetched.

use std::fmt::Write;

use rocinante_device::mlx5::inspect::Counters;
use serde_json::{Value, json};

use super::counters::{Snapshot, of_cable, of_outside, of_port};
use super::nic::{self, Glance};
use crate::serve::ServerHandle;

/// All metrics of a server. A NIC that does not answer is left out.
pub fn render(server: &ServerHandle) -> String {
    let mut text = Text::default();
    server_metrics(&mut text, server);
    nic_metrics(&mut text, server);
    port_metrics(&mut text, server);
    fault_metrics(&mut text, server);
    text.0
}

/// Whether a value only grows.
#[derive(Clone, Copy)]
enum Type {
    Counter,
    Gauge,
}

#[derive(Default)]
struct Text(String);

impl Text {
    /// A metric with all its samples, each with its labels.
    fn family<'a>(
        &mut self,
        name: &str,
        kind: Type,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, u64)>,
    ) {
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
        };
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP rocinante_{name} {help}");
        let _ = writeln!(self.0, "# TYPE rocinante_{name} {kind}");
        for (labels, value) in samples {
            let labels: Vec<_> = labels
                .iter()
                .map(|(label, value)| format!("{label}=\"{}\"", escape(value)))
                .collect();
            let labels = match labels.len() {
                0 => String::new(),
                _ => format!("{{{}}}", labels.join(",")),
            };
            let _ = writeln!(self.0, "rocinante_{name}{labels} {value}");
        }
    }
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn server_metrics(text: &mut Text, server: &ServerHandle) {
    let version = env!("CARGO_PKG_VERSION");
    let info = [(vec![("version", version)], 1)];
    text.family("info", Type::Gauge, "The program.", info);
    let uptime = server.uptime().as_secs();
    let help = "How long the server has run.";
    text.family("uptime_seconds", Type::Gauge, help, [(vec![], uptime)]);
    let capture = server.capture_status();
    let running = u64::from(capture.as_ref().is_some_and(|c| c.error.is_none()));
    let help = "Whether a capture runs.";
    text.family("capture_running", Type::Gauge, help, [(vec![], running)]);
    let stats = capture.map(|capture| capture.stats).unwrap_or_default();
    let of = |what: &'static str| vec![("what", what)];
    text.family(
        "capture_frames",
        Type::Gauge,
        "Frames of the running capture, by what became of them.",
        [
            (of("written"), stats.written),
            (of("dropped"), stats.dropped),
            (of("unreadable"), stats.unreadable),
            (of("missed"), stats.missed),
        ],
    );
}

/// A NIC with what it says.
struct Nic {
    name: String,
    link: String,
    glance: Glance,
    counters: Counters,
}

/// The members of a structure of counters, by name.
fn members(value: &Value) -> Vec<(String, &Value)> {
    let members = value.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.clone(), value)).collect()
}

fn nic_metrics(text: &mut Text, server: &ServerHandle) {
    let specs = server.specs().enumerate();
    let nics: Vec<Nic> = specs
        .filter_map(|(n, spec)| {
            Some(Nic {
                name: spec.name(),
                link: spec.link.clone(),
                glance: nic::glance(server, n).ok()?,
                counters: server.look(n, Counters::of)?,
            })
        })
        .collect();
    nic_states(text, &nics);
    type Get = fn(&Counters) -> u64;
    let counters: [(&str, &str, Get); 8] = [
        (
            "nic_received_frames_total",
            "Frames that the NIC's port received.",
            |c| c.port.received.frames,
        ),
        (
            "nic_received_bytes_total",
            "Their bytes, without frame check sequences.",
            |c| c.port.received.octets,
        ),
        (
            "nic_transmitted_frames_total",
            "Frames that the NIC's port sent.",
            |c| c.port.transmitted.frames,
        ),
        (
            "nic_transmitted_bytes_total",
            "Their bytes, without frame check sequences.",
            |c| c.port.transmitted.octets,
        ),
        (
            "nic_link_down_events_total",
            "Times that the NIC's link went down.",
            |c| c.port.link_down_events.into(),
        ),
        (
            "nic_icrc_errors_total",
            "RoCE packets dropped for their ICRC.",
            |c| c.icrc_errors,
        ),
        (
            "nic_qkey_violations_total",
            "Datagrams refused for their Q_Key.",
            |c| c.qkey_violations.into(),
        ),
        (
            "nic_refused_commands_total",
            "Firmware commands that were refused.",
            |c| c.refused_commands.into(),
        ),
    ];
    for (name, help, get) in counters {
        let samples = nics
            .iter()
            .map(|nic| (vec![("nic", &nic.name[..])], get(&nic.counters)));
        text.family(name, Type::Counter, help, samples);
    }
    nic_tables(text, &nics);
}

fn nic_states(text: &mut Text, nics: &[Nic]) {
    type Get = fn(&Glance) -> u64;
    let gauges: [(&str, &str, Get); 5] = [
        ("nic_attached", "Whether a monitor is there.", |g| {
            g.attached.into()
        }),
        (
            "nic_up",
            "Whether the NIC's link is up for its driver.",
            |g| g.up.into(),
        ),
        (
            "nic_speed_bits_per_second",
            "Speed of the NIC's link, 0 while it is down.",
            |g| g.speed * 1_000_000,
        ),
        (
            "nic_health_syndrome",
            "The NIC's health syndrome, 0 for healthy.",
            |g| g.health.into(),
        ),
        ("nic_pages", "Pages that the driver lent the NIC.", |g| {
            g.inventory.pages as u64
        }),
    ];
    for (name, help, get) in gauges {
        let samples = nics.iter().map(|nic| {
            let labels = vec![("nic", &nic.name[..]), ("link", &nic.link[..])];
            (labels, get(&nic.glance))
        });
        text.family(name, Type::Gauge, help, samples);
    }
    let objects = nics.iter().flat_map(|nic| {
        let objects = nic.glance.inventory.objects.iter();
        objects.map(|(kind, count)| {
            let labels = vec![("nic", &nic.name[..]), ("kind", *kind)];
            (labels, *count as u64)
        })
    });
    let help = "Objects that the driver has made, by kind.";
    text.family("nic_objects", Type::Gauge, help, objects);
}

/// Counters of which there are many: each is a label.
fn nic_tables(text: &mut Text, nics: &[Nic]) {
    let all: Vec<(&str, [Value; 3])> = nics
        .iter()
        .map(|nic| {
            let Counters {
                q, vport, discards, ..
            } = nic.counters;
            (&nic.name[..], [json!(q), json!(vport), json!(discards)])
        })
        .collect();
    let mut flat: [Vec<(&str, String, u64)>; 4] = Default::default();
    let [q_counters, packets, bytes, dropped] = &mut flat;
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    for (nic, [q, vport, discards]) in &all {
        for (name, value) in members(q) {
            q_counters.push((nic, name, number(value)));
        }
        for (name, value) in members(vport) {
            packets.push((nic, name.clone(), number(&value["packets"])));
            bytes.push((nic, name, number(&value["octets"])));
        }
        for (name, value) in members(discards) {
            dropped.push((nic, name, number(value)));
        }
    }
    let names = [
        (
            "nic_q_counter_total",
            "counter",
            "Q counters, all sets of a NIC together.",
        ),
        (
            "nic_vport_packets_total",
            "traffic",
            "Packets of the NIC's vport.",
        ),
        (
            "nic_vport_bytes_total",
            "traffic",
            "Bytes of the NIC's vport.",
        ),
        (
            "nic_discards_total",
            "reason",
            "Frames that the NIC dropped.",
        ),
    ];
    for ((name, label, help), samples) in names.into_iter().zip(&flat) {
        let samples = samples
            .iter()
            .map(|(nic, which, value)| (vec![("nic", *nic), (label, which.as_str())], *value));
        text.family(name, Type::Counter, help, samples);
    }
}

fn port_metrics(text: &mut Text, server: &ServerHandle) {
    let snapshot = Snapshot {
        nics: Vec::new(),
        ports: server.port_status(),
        cables: server.control().status(),
    };
    let names = of_port(&Default::default()).map(|(name, _)| name);
    for (at, name) in names.into_iter().enumerate() {
        let samples = snapshot.ports.iter().filter_map(|port| {
            let (_, value) = *of_port(&port.counters).get(at)?;
            Some((
                vec![("port", &port.port[..]), ("link", &port.link[..])],
                value,
            ))
        });
        let help = "What passed the switch, as seen from what is plugged in.";
        text.family(&format!("port_{name}_total"), Type::Counter, help, samples);
    }
    let names = of_outside(&Default::default()).map(|(name, _)| name);
    for (at, name) in names.into_iter().enumerate() {
        let samples = snapshot.ports.iter().filter_map(|port| {
            let (_, value) = *of_outside(port.outside.as_ref()?).get(at)?;
            Some((
                vec![("port", &port.port[..]), ("link", &port.link[..])],
                value,
            ))
        });
        let help = "What passed at the outside of a port that leaves the process.";
        let name = format!("port_outside_{name}_total");
        text.family(&name, Type::Counter, help, samples);
    }
    let there = snapshot.ports.iter().filter_map(|port| {
        let labels = vec![("port", &port.port[..]), ("link", &port.link[..])];
        Some((labels, port.outside.as_ref()?.up.into()))
    });
    let help = "Whether the outside of a port that leaves the process is there.";
    text.family("port_outside_up", Type::Gauge, help, there);
    let cables = &snapshot.cables;
    let states: [(&str, &str, Vec<bool>); 2] = [
        (
            "cable_plugged",
            "Whether the port's cable is plugged in.",
            cables.iter().map(|cable| cable.plugged).collect(),
        ),
        (
            "cable_carrier",
            "Whether the port has a carrier.",
            cables.iter().map(|cable| cable.carrier).collect(),
        ),
    ];
    for (name, help, values) in states {
        let samples = cables.iter().zip(values).map(|(cable, value)| {
            let labels = vec![("port", &cable.port[..]), ("link", &cable.link[..])];
            (labels, value.into())
        });
        text.family(name, Type::Gauge, help, samples);
    }
    let events = cables.iter().flat_map(|cable| {
        [("tx", &cable.tx), ("rx", &cable.rx)]
            .into_iter()
            .flat_map(|(direction, counters)| {
                of_cable(counters).map(|(event, value)| {
                    let labels = vec![
                        ("port", &cable.port[..]),
                        ("link", &cable.link[..]),
                        ("direction", direction),
                        ("event", event),
                    ];
                    (labels, value)
                })
            })
    });
    let help = "What happened to frames on a cable: lost, marked or forged.";
    text.family("cable_events_total", Type::Counter, help, events);
}

fn fault_metrics(text: &mut Text, server: &ServerHandle) {
    let counters = server.fault_counters();
    let matches = counters
        .iter()
        .map(|rule| (vec![("fault", &rule.name[..])], rule.matches));
    let help = "What a fault matched: frames, commands, events.";
    text.family("fault_matches_total", Type::Counter, help, matches);
    let hits = counters
        .iter()
        .map(|rule| (vec![("fault", &rule.name[..])], rule.hits));
    let help = "What a fault was applied to.";
    text.family("fault_hits_total", Type::Counter, help, hits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_help_type_and_escaped_labels() {
        let mut text = Text::default();
        let samples = [
            (vec![("rule", "a \"b\" \\ c\nd"), ("x", "y")], 7),
            (vec![], 8),
        ];
        text.family("hits_total", Type::Counter, "Hits.", samples);
        text.family("none", Type::Gauge, "Nothing.", []);
        assert_eq!(
            text.0,
            "# HELP rocinante_hits_total Hits.\n# TYPE rocinante_hits_total counter\n\
             rocinante_hits_total{rule=\"a \\\"b\\\" \\\\ c\\nd\",x=\"y\"} 7\n\
             rocinante_hits_total 8\n"
        );
    }
}
