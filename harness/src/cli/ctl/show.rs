//! Answers of the control protocol as tables for people.

use std::fmt::Write;

use serde_json::Value;

/// Columns as wide as they have to be; numbers are aligned at the right.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widths = cells.map(|cell| cell.chars().count());
        widths
            .chain(head.get(column).map(|name| name.len()))
            .max()
            .unwrap_or_default()
    };
    let is_number = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).all(|cell| {
            cell == "-"
                || cell
                    .strip_prefix("0x")
                    .unwrap_or(cell)
                    .parse::<u64>()
                    .is_ok()
        })
    };
    let columns: Vec<(usize, bool)> = (0..head.len())
        .map(|column| (width(column), is_number(column)))
        .collect();
    let mut text = String::new();
    let head = head.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(head).chain(rows) {
        let mut line = String::new();
        for (cell, (width, right)) in row.iter().zip(&columns) {
            // Writing to a string does not fail.
            let _ = if *right {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A value in a cell.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Rows of members of objects.
fn rows(list: &Value, columns: &[(&str, &str)]) -> String {
    let objects = list.as_array().into_iter().flatten();
    let rows = objects
        .map(|object| {
            let cells = columns.iter().map(|(_, path)| cell(at(object, path)));
            cells.collect()
        })
        .collect();
    let head: Vec<_> = columns.iter().map(|(head, _)| *head).collect();
    table(&head, rows)
}

/// A member of a member, by a path with slashes.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    let mut members = path.split('/');
    members.by_ref().fold(value, |value, name| &value[name])
}

fn speed(value: &Value) -> String {
    match value.as_u64() {
        None => "-".to_owned(),
        Some(0) => "down".to_owned(),
        Some(mbits) => format!("{}G", mbits / 1000),
    }
}

pub fn status(answer: &Value) -> String {
    let mut text = format!(
        "rocinante {}, process {}, up {} s\n\n",
        cell(&answer["version"]),
        answer["pid"],
        answer["uptime"]
    );
    let nics = answer["nics"].as_array().into_iter().flatten();
    let nics = nics
        .map(|nic| {
            vec![
                cell(&nic["nic"]),
                cell(&nic["link"]),
                cell(&nic["mac"]),
                cell(&nic["attached"]),
                cell(&nic["state"]),
                speed(&nic["speed"]),
                cell(&nic["health"]),
                cell(&nic["objects"]),
                cell(&nic["pages"]),
                cell(&nic["driver"]),
            ]
        })
        .collect();
    let head = [
        "NIC", "LINK", "MAC", "ATTACHED", "STATE", "SPEED", "HEALTH", "OBJECTS", "PAGES", "DRIVER",
    ];
    text += &table(&head, nics);
    let ports = cell(&answer["ports"]);
    let _ = writeln!(text, "\nports: {ports}; faults: {}", answer["faults"]);
    text + &capture(&answer["capture"])
}

pub fn links(answer: &Value) -> String {
    let ports = answer["ports"].as_array().into_iter().flatten();
    let ports = ports
        .map(|port| {
            vec![
                cell(&port["port"]),
                cell(&port["link"]),
                cell(&port["plugged"]),
                cell(&port["carrier"]),
                speed(&port["speed"]),
                cell(&port["outside"]),
            ]
        })
        .collect();
    let head = ["PORT", "LINK", "PLUGGED", "CARRIER", "SPEED", "OUTSIDE"];
    table(&head, ports)
}

pub fn faults(answer: &Value) -> String {
    if answer["faults"].as_array().is_some_and(Vec::is_empty) {
        return "no faults\n".to_owned();
    }
    rows(
        &answer["faults"],
        &[
            ("KIND", "kind"),
            ("LINE", "line"),
            ("PORTS", "ports"),
            ("LINKS", "links"),
            ("DIRECTION", "direction"),
            ("MATCHES", "matches"),
            ("HITS", "hits"),
            ("NAME", "name"),
        ],
    )
}

/// All numbers in a structure, with the way there.
fn flatten(value: &Value, path: &str, all: &mut Vec<Vec<String>>, zeros: bool) {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                flatten(value, &below(name), all, zeros);
            }
        }
        Value::Array(list) => {
            for (n, value) in list.iter().enumerate() {
                flatten(value, &below(&n.to_string()), all, zeros);
            }
        }
        Value::Number(number) if zeros || number.as_u64() != Some(0) => {
            all.push(vec![path.to_owned(), number.to_string()]);
        }
        _ => {}
    }
}

