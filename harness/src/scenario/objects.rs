//! Looks at what NICs hold for their drivers, in the words of the control socket.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rocinante_device::mlx5::inspect::{self, Kind};
use serde_json::{Value, json};

use super::expect::{equals, verdict};
use super::model::{ObjectsWanted, Step};
use super::report::Check;
use super::run::Run;

impl Run<'_> {
    /// Whether a NIC has as many objects as are wanted.
    pub(super) fn of_objects(&self, step: &Step, wanted: &ObjectsWanted) -> Check {
        let nic = &self.scenario.machines.nics[wanted.nic].name;
        let kind = wanted.kind.map_or("pages", Kind::name);
        let having: Vec<String> = wanted
            .having
            .iter()
            .map(|(field, value)| format!("{field} = {}", value.source()))
            .collect();
        let having = if having.is_empty() {
            String::new()
        } else {
            format!(" with {}", having.join(", "))
        };
        let is = equals(&wanted.is.to_string());
        let name = format!("{}: {nic}.{kind}{having} {is}", step.name);
        match self.count_objects(wanted) {
            Ok((count, seen)) => verdict(
                name,
                wanted.is.holds(count as f64, &self.variables),
                &format!(
                    "it is {count}{}{seen}",
                    wanted.is.explained(&self.variables)
                ),
            ),
            Err(error) => Check::failed(name, format!("{error:#}"), Duration::ZERO),
        }
    }

    /// How many there are; and where only some count, how many there are of each sort.
    fn count_objects(&self, wanted: &ObjectsWanted) -> Result<(usize, String)> {
        let server = &self.stage.server;
        let Some(kind) = wanted.kind else {
            let inventory = server.inventory(wanted.nic).context("the NIC has ended")?;
            return Ok((inventory.pages, String::new()));
        };
        let having: Vec<(&str, String)> = wanted
            .having
            .iter()
            .map(|(field, value)| {
                let value = value.text(&self.variables).map_err(|why| anyhow!(why))?;
                Ok((field.as_str(), value))
            })
            .collect::<Result<_>>()?;
        let (mut count, mut others) = (0, Vec::new());
        let mut from = Some(0);
        while let Some(first) = from {
            let look = move |nic: &_| inspect::objects(nic, kind, first, inspect::MAX_OBJECTS);
            let page = server.look(wanted.nic, look).context("the NIC has ended")?;
            if having.is_empty() {
                return Ok((page.total, String::new()));
            }
            for object in &page.objects {
                let object = json!(object);
                let mut fits = true;
                let mut is = Vec::new();
                for (field, value) in &having {
                    let found = text_of(member(&object, kind, field)?);
                    fits &= found == *value;
                    is.push(format!("{field} = {found}"));
                }
                if fits {
                    count += 1;
                } else {
                    others.push(is.join(", "));
                }
            }
            from = page.next;
        }
        others.sort();
        others.dedup();
        others.truncate(10);
        let seen = if others.is_empty() {
            String::new()
        } else {
            format!("; others have {}", others.join("; "))
        };
        Ok((count, seen))
    }
}

/// What an object says at `state`, or at `path.remote_qpn`.
fn member<'v>(object: &'v Value, kind: Kind, field: &str) -> Result<&'v Value> {
    let mut value = object;
    for part in field.split('.') {
        value = match value {
            // What holds it is not there for this object.
            Value::Null => return Ok(value),
            _ => match value.get(part) {
                Some(inner) => inner,
                None => {
                    let known = value.as_object().map(|members| {
                        let names: Vec<&str> = members.keys().map(String::as_str).collect();
                        names.join(", ")
                    });
                    bail!(
                        "'{field}': a {} has no '{part}' ({})",
                        kind.name(),
                        known.unwrap_or_default()
                    );
                }
            },
        };
    }
    Ok(value)
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_and_unknown_ones_told() {
        let qp = json!({ "state": "RTS", "path": { "remote_qpn": 17 }, "failure": null });
        let at = |field| member(&qp, Kind::Qp, field).map(text_of);
        assert_eq!(at("state").unwrap(), "RTS");
        assert_eq!(at("path.remote_qpn").unwrap(), "17");
        assert_eq!(at("failure").unwrap(), "none");
        assert_eq!(at("failure.syndrome").unwrap(), "none");
        let error = at("stat").unwrap_err().to_string();
        assert!(
            error.contains("no 'stat' (") && error.contains("state"),
            "{error}"
        );
    }
}
