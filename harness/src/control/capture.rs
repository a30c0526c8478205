//! Captures.

use std::path::PathBuf;

use rocinante_wire::fault::{Direction, Place};
use serde_json::{Value, json};

use super::arguments::{Arguments, not_found};
use super::protocol::{Class, Failure, brief};
use crate::serve::{CaptureRing, CaptureSpec, CaptureStatus, ServerHandle, parse_size};

/// Executes `start-capture`.
pub fn start(server: &ServerHandle, arguments: &Arguments) -> Result<Value, Failure> {
    let ring = match arguments.object("ring") {
        None => None,
        Some(ring) => {
            let size = parse_size(ring.needed("size")?).map_err(Failure::argument)?;
            let files = usize::try_from(ring.number("files").unwrap_or(0)).unwrap_or(usize::MAX);
            Some(CaptureRing::new(size, files).map_err(Failure::argument)?)
        }
    };
    let direction = match arguments.text("direction") {
        None | Some("tx") => Some(Direction::Tx),
        Some("rx") => Some(Direction::Rx),
        Some("both") => None,
        Some(other) => {
            let desc = format!("direction '{}' is none of tx, rx and both", brief(other));
            return Err(Failure::argument(desc));
        }
    };
    let place = Place {
        links: arguments.texts("links"),
        ports: arguments.texts("ports"),
        direction,
    };
    let cables = server.control().status();
    if !cables
        .iter()
        .any(|cable| place.is_at(&cable.link, &cable.port))
    {
        let asked = [&place.ports[..], &place.links[..]].concat().join(", ");
        let known = cables
            .iter()
            .map(|cable| format!("{} of {}", cable.port, cable.link));
        return Err(not_found("port", &asked, known));
    }
    let spec = CaptureSpec {
        path: PathBuf::from(arguments.needed("path")?),
        ring,
        place,
    };
    server
        .start_capture(spec)
        .map_err(|error| Failure::new(Class::Failed, format!("{error:#}")))?;
    Ok(json!({}))
}

/// Executes `stop-capture`.
pub fn stop(server: &ServerHandle, _: &Arguments) -> Result<Value, Failure> {
    let ended = server
        .stop_capture()
        .ok_or_else(|| Failure::new(Class::Failed, "no capture is running"))?;
    Ok(describe(&ended))
}

/// Executes `query-capture`.
pub fn query(server: &ServerHandle, _: &Arguments) -> Result<Value, Failure> {
    Ok(json!({ "capture": state(server) }))
}

/// The capture that runs, or null.
pub fn state(server: &ServerHandle) -> Value {
    server
        .capture_status()
        .map_or(Value::Null, |status| describe(&status))
}

fn describe(status: &CaptureStatus) -> Value {
    let CaptureStatus {
        spec, stats, error, ..
    } = status;
    let ring = spec
        .ring
        .map(|ring| json!({ "size": ring.size, "files": ring.files }));
    json!({
        "path": spec.path.display().to_string(),
        "ring": ring,
        "ports": spec.place.ports,
        "links": spec.place.links,
        "direction": spec.place.direction.map_or("both", |direction| direction.name()),
        "written": stats.written,
        "dropped": stats.dropped,
        "unreadable": stats.unreadable,
        "missed": stats.missed,
        "error": error,
    })
}
