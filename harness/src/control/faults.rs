//! Fault rules: loaded, listed, cleared.

use std::path::Path;

use rocinante_wire::fault::{LinkKind, Place, RuleErrors, Rules};
use serde_json::{Value, json};

use super::arguments::{Arguments, not_found};
use super::nic;
use super::protocol::{Class, Failure};
use super::session::MAX_LINE;
use crate::faults::{Faults, injection_from_json};
use crate::serve::ServerHandle;

/// Executes `load-faults`.
pub fn load(server: &ServerHandle, arguments: &Arguments) -> Result<Value, Failure> {
    let text = match (arguments.text("text"), arguments.text("file")) {
        (Some(text), None) => text.to_owned(),
        (None, Some(file)) => read(Path::new(file))?,
        _ => {
            let desc = "load-faults needs either 'text' or 'file'";
            return Err(Failure::argument(desc));
        }
    };
    let faults: Faults = text.parse().map_err(bad_rules)?;
    server.set_faults(faults).map_err(bad_rules)?;
    Ok(json!({ "loaded": entries(server).len() }))
}

/// A file of rules, which cannot be longer than rules that come as text.
fn read(path: &Path) -> Result<String, Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::new(Class::NotFound, format!("{}: {error}", path.display()))
    };
    let metadata = std::fs::metadata(path).map_err(|error| cannot(&error))?;
    if !metadata.is_file() || metadata.len() > MAX_LINE as u64 {
        return Err(cannot(&"no file of at most 1 MiB"));
    }
    std::fs::read_to_string(path).map_err(|error| cannot(&error))
}

fn bad_rules(errors: RuleErrors) -> Failure {
    let mut failure = Failure::new(Class::BadRules, errors.to_string());
    let list = errors.0.iter().map(|error| {
        json!({
            "line": error.line,
            "column": error.column,
            "message": error.message,
        })
    });
    failure
        .more
        .insert("errors".into(), Value::Array(list.collect()));
    failure
}

/// The entries in force, in the order of kinds and of the file.
pub fn entries(server: &ServerHandle) -> Vec<Value> {
    let mut all = of_cables(&server.control().rules());
    all.extend(server.device_faults().into_iter().map(|fault| {
        json!({
            "name": fault.counters.name,
            "kind": "device",
            "line": fault.line,
            "nics": fault.nics,
            "matches": fault.counters.matches,
            "hits": fault.counters.hits,
        })
    }));
    all
}

/// Those of packets and links.
fn of_cables(rules: &Rules) -> Vec<Value> {
    let packets = rules.rules().iter().map(|rule| {
        let counters = rule.counters();
        let mut entry = entry("rule", rule.name(), rule.line(), rule.place());
        entry["matches"] = counters.matches.into();
        entry["hits"] = counters.hits.into();
        entry
    });
    let links = rules.links().iter().map(|link| {
        let fault = match link.kind {
            LinkKind::Down => "down",
            LinkKind::Blackhole => "blackhole",
            LinkKind::Speed(_) => "speed",
            LinkKind::BitErrors(_) => "bit-errors",
        };
        let mut entry = entry("link", &link.name, link.line, &link.place);
        entry["fault"] = fault.into();
        entry
    });
    let shapes = rules
        .shapes()
        .iter()
        .map(|shape| entry("shape", &shape.name, shape.line, &shape.place));
    packets
        .chain(links)
        .chain(shapes)
        .filter(|entry| {
            !entry["name"]
                .as_str()
                .is_some_and(|name| rules.is_cleared(name))
        })
        .collect()
}

fn entry(kind: &str, name: &str, line: usize, place: &Place) -> Value {
    json!({
        "name": name,
        "kind": kind,
        "line": line,
        "links": place.links,
        "ports": place.ports,
        "direction": place.direction.map_or("both", |direction| direction.name()),
    })
}

/// Executes `query-faults`.
pub fn query(server: &ServerHandle, _: &Arguments) -> Result<Value, Failure> {
    Ok(json!({ "faults": entries(server) }))
}

/// Executes `clear-faults`.
pub fn clear(server: &ServerHandle, arguments: &Arguments) -> Result<Value, Failure> {
    let Some(name) = arguments.text("name") else {
        server.set_faults(Faults::default()).map_err(bad_rules)?;
        return Ok(json!({}));
    };
    if !server.clear_fault(name) {
        let names = entries(server).into_iter();
        let names = names.filter_map(|entry| Some(entry["name"].as_str()?.to_owned()));
        return Err(not_found("fault", name, names));
    }
    Ok(json!({}))
}

/// Executes `inject`.
pub fn inject(server: &ServerHandle, arguments: &Arguments) -> Result<Value, Failure> {
    let n = nic::named(server, arguments, "nic")?;
    let keys = arguments.members("keys");
    let injection = injection_from_json(arguments.needed("kind")?, &keys)
        .map_err(|error| Failure::argument(error.to_string()))?;
    server.inject(n, injection).ok_or_else(nic::gone)?;
    Ok(json!({}))
}
