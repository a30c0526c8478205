//! A server for one page: metrics, by HTTP/1.1. One client at a time, and not for long; it is a
//! few dozen lines because it can do nothing else.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use log::{debug, warn};
use rocinante_pci::Shutdown;
use rustix::event::{PollFd, PollFlags, poll};

/// Bytes of the longest request.
const MAX_REQUEST: usize = 8 << 10;

/// All that one client may take.
const PATIENCE: Duration = Duration::from_secs(2);

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
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(shutdown.as_fd(), PollFlags::IN),
        ];
        // Interrupted, or out of memory: it looks again.
        let _ = poll(&mut fds, None);
        if shutdown.is_triggered() {
            return;
        }
        match listener.accept() {
            Ok((stream, peer)) => {
                if let Err(error) = answer(&stream, page) {
                    debug!(target: "control", "metrics for {peer}: {error}");
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                warn!(target: "control", "metrics: accept: {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn answer(stream: &TcpStream, page: &dyn Fn() -> String) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = read_head(stream, deadline)?;
    let (status, body) = match request(&head) {
        Some(("GET" | "HEAD", "/metrics")) => ("200 OK", page()),
        Some(("GET" | "HEAD", _)) => ("404 Not Found", "see /metrics\n".to_owned()),
        Some(_) => ("405 Method Not Allowed", "GET only\n".to_owned()),
        None => ("400 Bad Request", "what?\n".to_owned()),
    };
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if !matches!(request(&head), Some(("HEAD", _))) {
        response.push_str(&body);
    }
    (&mut &*stream).write_all(response.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)
}

/// Everything up to the empty line, or what fits.
fn read_head(mut stream: &TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < MAX_REQUEST {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        head.extend_from_slice(chunk.get(..n).unwrap_or(&[]));
    }
    Ok(head)
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
        // Who says nothing does not keep others waiting for ever.
        let _silent = TcpStream::connect(server.address()).unwrap();
        assert!(ask(&server, b"GET /metrics HTTP/1.1\r\n\r\n").contains(" 200 "));
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