pub fn counters(answer: &Value, zeros: bool) -> String {
    let mut text = String::new();
    for (list, kind) in [("nics", "nic"), ("ports", "port")] {
        for object in answer[list].as_array().into_iter().flatten() {
            let _ = writeln!(text, "{kind} {}:", cell(&object[kind]));
            let mut all = Vec::new();
            flatten(object, "", &mut all, zeros);
            let width = all.iter().filter_map(|row| Some(row.first()?.len())).max();
            for row in all {
                if let [name, value] = &row[..] {
                    let width = width.unwrap_or_default();
                    let _ = writeln!(text, "  {name:width$}  {value}");
                }
            }
        }
    }
    if answer["faults"]
        .as_array()
        .is_some_and(|list| !list.is_empty())
    {
        text += &faults(answer);
    }
    text
}

pub fn objects(kind: Option<&str>, answer: &Value) -> String {
    let Some(kind) = kind else {
        let counts = answer["counts"].as_object().into_iter().flatten();
        let mut all: Vec<Vec<String>> = counts
            .map(|(kind, count)| vec![count.to_string(), kind.clone()])
            .collect();
        all.push(vec![answer["pages"].to_string(), "pages".to_owned()]);
        return table(&["COUNT", "OBJECTS"], all);
    };
    let columns: &[(&str, &str)] = match kind {
        "qp" => &[
            ("QPN", "qpn"),
            ("TYPE", "service"),
            ("STATE", "state"),
            ("PD", "pd"),
            ("SCQ", "send_cq"),
            ("RCQ", "receive_cq"),
            ("SENT", "send/consumed"),
            ("POSTED", "send/posted"),
            ("OUT", "outstanding"),
            ("SEND-PSN", "next_send_psn"),
            ("ACKED", "last_acked_psn"),
            ("RECV-PSN", "next_receive_psn"),
            ("RETRIES", "retries_left"),
            ("PEER", "path/remote_qpn"),
            ("GID", "path/remote_gid"),
            ("FAILURE", "failure/status"),
        ],
        "cq" => &[
            ("CQN", "cqn"),
            ("EQN", "eqn"),
            ("SIZE", "size"),
            ("PRODUCER", "producer"),
            ("CONSUMER", "consumer"),
            ("ARMED", "armed"),
            ("OVERRUN", "overrun"),
        ],
        "eq" => &[
            ("EQN", "eqn"),
            ("VECTOR", "vector"),
            ("SIZE", "size"),
            ("PRODUCER", "producer"),
            ("CONSUMER", "consumer"),
            ("ARMED", "armed"),
            ("WAITING", "waiting"),
        ],
        "mkey" => &[
            ("KEY", "key"),
            ("FREE", "free"),
            ("PD", "pd"),
            ("QPN", "qpn"),
            ("MODE", "mode"),
            ("START", "start"),
            ("BYTES", "len"),
            ("PAGE", "page_size"),
            ("ENTRIES", "entries"),
            ("RIGHTS", "rights"),
        ],
        "srq" => &[
            ("SRQN", "srqn"),
            ("KIND", "kind"),
            ("PD", "pd"),
            ("SIZE", "work/size"),
            ("POSTED", "work/posted"),
            ("TAKEN", "work/consumed"),
            ("LIMIT", "limit"),
        ],
        "sq" | "rq" => &[
            ("NUMBER", "number"),
            ("STATE", "state"),
            ("PD", "pd"),
            ("CQN", "cqn"),
            ("SIZE", "work/size"),
            ("POSTED", "work/posted"),
            ("TAKEN", "work/consumed"),
        ],
        "tir" => &[
            ("NUMBER", "number"),
            ("DOMAIN", "transport_domain"),
            ("RQN", "rqn"),
            ("RQT", "rqt"),
        ],
        "tis" => &[
            ("NUMBER", "number"),
            ("DOMAIN", "transport_domain"),
            ("PD", "pd"),
        ],
        "flow-table" => &[
            ("NUMBER", "number"),
            ("LEVEL", "level"),
            ("SIZE", "size"),
            ("GROUPS", "groups"),
            ("ROOT", "root"),
        ],
        "gid" => &[
            ("INDEX", "index"),
            ("GID", "gid"),
            ("VERSION", "version"),
            ("MAC", "mac"),
            ("VLAN", "vlan"),
        ],
        "q-counter" => {
            let mut text = String::new();
            for set in answer["objects"].as_array().into_iter().flatten() {
                let mut all = Vec::new();
                flatten(set, "", &mut all, false);
                let all = all.iter().map(|row| row.join("="));
                let _ = writeln!(text, "{}", all.collect::<Vec<_>>().join(" "));
            }
            return text;
        }
        _ => &[("NUMBER", "number")],
    };
    rows(&answer["objects"], columns)
}

