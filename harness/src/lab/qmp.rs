//! QEMU's machine protocol (QMP): commands to a running QEMU and its events, as lines of JSON over a UNIX socket.
//! Source: QEMU's `docs/interop/qmp-spec.rst`.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Events kept until somebody asks for them; of more, the oldest are forgotten.
const KEPT_EVENTS: usize = 256;

/// How long one read may block; deadlines are looked at in between.
const TURN: Duration = Duration::from_millis(50);

/// Something that happened to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Such as `RESET`.
    pub name: String,
    /// What belongs to it.
    pub data: Value,
}

/// A connection to QEMU's monitor.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
    /// The beginning of a line whose rest has not come yet.
    line: Vec<u8>,
    events: VecDeque<Event>,
    next: u64,
    patience: Duration,
}

impl Qmp {
    /// Connects to the monitor at `socket`. Each command may take as long as `patience`.
    pub fn connect(socket: &Path, patience: Duration) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("no monitor at {}", socket.display()))?;
        Self::over(stream, patience)
    }

    fn over(stream: UnixStream, patience: Duration) -> Result<Self> {
        stream.set_read_timeout(Some(TURN))?;
        stream.set_write_timeout(Some(patience))?;
        let mut qmp = Self {
            stream: BufReader::new(stream),
            line: Vec::new(),
            events: VecDeque::new(),
            next: 0,
            patience,
        };
        let greeting = qmp
            .message(Instant::now() + patience)?
            .context("the monitor does not greet")?;
        if greeting.get("QMP").is_none() {
            bail!("not a greeting of QMP: {greeting}");
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs `command` and gives what it returns.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.next += 1;
        let id = self.next;
        let request = json!({ "execute": command, "arguments": arguments, "id": id });
        self.stream
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())
            .with_context(|| format!("the monitor does not take {command}"))?;
        let end = Instant::now() + self.patience;
        loop {
            let mut message = self.message(end)?.with_context(|| {
                format!(
                    "the monitor does not answer {command} in {:?}",
                    self.patience
                )
            })?;
            if let Some(name) = message.get("event").and_then(Value::as_str) {
                let name = name.to_owned();
                self.keep(name, message["data"].take());
                continue;
            }
            // An answer to a command that was given up.
            if message["id"].as_u64().is_some_and(|other| other != id) {
                continue;
            }
            if let Some(error) = message.get("error") {
                let text = error["desc"].as_str().unwrap_or("no description");
                bail!("{command}: {text}");
            }
            return match message.get_mut("return") {
                Some(value) => Ok(value.take()),
                None => bail!("not an answer to {command}: {message}"),
            };
        }
    }

    /// Waits for the next event called `name`. Those that came before it are forgotten.
    pub fn wait_for(&mut self, name: &str, deadline: Duration) -> Result<Event> {
        let end = Instant::now() + deadline;
        loop {
            while let Some(event) = self.events.pop_front() {
                if event.name == name {
                    return Ok(event);
                }
            }
            let mut message = self
                .message(end)?
                .with_context(|| format!("no event {name} within {deadline:?}"))?;
            if let Some(name) = message.get("event").and_then(Value::as_str) {
                let name = name.to_owned();
                self.keep(name, message["data"].take());
            }
        }
    }

    fn keep(&mut self, name: String, data: Value) {
        if self.events.len() == KEPT_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Event { name, data });
    }

    /// The next line, or `None` if there is none until `end`.
    fn message(&mut self, end: Instant) -> Result<Option<Value>> {
        loop {
            match self.stream.read_until(b'\n', &mut self.line) {
                Ok(0) => bail!("QEMU has closed its monitor"),
                Ok(_) if self.line.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.line);
                    let text = String::from_utf8_lossy(&line);
                    let value = serde_json::from_str(&text)
                        .with_context(|| format!("not JSON: {}", text.trim_end()))?;
                    return Ok(Some(value));
                }
                // The end of the stream in the middle of a line: said by the next read.
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if Instant::now() >= end {
                        return Ok(None);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("the monitor"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::JoinHandle;

    const SOON: Duration = Duration::from_secs(20);
    const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"major": 11}}, "capabilities": []}}"#;

    /// A monitor that says `lines`, before each of which it waits for a command if it begins with `>`. Gives what it was told.
    fn monitor(lines: &'static [&'static str]) -> (Result<Qmp>, JoinHandle<Vec<Value>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let monitor = std::thread::spawn(move || {
            let mut commands = Vec::new();
            let mut reader = BufReader::new(theirs.try_clone().unwrap());
            let mut writer = theirs;
            for line in lines {
                let text = line.strip_prefix('>').unwrap_or(line);
                if text.len() != line.len() {
                    let mut command = String::new();
                    reader.read_line(&mut command).unwrap();
                    commands.push(serde_json::from_str(&command).unwrap());
                }
                // In pieces, as a stream may come.
                for piece in [&text[..text.len() / 2], &text[text.len() / 2..], "\r\n"] {
                    writer.write_all(piece.as_bytes()).unwrap();
                }
            }
            commands
        });
        (Qmp::over(ours, SOON), monitor)
    }

    #[test]
    fn commands_are_answered_between_events() {
        let (qmp, monitor) = monitor(&[
            GREETING,
            r#">{"return": {}, "id": 1}"#,
            r#">{"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 2}}"#,
            r#"{"return": {"status": "running"}, "id": 2}"#,
            r#"{"event": "RESET", "data": {"guest": true}, "timestamp": {}}"#,
        ]);
        let mut qmp = qmp.unwrap();
        let status = qmp.execute("query-status", json!({})).unwrap();
        assert_eq!(status["status"], "running");
        let reset = qmp.wait_for("RESET", SOON).unwrap();
        assert_eq!(reset.data["guest"], true);
        let error = qmp.wait_for("RESET", Duration::from_millis(1)).unwrap_err();
        assert!(
            error.to_string().contains("closed") || error.to_string().contains("no event"),
            "{error}"
        );
        let commands = monitor.join().unwrap();
        assert_eq!(commands[0]["execute"], "qmp_capabilities");
        assert_eq!(commands[1]["execute"], "query-status");
    }

    #[test]
    fn what_is_refused_says_why() {
        let (qmp, _monitor) = monitor(&[
            GREETING,
            r#">{"return": {}, "id": 1}"#,
            r#">{"error": {"class": "GenericError", "desc": "Bus 'port9' not found"}, "id": 2}"#,
        ]);
        let error = qmp
            .unwrap()
            .execute("device_add", json!({ "bus": "port9" }))
            .unwrap_err();
        assert_eq!(error.to_string(), "device_add: Bus 'port9' not found");
    }

    #[test]
    fn what_is_no_monitor_is_noticed() {
        let (qmp, _monitor) = monitor(&[r#"{"hello": 1}"#]);
        assert!(qmp.unwrap_err().to_string().contains("not a greeting"));
        let (qmp, _monitor) = monitor(&["login:"]);
        assert!(qmp.unwrap_err().to_string().contains("not JSON"));
        let (qmp, _monitor) = monitor(&[]);
        assert!(qmp.unwrap_err().to_string().contains("closed"));
    }

    #[test]
    fn a_monitor_that_is_silent_is_given_up() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let error = Qmp::over(ours, Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().contains("does not greet"), "{error}");
    }
}
