//! A server for one page: metrics, by HTTP/1.1. It is small because it can do nothing else. One thread
//! serves all clients; those that are slow, or that say nothing, keep nobody waiting.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use log::{debug, warn};
use rocinante_pci::Shutdown;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Bytes of the longest request.
const MAX_REQUEST: usize = 8 << 10;

/// All that one client may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Clients at a time; the one that has been there longest makes room for the next.
const MAX_CLIENTS: usize = 32;

/// How long to wait when a connection could not be accepted (out of descriptors, for example).
const PAUSE: Duration = Duration::from_millis(100);

/// The server; ended when dropped.
pub struct HttpServer {
    address: SocketAddr,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

/// What users write: `PORT`, which is one of this machine only, or `ADDRESS:PORT`.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse()
        .map_err(|_| format!("'{text}' is neither PORT nor ADDRESS:PORT"))
}

impl HttpServer {
    /// Serves what `page` gives as `/metrics`.
    pub fn start(
        address: SocketAddr,
        page: impl Fn() -> String + Send + 'static,
    ) -> Result<HttpServer> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("metrics at {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shutdown = Shutdown::new().context("shutdown eventfd")?;
        let stop = shutdown.clone();
        let thread = std::thread::Builder::new()
            .name("metrics".into())
            .spawn(move || serve(&listener, &page, &stop))
            .context("metrics thread")?;
        Ok(HttpServer {
            address,
            shutdown,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shutdown.trigger();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, page: &dyn Fn() -> String, shutdown: &Shutdown) {
    let mut clients: VecDeque<Client> = VecDeque::new();
    let mut accepting = true;
    loop {
        let ready = wait(listener, shutdown, &clients, accepting);
        accepting = true;
        if shutdown.is_triggered() {
            return;
        }
        let now = Instant::now();
        let mut ready = ready.into_iter();
        clients.retain_mut(|client| {
            let happened = ready.next().unwrap_or(PollFlags::empty());
            if now >= client.deadline {
                debug!(target: "control", "metrics: a client has taken too long");
                return false;
            }
            happened.is_empty() || client.go_on(page).unwrap_or(false)
        });
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    if clients.len() >= MAX_CLIENTS {
                        clients.pop_front();
                    }
                    clients.extend(Client::new(stream));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    warn!(target: "control", "metrics: accept: {error}");
                    accepting = false;
                    break;
                }
            }
        }
    }
}

/// Waits until there is something to do. Returns what has happened to each client.
fn wait(
    listener: &TcpListener,
    shutdown: &Shutdown,
    clients: &VecDeque<Client>,
    accepting: bool,
) -> Vec<PollFlags> {
    let mut fds = vec![PollFd::from_borrowed_fd(shutdown.as_fd(), PollFlags::IN)];
    fds.extend(clients.iter().map(|client| {
        let wanted = match client.state {
            State::Writing { .. } => PollFlags::OUT,
            State::Reading | State::Closing => PollFlags::IN,
        };
        PollFd::from_borrowed_fd(client.stream.as_fd(), wanted)
    }));
    if accepting {
        fds.push(PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
    }
    let now = Instant::now();
    let deadlines = clients.iter().map(|client| client.deadline);
    let due = deadlines.map(|due| due.saturating_duration_since(now));
    let due = due.chain((!accepting).then_some(PAUSE)).min();
    let timeout = due.and_then(|due| Timespec::try_from(due).ok());
    // Interrupted, or out of memory: the caller looks again.
    let _ = poll(&mut fds, timeout.as_ref());
    let clients = fds.iter().skip(1).take(clients.len());
    clients.map(PollFd::revents).collect()
}

/// Where a client is.
enum State {
    Reading,
    /// So many bytes of the answer are sent.
    Writing {
        answer: Vec<u8>,
        sent: usize,
    },
    /// All was sent. What it still says is read, or it would not see the answer.
    Closing,
}

struct Client {
    stream: TcpStream,
    deadline: Instant,
    head: Vec<u8>,
    state: State,
}

impl Client {
    fn new(stream: TcpStream) -> io::Result<Client> {
        stream.set_nonblocking(true)?;
        Ok(Client {
            stream,
            deadline: Instant::now() + PATIENCE,
            head: Vec::new(),
            state: State::Reading,
        })
    }

    /// Does what can be done. False if it is over.
    fn go_on(&mut self, page: &dyn Fn() -> String) -> io::Result<bool> {
        match self.turn(page) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            other => other,
        }
    }

    fn turn(&mut self, page: &dyn Fn() -> String) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        if matches!(self.state, State::Reading) {
            let n = self.stream.read(&mut chunk)?;
            self.head.extend_from_slice(chunk.get(..n).unwrap_or(&[]));
            let whole = n == 0 || is_whole(&self.head) || self.head.len() >= MAX_REQUEST;
            if whole {
                let answer = answer(&self.head, page);
                self.state = State::Writing { answer, sent: 0 };
            }
        }
        if let State::Writing { answer, sent } = &mut self.state {
            while let Some(rest) = answer.get(*sent..).filter(|rest| !rest.is_empty()) {
                match self.stream.write(rest)? {
                    0 => return Ok(false),
                    n => *sent += n,
                }
            }
            self.stream.shutdown(std::net::Shutdown::Write)?;
            self.state = State::Closing;
            return Ok(true);
        }
        // At the end of its input the client has seen the answer.
        let reading = matches!(self.state, State::Reading);
        Ok(reading || self.stream.read(&mut chunk)? > 0)
    }
}

fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n")
}

fn answer(head: &[u8], page: &dyn Fn() -> String) -> Vec<u8> {
    let asked = if is_whole(head) { request(head) } else { None };
    let (status, body) = match asked {
        Some(("GET" | "HEAD", "/metrics")) => ("200 OK", page()),
        Some(("GET" | "HEAD", _)) => ("404 Not Found", "see /metrics\n".to_owned()),
        Some(_) => (
            "405 Method Not Allowed\r\nAllow: GET, HEAD",
            "GET only\n".to_owned(),
        ),
        None => ("400 Bad Request", "what?\n".to_owned()),
    };
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if !matches!(asked, Some(("HEAD", _))) {
        response.push_str(&body);
    }
    response.into_bytes()
}

/// Method and path of a request.
fn request(head: &[u8]) -> Option<(&str, &str)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let path = target.split('?').next()?;
    (version.starts_with("HTTP/1.") && words.next().is_none()).then_some((method, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(server: &HttpServer, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn one_page_and_nothing_else() {
        let local = parse_address("0").unwrap();
        let server = HttpServer::start(local, || "a 1\n".into()).unwrap();
        assert!(server.address().ip().is_loopback());
        let page = ask(&server, b"GET /metrics?x=y HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(
            page.ends_with("Content-Length: 4\r\nConnection: close\r\n\r\na 1\n"),
            "{page}"
        );
        let head = ask(&server, b"HEAD /metrics HTTP/1.1\r\n\r\n");
        assert!(head.contains("Content-Length: 4") && head.ends_with("\r\n\r\n"));
        assert!(ask(&server, b"GET / HTTP/1.0\r\n\r\n").contains(" 404 "));
        assert!(ask(&server, b"POST /metrics HTTP/1.1\r\n\r\n").contains(" 405 "));
        assert!(ask(&server, b"\xff\xfe\r\n\r\n").contains(" 400 "));
        assert!(ask(&server, &[b'x'; MAX_REQUEST]).contains(" 400 "));
        // What it cannot take in does not keep the client from seeing why.
        let long = [b'x'; 64 * MAX_REQUEST];
        assert!(ask(&server, &long).contains(" 400 "));
    }

    #[test]
    fn who_is_slow_keeps_nobody_waiting() {
        let page = "a 1\n".repeat(1 << 20);
        let length = page.len();
        let server = HttpServer::start(parse_address("0").unwrap(), move || page.clone()).unwrap();
        let request = b"GET /metrics HTTP/1.1\r\n\r\n";
        let started = Instant::now();
        let crowd: Vec<TcpStream> = (0..8 * MAX_CLIENTS)
            .map(|n| {
                let mut slow = TcpStream::connect(server.address()).unwrap();
                // Some say nothing, some say little, some read nothing.
                let said = [&b""[..], &request[..9], request][n % 3];
                slow.write_all(said).unwrap();
                slow
            })
            .collect();
        for _ in 0..3 {
            assert_eq!(ask(&server, request).lines().count(), 5 + length / 4);
        }
        // They are as many as there can be; nobody has waited for the end of their time.
        assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
        drop(server);
        assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
        drop(crowd);
    }

    #[test]
    fn addresses_are_local_unless_said_otherwise() {
        for (text, expected) in [
            ("9090", "127.0.0.1:9090"),
            (":9090", "127.0.0.1:9090"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("[::1]:2", "[::1]:2"),
        ] {
            assert_eq!(parse_address(text).unwrap().to_string(), expected);
        }
        assert!(parse_address("localhost").is_err());
        assert!(parse_address("70000").is_err());
    }
}