pub fn capture(capture: &Value) -> String {
    if capture.is_null() {
        return "no capture\n".to_owned();
    }
    let mut text = format!(
        "capture {}: {} frames",
        cell(&capture["path"]),
        capture["written"]
    );
    for what in ["dropped", "unreadable", "missed"] {
        if capture[what].as_u64() != Some(0) {
            let _ = write!(text, ", {} {what}", capture[what]);
        }
    }
    if let Some(error) = capture["error"].as_str() {
        let _ = write!(text, "; ended early: {error}");
    }
    text + "\n"
}

/// Each command with its arguments, and what can be subscribed to.
pub fn commands(answer: &Value) -> String {
    let commands = answer["commands"].as_array().into_iter().flatten();
    let commands = commands
        .map(|command| {
            let arguments = command["arguments"].as_array().into_iter().flatten();
            let arguments = arguments.map(|argument| {
                let (name, kind) = (cell(&argument["name"]), cell(&argument["type"]));
                match argument["required"].as_bool() {
                    Some(true) => format!("{name}={kind}"),
                    _ => format!("[{name}={kind}]"),
                }
            });
            vec![
                cell(&command["name"]),
                cell(&command["does"]),
                arguments.collect::<Vec<_>>().join(" "),
            ]
        })
        .collect();
    let head = ["COMMAND", "WHAT IT DOES", "ARGUMENTS"];
    let events = answer["events"].as_array().into_iter().flatten();
    let events: Vec<_> = events.map(cell).collect();
    format!("{}\nevents: {}\n", table(&head, commands), events.join(" "))
}

/// `12:34:56.789012 LINK_DOWN port=a`, in UTC.
pub fn event(event: &Value) -> String {
    let at = &event["timestamp"];
    let seconds = at["seconds"].as_u64().unwrap_or_default() % 86_400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let micros = at["microseconds"].as_u64().unwrap_or_default();
    let mut text = format!(
        "{hours:02}:{minutes:02}:{:02}.{micros:06} {}",
        seconds % 60,
        cell(&event["event"])
    );
    for (name, value) in event["data"].as_object().into_iter().flatten() {
        if !value.is_null() {
            let _ = write!(text, " {name}={}", cell(value));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_are_aligned() {
        let answer = json!({ "objects": [
            { "qpn": 64, "service": "RC", "state": "RTS", "path": { "remote_qpn": 1000, "remote_gid": "::1" } },
            { "qpn": 1024, "service": "UD", "state": "RESET", "path": null },
        ]});
        let text = objects(Some("qp"), &answer);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with(" QPN  TYPE  STATE  "), "{text}");
        assert!(lines[1].starts_with("  64  RC    RTS    "), "{text}");
        assert!(lines[2].starts_with("1024  UD    RESET  "), "{text}");
        assert!(lines[1].contains(" 1000  ::1"), "{text}");
    }

    #[test]
    fn events_are_one_line() {
        let line = event(&json!({
            "event": "QP_ERROR",
            "data": { "nic": "a", "qpn": 7, "event": null, "list": ["x", "y"] },
            "timestamp": { "seconds": 86_400 + 3_723, "microseconds": 5 },
        }));
        assert_eq!(line, "01:02:03.000005 QP_ERROR list=x,y nic=a qpn=7");
    }

    #[test]
    fn counters_of_zero_are_left_out() {
        let answer = json!({ "nics": [{ "nic": "a", "q": { "x": 0, "yy": 2 } }], "ports": [] });
        assert_eq!(counters(&answer, false), "nic a:\n  q.yy  2\n");
        assert!(counters(&answer, true).contains("q.x   0\n"));
    }

    #[test]
    fn captures_tell_what_is_missing() {
        assert_eq!(capture(&Value::Null), "no capture\n");
        let status = json!({ "path": "/a", "written": 5, "dropped": 1, "unreadable": 0, "missed": 0, "error": "full" });
        assert_eq!(
            capture(&status),
            "capture /a: 5 frames, 1 dropped; ended early: full\n"
        );
    }
}
