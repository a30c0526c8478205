//! What NICs and ports note, as events. Knows the words, not when they are said.

use rocinante_device::mlx5::inspect::FailureInfo;
use rocinante_device::mlx5::leak::Goodbye;
use rocinante_device::mlx5::notes::Note;
use serde_json::{Map, Value, json};

use super::events::Events;

/// Tells what the NIC called `nic` noted.
pub fn tell(events: &Events, nic: &str, note: &Note) {
    let (name, data) = describe(note);
    events.tell(name, || {
        let mut all = Map::from_iter([("nic".to_owned(), json!(nic))]);
        if let Value::Object(data) = data {
            all.extend(data);
        }
        Value::Object(all)
    });
}

/// Tells that the carrier of a port came or went.
pub fn tell_carrier(events: &Events, port: &str, up: bool) {
    let name = if up { "LINK_UP" } else { "LINK_DOWN" };
    events.tell(name, || json!({ "port": port }));
}

fn describe(note: &Note) -> (&'static str, Value) {
    match note {
        Note::Came => ("DRIVER_CAME", json!({})),
        Note::Version(driver) => ("DRIVER_VERSION", json!({ "driver": driver })),
        Note::Went(findings) => {
            let goodbye = match findings.goodbye {
                Goodbye::Teardown => "teardown",
                Goodbye::ForceTeardown => "force-teardown",
                Goodbye::Disable => "disable",
                Goodbye::Reset => "reset",
            };
            let objects = findings.leaked_objects.iter();
            let objects: Map<String, Value> = objects
                .map(|(kind, count)| ((*kind).to_owned(), json!(count)))
                .collect();
            let data = json!({
                "goodbye": goodbye,
                "objects": objects,
                "pages": findings.leaked_pages,
            });
            ("DRIVER_WENT", data)
        }
        Note::Reset => ("NIC_RESET", json!({})),
        Note::QpError { qpn, failure } => {
            let failure = FailureInfo::of(failure);
            let data = json!({
                "qpn": qpn,
                "status": failure.status,
                "syndrome": failure.syndrome,
                "event": failure.event,
                "side": failure.side,
            });
            ("QP_ERROR", data)
        }
    }
}
