//! The other end of a control socket: one request after the other, and events. Knows the protocol's
//! envelope, not the commands.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use serde_json::{Value, json};

use super::protocol::PROTOCOL;

/// How long one read may block; deadlines are looked at in between.
const TURN: Duration = Duration::from_millis(100);

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no server at {}", path.display())]
    NoServer {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server says no.
    #[error("{desc}")]
    Refused {
        /// Kind of error.
        class: String,
        /// What it says.
        desc: String,
        /// The whole error.
        error: Value,
    },
    /// It does not speak as expected.
    #[error("{0}")]
    Protocol(String),
    /// The connection broke.
    #[error("control socket: {0}")]
    Io(#[from] io::Error),
    /// No answer in time.
    #[error("no answer in {0:?}")]
    Timeout(Duration),
}

/// A connection to a server.
pub struct Client {
    stream: BufReader<UnixStream>,
    /// The beginning of a line whose rest has not come yet.
    line: Vec<u8>,
    events: VecDeque<Value>,
    next: u64,
    patience: Duration,
    version: String,
}

impl Client {
    /// Connects to the server at `path`. Each request may take as long as `patience`.
    pub fn connect(path: &Path, patience: Duration) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| ClientError::NoServer {
            path: path.to_owned(),
            source,
        })?;
        let peer = socket_peercred(&stream).map_err(io::Error::from)?;
        if peer.uid != geteuid() && !peer.uid.is_root() && !geteuid().is_root() {
            let desc = format!("{} is served by user {}", path.display(), peer.uid.as_raw());
            return Err(ClientError::Protocol(desc));
        }
        Client::over(stream, patience)
    }

    fn over(stream: UnixStream, patience: Duration) -> Result<Client, ClientError> {
        stream.set_read_timeout(Some(TURN))?;
        stream.set_write_timeout(Some(patience))?;
        let mut client = Client {
            stream: BufReader::new(stream),
            line: Vec::new(),
            events: VecDeque::new(),
            next: 0,
            patience,
            version: String::new(),
        };
        let end = Instant::now() + patience;
        let greeting = client.message(end)?.ok_or(ClientError::Timeout(patience))?;
        if let Some(error) = greeting.get("error") {
            return Err(refused(error));
        }
        let server = &greeting["rocinante"];
        if server["protocol"] != PROTOCOL {
            let desc = format!("not a greeting of protocol {PROTOCOL}: {greeting}");
            return Err(ClientError::Protocol(desc));
        }
        client.version = server["version"].as_str().unwrap_or_default().to_owned();
        Ok(client)
    }

    /// The server's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Executes a command and gives what it returns.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, ClientError> {
        let request = json!({ "execute": command, "arguments": arguments });
        let mut answer = self.request(request)?;
        if let Some(error) = answer.get("error") {
            return Err(refused(error));
        }
        match answer.get_mut("return") {
            Some(value) => Ok(value.take()),
            None => Err(ClientError::Protocol(format!("not an answer: {answer}"))),
        }
    }

    /// Sends a request as it is, but for its `id`, and gives the whole answer.
    pub fn request(&mut self, mut request: Value) -> Result<Value, ClientError> {
        self.next += 1;
        let id = self.next;
        request["id"] = id.into();
        let stream = self.stream.get_mut();
        stream.write_all(format!("{request}\n").as_bytes())?;
        let end = Instant::now() + self.patience;
        loop {
            let message = self.message(end)?;
            let message = message.ok_or(ClientError::Timeout(self.patience))?;
            if message.get("event").is_some() {
                self.events.push_back(message);
            } else if message["id"] == id || message.get("id").is_none() {
                // Without: the server could not read the request, which may be too long.
                return Ok(message);
            }
            // Else an answer to something that was given up.
        }
    }

    /// The next event, waited for until `end`; `None` if none has come by then.
    pub fn event(&mut self, end: Instant) -> Result<Option<Value>, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.message(end)? {
                None => return Ok(None),
                Some(message) if message.get("event").is_some() => return Ok(Some(message)),
                Some(_) => {}
            }
        }
    }

    fn message(&mut self, end: Instant) -> Result<Option<Value>, ClientError> {
        loop {
            match self.stream.read_until(b'\n', &mut self.line) {
                Ok(0) => {
                    let desc = "the server has closed the connection";
                    return Err(ClientError::Protocol(desc.to_owned()));
                }
                Ok(_) if self.line.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.line);
                    return serde_json::from_slice(&line)
                        .map(Some)
                        .map_err(|error| ClientError::Protocol(format!("not JSON: {error}")));
                }
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                        if Instant::now() >= end {
                            return Ok(None);
                        }
                    }
                    _ => return Err(error.into()),
                },
            }
        }
    }
}

fn refused(error: &Value) -> ClientError {
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    ClientError::Refused {
        class: text("class"),
        desc: text("desc"),
        error: error.clone(),
    }
}

/// The socket where nothing else is said: `rocinante.sock` in the user's runtime folder
/// (`XDG_RUNTIME_DIR`), or in `/run` for root. `None` if there is no such folder.
pub fn default_socket() -> Option<PathBuf> {
    const NAME: &str = "rocinante.sock";
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if !folder.is_empty() => Some(PathBuf::from(folder).join(NAME)),
        _ if geteuid().is_root() => Some(Path::new("/run").join(NAME)),
        _ => None,
    }
}
